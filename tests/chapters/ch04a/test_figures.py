"""The drawings of chapter 4a at the default and both ends of each control that its notebook offers."""

import pytest
import torch
from torch.testing import assert_close

from tests.support.drawings import drawn, every_end, pictures
from vlmbook.chapters.ch04a import experiments, figures
from vlmbook.gan import Generator

SQUARE = torch.linspace(-3, 3, 30)


def test_the_game_has_two_inputs_of_d_and_gradients_back():
    figure = drawn(figures.draw_game, (7, 2.4))
    labels = {text.get_text() for text in figure.axes[0].texts}
    assert set(figures.LABELS.values()) <= labels
    assert sum(end == "D" for _, end in figures.GAME) == 2
    assert {end for _, end in figures.GRADIENTS} == {"D", "G"}
    nodes = {node for edge in (*figures.GAME, *figures.GRADIENTS) for node in edge}
    assert nodes == figures.POSITIONS.keys() == figures.LABELS.keys()


@pytest.mark.parametrize("values", every_end({"shift": (-2.0, 0.0, 4.0), "spread": (0.3, 1.0, 2.0)}), ids=str)
def test_the_best_discriminator_and_the_value(values):
    figure = drawn(figures.draw_optimal, (7, 2.6), **values)
    game = experiments.solve_two_normals(**{"shift": 1.5, "spread": 1.0} | values)
    assert f"V(D*, G) = {game.value:.3f}" in figure.axes[1].get_title(loc="left")
    assert_close(torch.tensor(figure.axes[1].lines[0].get_ydata()), game.best)


@pytest.mark.parametrize("values", every_end({"lr": (0.02, 0.1, 0.3), "gamma": (0.0, 0.5, 1.0)}), ids=str)
def test_four_orbits(values):
    figure = drawn(figures.draw_orbits, (7, 2.4), **values)
    given = {"lr": 0.1, "gamma": 0.5} | values
    assert len(figure.axes) == 4
    for axes, (order, loss, penalised) in zip(figure.axes, figures.ORBITS.values(), strict=True):
        gamma = given["gamma"] if penalised else 0.0
        orbit = experiments.simulate_dirac_gan(order, loss, given["lr"], gamma)
        assert_close(torch.tensor(axes.lines[0].get_xydata()), orbit)


@pytest.mark.parametrize(("size", "sides"), [(8, (8, 4)), (28, (28, 14, 7)), (64, (64, 32, 16, 8, 4))])
def test_the_networks_have_the_shapes_of_their_maps(size, sides):
    figure = drawn(figures.draw_networks, (7 if size < 64 else 12, 3.3), size=size, latent=32, width=16)
    net = Generator(size, latent=32, width=16).eval()
    shapes, x = [], torch.zeros(1, 32)
    for layer in net.layers:
        x = layer(x)
        shapes.append("×".join(map(str, x.shape[1:])))
    for axes in figure.axes:
        labels = {text.get_text() for text in axes.texts}
        wanted = {f"{16 * 2**step}×{side}×{side}" for step, side in enumerate(sides)}
        assert wanted <= labels
        assert wanted <= set(shapes)
        assert len(axes.patches) >= len(sides) + 2


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
    runs, real = games(), torch.randn(100, 2)
    figure = drawn(figures.draw_ring, (7, 3.2), real=real, runs=runs, **({"run": "seed 0"} | values))
    run = runs[values.get("run", "seed 0")]
    moment = min(values.get("moment", 0), len(run["steps"]) - 1)
    plane = figure.axes[0]
    assert plane.get_title(loc="left") == f"step {run['steps'][moment]}: {run['found'][moment]} of 8"
    assert_close(pictures(figure)[0], run["logits"][moment].sigmoid())
    assert_close(torch.tensor(plane.lines[1].get_xydata()), run["points"][moment].double())


def test_d_is_drawn_with_y_upwards():
    """The grid's rows run along y from below, as `watch` of the notebook makes them."""
    grid = torch.cartesian_prod(SQUARE, SQUARE).flip(1)
    assert grid[1, 0] > grid[0, 0]
    assert grid[1, 1] == grid[0, 1]
    run = {"steps": [1], "points": [torch.zeros(1, 2)], "logits": [grid[:, 1].view(30, 30)], "found": [0]}
    figure = drawn(figures.draw_ring, (7, 3.2), real=torch.randn(9, 2), runs={"one": run}, run="one")
    shown = figure.axes[0].images[0]
    assert shown.origin == "lower"
    assert shown.get_array()[-1, 0] > shown.get_array()[0, 0]


