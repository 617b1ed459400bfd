"""The first stage of Faster R-CNN: the region proposal network [Ren et al. 2015, arXiv:1506.01497, §3.1].

It scores and shifts every anchor of a feature map; the best become proposals, regions that may hold an
object. It knows no classes. Parameters carry torchvision's names.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from vlmbook.data.boxes import require_targets
from vlmbook.detection.anchors import (
    decode_boxes,
    encode_boxes,
    generate_anchors,
    match_anchors,
    sample_anchors,
)
from vlmbook.detection.boxes import at_least_float32, box_iou, clip_boxes
from vlmbook.detection.detectors import LARGEST_WIDTH, offset_loss
from vlmbook.validation import require_same_kind, require_tensor, require_type, require_whole

OFFSET_WEIGHTS = (1.0, 1.0, 1.0, 1.0)  # as in torchvision


class RPNHead(nn.Module):
    """(B, C, H, W) -> (B, H·W·A), (B, H·W·A, 4): for each anchor one logit, object or not, and four offsets.

    A is the number of anchors in a cell.
    """

    def __init__(self, channels: int, num_anchors: int):
        super().__init__()
        channels = require_whole(channels, "channels", most=LARGEST_WIDTH)
        num_anchors = require_whole(num_anchors, "num_anchors", most=LARGEST_WIDTH)
        self.conv = nn.Sequential(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()))
        self.cls_logits = nn.Conv2d(channels, num_anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * num_anchors, 1)
        for layer in (self.conv[0][0], self.cls_logits, self.bbox_pred):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        require_tensor(x, "x", "B C H W", C=self.cls_logits.in_channels)
        require_same_kind(x, "x", self.cls_logits.weight)
        x = self.conv(x)
        logits = self.cls_logits(x).permute(0, 2, 3, 1).flatten(1)
        offsets = self.bbox_pred(x).unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2)
        return logits, offsets.flatten(1, 3)


class Proposals(NamedTuple):
    """What the region proposal network gives for a batch, in at least float32."""

    anchors: torch.Tensor  # (N, 4)
    logits: torch.Tensor  # (B, N)
    offsets: torch.Tensor  # (B, N, 4)
    candidates: list[torch.Tensor]  # B × (K, 4): boxes of the highest logits, best first, before suppression
    boxes: list[torch.Tensor]  # B × (L, 4): the proposals
    scores: list[torch.Tensor]  # B × (L,): their probability of holding an object


class RegionProposalNetwork(nn.Module):
    """(B, C, H, W), (sy, sx), (height, width) -> Proposals: anchors scored and shifted, the best kept.

    `stride` is the pixels a cell of the map. The `pre_nms_top_n` best boxes of an image are clipped to its
    size; suppression at an IoU of 0.7 leaves at most `post_nms_top_n`. `batch_size_per_image` anchors of an
    image enter the losses. Raises TypeError or ValueError for other arguments. [Ren et al. 2015, §3.1]
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
        num_anchors = len(generate_anchors((1, 1), (1, 1), sizes, ratios))  # in one cell
        self.sizes = sizes
        self.ratios = ratios
        self.pre_nms_top_n = require_whole(pre_nms_top_n, "pre_nms_top_n")
        self.post_nms_top_n = require_whole(post_nms_top_n, "post_nms_top_n")
        self.batch_size_per_image = require_whole(batch_size_per_image, "batch_size_per_image")
        self.head = RPNHead(channels, num_anchors)

    def forward(self, x: torch.Tensor, stride: tuple[float, float], image_size: tuple[int, int]) -> Proposals:
        logits, offsets = (at_least_float32(each) for each in self.head(x))
        anchors = generate_anchors(x.shape[2:], stride, self.sizes, self.ratios).to(logits)
        selected = []
        for logit, offset in zip(logits.detach(), offsets.detach(), strict=True):
            boxes = decode_boxes(offset, anchors, OFFSET_WEIGHTS)
            selected.append(self.select(logit, boxes, image_size))
        candidates, boxes, scores = (list(each) for each in zip(*selected, strict=True))
        return Proposals(anchors, logits, offsets, candidates, boxes, scores)

    def select(
        self, logits: torch.Tensor, boxes: torch.Tensor, image_size: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N,), (N, 4) of one image -> (K, 4) candidates; (L, 4), (L,) proposals and their probabilities."""
        require_tensor(boxes, "boxes", "N 4", empty="N")
        require_tensor(logits, "logits", "N", empty="N", N=len(boxes))
        require_same_kind(logits, "logits", boxes, "boxes")
        best = logits.topk(min(self.pre_nms_top_n, len(logits))).indices
        candidates = at_least_float32(clip_boxes(boxes[best], image_size))
        scores = at_least_float32(logits[best]).sigmoid()
        large = torchvision.ops.remove_small_boxes(candidates, 1e-3)
        kept = large[torchvision.ops.nms(candidates[large], scores[large], 0.7)[: self.post_nms_top_n]]
        return candidates, candidates[kept], scores[kept]

    def losses(self, proposals: Proposals, targets: list[dict]) -> dict[str, torch.Tensor]:
        """Proposals, B × {boxes (k, 4), labels (k,)} -> dict of two scalars.

        Cross-entropy, object or not, over sampled anchors, and smooth L1 of the offsets of positive ones.
        """
        require_type(proposals, "proposals", Proposals, "the Proposals of forward")
        require_targets(targets, "targets", count=len(proposals.logits))
        logits, is_object, offsets, true_offsets = [], [], [], []
        for i, target in enumerate(targets):
            owner = self.match(proposals.anchors, target["boxes"])
            positive, background = sample_anchors(owner, self.batch_size_per_image, 0.5)
            logits += [proposals.logits[i, positive], proposals.logits[i, background]]
            is_object += [torch.ones_like(logits[-2]), torch.zeros_like(logits[-1])]
            offsets.append(proposals.offsets[i, positive])
            true_boxes = target["boxes"][owner[positive]]
            true_offsets.append(encode_boxes(true_boxes, proposals.anchors[positive], OFFSET_WEIGHTS))
        is_object = torch.cat(is_object)
        return {
            "objectness": F.binary_cross_entropy_with_logits(torch.cat(logits), is_object),
            "anchor offsets": offset_loss(torch.cat(offsets), torch.cat(true_offsets)) / len(is_object),
        }

    @staticmethod
    def match(anchors: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """(N, 4), (k, 4) -> (N,): `match_anchors` with the paper's 0.7 and 0.3."""
        return match_anchors(box_iou(boxes, anchors), 0.7, 0.3, allow_low_quality_matches=True)
