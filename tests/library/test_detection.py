"""Boxes, suppression, pooling and average precision against loops, torchvision and torchmetrics; the
detectors against torchvision's with the same weights; then what any right one has, and that one batch can be
learned."""

import math
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection import _utils as torch_utils
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from vlmbook import detection
from vlmbook.detection import (
    BACKGROUND,
    NEITHER,
    FasterRCNN,
    GridDetector,
    RegionProposalNetwork,
    RoIHeads,
    SmallBackbone,
    as_torchvision,
    assign,
    average_precision,
    average_precision_loops,
    box_iou,
    box_iou_loops,
    clipped,
    decided,
    decode_boxes,
    decode_boxes_loops,
    detection_loss,
    encode_boxes,
    encode_boxes_loops,
    generate_anchors,
    generate_anchors_loops,
    match_detections,
    mean_average_precision,
    mirrored,
    nms,
    nms_loops,
    padded,
    precision_recall_curve,
    roi_align,
    roi_align_loops,
    roi_pool,
    roi_pool_loops,
    sampled,
    unpadded,
)

EXACT = {"rtol": 1e-10, "atol": 1e-10}
thorough = settings(max_examples=500, deadline=None)
seeds = st.integers(0, 2**31)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@st.composite
def some_boxes(draw, least=0, most=12, whole=None):
    """(N, 4) float64, x1 <= x2, y1 <= y2; at times on a coarse grid, where boxes touch, repeat and are
    empty.
    """
    n, generator = draw(st.integers(least, most)), seeded(draw(seeds))
    corners = torch.rand(n, 2, 2, generator=generator, dtype=torch.float64) * 8
    if draw(st.booleans()) if whole is None else whole:
        corners = corners.round()
    return corners.sort(1).values.flatten(1)


def solid(n, seed, scale=40.0):
    """(N, 4) float64 with sides of at least 1."""
    generator = seeded(seed)
    low = torch.rand(n, 2, generator=generator, dtype=torch.float64) * scale
    return torch.cat(
        [low, low + 1 + torch.rand(n, 2, generator=generator, dtype=torch.float64) * scale], dim=1
    )


# --- two boxes ----------------------------------------------------------------------------------------------


@thorough
@given(a=some_boxes(), b=some_boxes())
def test_iou_is_torchvisions_and_that_of_the_loops(a, b):
    iou = box_iou(a, b)
    assert_close(iou, torchvision.ops.box_iou(a, b), equal_nan=True, **EXACT)
    assert_close(iou, box_iou_loops(a, b), equal_nan=True, **EXACT)


@thorough
@given(a=some_boxes(least=1), b=some_boxes(least=1), zoom=st.floats(0.1, 10), shift=st.floats(-50, 50))
def test_iou_is_symmetric_bounded_and_knows_no_unit(a, b, zoom, shift):
    iou = box_iou(a, b)
    assert_close(iou, box_iou(b, a).T, equal_nan=True, **EXACT)
    assert ((iou >= 0) & (iou <= 1) | iou.isnan()).all()
    assert_close(iou, box_iou(a * zoom + shift, b * zoom + shift), equal_nan=True, rtol=1e-6, atol=1e-6)
    whole = detection.area(a) > 0
    assert_close(box_iou(a, a).diagonal()[whole], torch.ones(int(whole.sum()), dtype=a.dtype))


def test_iou_has_torchvisions_gradients():
    boxes = [solid(4, 0).requires_grad_(), solid(5, 1).requires_grad_()]
    weights = torch.linspace(1, 2, 20, dtype=torch.float64).view(4, 5)
    ours, theirs = (
        torch.autograd.grad((f(*boxes) * weights).sum(), boxes) for f in (box_iou, torchvision.ops.box_iou)
    )
    assert_close(ours, theirs, **EXACT)
    assert_close(ours, torch.autograd.grad((box_iou_loops(*boxes) * weights).sum(), boxes), **EXACT)


def test_touching_boxes_share_nothing_and_one_inside_its_area():
    box = torch.tensor([[0.0, 0, 4, 4]])
    others = torch.tensor([[4.0, 0, 8, 4], [0, 4, 4, 8], [4, 4, 8, 8], [1, 1, 3, 3], [2, 0, 6, 4]])
    assert box_iou(box, others)[0].tolist() == pytest.approx([0, 0, 0, 4 / 16, 8 / 24])


def test_iou_of_none_is_empty():
    none = torch.zeros(0, 4)
    assert box_iou(none, torch.zeros(3, 4)).shape == (0, 3) and box_iou(none, none).shape == (0, 0)


@pytest.mark.parametrize(
    ("boxes", "error", "says"),
    [
        ([[0, 0, 1, 1]], TypeError, "got list"),
        (torch.zeros(2, 4, dtype=torch.long), TypeError, "floating.*int64"),
        (torch.zeros(4), ValueError, r"\(N, 4\).*\(4,\)"),
        (torch.zeros(2, 5), ValueError, r"\(2, 5\)"),
    ],
)
def test_what_are_no_boxes_is_refused(boxes, error, says):
    good = torch.tensor([[0.0, 0, 1, 1]])
    for call in (
        lambda: box_iou(boxes, good),
        lambda: box_iou(good, boxes),
        lambda: encode_boxes(boxes, boxes),
        lambda: decode_boxes(good, boxes),
        lambda: nms(boxes, torch.ones(1), 0.5),
    ):
        with pytest.raises(error, match=says):
            call()


# --- suppression --------------------------------------------------------------------------------------------


@thorough
@given(
    boxes=some_boxes(most=30),
    ties=st.booleans(),
    seed=seeds,
    threshold=st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]),
)
def test_nms_keeps_what_torchvision_and_the_loops_keep(boxes, ties, seed, threshold):
    scores = torch.rand(len(boxes), generator=seeded(seed), dtype=torch.float64)
    scores = (4 * scores).round() if ties else scores
    kept = nms(boxes, scores, threshold)
    assert kept.dtype == torch.int64
    assert kept.tolist() == torchvision.ops.nms(boxes, scores, threshold).tolist()
    assert kept.tolist() == nms_loops(boxes, scores, threshold).tolist()


@settings(max_examples=60, deadline=None)
@given(block=st.integers(1, 9), seed=seeds, threshold=st.sampled_from([0.1, 0.3, 0.6]))
def test_nms_does_not_depend_on_the_size_of_its_blocks(block, seed, threshold):
    boxes, scores = solid(60, seed), torch.rand(60, generator=seeded(seed + 1), dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "BLOCK", block)
        kept = nms(boxes, scores, threshold)
    assert kept.tolist() == torchvision.ops.nms(boxes, scores, threshold).tolist()


def test_nms_of_many_is_torchvisions():
    boxes, scores = solid(2000, 3, scale=100), torch.rand(2000, generator=seeded(4), dtype=torch.float64)
    for threshold in (0.2, 0.5, 0.8):
        assert (
            nms(boxes, scores, threshold).tolist() == torchvision.ops.nms(boxes, scores, threshold).tolist()
        )


def test_nms_settles_a_chain_one_after_the_other():
    """Each overlaps the next by more than the threshold: the first drops the second, so the third stays."""
    boxes = torch.tensor([[3.0 * i, 0, 3.0 * i + 10, 10] for i in range(300)])
    assert nms(boxes, -torch.arange(300.0), 0.5).tolist() == list(range(0, 300, 2))


def test_an_iou_at_the_threshold_stays():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1]], dtype=torch.float64)  # IoU 1/2 exactly
    assert nms(boxes, torch.tensor([1.0, 0.5]), 0.5).tolist() == [0, 1]
    assert nms(boxes, torch.tensor([1.0, 0.5]), 0.49).tolist() == [0]


def test_nms_of_none_and_of_equals():
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []
    assert nms(torch.ones(3, 4) * torch.tensor([0, 0, 1, 1.0]), torch.ones(3), 0.5).tolist() == [0]


@settings(max_examples=100, deadline=None)
@given(boxes=some_boxes(most=20), seed=seeds)
def test_nms_leaves_no_two_that_overlap_and_each_dropped_had_a_better_one(boxes, seed):
    scores = torch.rand(len(boxes), generator=seeded(seed), dtype=torch.float64)
    kept = nms(boxes, scores, 0.4)
    assert (box_iou(boxes[kept], boxes[kept]).fill_diagonal_(0) > 0.4).sum() == 0
    for i in set(range(len(boxes))) - set(kept.tolist()):
        better = kept[scores[kept] >= scores[i]]
        assert (box_iou(boxes[[i]], boxes[better]) > 0.4).any()


@pytest.mark.parametrize(
    ("scores", "threshold", "says"),
    [
        (torch.ones(3), 0.5, r"\(2,\), got \(3,\)"),
        ([1, 2], 0.5, "got list"),
        (torch.ones(2), 1.5, "0 to 1, got 1.5"),
        (torch.ones(2), -0.1, "got -0.1"),
        (torch.ones(2), "0.5", "got '0.5'"),
    ],
)
@pytest.mark.parametrize("suppress", [nms, nms_loops])
def test_nms_refuses_what_it_cannot_use(suppress, scores, threshold, says):
    with pytest.raises(ValueError, match=says):
        suppress(torch.zeros(2, 4), scores, threshold)


# --- anchors, and offsets from them -------------------------------------------------------------------------


@thorough
@given(
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    sizes=st.lists(st.sampled_from([8, 16, 20.5, 32, 45]), min_size=1, max_size=3, unique=True),
    ratios=st.lists(st.sampled_from([0.5, 1.0, 2.0, 0.3]), min_size=1, max_size=3, unique=True),
)
def test_anchors_are_torchvisions_and_those_of_the_loops(grid, stride, sizes, ratios):
    anchors = generate_anchors(grid, stride, sizes, ratios)
    height, width = (cells * step for cells, step in zip(grid, stride, strict=True))
    theirs = AnchorGenerator((tuple(sizes),), (tuple(ratios),))(
        ImageList(torch.zeros(1, 3, height, width), [(height, width)]), [torch.zeros(1, 1, *grid)]
    )
    assert_close(anchors, theirs[0])
    assert_close(anchors, generate_anchors_loops(grid, stride, sizes, ratios))


def test_nine_anchors_a_place_in_the_papers_order():
    anchors = generate_anchors((2, 3), (16, 16), (128, 256, 512), (0.5, 1, 2))
    assert anchors.shape == (2 * 3 * 9, 4)
    first = anchors[:9]
    assert_close(first[:, :2], -first[:, 2:])  # around the corner of the first cell
    assert_close(
        (first[:, 3] / first[:, 2]).view(3, 3),
        torch.tensor([[0.5], [1], [2]]).expand(3, 3),
        rtol=0.02,
        atol=0,
    )
    assert_close(
        detection.area(first).sqrt().view(3, 3),
        torch.tensor([[128.0, 256, 512]]).expand(3, 3),
        rtol=0.01,
        atol=0,
    )
    assert_close(
        anchors[9 * 4 : 9 * 5] - first, torch.tensor([16.0, 16, 16, 16]).expand(9, 4)
    )  # second row, second


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (dict(sizes=[]), "sizes"),
        (dict(sizes=[0]), r"above 0.*\[0\]"),
        (dict(ratios=[-1.0]), "ratios"),
        (dict(ratios=[math.inf]), "ratios"),
        (dict(stride=(0, 4)), "stride.*at least 1"),
        (dict(grid=(2.5, 2)), "grid"),
    ],
)
def test_anchors_refuse_what_is_no_size(values, says):
    with pytest.raises(ValueError, match=says):
        generate_anchors(**{"grid": (2, 2), "stride": (4, 4), "sizes": [8], "ratios": [1.0], **values})


WEIGHTS = [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0), (2.0, 3.0, 5.0, 7.0)]


@thorough
@given(n=st.integers(0, 6), seed=seeds, weights=st.sampled_from(WEIGHTS))
def test_encoding_is_torchvisions_and_decoding_its_inverse(n, seed, weights):
    boxes, anchors = solid(n, seed), solid(n, seed + 1)
    offsets = encode_boxes(boxes, anchors, weights)
    assert_close(
        offsets, torch_utils.encode_boxes(boxes, anchors, boxes.new_tensor(weights)), rtol=1e-7, atol=1e-7
    )
    assert_close(offsets, encode_boxes_loops(boxes, anchors, weights), **EXACT)
    assert_close(decode_boxes(offsets, anchors, weights), boxes, rtol=1e-8, atol=1e-8)


@thorough
@given(n=st.integers(1, 5), classes=st.integers(1, 3), seed=seeds, weights=st.sampled_from(WEIGHTS))
def test_decoding_is_torchvisions_and_that_of_the_loops(n, classes, seed, weights):
    offsets = 9 * torch.randn(
        n, 4 * classes, generator=seeded(seed), dtype=torch.float64
    )  # some beyond the bound
    anchors = solid(n, seed + 1)
    boxes = decode_boxes(offsets, anchors, weights)
    theirs = torch_utils.BoxCoder(weights).decode_single(offsets, anchors)
    assert_close(boxes, theirs.view(n, -1), rtol=1e-7, atol=1e-6)
    assert_close(boxes, decode_boxes_loops(offsets, anchors, weights), rtol=1e-7, atol=1e-6)


def test_codes_have_torchvisions_gradients():
    boxes, anchors = solid(5, 0).requires_grad_(), solid(5, 1)
    offsets = torch.randn(5, 8, generator=seeded(2), dtype=torch.float64).requires_grad_()
    ours = (
        encode_boxes(boxes, anchors, WEIGHTS[2]).square().sum(),
        decode_boxes(offsets, anchors).sin().sum(),
    )
    theirs = (
        torch_utils.encode_boxes(boxes, anchors, boxes.new_tensor(WEIGHTS[2])).square().sum(),
        torch_utils.BoxCoder(WEIGHTS[0]).decode_single(offsets, anchors).sin().sum(),
    )
    assert_close(
        torch.autograd.grad(sum(ours), (boxes, offsets)),
        torch.autograd.grad(sum(theirs), (boxes, offsets)),
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


def test_codes_refuse_other_numbers_of_anchors_and_columns():
    with pytest.raises(ValueError, match="one anchor each, got 2 and 3"):
        encode_boxes(torch.zeros(2, 4), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="one anchor each"):
        decode_boxes(torch.zeros(2, 4), torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"4·K.*\(2, 6\)"):
        decode_boxes(torch.zeros(2, 6), torch.zeros(2, 4))


# --- pooling of regions -------------------------------------------------------------------------------------


def regions(n, images, seed, size):
    """(K, 5) float64: boxes in and around an image of that size, some of them tiny, some outside."""
    generator = seeded(seed)
    low = torch.rand(n, 2, generator=generator, dtype=torch.float64) * size * 1.4 - 0.2 * size
    length = torch.rand(n, 2, generator=generator, dtype=torch.float64).square() * size
    number = torch.randint(images, (n, 1), generator=generator)
    return torch.cat([number, low, low + length], dim=1)


def graded(pool, x, *arguments):
    x = x.clone().requires_grad_()
    y = pool(x, *arguments)
    weights = torch.linspace(1, 2, y.numel(), dtype=y.dtype).view(y.shape)
    return y, torch.autograd.grad((y * weights).sum(), x)[0]


shapes = {
    "size": st.tuples(st.integers(2, 9), st.integers(2, 9)),
    "out": st.tuples(st.integers(1, 4), st.integers(1, 4)),
    "n": st.integers(1, 4),
    "scale": st.sampled_from([1.0, 0.5, 0.25]),
    "seed": seeds,
}


@settings(max_examples=150, deadline=None)
@given(**shapes, flat=st.booleans())
def test_roi_pool_is_torchvisions_and_that_of_the_loops(size, out, n, scale, seed, flat):
    x = torch.randn(2, 3, *size, generator=seeded(seed), dtype=torch.float64)
    x = x.clamp(min=0).round() if flat else x  # equal values: which one gets the gradient?
    boxes = regions(n, 2, seed, max(size) / scale)
    ours, theirs = (graded(pool, x, boxes, out, scale) for pool in (roi_pool, torchvision.ops.roi_pool))
    assert_close(ours, theirs, **EXACT)
    assert_close(ours[0], roi_pool_loops(x, boxes, out, scale), **EXACT)


@settings(max_examples=150, deadline=None)
@given(**shapes, sampling=st.sampled_from([-1, 0, 1, 2, 3]), aligned=st.booleans())
def test_roi_align_is_torchvisions_and_that_of_the_loops(size, out, n, scale, seed, sampling, aligned):
    x = torch.randn(2, 3, *size, generator=seeded(seed), dtype=torch.float64)
    boxes = regions(n, 2, seed, max(size) / scale)
    arguments = (x, boxes, out, scale, sampling, aligned)
    ours, theirs = (graded(pool, *arguments) for pool in (roi_align, torchvision.ops.roi_align))
    assert_close(ours, theirs, **EXACT)
    assert_close(roi_align_loops(*arguments), theirs[0], **EXACT)


pools = pytest.mark.parametrize("name", ["roi_pool", "roi_align"])


@pools
def test_pooling_passes_gradcheck(name):
    x = torch.randn(1, 2, 5, 6, generator=seeded(0), dtype=torch.float64).requires_grad_()
    boxes = torch.tensor([[0, 0.6, 0.4, 4.2, 3.9], [0, 2, 1, 5, 4]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: getattr(detection, name)(x, boxes, 2), (x,))


@pools
def test_pooling_takes_lists_of_boxes_and_none(name):
    pool, theirs = getattr(detection, name), getattr(torchvision.ops, name)
    x = torch.randn(3, 2, 8, 8, generator=seeded(0))
    boxes = [torch.tensor([[0.0, 0, 5, 5], [2, 2, 4, 8]]), torch.zeros(0, 4), torch.tensor([[1.0, 0, 8, 3]])]
    assert_close(pool(x, boxes, 3), theirs(x, boxes, 3))
    assert pool(x, [torch.zeros(0, 4)] * 3, (3, 2)).shape == theirs(x, [torch.zeros(0, 4)] * 3, (3, 2)).shape
    many = regions(150, 3, 5, 8).float()  # more than one chunk, images in any order
    assert_close(pool(x, many, 2), theirs(x, many, 2), rtol=1e-4, atol=1e-5)


@pools
def test_pooling_of_boxes_at_halves_turned_round_and_of_one_point_is_torchvisions(name):
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
        assert_close(
            getattr(detection, name)(x, boxes, out), getattr(torchvision.ops, name)(x, boxes, out), **EXACT
        )


def test_on_a_ramp_roi_align_gives_the_middle_of_each_bin():
    x = torch.arange(12.0).expand(1, 1, 12, 12)
    box = torch.tensor([[0, 2.3, 2.3, 8.3, 8.3]])
    pooled = roi_align(x, box, 3, aligned=True)
    assert_close(pooled[0, 0, 0], torch.tensor([2.3 + 1, 2.3 + 3, 2.3 + 5]) - 0.5)
    assert_close(roi_align(x, box, 3, aligned=False)[0, 0, 0], pooled[0, 0, 0] + 0.5)


@pools
@pytest.mark.parametrize(
    ("x", "boxes", "out", "error", "says"),
    [
        (torch.zeros(3, 4, 4), torch.zeros(1, 5), 2, ValueError, "four axes"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 4), 2, ValueError, r"\(K, 5\).*\(1, 4\)"),
        (torch.zeros(1, 3, 4, 4), [torch.zeros(1, 4)] * 2, 2, ValueError, "one tensor an image, 1, got 2"),
        (torch.zeros(1, 3, 4, 4), torch.tensor([[1.0, 0, 0, 2, 2]]), 2, ValueError, "names image 1 of 1"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 5), 0, ValueError, "output_size.*got 0"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(1, 5).double(), 2, TypeError, "float32, got torch.float64"),
    ],
)
def test_pooling_refuses_what_it_cannot_use(name, x, boxes, out, error, says):
    with pytest.raises(error, match=says):
        getattr(detection, name)(x, boxes, out)


