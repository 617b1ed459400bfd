"""The drawings of chapter 4d at the default and both ends of each control that its notebook offers."""

import numpy as np
import pytest
import torch

from tests.support.drawings import drawn, every_end, pictures
from vlmbook.chapters.ch04d import figures
from vlmbook.chapters.ch04d.experiments import follow, make_points
from vlmbook.flow import optimal_velocity


def images(n, channels=1, size=8):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_path_ends_at_the_image(channels):
    image = images(1, channels)[0]
    figure = drawn(figures.draw_path, (7, 2.3), image=image, noise=torch.randn(channels, 8, 8), parts=4)
    shown = pictures(figure)
    assert len(shown) == 4
    np.testing.assert_allclose(np.squeeze(shown[-1]), image.permute(1, 2, 0).squeeze(), atol=1e-6)


def test_lines_cross_and_curves_do_not():
    figure = drawn(figures.draw_crossing, (7, 2.6), images=torch.tensor([[-1.0], [1.0]]))
    lines, curves = (
        np.stack([line.get_ydata() for line in axes.lines[:n]])
        for axes, n in zip(figure.axes, (60, 16), strict=True)
    )
    order = np.argsort(curves[:, 0])
    assert (np.diff(curves[order], axis=0) > -1e-6).all()
    assert not (np.diff(lines[np.argsort(lines[:, 0])][:, -1]) >= 0).all()
    np.testing.assert_allclose(np.abs(curves[:, -1]), 1, atol=0.01)


def plane():
    points = make_points(40)
    velocity = lambda x, t: optimal_velocity(x, t, points)  # noqa: E731
    return points, {"exact": velocity, "still": lambda x, t: 0 * x}, follow(velocity, torch.randn(30, 2), 20)


def test_the_plane_shows_where_each_walk_ends():
    points, _, walk = plane()
    figure = drawn(figures.draw_plane, (7, 3), points=points, walks={"a": walk, "b": walk[:, :5]})
    assert [len(axes.lines[-1].get_xdata()) for axes in figure.axes] == [30, 5]


@pytest.mark.parametrize("values", every_end({"t": (0.0, 0.5, 0.95)}), ids=str)
def test_arrows_of_each_field(values):
    points, velocities, walk = plane()
    figure = drawn(figures.draw_field, (7, 3.4), points=points, velocities=velocities, walk=walk, **values)
    exact, still = (axes.collections[0] for axes in figure.axes)
    assert np.hypot(still.U, still.V).max() == 0 < np.hypot(exact.U, exact.V).min()


def test_solvers():
    panels = {
        "error": {"euler": {1: 0.5, 2: 0.2}, "heun": {1: 0.5, 3: 0.1}},
        "distance": {"ancestral": {2: 4.0}},
    }
    figure = drawn(figures.draw_solvers, (7, 2.6), panels=panels)
    assert [len(axes.lines) for axes in figure.axes] == [2, 1]


@pytest.mark.parametrize("widths", [(32, 64), (32, 64, 96), (8, 16, 24, 32)])
def test_the_network_has_a_box_for_each_level_on_both_sides(widths):
    figure = drawn(figures.draw_network, (7, 2.7), size=32, widths=widths)
    written = [text.get_text() for text in figure.axes[0].texts]
    for level, width in enumerate(widths):
        side = 32 // 2**level
        count = 1 if level == len(widths) - 1 else 2
        assert sum(text.endswith(f"\n{width}×{side}×{side}") for text in written) == count


def test_a_row_of_samples_for_each_class():
    figure = drawn(
        figures.draw_classes, (7, 6), samples=images(6).unflatten(0, (3, 2)), names=["a", "b", "c"]
    )
    assert pictures(figure)[0].shape == (27, 18)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", "c"]


@pytest.mark.parametrize("values", every_end({"t": (0.0, 0.3, 1.0)}), ids=str)
def test_a_moment_shows_the_state_at_that_time(values):
    states = torch.linspace(-1, 1, 21)[:, None, None, None, None].expand(21, 3, 1, 8, 8)
    figure = drawn(figures.draw_moment, (7, 3), states=states, predicted=-states, **values)
    upper, lower = pictures(figure)
    t = values.get("t", 0.3)
    assert upper[0, 0] == pytest.approx(t, abs=0.03) and lower[0, 0] == pytest.approx(1 - t, abs=0.03)


def test_rows():
    figure = drawn(figures.draw_rows, (7, 2.3), rows={"real": images(5), "flow": images(4)})
    assert [picture.shape for picture in pictures(figure)] == [(9, 45), (9, 36)]


@pytest.mark.parametrize("values", every_end({"guidance": (0.0, 1.5, 4.0)}), ids=str)
def test_guidance(values):
    samples = {w: images(16) for w in (0.0, 1.5, 4.0)}
    curves = {"right class": dict.fromkeys(samples, 0.9), "recall": dict.fromkeys(samples, 0.5)}
    figure = drawn(figures.draw_guidance, (7, 2.6), samples=samples, measured=curves, **values)
    assert figure.axes[1].lines[-1].get_xdata()[0] == values.get("guidance", 1.5)


def test_neighbours():
    far = {"generated": torch.rand(30), "held out": torch.rand(20), "exact field": torch.zeros(10)}
    figure = drawn(figures.draw_neighbours, (7, 2.4), samples=images(4), nearest=images(4), distances=far)
    heights = [sum(bar.get_height() for bar in bars) for bars in figure.axes[1].containers]
    assert heights == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_hole_is_grey(channels):
    hole = torch.zeros(1, 8, 8)
    hole[:, 4:] = 1
    figure = drawn(
        figures.draw_completion,
        (7, 1.5),
        image=torch.ones(channels, 8, 8),
        mask=hole,
        completed=images(2, channels),
    )
    shown = pictures(figure)
    assert len(shown) == 4 and (shown[1][4:] == 0.5).all() and (shown[1][:4] == 1).all()


def test_comparison():
    rows = {"GAN": {"frechet": [3.0, 3.2, 3.1], "ms": [1.0] * 3}, "flow": {"frechet": [0.6, 0.7, 0.65]}}
    figure = drawn(figures.draw_comparison, (7, 2.4), rows=rows, measure="frechet")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["GAN", "flow"]
