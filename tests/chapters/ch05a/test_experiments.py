"""The experiments of chapter 5a: where boxes lie, and detectors of which a part is switched off."""

import pytest
import torch
from torch.testing import assert_close

from vlmbook.chapters.ch05a import experiments
from vlmbook.data import scenes
from vlmbook.detection import FasterRCNN, GridDetector, SmallBackbone, mean_average_precision

OPTIONS = {"sizes": (22,), "ratios": (1.0,), "width": 16, "pre_nms_top_n": 60, "post_nms_top_n": 20}


@pytest.fixture(scope="module")
def some_scenes():
    return scenes("train", 8, seed=2)


def make_net(kind):
    torch.manual_seed(0)
    backbone = SmallBackbone((4, 8, 8))
    net = GridDetector(backbone, 6, size=20) if kind == "one stage" else FasterRCNN(backbone, 6, **OPTIONS)
    return net.eval().requires_grad_(False)


def test_boxes_are_counted_by_their_best_overlap():
    truth = [{"boxes": torch.tensor([[0.0, 0, 40, 40], [60, 0, 100, 40]]), "labels": torch.tensor([0, 1])}]
    boxes = torch.tensor(
        [[60.0, 0, 100, 40], [10, 0, 50, 40], [20, 0, 60, 40], [0, 50, 9, 59], [0, 0, 40, 40]]
    )
    found = [{"boxes": boxes, "scores": torch.tensor([0.9, 0.8, 0.7, 0.6, 0.3]), "labels": torch.zeros(5)}]
    assert experiments.count_by_overlap(found, truth) == [1, 1, 2]
    assert experiments.count_by_overlap(found, truth, score=0.2) == [1, 1, 3]
    assert experiments.count_by_overlap(found, truth, score=0.95) == [0, 0, 0]


@pytest.mark.parametrize("kind", ["one stage", "two stages"])
def test_with_nothing_off_it_is_the_detector(kind, some_scenes):
    images, targets = some_scenes
    net = make_net(kind)
    measured = experiments.measure_switched_off(net, images, targets, parts=2)
    for half, found in zip((slice(0, 4), slice(4, 8)), measured["nothing"], strict=True):
        expected, _ = mean_average_precision(net(images[half]), targets[half])
        assert found == pytest.approx(expected, abs=1e-6)
    assert list(measured) == ["nothing", "suppression", "last offsets"]


def test_without_offsets_a_cell_gives_a_square_around_its_middle(some_scenes):
    images, _ = some_scenes
    _, boxes, unmoved = experiments._candidates(make_net("one stage"), images[:1])
    assert boxes.shape == unmoved.shape == (64, 4)
    assert_close(unmoved[0], torch.tensor([-6.0, -6, 14, 14]))
    assert_close(unmoved[9], torch.tensor([2.0, 2, 22, 22]))


def test_without_offsets_two_stages_give_the_proposals(some_scenes):
    images, _ = some_scenes
    net = make_net("two stages")
    p, _, unmoved = experiments._candidates(net, images[:1])
    assert len(p) == len(unmoved)
    assert_close(unmoved, net.stages(images[:1])["proposals"].boxes[0])
