"""The drawings of chapter 4a at the default and both ends of each control that its notebook offers."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.support.drawings import drawn, every_end, pictures
from vlmbook.chapters.ch04a import figures
from vlmbook.gan import Generator, discriminator_loss, non_saturating_loss, r1_penalty, saturating_loss

SQUARE = torch.linspace(-3, 3, 30)


def test_the_game_has_two_ways_into_d_and_gradients_back():
    figure = drawn(figures.draw_game, (7, 2.4))
    written = {text.get_text() for text in figure.axes[0].texts}
    assert set(figures.LABELS.values()) <= written
    assert sum(end == "D" for _, end in figures.GAME) == 2 and {end for _, end in figures.GRADIENTS} == {
        "D",
        "G",
    }
    nodes = {node for edge in (*figures.GAME, *figures.GRADIENTS) for node in edge}
    assert nodes == figures.PLACES.keys() == figures.LABELS.keys()


@pytest.mark.parametrize("values", every_end({"shift": (-2.0, 0.0, 4.0), "spread": (0.3, 1.0, 2.0)}), ids=str)
def test_the_best_discriminator_and_the_value(values):
    figure = drawn(figures.draw_optimal, (7, 2.6), **values)
    given = {"shift": 1.5, "spread": 1.0} | values
    _, p, g, best, value = figures.value_of_two_normals(**given)
    assert ((best >= 0) & (best <= 1)).all() and -math.log(4) - 1e-6 < value < 0
    assert f"V(D*, G) = {value:.3f}" in figure.axes[1].get_title(loc="left")
    step = 18 / 3600
    assert abs(p.sum() * step - 1) < 1e-3 and abs(g.sum() * step - 1) < 2e-3
    middle = (p + g) / 2
    jsd = (
        (torch.xlogy(p, p / middle) + torch.xlogy(g, g / middle).nan_to_num()) / 2
    ).nan_to_num().sum() * step
    assert abs(value + math.log(4) - 2 * jsd) < 1e-3
    if given == {"shift": 0.0, "spread": 1.0}:
        assert_close(best, torch.full_like(best, 0.5))


@pytest.mark.parametrize(
    "values",
    every_end(
        {
            "order": ("simultaneous", "alternating"),
            "loss": ("minimax", "non-saturating"),
            "lr": (0.02, 0.1, 0.3),
            "gamma": (0.0, 0.5, 1.0),
        }
    ),
    ids=str,
)
def test_orbits(values):
    figure = drawn(figures.draw_orbit, (7, 2.8), **values)
    away = figures.dirac_orbit(**values).norm(dim=1)
    assert f"{away[-1]:.2f} after 500" in figure.axes[1].get_title(loc="left")


@pytest.mark.parametrize("order", ["simultaneous", "alternating"])
@pytest.mark.parametrize("loss", ["minimax", "non-saturating"])
def test_orbits_are_gradient_steps_of_the_losses(order, loss):
    """Against autograd, on D(x) = σ(ψx), one real image at 0 and one made at θ, with R1."""
    generator_loss = saturating_loss if loss == "minimax" else non_saturating_loss
    theta, psi = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (1.0, 0.0))
    zero = torch.zeros(1, 1, dtype=torch.float64)
    for place in figures.dirac_orbit(order, loss, 0.3, 0.7, steps=20):
        assert_close(torch.cat([theta, psi]).detach(), place)
        loss_d = discriminator_loss(psi * 0, psi * theta.detach())
        loss_d = loss_d + 0.35 * r1_penalty(lambda x, psi=psi: psi * x[:, 0], zero)
        (slope_d,) = torch.autograd.grad(loss_d, psi)
        after = (psi - 0.3 * slope_d).detach().requires_grad_()
        judge = after if order == "alternating" else psi
        (slope_g,) = torch.autograd.grad(generator_loss(judge.detach() * theta), theta)
        theta, psi = (theta - 0.3 * slope_g).detach().requires_grad_(), after


def test_orders_and_losses_that_are_none():
    with pytest.raises(ValueError, match='"simultaneous" or "alternating"'):
        figures.dirac_orbit("both")
    with pytest.raises(ValueError, match='"minimax" or "non-saturating"'):
        figures.dirac_orbit(loss="hinge")


def games():
    generator = torch.Generator().manual_seed(0)
    return {
        name: {
            "steps": [25 * (i + 1) for i in range(n)],
            "points": [torch.randn(50, 2, generator=generator) for _ in range(n)],
            "logits": [SQUARE.expand(30, 30) * i / n for i in range(n)],
            "found": [min(8, i) for i in range(n)],
        }
        for name, n in (("seed 0", 40), ("eager", 30))
    }


@pytest.mark.parametrize("values", every_end({"run": ("seed 0", "eager"), "moment": (0, 20, 39)}), ids=str)
def test_a_moment_on_the_ring(values):
    runs = games()
    figure = drawn(
        figures.draw_ring, (7, 3.2), real=torch.randn(100, 2), runs=runs, **({"run": "seed 0"} | values)
    )
    run = runs[values.get("run", "seed 0")]
    moment = min(values.get("moment", 0), len(run["steps"]) - 1)
    plane = figure.axes[0]
    assert plane.get_title(loc="left") == f"step {run['steps'][moment]}: {run['found'][moment]} of 8"
    assert_close(pictures(figure)[0], run["logits"][moment].sigmoid())
    assert_close(torch.tensor(plane.lines[1].get_xydata()), run["points"][moment].double())


def test_d_is_drawn_where_it_says_it():
    """The grid's rows run along y from below, as `watch` of the notebook makes them."""
    grid = torch.cartesian_prod(SQUARE, SQUARE).flip(1)
    assert grid[1, 0] > grid[0, 0] and grid[1, 1] == grid[0, 1]
    runs = {
        "one": {
            "steps": [1],
            "points": [torch.zeros(1, 2)],
            "logits": [grid[:, 1].view(30, 30)],
            "found": [0],
        }
    }
    figure = drawn(figures.draw_ring, (7, 3.2), real=torch.randn(9, 2), runs=runs, run="one")
    shown = figure.axes[0].images[0]
    assert shown.origin == "lower" and shown.get_array()[-1, 0] > shown.get_array()[0, 0]


