"""Good calls of vlmbook.detection.faster_rcnn."""

import torch

from tests.support.good_calls import Call
from vlmbook.detection import SmallBackbone
from vlmbook.detection.faster_rcnn import FasterRCNN, as_torchvision

IMAGES = torch.full((2, 3, 6, 7), 0.5)
BOXES = torch.tensor([[[0.0, 1, 4, 5]], [[0, 0, 0, 0]]])
LABELS = torch.tensor([[1], [-1]])
TARGETS = [
    {"boxes": BOXES[0], "labels": torch.tensor([1])},
    {"boxes": torch.zeros(0, 4), "labels": torch.tensor([1])[:0]},
]
OPTIONS = {
    "num_classes": 2,
    "sizes": (4, 8),
    "ratios": (0.5, 1.0),
    "width": 4,
    "pre_nms_top_n": 20,
    "post_nms_top_n": 10,
    "rpn_batch_size_per_image": 8,
    "box_batch_size_per_image": 8,
}


def model():
    torch.manual_seed(0)
    return FasterRCNN(SmallBackbone((2, 2, 2)), **OPTIONS).eval()


GOOD_CALLS = {
    "FasterRCNN": lambda: Call(FasterRCNN, {"backbone": SmallBackbone((2, 2, 2)), **OPTIONS}),
    "FasterRCNN.forward": lambda: Call(model().forward, {"images": IMAGES, "boxes": BOXES, "labels": LABELS}),
    "FasterRCNN.losses": lambda: Call(model().losses, {"images": IMAGES, "targets": TARGETS}),
    "FasterRCNN.stages": lambda: Call(model().stages, {"images": IMAGES}),
    "FasterRCNN.predict_candidates": lambda: Call(model().predict_candidates, {"images": IMAGES}),
    "as_torchvision": lambda: Call(as_torchvision, {"model": model(), "image_size": (6, 7)}),
}
