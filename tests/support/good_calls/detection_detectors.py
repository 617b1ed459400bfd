"""Good calls of vlmbook.detection.detectors."""

import torch

from tests.support.good_calls import Call
from vlmbook.detection import GridDetector
from vlmbook.detection.detectors import (
    SmallBackbone,
    detection_loss,
    extract_features,
    offset_loss,
    require_backbone,
    require_ground_truth,
    select_detections,
)

IMAGES = torch.full((2, 3, 6, 7), 0.5)
BOXES = torch.tensor([[[0.0, 1, 4, 5]], [[0, 0, 0, 0]]])
LABELS = torch.tensor([[1], [-1]])
BATCH = {"images": IMAGES, "boxes": BOXES, "labels": LABELS}


def backbone():
    return SmallBackbone((2, 2, 2)).eval()


GOOD_CALLS = {
    "SmallBackbone": lambda: Call(SmallBackbone, {"widths": (2, 2, 2), "in_channels": 3}),
    "SmallBackbone.forward": lambda: Call(backbone().forward, {"x": IMAGES}),
    "require_backbone": lambda: Call(require_backbone, {"backbone": backbone()}),
    "extract_features": lambda: Call(extract_features, {"backbone": backbone(), "images": IMAGES}),
    "require_ground_truth": lambda: Call(require_ground_truth, BATCH | {"num_classes": 2}),
    "detection_loss": lambda: Call(
        detection_loss, {"model": GridDetector(backbone(), 2, size=4, width=2)} | BATCH
    ),
    "offset_loss": lambda: Call(
        offset_loss, {"offsets": torch.zeros(2, 4), "true_offsets": torch.ones(2, 4)}
    ),
    "select_detections": lambda: Call(
        select_detections,
        {
            "p": torch.full((3, 2), 0.4),
            "boxes": torch.tensor([[0.0, 1, 4, 5], [2, 2, 6, 6], [1, 1, 5, 5]]),
            "image_size": (6, 7),
            "score_threshold": 0.05,
            "iou_threshold": 0.5,
            "max_detections": 100,
        },
    ),
}
