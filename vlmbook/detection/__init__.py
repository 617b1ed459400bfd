"""Object detection: boxes, anchors, pooled regions, average precision, and two detectors made of these.

Boxes are (N, 4) floating, x1 y1 x2 y2 in pixels: the edges of an area, so x2 − x1 is its width. Labels of
objects count from 0 everywhere; the background is a class only within Faster R-CNN's second stage.
"""

from vlmbook.detection.anchors import (
    BACKGROUND,
    IGNORED,
    decode_boxes,
    encode_boxes,
    generate_anchors,
    match_anchors,
    sample_anchors,
)
from vlmbook.detection.baseline import ConstantBox
from vlmbook.detection.boxes import (
    box_area,
    box_cxcywh_to_xyxy,
    box_iou,
    box_xyxy_to_cxcywh,
    clip_boxes,
    nms,
)
from vlmbook.detection.detectors import (
    SmallBackbone,
    detection_loss,
    extract_features,
    select_detections,
)
from vlmbook.detection.evaluation import (
    average_precision,
    average_precision_loops,
    match_detections,
    mean_average_precision,
    precision_recall_curve,
)
from vlmbook.detection.faster_rcnn import FasterRCNN, as_torchvision
from vlmbook.detection.grid import GridDetector
from vlmbook.detection.regions import roi_align, roi_align_loops, roi_pool, roi_pool_loops
from vlmbook.detection.roi_heads import RoIHeads
from vlmbook.detection.rpn import RegionProposalNetwork, RPNHead

__all__ = [
    "BACKGROUND",
    "IGNORED",
    "ConstantBox",
    "FasterRCNN",
    "GridDetector",
    "RPNHead",
    "RegionProposalNetwork",
    "RoIHeads",
    "SmallBackbone",
    "as_torchvision",
    "average_precision",
    "average_precision_loops",
    "box_area",
    "box_cxcywh_to_xyxy",
    "box_iou",
    "box_xyxy_to_cxcywh",
    "clip_boxes",
    "decode_boxes",
    "detection_loss",
    "encode_boxes",
    "extract_features",
    "generate_anchors",
    "match_anchors",
    "match_detections",
    "mean_average_precision",
    "nms",
    "precision_recall_curve",
    "roi_align",
    "roi_align_loops",
    "roi_pool",
    "roi_pool_loops",
    "sample_anchors",
    "select_detections",
]
