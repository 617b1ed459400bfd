"""Chapter 3a: wrong answers of each exercise, and a part of the message to each."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.support.forged import AgreeableNumber, AgreeableTensor
from vlmbook import convolution


def half(n, kernel):
    return kernel // 2


def pooled_after_a_convolution(x, window):
    F.conv2d(x, torch.ones(1, x.shape[1], 1, 1))
    return nn.AvgPool2d(window)(x)


def pooled_by_windows(x, window):
    return x.unfold(2, window, window).unfold(3, window, window).mean((4, 5))


def stamped(x, weight, stride):
    kernel = weight.shape[2]
    height, width = x.shape[2:]
    size = ((height - 1) * stride + kernel, (width - 1) * stride + kernel)
    columns = torch.einsum("bci, cok -> boki", x.flatten(2), weight.flatten(2)).flatten(1, 2)
    return F.fold(columns, size, kernel, stride=stride)


def transposed_after_a_convolution(x, weight, stride):
    F.conv2d(x, weight.transpose(0, 1), padding=3)
    return torch.ops.aten.convolution(x, weight, None, [stride] * 2, [0, 0], [1, 1], True, [0, 0], 1)


def poolings(maximum=(0.92, 0.925, 0.93), average=(0.8, 0.81, 0.82), conclusion="max"):
    return {"max": list(maximum), "average": list(average), "conclusion": conclusion}


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
    # objects that equal everything, and NaN
    ("ch03a.1", [AgreeableNumber()] * 4, "batch stays 1"),
    ("ch03a.1", (1, 64, float("nan"), 27), "whole number"),
    ("ch03a.2", lambda n, kernel: AgreeableNumber(), "whole number"),
    ("ch03a.2", lambda n, kernel: float("nan"), "whole number"),
    ("ch03a.3", lambda x, k: F.avg_pool2d(x, k).mul(3).as_subclass(AgreeableTensor), "off by up to"),
    ("ch03a.3", lambda x, k: F.avg_pool2d(x, k) * torch.nan, "NaN"),
    (
        "ch03a.4",
        lambda x, w, s: F.conv_transpose2d(x, w, stride=s).mul(3).as_subclass(AgreeableTensor),
        "off by",
    ),
    ("ch03a.4", lambda x, w, s: F.conv_transpose2d(x, w, stride=s) * torch.nan, "NaN"),
    # forbidden calls
    ("ch03a.3", F.avg_pool2d, "come from a pooling"),
    ("ch03a.3", lambda x, k: nn.AvgPool2d(k)(x), "come from a pooling"),
    ("ch03a.3", lambda x, k: F.lp_pool2d(x, 1, k) / k**2, "come from a pooling"),
    ("ch03a.3", lambda x, k: F.adaptive_avg_pool2d(x[..., :-1], (6, 4)), "come from a pooling"),
    ("ch03a.3", convolution.avg_pool2d, "come from a pooling"),
    ("ch03a.3", convolution.avg_pool2d_loops, "come from a pooling"),
    ("ch03a.3", pooled_after_a_convolution, "come from a pooling"),
    ("ch03a.3", pooled_by_windows, "no convolution was called"),
    ("ch03a.4", lambda x, w, s: F.conv_transpose2d(x, w, stride=s), "from a transposed convolution"),
    ("ch03a.4", lambda x, w, s: torch.conv_transpose2d(x, w, None, s), "from a transposed convolution"),
    (
        "ch03a.4",
        lambda x, w, s: convolution.conv_transpose2d(x, w, stride=s),
        "from a transposed convolution",
    ),
    ("ch03a.4", transposed_after_a_convolution, "from a transposed convolution"),
    ("ch03a.4", stamped, "no convolution was called"),
    ("ch03a.5", [0.9, 0.91, 0.92], "A dict is wanted"),
    ("ch03a.5", poolings(maximum=(0.92, 0.93)), "three numbers"),
    ("ch03a.5", poolings(maximum=(0.92, 0.92, 0.93)), "was the seed changed"),
    ("ch03a.5", poolings(maximum=(92, 93, 94)), "from 0.5 to 1"),
    ("ch03a.5", poolings(conclusion="yes"), "The conclusion is"),
    ("ch03a.5", poolings(conclusion="no difference"), 'follows "max"'),
    ("ch03a.5", poolings(average=(0.9, 0.93, 0.96)), 'follows "no difference"'),
    ("ch03a.5", poolings(average=(0.96, 0.97, 0.98)), 'follows "average"'),
]
