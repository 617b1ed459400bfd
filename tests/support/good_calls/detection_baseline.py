"""Good calls of vlmbook.detection.baseline."""

import torch

from tests.support.good_calls import Call
from vlmbook.detection.baseline import ConstantBox

TARGETS = [{"boxes": torch.tensor([[0.0, 1, 4, 5]]), "labels": torch.tensor([1])}]
OPTIONS = {"targets": TARGETS, "num_classes": 2, "image_size": (6, 7)}

GOOD_CALLS = {
    "ConstantBox": lambda: Call(ConstantBox, dict(OPTIONS)),
    "ConstantBox.forward": lambda: Call(ConstantBox(**OPTIONS).forward, {"images": torch.rand(2, 3, 6, 7)}),
}
