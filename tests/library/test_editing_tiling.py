"""Windows: they cover the image once, and give the pixels of the whole image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook.editing import map_tiles, windows
from vlmbook.editing.tiling import as_floating, as_kind

sizes = st.integers(1, 23)


@settings(max_examples=100, deadline=None)
@given(height=sizes, width=sizes, tile=st.integers(1, 25), overlap=st.integers(0, 9), grid=st.integers(1, 8))
def test_squares_cover_the_image_once_within_their_rectangles(height, width, tile, overlap, grid):
    count = torch.zeros(height, width)
    for each in windows(height, width, tile=tile, overlap=overlap, grid=grid):
        count[each.top : each.bottom, each.left : each.right] += 1
        assert each.above % grid == 0 and each.before % grid == 0
        assert each.above <= max(0, each.top - overlap) and each.before <= max(0, each.left - overlap)
        assert each.below == min(height, each.bottom + overlap)
        assert each.after == min(width, each.right + overlap)
        assert each.below - each.above < tile + 2 * overlap + grid
    assert (count == 1).all()


@settings(max_examples=50, deadline=None)
@given(height=sizes, width=sizes, tile=st.integers(1, 25), factor=st.integers(1, 3), seed=st.integers(0, 99))
def test_windows_give_the_whole_images_pixels(height, width, tile, factor, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(3, height, width, generator=generator)
    kernel = torch.rand(2, 3, 5, 5, generator=generator) / 75

    def function(x):
        filtered = F.conv2d(x[None], kernel, padding=2)
        return F.interpolate(filtered, scale_factor=float(factor), mode="nearest")[0]

    whole = function(image)
    assert_close(map_tiles(function, image, tile=tile, overlap=2, factor=factor), whole)
    if tile < min(height, width) and factor == 1:
        cut = map_tiles(function, image, tile=tile, overlap=0)
        assert not torch.allclose(cut, whole)  # windows without overlap do show


def test_bytes_stay_bytes_and_are_rounded():
    image = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert_close(map_tiles(lambda x: x, image, tile=5, overlap=1), image, rtol=0, atol=0)
    halves = map_tiles(lambda x: x / 2, image, tile=5, overlap=1)
    assert_close(halves, (image.double() / 2).round().byte(), rtol=0, atol=1)
    seen = []
    map_tiles(lambda x: seen.append(x) or x, image, tile=8, overlap=0)
    assert all(x.dtype == torch.float32 and x.max() <= 1 for x in seen)
    assert as_kind(torch.tensor([[[-0.2, 1.4]]]), torch.uint8).tolist() == [[[0, 255]]]
    assert as_kind(torch.tensor([[[0.6, 1.4, 253.7]]]) / 255, torch.uint8).tolist() == [[[1, 1, 254]]]
    assert as_floating(image).max() == 1


def test_a_window_is_never_larger_than_asked():
    seen = []
    image = torch.rand(1, 61, 83)
    map_tiles(lambda x: seen.append(x.shape) or x, image, tile=10, overlap=3)
    assert len(seen) == 7 * 9 and max(max(shape[1:]) for shape in seen) == 16


def test_a_function_of_another_size_is_refused():
    with pytest.raises(ValueError, match="shape"):
        map_tiles(lambda x: x[:, 1:], torch.rand(1, 8, 8), tile=4, overlap=0)
    with pytest.raises(TypeError, match="return a tensor"):
        map_tiles(lambda x: None, torch.rand(1, 8, 8), tile=4, overlap=0)
