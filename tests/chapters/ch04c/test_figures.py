"""The drawings of chapter 4c at the default and both ends of each control that its notebook offers."""

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from tests.support.drawings import drawn, every_end, pictures
from vlmbook.chapters.ch04c import figures
from vlmbook.chapters.ch04c.experiments import amplify_weights, take_prefix
from vlmbook.gpt import GPT, generate, to_images, to_tokens

SAMPLING = {"label": (0, 9), "temperature": (0.2, 1.0, 2.0), "top_k": (1, 3, 17), "top_p": (0.1, 1.0)}
COMPLETION = {"image": (0, 19), "rows": (0, 4, 8), "given": ("true class", 0, 9)}
ATTENTION = {"image": (0, 9), "pixel": (1, 37, 64), "block": (0, 1), "head": (0, 3)}


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return amplify_weights(GPT(17, 64, 10, width=8, depth=2).eval())


def scene(n=20):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(17, (n, 1, 8, 8), generator=generator) / 16, torch.arange(n) % 10


def classify(x):
    """(B, 1, H, W) -> (B, 10): logits of a class that is the mean brightness."""
    return -(torch.arange(10) - 10 * x.mean((1, 2, 3))[:, None]).abs()


def test_reach_tells_what_may_be_from_what_may_not():
    right = torch.ones(6, 6).tril(-1).bool()
    figure = drawn(figures.draw_reach, (7, 2.5), reach={"ours": right, "ahead": right | torch.eye(6).bool()})
    ours, leaking = pictures(figure)
    assert_close(ours[5, 0].float(), torch.tensor([0.0, 0.45, 0.7]))
    assert torch.equal(ours[0, 5], ours[2, 2]) and not torch.equal(leaking[2, 2], ours[2, 2])
    assert not torch.equal(leaking[2, 2], leaking[2, 1])


def test_inputs_are_shifted_by_one_position():
    figure = drawn(figures.draw_shift, (7, 1.5), tokens=[0, 5, 13, 9], label=3, target=2)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.index("class 3") < texts.index("x₁ = 0") < texts.index("x₂ = 5")
    assert "x₄ = 9" in texts and texts.count("x₄ = 9") == 1 and texts.count("x₃ = 13") == 2
    filled = [patch for patch in figure.axes[0].patches if patch.get_facecolor()[:3] != (1, 1, 1)]
    assert len(filled) == 3  # the class and x₁ are seen, x₂ is the target


@pytest.mark.parametrize(("number", "text"), [(1, "₁"), (12, "₁₂"), (305, "₃₀₅")])
def test_a_number_as_a_subscript(number, text):
    assert figures.subscript(number) == text


def test_the_network_with_its_shapes():
    figure = drawn(figures.draw_network, (7, 3.2), vocabulary=16, context=784, width=64, depth=3, heads=4)
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert [name for name in texts[0] if name.startswith("block")] == ["block 1", "block 2", "block 3"]
    assert "784×16\nlogits" in texts[0] and "4 heads of 784×16" in texts[1]
    assert texts[1].count("shortcut") == 2


@pytest.mark.parametrize("evaluations", [[{"nats": n} for n in (1.9, 1.5, 1.2)], []], ids=["with", "without"])
def test_learning_with_the_lines_to_beat(evaluations):
    history = SimpleNamespace(losses=[2 - step / 100 for step in range(90)], evaluations=evaluations)
    figure = drawn(
        figures.draw_learning, (7, 2.5), history=history, costs={"histogram": 1.7, "Gaussian": 1.6}
    )
    training, *rest = figure.axes[0].lines
    assert training.get_ydata()[0] == pytest.approx(sum(history.losses[:3]) / 3)
    assert len(rest) == 2 + bool(evaluations)
    if evaluations:
        assert rest[0].get_xdata().tolist() == [30, 60, 90]


def test_a_leak_in_training_and_in_generation():
    losses = {"right": [[2.0] * 60, [1.9] * 60], "ahead": [[1.0] * 60, [0.9] * 60]}
    costs = {
        "right": {"training": [1.5, 1.6], "generation": [1.5, 1.6]},
        "ahead": {"training": [0.1, 0.2], "generation": [6.0, 7.0]},
    }
    left, right = drawn(figures.draw_leak, (7, 2.5), losses=losses, costs=costs).axes
    assert len(left.lines) == 4 and left.lines[3].get_ydata()[0] == pytest.approx(0.9)
    heights = [line.get_ydata() for line in right.lines]
    assert [list(each) for each in heights] == [[1.5, 1.6], [1.5, 1.6], [0.1, 0.2], [6.0, 7.0]]


def test_a_probe_for_several_numbers_of_labels():
    accuracies = {"pixels": {30: [0.6, 0.8], 100: [0.9, 0.9]}, "GPT": {30: [0.4, 0.5], 100: [0.7, 0.7]}}
    axes = drawn(figures.draw_probe, (7, 2.2), accuracies=accuracies).axes[0]
    assert axes.containers[0].lines[0].get_ydata() == pytest.approx([0.7, 0.9])
    assert axes.get_xticks().tolist() == [30, 100]


