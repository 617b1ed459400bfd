"""Pictures in one look: functions that take data and axes and return the axes. None trains, seeds or calls
`show`.
"""

import math
import re
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
    """(3, H, W), (1, H, W) or (H, W) -> axes: an image with values in [0, 1], others clipped; grey where it
    has one channel."""
    pixels = _pixels(x)
    axes.imshow(pixels.clip(0, 1), cmap="gray", vmin=0, vmax=1)
    return _bare(axes, title)


def signed(axes, x, title="", limit=None):
    """(1, H, W) or (H, W) -> axes: blue below zero, white at zero, red above, symmetric up to `limit`
    (default: max |x|)."""
    pixels = _pixels(x, channels=(1,))
    limit = limit or _largest(pixels)
    axes.imshow(pixels, cmap="RdBu_r", vmin=-limit, vmax=limit)
    return _bare(axes, title)


def numbers(axes, x, title="", form="{:.3g}", **colours):
    """(H, W) -> axes: a small matrix as coloured cells with their values written in."""
    cells = _pixels(x, channels=(1,))
    limit = _largest(cells)
    colours = {"cmap": "RdBu_r", "vmin": -1.6 * limit, "vmax": 1.6 * limit} | colours
    shown = axes.imshow(cells, **colours)
    for (row, column), value in np.ndenumerate(cells):
        dark = np.isfinite(value) and np.dot(shown.to_rgba(value)[:3], (0.299, 0.587, 0.114)) < 0.5
        text = re.sub(r"^(-?)0\.", r"\1.", form.format(value))  # .25 leaves room where 0.25 would not
        axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    axes.hlines(np.arange(1, cells.shape[0]) - 0.5, -0.5, cells.shape[1] - 0.5, color="white", linewidth=1.5)
    axes.vlines(np.arange(1, cells.shape[1]) - 0.5, -0.5, cells.shape[0] - 0.5, color="white", linewidth=1.5)
    return _bare(axes, title)


def gallery(images, titles=(), *, columns=None, width=7.0, draw=image):
    """Images of any sizes, their titles -> array of axes: a new figure, a row of equal heights or rows of
    `columns`.
    """
    if len(images) == 0 or len(titles) not in (0, len(images)):
        raise ValueError(
            f"gallery wants images, and a title for each or none, got {len(images)} images and "
            f"{len(titles)} titles"
        )
    shapes = [_pixels(x).shape for x in images]
    columns = columns or len(images)
    rows = math.ceil(len(images) / columns)
    wide = [shape[1] / shape[0] for shape in shapes] if rows == 1 else [1.0] * columns
    tall = 1.0 if rows == 1 else max(shape[0] / shape[1] for shape in shapes)
    height = rows * (width * tall / sum(wide) + 0.28 * any(titles))
    _, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, width_ratios=wide)
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


def _pixels(x, channels=(3, 1)):
    """A tensor or array -> NumPy (H, W) or (H, W, 3), as imshow takes it."""
    x = x.detach().float().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x, dtype=float)
    if x.size and x.ndim == 2:
        return x
    if x.size and x.ndim == 3 and x.shape[0] in channels:
        return x[0] if x.shape[0] == 1 else x.transpose(1, 2, 0)
    wanted = "".join(f"({n}, H, W) or " for n in channels)
    raise ValueError(f"a picture wants the shape {wanted}(H, W), got {x.shape}")


def _largest(x):
    """The largest |x| that is finite, 1.0 where that is 0: an end for a scale of colours."""
    return np.abs(x[np.isfinite(x)]).max(initial=0) or 1.0


def _bare(axes, title):
    axes.set(xticks=[], yticks=[], title=title)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes
