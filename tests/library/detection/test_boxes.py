"""Boxes: area, overlap and suppression against loops and torchvision, and what any right one has."""

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tests.support.detection import EXACT, seeded, seeds, solid_boxes, some_boxes, thorough
from vlmbook.detection import (
    box_area,
    box_cxcywh_to_xyxy,
    box_iou,
    box_xyxy_to_cxcywh,
    boxes,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    nms,
)

# --- form and area ------------------------------------------------------------------------------------------


@thorough
@given(xyxy=some_boxes())
def test_forms_are_torchvisions_and_the_inverse_of_each_other(xyxy):
    cxcywh = box_xyxy_to_cxcywh(xyxy)
    assert_close(cxcywh, torchvision.ops.box_convert(xyxy, "xyxy", "cxcywh"), **EXACT)
    assert_close(box_cxcywh_to_xyxy(cxcywh), xyxy, **EXACT)
    assert_close(box_area(xyxy), torchvision.ops.box_area(xyxy), **EXACT)


@thorough
@given(xyxy=some_boxes(), height=st.integers(1, 9), width=st.integers(1, 9))
def test_clipped_boxes_are_torchvisions(xyxy, height, width):
    shifted = xyxy - 2
    assert_close(
        clip_boxes(shifted, (height, width)), torchvision.ops.clip_boxes_to_image(shifted, (height, width))
    )


def test_a_clipped_box_ends_at_the_edge():
    assert clip_boxes(torch.tensor([[-1.0, -2, 50, 60]]), (40, 30)).tolist() == [[0, 0, 30, 40]]


# --- overlap ------------------------------------------------------------------------------------------------


def box_iou_loops(boxes1, boxes2):
    """(N, 4), (M, 4) -> (N, M): as `box_iou`, one pair after the other."""
    iou = boxes1.new_zeros(len(boxes1), len(boxes2))
    for i, a in enumerate(boxes1):
        for j, b in enumerate(boxes2):
            width = (min(a[2], b[2]) - max(a[0], b[0])).clamp(min=0)
            height = (min(a[3], b[3]) - max(a[1], b[1])).clamp(min=0)
            both = width * height
            iou[i, j] = both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
    return iou


@thorough
@given(a=some_boxes(), b=some_boxes())
def test_iou_is_torchvisions_and_that_of_the_loops(a, b):
    iou = box_iou(a, b)
    assert_close(iou, torchvision.ops.box_iou(a, b), equal_nan=True, **EXACT)
    assert_close(iou, box_iou_loops(a, b), equal_nan=True, **EXACT)


@thorough
@given(a=some_boxes(least=1), b=some_boxes(least=1), zoom=st.floats(0.1, 10), shift=st.floats(-50, 50))
def test_iou_is_symmetric_bounded_and_without_a_unit(a, b, zoom, shift):
    iou = box_iou(a, b)
    assert_close(iou, box_iou(b, a).T, equal_nan=True, **EXACT)
    assert (((iou >= 0) & (iou <= 1)) | iou.isnan()).all()
    assert_close(iou, box_iou(a * zoom + shift, b * zoom + shift), equal_nan=True, rtol=1e-6, atol=1e-6)
    solid = a[box_area(a) > 0]
    assert_close(box_iou(solid, solid).diagonal(), torch.ones(len(solid), dtype=a.dtype))


def test_iou_has_torchvisions_gradients():
    pair = [solid_boxes(4, 0).requires_grad_(), solid_boxes(5, 1).requires_grad_()]
    factors = torch.linspace(1, 2, 20, dtype=torch.float64).view(4, 5)
    ours, theirs, loops = (
        torch.autograd.grad((iou(*pair) * factors).sum(), pair)
        for iou in (box_iou, torchvision.ops.box_iou, box_iou_loops)
    )
    assert_close(ours, theirs, **EXACT)
    assert_close(ours, loops, **EXACT)


