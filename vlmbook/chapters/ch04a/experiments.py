"""What chapter 4a computes: a game of two normals, the Dirac-GAN, the training at full size, walks between
latents, nearest images.
"""

import math
from typing import NamedTuple

import torch
from torch.nn import functional as F

from vlmbook import pretrained, runtime
from vlmbook.gan import (
    Discriminator,
    Generator,
    discriminator_loss,
    non_saturating_loss,
    optimal_discriminator,
)
from vlmbook.validation import require_choice

ORDERS = ("simultaneous", "alternating")
LOSSES = ("minimax", "non-saturating")
PATHS = ("arc", "straight")


class Game(NamedTuple):
    """Data N(0, 1) against a generator N(shift, spread²), on a grid of x; `value` is V(D*, G) in nats."""

    x: torch.Tensor
    p_data: torch.Tensor
    p_model: torch.Tensor
    best: torch.Tensor  # D*(x)
    value: float


def solve_two_normals(shift: float, spread: float) -> Game:
    """The generator's mean and standard deviation -> Game, its value by the trapezoidal rule."""
    x = torch.linspace(-8, 10, 3601, dtype=torch.float64)
    log_p, log_g = _log_normal(x, 0.0, 1.0), _log_normal(x, shift, spread)
    logit = log_p - log_g  # of the best discriminator
    p, g = log_p.exp(), log_g.exp()
    value = torch.trapezoid(p * F.logsigmoid(logit) + g * F.logsigmoid(-logit), x).item()
    return Game(x, p, g, optimal_discriminator(p, g), value)


def simulate_dirac_gan(
    order: str = "simultaneous",
    loss: str = "minimax",
    lr: float = 0.1,
    gamma: float = 0.0,
    steps: int = 500,
) -> torch.Tensor:
    """-> (steps + 1, 2): θ and ψ from (1, 0) on, of the data δ(0), the generator δ(θ) and D(x) = σ(ψx)
    [Mescheder et al. 2018].

    ψ descends the discriminator's loss plus γ/2·ψ², which is R1 here; θ descends log(1 − D(θ)), or −log D(θ)
    with the loss "non-saturating". In the order "alternating" θ is updated after ψ. Raises ValueError for
    other orders or losses.
    """
    require_choice(order, "order", ORDERS)
    require_choice(loss, "loss", LOSSES)
    sign = 1 if loss == "minimax" else -1
    theta, psi = 1.0, 0.0
    orbit = [(theta, psi)]
    for _ in range(steps):
        next_psi = psi - lr * (theta * _sigmoid(psi * theta) + gamma * psi)
        opponent = next_psi if order == "alternating" else psi
        theta = theta + lr * opponent * _sigmoid(sign * opponent * theta)
        psi = next_psi
        orbit.append((theta, psi))
    return torch.tensor(orbit, dtype=torch.float64)


# --- the training at full size ------------------------------------------------------------------------------


def train_gan(
    images: torch.Tensor, *, steps: int = 8000, latent: int = 64, width: int = 32, lr: float = 2e-3
) -> tuple[Generator, Discriminator]:
    """(N, 1, H, W) -> generator and discriminator in evaluation mode, trained as `play` of section 4 does, in
    bfloat16 on the CPU: 64 images a step, a learning rate that falls linearly to 0.
    """
    runtime.seed_everything(0)
    generator = Generator(images.shape[-1], latent=latent, width=width)
    discriminator = Discriminator(images.shape[-1], width=width)
    for net in (generator, discriminator):
        net.to(memory_format=torch.channels_last)
    d_optimizer, g_optimizer = (
        torch.optim.Adam(net.parameters(), lr=lr, betas=(0.5, 0.99)) for net in (discriminator, generator)
    )
    for step in range(steps):
        for optimizer in (d_optimizer, g_optimizer):
            optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        real = images[torch.randint(len(images), (64,))]
        d_optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            fake = generator(torch.randn(64, latent)).detach()
            loss_d = discriminator_loss(discriminator(real), discriminator(fake))
        loss_d.backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss_g = non_saturating_loss(discriminator(generator(torch.randn(64, latent))))
        loss_g.backward()
        g_optimizer.step()
    return generator.eval(), discriminator.eval()


def read_fashion_gan() -> tuple[Generator, Discriminator, dict]:
    """-> generator and discriminator with the weights of the full run, in evaluation mode, and their card."""
    state, card = pretrained.ours("ch04a_fashion")
    nets = {"G": Generator(28, latent=64, width=32), "D": Discriminator(28, width=32)}
    for name, net in nets.items():
        start = f"{name}."
        net.load_state_dict(
            {key.removeprefix(start): tensor for key, tensor in state.items() if key.startswith(start)}
        )
    return nets["G"].eval(), nets["D"].eval(), card


# --- latents and images -------------------------------------------------------------------------------------


def interpolate_latents(
    a: torch.Tensor, b: torch.Tensor, t: float | torch.Tensor, path: str = "arc"
) -> torch.Tensor:
    """(Z,), (Z,), t in [0, 1] -> (Z,), or (T,) of them -> (T, Z): points on the way from a to b, straight or
    along an arc [Shoemake 1985].

    The straight way leads through latents that are shorter than a normal one is; along the arc the length
    changes evenly. Raises ValueError for another path.
    """
    require_choice(path, "path", PATHS)
    t = torch.as_tensor(t, dtype=a.dtype)[..., None]
    straight = (1 - t) * a + t * b
    if path == "straight":
        return straight
    unit_a, unit_b = a / a.norm(), b / b.norm()
    angle = torch.dot(unit_a, unit_b).clamp(-1, 1).arccos()
    if angle < 1e-4:
        return straight
    direction = (((1 - t) * angle).sin() * unit_a + (t * angle).sin() * unit_b) / angle.sin()
    return direction * ((1 - t) * a.norm() + t * b.norm())


def find_nearest(x: torch.Tensor, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, C, H, W), (K, C, H, W) -> (N,), (N,): the distance to the nearest of `images`, and its index."""
    distance, index = torch.cdist(x.flatten(1), images.flatten(1)).min(1)
    return distance, index


def average_losses(curve: list[tuple[float, float]], window: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    """(D's loss, G's loss) of each step -> (S,), (S, 2): each window's middle step and its mean losses."""
    window = min(window, len(curve))
    means = torch.tensor(curve).unfold(0, window, 1).mean(2)
    return torch.arange(len(means)) + window / 2, means


def _sigmoid(x):
    return 1 / (1 + math.exp(-x))


def _log_normal(x, mean, std):
    return -(((x - mean) / std) ** 2) / 2 - math.log(std) - math.log(2 * math.pi) / 2
