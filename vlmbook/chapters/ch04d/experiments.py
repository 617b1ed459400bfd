"""Computations of chapter 4d: points in the plane, the full run on Fashion-MNIST, and the generators of
chapters 4a to 4c trained on the same images.
"""

import itertools
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import platformdirs
import torch
from sklearn.datasets import make_moons

from vlmbook import pretrained, runtime
from vlmbook.flow import Averaged, FlowUNet, flow_matching_loss, sample
from vlmbook.gan import Discriminator, Generator, discriminator_loss, non_saturating_loss
from vlmbook.gpt import GPT, generate, gpt_loss, to_images, to_tokens
from vlmbook.pixel_models import PixelGaussian, PixelHistogram
from vlmbook.training import History, fit
from vlmbook.vae import VAE, elbo_loss, mean_image

# --- points in the plane ------------------------------------------------------------------------------------


def make_points(n: int) -> torch.Tensor:
    """int -> (n, 2): two half moons with a little noise, in about [−2, 2]; the same ones each time."""
    points = torch.as_tensor(make_moons(n, noise=0.05, random_state=0)[0], dtype=torch.float32)
    return (points - points.mean(0)) / points.std(0)


def follow(velocity: Callable, x: torch.Tensor, steps: int) -> torch.Tensor:
    """velocity(x, t), (n, D) noise -> (steps + 1, n, D): Euler's steps from t = 0 to 1, all points passed."""
    passed = [x]
    for step in range(steps):
        t = torch.full((len(x),), step / steps)
        x = x + velocity(x, t) / steps
        passed.append(x)
    return torch.stack(passed)


# Paths x_t = a(t) · noise + b(t) · image: the functions a and b, and their derivatives.
QUARTER = math.pi / 2
PATHS = {
    "straight": (
        lambda t: (1 - t, t),
        lambda t: (-1.0, 1.0),
    ),
    "arc": (
        lambda t: (math.cos(QUARTER * t), math.sin(QUARTER * t)),
        lambda t: (-QUARTER * math.sin(QUARTER * t), QUARTER * math.cos(QUARTER * t)),
    ),
}


