"""A data set that fits into memory, as tensors: images of one size with their labels, masks or boxes."""

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Subset

from vlmbook.data.images import MAX_SIDE, resize_boxes, resize_image
from vlmbook.validation import describe, require_choice, require_pair, require_tensor, require_whole


def stack_images(data: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Dataset of (image, label) or (image, mask) -> (N, C, H, W), and (N,) int64 or (N, …) of the mask.

    Raises TypeError or ValueError, which names the file, where an image or its target is not of the first
    one's shape: the readers' `size` and `channels` give all images one shape.
    """
    images, targets = [], []
    for i in range(_require_samples(data)):
        image, target = _read_sample(data, i)
        images.append(image)
        targets.append(_to_target(target, f"the target of {name_sample(data, i)}"))
        _require_same_shape(data, i, images)
        if targets[i].shape != targets[0].shape:
            first, shape = tuple(targets[0].shape), tuple(targets[i].shape)
            raise ValueError(
                f"the target of {name_sample(data, i)} wants the shape of the first, {first}, got {shape}"
            )
    return torch.stack(images), torch.stack(targets)


def stack_boxes(
    data: Dataset, size: int | tuple[int, int] | None = None, *, letterbox: bool = False
) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    """Dataset of (image, {boxes, labels, …}) -> (N, C, H, W), N × {boxes, labels, …}.

    Images are resampled to `size`, (height, width) or one int for both, as `read_image` does it, stretched or
    with letterbox=True fitted in with grey borders, and boxes follow them; without a size they have to have
    one shape. What else a target holds, `difficult` say, is kept. Raises TypeError or ValueError, which names
    the file, for images that differ and for targets without boxes and labels.
    """
    size = None if size is None else require_pair(size, "size", most=MAX_SIDE)
    letterbox = require_choice(letterbox, "letterbox", (False, True))
    images, targets = [], []
    for i in range(_require_samples(data)):
        image, target = _read_sample(data, i)
        target = _require_boxes(target, f"the target of {name_sample(data, i)}")
        if size is not None:
            boxes = resize_boxes(target["boxes"], image.shape[1:], size, letterbox=letterbox)
            target = {**target, "boxes": boxes}
            image = resize_image(image, size, letterbox=letterbox)
        images.append(image)
        targets.append(target)
        _require_same_shape(data, i, images)
    return torch.stack(images), targets


def name_sample(data: Dataset, index: int) -> str:
    """Dataset, int -> str: the file of that sample, also through torch's Subset; "sample 3" where there is
    none.

    Raises TypeError for what is no index.
    """
    number = index = require_whole(index, "index", least=0)
    while isinstance(data, Subset):
        index = data.indices[index]
        data = data.dataset
    paths = getattr(data, "paths", None) if isinstance(data, Dataset) else None
    return str(paths[index]) if isinstance(paths, list) and index < len(paths) else f"sample {number}"


def _require_samples(data):
    """-> int: how many there are."""
    refused = isinstance(data, (torch.Tensor, np.ndarray, str, bytes, dict))
    if refused or not (hasattr(type(data), "__getitem__") and hasattr(type(data), "__len__")):
        raise TypeError(f"data wants a Dataset with a length, got {describe(data)}")
    if len(data) == 0:
        raise ValueError("data wants at least one sample, got 0 samples")
    return len(data)


def _read_sample(data, i):
    """-> (C, H, W) image, target."""
    sample = data[i]
    if not isinstance(sample, (tuple, list)) or len(sample) != 2:
        raise TypeError(f"{name_sample(data, i)} wants an image and its target, got {describe(sample)}")
    image, target = sample
    return require_tensor(image, f"the image of {name_sample(data, i)}", "C H W"), target


def _to_target(target: Any, name: str) -> torch.Tensor:
    """A label or a mask -> tensor."""
    if isinstance(target, torch.Tensor):
        return require_tensor(target, name, "…", kind="any")
    if isinstance(target, (dict, list, tuple)):
        raise TypeError(f"{name} wants a label or a mask, got {describe(target)}; stack_boxes takes boxes")
    return torch.tensor(require_whole(target, name, least=-(2**62), most=2**62))


def _require_boxes(target, name):
    """-> the target, whose empty boxes have the shape (0, 4)."""
    if not isinstance(target, dict) or "boxes" not in target or "labels" not in target:
        raise TypeError(f"{name} wants a dict of boxes, labels, got {describe(target)}")
    boxes = target["boxes"]
    if isinstance(boxes, torch.Tensor) and boxes.shape == (0,):
        boxes = boxes.reshape(0, 4)
    require_tensor(boxes, f"{name}['boxes']", "k 4", empty="k")
    require_tensor(target["labels"], f"{name}['labels']", "k", kind="any", empty="k", k=len(boxes))
    return {**target, "boxes": boxes}


def _require_same_shape(data, i, images):
    if images[i].shape != images[0].shape:
        hint = "channels=3 or 1" if len(images[i]) != len(images[0]) else "size=(height, width)"
        raise ValueError(
            f"{name_sample(data, i)} wants the shape of {name_sample(data, 0)}, {tuple(images[0].shape)}, "
            f"got {tuple(images[i].shape)}; the readers' {hint} gives all images one"
        )
