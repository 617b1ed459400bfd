"""A baseline that does not look at the image: what a detector has to beat before it has learned anything."""

import torch
from torch import nn

from vlmbook.data.boxes import require_targets
from vlmbook.detection.boxes import box_iou
from vlmbook.validation import require_pair, require_tensor, require_whole


class ConstantBox(nn.Module):
    """(B, C, H, W) -> B × {boxes, scores, labels}: for every image the same boxes, one a class.

    `targets` are those of training images of `image_size` (height, width). The box of a class is the training
    box that finds the most training images with an object of that class at an IoU of 0.5; its score is their
    share. On images of another size the boxes are stretched. Where objects are large and central, as in many
    small sets, it finds more than half of them. Raises TypeError or ValueError for other arguments.
    """

    def __init__(self, targets: list[dict], num_classes: int, image_size: tuple[int, int]):
        super().__init__()
        require_targets(targets, "targets")
        num_classes = require_whole(num_classes, "num_classes", most=2**16)
        height, width = require_pair(image_size, "image_size")
        found = [_best_box(targets, label) for label in range(num_classes)]
        boxes = torch.cat([box for box, _ in found])
        self.register_buffer("boxes", boxes / boxes.new_tensor([width, height, width, height]))
        self.register_buffer("scores", torch.cat([score for _, score in found]))
        counts = [len(box) for box, _ in found]  # 0 for a class that has no object
        self.register_buffer("labels", torch.arange(num_classes).repeat_interleave(torch.tensor(counts)))

    def forward(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        require_tensor(images, "images", "B C H W")
        height, width = images.shape[2:]
        boxes = self.boxes * self.boxes.new_tensor([width, height, width, height])
        return [{"boxes": boxes, "scores": self.scores, "labels": self.labels} for _ in images]


def _best_box(targets, label):
    """Targets, class -> (1, 4), (1,): the box that finds an object in the most images, and their share.

    (0, 4), (0,) where there is no object of the class.
    """
    boxes = [each["boxes"][each["labels"] == label].float() for each in targets]
    candidates = torch.cat([torch.zeros(0, 4), *boxes])
    if len(candidates) == 0:
        return candidates, torch.zeros(0)
    finds = torch.stack([(box_iou(candidates, each) >= 0.5).any(1) for each in boxes])  # (images, candidates)
    share = finds.float().mean(0)
    best = share.argmax()
    return candidates[best][None], share[best][None]
