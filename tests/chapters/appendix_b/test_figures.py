"""The drawings of appendix B at the default and both ends of each control that its notebook offers."""

import pytest
import torch

from tests.support.drawings import drawn, every_end
from vlmbook.chapters.appendix_b import experiments, figures
from vlmbook.data import AnnotatedImage, ImageObject, describe_folder, describe_objects, encode_mask

CONTROLS = {"left": (0, 7), "top": (0, 5), "width": (1, 8), "height": (1, 6)}


@pytest.mark.parametrize("values", every_end(CONTROLS), ids=str)
def test_the_three_notations_are_those_of_the_box_that_is_drawn(values):
    box, words = drawn(figures.draw_notations, (7, 2.8), **values).axes
    values = {"left": 2, "top": 1, "width": 4, "height": 3} | values
    frame = box.patches[-1]
    x1, y1 = values["left"], values["top"]
    x2, y2 = x1 + frame.get_width(), y1 + frame.get_height()
    assert x2 == min(x1 + values["width"], 8) and y2 == min(y1 + values["height"], 6)
    assert box.images[0].get_array().sum() == frame.get_width() * frame.get_height()
    written = [text.get_text() for text in words.texts]
    assert f"{x1 + 1}, {y1 + 1}, {x2}, {y2}" in written
    assert f"x, y, w, h = {x1}, {y1}, {x2 - x1}, {y2 - y1}" in written


@pytest.mark.parametrize(
    ("mask", "widths"),
    [([[0, 1, 1], [0, 1, 0]], [2, 3, 1]), ([[1, 1], [1, 1]], [0, 4]), ([[0.0, 0.0]], [2])],
)
def test_runs_are_a_bar_of_their_lengths(mask, widths):
    _, bar = drawn(figures.draw_runs, (7, 2), mask=mask).axes
    assert [patch.get_width() for patch in bar.patches] == widths
    assert str(widths) in bar.get_title(loc="left") + bar.get_title()


def test_an_annotated_image_shows_each_box_and_tints_its_mask():
    mask = torch.zeros(30, 40, dtype=torch.bool)
    mask[5:10, 6:20] = True
    objects = (ImageObject("a", (6, 5, 20, 10), mask=encode_mask(mask)), ImageObject("b", (0, 0, 40, 30)))
    image = AnnotatedImage("one.png", 30, 40, objects)
    picture = torch.rand(3, 30, 40)
    [axes] = drawn(figures.draw_annotated, (4, 3), pictures=[picture], images=[image]).axes
    assert [patch.get_xy() for patch in axes.patches] == [(5.5, 4.5), (-0.5, -0.5)]
    shown = torch.as_tensor(axes.images[0].get_array()).permute(2, 0, 1)
    assert torch.equal((shown != picture).any(0), mask)


def test_curves_bars_and_points_hold_their_data():
    found = {"a": {size: [0.5, 0.7] for size in experiments.CLASSES}}
    [axes] = drawn(figures.draw_mistakes, (7, 2.8), found=found).axes
    assert [round(patch.get_width(), 2) for patch in axes.patches] == [0.6] * 3
    [axes] = drawn(figures.draw_digits, (6.5, 2.4), found={640: [30.0, 3.0, 0.3]}).axes
    assert list(axes.lines[0].get_ydata()) == [30, 3, 0.3]
    prints = {"half the size": [0, 1], "different photographs": [20, 30, 40]}
    [axes] = drawn(figures.draw_fingerprints, (6.5, 2.6), found=prints, limit=4).axes
    assert [list(line.get_xdata()) for line in axes.lines[:2]] == list(prints.values())
    pairs = [experiments.Pair(("a", "b"), 0.01, 0.2)]
    [axes] = drawn(figures.draw_pairs, (5.5, 2.6), pairs=pairs).axes
    assert (axes.lines[0].get_xdata()[0], axes.lines[0].get_ydata()[0]) == (1, 20)
    _, claims = experiments.load_facts()
    [axes] = drawn(figures.draw_claims, (7, 3.2), claims=claims).axes
    assert len(axes.texts) == len(claims)


def test_statistics_are_drawn_of_an_empty_folder_and_of_one_with_objects(tmp_path):
    figure = drawn(figures.draw_statistics, (7.5, 2.6), found=describe_folder(tmp_path), objects=None)
    assert "images: 0" in [text.get_text() for text in figure.axes[3].texts]
    objects = describe_objects(
        [AnnotatedImage("a.png", 9, 9, (ImageObject("a long name of a class", (0, 0, 9, 9)),))]
    )
    figure = drawn(figures.draw_statistics, (7.5, 2.6), found=describe_folder(tmp_path), objects=objects)
    assert [patch.get_width() for patch in figure.axes[2].patches] == [1]
