"""RoI pooling and RoI align against their loops and torchvision, values and gradients."""

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tests.support.detection import EXACT, seeded, seeds
from vlmbook.detection import roi_align, roi_align_loops, roi_pool, roi_pool_loops
from vlmbook.detection.regions import pool_regions


def some_regions(n, images, seed, size):
    """(K, 5) float64: boxes in and around an image of that size, some of them tiny, some outside."""
    generator = seeded(seed)
    low = torch.rand(n, 2, generator=generator, dtype=torch.float64) * size * 1.4 - 0.2 * size
    length = torch.rand(n, 2, generator=generator, dtype=torch.float64).square() * size
    number = torch.randint(images, (n, 1), generator=generator)
    return torch.cat([number, low, low + length], dim=1)


def with_gradient(pool, x, *arguments):
    """-> pooled regions, gradient of a weighted sum of them."""
    x = x.clone().requires_grad_()
    y = pool(x, *arguments)
    factors = torch.linspace(1, 2, y.numel(), dtype=y.dtype).view(y.shape)
    return y, torch.autograd.grad((y * factors).sum(), x)[0]


SHAPES = {
    "size": st.tuples(st.integers(2, 9), st.integers(2, 9)),
    "out": st.tuples(st.integers(1, 4), st.integers(1, 4)),
    "n": st.integers(1, 4),
    "scale": st.sampled_from([1.0, 0.5, 0.25]),
    "seed": seeds,
}


@settings(max_examples=150, deadline=None)
@given(**SHAPES, flat=st.booleans())
def test_roi_pool_is_torchvisions_and_that_of_the_loops(size, out, n, scale, seed, flat):
    x = torch.randn(2, 3, *size, generator=seeded(seed), dtype=torch.float64)
    x = x.clamp(min=0).round() if flat else x  # equal values: which one gets the gradient?
    boxes = some_regions(n, 2, seed, max(size) / scale)
    ours = with_gradient(roi_pool, x, boxes, out, scale)
    assert_close(ours, with_gradient(torchvision.ops.roi_pool, x, boxes, out, scale), **EXACT)
    assert_close(ours[0], roi_pool_loops(x, boxes, out, scale), **EXACT)


@settings(max_examples=150, deadline=None)
@given(**SHAPES, sampling=st.sampled_from([-1, 0, 1, 2, 3]), aligned=st.booleans())
def test_roi_align_is_torchvisions_and_that_of_the_loops(size, out, n, scale, seed, sampling, aligned):
    x = torch.randn(2, 3, *size, generator=seeded(seed), dtype=torch.float64)
    boxes = some_regions(n, 2, seed, max(size) / scale)
    arguments = (x, boxes, out, scale, sampling, aligned)
    theirs = with_gradient(torchvision.ops.roi_align, *arguments)
    assert_close(with_gradient(roi_align, *arguments), theirs, **EXACT)
    assert_close(roi_align_loops(*arguments), theirs[0], **EXACT)


both = pytest.mark.parametrize(
    ("pool", "theirs"), [(roi_pool, torchvision.ops.roi_pool), (roi_align, torchvision.ops.roi_align)]
)
every = pytest.mark.parametrize("pool", [roi_pool, roi_align, roi_pool_loops, roi_align_loops])


