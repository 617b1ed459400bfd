"""The drawings of chapter 7c at the default and both ends of each control that its notebook offers."""

import pytest
import torch

from tests.support.drawings import drawn, pictures
from vlmbook import fewshot
from vlmbook.chapters.ch07c import experiments, figures


def test_an_episode_is_a_row_a_class():
    images = torch.rand(12, 3, 8, 8)
    episode = fewshot.Episode(torch.tensor([[0, 1], [6, 7]]), torch.tensor([[2], [8]]))
    figure = drawn(figures.draw_episode, (5, 3.2), images=images, episode=episode)
    shown = pictures(figure)
    assert len(shown) == 6
    assert torch.equal(torch.as_tensor(shown[5]), images[8].permute(1, 2, 0))


def test_the_plane_marks_the_means():
    support = torch.tensor([[[0.0, 0.0], [2.0, 0.0]], [[3.0, 2.0], [3.0, 4.0]]])
    [axes] = drawn(figures.draw_plane, (6, 3), support=support, query=(2.0, 1.0)).axes
    stars = [tuple(float(v[0]) for v in line.get_data()) for line in axes.lines if line.get_marker() == "*"]
    assert stars == [(1.0, 0.0), (3.0, 3.0)]


def test_shots_show_means_with_standard_errors():
    found = {"a": {1: [0.2, 0.4], 5: [0.6, 0.8]}, "b": {1: [0.1, 0.1], 5: [0.5, 0.5]}}
    [axes] = drawn(figures.draw_shots, (7, 2.6), found=found, xlabel="shots").axes
    assert list(axes.containers[0].lines[0].get_ydata()) == pytest.approx([0.3, 0.7])


@pytest.mark.parametrize("steps", [0, 1, 10])
def test_adaptation_bends_the_curve_towards_the_points(steps):
    function, x = fewshot.sine_task(10, generator=torch.Generator().manual_seed(5))
    networks = {"first": experiments.make_regressor(0), "second": experiments.make_regressor(1)}
    figure = drawn(figures.draw_adaptation, (7, 2.5), networks=networks, x=x, function=function, steps=steps)
    assert len(figure.axes) == 2 and len(figure.axes[0].lines) == 4


def test_errors_start_at_no_step():
    found = {"a": [[1.0, 3.0], [0.5, 1.5]]}
    [axes] = drawn(figures.draw_errors, (5, 2.4), found=found).axes
    assert list(axes.containers[0].lines[0].get_ydata()) == [2.0, 1.0]


def test_similarity_and_answers():
    captions = ["a red star", "a blue cross"]
    images = torch.rand(2, 3, 8, 8)
    figure = drawn(
        figures.draw_similarity,
        (7.5, 3.2),
        images=images,
        captions=captions,
        before=torch.zeros(2, 2),
        after=torch.eye(2),
    )
    assert figure.axes[2].images[0].get_array().tolist() == [[1.0, 0.0], [0.0, 1.0]]
    for index in (0, 1):
        figure = drawn(
            figures.draw_answers,
            (6, 2.4),
            image=images[index],
            words=captions,
            probabilities=torch.tensor([0.3, 0.7]),
            truth=captions[index],
        )
        assert [patch.get_width() for patch in figure.axes[1].patches] == pytest.approx([0.7, 0.3])


def test_domains_defects_fusion_and_map_draw_their_data():
    found = {name: {"stored statistics": [0.2, 0.4], "adapted statistics": [0.8, 0.8]} for name in "ab"}
    figure = drawn(
        figures.draw_domains, (6, 3), examples=dict.fromkeys("ab", torch.rand(1, 8, 8)), found=found
    )
    assert [round(patch.get_height(), 2) for patch in figure.axes[2].patches] == [0.3, 0.8]
    scores = {"pixels": (0.5, 0.4, 0.6), "features": (0.8, 0.7, 0.9)}
    drawn(
        figures.draw_defects, (8, 3), images=torch.rand(4, 3, 16, 16), maps=torch.rand(4, 6, 6), scores=scores
    )
    examples = torch.rand(4, 1, 8, 8), torch.rand(4, 1, 16, 16)
    accuracies = {"image": [0.7, 0.8], "sound": [0.8, 0.9], "both": [0.9, 0.95]}
    drawn(figures.draw_fusion, (8, 3), examples=examples, accuracies=accuracies)
    rows = [
        {"chapter": "ch01", "title": "First", "section": "§1", "checks": None, "passed": None},
        {"chapter": "ch02", "title": "Second", "section": "§2", "checks": 9, "passed": 8},
    ]
    [axes] = drawn(figures.draw_map, (7, 2), rows=rows).axes
    assert [patch.get_width() for patch in axes.patches] == [0, 8]
    assert [text.get_text() for text in axes.texts] == ["not written yet", "8 of 9"]
