"""Variational autoencoder [Kingma & Welling 2013, arXiv:1312.6114] over pixels of whole levels [chapter 4b].

An image is a floating tensor (B, C, H, W) in [0, 1] whose pixels take `levels` values, 0, 1/(levels − 1), …,
1: 17 for scikit-learn's digits, 256 for bytes. Log-likelihoods are of these values, in nats an image; `z` is
(B, Z).
"""

import math
from numbers import Integral, Real

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from vlmbook.checks import check_counts, check_images, check_latents
from vlmbook.pixel_models import to_levels


class VAE(nn.Module):
    """(B, C, H, W) -> (B, levels, C, H, W) logits through a latent z of Z numbers: encoder, noise, decoder.

    `size` is the images' (H, W), or one number for both. Two convolutions halve it twice (rounding up), two
    transposed ones double it; the decoder gives each pixel a distribution over its levels. Layers before a
    ReLU start as He et al. [2015, arXiv:1502.01852] have it.
    """

    def __init__(self, size, *, channels=1, levels=256, latent=16, width=32):
        super().__init__()
        check_counts(self, channels=channels, latent=latent, width=width)
        _check_levels("VAE", levels)
        self.size = _height_and_width(size)
        self.channels, self.levels, self.latent = channels, levels, latent
        self.grid = tuple(math.ceil(n / 4) for n in self.size)
        inner = 2 * width * self.grid[0] * self.grid[1]
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(inner, 2 * latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, inner),
            nn.ReLU(),
            nn.Unflatten(1, (2 * int(width), *self.grid)),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, channels * levels, 3, padding=1),
        )
        for layer in (*self.encoder[:-1], *self.decoder[:-1]):
            if hasattr(layer, "weight"):  # PyTorch's start is smaller: at first z would hardly be heard
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def encode(self, x):
        """(B, C, H, W) -> (B, Z), (B, Z): mean and log variance of q(z | x)."""
        check_images(x, "x", "(B, C, H, W)", layer=self.encoder[0])
        if x.shape[2:] != self.size:
            raise ValueError(f"this VAE wants images of {self.size}, got {tuple(x.shape[2:])}")
        return self.encoder(2 * x - 1).chunk(2, dim=1)

    def decode(self, z):
        """(B, Z) -> (B, levels, C, H, W): logits of each pixel's level."""
        check_latents(z, self.decoder[0])
        logits = self.decoder(z)[:, :, : self.size[0], : self.size[1]]
        return rearrange(logits, "b (c levels) h w -> b levels c h w", levels=self.levels)

    def forward(self, x):
        """(B, C, H, W) -> (B, levels, C, H, W), (B, Z), (B, Z): logits for one draw of z, mu, logvar."""
        mu, logvar = self.encode(x)
        return self.decode(reparameterise(mu, logvar)), mu, logvar


def reparameterise(mu, logvar):
    """(B, Z), (B, Z) -> (B, Z): z = mu + sigma · noise, so that gradients reach both [§2.4]."""
    return mu + (logvar / 2).exp() * torch.randn_like(mu)


def kl_to_standard_normal(mu, logvar):
    """(B, Z), (B, Z) -> (B,): KL(N(mu, exp(logvar)) || N(0, I)) in nats [appendix B]."""
    return (mu.square() + logvar.expm1() - logvar).sum(1) / 2  # exp(logvar) − 1, exact near 0


def log_normal(z, mu, logvar):
    """(…, Z) three times -> (…): log of the density N(z; mu, exp(logvar)) in nats."""
    return -((z - mu).square() / logvar.exp() + logvar + math.log(2 * math.pi)).sum(-1) / 2


def log_likelihood_of_pixels(logits, x):
    """(B, levels, C, H, W), (B, C, H, W) -> (B,): log p(x | z) in nats: of each pixel the probability of its
    level.

    Raises ValueError where a pixel is not one of the levels.
    """
    return -F.cross_entropy(logits, to_levels(x, logits.shape[1]), reduction="none").sum((1, 2, 3))


def elbo(model, x):
    """VAE, (B, C, H, W) -> (B,), (B,): log p(x | z) for one draw of z, and KL(q(z | x) || p(z)), in nats [eq.
    3].

    Their difference is the evidence lower bound (ELBO), whose mean over draws is at most log p(x).
    """
    logits, mu, logvar = model(x)
    return log_likelihood_of_pixels(logits, x), kl_to_standard_normal(mu, logvar)


def elbo_loss(model, x, *, beta=1.0):
    """VAE, (B, C, H, W) -> scalar: −log p(x | z) + beta · KL, the mean over the batch in nats [Higgins et al.
    2017].

    Raises ValueError for a beta below 0 or infinite.
    """
    if isinstance(beta, bool) or not isinstance(beta, Real) or not 0 <= beta < math.inf:
        raise ValueError(f"elbo_loss wants a beta of at least 0, got {beta!r}")
    reconstruction, kl = elbo(model, x)
    return (beta * kl - reconstruction).mean()


@torch.no_grad()
def log_likelihood(model, x, k):
    """VAE, (B, C, H, W), int -> (B,): the bound on log p(x) from k draws, in nats [Burda et al. 2015, eq. 8].

    log (1/k) Σ p(x | z_i) p(z_i) / q(z_i | x). With k = 1 its mean is the ELBO; it grows with k towards log
    p(x).
    """
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
        raise ValueError(f"log_likelihood wants a whole number of draws k of at least 1, got {k!r}")
    mu, logvar = model.encode(x)
    weights = []
    for _ in range(k):
        z = reparameterise(mu, logvar)
        prior = log_normal(z, torch.zeros_like(z), torch.zeros_like(z))
        weights.append(log_likelihood_of_pixels(model.decode(z), x) + prior - log_normal(z, mu, logvar))
    return torch.stack(weights).logsumexp(0) - math.log(k)


def mean_image(logits):
    """(B, levels, C, H, W) -> (B, C, H, W) in [0, 1]: the expected value of each pixel."""
    levels = logits.shape[1]
    values = torch.linspace(0, 1, levels, device=logits.device, dtype=logits.dtype)
    return torch.einsum("blchw,l->bchw", logits.softmax(1), values)


def sample_image(logits):
    """(B, levels, C, H, W) -> (B, C, H, W) in [0, 1]: a level drawn for each pixel."""
    levels = logits.shape[1]
    p = rearrange(logits.softmax(1), "b levels c h w -> (b c h w) levels")
    return torch.multinomial(p, 1).view(len(logits), *logits.shape[2:]).to(logits.dtype) / (levels - 1)


def _check_levels(owner, levels):
    if isinstance(levels, bool) or not isinstance(levels, Integral) or levels < 2:
        raise ValueError(f"{owner} wants at least 2 whole levels, got {levels!r}")


def _height_and_width(size):
    """int or (H, W) -> (H, W). Raises ValueError for what is neither, and for a side below 1."""
    pair = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(pair) != 2 or any(isinstance(n, bool) or not isinstance(n, Integral) or n < 1 for n in pair):
        raise ValueError(
            f"VAE wants a size of whole pixels, at least 1, or a pair (H, W) of them, got {size!r}"
        )
    return tuple(map(int, pair))
