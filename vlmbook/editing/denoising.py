"""Denoising: a residual network that is told how strong the noise is.

The network sees one channel and a map that holds the noise level in every pixel, so that one set of weights
serves all levels [Zhang et al. 2018, arXiv:1710.04026, "FFDNet"]. Of a colour image the luma and the two
colour differences are cleaned one by one, each with the noise that is left in it.
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.editing.networks import load_tensors
from vlmbook.editing.resampling import YCBCR, rgb_to_ycbcr, ycbcr_to_rgb
from vlmbook.editing.superresolution import ResidualBlock, initialise_he
from vlmbook.editing.tiling import STRIP, as_floating, map_tiles, require_image
from vlmbook.pretrained import ours
from vlmbook.validation import (
    require_number,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

WEIGHTS = "ch06b_denoise"
TILE = 256  # pixels that are cleaned at once
FOLD = 2  # pixels of each direction that the network sees as channels
STRONGEST = 0.25  # noise level that the network is trained for, where white is 1
MAD_OF_NORMAL = 0.6745  # the median of |x| for a normal x of standard deviation 1


# --- the network --------------------------------------------------------------------------------------------


class DenoisingNetwork(nn.Module):
    """(B, 1, H, W) in [0, 1], (B,) noise levels -> (B, 1, H, W): the images without the noise that the
    network finds in them.

    Squares of 2 × 2 pixels are folded into channels and unfolded at the end, as in FFDNet; between them are
    the residual blocks of super-resolution. A noise level is the standard deviation where white is 1. Height
    and width are free. Raises TypeError or ValueError for sizes below 1.
    """

    def __init__(self, *, width: int = 64, depth: int = 8):
        super().__init__()
        width = require_whole(width, "width", most=2**12)
        depth = require_whole(depth, "depth", most=2**10)
        self.first = nn.Conv2d(FOLD**2 + 1, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(depth))
        self.last = nn.Conv2d(width, FOLD**2, 3, padding=1)
        initialise_he(self.first, 1.0)
        initialise_he(self.last, 0.0)  # at first the network changes nothing

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        require_tensor(x, "x", "B C H W", C=1)
        require_tensor(sigma, "sigma", "B", B=len(x), device=x.device)
        require_same_kind(x, "x", self.first.weight)
        height, width = x.shape[2:]
        even = F.pad(x, (0, width % FOLD, 0, height % FOLD), mode="replicate")
        folded = F.pixel_unshuffle(even, FOLD)
        level = sigma.to(x.dtype).view(-1, 1, 1, 1).expand(-1, 1, *folded.shape[2:])
        features = self.first(torch.cat([folded - 0.5, level], dim=1))
        y = features
        for block in self.blocks:
            y = block(y)
        noise = F.pixel_shuffle(self.last(features + y), FOLD)
        return x - noise[:, :, :height, :width]

    def receptive_radius(self) -> int:
        """-> int: the largest distance in pixels from an output pixel to an input pixel that it depends
        on.
        """
        return FOLD * (2 + 2 * len(self.blocks)) + FOLD - 1


# --- using it -----------------------------------------------------------------------------------------------


def denoise(
    image: torch.Tensor,
    sigma: float | None = None,
    *,
    network: DenoisingNetwork | None = None,
    tile: int = TILE,
    progress: bool = False,
) -> torch.Tensor:
    """(C, H, W) in [0, 1], C = 1 or 3 -> (C, H, W): the image without its noise.

    `sigma` is the standard deviation of the noise in each channel, where white is 1: 25/255 is what papers
    call 25; the network knows levels up to 0.25. Without it `estimate_noise` measures it. Without `network`
    it is the one that comes with this package, `denoiser()`. Grey images stay grey. The image goes through in
    windows of `tile` pixels: memory is bounded, and the result is that of the whole image but for rounding.
    An image of bytes (uint8) stays one of bytes. Raises TypeError or ValueError for images and levels that do
    not fit, and for a single row or column of pixels without `sigma`; WeightsMissing where the package's own
    weights are not there.
    """
    require_image(image, channels=(1, 3))
    if sigma is None:
        sigma = min(estimate_noise(image), STRONGEST)
    sigma = require_number(sigma, "sigma", least=0, most=STRONGEST)
    network = denoiser() if network is None else network
    require_type(network, "network", DenoisingNetwork, "a DenoisingNetwork")
    return map_tiles(
        partial(_clean, network=network, sigma=sigma),
        image,
        tile=tile,
        overlap=network.receptive_radius(),
        grid=FOLD,
        progress=progress,
    )


def estimate_noise(image: torch.Tensor) -> float:
    """(C, H, W) in [0, 1] -> float: the standard deviation of the noise in a channel, the mean over channels.

    In each square of 2 × 2 pixels a − b − c + d, halved, is free of what is constant or a slope; its median
    absolute value, divided by 0.6745, is σ of normal noise [Donoho & Johnstone 1994, Biometrika 81(3), sec.
    4.1]. Fine texture counts as noise; of bytes the result is right to 0.002. Raises TypeError or ValueError
    for what is no image, and for sides below 2.
    """
    image = require_image(image).detach()
    if min(image.shape[1:]) < 2:
        raise ValueError(f"image wants sides of at least 2, got {tuple(image.shape[1:])}")
    medians = [_median_detail(channel) for channel in image]
    return sum(medians) / len(medians) / MAD_OF_NORMAL


def denoiser() -> DenoisingNetwork:
    """-> DenoisingNetwork with the weights that come with this package, in eval mode. Raises
    WeightsMissing.
    """
    state, _ = ours(WEIGHTS)
    return load_denoiser(state).to(memory_format=torch.channels_last)  # convolutions are faster so


def load_denoiser(state: dict[str, torch.Tensor]) -> DenoisingNetwork:
    """dict of tensors -> DenoisingNetwork of the width and depth that the tensors tell, in eval mode.

    Raises TypeError or ValueError for tensors that are no such network's.
    """
    require_type(state, "state", dict, "a dict of tensors")
    if "first.bias" not in state:
        raise ValueError("state wants the tensors of a DenoisingNetwork, got others")
    width = len(require_tensor(state["first.bias"], "first.bias", "D"))
    depth = sum(str(name).endswith("conv1.bias") for name in state)
    with torch.random.fork_rng(devices=[]):
        network = DenoisingNetwork(width=width, depth=max(1, depth))
    return load_tensors(network, state)


def _clean(window, network, sigma):
    """(C, h, w), network, float -> (C, h, w)"""
    window = window.to(network.first.weight)
    with torch.no_grad():
        if len(window) == 1:
            return network(window[None], window.new_tensor([sigma]))[0].cpu()
        # A weighted sum of independent noises has the root of the summed squares of the weights as its level.
        levels = sigma * window.new_tensor(YCBCR).square().sum(1).sqrt()
        centre = window.new_tensor([0, 0.5, 0.5]).view(3, 1, 1)  # colour differences are about 0
        clean = network((rgb_to_ycbcr(window) + centre)[:, None], levels)[:, 0]
        return ycbcr_to_rgb(clean - centre).cpu()


def _median_detail(channel):
    """(H, W) -> float: the median of |a − b − c + d| / 2 over squares of 2 × 2 pixels."""
    height, width = (side // 2 * 2 for side in channel.shape)
    details = []
    for top in range(0, height, STRIP):
        strip = as_floating(channel[None, top : min(top + STRIP, height), :width])[0].float()
        a, b, c, d = strip[::2, ::2], strip[::2, 1::2], strip[1::2, ::2], strip[1::2, 1::2]
        details.append((a - b - c + d).abs() / 2)
    return float(torch.cat(details).median())


# --- training it --------------------------------------------------------------------------------------------


def denoising_loss(network: nn.Module, images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """network, (B, 1, H, W) in [0, 1], (B,) -> scalar: the mean absolute error after normal noise of these
    levels is added, for `fit`.

    The noise is drawn from the global generator, anew in each step; values outside [0, 1] are cut off, as in
    a photograph. Raises TypeError or ValueError for what does not fit.
    """
    require_type(network, "network", nn.Module, "a torch.nn.Module")
    require_tensor(images, "images", "B C H W", C=1)
    require_tensor(sigma, "sigma", "B", B=len(images), device=images.device)
    noise = sigma.view(-1, 1, 1, 1) * torch.randn_like(images)
    clean = network((images + noise).clamp(0, 1), sigma)
    require_tensor(clean, "network(images, sigma)", "B C H W", **dict(zip("BCHW", images.shape, strict=True)))
    return F.l1_loss(clean.to(images.dtype), images)
