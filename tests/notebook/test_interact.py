"""Live figures without a browser: a control moves, and the picture is the one that the function draws."""

import base64
import io
from functools import partial

import ipywidgets as widgets
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from vlmbook.notebook import interact

PRESETS = {"one": ((1, 0), (0, 1)), "two": ((0.5, -2), (3, 4)), "three": ((1, 2), (3, 4))}


def draw_text(figure, size=12, word="cat", bold=False, share=0.5):
    figure.text(share, 0.5, word, size=size, weight="bold" if bold else "normal", ha="center")


CONTROLS = {"size": (8, 40), "word": ["cat", "dog"], "bold": False, "share": (0.0, 1.0)}


def pixels(png):
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def test_abbreviations_become_widgets_that_start_at_the_defaults():
    live = interact.live(draw_text, **CONTROLS)
    kinds = [widgets.IntSlider, widgets.Dropdown, widgets.Checkbox, widgets.FloatSlider]
    assert [type(control) for control in live.controls.values()] == kinds
    assert live.values() == {"size": 12, "word": "cat", "bold": False, "share": 0.5}
    assert [control.description for control in live.controls.values()] == ["size", "word", "bold", "share"]
    named = interact.live(lambda figure, my_size=3: None, my_size={"small": 3, "large": 9})
    assert named.values() == {"my_size": 3} and named.controls["my_size"].description == "my size"


def test_a_value_without_default_or_control():
    assert interact.live(lambda figure, size: None, size=(2, 8)).values() == {"size": 5}  # the middle
    assert interact.live(draw_text).values() == {}
    assert interact.live(partial(draw_text, word="dog"), size=(8, 40)).values() == {"size": 12}


def test_a_widget_is_taken_as_it_is():
    slider = widgets.IntSlider(9, 8, 40, description="mine")
    live = interact.live(draw_text, size=slider)
    assert live.controls["size"] is slider and live.values() == {"size": 9} and slider.description == "mine"


def test_the_picture_is_what_render_gives_and_follows_each_control():
    live = interact.live(draw_text, figsize=(3, 2), **CONTROLS)
    values = live.values()
    seen = [live.picture.value]
    for name, value in {"size": 40, "word": "dog", "bold": True, "share": 0.25}.items():
        live.controls[name].value = value
        values[name] = value
        assert live.values() == values
        assert live.picture.value == interact.render(draw_text, (3, 2), **values)
        assert all((pixels(live.picture.value) != pixels(before)).any() for before in seen)
        seen.append(live.picture.value)
    assert not plt.get_fignums()


def test_render_gives_a_png_of_the_asked_size_and_the_same_bytes_twice():
    png = interact.render(draw_text, (4.0, 2.5), size=30)
    assert pixels(png).shape == (250, 400, 3) and pixels(png).min() < 50 < 250 < pixels(png).max()
    assert interact.render(draw_text, (4.0, 2.5), size=30) == png


def test_render_draws_in_the_house_style_and_leaves_none_behind():
    seen, before = [], mpl.rcParams["axes.titlelocation"]
    interact.render(lambda figure: seen.append(mpl.rcParams["axes.titlelocation"]))
    assert seen == ["left"] and mpl.rcParams["axes.titlelocation"] == before


def test_render_keeps_the_readers_own_font():
    seen = []
    with mpl.rc_context({"font.sans-serif": ["SimHei", "DejaVu Sans"]}):
        interact.live(lambda figure: seen.append(mpl.rcParams["font.sans-serif"][0]))
    assert seen == ["SimHei"]


def test_without_a_kernel_the_first_picture_shows():
    live = interact.live(draw_text, **CONTROLS)
    first = live.picture.value
    live.controls["size"].value = 40
    data, _ = live._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == first and np.ptp(pixels(first)) > 100
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == live.model_id
    assert data["text/plain"] == "live: draw_text"
    part, _ = interact.live(partial(draw_text, word="dog"))._repr_mimebundle_()
    assert part["text/plain"] == "live: draw_text"


def test_an_error_is_shown_and_goes_with_the_next_good_value():
    def fragile(figure, number=1):
        if number == 2:
            raise ValueError("2 < 3 & <b>")
        figure.text(0.5, 0.5, str(number))

    live = interact.live(fragile, number=(1, 5))
    good = live.picture.value
    live.controls["number"].value = 2
    assert live.trouble.value == "<b>ValueError</b>: 2 &lt; 3 &amp; &lt;b&gt;" and live.picture.value == good
    live.controls["number"].value = 3
    assert live.trouble.value == "" and live.picture.value == interact.render(fragile, number=3)