def test_between_two_latents():
    a, b = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))
    for path in ("arc", "straight"):
        assert_close(figures.between(a, b, 0.0, path), a)
        assert_close(figures.between(a, b, 1.0, path), b)
        assert_close(figures.between(a, a, 0.3, path), a)
    lengths = torch.stack([figures.between(a, b, t / 10) for t in range(11)]).norm(dim=1)
    assert_close(lengths, torch.linspace(lengths[0].item(), lengths[-1].item(), 11))
    assert figures.between(a, b, 0.5, "straight").norm() < lengths.min()
    with pytest.raises(ValueError, match='"arc" or "straight"'):
        figures.between(a, b, 0.5, "around")


@pytest.mark.parametrize(
    "values",
    every_end({"start": (0, 9), "end": (0, 1, 9), "place": (0.0, 0.5, 1.0), "path": ("arc", "straight")}),
    ids=str,
)
def test_a_walk(values):
    torch.manual_seed(0)
    generator, latents = Generator(8, latent=32, width=4).eval(), torch.randn(10, 32)
    figure = drawn(figures.draw_walk, (7, 2.0), generator=generator, latents=latents, **values)
    given = {"start": 0, "end": 1, "place": 0.5, "path": "arc"} | values
    chosen, strips = pictures(figure)
    with torch.no_grad():
        first, last = generator(latents[[given["start"], given["end"]]])[:, 0]
    for rows in (strips[:8], strips[-8:]):
        assert_close(rows[:, :8].float(), first)
        assert_close(rows[:, -8:].float(), last)
    assert_close(strips[-8:, 32:40].float(), (first + last) / 2)
    if given["place"] in (0.0, 1.0):
        assert_close(chosen.float(), last if given["place"] else first)


def test_neighbours():
    generator = torch.Generator().manual_seed(0)
    images, held = (0.9 * torch.rand(60, 1, 8, 8, generator=generator) for _ in range(2))
    made = images[:40] + 0.01
    far = []
    figure = drawn(lambda figure: far.extend(figures.draw_neighbours(figure, made, held, images)), (7, 4.2))
    assert_close(far[0], torch.full((40,), 0.08), rtol=1e-3, atol=1e-4)
    assert far[1].shape == (60,) and far[1].min() > 1
    assert figures.nearest(made, images)[1].tolist() == list(range(40))
    shown = pictures(figure)
    assert len(shown) == 2
    for strip, of in zip(shown, (made, held), strict=True):
        assert_close(strip[:8, :8].float(), of[0, 0]), assert_close(strip[:8, -8:].float(), of[5, 0])
        near = images[figures.nearest(of, images)[1][:6]]
        assert_close(strip[-8:, :8].float(), near[0, 0]), assert_close(strip[-8:, -8:].float(), near[5, 0])


def test_training_and_what_was_found():
    curve = [(1.0 + i / 400, 2.0) for i in range(200)]
    smooth = []
    drawn(
        lambda figure: smooth.append(figures.draw_training(figure, curve, {20: 30.0, 100: 9.0, 200: 5.0})),
        (7, 2.4),
    )
    assert smooth[0].shape == (151, 2)
    assert_close(smooth[0][0], torch.tensor([1.0 + 24.5 / 400, 2.0]))
    found = {"in turns": torch.tensor([8.0, 7.0, 8.0]), "5 turns of G": torch.tensor([0.5, 0.2, 0.3])}
    figure = drawn(figures.draw_found, (7, 1.8), found=found)
    assert [text.get_text() for text in figure.axes[0].texts] == ["7.7 ± 0.6", "0.3 ± 0.2"]
