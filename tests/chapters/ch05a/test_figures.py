"""The drawings of chapter 5a at the default and both ends of each control that its notebook offers."""

from types import SimpleNamespace

import pytest
import torch
from matplotlib.patches import Rectangle
from torch.testing import assert_close

from tests.support.detection import seeded
from tests.support.drawings import drawn, every_end, pictures
from vlmbook.chapters.ch05a import figures
from vlmbook.data import SCENE_NAMES, scenes
from vlmbook.detection import (
    BACKGROUND,
    FasterRCNN,
    GridDetector,
    SmallBackbone,
    average_precision,
    box_iou,
    generate_anchors,
    match_anchors,
    select_detections,
)

ANCHORS = {"smallest": (8, 16, 96), "sizes": (1, 2, 4), "wide": (True, False), "stride": (4, 8, 16)}
SUPPRESSION = {
    "detector": ("one stage", "two stages"),
    "image": (0, 3),
    "score": (0.05, 0.3, 0.95),
    "iou": (0.0, 0.5, 1.0),
}


@pytest.fixture(scope="module")
def scene():
    images, targets = scenes("train", 6, seed=2, objects=(3, 3))
    return images, targets


def perfect(targets, generator):
    """-> what `select_detections` takes: every true box twice, a little moved, its class likely; and two
    more boxes where no object is.
    """
    found = []
    for each in targets:
        near = torch.cat(
            [each["boxes"], each["boxes"] + torch.randn(each["boxes"].shape, generator=generator)]
        )
        boxes = torch.cat([near, torch.tensor([[0.0, 0, 9, 9], [50, 50, 64, 64]])])
        p = torch.full((len(boxes), 6), 0.02)
        p[torch.arange(len(near)), each["labels"].repeat(2)] = torch.linspace(0.9, 0.4, len(near))
        p[-2:, 0] = 0.35
        found.append((p, boxes))
    return found


def frames(axes, colour):
    return [
        patch
        for patch in axes.patches
        if isinstance(patch, Rectangle)
        and patch.get_edgecolor()[:3]
        == pytest.approx(tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)))
    ]


WHITE = "#ffffff"


def test_boxes_stand_at_their_pixels(scene):
    images, targets = scene
    figure = drawn(figures.draw_scenes, (7, 2.6), images=images, targets=targets, names=SCENE_NAMES)
    assert len(figure.axes) == 6
    for axes, each in zip(figure.axes, targets, strict=True):
        drawn_frames = [[*p.get_xy(), p.get_width(), p.get_height()] for p in frames(axes, WHITE)]
        true = [[x1 - 0.5, y1 - 0.5, x2 - x1, y2 - y1] for x1, y1, x2, y2 in each["boxes"].tolist()]
        assert drawn_frames == true
        assert [text.get_text() for text in axes.texts] == [SCENE_NAMES[label] for label in each["labels"]]


def test_confusion_and_what_a_confidence_is_worth():
    p = torch.full((5, 10), 0.0)
    for row, (predicted, confidence) in enumerate([(3, 0.95), (4, 0.97), (3, 1.0), (0, 0.33), (9, 0.35)]):
        p[row] = (1 - confidence) / 9
        p[row, predicted] = confidence
    figure = drawn(figures.draw_confusion, (7, 3.2), p=p, y=torch.tensor([3, 4, 5, 0, 8]))
    counts = pictures(figure)[0]
    assert counts.sum() == 5
    assert counts.nonzero().tolist() == [[0, 0], [3, 3], [4, 4], [5, 3], [8, 9]]
    assert [bar.get_height() for bar in figure.axes[1].patches] == pytest.approx([1 / 2, 2 / 3])
    confidences = [line.get_ydata()[0] for line in figure.axes[1].lines]
    assert confidences == pytest.approx([0.34, (0.95 + 0.97 + 1) / 3])


def test_training_over_seconds():
    histories = {
        "a": SimpleNamespace(losses=[5.0 - i / 50 for i in range(200)], seconds=20.0),
        "b": SimpleNamespace(losses=[2.0] * 80, seconds=8.0),
    }
    figure = drawn(figures.draw_training, (6, 2.2), histories=histories)
    (a,), (b,) = (axes.lines for axes in figure.axes)
    assert a.get_xdata()[-1] == pytest.approx(20) and b.get_xdata()[-1] == pytest.approx(8)
    assert a.get_ydata()[0] == pytest.approx(sum(histories["a"].losses[:5]) / 5, rel=1e-5)


