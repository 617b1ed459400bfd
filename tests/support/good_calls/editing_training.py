"""Good calls of vlmbook.editing.training."""

import tempfile
from pathlib import Path

import torch

from tests.support.files import small_sets
from tests.support.good_calls import Call
from vlmbook.editing import DenoisingNetwork, GatedUNet, SubPixelNetwork, training
from vlmbook.vae import VAE


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


def weight():
    return torch.nn.Parameter(torch.ones(2))


def stepped():
    parameter = weight()
    parameter.grad = torch.ones(2)
    optimizer = training.AveragingAdam([parameter], average=0.5)
    optimizer.step()
    return optimizer


GOOD_CALLS = {
    "train_upscaler": lambda: Call(
        training.train_upscaler,
        {
            "images": [torch.rand(1, 12, 12)],
            "factor": 2,
            "network": SubPixelNetwork(2, width=2, depth=1),
            "average": 0.5,
            **settings(4),
        },
    ),
    "train_denoiser": lambda: Call(
        training.train_denoiser,
        {
            "images": [torch.rand(1, 12, 12)],
            "network": DenoisingNetwork(width=2, depth=1),
            "average": 0.5,
            **settings(4),
        },
    ),
    "train_vae": lambda: Call(
        training.train_vae,
        {
            "images": torch.rand(4, 1, 4, 5),
            "model": VAE((4, 5), latent=3, width=2),
            "average": 0.5,
            **{name: value for name, value in settings(4).items() if name not in ("size", "count")},
        },
    ),
    "AveragingAdam": lambda: Call(training.AveragingAdam, {"parameters": [weight()], "average": 0.5}),
    # What a closure raises is its own.
    "AveragingAdam.step": lambda: Call(stepped().step, {"closure": lambda: 1.0}, ("closure",)),
    "AveragingAdam.copy_mean": lambda: Call(stepped().copy_mean),
    "train_inpainter": lambda: Call(
        training.train_inpainter,
        {"images": [torch.rand(1, 12, 12)], "network": GatedUNet(width=2, depth=1), **settings(8)},
    ),
}
