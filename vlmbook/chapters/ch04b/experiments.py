"""Computations of chapter 4b: the bound of a model that can be integrated, images decoded from a plane."""

import math

import torch
from torch.nn import functional as F

from vlmbook.vae import VAE, kl_to_standard_normal, log_normal, mean_image

# The toy model of section 2: p(x_i = 1 | z) = sigmoid(w_i z + b_i), one latent number, three pixels.
WEIGHT, BIAS = torch.tensor([4.0, 2.0, -3.0]), torch.tensor([0.0, -2.0, 1.0])
IMAGE = torch.tensor([1.0, 1.0, 0.0])
GRID, STEP = torch.linspace(-20, 20, 8001, dtype=torch.float64), 0.005


def toy_log_likelihood(z: torch.Tensor, x: torch.Tensor = IMAGE) -> torch.Tensor:
    """(…), (3,) -> (…): log p(x | z) of the toy model in nats."""
    logits = z[..., None] * WEIGHT + BIAS
    return (x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)).sum(-1)


def log_normal_on_grid(mu: float, sigma: float) -> torch.Tensor:
    """float, float -> (8001,): log N(z; mu, sigma²) at each z of GRID."""
    z = GRID[:, None]
    return log_normal(z, torch.full_like(z, mu), torch.full_like(z, 2 * math.log(sigma)))


def toy_posterior(x: torch.Tensor = IMAGE) -> torch.Tensor:
    """(3,) -> (8001,): the density p(z | x) of the toy model at each z of GRID."""
    return (toy_log_likelihood(GRID, x) + log_normal_on_grid(0.0, 1.0)).softmax(0) / STEP


def toy_bound(mu: float, sigma: float, x: torch.Tensor = IMAGE) -> tuple[float, float, float]:
    """float, float -> log p(x), the ELBO of q = N(mu, sigma²), KL(q || p(z | x)): sums over GRID, in nats."""
    log_fit = toy_log_likelihood(GRID, x)
    joint = log_fit + log_normal_on_grid(0.0, 1.0)
    log_p = joint.logsumexp(0) + math.log(STEP)
    log_q = log_normal_on_grid(mu, sigma)
    q = log_q.exp() * STEP
    mean, logvar = torch.tensor([[mu], [2 * math.log(sigma)]], dtype=torch.float64)
    elbo = (q * log_fit).sum() - kl_to_standard_normal(mean[None], logvar[None])[0]
    gap = (q * (log_q - joint + log_p)).sum()
    return log_p.item(), elbo.item(), gap.item()


@torch.no_grad()
def decode_means(net: VAE, z: torch.Tensor) -> torch.Tensor:
    """VAE, (n, Z) -> (n, C, H, W): the mean image at each z."""
    return mean_image(net.decode(z))


@torch.no_grad()
def decode_spreads(net: VAE, z: torch.Tensor) -> torch.Tensor:
    """VAE, (n, Z) -> (n, C, H, W): the standard deviation of each pixel given z."""
    logits = net.decode(z)
    values = torch.linspace(0, 1, logits.shape[1])
    square = torch.einsum("blchw,l->bchw", logits.softmax(1), values.square())
    return (square - mean_image(logits).square()).clamp(min=0).sqrt()


def decode_grid(net: VAE, side: int, reach: float) -> torch.Tensor:
    """VAE of two latent numbers -> (side, side, C, H, W): mean images on a square grid from −reach to reach.

    Rows run from above, z2 = reach, to below; columns from z1 = −reach to the right.
    """
    axis = torch.linspace(-reach, reach, side)
    z = torch.cartesian_prod(axis.flip(0), axis).flip(1)
    return decode_means(net, z).unflatten(0, (side, side))
