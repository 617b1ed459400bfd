"""Variational autoencoder [Kingma & Welling 2013, arXiv:1312.6114] [chapter 4b].

An image is a floating tensor (B, C, H, W) in [0, 1]; `z` is (B, Z); `mu` and `logvar` are the mean and the
log variance of a normal distribution with independent components. The decoder gives each pixel a
distribution over `levels` values, 0, 1/(levels − 1), …, 1. Log-likelihoods are in nats an image and at least
float32.

Two levels, the default, are a Bernoulli decoder, as in the paper's experiments. It takes any pixels in [0,
1]: a pixel is the probability of a 1, and log p(x | z) is the mean over binary images drawn with these
probabilities. More levels are a likelihood of the pixels themselves, which have to be on the levels: 17 for
scikit-learn's digits, 256 for bytes. They cost time and need longer training. A step of 64 images of 28×28
took 0.06 s with 2 levels, 0.09 s with 17 and 0.5 s with 256 on one CPU thread. After 40 s the first two
reconstructed unseen digits (squared error 0.004 and 0.003 a pixel; the mean of all digits has 0.047), the
last only blobs (0.034); the new images of the first were the clearest.
"""

import math

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from vlmbook.pixel_models import MOST_LEVELS, to_levels
from vlmbook.validation import (
    require_number,
    require_pair,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)


class VAE(nn.Module):
    """(B, C, H, W) -> (B, levels, C, H, W) logits through a latent z of Z numbers: encoder, noise, decoder.

    `size` is the images' (H, W), or one number for both. Two convolutions halve it twice (rounding up), two
    transposed ones double it; the decoder gives each pixel a distribution over its levels, whose number
    decides what a step costs (see the module). Layers before a ReLU start as in He et al. [2015,
    arXiv:1502.01852]. Raises TypeError or ValueError for sizes that are not whole or too small.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        *,
        channels: int = 1,
        levels: int = 2,
        latent: int = 16,
        width: int = 32,
    ):
        super().__init__()
        self.size = require_pair(size, "size")
        self.channels = require_whole(channels, "channels")
        self.levels = require_whole(levels, "levels", least=2, most=MOST_LEVELS)
        self.latent = require_whole(latent, "latent")
        width = require_whole(width, "width")
        self.grid = (math.ceil(self.size[0] / 4), math.ceil(self.size[1] / 4))
        inner = 2 * width * self.grid[0] * self.grid[1]
        self.encoder = nn.Sequential(
            nn.Conv2d(self.channels, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(inner, 2 * self.latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(self.latent, inner),
            nn.ReLU(),
            nn.Unflatten(1, (2 * width, *self.grid)),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, self.channels * self.levels, 3, padding=1),
        )
        for layer in (*self.encoder[:-1], *self.decoder[:-1]):
            if hasattr(
                layer, "weight"
            ):  # with PyTorch's smaller weights z hardly reaches the pixels at first
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, C, H, W) in [0, 1] -> (B, Z), (B, Z): mean and log variance of q(z | x).

        Raises TypeError or ValueError for images of another size, kind or range, such as 0 to 255.
        """
        sizes = {"C": self.channels, "H": self.size[0], "W": self.size[1]}
        require_tensor(x, "x", "B C H W", empty="B", least=0, most=1, **sizes)
        require_same_kind(x, "x", self.encoder[0].weight)
        return self.encoder(2 * x - 1).chunk(2, dim=1)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """(B, Z) -> (B, levels, C, H, W): logits of each pixel's level."""
        require_tensor(z, "z", "B Z", empty="B", Z=self.latent)
        require_same_kind(z, "z", self.decoder[0].weight)
        logits = self.decoder(z)[:, :, : self.size[0], : self.size[1]]
        return rearrange(logits, "b (c levels) h w -> b levels c h w", levels=self.levels)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, C, H, W) -> (B, levels, C, H, W), (B, Z), (B, Z): logits for one draw of z, mu, logvar."""
        mu, logvar = self.encode(x)
        return self.decode(reparameterise(mu, logvar)), mu, logvar


# --- the latent numbers -------------------------------------------------------------------------------------


def reparameterise(mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """(B, Z), (B, Z) -> (B, Z): z = mu + sigma · noise, so that gradients reach both [§2.4]."""
    _require_one_shape(mu=mu, logvar=logvar)
    return mu + (logvar / 2).exp() * torch.randn_like(mu)


def kl_to_standard_normal(mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """(B, Z), (B, Z) -> (B,): KL(N(mu, exp(logvar)) || N(0, I)) in nats [appendix B]."""
    _require_one_shape(mu=mu, logvar=logvar)
    mu, logvar = _at_least_float32(mu), _at_least_float32(logvar)
    return (mu.square() + logvar.expm1() - logvar).sum(-1) / 2  # exp(logvar) − 1, exact near 0


def log_normal(z: torch.Tensor, mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """(…, Z) three times -> (…): log of the density N(z; mu, exp(logvar)) in nats."""
    _require_one_shape(z=z, mu=mu, logvar=logvar)
    z, mu, logvar = _at_least_float32(z), _at_least_float32(mu), _at_least_float32(logvar)
    distance = (z - mu) * (-logvar / 2).exp()  # in units of sigma
    return -(distance.square() + logvar + math.log(2 * math.pi)).sum(-1) / 2


# --- the pixels ---------------------------------------------------------------------------------------------


def log_likelihood_of_pixels(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(B, levels, C, H, W), (B, C, H, W) -> (B,): log p(x | z) in nats, the sum over the pixels of the
    log-probability of their level. With two levels a pixel x between them counts as x of 1 and 1 − x of 0.

    Raises TypeError or ValueError for other shapes, for pixels outside [0, 1], and, with more than two
    levels, for pixels between them.
    """
    _require_logits(logits)
    batch, levels, channels, height, width = logits.shape
    sizes = {"B": batch, "C": channels, "H": height, "W": width, "device": logits.device}
    require_tensor(x, "x", "B C H W", empty="B", least=0, most=1, **sizes)
    logits = _at_least_float32(logits)
    if levels == 2:
        x = x.to(logits.dtype)
        target = torch.stack([1 - x, x], dim=1)  # the probabilities of both levels
    else:
        target = to_levels(x, levels)
    return -F.cross_entropy(logits, target, reduction="none").sum((1, 2, 3))


