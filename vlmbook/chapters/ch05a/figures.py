"""Chapter 5a: boxes on images, anchors and their matches, suppression, the stages of one image, curves."""

import math

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from sklearn.metrics import confusion_matrix
from torch.nn import functional as F

from vlmbook import plot
from vlmbook.detection import (
    BACKGROUND,
    IGNORED,
    average_precision,
    box_iou,
    box_xyxy_to_cxcywh,
    generate_anchors,
    match_anchors,
    match_detections,
    precision_recall_curve,
    select_detections,
)

# --- boxes on an image --------------------------------------------------------------------------------------


def draw_boxes(
    axes: Axes, boxes: torch.Tensor, texts: list[str] = (), color: str = "white", width: float = 1.5, **style
) -> Axes:
    """(k, 4), k texts -> axes: frames xyxy in pixels over an image; a text above each, or inside."""
    top, bottom = sorted(axes.get_ylim())
    for number, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        frame = Rectangle(
            (x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=width
        )
        frame.set(**style)
        axes.add_patch(frame)
        if number < len(texts):
            inside = y1 < top + 0.12 * (bottom - top)
            _write(axes, texts[number], max(x1, 0), y1, inside, "black" if color == "white" else color)
    return axes


def _write(axes, text, x, y, inside, background):
    axes.text(
        x + 1 if inside else x,
        y + 0.5 if inside else y - 1,
        text,
        color="white",
        fontsize=7,
        va="top" if inside else "bottom",
        clip_on=True,
        bbox={"facecolor": background, "pad": 0.5, "linewidth": 0},
    )


def _show_whole(axes, image):
    """The image fills the axes, whatever boxes reach beyond it."""
    axes.set(xlim=(-0.5, image.shape[2] - 0.5), ylim=(image.shape[1] - 0.5, -0.5))


def draw_scenes(
    figure: Figure, images: torch.Tensor, targets: list[dict], names: list[str], columns: int = 6
) -> None:
    """(n, 3, H, W), n × {boxes, labels from 0}: rows of images with the objects in them."""
    rows = -(-len(images) // columns)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for panel, image, each in zip(panels, images, targets, strict=False):
        texts = [names[label] for label in each["labels"].tolist()]
        draw_boxes(plot.image(panel, image), each["boxes"], texts)


# --- classification -----------------------------------------------------------------------------------------


def draw_confusion(figure: Figure, p: torch.Tensor, y: torch.Tensor) -> None:
    """(N, K) probabilities, (N,) classes: the confusion matrix, and how far each confidence can be trusted.

    Bins of a tenth: a bar reaches to the accuracy, the step to the mean confidence.
    """
    confidence, predicted = p.max(1)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    classes = range(p.shape[1])
    counts = confusion_matrix(y, predicted, labels=list(classes))
    plot.numbers(left, counts, "rows: true class", form="{:.0f}")
    left.set(xticks=classes, yticks=classes, xlabel="predicted class")
    bins = (confidence * 10).long().clamp(max=9)
    correct = (predicted == y).float()
    for number in bins.unique().tolist():
        in_bin = bins == number
        middle = (number + 0.5) / 10
        right.bar(middle, correct[in_bin].mean().item(), 0.09, color=plot.BLUE)
        mean = confidence[in_bin].mean().item()
        right.plot([number / 10, (number + 1) / 10], [mean, mean], color=plot.ORANGE, linewidth=2)
        right.annotate(f"{int(in_bin.sum())}", (middle, 0.02), ha="center", color="white", fontsize=7)
    right.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.03))
    right.set_title("orange: mean confidence")


def draw_gradients(figure: Figure, norms: dict[str, list[float]]) -> None:
    """{name: the norm of the gradient, layer by layer}: on a logarithmic axis, the last layer right."""
    axes = figure.subplots()
    for name, values in norms.items():
        axes.semilogy(range(1, len(values) + 1), values, "o-", label=name)
    axes.set(xlabel="layer, from the input", ylabel="norm of the weights' gradient")
    axes.legend()


# --- anchors ------------------------------------------------------------------------------------------------


