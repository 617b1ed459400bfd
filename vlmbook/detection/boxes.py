"""Boxes: their form, area and overlap, and the suppression of duplicates.

Boxes are (N, 4) floating, x1 y1 x2 y2 in pixels: the edges of an area, so x2 − x1 is its width. Where
torchvision.ops has a function of the same name, the arguments are its. Areas are computed in at least
float32, whatever the dtype of the boxes: from 256 pixels on they are too large for float16.
"""

import torch

from vlmbook.validation import require_number, require_pair, require_same_kind, require_tensor

NMS_BLOCK = 256  # boxes that `nms` compares at once with each other


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Floating tensor -> itself, in float32 where it was float16 or bfloat16. Raises TypeError for others."""
    require_tensor(x, "x", "…")
    return x.to(torch.promote_types(x.dtype, torch.float32))


def box_xyxy_to_cxcywh(boxes: torch.Tensor) -> torch.Tensor:
    """(…, 4) x1 y1 x2 y2 -> (…, 4) centre x, centre y, width, height.

    Raises TypeError or ValueError for what are no boxes. [torchvision.ops.box_convert]
    """
    require_tensor(boxes, "boxes", "… N 4", empty="N")
    x1, y1, x2, y2 = boxes.unbind(-1)
    width = x2 - x1
    height = y2 - y1
    return torch.stack([x1 + width / 2, y1 + height / 2, width, height], dim=-1)


def box_cxcywh_to_xyxy(boxes: torch.Tensor) -> torch.Tensor:
    """(…, 4) centre x, centre y, width, height -> (…, 4) x1 y1 x2 y2.

    Raises TypeError or ValueError for what are no boxes. [torchvision.ops.box_convert]
    """
    require_tensor(boxes, "boxes", "… N 4", empty="N")
    x, y, width, height = boxes.unbind(-1)
    return torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=-1)


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    """(N, 4) -> (N,) of at least float32: width times height.

    Raises TypeError or ValueError for what are no boxes. [torchvision.ops.box_area]
    """
    require_tensor(boxes, "boxes", "N 4", empty="N")
    x1, y1, x2, y2 = at_least_float32(boxes).unbind(1)
    return (x2 - x1) * (y2 - y1)


def box_iou(boxes1: torch.Tensor, boxes2: torch.Tensor) -> torch.Tensor:
    """(N, 4), (M, 4) -> (N, M) of at least float32: intersection over union, |A ∩ B| / |A ∪ B|.

    NaN for two boxes without area. Raises TypeError or ValueError for what are no boxes, and for boxes of two
    kinds. [torchvision.ops.box_iou]
    """
    require_tensor(boxes1, "boxes1", "N 4", empty="N")
    require_tensor(boxes2, "boxes2", "M 4", empty="M")
    require_same_kind(boxes2, "boxes2", boxes1, "boxes1")
    boxes1 = at_least_float32(boxes1)
    boxes2 = at_least_float32(boxes2)
    upper_left = torch.maximum(boxes1[:, None, :2], boxes2[:, :2])
    lower_right = torch.minimum(boxes1[:, None, 2:], boxes2[:, 2:])
    width, height = (lower_right - upper_left).clamp(min=0).unbind(-1)
    intersection = width * height
    union = box_area(boxes1)[:, None] + box_area(boxes2) - intersection
    return intersection / union


def clip_boxes(boxes: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
    """(N, 4), (height, width) -> (N, 4): cut off at the edges of the image.

    Raises TypeError or ValueError for what are no boxes or no size. [torchvision.ops.clip_boxes_to_image]
    """
    require_tensor(boxes, "boxes", "N 4", empty="N")
    height, width = require_pair(image_size, "image_size")
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """(N, 4), (N,), float -> (K,) int64: the boxes kept by non-maximum suppression, best first.

    A box is dropped if a better one that is kept overlaps it with an IoU above the threshold; of equal scores
    the earlier is the better. An (N, N) matrix of overlaps would be too large for many boxes, so blocks of
    sorted boxes are decided in turn. The detectors call torchvision.ops.nms, which is compiled and keeps the
    same boxes; this one is written to be read.

    Raises TypeError or ValueError for what are no boxes, not one score a box, or a threshold outside [0, 1].
    [torchvision.ops.nms]
    """
    require_tensor(boxes, "boxes", "N 4", empty="N")
    require_tensor(scores, "scores", "N", empty="N", N=len(boxes), device=boxes.device)
    threshold = require_number(iou_threshold, "iou_threshold", least=0, most=1)
    rest = scores.sort(descending=True, stable=True).indices
    kept = [rest[:0]]
    while len(rest):
        block, rest = rest[:NMS_BLOCK], rest[NMS_BLOCK:]
        block = block[_survivors(box_iou(boxes[block], boxes[block]) > threshold)]
        dropped = (box_iou(boxes[block], boxes[rest]) > threshold).any(0)
        rest = rest[~dropped]
        kept.append(block)
    return torch.cat(kept)


def _survivors(overlaps):
    """(N, N) bool, best first -> (N,) bool: the boxes that no better survivor overlaps."""
    worse = overlaps.triu(1)  # row i: the boxes after i that it overlaps
    alive = torch.ones(len(overlaps), dtype=torch.bool, device=overlaps.device)
    for i in worse.any(1).nonzero()[:, 0].tolist():
        if alive[i]:
            alive &= ~worse[i]
    return alive
