"""The editing panel and the blind test: what their buttons do to photographs, files and counts."""

import io
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from PIL import Image

from vlmbook import data, editing
from vlmbook.chapters.ch06b import application
from vlmbook.chapters.ch06b.painting import paint_whirls
from vlmbook.editing import Photograph, read_photograph
from vlmbook.pretrained import WeightsMissing, efficientnet_lite0


@pytest.fixture
def cup():
    return Photograph((255 * data.photo("coffee")[:, 100:196, 200:320]).byte())


@pytest.fixture
def panel(cup, tmp_path):
    return application.EditingPanel(cup, {"whirls": paint_whirls(64)}, tmp_path, name="cup")


def encode(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def press(panel, label):
    panel.buttons[label].click()
    return panel.status.value


def test_a_painted_hole_is_filled_in_the_photograph_and_undo_takes_it_back(panel, cup):
    panel.paint((20, 30), (60, 30))
    hole = panel.mask.bool()[0]
    press(panel, "Fill")
    assert not torch.equal(panel.photograph.pixels[:, hole], cup.pixels[:, hole])
    assert torch.equal(panel.photograph.pixels[:, ~hole], cup.pixels[:, ~hole])
    assert not panel.mask.any()
    press(panel, "Undo")
    assert torch.equal(panel.photograph.pixels, cup.pixels)
    press(panel, "Undo")  # nothing is left to undo
    assert torch.equal(panel.photograph.pixels, cup.pixels)


def test_a_large_photograph_is_edited_at_its_own_size(tmp_path):
    large = Photograph(torch.randint(0, 256, (3, 700, 900), dtype=torch.uint8))
    panel = application.EditingPanel(large, {}, tmp_path)
    assert max(panel.image.shape[1:]) == application.PREVIEW
    panel.paint((100, 100), (140, 100))
    press(panel, "Fill")
    assert panel.photograph.pixels.shape == (3, 700, 900)
    changed = (panel.photograph.pixels != large.pixels).any(0)
    rows, columns = changed.nonzero().T
    scale = 900 / application.PREVIEW
    assert rows.float().mean() == pytest.approx(100 * scale, abs=3)
    assert columns.float().mean() == pytest.approx(120 * scale, abs=3)


def test_enlarging_doubles_the_photograph_and_the_mask_fits_again(panel):
    said = press(panel, "Enlarge ×2")
    assert panel.photograph.pixels.shape == (3, 192, 240) and "240×192" in said
    panel.paint((10, 10), (20, 20))
    press(panel, "Fill")
    assert len(panel.versions) == 2
    press(panel, "Undo")
    press(panel, "Undo")
    assert panel.photograph.pixels.shape == (3, 96, 120) and panel.mask.shape == (1, 96, 120)


def test_a_photograph_that_would_be_too_large_gets_a_sentence(panel, monkeypatch):
    monkeypatch.setattr(application, "MOST_PIXELS", 1000)
    assert "more than this panel makes" in press(panel, "Enlarge ×2")
    assert panel.photograph.pixels.shape == (3, 96, 120)


def test_a_style_changes_the_photograph(panel, cup):
    try:
        efficientnet_lite0()
    except WeightsMissing as missing:
        pytest.skip(str(missing))
    press(panel, "Paint in the style")
    assert panel.photograph.pixels.shape == cup.pixels.shape
    assert (panel.photograph.pixels.float() - cup.pixels.float()).abs().mean() > 3


def test_saving_never_overwrites(panel, cup, tmp_path):
    (tmp_path / "cup-edited-1.png").write_text("mine")
    assert "cup-edited-2.png" in press(panel, "Save")
    press(panel, "Save")
    assert (tmp_path / "cup-edited-1.png").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"cup-edited-{n}.png" for n in (1, 2, 3)]
    assert torch.equal(read_photograph(tmp_path / "cup-edited-2.png").pixels, cup.pixels)


def test_opening_keeps_alpha_and_grey_through_an_edit(panel, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 2), dtype=np.uint8)
    panel.open_photograph(encode(Image.fromarray(pixels, "LA")), "my cat.png")
    assert panel.name == "my cat"
    press(panel, "Enlarge ×2")
    assert panel.photograph.pixels.shape == (1, 80, 60) and panel.photograph.alpha.shape == (1, 80, 60)
    press(panel, "Save")
    with Image.open(tmp_path / "my cat-edited-1.png") as saved:
        assert saved.mode == "LA" and saved.size == (60, 80)