# --- how good are detections --------------------------------------------------------------------------------


@st.composite
def judged(draw):
    """Predictions and targets of up to four images and three classes, on a grid, with equal scores and empty
    images.
    """
    generator, predictions, targets = seeded(draw(seeds)), [], []
    ties = draw(st.booleans())
    for _ in range(draw(st.integers(1, 4))):
        said, true = draw(st.integers(0, 8)), draw(st.integers(0, 5))
        boxes = [
            torch.cat(
                [
                    low := torch.randint(6, (n, 2), generator=generator).float(),
                    low + 1 + torch.randint(4, (n, 2), generator=generator),
                ],
                1,
            )
            for n in (said, true)
        ]
        near = min(said, true) // 2  # some of them are right
        boxes[0][:near] = boxes[1][:near]
        scores = torch.rand(said, generator=generator)
        labels = [torch.randint(1, 4, (n,), generator=generator) for n in (said, true)]
        labels[0][:near] = labels[1][:near]
        predictions.append(
            {"boxes": boxes[0], "scores": (3 * scores).round() / 4 if ties else scores, "labels": labels[0]}
        )
        targets.append({"boxes": boxes[1], "labels": labels[1]})
    return predictions, targets


def torchmetrics_map(predictions, targets, iou_threshold):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.detection import MeanAveragePrecision

        metric = MeanAveragePrecision(
            iou_thresholds=[iou_threshold],
            class_metrics=True,
            backend="faster_coco_eval",
            rec_thresholds=np.linspace(0, 1, 101).tolist(),
        )  # its own are float32
        metric.update(predictions, targets)
        found = metric.compute()
    classes = found["classes"].view(-1).tolist()
    per_class = dict(zip(classes, found["map_per_class"].view(-1).tolist(), strict=True))
    return found["map"].item(), {label: ap for label, ap in per_class.items() if ap >= 0}


@settings(max_examples=120, deadline=None)
@given(scene=judged(), iou_threshold=st.sampled_from([0.3, 0.5, 0.75]))
def test_mean_average_precision_is_torchmetrics(scene, iou_threshold):
    mean, found = mean_average_precision(*scene, iou_threshold)
    if not found:
        assert math.isnan(mean)
        return
    theirs, of_class = torchmetrics_map(*scene, iou_threshold)
    assert found == pytest.approx(of_class, abs=1e-6) and mean == pytest.approx(theirs, abs=1e-6)