@both
def test_pooling_passes_gradcheck(pool, theirs):
    x = torch.randn(1, 2, 5, 6, generator=seeded(0), dtype=torch.float64).requires_grad_()
    boxes = torch.tensor([[0, 0.6, 0.4, 4.2, 3.9], [0, 2, 1, 5, 4]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: pool(x, boxes, 2), (x,))


@both
def test_pooling_takes_lists_of_boxes_and_none(pool, theirs):
    x = torch.randn(3, 2, 8, 8, generator=seeded(0))
    boxes = [torch.tensor([[0.0, 0, 5, 5], [2, 2, 4, 8]]), torch.zeros(0, 4), torch.tensor([[1.0, 0, 8, 3]])]
    assert_close(pool(x, boxes, 3), theirs(x, boxes, 3))
    assert pool(x, [torch.zeros(0, 4)] * 3, (3, 2)).shape == (0, 2, 3, 2)
    many = some_regions(150, 3, 5, 8).float()  # images in any order
    assert_close(pool(x, many, 2), theirs(x, many, 2), rtol=1e-4, atol=1e-5)


@both
def test_pooling_of_boxes_at_halves_turned_round_and_of_one_point_is_torchvisions(pool, theirs):
    x = torch.randn(1, 2, 9, 9, generator=seeded(7), dtype=torch.float64)
    boxes = torch.tensor(
        [
            [0, 0.5, 1.5, 4.5, 6.5],
            [0, 2.5, 2.5, 3.5, 7.5],
            [0, 6, 7, 2, 3],
            [0, 5, 5, 5, 5],
            [0, -2.5, -1.5, 3.5, 2.5],
            [0, 20, 20, 30, 30],
        ],
        dtype=torch.float64,
    )
    for out in (1, 2, 3):
        assert_close(pool(x, boxes, out), theirs(x, boxes, out), **EXACT)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@both
def test_pooling_in_low_precision_is_that_of_float32_rounded_once(pool, theirs, dtype):
    x = torch.randn(2, 3, 9, 12, generator=seeded(0)).to(dtype)
    boxes = some_regions(5, 2, 3, 12).to(dtype)
    expected = theirs(x.float(), boxes.float(), (3, 4)).to(dtype)
    pooled = pool(x, boxes, (3, 4))
    assert pooled.dtype == dtype
    assert_close(pooled, expected, rtol=2e-2, atol=1e-3)
    if dtype == torch.float16:  # torchvision has no other low precision on a CPU
        assert_close(pooled, theirs(x, boxes, (3, 4)), rtol=2e-2, atol=2e-2)


def test_a_mean_of_many_is_not_rounded_on_the_way():
    """Summed in bfloat16, 1024 ones would stop at 256."""
    x = torch.ones(1, 1, 32, 32, dtype=torch.bfloat16)
    assert roi_align(x, torch.tensor([[0.0, 0, 0, 32, 32]]).bfloat16(), 1, sampling_ratio=32).item() == 1


def test_what_the_detectors_call_has_a_stride_an_axis():
    x = torch.arange(12.0).expand(1, 1, 12, 12)
    boxes = [torch.tensor([[16.0, 8, 64, 32]])]
    pooled = pool_regions(x, boxes, (4, 8), 3)
    assert_close(pooled, roi_align(x, [boxes[0] / torch.tensor([8.0, 4, 8, 4])], 3, sampling_ratio=2))


def test_on_a_ramp_roi_align_gives_the_middle_of_each_bin():
    x = torch.arange(12.0).expand(1, 1, 12, 12)
    box = torch.tensor([[0, 2.3, 2.3, 8.3, 8.3]])
    pooled = roi_align(x, box, 3, aligned=True)
    assert_close(pooled[0, 0, 0], torch.tensor([2.3 + 1, 2.3 + 3, 2.3 + 5]) - 0.5)
    assert_close(roi_align(x, box, 3, aligned=False)[0, 0, 0], pooled[0, 0, 0] + 0.5)


@every
@pytest.mark.parametrize(
    ("x", "boxes", "out", "error", "sentence"),
    [
        (torch.zeros(3, 4, 4), torch.zeros(1, 5), 2, ValueError, r"input wants the shape \(B, C, H, W\)"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 4), 2, ValueError, r"boxes wants the shape \(K, 5\)"),
        (torch.zeros(1, 3, 4, 4), [torch.zeros(1, 4)] * 2, 2, ValueError, "one tensor an image, 1, got 2"),
        (torch.zeros(1, 3, 4, 4), torch.tensor([[1.0, 0, 0, 2, 2]]), 2, ValueError, "numbers from 0 to 0"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 5) / 0, 2, ValueError, "boxes wants finite values"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 5) + 1e6, 2, ValueError, "boxes"),
        (torch.zeros(1, 3, 4, 4), [torch.tensor([])], 2, ValueError, r"boxes\[0\] wants the shape"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 5), 0, ValueError, "output_size wants .* got 0"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 5), 2.0, TypeError, "output_size wants .* got 2.0"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 5).double(), 2, TypeError, "float32 .*got torch.float64"),
    ],
)
def test_pooling_refuses_what_it_cannot_use(pool, x, boxes, out, error, sentence):
    with pytest.raises(error, match=sentence):
        pool(x, boxes, out)
