"""Chapter 5b: digits hidden on photographs, the measurements on them, and how many bytes a function saves for
its backward pass.
"""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from vlmbook import data
from vlmbook.validation import require_choice

PHOTOS = ("astronaut", "brick", "cat", "coffee", "grass", "gravel", "hubble", "rocket", "tissue")
SCENE, CELL = 48, 16  # pixels a side: of a scene, and of one of its nine cells
DARKENING = 0.6  # what a photograph loses in the middle of the cell under a digit


def resize_photo(name: str, size: tuple[int, int] = (192, 256)) -> torch.Tensor:
    """str, (H, W) -> (3, H, W): the bundled photograph of that name at that size."""
    image = data.photo(name)[None]
    return F.interpolate(image, size=size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def hide_digits(digits: torch.Tensor, half: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, 1, 8, 8), "left" or "right" -> (n, 3, 48, 48), (n,) in 0 … 8: each digit, at twice its size, in
    one of nine cells of a square of a photograph, and the number of the cell.

    The square is cut from that half of one of nine photographs, and darkened under the digit.
    """
    left_half = require_choice(half, "half", ("left", "right")) == "left"
    photos = torch.stack([resize_photo(name, (128, 192)) for name in PHOTOS])
    photos = photos[..., :96] if left_half else photos[..., 96:]
    windows = photos.unfold(2, SCENE, 2).unfold(3, SCENE, 2)  # (9, 3, i, j, 48, 48), no copies
    n = len(digits)
    generator = torch.Generator().manual_seed(seed)
    highs = len(PHOTOS), *windows.shape[2:4], 9
    which, i, j, cell = (torch.randint(high, (n,), generator=generator) for high in highs)
    cells = rearrange(windows[which, :, i, j], "n k (r h) (c w) -> n (r c) k h w", h=CELL, w=CELL).clone()
    ink = F.interpolate(digits, size=(CELL, CELL), mode="bilinear", align_corners=False)
    ink = (1.3 * ink).clamp(0, 1)
    hidden = torch.arange(n), cell
    ground = cells[hidden] * (1 - _shade())
    cells[hidden] = ground + ink * (1 - ground)
    return rearrange(cells, "n (r c) k h w -> n k (r h) (c w)", r=3), cell


def _shade():
    """-> (CELL, CELL): a dark square that fades out towards the border of the cell."""
    far = torch.linspace(-1, 1, CELL).abs()
    far = torch.maximum(far[:, None], far)
    return (3 * (1 - far)).clamp(0, DARKENING)


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
