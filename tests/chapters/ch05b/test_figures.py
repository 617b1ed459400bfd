"""The drawings of chapter 5b at the default and both ends of each control that its notebook offers."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from tests.support.drawings import drawn, every_end, pictures
from vlmbook import plot
from vlmbook.attention import VisionTransformer, to_patches
from vlmbook.chapters.ch05b import experiments, figures
from vlmbook.data import digits

SIMILARITY = {
    "photo": ("coffee", "astronaut", "cat", "rocket"),
    "row": (0, 11),
    "column": (0, 15),
    "sharpness": (0, 40),
}
SCALE = {"d": (4, 64, 1024)}
HEADS = {"image": (0, 19), "block": (0, 1), "head": (0, 3), "query": (0, 1, 9)}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("values", every_end(SIMILARITY), ids=str)
def test_similarity(values):
    figure = drawn(figures.draw_similarity, (7, 2.2), **values)
    given = {"photo": "coffee", "row": 9, "column": 4, "sharpness": 15} | values
    image = experiments.resize_photo(given["photo"])
    patches = to_patches(image[None], 16)[0]
    keys = F.normalize(patches - patches.mean(0), dim=1)
    query = given["row"] * 16 + given["column"]
    expected = (given["sharpness"] * keys @ keys[query]).softmax(0)
    shown, weights, answer = pictures(figure)
    assert_close(shown.float().movedim(-1, 0), image)
    assert_close(weights.float().flatten(), expected / expected.max(), rtol=1e-3, atol=1e-5)
    output = answer[given["row"] * 16 :, given["column"] * 16 :][:16, :16].float().movedim(-1, 0)
    assert_close(output.flatten(), expected @ patches, rtol=1e-3, atol=1e-3)
    for axes, size in zip(figure.axes, (16, 1, 16), strict=True):
        assert axes.patches[0].get_xy() == (given["column"] * size - 0.5, given["row"] * size - 0.5)


def test_similarity_without_sharpness_is_the_mean_everywhere():
    _, weights, answer = pictures(drawn(figures.draw_similarity, (7, 2.2), sharpness=0))
    assert weights.min() == weights.max() and torch.equal(answer[:16, :16], answer[16:32, 32:48])


@pytest.mark.parametrize("values", every_end(SCALE), ids=str)
def test_scale(values):
    figure = drawn(figures.draw_scale, (7, 4), **values)
    d = ({"d": 64} | values)["d"]
    plain, plain_weights, scaled, scaled_weights = figure.axes
    spreads = [float(axes.get_title(loc="left").split()[-1]) for axes in (plain, scaled)]
    assert 0.9 < spreads[0] / d**0.5 < 1.1
    assert 0.9 < spreads[1] < 1.1
    slopes = [float(axes.get_title(loc="left").split()[-1]) for axes in (plain_weights, scaled_weights)]
    assert slopes[0] < {4: 0.05, 64: 0.02, 1024: 0.005}[d]
    assert 0.04 < slopes[1] < 0.06
    for axes in (plain_weights, scaled_weights):
        heights = torch.tensor([float(bar.get_height()) for bar in axes.patches])
        assert len(heights) == 16
        assert_close(heights.sum(), torch.tensor(1.0))
    assert plain.get_xlim() == scaled.get_xlim()


def test_interventions_beside_their_strength():
    stay = {"equal, block 1": [0.1, 0.2, 0.3], "equal, block 3": [1.0, 1.0, 1.0]}
    strengths = {"equal, block 1": 0.9, "equal, block 3": 0.3}
    figure = drawn(figures.draw_interventions, (7, 2.4), stay=stay, strengths=strengths)
    left, right = figure.axes
    assert left.lines[0].get_xdata().tolist() == pytest.approx([20, 100])
    assert [label.get_text() for label in left.get_yticklabels()] == list(stay)
    bars = {bar.get_y() + bar.get_height() / 2: bar.get_width() for bar in right.patches}
    assert bars == pytest.approx({1: 0.9, 0: 0.3})


def test_cost():
    saved_bytes = {"formula": [1e6, 4e6, 16e6], "fused": [1e6, 2e6, 4e6]}
    figure = drawn(
        figures.draw_cost,
        (7, 2.5),
        tokens=[128, 256, 512],
        saved_bytes=saved_bytes,
        seconds={"formula": [1e-3, 4e-3, 2e-2], "fused": [1e-3, 3e-3, 1e-2]},
    )
    left, right = figure.axes
    assert list(right.lines[0].get_ydata()) == pytest.approx([1, 4, 16]) and left.lines[0].get_ydata()[1] == 4
    assert list(right.lines[1].get_ydata()) == pytest.approx([1, 2, 4])


@pytest.mark.parametrize("sizes", [(1437,), (150, 1437), (150, 300, 700, 1437)])
def test_error_rates(sizes):
    accuracies = {
        n: {"ViT": torch.tensor([0.8, 0.9, 0.7]), "CNN": torch.tensor([0.95, 0.95, 0.98])} for n in sizes
    }
    figure = drawn(figures.draw_error_rates, (7, 1.7), accuracies=accuracies)
    assert len(figure.axes) == len(sizes)
    for axes in figure.axes:
        assert_close(torch.as_tensor(axes.lines[0].get_xdata()).float(), torch.tensor([20.0, 4.0]))


def test_losses_are_means_of_ten_steps():
    losses = {"a": torch.linspace(2, 0.1, 57).tolist(), "b": torch.linspace(3, 1, 30).tolist()}
    [axes] = drawn(partial(figures.draw_losses, losses=losses), (7, 1.8)).axes
    assert [line.get_label() for line in axes.lines] == ["a", "b"]
    assert list(axes.lines[0].get_xdata()) == [10, 20, 30, 40, 50] and len(axes.lines[1].get_xdata()) == 3
    assert_close(torch.as_tensor(axes.lines[0].get_ydata()[0]).float(), torch.tensor(losses["a"][:10]).mean())


def test_maps_frame_the_true_cell():
    scenes, cells = experiments.hide_digits(digits("test")[0][:3], (0, 100), 0)
    maps = {
        "coarse": torch.rand(3, 6, 6, generator=generator()),
        "fine": torch.rand(3, 12, 12, generator=generator()),
    }
    figure = drawn(figures.draw_maps, (4, 4), images=scenes, cells=cells, maps=maps)
    shown = pictures(figure)
    assert len(shown) == 9
    assert_close(shown[3].float(), maps["coarse"][0] / maps["coarse"][0].max())
    for column, cell in enumerate(cells.tolist()):
        for line, size in ((1, 2), (2, 4)):
            [frame] = figure.axes[3 * line + column].patches
            assert (
                frame.get_xy() == (cell % 3 * size - 0.5, cell // 3 * size - 0.5)
                and frame.get_width() == size
            )


@pytest.mark.parametrize("values", every_end(HEADS), ids=str)
def test_heads(values):
    torch.manual_seed(0)
    net = VisionTransformer(9, 3, 10, 1, width=8, depth=2, heads=4).requires_grad_(False)
    images = torch.rand(20, 1, 9, 9, generator=generator())
    weights = experiments.randomize_parameters(net).attention_weights(images)
    figure = drawn(figures.draw_heads, (7, 3.0), images=images, attention_weights=weights, **values)
    given = {"image": 0, "block": 0, "head": 0, "query": 0} | values
    rows = weights[given["block"]][:, given["head"], given["query"]]
    shown, here, mean = pictures(figure)
    assert_close(shown.float(), images[given["image"], 0])
    for picture, row in ((here, rows[given["image"]]), (mean, rows.mean(0))):
        assert_close(picture.float().flatten(), row[1:] / row[1:].max())
    assert figure.axes[1].get_xlabel() == f"on the class token: {rows[given['image'], 0]:.0%}"
    frames = [axes.patches for axes in figure.axes]
    if given["query"] == 0:
        assert not any(map(len, frames))
    else:
        patch = given["query"] - 1
        assert frames[0][0].get_xy() == (patch % 3 * 3 - 0.5, patch // 3 * 3 - 0.5)
        assert frames[1][0].get_xy() == (patch % 3 - 0.5, patch // 3 - 0.5)
        assert frames[1][0].get_edgecolor()[:3] == pytest.approx([0xD5 / 255, 0x5E / 255, 0], abs=1e-2), (
            plot.ORANGE
        )
