"""The grid detector: what its loss asks for is what it decodes; its losses by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.support.detection import batch, seeded
from vlmbook.detection import GridDetector, SmallBackbone, box_iou, clip_boxes, detection_loss


def grid_detector(num_classes=3, **options):
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
    assert max(detector.losses(outputs, (8, 8), targets).values()) < 1e-6
    detector.predict = lambda images: (outputs, (8, 8))
    for detection, target in zip(detector(images), targets, strict=True):
        nearest = box_iou(detection["boxes"], target["boxes"]).argmax(0)
        assert len(detection["boxes"]) == len(target["boxes"])
        assert_close(detection["boxes"][nearest], clip_boxes(target["boxes"], (64, 96)), rtol=1e-4, atol=1e-3)
        assert detection["labels"][nearest].tolist() == target["labels"].tolist()


@pytest.mark.parametrize("size", [(250, 333), (9, 64), (64, 9), (97, 200), (135, 135)])
def test_boxes_of_images_of_any_size_are_decoded_as_they_were_asked_for(size):
    """A box at the right and lower border of images whose sides 8 does not divide."""
    detector = grid_detector().eval()
    height, width = size
    box = torch.tensor([[width - 8.0, height - 7.0, width, height]])
    targets = [{"boxes": box, "labels": torch.tensor([2])}]
    images = torch.rand(1, 3, height, width, generator=seeded(0))
    with torch.no_grad():
        outputs, stride = detector.predict(images)
    assert stride == (8, 8)
    outputs = perfect_outputs(targets, 20, outputs.shape, stride)
    assert max(detector.losses(outputs, stride, targets).values()) < 1e-6
    detector.predict = lambda images: (outputs, stride)
    [detection] = detector(images)
    assert_close(detection["boxes"], box, rtol=1e-4, atol=1e-3)


def test_cells_that_are_not_square_have_a_stride_an_axis():
    """8 by 12 cells of 16×8 pixels on 128×96."""
    detector = grid_detector().eval()
    targets = [{"boxes": torch.tensor([[70.0, 90, 94, 126], [3, 4, 20, 40]]), "labels": torch.tensor([2, 0])}]
    outputs = perfect_outputs(targets, 20, (1, 8, 12, 8), (16, 8))
    assert max(detector.losses(outputs, (16, 8), targets).values()) < 1e-6
    p_center, boxes, p_class = detector.decode(outputs, (16, 8))
    best = p_center[0].topk(2).indices.sort(descending=True).values
    assert_close(boxes[0, best], targets[0]["boxes"], rtol=1e-4, atol=1e-3)
    assert p_class[0, best].argmax(1).tolist() == [2, 0]


def test_it_finds_an_object_at_the_right_border_of_a_wide_image():
    """97×200 pixels, the object at x from 190 to 198: with one stride for both axes it was found at 182."""
    torch.manual_seed(0)
    detector = GridDetector(SmallBackbone((8, 8, 8)), 1, size=10, width=16)
    images = torch.zeros(4, 3, 97, 200)
    images[:, :, 40:50, 190:198] = 1
    boxes = torch.tensor([[[190.0, 40, 198, 50]]] * 4)
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        detection_loss(detector, images, boxes, torch.zeros(4, 1, dtype=torch.int64)).backward()
        optimizer.step()
    with torch.no_grad():
        detection = detector.eval()(images[:1])[0]
    assert detection["scores"][0] > 0.5
    assert_close(detection["boxes"][0], boxes[0, 0], rtol=0, atol=2)


def test_losses_by_hand():
    detector = grid_detector(2, size=16)
    outputs = torch.randn(1, 2, 2, 7, generator=seeded(1))
    target = {"boxes": torch.tensor([[7.0, 1, 13, 9]]), "labels": torch.tensor([1])}
    losses = detector.losses(outputs, (8, 8), [target])
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
        ({"width": 0}, ValueError, "width wants a whole number from 1 to 65536, got 0"),
        ({"num_classes": 0}, ValueError, "num_classes wants a whole number from 1 to 65536, got 0"),
        ({"num_classes": 2.5}, TypeError, "num_classes wants"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, error, sentence):
    with pytest.raises(error, match=sentence):
        grid_detector(**options)
