"""Good calls of vlmbook.editing.photographs."""

import tempfile
from pathlib import Path

import torch

from tests.support.files import small_sets
from tests.support.good_calls import Call
from vlmbook.editing import DenoisingNetwork, GatedUNet, SubPixelNetwork, photographs
from vlmbook.efficientnet import efficientnet_lite0

ALPHA = torch.full((1, 32, 34), 200, dtype=torch.uint8)
PHOTOGRAPH = photographs.Photograph(torch.full((3, 32, 34), 100, dtype=torch.uint8), ALPHA)
MASK = torch.zeros(1, 32, 34).index_fill(1, torch.tensor([3, 4]), 1)


def folder():
    return Path(tempfile.mkdtemp(dir=small_sets()))


def file():
    return photographs.save_photograph(PHOTOGRAPH, folder() / "a.png")


GOOD_CALLS = {
    "read_photograph": lambda: Call(photographs.read_photograph, {"path": file(), "max_pixels": 5000}),
    "encode_photograph": lambda: Call(photographs.encode_photograph, {"photograph": PHOTOGRAPH}),
    "save_photograph": lambda: Call(
        photographs.save_photograph, {"photograph": PHOTOGRAPH, "path": folder() / "b.png"}
    ),
    "read_hole": lambda: Call(
        photographs.read_hole, {"path": file(), "photograph": PHOTOGRAPH, "max_pixels": 5000}
    ),
    "upscale_photograph": lambda: Call(
        photographs.upscale_photograph,
        {
            "photograph": PHOTOGRAPH,
            "factor": 2,
            "network": SubPixelNetwork(2, width=2, depth=1),
            "progress": False,
        },
    ),
    "inpaint_photograph": lambda: Call(
        photographs.inpaint_photograph,
        {
            "photograph": PHOTOGRAPH,
            "mask": MASK,
            "network": GatedUNet(width=2, depth=1).eval(),
            "progress": False,
        },
    ),
    "denoise_photograph": lambda: Call(
        photographs.denoise_photograph,
        {
            "photograph": PHOTOGRAPH,
            "sigma": 0.1,
            "network": DenoisingNetwork(width=2, depth=1),
            "progress": False,
        },
    ),
    "stylise_photograph": lambda: Call(
        photographs.stylise_photograph,
        {
            "photograph": PHOTOGRAPH,
            "style": PHOTOGRAPH,
            "size": 34,
            "keep_colours": True,
            "steps": 1,
            "network": efficientnet_lite0(2).eval(),
        },
        # Any number of steps is right; hostile large ones would only take long.
        ("steps",),
    ),
}
