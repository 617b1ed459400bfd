"""Good calls of vlmbook.editing.tiling."""

import torch

from tests.support.good_calls import Call
from vlmbook.editing import tiling

IMAGE = torch.full((3, 6, 8), 0.5)

GOOD_CALLS = {
    "windows": lambda: Call(tiling.windows, {"height": 9, "width": 7, "tile": 4, "overlap": 1, "grid": 2}),
    "map_tiles": lambda: Call(
        tiling.map_tiles,
        {
            "function": torch.sqrt,
            "image": IMAGE,
            "tile": 4,
            "overlap": 1,
            "factor": 1,
            "grid": 1,
            "progress": False,
        },
        # What the caller's function raises is its own.
        ("function",),
    ),
    # The name stands in the sentence only.
    "require_image": lambda: Call(
        tiling.require_image, {"image": IMAGE, "name": "image", "channels": (1, 3)}, ("name", "channels")
    ),
    "as_floating": lambda: Call(tiling.as_floating, {"image": IMAGE}),
    "as_kind": lambda: Call(tiling.as_kind, {"image": IMAGE, "dtype": torch.uint8}),
}
