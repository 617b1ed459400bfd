"""The drawings of chapter 6b at the default and both ends of each control that its notebook offers."""

from itertools import chain

import pytest
import torch

from tests.support.drawings import drawn, every_end, pictures
from vlmbook import data, editing
from vlmbook.chapters.ch06b import experiments, figures


@pytest.fixture(scope="module")
def cup():
    return data.photo("coffee")[:, 100:196, 200:296]


def test_a_chain_has_a_panel_for_each_image_and_an_arrow_between(cup):
    images = {"x": cup, "y": experiments.shrink(cup)}
    figure = drawn(figures.draw_chain, (7, 2), images=images, steps=["halve"])
    assert [picture.shape[:2] for picture in pictures(figure)] == [(96, 96), (48, 48)]
    assert len(figure.artists) == 1


def test_the_shuffle_shows_each_number_once_on_each_side():
    maps = torch.arange(16.0).view(4, 2, 2)
    shuffled = torch.nn.functional.pixel_shuffle(maps[None], 2)[0, 0]
    figure = drawn(figures.draw_shuffle, (7, 2), maps=maps, shuffled=shuffled)
    *left, right = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert sorted(chain(*left)) == sorted(right)
    colours = {patch.get_xy(): patch.get_facecolor() for patch in figure.axes[4].patches}
    assert colours[(0, 0)] == figure.axes[0].patches[0].get_facecolor()
    assert colours[(1, 0)] == figure.axes[1].patches[0].get_facecolor()
    assert colours[(0, 1)] == figure.axes[2].patches[0].get_facecolor()


def test_a_network_has_a_box_a_part_and_a_line_a_shortcut():
    parts = [("in", "1"), ("conv", "2"), ("out", "3")]
    figure = drawn(figures.draw_network, (6, 2), parts=parts, arcs=[(0, 2, "shortcut")])
    [axes] = figure.axes
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["in", "1", "conv", "2", "out", "3", "shortcut"]
    assert list(axes.lines[0].get_xdata()) == [0, 0, 2]


def test_the_zoom_cuts_the_same_part_of_images_of_all_sizes(cup):
    images = {"small": experiments.shrink(cup), "original": cup}
    for left, top in ((0, 0), (48, 40)):
        figure = drawn(figures.draw_zoom, (7, 2), whole=cup, images=images, box=(left, top, 48))
        _, small, original = pictures(figure)
        assert small.shape[:2] == (24, 24)
        want = cup[:, top : top + 48, left : left + 48].permute(1, 2, 0)
        assert torch.equal(torch.as_tensor(original), want)


def test_differences_show_mean_and_standard_error():
    figure = drawn(
        figures.draw_differences, (5, 2), differences={"a": [1.0, 3.0], "b": [-1.0, -2.0]}, xlabel="dB"
    )
    [axes] = figure.axes
    means = [container.lines[0].get_xdata()[0] for container in axes.containers]
    assert means == [2.0, -1.5]
    low, high = axes.containers[0].lines[2][0].get_segments()[0][:, 0]
    assert (low, high) == pytest.approx((1.0, 3.0))


def test_a_hole_is_filled_at_every_end_of_the_controls(cup):
    network = editing.inpainter()
    for values in every_end({"brush": (0.02, 0.05, 0.2), "seed": (0, 1, 9)}):
        figure = drawn(figures.draw_hole, (7, 2), photograph=cup, network=network, **values)
        holed, biharmonic, learned, original, *zoomed = map(torch.as_tensor, pictures(figure))
        assert [image.shape[:2] for image in zoomed] == [(48, 48)] * 4
        known = (holed == original).all(2)
        assert 0 < (~known).float().mean() < 0.9
        assert torch.equal(learned[known], original[known])
        assert not torch.equal(biharmonic, learned)


def test_styles_stand_over_photographs_and_results(cup):
    wide = torch.cat([cup, cup], dim=2)
    columns = [("a", cup, wide, 1 - cup), ("b", 1 - cup, cup, wide)]
    shown = pictures(drawn(figures.draw_styles, (6, 6), columns=columns))
    assert [picture.shape[:2] for picture in shown] == [(96, 96)] * 6
    assert torch.equal(torch.as_tensor(shown[4]), (1 - cup).permute(1, 2, 0))  # third row, first column


@pytest.mark.parametrize("kind", ["brighter", "blur", "noise", "JPEG"])
def test_a_stronger_distortion_is_further_away(cup, kind):
    far = [editing.psnr(figures.spoil(cup, kind, strength), cup) for strength in (0.1, 0.5, 1.0)]
    assert far == sorted(far, reverse=True)
    for strength in (0.0, 0.3, 1.0):
        figure = drawn(figures.draw_distortion, (7, 2), image=cup, measure=None, kind=kind, strength=strength)
        assert len(pictures(figure)) == 2


def test_severities_discriminators_slants_and_bars_draw_their_data(cup):
    table = experiments.sweep_severity(cup, None)
    figure = drawn(figures.draw_severities, (7, 2), table=table)
    assert [len(axes.lines) for axes in figure.axes] == [3, 3]
    found = {"steps": [0, 5], "generator's loss": [[0.7, 1.0]], "discriminator's loss": [[1.4, 1.1]]}
    [axes] = drawn(figures.draw_discriminators, (5, 2), found=found).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[0.7, 1.0], [1.4, 1.1]]
    angles = {"upright": torch.zeros(10), "turned": torch.linspace(-40, 40, 10)}
    samples = {name: torch.rand(9, 1, 8, 8) for name in angles}
    figure = drawn(figures.draw_slants, (7, 2), angles=angles, samples=samples)
    assert pictures(figure)[0].shape[:2] == (8, 64)


def test_a_gram_figure_has_both_orders():
    features = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
    figure = drawn(figures.draw_gram, (6, 2), features=features, gram=features @ features.T / 2, order=[1, 0])
    left, _, right = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert left[:4] == ["2", "0", "1", "1"] and right[:4] == ["0", "2", "1", "1"]
    assert left[-2:] == ["pixel 0", "pixel 1"] and right[-2:] == ["pixel 1", "pixel 0"]


def test_clothes_and_the_result_show_before_and_after(cup):
    sheets = {0.0: torch.zeros(5, 1, 28, 28), 1.5: torch.ones(5, 1, 28, 28)}
    sheets[0.0][0, 0, 0, 0] = 1
    sheets[1.5][0, 0, 0, 0] = 0
    before, after = pictures(drawn(figures.draw_clothes, (7, 2), sheets=sheets))
    assert before.shape[:2] == after.shape[:2] == (28, 140) and before.mean() < 0.1 < 0.9 < after.mean()
    figure = drawn(figures.draw_result, (7, 3), pairs={"a": (cup, 1 - cup), "b": (1 - cup, cup)})
    assert torch.equal(torch.as_tensor(pictures(figure)[1]), (1 - cup).permute(1, 2, 0))
