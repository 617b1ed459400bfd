"""Good calls of vlmbook.detection.boxes."""

import torch

from tests.support.good_calls import Call
from vlmbook.detection.boxes import (
    at_least_float32,
    box_area,
    box_cxcywh_to_xyxy,
    box_iou,
    box_xyxy_to_cxcywh,
    clip_boxes,
    nms,
)

BOXES = torch.tensor([[0.0, 1, 4, 5], [2, 2, 6, 6], [1, 1, 5, 5]])
SCORES = torch.tensor([0.5, 0.25, 0.75])

GOOD_CALLS = {
    "at_least_float32": lambda: Call(at_least_float32, {"x": BOXES.half()}),
    "box_area": lambda: Call(box_area, {"boxes": BOXES}),
    "box_cxcywh_to_xyxy": lambda: Call(box_cxcywh_to_xyxy, {"boxes": BOXES}),
    "box_xyxy_to_cxcywh": lambda: Call(box_xyxy_to_cxcywh, {"boxes": BOXES}),
    "box_iou": lambda: Call(box_iou, {"boxes1": BOXES, "boxes2": BOXES[:2]}),
    "clip_boxes": lambda: Call(clip_boxes, {"boxes": BOXES, "image_size": (4, 5)}),
    "nms": lambda: Call(nms, {"boxes": BOXES, "scores": SCORES, "iou_threshold": 0.5}),
}