def draw_anchors(
    figure: Figure,
    image: torch.Tensor,
    boxes: torch.Tensor,
    smallest: float = 16,
    sizes: int = 2,
    wide: bool = True,
    stride: int = 8,
) -> None:
    """(3, H, W), (k, 4): the anchors of one cell; those matched to an object; the best IoU of each object.

    `sizes` grow from the smallest by √2; with `wide` there are the ratios ½, 1 and 2, else 1 alone.
    """
    grid = (image.shape[1] // stride, image.shape[2] // stride)
    ratios = (0.5, 1.0, 2.0) if wide else (1.0,)
    anchors = generate_anchors(
        grid, (stride, stride), [smallest * 2 ** (i / 2) for i in range(sizes)], ratios
    )
    per_cell = sizes * len(ratios)
    middle = per_cell * (grid[0] // 2 * grid[1] + grid[1] // 2)
    iou = box_iou(boxes, anchors)
    matched = match_anchors(iou, 0.7, 0.3, allow_low_quality_matches=True) >= 0
    panels = figure.subplots(1, 3, width_ratios=(1, 1, 0.9))
    plot.image(panels[0], image, f"{per_cell} anchors in one cell")
    draw_boxes(panels[0], anchors[middle : middle + per_cell], color=plot.ORANGE)
    center = box_xyxy_to_cxcywh(anchors[middle : middle + 1])[0, :2]
    panels[0].plot(*(center - 0.5).tolist(), "o", color=plot.ORANGE, markersize=4)
    plot.image(panels[1], image, f"{int(matched.sum())} of {len(anchors)} matched")
    draw_boxes(panels[1], anchors[matched], color=plot.BLUE, width=2)
    draw_boxes(panels[1], boxes)
    for panel in panels[:2]:
        _show_whole(panel, image)
    _draw_best_iou(panels[2], iou.amax(1).tolist())


def _draw_best_iou(axes, best):
    """k numbers: a bar an object, orange where no anchor reaches 0.7."""
    rows = range(len(best))
    axes.barh(rows, best, color=[plot.BLUE if iou >= 0.7 else plot.ORANGE for iou in best])
    axes.axvline(0.7, color=plot.GREY, linestyle="--")
    axes.set(xlim=(0, 1), yticks=rows, yticklabels=[row + 1 for row in rows])
    axes.set(ylabel="object", xlabel="IoU of its best anchor")
    axes.invert_yaxis()


def draw_matches(figure: Figure, image: torch.Tensor, boxes: torch.Tensor, anchors: torch.Tensor) -> None:
    """(3, H, W), (k, 4), (N, 4): anchors matched to an object, ignored ones, and background as points."""
    owner = match_anchors(box_iou(boxes, anchors), 0.7, 0.3, allow_low_quality_matches=True)
    matched, ignored, background = figure.subplots(1, 3)
    plot.image(matched, image, f"{int((owner >= 0).sum())} matched to an object")
    draw_boxes(matched, anchors[owner >= 0], color=plot.BLUE)
    plot.image(ignored, image, f"{int((owner == IGNORED).sum())} ignored")
    draw_boxes(ignored, anchors[owner == IGNORED], color=plot.ORANGE)
    plot.image(background, image, f"{int((owner == BACKGROUND).sum())} background")
    centers = box_xyxy_to_cxcywh(anchors[owner == BACKGROUND])[:, :2]
    points = {"markersize": 4, "color": "white", "markeredgecolor": "black", "markeredgewidth": 0.6}
    background.plot(*centers.T, "o", **points)
    for panel in (matched, ignored, background):
        draw_boxes(panel, boxes)
        _show_whole(panel, image)


# --- one image through every stage --------------------------------------------------------------------------


def draw_stages(
    figure: Figure, image: torch.Tensor, boxes: torch.Tensor, stages: dict, names: list[str]
) -> None:
    """(3, H, W), (k, 4), `FasterRCNN.stages` of this image alone: every stage, one beside the other."""
    proposals = stages["proposals"]
    panels = figure.subplots(2, 4).flat
    draw_boxes(plot.image(panels[0], image, "1: image, ground truth"), boxes)
    x = stages["map"][0]
    _show_map(panels[1], x.mean(0), f"2: map, {x.shape[1]}×{x.shape[2]}")
    objectness = proposals.logits[0].sigmoid().view(*x.shape[1:], -1).amax(-1)
    plot.image(panels[2], objectness, "3: objectness")
    plot.image(panels[3], image, f"4: {len(proposals.candidates[0])} before NMS")
    draw_boxes(panels[3], proposals.candidates[0], color=plot.ORANGE, width=0.6, alpha=0.6)
    plot.image(panels[4], image, f"5: {len(proposals.boxes[0])} proposals")
    draw_boxes(panels[4], proposals.boxes[0], color=plot.ORANGE, width=0.9)
    _show_map(panels[5], _tiled(stages["pooled"][:8].mean(1)), "6: regions 1 to 8")
    p = stages["logits"][:8].softmax(-1)
    panels[6].imshow(p.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    panels[6].set(title="7: their classes", xticks=range(p.shape[1]), yticks=range(len(p)))
    panels[6].set_yticklabels([1 + row for row in range(len(p))], fontsize=7)
    panels[6].set_ylabel("region")
    panels[6].set_xticklabels(["background", *names], rotation=90, fontsize=7)
    _draw_likely(panels[7], image, stages["detections"][0], names)
    for number in (0, 3, 4, 7):
        _show_whole(panels[number], image)


def _draw_likely(axes, image, detections, names):
    """The detections with a score from 0.4 on, each with its class and score."""
    plot.image(axes, image, "8: detections")
    likely = detections["scores"] >= 0.4
    labels = detections["labels"][likely].tolist()
    scores = detections["scores"][likely].tolist()
    texts = [f"{names[label]} {score:.1f}" for label, score in zip(labels, scores, strict=True)]
    draw_boxes(axes, detections["boxes"][likely], texts, color=plot.BLUE)


def _show_map(axes, x, title):
    """(h, w) -> axes: low values dark blue, high ones yellow; NaN is white."""
    axes.imshow(x.numpy(), cmap="viridis")
    axes.set(xticks=[], yticks=[], title=title)
    axes.spines[:].set_visible(False)
    axes.grid(False)


def _tiled(x, columns=4):
    """(n, h, w) -> (rows · (h + 1), columns · (w + 1)): rows of `columns` tiles, NaN between them."""
    x = F.pad(x, (0, 1, 0, 1), value=float("nan"))
    rows = [
        torch.cat(list(x[i : i + columns]), dim=1) for i in range(0, len(x) // columns * columns, columns)
    ]
    return torch.cat(rows)


# --- training and evaluation --------------------------------------------------------------------------------


def draw_training(figure: Figure, histories: dict) -> None:
    """{name: `fit`'s History}: the losses, smoothed, over the seconds of training, a panel each."""
    panels = figure.subplots(1, len(histories), squeeze=False)[0]
    for axes, (name, history) in zip(panels, histories.items(), strict=True):
        losses = torch.tensor(history.losses)
        window = max(1, len(losses) // 40)
        seconds = torch.linspace(0, history.seconds, len(losses))[window - 1 :]
        axes.plot(seconds.tolist(), losses.unfold(0, window, 1).mean(1).tolist(), color=plot.BLUE)
        axes.set(xlabel="seconds", ylim=(0, None), title=name)
    panels[0].set_ylabel("sum of the losses")


def draw_curves(figure: Figure, found: dict, names: list[str]) -> None:
    """{detector: (predictions, targets)}: precision over recall of each class, with its AP; the best class in
    blue, the worst in orange, the others in grey.
    """
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for panel, (title, (predictions, targets)) in zip(panels, found.items(), strict=True):
        curves = {}
        for label, name in enumerate(names):
            _, true_positives, objects = match_detections(predictions, targets, label)
            precision, recall = precision_recall_curve(true_positives, objects)
            ap = average_precision(true_positives, objects)
            curves[name] = (ap, recall.tolist(), precision.tolist())
        there = [name for name in curves if not math.isnan(curves[name][0])]  # without objects no AP
        worst = min(there, key=lambda name: curves[name][0], default=None)
        best = max(there, key=lambda name: curves[name][0], default=None)
        for name, (ap, recall, precision) in curves.items():
            style = {"color": plot.GREY, "linewidth": 1.2}
            if name == worst:
                style = {"color": plot.ORANGE, "linewidth": 2.5, "zorder": 3}
            if name == best:
                style = {"color": plot.BLUE, "linewidth": 2.5, "zorder": 3}
            panel.plot(recall, precision, label=f"{name} {ap:.2f}", **style)
        panel.set(xlabel="recall", xlim=(0, 1.02), ylim=(0, 1.05), title=title)
        panel.legend(loc="lower left", fontsize=7, ncols=2)
    panels[0].set_ylabel("precision")


def draw_area(figure: Figure, true_positives: torch.Tensor, objects: int) -> None:
    """(D,) bool, best first, int: the curve point by point, and the steps whose mean height is the AP."""
    axes = figure.subplots()
    precision, recall = precision_recall_curve(true_positives, objects)
    best = precision.flip(0).cummax(0).values.flip(0)
    ends = torch.cat([recall.new_zeros(1), recall])
    for start, end, height in zip(ends[:-1].tolist(), ends[1:].tolist(), best.tolist(), strict=True):
        if end > start:
            axes.fill_between([start, end], height, color=plot.BLUE, alpha=0.25, linewidth=0)
    axes.plot(recall.tolist(), precision.tolist(), "-", color=plot.GREY)
    for is_true, color, name in ((True, plot.BLUE, "true positive"), (False, plot.ORANGE, "false positive")):
        of_kind = true_positives == is_true
        axes.plot(recall[of_kind].tolist(), precision[of_kind].tolist(), "o", color=color, label=name)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.08))
    axes.set_title(f"AP {average_precision(true_positives, objects):.3f}")
    axes.legend(loc="lower left")


def draw_found(
    axes: Axes, image: torch.Tensor, detections: dict, target: dict, names: list[str], title: str = ""
) -> Axes:
    """(3, H, W), {boxes, scores, labels}, {boxes, labels} -> axes: true positives blue, false ones orange,
    the ground truth white.
    """
    plot.image(axes, image, title)
    draw_boxes(axes, target["boxes"], width=2.5)
    for label in detections["labels"].unique().tolist():
        of_class = detections["labels"] == label
        _, true_positives, _ = match_detections([detections], [target], label)
        order = detections["scores"][of_class].sort(descending=True, stable=True).indices
        boxes = detections["boxes"][of_class][order][: len(true_positives)]
        for is_true, color in ((False, plot.ORANGE), (True, plot.BLUE)):
            chosen = boxes[true_positives == is_true]
            draw_boxes(axes, chosen, [names[label]] * len(chosen), color=color)
    _show_whole(axes, image)
    return axes


def draw_detections(
    figure: Figure,
    images: torch.Tensor,
    predictions: list[dict],
    targets: list[dict],
    names: list[str],
    columns: int = 6,
    score: float = 0.4,
) -> None:
    """(n, 3, H, W), n × {boxes, scores, labels}, n × {boxes, labels}: detections with at least this score."""
    panels = figure.subplots(-(-len(images) // columns), columns, squeeze=False).flat
    for panel, image, detections, target in zip(panels, images, predictions, targets, strict=False):
        likely = detections["scores"] >= score
        draw_found(panel, image, {key: each[likely] for key, each in detections.items()}, target, names)


def draw_suppression(
    figure: Figure,
    candidates: dict[str, list],
    images: torch.Tensor,
    targets: list[dict],
    names: list[str],
    detector: str = "one stage",
    image: int = 0,
    score: float = 0.3,
    iou: float = 0.5,
) -> None:
    """The detections of one image before and after suppression; the effect of both thresholds on all images.

    candidates: {detector: `predict_candidates` of the images}; targets: list of {boxes, labels}.
    """
    size = images.shape[2:]
    panels = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
    for panel, threshold, when in zip(panels, (1.0, iou), ("before", "after"), strict=False):
        detections = select_detections(
            *candidates[detector][image], size, score_threshold=score, iou_threshold=threshold
        )
        title = f"{len(detections['boxes'])} {when} NMS"
        draw_found(panel, images[image], detections, targets[image], names, title)
    thresholds = {"score_threshold": score, "iou_threshold": iou}
    selected = [select_detections(*each, size, **thresholds) for each in candidates[detector]]
    _draw_precision_and_recall(panels[2], selected, targets)


def _draw_precision_and_recall(axes, predictions, targets):
    """Of all classes and images together."""
    found = 0
    for label in torch.cat([each["labels"] for each in predictions]).unique().tolist():
        found += int(match_detections(predictions, targets, label)[1].sum())
    detections = sum(len(each["labels"]) for each in predictions)
    objects = sum(len(each["labels"]) for each in targets)
    values = [found / max(detections, 1), found / objects]
    axes.barh([0, 1], values, color=[plot.BLUE, plot.GREEN])
    for row, value in enumerate(values):
        axes.annotate(f"{value:.2f}", (0.02, row), va="center", color="black")
    axes.set(yticks=[0, 1], yticklabels=["precision", "recall"], xlim=(0, 1))
    axes.set_xlabel(f"over {len(targets)} images")
    axes.invert_yaxis()


# --- costs --------------------------------------------------------------------------------------------------


def draw_costs(figure: Figure, costs: dict) -> None:
    """{system: {regions: {part: ms}}}: a panel a system, parts stacked over the number of regions."""
    colors = {"regions": plot.ORANGE, "features": plot.BLUE, "heads": plot.GREEN}
    panels = figure.subplots(1, len(costs), sharey=True)
    for panel, (system, by_regions) in zip(panels, costs.items(), strict=True):
        positions = range(len(by_regions))
        tops = [0.0] * len(by_regions)
        for part, color in colors.items():
            values = [parts.get(part, 0.0) for parts in by_regions.values()]
            panel.bar(positions, values, bottom=tops, color=color, label=part)
            tops = [top + value for top, value in zip(tops, values, strict=True)]
        above = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center", "fontsize": 7}
        for position, top in zip(positions, tops, strict=True):
            panel.annotate(f"{top:.0f}" if top >= 10 else f"{top:.1f}", (position, top), **above)
        panel.set(xticks=positions, xticklabels=list(by_regions), title=system, xlabel="regions")
        panel.margins(y=0.15)
    panels[0].set_ylabel("ms an image")
    panels[0].legend(loc="upper left", fontsize=7)
