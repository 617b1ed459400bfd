"""The pictures: what is taken and refused, what comes back, and that nothing is left behind."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from vlmbook import plot


@pytest.fixture
def axes():
    return Figure().subplots()


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """A function that called `show` would fail here, and figures of pyplot are closed after each test."""

    def show(*_, **__):
        raise AssertionError("a picture called show")

    monkeypatch.setattr(plt, "show", show)
    yield
    plt.close("all")


def shown(axes):
    """The array that was drawn, and the figure drawn once more to see that it can be."""
    axes.figure.canvas.draw()
    return axes.images[0].get_array()


def titled(axes):
    return axes.get_title(loc=mpl.rcParams["axes.titlelocation"])


PICTURES = [plot.image, plot.signed, plot.numbers]


@pytest.mark.parametrize("draw", PICTURES)
@pytest.mark.parametrize(
    "x",
    [
        torch.rand(4, 5),
        torch.rand(1, 4, 5),
        torch.rand(5, 4).T,
        torch.rand(4, 3),
        torch.rand(3, 4),
        torch.rand(4, 5).requires_grad_(),
        torch.rand(4, 5).bfloat16(),
        torch.rand(4, 5) > 0.5,
        torch.arange(20).view(4, 5),
        torch.rand(4, 5).numpy(),
        torch.rand(4, 5).tolist(),
    ],
    ids=lambda x: f"{type(x).__name__} {tuple(np.shape(x))} {getattr(x, 'dtype', '')}",
)
def test_matrices_of_any_kind_are_drawn_on_the_given_axes(axes, draw, x):
    assert draw(axes, x, "title") is axes
    assert titled(axes) == "title"
    assert shown(axes).shape == tuple(np.shape(x))[-2:]
    assert not axes.get_xticks().size and not plt.get_fignums()


def test_a_colour_image_is_drawn_with_its_channels_last(axes):
    x = torch.rand(3, 4, 5)
    assert plot.image(axes, x) is axes
    np.testing.assert_allclose(shown(axes), x.permute(1, 2, 0))


def test_an_image_is_clipped_and_its_scale_fixed(axes):
    plot.image(axes, torch.tensor([[[-1.0, 0.25, 7.0]]]))
    assert shown(axes).tolist() == [[0, 0.25, 1]] and axes.images[0].get_clim() == (0, 1)
    plot.image(axes, torch.tensor([[0.25, 0.5]]))
    assert axes.images[1].get_clim() == (0, 1)
    plot.image(axes, torch.full((3, 2, 2), 1e30))
    assert axes.images[2].get_array().max() == 1


@pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray])
def test_pixels_of_whole_bytes_are_drawn_as_they_look(axes, kind):
    plot.image(axes, kind(np.array([[0, 51, 255]], np.uint8)))
    np.testing.assert_allclose(shown(axes), [[0, 0.2, 1]])
    photo = np.random.default_rng(0).integers(256, size=(3, 4, 5), dtype=np.uint8)
    plot.image(axes, kind(photo))
    np.testing.assert_allclose(axes.images[1].get_array(), photo.transpose(1, 2, 0) / 255)
    plot.image(axes, kind(np.array([[0, 1]], np.uint8)))  # a mask
    assert axes.images[2].get_array().tolist() == [[0, 1]]


@pytest.mark.parametrize("shape", [(), (4,), (2, 4, 5), (4, 5, 3), (1, 3, 4, 5), (0, 5), (3, 0, 5)])
@pytest.mark.parametrize("draw", PICTURES)
def test_other_shapes_are_refused(axes, draw, shape):
    with pytest.raises(ValueError, match=r"a picture wants the shape .*\(H, W\), got ") as refusal:
        draw(axes, torch.zeros(shape))
    assert str(refusal.value).endswith(f"got {shape}") and not axes.images


@pytest.mark.parametrize("draw", PICTURES)
@pytest.mark.parametrize(
    "x", [None, "x", 1j, [[1, 2], [3]], [["a"]], torch.ones(2, 2, dtype=torch.complex64), {1: 2}]
)
def test_what_is_no_picture_is_refused(axes, draw, x):
    with pytest.raises(TypeError, match="a picture wants an array or a tensor of real numbers, got "):
        draw(axes, x)
    with pytest.raises(TypeError, match="axes wants matplotlib Axes, got "):
        draw(x, torch.ones(2, 2))
    with pytest.raises(TypeError, match="a title or name wants to be text, got "):
        draw(axes, torch.ones(2, 2), {"a": x})
    assert not axes.images


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cmap": "no such"}, "cmap wants the name of one of matplotlib's colormaps, got 'no such'"),
        ({"vmin": 2, "vmax": 1}, "vmin and vmax want vmin < vmax, got 2 and 1"),
        ({"vmax": float("nan")}, "vmax wants a finite number, got nan"),
        ({"form": "{:d}"}, "form wants a format of one number"),
        ({"form": "{a}"}, "form wants a format of one number"),
        ({"form": "{"}, "form wants a format of one number"),
    ],
)
def test_options_of_numbers_that_cannot_be_are_refused(axes, options, message):
    with pytest.raises(ValueError, match=message):
        plot.numbers(axes, torch.ones(2, 2), **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"middles": [0.5]}, "middles wants a finite number for each of 2 names"),
        ({"lows": [0.1, float("nan")]}, "lows wants a finite number for each of 2 names"),
        ({"highs": [0.1, 0.2]}, "intervals wants lows <= middles <= highs"),
        ({"names": "ab"}, "names wants a list of names, got 'ab'"),
        ({"xlabel": None}, "a title or name wants to be text, got None"),
    ],
)
def test_intervals_that_cannot_be_are_refused(axes, change, message):
    given = {
        "names": ["a", "b"],
        "middles": [0.5, 0.6],
        "lows": [0.4, 0.5],
        "highs": [0.6, 0.7],
        "xlabel": "",
    }
    with pytest.raises((TypeError, ValueError), match=message):
        plot.intervals(axes, **given | change)
    assert not axes.collections


@pytest.mark.parametrize("draw", [plot.signed, plot.numbers])
def test_colours_have_no_sign(axes, draw):
    with pytest.raises(ValueError, match=r"wants the shape \(1, H, W\) or \(H, W\), got \(3, 4, 5\)"):
        draw(axes, torch.zeros(3, 4, 5))


def test_signed_is_symmetric(axes):
    plot.signed(axes, torch.tensor([[-3.0, 1.0]]))
    plot.signed(axes, torch.tensor([[-3.0, 1.0]]), limit=0.5)
    plot.signed(axes, torch.zeros(2, 2))
    assert [image.get_clim() for image in axes.images] == [(-3, 3), (-0.5, 0.5), (-1, 1)]


@pytest.mark.parametrize("draw", PICTURES)
@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf, 1e30, -1e30])
def test_odd_values_do_not_spoil_the_others(axes, draw, odd):
    draw(axes, torch.tensor([[odd, 2.0], [0.0, -1.0]]))
    assert np.isfinite(axes.images[0].get_clim()).all()
    axes.figure.canvas.draw()
    draw(axes, torch.full((2, 2), odd))
    axes.figure.canvas.draw()


def test_numbers_are_written_so_that_they_can_be_read(axes):
    plot.numbers(axes, torch.tensor([[-0.25, 3.0, float("nan")]]))
    assert [text.get_text() for text in axes.texts] == ["-.25", "3", "nan"]
    assert [text.get_position() for text in axes.texts] == [(0, 0), (1, 0), (2, 0)]
    plot.numbers(axes, torch.tensor([[0.0, 1.0]]), form="{:.1f}", cmap="gray", vmin=0, vmax=1)
    assert [text.get_text() for text in axes.texts[3:]] == [".0", "1.0"]
    assert [text.get_color() for text in axes.texts[2:]] == ["black", "white", "black"]


def test_pictures_do_not_change_their_data(axes):
    x = torch.randn(4, 5)
    kept = x.clone()
    for draw in PICTURES:
        draw(axes, x)
        draw(axes, x.numpy())
    axes.figure.canvas.draw()
    assert x.equal(kept)


def test_gallery():
    images = [torch.rand(3, 4, 5), torch.rand(1, 9, 3), torch.rand(6, 6)]
    panels = plot.gallery(images, ["a", "b", "c"], columns=2)
    assert panels.shape == (2, 2) and isinstance(panels[0, 0], plt.Axes)
    assert [titled(panel) for panel in panels.flat] == ["a", "b", "c", ""]
    assert not panels[1, 1].axison
    assert plot.gallery(torch.rand(5, 3, 4, 4)).shape == (1, 5)
    assert plot.gallery(images[1:], draw=plot.signed)[0, 0].images[0].get_cmap().name == "RdBu_r"
    panels[0, 0].figure.canvas.draw()


@pytest.mark.parametrize(
    "images, titles", [([], []), (torch.zeros(3, 2, 2), ["a"]), (torch.zeros(1, 2, 2), ["a", "b"])]
)
def test_a_gallery_wants_as_many_titles_as_images(images, titles):
    with pytest.raises(ValueError, match=rf"got {len(images)} images and {len(titles)} titles"):
        plot.gallery(images, titles)
    assert not plt.get_fignums()


def test_intervals_show_the_first_name_on_top(axes):
    assert plot.intervals(axes, ["CNN", "k-NN"], [0.9, 0.8], [0.8, 0.7], [0.95, 0.85], "accuracy") is axes
    axes.figure.canvas.draw()
    names = {text.get_text(): y for text, y in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)}
    assert names["CNN"] > names["k-NN"] and axes.get_xlabel() == "accuracy"
    low, high = axes.collections[0].get_segments()[0][:, 0]
    assert (low, high) == pytest.approx((0.8, 0.95))


def test_the_style_is_legible_and_goes_with_its_block():
    before = dict(mpl.rcParams)
    with plot.style():
        assert mpl.rcParams["figure.dpi"] == 100 and mpl.rcParams["font.size"] >= 9
        assert not mpl.rcParams["axes.spines.top"]
    assert dict(mpl.rcParams) == before
    with pytest.raises(ZeroDivisionError), plot.style():
        1 / 0  # noqa: B018
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    "font",
    [{"font.family": ["serif"]}, {"font.sans-serif": ["SimHei", "DejaVu Sans"], "axes.unicode_minus": False}],
)
def test_the_style_keeps_the_readers_own_font(font):
    with mpl.rc_context(font):
        with plot.style():
            assert {name: mpl.rcParams[name] for name in font} == font
        plot.use_style()
        assert {name: mpl.rcParams[name] for name in font} == font


def test_use_style_stays():
    with mpl.rc_context():
        plot.use_style()
        assert mpl.rcParams["axes.titlelocation"] == "left"
        assert mpl.colors.to_hex(mpl.rcParams["axes.prop_cycle"].by_key()["color"][0]).upper() == plot.BLUE
