"""Privacy of training data: an attack that tells members from others, gradient descent with differential
privacy and its accountant, and the average of several clients' models.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import norm
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from vlmbook.validation import (
    require_callable,
    require_number,
    require_tensor,
    require_type,
    require_whole,
)

ORDERS = (*(1 + k / 10 for k in range(1, 100)), *range(12, 64), 80, 100, 128, 192, 256, 512)
LEAST_NOISE, MOST_NOISE = 0.1, 1000.0  # noise multipliers that the accountant takes
MIXING = (nn.modules.batchnorm._BatchNorm,)  # layers in which one sample changes the output of another

# --- the attack ---------------------------------------------------------------------------------------------


def attack_auc(
    members: torch.Tensor, others: torch.Tensor, *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """(N,) scores of members, (M,) scores of others -> (AUC, low, high): how well a score tells both apart,
    with the interval of DeLong [1988, Biometrics 44(3)].

    The AUC is the probability that a member has the higher score; a tie counts one half. The score of the
    simplest attack is minus the loss [Yeom et al. 2018, arXiv:1709.01604]. Where all members lie above all
    others the interval has no width. Raises TypeError or ValueError for scores that are not finite, and for
    fewer than two of them.
    """
    first, second = _as_scores(members, "members"), _as_scores(others, "others")
    confidence = require_number(confidence, "confidence", above=0, below=1)
    wins = (first[:, None] > second).double() + 0.5 * (first[:, None] == second)
    auc = wins.mean().item()
    variance = (wins.mean(1).var() / len(first) + wins.mean(0).var() / len(second)).item()
    half = float(norm.ppf(0.5 + confidence / 2)) * math.sqrt(variance)
    return auc, max(0.0, auc - half), min(1.0, auc + half)


def most_true_positives(false_positive_rate: float, epsilon: float, delta: float) -> float:
    """FPR, ε, δ -> the largest true positive rate that any attack on an (ε, δ)-private training can have
    [Kairouz et al. 2015, arXiv:1311.0776, thm. 2.1].

    Raises TypeError or ValueError for a rate or δ outside [0, 1], or a negative ε.
    """
    rate = require_number(false_positive_rate, "false_positive_rate", least=0, most=1)
    epsilon = require_number(epsilon, "epsilon", least=0)
    delta = require_number(delta, "delta", least=0, most=1)
    rising = math.exp(min(epsilon, 700.0)) * rate + delta
    flat = 1 - math.exp(-epsilon) * (1 - delta - rate)
    return max(0.0, min(1.0, rising, flat))


def _as_scores(x, name):
    require_tensor(x, name, "N", kind="any", finite=True)
    if x.is_meta:
        raise ValueError(f"{name} wants a tensor with values, got one on the meta device")
    if len(x) < 2:
        raise ValueError(f"{name} wants at least two scores, got {len(x)}")
    return x.detach().cpu().double()


# --- gradient descent with differential privacy -------------------------------------------------------------


def sample_poisson(n: int, rate: float, *, generator: torch.Generator | None = None) -> torch.Tensor:
    """n, q -> (B,) int64: each of n indices is drawn with probability q, independently of the others.

    B differs from draw to draw and may be 0; its mean is q·n. The accountant assumes this sampling. Raises
    TypeError or ValueError for n below 1 or q outside [0, 1].
    """
    n = require_whole(n, "n", most=2**26)
    rate = require_number(rate, "rate", least=0, most=1)
    generator = _as_generator(generator)
    return (torch.rand(n, generator=generator) < rate).nonzero()[:, 0]


def per_sample_gradients(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = F.cross_entropy,
) -> dict[str, torch.Tensor]:
    """network, B inputs, B targets -> {name of a parameter: (B, *its shape)}: the gradient of each sample's
    own loss.

    Frozen parameters are left out. Raises TypeError or ValueError for what does not fit, and for batch
    normalisation in training mode: it mixes the samples, so that no sample has a gradient of its own.
    """
    _require_network(network)
    require_tensor(x, "x", "…", kind="any")
    require_tensor(y, "y", "…", kind="any")
    require_callable(loss_fn, "loss_fn", "a function of an output and a target")
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"x and y want as many samples each, got {tuple(x.shape)} and {tuple(y.shape)}")
    parameters = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
    if len(x) == 0:
        return {name: p.new_zeros(0, *p.shape) for name, p in parameters.items()}

    def loss_of_one(weights, one_x, one_y):
        return loss_fn(functional_call(network, weights, (one_x[None],)), one_y[None])

    return vmap(grad(loss_of_one), in_dims=(None, 0, 0), randomness="different")(parameters, x, y)


def clipped_sum(gradients: dict[str, torch.Tensor], max_norm: float) -> dict[str, torch.Tensor]:
    """{name: (B, …)}, C -> {name: (…)}: the sum over the samples, after each sample's gradient g was replaced
    by g · min(1, C / ‖g‖) [Abadi et al. 2016, arXiv:1607.00133, alg. 1].

    The norm is taken over all parameters together. Raises TypeError or ValueError for gradients of different
    numbers of samples, and for C of at most 0.
    """
    require_type(gradients, "gradients", dict, "a dict of tensors")
    max_norm = require_number(max_norm, "max_norm", above=0)
    if not gradients:
        raise ValueError("gradients wants at least one tensor, got an empty dict")
    for name, each in gradients.items():
        require_tensor(each, f"gradients[{name!r}]", "…")
        if each.ndim == 0 or each.is_meta:
            raise ValueError(f"gradients[{name!r}] wants values with the samples in axis 0, got another")
    counts = {len(each) for each in gradients.values()}
    if len(counts) > 1:
        raise ValueError(f"gradients wants as many samples for each parameter, got {sorted(counts)}")
    squares = [each.flatten(1).float().square().sum(1) for each in gradients.values()]
    norms = torch.stack(squares).sum(0).sqrt()
    factors = (max_norm / norms.clamp(min=1e-12)).clamp(max=1)
    return {name: torch.einsum("b,b...->...", factors.to(g), g) for name, g in gradients.items()}


def private_gradient(
    network: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    max_norm: float,
    noise_multiplier: float,
    expected_batch: float,
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = F.cross_entropy,
    generator: torch.Generator | None = None,
) -> dict[str, torch.Tensor]:
    """network, B inputs, B targets -> {name: gradient}: clipped, summed, noised with standard deviation σC,
    divided by the expected batch q·n [Abadi et al. 2016, alg. 1].

    `noise_multiplier` is σ. PyTorch's generators are no cryptographic ones: use this to learn, and a library
    such as Opacus where an attacker is real. Raises TypeError or ValueError for what does not fit.
    """
    sigma = require_number(noise_multiplier, "noise_multiplier", least=0)
    expected_batch = require_number(expected_batch, "expected_batch", above=0)
    generator = _as_generator(generator)
    total = clipped_sum(per_sample_gradients(network, x, y, loss_fn=loss_fn), max_norm)
    noisy = {}
    for name, gradient in total.items():
        noise = torch.randn(gradient.shape, generator=generator).to(gradient)
        noisy[name] = (gradient + sigma * max_norm * noise) / expected_batch
    return noisy


def _require_network(network):
    require_type(network, "network", nn.Module, "a torch.nn.Module")
    if any(isinstance(module, MIXING) and module.training for module in network.modules()):
        raise ValueError("network wants no batch normalisation in training mode: it mixes the samples")
    if not any(p.requires_grad for p in network.parameters()):
        raise ValueError("network wants at least one parameter that can be trained, got none")


def _as_generator(generator):
    if generator is not None:
        require_type(generator, "generator", torch.Generator, "a torch.Generator")
    return generator


# --- the accountant -----------------------------------------------------------------------------------------


def renyi_divergence(rate: float, noise_multiplier: float, order: float) -> float:
    """q, σ, α -> the Rényi divergence of order α that one step costs, in nats [Mironov, Talwar & Zhang 2019,
    arXiv:1908.10530, sec. 3.3].

    ln E[(1 − q + q·exp((2z − 1) / 2σ²))^α] / (α − 1) for z ~ N(0, σ²), as a sum over a fine grid of z. With
    q = 1 it is α / 2σ². Raises TypeError or ValueError for q outside (0, 1], σ outside [0.1, 1000], or α
    outside (1, 1024].
    """
    rate = require_number(rate, "rate", above=0, most=1)
    sigma = require_number(noise_multiplier, "noise_multiplier", least=LEAST_NOISE, most=MOST_NOISE)
    order = require_number(order, "order", above=1, most=1024)
    step = sigma / 8
    z = np.arange(-12 * sigma, order + 12 * sigma, step)
    stay = math.log1p(-rate) if rate < 1 else -math.inf
    log_ratio = np.logaddexp(stay, math.log(rate) + (2 * z - 1) / (2 * sigma**2))
    log_density = -(z**2) / (2 * sigma**2) - math.log(sigma * math.sqrt(2 * math.pi))
    log_moment = logsumexp(order * log_ratio + log_density) + math.log(step)
    return max(0.0, float(log_moment) / (order - 1))


def epsilon(rate: float, noise_multiplier: float, steps: int, delta: float) -> float:
    """q, σ, number of steps, δ -> ε: the whole training is (ε, δ)-private.

    The divergences of the steps add up for each order; the best order gives ε [Canonne, Kamath & Steinke
    2020, arXiv:2004.00010, prop. 12]. Raises TypeError or ValueError as `renyi_divergence`, for fewer than
    one step, or δ outside (0, 1).
    """
    rate = require_number(rate, "rate", above=0, most=1)
    sigma = require_number(noise_multiplier, "noise_multiplier", least=LEAST_NOISE, most=MOST_NOISE)
    steps = require_whole(steps, "steps")
    delta = require_number(delta, "delta", above=0, below=1)
    return min(_convert(steps * renyi_divergence(rate, sigma, order), order, delta) for order in ORDERS)


def noise_multiplier_for(target: float, rate: float, steps: int, delta: float) -> float:
    """ε, q, number of steps, δ -> the smallest noise multiplier σ with which the training is (ε, δ)-private.

    Raises TypeError or ValueError as `epsilon`, and where no σ from 0.1 to 1,000 gives this ε.
    """
    target = require_number(target, "target", above=0)
    low, high = (epsilon(rate, sigma, steps, delta) for sigma in (MOST_NOISE, LEAST_NOISE))
    if not low <= target <= high:
        raise ValueError(f"target wants an ε from {low:.3g} to {high:.3g} for these steps, got {target:g}")
    excess = lambda log_sigma: epsilon(rate, math.exp(log_sigma), steps, delta) - target  # noqa: E731
    margin = 1e-9  # so that exp(log(bound)) stays inside the bounds
    return math.exp(brentq(excess, math.log(LEAST_NOISE) + margin, math.log(MOST_NOISE) - margin, xtol=1e-5))


def _convert(divergence, order, delta):
    """Rényi divergence of one order, δ -> ε"""
    spent = divergence + math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)
    return max(0.0, spent)


# --- several clients ----------------------------------------------------------------------------------------


def federated_average(
    states: Sequence[dict[str, torch.Tensor]], sizes: Sequence[int]
) -> dict[str, torch.Tensor]:
    """state_dicts of K clients, their numbers of samples -> their weighted mean Σ n_k w_k / Σ n_k [McMahan et
    al. 2017, arXiv:1602.05629, alg. 1].

    Whole numbers, such as counters of batches, are rounded. Raises TypeError or ValueError for no client, for
    states with other names or shapes, and for sizes that are no whole numbers of at least 1.
    """
    require_type(states, "states", (list, tuple), "a list of state_dicts")
    require_type(sizes, "sizes", (list, tuple), "a list of whole numbers")
    if not states or len(states) != len(sizes):
        raise ValueError(
            f"states and sizes want one entry a client, got {len(states)} states, {len(sizes)} sizes"
        )
    numbers = [require_whole(size, "each of sizes") for size in sizes]
    for state in states:
        require_type(state, "each of states", dict, "a state_dict")
        if set(state) != set(states[0]):
            raise ValueError("states wants the same names for each client, got others")
    shares = torch.tensor(numbers, dtype=torch.float64) / sum(numbers)
    return {name: _mean([state[name] for state in states], shares, name) for name in states[0]}


def _mean(tensors, shares, name):
    for each in tensors:
        require_tensor(each, f"states[{name!r}]", "…", kind="any", empty="…")
        if each.shape != tensors[0].shape or each.dtype != tensors[0].dtype or each.is_meta:
            raise ValueError(f"states[{name!r}] wants the same shape and dtype for each client, got others")
    first = tensors[0]
    wide = torch.promote_types(first.dtype, torch.float32)
    mean = sum(share * each.to(wide) for share, each in zip(shares.tolist(), tensors, strict=True))
    return mean.to(first.dtype) if first.is_floating_point() else mean.round().to(first.dtype)
