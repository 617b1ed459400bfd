"""Inpainting: a U-Net of gated convolutions fills the holes of an image.

The network sees one channel at a time, with the hole filled smoothly from coarser and coarser averages of the
known pixels, and the mask. It predicts what the smooth filling lacks. Of a colour image it fills the luma and
the two colour differences, which change together far less than red, green and blue do.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from vlmbook.editing.holes import free_form_mask
from vlmbook.editing.quality import require_mask
from vlmbook.editing.resampling import rgb_to_ycbcr, ycbcr_to_rgb
from vlmbook.editing.tiling import as_floating, as_kind, require_image
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
TILE = 128  # pixels that are filled at once
STEP = 4  # of the smooth filling: its finest average is over 4 × 4 pixels
STRIP = 512  # rows that are averaged at once


# --- the network --------------------------------------------------------------------------------------------


class GatedConv2d(nn.Module):
    """(B, C, H, W) -> (B, D, H, W): ELU(conv(x)) · σ(conv'(x)) [Yu et al. 2019, arXiv:1806.03589, eq. 3].

    The gate σ(conv'(x)) in (0, 1) is learned for each position and channel. So the network itself decides
    where a feature counts, in the hole, near it, and outside. Both convolutions are 3×3, padded, in one
    layer. Raises TypeError or ValueError for channels below 1.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.in_channels = require_whole(in_channels, "in_channels", most=2**12)
        self.out_channels = require_whole(out_channels, "out_channels", most=2**12)
        self.both = nn.Conv2d(in_channels, 2 * out_channels, 3, padding=1)

    @property
    def weight(self) -> torch.Tensor:
        """-> (2D, C, 3, 3): of the features, then of the gate."""
        return self.both.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        require_tensor(x, "x", "B C H W", C=self.in_channels, empty="B")
        require_same_kind(x, "x", self.weight)
        feature, gate = self.both(x).chunk(2, dim=1)
        return F.elu(feature) * torch.sigmoid(gate)


class GatedUNet(UNet):
    """(B, 2, H, W) -> (B, 1, H, W): chapter 3c's U-Net whose convolutions are gated.

    Channel 0 is the image with its hole filled smoothly, channel 1 the mask. The output is what the smooth
    filling lacks. There is no batch normalisation, which would mix the statistics of hole and image. Raises
    TypeError or ValueError for sizes below 1.
    """

    def __init__(self, *, width: int = 16, depth: int = 3):
        super().__init__(2, 1, width=width, depth=depth)
        widths = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(_double_gated(*ends) for ends in pairwise([2, *widths]))
        self.decoder = nn.ModuleList(_double_gated(2 * outs, outs) for outs in widths[:-1])
        nn.init.zeros_(self.head.weight)  # at first the result is the smooth filling
        nn.init.zeros_(self.head.bias)


def _double_gated(in_channels, channels):
    return nn.Sequential(GatedConv2d(in_channels, channels), GatedConv2d(channels, channels))


# --- a smooth filling ---------------------------------------------------------------------------------------


def fill_smoothly(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W), (B, 1, H, W) of 0 and 1 -> (B, C, H, W): holes filled from averages of the known pixels.

    Averages over 4, 8, 16 … pixels are taken until no square lacks a known pixel; then each finer level takes
    its own average where it has one, else that of the level above. Known pixels stay. Raises TypeError or
    ValueError for shapes that do not fit.
    """
    require_tensor(images, "images", "B C H W")
    batch, _, height, width = images.shape
    bounds = {"least": 0, "most": 1, "device": images.device}
    require_tensor(masks, "masks", "B 1 H W", B=batch, H=height, W=width, **bounds)
    smooth = _enlarge_coarse(_fill_coarse(*_sum_known(images, masks)))[:, :, :height, :width]
    return torch.where(masks > 0, smooth.to(images.dtype), images)


def _sum_known(images, masks):
    """-> (B, C, ⌈H/4⌉, ⌈W/4⌉), (B, 1, ⌈H/4⌉, ⌈W/4⌉): the mean over 4 × 4 pixels of the known ones with 0
    for the others, and the share of known ones.
    """
    known = (1 - masks).to(torch.promote_types(images.dtype, torch.float32))
    return _halve(images * known, STEP), _halve(known, STEP)


def _fill_coarse(total, share):
    """(B, C, h, w), (B, 1, h, w) -> (B, C, h, w): the means of the known pixels; where there are none, those
    of the next level, interpolated.
    """
    mean = total / torch.where(share > 0, share, 1)
    if bool((share > 0).all()) or max(share.shape[2:]) == 1:
        return mean
    coarser = _fill_coarse(_halve(total), _halve(share))
    smooth = F.interpolate(coarser, scale_factor=2.0, mode="bilinear")
    return torch.where(share > 0, mean, smooth[:, :, : mean.shape[2], : mean.shape[3]])


def _enlarge_coarse(coarse):
    return F.interpolate(coarse, scale_factor=float(STEP), mode="bilinear")


def _halve(images, step=2):
    """-> means over step × step pixels; those outside the image count as 0."""
    height, width = images.shape[2:]
    return F.avg_pool2d(F.pad(images, (0, -width % step, 0, -height % step)), step)


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
    hole = require_mask(mask, "mask", image)
    if hole.all():
        raise ValueError("mask wants at least one known pixel, 0, got 1 everywhere")
    tile = require_whole(tile, "tile", most=2**14)
    progress = require_choice(progress, "progress", (False, True))
    network = inpainter() if network is None else network
    require_type(network, "network", GatedUNet, "a GatedUNet")

    coarse = _coarse_filling(image, hole)
    result = image.clone()
    for each in tqdm(_windows_with_holes(hole, tile, network), disable=not progress, unit="tile"):
        filled = _fill_window(image, hole, coarse, each, network)
        rows, columns = slice(each.top, each.bottom), slice(each.left, each.right)
        inner = filled[:, each.top - each.above :, each.left - each.before :]
        inner = as_kind(inner[:, : each.bottom - each.top, : each.right - each.left], image.dtype)
        result[:, rows, columns] = torch.where(hole[rows, columns], inner, result[:, rows, columns])
    return result


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
    width = require_tensor(state["head.weight"], "head.weight", "1 W 1 1").shape[1]
    depth = sum(str(name).startswith("upward.") and str(name).endswith(".bias") for name in state)
    with torch.random.fork_rng(devices=[]):
        network = GatedUNet(width=width, depth=max(1, depth))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ValueError(f"state wants the tensors of a GatedUNet, got others: {reason}") from None
    return network.eval()


def _windows_with_holes(hole, tile, network):
    """(H, W) bool -> list of Window"""
    grid = max(STEP, 2**network.depth)
    every = cut_windows(*hole.shape, tile=tile, overlap=network.receptive_radius(), grid=grid)
    return [each for each in every if hole[each.top : each.bottom, each.left : each.right].any()]


def _coarse_filling(image, hole):
    """(C, H, W), (H, W) bool -> (C, ⌈H/4⌉, ⌈W/4⌉) float32: computed strip by strip, so that nothing of the
    image's size is made.
    """
    strips = range(0, len(hole), STRIP)
    sums = [
        _sum_known(
            as_floating(image[:, top : top + STRIP])[None], hole[None, None, top : top + STRIP].float()
        )
        for top in strips
    ]
    total, share = (torch.cat(parts, dim=2) for parts in zip(*sums, strict=True))
    return _fill_coarse(total, share)[0]


def _fill_window(image, hole, coarse, each, network):
    """-> (C, h, w): the window's rectangle, its holes filled."""
    rows, columns = slice(each.above, each.below), slice(each.before, each.after)
    known = as_floating(image[:, rows, columns]).to(network.head.weight)
    covered = hole[rows, columns].to(known)
    filled = torch.where(covered > 0, _smooth_window(coarse, each).to(known), known)
    planes = rgb_to_ycbcr(filled) if len(filled) == 3 else filled
    with torch.no_grad():
        planes = planes + covered * _predict_detail(network, planes[:, None], covered)
    return (ycbcr_to_rgb(planes) if len(filled) == 3 else planes).cpu()


def _predict_detail(network, planes, covered):
    """network, (P, 1, h, w), (h, w) -> (P, h, w). A colour difference has its middle at 0, luma at 1/2."""
    offset = planes.new_tensor([0.0, 0.5, 0.5][: len(planes)]).view(-1, 1, 1, 1)
    masks = covered.expand(len(planes), 1, -1, -1)
    return network(torch.cat([planes + offset, masks], dim=1))[:, 0]


def _smooth_window(coarse, each):
    """(C, h', w'), Window -> (C, h, w): that part of the whole image's smooth filling."""
    top, left = (max(0, start // STEP - 1) for start in (each.above, each.before))
    bottom, right = (-(-end // STEP) + 1 for end in (each.below, each.after))
    smooth = _enlarge_coarse(coarse[None, :, top:bottom, left:right])[0]
    rows = slice(each.above - STEP * top, each.below - STEP * top)
    return smooth[:, rows, each.before - STEP * left : each.after - STEP * left]


# --- training it --------------------------------------------------------------------------------------------


def inpainting_loss(network: nn.Module, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """network, (B, 1, H, W) in [0, 1], (B, 1, H, W) of 0 and 1 -> scalar: the mean absolute error inside the
    holes, for `fit`.

    The network sees the images with their holes filled smoothly. Raises TypeError or ValueError for what does
    not fit.
    """
    require_type(network, "network", nn.Module, "a torch.nn.Module")
    require_tensor(images, "images", "B C H W", C=1)
    batch, _, height, width = images.shape
    require_tensor(masks, "masks", "B 1 H W", B=batch, H=height, W=width)
    filled = fill_smoothly(images, masks)
    detail = network(torch.cat([filled, masks], dim=1))
    require_tensor(detail, "network(images and masks)", "B 1 H W", B=batch, H=height, W=width)
    errors = (filled + detail - images).abs() * masks
    return errors.sum() / masks.sum().clamp(min=1)


def draw_masks(size: int, count: int, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """int, int -> (count, 1, size, size) float32 of 0 and 1: free-form masks to train on, of one to five
    strokes with brushes of 3 to 15 % of the side.

    Raises TypeError or ValueError for sizes and numbers below 1.
    """
    size = require_whole(size, "size", most=2**12)
    count = require_whole(count, "count", most=2**24)
    numbers = torch.randint(1, 6, (count,), generator=generator).tolist()
    brushes = (0.03 + 0.12 * torch.rand(count, generator=generator)).tolist()
    drawn = [
        free_form_mask(size, strokes=strokes, brush=brush, generator=generator)
        for strokes, brush in zip(numbers, brushes, strict=True)
    ]
    return torch.stack(drawn)