def optimal_velocity_on(path: str, x: torch.Tensor, t: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """name in PATHS, (n, D), (n,) of one value below 1, (N, D) -> (n, D): the best velocity of a finite set.

    It is the mean of a′(t) · noise + b′(t) · point over all pairs that meet in x at time t.
    """
    weights, slopes = (each(t[0].item()) for each in PATHS[path])
    (a, b), (a_slope, b_slope) = weights, slopes
    probability = (-torch.cdist(x, b * points).square() / (2 * a**2)).softmax(1)
    point = probability @ points
    noise = (x - b * point) / a
    return a_slope * noise + b_slope * point


# How the digits' flow is trained; the defaults of `train_flow` are those of the full run.
DIGIT_FLOW = {"epochs": 25, "widths": (32, 64), "lr": 4e-3, "warmup": 50, "decay": 0.99}

# --- the full run, and its rivals ---------------------------------------------------------------------------


def find_checkpoint() -> Path:
    """-> Path in the user's cache folder, from which the full run goes on after an interruption."""
    folder = platformdirs.user_cache_path("vlmbook", appauthor=False) / "training"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "ch04d_fashion.safetensors"


def train_flow(
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    epochs: int,
    widths: tuple[int, ...] = (32, 64, 96),
    lr: float = 2e-3,
    warmup: int = 200,
    decay: float = 0.998,
    checkpoint: Path | None = None,
) -> tuple[Averaged, History]:
    """(N, 1, H, W), (N,) -> network in evaluation mode, History; with a checkpoint it goes on where it
    stopped.
    """
    runtime.seed_everything(0)
    model = Averaged(FlowUNet(images.shape[-1], 10, widths=widths), decay=decay)
    model = model.to(memory_format=torch.channels_last)
    history = fit(
        model,
        (images, labels),
        loss_fn=flow_matching_loss,
        epochs=epochs,
        batch_size=64,
        lr=lr,
        warmup=warmup,
        weight_decay=0.01,
        checkpoint=checkpoint,
        resume=checkpoint is not None,
        progress=False,
    )
    return model.eval(), history


class Rivals(NamedTuple):
    """Other generators of the same images, by name."""

    draw: dict[str, Callable[[int], torch.Tensor]]  # int -> (n, 1, H, W)
    seconds: dict[str, float]  # of training
    parameters: dict[str, int]


def make_rivals(images: torch.Tensor, labels: torch.Tensor, *, quick: bool) -> Rivals:
    """(N, 1, H, W), (N,) -> Rivals: other real images, GAN and VAE; for the digits also GPT and two models
    without a network.

    The quick ones are read from the weights that `train_digit_rivals` made; the others are trained here. At
    28×28 pixels a GPT would take days on a CPU, and samples of the models without a network hardly ever look
    like some of the classes, so no draw of equal classes can be made of them.
    """
    levels = 17 if quick else 256
    if quick:
        nets, seconds = _read_digit_rivals()
    else:
        nets, seconds = _train_fashion_rivals(images)
    draw = {
        "other real images": lambda n: images[torch.randint(len(images), (n,))],
        "VAE": partial(_draw_from_vae, nets["VAE"]),
        "GAN": partial(_draw_from_gan, nets["GAN"], levels),
    }
    if quick:
        draw["pixel histogram"] = PixelHistogram(images, levels).sample
        draw["Gaussian"] = PixelGaussian(images, levels).sample
        draw["GPT"] = partial(_draw_from_gpt, nets["GPT"])
        draw["flow trained without classes"] = partial(
            _draw_without_classes, nets["flow trained without classes"]
        )
    parameters = {name: sum(p.numel() for p in net.parameters()) for name, net in nets.items()}
    return Rivals(draw, seconds, parameters)


@torch.no_grad()
def _draw_from_vae(net, n):
    return mean_image(net.decode(torch.randn(n, net.latent)))


@torch.no_grad()
def _draw_from_gan(net, levels, n):
    return (net(torch.randn(n, net.latent)) * (levels - 1)).round() / (levels - 1)


def _draw_from_gpt(net, n):
    return to_images(generate(net, torch.randint(10, (n,))), net.vocabulary, 8)


def _draw_without_classes(net, n):
    return sample(net, torch.full((n,), 10), 4, guidance=1.0)


# The networks of the digits, with the sizes of their chapters.
DIGIT_RIVALS = {
    "GAN": lambda: Generator(8, latent=32, width=16),
    "VAE": lambda: VAE(8, levels=17, width=16),
    "GPT": lambda: GPT(17, 64, 10, width=64, depth=2),
    "flow trained without classes": lambda: FlowUNet(8, 10, widths=(32, 64)),
}


def train_digit_rivals(images: torch.Tensor, labels: torch.Tensor) -> tuple[dict, dict]:
    """(N, 1, 8, 8), (N,) -> {name: network}, {name: seconds}: GAN, VAE and GPT as chapters 4a to 4c train
    them, and a flow without classes.
    """
    ways = {
        "GAN": partial(train_gan, images, steps=1200, latent=32, width=16, lr=4e-3),
        "VAE": partial(train_vae, images, levels=17, epochs=40, width=16),
        "GPT": partial(train_gpt, images, labels, levels=17, epochs=14),
        "flow trained without classes": partial(_train_without_classes, images, labels),
    }
    return _train_all(ways)


def _train_without_classes(images, labels):
    """The digits' flow of the chapter, trained with the label "no class" alone."""
    net, _ = train_flow(images, torch.full_like(labels, 10), **DIGIT_FLOW)
    return net.average.module


def _train_fashion_rivals(images):
    """GAN and VAE for 28×28 pixels. The VAE has a Bernoulli decoder, which gives its clearest mean images."""
    ways = {
        "GAN": partial(train_gan, images, steps=6000, latent=64, width=32, lr=2e-3),
        "VAE": partial(train_vae, images, levels=2, epochs=4, width=32, lr=5e-3),
    }
    return _train_all(ways)


def _train_all(ways):
    nets, seconds = {}, {}
    for name, train in ways.items():
        began = time.perf_counter()
        nets[name] = train()
        seconds[name] = time.perf_counter() - began
    return nets, seconds


def _read_digit_rivals():
    state, card = pretrained.ours("ch04d_rivals")
    nets = {name: make() for name, make in DIGIT_RIVALS.items()}
    for name, net in nets.items():
        own = {key.removeprefix(f"{name}."): x for key, x in state.items() if key.startswith(f"{name}.")}
        net.load_state_dict(own)
        net.eval()
    return nets, card["seconds"]


def train_gan(images: torch.Tensor, *, steps: int, latent: int, width: int, lr: float) -> Generator:
    """(N, 1, H, W) -> generator in evaluation mode, trained as in chapter 4a, section 5."""
    runtime.seed_everything(0)
    generator = Generator(images.shape[-1], latent=latent, width=width)
    discriminator = Discriminator(images.shape[-1], width=width)
    nets = [net.to(memory_format=torch.channels_last) for net in (discriminator, generator)]
    optimizers = [torch.optim.Adam(net.parameters(), lr=lr, betas=(0.5, 0.99)) for net in nets]
    for step in range(steps):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
            optimizer.zero_grad()
        real = images[torch.randint(len(images), (64,))]
        fake = generator(torch.randn(64, latent))
        discriminator_loss(discriminator(real), discriminator(fake.detach())).backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
        non_saturating_loss(discriminator(generator(torch.randn(64, latent)))).backward()
        optimizers[1].step()
    return generator.eval()


def train_vae(images: torch.Tensor, *, levels: int, epochs: int, width: int, lr: float = 0.01) -> VAE:
    """(N, 1, H, W) -> VAE in evaluation mode, trained as in chapter 4b, section 5: the KL grows at first."""
    runtime.seed_everything(0)
    model = VAE(images.shape[-1], levels=levels, width=width).to(memory_format=torch.channels_last)
    steps, taken = epochs * math.ceil(len(images) / 64), itertools.count()

    def loss(net, x):
        return elbo_loss(net, x, beta=min(1, 2 * next(taken) / steps))

    fit(model, (images,), loss_fn=loss, epochs=epochs, batch_size=64, lr=lr, warmup=10, progress=False)
    return model.eval()


def train_gpt(images: torch.Tensor, labels: torch.Tensor, *, levels: int, epochs: int) -> GPT:
    """(N, 1, H, W), (N,) -> GPT in evaluation mode, trained as in chapter 4c, section 5."""
    runtime.seed_everything(0)
    model = GPT(levels, images[0].numel(), 10, width=64, depth=2)
    fit(
        model,
        (to_tokens(images, levels), labels),
        loss_fn=gpt_loss,
        epochs=epochs,
        batch_size=32,
        lr=8e-3,
        warmup=50,
        weight_decay=0.1,
        clip=1.0,
        progress=False,
    )
    return model.eval()


def follow_images(velocity: Callable, x: torch.Tensor, steps: int) -> torch.Tensor:
    """velocity(x, t), (n, C, H, W) noise -> (n, C, H, W) in [0, 1]: where Euler's steps end."""
    return ((follow(velocity, x, steps)[-1] + 1) / 2).clamp(0, 1)
