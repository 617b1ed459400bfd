"""The drawings of chapter 3a at the default and both ends of each control that its notebook offers."""

from itertools import product

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from tests.support import drawings
from tests.support.drawings import drawn, every_end
from vlmbook.chapters.ch03a import figures
from vlmbook.chapters.ch03a.experiments import KERNELS, grey_photo
from vlmbook.data import photo_names

WINDOW = {
    "n": (1, 7, 16),
    "kernel": (1, 3, 7),
    "stride": (1, 2, 5),
    "padding": (0, 1, 4),
    "dilation": (1, 4),
    "window": (0, 99),
}
POOLING = {"kind": ("max", "average"), "window": (1, 4, 8), "shift": (0, 1, 8)}
ODD = [0, -1, 1e-40, 100, 1e38, -1e38, 1e300, float("nan"), float("inf")]


def pictures(figure):
    """The pictures of a figure in the dtype of the images that were drawn; matplotlib gets float64."""
    return [picture.float() for picture in drawings.pictures(figure)]


@pytest.mark.parametrize("photo", photo_names())
def test_each_photo_in_each_drawing(photo):
    drawn(figures.draw_kernel, (7, 2.8), photo=photo)
    drawn(figures.draw_pooling, (7, 2.6), photo=photo)
    drawn(figures.draw_checkerboard, (7, 2.7), photo=photo)
    drawn(figures.draw_examples, (7, 3.1), photo=photo)
    assert grey_photo(photo).shape == (1, 1, 192, 192) and grey_photo(photo).std() > 0.02


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("kernel", [*KERNELS.values(), *([[n] * 3] * 3 for n in ODD)], ids=str)
def test_kernel_editor(kernel, flip):
    figure = drawn(figures.draw_kernel, (7, 2.8), kernel=kernel, flip=flip)
    before, weight, after = pictures(figure)
    expected = torch.tensor(kernel, dtype=torch.float32)
    expected = expected.rot90(2) if flip else expected
    assert_close(weight.float(), expected, equal_nan=True)
    y = F.conv2d(before[None, None], expected[None, None], padding=1)[0, 0]
    finite = y.abs() < 1e30
    y = y.clip(0, 1) if expected.sum() > 0.5 or (expected >= 0).all() else y
    assert_close(after[finite], y[finite], atol=1e-4, rtol=1e-4)


def test_kernels_are_presets_of_one_shape_that_keep_brightness_or_find_edges():
    kernels = torch.tensor(list(KERNELS.values()))
    assert kernels.shape[1:] == (3, 3)
    assert_close(kernels.sum((1, 2)).round(decimals=6).abs() % 1, torch.zeros(len(kernels)))
    assert tuple(KERNELS["identity"]) == ((0, 0, 0), (0, 1, 0), (0, 0, 0))


@pytest.mark.parametrize("values", every_end(WINDOW), ids=str)
def test_window_calculator(values):
    """What it marks is what the gradient of a convolution reaches, from that output pixel and from all of
    them.
    """
    figure = drawn(figures.draw_window, (7, 3.5), **values)
    given = {"n": 7, "kernel": 3, "stride": 2, "padding": 1, "dilation": 1, "window": 5} | values
    n, padding = given["n"], given["padding"]
    title = figure.axes[1].get_title(loc="left")
    x = F.pad(torch.zeros(1, 1, n, n), (padding,) * 4).requires_grad_()
    ones = torch.ones(1, 1, given["kernel"], given["kernel"])
    try:
        y = F.conv2d(x, ones, stride=given["stride"], dilation=given["dilation"])
    except RuntimeError:
        assert "no output" in title and len(pictures(figure)) == 1
        return
    window = given["window"] % y.numel()
    assert title.startswith(f"output {y.shape[2]}×{y.shape[2]}, window {window + 1} of {y.numel()}\n")
    assert title.endswith(f"= {y.shape[2]}")
    (touched,) = torch.autograd.grad(y.flatten()[window], x, retain_graph=True)
    (reached,) = torch.autograd.grad(y.sum(), x)
    cells, out = pictures(figure)
    assert torch.equal(cells == figures.TOUCHED, touched[0, 0] > 0)
    assert (out == figures.TOUCHED).flatten().nonzero().tolist() == [[window]]
    assert torch.equal(cells == figures.MISSED, reached[0, 0] == 0)
    image = F.pad(torch.ones(n, n), (padding,) * 4) > 0
    assert torch.equal(cells == figures.PADDING, ~image & (reached[0, 0] > 0) & (touched[0, 0] == 0))
    has_note = any("no window comes here" in text.get_text() for text in figure.axes[0].texts)
    assert has_note == bool((reached == 0).any())


def test_a_window_beyond_the_last_starts_again():
    near, far = (drawn(figures.draw_window, (7, 3.5), window=window) for window in (3, 3 + 16 * 10**6))
    assert torch.equal(pictures(near)[0], pictures(far)[0])


