"""Targets as tensors and back; images changed together with their boxes."""

import pytest
import torch

from tests.support.detection import solid_boxes
from vlmbook.data import flip_horizontally, pad_targets, random_zoom, unpad_targets


def test_padding_and_back():
    targets = [{"boxes": solid_boxes(k, k).float(), "labels": torch.arange(k)} for k in (2, 0, 3)]
    boxes, labels = pad_targets(targets)
    assert boxes.shape == (3, 3, 4)
    assert labels.tolist() == [[0, 1, -1], [-1, -1, -1], [0, 1, 2]]
    for each, target in zip(unpad_targets(boxes, labels), targets, strict=True):
        assert torch.equal(each["boxes"], target["boxes"])
        assert torch.equal(each["labels"], target["labels"])


@pytest.mark.parametrize("labels", [[1, 2], [-1]])
def test_targets_have_a_label_for_each_box(labels):
    box = torch.tensor([[1.0, 1, 9, 9]])
    with pytest.raises(ValueError, match=r"targets\[0\]\['labels'\] wants"):
        pad_targets([{"boxes": box, "labels": torch.tensor(labels)}])


def test_a_flipped_box_holds_what_it_held():
    images = torch.zeros(1, 3, 20, 30)
    images[0, :, 2:12, 4:9] = 1
    boxes = torch.tensor([[[4.0, 2, 9, 12], [0, 0, 30, 20]]])
    images, boxes = flip_horizontally(images, boxes)
    x1, y1, x2, y2 = boxes[0, 0].long().tolist()
    assert images[0, :, y1:y2, x1:x2].min() == 1
    assert images.sum() == 3 * 50
    assert boxes[0, 1].tolist() == [0, 0, 30, 20]


# --- random zoom --------------------------------------------------------------------------------------------


def squares(n=4, size=(48, 64)):
    """-> images with one bright rectangle each, its box and a row that is no object."""
    images = torch.zeros(n, 3, *size)
    images[:, :, 12:30, 20:50] = 1
    boxes = torch.tensor([[[20.0, 12, 50, 30], [0, 0, 0, 0]]]).repeat(n, 1, 1)
    labels = torch.tensor([[2, -1]]).repeat(n, 1)
    return images, boxes, labels


def test_zoomed_boxes_hold_what_they_held():
    images, boxes, labels = squares(40)
    generator = torch.Generator().manual_seed(0)
    zoomed, new_boxes, new_labels = random_zoom(images, boxes, labels, generator=generator)
    assert zoomed.shape == images.shape
    assert (new_labels[:, 1] == -1).all()
    found = new_labels[:, 0] == 2
    assert found.float().mean() > 0.7
    for image, (x1, y1, x2, y2) in zip(zoomed[found], new_boxes[found, 0].tolist(), strict=True):
        bright = (image[0] > 0.5).nonzero()
        assert bright[:, 0].min() == pytest.approx(y1, abs=1)
        assert bright[:, 1].min() == pytest.approx(x1, abs=1)
        assert bright[:, 0].max() + 1 == pytest.approx(y2, abs=1)
        assert bright[:, 1].max() + 1 == pytest.approx(x2, abs=1)
    sizes = (new_boxes[found, 0, 2:] - new_boxes[found, 0, :2]).prod(1)
    assert sizes.min() < 0.6 * 18 * 30
    assert sizes.max() > 1.4 * 18 * 30


def test_a_zoom_of_1_changes_nothing_and_draws_come_from_the_generator():
    images, boxes, labels = squares()
    same = random_zoom(images, boxes, labels, smallest=1, largest=1)
    for new, old in zip(same, (images, boxes, labels), strict=True):
        assert torch.equal(new, old)
    first, second = (
        random_zoom(images, boxes, labels, generator=torch.Generator().manual_seed(5)) for _ in range(2)
    )
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_an_object_of_which_little_is_left_becomes_a_row_that_is_none():
    images = torch.zeros(30, 1, 32, 32)
    boxes = torch.tensor([[[6.0, 6, 14, 14]]]).repeat(30, 1, 1)
    labels = torch.zeros(30, 1, dtype=torch.int64)
    generator = torch.Generator().manual_seed(1)
    _, new_boxes, new_labels = random_zoom(
        images, boxes, labels, smallest=2, largest=2, min_visible=0.5, generator=generator
    )
    area = (new_boxes[:, 0, 2:] - new_boxes[:, 0, :2]).prod(1)
    lost = new_labels[:, 0] == -1
    assert 0 < lost.sum() < 30
    assert area[~lost].min() >= 0.5 * 16 * 16
    assert area[lost].max() < 0.5 * 16 * 16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_images_of_low_precision_are_zoomed(dtype):
    images, boxes, labels = squares()
    zoomed, _, _ = random_zoom(images.to(dtype), boxes, labels, smallest=0.5, largest=0.5)
    assert zoomed.dtype == dtype


@pytest.mark.parametrize(
    ("values", "error", "sentence"),
    [
        ({"smallest": 0}, ValueError, "smallest wants a finite number"),
        ({"smallest": 2.0, "largest": 1.0}, ValueError, "largest wants a finite number"),
        ({"min_visible": 1.5}, ValueError, "min_visible wants a finite number"),
        ({"generator": 3}, TypeError, "generator wants a torch.Generator or None, got 3"),
        ({"labels": torch.ones(4, 2)}, TypeError, "labels wants torch.int64"),
        ({"labels": torch.full((4, 2), -2)}, ValueError, "labels wants values of at least -1"),
    ],
)
def test_random_zoom_refuses_what_it_cannot_use(values, error, sentence):
    images, boxes, labels = squares()
    with pytest.raises(error, match=sentence):
        random_zoom(**{"images": images, "boxes": boxes, "labels": labels} | values)


def test_padding_of_nothing_and_of_empty_images():
    boxes, labels = pad_targets([])
    assert boxes.shape == (0, 0, 4)
    assert labels.shape == (0, 0)
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    boxes, labels = pad_targets([nothing, nothing])
    assert boxes.shape == (2, 0, 4)
    assert labels.shape == (2, 0)
    assert len(unpad_targets(boxes, labels)) == 2
    with pytest.raises(ValueError, match=r"targets\[0\]\['boxes'\] wants the shape \(k, 4\), got \(0,\)"):
        pad_targets([{"boxes": torch.tensor([]), "labels": torch.tensor([])}])
