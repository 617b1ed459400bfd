"""Shapes and handwritten digits pasted on real photographs: objects to find, with boxes that are exact."""

import functools
import math

import numpy as np
import torch
from torch.nn import functional as F

from vlmbook.data.bundled import digits
from vlmbook.data.shapes import COLOURS, SHAPES, TRIES, all_seen, cover_of, seen_of, tight_box
from vlmbook.data.textures import check_request, texture_crop

SCENE_NAMES = (*SHAPES, "digit")
GROUNDS = {
    "train": ("astronaut", "brick", "cat", "coffee", "grass", "moon", "tissue"),
    "test": ("camera", "gravel", "hubble", "rocket"),
}


def scenes(split, n, *, size=64, seed=0, objects=(1, 3)):
    """-> (n, 3, size, size) float32 in [0, 1], n × {"boxes" (k, 4), "labels" (k,), "digits" (k,)}: images,
    objects.

    On a crop of a photograph lie between objects[0] and objects[1] things, each with the same chance one of
    `SCENE_NAMES`: a circle, square, triangle, star, cross, or a digit of scikit-learn's, painted in one of
    six colours, whole in the image and at least half to be seen. Boxes are the edges xyxy of what is seen.
    "digits" holds 0 … 9 for a digit, −1 for a shape. "train" and "test" share neither a photograph nor a
    digit.

    The i-th image depends on split, `seed`, `size`, `objects` and i alone. Raises ValueError for another
    split, n < 0, size < 32, seed < 0, or numbers of objects outside 1 ≤ least ≤ most ≤ 6.
    """
    check_request("scenes", n, size, seed)
    if split not in ("train", "test"):
        raise ValueError(f'scenes has the splits "train" and "test", got {split!r}')
    if size < 32:
        raise ValueError(f"scenes wants a size of at least 32 pixels, got {size}")
    least, most = objects
    if not 1 <= least <= most <= 6:
        raise ValueError(f"scenes wants 1 <= least <= most <= 6 objects an image, got {objects!r}")
    made = [
        _scene(np.random.default_rng([seed, i, split == "test"]), split, size, least, most) for i in range(n)
    ]
    return torch.stack([image for image, _ in made]) if made else torch.zeros(0, 3, size, size), [
        t for _, t in made
    ]


def _scene(rng, split, size, least, most):
    """-> (3, size, size), {"boxes", "labels", "digits"}."""
    image = texture_crop(rng, GROUNDS[split], size, channels=3).numpy()
    labels = rng.integers(len(SCENE_NAMES), size=rng.integers(least, most + 1)).tolist()
    covers, values = [], []
    for label in labels:
        cover, value = _placed(rng, label, split, size, covers)
        covers.append(cover)
        values.append(value)
        paint = np.array(list(COLOURS.values())[rng.integers(len(COLOURS))], dtype=np.float32)[:, None, None]
        image = image + cover * (paint - image)
    boxes = torch.stack([tight_box(mask) for mask in torch.from_numpy(seen_of(covers))])
    return torch.from_numpy(image.clip(0, 1)), {
        "boxes": boxes,
        "labels": torch.tensor(labels),
        "digits": torch.tensor(values),
    }


def _placed(rng, label, split, size, covers):
    """-> (size, size) cover, int: a thing where those below it are still seen; the digit it is, or −1."""
    for _ in range(TRIES):
        radius = size * rng.uniform(0.13, 0.22)
        x, y = rng.uniform(radius, size - radius, size=2)
        if SCENE_NAMES[label] == "digit":
            cover, value = _digit(rng, split, round(2 * radius), x, y, size)
        else:
            cover, value = cover_of(SCENE_NAMES[label], radius, rng.uniform(-0.35, 0.35), x, y, size), -1
        if all_seen([*covers, cover]):
            return cover, value
    raise ValueError(f"{len(covers) + 1} objects find no place in {size}×{size} pixels")


def _digit(rng, split, side, x, y, size):
    """-> (size, size) float32: how much ink covers each pixel; int: which digit it is."""
    images, values = _digits(split)
    number = int(rng.integers(len(values)))
    ink = F.interpolate(images[number, None], size=(side, side), mode="bilinear", align_corners=False)[
        0, 0
    ].numpy()
    left, top = (math.floor(min(max(middle - side / 2, 0), size - side)) for middle in (x, y))
    cover = np.zeros((size, size), dtype=np.float32)
    cover[top : top + side, left : left + side] = (1.6 * ink).clip(0, 1)  # pale strokes are painted as well
    return cover, int(values[number])


@functools.cache
def _digits(split):
    return digits(split)
