"""Median time and peak memory of a training step of our GAN over those of one written out plainly, on the
CPU.

One step: 64 images of 28×28 pixels, Adam on the discriminator's loss, then Adam on the generator's
non-saturating one.
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

from vlmbook.gan import Discriminator, Generator, discriminator_loss, non_saturating_loss
from vlmbook.runtime import peak_memory

BAR = 1.05
BATCH, SIZE, LATENT = 64, 28, 64


def plain_generator():
    return nn.Sequential(
        nn.Linear(64, 6272, bias=False),
        nn.Unflatten(1, (128, 7, 7)),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 1, 3, padding=1),
        nn.Sigmoid(),
    )


def plain_discriminator():
    """Its images are in [−1, 1]."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(6272, 1),
    )


def plain_d_loss(net, real, fake):
    bce = F.binary_cross_entropy_with_logits
    real, fake = net(2 * real - 1), net(2 * fake - 1)
    return bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))


def plain_g_loss(net, fake):
    fake = net(2 * fake - 1)
    return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))


WAYS = {
    "plain": (plain_generator, plain_discriminator, plain_d_loss, plain_g_loss),
    "GAN": (
        lambda: Generator(SIZE),
        lambda: Discriminator(SIZE),
        lambda net, real, fake: discriminator_loss(net(real), net(fake)),
        lambda net, fake: non_saturating_loss(net(fake)),
    ),
}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=20)
    arguments.add_argument(
        "--memory-of", choices=WAYS, help="print the peak memory of two steps of one, and no more"
    )
    arguments = arguments.parse_args()
    torch.manual_seed(0)
    real = torch.rand(BATCH, 1, SIZE, SIZE)
    if arguments.memory_of:
        make_g, make_d, *losses = WAYS[arguments.memory_of]
        step = stepper(make_g(), make_d(), *losses, real)
        step()
        step()
        memory = peak_memory()["ram"] / 2**20
        print(f"{arguments.memory_of}: peak memory {memory:.0f} MiB, all of the process")
        return
    print(
        f"real {tuple(real.shape)}, z ({BATCH}, {LATENT}), float32, a step of Adam on D, then one on G; "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.repeats} interleaved "
        "repeats"
    )
    sys.stdout.flush()
    for way in WAYS:  # before the training: a process starts with its parent's peak
        subprocess.run([sys.executable, __file__, "--memory-of", way], check=True)
    ratio = training(real, arguments.repeats)
    print(f"training step, GAN over plain: {ratio:.3f} (bar: at most {BAR})")
    sys.exit(ratio > BAR)


def training(real, repeats):
    """Time both in turn, from the same weights and noise, print the medians -> float: ours over the plain
    one's.
    """
    pairs = {way: (make_g(), make_d()) for way, (make_g, make_d, *_) in WAYS.items()}
    for ours, theirs in zip(pairs["GAN"], pairs["plain"], strict=True):
        theirs.load_state_dict(ours.layers.state_dict())
    steps = {way: stepper(*pairs[way], *WAYS[way][2:], real) for way in WAYS}
    losses = {}
    for way in WAYS:
        torch.manual_seed(0)  # the same noise; warm-up, too
        losses[way] = torch.tensor([steps[way]() for _ in range(3)])
    assert_close(losses["GAN"], losses["plain"], rtol=1e-4, atol=1e-5)
    seconds = {way: [] for way in WAYS}
    for repeat in range(repeats):
        for way in sorted(steps, reverse=repeat % 2):  # neither is always the first
            began = time.perf_counter()
            steps[way]()
            seconds[way].append(time.perf_counter() - began)
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    print("median ms: " + ", ".join(f"{way} {1000 * median:.1f}" for way, median in medians.items()))
    return medians["GAN"] / medians["plain"]


def stepper(generator, discriminator, d_loss_fn, g_loss_fn, real):
    """-> a function that makes one training step of each and returns both losses."""
    g_optimizer, d_optimizer = (
        torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (generator, discriminator)
    )

    def step():
        fake = generator(torch.randn(len(real), LATENT))
        d_optimizer.zero_grad()
        d_loss = d_loss_fn(discriminator, real, fake.detach())
        d_loss.backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        g_loss = g_loss_fn(discriminator, fake)
        g_loss.backward()
        g_optimizer.step()
        return d_loss.item(), g_loss.item()

    return step


if __name__ == "__main__":
    main()
