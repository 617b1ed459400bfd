"""Chapter 3b: wrong answers of each exercise, and a part of the message to each."""

import torch
from torch.nn import functional as F

from tests.support.forged import AgreeableNumber, AgreeableTensor


def every(x, stride):
    return x[:, :, ::stride, ::stride]


def padded(x, channels, stride):
    return F.pad(every(x, stride), (0, 0, 0, 0, 0, channels - x.shape[1]))


def starts(gamma_1=(0.03, 0.04, 0.05), gamma_0=(1.8, 1.9, 2.0), conclusion="gamma 1"):
    return {"gamma 1": list(gamma_1), "gamma 0": list(gamma_0), "conclusion": conclusion}


WRONG_ANSWERS = [
    ("ch03b.1", (1, 256, 12, 18), "rounded down"),
    ("ch03b.1", (1, 256, 25, 38), "four halvings"),
    ("ch03b.1", (1, 256, 7, 10), "after layer4"),
    ("ch03b.1", (1, 256, 19, 13), "height comes before"),
    ("ch03b.1", (1, 128, 13, 19), "layer2"),
    ("ch03b.1", (1, 512, 13, 19), "layer4"),
    ("ch03b.1", (1, 3, 13, 19), "doubles"),
    ("ch03b.1", (3, 256, 13, 19), "batch stays 1"),
    ("ch03b.1", (1, 256, 12.5, 18.75), "rounded up"),
    ("ch03b.1", (1, 256, 100, 150), "halve 200 and 300 four times"),
    ("ch03b.1", (256, 13, 19), "this has 3"),
    ("ch03b.1", 256, "four whole numbers"),
    ("ch03b.2", lambda start, blocks: start * 2**blocks, "doubling"),
    ("ch03b.2", lambda start, blocks: 2**blocks, "doubling"),
    ("ch03b.2", lambda start, blocks: 1 + blocks, "You begin at 1"),
    ("ch03b.2", lambda start, blocks: start, "Only the branch"),
    ("ch03b.2", lambda start, blocks: 1, "Only the branch"),
    ("ch03b.2", lambda start, blocks: start * (1 + blocks), "nothing multiplies"),
    ("ch03b.2", lambda start, blocks: print(end=""), "return"),
    ("ch03b.2", lambda start, blocks: blocks, "input itself is missing"),
    ("ch03b.2", lambda start, blocks: start + 2 * blocks, "variances of uncorrelated"),
    ("ch03b.2", lambda start, blocks: "51", "is a str; one number"),
    ("ch03b.2", lambda start, blocks: [start], "a list"),
    ("ch03b.3", lambda block, x: block(x), "block of 2015"),
    ("ch03b.3", lambda block, x: block.residual(x) + x, "without its last ReLU"),
    (
        "ch03b.3",
        lambda block, x: block.conv2(block.bn2(block.conv1(block.bn1(x).relu())).relu()),
        "not added",
    ),
    (
        "ch03b.3",
        lambda block, x: (block.conv2(block.bn2(block.conv1(block.bn1(x).relu())).relu()) + x).relu(),
        "Nothing follows the addition",
    ),
    (
        "ch03b.3",
        lambda block, x: (
            block.conv2(block.bn2(block.conv1(block.bn1(x).relu())).relu()) + block.bn1(x).relu()
        ),
        "as it came in",
    ),
    (
        "ch03b.3",
        lambda block, x: block.conv2(block.bn1(block.conv1(block.bn2(x).relu())).relu()) + x,
        "exchanged",
    ),
    ("ch03b.3", lambda block, x: block.conv2(block.bn2(block.conv1(block.bn1(x)))) + x, "Both ReLUs"),
    ("ch03b.3", lambda block, x: block.conv2(block.bn2(block.conv1(block.bn1(x))).relu()) + x, "first ReLU"),
    ("ch03b.3", lambda block, x: block.conv2(block.bn2(block.conv1(block.bn1(x).relu()))) + x, "second ReLU"),
    (
        "ch03b.3",
        lambda block, x: block.conv2(block.bn1(block.conv1(block.bn1(x).relu())).relu()) + x,
        "used twice",
    ),
    (
        "ch03b.3",
        lambda block, x: block.conv1(block.bn2(block.conv2(block.bn1(x).relu())).relu()) + x,
        "exchanged",
    ),
    ("ch03b.3", lambda block, x: x + 1, "off by up to"),
    ("ch03b.3", lambda block, x: x[:, :1], "shape"),
    ("ch03b.3", lambda block, x: print(end=""), "return"),
    ("ch03b.4", lambda x, channels, stride: F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1])), "still 7×8"),
    ("ch03b.4", lambda x, channels, stride: every(x, stride), "shape"),
    ("ch03b.4", lambda x, channels, stride: every(x[:, :, 1:, 1:], stride), "begin with row 0"),
    ("ch03b.4", lambda x, channels, stride: torch.cat([every(x, stride)] * 16, 1)[:, :channels], "not zero"),
    (
        "ch03b.4",
        lambda x, channels, stride: F.pad(every(x, stride), (0, 0, 0, 0, channels - x.shape[1], 0)),
        "before the old",
    ),
    (
        "ch03b.4",
        lambda x, channels, stride: F.pad(
            F.avg_pool2d(x, stride, ceil_mode=True), (0, 0, 0, 0, 0, channels - x.shape[1])
        ),
        "means",
    ),
    (
        "ch03b.4",
        lambda x, channels, stride: every(x, stride).repeat(1, 16, 1, 1)[:, :channels] + 1,
        "not zero",
    ),
    (
        "ch03b.4",
        lambda x, channels, stride: F.pad(every(x.flip(2), stride), (0, 0, 0, 0, 0, channels - x.shape[1])),
        "first row",
    ),
    ("ch03b.4", lambda x, channels, stride: torch.zeros(1), "shape"),
    ("ch03b.4", lambda x, channels, stride: x.tolist(), "list"),
    # objects that equal everything, and NaN
    ("ch03b.1", [AgreeableNumber()] * 4, "batch stays 1"),
    ("ch03b.1", (1, 256, 13, float("nan")), "whole number"),
    ("ch03b.2", lambda start, blocks: AgreeableNumber(), "one number"),
    ("ch03b.2", lambda start, blocks: float("nan"), "NaN"),
    ("ch03b.2", lambda start, blocks: float("inf"), "infinite"),
    ("ch03b.3", lambda block, x: (x + 1).as_subclass(AgreeableTensor), "off by up to"),
    ("ch03b.3", lambda block, x: x * torch.nan, "NaN"),
    ("ch03b.4", lambda x, channels, stride: padded(x, channels, stride) * torch.nan, "not zero"),
    (
        "ch03b.4",
        lambda x, channels, stride: padded(x.flip(2), channels, stride).as_subclass(AgreeableTensor),
        "first row",
    ),
    ("ch03b.3", lambda block, x: block.residual(x).relu() + x, "Your order is convolution, BN, ReLU"),
    ("ch03b.5", [0.1, 0.2, 0.3], "A dict is wanted"),
    ("ch03b.5", starts(gamma_1=(0.03, 0.04)), "three numbers"),
    ("ch03b.5", starts(gamma_1=(0.03, 0.03, 0.04)), "was the seed changed"),
    ("ch03b.5", starts(gamma_1=(0.03, 9.0, 0.04)), "from 0 to 2.5"),
    ("ch03b.5", starts(gamma_1=(0.03, "x", 0.04)), "one number is wanted"),
    ("ch03b.5", starts(conclusion="better"), "The conclusion is"),
    ("ch03b.5", starts(conclusion="gamma 0"), 'follows "gamma 1"'),
    ("ch03b.5", starts(gamma_1=(1.7, 1.9, 2.1)), 'follows "no difference"'),
]
