"""The drawings of chapter 7b at the default and both ends of each control that its notebook offers."""

import numpy as np
import pytest
import torch

from tests.support.drawings import drawn, pictures
from vlmbook.chapters.ch07b import experiments, figures

ROWS = {"first": [0.5, 0.7], "second": [0.8, 0.9]}


def diamonds(axes):
    return [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "D"]


def test_scores_and_attack():
    generator = torch.Generator().manual_seed(0)
    drawn(
        figures.draw_scores,
        (5.5, 2.4),
        members=torch.rand(50, generator=generator),
        others=9 * torch.rand(50, generator=generator),
    )
    found = {"0% wrong labels": {50: [0.8, 0.9], 100: [0.6, 0.7]}, "20% wrong labels": {50: [0.9, 1.0]}}
    [axes] = drawn(figures.draw_attack, (5.5, 2.8), found=found).axes
    assert list(axes.containers[0].lines[0].get_ydata()) == pytest.approx([0.85, 0.65])


def test_clipped_arrows_lie_inside_the_circle():
    gradients = torch.tensor([[3.0, 1.2], [0.5, 0.8], [1.2, -1.5]])
    figure = drawn(
        figures.draw_clipping, (6.5, 2.6), gradients=gradients, max_norm=1.0, noise=torch.tensor([0.6, -0.9])
    )
    before, after, last = ([text.xy for text in axes.texts] for axes in figure.axes)
    assert max(np.hypot(*end) for end in before) > 3
    assert max(np.hypot(*end) for end in after) < 1.0001
    assert np.allclose(last[0], np.sum(after, axis=0), atol=1e-5)


def test_privacy_shows_means():
    found = {name: {"auc": [0.5, 0.6], "accuracy": [0.8, 0.9]} for name in ("with noise", "without noise")}
    figure = drawn(figures.draw_privacy, (7, 2.6), found=found)
    assert diamonds(figure.axes[0]) == pytest.approx([0.55, 0.55])
    assert diamonds(figure.axes[1]) == pytest.approx([0.85, 0.85])


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 8.0])
def test_the_bound_excludes_less_with_a_larger_epsilon(epsilon):
    generator = torch.Generator().manual_seed(0)
    members, others = torch.randn(60, generator=generator) + 1, torch.randn(60, generator=generator)
    [axes] = drawn(
        figures.draw_bound, (4.5, 3.2), members=members, others=others, epsilon=epsilon, delta=1e-3
    ).axes
    [area] = axes.collections
    corners = area.get_paths()[0].vertices
    lowest = corners[np.abs(corners[:, 0] - 0.1) < 1e-6][:, 1].min()  # at a false positive rate of 0.1
    assert lowest == pytest.approx(min(1, np.exp(epsilon) * 0.1 + 1e-3, 1 - np.exp(-epsilon) * 0.899))


def test_federated_draws_a_line_a_way():
    found = {name: [[0.2, 0.5, 0.8], [0.3, 0.6, 0.9]] for name in ("all data", "two clients")}
    [axes] = drawn(figures.draw_federated, (5.5, 3.2), found=found).axes
    assert list(axes.containers[0].lines[0].get_ydata()) == pytest.approx([0.25, 0.55, 0.85])


def test_heat_lies_over_each_photograph():
    images = torch.rand(2, 3, 16, 16)
    maps = {"occlusion": torch.rand(2, 16, 16), "saliency": torch.rand(2, 16, 16)}
    figure = drawn(figures.draw_heat, (5.5, 4.0), images=images, titles=["a cat", "a cup"], maps=maps)
    assert len(figure.axes) == 6
    assert len(figure.axes[1].images) == 2


def test_halves_randomisation_and_shortcut():
    figure = drawn(
        figures.draw_halves,
        (7, 2.8),
        image=torch.rand(3, 20, 40),
        heats={"tiger cat": torch.rand(20, 40), "espresso": torch.rand(20, 40)},
        shares=ROWS,
    )
    assert diamonds(figure.axes[-1]) == pytest.approx([0.6, 0.85])
    found = {part: {"saliency": [0.4, 0.5], "edges": [1.0, 1.0]} for part in ("last layer", "whole network")}
    [axes] = drawn(figures.draw_randomisation, (5.5, 2.8), found=found).axes
    assert [patch.get_height() for patch in axes.patches] == pytest.approx([0.45, 0.45, 1, 1])
    names = ("mark on every face", "no mark", "mark on random patches")
    measures = ("clean", "mark on the others", "share in the mark")
    found = {name: {measure: [0.5, 0.7] for measure in measures} for name in names}
    heats = {name: torch.rand(25, 25) for name in names}
    figure = drawn(figures.draw_shortcut, (7.5, 4.2), image=torch.rand(1, 25, 25), heats=heats, found=found)
    assert torch.equal(pictures(figure)[2], heats["no mark"])


@pytest.mark.parametrize("first", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("second", [0.1, 0.9])
def test_criteria_show_the_gaps(first, second):
    scores, labels, groups = experiments.draw_people(300, seed=0)
    figure = drawn(
        figures.draw_criteria,
        (7.5, 2.8),
        scores=scores,
        labels=labels,
        groups=groups,
        first=first,
        second=second,
    )
    rates = [(scores[groups == g] >= cut).double().mean().item() for g, cut in ((0, first), (1, second))]
    assert figure.axes[1].patches[0].get_width() == pytest.approx(abs(rates[0] - rates[1]))


def test_costs_cameras_and_data_quality():
    found = {
        name: {"accuracy": [0.7, 0.8], "equalised odds": [0.1, 0.2]} for name in ("none", "one threshold")
    }
    figure = drawn(figures.draw_costs, (8.5, 2.2), found=found)
    assert diamonds(figure.axes[0]) == pytest.approx([0.75, 0.75])
    cameras = {
        "camera A": {0.0: [0.9, 0.92], 0.5: [0.9, 0.9]},
        "camera B": {0.0: [0.5, 0.6], 0.5: [0.9, 0.9]},
    }
    scores, labels, groups = experiments.draw_people(200, seed=0)
    drawn(figures.draw_cameras, (7, 2.8), found=cameras, scores=scores, labels=labels, groups=groups)
    kinds = {"any other class": cameras, "always the next class": cameras}
    drawn(figures.draw_noise, (7, 2.8), kinds=kinds)
    finders = {name: {"precision": [0.9, 0.8], "recall": [0.6, 0.7]} for name in ("confident", "random")}
    drawn(figures.draw_cleaning, (7.5, 2.8), finders=finders, accuracies=ROWS)
    drawn(figures.draw_imbalance, (8.5, 2.4), found=found)
