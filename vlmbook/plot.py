"""Pictures in one look: functions that take data and axes and return the axes. None trains, seeds or calls
`show`.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from vlmbook.validation import (
    describe,
    require_callable,
    require_number,
    require_type,
    require_whole,
)

STYLE = Path(__file__).with_name("house.mplstyle")
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#9a9a9a"


# --- the house style, in which the reader's own font is kept ------------------------------------------------


def use_style() -> None:
    """Set the house style for every figure that follows."""
    plt.style.use(STYLE)


def style() -> AbstractContextManager[None]:
    """A context manager that sets the house style for a block."""
    return plt.style.context(STYLE)


# --- drawings -----------------------------------------------------------------------------------------------


def image(axes: Axes, x: torch.Tensor | np.ndarray, title: str = "") -> Axes:
    """(3, H, W), (1, H, W) or (H, W) -> axes: an image with values in [0, 1], others clipped; grey where it
    has one channel. uint8 pixels, from 0 to 255, are divided by 255, unless they are a mask of 0 and 1.
    """
    require_type(axes, "axes", Axes, "matplotlib Axes")
    title = _as_title(title)
    pixels = _as_pixels(x)
    if getattr(x, "dtype", None) in (torch.uint8, np.uint8) and pixels.max() > 1:
        pixels = pixels / 255
    axes.imshow(pixels.clip(0, 1), cmap="gray", vmin=0, vmax=1)
    return _strip(axes, title)


def signed(axes: Axes, x: torch.Tensor | np.ndarray, title: str = "", limit: float | None = None) -> Axes:
    """(1, H, W) or (H, W) -> axes: blue below zero, white at zero, red above, symmetric up to `limit`
    (default: max |x|).
    """
    require_type(axes, "axes", Axes, "matplotlib Axes")
    title = _as_title(title)
    pixels = _as_pixels(x, channels=(1,))
    limit = _largest(pixels) if limit is None else require_number(limit, "limit", above=0)
    axes.imshow(pixels, cmap="RdBu_r", vmin=-limit, vmax=limit)
    return _strip(axes, title)


def numbers(
    axes: Axes,
    x: torch.Tensor | np.ndarray,
    title: str = "",
    form: str = "{:.3g}",
    *,
    cmap: str = "RdBu_r",
    vmin: float | None = None,
    vmax: float | None = None,
) -> Axes:
    """(H, W) -> axes: a small matrix as coloured cells with their values written in, each in `form`.

    The colours go from `vmin` to `vmax` (default: symmetric around zero).
    """
    require_type(axes, "axes", Axes, "matplotlib Axes")
    title = _as_title(title)
    cells = _as_pixels(x, channels=(1,))
    write = _as_format(form)
    require_type(cmap, "cmap", str, "the name of one of matplotlib's colormaps")
    if cmap not in mpl.colormaps:
        raise ValueError(f"cmap wants the name of one of matplotlib's colormaps, got {cmap!r}")
    limit = 1.6 * _largest(cells)
    low = -limit if vmin is None else require_number(vmin, "vmin")
    high = limit if vmax is None else require_number(vmax, "vmax")
    if not low < high:
        raise ValueError(f"vmin and vmax want vmin < vmax, got {low:g} and {high:g}")
    shown = axes.imshow(cells, cmap=cmap, vmin=low, vmax=high)
    for (row, column), value in np.ndenumerate(cells):
        dark = np.isfinite(value) and np.dot(shown.to_rgba(value)[:3], (0.299, 0.587, 0.114)) < 0.5
        text = re.sub(r"^(-?)0\.", r"\1.", write(value))  # .25 leaves room where 0.25 would not
        axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    axes.hlines(np.arange(1, cells.shape[0]) - 0.5, -0.5, cells.shape[1] - 0.5, color="white", linewidth=1.5)
    axes.vlines(np.arange(1, cells.shape[1]) - 0.5, -0.5, cells.shape[0] - 0.5, color="white", linewidth=1.5)
    return _strip(axes, title)


def gallery(
    images: Sequence[torch.Tensor] | torch.Tensor,
    titles: Iterable[str] = (),
    *,
    columns: int | None = None,
    width: float = 7.0,
    draw: Callable = image,
) -> np.ndarray:
    """Images of any sizes, their titles -> array of axes: a new figure, a row of equal heights or rows of
    `columns`. `width` is in inches.
    """
    images = _as_list(images, "images", "images")
    titles = [_as_title(title) for title in _as_list(titles, "titles", "titles")]
    if not images or len(titles) not in (0, len(images)):
        raise ValueError(
            f"gallery wants images, and a title for each or none, got {len(images)} images and "
            f"{len(titles)} titles"
        )
    shapes = [_as_pixels(x).shape for x in images]
    columns = len(images) if columns is None else require_whole(columns, "columns", most=100)
    width = require_number(width, "width", above=0, most=100)
    require_callable(draw, "draw", "a function of axes, an image and a title")
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


def intervals(
    axes: Axes,
    names: Sequence[str],
    middles: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    xlabel: str,
) -> Axes:
    """Names with their values and interval ends -> axes: a dot and a bar a row, the first name on top."""
    require_type(axes, "axes", Axes, "matplotlib Axes")
    names = [_as_title(name) for name in _as_list(names, "names", "names")]
    middles = _as_row(middles, "middles", len(names))
    lows = _as_row(lows, "lows", len(names))
    highs = _as_row(highs, "highs", len(names))
    xlabel = _as_title(xlabel)
    if not ((lows <= middles) & (middles <= highs)).all():
        raise ValueError("intervals wants lows <= middles <= highs, got others")
    rows = np.arange(len(names))[::-1]
    axes.errorbar(middles, rows, xerr=[middles - lows, highs - middles], fmt="o", capsize=4)
    axes.set(yticks=rows, yticklabels=names, xlabel=xlabel, ylim=(-0.6, len(names) - 0.4))
    return axes


# --- what they are given ------------------------------------------------------------------------------------


def _as_array(x, name):
    """A tensor, an array or nested lists of real numbers -> NumPy array of floats."""
    if isinstance(x, torch.Tensor) and not x.is_complex() and not x.is_meta and x.layout == torch.strided:
        return x.detach().cpu().double().numpy()
    if isinstance(x, (np.ndarray, list, tuple)):
        try:
            array = np.asarray(x)
        except (TypeError, ValueError, RuntimeError):  # lists of unequal lengths
            array = np.asarray(None)
        if array.dtype.kind in "bfiu":
            return array.astype(float)
    raise TypeError(f"{name} wants an array or a tensor of real numbers, got {describe(x)}")


def _as_pixels(x, channels=(3, 1)):
    """-> NumPy (H, W) or (H, W, 3), as imshow takes it."""
    pixels = _as_array(x, "a picture")
    if pixels.size and pixels.ndim == 2:
        return pixels
    if pixels.size and pixels.ndim == 3 and pixels.shape[0] in channels:
        return pixels[0] if pixels.shape[0] == 1 else pixels.transpose(1, 2, 0)
    shapes = "".join(f"({n}, H, W) or " for n in channels)
    raise ValueError(f"a picture wants the shape {shapes}(H, W), got {pixels.shape}")


def _as_row(x, name, length):
    """-> NumPy (length,), all finite."""
    row = _as_array(x, name)
    if row.shape != (length,) or not np.isfinite(row).all():
        raise ValueError(f"{name} wants a finite number for each of {length} names, got {describe(x)}")
    return row


def _as_list(values, name, kinds):
    """A list, a tuple, an array, a tensor of at least one axis, or another iterable -> list."""
    try:
        if not isinstance(values, (str, bytes, dict, set)):
            return list(values)
    except Exception:  # whatever a foreign object's __iter__ does
        pass
    raise TypeError(f"{name} wants a list of {kinds}, got {describe(values)}")


def _as_title(title):
    """Text, or a number such as a label -> str, as matplotlib can draw it."""
    if isinstance(title, (str, int, float, np.generic)):
        return str(title)
    if isinstance(title, torch.Tensor) and title.numel() == 1 and not title.is_meta:
        return str(title.item())
    raise TypeError(f"a title or name wants to be text, got {describe(title)}")


def _as_format(form):
    """ "{:.3g}" -> the function that writes a number so."""
    require_type(form, "form", str, "a format such as '{:.3g}'")
    try:
        form.format(0.5)
    except (ValueError, LookupError, AttributeError):
        raise ValueError(f"form wants a format of one number, such as '{{:.3g}}', got {form!r}") from None
    return form.format


def _largest(x):
    """The largest |x| that is finite, 1.0 where that is 0: an end for a scale of colours."""
    return np.abs(x[np.isfinite(x)]).max(initial=0) or 1.0


def _strip(axes, title):
    """Neither ticks nor spines."""
    axes.set(xticks=[], yticks=[], title=title)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes
