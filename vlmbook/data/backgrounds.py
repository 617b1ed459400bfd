"""Squares cut from the bundled photographs, on which drawn objects lie."""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from vlmbook.data.bundled import photo
from vlmbook.validation import require_choice, require_type, require_whole


def crop_photo(
    rng: np.random.Generator,
    names: Sequence[str],
    size: int,
    *,
    channels: int = 1,
    half: str | None = None,
) -> torch.Tensor:
    """-> (size, size), or (3, size, size) where channels=3: a square somewhere in one of the photos, at some
    scale.

    half: "left" or "right" takes it from that half of the photo, so that two sets share no pixel. Raises
    TypeError or ValueError for what is no generator, photo, size, number of channels or half.
    """
    require_type(rng, "rng", np.random.Generator, "a numpy.random.Generator")
    require_type(names, "names", (list, tuple), "a list of names of photos")
    size = require_whole(size, "size")
    channels = require_choice(channels, "channels", (1, 3))
    half = require_choice(half, "half", (None, "left", "right"))
    if not names:
        raise ValueError("names wants at least one photo, got none")
    picture = _photo(names[rng.integers(len(names))])
    middle = picture.shape[2] // 2
    if half == "left":
        picture = picture[:, :, :middle]
    elif half == "right":
        picture = picture[:, :, middle:]
    height, width = picture.shape[1:]
    side = int(min(height, width, size * rng.uniform(1, 2.5)))
    top = rng.integers(height - side + 1)
    left = rng.integers(width - side + 1)
    crop = picture[None, :, top : top + side, left : left + side]
    crop = F.interpolate(crop, size=(size, size), mode="bilinear", antialias=side > size)[0]
    if rng.integers(2):
        crop = crop.flip(-1)
    return crop.mean(0) if channels == 1 else crop.clamp(0, 1)


@functools.cache
def _photo(name):
    return photo(name)
