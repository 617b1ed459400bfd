"""Chapter 3a: two or more wrong answers for each exercise, and what the message has to say about them."""

import torch
from torch.nn import functional as F


def half(n, kernel):
    return kernel // 2


WRONG_ANSWERS = [
    ("ch03a.1", (1, 64, 55, 55), "right after the convolution"),
    ("ch03a.1", (1, 64, 26, 26), "228"),
    ("ch03a.1", (1, 3, 27, 27), "as many channels as it has filters"),
    ("ch03a.1", (64, 27, 27), "this has 3"),
    ("ch03a.1", "27", "whole number"),
    ("ch03a.1", (1, 64, 28, 28), "size formula of the pooling|into the size formula"),
    ("ch03a.1", (1, 64, 27, 26), "once for the convolution and once for the pooling"),
    ("ch03a.1", 27, "four whole numbers"),
    ("ch03a.1", (1, 64, 27.125, 27.125), "rounds down"),
    ("ch03a.2", half, "even kernels"),
    ("ch03a.2", lambda n, kernel: n // 2, "gives .* pixels, not"),
    ("ch03a.2", lambda n, kernel: (kernel - 1) / 2, "whole number"),
    ("ch03a.2", lambda n, kernel: print(end=""), "return"),
    ("ch03a.2", lambda n, kernel: -1, "not negative"),
    ("ch03a.2", lambda n: 1, "TypeError"),
    ("ch03a.2", 3, "TypeError"),
    ("ch03a.3", lambda x, k: k * F.avg_pool2d(x, k), "too large"),
    ("ch03a.3", lambda x, k: k * k * F.avg_pool2d(x, k), "sum of each"),
    (
        "ch03a.3",
        lambda x, k: F.conv2d(x, torch.ones(len(x[0]), len(x[0]), k, k) / k**2 / len(x[0]), stride=k),
        "mixed",
    ),
    ("ch03a.3", lambda x, k: F.conv2d(x, torch.ones(len(x[0]), len(x[0]), k, k) / k**2, stride=k), "mixed"),
    ("ch03a.3", lambda x, k: F.avg_pool2d(x, k, stride=1), "shape"),
    ("ch03a.3", F.max_pool2d, "values are off"),
    ("ch03a.3", lambda x, k: x.tolist(), "list"),
    ("ch03a.4", lambda x, w, s: F.conv_transpose2d(x, w.flip(2, 3), stride=s), "180"),
    ("ch03a.4", lambda x, w, s: F.interpolate(x, scale_factor=s), "shape"),
    ("ch03a.4", lambda x, w, s: F.conv_transpose2d(x, 2 * w, stride=s), "off by up to"),
    ("ch03a.4", lambda x, w, s: print(end=""), "return"),
    (
        "ch03a.4",
        lambda x, w, s: F.pad(F.conv_transpose2d(x, w, stride=s), [0, s - 1] * 2),
        "zeros after the last",
    ),
    ("ch03a.4", lambda x, w, s: 1 / 0, "ZeroDivisionError"),
]
