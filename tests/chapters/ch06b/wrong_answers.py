"""Chapter 6b: two or more wrong answers for each exercise, and what the message has to say about them."""

import math

import torch
from torch.nn import functional as F

WITHOUT, WITH = "trained without noise", "trained with noise"


def squares(image, truth):
    return (image - truth).square()


def in_hole(image, truth, mask):
    return squares(image, truth)[:, mask[0] == 1].mean().item()


def flat(features):
    return features.flatten(2)


def outer(x):
    return x @ x.transpose(1, 2)


def cells(x, f):
    b, c, h, w = x.shape
    return x.view(b, c, h // f, f, w // f, f)


def as_output(parts, x, f):
    b, c, h, w = x.shape
    return parts.reshape(b, c * f * f, h // f, w // f)


WRONG_ANSWERS = [
    ("ch06b.1", 12, "both sides"),
    ("ch06b.1", 13, "whole receptive field"),
    ("ch06b.1", 17, "sum of the kernel sizes"),
    ("ch06b.1", 5, "number of layers"),
    ("ch06b.1", 2, "add up"),
    ("ch06b.1", 7, "kernel of size 1"),
    ("ch06b.1", 8, "Each layer of size k"),
    ("ch06b.1", "five", "number"),
    ("ch06b.2", lambda a, b, m: -10 * squares(a, b).mean().log10().item(), "all pixels count"),
    ("ch06b.2", lambda a, b, m: -10 * (squares(a, b) * m).mean().log10().item(), "divide by all pixels"),
    (
        "ch06b.2",
        lambda a, b, m: -10 * ((squares(a, b) * m).sum() / m.sum()).log10().item(),
        "Divide by the channels",
    ),
    ("ch06b.2", lambda a, b, m: -20 * math.log10(in_hole(a, b, m)), "factor is 20"),
    ("ch06b.2", lambda a, b, m: 10 * math.log10(in_hole(a, b, m)), "sign is wrong"),
    ("ch06b.2", lambda a, b, m: -10 * math.log(in_hole(a, b, m)), "log10"),
    ("ch06b.2", lambda a, b, m: in_hole(a, b, m), "is the MSE"),
    ("ch06b.2", lambda a, b, m: 30.0, "the PSNR is"),
    ("ch06b.2", lambda a, b, m: print(end=""), "return"),
    ("ch06b.3", lambda x: outer(flat(x)), "not divided"),
    ("ch06b.3", lambda x: outer(flat(x)) / x[0].numel(), "the channels too"),
    (
        "ch06b.3",
        lambda x: outer(flat(x) - flat(x).mean(2, keepdim=True)) / flat(x).shape[2],
        "covariance",
    ),
    (
        "ch06b.3",
        lambda x: (outer(flat(x)) / flat(x).shape[2]).mean(0, keepdim=True).expand(len(x), -1, -1),
        "whole batch",
    ),
    ("ch06b.3", lambda x: flat(x).transpose(1, 2) @ flat(x), "shape"),
    ("ch06b.4", lambda x, f: as_output(cells(x, f).permute(0, 1, 5, 3, 2, 4), x, f), "exchanged"),
    (
        "ch06b.4",
        lambda x, f: as_output(
            x.view(*x.shape[:2], f, x.shape[2] // f, f, x.shape[3] // f).permute(0, 1, 2, 4, 3, 5), x, f
        ),
        "block of neighbouring pixels",
    ),
    ("ch06b.4", lambda x, f: as_output(cells(x, f).permute(0, 3, 5, 1, 2, 4), x, f), "should be neighbours"),
    ("ch06b.4", lambda x, f: F.avg_pool2d(x, f), "shape"),
    ("ch06b.5", {WITHOUT: 0.0, WITH: 0.0}, "measured twice"),
    ("ch06b.5", {WITHOUT: 0.2, WITH: -1.0}, "exchange the two values"),
    ("ch06b.5", {WITHOUT: -4.4, WITH: -0.1}, "sum of the four"),
    ("ch06b.5", {WITHOUT: 30.1, WITH: 31.5}, "is no gain"),
    ("ch06b.5", {WITHOUT: 0.9, WITH: 1.5}, "never saw noise"),
    ("ch06b.5", {WITHOUT: -1.0, WITH: -0.9}, "to `large`"),
    ("ch06b.5", {"noisy": 1.0}, "dict of two numbers"),
    ("ch06b.5", torch.tensor([1.0, 2.0]), "dict of two numbers"),
]
