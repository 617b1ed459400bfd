"""How far an edited image is from the true one: PSNR, SSIM, and a distance of features.

Images are floating (C, H, W) in [0, 1]. A mask (1, H, W) is 1 where pixels count: with it both measures speak
of a hole alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from skimage.metrics import structural_similarity

from vlmbook.editing.holes import block_mask, free_form_mask
from vlmbook.editing.networks import evaluating
from vlmbook.editing.resampling import studio_luma
from vlmbook.efficientnet import EfficientNetLite0
from vlmbook.validation import (
    require_callable,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

PERCEPTUAL_BLOCKS = 5
WINDOW = 11  # pixels of SSIM's Gaussian window [Wang et al. 2004, sec. III B]
SMALLEST = 32  # side of an image whose features are compared
HIDDEN = 0.5  # what stands in a hole, so that no filling sees what was there
HOLES = {  # (height, width), torch.Generator -> (1, H, W)
    "free-form": lambda size, generator: free_form_mask(size, brush=0.03, generator=generator),
    "free-form wide": lambda size, generator: free_form_mask(size, brush=0.06, generator=generator),
    "block": lambda size, generator: block_mask(size, share=0.04, generator=generator),
}


def psnr(image: torch.Tensor, reference: torch.Tensor, *, mask: torch.Tensor | None = None) -> float:
    """(C, H, W), (C, H, W) in [0, 1] -> float in dB: 10 log10(1 / mean squared error), infinite for equal
    images.

    Raises TypeError or ValueError for images that do not fit, and for a mask of other size or without a 1.
    """
    counted = _require_pair(image, reference, mask)
    squares = (image.cpu().double() - reference.cpu().double()).square()
    error = squares.mean() if counted is None else squares[:, counted].mean()
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(image: torch.Tensor, reference: torch.Tensor, *, mask: torch.Tensor | None = None) -> float:
    """(C, H, W), (C, H, W) in [0, 1] -> float of at most 1: the mean structural similarity [Wang et al. 2004,
    IEEE TIP 13(4), eq. 13].

    Means, variances and the covariance are taken in a Gaussian window (σ = 1.5), by scikit-image; with a mask
    it is the mean over the windows whose middle counts. Raises TypeError or ValueError for images that do not
    fit, and for sides below 11.
    """
    counted = _require_pair(image, reference, mask)
    if min(image.shape[1:]) < WINDOW:
        raise ValueError(f"image wants sides of at least {WINDOW}, got {tuple(image.shape[1:])}")
    mean, full = structural_similarity(
        image.cpu().double().numpy(),
        reference.cpu().double().numpy(),
        data_range=1.0,
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return float(mean) if counted is None else float(np.mean(full[:, counted.numpy()]))


def luma_psnr(image: torch.Tensor, reference: torch.Tensor, *, border: int) -> float:
    """(C, H, W), (C, H, W) in [0, 1] -> float in dB, as papers on super-resolution give it: of the luma in
    eight bits, without `border` pixels at each side (the factor, by custom).

    Raises TypeError or ValueError for images that do not fit, and for a border that leaves nothing.
    """
    _require_pair(image, reference, None)
    border = require_whole(border, "border", least=0, most=(min(image.shape[1:]) - 1) // 2)
    height, width = image.shape[1:]
    inner = slice(border, height - border), slice(border, width - border)
    lumas = [studio_luma(x.clamp(0, 1).float())[:, *inner].mul(255).round() / 255 for x in (image, reference)]
    return psnr(*lumas)


def perceptual_distance(image: torch.Tensor, reference: torch.Tensor, network: EfficientNetLite0) -> float:
    """(3, H, W), (3, H, W) in [0, 1], network -> float: the mean squared difference of features, each pixel's
    feature vector scaled to length 1 [after Zhang et al. 2018, arXiv:1801.03924, eq. 1, all weights 1].

    The features are those of the stem and the first five blocks. It grows with what changes texture and
    edges, and little with contrast. Only with trained weights does it mean anything:
    `vlmbook.pretrained.efficientnet_lite0()`. Raises TypeError or ValueError for images that do not fit, of
    another kind than the network's, or with a side below 32.
    """
    _require_pair(image, reference, None)
    require_tensor(image, "image", "C H W", C=3, least=0, most=1)
    require_tensor(reference, "reference", "C H W", least=0, most=1)
    require_type(network, "network", EfficientNetLite0, "an EfficientNetLite0")
    if min(image.shape[1:]) < SMALLEST:
        raise ValueError(f"image wants sides of at least {SMALLEST}, got {tuple(image.shape[1:])}")
    require_same_kind(image, "image", network.fc.weight, "the network")
    with evaluating(network), torch.no_grad():
        pair = first_features(network, torch.stack([image, reference]), PERCEPTUAL_BLOCKS)
    return sum(float(_feature_distance(features)) for features in pair) / len(pair)


def first_features(network: EfficientNetLite0, images: torch.Tensor, blocks: int) -> list[torch.Tensor]:
    """network, (B, 3, H, W) in [0, 1] -> list of blocks + 1 (B, D, H', W'): the outputs of the stem and of
    the first blocks.

    Unlike `imagenet_input` it neither crops nor resizes. Raises TypeError or ValueError for images that do
    not fit, and for more than 16 blocks.
    """
    require_type(network, "network", EfficientNetLite0, "an EfficientNetLite0")
    require_tensor(images, "images", "B C H W", C=3)
    require_same_kind(images, "images", network.fc.weight, "the network")
    blocks = require_whole(blocks, "blocks", least=0, most=len(network.blocks))
    maps = [network.stem((255 * images - 127) / 128)]
    for block in network.blocks[:blocks]:
        maps.append(block(maps[-1]))
    return maps


# --- fillings compared --------------------------------------------------------------------------------------


class HoleScores(NamedTuple):
    """What a filling reached inside the holes: `psnr` in dB and `ssim`, (N,) float64 each, one value an
    image.
    """

    psnr: torch.Tensor
    ssim: torch.Tensor


def measure_inpainting(
    images: Sequence[torch.Tensor],
    fillings: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]],
    *,
    holes: Mapping[str, Callable] | None = None,
    each: int = 1,
    seed: int = 0,
) -> dict[str, dict[str, HoleScores]]:
    """list of (C, H, W) in [0, 1], {name: function (image, mask) -> image} -> {kind of hole: {name:
    HoleScores}}.

    All fillings get the same images and masks, so that their values are pairs; the pixels in a hole are ½ for
    all. `holes` maps a kind to a function from (height, width) and a generator to a mask; without it they are
    thin strokes (a brush of 3 % of the side), wide ones (6 %) and rectangles (4 % of the area). `each` masks
    are drawn for an image, whose value is their mean; `seed` is of the masks. Raises TypeError or ValueError
    for what does not fit, and for a filling whose result has another size.
    """
    require_type(images, "images", (list, tuple), "a list of images")
    if not images:
        raise ValueError("images wants at least one image, got none")
    for image in images:
        require_tensor(image, "images", "C H W", least=0, most=1)
    holes = HOLES if holes is None else holes
    for name, functions in (("fillings", fillings), ("holes", holes)):
        require_type(functions, name, dict, "a dict of functions")
        if not functions:
            raise ValueError(f"{name} wants at least one function, got none")
        for function in functions.values():
            require_callable(function, f"each of {name}")
    each = require_whole(each, "each", most=1000)
    seed = require_whole(seed, "seed", least=0, most=2**62)
    table = {}
    for kind, draw in holes.items():
        generator = torch.Generator().manual_seed(seed)
        masks = [[draw(tuple(image.shape[1:]), generator) for _ in range(each)] for image in images]
        table[kind] = {name: _score(fill, images, masks) for name, fill in fillings.items()}
    return table


def paired_difference(ours: torch.Tensor, theirs: torch.Tensor) -> tuple[float, float]:
    """(N,), (N,) -> float, float: the mean of ours − theirs, and its standard error √(variance / N).

    Pairs are values of one photograph: how hard a photograph is drops out. Raises TypeError or ValueError for
    fewer than two pairs.
    """
    require_tensor(ours, "ours", "N", finite=True)
    require_tensor(theirs, "theirs", "N", N=len(ours), device=ours.device, finite=True)
    if len(ours) < 2:
        raise ValueError(f"ours wants at least two values, got {len(ours)}")
    if ours.is_meta:
        raise ValueError("ours wants values, got a tensor on the meta device")
    differences = ours.double() - theirs.double()
    return float(differences.mean()), float(differences.std() / math.sqrt(len(differences)))


def _score(fill, images, masks):
    """function, list of (C, H, W), list of lists of (1, H, W) -> HoleScores"""
    values = []
    for image, drawn in zip(images, masks, strict=True):
        filled = [fill(torch.where(mask > 0, HIDDEN, image), mask) for mask in drawn]
        of_image = [
            (psnr(result, image, mask=mask), ssim(result, image, mask=mask))
            for result, mask in zip(filled, drawn, strict=True)
        ]
        values.append(torch.tensor(of_image, dtype=torch.float64).mean(0))
    table = torch.stack(values)
    return HoleScores(table[:, 0], table[:, 1])


# --- details ------------------------------------------------------------------------------------------------


def _feature_distance(pair):
    """(2, D, H, W) -> scalar"""
    unit = pair / (pair.square().sum(1, keepdim=True).sqrt() + 1e-8)
    return (unit[0] - unit[1]).square().sum(0).mean()


def _require_pair(image, reference, mask):
    """-> (H, W) bool or None: where pixels count."""
    require_tensor(image, "image", "C H W", finite=True)
    channels, height, width = image.shape
    require_tensor(reference, "reference", "C H W", C=channels, H=height, W=width, finite=True)
    for name, each in (("image", image), ("reference", reference)):
        if each.is_meta:
            raise ValueError(f"{name} wants values, got a tensor on the meta device")
    if mask is None:
        return None
    return require_mask(mask, "mask", image)


def require_mask(mask: torch.Tensor, name: str, image: torch.Tensor) -> torch.Tensor:
    """(1, H, W) of 0 and 1 of any dtype -> (H, W) bool on the CPU, for an image (C, H, W) of that size.

    Raises TypeError or ValueError for another size, other values, and a mask without a 1.
    """
    require_tensor(image, "image", "C H W", kind="any")
    require_tensor(mask, name, "1 H W", kind="any", H=image.shape[1], W=image.shape[2])
    if mask.is_complex() or mask.is_meta:
        raise TypeError(f"{name} wants values 0 and 1, got {mask.dtype} on {mask.device}")
    mask = mask[0].cpu()
    inside = mask == 1
    if not ((mask == 0) | inside).all():
        raise ValueError(f"{name} wants values 0 and 1 only, got others")
    if not inside.any():
        raise ValueError(f"{name} wants at least one pixel that is 1, got none")
    return inside
