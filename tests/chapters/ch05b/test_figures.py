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
    "photo": ("astronaut", "cat", "coffee", "rocket"),
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
    figure = drawn(figures.draw_similarity, (7, 2), **values)
    given = {"photo": "astronaut", "row": 3, "column": 3, "sharpness": 12} | values
    image = experiments.resize_photo(given["photo"])
    patches = to_patches(image[None], 16)[0]
    keys = F.normalize(patches - patches.mean(0), dim=1)
    query = given["row"] * 16 + given["column"]
    expected = (given["sharpness"] * keys @ keys[query]).softmax(0)
    shown, weights, answer = pictures(figure)
    assert_close(shown.float().movedim(-1, 0), image)
    lit = figures.light(image, expected.view(12, 16))
    assert_close(weights.float().movedim(-1, 0), lit, rtol=1e-3, atol=1e-3)
    output = answer[given["row"] * 16 :, given["column"] * 16 :][:16, :16].float().movedim(-1, 0)
    assert_close(output.flatten(), expected @ patches, rtol=1e-3, atol=1e-3)
    for axes in figure.axes:
        assert axes.patches[0].get_xy() == (given["column"] * 16 - 0.5, given["row"] * 16 - 0.5)


def test_similarity_without_sharpness_is_the_mean_everywhere():
    image, weights, answer = pictures(drawn(figures.draw_similarity, (7, 2), sharpness=0))
    assert_close(weights, image)  # all patches as bright as the brightest
    assert torch.equal(answer[:16, :16], answer[16:32, 32:48])


@pytest.mark.parametrize("values", every_end(SCALE), ids=str)
def test_scale(values):
    figure = drawn(figures.draw_scale, (7, 3.4), **values)
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


def test_interventions_in_groups_above_their_strength():
    stay = {"equal, block 1": [0.1, 0.2, 0.3], "equal, block 3": [1.0, 1.0, 1.0]}
    stay |= {"one token, block 1": [0.4, 0.4, 0.4], "one token, block 3": [0.9, 0.9, 0.9]}
    strengths = dict(zip(stay, (0.9, 0.3, 1.0, 1.0), strict=True))
    figure = drawn(figures.draw_interventions, (7, 2.8), stay=stay, strengths=strengths)
    above, below = figure.axes
    shares, heights = ([bar.get_height() for bar in axes.patches] for axes in (above, below))
    assert shares == pytest.approx([20, 100, 40, 90])
    assert heights == pytest.approx([0.9, 0.3, 1.0, 1.0])
    middles = [bar.get_x() + bar.get_width() / 2 for bar in below.patches]
    assert [round(middle) for middle in middles] == [0, 1, 0, 1] and len(set(middles)) == 4


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


