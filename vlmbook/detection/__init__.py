"""Object detection: boxes, anchors, suppression, pooling of regions, average precision, and two detectors
made of these [Ren et al. 2015, arXiv:1506.01497; Redmon et al. 2016, arXiv:1506.02640] [chapter 5a].

Boxes are (N, 4) floating, x1 y1 x2 y2 in pixels: the edges of an area, so x2 − x1 is its width. Where
torchvision.ops has a function of the same name, the arguments are its; `…_loops` is the slow twin that spells
the definition out. In the detectors label 0 is the background, objects count from 1.
"""

import math
from copy import deepcopy
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from vlmbook.checks import check_counts, check_images

LARGEST_LOG = math.log(1000 / 16)  # of a size over its anchor's, as torchvision bounds it: exp() stays finite
RECALLS = torch.from_numpy(np.linspace(0, 1, 101))  # COCO's, bit for bit: a recall that is met exactly counts


# --- two boxes ----------------------------------------------------------------------------------------------


def box_iou(boxes1, boxes2):
    """(N, 4), (M, 4) -> (N, M): intersection over union, |A ∩ B| / |A ∪ B|; NaN for two boxes without area.

    Raises TypeError or ValueError for what are no boxes. [torchvision.ops.box_iou]
    """
    check_boxes(boxes1, "boxes1"), check_boxes(boxes2, "boxes2")
    low = torch.maximum(boxes1[:, None, :2], boxes2[:, :2])
    high = torch.minimum(boxes1[:, None, 2:], boxes2[:, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    return both / (area(boxes1)[:, None] + area(boxes2) - both)


def box_iou_loops(boxes1, boxes2):
    """(N, 4), (M, 4) -> (N, M): as `box_iou`, one pair after the other."""
    iou = boxes1.new_zeros(len(boxes1), len(boxes2))
    for i, a in enumerate(boxes1):
        for j, b in enumerate(boxes2):
            width = (min(a[2], b[2]) - max(a[0], b[0])).clamp(min=0)
            height = (min(a[3], b[3]) - max(a[1], b[1])).clamp(min=0)
            both = width * height
            iou[i, j] = both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
    return iou


def area(boxes):
    """(N, 4) -> (N,): width times height."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def check_boxes(boxes, name):
    """Raises TypeError or ValueError unless boxes is a floating tensor (N, 4)."""
    if not isinstance(boxes, torch.Tensor):
        raise TypeError(f"{name} wants a torch.Tensor (N, 4), got {type(boxes).__name__}")
    if not boxes.is_floating_point():
        raise TypeError(f"{name} wants a floating dtype, got {boxes.dtype}")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name} wants the shape (N, 4), x1 y1 x2 y2, got {tuple(boxes.shape)}")


# --- suppression --------------------------------------------------------------------------------------------


def nms(boxes, scores, iou_threshold):
    """(N, 4), (N,), float -> (K,) int64: the boxes kept by non-maximum suppression, best first.

    A box is dropped if a better one that is kept overlaps it with an IoU above the threshold; of equal scores
    the earlier is the better. Blocks of sorted boxes are settled in turn: an (N, N) matrix would be too large
    for many. Raises TypeError or ValueError for what are no boxes, no score a box, or a threshold outside [0,
    1]. [torchvision.ops.nms]
    """
    _check_scored(boxes, scores, iou_threshold)
    order = scores.sort(descending=True, stable=True).indices
    kept, rest = [], order
    while len(rest):
        block, rest = rest[:BLOCK], rest[BLOCK:]
        above = (box_iou(boxes[block], boxes[block]) > iou_threshold).triu(1)
        alive, before = torch.ones(len(block), dtype=torch.bool, device=boxes.device), None
        while before is None or not torch.equal(alive, before):  # after k rounds the first k are settled
            before, alive = alive, ~(above & alive[:, None]).any(0)
        kept.append(block[alive])
        if len(rest):
            rest = rest[~(box_iou(boxes[kept[-1]], boxes[rest]) > iou_threshold).any(0)]
    return torch.cat(kept) if kept else order


BLOCK = 256


def nms_loops(boxes, scores, iou_threshold):
    """(N, 4), (N,), float -> (K,) int64: as `nms`: take the best that is left, drop what overlaps it,
    repeat.
    """
    _check_scored(boxes, scores, iou_threshold)
    left, kept = (
        sorted(range(len(scores)), key=lambda i: -scores[i].item()),
        [],
    )  # sorted() keeps ties in order
    while left:
        best, *others = left
        kept.append(best)
        left = [i for i in others if not box_iou_loops(boxes[[best]], boxes[[i]])[0, 0] > iou_threshold]
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device)


def _check_scored(boxes, scores, iou_threshold):
    check_boxes(boxes, "boxes")
    if not isinstance(scores, torch.Tensor) or scores.shape != boxes.shape[:1]:
        got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise ValueError(f"scores wants one number a box, ({len(boxes)},), got {got}")
    if not isinstance(iou_threshold, Real) or not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold wants a number from 0 to 1, got {iou_threshold!r}")


# --- anchors, and offsets from them -------------------------------------------------------------------------


def generate_anchors(grid, stride, sizes, ratios):
    """(H, W), (sy, sx), S sizes, R ratios -> (H·W·R·S, 4): boxes around the upper left corner of every cell.

    A size is √area in pixels, a ratio height / width. Row by row; at a place ratio by ratio, and size by size
    in each. Corners are rounded to whole pixels as torchvision's are. `grid` is the feature map's, `stride`
    pixels a cell. Raises ValueError for a size or ratio that is not above 0. [Ren et al. 2015, §3.1.1;
    torchvision AnchorGenerator]
    """
    _check_anchors(grid, stride, sizes, ratios)
    sizes, ratios = (torch.as_tensor(each, dtype=torch.float32) for each in (sizes, ratios))
    heights = (ratios.sqrt()[:, None] * sizes).flatten()
    widths = ((1 / ratios.sqrt())[:, None] * sizes).flatten()
    shapes = (torch.stack([-widths, -heights, widths, heights], dim=1) / 2).round()
    y, x = torch.meshgrid(torch.arange(grid[0]) * stride[0], torch.arange(grid[1]) * stride[1], indexing="ij")
    corners = torch.stack([x, y, x, y], dim=-1).view(-1, 1, 4)
    return (corners + shapes).view(-1, 4)


def generate_anchors_loops(grid, stride, sizes, ratios):
    """(H, W), (sy, sx), S sizes, R ratios -> (H·W·R·S, 4): as `generate_anchors`, one after the other."""
    anchors = []
    for row in range(grid[0]):
        for column in range(grid[1]):
            y, x = row * stride[0], column * stride[1]
            for ratio in ratios:
                for size in sizes:
                    width, height = size / ratio**0.5, size * ratio**0.5
                    dx, dy = (torch.tensor(side / 2).round().item() for side in (width, height))
                    anchors.append([x - dx, y - dy, x + dx, y + dy])
    return torch.tensor(anchors).view(-1, 4)


def _check_anchors(grid, stride, sizes, ratios):
    for name, values in {"sizes": sizes, "ratios": ratios}.items():
        values = values.tolist() if isinstance(values, torch.Tensor) else values
        if not len(values) or not all(isinstance(v, Real) and 0 < v < math.inf for v in values):
            raise ValueError(f"{name} wants numbers above 0, at least one, got {values!r}")
    for name, values in {"grid": grid, "stride": stride}.items():
        if len(values) != 2 or not all(v == int(v) and v >= 1 for v in values):
            raise ValueError(f"{name} wants two whole numbers of at least 1, down and across, got {values!r}")


def encode_boxes(boxes, anchors, weights=(1.0, 1.0, 1.0, 1.0)):
    """(N, 4), (N, 4) -> (N, 4): t = (x − x_a)/w_a, (y − y_a)/h_a, log w/w_a, log h/h_a, times the weights.

    x, y are centres. A box without area has no finite offset. Raises TypeError or ValueError for what are no
    boxes or not as many. [Girshick et al. 2014, app. C; Ren et al. 2015, eq. 2]
    """
    _check_pair(boxes, anchors, "boxes", 4)
    (x, y, w, h), (xa, ya, wa, ha) = _centres(boxes), _centres(anchors)
    offsets = torch.stack([(x - xa) / wa, (y - ya) / ha, (w / wa).log(), (h / ha).log()], dim=1)
    return offsets * offsets.new_tensor(weights)


def encode_boxes_loops(boxes, anchors, weights=(1.0, 1.0, 1.0, 1.0)):
    """(N, 4), (N, 4) -> (N, 4): as `encode_boxes`, number by number."""
    offsets = torch.zeros_like(boxes)
    for i, (b, a) in enumerate(zip(boxes, anchors, strict=True)):
        for axis in (0, 1):
            size, size_a = b[axis + 2] - b[axis], a[axis + 2] - a[axis]
            centre, centre_a = b[axis] + size / 2, a[axis] + size_a / 2
            offsets[i, axis] = weights[axis] * (centre - centre_a) / size_a
            offsets[i, axis + 2] = weights[axis + 2] * torch.log(size / size_a)
    return offsets


def decode_boxes(offsets, anchors, weights=(1.0, 1.0, 1.0, 1.0)):
    """(N, 4·K), (N, 4) -> (N, 4·K): the boxes that have these offsets from the anchors; K sets of them, one a
    class.

    A log of sizes counts up to log(1000/16), as in torchvision. Raises TypeError or ValueError for what are
    no boxes or not as many. [the inverse of `encode_boxes`]
    """
    _check_pair(offsets, anchors, "offsets", None)
    tx, ty, tw, th = (offsets.unflatten(1, (-1, 4)) / offsets.new_tensor(weights)).unbind(-1)
    xa, ya, wa, ha = (each[:, None] for each in _centres(anchors))
    x, y = xa + tx * wa, ya + ty * ha
    w, h = (log.clamp(max=LARGEST_LOG).exp() * size for log, size in ((tw, wa), (th, ha)))
    return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], dim=-1).flatten(1)


def decode_boxes_loops(offsets, anchors, weights=(1.0, 1.0, 1.0, 1.0)):
    """(N, 4·K), (N, 4) -> (N, 4·K): as `decode_boxes`, number by number."""
    boxes = torch.zeros_like(offsets)
    for i, a in enumerate(anchors):
        for start in range(0, offsets.shape[1], 4):
            for axis in (0, 1):
                size_a = a[axis + 2] - a[axis]
                centre = a[axis] + size_a / 2 + size_a * offsets[i, start + axis] / weights[axis]
                log = (offsets[i, start + axis + 2] / weights[axis + 2]).clamp(max=LARGEST_LOG)
                size = size_a * log.exp()
                boxes[i, start + axis], boxes[i, start + axis + 2] = centre - size / 2, centre + size / 2
    return boxes


def _centres(boxes):
    """(N, 4) -> (N,) four times: centre x and y, width, height."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return boxes[:, 0] + width / 2, boxes[:, 1] + height / 2, width, height


def _check_pair(values, anchors, name, columns):
    check_boxes(anchors, "anchors")
    if columns == 4:
        check_boxes(values, name)
    elif (
        not isinstance(values, torch.Tensor) or values.ndim != 2 or values.shape[1] % 4 or not values.shape[1]
    ):
        got = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
        raise ValueError(f"{name} wants the shape (N, 4·K), got {got}")
    if len(values) != len(anchors):
        raise ValueError(f"{name} wants one anchor each, got {len(values)} and {len(anchors)}")


# --- pooling of regions -------------------------------------------------------------------------------------


def roi_pool(input, boxes, output_size, spatial_scale=1.0):
    """(B, C, H, W), (K, 5) or B × (L, 4) -> (K, C, h, w): the maximum in each of h × w bins of every box.

    A row of (K, 5) begins with the number of its image. Boxes are rounded to whole cells of the map, bins
    outwards; an empty bin gives 0. There is no gradient for the boxes. Raises TypeError or ValueError for
    input or boxes that it cannot use. [Girshick 2015, §2.1; torchvision.ops.roi_pool]
    """
    regions, (h, w) = _regions(input, boxes), _pair(output_size)
    pooled = []
    for image, box in zip(regions[:, 0].long().tolist(), regions[:, 1:] * spatial_scale, strict=True):
        rows, columns = (
            _bins(box[[axis, axis + 2]], n, size)
            for axis, n, size in ((1, h, input.shape[2]), (0, w, input.shape[3]))
        )
        x = torch.stack([_peak(input[image, :, :, start:end], 2) for start, end in columns], dim=-1)
        pooled.append(torch.stack([_peak(x[:, start:end], 1) for start, end in rows], dim=1))
    return torch.stack(pooled) if pooled else input.new_zeros(0, input.shape[1], h, w) + 0 * input.sum()


def roi_pool_loops(input, boxes, output_size, spatial_scale=1.0):
    """(B, C, H, W), (K, 5) or B × (L, 4) -> (K, C, h, w): as `roi_pool`, bin by bin."""
    regions, (h, w) = _regions(input, boxes), _pair(output_size)
    pooled = input.new_zeros(len(regions), input.shape[1], h, w)
    for k, (image, *box) in enumerate(regions.tolist()):
        x1, y1, x2, y2 = (_rounded(each * spatial_scale) for each in box)
        height, width = max(y2 - y1 + 1, 1) / h, max(x2 - x1 + 1, 1) / w
        for i in range(h):
            for j in range(w):
                top, left = (
                    min(max(start + math.floor(n * size), 0), most)
                    for start, n, size, most in (
                        (y1, i, height, input.shape[2]),
                        (x1, j, width, input.shape[3]),
                    )
                )
                end, right = (
                    min(max(start + math.ceil((n + 1) * size), 0), most)
                    for start, n, size, most in (
                        (y1, i, height, input.shape[2]),
                        (x1, j, width, input.shape[3]),
                    )
                )
                if end > top and right > left:
                    pooled[k, :, i, j] = input[int(image), :, top:end, left:right].amax((1, 2))
    return pooled


def _rounded(x):
    return math.floor(abs(x) + 0.5) * (1 if x >= 0 else -1)  # halves away from zero, as in C


def _bins(ends, n, size):
    """(2,), number of bins, cells there are -> list of (start, end)."""
    first, last = (_rounded(end) for end in ends.tolist())
    step = max(last - first + 1, 1) / n
    cut = [(first + math.floor(i * step), first + math.ceil((i + 1) * step)) for i in range(n)]
    return [tuple(min(max(each, 0), size) for each in pair) for pair in cut]


def _peak(x, dim):
    """The maximum along an axis; 0 where it is empty. Of equal ones the first gets the gradient, as in
    torchvision.
    """
    return x.max(dim).values if x.shape[dim] else x.sum(dim)


def roi_align(input, boxes, output_size, spatial_scale=1.0, sampling_ratio=-1, aligned=False):
    """(B, C, H, W), (K, 5) or B × (L, 4) -> (K, C, h, w): the mean of bilinear samples in each of h × w bins.

    sampling_ratio² samples a bin; −1 takes ⌈bin size⌉ of them a side. `aligned` shifts the boxes by half a
    cell, so that a cell's value stands at its centre. Bilinear weights are products of one for the row and
    one for the column, so a bin is A x Bᵀ with two small matrices. There is no gradient for the boxes. Raises
    TypeError or ValueError for input or boxes that it cannot use. [He et al. 2017, arXiv:1703.06870, §3;
    torchvision.ops.roi_align]
    """
    regions, (h, w) = _regions(input, boxes), _pair(output_size)
    scaled = regions[:, 1:] * spatial_scale - (0.5 if aligned else 0)
    least = -math.inf if aligned else 1.0
    A, B = (
        _shares(
            scaled[:, axis], (scaled[:, axis + 2] - scaled[:, axis]).clamp(min=least), n, size, sampling_ratio
        )
        for axis, n, size in ((1, h, input.shape[2]), (0, w, input.shape[3]))
    )  # (K, h, H), (K, w, W)
    pooled = []
    for image, a, b, rows, columns in zip(
        regions[:, 0].long().tolist(), A, B, _used(A), _used(B), strict=True
    ):
        pooled.append(a[:, rows] @ input[image, :, rows, columns] @ b[:, columns].T)
    return torch.stack(pooled) if pooled else input.new_zeros(0, input.shape[1], h, w) + 0 * input.sum()


def _used(shares):
    """(K, bins, size) -> list of slices: from the first cell that counts to the last."""
    used = (shares > 0).any(1).int()
    starts, ends = used.argmax(1), used.shape[1] - used.flip(1).argmax(1)
    return [slice(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def _shares(start, length, bins, size, sampling_ratio):
    """(K,), (K,) -> (K, bins, size): what each cell along an axis counts in the mean of each bin."""
    step = length / bins
    samples = torch.full_like(step, sampling_ratio) if sampling_ratio > 0 else step.ceil()
    i = torch.arange(max(1, int(samples.max()) if len(samples) else 1), device=start.device)
    within = (i + 0.5) / samples.clamp(min=1)[:, None]
    at = (
        start[:, None, None]
        + (torch.arange(bins, device=start.device)[:, None] + within[:, None]) * step[:, None, None]
    )
    counts = (i < samples[:, None])[:, None] & (at >= -1) & (at <= size)
    at = at.clamp(0, size - 1)[..., None]
    hats = (1 - (at - torch.arange(size, device=start.device)).abs()).clamp(min=0)
    return (hats * counts[..., None]).sum(2) / samples.clamp(min=1)[:, None, None]


def roi_align_loops(input, boxes, output_size, spatial_scale=1.0, sampling_ratio=-1, aligned=False):
    """(B, C, H, W), (K, 5) or B × (L, 4) -> (K, C, h, w): as `roi_align`, sample by sample."""
    regions, (h, w) = _regions(input, boxes), _pair(output_size)
    pooled = input.new_zeros(len(regions), input.shape[1], h, w)
    for k, (image, *box) in enumerate(regions.tolist()):
        x1, y1, x2, y2 = (each * spatial_scale - 0.5 * aligned for each in box)
        width, height = ((x2 - x1), (y2 - y1)) if aligned else (max(x2 - x1, 1), max(y2 - y1, 1))
        down, across = (
            sampling_ratio if sampling_ratio > 0 else math.ceil(each) for each in (height / h, width / w)
        )
        for i in range(h):
            for j in range(w):
                for a in range(down):
                    for b in range(across):
                        y, x = (
                            y1 + height / h * (i + (a + 0.5) / down),
                            x1 + width / w * (j + (b + 0.5) / across),
                        )
                        pooled[k, :, i, j] += _bilinear(input[int(image)], y, x) / (down * across)
    return pooled


def _bilinear(x, y, column):
    """(C, H, W), y, x -> (C,): between the four cells around; 0 more than a cell outside."""
    height, width = x.shape[1:]
    if not (-1 <= y <= height and -1 <= column <= width):
        return x.new_zeros(len(x))
    y, column = min(max(y, 0), height - 1), min(max(column, 0), width - 1)
    top, left = min(int(y), height - 1), min(int(column), width - 1)
    down, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, column - left
    return (
        (1 - dy) * (1 - dx) * x[:, top, left]
        + (1 - dy) * dx * x[:, top, right]
        + dy * (1 - dx) * x[:, down, left]
        + dy * dx * x[:, down, right]
    )


def _regions(input, boxes):
    """-> (K, 5), detached: the image of each box, and the box. Raises TypeError or ValueError for anything
    else.
    """
    check_images(input, "input", "(B, C, H, W)")
    if isinstance(boxes, (list, tuple)):
        if len(boxes) != len(input):
            raise ValueError(f"boxes wants one tensor an image, {len(input)}, got {len(boxes)}")
        for each in boxes:
            check_boxes(each, "boxes")
        parts = [torch.cat([each.new_full((len(each), 1), i), each], dim=1) for i, each in enumerate(boxes)]
        boxes = torch.cat(parts) if parts else input.new_zeros(0, 5)
    if not isinstance(boxes, torch.Tensor) or boxes.ndim != 2 or boxes.shape[1] != 5:
        got = tuple(boxes.shape) if isinstance(boxes, torch.Tensor) else type(boxes).__name__
        raise ValueError(
            f"boxes wants (K, 5), the image's number and the box, or a list of (L, 4), got {got}"
        )
    if boxes.dtype != input.dtype:
        raise TypeError(f"boxes wants the dtype of input, {input.dtype}, got {boxes.dtype}")
    if len(boxes) and not 0 <= boxes[:, 0].min() <= boxes[:, 0].max() < len(input):
        raise ValueError(f"boxes names image {boxes[:, 0].max():g} of {len(input)}")
    return boxes.detach()


def _pair(output_size):
    size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    if len(size) != 2 or not all(isinstance(n, int) and n >= 1 for n in size):
        raise ValueError(f"output_size wants one or two whole numbers of at least 1, got {output_size!r}")
    return size


# --- how good are detections --------------------------------------------------------------------------------


def match_detections(predictions, targets, label, iou_threshold=0.5):
    """n × {boxes, scores, labels}, n × {boxes, labels} -> (D,) scores, (D,) bool hits, int: for one class,
    best first.

    In each image, best first, up to its 100 best: a detection takes the object that it overlaps most among
    those not taken yet, and is a hit if that IoU reaches the threshold. The int is how many objects there
    are. Raises ValueError for lists of different lengths. [COCO's evaluation]
    """
    if len(predictions) != len(targets):
        raise ValueError(
            f"one prediction and one target an image are wanted, got {len(predictions)} and {len(targets)}"
        )
    scores, hits, objects = [], [], 0
    for said, true in zip(predictions, targets, strict=True):
        mine, truth = said["labels"] == label, true["boxes"][true["labels"] == label]
        order = said["scores"][mine].sort(descending=True, stable=True).indices[:100]
        iou = box_iou(said["boxes"][mine][order], truth)
        free = torch.ones(len(truth), dtype=torch.bool, device=truth.device)
        for row in iou:
            best = torch.where(free, row, -1.0).max(0) if len(truth) else None
            hit = best is not None and bool(best.values >= iou_threshold)
            if hit:
                free[best.indices] = False
            hits.append(hit)
        scores.append(said["scores"][mine][order])
        objects += len(truth)
    scores = torch.cat(scores) if scores else torch.zeros(0)
    order = scores.sort(descending=True, stable=True).indices
    return scores[order], torch.tensor(hits, dtype=torch.bool, device=scores.device)[order], objects


def precision_recall_curve(hits, objects):
    """(D,) bool, best first, int -> (D,), (D,) float64: precision and recall of the best 1, 2, … D
    detections.
    """
    right = hits.double().cumsum(0)
    said = torch.arange(1, len(hits) + 1, dtype=torch.float64, device=hits.device)
    return right / said, right / objects


def average_precision(hits, objects):
    """(D,) bool, best first, int -> float: the mean over recall 0, 0.01, … 1 of the best precision from there
    on.

    NaN where there is no object. [COCO's 101 points, after Everingham et al. 2010]
    """
    if objects == 0:
        return math.nan
    precision, recall = precision_recall_curve(hits.cpu(), objects)
    best = precision.flip(0).cummax(0).values.flip(0)
    reached = torch.searchsorted(recall, RECALLS)
    return torch.cat([best, best.new_zeros(1)])[reached].mean().item()


def average_precision_loops(hits, objects):
    """(D,) bool, best first, int -> float: as `average_precision`, point by point."""
    if objects == 0:
        return math.nan
    precision, recall = (each.tolist() for each in precision_recall_curve(hits.cpu(), objects))
    total = 0.0
    for point in RECALLS.tolist():
        total += max((p for p, r in zip(precision, recall, strict=True) if r >= point), default=0.0)
    return total / 101


def mean_average_precision(predictions, targets, iou_threshold=0.5):
    """n × {boxes, scores, labels}, n × {boxes, labels} -> float, dict: mAP, and the AP of each label in the
    targets.
    """
    labels = torch.cat([each["labels"] for each in targets]).unique().tolist() if targets else []
    found = {
        label: average_precision(*match_detections(predictions, targets, label, iou_threshold)[1:])
        for label in labels
    }
    return sum(found.values()) / len(found) if found else math.nan, found


# --- which anchor answers for which object ------------------------------------------------------------------

BACKGROUND, NEITHER = -1, -2


def assign(iou, high, low, *, rescue):
    """(M, N) IoU of M objects and N boxes -> (N,) int64: the object each box answers for, BACKGROUND or
    NEITHER.

    From `high` on a box answers for the object that it overlaps most; below `low` it is background; between,
    neither. With `rescue` the boxes that overlap an object more than all others do answer too, however little
    it is: for the object that *they* overlap most, so that an object can still go without. [Ren et al. 2015,
    §3.1.2; torchvision's Matcher]
    """
    if not len(iou):
        return torch.full(iou.shape[1:], BACKGROUND, dtype=torch.int64, device=iou.device)
    overlap, owner = iou.max(0)
    assigned = torch.where(overlap >= high, owner, torch.where(overlap < low, BACKGROUND, NEITHER))
    if rescue:
        best = iou.amax(1, keepdim=True)
        assigned = torch.where(((iou == best) & (best > 0)).any(0), owner, assigned)
    return assigned


def sampled(assigned, count, share):
    """(N,) as from `assign`, int, share -> (P,), (Q,) indices: at most count · share objects, background to
    fill it.
    """
    objects, background = (assigned >= 0).nonzero()[:, 0], (assigned == BACKGROUND).nonzero()[:, 0]
    many = min(len(objects), int(count * share))
    few = min(len(background), count - many)
    return (
        objects[torch.randperm(len(objects), device=objects.device)[:many]],
        background[torch.randperm(len(background), device=objects.device)[:few]],
    )


# --- two stages ---------------------------------------------------------------------------------------------

RPN_WEIGHTS, HEAD_WEIGHTS = (1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)  # of offsets, as in torchvision


class RPNHead(nn.Module):
    """(B, C, H, W) -> (B, H·W·A), (B, H·W·A, 4): for each anchor one logit, object or not, and four
    offsets.
    """

    def __init__(self, channels, anchors):
        super().__init__()
        self.conv = nn.Sequential(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()))
        self.cls_logits = nn.Conv2d(channels, anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * anchors, 1)
        for layer in (self.conv[0][0], self.cls_logits, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        x = self.conv(x)
        logits = self.cls_logits(x).permute(0, 2, 3, 1).flatten(1)
        offsets = self.bbox_pred(x).unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2)
        return logits, offsets.flatten(1, 3)


class Proposed(NamedTuple):
    """What the region proposal network says of a batch."""

    anchors: torch.Tensor  # (N, 4)
    logits: torch.Tensor  # (B, N)
    offsets: torch.Tensor  # (B, N, 4)
    before: list  # B × (K, 4): the boxes of the highest logits, best first, before suppression
    boxes: list  # B × (L, 4): the proposals
    scores: list  # B × (L,): their probability of holding an object


class RegionProposalNetwork(nn.Module):
    """(B, C, H, W), (height, width) of the images -> Proposed: every anchor scored, shifted, the best ones
    kept.

    The `before` best of an image are clipped to it; suppression at an IoU of 0.7 leaves at most `after`.
    [Ren et al. 2015, §3.1]
    """

    def __init__(self, channels, sizes, ratios, *, before, after, samples):
        super().__init__()
        self.sizes, self.ratios, self.before, self.after, self.samples = sizes, ratios, before, after, samples
        self.head = RPNHead(channels, len(sizes) * len(ratios))

    def forward(self, x, image_size):
        logits, offsets = self.head(x)
        stride = [image // cells for image, cells in zip(image_size, x.shape[2:], strict=True)]
        anchors = generate_anchors(x.shape[2:], stride, self.sizes, self.ratios).to(x)
        found = [
            self.keep(each, decode_boxes(t, anchors, RPN_WEIGHTS), image_size)
            for each, t in zip(logits.detach(), offsets.detach(), strict=True)
        ]
        return Proposed(anchors, logits, offsets, *map(list, zip(*found, strict=True)))

    def keep(self, logits, boxes, image_size):
        """(N,), (N, 4) -> (K, 4), (L, 4), (L,): best before suppression; boxes and probabilities after it."""
        best = logits.topk(min(self.before, len(logits))).indices
        scores, before = logits[best].sigmoid(), clipped(boxes[best], image_size)
        large = torchvision.ops.remove_small_boxes(before, 1e-3)
        scores, boxes = scores[large], before[large]
        kept = torchvision.ops.nms(boxes, scores, 0.7)[: self.after]
        return before, boxes[kept], scores[kept]

    def losses(self, proposed, truths):
        """Proposed, B × (k, 4) -> dict: cross-entropy over sampled anchors, smooth L1 over those of
        objects.
        """
        logits, wanted, moves, offsets = [], [], [], []
        for i, truth in enumerate(truths):
            owner = self.assign(proposed.anchors, truth)
            objects, background = sampled(owner, self.samples, 0.5)
            logits += [proposed.logits[i, objects], proposed.logits[i, background]]
            wanted += [torch.ones_like(logits[-2]), torch.zeros_like(logits[-1])]
            moves.append(proposed.offsets[i, objects])
            offsets.append(encode_boxes(truth[owner[objects]], proposed.anchors[objects], RPN_WEIGHTS))
        wanted = torch.cat(wanted)
        return {
            "objectness": F.binary_cross_entropy_with_logits(torch.cat(logits), wanted),
            "anchor offsets": _smooth_l1(moves, offsets) / len(wanted),
        }

    @staticmethod
    def assign(anchors, truth):
        """(N, 4), (k, 4) -> (N,): `assign` with the paper's 0.7 and 0.3."""
        return assign(box_iou(truth, anchors), 0.7, 0.3, rescue=True)


class TwoMLPHead(nn.Module):
    """(K, C, h, w) -> (K, width): two linear layers with ReLU."""

    def __init__(self, inputs, width):
        super().__init__()
        self.fc6 = nn.Linear(inputs, width)
        self.fc7 = nn.Linear(width, width)

    def forward(self, x):
        return self.fc7(self.fc6(x.flatten(1)).relu()).relu()


class BoxPredictor(nn.Module):
    """(K, width) -> (K, num_classes) logits, (K, 4·num_classes) offsets: four for each class."""

    def __init__(self, width, num_classes):
        super().__init__()
        self.cls_score = nn.Linear(width, num_classes)
        self.bbox_pred = nn.Linear(width, 4 * num_classes)

    def forward(self, x):
        return self.cls_score(x), self.bbox_pred(x)


class RoIHeads(nn.Module):
    """(B, C, H, W), B × (L, 4), scale -> (K, C, 7, 7), (K, num_classes), (K, 4·num_classes): each region
    judged.

    [Girshick 2015, arXiv:1504.08083; the pooling is He et al. 2017]
    """

    def __init__(self, channels, num_classes, width, samples):
        super().__init__()
        self.samples = samples
        self.box_head = TwoMLPHead(channels * 49, width)
        self.box_predictor = BoxPredictor(width, num_classes)

    def forward(self, x, boxes, scale):
        pooled = torchvision.ops.roi_align(x, boxes, 7, scale, sampling_ratio=2)
        return pooled, *self.box_predictor(self.box_head(pooled))

    def select(self, boxes, truths, labels):
        """B × (L, 4), B × (k, 4), B × (k,) -> the same lists for the regions to learn from: boxes, classes,
        offsets.
        """
        chosen, classes, offsets = [], [], []
        for each, truth, label in zip(boxes, truths, labels, strict=True):
            each = torch.cat([each, truth])  # the true boxes are good examples
            owner = assign(box_iou(truth, each), 0.5, 0.5, rescue=False)
            mine = torch.cat(sampled(owner, self.samples, 0.25)).sort().values
            each, owner = each[mine], owner[mine]
            of = owner.clamp(min=0)
            chosen.append(each)
            classes.append(torch.where(owner >= 0, label[of], 0) if len(truth) else torch.zeros_like(owner))
            offsets.append(
                encode_boxes(truth[of], each, HEAD_WEIGHTS) if len(truth) else torch.zeros_like(each)
            )
        return chosen, classes, offsets

    @staticmethod
    def losses(logits, moves, classes, offsets):
        """(K, num_classes), (K, 4·num_classes), lists of (k,), (k, 4) -> dict: of classes, and offsets of
        objects.
        """
        classes, offsets = torch.cat(classes), torch.cat(offsets)
        objects = (classes > 0).nonzero()[:, 0]
        mine = moves.unflatten(1, (-1, 4))[objects, classes[objects]]
        many = max(len(classes), 1)  # no proposal and no truth: nothing to learn, not 0/0
        return {
            "classes": F.cross_entropy(logits, classes, reduction="sum") / many,
            "box offsets": _smooth_l1([mine], [offsets[objects]]) / many,
        }


class FasterRCNN(nn.Module):
    """(B, 3, H, W) -> B × {boxes, scores, labels}; with true boxes (B, k, 4) and labels (B, k) -> dict of
    four losses.

    `backbone(images)` gives one map (B, C, h, w) and has C as `out_channels`. `num_classes` counts the
    background, 0; true labels are 1 … num_classes − 1, and 0 where an image has fewer than k objects. `sizes`
    and `ratios` are the anchors'. Parameters carry torchvision's names, so that its `FasterRCNN` on the same
    backbone takes them. Images are not normalised here, nor resized. [Ren et al. 2015, arXiv:1506.01497, fig.
    2]
    """

    def __init__(
        self,
        backbone,
        num_classes,
        *,
        sizes,
        ratios=(0.5, 1.0, 2.0),
        width=1024,
        before=1000,
        after=300,
        samples=(256, 512),
    ):
        super().__init__()
        check_counts(self, num_classes=num_classes, width=width, before=before, after=after)
        _check_classes(self, num_classes)
        check_counts(self, **dict(zip(("samples[0]", "samples[1]"), samples, strict=True)))
        _check_anchors((1, 1), (1, 1), sizes, ratios)
        channels = backbone.out_channels
        self.backbone, self.num_classes = backbone, num_classes
        self.rpn = RegionProposalNetwork(
            channels, sizes, ratios, before=before, after=after, samples=samples[0]
        )
        self.roi_heads = RoIHeads(channels, num_classes, width, samples[1])

    def forward(self, images, boxes=None, labels=None):
        if boxes is not None:
            return self.losses(images, *unpadded(images, boxes, labels, self.num_classes))
        return self.stages(images)["detections"]

    def losses(self, images, truths, labels):
        x, size = self.backbone(images), images.shape[2:]
        proposed = self.rpn(x, size)
        losses = self.rpn.losses(proposed, truths)
        regions, classes, offsets = self.roi_heads.select(proposed.boxes, truths, labels)
        _, logits, moves = self.roi_heads(x, regions, _scale(x, size))
        return losses | self.roi_heads.losses(logits, moves, classes, offsets)

    def stages(self, images):
        """(B, 3, H, W) -> dict: the map, the RPN's Proposed, pooled regions, their logits and offsets,
        detections.
        """
        check_images(images, "images", "(B, C, H, W)")
        x, size = self.backbone(images), images.shape[2:]
        proposed = self.rpn(x, size)
        pooled, logits, moves = self.roi_heads(x, proposed.boxes, _scale(x, size))
        lengths = [len(each) for each in proposed.boxes]
        judged = [
            (z.softmax(-1), decode_boxes(t, boxes, HEAD_WEIGHTS))
            for boxes, z, t in zip(proposed.boxes, logits.split(lengths), moves.split(lengths), strict=True)
        ]
        return {
            "map": x,
            "proposed": proposed,
            "pooled": pooled,
            "logits": logits,
            "offsets": moves,
            "judged": judged,
            "detections": [decided(*each, size) for each in judged],
        }

    def judged(self, images):
        """(B, 3, H, W) -> B × ((L, num_classes), (L, 4·num_classes)): what `decided` decides on."""
        return self.stages(images)["judged"]


def decided(p, boxes, image_size, *, least=0.05, iou_threshold=0.5, most=100):
    """(L, num_classes), (L, 4·num_classes) or (L, 4) -> {boxes, scores, labels}: what is said in the end,
    best first.

    Each class by itself: boxes clipped to the image, those above `least` probable, suppression; then the best
    of all.
    """
    classes = p.shape[1]
    boxes = boxes.unflatten(1, (-1, 4)).expand(-1, classes, -1)
    boxes = clipped(boxes.flatten(0, 1), image_size).unflatten(0, (-1, classes))
    boxes, scores = boxes[:, 1:].flatten(0, 1), p[:, 1:].flatten()
    labels = torch.arange(1, classes, device=p.device).repeat(len(p))
    sure = (scores > least).nonzero()[:, 0]
    sure = sure[torchvision.ops.remove_small_boxes(boxes[sure], 1e-2)]
    kept = sure[torchvision.ops.batched_nms(boxes[sure], scores[sure], labels[sure], iou_threshold)[:most]]
    return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


def clipped(boxes, image_size):
    """(N, 4), (height, width) -> (N, 4): cut off at the image's edges."""
    height, width = image_size
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


def _smooth_l1(moves, offsets):
    return F.smooth_l1_loss(torch.cat(moves), torch.cat(offsets), beta=1 / 9, reduction="sum")


def _scale(x, image_size):
    """Map, (height, width) of the image -> cells a pixel, as the power of two that is nearest."""
    return 2.0 ** round(math.log2(x.shape[2] / image_size[0]))


def as_torchvision(model, image_size):
    """FasterRCNN, (height, width) -> torchvision's: the same settings and weights, and a backbone of its own.

    It takes a list of images (3, H, W) of that size, and neither normalises, resizes nor pads them.
    """
    from torchvision.models.detection import faster_rcnn
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    rpn, heads = model.rpn, model.roi_heads
    keep = {
        f"rpn_{which}_nms_top_n_{mode}": most
        for mode in ("train", "test")
        for which, most in (("pre", rpn.before), ("post", rpn.after))
    }
    width = heads.box_head.fc7.out_features
    as_they_are = {
        "min_size": min(image_size),
        "max_size": max(image_size),
        "size_divisible": 1,
        "image_mean": [0, 0, 0],
        "image_std": [1, 1, 1],
    }
    twin = faster_rcnn.FasterRCNN(
        deepcopy(model.backbone),
        **as_they_are,
        **keep,
        rpn_anchor_generator=AnchorGenerator((tuple(rpn.sizes),), (tuple(rpn.ratios),)),
        box_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0"], 7, 2),
        box_head=faster_rcnn.TwoMLPHead(heads.box_head.fc6.in_features, width),
        box_predictor=faster_rcnn.FastRCNNPredictor(width, model.num_classes),
        rpn_batch_size_per_image=rpn.samples,
        box_batch_size_per_image=heads.samples,
    )
    twin.load_state_dict(model.state_dict())
    return twin.train(model.training)


# --- one stage ----------------------------------------------------------------------------------------------


class GridDetector(nn.Module):
    """(B, 3, H, W) -> B × {boxes, scores, labels}; with true boxes (B, k, 4) and labels (B, k) -> dict of
    three losses.

    Each cell of the map says whether a centre lies in it, where in the cell, how large the box is, and what
    it holds: boxes and classes in one pass, no proposals. `size` is a typical side in pixels, from which
    sizes are counted. Arguments are those of `FasterRCNN`. [after Redmon et al. 2016, arXiv:1506.02640; sizes
    as in its version 2]
    """

    def __init__(self, backbone, num_classes, *, size, width=64):
        super().__init__()
        check_counts(self, num_classes=num_classes, width=width)
        _check_classes(self, num_classes)
        if isinstance(size, bool) or not isinstance(size, Real) or not 0 < size < math.inf:
            raise ValueError(f"GridDetector wants a size above 0 pixels, got {size!r}")
        self.backbone, self.num_classes, self.size = backbone, num_classes, size
        self.head = nn.Sequential(
            nn.Conv2d(backbone.out_channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 5 + num_classes - 1, 1),
        )
        nn.init.constant_(self.head[-1].bias[:1], -4.0)  # few cells hold a centre

    def forward(self, images, boxes=None, labels=None):
        if boxes is not None:
            true = unpadded(images, boxes, labels, self.num_classes)
            return self.losses(self.said(images), images, *true)
        return [decided(*each, images.shape[2:]) for each in self.judged(images)]

    def judged(self, images):
        """(B, 3, H, W) -> B × ((h·w, num_classes), (h·w, 4)): what `decided` decides on; a chance times a
        class's.
        """
        chance, boxes, p = self.read(self.said(images), images.shape[2:])
        p = torch.cat([1 - chance[..., None], chance[..., None] * p], dim=-1)  # 0 is the background
        return list(zip(p, boxes, strict=True))

    def said(self, images):
        """(B, 3, H, W) -> (B, h, w, 5 + classes): logit of a centre, x, y, log width, log height, logits of
        classes.
        """
        check_images(images, "images", "(B, C, H, W)")
        return self.head(self.backbone(images)).permute(0, 2, 3, 1)

    def read(self, said, image_size):
        """(B, h, w, 5 + classes) -> (B, h·w), (B, h·w, 4), (B, h·w, classes): chance of a centre, box,
        classes.
        """
        chance, x, y, log_w, log_h = said[..., :5].unbind(-1)
        rows, columns = (torch.arange(n, device=said.device) for n in said.shape[1:3])
        stride = image_size[0] / said.shape[1]
        x, y = stride * (columns + x.sigmoid()), stride * (rows[:, None] + y.sigmoid())
        w, h = (self.size * log.clamp(max=LARGEST_LOG).exp() for log in (log_w, log_h))
        boxes = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], dim=-1)
        return chance.sigmoid().flatten(1), boxes.flatten(1, 2), said[..., 5:].softmax(-1).flatten(1, 2)

    def losses(self, said, images, truths, labels):
        stride = images.shape[2] / said.shape[1]
        number = torch.cat([torch.full_like(each, i) for i, each in enumerate(labels)])
        truth, label = torch.cat(truths), torch.cat(labels)
        x, y, w, h = _centres(truth)
        row, column = (
            each.div(stride).long().clamp(0, n - 1) for each, n in ((y, said.shape[1]), (x, said.shape[2]))
        )
        wanted = torch.zeros_like(said[..., 0])
        wanted[number, row, column] = 1
        mine, many = said[number, row, column], max(len(label), 1)
        places = torch.stack([mine[:, 1].sigmoid(), mine[:, 2].sigmoid(), mine[:, 3], mine[:, 4]], dim=1)
        goals = torch.stack(
            [x / stride - column, y / stride - row, (w / self.size).log(), (h / self.size).log()], 1
        )
        return {
            "centres": F.binary_cross_entropy_with_logits(said[..., 0], wanted, reduction="sum") / many,
            "boxes": F.smooth_l1_loss(places, goals, beta=0.1, reduction="sum") / many,
            "classes": F.cross_entropy(mine[:, 5:], label - 1, reduction="sum") / many,
        }


# --- what both need -----------------------------------------------------------------------------------------


class SmallBackbone(nn.Sequential):
    """(B, 3, H, W) -> (B, C, H/8, W/8): three halvings, each a 3×3 convolution with stride, then one without.

    `widths` are the channels after each halving, C the last. Raises ValueError for others than three whole
    numbers.
    """

    def __init__(self, widths=(24, 48, 48)):
        super().__init__()
        if len(widths) != 3:
            raise ValueError(f"SmallBackbone wants three widths, got {widths!r}")
        check_counts(self, widths=min(widths))
        channels = 3
        for number, width in enumerate(widths):
            self.append(_convolution(channels, width, 2))
            if number:  # the full size is dear
                self.append(_convolution(width, width, 1))
            channels = width
        self.out_channels = channels


def _convolution(channels, out, stride):
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()
    )


def _check_classes(detector, num_classes):
    if num_classes < 2:
        raise ValueError(
            f"{type(detector).__name__} wants num_classes of at least 2, background and one more, got "
            f"{num_classes}"
        )


def detection_loss(model, images, boxes, labels):
    """Detector, (B, 3, H, W), (B, k, 4), (B, k) -> scalar: the sum of its losses."""
    return sum(model(images, boxes, labels).values())


def mirrored(images, boxes):
    """(B, 3, H, W), (B, K, 4) -> both, left and right exchanged."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return images.flip(-1), torch.stack([images.shape[3] - x2, y1, images.shape[3] - x1, y2], dim=-1)


def padded(targets):
    """n × {boxes (k, 4), labels (k,) from 0} -> (n, K, 4), (n, K) from 1: as tensors, label 0 where none is
    left.

    Raises ValueError for an image that has not one label for each box, and for a label below 0.
    """
    for i, each in enumerate(targets):
        if each["boxes"].shape != (len(each["labels"]), 4) or (each["labels"] < 0).any():
            raise ValueError(
                f"image {i} wants boxes (k, 4) and k labels from 0 on, got {tuple(each['boxes'].shape)} "
                f"and {each['labels'].tolist()}"
            )
    many = max((len(each["labels"]) for each in targets), default=0)
    boxes, labels = torch.zeros(len(targets), many, 4), torch.zeros(len(targets), many, dtype=torch.int64)
    for i, each in enumerate(targets):
        boxes[i, : len(each["boxes"])], labels[i, : len(each["labels"])] = each["boxes"], each["labels"] + 1
    return boxes, labels


def unpadded(images, boxes, labels, num_classes):
    """(B, 3, H, W), (B, K, 4), (B, K) -> B × (k, 4), B × (k,): without the rows of label 0.

    Raises TypeError or ValueError for what is no batch of images with its boxes, in their dtype, and int64
    labels; for a label that there is not, a box without area, and one whose centre lies outside the image.
    """
    check_images(images, "images", "(B, C, H, W)")
    for name, each, dtype in (("boxes", boxes, images.dtype), ("labels", labels, torch.int64)):
        if each is not None and (not isinstance(each, torch.Tensor) or each.dtype != dtype):
            kind = each.dtype if isinstance(each, torch.Tensor) else type(each).__name__
            raise TypeError(f"{name} want a tensor of {dtype}, got {kind}; `padded` makes them of lists")
    if labels is None or boxes.shape != (len(images), *labels.shape[1:], 4) or labels.ndim != 2:
        shapes = [None if each is None else tuple(each.shape) for each in (boxes, labels)]
        raise ValueError(
            f"{len(images)} images want boxes (B, K, 4) and labels (B, K), got {shapes[0]}, {shapes[1]}"
        )
    if labels.numel() and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(f"labels want 0 (none) to {num_classes - 1}, got {labels.min()} to {labels.max()}")
    there = labels > 0
    if not (boxes[there][:, 2:] > boxes[there][:, :2]).all():
        raise ValueError("a true box has no area: x2 > x1 and y2 > y1 are wanted")
    middle = (boxes[there][:, :2] + boxes[there][:, 2:]) / 2
    height, width = images.shape[2:]
    if not ((middle >= 0) & (middle <= middle.new_tensor([width, height]))).all():
        raise ValueError(f"a true box has its centre outside the image, {width} wide and {height} high")
    return [each[mine] for each, mine in zip(boxes, there, strict=True)], [each[each > 0] for each in labels]
