"""Median time and peak memory of a training step of our VAE over those of a plain one, on the CPU.

One step: 64 images of 28×28 pixels of 256 levels, the ELBO of one draw, backward, Adam.
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
from vlmbook.vae import VAE, elbo_loss

BAR = 1.05
BATCH, SIZE, LEVELS, LATENT, WIDTH = 64, 28, 256, 16, 32


class PlainVAE(nn.Module):
    """The usual way, for images of this one size."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(3136, 32),
        )
        self.decoder = nn.Sequential(
            nn.Linear(16, 3136),
            nn.ReLU(),
            nn.Unflatten(1, (64, 7, 7)),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 256, 3, padding=1),
        )

    def forward(self, x):
        mu, logvar = self.encoder(2 * x - 1).chunk(2, dim=1)
        return self.decoder(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)), mu, logvar


def plain_loss(model, x):
    logits, mu, logvar = model(x)
    reconstruction = F.cross_entropy(logits, (x[:, 0] * 255).round().long(), reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (reconstruction + kl) / len(x)


WAYS = {
    "plain": (PlainVAE, plain_loss),
    "VAE": (lambda: VAE(SIZE, levels=LEVELS, latent=LATENT, width=WIDTH), elbo_loss),
}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=20)
    arguments.add_argument(
        "--memory-of", choices=WAYS, help="print the peak memory of two steps of one, and no more"
    )
    arguments = arguments.parse_args()
    x = images()
    if arguments.memory_of:
        make, loss = WAYS[arguments.memory_of]
        step = stepper(make(), loss, x)
        step()
        step()
        mebibytes = peak_memory()["ram"] / 2**20
        print(f"{arguments.memory_of}: peak memory {mebibytes:.0f} MiB, all of the process")
        return
    print(
        f"x {tuple(x.shape)}, {LEVELS} levels, float32, forward, ELBO, backward and Adam; "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.repeats} repeats in turn"
    )
    sys.stdout.flush()
    for way in WAYS:  # before the training: a process starts with its parent's peak
        subprocess.run([sys.executable, __file__, "--memory-of", way], check=True)
    ratio = training(x, arguments.repeats)
    print(f"training step, VAE over plain: {ratio:.3f} (bar: at most {BAR})")
    sys.exit(ratio > BAR)


def images():
    torch.manual_seed(0)
    return torch.randint(LEVELS, (BATCH, 1, SIZE, SIZE)) / (LEVELS - 1)


def training(x, repeats):
    """Time both in turn, from the same weights and noise, print the medians -> float: ours over the plain
    one's.
    """
    models = {way: make() for way, (make, _) in WAYS.items()}
    models["plain"].load_state_dict(models["VAE"].state_dict())
    steps = {way: stepper(model, WAYS[way][1], x) for way, model in models.items()}
    losses = {way: [] for way in WAYS}
    for way in WAYS:
        torch.manual_seed(0)  # the same noise; warm-up, too
        losses[way] = torch.tensor([steps[way]() for _ in range(3)])
    assert_close(losses["VAE"], losses["plain"], rtol=1e-4, atol=0)
    assert losses["VAE"][2] < losses["VAE"][0]
    seconds = {way: [] for way in WAYS}
    for repeat in range(repeats):
        for way in sorted(steps, reverse=repeat % 2):  # neither is always the first
            began = time.perf_counter()
            steps[way]()
            seconds[way].append(time.perf_counter() - began)
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    print("median ms: " + ", ".join(f"{way} {1000 * median:.1f}" for way, median in medians.items()))
    return medians["VAE"] / medians["plain"]


def stepper(model, loss_fn, x):
    """-> a function that makes one training step and returns its loss."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step():
        optimizer.zero_grad()
        loss = loss_fn(model, x)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


if __name__ == "__main__":
    main()
