"""Bicubic interpolation against loops and the published figures; colour spaces against scikit-image."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2ycbcr
from torch.testing import assert_close

from tests.support.files import REAL, real
from vlmbook.data import photo, read_image
from vlmbook.data.images import list_images
from vlmbook.editing import (
    crop_to_multiple,
    enlarge_bicubic,
    luma_psnr,
    rgb_to_ycbcr,
    shrink_bicubic,
    studio_luma,
    ycbcr_to_rgb,
)
from vlmbook.editing.resampling import luma

PUBLISHED = {2: 33.66, 3: 30.39, 4: 28.42}  # dB of bicubic interpolation on Set5 [Dong et al. 2016, table 4]


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def keys_kernel(x):
    """Keys' cubic with a = −0.5."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def resample_loops(row, new, widen):
    """list of float -> list of `new` float: each the weighted mean of the pixels around it, borders
    mirrored.
    """
    size, scale = len(row), new / len(row)
    result = []
    for i in range(new):
        middle = (i + 0.5) / scale - 0.5
        near = range(math.floor(middle - 2 * widen) - 1, math.ceil(middle + 2 * widen) + 2)
        weights = [keys_kernel((middle - j) / widen) for j in near]
        values = [row[min(j % (2 * size), 2 * size - 1 - j % (2 * size))] for j in near]
        result.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
    return result


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 9), factor=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_row_is_enlarged_and_shrunk_as_in_loops(size, factor, seed):
    row = randn(size, seed=seed)
    large = enlarge_bicubic(row.view(1, 1, -1), factor)[0]
    assert_close(large[0], torch.tensor(resample_loops(row.tolist(), factor * size, 1)).double())
    assert large.shape == (factor, factor * size)
    wide = randn(factor * size, seed=seed)
    small = shrink_bicubic(wide.view(1, 1, -1).expand(1, factor, -1), factor)[0, 0]
    assert_close(small, torch.tensor(resample_loops(wide.tolist(), size, factor)).double())


def test_rows_and_columns_are_treated_alike():
    x = randn(2, 3, 6, 8)
    for resample in (enlarge_bicubic, shrink_bicubic):
        assert_close(resample(x, 2).mT, resample(x.mT.contiguous(), 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_dtype_stays(dtype):
    x = torch.rand(3, 7, 9, generator=torch.Generator().manual_seed(0)).to(dtype)
    large = enlarge_bicubic(x, 2)
    assert large.dtype == dtype
    assert_close(large.double(), enlarge_bicubic(x.double(), 2), rtol=0, atol=0.01)


def test_a_constant_stays_constant():
    assert_close(enlarge_bicubic(torch.full((1, 3, 5), 0.3), 3), torch.full((1, 9, 15), 0.3))
    assert_close(shrink_bicubic(torch.full((1, 6, 9), 0.3), 3), torch.full((1, 2, 3), 0.3))


def test_shrinking_wants_sides_that_the_factor_divides():
    with pytest.raises(ValueError, match="sides that 2 divides, got 5 and 6"):
        shrink_bicubic(torch.ones(1, 5, 6), 2)
    assert shrink_bicubic(crop_to_multiple(torch.ones(1, 5, 6), 2), 2).shape == (1, 2, 3)
    with pytest.raises(ValueError, match="at least 7"):
        crop_to_multiple(torch.ones(1, 5, 6), 7)


@real("superres")
@pytest.mark.parametrize("factor", PUBLISHED)
def test_bicubic_has_the_published_figure_on_set5(factor):
    """The luma is shrunk and enlarged, as SRCNN's program does it."""
    scores = []
    for path in list_images(REAL / "superres" / "Set5"):
        true = studio_luma(crop_to_multiple(read_image(path, channels=3), factor))
        true = (255 * true).round() / 255
        large = enlarge_bicubic(shrink_bicubic(true, factor), factor)
        large = (255 * large.clamp(0, 1)).round() / 255
        inner = slice(factor, -factor)
        error = (large - true)[:, inner, inner].square().mean()
        scores.append(-10 * math.log10(error))
    assert sum(scores) / len(scores) == pytest.approx(PUBLISHED[factor], abs=0.01)


# --- colours ------------------------------------------------------------------------------------------------


def test_luma_is_that_of_scikit_image():
    image = photo("coffee")[:, :40, :50]
    expected = torch.from_numpy(rgb2ycbcr(image.permute(1, 2, 0).numpy())[..., 0]) / 255
    assert_close(studio_luma(image)[0], expected.float(), rtol=0, atol=1e-6)
    assert_close(studio_luma(torch.tensor([0.0, 1.0]).view(1, 1, 2))[0, 0], torch.tensor([16, 235]) / 255)


def test_colours_come_back():
    image = photo("cat")[:, :30, :20]
    there = rgb_to_ycbcr(image)
    assert_close(ycbcr_to_rgb(there), image, rtol=0, atol=1e-6)
    assert_close(luma(image), there[:1], rtol=0, atol=0)
    assert_close(luma(image[:1]), image[:1], rtol=0, atol=0)
    assert_close(rgb_to_ycbcr(image[:1].expand(3, -1, -1))[1:], torch.zeros(2, 30, 20), rtol=0, atol=1e-6)
    extremes = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).T.reshape(3, 2, 4)
    differences = rgb_to_ycbcr(extremes)[1:]
    assert differences.abs().amax((1, 2)).tolist() == pytest.approx([0.5, 0.5], abs=1e-6)


def test_luma_psnr_leaves_the_border_out():
    image = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0))
    other = image.clone()
    other[:, :2], other[:, -2:], other[:, :, :2], other[:, :, -2:] = 0, 0, 0, 0
    assert luma_psnr(other, image, border=2) == math.inf
    assert luma_psnr(other, image, border=1) < 30
