"""The drawings of chapter 5c at the default and both ends of each control that its notebook offers."""

import math

import pytest
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F
from torch.testing import assert_close

from tests.support.drawings import drawn, every_end, pictures
from vlmbook.chapters.ch05c import figures
from vlmbook.distillation import distillation_loss, soft_labels

TEMPERATURE = {"image": (0, 19), "temperature": (0.5, 1.0, 20.0)}
ALPHA = {"alpha": (0.0, 0.5, 1.0), "temperature": (1.0, 2.0, 10.0), "wrong": (0.0, 0.4, 0.8)}


def scene(n=20, seed=0):
    """Images whose class is seen: one bright pixel of ten, under noise; a teacher that knows it."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 10
    images = 0.3 * torch.rand(n, 64, generator=generator)
    images[torch.arange(n), 6 * labels] += 0.7
    logits = 6 * F.one_hot(labels, 10).float() + torch.randn(n, 10, generator=generator)
    return images.view(n, 1, 8, 8), labels, logits


def bars(axes):
    return torch.tensor([float(bar.get_height()) for bar in axes.patches])


@pytest.mark.parametrize("values", every_end(TEMPERATURE), ids=str)
def test_temperature(values):
    images, _, logits = scene()
    figure = drawn(figures.draw_temperature, (7, 2.4), images=images, logits=logits, **values)
    given = {"image": 0, "temperature": 1.0} | values
    p = soft_labels(logits, given["temperature"])[given["image"]]
    _, label, curve = figure.axes
    assert torch.equal(pictures(figure)[0].float(), images[given["image"], 0])
    assert_close(bars(label), p)
    line, dot = curve.lines
    [at], [height] = dot.get_data()
    assert at == given["temperature"] and height == pytest.approx(float(-(p * p.log()).sum()), abs=1e-5)
    entropies = line.get_ydata()
    assert (torch.as_tensor(entropies).diff() > -1e-6).all() and entropies[-1] == pytest.approx(
        math.log(10), abs=0.01
    )


def test_doubts_leave_the_class_itself_out():
    logits = torch.tensor([[5.0, 1, 0], [5, 0, 1], [0, 5, 3], [1, 2, 5]])
    found = figures.doubts(logits, torch.tensor([0, 0, 1, 2]), 2)
    p = soft_labels(logits, 2)
    assert_close(found.diagonal(), torch.zeros(3))
    assert_close(found[0], torch.tensor([0, 0.5, 0.5]))
    assert_close(found[1], torch.tensor([p[2, 0], 0, p[2, 2]]) / (p[2, 0] + p[2, 2]))
    assert found[2, 1] > found[2, 0]


def test_nearness_is_that_of_the_mean_images():
    images = torch.tensor([0.0, 0.2, 1.0, 5.0, 5.0, 5.0]).view(6, 1, 1, 1)  # means 0.1, 1, 5
    found = figures.nearness(images, torch.tensor([0, 0, 1, 2, 2, 2]))
    near, far = math.exp(-2 * 0.9), math.exp(-2 * 4.9)
    assert_close(found[0], torch.tensor([0, near, far]) / (near + far))
    assert found[2, 1] > found[2, 0] and found.diagonal().abs().max() == 0


def test_rank_correlation_is_spearmans_without_the_diagonal():
    a, b = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(2))
    others = ~torch.eye(6).bool()
    assert figures.rank_correlation(a, b) == pytest.approx(spearmanr(a[others], b[others]).statistic)
    assert figures.rank_correlation(a, a**3 + 7 * torch.eye(6)) == pytest.approx(1)


def test_doubts_side_by_side():
    matrices = {"teacher": torch.rand(10, 10) / 2, "student": torch.rand(10, 10) / 2}
    figure = drawn(figures.draw_doubts, (7, 3.3), matrices=matrices)
    for shown, matrix in zip(pictures(figure), matrices.values(), strict=True):
        others = ~torch.eye(10).bool()
        assert_close(shown.float()[others], matrix[others])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["teacher", "student"]


def test_agreement_is_drawn_and_given():
    teacher, *others = torch.rand(5, 10, 10, generator=torch.Generator().manual_seed(3)) / 2
    students, found = {"labels alone": others[:2], "distilled": [teacher, others[3]]}, {}
    figure = drawn(lambda figure: found.update(figures.draw_agreement(figure, teacher, students)), (7, 2.6))
    assert found["distilled"][0] == pytest.approx(1)
    assert found["labels alone"] == [figures.rank_correlation(each, teacher) for each in others[:2]]
    assert figure.axes[2].lines[0].get_xdata().tolist() == pytest.approx(
        [sum(each) / 2 for each in found.values()]
    )
    cells = ~torch.eye(10).bool()
    assert all(torch.equal(shown.float()[cells], teacher[cells]) for shown in pictures(figure))


def test_doubtful_images_with_their_best_two():
    images, labels, logits = scene(8)
    p = soft_labels(logits, 2)
    figure = drawn(figures.draw_doubtful, (7, 2.2), images=images, p=p)
    assert_close(torch.stack([bars(axes) for axes in figure.axes[8:]]), p)
    best, second = p[3].topk(2).indices.tolist()
    assert figure.axes[3].get_title(loc="left") == f"{best}, or {second}?" and best == labels[3]


def test_gradients_on_logarithmic_axes():
    norms = {"KL": [1, 0.1], "T² KL": [1, 1], "labels": [0.5, 0.5]}
    figure = drawn(figures.draw_gradients, (7, 2.4), temperatures=[1, 4], norms=norms)
    assert figure.axes[0].get_yscale() == figure.axes[0].get_xscale() == "log"
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == list(norms.values())
    assert len({line.get_color() for line in figure.axes[0].lines}) == 3


def test_students_with_the_lines_to_compare():
    accuracies = {"labels alone": [0.8, 0.9, 0.7], "distilled": [0.9, 0.92, 0.94]}
    figure = drawn(
        figures.draw_students, (7, 2.6), accuracies=accuracies, lines={"teacher": 0.98, "regression": 0.85}
    )
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == list(accuracies)
    middles, *others = axes.lines
    assert middles.get_xdata().tolist() == pytest.approx([80, 92])
    seeds = {line.get_ydata()[0]: sorted(line.get_xdata()) for line in others if line.get_marker() == "."}
    assert seeds == {0.75: pytest.approx([70, 80, 90]), -0.25: pytest.approx([90, 92, 94])}
    assert [line.get_xdata()[0] for line in others if line.get_linestyle() == "--"] == pytest.approx([98, 85])


def test_attention_is_scaled_for_each_image():
    images, _, _ = scene(4)
    maps = {"teacher": torch.rand(4, 4, 4), "student": torch.zeros(4, 4, 4)}
    shown = pictures(drawn(figures.draw_attention, (7, 3.2), images=images, maps=maps))
    assert len(shown) == 12 and torch.equal(shown[1].float(), images[1, 0])
    assert all(picture.max() == 1 for picture in shown[4:8]) and shown[8].max() == 0
    assert_close(shown[5].float(), maps["teacher"][1] / maps["teacher"][1].max())


@pytest.mark.parametrize("values", every_end(ALPHA), ids=str)
def test_alpha(values):
    images, labels, logits = scene(100)
    held_out, truth, _ = scene(200, seed=1)
    figure = drawn(
        figures.draw_alpha,
        (7, 2.4),
        images=images,
        labels=labels,
        logits=logits,
        held_out=held_out,
        truth=truth,
        **values,
    )
    given = {"alpha": 0.5, "temperature": 2.0, "wrong": 0.4} | values
    _, pull, curve = figure.axes
    hard, soft = bars(pull).view(2, 10)
    assert hard.sum() == pytest.approx(1 - given["alpha"]) and soft.sum() == pytest.approx(given["alpha"])
    shown = (pictures(figure)[0].float() == images[:, 0]).all(2).all(1).nonzero().item()
    assert_close(soft, given["alpha"] * soft_labels(logits, given["temperature"])[shown])
    if given["alpha"] < 1:
        assert (hard.argmax() == labels[shown]) == (given["wrong"] == 0)
    line, dot = curve.lines
    right = line.get_ydata()
    assert right[-1] > 0.9 and dot.get_ydata()[0] == right[round(10 * given["alpha"])]
    assert right[0] > 0.9 if given["wrong"] == 0 else right[0] < right[-1]


def test_linear_students_follow_the_loss_of_the_package():
    images, labels, logits = scene(30)
    x, alphas = figures.with_one(images), torch.tensor([0.0, 0.3, 1.0])
    found = figures.linear_students(images, labels, logits, alphas, 3, steps=2)
    for alpha, ours in zip(alphas.tolist(), found, strict=True):
        weights, speed = torch.zeros(65, 10), torch.zeros(65, 10)
        for _ in range(2):
            slope = torch.func.grad(
                lambda w, a=alpha: distillation_loss(x @ w, logits, labels, temperature=3, alpha=a)
            )
            speed = 0.9 * speed - slope(weights) / 8
            weights = weights + speed
        assert_close(ours, weights)
