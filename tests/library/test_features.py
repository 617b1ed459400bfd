"""Edges, corners, texture and histograms of gradients: equal to SciPy and scikit-image, on photographs and on
random images of any shape, and what must not change them.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage import feature, filters
from skimage.color import rgb2gray
from torch.testing import assert_close

from vlmbook import data, features


def noise(height, width, seed=0):
    return torch.rand(height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def photograph(name):
    return features.to_grey(data.photo(name).double())


shapes = st.tuples(st.integers(9, 40), st.integers(9, 40), st.integers(0, 1000))

# --- brightness and its gradient ----------------------------------------------------------------------------


def test_grey_is_scikit_images_grey():
    cat = data.photo("cat").double()
    wanted = torch.from_numpy(rgb2gray(cat.permute(1, 2, 0).numpy()))
    assert_close(features.to_grey(cat), wanted)
    assert_close(features.to_grey(torch.stack([cat, cat.flip(2)])), torch.stack([wanted, wanted.flip(1)]))


@settings(deadline=None, max_examples=15)
@given(shapes, st.floats(0.3, 3))
def test_the_blur_is_scipys(shape, sigma):
    image = noise(*shape)
    wanted = ndimage.gaussian_filter(image.numpy(), sigma, mode="nearest")
    assert_close(features.gaussian_blur(image, sigma), torch.from_numpy(wanted))


@settings(deadline=None, max_examples=15)
@given(shapes)
def test_gradients_are_scipys_sobel_and_strength_is_scikit_images(shape):
    image = noise(*shape)
    down, right = features.sobel_gradients(image)
    assert_close(down, torch.from_numpy(ndimage.sobel(image.numpy(), 0) / 8))
    assert_close(right, torch.from_numpy(ndimage.sobel(image.numpy(), 1) / 8))
    wanted = torch.from_numpy(filters.sobel(image.numpy())) / 2**0.5  # scikit-image has the mean of both
    assert_close(features.edge_strength(image), wanted)


def test_a_slope_has_its_gradient_everywhere_but_at_the_border():
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(9.0), indexing="ij")
    down, right = features.sobel_gradients(0.02 * rows + 0.05 * columns)
    assert_close(down[1:-1], torch.full((6, 9), 0.02))
    assert_close(right[:, 1:-1], torch.full((8, 7), 0.05))


# --- edges --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cat", "coins", "page", "rocket"])
@pytest.mark.parametrize("sigma", [1.0, 2.5])
def test_the_edges_of_photographs_are_scikit_images(name, sigma):
    image = photograph(name)[:200]
    wanted = feature.canny(image.numpy(), sigma, 0.1, 0.2, mode="nearest")
    assert wanted.any()
    assert np.array_equal(features.canny(image, sigma=sigma, low=0.0125, high=0.025).numpy(), wanted)


@settings(deadline=None, max_examples=15)
@given(shapes, st.floats(0, 0.6), st.floats(0, 0.6))
def test_the_edges_of_noise_are_scikit_images(shape, low, more):
    image = noise(*shape)
    wanted = feature.canny(image.numpy(), 1.0, low, low + more, mode="nearest")
    found = features.canny(image, low=low / 8, high=(low + more) / 8)
    assert np.array_equal(found.numpy(), wanted)


def test_a_flat_image_has_no_edges_and_a_step_has_one_line():
    assert not features.canny(torch.full((9, 12), 0.4)).any()
    step = torch.zeros(12, 16)
    step[:, 8:] = 1
    edges = features.canny(step)
    assert (edges[1:-1].sum(1) >= 1).all() and not edges[:, :6].any() and not edges[:, 11:].any()


def test_a_weak_edge_is_kept_only_where_a_strong_one_continues_it():
    image = torch.zeros(20, 40)
    image[10:] = 0.08
    assert not features.canny(image, low=0.01, high=0.05).any()
    image[10:] = torch.linspace(0.08, 0.8, 40)
    edges = features.canny(image, low=0.01, high=0.05)
    assert edges[8:12, 3].any() and edges[8:12, 36].any()


# --- corners ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(shapes, st.floats(0.5, 2), st.floats(0, 0.25))
def test_the_response_is_that_of_scikit_images_structure_tensor(shape, sigma, k):
    image = noise(*shape)
    a, b, c = feature.structure_tensor(image.numpy(), sigma, mode="nearest", order="rc")
    wanted = (a * c - b * b - k * (a + c) ** 2) / 8**4
    assert_close(features.corner_response(image, sigma=sigma, k=k), torch.from_numpy(wanted))


def test_away_from_the_border_it_is_corner_harris():
    image = photograph("cat")
    wanted = torch.from_numpy(feature.corner_harris(image.numpy(), k=0.05, sigma=1)) / 8**4
    assert_close(features.corner_response(image)[6:-6, 6:-6], wanted[6:-6, 6:-6])


def test_a_chessboard_has_as_many_corners_as_its_lines_cross():
    board = (torch.arange(48)[:, None] // 8 + torch.arange(64) // 8).remainder(2).double()
    found = features.find_corners(features.corner_response(board), count=1000, distance=3)
    crossings = {(8 * i, 8 * j) for i in range(1, 6) for j in range(1, 8)}
    near = {(8 * round(row / 8 + 1e-9), 8 * round(column / 8 + 1e-9)) for row, column in found.tolist()}
    assert near == crossings


def test_the_corners_are_the_peaks_that_scikit_image_finds():
    response = features.corner_response(photograph("cat"))
    wanted = feature.peak_local_max(response.numpy(), min_distance=6, num_peaks=40, exclude_border=6)
    found = features.find_corners(response, count=40, distance=6)
    assert set(map(tuple, found.tolist())) == set(map(tuple, wanted.tolist()))
    heights = response[found[:, 0], found[:, 1]]
    assert (heights[:-1] >= heights[1:]).all()


def test_where_nothing_is_there_are_no_corners():
    assert features.find_corners(torch.zeros(20, 20)).shape == (0, 2)
    assert features.find_corners(torch.ones(6, 30), distance=3).shape == (0, 2)


# --- texture ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(shapes)
def test_patterns_are_scikit_images_of_radius_1(shape):
    image = noise(*shape)
    with pytest.warns(UserWarning, match="floating-point"):
        wanted = feature.local_binary_pattern(image.numpy(), 8, 1)
    assert np.array_equal(features.local_binary_patterns(image).numpy(), wanted)


def test_patterns_of_a_photograph_differ_from_scikit_images_only_where_two_values_are_equal():
    pixels = (255 * photograph("brick")).round()
    wanted = feature.local_binary_pattern(pixels.numpy().astype(np.uint8), 8, 1)
    assert (features.local_binary_patterns(pixels).numpy() != wanted).mean() < 1e-3


@pytest.mark.parametrize("change", [lambda x: 0.5 * x + 0.2, lambda x: 2 * x], ids=["light", "contrast"])
def test_patterns_inside_do_not_see_the_light(change):
    image = noise(20, 30)
    inside = (slice(1, -1), slice(1, -1))
    patterns = features.local_binary_patterns(image)
    assert torch.equal(features.local_binary_patterns(change(image))[inside], patterns[inside])
    assert patterns.min() >= 0 and patterns.max() <= 255


# --- histograms of oriented gradients -----------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(shapes, st.integers(2, 5), st.integers(1, 2), st.integers(1, 12))
def test_hog_is_scikit_images(shape, cell, block, bins):
    image = noise(*shape)
    wanted = feature.hog(
        image.numpy(),
        orientations=bins,
        pixels_per_cell=(cell, cell),
        cells_per_block=(block, block),
        feature_vector=False,
    )
    found = features.hog(image, cell=cell, block=block, bins=bins)
    assert_close(found, torch.from_numpy(wanted), atol=1e-6, rtol=1e-5)


def test_hog_of_a_batch_is_that_of_each_image():
    images = torch.stack([photograph("cat")[:50, :60], photograph("cat")[60:110, 60:120]])[:, None]
    batch = features.hog(images)
    assert batch.shape == (2, 1, 5, 6, 2, 2, 9)
    assert_close(batch[1, 0], features.hog(images[1, 0]))


def test_hog_does_not_see_the_light_and_a_gradient_equals_its_opposite():
    image = photograph("cat")[:64, :64]
    assert_close(features.hog(0.4 * image + 0.3), features.hog(image), atol=5e-3, rtol=0)
    assert_close(features.hog(1 - image), features.hog(image), atol=1e-4, rtol=0)


def test_a_slope_fills_the_bin_of_its_orientation():
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    for wanted, slope in {0: columns, 4: rows, 2: rows + columns, 6: rows - columns}.items():
        cells = features.orientation_histograms(0.01 * slope, cell=8, bins=9)
        assert cells.shape == (1, 1, 9) and cells[0, 0].argmax() == wanted


# --- all ----------------------------------------------------------------------------------------------------

OF_IMAGES = (
    lambda x: features.gaussian_blur(x, 1.0),
    lambda x: features.sobel_gradients(x)[0],
    features.edge_strength,
    features.corner_response,
    features.orientation_histograms,
    features.hog,
)


@pytest.mark.parametrize("call", OF_IMAGES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_dtype_stays_and_the_sums_are_those_of_float32(call, dtype):
    image = noise(30, 40).to(dtype)
    found = call(image)
    assert found.dtype == dtype
    assert_close(found.float(), call(image.float()), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("call", OF_IMAGES)
def test_gradients_reach_the_image(call):
    image = noise(20, 24).requires_grad_()
    call(image).square().sum().backward()
    assert torch.isfinite(image.grad).all() and image.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: features.hog(torch.ones(7, 20)), "cell"),
        (lambda: features.hog(torch.ones(8, 20)), "2×2 cells"),
        (lambda: features.canny(torch.ones(5, 5), low=0.2, high=0.1), "high"),
        (lambda: features.to_grey(torch.ones(1, 5, 5)), "images"),
        (lambda: features.corner_response(torch.ones(5, 5), k=0.3), "k"),
    ],
)
def test_what_cannot_be_used_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