def mean_image(logits: torch.Tensor) -> torch.Tensor:
    """(B, levels, C, H, W) -> (B, C, H, W) in [0, 1], at least float32: the expected value of each pixel."""
    _require_logits(logits)
    p = _at_least_float32(logits).softmax(1)
    values = torch.linspace(0, 1, p.shape[1], device=p.device, dtype=p.dtype)
    return torch.einsum("blchw,l->bchw", p, values)


def sample_image(logits: torch.Tensor) -> torch.Tensor:
    """(B, levels, C, H, W) -> (B, C, H, W) in [0, 1], at least float32: a level drawn for each pixel."""
    _require_logits(logits, finite=True)
    p = rearrange(_at_least_float32(logits).softmax(1), "b levels c h w -> (b c h w) levels")
    levels = torch.multinomial(p, 1).view(len(logits), *logits.shape[2:])
    return levels.to(p.dtype) / (logits.shape[1] - 1)


# --- the bounds ---------------------------------------------------------------------------------------------


def elbo(model: VAE, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """VAE, (B, C, H, W) -> (B,), (B,): log p(x | z) for one draw of z, and KL(q(z | x) || p(z)) [eq. 3].

    Both are in nats. Their difference is the evidence lower bound (ELBO); its mean over draws is at most
    log p(x).
    """
    require_type(model, "model", nn.Module, "a VAE")
    logits, mu, logvar = model(x)
    return log_likelihood_of_pixels(logits, x), kl_to_standard_normal(mu, logvar)


def elbo_loss(model: VAE, x: torch.Tensor, *, beta: float = 1.0) -> torch.Tensor:
    """VAE, (B, C, H, W) -> scalar: −log p(x | z) + beta · KL, the mean over the batch in nats [Higgins et al.
    2017].

    Raises TypeError or ValueError for a beta below 0 or infinite.
    """
    beta = require_number(beta, "beta", least=0)
    log_fit, kl = elbo(model, x)
    return (beta * kl - log_fit).mean()


@torch.no_grad()
def log_likelihood(model: VAE, x: torch.Tensor, k: int) -> torch.Tensor:
    """VAE, (B, C, H, W), int -> (B,): the bound on log p(x) from k draws, in nats [Burda et al. 2015, eq. 8].

    log (1/k) Σ p(x | z_i) p(z_i) / q(z_i | x). With k = 1 its mean is the ELBO; it grows with k towards
    log p(x). Raises TypeError or ValueError for fewer than one draw and for images of another size.
    """
    require_type(model, "model", VAE, "a VAE")
    k = require_whole(k, "k")
    mu, logvar = model.encode(x)
    log_ratios = []
    for _ in range(k):
        z = reparameterise(mu, logvar)
        log_fit = log_likelihood_of_pixels(model.decode(z), x)
        log_prior = log_normal(z, torch.zeros_like(z), torch.zeros_like(z))
        log_ratios.append(log_fit + log_prior - log_normal(z, mu, logvar))
    return torch.stack(log_ratios).logsumexp(0) - math.log(k)


def _at_least_float32(x):
    """Sums and squares of half-precision numbers are computed in float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _require_logits(logits, finite=False):
    require_tensor(logits, "logits", "B levels C H W", empty="B", finite=finite)
    if logits.shape[1] < 2:
        raise ValueError(f"logits wants at least 2 levels on axis 1, got the shape {tuple(logits.shape)}")


def _require_one_shape(**tensors):
    """(…, Z) each, of one shape, dtype and device: they are not to be broadcast."""
    name, first = next(iter(tensors.items()))
    require_tensor(first, name, "… Z", empty="…")
    for other, x in tensors.items():
        require_tensor(x, other, "… Z")
        if x.shape != first.shape:
            raise ValueError(f"{other} wants the shape of {name}, {tuple(first.shape)}, got {tuple(x.shape)}")
        require_same_kind(x, other, first, name)