def test_touching_boxes_share_nothing_and_one_inside_its_area():
    box = torch.tensor([[0.0, 0, 4, 4]])
    others = torch.tensor([[4.0, 0, 8, 4], [0, 4, 4, 8], [4, 4, 8, 8], [1, 1, 3, 3], [2, 0, 6, 4]])
    assert box_iou(box, others)[0].tolist() == pytest.approx([0, 0, 0, 4 / 16, 8 / 24])


low_precision = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


@low_precision
def test_areas_and_iou_of_large_boxes_are_torchvisions_in_low_precision(dtype):
    """300×300 pixels are more than float16 holds."""
    xyxy = torch.tensor([[0.0, 0, 300, 300], [0, 0, 300, 288], [64, 32, 512, 256], [0, 0, 8, 8]]).to(dtype)
    assert box_area(xyxy).tolist() == torchvision.ops.box_area(xyxy).tolist() == [90000, 86400, 100352, 64]
    iou = box_iou(xyxy, xyxy)
    assert iou.dtype == torch.float32
    assert_close(iou, torchvision.ops.box_iou(xyxy, xyxy))
    assert_close(iou, box_iou(xyxy.float(), xyxy.float()))


def test_iou_of_two_kinds_is_refused():
    with pytest.raises(
        TypeError, match=r"boxes2 wants the kind of boxes1, torch\.float32 .*got torch\.float16"
    ):
        box_iou(torch.zeros(1, 4), torch.zeros(1, 4).half())
    with pytest.raises(TypeError, match=r"boxes2 wants the kind of boxes1, torch\.float32 on cpu, .* meta"):
        box_iou(torch.zeros(1, 4), torch.zeros(1, 4, device="meta"))


def test_iou_of_none_is_empty():
    none = torch.zeros(0, 4)
    assert box_iou(none, torch.zeros(3, 4)).shape == (0, 3)
    assert box_iou(none, none).shape == (0, 0)


@pytest.mark.parametrize(
    ("bad", "error", "sentence"),
    [
        ([[0, 0, 1, 1]], TypeError, r"wants a torch.Tensor \(.*4\), got"),
        (torch.zeros(2, 4, dtype=torch.long), TypeError, "floating dtype, got torch.int64"),
        (torch.zeros(4), ValueError, r"shape \(.*4\), got \(4,\)"),
        (torch.tensor([]), ValueError, r"shape \(.*4\), got \(0,\)"),
        (torch.zeros(2, 5), ValueError, r"got \(2, 5\)"),
    ],
)
def test_what_are_no_boxes_is_refused(bad, error, sentence):
    good = torch.tensor([[0.0, 0, 1, 1]])
    calls = (
        lambda: box_area(bad),
        lambda: box_iou(bad, good),
        lambda: box_iou(good, bad),
        lambda: clip_boxes(bad, (4, 4)),
        lambda: encode_boxes(good, bad),
        lambda: decode_boxes(good, bad),
        lambda: nms(bad, torch.ones(1), 0.5),
    )
    for call in calls:
        with pytest.raises(error, match=sentence):
            call()


# --- suppression --------------------------------------------------------------------------------------------


def nms_loops(boxes, scores, iou_threshold):
    """(N, 4), (N,), float -> (K,) int64: as `nms`: take the best left, drop what overlaps it, repeat."""
    left = sorted(range(len(scores)), key=lambda i: -scores[i].item())  # sorted() keeps ties in order
    kept = []
    while left:
        best, *others = left
        kept.append(best)
        left = [i for i in others if not box_iou_loops(boxes[[best]], boxes[[i]])[0, 0] > iou_threshold]
    return torch.tensor(kept, dtype=torch.int64)


@thorough
@given(
    xyxy=some_boxes(most=30),
    ties=st.booleans(),
    seed=seeds,
    threshold=st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]),
)
def test_nms_keeps_what_torchvision_and_the_loops_keep(xyxy, ties, seed, threshold):
    scores = torch.rand(len(xyxy), generator=seeded(seed), dtype=torch.float64)
    scores = (4 * scores).round() if ties else scores
    kept = nms(xyxy, scores, threshold)
    assert kept.dtype == torch.int64
    assert kept.tolist() == torchvision.ops.nms(xyxy, scores, threshold).tolist()
    assert kept.tolist() == nms_loops(xyxy, scores, threshold).tolist()


