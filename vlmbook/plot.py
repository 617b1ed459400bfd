"""Pictures in one look: functions that take data and axes and return the axes. None trains, seeds or calls `show`."""

import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

STYLE = Path(__file__).with_name("house.mplstyle")
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#9a9a9a"


def use_style():
    """Set the house style for every figure that follows."""
    plt.style.use(STYLE)


def style():
    """A context manager that sets the house style for a block."""
    return plt.style.context(STYLE)


def image(axes, x, title=""):
    """(3, H, W), (1, H, W) or (H, W) -> axes: an image with values in [0, 1], others clipped; grey where it has one
    channel."""
    pixels = _pixels(x)
    axes.imshow(pixels.clip(0, 1), cmap="gray", vmin=0, vmax=1)
    return _bare(axes, title)


def signed(axes, x, title="", limit=None):
    """(1, H, W) or (H, W) -> axes: blue below zero, white at zero, red above, symmetric up to `limit` (default: max
    |x|)."""
    pixels = _pixels(x)
    limit = limit or np.abs(pixels).max() or 1.0
    axes.imshow(pixels, cmap="RdBu_r", vmin=-limit, vmax=limit)
    return _bare(axes, title)


def numbers(axes, x, title="", form="{:.3g}", **colours):
    """(H, W) -> axes: a small matrix as coloured cells with their values written in."""
    cells = _pixels(x)
    limit = np.abs(cells).max() or 1.0
    colours = {"cmap": "RdBu_r", "vmin": -1.6 * limit, "vmax": 1.6 * limit} | colours
    shown = axes.imshow(cells, **colours)
    for (row, column), value in np.ndenumerate(cells):
        dark = np.dot(shown.to_rgba(value)[:3], (0.299, 0.587, 0.114)) < 0.5
        axes.text(column, row, form.format(value), ha="center", va="center", color="white" if dark else "black")
    return _bare(axes, title)


def gallery(images, titles=(), *, columns=None, width=7.0, draw=image):
    """Images of any sizes, their titles -> array of axes: a new figure with one row, or rows of `columns`."""
    columns = columns or len(images)
    rows = math.ceil(len(images) / columns)
    cell = width / columns
    tall = max(_pixels(x).shape[0] / _pixels(x).shape[1] for x in images)
    size = (width, rows * (cell * tall + 0.28 * any(titles)))
    _, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for position, panel in enumerate(axes.flat):
        if position < len(images):
            draw(panel, images[position], titles[position] if titles else "")
        else:
            panel.axis("off")
    return axes


def intervals(axes, names, middles, lows, highs, xlabel):
    """Names with their values and interval ends -> axes: a dot and a bar a row, the first name on top."""
    rows = np.arange(len(names))[::-1]
    middles, lows, highs = map(np.asarray, (middles, lows, highs))
    axes.errorbar(middles, rows, xerr=[middles - lows, highs - middles], fmt="o", capsize=4)
    axes.set(yticks=rows, yticklabels=names, xlabel=xlabel, ylim=(-0.6, len(names) - 0.4))
    return axes


def _pixels(x):
    """A tensor or array -> NumPy (H, W) or (H, W, 3), as imshow takes it."""
    x = x.detach().float().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x, dtype=float)
    if x.ndim == 3 and x.shape[0] in (1, 3):
        x = x.transpose(1, 2, 0).squeeze(-1) if x.shape[0] == 1 else x.transpose(1, 2, 0)
    if x.ndim != 2 and not (x.ndim == 3 and x.shape[-1] == 3):
        raise ValueError(f"a picture wants the shape (3, H, W), (1, H, W) or (H, W), got {x.shape}")
    return x


def _bare(axes, title):
    axes.set(xticks=[], yticks=[], title=title)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


