"""Faster R-CNN: two stages [Ren et al. 2015, arXiv:1506.01497].

A backbone makes one feature map; the region proposal network scores and shifts every anchor and keeps the
best; the heads cut these regions out of the same map, name a class and shift the box once more. Parameters
carry torchvision's names. Suppression and RoI align are torchvision.ops's, which are compiled;
`vlmbook.detection.nms` and `roi_align` give the same and are written to be read.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
import torchvision
from torch import nn

from vlmbook.detection.anchors import decode_boxes
from vlmbook.detection.detectors import (
    LARGEST_WIDTH,
    extract_features,
    require_backbone,
    require_ground_truth,
    select_detections,
)
from vlmbook.detection.roi_heads import OFFSET_WEIGHTS, POOLED, RoIHeads
from vlmbook.detection.rpn import RegionProposalNetwork
from vlmbook.validation import require_pair, require_type, require_whole


class FasterRCNN(nn.Module):
    """(B, C, H, W) -> B × {boxes, scores, labels}; with true boxes (B, K, 4) and labels (B, K) -> dict of
    four losses.

    Labels count from 0 to num_classes − 1, in the ground truth and in the detections; a row of the ground
    truth with the label −1 is no object (`vlmbook.data.pad_targets`). `backbone` is such as `SmallBackbone`.
    `sizes` and `ratios` are the anchors'. Images are not normalised here, nor resized; of any size, they are
    padded to whole cells of the map (`extract_features`). Raises TypeError or ValueError for arguments it
    cannot use. [Ren et al. 2015, fig. 2]
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
        channels = require_backbone(backbone)
        self.num_classes = require_whole(num_classes, "num_classes", most=LARGEST_WIDTH)
        self.backbone = backbone
        self.rpn = RegionProposalNetwork(
            channels,
            sizes,
            ratios,
            pre_nms_top_n=pre_nms_top_n,
            post_nms_top_n=post_nms_top_n,
            batch_size_per_image=require_whole(rpn_batch_size_per_image, "rpn_batch_size_per_image"),
        )
        regions = require_whole(box_batch_size_per_image, "box_batch_size_per_image")
        self.roi_heads = RoIHeads(channels, num_classes, width, regions)

    def forward(
        self, images: torch.Tensor, boxes: torch.Tensor | None = None, labels: torch.Tensor | None = None
    ) -> list[dict[str, torch.Tensor]] | dict[str, torch.Tensor]:
        if boxes is None and labels is None:
            return self.stages(images)["detections"]
        return self.losses(images, require_ground_truth(images, boxes, labels, self.num_classes))

    def losses(self, images: torch.Tensor, targets: list[dict]) -> dict[str, torch.Tensor]:
        """(B, C, H, W), B × {boxes, labels} -> dict of four scalars."""
        x, stride = extract_features(self.backbone, images)
        proposals = self.rpn(x, stride, images.shape[2:])
        of_proposals = self.rpn.losses(proposals, targets)
        regions, classes, true_offsets = self.roi_heads.sample(proposals.boxes, targets)
        _, logits, offsets = self.roi_heads(x, regions, stride)
        return of_proposals | self.roi_heads.losses(logits, offsets, classes, true_offsets)

    def stages(self, images: torch.Tensor) -> dict:
        """(B, C, H, W) -> dict of what each stage gives.

        "map" (B, D, h, w), "stride", "proposals", "pooled" (K, D, 7, 7) regions, their "logits" and "offsets"
        with the background first, "candidates" as from `predict_candidates`, and "detections".
        """
        x, stride = extract_features(self.backbone, images)
        image_size = images.shape[2:]
        proposals = self.rpn(x, stride, image_size)
        pooled, logits, offsets = self.roi_heads(x, proposals.boxes, stride)
        lengths = [len(each) for each in proposals.boxes]
        candidates = []
        for boxes, z, t in zip(proposals.boxes, logits.split(lengths), offsets.split(lengths), strict=True):
            p_object = z.softmax(-1)[:, 1:]
            candidates.append((p_object, decode_boxes(t[:, 4:], boxes, OFFSET_WEIGHTS)))
        return {
            "map": x,
            "stride": stride,
            "proposals": proposals,
            "pooled": pooled,
            "logits": logits,
            "offsets": offsets,
            "candidates": candidates,
            "detections": [select_detections(*each, image_size) for each in candidates],
        }

    def predict_candidates(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """(B, C, H, W) -> B × ((L, num_classes), (L, 4·num_classes)): input of `select_detections`."""
        return self.stages(images)["candidates"]


def as_torchvision(model: FasterRCNN, image_size: tuple[int, int]) -> nn.Module:
    """FasterRCNN, (height, width) -> torchvision's: the same settings and parameters, its own backbone.

    It takes a list of images (C, H, W) of that size, which it neither normalises nor resizes, and pads as
    ours. Its labels count from 1, since torchvision's 0 is the background. Raises TypeError or ValueError for
    other arguments.
    """
    from torchvision.models.detection import faster_rcnn
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    require_type(model, "model", FasterRCNN, "a FasterRCNN")
    image_size = require_pair(image_size, "image_size")
    rpn = model.rpn
    heads = model.roi_heads
    width = heads.box_head.fc7.out_features
    twin = faster_rcnn.FasterRCNN(
        deepcopy(model.backbone),
        min_size=min(image_size),
        max_size=max(image_size),
        size_divisible=max(require_pair(getattr(model.backbone, "stride", 1), "backbone.stride")),
        image_mean=[0],
        image_std=[1],
        rpn_anchor_generator=AnchorGenerator((tuple(rpn.sizes),), (tuple(rpn.ratios),)),
        rpn_pre_nms_top_n_train=rpn.pre_nms_top_n,
        rpn_pre_nms_top_n_test=rpn.pre_nms_top_n,
        rpn_post_nms_top_n_train=rpn.post_nms_top_n,
        rpn_post_nms_top_n_test=rpn.post_nms_top_n,
        rpn_batch_size_per_image=rpn.batch_size_per_image,
        box_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0"], POOLED, 2),
        box_head=faster_rcnn.TwoMLPHead(heads.box_head.fc6.in_features, width),
        box_predictor=faster_rcnn.FastRCNNPredictor(width, 1 + model.num_classes),
        box_batch_size_per_image=heads.batch_size_per_image,
    )
    twin.load_state_dict(model.state_dict())
    return twin.train(model.training)