def test_an_error_at_the_first_values_is_raised():
    def broken(figure, number=0):
        return 1 / number

    with pytest.raises(ZeroDivisionError):
        interact.live(broken, number=(0, 5))


@pytest.mark.parametrize(
    "controls, message",
    [
        ({"colour": (1, 2)}, "draw_text takes the values size, word, bold, share; the controls are colour"),
        ({"size": (8, 40), "figure": 3}, "draw_text takes .*; the controls are size, figure"),
        ({"size": object()}, "the control size=<object .* is none of ipywidgets' abbreviations"),
        ({"size": widgets.Button()}, r"the control size=Button\(.* nor a widget with a value"),
        ({"size": widgets.fixed(3)}, "the control size=.* nor a widget with a value"),
        ({"size": (20, 40)}, r"the control size=\(20, 40\) starts at 20, not at the default 12"),
        ({"word": ["bird", "dog"]}, r"word=\['bird', 'dog'\] starts at 'bird', not at the default 'cat'"),
        ({"bold": True}, "the control bold=True starts at True, not at the default False"),
    ],
)
def test_controls_that_do_not_fit_are_refused(controls, message):
    with pytest.raises(ValueError, match=message):
        interact.live(draw_text, **controls)


def test_missing_controls_are_refused():
    with pytest.raises(ValueError, match="takes the values size, word; the controls are word"):
        interact.live(lambda figure, size, word="cat": None, word=["cat"])
    with pytest.raises(ValueError, match="takes the values size; the controls are none"):
        interact.live(lambda figure, size: None)


@pytest.mark.parametrize("figsize", [7, "7x3", (7,), (7, 0), (7, float("nan")), (7, 1000), None])
def test_a_size_that_cannot_be_is_refused(figsize):
    for draw in (interact.live, interact.render):
        with pytest.raises((TypeError, ValueError), match="figsize wants "):
            draw(draw_text, figsize=figsize)


@pytest.mark.parametrize(
    "presets",
    [{}, None, {"one": 3}, {"one": [1, 2]}, {"one": ((1,),), "two": ((1, 2),)}, {"one": ((),)},
     {"one": (("a",),)}, {"my own": ((1,),)}, {3: ((1,),)}],
)  # fmt: skip
def test_presets_that_are_no_matrices_of_one_shape_are_refused(presets):
    with pytest.raises((TypeError, ValueError), match="presets wants "):
        interact.MatrixEditor(presets)


@pytest.fixture
def editor():
    return interact.MatrixEditor(PRESETS, description="kernel")


@pytest.fixture
def changes(editor):
    seen = []
    editor.observe(lambda change: seen.append(change.new), "value")
    return seen


def test_an_editor_starts_with_its_first_preset(editor):
    assert editor.value == PRESETS["one"] and editor.menu.value == "one"
    assert editor.menu.options == ("one", "two", "three", "my own") and editor.menu.description == "kernel"


def test_a_preset_fills_all_boxes_in_one_change(editor, changes):
    editor.menu.value = "two"
    assert changes == [PRESETS["two"]] and editor.value == PRESETS["two"]
    assert [[box.value for box in row] for row in editor.boxes] == [[0.5, -2], [3, 4]]
    editor.menu.value = "one"
    assert changes == [PRESETS["two"], PRESETS["one"]]


def test_a_typed_number_is_one_change_and_the_readers_own(editor, changes):
    editor.boxes[0][1].value = 7.5
    assert changes == [((1, 7.5), (0, 1))] and editor.menu.value == "my own"
    editor.boxes[1][0].value = -1
    assert len(changes) == 2 and editor.value == ((1, 7.5), (-1, 1))
    editor.menu.value = "one"  # and back
    assert changes[2:] == [PRESETS["one"]] and editor.menu.value == "one"


def test_choosing_my_own_changes_nothing(editor, changes):
    editor.menu.value = "my own"
    assert not changes and editor.value == PRESETS["one"]
    editor.menu.value = "one"
    assert not changes and editor.menu.value == "one"


def test_two_editors_are_apart():
    first, second = interact.MatrixEditor(PRESETS), interact.MatrixEditor(PRESETS)
    first.menu.value = "two"
    assert second.value == PRESETS["one"]


def test_an_editor_is_a_control_that_redraws_once_a_preset():
    drawn = []

    def draw(figure, kernel=PRESETS["one"]):
        drawn.append(kernel)
        figure.text(0.5, 0.5, str(kernel))

    editor = interact.MatrixEditor(PRESETS)
    live = interact.live(draw, kernel=editor)
    editor.menu.value = "two"
    assert drawn == [PRESETS["one"], PRESETS["two"]]
    assert live.picture.value == interact.render(draw, kernel=editor.value)