@settings(max_examples=60, deadline=None)
@given(block=st.integers(1, 9), seed=seeds, threshold=st.sampled_from([0.1, 0.3, 0.6]))
def test_nms_does_not_depend_on_the_size_of_its_blocks(block, seed, threshold):
    xyxy = solid_boxes(60, seed)
    scores = torch.rand(60, generator=seeded(seed + 1), dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes, "NMS_BLOCK", block)
        kept = nms(xyxy, scores, threshold)
    assert kept.tolist() == torchvision.ops.nms(xyxy, scores, threshold).tolist()


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_nms_of_many_is_torchvisions(threshold):
    xyxy = solid_boxes(2000, 3, scale=100)
    scores = torch.rand(2000, generator=seeded(4), dtype=torch.float64)
    assert nms(xyxy, scores, threshold).tolist() == torchvision.ops.nms(xyxy, scores, threshold).tolist()


def test_nms_settles_a_chain_one_after_the_other():
    """Each overlaps the next by more than the threshold: the first drops the second, so the third stays."""
    chain = torch.tensor([[3.0 * i, 0, 3.0 * i + 10, 10] for i in range(300)])
    assert nms(chain, -torch.arange(300.0), 0.5).tolist() == list(range(0, 300, 2))


def test_an_iou_at_the_threshold_stays():
    pair = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1]], dtype=torch.float64)  # IoU 1/2 exactly
    assert nms(pair, torch.tensor([1.0, 0.5]), 0.5).tolist() == [0, 1]
    assert nms(pair, torch.tensor([1.0, 0.5]), 0.49).tolist() == [0]


@low_precision
def test_nms_drops_large_duplicates_in_low_precision(dtype):
    xyxy = (64 * solid_boxes(40, 5, scale=8).round()).to(dtype)
    scores = torch.rand(40, generator=seeded(6)).to(dtype)
    theirs = torchvision.ops.nms(xyxy.float(), scores.float(), 0.5)
    assert len(theirs) < 40
    assert nms(xyxy, scores, 0.5).tolist() == theirs.tolist()


def test_nms_of_none_and_of_equals():
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []
    assert nms(torch.tensor([[0.0, 0, 1, 1]] * 3), torch.ones(3), 0.5).tolist() == [0]


@settings(max_examples=100, deadline=None)
@given(xyxy=some_boxes(most=20), seed=seeds)
def test_nms_leaves_no_two_that_overlap_and_each_dropped_had_a_better_one(xyxy, seed):
    scores = torch.rand(len(xyxy), generator=seeded(seed), dtype=torch.float64)
    kept = nms(xyxy, scores, 0.4)
    assert (box_iou(xyxy[kept], xyxy[kept]).fill_diagonal_(0) > 0.4).sum() == 0
    for i in set(range(len(xyxy))) - set(kept.tolist()):
        better = kept[scores[kept] >= scores[i]]
        assert (box_iou(xyxy[[i]], xyxy[better]) > 0.4).any()


@pytest.mark.parametrize(
    ("scores", "threshold", "error", "sentence"),
    [
        (torch.ones(3), 0.5, ValueError, r"scores wants the shape \(2,\), got \(3,\)"),
        ([1, 2], 0.5, TypeError, r"scores wants a torch.Tensor \(2,\), got"),
        (torch.ones(2), 1.5, ValueError, "iou_threshold wants a finite number from 0 to 1, got 1.5"),
        (torch.ones(2), -0.1, ValueError, "got -0.1"),
        (torch.ones(2), "0.5", TypeError, "got '0.5'"),
    ],
)
def test_nms_refuses_what_it_cannot_use(scores, threshold, error, sentence):
    with pytest.raises(error, match=sentence):
        nms(torch.zeros(2, 4), scores, threshold)
