"""float32 stays float32: nothing in detection makes float64 on the caller's device."""

import torch

from tests.support.detection import OPTIONS, padded_batch
from tests.support.no_float64 import RefuseFloat64, WithoutFloat64
from vlmbook.data import flip_horizontally, pad_targets, random_zoom, unpad_targets
from vlmbook.detection import (
    ConstantBox,
    FasterRCNN,
    GridDetector,
    SmallBackbone,
    mean_average_precision,
    nms,
    roi_align,
    roi_pool,
)


def test_no_function_on_boxes_or_images_makes_float64():
    images, boxes, labels = padded_batch()
    with RefuseFloat64():
        targets = unpad_targets(boxes, labels)
        pad_targets(targets)
        flip_horizontally(images, boxes)
        random_zoom(images, boxes, labels)
        nms(boxes[0], torch.rand(len(boxes[0])), 0.5)
        roi_align(images, list(boxes), 3)
        roi_pool(images, list(boxes), 3)
        ConstantBox(targets, 3, (64, 96))(images)


def test_no_detector_makes_float64():
    for model in (
        FasterRCNN(SmallBackbone((4, 8, 8)), 3, **OPTIONS),
        GridDetector(SmallBackbone((4, 8, 8)), 3, size=20),
    ):
        images, boxes, labels = padded_batch()
        with RefuseFloat64():
            sum(model(images, boxes, labels).values()).backward()
            with torch.no_grad():
                model.eval()(images)


def test_detections_on_a_device_without_float64_are_measured():
    """They are moved to the CPU before anything is counted in float64."""
    target = {"boxes": torch.tensor([[0.0, 0, 8, 8]]), "labels": torch.tensor([0])}
    prediction = {**target, "scores": torch.tensor([0.5])}
    elsewhere = {key: WithoutFloat64(value) for key, value in prediction.items()}
    assert mean_average_precision([elsewhere], [target])[0] == 1