@thorough
@given(hits=st.lists(st.booleans(), max_size=40), missed=st.integers(0, 10))
def test_average_precision_is_that_of_the_loops(hits, missed):
    objects = sum(hits) + missed
    found = average_precision(torch.tensor(hits, dtype=torch.bool), objects)
    assert found == pytest.approx(
        average_precision_loops(torch.tensor(hits, dtype=torch.bool), objects), nan_ok=True
    )


def test_average_precision_by_hand():
    hits = torch.tensor([True, False, True, False])  # precision 1, 1/2, 2/3, 1/2; recall 1/4, 1/2
    precision, recall = precision_recall_curve(hits, 4)
    assert precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert recall.tolist() == [0.25, 0.25, 0.5, 0.5]
    assert average_precision(hits, 4) == pytest.approx((26 * 1 + 25 * 2 / 3) / 101)
    assert average_precision(torch.tensor([True, True]), 2) == 1
    assert average_precision(torch.zeros(0, dtype=torch.bool), 2) == 0


def test_the_points_of_recall_are_cocos_in_double_precision():
    """10 of 100 reach eleven points; as float32 the eleventh would lie above 0.1."""
    points = np.linspace(0, 1, 101)
    for reached in range(1, 101):
        found = average_precision(torch.ones(reached, dtype=torch.bool), 100)
        assert found == pytest.approx((points <= reached / 100).sum() / 101)
    assert average_precision(torch.ones(10, dtype=torch.bool), 100) == pytest.approx(11 / 101)


def detections(boxes, scores, labels):
    return {
        "boxes": torch.tensor(boxes).float().view(-1, 4),
        "scores": torch.tensor(scores),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def test_a_second_detection_of_one_object_is_a_miss_and_takes_the_next_best():
    box, near = [0.0, 0, 10, 10], [0.0, 0, 10, 8]
    target = [{"boxes": torch.tensor([box]), "labels": torch.tensor([1])}]
    twice = [detections([near, box], [0.9, 0.8], [1, 1])]
    assert match_detections(twice, target, 1)[1].tolist() == [True, False]
    two = [{"boxes": torch.tensor([box, near]), "labels": torch.tensor([1, 1])}]
    assert match_detections([detections([box, box], [0.9, 0.8], [1, 1])], two, 1)[1].tolist() == [True, True]
    assert match_detections(twice, target, 2)[1:] != () and match_detections(twice, target, 2)[2] == 0
    with pytest.raises(ValueError, match="got 1 and 0"):
        match_detections(twice, [], 1)


def test_only_the_hundred_best_of_an_image_count():
    boxes = [[0.0, 0, 1, 1]] * 100 + [[5.0, 5, 9, 9]]
    said = [detections(boxes, [0.9] * 100 + [0.1], [1] * 101)]
    true = [{"boxes": torch.tensor([[5.0, 5, 9, 9]]), "labels": torch.tensor([1])}]
    scores, hits, objects = match_detections(said, true, 1)
    assert len(scores) == 100 and not hits.any() and objects == 1


# --- which anchor answers for which object ------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    objects=st.integers(1, 4),
    boxes=st.integers(1, 12),
    seed=seeds,
    rescue=st.booleans(),
    bounds=st.sampled_from([(0.7, 0.3), (0.5, 0.5)]),
)
def test_assign_is_torchvisions_matcher(objects, boxes, seed, rescue, bounds):
    iou = (torch.rand(objects, boxes, generator=seeded(seed)) * 20).ceil() / 20  # above 0, often equal
    theirs = torch_utils.Matcher(*bounds, allow_low_quality_matches=rescue)(iou)
    assert assign(iou, *bounds, rescue=rescue).tolist() == theirs.tolist()


def test_assign_by_hand():
    iou = torch.tensor([[0.8, 0.2, 0.5, 0.0], [0.1, 0.4, 0.2, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert assign(iou, 0.7, 0.3, rescue=False).tolist() == [0, NEITHER, NEITHER, BACKGROUND]
    assert assign(iou, 0.7, 0.3, rescue=True).tolist() == [0, 1, NEITHER, BACKGROUND]
    assert assign(torch.zeros(0, 3), 0.7, 0.3, rescue=True).tolist() == [BACKGROUND] * 3


def test_samples_hold_a_bounded_share_of_objects_and_are_filled():
    assigned = torch.tensor([0] * 30 + [BACKGROUND] * 50 + [NEITHER] * 20)
    objects, background = sampled(assigned, 40, 0.25)
    assert len(objects) == 10 and len(background) == 30 and len(set(objects.tolist())) == 10
    assert (assigned[objects] == 0).all() and (assigned[background] == BACKGROUND).all()
    objects, background = sampled(assigned[25:], 40, 0.5)
    assert (len(objects), len(background)) == (5, 35)
    objects, background = sampled(assigned[:35], 40, 0.5)
    assert (len(objects), len(background)) == (20, 5)


# --- the detectors against torchvision's --------------------------------------------------------------------

OPTIONS = {
    "sizes": (16, 32),
    "ratios": (0.5, 1.0, 2.0),
    "width": 24,
    "before": 120,
    "after": 40,
    "samples": (32, 24),
}


def loud(module, seed=0):
    """Weights so large that scores and offsets are far from those of the start."""
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=seeded(seed)) * (1.5 / p[0].numel()) ** 0.5)
    return module


def faster(seed=0, **options):
    return loud(FasterRCNN(SmallBackbone((4, 8, 8)), 4, **OPTIONS | options), seed)


def torchvisions(ours):
    """-> torchvision's twin; its transform would draw a random number for the one size there is."""
    theirs = as_torchvision(ours, (64, 96))
    theirs.transform.torch_choice = lambda sizes: sizes[0]
    return theirs


def batch(n=3, seed=0, kinds=3):
    images = torch.rand(n, 3, 64, 96, generator=seeded(seed))
    corners = torch.tensor([[0.0, 0], [48, 2], [20, 30]])  # no two centres in one cell
    truths = [
        torch.cat(
            [low := corners[:k] + torch.rand(k, 2, generator=seeded(seed + k)) * 12, low + 14 + 6 * k], 1
        )
        for k in (2, 1, 3)[:n]
    ]
    labels = [torch.arange(k) % kinds + 1 for k in (2, 1, 3)[:n]]
    return images, truths, labels


def as_padded(truths, labels):
    return padded([{"boxes": b, "labels": l - 1} for b, l in zip(truths, labels, strict=True)])


@pytest.mark.parametrize("seed", range(3))
def test_faster_rcnn_detects_what_torchvisions_does(seed):
    ours, (images, *_) = faster(seed).eval(), batch(seed=seed)
    with torch.no_grad():
        ours.roi_heads.box_predictor.bbox_pred.weight.mul_(0.3)
        mine, theirs = ours(images), torchvisions(ours).eval()(list(images))
    assert sum(len(each["boxes"]) for each in mine) > 20
    for a, b in zip(mine, theirs, strict=True):
        for key in ("boxes", "scores", "labels"):
            assert_close(a[key], b[key], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(40, 72), (104, 56)])
