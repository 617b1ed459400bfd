"""The drawings of chapter 2 at the default and both ends of each control that its notebook offers."""

import numpy as np
import pytest
import torch

from tests.support.drawings import drawn, pictures
from vlmbook import data, multitask
from vlmbook.chapters.ch02 import diagrams, experiments, figures


@pytest.mark.parametrize("name", list(diagrams.DIAGRAMS))
def test_a_diagram_has_a_panel_for_each_print_and_one_corrected(name):
    diagram = diagrams.DIAGRAMS[name]
    figure = drawn(figures.draw_diagram, (6.5, 3.4), diagram=diagram)
    assert len(figure.axes) == len(diagram.printed) + 1
    labels = {text.get_text() for text in figure.axes[-1].texts}
    assert labels == {box.label for box in diagram.corrected.boxes.values()}


def test_an_arrow_ends_at_the_border_of_a_box():
    start, end = diagrams.Box(0, 0, "a"), diagrams.Box(0, 2, "b")
    assert figures._find_border(start, end) == (0, figures.HALF_HEIGHT)
    right = diagrams.Box(3, 0, "c")
    assert figures._find_border(start, right) == (figures.HALF_WIDTH, 0)


def test_the_heads_show_the_shapes_of_the_network():
    network = multitask.MultiTaskNet(classes=7, in_channels=1, width=4)
    figure = drawn(figures.draw_heads, (6.5, 2.2), network=network, images=torch.rand(2, 1, 16, 20))
    labels = {text.get_text() for text in figure.axes[0].texts}
    assert {"image\n1×16×20", "shared trunk\n8×4×5", "class\n7", "box\n4", "mask\n16×20"} <= labels


def test_the_law_by_hand_reaches_the_third_number():
    [axes] = drawn(figures.draw_law, (5, 2.4), images=[100, 400], errors=[0.2, 0.1], at=1600).axes
    assert axes.lines[2].get_ydata()[0] == pytest.approx(0.05)
    assert axes.get_xscale() == axes.get_yscale() == "log"


SCALING = {
    "network": {40: [0.2, 0.22], 80: [0.12, 0.16], 160: [0.1, 0.09], 320: [0.07, 0.06], 1400: [0.03, 0.04]},
    "linear": {40: [0.25, 0.2], 80: [0.15, 0.17], 160: [0.12, 0.1], 320: [0.09, 0.08], 1400: [0.04, 0.05]},
}


@pytest.mark.parametrize("known", [80, 160, 320])
def test_the_scaling_marks_what_was_used(known):
    predicted = {}
    for name, rows in SCALING.items():
        used = {n: errors for n, errors in rows.items() if n <= known}
        ends = multitask.bootstrap_power_law(list(used), list(used.values()), 1400, draws=50)
        law = multitask.fit_power_law(list(used), list(used.values()))
        predicted[name] = law, ends["error"]
    figure = drawn(figures.draw_scaling, (7, 3), found=SCALING, predicted=predicted, known=known, at=1400)
    full, open_ = figure.axes[0].lines[2:4]
    assert max(full.get_xdata()) == known and list(open_.get_xdata())[-1] == 1400
    assert len(full.get_xdata()) + len(open_.get_xdata()) == 5


def test_windows_lie_around_the_middle_and_the_largest_holds_both_marks():
    images, labels = experiments.draw_pairs(4, 6, seed=0)
    figure = drawn(figures.draw_windows, (7, 1.6), images=images, labels=labels, fields=(3, 7))
    for axes, image in zip(figure.axes, images, strict=True):
        left, right = (image[0] != 0.5).nonzero()[:, 1].tolist()
        small, large = axes.patches
        assert [patch.get_width() for patch in axes.patches] == [3, 7]
        assert left < small.get_x() and small.get_x() + small.get_width() < right
        assert large.get_x() < left and right < large.get_x() + large.get_width()


def test_the_stairs_stand_where_the_field_is_large_enough():
    accuracy = torch.tensor([[1.0, 0.5], [1.0, 1.0]])
    [axes] = drawn(figures.draw_fields, (5.5, 2.5), accuracy=accuracy, depths=(1, 2), distances=(2, 4)).axes
    walls = [line.get_xdata()[0] for line in axes.lines if line.get_xdata()[0] == line.get_xdata()[1]]
    assert list(walls) == [0.5, 1.5]


@pytest.mark.parametrize("with_answers", [False, True])
def test_canvases_show_box_and_mask(with_answers):
    canvases = experiments.draw_canvases("train", 4)
    found = {"class": torch.eye(10)[:4], "box": canvases.truth["box"], "mask": 1 - 2 * canvases.truth["mask"]}
    figure = drawn(
        figures.draw_canvases, (6.5, 2.8), images=canvases.images, truth=canvases.truth,
        found=found if with_answers else None,
    )  # fmt: skip
    mask = canvases.truth["mask"][0]
    assert torch.equal(pictures(figure)[4].float(), 1 - mask if with_answers else mask)
    assert len(figure.axes[0].patches) == 1 + with_answers


