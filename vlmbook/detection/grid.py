"""A detector of one stage: the cell of the map in which the centre of an object lies predicts the object.

[after Redmon et al. 2016, arXiv:1506.02640; sizes as in its second version, Redmon & Farhadi 2017,
arXiv:1612.08242]
"""

import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.data.boxes import require_targets
from vlmbook.detection.anchors import LARGEST_LOG, positive_numbers
from vlmbook.detection.boxes import at_least_float32, box_cxcywh_to_xyxy, box_xyxy_to_cxcywh
from vlmbook.detection.detectors import (
    LARGEST_WIDTH,
    extract_features,
    require_backbone,
    require_ground_truth,
    select_detections,
)
from vlmbook.validation import require_number, require_tensor, require_whole


class GridDetector(nn.Module):
    """(B, C, H, W) -> B × {boxes, scores, labels}; with true boxes (B, K, 4) and labels (B, K) -> dict of
    three losses.

    Each cell of the map predicts whether a centre lies in it, where in the cell, how large the box is, and
    its class: boxes and classes in one pass, no proposals. Where two centres fall into one cell, one of the
    objects is lost. `size` is a typical side in pixels, from which sizes are counted. Other arguments, labels
    and images are as those of `FasterRCNN`. With a few hundred images or fewer it learns them by heart: train
    it with `vlmbook.data.random_zoom` and compare it with a `ConstantBox`. Raises TypeError or ValueError for
    arguments it cannot use.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, *, size: float, width: int = 64):
        super().__init__()
        channels = require_backbone(backbone)
        self.num_classes = require_whole(num_classes, "num_classes", most=LARGEST_WIDTH)
        self.size = require_number(size, "size", above=0)
        width = require_whole(width, "width", most=LARGEST_WIDTH)
        self.backbone = backbone
        self.head = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 5 + self.num_classes, 1)
        )
        nn.init.constant_(self.head[-1].bias[:1], -4.0)  # few cells hold a centre

    def forward(
        self, images: torch.Tensor, boxes: torch.Tensor | None = None, labels: torch.Tensor | None = None
    ) -> list[dict[str, torch.Tensor]] | dict[str, torch.Tensor]:
        if boxes is None and labels is None:
            return [select_detections(*each, images.shape[2:]) for each in self.predict_candidates(images)]
        targets = require_ground_truth(images, boxes, labels, self.num_classes)
        return self.losses(*self.predict(images), targets)

    def predict_candidates(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(B, C, H, W) -> B × ((h·w, num_classes), (h·w, 4)): input of `select_detections`.

        The probability of a class is that of a centre times that of the class.
        """
        p_center, boxes, p_class = self.decode(*self.predict(images))
        return list(zip(p_center[..., None] * p_class, boxes, strict=True))

    def predict(self, images: torch.Tensor) -> tuple[torch.Tensor, tuple[float, float]]:
        """(B, C, H, W) -> (B, h, w, 5 + num_classes) of at least float32, (sy, sx) pixels a cell.

        Of each cell the logit of a centre, x, y, log width, log height, and the logits of the classes.
        """
        x, stride = extract_features(self.backbone, images)
        return at_least_float32(self.head(x)).permute(0, 2, 3, 1), stride

    def decode(
        self, outputs: torch.Tensor, stride: tuple[float, float]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, h, w, 5 + num_classes), (sy, sx) -> (B, h·w), (B, h·w, 4), (B, h·w, num_classes).

        The probability of a centre, the box in pixels, the probabilities of the classes.
        """
        device = self.head[-1].weight.device
        require_tensor(outputs, "outputs", "B h w D", D=5 + self.num_classes, device=device)
        down, across = positive_numbers(stride, "stride", count=2)
        logit, x, y, log_w, log_h = outputs[..., :5].unbind(-1)
        rows = torch.arange(outputs.shape[1], device=outputs.device)
        columns = torch.arange(outputs.shape[2], device=outputs.device)
        x = across * (columns + x.sigmoid())
        y = down * (rows[:, None] + y.sigmoid())
        w = self.size * log_w.clamp(max=LARGEST_LOG).exp()
        h = self.size * log_h.clamp(max=LARGEST_LOG).exp()
        boxes = box_cxcywh_to_xyxy(torch.stack([x, y, w, h], dim=-1))
        p_class = outputs[..., 5:].softmax(-1)
        return logit.sigmoid().flatten(1), boxes.flatten(1, 2), p_class.flatten(1, 2)

    def losses(
        self, outputs: torch.Tensor, stride: tuple[float, float], targets: list[dict]
    ) -> dict[str, torch.Tensor]:
        """(B, h, w, 5 + num_classes), (sy, sx), B × {boxes, labels} -> dict of three scalars, per object.

        "centers": cross-entropy, a centre or none, over all cells. "boxes": smooth L1, and "classes":
        cross-entropy, only in the cells of the true centres.
        """
        device = self.head[-1].weight.device
        require_tensor(outputs, "outputs", "B h w D", D=5 + self.num_classes, device=device)
        down, across = positive_numbers(stride, "stride", count=2)
        require_targets(targets, "targets", count=len(outputs))
        labels = torch.cat([each["labels"] for each in targets])
        require_tensor(labels, "labels", "k", kind="int64", empty="k", most=self.num_classes - 1)
        image = torch.cat([torch.full_like(each["labels"], i) for i, each in enumerate(targets)])
        x, y, w, h = box_xyxy_to_cxcywh(torch.cat([each["boxes"] for each in targets])).unbind(-1)
        row = (y / down).long().clamp(0, outputs.shape[1] - 1)
        column = (x / across).long().clamp(0, outputs.shape[2] - 1)
        has_center = torch.zeros_like(outputs[..., 0])
        has_center[image, row, column] = 1
        cells = outputs[image, row, column]  # (objects, 5 + num_classes)
        predicted = torch.stack(
            [cells[:, 1].sigmoid(), cells[:, 2].sigmoid(), cells[:, 3], cells[:, 4]], dim=1
        )
        true = [x / across - column, y / down - row, (w / self.size).log(), (h / self.size).log()]
        true = torch.stack(true, dim=1).to(predicted.dtype)
        count = max(len(labels), 1)
        centers = F.binary_cross_entropy_with_logits(outputs[..., 0], has_center, reduction="sum")
        return {
            "centers": centers / count,
            "boxes": F.smooth_l1_loss(predicted, true, beta=0.1, reduction="sum") / count,
            "classes": F.cross_entropy(cells[:, 5:], labels, reduction="sum") / count,
        }
