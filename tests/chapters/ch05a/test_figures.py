"""The drawings of chapter 5a at the default and both ends of each control that its notebook offers."""

from types import SimpleNamespace

import pytest
import torch
from matplotlib.patches import Rectangle
from torch import nn
from torch.testing import assert_close

from tests.support.detection import seeded
from tests.support.drawings import drawn, every_end, pictures
from vlmbook.chapters.ch05a import figures
from vlmbook.data import SCENE_NAMES, scenes
from vlmbook.detection import (
    BACKGROUND,
    IGNORED,
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


# --- the networks -------------------------------------------------------------------------------------------


def labels(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts if text.get_text()]


def arrows(figure):
    return sum(text.arrow_patch is not None for text in figure.axes[0].texts if hasattr(text, "arrow_patch"))


@torch.no_grad()
def test_the_classifier_is_drawn_with_the_shapes_it_has():
    figure = drawn(figures.draw_classifier, (7, 1.0))
    x = torch.rand(1, 1, 8, 8)
    net = [nn.Conv2d(1, 16, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.MaxPool2d(2)]
    shown = " ".join(labels(figure))
    for layer in net:
        x = layer(x)
        assert "×".join(map(str, x.shape[1:])) in shown
    assert f"flatten\n{x.numel()}" in shown
    assert arrows(figure) == 7


@torch.no_grad()
def test_one_stage_is_drawn_with_the_shapes_it_has():
    net = GridDetector(SmallBackbone((4, 8, 12)), 6, size=20).eval()
    figure = drawn(figures.draw_one_stage, (7, 0.9), size=(64, 80), channels=12, num_classes=6)
    shown = " ".join(labels(figure))
    x = torch.rand(1, 3, 64, 80)
    for part in (net.backbone, *net.head):
        x = part(x)
        assert "×".join(map(str, x.shape[1:])) in shown
    assert f"{len(net.predict_candidates(torch.rand(1, 3, 64, 80))[0][0])} boxes" in shown


@torch.no_grad()
def test_two_stages_are_drawn_with_the_shapes_they_have():
    options = {"ratios": (0.5, 1.0), "width": 16, "pre_nms_top_n": 60, "post_nms_top_n": 20}
    net = FasterRCNN(SmallBackbone((4, 8, 12)), 6, sizes=(22, 30), **options).eval()
    x = net.backbone(torch.rand(1, 3, 64, 64))
    figure = drawn(
        figures.draw_two_stages, (7, 2.5), size=(64, 64), channels=12, num_classes=6, per_cell=4, width=16
    )
    shown = " ".join(labels(figure))
    head = net.rpn.head
    for output in (x, head.cls_logits(x), head.bbox_pred(x)):
        assert "×".join(map(str, output.shape[1:])) in shown
    pooled, logits, offsets = net.roi_heads(x, [torch.tensor([[0.0, 0, 20, 20]]).repeat(20, 1)], (8, 8))
    for output in (pooled, logits, offsets):
        assert "×".join(map(str, output.shape)) in shown
    assert arrows(figure) == 11


def test_the_drawing_of_the_paper_has_the_edges_that_the_book_lacks():
    figure = drawn(figures.draw_book_and_paper, (7, 1.9))
    counts = [sum(getattr(t, "arrow_patch", None) is not None for t in axes.texts) for axes in figure.axes]
    assert counts == [4, 7]


# --- boxes --------------------------------------------------------------------------------------------------


def test_what_two_boxes_share_is_filled():
    a, b = torch.tensor([0.0, 0, 40, 40]), torch.tensor([10.0, 0, 50, 40])
    figure = drawn(figures.draw_overlaps, (7, 1.6), pairs=[(a, b), (a, a + 100)])
    shared = [axes.patches[0] for axes in figure.axes]
    assert [patch.get_width() * patch.get_height() for patch in shared] == [1200, 0]
    assert figure.axes[0].get_title(loc="left") == "IoU 0.60"


def test_pooling_rounds_and_alignment_does_not():
    region = (1.7, 2.3, 6.4, 6.8)
    figure = drawn(figures.draw_pooling, (5, 2.6), region=region)
    for axes, wanted in zip(figure.axes, ((2, 2, 7, 8), region), strict=True):
        bins = axes.patches[:4]
        left, top = bins[0].get_xy()
        right = bins[3].get_x() + bins[3].get_width()
        bottom = bins[3].get_y() + bins[3].get_height()
        assert (left, top, right, bottom) == pytest.approx(wanted)
    assert [len(axes.lines) for axes in figure.axes] == [0, 4]


def test_a_text_hides_no_other_box():
    boxes = torch.tensor([[20.0, 20, 40, 40], [20, 4, 40, 19]])  # the second where a text would stand
    figure = drawn(
        figures.draw_photographs,
        (4, 2.5),
        panels={
            "one": (torch.rand(3, 64, 64), boxes, ["cross", "star"], boxes[:1]),
            "two": (torch.rand(3, 40, 90), boxes[:0], [], boxes[:0]),
        },
    )
    axes = figure.axes[0]
    assert [len(frames(axes, colour)) for colour in ("#0072B2", "#D55E00", WHITE)] == [1, 1, 1]
    places = torch.tensor([text.place for text in axes.texts], dtype=torch.float32)
    assert box_iou(places, boxes).max() < 0.02


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
    counts = [int((owner >= 0).sum()), int((owner == IGNORED).sum()), int((owner == BACKGROUND).sum())]
    title = figure.axes[1].get_title(loc="left")
    assert [int(word) for word in title.split() if word.isdigit()] == counts
    assert sum(counts) == len(anchors)
    widths = torch.tensor([bar.get_width() for bar in figure.axes[2].patches])
    best = box_iou(truth, anchors).amax(1)
    assert_close(widths.float(), best)
    colours = [bar.get_facecolor() for bar in figure.axes[2].patches]
    assert len(set(colours)) == len({iou < 0.7 for iou in best.tolist()})
    point = figure.axes[0].lines[0]
    centre = 64 // stride // 2 * stride - 0.5
    assert (point.get_xdata()[0], point.get_ydata()[0]) == pytest.approx((centre, centre))


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
    assert [tuple(shown[i].shape[:2]) for i in (1, 2, 5)] == [(8, 8), (8, 8), (68, 104)]
    best = stages["logits"][:8].softmax(-1).argmax(-1).tolist()
    written = [text.get_text().split()[0] for text in figure.axes[5].texts]
    assert written == ["background" if label == 0 else SCENE_NAMES[label - 1] for label in best]
    assert_close(shown[2].float(), stages["proposals"].logits.sigmoid().view(8, 8))
    assert len(figure.axes[3].patches) == len(stages["proposals"].candidates[0]) == 60
    assert len(figure.axes[4].patches) == len(stages["proposals"].boxes[0]) <= 20


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
    given = {"detector": "two stages", "image": 0, "score": 0.3, "iou": 0.5} | values
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
        detector="one stage",
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
