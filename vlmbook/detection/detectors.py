"""What both detectors share: a small backbone, the choice of detections, the loss for `fit`."""

import torch
import torchvision
from torch import nn

from vlmbook.data.boxes import unpad_targets
from vlmbook.detection.boxes import clip_boxes
from vlmbook.validation import (
    describe,
    require_number,
    require_pair,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)


class SmallBackbone(nn.Sequential):
    """(B, 3, H, W) -> (B, D, H/8, W/8): three halvings, each a 3×3 convolution with stride, then one without.

    `widths` are the channels after each halving, D the last; the first halving has no second convolution,
    which would be slow at that size. Raises TypeError or ValueError for others than three whole numbers.
    """

    def __init__(self, widths: tuple[int, int, int] = (24, 48, 48)):
        super().__init__()
        if not isinstance(widths, (list, tuple)) or len(widths) != 3:
            raise ValueError(f"widths wants three whole numbers, got {describe(widths)}")
        first, second, third = (require_whole(width, f"widths[{i}]") for i, width in enumerate(widths))
        self.append(_convolution(3, first, stride=2))
        self.append(_convolution(first, second, stride=2))
        self.append(_convolution(second, second, stride=1))
        self.append(_convolution(second, third, stride=2))
        self.append(_convolution(third, third, stride=1))
        self.out_channels = third


def _convolution(channels, out, stride):
    convolution = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU())


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
    best of all classes are kept. Column 0 of `p` is the background. Raises TypeError or ValueError for other
    arguments.
    """
    require_tensor(p, "p", "L K", empty="L")
    num_classes = p.shape[1]
    require_tensor(boxes, "boxes", "L D", empty="L", L=len(p))
    if boxes.shape[1] not in (4, 4 * num_classes):
        raise ValueError(f"boxes wants (L, 4) or (L, {4 * num_classes}), got {tuple(boxes.shape)}")
    image_size = require_pair(image_size, "image_size")
    score_threshold = require_number(score_threshold, "score_threshold", least=0, most=1)
    iou_threshold = require_number(iou_threshold, "iou_threshold", least=0, most=1)
    max_detections = require_whole(max_detections, "max_detections")

    boxes = boxes.unflatten(1, (-1, 4)).expand(-1, num_classes, -1)
    boxes = clip_boxes(boxes[:, 1:].flatten(0, 1), image_size)
    scores = p[:, 1:].flatten()
    labels = torch.arange(1, num_classes, device=p.device).repeat(len(p))
    likely = (scores > score_threshold).nonzero()[:, 0]
    likely = likely[torchvision.ops.remove_small_boxes(boxes[likely], 1e-2)]
    kept = torchvision.ops.batched_nms(boxes[likely], scores[likely], labels[likely], iou_threshold)
    best = likely[kept[:max_detections]]
    return {"boxes": boxes[best], "scores": scores[best], "labels": labels[best]}


def detection_loss(
    model: nn.Module, images: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Detector, (B, C, H, W), (B, K, 4), (B, K) -> scalar: the sum of its losses, the `loss_fn` of `fit`.

    Boxes and labels are those of `vlmbook.data.pad_targets`. Raises TypeError or ValueError as the detector.
    """
    require_type(model, "model", nn.Module, "a detector, such as FasterRCNN")
    return sum(model(images, boxes, labels).values())


def require_targets(
    images: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor, num_classes: int
) -> list[dict[str, torch.Tensor]]:
    """(B, C, H, W), (B, K, 4), (B, K) -> B × {boxes (k, 4), labels (k,)}: the true objects of each image.

    Raises TypeError or ValueError for what is no batch of images with its boxes and labels, for a label that
    is none, a box without area, and one whose centre lies outside its image.
    """
    require_tensor(images, "images", "B C H W")
    require_tensor(boxes, "boxes", "B K 4", empty="K", B=len(images))
    require_same_kind(boxes, "boxes", images, "the images")
    most = num_classes - 1
    require_tensor(
        labels, "labels", "B K", kind="int64", empty="K", least=0, most=most, B=len(images), K=boxes.shape[1]
    )
    targets = unpad_targets(boxes, labels)
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
