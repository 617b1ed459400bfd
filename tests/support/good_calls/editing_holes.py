"""Good calls of vlmbook.editing.holes."""

import torch

from tests.support.good_calls import Call
from vlmbook.editing import holes

GOOD_CALLS = {
    "require_generator": lambda: Call(holes.require_generator, {"generator": torch.Generator()}),
    "free_form_mask": lambda: Call(
        holes.free_form_mask, {"size": (9, 12), "strokes": 1, "brush": 0.1, "generator": torch.Generator()}
    ),
    "block_mask": lambda: Call(
        holes.block_mask, {"size": (9, 12), "share": 0.2, "generator": torch.Generator()}
    ),
}
