"""Flow matching: a straight path from noise to an image, and a network that learns the velocity along it
[Lipman et al. 2022, arXiv:2210.02747; Liu et al. 2022, arXiv:2209.03003] [chapter 4d].

Images are (B, C, H, W) in [0, 1] outside, and scaled to [−1, 1] on the path. Time t is (B,) in [0, 1]: at 0
there is noise, at 1 an image. A model maps (x_t, t, labels) to a velocity of the shape of x_t. Labels are
int64 (B,) in 0 … K − 1; the label K = `model.num_classes` means "no class", which guidance needs.
"""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vlmbook.validation import (
    require_callable,
    require_choice,
    require_number,
    require_pair,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

# --- the method ---------------------------------------------------------------------------------------------


def interpolate(noise: torch.Tensor, images: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """(B, …), (B, …), (B,) -> (B, …): x_t = (1 − t) · noise + t · image, the point at time t of a straight
    path.

    Its velocity is image − noise at every t [Liu et al. 2022, eq. 1]. Raises TypeError or ValueError for
    tensors of different shapes or kinds and for a t outside [0, 1].
    """
    _require_points(noise, "noise")
    _require_like(images, "images", noise)
    t = _time_column(t, noise)
    return (1 - t) * noise + t * images


def flow_matching_loss(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    drop: float = 0.1,
    noise: torch.Tensor | None = None,
    t: torch.Tensor | None = None,
) -> torch.Tensor:
    """model, (B, C, H, W) in [0, 1], (B,) -> scalar: the mean of (v(x_t, t, y) − (image − noise))².

    Noise is standard normal. t = sigmoid(standard normal) lies more often in the middle of the path [Esser et
    al. 2024, arXiv:2403.03206, §3.1]. The label is dropped with probability `drop`, for guidance. `noise` and
    `t` may be given instead of drawn. Each term knows one image only; the minimum over all functions v is the
    velocity of the whole set of images all the same [Lipman et al. 2022, theorem 2]. Raises TypeError or
    ValueError for images outside [0, 1], labels that do not fit, and a drop outside [0, 1].
    """
    _require_model(model)
    require_tensor(images, "images", "B C H W", least=0, most=1)
    require_tensor(labels, "labels", "B", kind="int64", B=len(images), device=images.device)
    drop = require_number(drop, "drop", least=0, most=1)
    images = 2 * images - 1
    noise = torch.randn_like(images) if noise is None else noise
    t = torch.randn_like(images[:, 0, 0, 0]).sigmoid() if t is None else t
    dropped = torch.rand(len(labels), device=labels.device) < drop
    labels = torch.where(dropped, model.num_classes, labels)
    velocity = model(interpolate(noise, images, t), t, labels)
    return F.mse_loss(velocity, images - noise)


@torch.no_grad()
def sample(
    model: nn.Module,
    labels: torch.Tensor,
    steps: int,
    *,
    method: str = "heun",
    guidance: float = 1.5,
    noise: torch.Tensor | None = None,
    start: float = 0.0,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """model, (B,) classes, int -> (B, C, H, W) in [0, 1]: from noise at t = `start` to an image at t = 1.

    "euler" takes the velocity at the beginning of each step; "heun" takes the mean of the velocities at the
    beginning and the end, for twice the work [Karras et al. 2022, arXiv:2206.00364, alg. 1]; "ancestral" adds
    fresh noise at each step, as DDPM does [Ho et al. 2020, alg. 2]. `guidance` is that of `guided_velocity`.
    `noise` (B, C, H, W) is where the path starts; the default is drawn, of `model.image_shape`. For editing,
    an image mixed with noise by `interpolate` goes in with its time as `start`, both on the path's scale.
    Raises TypeError or ValueError for what is out of range.
    """
    _require_model(model)
    require_tensor(labels, "labels", "B", kind="int64", least=0, most=model.num_classes)
    steps = require_whole(steps, "steps", most=10_000)
    step = STEPS[require_choice(method, "method", STEPS)]
    start = require_number(start, "start", least=0, below=1)
    generator = _require_generator(generator)
    if noise is None:
        size = (len(labels), *model.image_shape)
        noise = torch.randn(size, device=labels.device, generator=generator)
    x = require_tensor(noise, "noise", "B C H W", B=len(labels), device=labels.device)

    def velocity(x, t):
        return guided_velocity(model, x, t, labels, guidance)

    for t, after in pairwise(torch.linspace(start, 1, steps + 1).tolist()):
        x = step(velocity, x, t, after, generator)
    return ((x + 1) / 2).clamp(0, 1)


@torch.no_grad()
def complete(
    model: nn.Module,
    images: torch.Tensor,
    mask: torch.Tensor,
    labels: torch.Tensor,
    steps: int,
    *,
    rounds: int = 4,
    guidance: float = 1.5,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """model, (B, C, H, W) in [0, 1], (B or 1, 1, H, W) with 1 = hole, (B,) -> (B, C, H, W): holes are filled,
    all other pixels stay as they are.

    Ancestral steps. Before each one, the known pixels are put on their path at time t. Each step is taken
    `rounds` times: the step's result is mixed with noise again until it is at time t, so that the hole and
    its border come to agree [Lugmayr et al. 2022, arXiv:2201.09865, alg. 1]. Raises TypeError or ValueError
    for images outside [0, 1], a mask that holds other values than 0 and 1, and what `sample` refuses.
    """
    _require_model(model)
    require_tensor(images, "images", "B C H W", least=0, most=1)
    mask = _require_mask(mask, images)
    require_tensor(labels, "labels", "B", kind="int64", B=len(images), device=images.device)
    require_tensor(labels, "labels", "B", kind="int64", least=0, most=model.num_classes)
    steps = require_whole(steps, "steps", most=10_000)
    rounds = require_whole(rounds, "rounds", most=1000)
    generator = _require_generator(generator)
    known = 2 * images - 1

    def velocity(x, t):
        return guided_velocity(model, x, t, labels, guidance)

    x = _draw_like(images, generator)
    for t, after in pairwise(torch.linspace(0, 1, steps + 1).tolist()):
        for left in reversed(range(rounds)):
            x = torch.where(mask, x, (1 - t) * _draw_like(x, generator) + t * known)
            x = _ancestral_step(velocity, x, t, after, generator)
            if left:
                ratio, spread = _step_back(t, after)
                x = ratio * x + spread**0.5 * _draw_like(x, generator)
    return torch.where(mask, ((x + 1) / 2).clamp(0, 1), images)


def _euler_step(velocity, x, t, after, generator):
    """x_t -> x_after: straight on, with the velocity at t."""
    return x + (after - t) * velocity(x, t)


def _heun_step(velocity, x, t, after, generator):
    """x_t -> x_after: with the mean of the velocities at both ends of Euler's step; the last step is Euler's,
    since at t = 1 the velocity of a finite set has no limit.
    """
    v = velocity(x, t)
    ahead = x + (after - t) * v
    if after == 1:
        return ahead
    return x + (after - t) * (v + velocity(ahead, after)) / 2


def _ancestral_step(velocity, x, t, after, generator):
    """x_t -> x_after: drawn from q(x_after | x_t, image), for the image that the velocity predicts.

    Signal t and spread 1 − t take the place of DDPM's √ᾱ and √(1 − ᾱ) [Kingma et al. 2021, arXiv:2107.00630,
    eq. 25]. At after = 1 the predicted image itself comes back.
    """
    image = x + (1 - t) * velocity(x, t)
    ratio, spread = _step_back(t, after)
    mean = (ratio * (1 - after) ** 2 * x + after * spread * image) / (1 - t) ** 2
    return mean + (1 - after) * spread**0.5 / (1 - t) * _draw_like(x, generator)


def _step_back(t, after):
    """t < after -> ratio, variance: x_t given x_after is normal around ratio · x_after with this variance."""
    ratio = t / after
    return ratio, (1 - t) ** 2 - ratio**2 * (1 - after) ** 2


def _draw_like(x, generator):
    return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)


STEPS = {"euler": _euler_step, "heun": _heun_step, "ancestral": _ancestral_step}


def guided_velocity(
    model: nn.Module, x: torch.Tensor, t: float, labels: torch.Tensor, guidance: float
) -> torch.Tensor:
    """model, (B, C, H, W), t, (B,), w -> (B, C, H, W): v(no class) + w · (v(class) − v(no class)).

    That is v(class) for w = 1, and follows the class further than the data do for w > 1 [Ho & Salimans 2022,
    arXiv:2207.12598]. Both velocities are computed in one batch. Raises TypeError or ValueError for what is
    out of range.
    """
    _require_model(model)
    require_tensor(x, "x", "B C H W")
    require_tensor(labels, "labels", "B", kind="int64", B=len(x), device=x.device)
    t = require_number(t, "t", least=0, most=1)
    guidance = require_number(guidance, "guidance", least=0)
    times = torch.full((len(x),), t, dtype=x.dtype, device=x.device)
    if guidance == 1:
        return model(x, times, labels)
    no_class = torch.full_like(labels, model.num_classes)
    both = model(torch.cat([x, x]), torch.cat([times, times]), torch.cat([labels, no_class]))
    conditional, unconditional = both.chunk(2)
    return unconditional + guidance * (conditional - unconditional)


def optimal_velocity(x: torch.Tensor, t: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """(B, …), (B,), (N, …) -> (B, …): the velocity that minimises the loss over a finite set, in closed form.

    Given image i, x_t is normal around t · image_i with spread 1 − t. So image i has the probability
    softmax_i(−‖x − t · image_i‖² / 2(1 − t)²), and v(x, t) = (Σ_i probability_i · image_i − x) / (1 − t)
    [Lipman et al. 2022, eq. 8, for an empirical distribution]. Whoever follows it from noise arrives at one
    of the images: a perfect model of a finite set recites it. Raises TypeError or ValueError for shapes that
    do not fit and for a t outside [0, 1).
    """
    _require_points(x, "x")
    require_tensor(images, "images", _axes(x, "N"), device=x.device, **_sizes(x))
    require_same_kind(images, "images", x, "x")
    remaining = 1 - _time_column(t, x.flatten(1))
    if not (remaining > 0).all():
        raise ValueError("t wants values below 1, where the path ends, got 1")
    points, images = x.flatten(1), images.flatten(1)
    squares = (points[:, None] - (1 - remaining)[:, None] * images).square().sum(-1)
    probability = (-squares / (2 * remaining**2)).softmax(1)
    return ((probability @ images - points) / remaining).view_as(x)


# --- the same field in other clothes ------------------------------------------------------------------------


def velocity_to_noise(velocity: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """(B, …), (B, …), (B,) -> (B, …): ε = x_t − t · v, what DDPM's network predicts [Ho et al. 2020, eq.
    14].
    """
    _require_pair(velocity, "velocity", x)
    return x - _time_column(t, x) * velocity


def noise_to_velocity(noise: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """(B, …), (B, …), (B,) -> (B, …): v = (x_t − ε) / t. Raises ValueError for t = 0, where ε says nothing
    new.
    """
    _require_pair(noise, "noise", x)
    return (x - noise) / _positive(_time_column(t, x), "t")


def velocity_to_image(velocity: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """(B, …), (B, …), (B,) -> (B, …): x_t + (1 − t) · v, the mean of the images that x_t may come from."""
    _require_pair(velocity, "velocity", x)
    return x + (1 - _time_column(t, x)) * velocity


def velocity_to_score(velocity: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """(B, …), (B, …), (B,) -> (B, …): ∇ log p_t(x) = −ε / (1 − t) [Song et al. 2020, arXiv:2011.13456].

    Raises ValueError for t = 1, where the density has no width.
    """
    _require_pair(velocity, "velocity", x)
    remaining = _positive(1 - _time_column(t, x), "1 − t")
    return -velocity_to_noise(velocity, x, t) / remaining


def score_to_velocity(score: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """(B, …), (B, …), (B,) -> (B, …): v = (x_t + (1 − t) · score) / t. Raises ValueError for t = 0."""
    _require_pair(score, "score", x)
    time = _time_column(t, x)
    return (x + (1 - time) * score) / _positive(time, "t")


# --- the network --------------------------------------------------------------------------------------------


class FlowUNet(nn.Module):
    """(B, C, H, W), (B,), (B,) -> (B, C, H, W): the U-Net of chapter 3c with an embedding of time and class.

    Level l has widths[l] channels at 1/2^l of the size; sides are multiples of 2^(levels − 1). Each way has
    one residual block a level, the lowest level two. `image_shape` is (C, H, W), which `sample` draws noise
    of. Raises TypeError or ValueError for sizes below 1, widths that 8 does not divide, and other sides.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        num_classes: int,
        *,
        channels: int = 1,
        widths: tuple[int, ...] = (32, 64, 96),
    ):
        super().__init__()
        height, width = require_pair(size, "size", most=2**12)
        self.num_classes = require_whole(num_classes, "num_classes", most=2**20)
        channels = require_whole(channels, "channels", most=2**12)
        widths = _require_widths(widths, (height, width))
        self.image_shape = (channels, height, width)
        condition = 4 * widths[0]
        self.time = nn.Sequential(Fourier(widths[0]), nn.Linear(widths[0], condition), nn.SiLU())
        self.classes = nn.Embedding(num_classes + 1, condition)
        self.mix = nn.Sequential(nn.Linear(condition, condition), nn.SiLU())
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(ResidualBlock(width, width, condition) for width in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.middle = nn.ModuleList(ResidualBlock(widths[-1], widths[-1], condition) for _ in range(2))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(ResidualBlock(2 * width, width, condition) for width in widths[:-1])
        self.head = nn.Sequential(
            nn.GroupNorm(8, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], channels, 3, padding=1)
        )
        nn.init.zeros_(self.head[-1].weight)  # the first velocity is 0
        nn.init.zeros_(self.head[-1].bias)

    def forward(self, x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self._require(x, t, labels)
        condition = self.mix(self.time(t) + self.classes(labels))
        x, skips = self.stem(x), []
        for block, down in zip(self.encoder, self.down, strict=True):
            x = block(x, condition)
            skips.append(x)
            x = down(x)
        for block in self.middle:
            x = block(x, condition)
        for block, up in zip(reversed(self.decoder), reversed(self.up), strict=True):
            x = up(F.interpolate(x, scale_factor=2.0, mode="nearest"))
            x = block(torch.cat([skips.pop(), x], dim=1), condition)
        return self.head(x)

    def _require(self, x, t, labels):
        require_tensor(x, "x", "B C H W", C=self.image_shape[0])
        require_same_kind(x, "x", self.stem.weight)
        grid = 2 ** len(self.down)
        if x.shape[2] % grid or x.shape[3] % grid:
            raise ValueError(f"x wants sides that {grid} divides, got {tuple(x.shape[2:])}")
        require_tensor(t, "t", "B", B=len(x), device=x.device, least=0, most=1)
        bounds = {"least": 0, "most": self.num_classes, "device": x.device}
        require_tensor(labels, "labels", "B", kind="int64", B=len(x), **bounds)


class ResidualBlock(nn.Module):
    """(B, C, H, W), (B, E) -> (B, D, H, W): two convolutions; the condition scales and shifts between them.

    Raises TypeError or ValueError for widths that 8 does not divide.
    """

    def __init__(self, in_channels: int, channels: int, condition: int):
        super().__init__()
        for name, value in (("in_channels", in_channels), ("channels", channels)):
            if require_whole(value, name, most=2**16) % 8:
                raise ValueError(f"{name} wants a multiple of 8, for 8 groups, got {value}")
        condition = require_whole(condition, "condition", most=2**16)
        self.norm1 = nn.GroupNorm(8, in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.scale_and_shift = nn.Linear(condition, 2 * channels)
        self.norm2 = nn.GroupNorm(8, channels, affine=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        same = in_channels == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, channels, 1)
        nn.init.zeros_(self.conv2.weight)  # at first a block is its shortcut
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        require_tensor(x, "x", "B C H W", C=self.conv1.in_channels)
        require_same_kind(x, "x", self.conv1.weight)
        require_tensor(condition, "condition", "B E", B=len(x), E=self.scale_and_shift.in_features)
        require_same_kind(condition, "condition", self.conv1.weight)
        y = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.scale_and_shift(condition)[..., None, None].chunk(2, dim=1)
        y = self.norm2(y) * (1 + scale) + shift
        return self.shortcut(x) + self.conv2(F.silu(y))


class Fourier(nn.Module):
    """(B,) in [0, 1] -> (B, D): cosines and sines of 2π f t, for D/2 frequencies f from 1/2 to 100.

    [after Vaswani et al. 2017, §3.5]. Raises TypeError or ValueError for a width that is not even.
    """

    def __init__(self, width: int):
        super().__init__()
        if require_whole(width, "width", least=2, most=2**16) % 2:
            raise ValueError(f"width wants an even number, got {width}")
        frequencies = torch.logspace(math.log10(0.5), 2, width // 2)
        self.register_buffer("frequencies", 2 * math.pi * frequencies)

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        require_tensor(t, "t", "B", device=self.frequencies.device)
        angles = t[:, None] * self.frequencies.to(t)
        return torch.cat([angles.cos(), angles.sin()], dim=1)


class Averaged(nn.Module):
    """A network that is itself in training mode, and the moving average of its weights in evaluation mode.

    After each forward pass in training, average = decay · average + (1 − decay) · weights. The average makes
    better samples than the last weights. Raises TypeError or ValueError for a decay outside [0, 1).
    """

    def __init__(self, network: nn.Module, *, decay: float = 0.998):
        super().__init__()
        self.network = require_type(network, "network", nn.Module, "a torch.nn.Module")
        decay = require_number(decay, "decay", least=0, below=1)
        self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.average.requires_grad_(False)
        self.num_classes = getattr(network, "num_classes", None)
        self.image_shape = getattr(network, "image_shape", None)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return self.average(*inputs)
        self.average.update_parameters(self.network)
        return self.network(*inputs)


# --- what comes in ------------------------------------------------------------------------------------------


def _require_model(model):
    require_callable(model, "model", "a network (x, t, labels) -> velocity")
    require_whole(getattr(model, "num_classes", None), "model.num_classes")


def _require_generator(generator):
    if generator is None:
        return None
    return require_type(generator, "generator", torch.Generator, "a torch.Generator")


def _require_mask(mask, images):
    """-> (B or 1, 1, H, W) bool: True in the hole. Raises TypeError or ValueError for another one."""
    height, width = images.shape[2:]
    require_tensor(mask, "mask", "M 1 H W", kind="any", device=images.device, H=height, W=width)
    if len(mask) not in (1, len(images)):
        raise ValueError(f"mask wants one mask, or {len(images)}, got {len(mask)}")
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError("mask wants 1 in the hole and 0 elsewhere, got other values")
    return mask == 1


def _require_widths(widths, size):
    require_type(widths, "widths", (tuple, list), "a tuple of channels, one a level")
    widths = tuple(require_whole(width, f"widths[{i}]", most=2**12) for i, width in enumerate(widths))
    if len(widths) < 2 or any(width % 8 for width in widths):
        raise ValueError(f"widths wants at least two multiples of 8, got {widths}")
    grid = 2 ** (len(widths) - 1)
    if size[0] % grid or size[1] % grid:
        raise ValueError(f"size wants sides that {grid} divides, got {size}")
    return widths


def _require_points(x, name):
    require_tensor(x, name, "…")
    require_tensor(x, name, _axes(x, "B"))
    if x.ndim < 2:
        raise ValueError(f"{name} wants at least two axes (B, …), got {tuple(x.shape)}")


def _require_like(y, name, x):
    require_tensor(y, name, _axes(x, "B"), B=len(x), device=x.device, **_sizes(x))
    require_same_kind(y, name, x, "the other points")


def _require_pair(y, name, x):
    _require_points(x, "x")
    _require_like(y, name, x)


def _axes(x, first):
    return " ".join([first, *(f"D{axis}" for axis in range(1, x.ndim))])


def _sizes(x):
    return {f"D{axis}": size for axis, size in enumerate(x.shape) if axis}


def _time_column(t, x):
    """(B,) -> (B, 1, …): as many axes as x has. Raises TypeError or ValueError for times that do not fit."""
    require_tensor(t, "t", "B", B=len(x), device=x.device, least=0, most=1)
    return t.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def _positive(values, name):
    if not (values > 0).all():
        raise ValueError(f"{name} wants values above 0, got {values.min().item():.4g}")
    return values
