"""The VAE against a composition of PyTorch's functions, its bounds against an integral; then what any right
one has.
"""

import math
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F
from torch.testing import assert_close

from tests.support.no_float64 import RefuseFloat64
from vlmbook.data import digits
from vlmbook.pixel_models import to_levels
from vlmbook.vae import (
    VAE,
    elbo,
    elbo_loss,
    kl_to_standard_normal,
    log_likelihood,
    log_likelihood_of_pixels,
    log_normal,
    mean_image,
    reparameterise,
    sample_image,
)

EXACT = {"rtol": 1e-10, "atol": 1e-10}


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def pixels(*shape, levels, seed=0, dtype=torch.float64):
    whole = torch.randint(levels, shape, generator=torch.Generator().manual_seed(seed))
    return whole.to(dtype) / (levels - 1)


def fresh(size, *, seed=0, dtype=torch.float64, **options):
    """A VAE in which no signal dies, so that z depends on the image and the image on z."""
    torch.manual_seed(seed)
    model = VAE(size, **options)
    for layer in (module for module in model.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return model.to(dtype)


def values_and_gradients(run, leaves):
    """-> the outputs, and the gradients of their weighted sum."""
    outputs = run()
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    total = sum((y * torch.linspace(1, 2, y.numel(), dtype=y.dtype).view(y.shape)).sum() for y in outputs)
    return [*outputs, *torch.autograd.grad(total, leaves)]


# Oracle: the same layers by hand, with the same weights.


def encoded(weights, x):
    x = F.relu(
        F.conv2d(2 * x - 1, weights["encoder.0.weight"], weights["encoder.0.bias"], stride=2, padding=1)
    )
    x = F.relu(F.conv2d(x, weights["encoder.2.weight"], weights["encoder.2.bias"], stride=2, padding=1))
    found = x.flatten(1) @ weights["encoder.5.weight"].T + weights["encoder.5.bias"]
    half = found.shape[1] // 2
    return found[:, :half], found[:, half:]


def decoded(weights, z, size, levels):
    grid = [-(-n // 4) for n in size]
    x = F.relu(z @ weights["decoder.0.weight"].T + weights["decoder.0.bias"]).view(len(z), -1, *grid)
    for layer in (3, 5):
        x = F.relu(
            F.conv_transpose2d(
                x, weights[f"decoder.{layer}.weight"], weights[f"decoder.{layer}.bias"], stride=2, padding=1
            )
        )
    x = F.conv2d(x, weights["decoder.7.weight"], weights["decoder.7.bias"], padding=1)
    channels = [
        x[:, c * levels : (c + 1) * levels, : size[0], : size[1]] for c in range(x.shape[1] // levels)
    ]
    return torch.stack(channels, dim=2)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    batch=st.integers(1, 3),
    channels=st.integers(1, 3),
    levels=st.integers(2, 5),
    latent=st.integers(1, 3),
    width=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_equals_its_composition_in_values_and_gradients(size, batch, channels, levels, latent, width, seed):
    model = fresh(size, seed=seed, channels=channels, levels=levels, latent=latent, width=width)
    x = pixels(batch, channels, *size, levels=levels, seed=seed).requires_grad_()
    weights = dict(model.named_parameters())

    def composed():
        torch.manual_seed(seed)
        mu, logvar = encoded(weights, x)
        z = mu + logvar.div(2).exp() * torch.randn(mu.shape, dtype=mu.dtype)
        return decoded(weights, z, size, levels), mu, logvar

    def mine():
        torch.manual_seed(seed)
        return model(x)

    leaves = [x, *model.parameters()]
    found = values_and_gradients(mine, leaves)
    assert found[0].shape == (batch, levels, channels, *size)
    assert found[1].shape == found[2].shape == (batch, latent)
    assert_close(found, values_and_gradients(composed, leaves), **EXACT)


def test_encoder_and_decoder_are_plain_sequentials():
    model = VAE((9, 6), channels=3, levels=4, latent=5, width=7)
    encoder = nn.Sequential(
        nn.Conv2d(3, 7, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(7, 14, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(14 * 3 * 2, 10),
    )
    decoder = nn.Sequential(
        nn.Linear(5, 14 * 3 * 2),
        nn.ReLU(),
        nn.Unflatten(1, (14, 3, 2)),
        nn.ConvTranspose2d(14, 7, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(7, 7, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(7, 12, 3, 1, 1),
    )
    encoder.load_state_dict(model.encoder.state_dict())
    decoder.load_state_dict(model.decoder.state_dict())
    x, z = pixels(2, 3, 9, 6, levels=4, dtype=torch.float32), randn(2, 5, dtype=torch.float32)
    assert_close(torch.cat(model.encode(x), dim=1), encoder(2 * x - 1))
    assert_close(model.decode(z), decoder(z)[:, :, :9, :6].view(2, 3, 4, 9, 6).transpose(1, 2))


@pytest.mark.parametrize("size", [8, 28, (28, 20), 5, 1, (1, 7)])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_and_number_of_parameters(size, channels):
    levels, latent, width = 3, 6, 4
    height, wide = size if isinstance(size, tuple) else (size, size)
    model = VAE(size, channels=channels, levels=levels, latent=latent, width=width)
    x = pixels(2, channels, height, wide, levels=levels, dtype=torch.float32)
    assert model.encoder(x).shape == (2, 2 * latent)
    assert [y.shape for y in model(x)] == [(2, levels, channels, height, wide), (2, latent), (2, latent)]
    inner = 2 * width * math.ceil(height / 4) * math.ceil(wide / 4)
    wanted = [
        9 * channels * width + width,
        18 * width**2 + 2 * width,
        (inner + 1) * 2 * latent,
        (latent + 1) * inner,
        32 * width**2 + width,
        16 * width**2 + width,
        (9 * width + 1) * channels * levels,
    ]
    assert sum(p.numel() for p in model.parameters()) == sum(wanted)


def test_layers_before_a_relu_start_as_he_has_it():
    torch.manual_seed(0)
    model = VAE(8, levels=17, latent=64, width=32)
    for i, part in enumerate((*model.encoder, *model.decoder)):
        if hasattr(part, "weight"):
            followed = isinstance([*model.encoder, *model.decoder, None][i + 1], nn.ReLU)
            fan_in = part.weight[0].numel()
            wanted = (2 if followed else 1 / 3) / fan_in  # PyTorch's own start has a sixth of that
            assert abs(part.weight.var() / wanted - 1) < 0.2, part


def test_options_left_out():
    model = VAE(8)
    same = VAE((8, 8), channels=1, levels=2, latent=16, width=32)
    assert repr(model) == repr(same)
    assert (model.latent, model.levels, model.channels) == (16, 2, 1)


def test_sizes_by_numpy_are_sizes():
    model = VAE(np.int64(8), levels=np.int64(5), latent=np.int64(3), width=np.int64(2), channels=np.int64(1))
    assert model(pixels(2, 1, 8, 8, levels=5, dtype=torch.float32))[0].shape == (2, 5, 1, 8, 8)
    assert VAE([np.int64(5), 7]).size == (5, 7)
    x = pixels(2, 1, 8, 8, levels=5, dtype=torch.float32)
    assert log_likelihood(model, x, np.int64(2)).shape == (2,)


def test_an_empty_batch_gives_an_empty_batch():
    model, x = fresh(8, levels=3), torch.zeros(0, 1, 8, 8, dtype=torch.float64)
    assert model(x)[0].shape == (0, 3, 1, 8, 8) and to_levels(x, 3).shape == x.shape
    assert log_likelihood(model, x, 2).shape == sample_image(model.decode(randn(0, 16))).shape[:1] == (0,)


# KL and densities.


latents = {
    "batch": st.integers(1, 4),
    "latent": st.integers(1, 5),
    "seed": st.integers(0, 2**31),
    "scale": st.sampled_from([0.01, 1.0, 3.0]),
}


@settings(max_examples=40, deadline=None)
@given(**latents)
def test_kl_and_density_are_those_of_distributions(batch, latent, seed, scale):
    mu, logvar, z = (scale * randn(batch, latent, seed=seed + i).requires_grad_() for i in range(3))
    q = Normal(mu, (logvar / 2).exp())
    pairs = [
        (lambda: kl_to_standard_normal(mu, logvar), lambda: kl_divergence(q, Normal(0.0, 1.0)).sum(1)),
        (lambda: log_normal(z, mu, logvar), lambda: Normal(mu, (logvar / 2).exp()).log_prob(z).sum(1)),
    ]
    for mine, theirs in pairs:
        leaves = [mu, logvar, z] if mine is pairs[1][0] else [mu, logvar]
        assert mine().shape == (batch,)
        assert_close(*(values_and_gradients(way, leaves) for way in (mine, theirs)), **EXACT)


def test_density_of_a_very_narrow_normal_is_finite_at_its_mean():
    z, logvar = torch.ones(1, 2), torch.full((1, 2), -120.0)
    assert_close(log_normal(z, z, logvar), torch.tensor([120 - math.log(2 * math.pi)]))


def test_density_takes_further_axes():
    z, mu, logvar = randn(4, 3, 5), randn(4, 3, 5, seed=1), randn(4, 3, 5, seed=2)
    assert_close(log_normal(z, mu, logvar), Normal(mu, (logvar / 2).exp()).log_prob(z).sum(-1), **EXACT)


def test_kl_is_the_mean_of_its_log_ratio():
    mu, logvar = randn(1, 3), randn(1, 3, seed=1)
    z = mu + (logvar / 2).exp() * randn(200_000, 3, seed=2)
    zero = torch.zeros_like(z)
    ratio = log_normal(z, mu.expand_as(z), logvar.expand_as(z)) - log_normal(z, zero, zero)
    assert abs(ratio.mean() - kl_to_standard_normal(mu, logvar)) < 5 * ratio.std() / len(z) ** 0.5 < 0.05


@settings(max_examples=30, deadline=None)
@given(**latents)
def test_kl_is_zero_at_the_prior_only(batch, latent, seed, scale):
    zero = torch.zeros(batch, latent, dtype=torch.float64)
    assert kl_to_standard_normal(zero, zero).equal(zero[:, 0])
    away = scale * randn(batch, latent, seed=seed)
    assert (kl_to_standard_normal(away, zero) > 0).all() and (kl_to_standard_normal(zero, away) > 0).all()


# The reparameterised draw.


def test_draws_have_mean_and_variance():
    mu, logvar = randn(1, 3).expand(200_000, 3), randn(1, 3, seed=1).expand(200_000, 3)
    torch.manual_seed(0)
    noise = (reparameterise(mu, logvar) - mu) / (logvar / 2).exp()
    assert_close(noise.mean(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=0.015)
    assert_close(noise.T.cov(), torch.eye(3, dtype=torch.float64), rtol=0, atol=0.02)


def test_a_draw_has_the_analytic_gradients():
    mu, logvar = randn(4, 3).requires_grad_(), randn(4, 3, seed=1).requires_grad_()
    z = reparameterise(mu, logvar)
    weights = randn(4, 3, seed=2)
    found = torch.autograd.grad((weights * z).sum(), [mu, logvar])
    assert_close(found, (weights, weights * (z - mu).detach() / 2), **EXACT)


def test_reparameterised_and_score_function_gradients_agree_in_expectation():
    """f(z) = (z − 1)², of which E f = (mu − 1)² + σ² is differentiated by hand; the first varies less."""
    n, mu, logvar = (
        400_000,
        torch.tensor([0.5], dtype=torch.float64),
        torch.tensor([-0.4], dtype=torch.float64),
    )
    exact = torch.stack([2 * (mu - 1), logvar.exp()], dim=1).expand(n, 2)
    each = [mu.repeat(n, 1).requires_grad_(), logvar.repeat(n, 1).requires_grad_()]
    torch.manual_seed(0)
    z = reparameterise(*each)
    paths = torch.cat(torch.autograd.grad((z - 1).square().sum(), each, retain_graph=True), dim=1)
    z = z.detach()
    scores = torch.autograd.grad(((z - 1).square()[:, 0] * log_normal(z, *each)).sum(), each)
    scores = torch.cat(scores, dim=1)
    for found in (paths, scores):
        assert ((found - exact).mean(0).abs() < 5 * found.std(0) / n**0.5).all()
    assert (paths.std(0) < scores.std(0)).all() and scores.std(0).max() / n**0.5 < 0.01


def test_forward_is_random_and_decode_is_not():
    model, x = fresh(8, levels=3), pixels(2, 1, 8, 8, levels=3)
    z = randn(2, 16)
    assert model.decode(z).equal(model.decode(z))
    assert not model(x)[0].equal(model(x)[0]) and model(x)[1].equal(model(x)[1])
    assert not model.eval()(x)[0].equal(model(x)[0])


def test_nothing_seeds_the_global_generator():
    model, x = fresh(5, levels=3, latent=2), pixels(2, 1, 5, 5, levels=3)
    torch.manual_seed(123)
    draws = [
        torch.cat(
            [
                f().flatten()
                for f in (
                    lambda: model(x)[0],
                    lambda: elbo(model, x)[0],
                    lambda: elbo_loss(model, x),
                    lambda: log_likelihood(model, x, 2),
                    lambda: sample_image(randn(1, 3, 1, 9, 9)),
                )
            ]
        )
        for _ in range(2)
    ]
    assert torch.initial_seed() == 123 and not draws[0].equal(draws[1])
    before = torch.get_rng_state()
    mu, logvar = model.encode(x)
    kl_to_standard_normal(mu, logvar)
    mean_image(model.decode(mu))
    assert torch.get_rng_state().equal(before)


# Pixels.


pictures = {
    "batch": st.integers(1, 2),
    "levels": st.integers(2, 6),
    "channels": st.integers(1, 3),
    "size": st.tuples(st.integers(1, 4), st.integers(1, 4)),
    "seed": st.integers(0, 2**31),
}


def log_likelihood_of_pixels_loops(logits, x):
    levels, rows = logits.shape[1], []
    for b in range(len(x)):
        total = 0
        for c, i, j in product(*map(range, x.shape[1:])):
            logit = logits[b, :, c, i, j]
            total = total + logit[round(x[b, c, i, j].item() * (levels - 1))] - logit.exp().sum().log()
        rows.append(total)
    return torch.stack(rows)


def mean_image_loops(logits):
    batch, levels, *rest = logits.shape
    y = logits.new_zeros(batch, *rest)
    for b, c, i, j in product(*map(range, y.shape)):
        p = logits[b, :, c, i, j].exp()
        y[b, c, i, j] = sum(p[level] / p.sum() * level / (levels - 1) for level in range(levels))
    return y


@settings(max_examples=40, deadline=None)
@given(**pictures)
def test_pixels_equal_their_loops_in_values_and_gradients(batch, levels, channels, size, seed):
    logits = randn(batch, levels, channels, *size, seed=seed).requires_grad_()
    x = pixels(batch, channels, *size, levels=levels, seed=seed)
    for mine, theirs in [
        (lambda: log_likelihood_of_pixels(logits, x), lambda: log_likelihood_of_pixels_loops(logits, x)),
        (lambda: mean_image(logits), lambda: mean_image_loops(logits)),
    ]:
        assert_close(*(values_and_gradients(way, [logits]) for way in (mine, theirs)), **EXACT)
    confident = 1e4 * F.one_hot(to_levels(x, levels), levels).movedim(-1, 1).double()
    assert_close([mean_image(confident), sample_image(confident)], [x, x], **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_of_pixels_are_drawn_from_their_logits(dtype):
    logits = 2 * randn(1, 4, 2, 3, 2, dtype=dtype)
    torch.manual_seed(0)
    drawn = sample_image(logits.expand(20_000, *logits.shape[1:]))
    assert drawn.dtype == dtype and drawn.shape == (20_000, 2, 3, 2)
    shares = F.one_hot(to_levels(drawn, 4), 4).to(dtype).mean(0)
    assert_close(shares, logits.softmax(1)[0].movedim(0, -1), rtol=0, atol=0.02)
    assert_close(drawn.mean(0), mean_image(logits)[0], rtol=0, atol=0.02)
    noise = drawn.flatten(1) - drawn.flatten(1).mean(0)
    assert (noise.T @ noise / len(noise)).fill_diagonal_(0).abs().max() < 0.01  # pixels are independent


# Two levels: a Bernoulli decoder, for pixels between the levels too.


def test_two_levels_are_binary_cross_entropy():
    logits, x = randn(3, 2, 2, 4, 5).requires_grad_(), randn(3, 2, 4, 5, seed=1).sigmoid()

    def theirs():
        of_one = logits[:, 1] - logits[:, 0]
        return -F.binary_cross_entropy_with_logits(of_one, x, reduction="none").sum((1, 2, 3))

    mine = values_and_gradients(lambda: log_likelihood_of_pixels(logits, x), [logits])
    assert_close(mine, values_and_gradients(theirs, [logits]), **EXACT)


def test_a_pixel_between_two_levels_is_the_mean_over_binary_images():
    logits, x = randn(1, 2, 1, 1, 3), torch.tensor([[[[0.2, 0.7, 1.0]]]], dtype=torch.float64)
    images = torch.tensor(list(product([0.0, 1.0], repeat=3)), dtype=torch.float64).view(8, 1, 1, 3)
    p = (x * images + (1 - x) * (1 - images)).prod(-1).flatten()
    each = log_likelihood_of_pixels(logits.expand(8, -1, -1, -1, -1), images)
    assert_close(log_likelihood_of_pixels(logits, x), (p * each).sum()[None], **EXACT)


def test_the_default_takes_images_of_any_grey():
    model = VAE((6, 7), channels=3, width=2)
    x = randn(4, 3, 6, 7).sigmoid().float()
    elbo_loss(model, x).backward()
    assert log_likelihood(model, x, 2).isfinite().all()
    with torch.no_grad():
        sample = sample_image(model.decode(model.encode(x)[0]))
    assert sample.unique().tolist() == [0, 1]


# Half precision, and devices without float64.


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    mu, logvar, z = (randn(3, 2000, seed=seed).to(dtype) for seed in range(3))
    logits, x = randn(2, 3, 3, 40, 50).to(dtype), pixels(2, 3, 40, 50, levels=3).to(dtype)
    for function, tensors in [
        (kl_to_standard_normal, (mu, logvar)),
        (log_normal, (z, mu, logvar)),
        (log_likelihood_of_pixels, (logits, x)),
        (mean_image, (logits,)),
    ]:
        found = function(*tensors)
        assert found.dtype == torch.float32, function
        assert_close(found.double(), function(*(each.double() for each in tensors)), rtol=1e-4, atol=1e-5)
    assert sample_image(logits).dtype == torch.float32
    assert to_levels(sample_image(randn(1, 256, 1, 9, 9).to(dtype)), 256).max() < 256


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_means_in_half_precision_do_not_overflow(dtype):
    mu = torch.full((1, 4), 300.0, dtype=dtype)
    assert_close(kl_to_standard_normal(mu, torch.zeros_like(mu)), torch.tensor([2 * 300.0**2]))
    assert log_normal(mu, -mu, torch.zeros_like(mu)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_learns_and_draws(dtype):
    model, x = fresh((6, 5), levels=3, latent=2, dtype=dtype), pixels(3, 1, 6, 5, levels=3, dtype=dtype)
    loss = elbo_loss(model, x)
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert log_likelihood(model, x, 2).dtype == torch.float32
    assert sample_image(model.decode(model.encode(x)[0]).detach()).shape == x.shape


def test_no_float64_is_made():
    model, x = VAE((6, 5), levels=3, latent=2, width=2), pixels(2, 1, 6, 5, levels=3, dtype=torch.float32)
    with RefuseFloat64():
        elbo_loss(model, x).backward()
        log_likelihood(model, x, 2)
        logits = model.decode(model.encode(x)[0]).detach()
        mean_image(logits)
        sample_image(logits)


# The bounds, on models whose p(x) = ∫ p(x | z) p(z) dz is a sum over a fine grid.


def integrable(latent, channels=1):
    """-> model, all its images, log p(x | z) and log p(z) dz on the grid of z, and that grid."""
    model = fresh(2, levels=2, latent=latent, width=4, channels=channels, seed=3)
    with torch.no_grad():
        model.encoder[-1].weight.mul_(2)
        model.decoder[-1].weight.mul_(2)
    x = torch.tensor(list(product([0.0, 1.0], repeat=4 * channels)), dtype=torch.float64).view(
        -1, channels, 2, 2
    )
    axis = torch.linspace(-9, 9, 3601 if latent == 1 else 181, dtype=torch.float64)
    z = torch.cartesian_prod(*[axis] * latent).view(-1, latent)
    with torch.no_grad():
        logits = model.decode(z)
    given_z = torch.stack(
        [log_likelihood_of_pixels(logits, image.expand(len(z), *image.shape)) for image in x]
    )
    step = latent * math.log(axis[1] - axis[0])
    return model, x, given_z, Normal(0.0, 1.0).log_prob(z).sum(1) + step, z, step


@pytest.mark.parametrize("latent, channels", [(1, 1), (2, 1), (1, 2)])
def test_probabilities_of_all_images_sum_to_one(latent, channels):
    _, x, given_z, prior, *_ = integrable(latent, channels)
    p = (given_z + prior).logsumexp(1).exp()
    assert_close(p.sum(), torch.ones((), dtype=torch.float64), rtol=0, atol=1e-9)
    assert p.max() / p.min() > 1.5 and len(x) == 2 ** (4 * channels)  # not the uniform distribution


@pytest.mark.parametrize("latent", [1, 2])
def test_elbo_is_log_p_less_the_kl_to_the_posterior(latent):
    model, x, given_z, prior, z, step = integrable(latent)
    log_p = (given_z + prior).logsumexp(1)
    with torch.no_grad():
        mu, logvar = model.encode(x)
        shape = (len(x), *z.shape)
        q = log_normal(z.expand(shape), mu[:, None].expand(shape), logvar[:, None].expand(shape)) + step
        kl = kl_to_standard_normal(mu, logvar)
    posterior = given_z + prior - log_p[:, None]
    bound = (q.exp() * given_z).sum(1) - kl
    gap = (q.exp() * (q - posterior)).sum(1)
    assert_close(bound, log_p - gap, rtol=0, atol=1e-6)
    assert (gap > 0).all() and gap.max() > 0.1
    n = 1500
    torch.manual_seed(0)
    with torch.no_grad():
        draws = torch.sub(*elbo(model, x.repeat(n, 1, 1, 1))).view(n, len(x))
        loss = elbo_loss(model, x.repeat(n, 1, 1, 1))
    assert ((draws.mean(0) - bound).abs() < 5 * draws.std(0) / n**0.5).all() and draws.std(
        0
    ).max() / n**0.5 < 0.05
    assert abs(loss + bound.mean()) < 5 * draws.mean(1).std() / n**0.5


@pytest.mark.parametrize("latent", [1, 2])
def test_the_bound_grows_with_its_draws_towards_log_p(latent):
    model, x, given_z, prior, *_ = integrable(latent)
    log_p, n = (given_z + prior).logsumexp(1), 400
    torch.manual_seed(0)
    many = x.repeat(n, 1, 1, 1)
    bounds = {k: log_likelihood(model, many, k).view(n, len(x)).mean(1) for k in (1, 4, 16)}
    with torch.no_grad():
        once = torch.sub(*elbo(model, many)).view(n, len(x)).mean(1)
    errors = [found.std() / n**0.5 for found in (once, *bounds.values())]
    one, four, sixteen = (found.mean() for found in bounds.values())
    assert abs(once.mean() - one) < 5 * math.hypot(*errors[:2])  # k = 1 is the ELBO
    assert one + 3 * errors[1] < four and four + 3 * errors[2] < sixteen
    assert sixteen < log_p.mean() + 5 * errors[3]
    assert_close(log_likelihood(model, x, 1000), log_p, rtol=0, atol=0.15)


def test_a_posterior_that_is_exact_makes_every_draw_the_bound():
    """A decoder that ignores z, and an encoder that answers with the prior: no draw varies."""
    model, x = fresh(3, levels=3, latent=2), pixels(4, 1, 3, 3, levels=3)
    with torch.no_grad():
        model.encoder[-1].weight.zero_(), model.encoder[-1].bias.zero_(), model.decoder[0].weight.zero_()
    exact = log_likelihood_of_pixels(model.decode(randn(4, 2)), x)
    assert_close([log_likelihood(model, x, k) for k in (1, 7)], [exact, exact], **EXACT)
    reconstruction, kl = elbo(model, x)
    assert_close(reconstruction, exact, **EXACT)
    assert kl.equal(torch.zeros(4, dtype=torch.float64))


def test_log_likelihood_is_the_mean_of_its_weights():
    model, x, k = fresh(5, levels=3, latent=3), pixels(3, 1, 5, 5, levels=3), 6
    torch.manual_seed(0)
    found = log_likelihood(model, x, k)
    torch.manual_seed(0)
    weights = dict(model.named_parameters())
    mu, logvar = encoded(weights, x)
    q, prior, total = Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0), 0
    for _ in range(k):
        z = mu + (logvar / 2).exp() * torch.randn(mu.shape, dtype=mu.dtype)
        given_z = log_likelihood_of_pixels_loops(decoded(weights, z, (5, 5), 3), x)
        total = total + (given_z + prior.log_prob(z).sum(1) - q.log_prob(z).sum(1)).exp() / k
    assert_close(found, total.log().detach(), **EXACT)
    assert not found.requires_grad and torch.is_grad_enabled()


def test_log_likelihood_of_large_images_is_finite():
    model = fresh(28, dtype=torch.float32, width=2, levels=256)
    x = pixels(2, 1, 28, 28, levels=256, dtype=torch.float32)
    assert log_likelihood(model, x, 3).isfinite().all()  # each weight is exp(−4000): 0 in float32


@pytest.mark.parametrize("beta", [0, 0.5, 1.0, 4, np.float64(2)])
def test_elbo_loss_is_its_formula_in_values_and_gradients(beta):
    model, x = fresh(6, levels=3, latent=2), pixels(3, 1, 6, 6, levels=3)
    weights = dict(model.named_parameters())

    def composed():
        torch.manual_seed(0)
        mu, logvar = encoded(weights, x)
        z = mu + (logvar / 2).exp() * torch.randn(mu.shape, dtype=mu.dtype)
        logits = decoded(weights, z, (6, 6), 3)
        kl = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(1)
        return sum(float(beta) * kl[b] - log_likelihood_of_pixels_loops(logits, x)[b] for b in range(3)) / 3

    def mine():
        torch.manual_seed(0)
        return elbo_loss(model, x, beta=beta)

    def plain():
        torch.manual_seed(0)
        return elbo_loss(model, x)

    leaves = list(model.parameters())
    assert_close(*(values_and_gradients(way, leaves) for way in (mine, composed)), **EXACT)
    if beta == 1:
        assert plain().equal(mine())


# Learning.


@cache
def learned(beta, steps=200):
    """-> model, one batch of real digits, −log p(x | z) and KL before and after training on them."""
    x = digits("train")[0][:32]
    torch.manual_seed(0)
    model = VAE(8, levels=17, latent=8, width=16)
    optimizer, found = torch.optim.Adam(model.parameters(), lr=0.005), []
    for step in range(steps + 1):
        reconstruction, kl = elbo(model, x)
        if step in (0, steps):
            found.append((-reconstruction.mean().item(), kl.mean().item()))
        optimizer.zero_grad()
        elbo_loss(model, x, beta=beta).backward()
        optimizer.step()
    return model, x, *found


def test_one_batch_of_digits_is_learned():
    model, x, (start, _), (end, kl) = learned(1.0)
    assert end < 0.5 * start and 3 < kl < 20, (start, end, kl)
    with torch.no_grad():
        image = mean_image(model.decode(model.encode(x)[0]))
        bound = log_likelihood(model, x, 20).mean()
    assert (image - x).square().mean() < 0.6 * (x.mean(0) - x).square().mean()
    assert bound > -0.5 * start


def test_beta_trades_reconstruction_for_kl():
    (*_, free), (*_, one), (*_, strict) = learned(0.0), learned(1.0), learned(50.0)
    assert free[1] > 2 * one[1] and strict[1] < 0.5, (free, one, strict)
    assert free[0] < one[0] < 0.8 * strict[0], (free, one, strict)


def test_gradients_reach_every_parameter():
    model = fresh((9, 6), channels=3, levels=4, latent=5, width=7)
    elbo_loss(model, pixels(4, 3, 9, 6, levels=4)).backward()
    for name, p in model.named_parameters():
        assert p.grad.isfinite().all() and p.grad.abs().max() > 0, name


# Bad input: one sentence names the argument, what it wants and what it got.


MODEL = VAE((6, 5), channels=3, levels=4, latent=2, width=2)
X, Z = pixels(2, 3, 6, 5, levels=4, dtype=torch.float32), torch.zeros(2, 2)
LOGITS = torch.zeros(2, 4, 3, 6, 5)
GIVEN = {
    VAE: {"size": (6, 5), "channels": 3, "levels": 4, "latent": 2, "width": 2},
    MODEL.forward: {"x": X},
    MODEL.encode: {"x": X},
    MODEL.decode: {"z": Z},
    reparameterise: {"mu": Z, "logvar": Z},
    kl_to_standard_normal: {"mu": Z, "logvar": Z},
    log_normal: {"z": Z, "mu": Z, "logvar": Z},
    log_likelihood_of_pixels: {"logits": LOGITS, "x": X},
    mean_image: {"logits": LOGITS},
    sample_image: {"logits": LOGITS},
    elbo: {"model": MODEL, "x": X},
    elbo_loss: {"model": MODEL, "x": X, "beta": 1.0},
    log_likelihood: {"model": MODEL, "x": X, "k": 2},
}
IMAGES = [
    ({"x": X[0]}, ValueError, r"x wants the shape \(B, 3, 6, 5\), got \(3, 6, 5\)"),
    ({"x": X.numpy()}, TypeError, r"x wants a torch.Tensor \(B, 3, 6, 5\), got a NumPy ndarray"),
    ({"x": X.byte()}, TypeError, "x wants a floating dtype, got torch.uint8"),
    ({"x": X.double()}, TypeError, "x wants the kind of the model, torch.float32 on cpu, got torch.float64"),
    ({"x": X[:, :1]}, ValueError, r"x wants the shape \(B, 3, 6, 5\), got \(2, 1, 6, 5\)"),
    ({"x": X.mT}, ValueError, r"x wants the shape \(B, 3, 6, 5\), got \(2, 3, 5, 6\)"),
    ({"x": 255 * X}, ValueError, "x wants values from 0 to 1, got from 0 to 255"),
    ({"x": X / 0}, ValueError, "x wants values from 0 to 1, got from nan to nan"),
]
LEVELS = [
    ({"x": X * 0.9}, ValueError, r"x wants pixels that are multiples of 1/3 in \[0, 1\], got from 0 to 0.9"),
    ({"x": (X + 0.001).clamp(max=1)}, ValueError, "multiples of 1/3"),
]
SHAPES = [
    ({"logvar": Z[:1]}, ValueError, r"logvar wants the shape of \w+, \(2, 2\), got \(1, 2\)"),
    ({"logvar": Z[:, :1]}, ValueError, r"logvar wants the shape of \w+, \(2, 2\), got \(2, 1\)"),
    (
        {"logvar": Z.double()},
        TypeError,
        r"logvar wants the kind of \w+, torch.float32 on cpu, got torch.float64",
    ),
    ({"mu": Z.long()}, TypeError, "mu wants a floating dtype, got torch.int64"),
]
NO_LOGITS = [
    (
        {"logits": LOGITS[:, 0]},
        ValueError,
        r"logits wants the shape \(B, levels, C, H, W\), got \(2, 3, 6, 5\)",
    ),
    ({"logits": LOGITS.long()}, TypeError, "logits wants a floating dtype, got torch.int64"),
    ({"logits": LOGITS[:, :1]}, ValueError, "logits wants at least 2 levels on axis 1"),
]
REFUSED = {
    VAE: [
        ({"latent": 0}, ValueError, "latent wants a whole number of at least 1, got 0"),
        ({"width": 2.0}, TypeError, "width wants a whole number of at least 1, got 2.0"),
        ({"levels": 1}, ValueError, "levels wants a whole number from 2 to 65536, got 1"),
        ({"size": (6, 0)}, ValueError, "size wants a whole number of at least 1, got 0"),
        ({"size": (6, 5, 4)}, ValueError, r"size wants one whole number or two, .*, got \(6, 5, 4\)"),
    ],
    MODEL.forward: IMAGES,
    MODEL.encode: IMAGES,
    MODEL.decode: [
        ({"z": Z[:, :1]}, ValueError, r"z wants the shape \(B, 2\), got \(2, 1\)"),
        (
            {"z": Z.double()},
            TypeError,
            "z wants the kind of the model, torch.float32 on cpu, got torch.float64",
        ),
        ({"z": Z.to("meta")}, TypeError, "z wants the kind of the model, .* got torch.float32 on meta"),
    ],
    reparameterise: SHAPES,
    kl_to_standard_normal: SHAPES,
    log_normal: [*SHAPES, ({"mu": Z[0]}, ValueError, r"mu wants the shape of z, \(2, 2\), got \(2,\)")],
    log_likelihood_of_pixels: [*LEVELS, *NO_LOGITS],
    mean_image: NO_LOGITS,
    sample_image: [*NO_LOGITS, ({"logits": LOGITS / 0}, ValueError, "logits wants finite values, got NaN")],
    elbo: [*IMAGES, *LEVELS],
    elbo_loss: [
        *IMAGES,
        *LEVELS,
        ({"beta": -0.1}, ValueError, "beta wants a finite number of at least 0, got -0.1"),
        ({"beta": math.nan}, ValueError, "beta wants a finite number of at least 0, got nan"),
    ],
    log_likelihood: [*IMAGES, *LEVELS, ({"k": 0}, ValueError, "k wants a whole number of at least 1, got 0")],
}


@pytest.mark.parametrize(
    "function, wrong, error, message",
    [
        pytest.param(function, *row, id=f"{function.__name__}-{'-'.join(row[0])}-{number}")
        for function, rows in REFUSED.items()
        for number, row in enumerate(rows)
    ],
)
def test_bad_input_is_refused(function, wrong, error, message):
    with pytest.raises(error, match=message) as refusal:
        function(**GIVEN[function] | wrong)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("function", GIVEN, ids=lambda f: f.__name__)
def test_the_good_input_of_that_table_is_taken(function):
    function(**GIVEN[function])


def test_the_kl_near_zero_is_not_negative():
    logvar = torch.linspace(-2e-3, 2e-3, 4001)[:, None]
    kl = kl_to_standard_normal(torch.zeros_like(logvar), logvar)
    assert (kl >= 0).all()
    assert_close(kl, logvar[:, 0].square() / 4, rtol=0, atol=2e-9)
