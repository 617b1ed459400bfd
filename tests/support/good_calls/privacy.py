"""vlmbook.privacy: a linear classifier of three classes, and four samples."""

import torch
from torch import nn

from tests.support.good_calls import Call
from vlmbook import privacy

SAMPLES = torch.rand(4, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 1])


def generator():
    return torch.Generator().manual_seed(0)


GOOD_CALLS = {
    "attack_auc": lambda: Call(
        privacy.attack_auc,
        {"members": torch.tensor([0.1, 0.4, 0.7]), "others": torch.tensor([0.0, 0.5]), "confidence": 0.9},
    ),
    "most_true_positives": lambda: Call(
        privacy.most_true_positives, {"false_positive_rate": 0.1, "epsilon": 1.0, "delta": 1e-5}
    ),
    "sample_poisson": lambda: Call(privacy.sample_poisson, {"n": 100, "rate": 0.1, "generator": generator()}),
    "per_sample_gradients": lambda: Call(
        privacy.per_sample_gradients,
        {
            "network": nn.Linear(5, 3),
            "x": SAMPLES,
            "y": LABELS,
            "loss_fn": nn.functional.cross_entropy,
        },
        free=("x", "y", "loss_fn"),  # what fits is the business of the network and the loss
    ),
    "clipped_sum": lambda: Call(
        privacy.clipped_sum, {"gradients": {"weight": torch.ones(4, 3, 5)}, "max_norm": 1.0}
    ),
    "private_gradient": lambda: Call(
        privacy.private_gradient,
        {
            "network": nn.Linear(5, 3),
            "x": SAMPLES,
            "y": LABELS,
            "max_norm": 1.0,
            "noise_multiplier": 1.0,
            "expected_batch": 4.0,
            "loss_fn": nn.functional.cross_entropy,
            "generator": generator(),
        },
        free=("x", "y", "loss_fn"),  # as above
    ),
    "renyi_divergence": lambda: Call(
        privacy.renyi_divergence, {"rate": 0.1, "noise_multiplier": 1.0, "order": 4.0}
    ),
    "epsilon": lambda: Call(
        privacy.epsilon, {"rate": 0.1, "noise_multiplier": 1.0, "steps": 10, "delta": 1e-5}
    ),
    "noise_multiplier_for": lambda: Call(
        privacy.noise_multiplier_for, {"target": 3.0, "rate": 0.1, "steps": 10, "delta": 1e-5}
    ),
    "federated_average": lambda: Call(
        privacy.federated_average,
        {"states": [{"weight": torch.ones(2)}, {"weight": torch.zeros(2)}], "sizes": [3, 1]},
    ),
}
