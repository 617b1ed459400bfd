"""Shapes and handwritten digits pasted on real photographs: objects to find, with boxes that are exact."""

import functools
import math

import numpy as np
import torch
from torch.nn import functional as F

from vlmbook.data.backgrounds import crop_photo
from vlmbook.data.bundled import digits
from vlmbook.data.shapes import (
    COLOURS,
    MOST_IMAGES,
    MOST_PIXELS,
    SHAPES,
    TRIES,
    all_visible,
    draw_shape,
    mask_to_box,
    require_range,
    visible_masks,
)
from vlmbook.data.splits import SPLITS
from vlmbook.validation import require_choice, require_whole

SCENE_NAMES = (*SHAPES, "digit")
GROUNDS = {
    "train": ("astronaut", "brick", "cat", "coffee", "grass", "moon", "tissue"),
    "test": ("camera", "gravel", "hubble", "rocket"),
}


def scenes(
    split: str, n: int, *, size: int = 64, seed: int = 0, objects: tuple[int, int] = (1, 3)
) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    """-> (n, 3, size, size) float32 in [0, 1], n × {"boxes" (k, 4), "labels" (k,), "digits" (k,)}: images and
    the objects in them.

    On a crop of a photograph lie between objects[0] and objects[1] objects, each with the same chance one of
    `SCENE_NAMES`: a circle, square, triangle, star, cross, or a digit of scikit-learn's, painted in one of
    six colours, whole in the image and at least half of it visible. Boxes are the edges xyxy of what is
    visible, labels count from 0. "digits" holds 0 … 9 for a digit, −1 for a shape. "train" and "test" share
    neither a photograph nor a digit.

    The i-th image depends on split, `seed`, `size`, `objects` and i alone. Raises TypeError or ValueError for
    another split, n < 0, size < 32, seed < 0, or numbers of objects outside 1 ≤ least ≤ most ≤ 6.
    """
    split = require_choice(split, "split", SPLITS)
    n = require_whole(n, "n", least=0, most=MOST_IMAGES)
    size = require_whole(size, "size", least=32, most=MOST_PIXELS)
    seed = require_whole(seed, "seed", least=0)
    least, most = require_range(objects, "objects", least=1, most=6)
    images = torch.zeros(n, 3, size, size)
    targets = []
    for i in range(n):
        rng = np.random.default_rng([seed, i, int(split == "test")])
        images[i], target = _draw(rng, split, size, least, most)
        targets.append(target)
    return images, targets


def _draw(rng, split, size, least, most):
    """-> (3, size, size), {"boxes", "labels", "digits"}."""
    image = crop_photo(rng, GROUNDS[split], size, channels=3).numpy()
    labels = rng.integers(len(SCENE_NAMES), size=rng.integers(least, most + 1)).tolist()
    covers, values = [], []
    for label in labels:
        cover, value = _arrange(rng, label, split, size, covers)
        covers.append(cover)
        values.append(value)
        paint = np.array(list(COLOURS.values())[rng.integers(len(COLOURS))], dtype=np.float32)[:, None, None]
        image = image + cover * (paint - image)
    boxes = torch.stack([mask_to_box(mask) for mask in torch.from_numpy(visible_masks(covers))])
    return torch.from_numpy(image.clip(0, 1)), {
        "boxes": boxes,
        "labels": torch.tensor(labels),
        "digits": torch.tensor(values),
    }


def _arrange(rng, label, split, size, covers):
    """-> (size, size) cover of an object where enough stays visible of those before; the digit it is, or
    −1.
    """
    for _ in range(TRIES):
        radius = size * rng.uniform(0.13, 0.22)
        x, y = rng.uniform(radius, size - radius, size=2)
        if SCENE_NAMES[label] == "digit":
            cover, value = _draw_digit(rng, split, round(2 * radius), x, y, size)
        else:
            cover = draw_shape(SCENE_NAMES[label], radius, rng.uniform(-0.35, 0.35), x, y, size)
            value = -1
        if all_visible([*covers, cover]):
            return cover, value
    raise ValueError(
        f"objects wants to fit into {size}×{size} pixels, got {len(covers) + 1} without room for all"
    )


def _draw_digit(rng, split, side, x, y, size):
    """-> (size, size) float32: how much ink covers each pixel; int: which digit it is."""
    images, values = _digits(split)
    number = int(rng.integers(len(values)))
    resized = F.interpolate(images[number, None], size=(side, side), mode="bilinear", align_corners=False)
    ink = resized[0, 0].numpy()
    left = math.floor(min(max(x - side / 2, 0), size - side))
    top = math.floor(min(max(y - side / 2, 0), size - side))
    cover = np.zeros((size, size), dtype=np.float32)
    cover[top : top + side, left : left + side] = (1.6 * ink).clip(0, 1)  # pale strokes are painted as well
    return cover, int(values[number])


@functools.cache
def _digits(split):
    return digits(split)
