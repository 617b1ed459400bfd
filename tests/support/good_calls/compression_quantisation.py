"""Good calls of `vlmbook.compression.quantisation`."""

import torch
from torch import nn

from tests.support.good_calls import Call
from vlmbook.compression import quantisation
from vlmbook.compression.quantisation import quantise, quantise_affine

GOOD_CALLS = {
    "quantise": lambda: Call(quantise, {"w": torch.randn(3, 4), "bits": 8, "per_channel": True}),
    "quantise_affine": lambda: Call(
        quantise_affine, {"x": torch.rand(3, 4), "bits": 8, "low": -0.5, "high": 1.5}
    ),
    "dequantise": lambda: Call(
        quantisation.dequantise, {"quantised": quantise(torch.randn(3, 4), per_channel=True)}
    ),
    "quantised_linear": lambda: Call(
        quantisation.quantised_linear,
        {"x": quantise_affine(torch.rand(2, 4)), "w": quantise(torch.randn(3, 4))},
    ),
    "quantise_network": lambda: Call(
        quantisation.quantise_network, {"model": nn.Linear(3, 2), "bits": 4, "per_channel": False}
    ),
}
