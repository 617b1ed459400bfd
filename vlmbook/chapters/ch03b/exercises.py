"""Exercises of chapter 3b, ResNet."""

import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.notebook.exercises import Exercise, Wrong, as_number, as_shape, as_tensor
from vlmbook.resnet import BasicBlock


def judge_layer3_shape(answer):
    got = as_shape(answer, "half of an odd one is rounded up, since a padding of 1 (or 3) is added")
    if got[0] != 1:
        raise Wrong(f"B = {got[0]:g}: the batch stays 1.")
    if got[1] in (128, 512):
        stage = "layer2" if got[1] == 128 else "layer4"
        raise Wrong(f"{got[1]:g} channels leave {stage}: the widths are 64, 128, 256, 512.")
    if got[1] != 256:
        raise Wrong(f"C = {got[1]:g}: layer1 has 64 channels, and each further stage doubles them.")
    if got[2:] == (12, 18):
        raise Wrong("12, 18: you rounded down. 25 becomes 13, and 75 becomes 38, then 19.")
    if got[2:] in ((25, 38), (25, 37), (50, 75)):
        raise Wrong(
            f"{got[2:]} is a size on the way: stem twice, layer2 and layer3 once each make four halvings."
        )
    if got[2:] == (19, 13):
        raise Wrong("19, 13: the height comes before the width.")
    if got[2:] in ((7, 10), (6, 9)):
        raise Wrong(f"{got[2:]} is the size after layer4: layer1 keeps the size.")
    if got[2:] != (13, 19):
        raise Wrong(f"H, W = {got[2:]}: halve 200 and 300 four times, and round up each time.")


def judge_variance_with_norm(answer):
    for start, blocks in ((3.0, 4), (1.0, 50), (1.0, 0), (0.5, 7)):
        got = as_number(answer(start, blocks), f"variance_with_norm({start:g}, {blocks})")
        want = start + blocks
        if abs(got - want) <= 1e-6 * max(1, abs(want)):
            continue
        case = f"With start={start:g} and {blocks} blocks you say {got:g}."
        if got in (start * 2**blocks, 2**blocks):
            raise Wrong(
                f"{case} That is doubling, which holds where the branch has the variance of its input. "
                "BN gives it another one: which?"
            )
        if got == 1 + blocks:
            raise Wrong(f"{case} You begin at 1. The input has the variance start.")
        if got == blocks:
            raise Wrong(f"{case} The variance of the input itself is missing.")
        if got in (start, 1):
            raise Wrong(f"{case} Only the branch is normalised; the sum of shortcut and branch is not.")
        if got == start * blocks or got == start * (1 + blocks):
            raise Wrong(f"{case} Each block adds the same amount, whatever came in: nothing multiplies.")
        raise Wrong(f"{case} Write down Var[h1], then Var[h2]: variances of uncorrelated terms add up.")


def variance_with_norm(start, blocks):
    return start + blocks


def judge_pre_activation(answer):
    for channels in (2, 3):
        block, x = _used_block(channels), torch.linspace(-2, 3, 60 * channels).sin().view(2, channels, 5, 6)
        want = pre_activation(block, x)
        got = as_tensor(answer(block, x.clone()), want, f"x {tuple(x.shape)}")
        branch = want - x
        slips = {
            "Nothing follows the addition here: leave out the last ReLU.": want.relu(),
            "The input is not added.": branch,
            "This is the block of 2015: BN and ReLU stand after the convolutions.": block(x),
            "This is the block of 2015 without its last ReLU: BN and ReLU come before each convolution.": block.residual(
                x
            )
            + x,
            "You add x after BN and ReLU. The shortcut takes x as it came in.": block.bn1(x).relu() + branch,
            "bn1 and bn2 are exchanged.": x + block.conv2(block.bn1(block.conv1(block.bn2(x).relu())).relu()),
            "Both ReLUs are missing: each convolution has BN and ReLU before it.": x
            + block.conv2(block.bn2(block.conv1(block.bn1(x)))),
            "The first ReLU is missing: each convolution has BN and ReLU before it.": x
            + block.conv2(block.bn2(block.conv1(block.bn1(x))).relu()),
            "The second ReLU is missing: each convolution has BN and ReLU before it.": x
            + block.conv2(block.bn2(block.conv1(block.bn1(x).relu()))),
            "bn1 is used twice; the second is bn2.": x
            + block.conv2(block.bn1(block.conv1(block.bn1(x).relu())).relu()),
            "conv1 and conv2 are exchanged.": x
            + block.conv1(block.bn2(block.conv2(block.bn1(x).relu())).relu()),
        }
        for message, slip in slips.items():
            if torch.allclose(got, slip, atol=1e-5):
                raise Wrong(message)
        if not torch.allclose(got, want, atol=1e-5):
            raise Wrong(
                f"The shape is right, but values are off by up to {(got - want).abs().max():.3g}. "
                "Compare the order of the six steps of the branch (hint 2)."
            )


