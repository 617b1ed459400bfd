"""vlmbook.fewshot: six images of two classes, and a regressor of one weight."""

import torch
from torch import nn

from tests.support.good_calls import Call
from vlmbook import fewshot

LABELS = torch.tensor([0, 0, 0, 1, 1, 1])
IMAGES = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
EPISODE = fewshot.Episode(torch.tensor([[0], [3]]), torch.tensor([[1, 2], [4, 5]]))


def generator():
    return torch.Generator().manual_seed(0)


GOOD_CALLS = {
    "sample_episode": lambda: Call(
        fewshot.sample_episode,
        {"labels": LABELS, "ways": 2, "shots": 1, "queries": 2, "generator": generator()},
    ),
    "prototypes": lambda: Call(fewshot.prototypes, {"embeddings": torch.ones(2, 3, 4)}),
    "prototype_logits": lambda: Call(
        fewshot.prototype_logits, {"queries": torch.ones(5, 4), "centres": torch.zeros(2, 4)}
    ),
    "episode_loss": lambda: Call(
        fewshot.episode_loss, {"network": nn.Flatten(), "images": IMAGES, "episode": EPISODE}
    ),
    "episode_accuracy": lambda: Call(
        fewshot.episode_accuracy, {"network": nn.Flatten(), "images": IMAGES, "episode": EPISODE}
    ),
    "adapt": lambda: Call(
        fewshot.adapt,
        {
            "network": nn.Linear(1, 1),
            "x": torch.ones(3, 1),
            "y": torch.ones(3, 1),
            "loss_fn": nn.functional.mse_loss,
            "lr": 0.1,
            "steps": 1,
            "parameters": None,
            "order": 2,
        },
        free=("x", "y", "loss_fn"),  # what fits is the business of the network and the loss
    ),
    "sine_task": lambda: Call(fewshot.sine_task, {"n": 3, "generator": generator()}),
}
