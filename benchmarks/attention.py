"""Median time of an attention step at 1,024 tokens over `nn.MultiheadAttention`'s, with and without the
attention weights; of a forward pass of ViT-B/16 over torchvision's; and the memory of a pass with and without
the attention weights.

Each pass for memory is a process of its own, whose peak counts all of it: Python, PyTorch, the tokens.
"""

import argparse
import statistics
import subprocess
import sys
import time

import torch
import torchvision
from torch import nn
from torch.testing import assert_close

from vlmbook.attention import MultiHeadAttention, vit_b_16
from vlmbook.runtime import device, peak_memory

BAR = 1.05
BATCH, TOKENS, WIDTH, HEADS = 2, 1024, 384, 6
MANY = 4096  # tokens of the passes for memory


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=20)
    arguments.add_argument(
        "--pass", dest="way", choices=PASSES, help="one pass, for its peak memory, and no more"
    )
    arguments = arguments.parse_args()
    if arguments.way:
        return run_pass(arguments.way)
    print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, {device()}, "
        f"{torch.get_num_threads()} threads, {arguments.repeats} interleaved repeats"
    )
    print(f"one step of attention, forward and backward, x (1, {MANY}, {WIDTH}), {HEADS} heads, float32:")
    sys.stdout.flush()  # before the rest: a process starts with its parent's peak
    for way in PASSES:
        subprocess.run([sys.executable, __file__, "--pass", way], check=True)
    ratios = {}
    for need_weights in (False, True):
        ratios[f"attention, need_weights={need_weights}"] = time_attention(need_weights, arguments.repeats)
    ratios["ViT-B/16 forward"] = time_vit(arguments.repeats)
    for name, ratio in ratios.items():
        print(f"{name}, ours over theirs: {ratio:.3f} (bar: at most {BAR})")
    sys.exit(max(ratios.values()) > BAR)


def time_attention(need_weights, repeats):
    """Time a step of both layers in turn, from the same parameters -> float: ours over PyTorch's."""
    torch.manual_seed(0)
    x = torch.randn(BATCH, TOKENS, WIDTH, device=device(), requires_grad=True)
    ours = MultiHeadAttention(WIDTH, HEADS).to(device())
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).to(device())
    theirs.load_state_dict(ours.state_dict())
    ways = {
        "MultiHeadAttention": lambda: ours(x, need_weights=True) if need_weights else (ours(x), None),
        "nn.MultiheadAttention": lambda: theirs(
            x, x, x, need_weights=need_weights, average_attn_weights=False
        ),
    }
    found = [way() for way in ways.values()]
    assert_close(*found, rtol=1e-4, atol=1e-5)
    return time_in_turn(
        {
            name: make_step(way, [x, *net.parameters()])
            for (name, way), net in zip(ways.items(), (ours, theirs), strict=True)
        },
        f"x {tuple(x.shape)}, {HEADS} heads, need_weights={need_weights}, forward and backward",
        repeats,
    )


def make_step(way, leaves):
    def step():
        y, _ = way()
        torch.autograd.grad(y.sum(), leaves)

    return step


@torch.no_grad()
def time_vit(repeats):
    """Time a forward pass of both in turn, from the same parameters -> float: ours over torchvision's."""
    torch.manual_seed(0)
    theirs = torchvision.models.vit_b_16().eval()
    nn.init.normal_(theirs.heads.head.weight, std=0.1)  # it starts at zero
    ours = vit_b_16().eval()
    ours.load_state_dict(theirs.state_dict())
    ours, theirs, x = ours.to(device()), theirs.to(device()), torch.rand(2, 3, 224, 224, device=device())
    assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)
    return time_in_turn(
        {"vit_b_16": lambda: ours(x), "torchvision's": lambda: theirs(x)},
        f"ViT-B/16, x {tuple(x.shape)}, forward, without gradients",
        repeats,
    )


def time_in_turn(ways, what, repeats):
    """{name: function} of two -> float: the median time of the first over the second's, both printed."""
    seconds = {name: [] for name in ways}
    for repeat in range(repeats + 2):
        for name in sorted(ways, reverse=repeat % 2):  # neither is always the first
            began = now()
            ways[name]()
            if repeat >= 2:  # the first two warm up
                seconds[name].append(now() - began)
    medians = [statistics.median(times) for times in seconds.values()]
    print(
        f"{what}, median ms: "
        + ", ".join(f"{name} {1000 * median:.1f}" for name, median in zip(ways, medians, strict=True))
    )
    return medians[0] / medians[1]


def now():
    """-> seconds, after the device has finished."""
    if device().type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def run_step(need_weights):
    layer = MultiHeadAttention(WIDTH, HEADS)
    x = torch.randn(1, MANY, WIDTH)
    if need_weights:
        y, _ = layer(x, need_weights=True)
    else:
        y = layer(x)
    y.sum().backward()


PASSES = {"nothing": lambda: None, "fused": lambda: run_step(False), "with weights": lambda: run_step(True)}


def run_pass(way):
    """Name of a pass -> None: print the peak memory of this process."""
    PASSES[way]()
    print(f"  {way}: peak {peak_memory()['ram'] / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