def _used_block(channels):
    """-> BasicBlock in eval mode with random weights and statistics; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = BasicBlock(channels, channels, 1, nn.Identity(), nn.BatchNorm2d).eval()
        for norm in (block.bn1, block.bn2):
            for number in (norm.weight, norm.bias, norm.running_mean):
                nn.init.normal_(number.detach())
            nn.init.uniform_(norm.running_var, 0.5, 2)
    return block


def pre_activation(block, x):
    branch = block.conv1(block.bn1(x).relu())
    branch = block.conv2(block.bn2(branch).relu())
    return branch + x


def judge_shortcut(answer):
    generator = torch.Generator().manual_seed(1)
    for channels, outs, stride in ((16, 32, 2), (2, 5, 2), (3, 3, 1), (1, 4, 3)):
        x = torch.randn(2, channels, 7, 8, generator=generator)
        want = shortcut(x, outs, stride)
        got = answer(x.clone(), outs, stride)
        size = got.shape[2:] if isinstance(got, torch.Tensor) and got.ndim == 4 else None
        if size == x.shape[2:] != want.shape[2:]:
            raise Wrong(
                f"The size is still 7×8 with stride {stride}: x[:, :, ::stride, ::stride] takes every so many."
            )
        if size == (7 // stride, 8 // stride) != want.shape[2:]:
            raise Wrong(
                f"7 rows with stride {stride} leave {-(-7 // stride)}: begin with row 0; the last one counts."
            )
        got = as_tensor(got, want, f"x {tuple(x.shape)}, channels {outs}, stride {stride}")
        if (
            outs != channels
            and torch.equal(got[:, outs - channels :], want[:, :channels])
            and not got[:, 0].any()
        ):
            raise Wrong("The zeros stand before the old channels; they belong after them.")
        if stride > 1 and torch.equal(got[:, channels:], want[:, channels:]):
            if torch.allclose(got[:, :channels, :2, :2], F.avg_pool2d(x, stride)[:, :, :2, :2], atol=1e-6):
                raise Wrong("You take means. Option A takes every stride-th pixel as it is.")
        if got[:, channels:].any():
            raise Wrong("The new channels are not zero.")
        if not torch.equal(got, want):
            raise Wrong("The shape is right, but not these pixels: begin with the first row and column.")


def shortcut(x, channels, stride):
    every = x[:, :, ::stride, ::stride]
    return F.pad(every, (0, 0, 0, 0, 0, channels - x.shape[1]))


EXERCISES = {
    "1": Exercise(
        judge_layer3_shape,
        hints=(
            "Channels first: layer1 has 64, and each further stage doubles them.",
            "How often is the size halved? The convolution of the stem, its pooling, layer2, layer3.",
            "200, 100, 50, 25, and then? 300, 150, 75, and then? Round up.",
        ),
        solution=(1, 256, 13, 19),
        why="Four halvings, each rounded up: 200, 100, 50, 25, 13 and 300, 150, 75, 38, 19. The widths of the stages "
        "are 64, 128, 256, 512.",
    ),
    "2": Exercise(
        judge_variance_with_norm,
        hints=(
            "What is the variance of anything that leaves BN (with γ = 1)?",
            "The variance of a sum of uncorrelated terms is the sum of their variances.",
            "Var[h1] = start + 1, Var[h2] = Var[h1] + 1, …",
        ),
        solution=variance_with_norm,
        why="BN gives each branch the variance 1, and variances of uncorrelated terms add up. So block number l only "
        "changes its input by about 1 in start + l: deep blocks start near the identity [De & Smith 2020].",
    ),
    "3": Exercise(
        judge_pre_activation,
        hints=(
            "The branch begins with block.bn1(x), not with a convolution.",
            "Branch: bn1, relu, conv1, bn2, relu, conv2. And the shortcut?",
            "branch = block.conv1(block.bn1(x).relu()), then the same with 2, then add the x that came in.",
        ),
        solution=pre_activation,
        why="The way from block to block is then free of any non-linearity: h_L = h_l + Σ F_i, which is what makes the "
        "formula of the gradient in section 5 exact [He et al. 2016, eqs. 4 and 5].",
    ),
    "4": Exercise(
        judge_shortcut,
        hints=(
            "Slices take steps: x[..., ::2] is every second column.",
            "torch.nn.functional.pad takes pairs from the last axis on: (W, W, H, H, C, C).",
            "F.pad(every_pixel, (0, 0, 0, 0, 0, channels - x.shape[1])).",
        ),
        solution=shortcut,
        why="Option A costs no weights, so the plain and the residual network have the same ones, and what differs "
        "between them is the addition alone [He et al. 2015, §3.3].",
    ),
}
