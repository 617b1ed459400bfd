"""Good calls of vlmbook.editing.training."""

import tempfile
from pathlib import Path

import torch

from tests.support.files import small_sets
from tests.support.good_calls import Call
from vlmbook.editing import GatedUNet, SubPixelNetwork, training


def settings(size):
    return {
        "size": size,
        "count": 4,
        "epochs": 1,
        "batch_size": 2,
        "lr": 1e-3,
        "seed": 0,
        "precision": None,
        "checkpoint": Path(tempfile.mkdtemp(dir=small_sets())) / "c",
        "progress": False,
    }


GOOD_CALLS = {
    "train_upscaler": lambda: Call(
        training.train_upscaler,
        {
            "images": [torch.rand(1, 12, 12)],
            "factor": 2,
            "network": SubPixelNetwork(2, width=2, depth=1),
            **settings(4),
        },
    ),
    "train_inpainter": lambda: Call(
        training.train_inpainter,
        {"images": [torch.rand(1, 12, 12)], "network": GatedUNet(width=2, depth=1), **settings(8)},
    ),
}
