"""Good calls of the public callables of `vlmbook.plot`."""

import torch
from matplotlib.figure import Figure

from tests.support.good_calls import Call
from vlmbook import plot

MATRIX = torch.tensor([[0.1, -0.2, 0.3], [0.4, 0.5, float("nan")]])


def axes():
    return Figure().subplots()


GOOD_CALLS = {
    "use_style": lambda: Call(plot.style),  # the same without a trace
    "style": lambda: Call(plot.style),
    "image": lambda: Call(plot.image, {"axes": axes(), "x": torch.rand(3, 4, 5), "title": "a"}),
    "signed": lambda: Call(plot.signed, {"axes": axes(), "x": MATRIX, "title": "a", "limit": 0.5}),
    "numbers": lambda: Call(
        plot.numbers,
        {
            "axes": axes(),
            "x": MATRIX,
            "title": "a",
            "form": "{:.2f}",
            "cmap": "gray",
            "vmin": -1.0,
            "vmax": 1.0,
        },
    ),
    "gallery": lambda: Call(
        plot.gallery,
        {
            "images": torch.rand(3, 1, 4, 5),
            "titles": ["a", "b", "c"],
            "columns": 2,
            "width": 3.0,
            "draw": plot.image,
        },
        free=("draw",),  # whatever a reader's own drawing raises
    ),
    "intervals": lambda: Call(
        plot.intervals,
        {
            "axes": axes(),
            "names": ["a", "b", "c"],
            "middles": torch.tensor([0.1, 0.2, 0.3]),
            "lows": [0, 0.1, 0.2],
            "highs": [0.2, 0.3, 0.4],
            "xlabel": "share",
        },
    ),
}
