"""The drawings of chapter 7a at the default and both ends of each control that its notebook offers."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.drawings import drawn, every_end, pictures
from vlmbook import data
from vlmbook.chapters.ch07a import experiments, figures
from vlmbook.compression import Machine, count_layers, dequantise, quantise, sparse_bytes
from vlmbook.resnet import small_resnet


def test_the_window_shows_the_count_of_one_output_and_of_all():
    [axes] = drawn(figures.draw_window, (7, 3)).axes
    written = " ".join(text.get_text() for text in axes.texts)
    assert "18" in written and "1,440" in written


def test_a_separable_convolution_is_a_bar_of_two_parts():
    _, bars = drawn(figures.draw_separable, (7, 2.6), full=1000, depthwise=90, pointwise=110).axes
    assert [1e6 * patch.get_width() for patch in bars.patches] == pytest.approx([1000, 90, 110])
    assert bars.texts[0].get_text().strip().startswith("5.0")


def test_layers_are_drawn_with_their_costs():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    costs = count_layers(model, torch.rand(1, 1, 8, 8))
    top, bottom = drawn(figures.draw_layers, (6, 3), costs=costs).axes
    assert [bar.get_height() * 1e6 for bar in top.patches] == pytest.approx([40, 1450])
    assert [bar.get_height() * 1e9 for bar in bottom.patches] == pytest.approx([9 * 4 * 36, 1440])


def test_sizes_are_full_dots_where_they_were_counted():
    sizes = {"LeNet-5": (1998, 6e4, False), "ResNet-50": (2015, 2.6e7, True)}
    [axes] = drawn(figures.draw_sizes, (7, 3.4), sizes=sizes).axes
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines]
    assert points == [(1998, 6e4), (2015, 2.6e7)]
    assert axes.lines[0].get_markerfacecolor() == "white" != axes.lines[1].get_markerfacecolor()


def test_the_batch_moves_the_memory_and_not_the_state():
    memory = {"state": 4e8, "saved": 9e7}
    times = {1: 0.01, 8: 0.02, 64: 0.1}
    for batch in times:
        left, right = drawn(figures.draw_batch, (7.5, 2.8), memory=memory, times=times, batch=batch).axes
        assert [bar.get_width() for bar in left.patches] == pytest.approx([batch * 0.09, 0.4])
        assert list(right.lines[0].get_ydata()) == pytest.approx([10, 2.5, 1.5625])


def test_the_roofline_has_both_limits():
    machine = Machine(peak=1e11, bandwidth=1e10)
    layers = {"a": {"intensity": 2.0, "reached": 1.5e10, "attainable": 2e10}}
    cache = Machine(peak=5e10, bandwidth=4e10)
    figure = drawn(figures.draw_roofline, (7, 3.4), memory=machine, cache=cache, layers=layers)
    roof, higher = (line.get_ydata() for line in figure.axes[0].lines[:2])
    assert roof.max() == higher.max() == 100
    assert (roof.min(), higher.min()) == pytest.approx((1, 4))


def test_rounding_shows_each_weight_and_its_place():
    w = torch.tensor([0.6, -0.41, 0.25])
    [axes] = drawn(figures.draw_rounding, (7, 1.8), w=w).axes
    ends = [line.get_xdata()[1] for line in axes.lines if len(line.get_xdata()) == 2]
    assert ends == pytest.approx(dequantise(quantise(w, 3)).tolist())


def test_bits_are_drawn_at_every_end():
    cat = data.photo("cat")[:, 60:120, 60:120]
    weights = torch.randn(500, generator=torch.Generator().manual_seed(0))
    accuracy = {name: {2: 0.1, 5: 0.9, 8: 0.99} for name in ("per tensor", "per channel")}
    for values in every_end({"bits": (2, 4, 8)}):
        figure = drawn(
            figures.draw_bits, (7.5, 2.6), photograph=cat, weights=weights, accuracy=accuracy, **values
        )
        assert len(np.unique(pictures(figure)[0])) <= 2 ** values["bits"]


def test_sparsity_is_drawn_at_every_end():
    network = small_resnet(8, 10, 1)
    for values in every_end({"share": (0.0, 0.5, 0.9)}):
        figure = drawn(
            figures.draw_sparsity,
            (7.5, 2.6),
            network=network,
            layer="layer2.0.conv1",
            accuracy={0.0: 0.99, 0.9: 0.1},
            **values,
        )
        shown = pictures(figure)[0].float().mean().item()
        assert shown == pytest.approx(values["share"], abs=0.15)
        dense, sparse = [bar.get_height() for bar in figure.axes[1].patches]
        assert dense == sparse_bytes(network) / 1000
        assert sparse <= dense and (sparse < dense / 2) == (values["share"] > 0.6)


def test_pruning_shows_mean_and_deviation_over_the_seeds():
    rows = [[1.0, 0.5], [0.8, 0.3]]
    table = {method: {step: rows for step in experiments.STEPS} for method in experiments.PRUNINGS}
    left, _ = drawn(figures.draw_pruning, (7.5, 2.8), table=table, shares=(0.0, 0.5)).axes
    assert list(left.containers[0].lines[0].get_ydata()) == pytest.approx([90, 40])


def test_times_frames_budgets_and_the_result_draw_their_data():
    [axes] = drawn(figures.draw_percentiles, (7, 2), times={"a": (1.0, 2.0), "b": (3.0, 3.5)}).axes
    assert [bar.get_width() for bar in axes.patches] == [1.0, 3.0]
    frames = [torch.rand(3, 20, 20) for _ in range(3)]
    figure = drawn(figures.draw_frames, (7, 3.4), totals={"a": [0.01, 0.04]}, pictures=frames)
    assert list(figure.axes[-1].lines[0].get_ydata()) == pytest.approx([10, 40])
    accuracy = {"a": {1: [0.5, 0.7], 5: [0.8, 0.9]}}
    left, right = drawn(figures.draw_budgets, (7, 2.8), accuracy=accuracy, kilobytes={"a": 12.0}).axes
    assert list(right.lines[0].get_ydata()) == [12.0, 12.0]
    assert left.containers[0].lines[0].get_ydata()[0] == pytest.approx(60)
    [axes] = drawn(figures.draw_result, (7, 3), points={"a": (10.0, 5.0, 0.9), "b": (2.0, 4.0, 0.8)}).axes
    assert [line.get_xdata()[0] for line in axes.lines] == [10.0, 2.0]