def test_the_twin_takes_images_that_32_does_not_divide(size):
    ours, images = faster(1).eval(), torch.rand(2, 3, *size, generator=seeded(3))
    with torch.no_grad():
        ours.roi_heads.box_predictor.bbox_pred.weight.mul_(0.3)
        mine, theirs = ours(images), as_torchvision(ours, size)(list(images))
    assert sum(len(each["boxes"]) for each in mine) > 10
    for a, b in zip(mine, theirs, strict=True):
        for key in ("boxes", "scores", "labels"):
            assert_close(a[key], b[key], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_faster_rcnn_has_torchvisions_losses_and_gradients(seed):
    """From the same seed both draw the same anchors and regions to learn from."""
    ours, (images, truths, labels) = faster(seed), batch(seed=seed)
    theirs = torchvisions(ours)
    torch.manual_seed(seed)
    mine = ours(images, *as_padded(truths, labels))
    torch.manual_seed(seed)
    other = theirs(list(images), [{"boxes": b, "labels": l} for b, l in zip(truths, labels, strict=True)])
    names = {
        "objectness": "loss_objectness",
        "anchor offsets": "loss_rpn_box_reg",
        "classes": "loss_classifier",
        "box offsets": "loss_box_reg",
    }
    for name, loss in mine.items():
        assert_close(loss, other[names[name]], rtol=1e-4, atol=1e-5)
    assert mine["box offsets"] > 0 and mine["anchor offsets"] > 0
    sum(mine.values()).backward(), sum(other.values()).backward()
    for (name, p), q in zip(ours.named_parameters(), dict(theirs.named_parameters()).values(), strict=True):
        assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def test_the_twin_is_torchvisions_class_with_all_our_weights_and_none_of_our_memory():
    ours = faster()
    theirs = as_torchvision(ours, (64, 96))
    assert type(theirs) is torchvision.models.detection.FasterRCNN and theirs.training
    assert list(theirs.state_dict()) == list(ours.state_dict())
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q) and p.data_ptr() != q.data_ptr(), name


def test_the_rpns_parts_are_torchvisions():
    ours, (images, *_) = faster(5).eval(), batch()
    theirs = torchvisions(ours).eval()
    with torch.no_grad():
        x = ours.backbone(images)
        proposed = ours.rpn(x, (64, 96))
        boxes, _ = theirs.rpn(ImageList(images, [(64, 96)] * 3), OrderedDict([("0", x)]))
        logits, offsets = theirs.rpn.head([x])
    assert proposed.logits.shape == (3, 8 * 12 * 6) and proposed.offsets.shape == (3, 8 * 12 * 6, 4)
    assert_close(proposed.logits, logits[0].permute(0, 2, 3, 1).flatten(1))
    assert_close(proposed.offsets, offsets[0].view(3, 6, 4, 8, 12).permute(0, 3, 4, 1, 2).flatten(1, 3))
    for mine, other, before in zip(proposed.boxes, boxes, proposed.before, strict=True):
        assert_close(mine, other)
        assert len(mine) <= 40 < len(before) <= 120


def test_the_stages_follow_one_another():
    ours, (images, *_) = faster(1).eval(), batch()
    with torch.no_grad():
        found = ours.stages(images)
    regions = sum(map(len, found["proposed"].boxes))
    assert found["map"].shape == (3, 8, 8, 12) and found["pooled"].shape == (regions, 8, 7, 7)
    assert found["logits"].shape == (regions, 4) and found["offsets"].shape == (regions, 16)
    assert_close(
        found["pooled"], roi_align(found["map"], found["proposed"].boxes, 7, 1 / 8, 2), rtol=1e-4, atol=1e-5
    )
    for scores in found["proposed"].scores:
        assert (scores.diff() <= 0).all() and ((scores > 0) & (scores < 1)).all()


def test_an_image_without_an_object_teaches_that_all_is_background():
    for ours in (faster(2), GridDetector(SmallBackbone((4, 8, 8)), 4, size=20)):
        images, truths, labels = batch(2)
        losses = ours(images, *as_padded([truths[0][:0], truths[1][:0]], [labels[0][:0], labels[1][:0]]))
        assert all(torch.isfinite(each) for each in losses.values())
        found = [value for name, value in losses.items() if "offsets" in name or name == "boxes"]
        assert sum(found) == 0 and sum(losses.values()) > 0
        sum(losses.values()).backward()


