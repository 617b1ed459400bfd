"""The drawings of chapter 5c at the default and both ends of each control that its notebook offers."""

import math

import pytest
import torch
from torch.testing import assert_close

from tests.chapters.ch05c.images import labelled_images
from tests.support.drawings import drawn, every_end, pictures
from vlmbook.chapters.ch05c import figures
from vlmbook.distillation import soft_labels

TEMPERATURE = {"image": (0, 19), "temperature": (0.5, 1.0, 20.0)}
ALPHA = {"alpha": (0.0, 0.5, 1.0), "temperature": (1.0, 2.0, 10.0), "wrong": (0.0, 0.4, 0.8)}


def bars(axes):
    return torch.tensor([float(bar.get_height()) for bar in axes.patches])


@pytest.mark.parametrize("values", every_end(TEMPERATURE), ids=str)
def test_temperature(values):
    images, _, logits = labelled_images()
    figure = drawn(figures.draw_temperature, (7, 2.4), images=images, logits=logits, **values)
    given = {"image": 0, "temperature": 4.0} | values
    p = soft_labels(logits, given["temperature"])[given["image"]]
    _, at_one, label, curve = figure.axes
    assert torch.equal(pictures(figure)[0].float(), images[given["image"], 0])
    assert_close(bars(at_one), logits[given["image"]].softmax(0))
    assert_close(bars(label), p)
    line, dot = curve.lines
    [at], [height] = dot.get_data()
    assert at == given["temperature"] and height == pytest.approx(float(-(p * p.log()).sum()), abs=1e-5)
    entropies = line.get_ydata()
    assert (torch.as_tensor(entropies).diff() > -1e-6).all() and entropies[-1] == pytest.approx(
        math.log(10), abs=0.01
    )


def test_confusions_side_by_side():
    matrices = {"teacher": torch.rand(10, 10) / 2, "student": torch.rand(10, 10) / 2}
    figure = drawn(figures.draw_confusions, (7, 3.3), matrices=matrices)
    for shown, matrix in zip(pictures(figure), matrices.values(), strict=True):
        others = ~torch.eye(10).bool()
        assert_close(shown.float()[others], matrix[others])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["teacher", "student"]


def test_agreement():
    teacher, student = torch.rand(2, 10, 10, generator=torch.Generator().manual_seed(3)) / 2
    correlations = {"labels alone": [0.2, 0.4], "distilled": [0.9, 0.8]}
    confusions = {"teacher": teacher, "distilled": student}
    draw = figures.draw_agreement
    figure = drawn(draw, (7, 2.6), confusions=confusions, correlations=correlations)
    assert figure.axes[2].lines[0].get_xdata().tolist() == pytest.approx([0.3, 0.85])
    others = ~torch.eye(10).bool()
    for shown, matrix in zip(pictures(figure), (teacher, student), strict=True):
        assert torch.equal(shown.float()[others], matrix[others])


def test_uncertain_images_with_their_best_two():
    images, labels, logits = labelled_images(8)
    p = soft_labels(logits, 2)
    figure = drawn(figures.draw_uncertain, (7, 2.2), images=images, p=p)
    assert_close(torch.stack([bars(axes) for axes in figure.axes[8:]]), p)
    best, second = p[3].topk(2).indices.tolist()
    assert figure.axes[3].get_title(loc="left") == f"{best}, or {second}?" and best == labels[3]


def test_gradients_on_logarithmic_axes():
    norms = {"KL": [1, 0.1], "T² KL": [1, 1], "labels": [0.5, 0.5]}
    figure = drawn(figures.draw_gradients, (7, 2.4), temperatures=[1, 4], norms=norms)
    assert figure.axes[0].get_yscale() == figure.axes[0].get_xscale() == "log"
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == list(norms.values())
    assert len({line.get_color() for line in figure.axes[0].lines}) == 3


def test_accuracies_with_the_baselines():
    accuracies = {"labels alone": [0.8, 0.9, 0.7], "distilled": [0.9, 0.92, 0.94]}
    baselines = {"teacher": 0.98, "regression": 0.85}
    figure = drawn(figures.draw_accuracies, (7, 2.6), accuracies=accuracies, baselines=baselines)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == list(accuracies)
    middles, *others = axes.lines
    assert middles.get_xdata().tolist() == pytest.approx([80, 92])
    seeds = {line.get_ydata()[0]: sorted(line.get_xdata()) for line in others if line.get_marker() == "."}
    assert seeds == {0.75: pytest.approx([70, 80, 90]), -0.25: pytest.approx([90, 92, 94])}
    assert [line.get_xdata()[0] for line in others if line.get_linestyle() == "--"] == pytest.approx([98, 85])


def test_attention_lies_over_each_image_up_to_its_maximum():
    images = torch.zeros(2, 1, 8, 8)
    maps = {"teacher": torch.zeros(2, 4, 4), "student": torch.zeros(2, 4, 4)}
    maps["teacher"][0, 1, 2] = 0.3
    maps["teacher"][1, 3, 3] = 7.0
    shown = pictures(drawn(figures.draw_attention, (7, 3.2), images=images, maps=maps))
    assert len(shown) == 6 and shown[0].max() == 0
    orange = [picture.float().amax(-1) for picture in shown[2:]]
    assert orange[0].flatten().argmax() in (2 * 8 + 4, 2 * 8 + 5, 3 * 8 + 4, 3 * 8 + 5)
    assert orange[1].flatten().argmax() == 7 * 8 + 7
    assert_close(orange[0].max(), orange[1].max())
    assert orange[2].max() == orange[3].max() == 0


@pytest.mark.parametrize("values", every_end(ALPHA), ids=str)
def test_alpha(values):
    images, labels, logits = labelled_images(100)
    test_images, test_labels, _ = labelled_images(200, seed=1)
    figure = drawn(
        figures.draw_alpha,
        (7, 2.4),
        images=images,
        labels=labels,
        logits=logits,
        test_images=test_images,
        test_labels=test_labels,
        **values,
    )
    given = {"alpha": 0.5, "temperature": 2.0, "wrong": 0.4} | values
    _, targets, curve = figure.axes
    hard, soft = bars(targets).view(2, 10)
    assert hard.sum() == pytest.approx(1 - given["alpha"]) and soft.sum() == pytest.approx(given["alpha"])
    shown = (pictures(figure)[0].float() == images[:, 0]).all(2).all(1).nonzero().item()
    assert_close(soft, given["alpha"] * soft_labels(logits, given["temperature"])[shown])
    if given["alpha"] < 1:
        assert (hard.argmax() == labels[shown]) == (given["wrong"] == 0)
    line, dot = curve.lines
    accuracies = line.get_ydata()
    assert accuracies[-1] > 0.9
    assert dot.get_ydata()[0] == accuracies[round(10 * given["alpha"])]
    if given["wrong"] == 0:
        assert accuracies[0] > 0.9
    else:
        assert accuracies[0] < accuracies[-1]
