"""Good calls of `vlmbook.resnet`; its networks are in evaluation mode, since BatchNorm learns from several
pixels only.
"""

import torch
from torch import nn

from tests.support.good_calls import Call
from vlmbook import resnet
from vlmbook.resnet import BasicBlock, Bottleneck, PaddedShortcut, PlainBlock, ResNet, small_resnet

PRESETS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet20",
    "resnet32",
    "resnet56",
    "plain20",
    "plain32",
    "plain56",
)
SIZES = {"num_classes": 5, "in_channels": 3}


def parts():
    return {
        "in_channels": 4,
        "width": 4,
        "stride": 1,
        "downsample": nn.Identity(),
        "norm_layer": nn.BatchNorm2d,
    }


def block(kind):
    """A block from 3 channels to 4, whose width is 4 or, in a bottleneck, 1."""
    shortcut = nn.Conv2d(3, 4, 1)
    return kind(3, 4 // kind.expansion, 1, shortcut, nn.BatchNorm2d).eval()


def images(run):
    return Call(run, {"x": torch.rand(2, 3, 6, 7)})


def preset(name):
    return lambda: Call(getattr(resnet, name), dict(SIZES))


GOOD_CALLS = {
    "BasicBlock": lambda: Call(BasicBlock, parts()),
    "BasicBlock.residual": lambda: images(block(BasicBlock).residual),
    "BasicBlock.forward": lambda: images(block(BasicBlock)),
    "Bottleneck": lambda: Call(Bottleneck, parts()),
    "Bottleneck.residual": lambda: images(block(Bottleneck).residual),
    "Bottleneck.forward": lambda: images(block(Bottleneck)),
    "PlainBlock": lambda: Call(PlainBlock, parts()),
    "PlainBlock.forward": lambda: images(block(PlainBlock)),
    "PaddedShortcut": lambda: Call(PaddedShortcut, {"extra": 2, "stride": 2}),
    "PaddedShortcut.forward": lambda: images(PaddedShortcut(2, 2)),
    "ResNet": lambda: Call(
        ResNet,
        {
            "block": BasicBlock,
            "blocks": (1, 1),
            **SIZES,
            "width": 4,
            "small": True,
            "norm_layer": nn.BatchNorm2d,
        },
    ),
    "ResNet.features": lambda: images(small_resnet(8).eval().features),
    "ResNet.forward": lambda: images(small_resnet(8).eval()),
    "small_resnet": lambda: Call(
        small_resnet, {"depth": 8, **SIZES, "skip": True, "norm_layer": nn.BatchNorm2d}
    ),
    **{name: preset(name) for name in PRESETS},
}