def test_undo_goes_back_over_an_opened_photograph(panel, cup):
    press(panel, "Enlarge ×2")
    panel.open_photograph(encode(Image.new("L", (30, 40))), "cat.png")
    press(panel, "Undo")
    assert panel.name == "cup" and panel.photograph.pixels.shape == (3, 192, 240)
    press(panel, "Undo")
    assert torch.equal(panel.photograph.pixels, cup.pixels)


def test_no_button_can_be_pressed_while_one_works(panel):
    pressed = []
    panel.edit = lambda change: pressed.append([each.disabled for each in panel.buttons.values()])
    press(panel, "Enlarge ×2")
    panel.paint((20, 30), (60, 30))
    press(panel, "Fill")
    assert pressed == [[True] * len(panel.buttons)] * 2
    assert not any(each.disabled for each in panel.buttons.values()) and panel.before == []


def test_a_panel_without_styles_says_so(cup, tmp_path):
    panel = application.EditingPanel(cup, {}, tmp_path)
    assert "no style to paint in" in press(panel, "Paint in the style")
    with pytest.raises(TypeError, match="photograph wants a Photograph, got 'x'"):
        application.EditingPanel("x", {})
    with pytest.raises(TypeError, match="styles wants a dict of images"):
        application.EditingPanel(cup, [paint_whirls(64)])


def test_a_photograph_of_too_many_pixels_gets_advice(panel, cup, monkeypatch):
    monkeypatch.setattr(application, "MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"large\.png has more than 1,000 pixels, .* vlmbook edit with"):
        panel.open_photograph(encode(Image.new("L", (40, 40))), "large.png")
    assert torch.equal(panel.photograph.pixels, cup.pixels)


def test_a_file_that_is_no_image_gets_a_sentence_and_the_photograph_stays(panel, cup):
    panel.upload.value = (
        {"name": "notes.txt", "type": "", "size": 4, "content": b"text", "last_modified": datetime.now(UTC)},
    )
    assert "notes.txt cannot be read as an image" in panel.status.value and "/" not in panel.status.value
    assert torch.equal(panel.photograph.pixels, cup.pixels)


def test_without_a_kernel_the_photograph_stays_visible(panel):
    bundle = panel._repr_mimebundle_()
    bundle = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "image/png" in bundle


# --- the blind test -----------------------------------------------------------------------------------------


def pairs(count=12):
    return {"old": [torch.full((1, 4, 4), 0.2)] * count, "new": [torch.full((1, 4, 4), 0.8)] * count}


def test_choosing_the_better_image_is_counted_on_whichever_side_it_stands():
    test = application.BlindTest(pairs(), torch.Generator().manual_seed(1))
    sides = []
    for _ in range(12):
        left, _ = test._sides()
        sides.append(left)
        test.choose("left" if left == "new" else "right")
    assert set(sides) == {"old", "new"}
    assert test.choices == ["new"] * 12
    chosen, decided, low, high = test.result()
    assert (chosen, decided) == (12, 12) and 0.7 < low < 1 and high > 0.99
    test.choose("left")  # all pairs are done
    assert len(test.choices) == 12
    assert "12 of 12" in test.status.value


def test_a_pair_without_a_difference_is_no_decision():
    test = application.BlindTest(pairs(3))
    test.choose("no difference")
    assert test.result() == (0, 0, 0.0, 1.0)
    test.buttons["left"].click()
    assert test.result()[1] == 1


def test_the_names_are_hidden_until_the_end():
    test = application.BlindTest(pairs(2))
    assert "old" not in test.status.value and "new" not in test.status.value
    with pytest.raises(ValueError, match="two methods"):
        application.BlindTest({"old": [torch.zeros(1, 4, 4)]})


def test_the_panel_uses_the_functions_of_the_library(panel, cup):
    press(panel, "Enlarge ×2")
    assert torch.equal(panel.photograph.pixels, editing.upscale(cup.pixels, 2))
