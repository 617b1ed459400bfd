"""vlmbook.pixel_models: baselines whose probabilities of whole levels are counted out."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from torch.testing import assert_close

from tests.support.no_float64 import WithoutFloat64
from vlmbook import data
from vlmbook.metrics import bits_per_dimension
from vlmbook.pixel_models import PixelGaussian, PixelHistogram, to_levels

BASELINES = [PixelHistogram, PixelGaussian]


def drawn(n=40, levels=3, size=(1, 1, 3), seed=0):
    """Images of few pixels that hang together: each is the one before it, moved by at most one level."""
    g = torch.Generator().manual_seed(seed)
    steps = torch.randint(-1, 2, (n, math.prod(size)), generator=g)
    steps[:, 0] = torch.randint(levels, (n,), generator=g)
    return steps.cumsum(1).clamp(0, levels - 1).view(n, *size) / (levels - 1)


def all_images(levels, size):
    return torch.tensor(list(itertools.product(range(levels), repeat=math.prod(size)))).view(-1, *size) / (
        levels - 1
    )


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("levels, size", [(2, (1, 1, 1)), (3, (1, 1, 3)), (4, (2, 1, 2))])
def test_the_probabilities_of_all_images_sum_to_1(baseline, levels, size):
    model = baseline(drawn(levels=levels, size=size), levels)
    assert_close(model.log_likelihood(all_images(levels, size)).exp().sum().item(), 1.0)


@pytest.mark.parametrize("baseline", BASELINES)
def test_samples_come_as_often_as_the_likelihood_says(baseline):
    model, every = baseline(drawn(), 3), all_images(3, (1, 1, 3))
    samples = model.sample(20_000, torch.Generator().manual_seed(1))
    assert samples.shape == (20_000, 1, 1, 3) and samples.dtype == torch.float32
    code = (samples.flatten(1) * 2).round().long() @ torch.tensor([9, 3, 1])
    seen, want = code.bincount(minlength=27) / 20_000, model.log_likelihood(every).exp()
    assert ((seen - want).abs() < 5 * (want * (1 - want) / 20_000).sqrt() + 1e-4).all()


def test_the_histogram_is_counted():
    images = torch.tensor([0, 0, 0, 1.0]).view(4, 1, 1, 1)
    model = PixelHistogram(images, 2, smoothing=0.5)
    assert_close(
        model.log_likelihood(images), torch.tensor([3.5 / 5] * 3 + [1.5 / 5], dtype=torch.float64).log()
    )


@pytest.mark.parametrize("levels", [3, 17])
def test_the_gaussian_is_the_chain_of_conditional_normals(levels):
    """From the inverse of blocks of the covariance, pixel by pixel, with SciPy's distribution function."""
    images = drawn(n=60, levels=levels, size=(1, 2, 2))
    x = (images.flatten(1) * (levels - 1)).numpy().astype(float)
    mean, covariance = x.mean(0), np.cov(x.T) + 0.3**2 * np.eye(4)
    want = np.zeros(len(x))
    for i in range(4):
        weights = covariance[i, :i] @ np.linalg.inv(covariance[:i, :i])
        middle = mean[i] + (x[:, :i] - mean[:i]) @ weights
        spread = np.sqrt(covariance[i, i] - weights @ covariance[:i, i])
        low = np.where(x[:, i] == 0, -np.inf, x[:, i] - 0.5)
        high = np.where(x[:, i] == levels - 1, np.inf, x[:, i] + 0.5)
        want += np.log(norm.cdf(high, middle, spread) - norm.cdf(low, middle, spread))
    assert_close(
        PixelGaussian(images, levels).log_likelihood(images), torch.from_numpy(want), rtol=1e-8, atol=1e-8
    )


def test_with_fine_levels_the_gaussian_is_scipys_density():
    g = torch.Generator().manual_seed(0)
    levels, root = 2001, torch.tensor([[60.0, 0, 0], [40, 50, 0], [-30, 20, 70]])
    x = (1000 + torch.randn(500, 3, generator=g) @ root.T).round()
    images = (x / (levels - 1)).view(-1, 1, 1, 3)
    density = multivariate_normal(x.mean(0).numpy(), torch.cov(x.T.double()).numpy() + 0.09 * np.eye(3))
    assert_close(
        PixelGaussian(images, levels).log_likelihood(images),
        torch.from_numpy(density.logpdf(x.numpy())),
        rtol=1e-4,
        atol=1e-3,
    )


def test_far_from_all_it_saw_the_gaussian_stays_finite():
    images = torch.full((10, 1, 2, 2), 8 / 255)
    foreign = torch.tensor([0, 200, 100, 255.0]).view(1, 1, 2, 2) / 255
    got = PixelGaussian(images, 256).log_likelihood(foreign)
    assert got.isfinite().all() and got < -10_000


@pytest.mark.parametrize("baseline", BASELINES)
def test_a_baseline_has_bits_of_real_digits_below_those_of_equal_levels(baseline):
    (images, _), (held_back, _) = data.hold_out(*data.digits("train"), share=1 / 6)
    turned = images.flatten(1)[:, torch.randperm(64, generator=torch.Generator().manual_seed(0))].view_as(
        images
    )
    bits = {
        name: bits_per_dimension(baseline(some, 17).log_likelihood(held_back), 64).mean().item()
        for name, some in {"digits": images, "turned": turned}.items()
    }
    assert 2.2 < bits["digits"] < 2.5 < bits["turned"]


def test_the_gaussian_knows_which_pixels_hang_together():
    images, _ = data.digits("train")
    lively = images.flatten(1).std(0) > 0.2

    def correlations(x):
        return torch.corrcoef(x.flatten(1)[:, lively].T)

    g, real = torch.Generator().manual_seed(0), correlations(images)
    off = {
        baseline: (correlations(baseline(images, 17).sample(2_000, g)) - real).square().mean().sqrt().item()
        for baseline in BASELINES
    }
    assert off[PixelGaussian] < 0.08 < 0.2 < off[PixelHistogram]


