"""Good calls of `vlmbook.compression.pruning`."""

from torch import nn

from tests.support.good_calls import Call
from vlmbook.compression import pruning
from vlmbook.resnet import small_resnet

GOOD_CALLS = {
    "prune_magnitude": lambda: Call(pruning.prune_magnitude, {"model": nn.Linear(3, 2), "share": 0.5}),
    "prune_channels": lambda: Call(pruning.prune_channels, {"model": small_resnet(8, 10, 1), "share": 0.5}),
    "sparsity": lambda: Call(pruning.sparsity, {"model": nn.Linear(3, 2)}),
    "sparse_bytes": lambda: Call(pruning.sparse_bytes, {"model": nn.Linear(3, 2)}),
}
