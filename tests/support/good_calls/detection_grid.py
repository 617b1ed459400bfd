"""Good calls of vlmbook.detection.grid."""

import torch

from tests.support.good_calls import Call
from vlmbook.detection import SmallBackbone
from vlmbook.detection.grid import GridDetector

IMAGES = torch.full((2, 3, 6, 7), 0.5)
BOXES = torch.tensor([[[0.0, 1, 4, 5]], [[0, 0, 0, 0]]])
LABELS = torch.tensor([[1], [-1]])
TARGETS = [
    {"boxes": BOXES[0], "labels": torch.tensor([1])},
    {"boxes": torch.zeros(0, 4), "labels": torch.tensor([1])[:0]},
]
OUTPUTS = torch.zeros(2, 3, 6, 7)  # B h w 5 + num_classes


def model():
    torch.manual_seed(0)
    return GridDetector(SmallBackbone((2, 2, 2)), 2, size=4, width=2).eval()


GOOD_CALLS = {
    "GridDetector": lambda: Call(
        GridDetector, {"backbone": SmallBackbone((2, 2, 2)), "num_classes": 2, "size": 4, "width": 2}
    ),
    "GridDetector.forward": lambda: Call(
        model().forward, {"images": IMAGES, "boxes": BOXES, "labels": LABELS}
    ),
    "GridDetector.predict_candidates": lambda: Call(model().predict_candidates, {"images": IMAGES}),
    "GridDetector.predict": lambda: Call(model().predict, {"images": IMAGES}),
    "GridDetector.decode": lambda: Call(model().decode, {"outputs": OUTPUTS, "stride": (8.0, 8.0)}),
    "GridDetector.losses": lambda: Call(
        model().losses, {"outputs": OUTPUTS, "stride": (8.0, 8.0), "targets": TARGETS}
    ),
}
