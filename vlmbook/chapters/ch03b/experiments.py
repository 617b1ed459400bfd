"""Chapter 3b: gradients before any training, a network block by block, and images with a square covered."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmbook import data
from vlmbook.resnet import BasicBlock, ResNet, small_resnet

PHOTOS = ("astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "rocket")


@cache
def load_crops(size: int = 16) -> tuple[Tensor, Tensor]:
    """-> (B, 3, size, size), (B,) int64: a crop of each photograph, its number the label.

    Read only: the same tensors come back each time.
    """
    side = 4 * size
    crops = [data.photo(name)[None, :, 50 : 50 + side, 100 : 100 + side] for name in PHOTOS]
    images = torch.cat([F.interpolate(crop, size=(size, size), mode="area") for crop in crops])
    return images, torch.arange(len(images))


def gradient_norms(net: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """-> the norm of the loss's gradient for the weights of each convolution, from the first on."""
    weights = [module.weight for module in net.modules() if isinstance(module, nn.Conv2d)]
    loss = F.cross_entropy(net(images), labels)
    return [gradient.norm().item() for gradient in torch.autograd.grad(loss, weights)]


@cache
def gradients_at_initialisation(depth: int, skip: bool, norm: bool, seed: int) -> list[float]:
    """-> `gradient_norms` of a network before any training, on the crops; torch's global generator stays."""
    norm_layer = nn.BatchNorm2d if norm else nn.Identity
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = small_resnet(depth, len(PHOTOS), skip=skip, norm_layer=norm_layer)
    return gradient_norms(net, *load_crops())


def list_blocks(net: ResNet) -> list[BasicBlock]:
    """ResNet -> its BasicBlocks and PlainBlocks, from the image on."""
    return [module for module in net.modules() if isinstance(module, BasicBlock)]


@torch.no_grad()
def trace_blocks(net: ResNet, images: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """ResNet of BasicBlocks, (B, C, H, W) -> of each block (shortcut, F(x), output), each (B, D, H', W')."""
    x = net.maxpool(net.bn1(net.conv1(images)).relu())
    traced = []
    for block in list_blocks(net):
        shortcut = block.downsample(x)
        residual = block.residual(x)
        x = block(x)
        traced.append((shortcut, residual, x))
    return traced


def occlude(image: Tensor, size: int) -> Tensor:
    """(1, C, H, W) -> (H·W, C, H, W): copies of the image, in each a square of zeros around another pixel.

    The square has `size` pixels a side and is cut at the border [Zeiler & Fergus 2014].
    """
    rows, columns = (_is_covered(n, size) for n in image.shape[2:])
    square = rows[:, None, :, None] & columns[None, :, None, :]  # (H, W, H, W)
    return image.repeat(len(rows) * len(columns), 1, 1, 1).masked_fill(square.flatten(0, 1)[:, None], 0)


def _is_covered(n, size):
    """-> (n, n) bool: does the stretch of `size` pixels around pixel i cover pixel j?"""
    distance = torch.arange(n) - torch.arange(n)[:, None]  # from its middle i to j
    return (-size // 2 < distance) & (distance <= size // 2)
