"""Chapter 1: two or more wrong answers for each exercise, and what the message has to say about them."""

import math

import torch
from torch.nn import functional as F


def change(image, weights=(1, 2, 1), divisor=8):
    right = image[:, 2:] - image[:, :-2]
    return (weights[0] * right[:-2] + weights[1] * right[1:-1] + weights[2] * right[2:]) / divisor


def naive(logits, labels):
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    return -p[torch.arange(len(labels)), labels].log().mean()


WRONG_ANSWERS = [
    ("ch01.1", (11, math.log(10)), "352 images"),
    ("ch01.1", (360, math.log(10)), "used once"),
    ("ch01.1", (12, 0.1), "is the probability"),
    ("ch01.1", (12, -math.log(10)), "wrong sign"),
    ("ch01.1", (12, 1.0), "another logarithm"),
    ("ch01.1", (12, 0.5), "ten equal logits"),
    ("ch01.1", 12, "Two numbers"),
    ("ch01.2", lambda image: -change(image), "sign is wrong"),
    ("ch01.2", lambda image: change(image.T).T, "downwards"),
    ("ch01.2", lambda image: change(image, divisor=1), "8 times too large"),
    ("ch01.2", lambda image: change(image, (1, 1, 1), 6), "middle row"),
    ("ch01.2", lambda image: image, "shape"),
    ("ch01.3", lambda z, y: F.cross_entropy(z, y, reduction="sum"), "the sum"),
    ("ch01.3", lambda z, y: -F.cross_entropy(z, y), "sign is wrong"),
    ("ch01.3", lambda z, y: (-F.cross_entropy(z, y, reduction="none")).exp().mean(), "without the logarithm"),
    ("ch01.3", lambda z, y: F.nll_loss(z.log_softmax(0), y), "over the images"),
    ("ch01.3", naive, "not finite"),
    ("ch01.4", {"centred": 0.97, "shifted": 0.3}, "which is which"),
    ("ch01.4", {"centred": 0.5, "shifted": 0.5}, "measured twice"),
    ("ch01.4", {"centred": 30.0, "shifted": 97.0}, "between 0 and 1"),
    ("ch01.4", {"centred": 0.95, "shifted": 0.97}, "shifted by 4"),
    ("ch01.4", {"centred": 0.3, "shifted": 0.5}, "is low"),
    ("ch01.4", {"accuracy": 0.3}, "dict of two accuracies"),
]
