"""Average precision against its loops and torchmetrics, and cases counted by hand."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.detection import seeded, seeds, thorough
from vlmbook.data import SCENE_NAMES, scenes
from vlmbook.detection import (
    average_precision,
    average_precision_loops,
    match_detections,
    mean_average_precision,
    precision_recall_curve,
)


@st.composite
def some_detections(draw):
    """Predictions and targets of up to four images and three classes, on a grid, with equal scores and empty
    images.
    """
    generator, predictions, targets = seeded(draw(seeds)), [], []
    ties = draw(st.booleans())
    for _ in range(draw(st.integers(1, 4))):
        counts = draw(st.integers(0, 8)), draw(st.integers(0, 5))
        boxes = [_boxes_on_a_grid(count, generator) for count in counts]
        labels = [torch.randint(3, (count,), generator=generator) for count in counts]
        scores = torch.rand(counts[0], generator=generator)
        right = min(counts) // 2  # some of them are right
        boxes[0][:right] = boxes[1][:right]
        labels[0][:right] = labels[1][:right]
        scores = (3 * scores).round() / 4 if ties else scores
        predictions.append({"boxes": boxes[0], "scores": scores, "labels": labels[0]})
        targets.append({"boxes": boxes[1], "labels": labels[1]})
    return predictions, targets


def _boxes_on_a_grid(count, generator):
    low = torch.randint(6, (count, 2), generator=generator).float()
    return torch.cat([low, low + 1 + torch.randint(4, (count, 2), generator=generator)], dim=1)


def torchmetrics_map(predictions, targets, iou_threshold):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.detection import MeanAveragePrecision

        metric = MeanAveragePrecision(
            iou_thresholds=[iou_threshold],
            class_metrics=True,
            backend="faster_coco_eval",
            rec_thresholds=np.linspace(0, 1, 101).tolist(),  # its own are float32
        )
        metric.update(predictions, targets)
        found = metric.compute()
    classes = found["classes"].view(-1).tolist()
    per_class = dict(zip(classes, found["map_per_class"].view(-1).tolist(), strict=True))
    return found["map"].item(), {label: ap for label, ap in per_class.items() if ap >= 0}


@settings(max_examples=120, deadline=None)
@given(images=some_detections(), iou_threshold=st.sampled_from([0.3, 0.5, 0.75]))
def test_mean_average_precision_is_torchmetrics(images, iou_threshold):
    mean, ap_of_label = mean_average_precision(*images, iou_threshold)
    if not ap_of_label:
        assert math.isnan(mean)
        return
    theirs, their_ap_of_label = torchmetrics_map(*images, iou_threshold)
    assert ap_of_label == pytest.approx(their_ap_of_label, abs=1e-6)
    assert mean == pytest.approx(theirs, abs=1e-6)


@thorough
@given(found=st.lists(st.booleans(), max_size=40), missed=st.integers(0, 10))
def test_average_precision_is_that_of_the_loops(found, missed):
    found = torch.tensor(found, dtype=torch.bool)
    objects = int(found.sum()) + missed
    loops = average_precision_loops(found, objects)
    assert average_precision(found, objects) == pytest.approx(loops, nan_ok=True)


def test_average_precision_by_hand():
    found = torch.tensor([True, False, True, False])  # precision 1, 1/2, 2/3, 1/2; recall 1/4, 1/2
    precision, recall = precision_recall_curve(found, 4)
    assert precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert recall.tolist() == [0.25, 0.25, 0.5, 0.5]
    assert average_precision(found, 4) == pytest.approx((26 * 1 + 25 * 2 / 3) / 101)
    assert average_precision(torch.tensor([True, True]), 2) == 1
    assert average_precision(torch.zeros(0, dtype=torch.bool), 2) == 0


def test_the_points_of_recall_are_cocos_in_double_precision():
    """10 of 100 reach eleven points; as float32 the eleventh would lie above 0.1."""
    points = np.linspace(0, 1, 101)
    for reached in range(1, 101):
        found = average_precision(torch.ones(reached, dtype=torch.bool), 100)
        assert found == pytest.approx((points <= reached / 100).sum() / 101)
    assert average_precision(torch.ones(10, dtype=torch.bool), 100) == pytest.approx(11 / 101)


@pytest.mark.parametrize("objects", [-1, 1, 0, 2.5, "2", None, math.nan])
def test_impossible_numbers_of_objects_are_refused(objects):
    """Fewer objects than true positives, or none at all."""
    found = torch.tensor([True, True])
    for measure in (precision_recall_curve, average_precision, average_precision_loops):
        with pytest.raises((TypeError, ValueError), match="num_objects wants"):
            measure(found, objects)


@pytest.mark.parametrize("found", [[True], torch.ones(2), torch.ones(2, 2).bool(), None])
def test_true_positives_are_a_vector_of_bool(found):
    with pytest.raises((TypeError, ValueError), match="true_positives wants"):
        average_precision(found, 3)


def test_where_no_object_is_there_is_no_average_precision():
    assert math.isnan(average_precision(torch.zeros(3, dtype=torch.bool), 0))
    assert math.isnan(mean_average_precision([], [])[0])


def test_perfect_detections_of_scenes_have_a_map_of_1():
    """The labels of a data set are those of the detections: both count from 0."""
    _, targets = scenes("train", 20, seed=3)
    predictions = [
        {"boxes": each["boxes"], "labels": each["labels"], "scores": torch.ones(len(each["labels"]))}
        for each in targets
    ]
    mean, ap_of_label = mean_average_precision(predictions, targets)
    assert mean == 1
    assert set(ap_of_label) <= set(range(len(SCENE_NAMES)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_detections_of_any_dtype_are_measured(dtype):
    target = {"boxes": torch.tensor([[0.0, 0, 300, 300]]), "labels": torch.tensor([0])}
    prediction = {
        "boxes": torch.tensor([[0.0, 0, 304, 300]], dtype=dtype),
        "scores": torch.ones(1, dtype=dtype),
        "labels": torch.tensor([0]),
    }
    assert mean_average_precision([prediction], [target], 0.95)[0] == 1


def detections(boxes, scores, labels):
    return {
        "boxes": torch.tensor(boxes).float().view(-1, 4),
        "scores": torch.tensor(scores),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def test_a_second_detection_of_one_object_is_false_and_takes_the_next_best():
    box, near = [0.0, 0, 10, 10], [0.0, 0, 10, 8]
    target = [{"boxes": torch.tensor([box]), "labels": torch.tensor([1])}]
    twice = [detections([near, box], [0.9, 0.8], [1, 1])]
    assert match_detections(twice, target, 1)[1].tolist() == [True, False]
    two = [{"boxes": torch.tensor([box, near]), "labels": torch.tensor([1, 1])}]
    assert match_detections([detections([box, box], [0.9, 0.8], [1, 1])], two, 1)[1].tolist() == [True, True]
    assert match_detections(twice, target, 2)[2] == 0
    with pytest.raises(ValueError, match="targets wants one an image, 1, got 0"):
        match_detections(twice, [], 1)


def test_only_the_hundred_best_of_an_image_count():
    boxes = [[0.0, 0, 1, 1]] * 100 + [[5.0, 5, 9, 9]]
    predicted = [detections(boxes, [0.9] * 100 + [0.1], [1] * 101)]
    target = [{"boxes": torch.tensor([[5.0, 5, 9, 9]]), "labels": torch.tensor([1])}]
    scores, true_positives, objects = match_detections(predicted, target, 1)
    assert len(scores) == 100
    assert not true_positives.any()
    assert objects == 1


BOX = torch.tensor([[0.0, 0, 4, 4]])


@pytest.mark.parametrize(
    ("prediction", "error", "sentence"),
    [
        (BOX, TypeError, r"predictions\[0\] wants a dict of boxes, labels, scores, got a torch.float32"),
        ({"boxes": BOX, "labels": torch.tensor([0])}, TypeError, r"predictions\[0\] wants a dict"),
        (
            {"boxes": BOX, "labels": torch.tensor([0]), "scores": torch.ones(2)},
            ValueError,
            r"predictions\[0\]\['scores'\] wants the shape \(1,\), got \(2,\)",
        ),
        (
            {"boxes": BOX, "labels": torch.tensor([0]), "scores": torch.tensor([math.nan])},
            ValueError,
            r"predictions\[0\]\['scores'\] wants finite values",
        ),
        (
            {"boxes": BOX, "labels": torch.tensor([-1]), "scores": torch.ones(1)},
            ValueError,
            r"predictions\[0\]\['labels'\] wants values of at least 0",
        ),
        (
            {"boxes": torch.tensor([]), "labels": torch.tensor([]), "scores": torch.tensor([])},
            ValueError,
            r"predictions\[0\]\['boxes'\] wants the shape \(k, 4\), got \(0,\)",
        ),
        (
            {"boxes": BOX, "labels": torch.tensor([0.0]), "scores": torch.ones(1)},
            TypeError,
            r"predictions\[0\]\['labels'\] wants torch.int64, got torch.float32",
        ),
    ],
)
def test_what_are_no_detections_is_refused(prediction, error, sentence):
    target = {"boxes": BOX, "labels": torch.tensor([0])}
    with pytest.raises(error, match=sentence):
        mean_average_precision([prediction], [target])
