"""Median time of a training step of our flow matching over that of one written out plainly, and seconds to
draw 16 images with 8 steps of Heun's method.
"""

import argparse
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook.flow import FlowUNet, flow_matching_loss, sample

BAR = 1.05  # two equal networks differ by so much
SECONDS = 1.5


class PlainBlock(nn.Module):
    """What everybody writes: GroupNorm, SiLU and convolution twice, scale and shift between."""

    def __init__(self, ins, outs):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, ins), nn.Conv2d(ins, outs, 3, padding=1)
        self.scale_and_shift = nn.Linear(128, 2 * outs)
        self.norm2, self.conv2 = nn.GroupNorm(8, outs, affine=False), nn.Conv2d(outs, outs, 3, padding=1)
        self.shortcut = nn.Conv2d(ins, outs, 1) if ins != outs else nn.Identity()

    def forward(self, x, c):
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.scale_and_shift(c)[:, :, None, None].chunk(2, 1)
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))


class PlainUNet(nn.Module):
    """Three levels of 32, 64 and 96 channels, each by name, without any check of its inputs."""

    def __init__(self):
        super().__init__()
        self.time1, self.classes, self.mix = nn.Linear(32, 128), nn.Embedding(11, 128), nn.Linear(128, 128)
        self.register_buffer("frequencies", FlowUNet(28, 10).time[0].frequencies)
        self.stem = nn.Conv2d(1, 32, 3, padding=1)
        self.left1, self.left2 = PlainBlock(32, 32), PlainBlock(64, 64)
        self.down1 = nn.Conv2d(32, 64, 3, stride=2, padding=1)
        self.down2 = nn.Conv2d(64, 96, 3, stride=2, padding=1)
        self.middle1, self.middle2 = PlainBlock(96, 96), PlainBlock(96, 96)
        self.up1, self.up2 = nn.Conv2d(64, 32, 3, padding=1), nn.Conv2d(96, 64, 3, padding=1)
        self.right1, self.right2 = PlainBlock(64, 32), PlainBlock(128, 64)
        self.norm, self.head = nn.GroupNorm(8, 32), nn.Conv2d(32, 1, 3, padding=1)

    def forward(self, x, t, labels):
        angles = t[:, None] * self.frequencies
        c = F.silu(self.time1(torch.cat([angles.cos(), angles.sin()], 1))) + self.classes(labels)
        c = F.silu(self.mix(c))
        x1 = self.left1(self.stem(x), c)
        x2 = self.left2(self.down1(x1), c)
        x3 = self.middle2(self.middle1(self.down2(x2), c), c)
        y = self.up2(F.interpolate(x3, scale_factor=2))
        y = self.right2(torch.cat([x2, y], 1), c)
        y = self.up1(F.interpolate(y, scale_factor=2))
        y = self.right1(torch.cat([x1, y], 1), c)
        return self.head(F.silu(self.norm(y)))


def copy_weights(net, plain):
    """FlowUNet, PlainUNet -> None: give the second the first's parameters."""
    pairs = [
        (net.time[1], plain.time1),
        (net.classes, plain.classes),
        (net.mix[0], plain.mix),
        (net.stem, plain.stem),
        *zip(net.encoder, [plain.left1, plain.left2], strict=True),
        *zip(net.down, [plain.down1, plain.down2], strict=True),
        *zip(net.middle, [plain.middle1, plain.middle2], strict=True),
        *zip(net.up, [plain.up1, plain.up2], strict=True),
        *zip(net.decoder, [plain.right1, plain.right2], strict=True),
        (net.head[0], plain.norm),
        (net.head[2], plain.head),
    ]
    for ours, theirs in pairs:
        theirs.load_state_dict(ours.state_dict())


def plain_loss(net, images, labels):
    """The same loss without a check."""
    x, noise = 2 * images - 1, torch.randn_like(images)
    t = torch.randn(len(x)).sigmoid()
    labels = torch.where(torch.rand(len(x)) < 0.1, 10, labels)
    column = t[:, None, None, None]
    return F.mse_loss(net((1 - column) * noise + column * x, t, labels), x - noise)


def stepper(net, loss, images, labels):
    """-> a function that makes one training step and returns its loss."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)

    def step():
        optimizer.zero_grad()
        value = loss(net, images, labels)
        value.backward()
        optimizer.step()
        return value.item()

    return step


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=20)
    arguments = arguments.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    torch.manual_seed(0)
    images, labels = torch.rand(64, 1, 28, 28), torch.arange(64) % 10
    layout = {"memory_format": torch.channels_last}
    nets = {"plain": PlainUNet().to(**layout), "FlowUNet": FlowUNet(28, 10).to(**layout)}
    for weight in nets["FlowUNet"].parameters():  # no layer starts at 0, so that each is compared
        nn.init.normal_(weight, std=0.05)
    copy_weights(nets["FlowUNet"], nets["plain"])
    inputs = (images, torch.rand(64), labels)
    assert_close(nets["FlowUNet"](*inputs), nets["plain"](*inputs), rtol=1e-3, atol=1e-4)
    losses = {"plain": plain_loss, "FlowUNet": flow_matching_loss}
    steps = {way: stepper(net, losses[way], images, labels) for way, net in nets.items()}
    seconds = {way: [] for way in nets}
    for step in steps.values():  # warm-up
        step()
    for repeat in range(arguments.repeats):
        for way in sorted(steps, reverse=repeat % 2):  # neither is always the first
            began = time.perf_counter()
            steps[way]()
            seconds[way].append(time.perf_counter() - began)
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    ratio = medians["FlowUNet"] / medians["plain"]
    print(f"batch of 64, 28×28, channels_last, forward, backward, AdamW; {arguments.repeats} repeats")
    print("median ms: " + ", ".join(f"{way} {1000 * median:.1f}" for way, median in medians.items()))
    print(f"training step, ours over the plain one: {ratio:.3f} (bar: at most {BAR})")
    drawing = []
    for _ in range(5):
        began = time.perf_counter()
        sample(nets["FlowUNet"].eval(), torch.arange(16) % 10, 8)
        drawing.append(time.perf_counter() - began)
    second = statistics.median(drawing)
    print(f"16 images, 8 steps of Heun, guidance 1.5: {second:.2f} s (bar: at most {SECONDS} on 2 cores)")
    sys.exit(ratio > BAR or second > SECONDS)


if __name__ == "__main__":
    main()