@pytest.mark.parametrize(
    "values",
    every_end({"start": (0, 9), "end": (0, 1, 9), "position": (0.0, 0.5, 1.0), "path": experiments.PATHS}),
    ids=str,
)
def test_a_walk(values):
    torch.manual_seed(0)
    generator, latents = Generator(8, latent=32, width=4).eval(), torch.randn(10, 32)
    figure = drawn(figures.draw_walk, (7, 2.0), generator=generator, latents=latents, **values)
    given = {"start": 0, "end": 1, "position": 0.5, "path": "arc"} | values
    chosen, strips = pictures(figure)
    with torch.no_grad():
        first, last = generator(latents[[given["start"], given["end"]]])[:, 0]
    for rows in (strips[:8], strips[-8:]):
        assert_close(rows[:, :8].float(), first)
        assert_close(rows[:, -8:].float(), last)
    assert_close(strips[-8:, 32:40].float(), (first + last) / 2)
    if given["position"] == 0:
        assert_close(chosen.float(), first)
    if given["position"] == 1:
        assert_close(chosen.float(), last)


def test_rows_of_unequal_length_keep_their_images():
    images = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    figure = drawn(
        figures.draw_rows, (5, 2.4), rows={"three": images[:3], "two": images[3:], "none": images[:0]}
    )
    page = pictures(figure)[0].float()
    assert page.shape == (3 * 29, 3 * 29)
    assert_close(page[:28, 29:57], images[1, 0])
    assert_close(page[29:57, :28], images[3, 0])
    assert (page[29:57, 58:] == 1).all() and (page[58:] == 1).all()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["three", "two", "none"]


def test_only_small_images_are_enlarged():
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    large = figures.smooth(images)
    assert large.shape == (2, 1, 32, 32) and 0 <= large.min() < large.max() <= 1
    means = torch.nn.functional.avg_pool2d(large, 4)
    assert (means - images).abs().mean() < 0.1
    assert figures.smooth(large) is large


def test_the_memory_of_d():
    generator = torch.Generator().manual_seed(0)
    kinds = ("training", "validation", "generated")
    logits = {
        name: {20: torch.randn(40, generator=generator), 200: torch.randn(40, generator=generator)}
        for name in kinds
    }
    gaps = {20: (0.1, 0.05), 200: (0.3, 0.04)}
    curves, difference = drawn(figures.draw_memory, (7, 2.5), logits=logits, gaps=gaps).axes
    for line, by_step in zip(curves.lines, logits.values(), strict=False):
        want = torch.tensor([[20.0, by_step[20].mean()], [200.0, by_step[200].mean()]])
        assert_close(torch.tensor(line.get_xydata()).float(), want)
    assert [text.get_text() for text in curves.get_legend().get_texts()] == list(kinds)
    assert difference.lines[0].get_xydata().tolist() == [[20, 0.1], [200, 0.3]]


def test_neighbours():
    generator = torch.Generator().manual_seed(0)
    images, held_out = (0.9 * torch.rand(60, 1, 8, 8, generator=generator) for _ in range(2))
    both = {"generated": images[:40] + 0.01, "held_out": held_out}
    strips = pictures(drawn(figures.draw_neighbours, (7, 4.2), images=images, **both))
    assert len(strips) == 2
    for strip, x in zip(strips, both.values(), strict=True):
        indices = experiments.find_nearest(x, images)[1]
        assert_close(strip[:8, :8].float(), x[0, 0])
        assert_close(strip[:8, -8:].float(), x[5, 0])
        assert_close(strip[-8:, :8].float(), images[indices[0], 0])
        assert_close(strip[-8:, -8:].float(), images[indices[5], 0])


def test_a_training():
    curve = [(1.0 + i / 400, 2.0) for i in range(200)]
    distances = {20: 30.0, 100: 9.0, 200: 5.0}
    left, right = drawn(figures.draw_training, (7, 2.4), curve=curve, distances=distances).axes
    _, losses = experiments.average_losses(curve)
    assert_close(torch.tensor(left.lines[0].get_ydata()), losses[:, 0])
    assert_close(torch.tensor(left.lines[1].get_ydata()), losses[:, 1])
    assert right.lines[0].get_xydata().tolist() == [[20, 30], [100, 9], [200, 5]]


def test_what_was_found_is_written_out():
    found = {"in turns": torch.tensor([8.0, 7.0, 8.0]), "5 turns of G": torch.tensor([0.5, 0.2, 0.3])}
    figure = drawn(figures.draw_found, (7, 1.8), found=found)
    assert [text.get_text() for text in figure.axes[0].texts] == ["7.7 ± 0.6", "0.3 ± 0.2"]


def test_each_game_is_a_dot():
    found = {"in turns": torch.tensor([8.0, 7.0, 8.0]), "5 turns of G": torch.tensor([0.5, 0.2, 0.3])}
    axes = drawn(figures.draw_found, (7, 1.8), found=found).axes[0]
    assert [list(line.get_xdata()) for line in axes.lines] == [each.tolist() for each in found.values()]
    assert all(line.get_ydata()[0] > 0.5 for line in axes.lines[:1])
    assert [label.get_text() for label in axes.get_yticklabels()] == list(found)
