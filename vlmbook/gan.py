"""Generative adversarial networks [Goodfellow et al. 2014, arXiv:1406.2661]: two networks and their losses.

Images are (B, C, size, size) in [0, 1]; noise `z` is (B, Z), standard normal. A discriminator returns logits
(B,): the sigmoid of a logit is the probability that its image is real. Losses are means over a batch in nats,
in at least float32.

One round of training [algorithm 1] updates the discriminator, then the generator through the discriminator:

    generator, discriminator = Generator(28), Discriminator(28)
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=2e-3, betas=(0.5, 0.99))
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.99))
    for real in batches:  # 64 images each
        fake = generator(torch.randn(len(real), 64))
        d_optimizer.zero_grad()
        discriminator_loss(discriminator(real), discriminator(fake.detach())).backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        non_saturating_loss(discriminator(fake)).backward()
        g_optimizer.step()

The learning rates of chapter 4a are 4e-3 for 8×8 and 2e-3 for 28×28; they fall linearly to 0 over 1,200 and
8,000 rounds. A round of 64 images of 28×28 takes about 0.17 s on two CPU threads.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from vlmbook.validation import (
    describe,
    require_callable,
    require_choice,
    require_same_kind,
    require_tensor,
    require_whole,
)

MOST_CHANNELS = 4096
MOST_PIXELS = 1024  # along a side
TOLERANCE = 0.01  # resizing may leave [0, 1] by a little; images of 0 to 255 or of −1 to 1 are a mistake


class Generator(nn.Module):
    """(B, Z) -> (B, C, size, size) in [0, 1]: a linear layer, then transposed convolutions that double height
    and width [DCGAN, Radford et al. 2015, arXiv:1511.06434].

    Sizes are 4, 5, 6 or 7 times a power of two: 8, 28, 32, 64, … Raises TypeError or ValueError for others,
    for numbers below 1, and for noise of another shape, dtype or device.
    """

    def __init__(self, size: int, *, channels: int = 1, latent: int = 64, width: int = 32):
        super().__init__()
        start, steps = _plan_doublings(size)
        channels = require_whole(channels, "channels", most=MOST_CHANNELS)
        latent = require_whole(latent, "latent", most=MOST_CHANNELS)
        width = require_whole(width, "width", most=MOST_CHANNELS)
        widths = [width * 2**step for step in range(steps, 0, -1)]
        layers = [
            nn.Linear(latent, widths[0] * start**2, bias=False),
            nn.Unflatten(1, (widths[0], start, start)),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        ]
        for ins, outs in pairwise([*widths, width]):
            layers += [
                nn.ConvTranspose2d(ins, outs, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outs),
                nn.ReLU(),
            ]
        layers += [nn.Conv2d(width, channels, 3, padding=1), nn.Sigmoid()]
        self.latent = latent
        self.layers = nn.Sequential(*layers)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        empty = "" if self.training else "B"  # the statistics of an empty batch would be NaN
        require_tensor(z, "z", "B Z", empty=empty, Z=self.latent)
        require_same_kind(z, "z", self.layers[0].weight)
        return self.layers(z)


class Discriminator(nn.Module):
    """(B, C, size, size) in [0, 1] -> (B,): a logit for each image by itself: convolutions that halve height
    and width, then a linear layer [DCGAN].

    normalise="spectral" divides each layer's weight, as a matrix of one row for each output, by its largest
    singular value, by one more power iteration with each call in training mode [Miyato et al. 2018,
    arXiv:1802.05957]. Raises TypeError or ValueError for sizes that a `Generator` cannot have, for numbers
    below 1, and for images of another shape, dtype or device, or with values outside [0, 1].
    """

    def __init__(self, size: int, *, channels: int = 1, width: int = 32, normalise: str | None = None):
        super().__init__()
        start, steps = _plan_doublings(size)
        channels = require_whole(channels, "channels", most=MOST_CHANNELS)
        width = require_whole(width, "width", most=MOST_CHANNELS)
        require_choice(normalise, "normalise", (None, "spectral"))
        bounded = spectral_norm if normalise == "spectral" else nn.Identity()  # a layer -> the layer
        widths = [width * 2**step for step in range(steps + 1)]
        layers = [bounded(nn.Conv2d(channels, width, 3, padding=1)), nn.LeakyReLU(0.2)]
        for ins, outs in pairwise(widths):
            layers += [bounded(nn.Conv2d(ins, outs, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        layers += [nn.Flatten(), bounded(nn.Linear(widths[-1] * start**2, 1))]
        self.channels, self.size = channels, start * 2**steps
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        require_tensor(
            x,
            "x",
            "B C H W",
            empty="B",
            least=-TOLERANCE,
            most=1 + TOLERANCE,
            C=self.channels,
            H=self.size,
            W=self.size,
        )
        require_same_kind(x, "x", self.layers[0].bias)  # reading its weight would be a power iteration
        return self.layers(2 * x - 1)[:, 0]


def discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Logits (B,), (B',) -> scalar: −log D(x) − log(1 − D(G(z))), the mean of each [eq. 1, as a loss].

    It is binary cross-entropy with the label 1 for real and 0 for generated images.
    """
    real, fake = _as_logits(real, "real"), _as_logits(fake, "fake")
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def saturating_loss(fake: torch.Tensor) -> torch.Tensor:
    """Logits (B,) -> scalar: log(1 − D(G(z))), the generator's side of the minimax game [eq. 1]."""
    return -F.softplus(_as_logits(fake, "fake")).mean()


