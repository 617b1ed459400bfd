"""Good calls of vlmbook.editing.style."""

import torch

from tests.support.good_calls import Call
from vlmbook.editing import style
from vlmbook.efficientnet import efficientnet_lite0

MAPS = torch.full((1, 3, 4, 5), 0.5)
IMAGE = torch.full((3, 32, 32), 0.5)

GOOD_CALLS = {
    "style_transfer": lambda: Call(
        style.style_transfer,
        {
            "content": IMAGE,
            "style": 1 - IMAGE,
            "size": 32,
            "steps": 1,
            "style_weight": 20.0,
            "variation_weight": 0.2,
            "keep_colours": True,
            "network": efficientnet_lite0(2).eval(),
            "generator": torch.Generator(),
            "progress": False,
        },
        # Any number of steps is right; hostile large ones would only take long.
        ("steps",),
    ),
    "gram_matrix": lambda: Call(style.gram_matrix, {"features": MAPS}),
    "style_loss": lambda: Call(style.style_loss, {"features": [MAPS], "grams": [torch.ones(1, 3, 3)]}),
    "content_loss": lambda: Call(style.content_loss, {"features": MAPS, "wanted": MAPS + 1}),
    "total_variation": lambda: Call(style.total_variation, {"image": IMAGE}),
}
