"""A data set that fits into memory, as tensors: images of one size with their labels, masks or boxes."""

import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from vlmbook.data.images import describe_size
from vlmbook.validation import require_pair


def stack_images(data: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Dataset of (image, label) or (image, mask) -> (N, C, H, W), and (N,) int64 or (N, 1, H, W).

    Raises ValueError, which names the file, where an image is not of the first one's shape.
    """
    images, targets = [], []
    for i in range(len(data)):
        image, target = data[i]
        images.append(image)
        targets.append(torch.as_tensor(target))
        if image.shape != images[0].shape:
            raise ValueError(
                f"{data.paths[i]} is {describe_size(image)} with {len(image)} channels, "
                f"{data.paths[0]} {describe_size(images[0])} with {len(images[0])}; they cannot be stacked"
            )
    return torch.stack(images), torch.stack(targets)


def stack_boxes(data: Dataset, size: int | tuple[int, int]) -> tuple[torch.Tensor, list[dict]]:
    """Dataset of (image, {boxes, labels}), (height, width) -> (N, C, height, width), N × {boxes, labels}.

    Images are resampled to that size, bilinearly, and boxes are stretched with them.
    """
    height, width = require_pair(size, "size")
    images, targets = [], []
    for i in range(len(data)):
        image, target = data[i]
        down = height / image.shape[1]
        across = width / image.shape[2]
        resized = F.interpolate(image[None], size=(height, width), mode="bilinear", antialias=True)
        images.append(resized[0].clamp(0, 1))
        boxes = target["boxes"] * torch.tensor([across, down, across, down])
        targets.append({"boxes": boxes, "labels": target["labels"]})
    return torch.stack(images), targets
