"""Chapter 5a: boxes on images, anchors and what they answer for, suppression, one image through every stage,
curves.
"""

import torch
from matplotlib.patches import Rectangle
from torch.nn import functional as F

from vlmbook import plot
from vlmbook.detection import (
    BACKGROUND,
    assign,
    average_precision,
    box_iou,
    decided,
    generate_anchors,
    match_detections,
    precision_recall_curve,
)


def draw_boxes(axes, boxes, texts=(), colour="white", width=1.5, **style):
    """(k, 4), k texts -> axes: frames xyxy in pixels over an image, a text above each, or inside where none
    is room.
    """
    top = min(axes.get_ylim()) + 0.12 * abs(axes.get_ylim()[0] - axes.get_ylim()[1])
    for number, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        axes.add_patch(
            Rectangle(
                (x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=width, **style
            )
        )
        if number < len(texts):
            inside = y1 < top
            axes.text(
                max(x1, 0) + inside,
                y1 + 0.5 if inside else y1 - 1,
                texts[number],
                color="white",
                fontsize=7,
                va="top" if inside else "bottom",
                clip_on=True,
                bbox={"facecolor": colour if colour != "white" else "black", "pad": 0.5, "linewidth": 0},
            )
    return axes


def draw_scenes(figure, images, targets, names, columns=6):
    """(n, 3, H, W), n × {boxes, labels from 0}: rows of images with what lies in them."""
    rows = -(-len(images) // columns)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for panel, image, each in zip(panels, images, targets, strict=False):
        draw_boxes(plot.image(panel, image), each["boxes"], [names[label] for label in each["labels"]])


def draw_confusion(figure, p, y):
    """(N, K) probabilities, (N,) classes -> (K, K) counts, true × said; drawn beside what a confidence is
    worth.

    Bins of a tenth: a bar reaches to the share that was right, the step to the mean confidence.
    """
    (confidence, said), counts = p.max(1), torch.zeros(p.shape[1], p.shape[1])
    counts.index_put_((y, said), torch.ones(len(y)), accumulate=True)
    left, middle = figure.subplots(1, 2, width_ratios=(1, 1.25))
    plot.numbers(left, counts, "rows: true class", form="{:.0f}")
    left.set(xticks=range(len(counts)), yticks=range(len(counts)), xlabel="class that is said")
    bins, right = (confidence * 10).long().clamp(max=9), (said == y).float()
    for number in bins.unique().tolist():
        mine = bins == number
        middle.bar((number + 0.5) / 10, right[mine].mean().item(), 0.09, color=plot.BLUE)
        middle.plot(
            [number / 10, (number + 1) / 10],
            [confidence[mine].mean().item()] * 2,
            color=plot.ORANGE,
            linewidth=2,
        )
        middle.annotate(
            f"{int(mine.sum())}", ((number + 0.5) / 10, 0.02), ha="center", color="white", fontsize=7
        )
    middle.set(
        xlabel="confidence",
        ylabel="share that is right",
        xlim=(0, 1),
        ylim=(0, 1.03),
        title="orange: what was promised",
    )
    return counts


def draw_gradients(figure, norms):
    """{name: list over layers of the gradient's norm}: on a logarithmic axis, the last layer at the right."""
    axes = figure.subplots()
    for name, values in norms.items():
        axes.semilogy(range(1, len(values) + 1), values, "o-", label=name)
    axes.set(xlabel="layer, from the input", ylabel="norm of the weights' gradient")
    axes.legend()


def draw_anchors(figure, image, truth, smallest=16, sizes=2, wide=True, stride=8):
    """(3, H, W), (k, 4): anchors of one place; which anchors answer for an object; the best IoU of each
    object.

    `sizes` grow from the smallest by √2; with `wide` there are the ratios ½, 1 and 2, else 1 alone.
    """
    height, width = image.shape[1:]
    grid = (height // stride, width // stride)
    anchors = generate_anchors(
        grid,
        (stride, stride),
        [smallest * 2 ** (i / 2) for i in range(sizes)],
        (0.5, 1.0, 2.0) if wide else (1.0,),
    )
    each, place = len(anchors) // (grid[0] * grid[1]), grid[0] // 2 * grid[1] + grid[1] // 2
    iou = box_iou(truth, anchors)
    owner = assign(iou, 0.7, 0.3, rescue=True)
    panels = figure.subplots(1, 3, width_ratios=(1, 1, 0.9))
    draw_boxes(
        plot.image(panels[0], image, f"{each} anchors at one place"),
        anchors[each * place : each * (place + 1)],
        colour=plot.ORANGE,
    )
    points = anchors[each * place, :2] / 2 + anchors[each * place, 2:] / 2
    panels[0].plot(*(points - 0.5).tolist(), "o", color=plot.ORANGE, markersize=4)
    mine = owner >= 0
    draw_boxes(
        plot.image(panels[1], image, f"{int(mine.sum())} of {len(anchors)} answer"),
        anchors[mine],
        colour=plot.BLUE,
        width=2,
    )
    draw_boxes(panels[1], truth)
    for panel in panels[:2]:
        panel.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    best = iou.amax(1).tolist()
    panels[2].barh(range(len(truth)), best, color=[plot.BLUE if b >= 0.5 else plot.ORANGE for b in best])
    panels[2].axvline(0.7, color=plot.GREY, linestyle="--")
    panels[2].set(
        xlim=(0, 1),
        yticks=range(len(truth)),
        yticklabels=range(1, len(truth) + 1),
        ylabel="object",
        xlabel="IoU of its best anchor",
    )
    panels[2].invert_yaxis()


def draw_assignment(figure, image, truth, anchors):
    """(3, H, W), (k, 4), (N, 4): the anchors that answer for an object, those of neither, and background as
    points.
    """
    owner = assign(box_iou(truth, anchors), 0.7, 0.3, rescue=True)
    panels = figure.subplots(1, 3)
    kinds = {
        "an object": (owner >= 0, plot.BLUE),
        "neither": (owner < BACKGROUND, plot.ORANGE),
        "background": (owner == BACKGROUND, plot.GREY),
    }
    for panel, (name, (mine, colour)) in zip(panels, kinds.items(), strict=True):
        plot.image(panel, image, f"{int(mine.sum())}: {name}")
        if name == "background":
            middles = (anchors[mine, :2] + anchors[mine, 2:]) / 2
            panel.plot(
                *middles.T, "o", markersize=4, color="white", markeredgecolor="black", markeredgewidth=0.6
            )
        else:
            draw_boxes(panel, anchors[mine], colour=colour, width=1.5)
        draw_boxes(panel, truth)
        panel.set(xlim=(-0.5, image.shape[2] - 0.5), ylim=(image.shape[1] - 0.5, -0.5))


def draw_stages(figure, image, truth, stages, names):
    """(3, H, W), (k, 4), what `FasterRCNN.stages` gives for this image alone: every stage, one beside the
    other.
    """
    proposed, said = stages["proposed"], stages["detections"][0]
    height, width = image.shape[1:]
    panels = figure.subplots(2, 4).flat
    draw_boxes(plot.image(panels[0], image, "1: image, truth"), truth)
    x = stages["map"][0]
    plot.image(panels[1], x.mean(0) / x.mean(0).max().clamp(min=1e-6), f"2: map, {x.shape[1]}×{x.shape[2]}")
    chance = proposed.logits[0].sigmoid().view(*x.shape[1:], -1).amax(-1)
    plot.image(panels[2], chance, "3: object?")
    plot.image(panels[3], image, f"4: {len(proposed.before[0])} before NMS")
    draw_boxes(panels[3], proposed.before[0], colour=plot.ORANGE, width=0.6, alpha=0.6)
    plot.image(panels[4], image, f"5: {len(proposed.boxes[0])} proposals")
    draw_boxes(panels[4], proposed.boxes[0], colour=plot.ORANGE, width=0.9)
    pooled = stages["pooled"][:8].mean(1)
    pooled = F.pad(pooled / pooled.max().clamp(min=1e-6), (0, 1, 0, 1), value=1.0)  # white gaps
    tiles = torch.cat([torch.cat(list(pooled[i : i + 4]), dim=1) for i in range(0, len(pooled) // 4 * 4, 4)])
    plot.image(panels[5], tiles, "6: the first 8")
    p = stages["logits"][:8].softmax(-1)
    panels[6].imshow(p.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    panels[6].set(title="7: classes of these", xticks=range(p.shape[1]), yticks=[])
    panels[6].set_xticklabels(["background", *names], rotation=90, fontsize=7)
    plot.image(panels[7], image, "8: detections")
    sure = said["scores"] >= 0.4
    texts = [
        f"{names[label - 1]} {score:.1f}"
        for label, score in zip(said["labels"][sure].tolist(), said["scores"][sure].tolist(), strict=True)
    ]
    draw_boxes(panels[7], said["boxes"][sure], texts, colour=plot.BLUE)
    for number in (0, 3, 4, 7):
        panels[number].set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def draw_training(figure, histories):
    """{name: `fit`'s history}: the losses, smoothed, over the seconds of training."""
    axes = figure.subplots()
    for name, history in histories.items():
        losses, window = torch.tensor(history.losses), max(1, len(history.losses) // 40)
        seconds = torch.linspace(0, history.seconds, len(losses))[window - 1 :].tolist()
        axes.semilogy(seconds, losses.unfold(0, window, 1).mean(1).tolist(), label=name)
    axes.set(xlabel="seconds", ylabel="sum of the losses")
    axes.legend()


def draw_curves(figure, found, names):
    """{detector: (predictions, targets)}: precision over recall of each class; its AP beside its name."""
    for panel, (title, (predictions, targets)) in zip(
        figure.subplots(1, len(found), sharey=True, squeeze=False)[0], found.items(), strict=True
    ):
        for label, name in enumerate(names, 1):
            _, hits, objects = match_detections(predictions, targets, label)
            precision, recall = precision_recall_curve(hits, objects)
            panel.plot(
                recall.tolist(), precision.tolist(), label=f"{name} {average_precision(hits, objects):.2f}"
            )
        panel.set(xlabel="recall", xlim=(0, 1.02), ylim=(0, 1.05), title=title)
        panel.legend(loc="lower left", fontsize=7, ncols=2)
    figure.axes[0].set_ylabel("precision")


def draw_area(figure, hits, objects):
    """(D,) bool, best first, int: the curve point by point, and the steps whose mean height is the AP."""
    axes = figure.subplots()
    precision, recall = precision_recall_curve(hits, objects)
    best = precision.flip(0).cummax(0).values.flip(0)
    ends = torch.cat([recall.new_zeros(1), recall])
    for start, end, height in zip(ends[:-1].tolist(), ends[1:].tolist(), best.tolist(), strict=True):
        if end > start:
            axes.fill_between([start, end], height, color=plot.BLUE, alpha=0.25, linewidth=0)
    axes.plot(recall.tolist(), precision.tolist(), "-", color=plot.GREY)
    for hit, colour, name in ((True, plot.BLUE, "hit"), (False, plot.ORANGE, "miss")):
        mine = hits == hit
        axes.plot(recall[mine].tolist(), precision[mine].tolist(), "o", color=colour, label=name)
    axes.set(
        xlabel="recall",
        ylabel="precision",
        xlim=(0, 1.02),
        ylim=(0, 1.08),
        title=f"AP {average_precision(hits, objects):.3f}",
    )
    axes.legend(loc="lower left")


def draw_found(axes, image, said, truth, names, title=""):
    """(3, H, W), {boxes, scores, labels}, {boxes, labels from 1} -> axes: hits blue, others orange, the truth
    white.
    """
    plot.image(axes, image, title)
    draw_boxes(axes, truth["boxes"], width=2.5)
    for label in said["labels"].unique().tolist():
        mine = said["labels"] == label
        _, hits, _ = match_detections([said], [truth], label)
        boxes = said["boxes"][mine][said["scores"][mine].sort(descending=True, stable=True).indices[:100]]
        for hit, colour in ((False, plot.ORANGE), (True, plot.BLUE)):
            chosen = boxes[hits == hit]
            draw_boxes(axes, chosen, [names[label - 1]] * len(chosen), colour=colour)
    axes.set(xlim=(-0.5, image.shape[2] - 0.5), ylim=(image.shape[1] - 0.5, -0.5))
    return axes


def draw_detections(figure, images, predictions, truths, names, columns=6, score=0.4):
    """(n, 3, H, W), n × {boxes, scores, labels}, n × {boxes, labels from 1}: what is at least so sure,
    each.
    """
    panels = figure.subplots(-(-len(images) // columns), columns, squeeze=False).flat
    for panel, image, said, truth in zip(panels, images, predictions, truths, strict=False):
        draw_found(
            panel, image, {key: each[said["scores"] >= score] for key, each in said.items()}, truth, names
        )


def draw_suppression(
    figure, judged, images, truths, names, detector="one stage", image=0, score=0.3, iou=0.5
):
    """What one detector says of one image before suppression, and after it; and both thresholds' effect on
    all images.

    judged: {detector: list over images of what `decided` takes}; truths: list of {boxes, labels from 1}.
    """
    size = images.shape[2:]
    panels = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
    for panel, threshold, when in zip(panels, (1.0, iou), ("before", "after"), strict=False):
        said = decided(*judged[detector][image], size, least=score, iou_threshold=threshold)
        draw_found(panel, images[image], said, truths[image], names, f"{len(said['boxes'])} {when} NMS")
    hits = said = 0
    for each, truth in zip(judged[detector], truths, strict=True):
        found = decided(*each, size, least=score, iou_threshold=iou)
        said += len(found["labels"])
        hits += sum(
            int(match_detections([found], [truth], label)[1].sum())
            for label in found["labels"].unique().tolist()
        )
    values = [hits / max(said, 1), hits / sum(len(each["labels"]) for each in truths)]
    panels[2].barh([0, 1], values, color=[plot.BLUE, plot.GREEN])
    for row, value in enumerate(values):
        panels[2].annotate(f"{value:.2f}", (0.02, row), va="center", color="black")
    panels[2].set(
        yticks=[0, 1], yticklabels=["precision", "recall"], xlim=(0, 1), xlabel=f"over {len(truths)} images"
    )
    panels[2].invert_yaxis()


def draw_costs(figure, costs):
    """{system: {regions: {part: ms}}}: a panel a system, parts stacked over the number of regions."""
    colours = {"regions": plot.ORANGE, "features": plot.BLUE, "heads": plot.GREEN}
    panels = figure.subplots(1, len(costs), sharey=True)
    for panel, (system, found) in zip(panels, costs.items(), strict=True):
        bottom = [0.0] * len(found)
        for part, colour in colours.items():
            values = [each.get(part, 0.0) for each in found.values()]
            panel.bar(range(len(found)), values, bottom=bottom, color=colour, label=part)
            bottom = [a + b for a, b in zip(bottom, values, strict=True)]
        for number, top in enumerate(bottom):
            panel.annotate(
                f"{top:.0f}" if top >= 10 else f"{top:.1f}",
                (number, top),
                (0, 2),
                ha="center",
                fontsize=7,
                textcoords="offset points",
            )
        panel.set(xticks=range(len(found)), xticklabels=list(found), title=system, xlabel="regions")
        panel.margins(y=0.15)
    panels[0].set_ylabel("ms an image")
    panels[0].legend(loc="upper left", fontsize=7)
