"""vlmbook.metrics: a few features."""

import torch

from tests.support.good_calls import Call
from vlmbook import metrics


def features():
    return torch.linspace(-1, 1, 15).square().view(5, 3)


GOOD_CALLS = {
    "proportion_interval": lambda: Call(
        metrics.proportion_interval, {"share": 0.5, "n": 10, "confidence": 0.95}
    ),
    "bits_per_dimension": lambda: Call(
        metrics.bits_per_dimension, {"nats": torch.tensor([-3.0, -4.0]), "dimensions": 4}
    ),
    "frechet_distance": lambda: Call(metrics.frechet_distance, {"a": features(), "b": features()}),
    "precision_recall": lambda: Call(
        metrics.precision_recall, {"real": features(), "generated": features(), "k": 2}
    ),
}
