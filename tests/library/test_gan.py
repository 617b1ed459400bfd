"""vlmbook.gan: networks against compositions of PyTorch's functions, losses against their formulas."""

import math
from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook.data import digits
from vlmbook.gan import (
    Discriminator,
    Generator,
    discriminator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    non_saturating_loss,
    optimal_discriminator,
    r1_penalty,
    saturating_loss,
)

EXACT = {"rtol": 1e-10, "atol": 1e-10}
SIZES = {
    8: (4, 1),
    10: (5, 1),
    12: (6, 1),
    14: (7, 1),
    16: (4, 2),
    20: (5, 2),
    28: (7, 2),
    32: (4, 3),
    48: (6, 3),
    64: (4, 4),
}  # size: start, steps
sizes = pytest.mark.parametrize("size", SIZES)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def fresh(kind, *arguments, seed=0, dtype=torch.float64, **options):
    """A Generator or Discriminator in which no signal dies, with BatchNorms that are not the identity."""
    torch.manual_seed(seed)
    net = kind(*arguments, **options)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not hasattr(module, "parametrizations"):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2)
    return net.to(dtype)


def values_and_gradients(run, leaves):
    """-> the output, and the gradient of its weighted sum for each leaf."""
    y = run()
    return [y, *torch.autograd.grad(y, leaves, torch.linspace(1, 2, y.numel(), dtype=y.dtype).view(y.shape))]


# Oracle: the same layers by hand, with the same weights.


