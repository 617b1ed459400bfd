"""vlmbook.multitask: two grey images of one object each, and two runs at three numbers of images."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.support.good_calls import Call
from vlmbook import multitask

IMAGES = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
RUNS = {"images": [10, 20, 40], "errors": [[0.4, 0.5], [0.3, 0.2], [0.1, 0.2]]}
FEATURES = torch.ones(2, 4, 2, 2)


def network():
    return multitask.MultiTaskNet(classes=3, in_channels=1, width=2)


def weight():
    return nn.Parameter(torch.ones(3))


def cosine():
    shared = weight()
    return Call(
        multitask.gradient_cosine,
        {"loss_a": shared.sum(), "loss_b": shared.square().sum(), "parameters": [shared]},
    )


GOOD_CALLS = {
    "MultiTaskNet": lambda: Call(
        multitask.MultiTaskNet, {"tasks": ("class", "mask"), "classes": 3, "in_channels": 1, "width": 2}
    ),
    "MultiTaskNet.forward": lambda: Call(network().forward, {"x": IMAGES}),
    "ClassHead": lambda: Call(multitask.ClassHead, {"width": 4, "classes": 3}),
    "ClassHead.forward": lambda: Call(multitask.ClassHead(4, 3).forward, {"features": FEATURES}),
    "BoxHead": lambda: Call(multitask.BoxHead, {"width": 4}),
    "BoxHead.forward": lambda: Call(multitask.BoxHead(4).forward, {"features": FEATURES}),
    "MaskHead": lambda: Call(multitask.MaskHead, {"width": 4}),
    "MaskHead.forward": lambda: Call(multitask.MaskHead(4).forward, {"features": FEATURES}),
    "task_losses": lambda: Call(
        multitask.task_losses,
        {"outputs": {"class": torch.ones(2, 3)}, "targets": {"class": torch.tensor([0, 2])}},
    ),
    "gradient_cosine": cosine,
    "fit_power_law": lambda: Call(multitask.fit_power_law, dict(RUNS)),
    "bootstrap_power_law": lambda: Call(
        multitask.bootstrap_power_law, RUNS | {"at": 80, "draws": 5, "confidence": 0.9, "seed": 0}
    ),
    "PowerLaw.predict": lambda: Call(multitask.PowerLaw(2.0, 0.5).predict, {"images": 100}),
    "fgsm": lambda: Call(
        multitask.fgsm,
        {
            "model": nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
            "x": IMAGES,
            "y": torch.tensor([0, 2]),
            "eps": 0.1,
            "loss_fn": F.cross_entropy,
        },
        free=("x", "loss_fn"),  # which images fit is the business of the model
    ),
}
