"""Drawn shapes over real textures: class, colour, box, mask and sentence are known exactly."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from skimage.draw import disk, polygon

from vlmbook.data.backgrounds import crop_photo
from vlmbook.validation import require_choice, require_number, require_tensor, require_type, require_whole

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
LEAST_VISIBLE = 0.5  # of an object; others may hide the rest
TRIES = 1000
MOST_IMAGES = 1_000_000
MOST_PIXELS = 4096  # a side


@dataclass(frozen=True, eq=False)
class Shapes:
    """n images and what is in them; the k objects of an image stand in the order in which they were drawn."""

    images: torch.Tensor  # (n, 3, size, size) float32 in [0, 1]
    labels: list[torch.Tensor]  # n × (k,) int64, index in `shape_names`
    colours: list[torch.Tensor]  # n × (k,) int64, index in `colour_names`
    boxes: list[torch.Tensor]  # n × (k, 4) float32, xyxy pixels, the edges of the mask: x2 − x1 is its width
    masks: list[torch.Tensor]  # n × (k, size, size) bool: what is visible of each object; no two overlap
    captions: list[str]  # n sentences: "a red circle above a blue square"
    shape_names: tuple[str, ...] = SHAPES
    colour_names: tuple[str, ...] = tuple(COLOURS)

    def __len__(self) -> int:
        return len(self.images)

    def semantic(self) -> torch.Tensor:
        """-> (n, size, size) int64: 0 for the background, 1 + label for an object."""
        planes = [
            ((1 + labels)[:, None, None] * masks).sum(0)
            for labels, masks in zip(self.labels, self.masks, strict=True)
        ]
        return torch.stack(planes) if planes else torch.zeros(self.images[:, 0].shape, dtype=torch.int64)


def shapes(n: int, *, size: int = 64, seed: int = 0, objects: tuple[int, int] = (1, 3)) -> Shapes:
    """-> Shapes: n images of circles, squares, triangles, stars and crosses in six colours over real photo
    textures.

    Each image holds between objects[0] and objects[1] of them, no two of the same shape and colour, each
    whole within the image and at least half of it visible. Edges are anti-aliased; a pixel is in the mask of
    the topmost object that covers at least half of it. A caption with two objects tells how they lie, by the
    centres of their boxes, along the axis on which these are farther apart.

    The i-th image depends on `seed`, `size`, `objects` and i alone. Raises TypeError or ValueError for n < 0,
    size < 16, seed < 0, or numbers of objects outside 1 ≤ least ≤ most ≤ 10.
    """
    n = require_whole(n, "n", least=0, most=MOST_IMAGES)
    size = require_whole(size, "size", least=16, most=MOST_PIXELS)
    seed = require_whole(seed, "seed", least=0)
    least, most = require_range(objects, "objects", least=1, most=10)
    drawn = Shapes(torch.zeros(n, 3, size, size), [], [], [], [], [])
    for i in range(n):
        drawn.images[i], labels, colours, masks = _draw(np.random.default_rng([seed, i]), size, least, most)
        boxes = torch.stack([mask_to_box(mask) for mask in masks])
        drawn.labels.append(labels)
        drawn.colours.append(colours)
        drawn.boxes.append(boxes)
        drawn.masks.append(masks)
        drawn.captions.append(_caption(labels, colours, boxes))
    return drawn


def mask_to_box(mask: torch.Tensor) -> torch.Tensor:
    """(H, W) bool -> (4,) float32: the smallest box xyxy in pixels that holds the mask, all zero for an empty
    one.

    Raises TypeError or ValueError for what is no mask.
    """
    require_tensor(mask, "mask", "H W", kind="bool")
    rows = mask.any(1).nonzero()[:, 0]
    columns = mask.any(0).nonzero()[:, 0]
    if len(rows) == 0:
        return torch.zeros(4)
    return torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()


def draw_shape(name: str, radius: float, angle: float, x: float, y: float, size: int) -> np.ndarray:
    """-> (size, size) float32: the part of each pixel that the shape covers, counted on FINE × FINE points.

    Its centre is (x, y) and `radius` that of the circle around it, in pixels; `angle` in radians. Raises
    TypeError or ValueError for another name, no numbers, or no size.
    """
    name = require_choice(name, "name", SHAPES)
    radius = require_number(radius, "radius", above=0, most=MOST_PIXELS)
    angle = require_number(angle, "angle")
    x = require_number(x, "x", least=-MOST_PIXELS, most=2 * MOST_PIXELS)
    y = require_number(y, "y", least=-MOST_PIXELS, most=2 * MOST_PIXELS)
    size = require_whole(size, "size", most=MOST_PIXELS)
    fine = (size * FINE, size * FINE)
    offset = -0.5  # point j of a row lies at (j + 1/2) / FINE
    if name == "circle":
        row, column = disk((y * FINE + offset, x * FINE + offset), radius * FINE, shape=fine)
    else:
        columns, rows = ((_outline(name, angle) * radius + [x, y]) * FINE + offset).T
        row, column = polygon(rows, columns, fine)
    counts = np.bincount(row // FINE * size + column // FINE, minlength=size * size)
    return (counts / FINE**2).astype(np.float32).reshape(size, size)


def visible_masks(covers: list[np.ndarray]) -> np.ndarray:
    """k × (H, W) -> (k, H, W) bool: each pixel belongs to the topmost object that covers at least half of it.

    Raises TypeError for what is no list of covers, ValueError for an empty one.
    """
    full = _stack_covers(covers) >= 0.5
    hidden = np.cumsum(full[::-1], axis=0)[::-1] - full > 0  # by an object drawn later
    return full & ~hidden


def all_visible(covers: list[np.ndarray]) -> bool:
    """k × (H, W) -> bool: is each object there, and enough of it visible under those drawn later?

    Raises TypeError for what is no list of covers, ValueError for an empty one.
    """
    full = (_stack_covers(covers) >= 0.5).sum((1, 2))
    visible = visible_masks(covers).sum((1, 2))
    return bool((full > 0).all() and (visible >= LEAST_VISIBLE * full).all())


def require_range(value: object, name: str, *, least: int, most: int) -> tuple[int, int]:
    """Any -> two ints, least <= first <= second <= most. Raises TypeError or ValueError for anything else."""
    require_type(value, name, (tuple, list), "two whole numbers, the least and the most")
    if len(value) != 2:
        raise ValueError(f"{name} wants two whole numbers, the least and the most, got {len(value)}")
    first = require_whole(value[0], f"{name}[0]", least=least, most=most)
    second = require_whole(value[1], f"{name}[1]", least=first, most=most)
    return first, second


def _draw(rng, size, least, most):
    """-> (3, size, size) image, (k,) labels, (k,) colours, (k, size, size) masks."""
    image = crop_photo(rng, GROUNDS, size, channels=3).numpy()
    count = rng.integers(least, most + 1)
    kinds = list(itertools.product(range(len(SHAPES)), range(len(COLOURS))))
    chosen = [kinds[i] for i in rng.choice(len(kinds), size=count, replace=False)]
    covers = _arrange(rng, [SHAPES[shape] for shape, _ in chosen], size)
    for cover, (_, colour) in zip(covers, chosen, strict=True):
        paint = np.array(list(COLOURS.values())[colour], dtype=np.float32)[:, None, None]
        image = image + cover * (paint - image)
    labels, colours = torch.tensor(chosen).T.contiguous()
    return torch.from_numpy(image.clip(0, 1)), labels, colours, torch.from_numpy(visible_masks(covers))


def _arrange(rng, names, size):
    """-> k × (size, size) float32: the cover of each shape, where enough is visible of those drawn before."""
    largest = 0.22 * size * min(1, math.sqrt(4 / len(names)))  # many objects are smaller ones
    covers = []
    for name in names:
        for _ in range(TRIES):
            radius = largest * rng.uniform(0.6, 1)
            x, y = rng.uniform(radius, size - radius, size=2)
            cover = draw_shape(name, radius, rng.uniform(-0.35, 0.35), x, y, size)
            if all_visible([*covers, cover]):
                covers.append(cover)
                break
        else:
            raise ValueError(
                f"objects wants to fit into {size}×{size} pixels, got {len(names)} without room for all"
            )
    return covers


def _stack_covers(covers):
    """k × (H, W) -> (k, H, W)"""
    require_type(covers, "covers", (list, tuple), "a list of NumPy arrays (H, W)")
    if not covers:
        raise ValueError("covers wants at least one array (H, W), got none")
    for cover in covers:
        require_type(cover, "covers", np.ndarray, "a list of NumPy arrays (H, W)")
        if cover.ndim != 2 or cover.shape != covers[0].shape:
            raise ValueError(f"covers wants arrays (H, W) of one shape, got {cover.shape}")
    return np.stack(covers)


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
