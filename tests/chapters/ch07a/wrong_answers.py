"""Chapter 7a: two or more wrong answers for each exercise, and what the message has to say about them."""

import torch


def scales(w):
    return (w.abs().amax((1, 2, 3)) / 127).clamp_min(1e-8)


def rounded(w, s):
    return (w / s.view(-1, 1, 1, 1)).round()


def one_scale(w):
    s = torch.full((len(w),), w.abs().amax().item() / 127)
    return rounded(w, s), s


def with_divisor(w, divisor):
    s = (w.abs().amax((1, 2, 3)) / divisor).clamp_min(1e-8)
    return rounded(w, s), s


def without_clamp(w):
    s = w.abs().amax((1, 2, 3)) / 127
    return rounded(w, s), s


def factor(norm):
    return (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()


def scaled(weight, a):
    return weight * a.view(-1, 1, 1, 1)


def shift(norm):
    return (norm.bias - norm.running_mean * factor(norm)).detach()


WRONG_ANSWERS = [
    ("ch07a.1", 2_211_840, "the full convolution"),
    ("ch07a.1", 34_560, "depthwise convolution alone"),
    ("ch07a.1", 245_760, "1×1 convolution alone"),
    ("ch07a.1", 560_640, "counts FLOPs"),
    ("ch07a.1", 2_336, "number of weights"),
    ("ch07a.1", 7, "Add k²·C·H·W"),
    ("ch07a.1", "many", "number"),
    ("ch07a.2", one_scale, "all channels have one scale"),
    ("ch07a.2", lambda w: with_divisor(w, 128), "divide by 128"),
    ("ch07a.2", lambda w: with_divisor(w, 255), "divide by 255"),
    ("ch07a.2", without_clamp, "NaN"),
    ("ch07a.2", lambda w: ((w / scales(w).view(-1, 1, 1, 1)).trunc(), scales(w)), "round, do not cut off"),
    ("ch07a.2", lambda w: scales(w), "two tensors"),
    ("ch07a.2", lambda w: print(end=""), "two tensors"),
    (
        "ch07a.3",
        lambda w, n: (scaled(w, (n.weight / n.running_var.sqrt()).detach()), shift(n)),
        "lacks ε",
    ),
    (
        "ch07a.3",
        lambda w, n: (scaled(w, (n.weight / (n.running_var + n.eps)).detach()), shift(n)),
        "square root",
    ),
    ("ch07a.3", lambda w, n: (scaled(w, factor(n)), n.bias.detach()), "lacks the mean"),
    (
        "ch07a.3",
        lambda w, n: (scaled(w, factor(n)), (n.bias + n.running_mean * factor(n)).detach()),
        "sign of the mean",
    ),
    (
        "ch07a.3",
        lambda w, n: (scaled(w, factor(n)), (n.bias - n.running_mean).detach()),
        "not multiplied by",
    ),
    ("ch07a.3", lambda w, n: scaled(w, factor(n)), "two tensors"),
    ("ch07a.4", {"pruned": 0.95, "trained": 0.1, "macs": 0.5}, "which is which"),
    ("ch07a.4", {"pruned": 0.5, "trained": 0.5, "macs": 0.5}, "measured twice"),
    ("ch07a.4", {"pruned": 10.0, "trained": 95.0, "macs": 0.5}, "between 0 and 1"),
    ("ch07a.4", {"pruned": 0.95, "trained": 0.98, "macs": 0.5}, "half of the channels"),
    ("ch07a.4", {"pruned": 0.1, "trained": 0.4, "macs": 0.5}, "one epoch"),
    ("ch07a.4", {"pruned": 0.1, "trained": 0.95, "macs": 1.0}, "times the multiply-adds"),
    ("ch07a.4", {"pruned": 0.1, "trained": 0.95, "macs": 0.1}, "share of the multiply-adds"),
    ("ch07a.4", {"accuracy": 0.9}, "dict of three numbers"),
]
