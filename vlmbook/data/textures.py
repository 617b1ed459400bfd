"""Real textures with real cut-outs pasted on them: segmentation with masks that are exact by construction."""

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from vlmbook.data.backgrounds import crop_photo
from vlmbook.data.bundled import photo
from vlmbook.data.shapes import MOST_IMAGES, MOST_PIXELS
from vlmbook.validation import require_choice, require_whole

GROUNDS = ("brick", "grass", "gravel")
FILLINGS = ("cat", "tissue")  # what a horse is filled with: never a texture of the ground


class _Part(NamedTuple):
    """What the images of a part are made of."""

    grounds: tuple[str, ...]
    half: str | None  # of the photograph of the ground that is cut from
    coins: slice  # of the 24
    horse: bool


# "train" shares no pixel of a ground, no coin and no horse with the parts after it.
PARTS = {
    "all": _Part(GROUNDS, None, slice(None), True),
    "train": _Part(("brick", "grass"), "left", slice(0, None, 2), False),
    "test": _Part(("brick", "grass"), "right", slice(1, None, 2), False),
    "new ground": _Part(("gravel",), None, slice(1, None, 2), False),
    "new object": _Part(("brick", "grass"), "right", slice(0), True),
}


class _CutOut(NamedTuple):
    """An object cut from a photograph: how far each pixel belongs to it, and what it shows there."""

    alpha: torch.Tensor  # (h, w) in [0, 1]
    pixels: torch.Tensor | None  # (h, w) in [0, 1]; None for a silhouette, to be filled
    spans: tuple[float, float]  # least and greatest length of its longer side, as a part of the image's
    turn: float  # it is rotated by up to this, radians


def textures(
    n: int, *, size: int = 64, seed: int = 0, part: str = "all"
) -> tuple[torch.Tensor, torch.Tensor]:
    """-> (n, 3, size, size) float32 in [0, 1], (n, 1, size, size) float32 in {0, 1}: images and masks of
    their objects.

    On brick, grass or gravel lie one horse, filled with cat's fur or stained tissue, or one to three of 24
    coins, or all of these. Ground and objects get mean, contrast and tint from the same distributions, so
    neither brightness nor colour tells which is which: texture and outline do. A pixel is in the mask where
    an object covers at least half of it; the image blends object and ground by what is covered. Horse and
    coins are scikit-image's.

    part: "all" mixes everything. "train" has twelve of the coins on the left halves of brick and grass,
    "test" the other twelve on the right halves. "new ground" has the coins of "test" on gravel, "new object"
    the horse on the grounds of "test".

    The i-th image depends on `seed`, `size`, `part` and i alone. Raises TypeError or ValueError for n < 0,
    size < 16, seed < 0 or another part.
    """
    n = require_whole(n, "n", least=0, most=MOST_IMAGES)
    size = require_whole(size, "size", least=16, most=MOST_PIXELS)
    seed = require_whole(seed, "seed", least=0)
    chosen = PARTS[require_choice(part, "part", tuple(PARTS))]
    images = torch.zeros(n, 3, size, size)
    masks = torch.zeros(n, 1, size, size)
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        images[i] = _tint(
            crop_photo(rng, chosen.grounds, size, half=chosen.half), torch.ones(size, size), rng
        )
        for cut_out in _choose(rng, chosen):
            alpha, pixels = _placed(cut_out, size, rng)
            if pixels is None:
                pixels = crop_photo(rng, FILLINGS, size)
            images[i] = torch.lerp(images[i], _tint(pixels, alpha, rng), alpha)
            masks[i, 0].masked_fill_(alpha >= 0.5, 1)
    return images, masks


def _tint(pixels, alpha, rng):
    """(H, W), (H, W) -> (3, H, W): the pixels with a drawn mean, contrast and tint within alpha."""
    weight = alpha / alpha.sum().clamp(min=1)
    mean = (weight * pixels).sum()
    deviation = (weight * (pixels - mean) ** 2).sum().sqrt().clamp(min=0.03)
    pattern = (pixels - mean) / deviation * rng.uniform(0.08, 0.16)
    tint = torch.from_numpy(rng.uniform(-0.08, 0.08, size=(3, 1, 1))).float()
    return (rng.uniform(0.35, 0.65) + tint + pattern).clamp(0, 1)


@functools.cache
def _cut_outs():
    """-> _CutOut of the horse, list of _CutOut of the 24 coins."""
    silhouette = 1 - photo("horse")[None, :1]  # black on white
    silhouette = F.interpolate(silhouette, scale_factor=0.4, mode="bilinear", antialias=True)[0, 0].clamp(
        0, 1
    )
    return _CutOut(silhouette, None, (0.6, 0.95), 0.3), _coins()


def _coins():
    """Watershed on the edges, from what is surely background and surely coin [scikit-image gallery,
    coins].
    """
    from scipy.ndimage import binary_fill_holes  # here, since they take a third of a second
    from skimage.filters import sobel
    from skimage.measure import label, regionprops
    from skimage.segmentation import watershed

    grey = photo("coins")[0].numpy()
    markers = np.where(grey > 150 / 255, 2, np.where(grey < 30 / 255, 1, 0))
    regions = label(binary_fill_holes(watershed(sobel(grey), markers) == 2))
    found = []
    for region in regionprops(regions):
        if region.area > 100:  # one speck is no coin
            window = (
                slice(region.bbox[0] - 2, region.bbox[2] + 2),
                slice(region.bbox[1] - 2, region.bbox[3] + 2),
            )
            alpha = torch.from_numpy(regions[window] == region.label).float()
            found.append(_CutOut(alpha, torch.from_numpy(grey[window].copy()), (0.28, 0.48), math.pi))
    return found


def _choose(rng, part):
    """-> list of _CutOut: a horse, coins, or both, as the part has them."""
    horse, coins = _cut_outs()
    coins = coins[part.coins]
    if not coins:
        return [horse]
    some = [coins[i] for i in rng.choice(len(coins), size=rng.integers(1, 4), replace=False)]
    if not part.horse:
        return some
    return ([horse], some, [horse, *some])[rng.integers(3)]


def _placed(cut_out, size, rng):
    """-> (size, size) alpha and (size, size) pixels or None: the cut-out scaled, turned, perhaps mirrored,
    put down.

    The affine map is sampled twice as fine in both directions and averaged, which smooths the edge.
    """
    height, width = cut_out.alpha.shape
    span, angle = rng.uniform(*cut_out.spans), rng.uniform(-cut_out.turn, cut_out.turn)
    shift = rng.uniform(-0.9, 0.9, size=2) * (1 - span)  # from the middle, in halves of the image
    zoom = max(height, width) / span / np.array([width, height])  # output -> input, both from -1 to 1
    mirror = rng.choice([-1.0, 1.0])
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = np.diag(zoom * [mirror, 1]) @ rotation
    theta = torch.from_numpy(np.column_stack([linear, -linear @ shift])).float()[None]
    grid = F.affine_grid(theta, (1, 1, 2 * size, 2 * size), align_corners=False)
    layers = torch.stack([layer for layer in cut_out[:2] if layer is not None])[None]
    layers = F.avg_pool2d(F.grid_sample(layers, grid, align_corners=False), 2)[0]
    return layers[0].clamp(0, 1), layers[1] if len(layers) == 2 else None
