"""Exercises of chapter 3b, ResNet."""

import torch
from torch import nn
from torch.nn import functional as F

from vlmbook.chapters.measured import judge_two_variants
from vlmbook.notebook.exercises import Exercise, Wrong, as_number, as_shape, as_tensor
from vlmbook.notebook.messages import message
from vlmbook.resnet import BasicBlock


def judge_layer3_shape(answer):
    got = as_shape(answer, "half of an odd one is rounded up, since a padding of 1 (or 3) is added")
    batch, channels, *size = got
    if batch != 1:
        raise Wrong("B = {batch}: the batch stays 1.", batch=batch)
    if channels == 128:
        raise Wrong("128 channels are the output of layer2: the widths are 64, 128, 256, 512.")
    if channels == 512:
        raise Wrong("512 channels are the output of layer4: the widths are 64, 128, 256, 512.")
    if channels != 256:
        raise Wrong(
            "C = {channels}: layer1 has 64 channels, and each further stage doubles them.", channels=channels
        )
    if size == [12, 18]:
        raise Wrong("12, 18: you rounded down. 25 becomes 13, and 75 becomes 38, then 19.")
    if size in ([25, 38], [25, 37], [50, 75]):
        raise Wrong(
            "{height}, {width} is a size on the way: the stem halves twice, layer2 and layer3 once each. "
            "That makes four halvings.",
            height=size[0],
            width=size[1],
        )
    if size == [19, 13]:
        raise Wrong("19, 13: the height comes before the width.")
    if size in ([7, 10], [6, 9]):
        raise Wrong(
            "{height}, {width} is the size after layer4: layer1 keeps the size.",
            height=size[0],
            width=size[1],
        )
    if size != [13, 19]:
        raise Wrong("H, W = {size}: halve 200 and 300 four times, and round up each time.", size=tuple(size))


def judge_variance_with_norm(answer):
    for start, blocks in ((3.0, 4), (1.0, 50), (1.0, 0), (0.5, 7)):
        call = message("variance_with_norm({start:g}, {blocks})", start=start, blocks=blocks)
        got = as_number(answer(start, blocks), call)
        want = start + blocks
        if not abs(got - want) <= 1e-6 * max(1, abs(want)):
            raise Wrong(
                "With start={start:g} and {blocks} blocks you answer {got:g}. {reason}",
                start=start,
                blocks=blocks,
                got=got,
                reason=message(_why_not_variance(got, start, blocks)),
            )


def _why_not_variance(got, start, blocks):
    """-> str: a template, what the answer forgot."""
    if got in (start * 2**blocks, 2**blocks):
        return (
            "That is doubling, which holds where the branch has the variance of its input. "
            "BN gives it another one: which?"
        )
    if got == 1 + blocks:
        return "You begin at 1. The input has the variance start."
    if got == blocks:
        return "The variance of the input itself is missing."
    if got in (start, 1):
        return "Only the branch is normalised; the sum of shortcut and branch is not."
    if got in (start * blocks, start * (1 + blocks)):
        return "Each block adds the same amount, whatever came in: nothing multiplies."
    return "Write down Var[h1], then Var[h2]: variances of uncorrelated terms add up."


def variance_with_norm(start, blocks):
    return start + blocks


def judge_pre_activation(answer):
    for channels in (2, 3):
        block = _trained_block(channels)
        x = torch.linspace(-2, 3, 60 * channels).sin().view(2, channels, 5, 6)
        want = pre_activation(block, x)
        got = as_tensor(answer(block, x.clone()), want, message("x {shape}", shape=tuple(x.shape)))
        for template, slip in _pre_activation_slips(block, x).items():
            if torch.allclose(got, slip, atol=1e-5):
                raise Wrong(template)
        if got.isnan().any():
            raise Wrong("Your result holds NaN.")
        if not torch.allclose(got, want, atol=1e-5):
            raise Wrong(
                "The shape is right, but values are off by up to {most:.3g}. "
                "Compare the order of the six steps of the branch (hint 2).",
                most=(got - want).abs().max().item(),
            )


def _pre_activation_slips(block, x):
    """-> dict: what is wrong, and the output of a block with that fault."""
    bn1, conv1, bn2, conv2 = block.bn1, block.conv1, block.bn2, block.conv2
    branch = conv2(bn2(conv1(bn1(x).relu())).relu())
    return {
        "Nothing follows the addition here: leave out the last ReLU.": (branch + x).relu(),
        "The input is not added.": branch,
        "This is the block of 2015: BN and ReLU stand after the convolutions.": block(x),
        "This is the block of 2015 without its last ReLU: BN and ReLU come before each convolution.": (
            block.residual(x) + x
        ),
        "Your order is convolution, BN, ReLU. Here BN and ReLU come before each convolution.": (
            block.residual(x).relu() + x
        ),
        "You add x after BN and ReLU. The shortcut takes x as it came in.": branch + bn1(x).relu(),
        "bn1 and bn2 are exchanged.": x + conv2(bn1(conv1(bn2(x).relu())).relu()),
        "Both ReLUs are missing: each convolution has BN and ReLU before it.": x + conv2(bn2(conv1(bn1(x)))),
        "The first ReLU is missing: each convolution has BN and ReLU before it.": (
            x + conv2(bn2(conv1(bn1(x))).relu())
        ),
        "The second ReLU is missing: each convolution has BN and ReLU before it.": (
            x + conv2(bn2(conv1(bn1(x).relu())))
        ),
        "bn1 is used twice; the second is bn2.": x + conv2(bn1(conv1(bn1(x).relu())).relu()),
        "conv1 and conv2 are exchanged.": x + conv1(bn2(conv2(bn1(x).relu())).relu()),
    }


