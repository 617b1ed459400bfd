"""The drawings of appendix C at the default and both ends of each control that its notebook offers."""

import numpy as np
import pytest
import torch

from tests.support.drawings import drawn, every_end, pictures
from vlmbook.chapters.appendix_c import experiments, figures

IMAGE = experiments.photograph("cat")[:120, :160]
LIBRARIES = experiments.libraries()


def test_the_layouts_hold_six_of_each_channel():
    figure = drawn(figures.draw_layouts, (5.5, 2.1))
    letters = [text.get_text() for text in figure.axes[0].texts if text.get_text() in "RGB"]
    assert {letter: letters.count(letter) for letter in "RGB"} == dict.fromkeys("RGB", 18)
    assert letters[:3] == ["R", "G", "B"] and letters[18:21] == ["B", "G", "R"]
    assert letters[36:42] == ["R"] * 6


def test_the_samples_lie_on_both_waves():
    [axes] = drawn(figures.draw_sampled_wave, (5.5, 2.1)).axes
    fast, slow, samples = axes.lines
    at, values = samples.get_data()
    for wave in (fast, slow):
        np.testing.assert_allclose(np.interp(at, *wave.get_data()), values, atol=0.01)
    assert "1" in slow.get_label()


def test_centres_are_those_of_the_formula():
    [axes] = drawn(figures.draw_centres, (5.5, 1.7)).axes
    areas, corners = (line.get_xdata() for line in axes.lines)
    assert areas[:2].tolist() == [-0.25, 0.25] and corners[[0, -1]].tolist() == [0, 3]


def test_pictures_are_shown_as_they_are():
    drawn(figures.draw_pair, (5.2, 2), pictures={"one": IMAGE, "two": IMAGE[..., ::-1]})
    small = {name: experiments.apply("shrink", name, IMAGE, "own", 4) for name in LIBRARIES}
    figure = drawn(figures.draw_shrunk, (5.5, 1.7), pictures=small, contrasts=dict.fromkeys(small, 12.3))
    assert len(figure.axes) == len(LIBRARIES)
    assert all(axes.get_xlabel() == "contrast 12" for axes in figure.axes)


def test_differences_stand_in_their_cells():
    row = {name: (float(place), 9.0) for place, name in enumerate(LIBRARIES)}
    found = {kind: dict.fromkeys(experiments.OPERATIONS, row) for kind in ("own", "matched")}
    figure = drawn(figures.draw_differences, (5.5, 2.9), found=found)
    assert [text.get_text() for text in figure.axes[0].texts][:2] == [".00", "1.00"]


def test_kernels_and_times_have_a_line_a_name():
    [axes] = drawn(figures.draw_kernels, (5.5, 2.8), responses=experiments.line_response()).axes
    assert len(axes.lines) == len(experiments.line_response())
    times = {operation: {name: 0.1 + place for place, name in enumerate(LIBRARIES)} for operation in "ab"}
    [axes] = drawn(figures.draw_times, (5.5, 2.6), times=times).axes
    assert list(axes.lines[1].get_xdata()) == [1.1, 1.1]


@pytest.mark.parametrize(
    "values",
    every_end({"operation": experiments.OPERATIONS, "settings": ("own", "matched"), "amount": (1, 4)}),
)
def test_the_playground_shows_the_difference(values):
    values = {"operation": "rotate", "settings": "own", "amount": 2} | values
    figure = drawn(figures.draw_playground, (5.5, 1.9), image=IMAGE, first="Pillow", second="NumPy", **values)
    first, second, difference = pictures(figure)
    if values["operation"] != "grey":
        assert first.shape[:2] == second.shape[:2] == difference.shape


@pytest.mark.parametrize("settings", ["own", "matched"])
@pytest.mark.parametrize("factor", [2, 6, 10])
def test_the_resize_explorer_shows_each_library(factor, settings):
    figure = drawn(
        figures.draw_resizing, (5.5, 1.6), image=IMAGE, factor=factor, names=LIBRARIES, settings=settings
    )
    shown = pictures(figure)
    assert len(shown) == len(LIBRARIES)
    assert all(picture.shape == (120 // factor, 160 // factor, 3) for picture in shown)
    assert not torch.equal(shown[1], shown[2]) or settings == "matched"
