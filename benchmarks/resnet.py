"""Median time of a training step of our ResNet-18 over that of torchvision's, on the CPU, in both memory
formats.
"""

import argparse
import statistics
import sys
import time

import torch
import torchvision
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook.resnet import resnet18

BAR = 1.05
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=20)
    repeats = arguments.parse_args().repeats
    torch.manual_seed(0)
    x = torch.randn(64, 3, 64, 64)
    labels = torch.randint(1000, (64,))
    print(
        f"x {tuple(x.shape)}, 1000 classes, float32, forward, cross-entropy, backward and SGD; "
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, "
        f"{torch.get_num_threads()} threads, {repeats} interleaved repeats"
    )
    ratios = {title: report(title, layout, x, labels, repeats) for title, layout in FORMATS.items()}
    print(
        "training step, resnet18 over torchvision's: "
        + ", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items())
        + f" (bar: at most {BAR})"
    )
    sys.exit(max(ratios.values()) > BAR)


def report(title, layout, x, labels, repeats):
    """Time both nets in turn, from the same weights, print the medians -> float: ours over torchvision's."""
    x = x.to(memory_format=layout)
    nets = {"torchvision": torchvision.models.resnet18(), "resnet18": resnet18()}
    nets["resnet18"].load_state_dict(nets["torchvision"].state_dict())
    seconds = {name: [] for name in nets}
    steps = {}
    for name, net in nets.items():
        net.to(memory_format=layout)
        steps[name] = make_step(net, x, labels)
    assert_close(*(net.eval()(x[:4]) for net in nets.values()), rtol=1e-4, atol=1e-4)
    for net in nets.values():
        net.train()
    for repeat in range(repeats + 2):
        for name in sorted(steps, reverse=repeat % 2 == 1):  # neither is always the first
            began = time.perf_counter()
            steps[name]()
            if repeat >= 2:  # the first two warm up
                seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ratio = medians["resnet18"] / medians["torchvision"]
    print(
        f"{title}, median ms: "
        + ", ".join(f"{name} {1000 * median:.1f}" for name, median in medians.items())
        + f" (ratio {ratio:.3f})"
    )
    return ratio


def make_step(net, x, labels):
    """-> a function that makes one training step."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step():
        optimizer.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
