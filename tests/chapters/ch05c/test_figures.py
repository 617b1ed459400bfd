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


def test_accuracies_of_groups_with_the_baselines():
    groups = {"labels": {"labels alone": [0.8, 0.9, 0.7]}, "teacher": {"distilled": [0.9, 0.92, 0.94]}}
    baselines = {"teacher": 0.98, "regression": 0.85}
    figure = drawn(figures.draw_accuracies, (7, 2.6), groups=groups, baselines=baselines)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["labels alone", "distilled"]
    middles = {line.get_ydata()[0]: line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"}
    assert middles == {1: pytest.approx(80), 0: pytest.approx(92)}
    seeds = {line.get_ydata()[0]: sorted(line.get_xdata()) for line in axes.lines if line.get_marker() == "."}
    expected = {0.73: [70, 80, 90], -0.27: [90, 92, 94]}
    assert seeds == {row: pytest.approx(each) for row, each in expected.items()}
    dashed = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert dashed == pytest.approx([98, 85])
    assert {"labels", "teacher"} <= {text.get_text() for text in axes.texts}


def test_attention_maps_under_their_images():
    images = torch.rand(2, 1, 8, 8)
    maps = {"teacher": torch.rand(2, 4, 4), "student": torch.rand(2, 4, 4)}
    figure = drawn(figures.draw_attention, (7, 3.2), images=images, maps=maps, distances={"student": 0.25})
    shown = pictures(figure)
    for picture, wanted in zip(shown, (*images[:, 0], *maps["teacher"], *maps["student"]), strict=True):
        assert_close(picture.float(), wanted)
    assert "0.25" in figure.axes[4].get_ylabel()


def test_the_scheme_has_every_shape_of_both_networks():
    shapes = {
        "teacher": [(16, 8, 8), (16, 8, 8), (32, 4, 4), (64, 2, 2), (10,)],
        "student": [(4, 8, 8), (4, 8, 8), (8, 4, 4), (16, 2, 2), (10,)],
    }
    image = torch.rand(1, 8, 8)
    figure = drawn(figures.draw_scheme, (7, 3.2), image=image, shapes=shapes)
    written = [text.get_text() for text in figure.axes[0].texts]
    for shape in ("16×8×8", "32×4×4", "64×2×2", "4×8×8", "8×4×4", "16×2×2"):
        assert any(text.endswith(f"\n{shape}") for text in written)
    assert torch.equal(torch.as_tensor(figure.axes[0].child_axes[0].images[0].get_array()).float(), image[0])


def test_tokens_count_the_class_and_the_distillation_token():
    figure = drawn(figures.draw_tokens, (7, 2.3), patches=16, width=32)
    written = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "18 tokens of 32 numbers" in written and "patch 16" in written


def test_photographs_with_their_likely_classes():
    photographs = {"wide": torch.rand(3, 10, 16), "high": torch.rand(3, 14, 10)}
    p = torch.tensor([[0.6, 0.3, 0.05, 0.03, 0.02], [0.1, 0.1, 0.15, 0.05, 0.6]])
    names = ["cat", "cup", "dog", "elk", "fox"]
    figure = drawn(figures.draw_photographs, (7, 3.4), photographs=photographs, p=p, names=names)
    wide, high, *below = figure.axes
    for axes, square in ((wide, photographs["wide"][:, :, 3:13]), (high, photographs["high"][:, 2:12])):
        assert_close(torch.as_tensor(axes.images[0].get_array()).float().permute(2, 0, 1), square)
    assert [bar.get_width() for bar in below[0].patches] == pytest.approx([0.6, 0.3, 0.05, 0.03])
    assert below[1].texts[0].get_text() == "fox, 60.0%"


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
