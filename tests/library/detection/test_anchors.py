"""Anchors: where they stand, offsets and matching against loops and torchvision."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torchvision.models.detection import _utils as torch_utils
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from tests.support.detection import EXACT, seeded, seeds, solid_boxes, thorough
from vlmbook.detection import (
    BACKGROUND,
    IGNORED,
    box_area,
    decode_boxes,
    encode_boxes,
    generate_anchors,
    match_anchors,
    sample_anchors,
)
from vlmbook.detection.anchors import LARGEST_LOG

# --- where they stand ---------------------------------------------------------------------------------------


def generate_anchors_loops(grid, stride, sizes, ratios):
    """(H, W), (sy, sx), S sizes, R ratios -> (H·W·R·S, 4): as `generate_anchors`, one after the other."""
    anchors = []
    for row in range(grid[0]):
        for column in range(grid[1]):
            y = row * stride[0]
            x = column * stride[1]
            for ratio in ratios:
                for size in sizes:
                    dx = torch.tensor(size / ratio**0.5 / 2).round().item()
                    dy = torch.tensor(size * ratio**0.5 / 2).round().item()
                    anchors.append([x - dx, y - dy, x + dx, y + dy])
    return torch.tensor(anchors).view(-1, 4)


@thorough
@given(
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    sizes=st.lists(st.sampled_from([8, 16, 20.5, 32, 45]), min_size=1, max_size=3, unique=True),
    ratios=st.lists(st.sampled_from([0.5, 1.0, 2.0, 0.3]), min_size=1, max_size=3, unique=True),
)
def test_anchors_are_torchvisions_and_those_of_the_loops(grid, stride, sizes, ratios):
    anchors = generate_anchors(grid, stride, sizes, ratios)
    height, width = (cells * pixels for cells, pixels in zip(grid, stride, strict=True))
    theirs = AnchorGenerator((tuple(sizes),), (tuple(ratios),))(
        ImageList(torch.zeros(1, 3, height, width), [(height, width)]), [torch.zeros(1, 1, *grid)]
    )
    assert_close(anchors, theirs[0])
    assert_close(anchors, generate_anchors_loops(grid, stride, sizes, ratios))


def test_anchors_stand_at_strides_that_are_not_whole():
    anchors = generate_anchors((2, 2), (7.5, 8.25), [4], [1.0])
    center = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert center.tolist() == [[0, 0], [8.25, 0], [0, 7.5], [8.25, 7.5]]


def test_nine_anchors_a_cell_in_the_papers_order():
    anchors = generate_anchors((2, 3), (16, 16), (128, 256, 512), (0.5, 1, 2))
    assert anchors.shape == (2 * 3 * 9, 4)
    first = anchors[:9]
    assert_close(first[:, :2], -first[:, 2:])  # around the corner of the first cell
    ratios = (first[:, 3] / first[:, 2]).view(3, 3)
    assert_close(ratios, torch.tensor([[0.5], [1], [2]]).expand(3, 3), rtol=0.02, atol=0)
    sizes = box_area(first).sqrt().view(3, 3)
    assert_close(sizes, torch.tensor([[128.0, 256, 512]]).expand(3, 3), rtol=0.01, atol=0)
    second_row_second_column = anchors[9 * 4 : 9 * 5]
    assert_close(second_row_second_column - first, torch.tensor([16.0, 16, 16, 16]).expand(9, 4))


@pytest.mark.parametrize(
    ("values", "error", "sentence"),
    [
        (dict(sizes=[]), ValueError, r"sizes wants numbers above 0, at least one, got \[\]"),
        (dict(sizes=16), TypeError, "sizes wants numbers above 0, at least one, got 16"),
        (dict(sizes=[0]), ValueError, r"sizes\[0\] wants a finite number above 0, got 0"),
        (dict(ratios=[1.0, -1.0]), ValueError, r"ratios\[1\]"),
        (dict(ratios=[math.inf]), ValueError, "ratios"),
        (dict(stride=(0, 4)), ValueError, r"stride\[0\] wants a finite number above 0, got 0"),
        (dict(stride=8), TypeError, "stride wants 2 numbers above 0, got 8"),
        (dict(sizes=[1e300]), ValueError, "anchors of these sizes and ratios wants finite values"),
        (dict(grid=(2.5, 2)), TypeError, "grid wants a whole number"),
        (dict(grid=(2, 2, 2)), ValueError, "grid wants one whole number or two"),
    ],
)
def test_anchors_refuse_what_is_no_size(values, error, sentence):
    with pytest.raises(error, match=sentence):
        generate_anchors(**{"grid": (2, 2), "stride": (4, 4), "sizes": [8], "ratios": [1.0], **values})


# --- offsets from them --------------------------------------------------------------------------------------


def encode_boxes_loops(boxes, anchors, weights=(1.0, 1.0, 1.0, 1.0)):
    """(N, 4), (N, 4) -> (N, 4): as `encode_boxes`, number by number."""
    offsets = torch.zeros_like(boxes)
    for i, (b, a) in enumerate(zip(boxes, anchors, strict=True)):
        for axis in (0, 1):
            size = b[axis + 2] - b[axis]
            size_a = a[axis + 2] - a[axis]
            center = b[axis] + size / 2
            center_a = a[axis] + size_a / 2
            offsets[i, axis] = weights[axis] * (center - center_a) / size_a
            offsets[i, axis + 2] = weights[axis + 2] * torch.log(size / size_a)
    return offsets


def decode_boxes_loops(offsets, anchors, weights=(1.0, 1.0, 1.0, 1.0)):
    """(N, 4·K), (N, 4) -> (N, 4·K): as `decode_boxes`, number by number."""
    boxes = torch.zeros_like(offsets)
    for i, a in enumerate(anchors):
        for start in range(0, offsets.shape[1], 4):
            for axis in (0, 1):
                size_a = a[axis + 2] - a[axis]
                center = a[axis] + size_a / 2 + size_a * offsets[i, start + axis] / weights[axis]
                log = (offsets[i, start + axis + 2] / weights[axis + 2]).clamp(max=LARGEST_LOG)
                size = size_a * log.exp()
                boxes[i, start + axis] = center - size / 2
                boxes[i, start + axis + 2] = center + size / 2
    return boxes


WEIGHTS = [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0), (2.0, 3.0, 5.0, 7.0)]


@thorough
@given(n=st.integers(0, 6), seed=seeds, weights=st.sampled_from(WEIGHTS))
def test_encoding_is_torchvisions_and_decoding_its_inverse(n, seed, weights):
    boxes = solid_boxes(n, seed)
    anchors = solid_boxes(n, seed + 1)
    offsets = encode_boxes(boxes, anchors, weights)
    theirs = torch_utils.encode_boxes(boxes, anchors, boxes.new_tensor(weights))
    assert_close(offsets, theirs, rtol=1e-7, atol=1e-7)
    assert_close(offsets, encode_boxes_loops(boxes, anchors, weights), **EXACT)
    assert_close(decode_boxes(offsets, anchors, weights), boxes, rtol=1e-8, atol=1e-8)


@thorough
@given(n=st.integers(1, 5), classes=st.integers(1, 3), seed=seeds, weights=st.sampled_from(WEIGHTS))
def test_decoding_is_torchvisions_and_that_of_the_loops(n, classes, seed, weights):
    offsets = torch.randn(n, 4 * classes, generator=seeded(seed), dtype=torch.float64)
    offsets = 9 * offsets  # some beyond the bound
    anchors = solid_boxes(n, seed + 1)
    boxes = decode_boxes(offsets, anchors, weights)
    theirs = torch_utils.BoxCoder(weights).decode_single(offsets, anchors)
    assert_close(boxes, theirs.view(n, -1), rtol=1e-7, atol=1e-6)
    assert_close(boxes, decode_boxes_loops(offsets, anchors, weights), rtol=1e-7, atol=1e-6)


def test_offsets_have_torchvisions_gradients():
    boxes = solid_boxes(5, 0).requires_grad_()
    anchors = solid_boxes(5, 1)
    offsets = torch.randn(5, 8, generator=seeded(2), dtype=torch.float64).requires_grad_()
    coder = torch_utils.BoxCoder(WEIGHTS[0])
    encoded = encode_boxes(boxes, anchors, WEIGHTS[2])
    theirs = torch_utils.encode_boxes(boxes, anchors, boxes.new_tensor(WEIGHTS[2]))
    assert_close(
        torch.autograd.grad(encoded.square().sum(), boxes),
        torch.autograd.grad(theirs.square().sum(), boxes),
        rtol=1e-6,
        atol=1e-6,
    )
    assert_close(
        torch.autograd.grad(decode_boxes(offsets, anchors).sin().sum(), offsets),
        torch.autograd.grad(coder.decode_single(offsets, anchors).sin().sum(), offsets),
        rtol=1e-6,
        atol=1e-6,
    )


def test_a_step_of_one_is_one_anchor_and_a_log_of_two_twice_as_wide():
    anchor = torch.tensor([[10.0, 10, 14, 20]], dtype=torch.float64)
    moved = decode_boxes(torch.tensor([[1.0, 0.5, math.log(2), 0]], dtype=torch.float64), anchor)
    assert_close(moved, torch.tensor([[12.0, 15, 20, 25]], dtype=torch.float64))


def test_a_huge_log_is_bounded():
    anchor = torch.tensor([[0.0, 0, 16, 16]])
    boxes = decode_boxes(torch.tensor([[0.0, 0, 50, 50]]), anchor)
    assert_close(boxes, torch.tensor([[-492.0, -492, 508, 508]]), rtol=1e-4, atol=1e-2)  # 1000 pixels wide


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_offsets_of_low_precision_are_those_of_float32_rounded_once(dtype):
    boxes = (solid_boxes(6, 3, scale=300).float() + 40).to(dtype)
    anchors = (solid_boxes(6, 4, scale=300).float() + 40).to(dtype)
    offsets = encode_boxes(boxes, anchors)
    assert_close(offsets, encode_boxes(boxes.float(), anchors.float()).to(dtype), rtol=0, atol=0)
    decoded = decode_boxes(offsets, anchors)
    assert_close(decoded, decode_boxes(offsets.float(), anchors.float()).to(dtype), rtol=0, atol=0)


def test_offsets_refuse_two_kinds():
    with pytest.raises(TypeError, match=r"boxes wants the kind of anchors, torch\.float32 .*float64"):
        encode_boxes(torch.zeros(2, 4).double(), torch.zeros(2, 4))
    with pytest.raises(TypeError, match=r"offsets wants the kind of anchors, torch\.float32 .*float16"):
        decode_boxes(torch.zeros(2, 4).half(), torch.zeros(2, 4))


def test_offsets_refuse_other_numbers_of_anchors_and_columns():
    with pytest.raises(ValueError, match=r"boxes wants the shape \(3, 4\), got \(2, 4\)"):
        encode_boxes(torch.zeros(2, 4), torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"offsets wants the shape \(3, 4·K\), got \(2, 4\)"):
        decode_boxes(torch.zeros(2, 4), torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"4·K\), got \(2, 6\)"):
        decode_boxes(torch.zeros(2, 6), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"weights wants 4 numbers above 0, got \(1, 1, 1\)"):
        encode_boxes(torch.zeros(2, 4), torch.zeros(2, 4), (1, 1, 1))


# --- which of them is matched to which object ---------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    objects=st.integers(1, 4),
    anchors=st.integers(1, 12),
    seed=seeds,
    low_quality=st.booleans(),
    thresholds=st.sampled_from([(0.7, 0.3), (0.5, 0.5)]),
)
def test_matches_are_those_of_torchvisions_matcher(objects, anchors, seed, low_quality, thresholds):
    iou = (torch.rand(objects, anchors, generator=seeded(seed)) * 20).ceil() / 20  # above 0, often equal
    theirs = torch_utils.Matcher(*thresholds, allow_low_quality_matches=low_quality)(iou)
    assert match_anchors(iou, *thresholds, allow_low_quality_matches=low_quality).tolist() == theirs.tolist()


def test_matches_by_hand():
    iou = torch.tensor([[0.8, 0.2, 0.5, 0.0], [0.1, 0.4, 0.2, 0.0], [0.0, 0.0, 0.0, 0.0]])
    strict = match_anchors(iou, 0.7, 0.3, allow_low_quality_matches=False)
    assert strict.tolist() == [0, IGNORED, IGNORED, BACKGROUND]
    best_too = match_anchors(iou, 0.7, 0.3, allow_low_quality_matches=True)
    assert best_too.tolist() == [0, 1, IGNORED, BACKGROUND]
    nothing = match_anchors(torch.zeros(0, 3), 0.7, 0.3, allow_low_quality_matches=True)
    assert nothing.tolist() == [BACKGROUND] * 3
    assert match_anchors(torch.zeros(2, 0), 0.7, 0.3, allow_low_quality_matches=True).tolist() == []


def test_matches_refuse_thresholds_in_the_wrong_order():
    with pytest.raises(ValueError, match=r"low_threshold wants a finite number from 0 to 0\.3, got 0\.7"):
        match_anchors(torch.zeros(1, 1), 0.3, 0.7, allow_low_quality_matches=True)


def test_samples_hold_a_bounded_share_of_objects_and_are_filled():
    matched = torch.tensor([0] * 30 + [BACKGROUND] * 50 + [IGNORED] * 20)
    positive, background = sample_anchors(matched, 40, 0.25)
    assert len(positive) == 10
    assert len(background) == 30
    assert len(set(positive.tolist())) == 10
    assert (matched[positive] == 0).all()
    assert (matched[background] == BACKGROUND).all()
    positive, background = sample_anchors(matched[25:], 40, 0.5)
    assert (len(positive), len(background)) == (5, 35)
    positive, background = sample_anchors(matched[:35], 40, 0.5)
    assert (len(positive), len(background)) == (20, 5)
