"""Median time of a training step of our U-Net over that of one written out plainly; memory of a large image
in windows.

Each pass over the large image is a process of its own, whose peak counts all of it: Python, PyTorch, the
image.
"""

import argparse
import statistics
import subprocess
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook.runtime import peak_memory
from vlmbook.unet import UNet, predict_tiled

BAR = 1.05
SIDE, WIDTH, DEPTH, TILE = 4000, 8, 4, 512


def double_conv(ins, outs):
    return nn.Sequential(
        nn.Conv2d(ins, outs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outs, outs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outs),
        nn.ReLU(inplace=True),
    )


class PlainUNet(nn.Module):
    """What everybody writes: each level by name, for sizes that 16 divides."""

    def __init__(self):
        super().__init__()
        self.inc = double_conv(1, 64)
        self.down1, self.down2 = double_conv(64, 128), double_conv(128, 256)
        self.down3, self.down4 = double_conv(256, 512), double_conv(512, 1024)
        self.pool = nn.MaxPool2d(2)
        self.up1, self.up2 = nn.ConvTranspose2d(1024, 512, 2, 2), nn.ConvTranspose2d(512, 256, 2, 2)
        self.up3, self.up4 = nn.ConvTranspose2d(256, 128, 2, 2), nn.ConvTranspose2d(128, 64, 2, 2)
        self.conv1, self.conv2 = double_conv(1024, 512), double_conv(512, 256)
        self.conv3, self.conv4 = double_conv(256, 128), double_conv(128, 64)
        self.outc = nn.Conv2d(64, 2, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(self.pool(x1))
        x3 = self.down2(self.pool(x2))
        x4 = self.down3(self.pool(x3))
        x5 = self.down4(self.pool(x4))
        x = self.conv1(torch.cat([x4, self.up1(x5)], dim=1))
        x = self.conv2(torch.cat([x3, self.up2(x)], dim=1))
        x = self.conv3(torch.cat([x2, self.up3(x)], dim=1))
        x = self.conv4(torch.cat([x1, self.up4(x)], dim=1))
        return self.outc(x)


def copy_weights(net, plain):
    """UNet, PlainUNet -> None: give the second the first's parameters and buffers."""
    pairs = [
        *zip(net.encoder, [plain.inc, plain.down1, plain.down2, plain.down3, plain.down4], strict=True),
        *zip(net.upward, [plain.up4, plain.up3, plain.up2, plain.up1], strict=True),
        *zip(net.decoder, [plain.conv4, plain.conv3, plain.conv2, plain.conv1], strict=True),
        (net.head, plain.outc),
    ]
    for ours, theirs in pairs:
        theirs.load_state_dict(ours.state_dict())


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=20)
    arguments.add_argument(
        "--pass", dest="way", choices=PASSES, help="one pass over the large image, and no more"
    )
    arguments = arguments.parse_args()
    if arguments.way:
        return one_pass(arguments.way)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(
        f"image (1, 1, {SIDE}, {SIDE}), UNet(1, 2, width={WIDTH}, depth={DEPTH}), float32, without gradients:"
    )
    sys.stdout.flush()
    for way in PASSES:  # before the training: a process starts with its parent's peak
        subprocess.run([sys.executable, __file__, "--pass", way], check=True)
    ratio = training(arguments.repeats)
    print(f"training step, UNet over the plain one: {ratio:.3f} (bar: at most {BAR})")
    sys.exit(ratio > BAR)


PASSES = {
    "nothing": lambda net, image: None,
    "windows": lambda net, image: predict_tiled(net, image, tile=TILE, overlap=net.receptive_radius()),
    "whole": lambda net, image: net(image),
}


def one_pass(way):
    """Name of a pass -> None: print its seconds and the peak memory of this process."""
    torch.manual_seed(0)
    net, image = UNet(1, 2, width=WIDTH, depth=DEPTH).eval(), torch.rand(1, 1, SIDE, SIDE)
    began = time.perf_counter()
    with torch.no_grad():
        PASSES[way](net, image)
    seconds = time.perf_counter() - began
    tiles = f" (tile {TILE}, overlap {net.receptive_radius()})" if way == "windows" else ""
    print(f"  {way}{tiles}: {seconds:.1f} s, peak {peak_memory()['ram'] / 2**30:.2f} GiB")


def training(repeats):
    """Time both nets in turn, from the same weights, print the medians -> float: ours over the plain
    one's.
    """
    torch.manual_seed(0)
    x, target = torch.randn(1, 1, 256, 256), torch.randint(2, (1, 256, 256))
    nets = {"plain": PlainUNet(), "UNet": UNet(1, 2)}
    copy_weights(nets["UNet"], nets["plain"])
    print(
        f"x {tuple(x.shape)}, 2 classes, float32, contiguous, forward, cross-entropy, backward and SGD; "
        f"{repeats} interleaved repeats"
    )
    assert_close(nets["UNet"](x), nets["plain"](x))  # BatchNorm in training mode
    assert_close(nets["UNet"].eval()(x), nets["plain"].eval()(x))  # and in eval mode
    steps, seconds = (
        {way: stepper(net.train(), x, target) for way, net in nets.items()},
        {way: [] for way in nets},
    )
    assert_close(
        *(torch.tensor([step(), step()]) for step in steps.values()), rtol=1e-4, atol=1e-4
    )  # warm-up, too
    for repeat in range(repeats):
        for way in sorted(steps, reverse=repeat % 2):  # neither is always the first
            began = time.perf_counter()
            steps[way]()
            seconds[way].append(time.perf_counter() - began)
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    print("median ms: " + ", ".join(f"{way} {1000 * median:.1f}" for way, median in medians.items()))
    return medians["UNet"] / medians["plain"]


def stepper(net, x, target):
    """-> a function that makes one training step and returns its loss."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), target)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


if __name__ == "__main__":
    main()
