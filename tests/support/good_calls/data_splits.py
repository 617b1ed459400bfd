"""Good calls of vlmbook.data.splits."""

import torch

from tests.support.good_calls import Call
from vlmbook.data.splits import hold_out

PARTS = {"images": torch.rand(8, 1, 2, 2), "labels": torch.arange(8) % 2}
GOOD_CALLS = {"hold_out": lambda: Call(hold_out, {**PARTS, "share": 0.5, "seed": 0})}