def non_saturating_loss(fake: torch.Tensor) -> torch.Tensor:
    """Logits (B,) -> scalar: −log D(G(z)), what the generator minimises in practice [§3]."""
    return F.softplus(-_as_logits(fake, "fake")).mean()


def hinge_discriminator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Scores (B,), (B',) -> scalar: max(0, 1 − D(x)) + max(0, 1 + D(G(z))), the mean of each [Lim & Ye 2017,
    arXiv:1705.02894; Miyato et al. 2018].
    """
    real, fake = _as_logits(real, "real"), _as_logits(fake, "fake")
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator_loss(fake: torch.Tensor) -> torch.Tensor:
    """Scores (B,) -> scalar: −D(G(z)), the mean."""
    return -_as_logits(fake, "fake").mean()


def r1_penalty(discriminator: Callable, real: torch.Tensor) -> torch.Tensor:
    """Discriminator, (B, …) -> scalar: the mean of ‖∇D(x)‖² at real images [Mescheder et al. 2018,
    arXiv:1801.04406, eq. 9].

    A loss takes γ/2 times it; its gradient reaches the discriminator's parameters. Raises TypeError or
    ValueError for what is no batch, and for a discriminator without one logit for each image or without a
    gradient.
    """
    require_callable(discriminator, "discriminator", "a function of images")
    if isinstance(discriminator, type):
        raise TypeError(f"discriminator wants a function of images, got {describe(discriminator)}")
    require_tensor(real, "real", "… B D")
    with torch.enable_grad():
        x = real.detach().requires_grad_()
        logits = discriminator(x)
        require_tensor(logits, "the discriminator's result", "B", B=len(x))
        if not logits.requires_grad:
            raise ValueError("discriminator wants a result with a gradient, got one that was detached")
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True, materialize_grads=True)
        return _widen(gradient).square().flatten(1).sum(1).mean()


def optimal_discriminator(p_data: torch.Tensor, p_model: torch.Tensor) -> torch.Tensor:
    """Densities or probabilities (…) twice -> (…): D*(x) = p/(p + g), the best answer to a fixed generator
    [proposition 1]; NaN where both are 0.

    Raises TypeError or ValueError for two shapes and for values below 0.
    """
    require_tensor(p_data, "p_data", "…", least=0)
    require_tensor(p_model, "p_model", "…", least=0)
    require_same_kind(p_model, "p_model", p_data, "p_data")
    if p_model.shape != p_data.shape:
        raise ValueError(
            f"p_model wants the shape of p_data, {tuple(p_data.shape)}, got {tuple(p_model.shape)}"
        )
    p, g = _widen(p_data), _widen(p_model)
    return (p / (p + g)).to(p_data.dtype)


def _plan_doublings(size):
    """int -> (start, steps): size = start · 2^steps, with a start of 4 to 7 and at least one step."""
    size = require_whole(size, "size", most=MOST_PIXELS)
    start, steps = size, 0
    while start > 7 and start % 2 == 0:
        start //= 2
        steps += 1
    if not 4 <= start <= 7 or steps == 0:
        raise ValueError(f"size wants 4, 5, 6 or 7 times 2, 4, 8, …, such as 8, 28, 32 or 64, got {size}")
    return start, steps


def _as_logits(x, name):
    """Any -> the same, a batch of logits (B,), in at least float32."""
    return _widen(require_tensor(x, name, "B"))


def _widen(x):
    """Half precision -> float32, so that sums keep their digits; float32 and float64 stay."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
