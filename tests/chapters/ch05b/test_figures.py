"""The drawings of chapter 5b at the default and both ends of each control that its notebook offers."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from tests.support.drawings import drawn, every_end, pictures
from vlmbook import plot
from vlmbook.attention import VisionTransformer, attention, to_patches
from vlmbook.chapters.ch05b import figures
from vlmbook.data import digits

SIMILARITY = {
    "photo": ("coffee", "astronaut", "cat", "rocket"),
    "row": (0, 11),
    "column": (0, 15),
    "sharpness": (0, 40),
}
SCALE = {"d": (4, 64, 1024), "scaled": (True, False)}
HEADS = {"image": (0, 19), "block": (0, 1), "head": (0, 3), "query": (0, 1, 9)}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("values", every_end(SIMILARITY), ids=str)
def test_similarity(values):
    figure = drawn(figures.draw_similarity, (7, 2.2), **values)
    given = {"photo": "coffee", "row": 9, "column": 4, "sharpness": 15} | values
    image = figures.resized(given["photo"])
    patches = to_patches(image[None], 16)[0]
    keys = F.normalize(patches - patches.mean(0), dim=1)
    query = given["row"] * 16 + given["column"]
    want = (given["sharpness"] * keys @ keys[query]).softmax(0)
    shown, weights, answer = pictures(figure)
    assert_close(shown.float().movedim(-1, 0), image)
    assert_close(weights.float().flatten(), want / want.max(), rtol=1e-3, atol=1e-5)
    there = answer[given["row"] * 16 :, given["column"] * 16 :][:16, :16].float().movedim(-1, 0)
    assert_close(there.flatten(), want @ patches, rtol=1e-3, atol=1e-3)
    for axes, size in zip(figure.axes, (16, 1, 16), strict=True):
        assert axes.patches[0].get_xy() == (given["column"] * size - 0.5, given["row"] * size - 0.5)


def test_similarity_without_sharpness_is_the_mean_everywhere():
    _, weights, answer = pictures(drawn(figures.draw_similarity, (7, 2.2), sharpness=0))
    assert weights.min() == weights.max() and torch.equal(answer[:16, :16], answer[16:32, 32:48])


@pytest.mark.parametrize("values", every_end(SCALE), ids=str)
def test_scale(values):
    figure = drawn(figures.draw_scale, (7, 2.5), **values)
    given = {"d": 64, "scaled": True} | values
    left, right = figure.axes
    spread = float(left.get_title(loc="left").split()[-1])
    assert 0.9 < spread / (1 if given["scaled"] else given["d"] ** 0.5) < 1.1
    heights = torch.tensor([float(bar.get_height()) for bar in right.patches])
    assert len(heights) == 16
    assert_close(heights.sum(), torch.tensor(1.0))
    slope = float(right.get_title(loc="left").split()[1].strip(","))
    assert (0.04 < slope < 0.06) if given["scaled"] else slope < {4: 0.05, 64: 0.02, 1024: 0.005}[given["d"]]


def test_cost():
    kept = {"formula": [1e6, 4e6, 16e6], "fused": [1e6, 2e6, 4e6]}
    figure = drawn(
        figures.draw_cost,
        (7, 2.5),
        tokens=[128, 256, 512],
        kept=kept,
        seconds={"formula": [1e-3, 4e-3, 2e-2], "fused": [1e-3, 3e-3, 1e-2]},
    )
    left, right = figure.axes
    assert list(right.lines[0].get_ydata()) == pytest.approx([1, 4, 16]) and left.lines[0].get_ydata()[1] == 4
    assert list(right.lines[1].get_ydata()) == pytest.approx([1, 2, 4])


@pytest.mark.parametrize("sizes", [(1437,), (150, 1437), (150, 300, 700, 1437)])
def test_learners(sizes):
    shares = {
        n: {"ViT": torch.tensor([0.8, 0.9, 0.7]), "CNN": torch.tensor([0.95, 0.95, 0.98])} for n in sizes
    }
    figure = drawn(figures.draw_learners, (7, 1.7), shares=shares)
    assert len(figure.axes) == len(sizes)
    for axes in figure.axes:
        assert_close(torch.as_tensor(axes.lines[0].get_xdata()).float(), torch.tensor([20.0, 4.0]))


def test_losses_are_means_of_ten_steps():
    losses = {"a": torch.linspace(2, 0.1, 57).tolist(), "b": torch.linspace(3, 1, 30).tolist()}
    [axes] = drawn(partial(figures.draw_losses, losses=losses), (7, 1.8)).axes
    assert [line.get_label() for line in axes.lines] == ["a", "b"]
    assert list(axes.lines[0].get_xdata()) == [10, 20, 30, 40, 50] and len(axes.lines[1].get_xdata()) == 3
    assert_close(torch.as_tensor(axes.lines[0].get_ydata()[0]).float(), torch.tensor(losses["a"][:10]).mean())


def test_looks_frame_the_true_ninth():
    scenes, cells = figures.hide(digits("test")[0][:3], (0, 100), 0)
    maps = {
        "coarse": torch.rand(3, 6, 6, generator=generator()),
        "fine": torch.rand(3, 12, 12, generator=generator()),
    }
    figure = drawn(figures.draw_looks, (4, 4), images=scenes, cells=cells, maps=maps)
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
    weights = figures.loud(net).attention(images)
    figure = drawn(figures.draw_heads, (7, 3.0), images=images, weights=weights, **values)
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
        place = given["query"] - 1
        assert frames[0][0].get_xy() == (place % 3 * 3 - 0.5, place // 3 * 3 - 0.5)
        assert frames[1][0].get_xy() == (place % 3 - 0.5, place // 3 - 0.5)
        assert frames[1][0].get_edgecolor()[:3] == pytest.approx([0xD5 / 255, 0x5E / 255, 0], abs=1e-2), (
            plot.ORANGE
        )


def test_a_hidden_digit_lies_in_its_cell_and_the_rest_is_texture():
    few = digits("test")[0][:40]
    scenes, cells = figures.hide(few, (0, 168), 1)
    assert scenes.shape == (40, 1, 24, 24) and set(cells.tolist()) == set(range(9))
    empty, _ = figures.hide(torch.zeros_like(few), (0, 168), 1)
    for scene, ground, cell, digit in zip(scenes[:, 0], empty[:, 0], cells.tolist(), few[:, 0], strict=True):
        inside = torch.zeros(24, 24, dtype=torch.bool)
        inside[cell // 3 * 8 :, cell % 3 * 8 :][:8, :8] = True
        assert torch.equal(scene[~inside], ground[~inside])
        assert_close(scene[inside].view(8, 8), torch.maximum(ground[inside].view(8, 8), digit))
    again, _ = figures.hide(few, (0, 168), 1)
    other, _ = figures.hide(few, (0, 168), 2)
    assert torch.equal(again, scenes) and not torch.equal(other, scenes)


def test_inside_is_the_share_of_the_true_ninth():
    maps, cells = torch.ones(4, 6, 6), torch.tensor([0, 4, 8, 2, 7])
    assert figures.inside(maps, cells) == pytest.approx(1 / 9)
    maps = torch.zeros(2, 6, 6)
    maps[0, 0, 1], maps[1, 2, 3], maps[1, 5, 5] = 3, 1, 3
    assert figures.inside(maps, cells) == pytest.approx((1 + 1 / 4) / 2)


def test_shuffled_patches_are_whole_and_all_there():
    x, order = torch.rand(2, 3, 4, 6, generator=generator()), torch.tensor([2, 0, 1, 5, 4, 3])
    assert_close(to_patches(figures.shuffled(x, order, 2), 2), to_patches(x, 2)[:, order])
    assert torch.equal(figures.shuffled(x, torch.arange(6), 2), x)


def test_kept_counts_each_storage_once():
    x, y = (torch.randn(10, 10, requires_grad=True) for _ in range(2))
    assert figures.kept(lambda x, y: x * y, x, y) == 2 * 400
    assert figures.kept(lambda x: x * x, x) == 400
    assert figures.kept(lambda x: x.exp().exp(), x) == 2 * 400  # each keeps its result
    assert figures.kept(lambda x: x + 1, x) == 0
    q = torch.randn(64, 4, requires_grad=True)
    assert figures.kept(lambda q: attention(q, q, q)[0], q) > 64 * 64 * 4


def test_a_loud_network_says_something():
    torch.manual_seed(1)
    net = figures.loud(VisionTransformer(4, 2, 3, 1, width=8, depth=1, heads=2))
    x = torch.rand(2, 1, 4, 4, generator=generator())
    assert net(x).std(1).min() > 0.05 and all(p.requires_grad for p in net.parameters())
