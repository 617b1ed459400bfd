"""How far an edited image is from the true one: PSNR, SSIM, and a distance of features.

Images are floating (C, H, W) in [0, 1]. A mask (1, H, W) is 1 where pixels count: with it both measures speak
of a hole alone.
"""

import math

import numpy as np
import torch
from skimage.metrics import structural_similarity

from vlmbook.editing.resampling import studio_luma
from vlmbook.efficientnet import EfficientNetLite0
from vlmbook.validation import require_same_kind, require_tensor, require_type, require_whole

PERCEPTUAL_BLOCKS = 5
WINDOW = 11  # pixels of SSIM's Gaussian window [Wang et al. 2004, sec. III B]
SMALLEST = 32  # side of an image whose features are compared


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
    with torch.no_grad():
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
