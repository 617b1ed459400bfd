"""Good calls of vlmbook.editing.superresolution."""

import torch
from torch import nn

from tests.support.good_calls import Call
from vlmbook.editing import superresolution

IMAGE = torch.full((3, 6, 8), 0.5)


def network():
    return superresolution.SubPixelNetwork(2, width=2, depth=1)


GOOD_CALLS = {
    "ResidualBlock": lambda: Call(superresolution.ResidualBlock, {"width": 3}),
    "ResidualBlock.forward": lambda: Call(
        superresolution.ResidualBlock(3).forward, {"x": torch.ones(2, 3, 5, 6)}
    ),
    "SubPixelNetwork": lambda: Call(superresolution.SubPixelNetwork, {"factor": 2, "width": 3, "depth": 1}),
    "SubPixelNetwork.forward": lambda: Call(network().forward, {"x": torch.ones(2, 1, 5, 6)}),
    "SubPixelNetwork.receptive_radius": lambda: Call(network().receptive_radius),
    "initialise_he": lambda: Call(superresolution.initialise_he, {"conv": nn.Conv2d(1, 2, 3), "scale": 0.1}),
    "upscale": lambda: Call(
        superresolution.upscale,
        {"image": IMAGE, "factor": 2, "network": network(), "tile": 4, "ensemble": True, "progress": False},
    ),
    "upscaler": lambda: Call(superresolution.upscaler),
    "load_network": lambda: Call(
        superresolution.load_network, {"state": network().state_dict(), "factor": 2}
    ),
    "upscaling_loss": lambda: Call(
        superresolution.upscaling_loss,
        {"network": network(), "small": torch.ones(2, 1, 3, 4), "large": torch.ones(2, 1, 6, 8)},
    ),
    "cut_pairs": lambda: Call(
        superresolution.cut_pairs,
        {"images": [IMAGE], "factor": 2, "size": 2, "count": 3, "generator": torch.Generator()},
    ),
    "cut_squares": lambda: Call(
        superresolution.cut_squares,
        {"images": [IMAGE], "size": 2, "count": 3, "generator": torch.Generator()},
    ),
}