def test_decided_drops_background_the_unlikely_and_what_overlaps():
    p = torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.7, 0.2], [0.97, 0.02, 0.01], [0.2, 0.04, 0.76]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 5, 5], [-5, 20, 10, 90]])
    said = decided(p, boxes, (40, 30))
    assert said["labels"].tolist() == [1, 2, 2] and said["scores"].tolist() == pytest.approx([0.8, 0.76, 0.2])
    assert said["boxes"][1].tolist() == [0, 20, 10, 40]
    assert len(decided(p, boxes, (40, 30), most=1)["boxes"]) == 1
    assert clipped(torch.tensor([[-1.0, -2, 50, 60]]), (40, 30)).tolist() == [[0, 0, 30, 40]]


# --- the grid -----------------------------------------------------------------------------------------------


def test_grid_reads_and_asks_for_the_same_boxes():
    """Logits that meet the targets of the loss are read as the true boxes, and the loss of boxes is 0."""
    grid, (images, truths, labels) = GridDetector(SmallBackbone((4, 8, 8)), 4, size=20).eval(), batch()
    said = torch.full((3, 8, 12, 8), -20.0)
    for i, (boxes, label) in enumerate(zip(truths, labels, strict=True)):
        for (x1, y1, x2, y2), k in zip(boxes.tolist(), label.tolist(), strict=True):
            x, y = (x1 + x2) / 16, (y1 + y2) / 16
            cell = said[i, int(y), int(x)]
            cell[0] = 20
            cell[1:3] = torch.tensor([x % 1, y % 1]).logit()
            cell[3:5] = torch.tensor([(x2 - x1) / 20, (y2 - y1) / 20]).log()
            cell[4 + k] = 20
    losses = grid.losses(said, images, truths, labels)
    assert max(losses.values()) < 1e-6
    grid.said = lambda images: said
    for found, boxes, label in zip(grid(images), truths, labels, strict=True):
        order = [(box_iou(found["boxes"], boxes)[:, j]).argmax().item() for j in range(len(boxes))]
        assert len(found["boxes"]) == len(boxes)
        assert_close(found["boxes"][order], clipped(boxes, (64, 96)), rtol=1e-4, atol=1e-3)
        assert found["labels"][order].tolist() == label.tolist()


def test_grid_losses_by_hand():
    grid = GridDetector(SmallBackbone((4, 8, 8)), 3, size=16)
    said = torch.randn(1, 2, 2, 7, generator=seeded(1))
    losses = grid.losses(
        said, torch.zeros(1, 3, 16, 16), [torch.tensor([[7.0, 1, 13, 9]])], [torch.tensor([2])]
    )
    cell = said[0, 0, 1]  # centre (10, 5): second column, first row
    chance = said[0, :, :, 0]
    wanted = torch.tensor([[0.0, 1], [0, 0]])
    entropy = -(wanted * chance.sigmoid().log() + (1 - wanted) * (-chance).sigmoid().log()).sum()
    assert_close(losses["centres"], entropy)
    assert_close(losses["classes"], -cell[5:].log_softmax(0)[1])
    gaps = torch.stack(
        [
            cell[1].sigmoid() - 2 / 8,
            cell[2].sigmoid() - 5 / 8,
            cell[3] - math.log(6 / 16),
            cell[4] - math.log(8 / 16),
        ]
    ).abs()
    assert_close(losses["boxes"], torch.where(gaps < 0.1, gaps**2 / 0.2, gaps - 0.05).sum())


# --- both ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: FasterRCNN(SmallBackbone((8, 16, 16)), 4, **OPTIONS | {"width": 64}),
        lambda: GridDetector(SmallBackbone((8, 16, 16)), 4, size=20, width=32),
    ],
    ids=["two stages", "one stage"],
)
def test_one_batch_is_learnable(make):
    torch.manual_seed(0)
    net, (images, truths, labels) = make(), batch()
    images = 0.3 * images
    for image, boxes, label in zip(images, truths, labels, strict=True):
        for (x1, y1, x2, y2), k in zip(boxes.long().tolist(), label.tolist(), strict=True):
            image[k - 1, y1:y2, x1:x2] = 1
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    targets = as_padded(truths, labels)
    for _ in range(120):
        optimizer.zero_grad()
        detection_loss(net, images, *targets).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        mean, _ = mean_average_precision(
            net(images), [{"boxes": b, "labels": l} for b, l in zip(truths, labels, strict=True)]
        )
    assert mean > 0.9


def test_backbone_sizes_and_parameters():
    backbone = SmallBackbone((4, 6, 10))
    assert backbone.out_channels == 10 and backbone(torch.zeros(2, 3, 40, 64)).shape == (2, 10, 5, 8)
    convolutions = [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.stride[0]) for c in convolutions] == [
        (3, 4, 2),
        (4, 6, 2),
        (6, 6, 1),
        (6, 10, 2),
        (10, 10, 1),
    ]
    net = FasterRCNN(backbone, 4, **OPTIONS)
    assert net.rpn.head.cls_logits.out_channels == 6 and net.rpn.head.bbox_pred.out_channels == 24
    assert net.roi_heads.box_predictor.bbox_pred.out_features == 16
    assert GridDetector(backbone, 4, size=20).head[-1].out_channels == 8
    with pytest.raises(ValueError, match="three widths"):
        SmallBackbone((4, 6))


def test_padding_and_back():
    targets = [{"boxes": solid(k, k).float(), "labels": torch.arange(k)} for k in (2, 0, 3)]
    boxes, labels = padded(targets)
    assert boxes.shape == (3, 3, 4) and labels.tolist() == [[1, 2, 0], [0, 0, 0], [1, 2, 3]]
    again, names = unpadded(torch.zeros(3, 3, 64, 64), boxes, labels, 4)
    for each, name, target in zip(again, names, targets, strict=True):
        assert torch.equal(each, target["boxes"]) and torch.equal(name, target["labels"] + 1)


