"""Good calls of vlmbook.training.loop."""

import tempfile
from pathlib import Path

import torch
from torch import nn

from tests.support.files import small_sets
from tests.support.good_calls import Call
from vlmbook.training.loop import batches, fit, learning_rate


def loss_fn(model, x, y):
    return (model(x)[:, 0] - y).square().mean()


DATA = (torch.rand(3, 2), torch.rand(3))


def arguments():
    return {
        "model": nn.Linear(2, 1),
        "data": DATA,
        "loss_fn": loss_fn,
        "epochs": 1,
        "batch_size": 2,
        "lr": 0.1,
        "evaluate": lambda model: {"a": 1},
        "checkpoint": Path(tempfile.mkdtemp(dir=small_sets())) / "c",
        "checkpoint_every": 1,
        "resume": True,
        "seed": 0,
        "optimizer": torch.optim.SGD,
        "weight_decay": 0.0,
        "warmup": 1,
        "clip": 1.0,
        "precision": None,
        "workers": 0,
        "progress": False,
    }


def drawn(**arguments):
    return list(batches(**arguments))


BATCHES = {"data": DATA, "batch_size": 2, "epochs": 1, "seed": 0, "start": 0, "rank": 0, "processes": 1}
# What a function of the reader's own raises is its own; a class is called as one, and fails in its own way.
OWN = ("loss_fn", "evaluate", "optimizer")
GOOD_CALLS = {
    "fit": lambda: Call(fit, arguments(), free=OWN),
    "learning_rate": lambda: Call(learning_rate, {"step": 3, "steps": 9, "lr": 0.1, "warmup": 2}),
    "batches": lambda: Call(drawn, {**BATCHES, "device": "cpu", "workers": 0}),
}
