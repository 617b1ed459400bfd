"""What both detectors share, and what both have to do: learn one batch, refuse what does not fit."""

import pytest
import torch
from torch import nn

from tests.support.detection import OPTIONS, batch, faster_rcnn, padded_batch
from vlmbook.data import pad_targets
from vlmbook.detection import (
    FasterRCNN,
    GridDetector,
    SmallBackbone,
    detection_loss,
    mean_average_precision,
    select_detections,
)


def grid_detector():
    return GridDetector(SmallBackbone((4, 8, 8)), 4, size=20)


both = pytest.mark.parametrize("make", [faster_rcnn, grid_detector], ids=["two stages", "one stage"])

# --- the backbone -------------------------------------------------------------------------------------------


def test_sizes_and_parameters_of_the_backbone():
    backbone = SmallBackbone((4, 6, 10))
    assert backbone.out_channels == 10
    assert backbone(torch.zeros(2, 3, 40, 64)).shape == (2, 10, 5, 8)
    convolutions = [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.stride[0]) for c in convolutions] == [
        (3, 4, 2),
        (4, 6, 2),
        (6, 6, 1),
        (6, 10, 2),
        (10, 10, 1),
    ]


@pytest.mark.parametrize("widths", [(4, 6), (4, 6, 8, 8), 3, "abc", None])
def test_a_backbone_has_three_widths(widths):
    with pytest.raises((TypeError, ValueError), match=r"widths.* wants"):
        SmallBackbone(widths)


def test_a_width_is_at_least_1():
    with pytest.raises(ValueError, match=r"widths\[1\] wants a whole number of at least 1, got 0"):
        SmallBackbone((4, 0, 8))


# --- the choice of detections -------------------------------------------------------------------------------


def test_background_the_unlikely_and_what_overlaps_are_dropped():
    p = torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.7, 0.2], [0.97, 0.02, 0.01], [0.2, 0.04, 0.76]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 5, 5], [-5, 20, 10, 90]])
    detections = select_detections(p, boxes, (40, 30))
    assert detections["labels"].tolist() == [1, 2, 2]
    assert detections["scores"].tolist() == pytest.approx([0.8, 0.76, 0.2])
    assert detections["boxes"][1].tolist() == [0, 20, 10, 40]
    assert len(select_detections(p, boxes, (40, 30), max_detections=1)["boxes"]) == 1


def test_of_nothing_nothing_is_selected():
    detections = select_detections(torch.zeros(0, 4), torch.zeros(0, 16), (32, 48))
    assert detections["boxes"].shape == (0, 4)
    assert len(detections["scores"]) == len(detections["labels"]) == 0


def test_boxes_are_one_or_one_a_class():
    with pytest.raises(ValueError, match=r"boxes wants \(L, 4\) or \(L, 16\), got \(2, 8\)"):
        select_detections(torch.zeros(2, 4), torch.zeros(2, 8), (32, 48))


# --- both detectors -----------------------------------------------------------------------------------------


@both
def test_an_image_without_an_object_teaches_that_all_is_background(make):
    images, targets = batch(2)
    empty = [{"boxes": each["boxes"][:0], "labels": each["labels"][:0]} for each in targets]
    losses = make()(images, *pad_targets(empty))
    assert all(torch.isfinite(each) for each in losses.values())
    of_boxes = [value for name, value in losses.items() if "offsets" in name or name == "boxes"]
    assert sum(of_boxes) == 0
    assert sum(losses.values()) > 0
    sum(losses.values()).backward()


@pytest.mark.parametrize(
    "make",
    [
        lambda: FasterRCNN(SmallBackbone((8, 16, 16)), 4, **OPTIONS | {"width": 64}),
        lambda: GridDetector(SmallBackbone((8, 16, 16)), 4, size=20, width=32),
    ],
    ids=["two stages", "one stage"],
)
def test_one_batch_is_learnable(make):
    torch.manual_seed(0)
    model = make()
    images, targets = batch()
    images = 0.3 * images
    for image, target in zip(images, targets, strict=True):
        for (x1, y1, x2, y2), label in zip(target["boxes"].long().tolist(), target["labels"], strict=True):
            image[label, y1:y2, x1:x2] = 1
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        detection_loss(model, images, *pad_targets(targets)).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        detections = model(images)
    from_1 = [{"boxes": each["boxes"], "labels": each["labels"] + 1} for each in targets]
    assert mean_average_precision(detections, from_1)[0] > 0.9


@both
@pytest.mark.parametrize(
    ("boxes", "labels", "error", "sentence"),
    [
        (torch.zeros(2, 1, 4), torch.tensor([[0], [9]]), ValueError, "labels wants values from 0 to 3"),
        (torch.zeros(2, 1, 4), torch.tensor([[0], [1]]), ValueError, "boxes wants .* without area"),
        (torch.zeros(2, 1, 4), None, TypeError, r"labels wants a torch.Tensor \(2, 1\), got None"),
        (torch.zeros(2, 1, 4), torch.ones(2, 1), TypeError, "labels wants torch.int64, got torch.float32"),
        (torch.zeros(3, 1, 4), torch.zeros(3, 1).long(), ValueError, r"boxes wants the shape \(2, K, 4\)"),
        (
            torch.tensor([[[40.0, 1, 50, 9]]] * 2),
            torch.tensor([[1]] * 2),
            ValueError,
            "boxes wants centres within the 32×16 pixels",
        ),
    ],
)
def test_targets_that_do_not_fit_are_refused(make, boxes, labels, error, sentence):
    with pytest.raises(error, match=sentence):
        make()(torch.zeros(2, 3, 16, 32), boxes, labels)


@both
def test_images_that_are_none_are_refused(make):
    with pytest.raises(ValueError, match=r"images wants the shape \(B, C, H, W\), got \(3, 32, 32\)"):
        make()(torch.zeros(3, 32, 32))
    with pytest.raises(TypeError, match=r"images wants a floating dtype, got torch\.uint8"):
        make()(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


@both
def test_the_loss_for_fit_is_the_sum(make):
    model, given = make(), padded_batch()
    torch.manual_seed(0)
    total = detection_loss(model, *given)
    torch.manual_seed(0)
    torch.testing.assert_close(total, sum(model(*given).values()))
