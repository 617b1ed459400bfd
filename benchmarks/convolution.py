"""Median time of `conv2d` over that of PyTorch's, with im2col beside it: a layer of a ResNet, on the CPU."""

import argparse
import statistics
import sys
import time

import torch
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook.convolution import conv2d

BAR = 2.2


def im2col(x, weight, *, padding):
    """What textbooks write: copy each window into a column, then one matrix product."""
    columns = F.unfold(x, weight.shape[2:], padding=padding)  # (B, C·Kh·Kw, H·W)
    return (weight.flatten(1) @ columns).view(len(x), len(weight), *x.shape[2:])


FUNCTIONS = {"F.conv2d": F.conv2d, "conv2d": conv2d, "im2col": im2col}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=30)
    repeats = arguments.parse_args().repeats
    torch.manual_seed(0)
    x = torch.randn(8, 64, 56, 56)
    weight = torch.randn(64, 64, 3, 3) / 24
    for convolve in FUNCTIONS.values():
        assert_close(convolve(x, weight, padding=1), F.conv2d(x, weight, padding=1), rtol=1e-4, atol=1e-4)
    print(
        f"x {tuple(x.shape)}, weight {tuple(weight.shape)}, padding 1, float32; torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, {repeats} interleaved repeats"
    )
    ratio = report("forward", forward, x, weight, repeats)
    report("forward and backward", both_ways, x.requires_grad_(), weight.requires_grad_(), repeats)
    print(f"forward, conv2d over F.conv2d: {ratio:.2f} (bar: at most {BAR})")
    sys.exit(ratio > BAR)


def forward(convolve, x, weight):
    convolve(x, weight, padding=1)


def both_ways(convolve, x, weight):
    torch.autograd.grad(convolve(x, weight, padding=1).sum(), (x, weight))


def report(title, run, x, weight, repeats):
    """Time each function in turn, print the medians -> float: conv2d's over F.conv2d's."""
    seconds = {name: [] for name in FUNCTIONS}
    for repeat in range(repeats + 5):
        for name, convolve in FUNCTIONS.items():
            began = time.perf_counter()
            run(convolve, x, weight)
            if repeat >= 5:  # the first five warm up
                seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ratios = {name: median / medians["F.conv2d"] for name, median in medians.items()}
    print(
        f"{title}, median ms (and over F.conv2d): "
        + ", ".join(f"{name} {1000 * medians[name]:.1f} ({ratios[name]:.2f})" for name in FUNCTIONS)
    )
    return ratios["conv2d"]


if __name__ == "__main__":
    main()