def test_dials_stand_side_by_side():
    measurements = {
        "precision": {"cold": [0.5, 0.7], "hot": [0.1, 0.3]},
        "frechet": {"cold": [3, 5], "hot": [8, 8]},
    }
    figure = drawn(figures.draw_dials, (7, 2.4), measurements=measurements)
    assert [axes.get_xlabel() for axes in figure.axes] == ["precision", "Fréchet"]


def test_rows_of_samples():
    images, _ = scene(10)
    figure = drawn(figures.draw_samples, (9, 2.2), rows={"real": images, "histogram": 1 - images})
    real, histogram = pictures(figure)
    assert real.shape == (9, 90)
    assert torch.equal(histogram[:8, 27:35].float(), 1 - images[3, 0])


def test_classes_stand_in_columns():
    images, _ = scene(20)
    sheet = images.view(10, 2, 1, 8, 8)
    [shown] = pictures(drawn(figures.draw_classes, (7, 3), samples=sheet, names=list("abcdefghij")))
    assert torch.equal(shown[9:17, 36:44].float(), sheet[4, 1, 0])


@pytest.mark.parametrize("values", every_end(SAMPLING), ids=str)
def test_sampling(values):
    net, (images, _) = network(), scene()
    prefix = take_prefix(images[0], 37, 17)
    figure = drawn(figures.draw_sampling, (7, 2.8), model=net, prefix=prefix, size=(8, 8), **values)
    given = {"label": 0, "temperature": 0.5, "top_k": 17, "top_p": 1.0} | values
    label = given.pop("label")
    bars = figure.axes[0].patches
    heights = torch.tensor([float(bar.get_height()) for bar in bars]).view(2, 17)
    assert_close(heights.sum(1), torch.ones(2))
    left = int((heights[1] > 0).sum())
    assert left <= given["top_k"] and figure.axes[0].get_title(loc="left") == f"{left} levels left"
    want = generate(net, torch.full((8,), label), generator=torch.Generator().manual_seed(0), **given)
    [shown] = pictures(figure)
    tiles = [
        shown[9 * row : 9 * row + 8, 9 * column : 9 * column + 8] for row in range(2) for column in range(4)
    ]
    assert_close(torch.stack(tiles).float(), to_images(want, 17, (8, 8))[:, 0])


def test_sampling_starts_at_what_was_learned():
    figure = drawn(
        partial(figures.draw_sampling, temperature=1.0),
        (7, 2.8),
        model=network(),
        prefix=torch.zeros(5, dtype=torch.long),
        size=(8, 8),
    )
    heights = torch.tensor([float(bar.get_height()) for bar in figure.axes[0].patches]).view(2, 17)
    assert_close(heights[0], heights[1])


@pytest.mark.parametrize("values", every_end(COMPLETION), ids=str)
def test_completion(values):
    net, (images, labels) = network(), scene()
    figure = drawn(
        figures.draw_completion,
        (7, 1.7),
        model=net,
        classifier=classify,
        images=images,
        labels=labels,
        **values,
    )
    chosen = {"image": 0, "rows": 4, "given": "true class"} | values
    true, rows = images[chosen["image"], 0], chosen["rows"]
    shown = pictures(figure)
    assert torch.equal(shown[0].float(), true)
    assert torch.equal(shown[1][:rows].float(), true[:rows, :, None].expand(-1, -1, 3))
    assert all(torch.equal(end[:rows].float(), true[:rows]) for end in shown[2:])
    assert rows == 8 or not torch.equal(shown[2], shown[3])
    given = labels[chosen["image"]].item() if chosen["given"] == "true class" else chosen["given"]
    assert figure.axes[1].get_title(loc="left") == f"class {given}"
    assert figure.axes[0].get_xlabel() == f"predicted: {classify(true[None, None]).argmax().item()}"


@pytest.mark.parametrize("values", every_end(ATTENTION), ids=str)
def test_attention(values):
    net, (images, labels) = network(), scene()
    attention_weights = net.attention_weights(to_tokens(images, 17), labels)
    figure = drawn(
        figures.draw_attention, (7, 2.7), images=images, attention_weights=attention_weights, **values
    )
    given = {"image": 0, "pixel": 37, "block": 0, "head": 0} | values
    row = attention_weights[given["block"]][given["image"], given["head"], given["pixel"] - 1]
    shown = pictures(figure)[1].flatten()
    assert shown[given["pixel"] - 1 :].max() == 0  # neither itself nor what comes after it
    seen = row[1 : given["pixel"]]
    if len(seen):
        assert_close(shown[: len(seen)].float(), (seen / seen.max()).float())
    assert figure.axes[1].get_xlabel() == f"on the class: {row[0]:.0%}"
    assert math.isclose(row.sum().item(), 1, abs_tol=1e-5)
