"""Good calls of `vlmbook.compression.folding`."""

from torch import nn

from tests.support.good_calls import Call
from vlmbook.compression import folding

GOOD_CALLS = {
    "fold_norm": lambda: Call(folding.fold_norm, {"conv": nn.Conv2d(3, 4, 3), "norm": nn.BatchNorm2d(4)}),
    "fold_norms": lambda: Call(
        folding.fold_norms, {"model": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))}
    ),
}
