"""Good calls of the public callables of `vlmbook.notebook.paint`."""

import torch

from tests.support.good_calls import Call
from vlmbook.notebook import paint

IMAGE = torch.full((1, 8, 8), 0.5)


def fill(image, mask):
    return image


GOOD_CALLS = {
    "MaskPainter": lambda: Call(paint.MaskPainter, {"image": IMAGE, "fill": fill, "brush": 0.1, "side": 100}),
    "MaskPainter.paint": lambda: Call(
        paint.MaskPainter(IMAGE, fill).paint, {"start": (1.0, 2.0), "end": (3.0, 4.0)}
    ),
    "MaskPainter.show": lambda: Call(paint.MaskPainter(IMAGE, fill).show, {"image": IMAGE}),
    "draw_stroke": lambda: Call(
        paint.draw_stroke,
        {"mask": torch.zeros(1, 8, 8), "start": (1.0, 2.0), "end": (3.0, 4.0), "radius": 1.5},
    ),
}