@pytest.mark.parametrize("values", every_end(POOLING), ids=str)
def test_pooling_under_a_shift(values):
    figure = drawn(figures.draw_pooling, (7, 2.6), **values)
    given = {"kind": "max", "window": 4, "shift": 1} | values
    x, before, difference, pixels = pictures(figure)
    pool = F.max_pool2d if given["kind"] == "max" else F.avg_pool2d
    assert_close(before, pool(x[None], given["window"])[0])
    shift, window = given["shift"], given["window"]
    first = -(-shift // window)  # windows that only old pixels fill
    moved = pool(x[None].roll(shift, -1), window)[0]
    assert_close((before + difference)[:, first:], moved[:, first:])
    change = float(figure.axes[2].get_xlabel().split()[2])
    assert change == pytest.approx(difference.abs().mean().item(), abs=6e-4)
    assert (change == 0) == (shift == 0)
    sums = F.avg_pool2d(difference.abs()[None], 3, stride=1)[0]
    row, column = divmod(sums.argmax().item(), sums.shape[1])
    chosen = before[row : row + 3, column : column + 3]
    assert_close(
        pixels.float(), torch.cat([chosen, (before + difference)[row : row + 3, column : column + 3]])
    )


def test_the_window_by_hand_is_framed_and_multiplied():
    x, w = torch.arange(20.0).view(4, 5).sin(), torch.tensor([[1.0, 2], [0, -1]])
    for window in (0, 7, 11):
        figure = drawn(figures.draw_by_hand, (7, 1.9), x=x, kernel=w, window=window)
        _, _, products, y = pictures(figure)
        assert_close(y.float(), F.conv2d(x[None, None], w[None, None])[0, 0])
        assert_close(products.sum().float(), y.flatten()[window].float())
        frames = [axes.patches[0].get_xy() for axes in (figure.axes[0], figure.axes[3])]
        assert frames == [(window % 4 - 0.5, window // 4 - 0.5)] * 2


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_stamps_add_up_to_the_transposed_convolution(stride):
    u, w = torch.tensor([1.0, 2, -1]), torch.tensor([3.0, 4, 5])
    stamps, total = pictures(drawn(figures.draw_stamps, (5, 1.8), u=u, kernel=w, stride=stride))
    wanted = F.conv_transpose1d(u[None], w[None, None], stride=stride)
    assert_close(total.float(), wanted)
    assert_close(stamps.sum(0, keepdim=True).float(), wanted)


def test_the_stem_and_the_first_layer_show_what_their_kernels_see():
    torch.manual_seed(0)
    kernels = torch.randn(4, 3, 3, 3)
    shown = pictures(drawn(figures.draw_stem, (7, 2.4), kernels=kernels))
    assert len(shown) == 8
    assert {tuple(each.shape) for each in shown} == {(3, 3, 3), (126, 126)}
    before, after, maps = torch.randn(9, 1, 3, 3), torch.randn(9, 1, 3, 3), torch.randn(9, 8, 8)
    figure = drawn(
        figures.draw_first_layer, (7, 2.7), before=before, after=after, maps=maps, image=torch.rand(1, 8, 8)
    )
    order = after.flatten(1).norm(dim=1).argsort(descending=True)[:8]
    assert_close(torch.stack(pictures(figure)[:8]).float(), before[order, 0])


def test_the_network_is_drawn_with_its_shapes():
    labels = [text.get_text() for text in drawn(figures.draw_cnn, (7, 1.2)).axes[0].texts]
    assert [label for label in labels if "×" in label and label[0].isdigit()] == [
        "1×8×8",
        "32×8×8",
        "32×8×8",
        "32×4×4",
        "64×4×4",
    ]


@pytest.mark.parametrize("kernel, stride", list(product(range(1, 9), range(1, 5))))
def test_checkerboard(kernel, stride):
    figure = drawn(figures.draw_checkerboard, (7, 2.7), kernel=kernel, stride=stride)
    low, high = (kernel // stride) ** 2, (-(-kernel // stride)) ** 2  # an axis: floor and ceiling of k/s
    assert figure.axes[1].get_title(loc="left") == f"stamps a pixel gets: {low} to {high}"
    small, cover, y = pictures(figure)
    stamps = torch.ones(1, 1, 10, 10), torch.ones(1, 1, kernel, kernel)
    assert_close(cover, F.conv_transpose2d(*stamps, stride=stride)[0, 0])
    weight = stamps[1] * (stride / kernel) ** 2
    assert_close(y, F.conv_transpose2d(small[None, None].float(), weight, stride=stride)[0, 0].clip(0, 1))
    if kernel % stride == 0:
        assert low == high


def test_drawings_leave_the_kept_photographs_as_they_are():
    names = [("cat", 192), ("camera", 176), ("rocket", 48)]
    kept = [grey_photo(*name).clone() for name in names]
    for draw in (figures.draw_kernel, figures.draw_pooling, figures.draw_checkerboard, figures.draw_examples):
        drawn(draw, (7, 3))
    assert_close([grey_photo(*name) for name in names], kept, rtol=0, atol=0)
