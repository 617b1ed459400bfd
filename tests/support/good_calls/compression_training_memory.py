"""Good calls of `vlmbook.compression.training_memory`."""

import torch
from torch import nn

from tests.support.good_calls import Call
from vlmbook.compression import training_memory

GOOD_CALLS = {
    "measure_training_memory": lambda: Call(
        training_memory.measure_training_memory,
        {"model": nn.Conv2d(3, 2, 3), "x": torch.rand(2, 3, 6, 7)},
    ),
}
