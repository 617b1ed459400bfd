"""Inpainting: a U-Net of gated convolutions fills the holes of an image.

The network sees one channel, with the hole filled smoothly from the known pixels around it, and the mask. It
predicts what the smooth filling lacks. Of a colour image it corrects the luma; the colour differences keep
the smooth filling.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from vlmbook.editing.holes import block_mask, free_form_mask, require_generator
from vlmbook.editing.networks import evaluating, load_tensors
from vlmbook.editing.quality import require_mask
from vlmbook.editing.resampling import luma
from vlmbook.editing.tiling import STRIP, as_floating, as_kind, require_image
from vlmbook.editing.tiling import windows as cut_windows
from vlmbook.pretrained import ours
from vlmbook.unet import UNet
from vlmbook.validation import (
    require_choice,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

WEIGHTS = "ch06b_inpaint"
TILE = 256  # pixels that are filled at once
FOLD = 2  # pixels of each direction that the network sees as channels
STEP = 4  # of the smooth filling: from averages over 4 × 4 pixels on, the whole image is looked at
SWEEPS = 32  # of the smooth filling: how often a missing pixel becomes the mean of its neighbours
MARGIN = 8 + SWEEPS  # pixels that a smooth filling depends on beside those of the coarse averages


# --- the network --------------------------------------------------------------------------------------------


class GatedConv2d(nn.Module):
    """(B, C, H, W) -> (B, D, H, W): ELU(feature) · σ(gate) [Yu et al. 2019, arXiv:1806.03589, eq. 3].

    Feature and gate are convolutions of 3×3, padded, in one layer; batch normalisation follows, with which
    the network learns in minutes. A gate in (0, 1) is computed for each position and channel: so the network
    itself decides where a feature counts, in the hole, near it, and outside. Raises TypeError or ValueError
    for channels below 1.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.in_channels = require_whole(in_channels, "in_channels", most=2**12)
        self.out_channels = require_whole(out_channels, "out_channels", most=2**12)
        self.both = nn.Conv2d(in_channels, 2 * out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2 * out_channels)

    @property
    def weight(self) -> torch.Tensor:
        """-> (2D, C, 3, 3): of the features, then of the gates."""
        return self.both.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        require_tensor(x, "x", "B C H W", C=self.in_channels, empty="B")
        require_same_kind(x, "x", self.weight)
        feature, gate = self.norm(self.both(x)).chunk(2, dim=1)
        return F.elu(feature) * torch.sigmoid(gate)


