"""A part that is held out: of each class the same share, and all images in one of both parts."""

import pytest
import torch

from vlmbook.data import digits, hold_out


def test_the_same_share_of_each_class_is_held_out():
    images, labels = digits("train")
    (kept, kept_labels), (held, held_labels) = hold_out(images, labels, share=1 / 6)
    assert (len(kept), len(held)) == (1197, 240) and held.shape[1:] == images.shape[1:]
    assert held_labels.bincount().min() >= 23 and held_labels.bincount().max() <= 25
    where = {image.numpy().tobytes(): label.item() for image, label in zip(images, labels, strict=True)}
    both = [*zip(kept, kept_labels, strict=True), *zip(held, held_labels, strict=True)]
    assert all(where[image.numpy().tobytes()] == label for image, label in both)
    order = [image.numpy().tobytes() for image, _ in both]
    assert sorted(order) == sorted(image.numpy().tobytes() for image in images)  # all of them, once
    assert torch.equal(hold_out(images, labels, share=1 / 6)[1][0], held)
    assert not torch.equal(hold_out(images, labels, share=1 / 6, seed=1)[1][0], held)


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5])
def test_a_share_that_makes_no_sense_is_refused(share):
    images, labels = torch.rand(8, 1, 2, 2), torch.arange(8) % 2
    with pytest.raises(ValueError, match="share wants a finite number above 0 and below 1"):
        hold_out(images, labels, share=share)
    with pytest.raises(ValueError, match="images wants one a label, 7, got the shape"):
        hold_out(images, labels[:7], share=0.5)


@pytest.mark.parametrize(("share", "counts"), [(0.5, (1, 3)), (0.1, (4, 4)), (0.9, (4, 4))])
def test_a_class_that_cannot_be_in_both_parts_is_refused(share, counts):
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    with pytest.raises(ValueError, match="share wants an image of each of the 2 classes in both parts, got"):
        hold_out(torch.rand(len(labels), 3), labels, share=share)
