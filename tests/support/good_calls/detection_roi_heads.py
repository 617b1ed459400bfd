"""Good calls of vlmbook.detection.roi_heads."""

import torch

from tests.support.good_calls import Call
from vlmbook.detection.roi_heads import BoxPredictor, RoIHeads, TwoMLPHead

X = torch.full((2, 3, 6, 7), 0.5)
BOXES = [torch.tensor([[0.0, 1, 4, 5], [2, 2, 6, 6]]), torch.tensor([[1.0, 1, 5, 5]])]
TARGETS = [
    {"boxes": BOXES[0], "labels": torch.tensor([0, 1])},
    {"boxes": BOXES[1], "labels": torch.tensor([1])},
]
OPTIONS = {"channels": 3, "num_classes": 2, "width": 4, "batch_size_per_image": 8}
LOSSES = {
    "logits": torch.zeros(5, 3),
    "offsets": torch.zeros(5, 12),
    "classes": torch.tensor([0, 1, 2, 0, 1]),
    "true_offsets": torch.ones(5, 4),
}


GOOD_CALLS = {
    "TwoMLPHead": lambda: Call(TwoMLPHead, {"in_features": 126, "width": 4}),
    "TwoMLPHead.forward": lambda: Call(TwoMLPHead(126, 4).forward, {"x": X}),
    "BoxPredictor": lambda: Call(BoxPredictor, {"width": 4, "outputs": 3}),
    "BoxPredictor.forward": lambda: Call(BoxPredictor(5, 3).forward, {"x": torch.ones(2, 5)}),
    "RoIHeads": lambda: Call(RoIHeads, dict(OPTIONS)),
    "RoIHeads.forward": lambda: Call(
        RoIHeads(**OPTIONS).forward, {"x": X, "boxes": BOXES, "stride": (8.0, 8.0)}
    ),
    "RoIHeads.sample": lambda: Call(RoIHeads(**OPTIONS).sample, {"boxes": BOXES, "targets": TARGETS}),
    "RoIHeads.losses": lambda: Call(RoIHeads.losses, dict(LOSSES)),
}