# Levels.


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_level_is_found_again(levels, dtype):
    whole = torch.arange(levels)[None, None, None]
    for x in (whole.to(dtype) / (levels - 1), torch.linspace(0, 1, levels, dtype=dtype).view(whole.shape)):
        assert to_levels(x, levels).equal(whole)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float16, 256), (torch.bfloat16, 128)])
def test_halves_keep_as_many_levels_as_they_can(dtype, most):
    for levels in (2, 17, most):
        whole = torch.arange(levels).view(1, 1, 1, levels)
        assert to_levels((whole / (levels - 1)).to(dtype), levels).equal(whole)
    too_many = 2 * most if dtype == torch.bfloat16 else 1100
    with pytest.raises(ValueError, match=f"x wants a dtype that holds {too_many} levels apart"):
        to_levels(torch.zeros(1, 1, 2, 2, dtype=dtype), too_many)


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_baseline_is_the_same_for_images_of_every_floating_dtype(baseline, dtype):
    images = drawn(levels=17, size=(1, 2, 3))
    want = baseline(images, 17).log_likelihood(images)
    assert want.dtype == torch.float64
    assert_close(baseline(images.to(dtype), 17).log_likelihood(images.to(dtype)), want, rtol=0, atol=0)


@pytest.mark.parametrize("baseline", BASELINES)
def test_images_may_be_where_there_is_no_float64(baseline):
    images = drawn(levels=17, size=(1, 2, 3))
    want = baseline(images, 17)
    got = baseline(WithoutFloat64(images), 17)
    assert got.log_likelihood(WithoutFloat64(images)).equal(want.log_likelihood(images))
    draws = [model.sample(5, torch.Generator().manual_seed(0)) for model in (got, want)]
    assert draws[0].equal(draws[1])


X = torch.tensor([0, 1, 2, 3.0]).view(1, 1, 2, 2) / 3


@pytest.mark.parametrize(
    ("x", "levels", "error", "message"),
    [
        (X * 0.9, 4, ValueError, r"x wants pixels that are multiples of 1/3 in \[0, 1\], got from 0 to 0.9"),
        (X + 1 / 3, 4, ValueError, r"multiples of 1/3 in \[0, 1\], got from 0.3333 to 1.333"),
        (X - 1 / 3, 4, ValueError, r"multiples of 1/3 in \[0, 1\], got from -0.3333 to 0.6667"),
        (X * 3, 4, ValueError, r"got from 0 to 3; \(x \* 3\).round\(\) / 3 makes them"),
        (X + 0.001, 4, ValueError, "multiples of 1/3"),
        (X.where(X > 0, torch.nan), 4, ValueError, "multiples of 1/3"),
        (X.where(X > 0, -torch.inf), 4, ValueError, "multiples of 1/3"),
        (X[0], 4, ValueError, r"x wants the shape \(B, C, H, W\), got \(1, 2, 2\)"),
        (torch.full((1, 1, 2, 2), 64, dtype=torch.uint8), 5, TypeError, "floating dtype, got torch.uint8"),
        (X, 1, ValueError, "levels wants a whole number from 2 to 65536, got 1"),
        (X, 5.0, TypeError, "levels wants a whole number from 2 to 65536, got 5.0"),
        (X.to("meta"), 4, ValueError, "x wants pixels with values"),
        (X, True, TypeError, "levels wants a whole number from 2 to 65536, got True"),
    ],
)
def test_what_is_no_level_is_refused(x, levels, error, message):
    with pytest.raises(error, match=message):
        to_levels(x, levels)


# Bad input.


@pytest.mark.parametrize("baseline", BASELINES)
def test_what_a_baseline_cannot_use_is_refused(baseline):
    option = {PixelHistogram: "smoothing", PixelGaussian: "noise"}[baseline]
    with pytest.raises(ValueError, match="multiples of 1/2"):
        baseline(torch.rand(5, 1, 2, 2), 3)
    with pytest.raises(TypeError, match=r"images wants a floating dtype, got torch\.uint8"):
        baseline(torch.full((3, 1, 2, 2), 64, dtype=torch.uint8), 5)
    for bad in (0, -1, math.nan, math.inf, "1", True):
        with pytest.raises((TypeError, ValueError), match=f"{option} wants a finite number"):
            baseline(drawn(), 3, **{option: bad})
    model = baseline(drawn(), 3)
    with pytest.raises(ValueError, match=r"x wants the shape \(B, 1, 1, 3\), got \(4, 1, 3, 1\)"):
        model.log_likelihood(torch.zeros(4, 1, 3, 1))
    assert model.log_likelihood(torch.zeros(0, 1, 1, 3)).shape == (0,)
    for n in (0, -1, 2.0):
        with pytest.raises((TypeError, ValueError), match="n wants a whole number of at least 1"):
            model.sample(n)
    with pytest.raises(TypeError, match=r"generator wants a torch\.Generator or None, got 0"):
        model.sample(1, 0)


def test_a_covariance_needs_full_rank():
    constant = torch.zeros(5, 1, 2, 3)
    assert PixelGaussian(constant, 3, noise=1e-6).log_likelihood(constant).isfinite().all()
    with pytest.raises(
        ValueError, match="noise wants a number that gives the covariance full rank, got 1e-200"
    ):
        PixelGaussian(constant, 3, noise=1e-200)


def test_a_covariance_needs_two_images():
    with pytest.raises(ValueError, match="at least two images for a covariance, got 1"):
        PixelGaussian(drawn(1), 3)
