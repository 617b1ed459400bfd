"""Chapter 7b: two or more wrong answers for each exercise, and what the message has to say about them."""

import torch

SHARE, NUMBER = "600 images, 20 %", "1200 images, 10 %"


def norms(gradients):
    return gradients.norm(dim=1, keepdim=True)


def clip_the_sum(gradients, max_norm):
    total = gradients.sum(0)
    return total * min(1.0, max_norm / total.norm().item())


def attribute(slope_at, x, start, steps, shift=0.5):
    total = torch.zeros_like(x)
    for step in range(steps):
        total += slope_at(start + (step + shift) / steps * (x - start))
    return (x - start) * total / steps


def measured(first, second, conclusion):
    return {SHARE: first, NUMBER: second, "conclusion": conclusion}


WRONG_ANSWERS = [
    ("ch07b.1", 1 / 3, "larger"),
    ("ch07b.1", 4, "number of pairs"),
    ("ch07b.1", 66.7, "no AUC"),
    ("ch07b.1", 0.5, "3 · 2 pairs"),
    ("ch07b.1", "two thirds", "one number"),
    ("ch07b.2", lambda g, c: (g * c / norms(g)).sum(0), "at most 1"),
    ("ch07b.2", clip_the_sum, "before you add"),
    ("ch07b.2", lambda g, c: g.clamp(-c, c).sum(0), "each number"),
    ("ch07b.2", lambda g, c: (g * (c / norms(g)).clamp(max=1)).mean(0), "The sum is wanted"),
    ("ch07b.2", lambda g, c: g.sum(0), "nothing is clipped"),
    ("ch07b.2", lambda g, c: g * (c / norms(g)).clamp(max=1), "shape"),
    ("ch07b.3", lambda s, x, start, n: attribute(s, x, start, n) / (x - start), "mean gradient"),
    ("ch07b.3", lambda s, x, start, n: attribute(s, x, start, n) / (x - start) * x, "multiplied by x"),
    ("ch07b.3", lambda s, x, start, n: attribute(s, x, start, n) * n, "Take the mean"),
    ("ch07b.3", lambda s, x, start, n: attribute(s, x, start, n, 0.0), "left ends"),
    ("ch07b.3", lambda s, x, start, n: attribute(s, x, start, n, 1.0), "right ends"),
    ("ch07b.3", lambda s, x, start, n: torch.zeros_like(x), "off by"),
    ("ch07b.4", (0.0375, 0.15), "exchanged"),
    ("ch07b.4", (2.4, 0.6), "1 − v"),
    ("ch07b.4", (0.25, 0.0625), "true positive rate"),
    ("ch07b.4", (0.2, 0.2), "base rate 0.5"),
    ("ch07b.4", 0.15, "Two numbers"),
    ("ch07b.5", measured([0.9, 0.88, 0.91], [0.9, 0.88, 0.92], SHARE), "no difference"),
    ("ch07b.5", measured([0.9, 0.91, 0.92], [0.8, 0.81, 0.82], "no difference"), "600 images"),
    ("ch07b.5", measured([0.9, 0.9, 0.9], [0.8, 0.81, 0.82], SHARE), "seed"),
    ("ch07b.5", measured([0.5, 0.51, 0.52], [0.8, 0.81, 0.82], NUMBER), "a run of this exercise"),
    ("ch07b.5", {SHARE: 0.9}, "A dict is wanted"),
]