def test_maps_frame_the_true_cell():
    scenes, cells = experiments.hide_digits(digits("test")[0][:3], "right", 0)
    maps = {
        "coarse": torch.rand(3, 6, 6, generator=generator()),
        "fine": torch.rand(3, 12, 12, generator=generator()),
    }
    figure = drawn(figures.draw_maps, (7, 4), images=scenes, cells=cells, maps=maps)
    shown = pictures(figure)
    assert len(shown) == 9
    assert_close(shown[3].float().movedim(-1, 0), figures.light(scenes[0], maps["coarse"][0]))
    for column, cell in enumerate(cells.tolist()):
        for line in (1, 2):
            [frame] = figure.axes[3 * line + column].patches
            assert frame.get_xy() == (cell % 3 * 16 - 0.5, cell // 3 * 16 - 0.5)
            assert frame.get_width() == 16


def test_light_keeps_the_brightest_part_and_darkens_the_rest():
    image, values = torch.rand(3, 4, 6, generator=generator()), torch.tensor([[2.0, 1.0, -1.0], [0, 0, 0]])
    lit = figures.light(image, values)
    assert_close(lit[:, :2, :2], image[:, :2, :2])
    assert_close(lit[:, :2, 2:4], image[:, :2, 2:4] * (1 + figures.DARKEST) / 2)
    assert_close(lit[:, :2, 4:], image[:, :2, 4:] * figures.DARKEST)
    assert_close(figures.light(image, torch.zeros(2, 3)), image * figures.DARKEST)


def test_patches_stand_in_their_order_and_in_the_other():
    photo = torch.rand(3, 32, 48, generator=generator())
    order = torch.tensor([5, 0, 3, 1, 4, 2])
    figure = drawn(figures.draw_patches, (7, 1.9), photo=photo, patch_size=16, order=order)
    whole, apart, other = (shown.float().movedim(-1, 0) for shown in pictures(figure))
    assert_close(whole, photo)
    assert_close(apart[:, :16, 18:34], photo[:, :16, 16:32])  # a gap of two pixels
    assert_close(other[:, :16, :16], photo[:, 16:, 32:])


@pytest.mark.parametrize(("tokens", "width", "heads"), [(7, 12, 3), (197, 768, 12)])
def test_a_head_with_its_shapes(tokens, width, heads):
    figure = drawn(figures.draw_head, (7.5, 2.7), tokens=tokens, width=width, heads=heads)
    boxes = [text.get_text().splitlines() for text in figure.axes[0].texts]
    shapes = [box[-1] for box in boxes]
    assert len(figure.axes[0].patches) == 10  # arrows
    assert shapes.count(f"{tokens}×{width // heads}") == 4  # queries, keys, values, output of the head
    assert shapes.count(f"{tokens}×{tokens}") == 2 and shapes.count(f"{tokens}×{width}") == 3


def test_a_vit_with_its_shapes():
    figure = drawn(
        partial(figures.draw_vit, side=224, patch=16, channels=3, width=768, depth=12, classes=1000),
        (7.5, 2.8),
    )
    above, below = ([text.get_text() for text in axes.texts] for axes in figure.axes)
    assert "196×768" in above and "197×768" in above and "3×224×224" in above and "1000 logits" in above
    assert below.count("residual connection") == 2 and below.count("197×3072") == 2
    assert below.index("LN") < below.index("multi-head\nattention")  # pre-LN


def test_words_light_up_their_patches():
    image = torch.rand(3, 24, 24, generator=generator())
    rows = torch.rand(2, 9, generator=generator())
    figure = drawn(figures.draw_words, (7.5, 1.8), image=image, words=["a", "red"], attention_weights=rows)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["image", "“a”", "“red”"]
    _, _, red = pictures(figure)
    assert_close(red.float().movedim(-1, 0), figures.light(image, rows[1].view(3, 3)))


@pytest.mark.parametrize("values", every_end(HEADS), ids=str)
def test_heads(values):
    torch.manual_seed(0)
    net = VisionTransformer(9, 3, 10, 3, width=8, depth=2, heads=4).requires_grad_(False)
    images = torch.rand(20, 3, 9, 9, generator=generator())
    weights = experiments.randomize_parameters(net).attention_weights(images)
    figure = drawn(figures.draw_heads, (7, 2.7), images=images, attention_weights=weights, **values)
    given = {"image": 0, "block": 0, "head": 0, "query": 0} | values
    rows = weights[given["block"]][:, given["head"], given["query"]]
    shown, here, mean = pictures(figure)
    assert_close(shown.float().movedim(-1, 0), images[given["image"]])
    lit = figures.light(images[given["image"]], rows[given["image"], 1:].view(3, 3))
    assert_close(here.float().movedim(-1, 0), lit)
    row = rows.mean(0)[1:]
    assert_close(mean.float().flatten(), row / row.max())
    assert figure.axes[1].get_xlabel() == f"on the class token: {rows[given['image'], 0]:.0%}"
    frames = [axes.patches for axes in figure.axes]
    if given["query"] == 0:
        assert not any(map(len, frames))
    else:
        patch = given["query"] - 1
        assert frames[0][0].get_xy() == (patch % 3 * 3 - 0.5, patch // 3 * 3 - 0.5)
        assert frames[1][0].get_xy() == frames[0][0].get_xy()
        assert frames[2][0].get_xy() == (patch % 3 - 0.5, patch // 3 - 0.5)
        assert frames[1][0].get_edgecolor()[:3] == pytest.approx([0xD5 / 255, 0x5E / 255, 0], abs=1e-2), (
            plot.ORANGE
        )
