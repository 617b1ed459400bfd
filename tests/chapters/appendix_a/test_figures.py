"""The drawings of appendix A at the default and both ends of each control that its notebook offers."""

import numpy as np
import pytest

from tests.chapters.appendix_a.cells import load_graph
from tests.support.drawings import drawn, every_end, pictures
from vlmbook.chapters.appendix_a import experiments, figures

GRAPH = load_graph()
CONTROLS = {"side": (16, 28, 32), "kernel": (3, 5), "padding": (0, 1, 2), "stages": (1, 2)}
NEURON = {"w": (-2.0, -1.0, 1.0, 2.0), "b": (-1.0, 0.5, 1.0), "v": (-2.0, 1.5, 2.0)}


def run(shift=0.0):
    """What `alone.compare` returns, in small."""
    one = {"loss": [2.3 + shift, 2.0, 1.5], "guesses": [1, 2, 3]}
    return {
        "accuracy": [0.90 + shift, 0.94, 0.92],
        "seconds": [1.0, 1.5, 1.2],
        "memory": 900_000_000,
        "memory_imported": 700_000_000,
        "own epsilon": one,
        "no epsilon": one,
    }


RUNS = {name: run(0.001 * n) for n, name in enumerate(("A", "B", "C on A", "C on B"))}


def test_digits_are_shown_as_they_are():
    arrays = experiments.load_arrays()
    figure = drawn(
        figures.draw_layouts, (5.5, 0.95), images=arrays["images"][:8], labels=arrays["labels"][:8]
    )
    shown = pictures(figure)
    assert len(shown) == 8 and shown[0].shape == (28, 28)


@pytest.mark.parametrize("values", every_end(CONTROLS))
def test_the_network_names_its_shapes_and_whether_the_printed_layer_fits(values):
    [axes] = drawn(figures.draw_network, (7, 2.5), **values).axes
    words = [text.get_text() for text in axes.texts]
    settings = {"side": 28, "kernel": 3, "padding": 0, "stages": 1} | values
    flattened = next(shape[0] for name, shape, _ in experiments.list_sizes(**settings) if name == "flatten")
    assert words.count("convolution") == settings["stages"]
    assert ("does not fit" in words[-1]) == (flattened != 1568)


def test_the_printed_layer_fits_two_padded_stages():
    [axes] = drawn(figures.draw_network, (7, 2.5), padding=1, stages=2).axes
    assert axes.texts[-1].get_text().endswith("wants 1,568 and fits")


@pytest.mark.parametrize("values", every_end(NEURON))
def test_the_graph_shows_each_node_with_its_value_and_gradient(values):
    values = {"w": 1.0, "b": 0.5, "v": 1.5} | values
    figure = drawn(figures.draw_graph, (7, 2.6), result=make_neuron(**values))
    words = [text.get_text() for text in figure.axes[0].texts]
    assert all(name in words for name in ("w", "x", "b", "v", "m", "ReLU"))
    assert f"{max(values['w'] + values['b'], 0):.3g}" in words


def make_neuron(w, b, v):
    node = GRAPH["Node"]
    x, m = node(1.0, "x"), node(-1.0, "m")
    d = (node(w, "w") * x + node(b, "b")).relu() * node(v, "v") + m
    result = d * d
    GRAPH["backward"](result)
    return result


def test_a_node_that_is_used_twice_is_drawn_once():
    x, y = GRAPH["Node"](2.0, "x"), GRAPH["Node"](3.0, "y")
    result = x * y + x
    GRAPH["backward"](result)
    words = [text.get_text() for text in drawn(figures.draw_graph, (4.2, 2.3), result=result).axes[0].texts]
    assert words.count("x") == 1 and words.count("4") == 1


def test_losses_and_their_distance_from_the_first():
    left, right = drawn(figures.draw_losses, (7, 2.7), runs=RUNS).axes
    assert [line.get_label() for line in left.lines] == list(RUNS)
    assert right.lines[0].get_ydata()[0] == pytest.approx(0.001)
    assert len(right.lines) == 2 * (len(RUNS) - 1)


def test_the_comparison_has_a_row_for_each_program():
    accuracy, seconds, memory = drawn(figures.draw_comparison, (7, 2.4), runs=RUNS, baseline=0.96).axes
    assert [label.get_text() for label in accuracy.get_yticklabels()] == list(RUNS)
    assert [patch.get_width() for patch in seconds.patches] == [1.2] * 4
    assert [round(patch.get_width(), 2) for patch in memory.patches] == [0.9, 0.7] * 4


def test_the_choice_and_the_modes_show_their_numbers():
    figure = drawn(
        figures.draw_choice, (5.5, 2.3), chosen=[0.92, 0.94, 0.95], fresh=[0.90, 0.91, 0.95], images=100
    )
    assert len(figure.axes[0].patches) > 0 and len(figure.axes[0].lines) == 2
    figure = drawn(
        figures.draw_modes, (5.5, 1.5), passes={"training mode": [0.9, 0.91], "evaluation mode": [0.94] * 2}
    )
    assert np.allclose(figure.axes[0].lines[1].get_xdata(), 94)
