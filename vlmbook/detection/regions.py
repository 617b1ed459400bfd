"""Regions of a feature map, of any size, pooled to one size: RoI pooling and RoI align, each beside its slow
twin, which spells the definition out.

The detectors call torchvision.ops.roi_align, which is compiled and gives the same values; these are written
to be read.
"""

import math
from collections.abc import Sequence

import torch

from vlmbook.validation import require_number, require_pair, require_same_kind, require_tensor, require_whole

Regions = torch.Tensor | Sequence[torch.Tensor]  # (K, 5): number of the image and box; or B × (L, 4)


# --- RoI pooling --------------------------------------------------------------------------------------------


def roi_pool(
    input: torch.Tensor, boxes: Regions, output_size: int | tuple[int, int], spatial_scale: float = 1.0
) -> torch.Tensor:
    """(B, C, H, W), (K, 5) or B × (L, 4) -> (K, C, h, w): the maximum in each of h × w bins of every box.

    A row of (K, 5) begins with the number of its image. Boxes are rounded to whole cells of the map, bins
    outwards; an empty bin gives 0. There is no gradient for the boxes. Raises TypeError or ValueError for
    input or boxes that it cannot use. [Girshick 2015, §2.1; torchvision.ops.roi_pool]
    """
    regions = _as_regions(input, boxes)
    bins_down, bins_across = require_pair(output_size, "output_size")
    scale = require_number(spatial_scale, "spatial_scale", above=0)
    pooled = [input.new_zeros(0, input.shape[1], bins_down, bins_across) + 0 * input.sum()]
    for number, box in zip(regions[:, 0].long().tolist(), (regions[:, 1:] * scale).tolist(), strict=True):
        x1, y1, x2, y2 = (_round_half_away(edge) for edge in box)
        rows = _whole_bins(y1, y2, bins_down, input.shape[2])
        columns = _whole_bins(x1, x2, bins_across, input.shape[3])
        strips = torch.stack([_maximum(input[number, :, :, start:end], 2) for start, end in columns], dim=-1)
        bins = torch.stack([_maximum(strips[:, start:end], 1) for start, end in rows], dim=1)
        pooled.append(bins[None])
    return torch.cat(pooled)


def roi_pool_loops(
    input: torch.Tensor, boxes: Regions, output_size: int | tuple[int, int], spatial_scale: float = 1.0
) -> torch.Tensor:
    """(B, C, H, W), (K, 5) or B × (L, 4) -> (K, C, h, w): as `roi_pool`, bin by bin."""
    regions = _as_regions(input, boxes)
    bins_down, bins_across = require_pair(output_size, "output_size")
    scale = require_number(spatial_scale, "spatial_scale", above=0)
    pooled = input.new_zeros(len(regions), input.shape[1], bins_down, bins_across)
    for k, (number, *box) in enumerate(regions.tolist()):
        x1, y1, x2, y2 = (_round_half_away(edge * scale) for edge in box)
        rows = _whole_bins(y1, y2, bins_down, input.shape[2])
        columns = _whole_bins(x1, x2, bins_across, input.shape[3])
        for i, (top, bottom) in enumerate(rows):
            for j, (left, right) in enumerate(columns):
                if bottom > top and right > left:
                    pooled[k, :, i, j] = input[int(number), :, top:bottom, left:right].amax((1, 2))
    return pooled


def _round_half_away(x):
    """float -> int: halves are rounded away from zero, as in C."""
    return math.floor(x + 0.5) if x >= 0 else math.ceil(x - 0.5)


def _whole_bins(first, last, bins, size):
    """First and last cell, number of bins, cells of the map -> list of (start, end): bins in whole cells."""
    step = max(last - first + 1, 1) / bins
    starts = [first + math.floor(i * step) for i in range(bins)]
    ends = [first + math.ceil((i + 1) * step) for i in range(bins)]
    return [(_clip(start, size), _clip(end, size)) for start, end in zip(starts, ends, strict=True)]


def _clip(cell, size):
    return min(max(cell, 0), size)


def _maximum(x, dim):
    """The maximum along an axis; 0 where it is empty. Of equal ones the first gets the gradient, as in
    torchvision.
    """
    return x.max(dim).values if x.shape[dim] > 0 else x.sum(dim)


# --- RoI align ----------------------------------------------------------------------------------------------


