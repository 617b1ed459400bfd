"""The constant box: what it finds without looking."""

import pytest
import torch

from vlmbook.data import scenes
from vlmbook.detection import ConstantBox, mean_average_precision


def target(boxes, labels):
    return {"boxes": torch.tensor(boxes).float().view(-1, 4), "labels": torch.tensor(labels).long()}


def test_its_box_is_the_one_that_finds_most_images():
    targets = [
        target([[10, 10, 30, 30]], [1]),
        target([[12, 10, 30, 30]], [1]),
        target([[0, 0, 5, 5], [40, 40, 60, 60]], [1, 2]),
        target([], []),
    ]
    baseline = ConstantBox(targets, num_classes=4, image_size=(64, 64))
    [detection] = baseline(torch.zeros(1, 3, 64, 64))
    assert detection["labels"].tolist() == [1, 2]
    assert detection["boxes"].tolist() == [[10, 10, 30, 30], [40, 40, 60, 60]]
    assert detection["scores"].tolist() == [0.5, 0.25]


def test_it_is_stretched_with_the_image():
    baseline = ConstantBox([target([[16, 8, 32, 24]], [0])], num_classes=1, image_size=(32, 64))
    detections = baseline(torch.zeros(2, 3, 64, 32))
    assert [each["boxes"].tolist() for each in detections] == [[[8, 16, 16, 48]]] * 2


def test_where_all_objects_stand_at_one_position_it_is_perfect_and_on_scenes_it_is_not():
    same = [target([[4, 4, 20, 20]], [0])] * 5
    assert mean_average_precision(ConstantBox(same, 1, (32, 32))(torch.zeros(5, 3, 32, 32)), same)[0] == 1
    images, targets = scenes("train", 60, seed=1)
    assert mean_average_precision(ConstantBox(targets, 6, (64, 64))(images), targets)[0] < 0.2


def test_without_objects_it_finds_nothing():
    [detection] = ConstantBox([target([], [])], 3, (32, 32))(torch.zeros(1, 3, 32, 32))
    assert detection["boxes"].shape == (0, 4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("boxes", 1, (32, 32)), "targets wants a list with a dict an image"),
        (([], 0, (32, 32)), "num_classes wants a whole number"),
        (([], 1, (0, 32)), "image_size wants"),
    ],
)
def test_what_it_cannot_use_is_refused(arguments, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        ConstantBox(*arguments)
