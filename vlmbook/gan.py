"""Generative adversarial networks [Goodfellow et al. 2014, arXiv:1406.2661]: parts and losses; the
alternating step is the chapter's [chapter 4a].

Images are (B, C, size, size) in [0, 1]; noise `z` is (B, Z), standard normal. A discriminator gives logits
(B,): its probability that an image is real is their sigmoid.
"""

from itertools import pairwise
from numbers import Integral

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from vlmbook.checks import check_counts, check_images, check_kind, check_latents


class Generator(nn.Module):
    """(B, Z) -> (B, C, size, size) in [0, 1]: a linear layer, then transposed convolutions that double
    [DCGAN, Radford et al. 2015, arXiv:1511.06434]. Sizes are 4, 5, 6 or 7 times a power of two: 8, 28, 32,
    64, …"""

    def __init__(self, size, *, channels=1, latent=64, width=32):
        super().__init__()
        check_counts(self, channels=channels, latent=latent, width=width)
        start, steps = _halvings(size)
        widths = [int(width) * 2**step for step in range(steps, 0, -1)]  # a NumPy int, nn.Unflatten refuses
        layers = [
            nn.Linear(latent, widths[0] * start**2, bias=False),
            nn.Unflatten(1, (widths[0], start, start)),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        ]
        for ins, outs in zip(widths, [*widths[1:], width], strict=True):
            layers += [
                nn.ConvTranspose2d(ins, outs, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outs),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1), nn.Sigmoid())

    def forward(self, z):
        check_latents(z, self.layers[0])
        return self.layers(z)


class Discriminator(nn.Module):
    """(B, C, size, size) -> (B,): logits, one image at a time: convolutions that halve, then a linear layer
    [DCGAN].

    normalise="spectral" divides each layer's weight, as a matrix of a row for each output, by its largest
    singular value, by one more power iteration with each call in training mode [Miyato et al. 2018,
    arXiv:1802.05957].
    """

    def __init__(self, size, *, channels=1, width=32, normalise=None):
        super().__init__()
        check_counts(self, channels=channels, width=width)
        if normalise not in (None, "spectral"):
            raise ValueError(f'Discriminator wants normalise=None or "spectral", got {normalise!r}')
        bounded = spectral_norm if normalise else lambda layer: layer
        start, steps = _halvings(size)
        widths = [width * 2**step for step in range(steps + 1)]
        layers = [bounded(nn.Conv2d(channels, width, 3, padding=1)), nn.LeakyReLU(0.2)]
        for ins, outs in pairwise(widths):
            layers += [bounded(nn.Conv2d(ins, outs, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        self.channels, self.size = channels, size
        self.layers = nn.Sequential(*layers, nn.Flatten(), bounded(nn.Linear(widths[-1] * start**2, 1)))

    def forward(self, x):
        check_images(x, "x", "(B, C, H, W)")
        if x.shape[1:] != (self.channels, self.size, self.size):
            raise ValueError(
                f"this Discriminator wants images (B, {self.channels}, {self.size}, {self.size}), got "
                f"{tuple(x.shape)}"
            )
        check_kind(x, "x", self.layers[0].bias)  # its weight would be another step of the power iteration
        return self.layers(2 * x - 1)[:, 0]


def discriminator_loss(real, fake):
    """(B,), (B,) logits -> scalar in nats: −log D(x) − log(1 − D(G(z))), the means [eq. 1, as a loss]."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def saturating_loss(fake):
    """(B,) logits -> scalar: log(1 − D(G(z))), the generator's side of the minimax game [eq. 1]."""
    return -F.softplus(fake).mean()


def non_saturating_loss(fake):
    """(B,) logits -> scalar: −log D(G(z)), what the generator minimises in practice [§3]."""
    return F.softplus(-fake).mean()


def hinge_discriminator_loss(real, fake):
    """(B,), (B,) -> scalar: max(0, 1 − D(x)) + max(0, 1 + D(G(z))), the means [Lim & Ye 2017; Miyato et al.
    2018].
    """
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator_loss(fake):
    """(B,) -> scalar: −D(G(z)), the mean."""
    return -fake.mean()


def r1_penalty(discriminator, real):
    """Discriminator, (B, C, H, W) -> scalar: the mean of ‖∇D(x)‖² at real images [Mescheder et al. 2018, eq.
    9].

    It is to be weighted by γ/2; its gradient reaches the discriminator's weights.
    """
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


def optimal_discriminator(p_data, p_model):
    """Densities or probabilities -> D*(x) = p/(p + g), the best answer to a fixed generator [proposition
    1].
    """
    return p_data / (p_data + p_model)


def _halvings(size):
    """int -> (start, steps): size = start · 2^steps, with a start of 4 to 7 and at least one step."""
    start, steps, whole = size, 0, isinstance(size, Integral) and not isinstance(size, bool)
    while whole and start > 7 and start % 2 == 0:
        start, steps = start // 2, steps + 1
    if not whole or not 4 <= start <= 7 or steps == 0:
        raise ValueError(
            f"a GAN wants a size of 4, 5, 6 or 7 times 2, 4, 8, …: 8, 28, 32 or 64, say; got {size!r}"
        )
    return int(start), steps