def generated(weights, z, size, training):
    start, steps = SIZES[size]

    def norm(number, x):
        mean, var, scale, shift = (
            weights[f"layers.{number}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.relu(F.batch_norm(x, mean.clone(), var.clone(), scale, shift, training))

    x = norm(2, (z @ weights["layers.0.weight"].T).view(len(z), -1, start, start))
    for step in range(steps):
        number = 4 + 3 * step
        x = norm(number + 1, F.conv_transpose2d(x, weights[f"layers.{number}.weight"], stride=2, padding=1))
    last = f"layers.{4 + 3 * steps}"
    return 1 / (1 + (-F.conv2d(x, weights[f"{last}.weight"], weights[f"{last}.bias"], padding=1)).exp())


def discriminated(weights, x, size):
    def leaky(x):
        return x.clamp(min=0) + 0.2 * x.clamp(max=0)

    x = leaky(F.conv2d(2 * x - 1, weights["layers.0.weight"], weights["layers.0.bias"], padding=1))
    for step in range(SIZES[size][1]):
        name = f"layers.{2 + 2 * step}"
        x = leaky(F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2, padding=1))
    name = f"layers.{3 + 2 * SIZES[size][1]}"
    return x.flatten(1) @ weights[f"{name}.weight"][0] + weights[f"{name}.bias"]


drawn = {
    "size": st.sampled_from([8, 10, 12, 14, 16, 20, 28]),
    "batch": st.integers(2, 3),
    "width": st.integers(1, 3),
    "channels": st.integers(1, 3),
    "seed": st.integers(0, 2**31),
}


@settings(max_examples=30, deadline=None)
@given(**drawn, latent=st.integers(1, 4), training=st.booleans())
def test_generator_equals_its_composition_in_values_and_gradients(
    size, batch, width, channels, seed, latent, training
):
    net = fresh(Generator, size, channels=channels, latent=latent, width=width, seed=seed).train(training)
    z = randn(batch, latent, seed=seed).requires_grad_()
    weights = {**dict(net.named_parameters()), **{name: b.clone() for name, b in net.named_buffers()}}
    leaves = [z, *net.parameters()]
    found = values_and_gradients(lambda: net(z), leaves)
    assert found[0].shape == (batch, channels, size, size)
    theirs = values_and_gradients(lambda: generated(weights, z, size, training), leaves)
    assert_close(found, theirs, rtol=1e-7, atol=1e-8)  # BatchNorm divides by the σ of two samples


@settings(max_examples=30, deadline=None)
@given(**drawn)
def test_discriminator_equals_its_composition_in_values_and_gradients(size, batch, width, channels, seed):
    net, x = (
        fresh(Discriminator, size, channels=channels, width=width, seed=seed),
        rand(batch, channels, size, size),
    )
    leaves = [x.requires_grad_(), *net.parameters()]
    weights = dict(net.named_parameters())
    found = values_and_gradients(lambda: net(x), leaves)
    assert found[0].shape == (batch,)
    assert_close(found, values_and_gradients(lambda: discriminated(weights, x, size), leaves), **EXACT)


def test_spectral_discriminator_is_the_plain_one_of_weights_over_their_largest_singular_value():
    net, x, weights = fresh(Discriminator, 8, width=3, normalise="spectral"), rand(3, 1, 8, 8), {}
    for _ in range(500):
        net(x)
    for number in (0, 2, 5):
        whole = net.layers[number].parametrizations.weight.original
        weights[f"layers.{number}.weight"] = whole / torch.linalg.svdvals(whole.flatten(1))[0]
        weights[f"layers.{number}.bias"] = net.layers[number].bias
    assert_close(net.eval()(x), discriminated(weights, x, 8), rtol=1e-7, atol=1e-8)


@sizes
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_range_and_number_of_parameters(size, channels):
    (start, steps), width, latent = SIZES[size], 2, 5
    generator = Generator(size, channels=channels, latent=latent, width=width)
    discriminator = Discriminator(size, channels=channels, width=width)
    images = generator(100 * randn(3, latent, dtype=torch.float32))
    assert images.shape == (3, channels, size, size) and 0 <= images.min() < images.max() <= 1
    assert discriminator(images).shape == (3,)
    widths = [width * 2**step for step in range(steps + 1)]
    pairs = sum(a * b for a, b in pairwise(widths))
    up = latent * widths[-1] * start**2 + 16 * pairs + 2 * sum(widths) + (9 * width + 1) * channels
    down = (9 * channels + 1) * width + 16 * pairs + sum(widths[1:]) + widths[-1] * start**2 + 1
    assert [sum(p.numel() for p in net.parameters()) for net in (generator, discriminator)] == [up, down]


def test_maps_double_in_the_generator_and_halve_in_the_discriminator():
    shapes = {}
    for name, net, given_x in (
        ("up", Generator(28, latent=5, width=2), torch.zeros(2, 5)),
        ("down", Discriminator(28, width=2), torch.zeros(2, 1, 28, 28)),
    ):
        kinds = nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Unflatten
        layers = [layer for layer in net.layers if isinstance(layer, kinds)]
        shapes[name] = []
        for layer in layers:
            layer.register_forward_hook(lambda _, x, y, found=shapes[name]: found.append(tuple(y.shape[1:])))
        net(given_x)
    assert shapes["up"] == [(392,), (8, 7, 7), (4, 14, 14), (2, 28, 28), (1, 28, 28)]
    assert shapes["down"] == [(2, 28, 28), (4, 14, 14), (8, 7, 7), (1,)]


def test_options_left_out():
    assert repr(Generator(8)) == repr(Generator(8, channels=1, latent=64, width=32))
    assert repr(Discriminator(8)) == repr(Discriminator(8, channels=1, width=32, normalise=None))
    assert Generator(np.int64(8), latent=np.int64(3), width=np.int64(2))(torch.zeros(2, 3)).shape == (
        2,
        1,
        8,
        8,
    )
    assert Discriminator(np.int64(8), width=np.int64(2))(torch.zeros(2, 1, 8, 8)).shape == (2,)


@pytest.mark.parametrize("normalise", [None, "spectral"])
@pytest.mark.parametrize("training", [True, False])
def test_a_logit_depends_on_its_own_image_only(normalise, training):
    net = fresh(Discriminator, 8, width=3, normalise=normalise).train(training)
    x = rand(4, 1, 8, 8).requires_grad_()
    logits = net(x)
    for b in range(4):
        (gradient,) = torch.autograd.grad(logits[b], x, retain_graph=True)
        seen = gradient.flatten(1).abs().amax(1) > 0
        assert seen.tolist() == [a == b for a in range(4)]
    net.eval()
    assert_close(net(x), torch.cat([net(image[None]) for image in x]), **EXACT)
    assert net(x[:0]).shape == (0,)


@pytest.mark.parametrize("normalise", [None, "spectral"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_networks_of_halves_are_those_of_float32(normalise, dtype):
    generator = fresh(Generator, 8, latent=3, width=4, dtype=torch.float32).eval()
    discriminator = fresh(Discriminator, 8, width=4, normalise=normalise, dtype=torch.float32).eval()
    z, x = randn(5, 3, dtype=dtype), rand(5, 1, 8, 8, dtype=dtype)
    for net, given_x in ((generator, z), (discriminator, x)):
        want = net(given_x.float())
        got = deepcopy(net).to(dtype)(given_x)
        assert got.dtype == dtype
        assert_close(got.float(), want, rtol=0.05, atol=0.05)


def test_networks_draw_nothing():
    generator, discriminator = (
        Generator(8, latent=3, width=2),
        Discriminator(8, width=2, normalise="spectral"),
    )
    before = torch.get_rng_state()
    r1_penalty(discriminator, generator(torch.zeros(2, 3)))
    assert torch.get_rng_state().equal(before)


# Spectral norm.


def test_spectral_norm_brings_the_largest_singular_values_to_one():
    net = Discriminator(20, channels=3, width=4, normalise="spectral")
    plain = Discriminator(20, channels=3, width=4)
    layers = [layer for layer in net.layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == 4
    with torch.no_grad():
        for layer in layers:
            layer.parametrizations.weight.original.mul_(7)
        for _ in range(60):
            net(rand(1, 3, 20, 20, dtype=torch.float32))
        for layer in layers:
            assert abs(torch.linalg.svdvals(layer.weight.flatten(1))[0] - 1) < 0.02
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in plain.parameters())
    assert not any(hasattr(layer, "parametrizations") for layer in plain.layers)


def test_only_calls_in_training_mode_move_the_power_iteration():
    net, x = fresh(Discriminator, 8, width=3, normalise="spectral"), rand(1, 1, 8, 8)
    steps = []
    for layer in (layer for layer in net.layers if hasattr(layer, "parametrizations")):
        iterate = layer.parametrizations.weight[0]
        iterate.register_forward_hook(lambda *_: steps.append(1))
    net(x)
    assert len(steps) == 3  # one for each layer: reading the dtype takes none
    before = deepcopy(net.state_dict())
    net.eval()(x)
    assert_close(dict(net.state_dict()), dict(before), rtol=0, atol=0)
    net.train()(x)
    name = "layers.2.parametrizations.weight"
    u = F.normalize(
        before[f"{name}.original"].flatten(1) @ before[f"{name}.0._v"], dim=0
    )  # one step, not two
    assert_close(net.state_dict()[f"{name}.0._u"], u, **EXACT)
    assert not u.allclose(before[f"{name}.0._u"])


# Losses.


logits = st.lists(st.floats(-1000, 1000) | st.floats(-5, 5), min_size=1, max_size=5).map(
    lambda numbers: torch.tensor(numbers, dtype=torch.float64).requires_grad_()
)


@settings(max_examples=80, deadline=None)
@given(real=logits, fake=logits)
def test_losses_are_their_formulas_in_values_and_gradients(real, fake):
    log_d, log_not_d = F.logsigmoid, lambda x: F.logsigmoid(-x)
    zero = torch.zeros((), dtype=torch.float64)
    for loss, formula, leaves in [
        (
            discriminator_loss,
            lambda r, f: -(log_d(r).sum() / len(r)) - log_not_d(f).sum() / len(f),
            [real, fake],
        ),
        (
            hinge_discriminator_loss,
            lambda r, f: (
                torch.maximum(zero, 1 - r).sum() / len(r) + torch.maximum(zero, 1 + f).sum() / len(f)
            ),
            [real, fake],
        ),
        (saturating_loss, lambda f: log_not_d(f).sum() / len(f), [fake]),
        (non_saturating_loss, lambda f: -log_d(f).sum() / len(f), [fake]),
        (hinge_generator_loss, lambda f: -f.sum() / len(f), [fake]),
    ]:
        mine, theirs = (
            values_and_gradients(lambda way=way, leaves=leaves: way(*leaves), leaves)
            for way in (loss, formula)
        )
        assert mine[0].shape == () and all(y.isfinite().all() for y in mine)
        kinks = loss is hinge_discriminator_loss and ((real == 1).any() or (fake == -1).any())
        assert_close(mine[:1] if kinks else mine, theirs[:1] if kinks else theirs, rtol=1e-8, atol=1e-8)


def test_discriminator_loss_is_binary_cross_entropy():
    real, fake = randn(5), randn(7, seed=1)
    bce = F.binary_cross_entropy_with_logits
    assert_close(
        discriminator_loss(real, fake),
        bce(real, torch.ones(5).double()) + bce(fake, torch.zeros(7).double()),
        **EXACT,
    )
    assert_close(non_saturating_loss(fake), bce(fake, torch.ones(7).double()), **EXACT)
    assert_close(saturating_loss(fake), -bce(fake, torch.zeros(7).double()), **EXACT)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_halves_are_means_in_float32(dtype):
    """Against PyTorch's own in float32, on so many logits that a sum in halves would be wrong."""
    real, fake = (8 * randn(5000, seed=seed).to(dtype) for seed in range(2))
    bce = F.binary_cross_entropy_with_logits
    ones, zeros = torch.ones(5000), torch.zeros(5000)
    wide_real, wide_fake = real.float(), fake.float()
    for got, want in (
        (discriminator_loss(real, fake), bce(wide_real, ones) + bce(wide_fake, zeros)),
        (non_saturating_loss(fake), bce(wide_fake, ones)),
        (saturating_loss(fake), -bce(wide_fake, zeros)),
        (hinge_generator_loss(fake), -wide_fake.mean()),
        (hinge_discriminator_loss(real, fake), F.relu(1 - wide_real).mean() + F.relu(1 + wide_fake).mean()),
    ):
        assert_close(got, want)
    leaf = fake.clone().requires_grad_()
    non_saturating_loss(leaf).backward()
    assert leaf.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_r1_of_halves_is_a_sum_in_float32(dtype):
    """A gradient of 3 at each of 2·64·64 numbers: its squares sum to 73,728, more than float16 holds."""
    net = Linear(torch.full((2, 64, 64), 3.0, dtype=dtype))
    assert_close(r1_penalty(net, rand(2, 2, 64, 64).to(dtype)).detach(), torch.tensor(9.0 * 2 * 64 * 64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_optimal_discriminator_of_halves_keeps_its_dtype(dtype):
    p, g = torch.tensor([6e4, 1e-3]).to(dtype), torch.tensor([6e4, 1e-3]).to(dtype)  # p + g overflows float16
    assert_close(optimal_discriminator(p, g), torch.full((2,), 0.5, dtype=dtype))


@pytest.mark.parametrize("logit", [-1000.0, -10.0, 0.0, 10.0, 1000.0])
def test_the_saturating_loss_has_no_gradient_where_the_generator_is_worst(logit):
    """d/dl log(1 − σ(l)) = −σ(l) and d/dl −log σ(l) = −σ(−l): at −10, 4.5e-5 against 1 in size."""
    fake = torch.tensor([logit], dtype=torch.float64, requires_grad=True)
    slopes = [torch.autograd.grad(loss(fake), fake)[0] for loss in (saturating_loss, non_saturating_loss)]
    assert_close(slopes, [-fake.detach().sigmoid(), -(-fake.detach()).sigmoid()], rtol=1e-6, atol=1e-8)
    if logit == -10:
        assert_close(torch.cat(slopes).float(), torch.tensor([-4.54e-5, -0.99995]), rtol=1e-3, atol=0)


@settings(max_examples=15, deadline=None)
@given(
    real=st.lists(st.integers(1, 20), min_size=4, max_size=4),
    model=st.lists(st.integers(1, 20), min_size=4, max_size=4),
)
def test_no_discriminator_is_better_than_the_optimal_one(real, model):
    """On four points, seen in proportion: the best D by Newton's method is D*, and its value −log 4 +
    2·JSD.
    """
    counts = [torch.tensor(given_counts) for given_counts in (real, model)]
    p, g = (c.double() / c.sum() for c in counts)
    scores = torch.zeros(4, dtype=torch.float64, requires_grad=True)

    def loss():
        return discriminator_loss(*(scores.repeat_interleave(c) for c in counts))

    best = optimal_discriminator(p, g)
    assert ((best > 0) & (best < 1)).all()
    optimizer = torch.optim.LBFGS(
        [scores], max_iter=200, tolerance_grad=1e-11, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    assert_close(scores.detach().sigmoid(), best, rtol=0, atol=1e-5)
    middle = (p + g) / 2
    jsd = ((p * (p / middle).log()).sum() + (g * (g / middle).log()).sum()) / 2
    assert_close(-loss().detach(), -math.log(4) + 2 * jsd, rtol=0, atol=1e-8)
    value = (p * best.log() + g * (1 - best).log()).sum()
    assert_close(value, -math.log(4) + 2 * jsd, **EXACT)


def test_the_optimal_discriminator_of_equals_is_a_half():
    p = torch.tensor([0.1, 0.9, 3.0])
    assert_close(optimal_discriminator(p, p), torch.full((3,), 0.5))
    assert_close(
        optimal_discriminator(torch.tensor([0.0, 1.0, 3.0]), torch.tensor([1.0, 0.0, 1.0])),
        torch.tensor([0.0, 1.0, 0.75]),
    )


# R1.


class Linear(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        return (x * self.weight).flatten(1).sum(1)


def test_r1_of_a_linear_discriminator_is_the_square_of_its_weights():
    net = Linear(randn(2, 3, 4))
    penalty = r1_penalty(net, rand(5, 2, 3, 4))
    assert_close(penalty.detach(), net.weight.detach().square().sum(), **EXACT)
    penalty.backward()
    assert_close(net.weight.grad, 2 * net.weight.detach(), **EXACT)


class Quadratic(Linear):
    def forward(self, x):
        return super().forward(x.square())


def test_r1_of_a_quadratic_discriminator_is_the_mean_over_images():
    net, x = Quadratic(randn(2, 3, 4)), rand(5, 2, 3, 4)
    wanted = (2 * x * net.weight.detach()).square().sum() / 5
    assert_close(r1_penalty(net, x).detach(), wanted, **EXACT)


@pytest.mark.parametrize("normalise", [None, "spectral"])
def test_r1_is_the_gradient_at_each_image_and_reaches_the_weights(normalise):
    net, x = fresh(Discriminator, 8, width=3, normalise=normalise).eval(), rand(4, 1, 8, 8)
    if normalise:
        for _ in range(20):
            net.train()(x)
        net.eval()
    total = 0
    for image in x:
        image = image[None].requires_grad_()
        total = total + torch.autograd.grad(net(image)[0], image)[0].square().sum() / 4
    penalty = r1_penalty(net, x.clone())
    assert_close(penalty.detach(), total, **EXACT)
    weights = [p for p in net.parameters() if p.ndim > 1]
    slopes = torch.autograd.grad(penalty, weights)
    along = [randn(*w.shape, seed=seed) for seed, w in enumerate(weights)]
    for slope in slopes:
        assert slope.isfinite().all() and slope.abs().max() > 0
    ends = []
    for step in (1e-6, -1e-6):
        moved = deepcopy(net)
        with torch.no_grad():
            matrices = [p for p in moved.parameters() if p.ndim > 1]
            for weight, direction in zip(matrices, along, strict=True):
                weight.add_(step * direction)
        ends.append(r1_penalty(moved, x).detach())
    slope = sum((s * d).sum() for s, d in zip(slopes, along, strict=True))
    assert_close((ends[0] - ends[1]) / 2e-6, slope, rtol=1e-5, atol=1e-7)


def test_r1_needs_no_gradient_mode_of_its_caller():
    net, x = fresh(Discriminator, 8, width=3), rand(4, 1, 8, 8)
    with torch.no_grad():
        penalty = r1_penalty(net, x)
    assert_close(penalty, r1_penalty(net, x))


def test_r1_of_a_discriminator_that_ignores_its_images_is_0():
    bias = torch.ones(1, requires_grad=True)
    assert r1_penalty(lambda x: bias.expand(len(x)), torch.zeros(2, 3)) == 0


def test_r1_leaves_its_images_alone():
    net, x = fresh(Discriminator, 8, width=3), rand(4, 1, 8, 8)
    z = x.clone().requires_grad_()
    r1_penalty(net, x).backward()
    assert not x.requires_grad and x.grad is None
    r1_penalty(net, 1 * z).backward()
    assert z.grad is None  # no gradient reaches the generator


def test_r1_and_loss_in_one_step_in_training_mode():
    """Spectral norm moves its vectors with each call; three calls before one backward is what a chapter
    does.
    """
    generator, net = Generator(8, latent=3, width=2), Discriminator(8, width=2, normalise="spectral")
    real = rand(4, 1, 8, 8, dtype=torch.float32)
    loss = discriminator_loss(net(real), net(generator(torch.randn(4, 3)).detach())) + 5 * r1_penalty(
        net, real
    )
    loss.backward()
    for name, p in net.named_parameters():
        assert p.grad.isfinite().all() and p.grad.abs().max() > 0, name
    assert all(p.grad is None for p in generator.parameters())


# Learning.


def noise_and_digits(n):
    real = digits("train")[0]
    return (
        real[:n],
        real[n : 2 * n],
        rand(n, 1, 8, 8, dtype=torch.float32),
        rand(n, 1, 8, 8, seed=1, dtype=torch.float32),
    )


@pytest.mark.parametrize("loss", [discriminator_loss, hinge_discriminator_loss])
@pytest.mark.parametrize("normalise", [None, "spectral"])
def test_digits_are_distinguished_from_noise(loss, normalise):
    real, held_real, fake, held_fake = noise_and_digits(64)
    torch.manual_seed(0)
    net = Discriminator(8, width=8, normalise=normalise)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.002, betas=(0.5, 0.999))
    start = loss(net(real), net(fake)).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss(net(real), net(fake)).backward()
        optimizer.step()
    net.eval()
    assert loss(net(real), net(fake)) < 0.3 * start
    assert (net(held_real) > 0).float().mean() > 0.95 and (net(held_fake) < 0).float().mean() > 0.95


@pytest.mark.parametrize("loss", [saturating_loss, non_saturating_loss, hinge_generator_loss])
def test_a_generator_learns_what_the_discriminator_takes_for_real(loss):
    """A fixed D takes bright images for real."""

    def brightness(x):
        return 20 * (x.mean((1, 2, 3)) - 0.5)

    torch.manual_seed(0)
    net, z = Generator(8, latent=8, width=4), torch.randn(32, 8)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02, betas=(0.5, 0.999))
    before = net(z).mean().item()
    for _ in range(40):
        optimizer.zero_grad()
        loss(brightness(net(z))).backward()
        optimizer.step()
    assert net(z).mean() > max(before + 0.2, 0.75)


@pytest.mark.parametrize("generator_loss", [saturating_loss, non_saturating_loss, hinge_generator_loss])
def test_an_alternating_step_changes_the_weights_it_should(generator_loss):
    torch.manual_seed(0)
    real, z = digits("train")[0][:16], torch.randn(16, 8)
    nets = {"G": Generator(8, latent=8, width=4), "D": Discriminator(8, width=4)}
    optimizers = {name: torch.optim.Adam(net.parameters(), lr=0.002) for name, net in nets.items()}

    def changed(step):
        before = deepcopy([list(net.parameters()) for net in nets.values()])
        step()
        return [
            [not p.equal(q) for p, q in zip(old, net.parameters(), strict=True)]
            for old, net in zip(before, nets.values(), strict=True)
        ]

    def d_step():
        fake = nets["G"](z).detach()
        optimizers["D"].zero_grad()
        loss = discriminator_loss(nets["D"](real), nets["D"](fake))
        loss.backward()
        optimizers["D"].step()
        assert discriminator_loss(nets["D"](real), nets["D"](fake)) < loss

    def g_step():
        optimizers["G"].zero_grad()
        loss = generator_loss(nets["D"](nets["G"](z)))
        loss.backward()
        optimizers["G"].step()
        assert generator_loss(nets["D"](nets["G"](z))) < loss

    generator, discriminator = changed(d_step)
    assert not any(generator) and all(discriminator)
    generator, discriminator = changed(g_step)
    assert all(generator) and not any(discriminator)


# Bad input: one error that says what is required and what came.


G, D = Generator(8, latent=3, width=2), Discriminator(8, channels=3, width=2)
Z, X = torch.zeros(2, 3), torch.zeros(2, 3, 8, 8)
SIZES_REFUSED = (3, 4, 5, 6, 7, 9, 11, 15, 18, 22, 30, 36)
GOOD = {
    Generator: {"size": 8, "channels": 1, "latent": 3, "width": 2},
    Discriminator: {"size": 8, "channels": 1, "width": 2, "normalise": None},
    G.forward: {"z": Z},
    D.forward: {"x": X},
    r1_penalty: {"discriminator": D, "real": X},
    discriminator_loss: {"real": Z[0], "fake": Z[0]},
    optimal_discriminator: {"p_data": Z, "p_model": Z},
}
WRONG_IMAGES = [
    (X[:, :1], ValueError, r"x wants the shape \(B, 3, 8, 8\), got \(2, 1, 8, 8\)"),
    (X[..., :7], ValueError, r"x wants the shape \(B, 3, 8, 8\), got \(2, 3, 8, 7\)"),
    (torch.zeros(2, 3, 16, 16), ValueError, r"x wants the shape \(B, 3, 8, 8\), got \(2, 3, 16, 16\)"),
    (X[0], ValueError, r"x wants the shape \(B, 3, 8, 8\), got \(3, 8, 8\)"),
    (X.double(), TypeError, "x wants the kind of the model, torch.float32 on cpu, got torch.float64 on cpu"),
    (
        X.to("meta"),
        TypeError,
        "x wants the kind of the model, torch.float32 on cpu, got torch.float32 on meta",
    ),
    (X + 255, ValueError, "x wants values from -0.01 to 1.01, got from 255 to 255"),
    (X - 1, ValueError, "x wants values from -0.01 to 1.01, got from -1 to -1"),
    (X * math.nan, ValueError, "x wants values from -0.01 to 1.01, got from nan to nan"),
    (X.byte(), TypeError, "x wants a floating dtype, got torch.uint8"),
    (X.numpy(), TypeError, "x wants a torch.Tensor .*, got a NumPy ndarray"),
]
REFUSED = [
    *(
        (kind, {"size": 0}, ValueError, "size wants a whole number from 1")
        for kind in (Generator, Discriminator)
    ),
    *((kind, {"size": 8.0}, TypeError, "size wants a whole number") for kind in (Generator, Discriminator)),
    *(
        (Generator, {"size": n}, ValueError, f"size wants 4, 5, 6 or 7 times .*, got {n}")
        for n in SIZES_REFUSED
    ),
    (Generator, {"latent": 0}, ValueError, "latent wants a whole number from 1 to 4096, got 0"),
    (Generator, {"width": True}, TypeError, "width wants a whole number from 1 to 4096, got True"),
    (Generator, {"channels": "3"}, TypeError, "channels wants a whole number from 1 to 4096, got '3'"),
    (Discriminator, {"channels": -1}, ValueError, "channels wants a whole number from 1 to 4096, got -1"),
    (Discriminator, {"width": None}, TypeError, "width wants a whole number from 1 to 4096, got None"),
    (Discriminator, {"normalise": "batch"}, ValueError, "normalise wants None or 'spectral', got 'batch'"),
    (Discriminator, {"normalise": False}, ValueError, "normalise wants None or 'spectral', got False"),
    (G.forward, {"z": torch.zeros(2, 4)}, ValueError, r"z wants the shape \(B, 3\), got \(2, 4\)"),
    (G.forward, {"z": torch.zeros(3)}, ValueError, r"z wants the shape \(B, 3\), got \(3,\)"),
    (G.forward, {"z": Z[:0]}, ValueError, r"z wants at least one element along B of \(B, 3\), got \(0, 3\)"),
    (G.forward, {"z": Z.double()}, TypeError, "z wants the kind of the model, torch.float32 on cpu"),
    (G.forward, {"z": Z.long()}, TypeError, "z wants a floating dtype, got torch.int64"),
    (G.forward, {"z": Z.numpy()}, TypeError, r"z wants a torch.Tensor \(B, 3\), got a NumPy ndarray"),
    *((D.forward, {"x": x}, error, message) for x, error, message in WRONG_IMAGES),
    *(
        (r1_penalty, {"real": x}, error, f"x {message.split(' ', 1)[1]}")
        for x, error, message in WRONG_IMAGES[:4]
    ),
    (r1_penalty, {"real": X.byte()}, TypeError, "real wants a floating dtype, got torch.uint8"),
    (r1_penalty, {"discriminator": 3}, TypeError, "discriminator wants a function of images, got 3"),
    (
        r1_penalty,
        {"discriminator": Discriminator},
        TypeError,
        "a function of images, got the class Discriminator",
    ),
    (
        r1_penalty,
        {"discriminator": lambda x: x},
        ValueError,
        r"result wants the shape \(2,\), got \(2, 3, 8, 8\)",
    ),
    (r1_penalty, {"discriminator": lambda x: x.detach()[:, 0, 0, 0]}, ValueError, "a result with a gradient"),
    (discriminator_loss, {"real": Z[0, :0]}, ValueError, "real wants at least one element along B"),
    (discriminator_loss, {"real": Z[:, :1]}, ValueError, r"real wants the shape \(B,\), got \(2, 1\)"),
    (discriminator_loss, {"real": Z.long()}, TypeError, "real wants a floating dtype, got torch.int64"),
    (discriminator_loss, {"fake": None}, TypeError, "fake wants a torch.Tensor .*, got None"),
    (
        optimal_discriminator,
        {"p_data": Z - 1},
        ValueError,
        "p_data wants values of at least 0, got from -1 to -1",
    ),
    (optimal_discriminator, {"p_model": Z[0]}, ValueError, r"the shape of p_data, \(2, 3\), got \(3,\)"),
]


@pytest.mark.parametrize(("function", "wrong", "error", "message"), REFUSED)
def test_bad_input_is_refused(function, wrong, error, message):
    with pytest.raises(error, match=message) as refusal:
        function(**GOOD[function] | wrong)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("function", GOOD)
def test_the_good_input_of_that_table_is_taken(function):
    function(**GOOD[function])


def test_images_may_leave_the_range_by_what_resizing_leaves():
    assert D(X - 1e-3).shape == D(X + 1 + 1e-3).shape == (2,)


@pytest.mark.parametrize(
    "kind, given_x", [(Generator, torch.zeros(2, 3)), (Discriminator, torch.zeros(2, 1, 8, 8))]
)
def test_autocast_makes_the_dtype_fit(kind, given_x):
    net = Generator(8, width=2, latent=3) if kind is Generator else Discriminator(8, width=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(given_x.bfloat16()).dtype == torch.bfloat16
    with pytest.raises(TypeError, match=r"torch\.float32 on cpu, got torch\.bfloat16 on cpu"):
        net(given_x.bfloat16())
