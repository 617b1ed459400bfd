"""Good calls of `vlmbook.compression.counting`."""

import torch
from torch import nn

from tests.support.good_calls import Call
from vlmbook.compression import counting

WINDOW = {"in_channels": 4, "channels": 6, "kernel": 3, "height": 5, "width": 7}

GOOD_CALLS = {
    "window_macs": lambda: Call(counting.window_macs, {**WINDOW, "groups": 2}),
    "separable_macs": lambda: Call(counting.separable_macs, WINDOW),
    "count_parameters": lambda: Call(counting.count_parameters, {"model": nn.Linear(3, 2)}),
    "count_layers": lambda: Call(
        counting.count_layers, {"model": nn.Conv2d(3, 2, 3), "x": torch.rand(2, 3, 6, 7)}
    ),
}
