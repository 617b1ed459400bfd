"""Anchors: where they stand, the offsets from them, and which of them is matched to which object.

[Ren et al. 2015, arXiv:1506.01497, §3.1]
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from vlmbook.detection.boxes import at_least_float32, box_cxcywh_to_xyxy, box_xyxy_to_cxcywh
from vlmbook.validation import (
    describe,
    require_number,
    require_pair,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

LARGEST_GRID = 4096  # cells along a side
LARGEST_LOG = math.log(1000 / 16)  # of a size over its anchor's, as in torchvision: exp() stays finite
BACKGROUND, IGNORED = -1, -2  # what `match_anchors` gives an anchor that is matched to no object


# --- where they stand ---------------------------------------------------------------------------------------


def generate_anchors(
    grid: tuple[int, int],
    stride: tuple[float, float],
    sizes: Sequence[float],
    ratios: Sequence[float],
) -> torch.Tensor:
    """(H, W), (sy, sx), S sizes, R ratios -> (H·W·R·S, 4): boxes around the upper left corner of every cell.

    `grid` is the size of the feature map, `stride` the pixels a cell, each down and across. A size is √area
    in pixels, a ratio height / width. The order is row by row; in a cell ratio by ratio, and size by size in
    each. Sides are rounded to even pixels, as torchvision's are.

    Raises TypeError or ValueError for a grid that is not two whole numbers of at least 1, and for a stride,
    size or ratio that is not above 0. [Ren et al. 2015, §3.1.1; torchvision AnchorGenerator]
    """
    rows, columns = require_pair(grid, "grid", most=LARGEST_GRID)
    down, across = positive_numbers(stride, "stride", count=2)
    sizes = torch.tensor(positive_numbers(sizes, "sizes"), dtype=torch.float32)
    ratios = torch.tensor(positive_numbers(ratios, "ratios"), dtype=torch.float32)
    heights = (ratios.sqrt()[:, None] * sizes).flatten()
    widths = ((1 / ratios.sqrt())[:, None] * sizes).flatten()
    shapes = (torch.stack([-widths, -heights, widths, heights], dim=1) / 2).round()
    require_tensor(shapes, "anchors of these sizes and ratios", "A 4", finite=True)
    y = torch.arange(rows, dtype=torch.float32) * down
    x = torch.arange(columns, dtype=torch.float32) * across
    y, x = torch.meshgrid(y, x, indexing="ij")
    corners = torch.stack([x, y, x, y], dim=-1).view(-1, 1, 4)
    return (corners + shapes).view(-1, 4)


# --- offsets from them --------------------------------------------------------------------------------------


def encode_boxes(
    boxes: torch.Tensor,
    anchors: torch.Tensor,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> torch.Tensor:
    """(N, 4), (N, 4) -> (N, 4): t = (x − x_a)/w_a, (y − y_a)/h_a, log w/w_a, log h/h_a, times the weights.

    x, y are centres. A box without area has no finite offset. Raises TypeError or ValueError for what are no
    boxes, not one box an anchor, or weights that are not four numbers above 0. [Girshick et al. 2014, app. C;
    Ren et al. 2015, eq. 2]
    """
    require_tensor(anchors, "anchors", "N 4", empty="N")
    require_tensor(boxes, "boxes", "N 4", empty="N", N=len(anchors))
    require_same_kind(boxes, "boxes", anchors, "anchors")
    weights = positive_numbers(weights, "weights", count=4)
    x, y, w, h = box_xyxy_to_cxcywh(at_least_float32(boxes)).unbind(-1)
    xa, ya, wa, ha = box_xyxy_to_cxcywh(at_least_float32(anchors)).unbind(-1)
    offsets = torch.stack([(x - xa) / wa, (y - ya) / ha, (w / wa).log(), (h / ha).log()], dim=1)
    return (offsets * offsets.new_tensor(weights)).to(boxes.dtype)


def decode_boxes(
    offsets: torch.Tensor,
    anchors: torch.Tensor,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> torch.Tensor:
    """(N, 4·K), (N, 4) -> (N, 4·K): the boxes with these offsets from the anchors; K sets, one a class.

    The log of a size over its anchor's counts up to log(1000/16), as in torchvision. Raises TypeError or
    ValueError for what are no offsets, not as many as anchors, or weights that are not four numbers above 0.
    [the inverse of `encode_boxes`]
    """
    require_tensor(anchors, "anchors", "N 4", empty="N")
    require_tensor(offsets, "offsets", "N 4·K", empty="N", N=len(anchors))
    if offsets.shape[1] % 4:
        raise ValueError(f"offsets wants the shape (N, 4·K), got {tuple(offsets.shape)}")
    require_same_kind(offsets, "offsets", anchors, "anchors")
    weights = positive_numbers(weights, "weights", count=4)
    t = at_least_float32(offsets).unflatten(1, (-1, 4))
    tx, ty, tw, th = (t / t.new_tensor(weights)).unbind(-1)
    xa, ya, wa, ha = box_xyxy_to_cxcywh(at_least_float32(anchors))[:, None].unbind(-1)
    w = wa * tw.clamp(max=LARGEST_LOG).exp()
    h = ha * th.clamp(max=LARGEST_LOG).exp()
    boxes = torch.stack([xa + tx * wa, ya + ty * ha, w, h], dim=-1)
    return box_cxcywh_to_xyxy(boxes).flatten(1).to(offsets.dtype)


# --- which of them is matched to which object ---------------------------------------------------------------


def match_anchors(
    iou: torch.Tensor, high_threshold: float, low_threshold: float, *, allow_low_quality_matches: bool
) -> torch.Tensor:
    """(M, N) IoU of M objects and N anchors -> (N,) int64: the object of each anchor, BACKGROUND or IGNORED.

    From `high_threshold` on an anchor is matched to the object that it overlaps most; below `low_threshold`
    it is background; between the two it is ignored. With `allow_low_quality_matches` the anchors that overlap
    an object more than all others do are matched too, however small the overlap: to the object that *they*
    overlap most, so an object can still go without. Raises TypeError or ValueError for what is no matrix of
    IoU or no threshold. [Ren et al. 2015, §3.1.2; torchvision's Matcher]
    """
    require_tensor(iou, "iou", "M N", empty="M N")
    high = require_number(high_threshold, "high_threshold", least=0, most=1)
    low = require_number(low_threshold, "low_threshold", least=0, most=high)
    require_type(allow_low_quality_matches, "allow_low_quality_matches", bool, "True or False")
    if len(iou) == 0:
        return torch.full(iou.shape[1:], BACKGROUND, dtype=torch.int64, device=iou.device)
    overlap, owner = iou.max(0)
    matched = torch.where(overlap >= high, owner, torch.where(overlap < low, BACKGROUND, IGNORED))
    if allow_low_quality_matches and iou.shape[1] > 0:
        best = iou.amax(1, keepdim=True)
        is_best = ((iou == best) & (best > 0)).any(0)
        matched = torch.where(is_best, owner, matched)
    return matched


def sample_anchors(
    matched: torch.Tensor, count: int, positive_fraction: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,) from `match_anchors` -> (P,), (Q,) int64 indices: positive anchors and background ones, at random.

    At most count · positive_fraction are positive; background fills up to `count`. torch's global generator
    draws. Raises TypeError or ValueError for other arguments. [torchvision BalancedPositiveNegativeSampler]
    """
    require_tensor(matched, "matched", "N", kind="int64", empty="N")
    count = require_whole(count, "count")
    fraction = require_number(positive_fraction, "positive_fraction", least=0, most=1)
    positive = (matched >= 0).nonzero()[:, 0]
    background = (matched == BACKGROUND).nonzero()[:, 0]
    num_positive = min(len(positive), int(count * fraction))
    num_background = min(len(background), count - num_positive)
    positive = positive[torch.randperm(len(positive), device=matched.device)[:num_positive]]
    background = background[torch.randperm(len(background), device=matched.device)[:num_background]]
    return positive, background


# --- shared -------------------------------------------------------------------------------------------------


def positive_numbers(values: Sequence[float], name: str, count: int | None = None) -> list[float]:
    """Sequence -> list of floats above 0: at least one, or exactly `count`.

    Raises TypeError or ValueError, which name the argument.
    """
    wanted = "numbers above 0, at least one" if count is None else f"{count} numbers above 0"
    is_vector = isinstance(values, (torch.Tensor, np.ndarray)) and values.ndim == 1
    if not isinstance(values, (list, tuple)) and not is_vector:
        raise TypeError(f"{name} wants {wanted}, got {describe(values)}")
    if len(values) == 0 or (count is not None and len(values) != count):
        raise ValueError(f"{name} wants {wanted}, got {describe(values)}")
    return [require_number(value, f"{name}[{i}]", above=0) for i, value in enumerate(values)]
