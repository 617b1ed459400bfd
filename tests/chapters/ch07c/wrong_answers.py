"""Chapter 7c: two or more wrong answers for each exercise, and what the message has to say about them."""

import math

import torch
from torch.nn import functional as F

FEW, MANY = "12 people, 20 images", "60 people, 4 images"


def distances(support, query):
    return torch.cdist(query, support.mean(1))


def halves(images, texts, scale):
    logits = scale * images @ texts.T
    target = torch.arange(len(images))
    return F.cross_entropy(logits, target).item(), F.cross_entropy(logits.T, target).item()


WRONG_ANSWERS = [
    ("ch07c.1", (15, 142506), "support alone"),
    ("ch07c.1", (20, 142506), "queries alone"),
    ("ch07c.1", (36, 142506), "5 classes"),
    ("ch07c.1", (35, math.perm(30, 5)), "each order"),
    ("ch07c.1", (35, 30**5), "same person twice"),
    ("ch07c.1", (35, 435), "math.comb"),
    ("ch07c.1", 35, "Two whole numbers"),
    ("ch07c.2", lambda s, q: (-distances(s, q)).softmax(1), "not squared"),
    ("ch07c.2", lambda s, q: distances(s, q).square().softmax(1), "sign is wrong"),
    ("ch07c.2", lambda s, q: (-distances(s, q).square()).softmax(0), "over the queries"),
    ("ch07c.2", lambda s, q: -distances(s, q).square(), "logits"),
    (
        "ch07c.2",
        lambda s, q: (-torch.cdist(q, s.flatten(0, 1)).square().unflatten(1, s.shape[:2]).mean(2)).softmax(1),
        "Average the embeddings",
    ),
    ("ch07c.2", lambda s, q: distances(s, q).argmin(1), "shape"),
    ("ch07c.3", lambda i, t, s: halves(i, t, s)[0], "images choose"),
    ("ch07c.3", lambda i, t, s: halves(i, t, s)[1], "texts choose"),
    ("ch07c.3", lambda i, t, s: sum(halves(i, t, s)), "Take their mean"),
    ("ch07c.3", lambda i, t, s: sum(halves(i, t, 1.0)) / 2, "scale is missing"),
    ("ch07c.3", lambda i, t, s: len(i) * sum(halves(i, t, s)) / 2, "sum over the pairs|added"),
    ("ch07c.3", lambda i, t, s: 1.0, "the loss is"),
    ("ch07c.4", {FEW: 0.95, MANY: 0.9}, "which is which"),
    ("ch07c.4", {FEW: 0.9, MANY: 0.9}, "measured twice"),
    ("ch07c.4", {FEW: 0.2, MANY: 0.9}, "guessing"),
    ("ch07c.4", {FEW: 87.0, MANY: 91.0}, "no accuracy"),
    ("ch07c.4", {"few": 0.9}, "dict of two numbers"),
]
