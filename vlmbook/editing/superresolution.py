"""Super-resolution: a residual network at the small size, whose last layer shuffles channels into pixels.

The network sees luma. It predicts what bicubic interpolation lacks; the two colour differences, in which eyes
see little detail, are interpolated.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product

import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.editing.holes import require_generator
from vlmbook.editing.networks import load_tensors
from vlmbook.editing.resampling import (
    LARGEST_FACTOR,
    crop_to_multiple,
    enlarge_bicubic,
    luma,
    rgb_to_ycbcr,
    shrink_bicubic,
    shrink_to_three_quarters,
    ycbcr_to_rgb,
)
from vlmbook.editing.tiling import map_tiles, require_image
from vlmbook.pretrained import ours
from vlmbook.validation import (
    require_choice,
    require_number,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

FACTORS = (2, 3, 4)
TILE = 192  # pixels of the small image that are computed at once
WEIGHTS = "ch06b_upscale_x2"


# --- the network --------------------------------------------------------------------------------------------


class ResidualBlock(nn.Module):
    """(B, D, H, W) -> (B, D, H, W): x + conv(ReLU(conv(x))), without batch normalisation [Lim et al. 2017,
    arXiv:1707.02921, fig. 2c].
    """

    def __init__(self, width: int):
        super().__init__()
        width = require_whole(width, "width", most=2**12)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        initialise_he(self.conv1, 1.0)
        initialise_he(self.conv2, 0.1)  # at first a block is nearly its shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        require_tensor(x, "x", "B C H W", C=self.conv1.in_channels)
        require_same_kind(x, "x", self.conv1.weight)
        return x + self.conv2(F.relu(self.conv1(x)))


class SubPixelNetwork(nn.Module):
    """(B, 1, H, W) in [0, 1] -> (B, 1, fH, fW): bicubic interpolation plus the detail that the network adds.

    All convolutions work at the small size. The last one has f² channels, which become f × f pixels each: the
    sub-pixel convolution [Shi et al. 2016, arXiv:1609.05158, eq. 4]. Height and width are free. Raises
    TypeError or ValueError for sizes below 1 and for a factor above 16.
    """

    def __init__(self, factor: int, *, width: int = 64, depth: int = 8):
        super().__init__()
        self.factor = require_whole(factor, "factor", most=LARGEST_FACTOR)
        width = require_whole(width, "width", most=2**12)
        depth = require_whole(depth, "depth", most=2**10)
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(depth))
        self.last = nn.Conv2d(width, self.factor**2, 3, padding=1)
        initialise_he(self.first, 1.0)
        initialise_he(self.last, 0.0)  # at first the network is bicubic interpolation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        require_tensor(x, "x", "B C H W", C=1)
        require_same_kind(x, "x", self.first.weight)
        features = self.first(x)
        y = features
        for block in self.blocks:
            y = block(y)
        detail = F.pixel_shuffle(self.last(features + y), self.factor)
        return enlarge_bicubic(x, self.factor) + detail

    def receptive_radius(self) -> int:
        """-> int: the largest distance, in pixels of the small image, to a pixel that an output depends
        on.
        """
        return max(2 + 2 * len(self.blocks), 3)  # a layer of 3×3 reaches one pixel; bicubic reaches three


def initialise_he(conv: nn.Conv2d, scale: float) -> None:
    """Conv2d, float -> None: normal weights of variance scale² · 2 / inputs [He et al. 2015,
    arXiv:1502.01852, eq. 10], no bias.

    Raises TypeError or ValueError for what is no convolution, and for a negative scale.
    """
    require_type(conv, "conv", nn.Conv2d, "an nn.Conv2d")
    scale = require_number(scale, "scale", least=0, most=1e3)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    with torch.no_grad():
        conv.weight.mul_(scale)
    nn.init.zeros_(conv.bias)


# --- using it -----------------------------------------------------------------------------------------------


def upscale(
    image: torch.Tensor,
    factor: int = 2,
    *,
    network: SubPixelNetwork | None = None,
    tile: int = TILE,
    ensemble: bool = False,
    progress: bool = False,
) -> torch.Tensor:
    """(C, H, W) in [0, 1], C = 1 or 3 -> (C, fH, fW): the image enlarged 2, 3 or 4 times, with the detail
    that a trained network adds.

    Without `network` it is the one that comes with this package, `upscaler()`. A network for the factor is
    used once. A network for 2 is used twice for 4; the result for 3 is that for 4 made smaller, ¾ of the
    size. Grey images stay grey. The image goes through in windows of `tile` pixels: memory is bounded, and
    the result is that of the whole image but for rounding. With ensemble=True it is the mean over the eight
    positions in which the image can be turned and mirrored, each put back [Lim et al. 2017, sec. 3.4]: a
    little better, eight times as slow. An image of bytes (uint8) stays one of bytes. Raises TypeError or
    ValueError for images, factors and networks that do not fit, WeightsMissing where the package's own
    weights are not there.
    """
    require_image(image, channels=(1, 3))
    factor = require_choice(factor, "factor", FACTORS)
    network = upscaler() if network is None else network
    require_type(network, "network", SubPixelNetwork, "a SubPixelNetwork")
    if network.factor not in (2, factor):
        raise ValueError(f"network wants a factor of {factor}, got one for {network.factor}")
    ensemble = require_choice(ensemble, "ensemble", (False, True))
    return map_tiles(
        partial(_enlarge_in_eight if ensemble else _enlarge, network=network, factor=factor),
        image,
        tile=tile,
        overlap=2 * network.receptive_radius(),  # of the first use, and half as much of the second
        factor=factor,
        progress=progress,
    )


def upscaler() -> SubPixelNetwork:
    """-> SubPixelNetwork for the factor 2 with the weights that come with this package, in eval mode.

    Raises WeightsMissing.
    """
    state, _ = ours(WEIGHTS)
    return load_network(state, 2).to(memory_format=torch.channels_last)  # convolutions are faster so


def load_network(state: dict[str, torch.Tensor], factor: int) -> SubPixelNetwork:
    """dict of tensors, int -> SubPixelNetwork of the width and depth that the tensors tell, in eval mode.

    Raises TypeError or ValueError for tensors that are no such network's.
    """
    require_type(state, "state", dict, "a dict of tensors")
    factor = require_whole(factor, "factor", most=LARGEST_FACTOR)
    if "first.bias" not in state:
        raise ValueError("state wants the tensors of a SubPixelNetwork, got others")
    width = len(require_tensor(state["first.bias"], "first.bias", "D"))
    depth = sum(str(name).endswith("conv1.bias") for name in state)
    with torch.random.fork_rng(devices=[]):
        network = SubPixelNetwork(factor, width=width, depth=max(1, depth))
    return load_tensors(network, state)


def _enlarge_in_eight(window, network, factor):
    """(C, h, w), network, int -> (C, fh, fw): the mean over the eight positions."""
    total = 0
    for turns, mirrored in product(range(4), (False, True)):
        turned = window.rot90(turns, (1, 2))
        large = _enlarge(turned.flip(2) if mirrored else turned, network, factor)
        total = total + (large.flip(2) if mirrored else large).rot90(-turns, (1, 2))
    return total / 8


def _enlarge(window, network, factor):
    """(C, h, w), network, int -> (C, fh, fw)"""
    window = window.to(network.first.weight)
    if network.factor == factor:
        return _enlarge_once(window, network).cpu()
    large = _enlarge_once(_enlarge_once(window, network).clamp(0, 1), network)
    return (large if factor == 4 else shrink_to_three_quarters(large)).cpu()


def _enlarge_once(window, network):
    """(C, h, w), network for f -> (C, fh, fw): luma by the network, colour differences by interpolation."""
    with torch.no_grad():
        if len(window) == 1:
            return network(window[None])[0]
        grey, blue, red = rgb_to_ycbcr(window)
        detailed = network(grey[None, None])[0]
        smooth = enlarge_bicubic(torch.stack([blue, red]), network.factor)
        return ycbcr_to_rgb(torch.cat([detailed, smooth]))


# --- training it --------------------------------------------------------------------------------------------


def upscaling_loss(network: nn.Module, small: torch.Tensor, large: torch.Tensor) -> torch.Tensor:
    """network, (B, 1, h, w), (B, 1, fh, fw) -> scalar: the mean absolute error, for `fit`.

    Unlike the squared error it does not punish a missed edge out of proportion [Lim et al. 2017, sec. 5.2].
    Raises TypeError or ValueError for what does not fit.
    """
    require_type(network, "network", nn.Module, "a torch.nn.Module")
    require_tensor(small, "small", "B C H W")
    require_tensor(large, "large", "B C H W", B=len(small))
    enlarged = network(small)
    require_tensor(enlarged, "network(small)", "B C H W", **dict(zip("CHW", large.shape[1:], strict=True)))
    return F.l1_loss(enlarged.to(large.dtype), large)


def cut_pairs(
    images: Sequence[torch.Tensor],
    factor: int,
    *,
    size: int,
    count: int,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """list of (C, H, W) in [0, 1] -> (count, 1, size, size), (count, 1, f·size, f·size) float32: luma of
    random squares, small and large, to train on.

    Each image is made small once, by `shrink_bicubic`, and rounded to 8 bits. A square is drawn from an image
    in proportion to the pixels, and turned and mirrored into one of eight positions. Raises TypeError or
    ValueError for what are no images, and for images smaller than a square.
    """
    factor = require_whole(factor, "factor", most=LARGEST_FACTOR)
    size = require_whole(size, "size", most=2**12)
    count = require_whole(count, "count", most=2**24)
    generator = require_generator(generator)
    lumas = [crop_to_multiple(_luma(image, factor * size), factor) for image in _as_list(images)]
    small = [(255 * shrink_bicubic(large, factor).clamp(0, 1)).round() / 255 for large in lumas]
    pixels = torch.tensor([float(each.numel()) for each in small])
    chosen = pixels.multinomial(count, replacement=True, generator=generator).tolist()
    drawn = [_draw_square(small[index], lumas[index], size, factor, generator) for index in chosen]
    return torch.stack([pair[0] for pair in drawn]), torch.stack([pair[1] for pair in drawn])


def cut_squares(
    images: Sequence[torch.Tensor], *, size: int, count: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """list of (C, H, W) in [0, 1] -> (count, 1, size, size) float32: luma of random squares, as `cut_pairs`
    draws them.

    Raises TypeError or ValueError as `cut_pairs`.
    """
    _, squares = cut_pairs(images, 1, size=size, count=count, generator=generator)
    return squares


def _draw_square(small, large, size, factor, generator):
    """(1, h, w), (1, fh, fw) -> (1, size, size), (1, f·size, f·size): the same random square of both."""
    top, left = (int(torch.randint(side - size + 1, (1,), generator=generator)) for side in small.shape[1:])
    turns, mirrored = torch.randint(4, (1,), generator=generator), torch.rand(1, generator=generator) < 0.5
    squares = []
    for image, scale in ((small, 1), (large, factor)):
        square = image[:, scale * top : scale * (top + size), scale * left : scale * (left + size)]
        square = square.rot90(int(turns), (1, 2))
        squares.append(square.flip(2) if mirrored else square)
    return squares


def _luma(image, least):
    """(C, H, W) -> (1, H, W) float32"""
    require_tensor(image, "images", "C H W", least=0, most=1)
    if min(image.shape[1:]) < least:
        raise ValueError(f"images wants sides of at least {least}, got {tuple(image.shape[1:])}")
    return luma(image.float())


def _as_list(images):
    require_type(images, "images", (list, tuple), "a list of images")
    if not images:
        raise ValueError("images wants at least one image, got none")
    return images
