"""How good detections are: true positives, precision and recall, average precision.

[Everingham et al. 2010; COCO's evaluation, Lin et al. 2014, arXiv:1405.0312]
"""

import math

import numpy as np
import torch

from vlmbook.data.boxes import require_targets
from vlmbook.detection.boxes import box_iou
from vlmbook.validation import require_number, require_tensor, require_whole

RECALLS = torch.from_numpy(np.linspace(0, 1, 101))  # COCO's, bit for bit: a recall that is met exactly counts
MOST_DETECTIONS = 100  # of an image that count, as in COCO's evaluation


def match_detections(
    predictions: list[dict], targets: list[dict], label: int, iou_threshold: float = 0.5
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """n × {boxes, scores, labels}, n × {boxes, labels} -> (D,) scores, (D,) bool true positives, int.

    Of one class, best first, on the CPU. In each image, best first, up to its 100 best: a detection takes the
    object that it overlaps most among those not taken yet, and is a true positive if that IoU reaches the
    threshold, else a false one. The int is the number of objects. Raises TypeError or ValueError for what are
    no detections, and for lists of different lengths. [COCO's evaluation]
    """
    require_targets(predictions, "predictions", scores=True)
    require_targets(targets, "targets", count=len(predictions))
    label = require_whole(label, "label", least=0)
    threshold = require_number(iou_threshold, "iou_threshold", least=0, most=1)
    return _match(predictions, targets, label, threshold)


def _match(predictions, targets, label, threshold):
    scores, is_true, num_objects = [torch.zeros(0)], [], 0
    for prediction, target in zip(predictions, targets, strict=True):
        boxes, score = _best_of_label(prediction, label)
        truth = target["boxes"].cpu().double()[target["labels"].cpu() == label]
        is_true += _greedy_matches(box_iou(boxes, truth), threshold)
        scores.append(score)
        num_objects += len(truth)
    scores = torch.cat(scores)
    order = scores.sort(descending=True, stable=True).indices
    return scores[order], torch.tensor(is_true, dtype=torch.bool)[order], num_objects


def _best_of_label(prediction, label):
    """{boxes, scores, labels} -> (d, 4), (d,) float64 on the CPU: those of one class, best first."""
    of_class = prediction["labels"].cpu() == label
    scores = prediction["scores"].cpu().double()[of_class]
    scores, order = scores.sort(descending=True, stable=True)
    boxes = prediction["boxes"].cpu().double()[of_class][order]
    return boxes[:MOST_DETECTIONS], scores[:MOST_DETECTIONS]


def _greedy_matches(iou, threshold):
    """(D, M) IoU of detections, best first, and objects -> D × bool: which detections find an object."""
    free = torch.ones(iou.shape[1], dtype=torch.bool)
    found = []
    for row in iou:
        best = torch.where(free, row, -1.0).max(0) if len(row) > 0 else None
        is_match = best is not None and best.values.item() >= threshold
        if is_match:
            free[best.indices] = False
        found.append(is_match)
    return found


def precision_recall_curve(
    true_positives: torch.Tensor, num_objects: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """(D,) bool, best first, int -> (D,), (D,) float64: precision and recall of the best 1, 2, … D.

    Both lie on the CPU; recall is NaN where there is no object. Raises TypeError or ValueError for other
    arguments, such as more true positives than objects.
    """
    require_tensor(true_positives, "true_positives", "D", kind="bool", empty="D")
    num_objects = require_whole(num_objects, "num_objects", least=0)
    if true_positives.sum() > num_objects:
        raise ValueError(
            f"num_objects wants at least one for each of the {int(true_positives.sum())} true positives, "
            f"got {num_objects}"
        )
    found = true_positives.cpu().double().cumsum(0)
    detections = torch.arange(1, len(found) + 1, dtype=torch.float64)
    return found / detections, found / num_objects


def average_precision(true_positives: torch.Tensor, num_objects: int) -> float:
    """(D,) bool, best first, int -> float: mean over recalls 0, 0.01, … 1 of the best precision from there.

    NaN where there is no object. Raises TypeError or ValueError for other arguments. [COCO's 101 points]
    """
    precision, recall = precision_recall_curve(true_positives, num_objects)
    if num_objects == 0:
        return math.nan
    best = precision.flip(0).cummax(0).values.flip(0)
    best = torch.cat([best, best.new_zeros(1)])  # 0 beyond the largest recall that is reached
    return best[torch.searchsorted(recall, RECALLS)].mean().item()


def average_precision_loops(true_positives: torch.Tensor, num_objects: int) -> float:
    """(D,) bool, best first, int -> float: as `average_precision`, point by point."""
    precision, recall = (each.tolist() for each in precision_recall_curve(true_positives, num_objects))
    if num_objects == 0:
        return math.nan
    total = 0.0
    for point in RECALLS.tolist():
        total += max((p for p, r in zip(precision, recall, strict=True) if r >= point), default=0.0)
    return total / len(RECALLS)


def mean_average_precision(
    predictions: list[dict], targets: list[dict], iou_threshold: float = 0.5
) -> tuple[float, dict[int, float]]:
    """n × {boxes, scores, labels}, n × {boxes, labels} -> float, dict: mAP, and the AP of each label.

    NaN where there is no object. Raises TypeError or ValueError as `match_detections`.
    """
    require_targets(predictions, "predictions", scores=True)
    require_targets(targets, "targets", count=len(predictions))
    threshold = require_number(iou_threshold, "iou_threshold", least=0, most=1)
    labels = sorted({label for target in targets for label in target["labels"].tolist()})
    ap_of_label = {}
    for label in labels:
        _, true_positives, num_objects = _match(predictions, targets, label, threshold)
        ap_of_label[label] = average_precision(true_positives, num_objects)
    mean = sum(ap_of_label.values()) / len(labels) if labels else math.nan
    return mean, ap_of_label
