"""The second stage of Faster R-CNN: a class and a better box a region [Girshick 2015, arXiv:1504.08083].

Regions are cut out of the feature map by RoI align [He et al. 2017, arXiv:1703.06870]. Here, and here alone,
the background is a class: column 0 of the logits. Parameters carry torchvision's names.
"""

import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.data.boxes import require_targets
from vlmbook.detection.anchors import encode_boxes, match_anchors, sample_anchors
from vlmbook.detection.boxes import at_least_float32, box_iou
from vlmbook.detection.detectors import LARGEST_WIDTH, offset_loss
from vlmbook.detection.regions import pool_regions, require_boxes_per_image
from vlmbook.validation import require_same_kind, require_tensor, require_whole

OFFSET_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # as in torchvision
POOLED = 7  # bins of a region, down and across


class TwoMLPHead(nn.Module):
    """(K, C, h, w) -> (K, width): two linear layers with ReLU; `in_features` is C·h·w."""

    def __init__(self, in_features: int, width: int):
        super().__init__()
        in_features = require_whole(in_features, "in_features", most=POOLED * POOLED * LARGEST_WIDTH)
        width = require_whole(width, "width", most=LARGEST_WIDTH)
        self.fc6 = nn.Linear(in_features, width)
        self.fc7 = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        require_tensor(x, "x", "K C h w", empty="K")
        require_same_kind(x, "x", self.fc6.weight)
        if x[0:1].numel() not in (0, self.fc6.in_features):
            raise ValueError(f"x wants C·h·w = {self.fc6.in_features} in (K, C, h, w), got {tuple(x.shape)}")
        return self.fc7(self.fc6(x.flatten(1)).relu()).relu()


class BoxPredictor(nn.Module):
    """(K, width) -> (K, outputs) logits, (K, 4·outputs) offsets: four for each, background among them."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        width = require_whole(width, "width", most=LARGEST_WIDTH)
        outputs = require_whole(outputs, "outputs", most=LARGEST_WIDTH + 1)
        self.cls_score = nn.Linear(width, outputs)
        self.bbox_pred = nn.Linear(width, 4 * outputs)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        require_tensor(x, "x", "K D", empty="K", D=self.cls_score.in_features)
        require_same_kind(x, "x", self.cls_score.weight)
        return self.cls_score(x), self.bbox_pred(x)


class RoIHeads(nn.Module):
    """(B, C, H, W), B × (L, 4), (sy, sx) -> (K, C, 7, 7), (K, 1 + num_classes), (K, 4·(1 + num_classes)).

    The K = B·L regions pooled by RoI align, and of each the logits of background and the classes, and four
    offsets for each of these. Raises TypeError or ValueError for other arguments. [Girshick 2015; the pooling
    is He et al. 2017]
    """

    def __init__(self, channels: int, num_classes: int, width: int, batch_size_per_image: int):
        super().__init__()
        self.channels = require_whole(channels, "channels", most=LARGEST_WIDTH)
        self.batch_size_per_image = require_whole(batch_size_per_image, "batch_size_per_image")
        self.box_head = TwoMLPHead(channels * POOLED * POOLED, width)
        self.box_predictor = BoxPredictor(
            width, 1 + require_whole(num_classes, "num_classes", most=LARGEST_WIDTH)
        )

    def forward(
        self, x: torch.Tensor, boxes: list[torch.Tensor], stride: tuple[float, float]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        require_tensor(x, "x", "B C H W", C=self.channels)
        pooled = pool_regions(x, boxes, stride, POOLED)
        logits, offsets = self.box_predictor(self.box_head(pooled))
        return pooled, at_least_float32(logits), at_least_float32(offsets)

    def sample(
        self, boxes: list[torch.Tensor], targets: list[dict]
    ) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        """B × (L, 4), B × {boxes, labels} -> B × (l, 4), (K,), (K, 4): what enters the loss.

        Regions, of all of them the classes, where 0 is background, and the offsets to the true boxes; at most
        a quarter are objects.
        """
        require_targets(targets, "targets")
        require_boxes_per_image(boxes, "boxes", count=len(targets))
        regions, classes, offsets = [], [], []
        for proposed, target in zip(boxes, targets, strict=True):
            candidates = torch.cat([proposed, target["boxes"]])  # the true boxes are good examples
            iou = box_iou(target["boxes"], candidates)
            owner = match_anchors(iou, 0.5, 0.5, allow_low_quality_matches=False)
            chosen = torch.cat(sample_anchors(owner, self.batch_size_per_image, 0.25)).sort().values
            region, owner = candidates[chosen], owner[chosen]
            is_object = owner >= 0
            true_boxes = target["boxes"][owner[is_object]]
            class_of = torch.zeros_like(owner)
            class_of[is_object] = 1 + target["labels"][owner[is_object]]
            offset = torch.zeros_like(region)
            offset[is_object] = encode_boxes(true_boxes, region[is_object], OFFSET_WEIGHTS)
            regions.append(region)
            classes.append(class_of)
            offsets.append(offset)
        return regions, torch.cat(classes), torch.cat(offsets)

    @staticmethod
    def losses(
        logits: torch.Tensor, offsets: torch.Tensor, classes: torch.Tensor, true_offsets: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """(K, 1 + num_classes), (K, 4·(1 + num_classes)), (K,), (K, 4) -> dict of two scalars.

        Cross-entropy of the classes, and smooth L1 of the offsets of objects, those of their class.
        """
        require_tensor(logits, "logits", "K D", empty="K")
        count, outputs = logits.shape
        shared = {"empty": "K", "K": count, "device": logits.device}
        require_tensor(offsets, "offsets", "K D", D=4 * outputs, **shared)
        require_tensor(classes, "classes", "K", kind="int64", least=0, most=outputs - 1, **shared)
        require_tensor(true_offsets, "true_offsets", "K 4", **shared)
        objects = (classes > 0).nonzero()[:, 0]
        predicted = offsets.unflatten(1, (-1, 4))[objects, classes[objects]]
        count = max(count, 1)  # no proposal and no object: nothing to learn, not 0/0
        return {
            "classes": F.cross_entropy(logits, classes, reduction="sum") / count,
            "box offsets": offset_loss(predicted, true_offsets[objects]) / count,
        }
