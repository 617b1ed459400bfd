"""The drawings of chapter 1 at the default and both ends of each control that its notebook offers."""

import numpy as np
import pytest
import torch

from tests.support.drawings import drawn, every_end, pictures
from vlmbook import data, features
from vlmbook.chapters.ch01 import experiments, figures, timeline


def test_each_photograph_stands_below_its_answer():
    photos = [data.photo("cat"), data.photo("clock")]
    answers = [[("tabby", 0.3)], [("wall clock", 0.9)]]
    figure = drawn(figures.draw_answers, (5.5, 3.5), images=photos, answers=answers)
    assert len(pictures(figure)) == 2
    assert figure.axes[0].get_title(loc="left") == "tabby\n30%"
    colours = {axes._left_title.get_color() for axes in figure.axes[:2]}
    assert len(colours) == 2


def test_the_numbers_are_the_pixels_in_the_frame():
    image = torch.arange(144.0).view(1, 12, 12) / 144
    whole, part = drawn(figures.draw_numbers, (5.5, 2.8), image=image, top=2, left=3, side=4).axes
    [frame] = whole.patches
    assert (frame.get_x(), frame.get_y(), frame.get_width()) == (2.5, 1.5, 4)
    assert np.allclose(part.images[0].get_array(), image[0, 2:6, 3:7])


def test_the_profile_shows_the_change():
    row = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.5])
    _, below = drawn(figures.draw_profile, (6, 2.6), row=row).axes
    assert [bar.get_height() for bar in below.patches] == pytest.approx([0.5, 0.5, -0.25])


def test_the_small_example_shows_its_three_matrices():
    image, kernel = torch.rand(4, 5), torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    figure = drawn(figures.draw_by_hand, (6, 1.9), image=image, kernel=kernel, result=torch.rand(2, 3))
    assert [each.shape for each in pictures(figure)] == [(4, 5), (3, 3), (2, 3)]


def test_the_features_of_a_photograph_are_those_of_the_library():
    image = data.photo("cat")[:, 50:200, 50:250]
    figure = drawn(figures.draw_features, (5.5, 3.6), image=image, corners=7)
    grey = features.to_grey(image)
    edges = features.canny(grey, sigma=2).numpy()
    assert np.array_equal(np.asarray(pictures(figure)[2]) < 0.5, edges) and edges.any()
    [points] = figure.axes[3].lines
    assert len(points.get_xdata()) == 7
    assert len(figure.axes[5].collections[0].get_segments()) > 20


CONTROLS = {"cell": (8, 16, 32), "row": (0, 15), "column": (0, 15)}


@pytest.mark.parametrize("values", every_end(CONTROLS))
@pytest.mark.parametrize("name", ["cat", "rocket"])
def test_the_histogram_is_that_of_the_framed_cell(name, values):
    settings = {"cell": 32, "row": 6, "column": 5} | values
    image = data.photo(name)
    figure = drawn(figures.draw_hog, (6.5, 2.4), image=image, **settings)
    [frame] = figure.axes[0].patches
    cell = settings["cell"]
    row, column = round(frame.get_y() / cell), round(frame.get_x() / cell)
    cells = features.orientation_histograms(features.to_grey(image), cell=cell)
    heights = [bar.get_height() for bar in figure.axes[2].patches]
    assert heights == pytest.approx(cells[row, column].tolist())
    assert row <= settings["row"] and column <= settings["column"]


def test_a_line_stands_across_the_gradient():
    """An image that grows brighter downwards has horizontal edges."""
    image = torch.linspace(0, 1, 32)[:, None].expand(3, 32, 32)
    figure = drawn(figures.draw_hog, (6.5, 2.4), image=image, cell=16)
    for start, end in figure.axes[1].collections[0].get_segments():
        assert abs(end[0] - start[0]) > 2 * abs(end[1] - start[1])


