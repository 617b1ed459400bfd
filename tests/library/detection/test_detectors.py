"""What both detectors share, and what both have to do: learn one batch, refuse what does not fit."""

import math

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
    extract_features,
    mean_average_precision,
    select_detections,
)


def grid_detector():
    return GridDetector(SmallBackbone((4, 8, 8)), 3, size=20)


ARGUMENTS = {FasterRCNN: OPTIONS, GridDetector: {"size": 20}}
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


def test_grey_images_want_a_backbone_of_one_channel():
    backbone = SmallBackbone((4, 6, 10), in_channels=1)
    assert backbone(torch.zeros(2, 1, 40, 64)).shape == (2, 10, 5, 8)
    with pytest.raises(ValueError, match=r"x wants the shape \(B, 1, H, W\), got \(2, 3, 40, 64\)"):
        backbone(torch.zeros(2, 3, 40, 64))
    with pytest.raises(TypeError, match="x wants the kind of the model"):
        backbone(torch.zeros(2, 1, 40, 64).half())
    with pytest.raises(ValueError, match="x wants more than one cell"):
        backbone(torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("size", [(250, 333), (9, 64), (97, 200), (135, 135), (1, 1)])
def test_a_cell_is_8_by_8_pixels_on_images_of_any_size(size):
    x, stride = extract_features(SmallBackbone((4, 6, 10)).eval(), torch.rand(1, 3, *size))
    assert x.shape == (1, 10, math.ceil(size[0] / 8), math.ceil(size[1] / 8))
    assert stride == (8, 8)


def test_a_width_is_at_least_1():
    with pytest.raises(ValueError, match=r"widths\[1\] wants a whole number from 1 to 65536, got 0"):
        SmallBackbone((4, 0, 8))


# --- the choice of detections -------------------------------------------------------------------------------


def test_the_unlikely_and_what_overlaps_are_dropped():
    p = torch.tensor([[0.8, 0.1], [0.7, 0.2], [0.02, 0.01], [0.04, 0.76]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 5, 5], [-5, 20, 10, 90]])
    detections = select_detections(p, boxes, (40, 30))
    assert detections["labels"].tolist() == [0, 1, 1]
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_detections_of_low_precision_are_those_of_float32(dtype):
    boxes = torch.tensor([[0.0, 0, 300, 300], [0, 0, 300, 288], [400, 300, 512, 512]]).to(dtype)
    p = torch.tensor([[0.875], [0.75], [0.5]]).to(dtype)
    detections = select_detections(p, boxes, (600, 800))
    assert detections["boxes"].dtype == detections["scores"].dtype == torch.float32
    assert detections["boxes"].tolist() == [[0, 0, 300, 300], [400, 300, 512, 512]]


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
        lambda: FasterRCNN(SmallBackbone((8, 16, 16)), 3, **OPTIONS | {"width": 64}),
        lambda: GridDetector(SmallBackbone((8, 16, 16)), 3, size=20, width=32),
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
    assert mean_average_precision(detections, targets)[0] > 0.9


@both
@pytest.mark.parametrize(
    ("boxes", "labels", "error", "sentence"),
    [
        (torch.zeros(2, 1, 4), torch.tensor([[0], [9]]), ValueError, "labels wants values from -1 to 2"),
        (torch.zeros(2, 1, 4), torch.tensor([[-1], [0]]), ValueError, "boxes wants .* without area"),
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
def test_images_of_other_channels_or_dtype_than_the_model_are_refused(make):
    for channels in (1, 4):
        with pytest.raises(ValueError, match=f"images wants 3 channels, as the backbone, got {channels}"):
            make()(torch.zeros(1, channels, 32, 32))
    with pytest.raises(TypeError, match=r"images wants the kind of the backbone, torch\.float32 .*float64"):
        make()(torch.zeros(1, 3, 32, 32, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"images wants the kind of the backbone, torch\.float32 .* meta"):
        make()(torch.zeros(1, 3, 32, 32, device="meta"))


@pytest.mark.parametrize("labels", [0, 1, 2])
@both
def test_labels_of_a_trained_detector_are_those_it_was_given(make, labels):
    """Training on one class: what is detected has its label, from 0."""
    torch.manual_seed(0)
    model = make()
    images, targets = batch()
    targets = [{"boxes": t["boxes"], "labels": torch.full_like(t["labels"], labels)} for t in targets]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(10):
        optimizer.zero_grad()
        detection_loss(model, images, *pad_targets(targets)).backward()
        optimizer.step()
    detections = select_detections(*model.eval().predict_candidates(images)[0], (64, 96), score_threshold=0)
    assert detections["labels"][0] == labels


@both
def test_grey_images_have_a_backbone_of_one_channel(make):
    model = make()
    model.backbone = SmallBackbone((4, 8, 8), in_channels=1)
    images, boxes, labels = padded_batch()
    assert torch.isfinite(detection_loss(model, images[:, :1], boxes, labels))
    assert len(model.eval()(images[:, :1])) == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@both
def test_a_model_of_another_dtype_trains_and_detects(make, dtype):
    """Boxes, scores and losses have at least float32, whatever the model has."""
    model = make().to(dtype)
    images, boxes, labels = padded_batch()
    losses = model(images.to(dtype), boxes, labels)
    at_least = torch.promote_types(dtype, torch.float32)
    assert {loss.dtype for loss in losses.values()} == {at_least}
    sum(losses.values()).backward()
    with torch.no_grad():
        detections = model.eval()(images.to(dtype))
    assert {each["boxes"].dtype for each in detections} == {at_least}


@both
def test_it_trains_under_autocast(make):
    model = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(*padded_batch())
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    sum(losses.values()).backward()


@both
def test_a_backbone_without_a_stride_has_that_of_its_map(make):
    """8 cells of 12 pixels for 96: the stride is image over map, along each axis by itself."""

    class Resized(nn.Module):
        out_channels = 3

        def forward(self, x):
            return nn.functional.interpolate(x, (16, 8))

    _, stride = extract_features(Resized(), torch.rand(2, 3, 64, 96))
    assert stride == (4, 12)
    assert len(type(make())(Resized(), 3, **ARGUMENTS[type(make())]).eval()(torch.rand(2, 3, 64, 96))) == 2


def test_images_are_padded_to_the_stride_of_each_axis():
    """A convolution is a backbone: it has `out_channels`, and a stride an axis."""
    backbone = nn.Conv2d(3, 5, kernel_size=(4, 8), stride=(4, 8))
    x, stride = extract_features(backbone, torch.rand(2, 3, 9, 9))
    assert x.shape == (2, 5, 3, 2)
    assert stride == (4, 8)


@both
def test_what_is_no_backbone_is_refused(make):
    kind = type(make())
    for backbone, sentence in (
        (nn.Identity(), "backbone.out_channels wants a whole number"),
        (None, "backbone wants a torch module with out_channels, got None"),
    ):
        with pytest.raises(TypeError, match=sentence):
            kind(backbone, 3, **ARGUMENTS[kind])
    wrong = SmallBackbone((4, 8, 8))
    wrong.out_channels = 7
    with pytest.raises(ValueError, match="the backbone's map wants the shape"):
        kind(wrong, 3, **ARGUMENTS[kind])(torch.rand(1, 3, 32, 32))


@both
def test_the_loss_for_fit_is_the_sum(make):
    model, given = make(), padded_batch()
    torch.manual_seed(0)
    total = detection_loss(model, *given)
    torch.manual_seed(0)
    torch.testing.assert_close(total, sum(model(*given).values()))
