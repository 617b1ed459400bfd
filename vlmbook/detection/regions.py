"""Regions of a feature map, of any size, pooled to one size: RoI pooling and RoI align, each beside its slow
twin, which spells the definition out.

The detectors call torchvision.ops.roi_align, which is compiled and gives the same values; these are written
to be read. Means are computed in at least float32, whatever the dtype of the map.
"""

import math
from collections.abc import Sequence

import torch
import torchvision

from vlmbook.detection.anchors import positive_numbers
from vlmbook.detection.boxes import at_least_float32
from vlmbook.validation import (
    describe,
    require_number,
    require_pair,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

Regions = torch.Tensor | Sequence[torch.Tensor]  # (K, 5): number of the image and box; or B × (L, 4)
LARGEST_OUTPUT = 256  # bins a side
LARGEST_RATIO = 64  # samples along a side of a bin
LARGEST_COORDINATE = 2.0**14  # of a box, in cells of the map: the samples of a bin grow with its size


# --- RoI pooling --------------------------------------------------------------------------------------------


def roi_pool(
    input: torch.Tensor, boxes: Regions, output_size: int | tuple[int, int], spatial_scale: float = 1.0
) -> torch.Tensor:
    """(B, C, H, W), (K, 5) or B × (L, 4) -> (K, C, h, w): the maximum in each of h × w bins of every box.

    A row of (K, 5) begins with the number of its image. Boxes are rounded to whole cells of the map, bins
    outwards; an empty bin gives 0. There is no gradient for the boxes. Raises TypeError or ValueError for
    input or boxes that it cannot use. [Girshick 2015, §2.1; torchvision.ops.roi_pool]
    """
    numbers, boxes = _scaled_boxes(input, boxes, spatial_scale)
    bins_down, bins_across = require_pair(output_size, "output_size", most=LARGEST_OUTPUT)
    pooled = [_no_region(input, bins_down, bins_across)]
    for number, box in zip(numbers, boxes.tolist(), strict=True):
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
    numbers, boxes = _scaled_boxes(input, boxes, spatial_scale)
    bins_down, bins_across = require_pair(output_size, "output_size", most=LARGEST_OUTPUT)
    pooled = input.new_zeros(len(boxes), input.shape[1], bins_down, bins_across)
    for k, (number, box) in enumerate(zip(numbers, boxes.tolist(), strict=True)):
        x1, y1, x2, y2 = (_round_half_away(edge) for edge in box)
        rows = _whole_bins(y1, y2, bins_down, input.shape[2])
        columns = _whole_bins(x1, x2, bins_across, input.shape[3])
        for i, (top, bottom) in enumerate(rows):
            for j, (left, right) in enumerate(columns):
                if bottom > top and right > left:
                    pooled[k, :, i, j] = input[number, :, top:bottom, left:right].amax((1, 2))
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
    numbers, boxes = _scaled_boxes(input, boxes, spatial_scale)
    bins_down, bins_across = require_pair(output_size, "output_size", most=LARGEST_OUTPUT)
    ratio = require_whole(sampling_ratio, "sampling_ratio", least=-1, most=LARGEST_RATIO)
    x1, y1, width, height = _sampled_area(boxes, aligned)
    x = at_least_float32(input)
    A = _bin_weights(y1, height, bins_down, input.shape[2], ratio)  # (K, h, H)
    B = _bin_weights(x1, width, bins_across, input.shape[3], ratio)  # (K, w, W)
    pooled = [_no_region(x, bins_down, bins_across)]
    for number, a, b, rows, columns in zip(numbers, A, B, _nonzero(A), _nonzero(B), strict=True):
        bins = a[:, rows] @ x[number, :, rows, columns] @ b[:, columns].T
        pooled.append(bins[None])
    return torch.cat(pooled).to(input.dtype)


def roi_align_loops(
    input: torch.Tensor,
    boxes: Regions,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> torch.Tensor:
    """(B, C, H, W), (K, 5) or B × (L, 4) -> (K, C, h, w): as `roi_align`, sample by sample."""
    numbers, boxes = _scaled_boxes(input, boxes, spatial_scale)
    bins_down, bins_across = require_pair(output_size, "output_size", most=LARGEST_OUTPUT)
    ratio = require_whole(sampling_ratio, "sampling_ratio", least=-1, most=LARGEST_RATIO)
    x1, y1, width, height = _sampled_area(boxes, aligned)
    image = at_least_float32(input)
    pooled = image.new_zeros(len(boxes), input.shape[1], bins_down, bins_across)
    for k, number in enumerate(numbers):
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
                        value = _bilinear(image[number], y, x)
                        pooled[k, :, i, j] += value / (samples_down * samples_across)
    return pooled.to(input.dtype)


def _sampled_area(boxes, aligned):
    """(K, 4) in cells of the map -> (K,) x1, y1, width, height of the area that is sampled."""
    require_type(aligned, "aligned", bool, "True or False")
    x1, y1, x2, y2 = boxes.unbind(1)
    if aligned:
        return x1 - 0.5, y1 - 0.5, x2 - x1, y2 - y1
    return x1, y1, (x2 - x1).clamp(min=1), (y2 - y1).clamp(min=1)


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


# --- what the detectors call --------------------------------------------------------------------------------


def pool_regions(
    x: torch.Tensor, boxes: list[torch.Tensor], stride: tuple[float, float], output_size: int
) -> torch.Tensor:
    """(B, C, H, W), B × (L, 4) in pixels, (sy, sx) pixels a cell -> (K, C, h, h): RoI align.

    It is torchvision.ops's, with 2 × 2 samples a bin, in at least float32; a gradient goes to the map alone.
    Raises TypeError or ValueError for other arguments. [He et al. 2017]
    """
    require_tensor(x, "x", "B C H W")
    require_boxes_per_image(boxes, "boxes", count=len(x))
    down, across = positive_numbers(stride, "stride", count=2)
    size = require_whole(output_size, "output_size", most=LARGEST_OUTPUT)
    wide = at_least_float32(x)
    cells = []
    for i, each in enumerate(boxes):
        require_tensor(each, f"boxes[{i}]", "L 4", empty="L", device=x.device)
        cells.append(each.detach().to(wide.dtype) / wide.new_tensor([across, down, across, down]))
    return torchvision.ops.roi_align(wide, cells, size, 1.0, sampling_ratio=2).to(x.dtype)


def require_boxes_per_image(boxes: Sequence[torch.Tensor], name: str, *, count: int) -> None:
    """Raises TypeError or ValueError for what is no list of `count` tensors of boxes (L, 4)."""
    if not isinstance(boxes, (list, tuple)):
        raise TypeError(f"{name} wants a list with a tensor (L, 4) an image, got {describe(boxes)}")
    if len(boxes) != count:
        raise ValueError(f"{name} wants one tensor an image, {count}, got {len(boxes)}")
    for i, each in enumerate(boxes):
        require_tensor(each, f"{name}[{i}]", "L 4", empty="L")


# --- shared -------------------------------------------------------------------------------------------------


def _scaled_boxes(input, boxes, spatial_scale):
    """-> K numbers of images, (K, 4) boxes in cells of the map, at least float32, detached."""
    require_tensor(input, "input", "B C H W")
    scale = require_number(spatial_scale, "spatial_scale", above=0, most=LARGEST_COORDINATE)
    if isinstance(boxes, (list, tuple)):
        boxes = _with_image_numbers(input, boxes)
    require_tensor(boxes, "boxes", "K 5", empty="K", finite=True)
    require_same_kind(boxes, "boxes", input, "input")
    if not ((boxes[:, 0] >= 0) & (boxes[:, 0] < len(input))).all():
        raise ValueError(
            f"boxes wants image numbers from 0 to {len(input) - 1} in column 0, "
            f"got {boxes[:, 0].tolist()[:9]}"
        )
    boxes = at_least_float32(boxes.detach())
    scaled = boxes[:, 1:] * scale
    require_tensor(
        scaled, "boxes · spatial_scale", "K 4", empty="K", least=-LARGEST_COORDINATE, most=LARGEST_COORDINATE
    )
    return boxes[:, 0].long().tolist(), scaled


def _no_region(x, bins_down, bins_across):
    """(B, C, H, W) -> (0, C, h, w), which a gradient of zeros goes through to x."""
    return x.new_zeros(0, x.shape[1], bins_down, bins_across) + 0 * x[:0].sum()


def _with_image_numbers(input, boxes):
    """B × (L, 4) -> (K, 5)."""
    require_boxes_per_image(boxes, "boxes", count=len(input))
    parts = []
    for i, each in enumerate(boxes):
        require_same_kind(each, f"boxes[{i}]", input, "input")
        parts.append(torch.cat([each.new_full((len(each), 1), i), each], dim=1))
    return torch.cat(parts)