def test_a_mirrored_box_holds_what_it_held():
    images, boxes = torch.zeros(1, 3, 20, 30), torch.tensor([[[4.0, 2, 9, 12], [0, 0, 30, 20]]])
    images[0, :, 2:12, 4:9] = 1
    images, boxes = mirrored(images, boxes)
    x1, y1, x2, y2 = boxes[0, 0].long().tolist()
    assert (
        images[0, :, y1:y2, x1:x2].min() == 1
        and images.sum() == 3 * 50
        and boxes[0, 1].tolist() == [0, 0, 30, 20]
    )


@pytest.mark.parametrize(
    ("boxes", "labels", "says"),
    [
        (torch.zeros(2, 1, 4), torch.tensor([[0], [9]]), "0 .none. to 3, got 0 to 9"),
        (torch.zeros(2, 1, 4), torch.tensor([[0], [1]]), "no area"),
        (torch.zeros(2, 1, 4), None, "got .2, 1, 4., None"),
        (torch.zeros(3, 1, 4), torch.zeros(3, 1, dtype=torch.long), "2 images want boxes"),
    ],
)
def test_detectors_refuse_targets_that_do_not_fit(boxes, labels, says):
    for net in (faster(), GridDetector(SmallBackbone((4, 8, 8)), 4, size=20)):
        with pytest.raises(ValueError, match=says):
            net(torch.zeros(2, 3, 32, 32), boxes, labels)


def test_detectors_refuse_images_that_are_none():
    for net in (faster(), GridDetector(SmallBackbone((4, 8, 8)), 4, size=20)):
        with pytest.raises(ValueError, match="four axes"):
            net(torch.zeros(3, 32, 32))
        with pytest.raises(TypeError, match="floating"):
            net(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_detectors_refuse_settings_that_make_no_sense():
    for make in (
        lambda n: GridDetector(SmallBackbone((4, 8, 8)), n, size=20),
        lambda n: FasterRCNN(SmallBackbone((4, 8, 8)), n, **OPTIONS),
    ):
        with pytest.raises(ValueError, match="at least 2, background and one more, got 1"):
            make(1)
        with pytest.raises(ValueError, match=r"num_classes.*2.5"):
            make(2.5)
    with pytest.raises(ValueError, match="size above 0 pixels, got 0"):
        GridDetector(SmallBackbone((4, 8, 8)), 4, size=0)
    with pytest.raises(ValueError, match="width of at least 1"):
        FasterRCNN(SmallBackbone((4, 8, 8)), 4, **OPTIONS | {"width": 0})
    with pytest.raises(ValueError, match=r"widths of at least 1, got 0"):
        SmallBackbone((4, 0, 8))


def test_an_untrained_rpn_proposes_on_noise():
    net = RegionProposalNetwork(8, (16, 32), (1.0,), before=100, after=20, samples=32)
    proposed = net(torch.randn(1, 8, 8, 8, generator=seeded(0)), (64, 64))
    assert 0 < len(proposed.boxes[0]) <= 20 < len(proposed.before[0]) == 100


def test_where_nothing_is_proposed_nothing_is_said():
    model = FasterRCNN(
        SmallBackbone((8, 8, 8)), 4, sizes=(16,), ratios=(1.0,), width=8, before=4, after=2
    ).eval()
    said = decided(torch.zeros(0, 4), torch.zeros(0, 16), (32, 48))
    assert [len(said[key]) for key in ("boxes", "scores", "labels")] == [0, 0, 0] and said["boxes"].shape == (
        0,
        4,
    )
    detections = model(torch.full((2, 3, 32, 48), math.nan))
    assert [len(each["boxes"]) for each in detections] == [0, 0]


def test_losses_of_nothing_are_0():
    nothing = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, 4)]
    losses = RoIHeads.losses(torch.zeros(0, 4), torch.zeros(0, 16), *nothing)
    assert {name: loss.item() for name, loss in losses.items()} == {"classes": 0, "box offsets": 0}


@pytest.mark.parametrize(
    ("boxes", "labels", "error", "says"),
    [
        (
            [[1.0, 1, 9, 9]],
            torch.tensor([[1.0]]),
            TypeError,
            r"labels want a tensor of torch\.int64, got torch\.float32",
        ),
        ([[1.0, 1, 9, 9]], torch.tensor([[1]], dtype=torch.int32), TypeError, "labels want"),
        ([[1.0, 1, 9, 9]], [[1]], TypeError, "labels want a tensor of torch.int64, got list"),
        (
            [[40.0, 1, 50, 9]],
            torch.tensor([[1]]),
            ValueError,
            "centre outside the image, 32 wide and 16 high",
        ),
        ([[1.0, 1, 1, 9]], torch.tensor([[1]]), ValueError, "no area"),
    ],
)
def test_what_is_no_truth_is_named(boxes, labels, error, says):
    with pytest.raises(error, match=says):
        unpadded(torch.zeros(1, 3, 16, 32), torch.tensor([boxes]), labels, 4)


def test_truths_to_pad_have_a_label_for_each_box():
    box = torch.tensor([[1.0, 1, 9, 9]])
    for labels in ([1, 2], [-1]):
        with pytest.raises(ValueError, match="image 0 wants boxes"):
            padded([{"boxes": box, "labels": torch.tensor(labels)}])


@pytest.mark.parametrize("settings", [{"samples": (0, 16)}, {"sizes": ()}, {"ratios": (-1.0,)}])
def test_a_detector_refuses_sizes_before_it_is_used(settings):
    with pytest.raises(ValueError, match=r"samples\[0\]|sizes wants|ratios wants"):
        FasterRCNN(SmallBackbone((8, 8, 8)), 4, **{"sizes": (16,), "width": 8} | settings)
