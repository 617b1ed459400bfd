"""What chapter 4a computes, against autograd, sums over a grid, and its own ends."""

import math

import pytest
import torch
from torch.testing import assert_close

from vlmbook.chapters.ch03b.experiments import read_fashion_net
from vlmbook.chapters.ch04a import experiments
from vlmbook.gan import (
    Discriminator,
    Generator,
    discriminator_loss,
    non_saturating_loss,
    r1_penalty,
    saturating_loss,
)
from vlmbook.pretrained import WEIGHTS, weights_card


@pytest.mark.parametrize("shift", [-2.0, 0.0, 1.5, 4.0])
@pytest.mark.parametrize("spread", [0.3, 1.0, 2.0])
def test_the_value_is_that_of_the_divergence(shift, spread):
    """V(D*, G) = −log 4 + 2 JSD, both from sums over the grid."""
    x, p, g, best, value = experiments.solve_two_normals(shift, spread)
    step = (x[1] - x[0]).item()
    assert p.sum() * step == pytest.approx(1, abs=1e-3)
    assert g.sum() * step == pytest.approx(1, abs=2e-3)
    middle = (p + g) / 2
    kl = [torch.xlogy(q, q / middle).nan_to_num().sum() * step for q in (p, g)]
    assert value == pytest.approx(-math.log(4) + (kl[0] + kl[1]).item(), abs=1e-3)
    assert ((best >= 0) & (best <= 1)).all()
    if (shift, spread) == (0.0, 1.0):
        assert_close(best, torch.full_like(best, 0.5))


@pytest.mark.parametrize("order", experiments.ORDERS)
@pytest.mark.parametrize("loss", experiments.LOSSES)
def test_orbits_are_gradient_steps_of_the_losses(order, loss):
    """Against autograd, on D(x) = σ(ψx), one real image at 0 and one generated at θ, with R1."""
    generator_loss = saturating_loss if loss == "minimax" else non_saturating_loss
    theta, psi = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (1.0, 0.0))
    zero = torch.zeros(1, 1, dtype=torch.float64)
    for want in experiments.simulate_dirac_gan(order, loss, 0.3, 0.7, steps=20):
        assert_close(torch.cat([theta, psi]).detach(), want)
        loss_d = discriminator_loss(psi * 0, psi * theta.detach())
        loss_d = loss_d + 0.35 * r1_penalty(lambda x, psi=psi: psi * x[:, 0], zero)
        (slope_d,) = torch.autograd.grad(loss_d, psi)
        next_psi = (psi - 0.3 * slope_d).detach().requires_grad_()
        opponent = next_psi if order == "alternating" else psi
        (slope_g,) = torch.autograd.grad(generator_loss(opponent.detach() * theta), theta)
        theta, psi = (theta - 0.3 * slope_g).detach().requires_grad_(), next_psi


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"order": "both"}, "order wants 'simultaneous' or 'alternating', got 'both'"),
        ({"loss": "hinge"}, "loss wants 'minimax' or 'non-saturating', got 'hinge'"),
    ],
)
def test_other_orders_and_losses_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        experiments.simulate_dirac_gan(**wrong)


def test_the_training_learns_the_only_image():
    """All images are the same bright square: after a few steps the generated ones are nearer to it."""
    square = torch.zeros(1, 1, 8, 8)
    square[..., 2:6, 2:6] = 1
    images = square.repeat(100, 1, 1, 1)

    def error(steps):
        generator, discriminator = experiments.train_gan(images, steps=steps, latent=4, width=4, lr=4e-3)
        assert isinstance(discriminator, Discriminator) and not discriminator.training
        assert isinstance(generator, Generator) and not generator.training
        with torch.no_grad():
            generated = generator(torch.randn(64, 4, generator=torch.Generator().manual_seed(0)))
        return (generated - square).square().mean()

    assert error(100) < 0.3 * error(1)


def test_a_training_can_be_repeated():
    images = torch.rand(80, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    first, second = (experiments.train_gan(images, steps=3, latent=4, width=4) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_the_shipped_weights_draw_clothes_of_all_classes():
    generator, discriminator, card = experiments.read_fashion_gan()
    assert "vlmbook.chapters.ch04a.experiments.train_gan(" in card["command"]
    assert card["hours"] > 0 and card == weights_card("ch04a_fashion")
    assert (WEIGHTS / "ch04a_fashion.safetensors").stat().st_size < 3_000_000
    with torch.no_grad():
        clothes = generator(torch.randn(400, 64, generator=torch.Generator().manual_seed(0)))
        noise = torch.rand(100, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        assert discriminator(noise).mean() < discriminator(clothes).mean()
        chances = read_fashion_net()[0](clothes).softmax(1)
    assert (chances.argmax(1).bincount(minlength=10) > 0).all()
    assert 0.3 < (chances.max(1).values > 0.9).float().mean() < 1


def test_between_two_latents():
    a, b = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    for path in experiments.PATHS:
        assert_close(experiments.interpolate_latents(a, b, 0.0, path), a)
        assert_close(experiments.interpolate_latents(a, b, 1.0, path), b)
        assert_close(experiments.interpolate_latents(a, a, 0.3, path), a)
    arc = experiments.interpolate_latents(a, b, torch.linspace(0, 1, 11)).norm(dim=1)
    assert_close(arc, torch.linspace(arc[0].item(), arc[-1].item(), 11))
    assert experiments.interpolate_latents(a, b, 0.5, "straight").norm() < arc.min()
    with pytest.raises(ValueError, match="path wants 'arc' or 'straight', got 'around'"):
        experiments.interpolate_latents(a, b, 0.5, "around")


def test_the_nearest_image_is_found():
    generator = torch.Generator().manual_seed(0)
    images = 0.9 * torch.rand(60, 1, 8, 6, generator=generator)
    order = torch.randperm(60, generator=generator)[:40]
    distance, index = experiments.find_nearest(images[order] + 0.01, images)
    assert index.equal(order)
    assert_close(distance, torch.full((40,), 0.01 * math.sqrt(48)), rtol=1e-3, atol=1e-4)


def test_losses_are_averaged_over_windows():
    curve = [(1.0 + i / 400, 2.0) for i in range(200)]
    steps, losses = experiments.average_losses(curve)
    assert losses.shape == (151, 2) and steps.tolist() == [25 + i for i in range(151)]
    assert_close(losses[0], torch.tensor([1.0 + 24.5 / 400, 2.0]))
    assert experiments.average_losses(curve[:3])[1].shape == (1, 2)  # fewer steps than a window
