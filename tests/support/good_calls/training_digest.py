"""Good calls of vlmbook.training.digest."""

import torch
from torch import nn

from tests.support.good_calls import Call
from vlmbook.training.digest import digest_data, digest_loss, hash_layers


def loss_fn(model, x):
    return model(x).sum()


GOOD_CALLS = {
    "digest_data": lambda: Call(digest_data, {"data": (torch.ones(3, 2), torch.arange(3))}),
    "digest_loss": lambda: Call(digest_loss, {"loss_fn": loss_fn, "model": nn.Linear(2, 1)}),
    "hash_layers": lambda: Call(hash_layers, {"model": nn.Linear(2, 1)}),
}
