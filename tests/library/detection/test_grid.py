"""The grid detector: what its loss asks for is what it decodes; its losses by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.support.detection import batch, seeded
from vlmbook.detection import GridDetector, SmallBackbone, box_iou, clip_boxes


def grid_detector(num_classes=4, **options):
    return GridDetector(SmallBackbone((4, 8, 8)), num_classes, **{"size": 20} | options)


def perfect_outputs(targets, size, shape, stride):
    """Targets -> (B, h, w, 5 + classes): the outputs that decode to them."""
    outputs = torch.full(shape, -20.0)
    for i, target in enumerate(targets):
        for (x1, y1, x2, y2), label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
            x = (x1 + x2) / 2 / stride[1]
            y = (y1 + y2) / 2 / stride[0]
            cell = outputs[i, int(y), int(x)]
            cell[0] = 20
            cell[1:3] = torch.tensor([x % 1, y % 1]).logit()
            cell[3:5] = torch.tensor([(x2 - x1) / size, (y2 - y1) / size]).log()
            cell[5 + label] = 20
    return outputs


def test_it_decodes_the_boxes_that_its_loss_asks_for():
    """For outputs that meet the targets the losses are 0, and the detections are the true boxes."""
    detector = grid_detector().eval()
    images, targets = batch()
    outputs = perfect_outputs(targets, 20, (3, 8, 12, 8), (8, 8))
    from_1 = [{"boxes": each["boxes"], "labels": each["labels"] + 1} for each in targets]
    assert max(detector.losses(outputs, (64, 96), from_1).values()) < 1e-6
    detector.predict = lambda images: outputs
    for detection, target in zip(detector(images), from_1, strict=True):
        nearest = box_iou(detection["boxes"], target["boxes"]).argmax(0)
        assert len(detection["boxes"]) == len(target["boxes"])
        assert_close(detection["boxes"][nearest], clip_boxes(target["boxes"], (64, 96)), rtol=1e-4, atol=1e-3)
        assert detection["labels"][nearest].tolist() == target["labels"].tolist()


def test_losses_by_hand():
    detector = grid_detector(3, size=16)
    outputs = torch.randn(1, 2, 2, 7, generator=seeded(1))
    target = {"boxes": torch.tensor([[7.0, 1, 13, 9]]), "labels": torch.tensor([2])}
    losses = detector.losses(outputs, (16, 16), [target])
    cell = outputs[0, 0, 1]  # centre (10, 5): second column, first row
    logit = outputs[0, :, :, 0]
    true = torch.tensor([[0.0, 1], [0, 0]])
    entropy = -(true * logit.sigmoid().log() + (1 - true) * (-logit).sigmoid().log()).sum()
    assert_close(losses["centers"], entropy)
    assert_close(losses["classes"], -cell[5:].log_softmax(0)[1])
    predicted = torch.stack([cell[1].sigmoid(), cell[2].sigmoid(), cell[3], cell[4]])
    gaps = (predicted - torch.tensor([2 / 8, 5 / 8, math.log(6 / 16), math.log(8 / 16)])).abs()
    assert_close(losses["boxes"], torch.where(gaps < 0.1, gaps**2 / 0.2, gaps - 0.05).sum())


def test_the_head_has_a_centre_a_box_and_the_classes():
    assert grid_detector().head[-1].out_channels == 8


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"size": 0}, ValueError, "size wants a finite number above 0, got 0"),
        ({"size": "20"}, TypeError, "size wants a finite number"),
        ({"width": 0}, ValueError, "width wants a whole number of at least 1, got 0"),
        ({"num_classes": 1}, ValueError, "num_classes wants a whole number of at least 2, got 1"),
        ({"num_classes": 2.5}, TypeError, "num_classes wants"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, error, sentence):
    with pytest.raises(error, match=sentence):
        grid_detector(**options)
