"""Boxes of a data set: lists of targets as one tensor and back, and images changed with their boxes."""

import torch

from vlmbook.validation import describe, require_tensor


def pad_targets(targets: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
    """n × {boxes (k, 4), labels (k,) from 0} -> (n, K, 4), (n, K) from 1: tensors; label 0 fills the rows.

    K is the largest k. Raises TypeError or ValueError for what are no targets: boxes and labels of different
    numbers, a label below 0.
    """
    _require_targets(targets)
    most = max((len(each["labels"]) for each in targets), default=0)
    boxes = torch.zeros(len(targets), most, 4)
    labels = torch.zeros(len(targets), most, dtype=torch.int64)
    for i, each in enumerate(targets):
        count = len(each["labels"])
        boxes[i, :count] = each["boxes"]
        labels[i, :count] = each["labels"] + 1
    return boxes, labels


def unpad_targets(boxes: torch.Tensor, labels: torch.Tensor) -> list[dict]:
    """(B, K, 4), (B, K) -> B × {boxes (k, 4), labels (k,)}: without the rows of label 0.

    Raises TypeError or ValueError for other shapes and dtypes.
    """
    require_tensor(boxes, "boxes", "B K 4", empty="B K")
    require_tensor(labels, "labels", "B K", kind="int64", empty="B K", B=boxes.shape[0], K=boxes.shape[1])
    targets = []
    for each, label in zip(boxes, labels, strict=True):
        real = label > 0
        targets.append({"boxes": each[real], "labels": label[real]})
    return targets


def flip_horizontally(images: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, C, H, W), (B, K, 4) -> both, left and right exchanged.

    Raises TypeError or ValueError for other shapes and dtypes.
    """
    require_tensor(images, "images", "B C H W")
    require_tensor(boxes, "boxes", "B K 4", empty="K", B=len(images))
    width = images.shape[3]
    x1, y1, x2, y2 = boxes.unbind(-1)
    return images.flip(-1), torch.stack([width - x2, y1, width - x1, y2], dim=-1)


def _require_targets(targets):
    if not isinstance(targets, (list, tuple)):
        raise TypeError(
            f"targets wants a list with a dict an image of boxes, labels, got {describe(targets)}"
        )
    for i, each in enumerate(targets):
        if not isinstance(each, dict) or "boxes" not in each or "labels" not in each:
            raise TypeError(f"targets[{i}] wants a dict of boxes, labels, got {describe(each)}")
        boxes = require_tensor(each["boxes"], f"targets[{i}]['boxes']", "N 4", empty="N")
        name = f"targets[{i}]['labels']"
        require_tensor(each["labels"], name, "N", kind="int64", empty="N", least=0, N=len(boxes))