def test_the_probabilities_stand_beside_the_logits():
    logits = torch.tensor([2.0, 1.0, 0.0])
    left, right = drawn(
        figures.draw_softmax, (5.5, 2.2), logits=logits, names=["cat", "dog", "cup"], label=0
    ).axes
    assert [bar.get_height() for bar in left.patches] == [2, 1, 0]
    assert [bar.get_height() for bar in right.patches] == pytest.approx(logits.softmax(0).tolist())
    assert "0.41" in right.get_title(loc="left")


def test_steps_and_curves_are_drawn():
    [axes] = drawn(figures.draw_descent, (5, 2.3), w=[7.5, 5.7], losses=[20.25, 7.29], rate=0.2).axes
    assert list(axes.lines[1].get_xdata()) == [7.5, 5.7]
    [axes] = drawn(figures.draw_learning, (5, 2.4), curves={"a": [3, 2, 1], "b": [3, 2.5, 2]}).axes
    assert list(axes.lines[1].get_ydata()) == [3, 2.5, 2]


def test_a_network_is_a_row_of_boxes():
    shapes = [("", (1, 24, 24)), ("conv", (6, 24, 24)), ("pool", (6, 12, 12)), ("linear", (120,))]
    [axes] = drawn(figures.draw_network, (7, 1.6), shapes=shapes, title="net").axes
    boxes = [patch for patch in axes.patches if hasattr(patch, "get_height")]
    assert [box.get_height() for box in boxes][:3] == pytest.approx([1, 1, 0.5])


def test_the_comparison_has_a_dot_and_an_interval_a_program():
    row = {"accuracy": [0.9, 0.94], "count": 100}
    tables = {"digits": {"a": row, "b": row}, "faces": {"a": row, "b": row}}
    left, right = drawn(figures.draw_comparison, (7, 3.2), tables=tables).axes
    low, high = left.lines[0].get_xdata()
    assert low < 92 < high and left.lines[1].get_xdata()[0] == pytest.approx(92)
    assert len(right.lines) == 4


def test_what_breaks_is_a_curve_a_program():
    strengths = {"shift": (0, 2), "noise": (0, 0.1)}
    table = {change: {"a": [0.9, 0.5], "b": [0.8, 0.7]} for change in strengths}
    examples = {change: [torch.rand(1, 8, 8)] * 2 for change in strengths}
    figure = drawn(figures.draw_breaks, (7.5, 4), examples=examples, strengths=strengths, table=table)
    curves = [axes for axes in figure.axes if axes.lines]
    assert list(curves[1].lines[0].get_ydata()) == pytest.approx([90, 50])


YEARS = {"first": (1959, 1990, 2020), "last": (1965, 1995, 2025)}


@pytest.mark.parametrize("values", every_end(YEARS))
def test_the_timeline_shows_the_works_of_its_years(values):
    settings = {"first": 2009, "last": 2025} | values
    first, last = settings["first"], max(settings["last"], settings["first"] + 1)
    figure = drawn(figures.draw_timeline, (7.5, 4), counted={"AlexNet": 61_100_840}, first=first, last=last)
    [axes] = figure.axes
    works = timeline.find_works(first, last)
    assert sorted(int(c.get_offsets()[0][0]) for c in axes.collections) == sorted(work.year for work in works)
    named = {text.get_text().partition(" (")[0] for text in axes.texts}
    assert named <= {work.name.partition(" (")[0] for work in works}
    assert len(named) >= min(len(works), 5)


def test_counted_models_are_full_discs():
    [axes] = drawn(figures.draw_growth, (7, 3.4), counted={"AlexNet": 61_100_840}).axes
    full = [line for line in axes.lines if line.get_markerfacecolor() != "white"]
    assert [line.get_ydata()[0] for line in full] == [61_100_840]
    assert len(axes.lines) > 8


def test_every_change_is_drawn_with_as_many_images_as_strengths():
    for function, strengths in experiments.CHANGES.values():
        assert strengths[0] == 0 and list(strengths) == sorted(strengths)
        x = torch.rand(1, 1, 24, 24)
        assert torch.allclose(function(x, 0), x, atol=1e-6)
