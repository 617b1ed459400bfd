"""An image of any size through a network, in windows: bounded memory, and the same pixels as at once."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import NamedTuple

import torch
from tqdm import tqdm

from vlmbook.editing.resampling import LARGEST_FACTOR
from vlmbook.validation import require_callable, require_choice, require_tensor, require_type, require_whole

LARGEST_TILE = 2**14
STRIP = 512  # rows that are looked at at once, where no network is


class Window(NamedTuple):
    """A square of the image, and the larger rectangle that is computed for it: rows and columns in pixels."""

    top: int
    bottom: int
    left: int
    right: int
    above: int
    below: int
    before: int
    after: int


def windows(height: int, width: int, *, tile: int, overlap: int, grid: int = 1) -> Iterator[Window]:
    """-> iterator of Window: squares of `tile` pixels that cover the image once, each with `overlap` pixels
    around it, as far as the image has them.

    The rectangles start at multiples of `grid`, so that a network that halves its maps pairs the same pixels
    as in the whole image. Raises TypeError or ValueError for sizes below 1, and for a negative overlap.
    """
    height, width = require_whole(height, "height"), require_whole(width, "width")
    tile = require_whole(tile, "tile", most=LARGEST_TILE)
    overlap = require_whole(overlap, "overlap", least=0, most=LARGEST_TILE)
    grid = require_whole(grid, "grid", most=LARGEST_TILE)
    return _windows(height, width, tile, overlap, grid)


def _windows(height, width, tile, overlap, grid):
    for top, left in product(range(0, height, tile), range(0, width, tile)):
        bottom, right = min(top + tile, height), min(left + tile, width)
        above, before = (max(0, start - overlap) // grid * grid for start in (top, left))
        below, after = min(bottom + overlap, height), min(right + overlap, width)
        yield Window(top, bottom, left, right, above, below, before, after)


def map_tiles(
    function: Callable[[torch.Tensor], torch.Tensor],
    image: torch.Tensor,
    *,
    tile: int,
    overlap: int,
    factor: int = 1,
    grid: int = 1,
    progress: bool = False,
) -> torch.Tensor:
    """function (C, h, w) -> (D, fh, fw), (C, H, W) -> (D, fH, fW): function(image), in windows, which start
    at multiples of `grid`.

    The result has the dtype of the image; bytes, 0 to 255, are handed on as float32 in [0, 1], and come back
    rounded, so that a large image needs no copy in floating numbers. It equals the whole but for rounding
    where an output pixel depends on pixels up to `overlap` away. Raises TypeError or ValueError for what does
    not fit, and for a function whose result has another size.
    """
    require_callable(function, "function")
    require_image(image)
    tile = require_whole(tile, "tile", most=LARGEST_TILE)
    overlap = require_whole(overlap, "overlap", least=0, most=LARGEST_TILE)
    factor = require_whole(factor, "factor", most=LARGEST_FACTOR)
    grid = require_whole(grid, "grid", most=LARGEST_TILE)
    progress = require_choice(progress, "progress", (False, True))
    _, height, width = image.shape
    result = None
    for each in tqdm(list(_windows(height, width, tile, overlap, grid)), disable=not progress, unit="tile"):
        window = as_floating(image[:, each.above : each.below, each.before : each.after])
        square = require_type(function(window), "function", torch.Tensor, "to return a tensor")
        require_tensor(
            square, "function(window)", "D H W", H=factor * window.shape[1], W=factor * window.shape[2]
        )
        if result is None:
            result = image.new_empty(len(square), factor * height, factor * width)
        rows = slice(factor * (each.top - each.above), factor * (each.bottom - each.above))
        columns = slice(factor * (each.left - each.before), factor * (each.right - each.before))
        result[:, factor * each.top : factor * each.bottom, factor * each.left : factor * each.right] = (
            as_kind(square[:, rows, columns], image.dtype)
        )
    return result


def require_image(image: torch.Tensor, name: str = "image", channels: tuple[int, ...] = ()) -> torch.Tensor:
    """(C, H, W) floating in [0, 1] or bytes -> itself. Raises TypeError or ValueError for anything else, and
    for another number of channels where `channels` names some.
    """
    kind = "whole" if isinstance(image, torch.Tensor) and image.dtype == torch.uint8 else "floating"
    require_tensor(image, name, "C H W", kind=kind)
    if image.is_meta:
        raise ValueError(f"{name} wants values, got a tensor on the meta device")
    if kind == "floating":
        require_tensor(image, name, "C H W", least=0, most=1)
    if channels and len(image) not in channels:
        raise ValueError(f"{name} wants {' or '.join(map(str, channels))} channels, got {len(image)}")
    return image


def as_floating(image: torch.Tensor) -> torch.Tensor:
    """(C, H, W) -> (C, H, W): bytes as float32 in [0, 1], others as they are. Raises TypeError or
    ValueError for other whole numbers.
    """
    require_image(image)
    return image.float() / 255 if image.dtype == torch.uint8 else image


def as_kind(image: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(C, H, W) floating, dtype -> (C, H, W) of that dtype in [0, 1], or rounded to bytes.

    Values outside [0, 1] become the nearest inside. Raises TypeError or ValueError for what is no floating
    image and for other dtypes.
    """
    require_tensor(image, "image", "C H W")
    require_type(dtype, "dtype", torch.dtype, "a torch.dtype")
    if dtype == torch.uint8:
        return image.float().clamp(0, 1).mul(255).round().byte()
    if not dtype.is_floating_point:
        raise TypeError(f"dtype wants torch.uint8 or a floating dtype, got {dtype}")
    return image.clamp(0, 1).to(dtype)