class GatedUNet(UNet):
    """(B, 2, H, W) -> (B, 1, H, W): chapter 3c's U-Net whose convolutions are gated.

    Channel 0 is the image with its hole filled smoothly, minus ½; channel 1 is the mask. The output is what
    the smooth filling lacks. Squares of 2 × 2 pixels are folded into channels first and unfolded at the end,
    which is four times as fast as a U-Net at the full size. Raises TypeError or ValueError for sizes below 1.
    """

    def __init__(self, *, width: int = 16, depth: int = 3):
        super().__init__(2 * FOLD**2, FOLD**2, width=width, depth=depth)
        widths = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(_double_gated(*ends) for ends in pairwise([2 * FOLD**2, *widths]))
        self.decoder = nn.ModuleList(_double_gated(2 * outs, outs) for outs in widths[:-1])
        nn.init.zeros_(self.head.weight)  # at first the result is the smooth filling
        nn.init.zeros_(self.head.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        require_tensor(x, "x", "B C H W", C=2, empty="B")
        require_same_kind(x, "x", self.head.weight)
        height, width = x.shape[2:]
        even = F.pad(x, (0, width % FOLD, 0, height % FOLD), mode="replicate")
        detail = F.pixel_shuffle(super().forward(F.pixel_unshuffle(even, FOLD)), FOLD)
        return detail[:, :, :height, :width]

    def receptive_radius(self) -> int:
        """-> int: the largest distance in pixels from an output pixel to an input pixel that it depends
        on.
        """
        return FOLD * super().receptive_radius() + FOLD - 1


def _double_gated(in_channels, channels):
    return nn.Sequential(GatedConv2d(in_channels, channels), GatedConv2d(channels, channels))


# --- a smooth filling ---------------------------------------------------------------------------------------


def fill_smoothly(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W), (B, 1, H, W) of 0 and 1 -> (B, C, H, W): holes filled from the known pixels around them.

    First come averages of the known pixels over 2, 4, 8 … pixels, until no square lacks one; each finer level
    takes its own average where it has one, else that of the level above [after Gortler et al. 1996,
    SIGGRAPH, sec. 3.4, "pull-push"]. Then each missing pixel becomes the mean of the 3 × 3 pixels around it,
    32 times, which brings the filling near the solution of Laplace's equation. Known pixels stay. Raises
    TypeError or ValueError for what does not fit and for other values in a mask.
    """
    require_tensor(images, "images", "B C H W")
    batch, _, height, width = images.shape
    bounds = {"least": 0, "most": 1, "device": images.device}
    require_tensor(masks, "masks", "B 1 H W", B=batch, H=height, W=width, **bounds)
    if not ((masks == 0) | (masks == 1)).all():
        raise ValueError("masks wants values 0 and 1 only, got others")
    known = (1 - masks).to(torch.promote_types(images.dtype, torch.float32))
    smooth = _sweep(_pull_push(torch.where(masks > 0, 0, images).to(known), known), masks)
    return torch.where(masks > 0, smooth.to(images.dtype), images)


def _pull_push(total, share):
    """(B, C, h, w), (B, 1, h, w) -> (B, C, h, w): the means of the known pixels; where there are none, those
    of the next level, interpolated.
    """
    if bool((share > 0).all()) or max(share.shape[2:]) == 1:
        return total / torch.where(share > 0, share, 1)
    return _push(_pull_push(_halve(total), _halve(share)), total, share)


def _push(coarser, total, share):
    """The next level, (B, C, h, w), (B, 1, h, w) -> (B, C, h, w): own means, else the next level's."""
    smooth = F.interpolate(coarser, scale_factor=2.0, mode="bilinear")
    mean = total / torch.where(share > 0, share, 1)
    return torch.where(share > 0, mean, smooth[:, :, : mean.shape[2], : mean.shape[3]])


def _halve(images, step=2):
    """-> means over step × step pixels; those outside the image count as 0."""
    height, width = images.shape[2:]
    return F.avg_pool2d(F.pad(images, (0, -width % step, 0, -height % step)), step)


def _sweep(images, masks):
    """-> the missing pixels, each replaced by the mean of the 3 × 3 around it, again and again."""
    for _ in range(SWEEPS):
        means = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
        images = torch.where(masks > 0, means, images)
    return images


# --- using it -----------------------------------------------------------------------------------------------


def inpaint(
    image: torch.Tensor,
    mask: torch.Tensor,
    *,
    network: GatedUNet | None = None,
    tile: int = TILE,
    progress: bool = False,
) -> torch.Tensor:
    """(C, H, W) in [0, 1], C = 1 or 3, (1, H, W) of 0 and 1 -> (C, H, W): the image with its holes, where the
    mask is 1, filled; all other pixels stay as they are.

    Without `network` it is the one that comes with this package, `inpainter()`. What the image has under the
    hole has no influence. Only windows with a hole are computed, of `tile` pixels each: memory is bounded,
    and the result is that of the whole image but for rounding. An image of bytes (uint8) stays one of bytes.
    Raises TypeError or ValueError for images and masks that do not fit and for a mask that covers all,
    WeightsMissing where the package's own weights are not there.
    """
    require_image(image, channels=(1, 3))
    hole = _require_hole(mask, image)
    tile = require_whole(tile, "tile", most=2**14)
    progress = require_choice(progress, "progress", (False, True))
    network = inpainter() if network is None else network
    require_type(network, "network", GatedUNet, "a GatedUNet")
    with evaluating(network):
        return _fill_windows(image, hole, network, tile, progress)


def fill_image(image: torch.Tensor, mask: torch.Tensor, *, tile: int = TILE) -> torch.Tensor:
    """(C, H, W) in [0, 1], (1, H, W) of 0 and 1 -> (C, H, W): `fill_smoothly` of one image, in windows, as
    `inpaint` goes through it, without a network.

    An image of bytes (uint8) stays one of bytes. Raises TypeError or ValueError for images and masks that do
    not fit and for a mask that covers all.
    """
    require_image(image)
    hole = _require_hole(mask, image)
    tile = require_whole(tile, "tile", most=2**14)
    return _fill_windows(image, hole, None, tile, False)


def _require_hole(mask, image):
    """-> (H, W) bool"""
    hole = require_mask(mask, "mask", image)
    if hole.all():
        raise ValueError("mask wants at least one known pixel, 0, got 1 everywhere")
    return hole


def _fill_windows(image, hole, network, tile, progress):
    """(C, H, W), (H, W) bool, network or None -> (C, H, W)"""
    device, image = image.device, image.detach().cpu()
    coarse = _coarse_filling(image, hole)
    result = image.clone()
    for each in tqdm(_windows_with_holes(hole, tile, network), disable=not progress, unit="tile"):
        filled = _fill_window(image, hole, coarse, each, network)
        rows, columns = slice(each.top, each.bottom), slice(each.left, each.right)
        inner = filled[:, each.top - each.above :, each.left - each.before :]
        inner = as_kind(inner[:, : each.bottom - each.top, : each.right - each.left], image.dtype)
        result[:, rows, columns] = torch.where(hole[rows, columns], inner, result[:, rows, columns])
    return result.to(device)


def inpainter() -> GatedUNet:
    """-> GatedUNet with the weights that come with this package, in eval mode. Raises WeightsMissing."""
    state, _ = ours(WEIGHTS)
    return load_inpainter(state)


def load_inpainter(state: dict[str, torch.Tensor]) -> GatedUNet:
    """dict of tensors -> GatedUNet of the width and depth that the tensors tell, in eval mode.

    Raises TypeError or ValueError for tensors that are no such network's.
    """
    require_type(state, "state", dict, "a dict of tensors")
    if "head.weight" not in state:
        raise ValueError("state wants the tensors of a GatedUNet, got others")
    width = require_tensor(state["head.weight"], "head.weight", "F W 1 1").shape[1]
    depth = sum(str(name).startswith("upward.") and str(name).endswith(".bias") for name in state)
    with torch.random.fork_rng(devices=[]):
        network = GatedUNet(width=width, depth=max(1, depth))
    return load_tensors(network, state)


def _windows_with_holes(hole, tile, network):
    """(H, W) bool -> list of Window"""
    grid = STEP if network is None else max(STEP, FOLD * 2**network.depth)
    overlap = MARGIN if network is None else MARGIN + network.receptive_radius()
    every = cut_windows(*hole.shape, tile=tile, overlap=overlap, grid=grid)
    return [each for each in every if hole[each.top : each.bottom, each.left : each.right].any()]


def _coarse_filling(image, hole):
    """(C, H, W), (H, W) bool -> (C, ⌈H/4⌉, ⌈W/4⌉) float32: averages over 4 × 4 pixels, filled; computed strip
    by strip, so that nothing of the image's size is made.
    """
    totals, shares = [], []
    for top in range(0, len(hole), STRIP):
        known = (~hole[None, None, top : top + STRIP]).float()
        totals.append(_halve(as_floating(image[:, top : top + STRIP])[None].float() * known, STEP))
        shares.append(_halve(known, STEP))
    return _pull_push(torch.cat(totals, dim=2), torch.cat(shares, dim=2))[0]


def _fill_window(image, hole, coarse, each, network):
    """-> (C, h, w): the window's rectangle, its holes filled; smoothly, where there is no network."""
    rows, columns = slice(each.above, each.below), slice(each.before, each.after)
    pixels = as_floating(image[:, rows, columns]).to(coarse if network is None else network.head.weight)
    covered = hole[None, rows, columns].to(pixels)
    filled = _smooth_window(pixels, covered, coarse, each)
    if network is None:
        return filled
    with torch.no_grad():
        detail = network(torch.cat([luma(filled) - 0.5, covered])[None])[0]
    return (filled + covered * detail).cpu()  # luma alone changes where red, green and blue change alike


def _smooth_window(pixels, covered, coarse, each):
    """(C, h, w), (1, h, w), (C, H/4, W/4), Window -> (C, h, w): that part of the whole image's smooth
    filling.
    """
    pixels, known = pixels[None], 1 - covered[None]
    halves = _halve(pixels * known), _halve(known)
    rows = slice(each.above // STEP, -(-each.below // STEP))
    quarter = coarse[None, :, rows, each.before // STEP : -(-each.after // STEP)].to(pixels)
    smooth = _push(_push(quarter, *halves), pixels * known, known)
    return _sweep(smooth, covered[None])[0]


# --- training it --------------------------------------------------------------------------------------------


def inpainting_loss(network: nn.Module, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """network, (B, 1, H, W) in [0, 1], (B, 1, H, W) of 0 and 1 -> scalar: the mean squared error inside the
    holes, for `fit`.

    The network sees the images with their holes filled smoothly. Raises TypeError or ValueError for what does
    not fit.
    """
    require_type(network, "network", nn.Module, "a torch.nn.Module")
    require_tensor(images, "images", "B C H W", C=1)
    batch, _, height, width = images.shape
    require_tensor(masks, "masks", "B 1 H W", B=batch, H=height, W=width)
    filled = fill_smoothly(images, masks)
    detail = network(torch.cat([filled - 0.5, masks], dim=1))
    require_tensor(detail, "network(images and masks)", "B 1 H W", B=batch, H=height, W=width)
    errors = (filled + detail - images).square() * masks
    return errors.sum() / masks.sum().clamp(min=1)


def draw_masks(size: int, count: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """int, int -> (count, 1, size, size) float32 of 0 and 1: masks to train on. Three of four are free-form,
    one to five strokes with brushes of 3 to 15 % of the side; one of four is a block of 2 to 15 % of the
    area.

    Raises TypeError or ValueError for sizes and numbers below 1.
    """
    size = require_whole(size, "size", most=2**12)
    count = require_whole(count, "count", most=2**24)
    generator = require_generator(generator)
    return torch.stack([_draw_mask(size, generator) for _ in range(count)])


def _draw_mask(size, generator):
    """-> (1, size, size)"""
    kind, strokes, width = torch.rand(3, generator=generator).tolist()
    if kind < 0.25:
        return block_mask(size, share=0.02 + 0.13 * width, generator=generator)
    return free_form_mask(size, strokes=1 + int(5 * strokes), brush=0.03 + 0.12 * width, generator=generator)