def roi_align(
    input: torch.Tensor,
    boxes: Regions,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> torch.Tensor:
    """(B, C, H, W), (K, 5) or B × (L, 4) -> (K, C, h, w): the mean of bilinear samples in each of h × w bins.

    A bin has sampling_ratio² samples; 0 or −1 takes ⌈bin size⌉ of them a side. `aligned` shifts the boxes by
    half a cell, so that the value of a cell stands at its centre. The bilinear weight of a cell is a product
    of one for its row and one for its column, so the bins of a box are A x Bᵀ with two small matrices. There
    is no gradient for the boxes. Raises TypeError or ValueError for input or boxes that it cannot use. [He et
    al. 2017, arXiv:1703.06870, §3; torchvision.ops.roi_align]
    """
    regions = _as_regions(input, boxes)
    bins_down, bins_across = require_pair(output_size, "output_size")
    x1, y1, width, height, ratio = _sampled_boxes(regions, spatial_scale, sampling_ratio, aligned)
    A = _bin_weights(y1, height, bins_down, input.shape[2], ratio)  # (K, h, H)
    B = _bin_weights(x1, width, bins_across, input.shape[3], ratio)  # (K, w, W)
    pooled = [input.new_zeros(0, input.shape[1], bins_down, bins_across) + 0 * input.sum()]
    numbers = regions[:, 0].long().tolist()
    for number, a, b, rows, columns in zip(numbers, A, B, _nonzero(A), _nonzero(B), strict=True):
        bins = a[:, rows] @ input[number, :, rows, columns] @ b[:, columns].T
        pooled.append(bins[None])
    return torch.cat(pooled)


def roi_align_loops(
    input: torch.Tensor,
    boxes: Regions,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> torch.Tensor:
    """(B, C, H, W), (K, 5) or B × (L, 4) -> (K, C, h, w): as `roi_align`, sample by sample."""
    regions = _as_regions(input, boxes)
    bins_down, bins_across = require_pair(output_size, "output_size")
    x1, y1, width, height, ratio = _sampled_boxes(regions, spatial_scale, sampling_ratio, aligned)
    pooled = input.new_zeros(len(regions), input.shape[1], bins_down, bins_across)
    for k, number in enumerate(regions[:, 0].long().tolist()):
        step_down = height[k].item() / bins_down
        step_across = width[k].item() / bins_across
        samples_down = ratio if ratio > 0 else math.ceil(step_down)
        samples_across = ratio if ratio > 0 else math.ceil(step_across)
        for i in range(bins_down):
            for j in range(bins_across):
                for a in range(samples_down):
                    for b in range(samples_across):
                        y = y1[k].item() + step_down * (i + (a + 0.5) / samples_down)
                        x = x1[k].item() + step_across * (j + (b + 0.5) / samples_across)
                        value = _bilinear(input[number], y, x)
                        pooled[k, :, i, j] += value / (samples_down * samples_across)
    return pooled


def _sampled_boxes(regions, spatial_scale, sampling_ratio, aligned):
    """(K, 5) -> (K,) x1, y1, width, height in cells of the map, and the samples a side of a bin."""
    scale = require_number(spatial_scale, "spatial_scale", above=0)
    ratio = require_whole(sampling_ratio, "sampling_ratio", least=-1)
    x1, y1, x2, y2 = (regions[:, 1:] * scale).unbind(1)
    if aligned:
        return x1 - 0.5, y1 - 0.5, x2 - x1, y2 - y1, ratio
    return x1, y1, (x2 - x1).clamp(min=1), (y2 - y1).clamp(min=1), ratio


def _bin_weights(start, length, bins, size, sampling_ratio):
    """(K,), (K,) -> (K, bins, size): what each cell along an axis counts in the mean of each bin."""
    step = length / bins
    samples = torch.full_like(step, sampling_ratio) if sampling_ratio > 0 else step.ceil()
    most = max([1, *samples.int().tolist()])
    a = torch.arange(most, device=start.device)
    within = (a + 0.5) / samples.clamp(min=1)[:, None]  # of a bin: (K, most)
    bin_number = torch.arange(bins, device=start.device)[:, None]
    position = start[:, None, None] + (bin_number + within[:, None]) * step[:, None, None]  # (K, bins, most)
    counts = (a < samples[:, None])[:, None] & (position >= -1) & (position <= size)
    position = position.clamp(0, size - 1)[..., None]
    cells = torch.arange(size, device=start.device)
    hats = (1 - (position - cells).abs()).clamp(min=0)  # bilinear: 1 at the cell, 0 from the next one on
    return (hats * counts[..., None]).sum(2) / samples.clamp(min=1)[:, None, None]


def _nonzero(weights):
    """(K, bins, size) -> list of slices: from the first cell that counts to the last."""
    used = (weights > 0).any(1).int()
    starts = used.argmax(1)
    ends = used.shape[1] - used.flip(1).argmax(1)
    return [slice(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def _bilinear(image, y, x):
    """(C, H, W), y, x -> (C,): between the four cells around; 0 more than a cell outside."""
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return image.new_zeros(len(image))
    y = min(max(y, 0), height - 1)
    x = min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = (1 - dx) * image[:, top, left] + dx * image[:, top, right]
    lower = (1 - dx) * image[:, bottom, left] + dx * image[:, bottom, right]
    return (1 - dy) * upper + dy * lower


# --- both ---------------------------------------------------------------------------------------------------


def _as_regions(input, boxes):
    """-> (K, 5), detached: the number of its image and the box. Raises TypeError or ValueError for others."""
    require_tensor(input, "input", "B C H W")
    if isinstance(boxes, (list, tuple)):
        boxes = _with_image_numbers(input, boxes)
    require_tensor(boxes, "boxes", "K 5", empty="K", finite=True)
    require_same_kind(boxes, "boxes", input, "input")
    if not ((boxes[:, 0] >= 0) & (boxes[:, 0] < len(input))).all():
        raise ValueError(
            f"boxes wants image numbers from 0 to {len(input) - 1} in column 0, "
            f"got {boxes[:, 0].tolist()[:9]}"
        )
    return boxes.detach()


def _with_image_numbers(input, boxes):
    """B × (L, 4) -> (K, 5)."""
    if len(boxes) != len(input):
        raise ValueError(f"boxes wants one tensor an image, {len(input)}, got {len(boxes)}")
    parts = []
    for i, each in enumerate(boxes):
        require_tensor(each, f"boxes[{i}]", "L 4", empty="L")
        require_same_kind(each, f"boxes[{i}]", input, "input")
        parts.append(torch.cat([each.new_full((len(each), 1), i), each], dim=1))
    return torch.cat(parts)
