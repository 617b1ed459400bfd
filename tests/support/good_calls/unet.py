"""Good calls of vlmbook.unet."""

import torch

from tests.support.good_calls import Call
from vlmbook.unet import (
    DoubleConv,
    UNet,
    boundary_f1,
    cross_entropy_loss,
    dice_loss,
    dice_score,
    iou,
    predict_tiled,
)

X = torch.full((2, 3, 6, 7), 0.5)
LOGITS = torch.zeros(2, 3, 6, 7)
TARGET = torch.zeros(2, 6, 7, dtype=torch.int64)
LOSS = {"logits": LOGITS, "target": TARGET, "class_weights": torch.ones(3), "ignore_index": 255}
SCORE = {"prediction": TARGET, "target": TARGET, "num_classes": 3, "ignore_index": 255}


def model():
    torch.manual_seed(0)
    return UNet(3, 2, width=2, depth=1).eval()


GOOD_CALLS = {
    "UNet": lambda: Call(
        UNet,
        {"in_channels": 3, "num_classes": 2, "width": 2, "depth": 1, "skip": True, "up": "bilinear"},
    ),
    "UNet.forward": lambda: Call(model().forward, {"x": X}),
    "UNet.encode": lambda: Call(model().encode, {"x": X}),
    "UNet.decode": lambda: Call(model().decode, {"maps": model().encode(X)}),
    "UNet.receptive_radius": lambda: Call(model().receptive_radius),
    "DoubleConv": lambda: Call(DoubleConv, {"in_channels": 3, "channels": 2}),
    "predict_tiled": lambda: Call(predict_tiled, {"model": model(), "image": X, "tile": 4, "overlap": 30}),
    "cross_entropy_loss": lambda: Call(cross_entropy_loss, LOSS),
    "dice_loss": lambda: Call(dice_loss, LOSS | {"smooth": 1.0, "include_background": True}),
    "boundary_f1": lambda: Call(
        boundary_f1, {"prediction": TARGET, "target": TARGET.bitwise_or(X[:, 0].long()), "tolerance": 1}
    ),
    "iou": lambda: Call(iou, SCORE),
    "dice_score": lambda: Call(dice_score, SCORE),
}
