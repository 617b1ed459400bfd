"""Good calls of vlmbook.detection.evaluation."""

import torch

from tests.support.good_calls import Call
from vlmbook.detection.evaluation import (
    average_precision,
    average_precision_loops,
    match_detections,
    mean_average_precision,
    precision_recall_curve,
)

TARGETS = [{"boxes": torch.tensor([[0.0, 1, 4, 5]]), "labels": torch.tensor([0])}]
PREDICTIONS = [TARGETS[0] | {"scores": torch.tensor([0.5])}]
BOTH = {"predictions": PREDICTIONS, "targets": TARGETS}
FOUND = {"true_positives": torch.tensor([True, False, True]), "num_objects": 3}

GOOD_CALLS = {
    "match_detections": lambda: Call(match_detections, BOTH | {"label": 0, "iou_threshold": 0.5}),
    "mean_average_precision": lambda: Call(mean_average_precision, BOTH | {"iou_threshold": 0.5}),
    "precision_recall_curve": lambda: Call(precision_recall_curve, dict(FOUND)),
    "average_precision": lambda: Call(average_precision, dict(FOUND)),
    "average_precision_loops": lambda: Call(average_precision_loops, dict(FOUND)),
}
