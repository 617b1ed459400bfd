"""Drawn shapes over real textures: class, colour, box, mask and sentence are known exactly."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from skimage.draw import disk, polygon

from vlmbook.data.textures import check_request, texture_crop

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS = {
    "red": (0.86, 0.12, 0.12),
    "orange": (1.0, 0.55, 0.0),
    "yellow": (1.0, 0.92, 0.1),
    "green": (0.1, 0.65, 0.2),
    "blue": (0.12, 0.3, 0.9),
    "purple": (0.55, 0.15, 0.7),
}
GROUNDS = ("brick", "grass", "gravel", "cat", "coffee", "tissue")
FINE = 4  # an edge pixel's cover is counted on FINE × FINE points
LEAST_SEEN = 0.5  # of an object, others may hide the rest
TRIES = 1000


@dataclass(frozen=True, eq=False)
class Shapes:
    """n images and what is in them; the k objects of an image stand in the order in which they were drawn."""

    images: torch.Tensor  # (n, 3, size, size) float32 in [0, 1]
    labels: list[torch.Tensor]  # n × (k,) int64, index in `shape_names`
    colours: list[torch.Tensor]  # n × (k,) int64, index in `colour_names`
    boxes: list[
        torch.Tensor
    ]  # n × (k, 4) float32, xyxy pixels: the edges of the mask, so x2 − x1 is its width
    masks: list[torch.Tensor]  # n × (k, size, size) bool: what is seen of each object; no two overlap
    captions: list[str]  # n sentences: "a red circle above a blue square"
    shape_names: tuple[str, ...] = SHAPES
    colour_names: tuple[str, ...] = tuple(COLOURS)

    def __len__(self):
        return len(self.images)

    def semantic(self):
        """-> (n, size, size) int64: 0 for the background, 1 + label for an object."""
        planes = [
            ((1 + labels)[:, None, None] * masks).sum(0)
            for labels, masks in zip(self.labels, self.masks, strict=True)
        ]
        return torch.stack(planes) if planes else torch.zeros(self.images[:, 0].shape, dtype=torch.int64)


def shapes(n, *, size=64, seed=0, objects=(1, 3)):
    """-> Shapes: n images of circles, squares, triangles, stars and crosses in six colours over real photo
    textures.

    Each image holds between objects[0] and objects[1] of them, no two of the same shape and colour, each
    whole within the image and at least half of it to be seen. Edges are anti-aliased; a pixel is in the mask
    of the topmost object that covers at least half of it. A caption with two objects tells how they lie, by
    the centres of their boxes, along the axis on which these are farther apart.

    The i-th image depends on `seed`, `size`, `objects` and i alone. Raises ValueError for n < 0, size < 16,
    seed < 0, or numbers of objects outside 1 ≤ least ≤ most ≤ 10.
    """
    check_request("shapes", n, size, seed)
    least, most = objects
    if not 1 <= least <= most <= 10:
        raise ValueError(f"shapes wants 1 <= least <= most <= 10 objects an image, got {objects!r}")
    drawings = [_draw(np.random.default_rng([seed, i]), size, least, most) for i in range(n)]
    images, labels, colours, masks = zip(*drawings, strict=True) if drawings else ([], [], [], [])
    boxes = [torch.stack([tight_box(mask) for mask in each]) for each in masks]
    captions = [_caption(*told) for told in zip(labels, colours, boxes, strict=True)]
    images = torch.stack(images) if drawings else torch.zeros(0, 3, size, size)
    return Shapes(images, list(labels), list(colours), boxes, list(masks), captions)


def tight_box(mask):
    """(H, W) bool -> (4,) float32: the smallest box xyxy in pixels that holds the mask, all zero for an empty
    one.
    """
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    if len(rows) == 0:
        return torch.zeros(4)
    return torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()


def _draw(rng, size, least, most):
    """-> (3, size, size) image, (k,) labels, (k,) colours, (k, size, size) masks."""
    image = texture_crop(rng, GROUNDS, size, channels=3).numpy()
    count = rng.integers(least, most + 1)
    kinds = list(itertools.product(range(len(SHAPES)), range(len(COLOURS))))
    chosen = [kinds[i] for i in rng.choice(len(kinds), size=count, replace=False)]
    covers = _place(rng, [SHAPES[shape] for shape, _ in chosen], size)
    for cover, (_, colour) in zip(covers, chosen, strict=True):
        paint = np.array(list(COLOURS.values())[colour], dtype=np.float32)[:, None, None]
        image = image + cover * (paint - image)
    labels, colours = torch.tensor(chosen).T.contiguous()
    return torch.from_numpy(image.clip(0, 1)), labels, colours, torch.from_numpy(seen_of(covers))


def _place(rng, names, size):
    """-> (k, size, size) float32: the cover of each shape, where each is seen well enough under those above
    it.
    """
    largest = 0.22 * size * min(1, math.sqrt(4 / len(names)))  # many objects are smaller ones
    covers = []
    for name in names:
        for _ in range(TRIES):
            radius = largest * rng.uniform(0.6, 1)
            x, y = rng.uniform(radius, size - radius, size=2)
            cover = cover_of(name, radius, rng.uniform(-0.35, 0.35), x, y, size)
            if all_seen([*covers, cover]):
                covers.append(cover)
                break
        else:
            raise ValueError(f"{len(names)} objects find no place in {size}×{size} pixels")
    return np.stack(covers)


def cover_of(name, radius, angle, x, y, size):
    """-> (size, size) float32: the part of each pixel that the shape covers, counted on FINE × FINE
    points.
    """
    fine, offset = (size * FINE, size * FINE), -0.5  # point j of a row lies at (j + 1/2) / FINE
    if name == "circle":
        row, column = disk((y * FINE + offset, x * FINE + offset), radius * FINE, shape=fine)
    else:
        columns, rows = ((_outline(name, angle) * radius + [x, y]) * FINE + offset).T
        row, column = polygon(rows, columns, fine)
    counts = np.bincount(row // FINE * size + column // FINE, minlength=size * size)
    return (counts / FINE**2).astype(np.float32).reshape(size, size)


def _outline(name, angle):
    """-> (vertices, 2): a polygon's corners (x, y), y downwards, in the unit circle, turned by `angle`
    radians.
    """
    if name == "cross":
        arm = 0.33
        corner = [(arm, -0.94), (arm, -arm), (0.94, -arm)]  # of one quarter; the others by turning
        points = np.array([_turn(corner, quarter * math.pi / 2) for quarter in range(4)]).reshape(-1, 2)
        return _turn(points, angle)
    vertices = {"square": 4, "triangle": 3, "star": 10}[name]
    start = -math.pi / 2 + (math.pi / 4 if name == "square" else 0)  # a corner on top, the square's beside it
    directions = start + 2 * math.pi * np.arange(vertices) / vertices
    reach = np.where(np.arange(vertices) % 2, 0.45, 1) if name == "star" else 1
    return _turn(np.stack([np.cos(directions), np.sin(directions)], 1) * np.reshape(reach, (-1, 1)), angle)


def _turn(points, angle):
    c, s = math.cos(angle), math.sin(angle)
    return np.asarray(points) @ np.array([[c, s], [-s, c]])


def seen_of(covers):
    """(k, H, W) -> (k, H, W) bool: each pixel belongs to the topmost object that covers at least half of
    it.
    """
    full = np.stack(covers) >= 0.5
    hidden = np.cumsum(full[::-1], axis=0)[::-1] - full > 0  # by an object drawn later
    return full & ~hidden


def all_seen(covers):
    full = (np.stack(covers) >= 0.5).sum((1, 2))
    return bool((seen_of(covers).sum((1, 2)) >= LEAST_SEEN * full).all() and full.all())


def _caption(labels, colours, boxes):
    names = [
        f"{list(COLOURS)[colour]} {SHAPES[shape]}"
        for shape, colour in zip(labels.tolist(), colours.tolist(), strict=True)
    ]
    names = [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names]
    if len(names) == 2:
        return f"{names[0]} {_relation(*boxes)} {names[1]}"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _relation(first, second):
    across, down = ((first[:2] + first[2:] - second[:2] - second[2:]) / 2).tolist()
    if abs(down) >= abs(across):
        return "above" if down < 0 else "below"
    return "left of" if across < 0 else "right of"
