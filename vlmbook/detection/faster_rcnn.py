"""Faster R-CNN: two stages [Ren et al. 2015, arXiv:1506.01497; Girshick 2015, arXiv:1504.08083].

A backbone makes one feature map; the region proposal network scores and shifts every anchor and keeps the
best; the heads cut these regions out of the same map, name a class and shift the box once more. Parameters
carry torchvision's names. Suppression and RoI align are torchvision.ops's, which are compiled;
`vlmbook.detection.nms` and `roi_align` give the same and can be read.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from vlmbook.detection.anchors import (
    decode_boxes,
    encode_boxes,
    generate_anchors,
    match_anchors,
    sample_anchors,
)
from vlmbook.detection.boxes import box_iou, clip_boxes
from vlmbook.detection.detectors import require_targets, select_detections
from vlmbook.validation import require_tensor, require_type, require_whole

RPN_WEIGHTS = (1.0, 1.0, 1.0, 1.0)  # of offsets, as in torchvision
HEAD_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


# --- the first stage: regions that may hold an object -------------------------------------------------------


class RPNHead(nn.Module):
    """(B, C, H, W) -> (B, H·W·A), (B, H·W·A, 4): for each anchor one logit, object or not, and four offsets.

    A is the number of anchors in a cell.
    """

    def __init__(self, channels: int, num_anchors: int):
        super().__init__()
        self.conv = nn.Sequential(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()))
        self.cls_logits = nn.Conv2d(channels, num_anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * num_anchors, 1)
        for layer in (self.conv[0][0], self.cls_logits, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.conv(x)
        logits = self.cls_logits(x).permute(0, 2, 3, 1).flatten(1)
        offsets = self.bbox_pred(x).unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2)
        return logits, offsets.flatten(1, 3)


class Proposals(NamedTuple):
    """What the region proposal network gives for a batch."""

    anchors: torch.Tensor  # (N, 4)
    logits: torch.Tensor  # (B, N)
    offsets: torch.Tensor  # (B, N, 4)
    candidates: list[
        torch.Tensor
    ]  # B × (K, 4): the boxes of the highest logits, best first, before suppression
    boxes: list[torch.Tensor]  # B × (L, 4): the proposals
    scores: list[torch.Tensor]  # B × (L,): their probability of holding an object


class RegionProposalNetwork(nn.Module):
    """(B, C, H, W), (height, width) of the images -> Proposals: anchors scored and shifted, the best kept.

    The `pre_nms_top_n` best boxes of an image are clipped to it; suppression at an IoU of 0.7 leaves at most
    `post_nms_top_n`. `batch_size_per_image` anchors of an image enter the losses. [Ren et al. 2015, §3.1]
    """

    def __init__(
        self,
        channels: int,
        sizes: Sequence[float],
        ratios: Sequence[float],
        *,
        pre_nms_top_n: int,
        post_nms_top_n: int,
        batch_size_per_image: int,
    ):
        super().__init__()
        self.sizes = sizes
        self.ratios = ratios
        self.pre_nms_top_n = require_whole(pre_nms_top_n, "pre_nms_top_n")
        self.post_nms_top_n = require_whole(post_nms_top_n, "post_nms_top_n")
        self.batch_size_per_image = require_whole(batch_size_per_image, "batch_size_per_image")
        num_anchors = len(generate_anchors((1, 1), (1, 1), sizes, ratios))  # in one cell
        self.head = RPNHead(require_whole(channels, "channels"), num_anchors)

    def forward(self, x: torch.Tensor, image_size: tuple[int, int]) -> Proposals:
        logits, offsets = self.head(x)
        stride = [pixels // cells for pixels, cells in zip(image_size, x.shape[2:], strict=True)]
        anchors = generate_anchors(x.shape[2:], stride, self.sizes, self.ratios).to(x)
        proposals = Proposals(anchors, logits, offsets, [], [], [])
        for score, offset in zip(logits.detach(), offsets.detach(), strict=True):
            candidates, boxes, scores = self.select(
                score, decode_boxes(offset, anchors, RPN_WEIGHTS), image_size
            )
            proposals.candidates.append(candidates)
            proposals.boxes.append(boxes)
            proposals.scores.append(scores)
        return proposals

    def select(
        self, logits: torch.Tensor, boxes: torch.Tensor, image_size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N,), (N, 4) of one image -> (K, 4) candidates; (L, 4), (L,) proposals and their probabilities."""
        best = logits.topk(min(self.pre_nms_top_n, len(logits))).indices
        candidates = clip_boxes(boxes[best], image_size)
        scores = logits[best].sigmoid()
        large = torchvision.ops.remove_small_boxes(candidates, 1e-3)
        kept = large[torchvision.ops.nms(candidates[large], scores[large], 0.7)[: self.post_nms_top_n]]
        return candidates, candidates[kept], scores[kept]

    def losses(self, proposals: Proposals, targets: list[dict]) -> dict[str, torch.Tensor]:
        """Proposals, B × {boxes (k, 4)} -> dict of two scalars.

        Cross-entropy, object or not, over sampled anchors, and smooth L1 of the offsets of positive ones.
        """
        logits, is_object, offsets, true_offsets = [], [], [], []
        for i, target in enumerate(targets):
            owner = self.match(proposals.anchors, target["boxes"])
            positive, background = sample_anchors(owner, self.batch_size_per_image, 0.5)
            logits += [proposals.logits[i, positive], proposals.logits[i, background]]
            is_object += [torch.ones_like(logits[-2]), torch.zeros_like(logits[-1])]
            offsets.append(proposals.offsets[i, positive])
            true_boxes = target["boxes"][owner[positive]]
            true_offsets.append(encode_boxes(true_boxes, proposals.anchors[positive], RPN_WEIGHTS))
        is_object = torch.cat(is_object)
        return {
            "objectness": F.binary_cross_entropy_with_logits(torch.cat(logits), is_object),
            "anchor offsets": _smooth_l1(torch.cat(offsets), torch.cat(true_offsets)) / len(is_object),
        }

    @staticmethod
    def match(anchors: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """(N, 4), (k, 4) -> (N,): `match_anchors` with the paper's 0.7 and 0.3."""
        return match_anchors(box_iou(boxes, anchors), 0.7, 0.3, allow_low_quality_matches=True)


# --- the second stage: a class and a better box for each region ---------------------------------------------


class TwoMLPHead(nn.Module):
    """(K, C, h, w) -> (K, width): two linear layers with ReLU."""

    def __init__(self, in_features: int, width: int):
        super().__init__()
        self.fc6 = nn.Linear(in_features, width)
        self.fc7 = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc7(self.fc6(x.flatten(1)).relu()).relu()


class BoxPredictor(nn.Module):
    """(K, width) -> (K, num_classes) logits, (K, 4·num_classes) offsets: four for each class."""

    def __init__(self, width: int, num_classes: int):
        super().__init__()
        self.cls_score = nn.Linear(width, num_classes)
        self.bbox_pred = nn.Linear(width, 4 * num_classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.cls_score(x), self.bbox_pred(x)


class RoIHeads(nn.Module):
    """(B, C, H, W), B × (L, 4), scale -> (K, C, 7, 7), (K, num_classes), (K, 4·num_classes): regions, logits,
    offsets.

    Regions are pooled by RoI align, K = B·L of them. [Girshick 2015; the pooling is He et al. 2017]
    """

    def __init__(self, channels: int, num_classes: int, width: int, batch_size_per_image: int):
        super().__init__()
        self.batch_size_per_image = require_whole(batch_size_per_image, "batch_size_per_image")
        self.box_head = TwoMLPHead(channels * 7 * 7, width)
        self.box_predictor = BoxPredictor(width, num_classes)

    def forward(
        self, x: torch.Tensor, boxes: list[torch.Tensor], scale: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        pooled = torchvision.ops.roi_align(x, boxes, 7, scale, sampling_ratio=2)
        return pooled, *self.box_predictor(self.box_head(pooled))

    def sample(
        self, boxes: list[torch.Tensor], targets: list[dict]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
        """B × (L, 4), B × {boxes, labels} -> B × (l, 4), B × (l,), B × (l, 4): what enters the loss.

        Regions, their classes (0 is background) and offsets to the true boxes; at most a quarter are objects.
        """
        regions, classes, offsets = [], [], []
        for proposed, target in zip(boxes, targets, strict=True):
            candidates = torch.cat([proposed, target["boxes"]])  # the true boxes are good examples
            iou = box_iou(target["boxes"], candidates)
            owner = match_anchors(iou, 0.5, 0.5, allow_low_quality_matches=False)
            chosen = torch.cat(sample_anchors(owner, self.batch_size_per_image, 0.25)).sort().values
            region, owner = candidates[chosen], owner[chosen]
            is_object = owner >= 0
            label = torch.zeros_like(owner)
            label[is_object] = target["labels"][owner[is_object]]
            offset = torch.zeros_like(region)
            offset[is_object] = encode_boxes(
                target["boxes"][owner[is_object]], region[is_object], HEAD_WEIGHTS
            )
            regions.append(region)
            classes.append(label)
            offsets.append(offset)
        return regions, classes, offsets

    @staticmethod
    def losses(
        logits: torch.Tensor, offsets: torch.Tensor, classes: torch.Tensor, true_offsets: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """(K, num_classes), (K, 4·num_classes), (K,), (K, 4) -> dict of two scalars.

        Cross-entropy of the classes, and smooth L1 of the offsets of objects, those of their class.
        """
        objects = (classes > 0).nonzero()[:, 0]
        predicted = offsets.unflatten(1, (-1, 4))[objects, classes[objects]]
        count = max(len(classes), 1)  # no proposal and no object: nothing to learn, not 0/0
        return {
            "classes": F.cross_entropy(logits, classes, reduction="sum") / count,
            "box offsets": _smooth_l1(predicted, true_offsets[objects]) / count,
        }


def _smooth_l1(offsets, true_offsets):
    return F.smooth_l1_loss(offsets, true_offsets, beta=1 / 9, reduction="sum")


# --- both stages --------------------------------------------------------------------------------------------


class FasterRCNN(nn.Module):
    """(B, 3, H, W) -> B × {boxes, scores, labels}; with true boxes (B, K, 4) and labels (B, K) -> dict of
    four losses.

    `backbone(images)` gives one map (B, C, h, w) and has C as `out_channels`. `num_classes` counts the
    background, 0; true labels are 1 … num_classes − 1, and 0 where an image has fewer than K objects. `sizes`
    and `ratios` are the anchors'. Images are not normalised here, nor resized. Raises TypeError or ValueError
    for arguments it cannot use. [Ren et al. 2015, fig. 2]
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        sizes: Sequence[float],
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        width: int = 1024,
        pre_nms_top_n: int = 1000,
        post_nms_top_n: int = 300,
        rpn_batch_size_per_image: int = 256,
        box_batch_size_per_image: int = 512,
    ):
        super().__init__()
        self.backbone = require_type(backbone, "backbone", nn.Module, "a torch module")
        self.num_classes = require_whole(num_classes, "num_classes", least=2)
        self.rpn = RegionProposalNetwork(
            backbone.out_channels,
            sizes,
            ratios,
            pre_nms_top_n=pre_nms_top_n,
            post_nms_top_n=post_nms_top_n,
            batch_size_per_image=rpn_batch_size_per_image,
        )
        self.roi_heads = RoIHeads(
            backbone.out_channels, num_classes, require_whole(width, "width"), box_batch_size_per_image
        )

    def forward(
        self, images: torch.Tensor, boxes: torch.Tensor | None = None, labels: torch.Tensor | None = None
    ) -> list[dict[str, torch.Tensor]] | dict[str, torch.Tensor]:
        if boxes is None:
            return self.stages(images)["detections"]
        return self.losses(images, require_targets(images, boxes, labels, self.num_classes))

    def losses(self, images: torch.Tensor, targets: list[dict]) -> dict[str, torch.Tensor]:
        """(B, 3, H, W), B × {boxes, labels} -> dict of four scalars."""
        x = self.backbone(images)
        image_size = images.shape[2:]
        proposals = self.rpn(x, image_size)
        of_proposals = self.rpn.losses(proposals, targets)
        regions, classes, true_offsets = self.roi_heads.sample(proposals.boxes, targets)
        _, logits, offsets = self.roi_heads(x, regions, _scale(x, image_size))
        of_regions = self.roi_heads.losses(logits, offsets, torch.cat(classes), torch.cat(true_offsets))
        return of_proposals | of_regions

    def stages(self, images: torch.Tensor) -> dict:
        """(B, 3, H, W) -> dict of what each stage gives.

        "map" (B, C, h, w), "proposals", "pooled" (K, C, 7, 7) regions, their "logits" and "offsets",
        "candidates" as from `predict_candidates`, and "detections".
        """
        require_tensor(images, "images", "B C H W")
        x = self.backbone(images)
        image_size = images.shape[2:]
        proposals = self.rpn(x, image_size)
        pooled, logits, offsets = self.roi_heads(x, proposals.boxes, _scale(x, image_size))
        lengths = [len(each) for each in proposals.boxes]
        candidates = []
        for boxes, z, t in zip(proposals.boxes, logits.split(lengths), offsets.split(lengths), strict=True):
            candidates.append((z.softmax(-1), decode_boxes(t, boxes, HEAD_WEIGHTS)))
        return {
            "map": x,
            "proposals": proposals,
            "pooled": pooled,
            "logits": logits,
            "offsets": offsets,
            "candidates": candidates,
            "detections": [select_detections(*each, image_size) for each in candidates],
        }

    def predict_candidates(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(B, 3, H, W) -> B × ((L, num_classes), (L, 4·num_classes)): input of `select_detections`."""
        return self.stages(images)["candidates"]


def _scale(x, image_size):
    """Map, (height, width) of the image -> cells a pixel, as the power of two that is nearest."""
    return 2.0 ** round(math.log2(x.shape[2] / image_size[0]))


def as_torchvision(model: FasterRCNN, image_size: tuple[int, int]) -> nn.Module:
    """FasterRCNN, (height, width) -> torchvision's: the same settings and parameters, its own backbone.

    It takes a list of images (3, H, W) of that size, and neither normalises, resizes nor pads them.
    """
    from torchvision.models.detection import faster_rcnn
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    rpn = model.rpn
    heads = model.roi_heads
    width = heads.box_head.fc7.out_features
    twin = faster_rcnn.FasterRCNN(
        deepcopy(model.backbone),
        min_size=min(image_size),
        max_size=max(image_size),
        size_divisible=1,
        image_mean=[0, 0, 0],
        image_std=[1, 1, 1],
        rpn_anchor_generator=AnchorGenerator((tuple(rpn.sizes),), (tuple(rpn.ratios),)),
        rpn_pre_nms_top_n_train=rpn.pre_nms_top_n,
        rpn_pre_nms_top_n_test=rpn.pre_nms_top_n,
        rpn_post_nms_top_n_train=rpn.post_nms_top_n,
        rpn_post_nms_top_n_test=rpn.post_nms_top_n,
        rpn_batch_size_per_image=rpn.batch_size_per_image,
        box_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0"], 7, 2),
        box_head=faster_rcnn.TwoMLPHead(heads.box_head.fc6.in_features, width),
        box_predictor=faster_rcnn.FastRCNNPredictor(width, model.num_classes),
        box_batch_size_per_image=heads.batch_size_per_image,
    )
    twin.load_state_dict(model.state_dict())
    return twin.train(model.training)
