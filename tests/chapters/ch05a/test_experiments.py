"""The experiments of chapter 5a: where boxes lie, and detectors of which a part is switched off."""

import pytest
import torch
from torch.testing import assert_close

from vlmbook.chapters.ch05a import experiments
from vlmbook.data import photo, scenes
from vlmbook.detection import (
    FasterRCNN,
    GridDetector,
    SmallBackbone,
    as_torchvision,
    box_iou,
    mean_average_precision,
)
from vlmbook.efficientnet import imagenet_input

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


@torch.no_grad()
@pytest.mark.parametrize("kind", ["one stage", "two stages"])
def test_detections_are_those_of_the_detector(kind, some_scenes):
    images, _ = some_scenes
    net = make_net(kind)
    for found, expected in zip(experiments.detect(net, images), net(images), strict=True):
        assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_labels_of_torchvision_count_from_0_too(some_scenes):
    images, _ = some_scenes
    net = make_net("two stages")
    net.roi_heads.box_predictor.cls_score.weight *= 30
    theirs = as_torchvision(net, (64, 64)).eval()
    pairs = zip(experiments.detect(theirs, images), net(images), strict=True)
    for found, expected in pairs:
        assert len(found["labels"])
        assert_close(found["labels"], expected["labels"])


def test_a_backbone_of_stride_2_fits_unaligned_regions():
    torch.manual_seed(0)
    net = SmallBackbone((4, 8, 8)).eval()
    assert abs(experiments.find_center(net, aligned=False) - 48) < 1.5
    assert 42 < experiments.find_center(net, aligned=True) < 46


# --- natural photographs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(100, 100), (90, 200), (301, 150)])
def test_windows_cover_the_image_and_stay_in_it(size):
    windows = experiments.make_windows(size, (0.4, 0.9))
    sides = windows[:, 2:] - windows[:, :2]
    assert_close(sides[:, 0], sides[:, 1])
    assert_close(sides.round(decimals=2).unique(), min(size) * torch.tensor([0.4, 0.9]), rtol=1e-3, atol=0.01)
    for share in (0.4, 0.9):
        some = windows[(sides[:, 0] - share * min(size)).abs() < 0.1]
        for axis, length in ((0, size[1]), (1, size[0])):
            assert some[:, axis].min() == 0
            assert some[:, axis + 2].max() == pytest.approx(length, rel=1e-4)
            steps = some[:, axis].unique().diff()
            assert (steps <= 0.4 * share * min(size) + 0.01).all()


@torch.no_grad()
def test_a_window_is_scaled_as_the_classifier_wants_it():
    """A network that gives the mean of its input: for the whole square as after `imagenet_input`."""
    seen = []

    def network(x):
        seen.append(x)
        return torch.eye(1000)[[7]].expand(len(x), -1) * 20

    image = torch.rand(3, 1, 1).expand(3, 300, 300).contiguous()
    p, names = experiments.classify_windows(network, image, torch.tensor([[0.0, 0, 300, 300]] * 3))
    assert names == ["cock"] * 3 and (p > 0.99).all()
    assert_close(seen[0][0].mean((1, 2)), imagenet_input(image)[0].mean((1, 2)), rtol=1e-3, atol=1e-3)


def test_the_coins_are_counted():
    boxes = experiments.find_coins(photo("coins"))
    assert boxes.shape == (24, 4)
    assert (box_iou(boxes, boxes) - torch.eye(24)).max() < 0.05
    assert ((boxes[:, 2:] - boxes[:, :2]) > 30).all()


def test_shrinking_takes_means():
    image = torch.arange(16.0).view(1, 4, 4).expand(3, 4, 4)
    assert_close(experiments.shrink(image, 0.5)[0], torch.tensor([[2.5, 4.5], [10.5, 12.5]]))


# --- costs --------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_every_system_has_its_parts(some_scenes):
    images, _ = some_scenes
    costs = experiments.measure_costs(make_net("two stages"), make_net("one stage"), images[:1], (2, 4))
    assert list(costs) == ["R-CNN", "Fast R-CNN", "Faster R-CNN", "one stage"]
    parts = [list(of[2]) for of in costs.values()]
    everything = ["regions", "features", "heads"]
    assert parts == [everything[:2], everything, everything, everything[1:]]
    assert all(ms > 0 for of in costs.values() for by in of.values() for ms in by.values())
