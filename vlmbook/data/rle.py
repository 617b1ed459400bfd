"""Masks as run lengths: the form in which COCO stores a mask of any shape in a JSON file."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from vlmbook.data.images import MAX_PIXELS
from vlmbook.validation import describe, require_pair, require_tensor, require_type, require_whole

LONGEST = 2**40  # a run in a text of COCO's; none of an image is as long


@dataclass(frozen=True)
class RLE:
    """Runs of a mask of `height` × `width`, column by column, downwards: the first counts pixels outside, the
    second pixels inside, and so on.

    Runs of no pixel are merged with their neighbours, all but the first, so two masks are equal where their
    pixels are. Raises TypeError or ValueError for runs that are no whole numbers or do not fill the mask.
    [Lin et al. 2014, the API of COCO]
    """

    height: int
    width: int
    counts: tuple[int, ...]

    def __post_init__(self):
        height, width = require_pair((self.height, self.width), "height and width")
        if height * width > MAX_PIXELS:
            raise ValueError(f"height × width wants at most {MAX_PIXELS} pixels, got {height}×{width}")
        require_type(self.counts, "counts", (list, tuple), "a list of run lengths")
        counts = [require_whole(count, "counts", least=0, most=LONGEST) for count in self.counts]
        if sum(counts) != height * width:
            raise ValueError(f"counts wants runs of {height * width} pixels together, got {sum(counts)}")
        for name, value in {"height": height, "width": width, "counts": _merge(counts)}.items():
            object.__setattr__(self, name, value)

    @property
    def area(self) -> int:
        """The number of pixels inside."""
        return sum(self.counts[1::2])


def encode_mask(mask: torch.Tensor) -> RLE:
    """(H, W) bool -> RLE. Raises TypeError or ValueError for what is no mask of at most MAX_PIXELS pixels."""
    require_tensor(mask, "mask", "H W", kind="bool")
    height, width = mask.shape
    if mask.is_meta:
        raise ValueError("mask wants pixels with values, got a tensor on the meta device")
    pixels = mask.cpu().numpy().ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    ends = [0, *changes.tolist(), height * width]
    counts = [end - start for start, end in pairwise(ends)]
    return RLE(height, width, tuple([0, *counts] if pixels[0] else counts))


def decode_mask(rle: RLE) -> torch.Tensor:
    """RLE -> (H, W) bool. Raises TypeError for what is no RLE."""
    require_type(rle, "rle", RLE, "an RLE")
    inside = np.arange(len(rle.counts)) % 2 == 1
    pixels = np.repeat(inside, rle.counts)
    return torch.from_numpy(pixels.reshape(rle.width, rle.height).T.copy())


def write_counts(rle: RLE) -> str:
    """RLE -> str: COCO's compressed runs. From the fourth run on the difference to the run before the last
    one is written, in digits of five bits, the lowest first; each digit is a character from "0" up.

    Raises TypeError for what is no RLE. [the API of COCO, maskApi.c]
    """
    require_type(rle, "rle", RLE, "an RLE")
    text = []
    for place, count in enumerate(rle.counts):
        rest = count - rle.counts[place - 2] if place > 2 else count
        more = True
        while more:
            digit = rest & 0b11111
            rest >>= 5
            more = rest != (-1 if digit & 0b10000 else 0)  # the fifth bit of the last digit is the sign
            text.append(chr(48 + digit + 32 * more))
    return "".join(text)


def read_counts(text: str | bytes, height: int, width: int) -> RLE:
    """str of COCO's compressed runs, size of the mask -> RLE: the inverse of `write_counts`.

    Raises TypeError or ValueError for what is no such text, and for runs that do not fill the mask.
    """
    require_type(text, "text", (str, bytes), "COCO's compressed runs as text")
    height, width = require_pair((height, width), "height and width")
    codes = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    counts, value, shift = [], 0, 0
    for code in codes:
        digit = code - 48
        if not 0 <= digit < 64 or shift > 40:
            raise ValueError(f"text wants COCO's compressed runs, got {describe(text)}")
        value |= (digit & 0b11111) << shift
        shift += 5
        if digit & 0b100000:
            continue
        if digit & 0b10000:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value, shift = 0, 0
    if shift or not counts or min(counts) < 0:
        raise ValueError(f"text wants COCO's compressed runs, got {describe(text)}")
    return RLE(height, width, tuple(counts))


def _merge(counts):
    """Runs -> tuple of runs without empty ones but the first; the last run has a pixel."""
    merged = [0]
    inside = False  # of the run that `merged` ends with
    for place, count in enumerate(counts):
        if count == 0:
            continue
        if (place % 2 == 1) == inside:
            merged[-1] += count
        else:
            merged.append(count)
            inside = not inside
    return tuple(merged)