@torch.no_grad()
def _trained_block(channels):
    """-> BasicBlock in eval mode with random weights and statistics; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = BasicBlock(channels, channels, 1, nn.Identity(), nn.BatchNorm2d).eval()
        for norm in (block.bn1, block.bn2):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
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
        _judge_size_of_shortcut(got, stride)
        case = message(
            "x {shape}, channels {channels}, stride {stride}",
            shape=tuple(x.shape),
            channels=outs,
            stride=stride,
        )
        _judge_values_of_shortcut(as_tensor(got, want, case), want, x, stride)


def _judge_size_of_shortcut(got, stride):
    """Of x with 7×8 pixels."""
    if stride == 1 or not isinstance(got, torch.Tensor) or got.ndim != 4:
        return
    size = tuple(got.shape[2:])
    rounded_up = (-(-7 // stride), -(-8 // stride))
    if size == (7, 8):
        raise Wrong(
            "The size is still 7×8 with stride {stride}: x[:, :, ::stride, ::stride] takes every so many.",
            stride=stride,
        )
    if size == (7 // stride, 8 // stride) and size != rounded_up:
        raise Wrong(
            "7 rows with stride {stride} leave {rows}: begin with row 0; the last one counts.",
            stride=stride,
            rows=rounded_up[0],
        )


def _judge_values_of_shortcut(got, want, x, stride):
    channels = x.shape[1]
    added = want.shape[1] - channels
    if added and torch.equal(got[:, added:], want[:, :channels]) and not got[:, 0].any():
        raise Wrong("The zeros stand before the old channels; they belong after them.")
    if stride > 1 and torch.equal(got[:, channels:], want[:, channels:]):
        means = F.avg_pool2d(x, stride)[:, :, :2, :2]
        if torch.allclose(got[:, :channels, :2, :2], means, atol=1e-6):
            raise Wrong("You take means. Option A takes every stride-th pixel as it is.")
    if got[:, channels:].any():
        raise Wrong("The new channels are not zero.")
    if not torch.equal(got, want):
        raise Wrong("The shape is right, but not these pixels: begin with the first row and column.")


def shortcut(x, channels, stride):
    every = x[:, :, ::stride, ::stride]
    return F.pad(every, (0, 0, 0, 0, 0, channels - x.shape[1]))


def judge_starts(answer):
    judge_two_variants(answer, ("gamma 1", "gamma 0"), larger_is_better=False, least=0, most=2.5)


EXERCISES = {
    "1": Exercise(
        judge_layer3_shape,
        hints=(
            "Channels first: layer1 has 64, and each further stage doubles them.",
            "How often is the size halved? The convolution of the stem, its pooling, layer2, layer3.",
            "200, 100, 50, 25, and then? 300, 150, 75, and then? Round up.",
        ),
        solution=(1, 256, 13, 19),
        why="Four halvings, each rounded up: 200, 100, 50, 25, 13 and 300, 150, 75, 38, 19. The widths of "
        "the stages are 64, 128, 256, 512.",
    ),
    "2": Exercise(
        judge_variance_with_norm,
        hints=(
            "What is the variance of anything that leaves BN (with γ = 1)?",
            "The variance of a sum of uncorrelated terms is the sum of their variances.",
            "Var[h1] = start + 1, Var[h2] = Var[h1] + 1, …",
        ),
        solution=variance_with_norm,
        why="BN gives each branch the variance 1, and variances of uncorrelated terms add up. So block "
        "number l only changes its input by about 1 in start + l: deep blocks start near the identity "
        "[De & Smith 2020].",
    ),
    "3": Exercise(
        judge_pre_activation,
        hints=(
            "The branch begins with block.bn1(x), not with a convolution.",
            "Branch: bn1, relu, conv1, bn2, relu, conv2. And the shortcut?",
            "branch = block.conv1(block.bn1(x).relu()), then the same with 2, then add the x that came in.",
        ),
        solution=pre_activation,
        why="The path from block to block is then free of any non-linearity: h_L = h_l + Σ F_i. This makes "
        "the formula of the gradient in section 8 exact [He et al. 2016, eqs. 4 and 5].",
    ),
    "4": Exercise(
        judge_shortcut,
        hints=(
            "Slices take steps: x[..., ::2] is every second column.",
            "torch.nn.functional.pad takes pairs from the last axis on: (W, W, H, H, C, C).",
            "F.pad(every_pixel, (0, 0, 0, 0, 0, channels - x.shape[1])).",
        ),
        solution=shortcut,
        why="Option A costs no weights, so the plain and the residual network have the same ones, and they "
        "differ in the addition alone [He et al. 2015, §3.3].",
    ),
    "5": Exercise(
        judge_starts,
        hints=(
            "net = resnet20(in_channels=1), then nn.init.zeros_(block.bn2.weight) for each block.",
            "For each of both starts and each seed: seed_everything(seed), make the network, "
            "train(net, seed)[-1].",
            "Compare the distance of both means with the sum of both standard deviations.",
        ),
        solution={
            "gamma 1": [0.0340, 0.0426, 0.0276],
            "gamma 0": [1.8701, 1.8705, 1.9445],
            "conclusion": "gamma 1",
        },
        why="In these 69 steps the start with γ = 0 is far slower. At first the gradient of each weight in a "
        "branch is 0, because it is multiplied by γ. Goyal et al. [2017] use γ = 0 in long trainings with "
        "large batches. We did not test that.",
    ),
}
