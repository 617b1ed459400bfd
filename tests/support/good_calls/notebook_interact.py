"""Good calls of the public callables of `vlmbook.notebook.interact`."""

from tests.support.good_calls import Call
from vlmbook.notebook import interact

PRESETS = {"one": ((1, 0), (0, 1)), "two": ((0.5, -2), (3, 4))}


def draw(figure, size=3):
    figure.text(0.1, 0.5, "x", size=size)


# `free`: what a drawing raises for values that it is given is its own sentence.
GOOD_CALLS = {
    "live": lambda: Call(interact.live, {"draw": draw, "figsize": (2.0, 1.0), "size": (1, 9)}),
    "Live": lambda: Call(interact.Live, {"draw": draw, "figsize": (2.0, 1.0), "controls": {"size": (1, 9)}}),
    "Live.values": lambda: Call(interact.live(draw, size=(1, 9)).values),
    "MatrixEditor": lambda: Call(interact.MatrixEditor, {"presets": PRESETS, "description": "kernel"}),
    "render": lambda: Call(
        interact.render, {"draw": draw, "figsize": (2.0, 1.0), "size": 3}, free=("draw", "size")
    ),
}
