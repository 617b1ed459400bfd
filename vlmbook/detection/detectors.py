"""What both detectors share: a small backbone, the map it makes, losses, the choice of detections.

Labels of objects count from 0, as in every data set. A backbone is any module that makes one map (B, D, h, w)
of images and has D as `out_channels`. With `stride`, the pixels a cell, one number or two (down, across),
images are padded to whole cells.
"""

import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from vlmbook.data.boxes import NO_OBJECT, unpad_targets
from vlmbook.detection.boxes import at_least_float32, clip_boxes
from vlmbook.validation import (
    describe,
    require_number,
    require_pair,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

LARGEST_WIDTH = 2**16  # channels or features of a layer: more is a mistake


# --- the backbone -------------------------------------------------------------------------------------------


class SmallBackbone(nn.Sequential):
    """(B, C, H, W) -> (B, D, H/8, W/8): three halvings, each a 3×3 convolution with stride, then one without.

    `widths` are the channels after each halving, D the last; the first halving has no second convolution,
    which would be slow at that size. Sides that 8 does not divide are rounded up. Raises TypeError or
    ValueError for widths that are not three whole numbers, and for images of other channels or kind.
    """

    stride = 8

    def __init__(self, widths: tuple[int, int, int] = (24, 48, 48), in_channels: int = 3):
        super().__init__()
        if not isinstance(widths, (list, tuple)) or len(widths) != 3:
            raise ValueError(f"widths wants three whole numbers, got {describe(widths)}")
        first, second, third = (
            require_whole(width, f"widths[{i}]", most=LARGEST_WIDTH) for i, width in enumerate(widths)
        )
        self.in_channels = require_whole(in_channels, "in_channels", most=LARGEST_WIDTH)
        self.out_channels = third
        self.append(_convolution(in_channels, first, stride=2))
        self.append(_convolution(first, second, stride=2))
        self.append(_convolution(second, second, stride=1))
        self.append(_convolution(second, third, stride=2))
        self.append(_convolution(third, third, stride=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        require_tensor(x, "x", "B C H W", C=self.in_channels)
        require_same_kind(x, "x", self[0][0].weight)
        cells = len(x) * -(-x.shape[2] // self.stride) * -(-x.shape[3] // self.stride)
        if self.training and cells == 1:
            raise ValueError("x wants more than one cell of 8×8 pixels in training, for BatchNorm, got one")
        return super().forward(x)


def _convolution(channels, out, stride):
    convolution = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU())


def require_backbone(backbone: nn.Module) -> int:
    """Any -> its `out_channels`. Raises TypeError or ValueError for what is no backbone."""
    require_type(backbone, "backbone", nn.Module, "a torch module with out_channels")
    channels = getattr(backbone, "out_channels", None)
    require_pair(getattr(backbone, "stride", 1), "backbone.stride", most=LARGEST_WIDTH)
    return require_whole(channels, "backbone.out_channels", most=LARGEST_WIDTH)


def extract_features(backbone: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, tuple[float, float]]:
    """(B, C, H, W) -> (B, D, h, w), (sy, sx): the backbone's map, and the pixels a cell, down and across.

    Images are padded with zeros at the bottom and at the right until `backbone.stride` divides both sides, as
    torchvision pads; so a cell is exactly that many pixels high and wide whatever the size of an image. For a
    backbone without `stride` images stay as they are and the stride is size of image / size of map. Raises
    TypeError or ValueError for images of other channels or another kind than the backbone.
    """
    channels = require_backbone(backbone)
    require_tensor(images, "images", "B C H W")
    parameter = next(backbone.parameters(), None)
    if parameter is not None:
        require_same_kind(images, "images", parameter, "the backbone")
    in_channels = _in_channels(backbone)
    if in_channels is not None and images.shape[1] != in_channels:
        raise ValueError(f"images wants {in_channels} channels, as the backbone, got {images.shape[1]}")
    down, across = require_pair(getattr(backbone, "stride", 1), "backbone.stride")
    height, width = images.shape[2:]
    padded = F.pad(images, (0, -width % across, 0, -height % down))
    x = backbone(padded)
    require_tensor(x, "the backbone's map", "B D h w", B=len(images), D=channels)
    return x, (padded.shape[2] / x.shape[2], padded.shape[3] / x.shape[3])


def _in_channels(backbone):
    """-> int, those of its first convolution where it does not tell, or None."""
    convolutions = [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)]
    first = convolutions[0].in_channels if convolutions else None
    return getattr(backbone, "in_channels", first)


# --- training and detecting ---------------------------------------------------------------------------------


def require_ground_truth(
    images: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor, num_classes: int
) -> list[dict[str, torch.Tensor]]:
    """(B, C, H, W), (B, K, 4), (B, K) -> B × {boxes (k, 4), labels (k,)}: the true objects, −1 left out.

    Boxes come back in the dtype of the images, or float32 for a lower one. Raises TypeError or ValueError for
    what is no batch of images with its boxes and labels, for a label that is none, a box without area, and
    one whose centre lies outside its image.
    """
    require_tensor(images, "images", "B C H W")
    num_classes = require_whole(num_classes, "num_classes", most=LARGEST_WIDTH)
    require_tensor(boxes, "boxes", "B K 4", empty="K", B=len(images), device=images.device)
    bounds = {"kind": "int64", "least": NO_OBJECT, "most": num_classes - 1, "device": images.device}
    require_tensor(labels, "labels", "B K", empty="K", B=len(images), K=boxes.shape[1], **bounds)
    targets = unpad_targets(boxes.to(torch.promote_types(images.dtype, torch.float32)), labels)
    true = torch.cat([each["boxes"] for each in targets])
    if not (true[:, 2:] > true[:, :2]).all():
        raise ValueError("boxes wants x2 > x1 and y2 > y1, got one without area")
    center = (true[:, :2] + true[:, 2:]) / 2
    height, width = images.shape[2:]
    if not ((center >= 0) & (center <= center.new_tensor([width, height]))).all():
        raise ValueError(
            f"boxes wants centres within the {width}×{height} pixels of an image, got one outside"
        )
    return targets


def detection_loss(
    model: nn.Module, images: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Detector, (B, C, H, W), (B, K, 4), (B, K) -> scalar: the sum of its losses, the `loss_fn` of `fit`.

    Boxes and labels are those of `vlmbook.data.pad_targets`. Raises TypeError or ValueError as the detector.
    """
    losses = require_type(model, "model", nn.Module, "a detector, such as FasterRCNN")(images, boxes, labels)
    if not isinstance(losses, dict):
        raise TypeError(f"model wants to give a dict of losses, as FasterRCNN, got {describe(losses)}")
    return sum(losses.values())


def offset_loss(offsets: torch.Tensor, true_offsets: torch.Tensor) -> torch.Tensor:
    """(N, 4), (N, 4) -> scalar: the sum of smooth L1, quadratic up to 1/9 as in torchvision's Faster R-CNN.

    Raises TypeError or ValueError for other shapes and for two kinds. [Girshick 2015, eq. 3]
    """
    require_tensor(offsets, "offsets", "N 4", empty="N")
    require_tensor(true_offsets, "true_offsets", "N 4", empty="N", N=len(offsets))
    require_same_kind(true_offsets, "true_offsets", offsets, "offsets")
    return F.smooth_l1_loss(offsets, true_offsets, beta=1 / 9, reduction="sum")


def select_detections(
    p: torch.Tensor,
    boxes: torch.Tensor,
    image_size: tuple[int, int],
    *,
    score_threshold: float = 0.05,
    iou_threshold: float = 0.5,
    max_detections: int = 100,
) -> dict[str, torch.Tensor]:
    """(L, num_classes), (L, 4·num_classes) or (L, 4) -> {boxes (k, 4), scores (k,), labels (k,)}, best first.

    Probabilities and boxes of L candidates of one image become its detections. Each class by itself: boxes
    are clipped to the image, those above `score_threshold` go on, non-maximum suppression follows; then the
    best of all classes are kept. Boxes and scores have at least float32, labels count from 0. Raises
    TypeError or ValueError for other arguments.
    """
    require_tensor(p, "p", "L K", empty="L")
    num_classes = p.shape[1]
    require_tensor(boxes, "boxes", "L D", empty="L", L=len(p), device=p.device)
    if boxes.shape[1] not in (4, 4 * num_classes):
        raise ValueError(f"boxes wants (L, 4) or (L, {4 * num_classes}), got {tuple(boxes.shape)}")
    image_size = require_pair(image_size, "image_size")
    score_threshold = require_number(score_threshold, "score_threshold", least=0, most=1)
    iou_threshold = require_number(iou_threshold, "iou_threshold", least=0, most=1)
    max_detections = require_whole(max_detections, "max_detections")

    boxes = at_least_float32(boxes).unflatten(1, (-1, 4)).expand(-1, num_classes, -1)
    boxes = clip_boxes(boxes.flatten(0, 1), image_size)
    scores = p.flatten().to(boxes.dtype)
    labels = torch.arange(num_classes, device=p.device).repeat(len(p))
    likely = (scores > score_threshold).nonzero()[:, 0]
    likely = likely[torchvision.ops.remove_small_boxes(boxes[likely], 1e-2)]
    kept = torchvision.ops.batched_nms(boxes[likely], scores[likely], labels[likely], iou_threshold)
    best = likely[kept[:max_detections]]
    return {"boxes": boxes[best], "scores": scores[best], "labels": labels[best]}
