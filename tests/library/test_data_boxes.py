"""Targets as tensors and back; images changed together with their boxes."""

import pytest
import torch

from tests.support.detection import solid_boxes
from vlmbook.data import flip_horizontally, pad_targets, unpad_targets


def test_padding_and_back():
    targets = [{"boxes": solid_boxes(k, k).float(), "labels": torch.arange(k)} for k in (2, 0, 3)]
    boxes, labels = pad_targets(targets)
    assert boxes.shape == (3, 3, 4)
    assert labels.tolist() == [[1, 2, 0], [0, 0, 0], [1, 2, 3]]
    for each, target in zip(unpad_targets(boxes, labels), targets, strict=True):
        assert torch.equal(each["boxes"], target["boxes"])
        assert torch.equal(each["labels"], target["labels"] + 1)


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