def test_gradients_tell_their_cosine():
    figure = drawn(figures.draw_gradients, (6.5, 1.9), pairs=[((3, 4), (4, 3)), ((3, 4), (-4, 3))])
    assert [axes._left_title.get_text() for axes in figure.axes] == ["cosine +0.96", "cosine +0.00"]


def test_transfer_has_a_dot_for_each_seed_and_a_line_at_the_mean():
    found = {
        ("class", "box"): experiments.Transfer([0.5, 0.6], [0.7, 0.8], [0.1, 0.3]),
        ("box", "class"): experiments.Transfer([0.7, 0.7], [0.6, 0.5], [0.2, 0.2]),
    }
    [axes] = drawn(figures.draw_transfer, (6, 2.2), found=found).axes
    dots, means = axes.lines[::2], axes.lines[1::2]
    wanted = [values for transfer in found.values() for values in transfer]
    assert [list(line.get_xdata()) for line in dots] == wanted
    assert [line.get_xdata()[0] for line in means] == pytest.approx([sum(values) / 2 for values in wanted])


def test_weights_have_a_curve_and_a_dashed_line_for_each_task():
    found = {"class": {0.1: [0.8, 0.6], 1.0: [0.2, 0.2]}, "box": {0.1: [0.5, 0.5], 1.0: [0.7, 0.9]}}
    [axes] = drawn(
        figures.draw_weights, (6, 2.6), found=found, alone={"class": [0.9], "box": [0.6, 0.8]}
    ).axes
    curves = [list(container.lines[0].get_ydata()) for container in axes.containers]
    assert np.allclose(curves, [[0.7, 0.2], [0.5, 0.8]])
    dashed = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert dashed == pytest.approx([0.9, 0.7])


def test_curves_have_the_means():
    found = {"a": {1: [0.2, 0.4], 5: [0.6, 0.8]}, "b": {1: [0.1], 5: [0.5]}}
    figure = drawn(figures.draw_curves, (7, 3), panels={"first": found, "second": found}, xlabel="labels")
    assert list(figure.axes[1].containers[0].lines[0].get_ydata()) == pytest.approx([0.3, 0.7])


def some_measures():
    return {
        name: {"network": [[0.9 - 0.1 * k, 0.8] for k in range(5)], "linear": [[0.8, 0.7]] * 5}
        for name in experiments.CORRUPTIONS
    }


def test_corruptions_have_an_example_and_a_curve():
    severities = {name: values for name, (_, values) in experiments.CORRUPTIONS.items()}
    examples = {name: [torch.rand(1, 8, 8)] * 5 for name in severities}
    figure = drawn(
        figures.draw_corruptions, (8, 3.2), examples=examples, severities=severities, measured=some_measures()
    )
    assert len(figure.axes) == 10 and len(figure.axes[7].lines) == 2
    assert pictures(figure)[0].shape == (8, 24)


@pytest.mark.parametrize("name", list(experiments.CORRUPTIONS))
@pytest.mark.parametrize("level", [0, 2, 4])
def test_a_wrong_answer_is_orange(name, level):
    x, y = (each[:8] for each in data.digits("test"))
    answers = y.clone()
    answers[3] = (y[3] + 1) % 10
    curves = {"network": [0.9, 0.8, 0.7, 0.6, 0.5]}
    _, severities = experiments.CORRUPTIONS[name]
    figure = drawn(
        figures.draw_answers, (7, 2.4), images=x, labels=y, answers=answers, curves=curves,
        severities=severities, chosen=level,
    )  # fmt: skip
    colours = [axes._left_title.get_color() for axes in figure.axes[:8]]
    assert [number for number, colour in enumerate(colours) if colour == figures.plot.ORANGE] == [3]
    assert figure.axes[8].lines[1].get_xdata()[0] == severities[level]


def test_sizes_costs_modalities_and_map_draw_their_data():
    known = [(name, kind, size or 6e7, images) for name, kind, size, images, _ in experiments.KNOWN]
    figure = drawn(figures.draw_sizes, (7.5, 3.2), known=known, sets=experiments.SETS)
    assert [patch.get_width() for patch in figure.axes[0].patches[:2]] == [1797, 3.3e5]
    costs = {
        "small": {"parameters": 6e7, "macs": 7e8, "weights": 2.4e8, "saved": 1e7},
        "large": {"parameters": 6e8, "macs": 1.6e11, "weights": 2.4e9, "saved": 3e9},
    }
    figure = drawn(figures.draw_costs, (7.5, 2.5), counted=costs)
    assert [patch.get_width() for patch in figure.axes[1].patches] == pytest.approx([0.7, 160])
    found = {name: [[0.9, 0.5], [0.8, 0.4]] for name in ("image", "sound", "both", "both, wrong sound")}
    [axes] = drawn(figures.draw_modalities, (6.5, 2.6), noises=(0.1, 0.5), found=found).axes
    assert list(axes.containers[0].lines[0].get_ydata()) == pytest.approx([0.85, 0.45])
    parts = experiments.map_companion()
    [axes] = drawn(figures.draw_map, (7, 3.8), parts=parts).axes
    assert len(axes.patches) == 21
