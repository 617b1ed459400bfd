"""Computations of chapter 4b."""

import math

import pytest
import torch
from torch.distributions import Normal
from torch.testing import assert_close

from vlmbook.chapters.ch04b.experiments import (
    GRID,
    STEP,
    decode_grid,
    decode_means,
    decode_spreads,
    draw_clothes,
    log_normal_on_grid,
    make_foreign,
    toy_bound,
    toy_log_likelihood,
    toy_posterior,
)
from vlmbook.vae import VAE, sample_image


@pytest.mark.parametrize("mu", [-2.0, 0.0, 1.3, 2.0])
@pytest.mark.parametrize("sigma", [0.2, 0.6, 2.0])
def test_elbo_and_gap_make_log_p(mu, sigma):
    log_p, elbo, gap = toy_bound(mu, sigma)
    assert elbo + gap == pytest.approx(log_p, abs=1e-4)
    assert gap > 0
    torch.manual_seed(0)
    z = mu + sigma * torch.randn(200_000)
    kl = (mu**2 + sigma**2 - 1 - math.log(sigma**2)) / 2
    draws = toy_log_likelihood(z)
    assert abs(draws.mean() - kl - elbo) < 5 * draws.std() / len(z) ** 0.5 + 1e-4


def test_the_toy_images_have_the_probability_one_together():
    all_eight = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    total = sum(math.exp(toy_bound(0.0, 1.0, x)[0]) for x in all_eight)
    assert total == pytest.approx(1, abs=1e-5)


def test_densities_on_the_grid():
    wanted = Normal(torch.tensor(0.3), 0.7).log_prob(GRID)
    assert_close(log_normal_on_grid(0.3, 0.7), wanted, rtol=1e-5, atol=1e-5, check_dtype=False)
    assert (toy_posterior() * STEP).sum() == pytest.approx(1)


def test_decoded_images_are_the_mean_and_spread_of_samples():
    torch.manual_seed(0)
    net, z = VAE(5, levels=4, latent=2, width=4), torch.tensor([[0.5, -1.0]])
    with torch.no_grad():
        samples = sample_image(net.decode(z.expand(20_000, 2)))
    assert_close(decode_means(net, z)[0], samples.mean(0), rtol=0, atol=0.02)
    assert_close(decode_spreads(net, z)[0], samples.std(0), rtol=0, atol=0.02)
    grid = decode_grid(net, 3, 1.0)
    assert grid.shape == (3, 3, 1, 5, 5)
    assert_close(grid[0, 2], decode_means(net, torch.tensor([[1.0, 1.0]]))[0])
    assert_close(grid[2, 1], decode_means(net, torch.tensor([[0.0, -1.0]]))[0])


def test_clothes_are_the_same_at_each_call():
    labels = torch.tensor([0, 9])
    clothes = draw_clothes(labels)
    assert clothes.shape == (2, 1, 28, 28) and 0 <= clothes.min() < clothes.max() <= 1
    assert torch.equal(clothes, draw_clothes(labels))
    assert not torch.equal(clothes, draw_clothes(labels, seed=1))


@pytest.mark.parametrize(("size", "levels"), [((8, 8), 17), ((28, 28), 256), ((12, 8), 5)])
def test_foreign_images_are_on_the_levels(size, levels):
    images = torch.randint(levels, (41, 1, *size)) / (levels - 1)
    foreign = make_foreign(images, levels)
    for name, x in foreign.items():
        assert x.shape[1:] == (1, *size), name
        assert_close(x * (levels - 1), (x * (levels - 1)).round(), rtol=0, atol=1e-4)
    assert torch.equal(foreign["inverted"] + images, torch.ones_like(images))
    assert len(foreign["two at once"]) == 20
    assert torch.equal(foreign["two at once"][3], torch.maximum(images[3], images[23]))
    assert foreign["blank"].max() == 0 and len(foreign["bars"].unique(dim=0)) >= 4
    inside = slice(size[1] * 3 // 8, size[1] * 5 // 8)
    assert foreign["bars"][..., inside].sum() == foreign["bars"].sum() > 0
