"""Good calls of vlmbook.data.shapes."""

import numpy as np
import torch

from tests.support.good_calls import Call
from vlmbook.data import shapes as shapes_function
from vlmbook.data.shapes import all_visible, draw_shape, mask_to_box, require_range, visible_masks

COVERS = [np.ones((4, 5), dtype=np.float32)]
SHAPE = {"name": "star", "radius": 4.0, "angle": 0.1, "x": 8.0, "y": 9.0, "size": 16}
GOOD_CALLS = {
    "Shapes.semantic": lambda: Call(shapes_function(1, size=16).semantic),
    "shapes": lambda: Call(shapes_function, {"n": 1, "size": 16, "seed": 1, "objects": (1, 2)}),
    "mask_to_box": lambda: Call(mask_to_box, {"mask": torch.ones(4, 5, dtype=torch.bool)}),
    "draw_shape": lambda: Call(draw_shape, SHAPE),
    "visible_masks": lambda: Call(visible_masks, {"covers": COVERS}),
    "all_visible": lambda: Call(all_visible, {"covers": COVERS}),
    # `name`, `least` and `most` are written by the caller.
    "require_range": lambda: Call(
        require_range,
        {"value": (1, 2), "name": "objects", "least": 1, "most": 5},
        free=("name", "least", "most"),
    ),
}
