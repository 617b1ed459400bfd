"""Masks of holes (1, H, W), 1 where the image is missing: brush strokes, and rectangles."""

import math
from itertools import pairwise

import torch

from vlmbook.validation import require_number, require_pair, require_type, require_whole

LARGEST = 2**14
LONGEST_STROKE = 8  # segments


def free_form_mask(
    size: int | tuple[int, int],
    *,
    strokes: int = 4,
    brush: float = 0.08,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """(height, width) -> (1, H, W) float32 of 0 and 1: random strokes of a round brush [after Yu et al. 2019,
    arXiv:1806.03589, sec. 3.4].

    A stroke is a chain of up to eight segments which turn at random. `brush` is the mean diameter as a share
    of the shorter side; of each stroke it differs by up to a half. Raises TypeError or ValueError for sizes
    below 1, no strokes, and a brush outside (0, 1].
    """
    height, width = require_pair(size, "size", most=LARGEST)
    strokes = require_whole(strokes, "strokes", most=1000)
    brush = require_number(brush, "brush", above=0, most=1)
    generator = require_generator(generator)
    rows = torch.arange(height).view(-1, 1) + 0.5
    columns = torch.arange(width).view(1, -1) + 0.5
    hole = torch.zeros(height, width, dtype=torch.bool)
    for _ in range(strokes):
        points = _draw_stroke(height, width, generator)
        radius = brush * min(height, width) * float(0.25 + 0.5 * torch.rand(1, generator=generator))
        for start, end in pairwise(points):
            hole |= _distance_to_segment(rows, columns, start, end) <= max(radius, 0.75)
    return hole.float()[None]


def block_mask(
    size: int | tuple[int, int], *, share: float = 0.25, generator: torch.Generator | None = None
) -> torch.Tensor:
    """(height, width) -> (1, H, W) float32 of 0 and 1: one rectangle, of the image's own ratio of sides, at a
    random position.

    `share` is its part of the area, but for rounding: a side has whole pixels, and at least one. Raises
    TypeError or ValueError for sizes below 1 and for a share outside (0, 1].
    """
    height, width = require_pair(size, "size", most=LARGEST)
    share = require_number(share, "share", above=0, most=1)
    generator = require_generator(generator)
    tall, wide = (max(1, round(side * math.sqrt(share))) for side in (height, width))
    top = int(torch.randint(height - tall + 1, (1,), generator=generator))
    left = int(torch.randint(width - wide + 1, (1,), generator=generator))
    mask = torch.zeros(1, height, width)
    mask[:, top : top + tall, left : left + wide] = 1
    return mask


def _draw_stroke(height, width, generator):
    """-> list of (y, x): the corners of a chain of segments that turns by up to 70° each time."""
    u = torch.rand(4, generator=generator).tolist()
    points = [(u[0] * height, u[1] * width)]
    direction = 2 * math.pi * u[2]
    for _ in range(2 + int(u[3] * (LONGEST_STROKE - 1))):
        turn, length = torch.rand(2, generator=generator).tolist()
        direction += (2 * turn - 1) * 1.2
        step = (0.05 + 0.15 * length) * math.hypot(height, width)
        y, x = points[-1]
        points.append((y + step * math.sin(direction), x + step * math.cos(direction)))
    return points


def _distance_to_segment(rows, columns, start, end):
    """(H, 1), (1, W), (y, x), (y, x) -> (H, W): of each pixel's middle."""
    y, x = start
    dy, dx = end[0] - y, end[1] - x
    along = ((rows - y) * dy + (columns - x) * dx) / max(dy * dy + dx * dx, 1e-12)
    along = along.clamp(0, 1)
    return ((rows - y - along * dy).square() + (columns - x - along * dx).square()).sqrt()


def require_generator(generator: torch.Generator | None) -> torch.Generator | None:
    """A torch.Generator or None -> itself. Raises TypeError for anything else."""
    if generator is None:
        return None
    return require_type(generator, "generator", torch.Generator, "a torch.Generator")