def test_gradients_layer_by_layer():
    figure = drawn(
        figures.draw_gradients, (5, 2.4), norms={"ReLU": [0.1, 0.2, 0.4], "sigmoid": [1e-6, 1e-3, 0.5]}
    )
    assert [line.get_xdata().tolist() for line in figure.axes[0].lines] == [[1, 2, 3]] * 2
    assert figure.axes[0].get_yscale() == "log"


@pytest.mark.parametrize("values", every_end(ANCHORS), ids=str)
def test_anchors(scene, values):
    images, targets = scene
    truth = targets[0]["boxes"]
    figure = drawn(figures.draw_anchors, (7, 2.6), image=images[0], boxes=truth, **values)
    given = {"smallest": 16, "sizes": 2, "wide": True, "stride": 8} | values
    each = given["sizes"] * (3 if given["wide"] else 1)
    stride = given["stride"]
    sizes = [given["smallest"] * 2 ** (i / 2) for i in range(given["sizes"])]
    anchors = generate_anchors(
        (64 // stride,) * 2, (stride,) * 2, sizes, (0.5, 1.0, 2.0) if given["wide"] else (1.0,)
    )
    assert len(frames(figure.axes[0], "#D55E00")) == each
    owner = match_anchors(box_iou(truth, anchors), 0.7, 0.3, allow_low_quality_matches=True)
    assert len(frames(figure.axes[1], "#0072B2")) == int((owner >= 0).sum()) > 0
    widths = torch.tensor([bar.get_width() for bar in figure.axes[2].patches])
    best = box_iou(truth, anchors).amax(1)
    assert_close(widths.float(), best)
    colours = [bar.get_facecolor() for bar in figure.axes[2].patches]
    assert len(set(colours)) == len({iou < 0.7 for iou in best.tolist()})
    point = figure.axes[0].lines[0]
    centre = 64 // stride // 2 * stride - 0.5
    assert (point.get_xdata()[0], point.get_ydata()[0]) == pytest.approx((centre, centre))


def test_every_anchor_is_shown_once(scene):
    images, targets = scene
    truth, anchors = targets[0]["boxes"], generate_anchors((8, 8), (8, 8), (22,), (1.0,))
    figure = drawn(figures.draw_matches, (7, 2.7), image=images[0], boxes=truth, anchors=anchors)
    owner = match_anchors(box_iou(truth, anchors), 0.7, 0.3, allow_low_quality_matches=True)
    counts = [len(panel.patches) - len(truth) for panel in figure.axes]
    [points] = figure.axes[2].lines
    assert counts == [int((owner >= 0).sum()), int((owner < BACKGROUND).sum()), 0]
    assert sum(counts) + len(points.get_xdata()) == len(anchors)


def test_stages_follow_one_image(scene):
    images, targets = scene
    torch.manual_seed(0)
    options = {"sizes": (22,), "ratios": (1.0,), "width": 16, "pre_nms_top_n": 60, "post_nms_top_n": 20}
    net = FasterRCNN(SmallBackbone((4, 8, 8)), 6, **options).eval()
    with torch.no_grad():
        stages = net.stages(images[:1])
    figure = drawn(
        figures.draw_stages,
        (7, 4.2),
        image=images[0],
        boxes=targets[0]["boxes"],
        stages=stages,
        names=SCENE_NAMES,
    )
    shown = pictures(figure)
    assert [shown[i].shape for i in (1, 5, 6)] == [(8, 8), (16, 32), (8, 7)]
    assert_close(shown[6].float().sum(1), torch.ones(8))
    assert_close(shown[2].float(), stages["proposals"].logits.sigmoid().view(8, 8))
    assert len(figure.axes[3].patches) == len(stages["proposals"].candidates[0]) == 60
    assert len(figure.axes[4].patches) == len(stages["proposals"].boxes[0]) <= 20


def test_curves_name_the_average_precision(scene):
    _, targets = scene
    predictions = [select_detections(*each, (64, 64)) for each in perfect(targets, seeded(0))]
    figure = drawn(
        figures.draw_curves,
        (7, 2.8),
        found={"one": (predictions, targets), "two": (predictions[:1], targets[:1])},
        names=SCENE_NAMES,
    )
    for axes in figure.axes:
        assert len(axes.lines) == 6
        for line in axes.lines:
            assert len(line.get_xdata()) == len(line.get_ydata())
            assert line.get_label().split()[0] in SCENE_NAMES
        of_class = {line.get_label().split()[0]: line for line in axes.lines}
        ap = {name: float(line.get_label().split()[1]) for name, line in of_class.items()}
        ap = {name: value for name, value in ap.items() if value == value}  # no objects, no AP
        blue = [name for name, line in of_class.items() if line.get_color() == "#0072B2"]
        orange = [name for name, line in of_class.items() if line.get_color() == "#D55E00"]
        assert len(blue) == 1 >= len(orange)
        assert ap[blue[0]] == max(ap.values())
        assert all(ap[name] == min(ap.values()) for name in orange)


def test_area_under_the_steps_is_nearly_the_average_precision():
    hits = torch.tensor([True, False, True, True, False, True])
    figure = drawn(figures.draw_area, (4.2, 2.4), true_positives=hits, objects=5)
    axes = figure.axes[0]
    area = 0.0
    for steps in axes.collections:
        corners = steps.get_paths()[0].vertices
        area += float((corners[:, 0].max() - corners[:, 0].min()) * corners[:, 1].max())
    assert area == pytest.approx(average_precision(hits, 5), abs=0.01)
    hit, miss = axes.lines[1:]
    assert (len(hit.get_xdata()), len(miss.get_xdata())) == (4, 2)


def test_true_positives_are_blue(scene):
    images, targets = scene
    predictions = [
        select_detections(*each, (64, 64), score_threshold=0.3) for each in perfect(targets, seeded(0))
    ]
    given = {"images": images, "predictions": predictions, "targets": targets, "names": SCENE_NAMES}
    figure = drawn(figures.draw_detections, (7, 2.6), **given)
    for axes, each, truth in zip(figure.axes, predictions, targets, strict=True):
        blue = len(frames(axes, "#0072B2"))
        orange = len(frames(axes, "#D55E00"))
        assert blue == len(truth["labels"]) == len(frames(axes, WHITE))
        assert blue + orange == int((each["scores"] >= 0.4).sum())
        assert (each["scores"] < 0.4).any()


@pytest.mark.parametrize("values", every_end(SUPPRESSION), ids=str)
def test_suppression(scene, values):
    images, targets = scene
    detectors = ("one stage", "two stages")
    candidates = {name: perfect(targets, seeded(seed)) for seed, name in enumerate(detectors)}
    figure = drawn(
        figures.draw_suppression,
        (7, 2.7),
        candidates=candidates,
        images=images,
        targets=targets,
        names=SCENE_NAMES,
        **values,
    )
    given = {"detector": "one stage", "image": 0, "score": 0.3, "iou": 0.5} | values
    each = candidates[given["detector"]][given["image"]]
    for axes, threshold in zip(figure.axes, (1.0, given["iou"]), strict=False):
        detections = select_detections(
            *each, (64, 64), score_threshold=given["score"], iou_threshold=threshold
        )
        assert len(frames(axes, "#0072B2")) + len(frames(axes, "#D55E00")) == len(detections["labels"])
    precision, recall = (bar.get_width() for bar in figure.axes[2].patches)
    assert 0 <= precision <= 1
    assert 0 <= recall <= 1
    if given["score"] == 0.95:
        assert precision == recall == 0
    elif given["iou"] == 0.5:
        assert recall == 1
        assert precision < 1
    elif given["iou"] == 1.0:
        assert recall == 1
        assert precision < 0.6  # all duplicates stay


def test_suppression_takes_the_candidates_of_the_grid_detector(scene):
    images, targets = scene
    torch.manual_seed(0)
    net = GridDetector(SmallBackbone((4, 8, 8)), 6, size=20).eval()
    with torch.no_grad():
        candidates = {"one stage": net.predict_candidates(images)}
    drawn(
        figures.draw_suppression,
        (7, 2.7),
        candidates=candidates,
        images=images,
        targets=targets,
        names=SCENE_NAMES,
        score=0.05,
    )


def test_costs_are_stacked():
    costs = {
        name: {n: {"regions": 4.0, "features": n / 10, "heads": 2.0} for n in (20, 320)}
        for name in ("R-CNN", "Fast R-CNN", "Faster R-CNN", "one stage")
    }
    costs["one stage"][20].pop("regions")
    figure = drawn(figures.draw_costs, (7, 2.5), costs=costs)
    assert [text.get_text() for text in figure.axes[0].texts] == ["8.0", "38"]
    assert [text.get_text() for text in figure.axes[3].texts] == ["4.0", "38"]
