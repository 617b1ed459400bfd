"""Chapter 3b: gradients before any training, the full run on Fashion-MNIST, a network block by block, and
images with a square covered.
"""

import copy
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import platformdirs
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vlmbook import data, pretrained, runtime
from vlmbook.flow import FlowUNet, sample
from vlmbook.resnet import BasicBlock, ResNet, resnet20, small_resnet
from vlmbook.training import History, fit

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


class Signals(NamedTuple):
    """Sizes in a network before any training, from the image on."""

    h: list[float]  # norm of each block's output
    dh: list[float]  # norm of the loss's gradient with respect to that output
    dw: list[float]  # norm of the loss's gradient with respect to each convolution's weights


@cache
def measure_signals(depth: int, skip: bool, norm: bool, seed: int, circular: bool = False) -> Signals:
    """-> Signals of a network before any training, on the crops; torch's global generator stays.

    `circular` pads each convolution with pixels of the opposite border in place of zeros.
    """
    norm_layer = nn.BatchNorm2d if norm else nn.Identity
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = small_resnet(depth, len(PHOTOS), skip=skip, norm_layer=norm_layer)
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    images, labels = load_crops()
    outputs = []
    for block in list_blocks(net):
        block.register_forward_hook(lambda _, __, output: outputs.append(output.clone()) or outputs[-1])
    if circular:
        for layer in convolutions:
            layer.register_forward_pre_hook(lambda _, given: F.pad(given[0], (1, 1, 1, 1), "circular"))
            layer.padding = (0, 0)
    loss = F.cross_entropy(net(images), labels)
    weights = [layer.weight for layer in convolutions]
    gradients = torch.autograd.grad(loss, outputs + weights)
    norms = [tensor.norm().item() for tensor in (*outputs, *gradients)]
    blocks = len(outputs)
    return Signals(norms[:blocks], norms[blocks : 2 * blocks], norms[2 * blocks :])


# --- the full run on Fashion-MNIST --------------------------------------------------------------------------


def find_checkpoint() -> Path:
    """-> Path in the user's cache folder, from which the full run goes on after an interruption."""
    folder = platformdirs.user_cache_path("vlmbook", appauthor=False) / "training"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "ch03b_fashion.safetensors"


def move_images(x: Tensor, most: int = 2) -> Tensor:
    """(B, C, H, W) -> (B, C, H, W): each image mirrored or not, and moved by up to `most` pixels; zeros come
    in.
    """
    batch, _, height, width = x.shape
    mirrored = torch.rand(batch, 1, 1, 1) < 0.5
    x = F.pad(torch.where(mirrored, x.flip(3), x), (most, most, most, most))
    rows = torch.randint(2 * most + 1, (batch, 1)) + torch.arange(height)
    columns = torch.randint(2 * most + 1, (batch, 1)) + torch.arange(width)
    each = torch.arange(batch)[:, None, None]
    return x[each, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def loss_on_moved(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """network, (B, C, H, W), (B,) -> scalar: cross-entropy in nats on images that `move_images` changed."""
    return F.cross_entropy(net(move_images(x)), y)


def train_on_fashion(
    images: Tensor, labels: Tensor, *, epochs: int, checkpoint: Path | None = None
) -> tuple[ResNet, History]:
    """(N, 1, H, W), (N,) -> resnet20 in evaluation mode, History; with a checkpoint it goes on where it
    stopped.
    """
    runtime.seed_everything(0)
    net = resnet20(10, in_channels=1).to(memory_format=torch.channels_last)
    history = fit(
        net,
        (images, labels),
        loss_fn=loss_on_moved,
        epochs=epochs,
        batch_size=128,
        lr=0.1,
        warmup=200,
        weight_decay=5e-4,
        optimizer=partial(torch.optim.SGD, momentum=0.9, nesterov=True),
        precision=runtime.autocast_precision(),
        checkpoint=checkpoint,
        resume=checkpoint is not None,
        progress=False,
    )
    return net.eval(), history


def read_fashion_net() -> tuple[ResNet, dict]:
    """-> resnet20 with the weights of the full run, in evaluation mode, and their card."""
    state, card = pretrained.ours("ch03b_fashion")
    net = resnet20(10, in_channels=1)
    net.load_state_dict(state)
    return net.eval(), card


def draw_garments(n: int) -> tuple[Tensor, Tensor]:
    """int -> (10n, 1, 28, 28) in [0, 1], (10n,): articles of clothing that the network of chapter 4d draws,
    n of each class, and the classes that it was asked for.

    Fashion-MNIST itself is not part of this package.
    """
    state, _ = pretrained.ours("ch04d_fashion")
    generator = FlowUNet(28, 10)
    generator.load_state_dict(state)
    generator = generator.eval().to(memory_format=torch.channels_last)
    labels = torch.arange(10).repeat(n)
    return sample(generator, labels, 5, generator=torch.Generator().manual_seed(0)), labels


# --- inside a trained network -------------------------------------------------------------------------------


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


@torch.no_grad()
def refresh_statistics(net: nn.Module, images: Tensor) -> None:
    """network, (B, C, H, W) -> None: every BatchNorm's mean and variance are measured anew on these images;
    the network is in evaluation mode afterwards.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    net.train()
    for batch in images.split(256):
        net(batch)
    net.eval()


@torch.no_grad()
def measure_accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """network in evaluation mode, (B, C, H, W), (B,) -> float: the share of right answers."""
    answers = torch.cat([net(batch).argmax(1) for batch in images.split(500)])
    return (answers == labels).float().mean().item()


def without_each_block(net: ResNet, measure: Callable[[ResNet], float]) -> dict[int, float]:
    """ResNet, network -> number -> {block's number: `measure` without it}, for each block that keeps the
    size; the network is as before afterwards.
    """
    found = {}
    for number, (stage, position) in enumerate(_places(net), start=1):
        block = stage[position]
        if block.conv1.stride == (1, 1):
            shorter = copy.deepcopy(net)
            shorter_stage, shorter_position = _places(shorter)[number - 1]
            shorter_stage[shorter_position] = nn.Identity()
            found[number] = measure(shorter)
    return found


def _places(net):
    """ResNet -> list of (stage, position) of its blocks."""
    stages = [getattr(net, name) for name in net.stages]
    return [(stage, position) for stage in stages for position in range(len(stage))]
