"""Painting a mask: what the mouse does to it, what the buttons do, and what stays without a kernel."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from vlmbook.notebook.paint import MaskPainter, draw_stroke


def painter(image=None, fill=lambda image, mask: torch.where(mask == 1, 1.0, image), **options):
    return MaskPainter(torch.zeros(1, 28, 28) if image is None else image, fill, **options)


def drag(widget, *points):
    """Press at the first point, move over the others, release; in pixels of the image."""
    (x, y), *others = [(widget.scale * x, widget.scale * y) for x, y in points]
    widget._press(x, y)
    for x, y in others:
        widget._move(x, y)
    widget._release(x, y)


def test_a_stroke_covers_the_pixels_near_its_line_as_loops_say():
    start, end, radius = (3.0, 4.0), (11.5, 9.0), 2.2
    got = draw_stroke(torch.zeros(1, 14, 17), start, end, radius)
    for row in range(14):
        for column in range(17):
            points = np.linspace(start, end, 2001)
            nearest = np.hypot(points[:, 0] - column - 0.5, points[:, 1] - row - 0.5).min()
            assert abs(nearest - radius) < 1e-3 or got[0, row, column] == (nearest < radius)


def test_a_press_without_a_move_paints_a_dot():
    dot = draw_stroke(torch.zeros(1, 9, 9), (4.5, 4.5), (4.5, 4.5), 1.1)
    assert dot.sum() == 5 and dot[0, 4, 4] == 1


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 40, 20), (3, 15, 60)])
def test_dragging_the_mouse_adds_to_the_mask_and_moving_it_without_the_button_does_not(shape):
    widget = painter(torch.rand(shape))
    widget._move(50, 50)
    assert not widget.mask.any()
    drag(widget, (2, 2), (10, 12))
    once = widget.mask.clone()
    assert once[0, 2, 2] == once[0, 11, 9] == 1 and once.mean() < 0.5
    widget._move(0, 0)
    assert torch.equal(widget.mask, once)
    drag(widget, (14, 3), (14, 3))
    assert (widget.mask >= once).all() and widget.mask.sum() > once.sum()


def test_fill_gets_image_and_mask_and_undo_brings_the_image_back():
    given = []

    def fill(image, mask):
        given.append((image, mask))
        return torch.where(mask == 1, 0.25, image)

    before = torch.rand(3, 20, 20)
    widget = painter(before, fill)
    drag(widget, (5, 5), (15, 5))
    mask = widget.mask
    widget.buttons["Fill"].click()
    assert torch.equal(given[0][0], before) and torch.equal(given[0][1], mask) and mask.shape == (1, 20, 20)
    assert (widget.image[:, mask[0] == 1] == 0.25).all() and not widget.mask.any()
    widget.buttons["Undo"].click()
    assert torch.equal(widget.image, before)
    widget.buttons["Undo"].click()
    assert torch.equal(widget.image, before)


def test_clear_drops_the_mask_and_an_empty_mask_is_not_filled():
    calls = []
    widget = painter(fill=lambda image, mask: calls.append(1))
    drag(widget, (5, 5))
    widget.buttons["Clear the mask"].click()
    widget.buttons["Fill"].click()
    assert not widget.mask.any() and not calls and "Paint a hole first" in widget.trouble.value


def test_what_fill_raises_is_shown_and_the_image_stays():
    def fail(image, mask):
        raise RuntimeError("no <network>")

    widget = painter(fill=fail)
    drag(widget, (5, 5))
    widget.buttons["Fill"].click()
    assert "RuntimeError" in widget.trouble.value and "&lt;network&gt;" in widget.trouble.value
    assert not widget.before and widget.mask.any()
    for wrong in (None, torch.zeros(28, 28), torch.zeros(3, 28, 28)):
        widget.fill = lambda image, mask, wrong=wrong: wrong
        widget.buttons["Fill"].click()
        assert "the filled image wants" in widget.trouble.value and not widget.before


def test_without_a_kernel_the_image_stays_visible():
    image = torch.rand(3, 10, 20)
    data, _ = painter(image, side=200)._repr_mimebundle_()
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data["image/png"]))))
    assert shown.shape == (100, 200, 3)
    wanted = (255 * image).round().byte().permute(1, 2, 0).numpy()
    assert (shown[5::10, 5::10] == wanted).all()


@pytest.mark.parametrize(
    "change, error",
    [
        ({"image": torch.zeros(2, 8, 8)}, "1 or 3 channels"),
        ({"image": torch.full((1, 8, 8), 2.0)}, "image wants"),
        ({"image": None}, "image wants a torch.Tensor"),
        ({"fill": 3}, "fill wants a function"),
        ({"brush": 0}, "brush wants"),
        ({"side": 1.5}, "side wants"),
    ],
)
def test_bad_arguments_get_one_sentence(change, error):
    good = {"image": torch.zeros(1, 8, 8), "fill": lambda image, mask: image, "brush": 0.1, "side": 100}
    values = good | change
    with pytest.raises((TypeError, ValueError), match=error):
        MaskPainter(values.pop("image"), values.pop("fill"), **values)
