"""Chapter 5b: digits hidden on textures, the measurements on them, and how many bytes a function saves for
its backward pass.
"""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from vlmbook import data

TEXTURES = ("brick", "grass", "gravel")


def resize_photo(name: str, size: tuple[int, int] = (192, 256)) -> torch.Tensor:
    """str, (H, W) -> (3, H, W): the bundled photograph of that name at that size."""
    image = data.photo(name)[None]
    return F.interpolate(image, size=size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def hide_digits(digits: torch.Tensor, rows: tuple[int, int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, 1, 8, 8), (first, last) -> (n, 1, 24, 24), (n,) in 0 … 8: each digit in one of nine cells of a
    texture, and the number of the cell.

    The texture is brick, grass or gravel, cut from these rows of the photographs at half their size (256×256)
    and darkened under the digit.
    """
    textures = torch.stack([F.avg_pool2d(data.photo(name)[:1], 2)[0] for name in TEXTURES])
    windows = textures[:, rows[0] : rows[1]].unfold(1, 24, 4).unfold(2, 24, 4)  # (3, i, j, 24, 24)
    n = len(digits)
    generator = torch.Generator().manual_seed(seed)
    texture, i, j, cell = (torch.randint(high, (n,), generator=generator) for high in (*windows.shape[:3], 9))
    cells = rearrange(windows[texture, i, j], "n (r h) (c w) -> n (r c) h w", h=8, w=8).clone()
    hidden = torch.arange(n), cell
    cells[hidden] = torch.maximum(cells[hidden] / 2, digits[:, 0])
    return rearrange(cells, "n (r c) h w -> n 1 (r h) (c w)", r=3), cell


def measure_share_in_cell(maps: torch.Tensor, cells: torch.Tensor) -> float:
    """(n, h, w), at least (n,) in 0 … 8 -> float: the share of a map that lies in the true cell, mean over
    the maps.
    """
    sums = rearrange(maps, "n (r h) (c w) -> n (r c) h w", r=3, c=3).sum((2, 3))
    shares = sums / sums.sum(1, keepdim=True).clamp(min=1e-9)
    return shares.gather(1, cells[: len(maps), None]).mean().item()


def shuffle_patches(x: torch.Tensor, order: torch.Tensor, patch_size: int) -> torch.Tensor:
    """(B, C, H, W), (N,) -> (B, C, H, W): the same patches, number order[i] now at position i."""
    size = {"h": x.shape[2] // patch_size, "p": patch_size, "q": patch_size}
    patches = rearrange(x, "b c (h p) (w q) -> b (h w) c p q", **size)[:, order]
    return rearrange(patches, "b (h w) c p q -> b c (h p) (w q)", **size)


def count_saved_bytes(function: Callable, *inputs: torch.Tensor) -> int:
    """function, tensors -> int: bytes that function(*inputs) saves for its backward pass."""
    sizes = {}

    def pack(x):
        sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        output = function(*inputs)  # as long as it lives, the storages live, and no address is used twice
    del output
    return sum(sizes.values())


@torch.no_grad()
def randomize_parameters(net: nn.Module) -> nn.Module:
    """A module -> the same, every parameter drawn anew and so large that it matters, also those that start at
    zero.
    """
    for parameter in net.parameters():
        parameter.normal_(std=0.3)
    return net
