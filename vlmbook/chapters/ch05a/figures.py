"""Chapter 5a: drawings of the networks, boxes on images, anchors, suppression, the stages of one image."""

from collections.abc import Mapping, Sequence

import torch
import torchvision
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

# --- the networks -------------------------------------------------------------------------------------------

Node = tuple[float, float, str, str]  # x, y, text, colour


def draw_graph(axes: Axes, nodes: Mapping[str, Node], edges: Sequence[tuple[str, str]]) -> None:
    """{name: (x, y, text, colour)}, (from, to) of each edge -> boxes with arrows between them."""
    boxes = {}
    for name, (x, y, text, colour) in nodes.items():
        style = {"boxstyle": "round,pad=0.35", "edgecolor": colour, "facecolor": "white", "linewidth": 1.5}
        written = axes.text(x, y, text, ha="center", va="center", fontsize=7.5, bbox=style, zorder=3)
        boxes[name] = written.get_bbox_patch()
    for start, end in edges:
        arrow = {"arrowstyle": "-|>", "color": "0.3", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
        ends = {"patchA": boxes[start], "patchB": boxes[end]}  # drawn after the boxes, which end it
        axes.annotate("", nodes[end][:2], nodes[start][:2], arrowprops=arrow | ends, zorder=4)
    xs, ys = zip(*(node[:2] for node in nodes.values()), strict=True)
    axes.set(xlim=(min(xs) - 0.55, max(xs) + 0.55), ylim=(min(ys) - 0.5, max(ys) + 0.5))
    axes.axis("off")


def draw_classifier(figure: Figure, channels: tuple[int, int] = (16, 32), num_classes: int = 10) -> None:
    """The small CNN from an image of 8×8 pixels to its logits, labelled with shapes."""
    first, second = channels
    parts = [
        ("image\n1×8×8", plot.GREY),
        (f"conv 3×3\nReLU\n{first}×8×8", plot.BLUE),
        (f"max pool\n{first}×4×4", plot.GREEN),
        (f"conv 3×3\nReLU\n{second}×4×4", plot.BLUE),
        (f"max pool\n{second}×2×2", plot.GREEN),
        (f"flatten\n{4 * second}", plot.GREY),
        (f"linear\n{num_classes} logits", plot.BLUE),
        ("softmax\nin the loss", plot.ORANGE),
    ]
    nodes = {str(i): (float(i), 0.0, *part) for i, part in enumerate(parts)}
    draw_graph(figure.subplots(), nodes, [(str(i), str(i + 1)) for i in range(len(parts) - 1)])


def draw_one_stage(figure: Figure, size: tuple[int, int], channels: int, num_classes: int) -> None:
    """The grid detector, labelled with shapes."""
    h, w = (-(-side // 8) for side in size)
    outputs = 5 + num_classes
    parts = [
        (f"image\n3×{size[0]}×{size[1]}", plot.GREY),
        (f"backbone\n{channels}×{h}×{w}", plot.BLUE),
        (f"conv 3×3, ReLU\n64×{h}×{w}", plot.BLUE),
        (f"conv 1×1\n{outputs}×{h}×{w}", plot.BLUE),
        (f"decode\n{h * w} boxes, each\nwith {num_classes} scores", plot.ORANGE),
        ("NMS\ndetections", plot.GREEN),
    ]
    nodes = {str(i): (1.25 * i, 0.0, *part) for i, part in enumerate(parts)}
    draw_graph(figure.subplots(), nodes, [(str(i), str(i + 1)) for i in range(len(parts) - 1)])


def draw_two_stages(
    figure: Figure,
    size: tuple[int, int],
    channels: int,
    num_classes: int,
    per_cell: int = 1,
    proposals: int = 20,
    width: int = 128,
) -> None:
    """Faster R-CNN, labelled with shapes: the map goes to the RPN and to RoI align."""
    h, w = (-(-side // 8) for side in size)
    outputs = 1 + num_classes
    nodes = {
        "image": (0.0, 0.0, f"image\n3×{size[0]}×{size[1]}", plot.GREY),
        "map": (1.2, 0.0, f"backbone\n{channels}×{h}×{w}", plot.BLUE),
        "rpn": (2.4, 1.0, f"RPN: conv 3×3, ReLU\n{channels}×{h}×{w}", plot.BLUE),
        "anchors": (
            4.0,
            1.0,
            f"two conv 1×1\nobjectness {per_cell}×{h}×{w}\noffsets {4 * per_cell}×{h}×{w}",
            plot.BLUE,
        ),
        "nms": (5.6, 1.0, f"decode, NMS\n{proposals} proposals", plot.ORANGE),
        "roi": (2.4, -0.6, f"RoI align\n{proposals}×{channels}×7×7", plot.GREEN),
        "head": (4.0, -0.6, f"two linear, ReLU\n{proposals}×{width}", plot.BLUE),
        "logits": (5.6, -0.15, f"linear: classes\n{proposals}×{outputs}", plot.BLUE),
        "offsets": (5.6, -1.0, f"linear: offsets\n{proposals}×{4 * outputs}", plot.BLUE),
        "end": (7.0, -0.6, "decode, NMS\ndetections", plot.ORANGE),
    }
    edges = [
        ("image", "map"),
        ("map", "rpn"),
        ("rpn", "anchors"),
        ("anchors", "nms"),
        ("map", "roi"),
        ("nms", "roi"),
        ("roi", "head"),
        ("head", "logits"),
        ("head", "offsets"),
        ("logits", "end"),
        ("offsets", "end"),
    ]
    draw_graph(figure.subplots(), nodes, edges)


def draw_book_and_paper(figure: Figure) -> None:
    """Faster R-CNN as §2.2.3 draws it, and as the paper has it: what reaches the two branches?"""
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.35))
    chain = {
        "image": (0.0, 0.0, "image", plot.GREY),
        "map": (1.0, 0.0, "feature\nmap", plot.BLUE),
        "rpn": (2.0, 0.0, "RPN", plot.BLUE),
        "class": (3.1, 0.45, "class\nbranch", plot.ORANGE),
        "box": (3.1, -0.45, "location\nbranch", plot.ORANGE),
    }
    edges = [("image", "map"), ("map", "rpn"), ("rpn", "class"), ("rpn", "box")]
    draw_graph(left, chain, edges)
    left.set_title("the book")
    paper = {
        "image": (0.0, 0.0, "image", plot.GREY),
        "map": (1.0, 0.0, "feature\nmap", plot.BLUE),
        "rpn": (1.8, 0.75, "RPN", plot.BLUE),
        "boxes": (2.9, 0.75, "proposals\n(boxes)", plot.GREY),
        "roi": (2.9, -0.1, "RoI\nalign", plot.GREEN),
        "class": (4.1, 0.45, "class\nbranch", plot.ORANGE),
        "box": (4.1, -0.45, "location\nbranch", plot.ORANGE),
    }
    edges = [("image", "map"), ("map", "rpn"), ("rpn", "boxes"), ("boxes", "roi"), ("map", "roi")]
    draw_graph(right, paper, [*edges, ("roi", "class"), ("roi", "box")])
    right.set_title("the paper")


# --- boxes on an image --------------------------------------------------------------------------------------


def draw_overlaps(figure: Figure, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Pairs of boxes (4,): the first blue, the second orange, what both share filled; the IoU above."""
    panels = figure.subplots(1, len(pairs), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (a, b) in zip(panels, pairs, strict=True):
        low = torch.maximum(a, b)[:2]
        sides = (torch.minimum(a, b)[2:] - low).clamp(min=0)
        axes.add_patch(Rectangle(low.tolist(), *sides.tolist(), facecolor=plot.GREEN, alpha=0.4))
        for (x1, y1, x2, y2), color in ((a.tolist(), plot.BLUE), (b.tolist(), plot.ORANGE)):
            frame = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=2)
            axes.add_patch(frame)
        axes.set(xlim=(-5, 85), ylim=(45, -5), aspect="equal", xticks=(0, 40, 80), yticks=(0, 40))
        axes.set_title(f"IoU {box_iou(a[None], b[None]).item():.2f}")


def draw_pooling(figure: Figure, region: tuple[float, float, float, float], cells: int = 9) -> None:
    """A region xyxy on a map, in cells, pooled to 2×2 bins: RoI pooling rounds the edges, RoI align does
    not, and takes four points in each bin.
    """
    panels = figure.subplots(1, 2)
    x1, y1, x2, y2 = region
    rounded = [round(x1), round(y1), round(x2) + 1, round(y2) + 1]
    edges = {"RoI pooling: rounded": rounded, "RoI align: as it is": list(region)}
    ramp = torch.arange(cells).expand(cells, cells).numpy()
    for axes, (title, (left, top, right, bottom)) in zip(panels, edges.items(), strict=True):
        axes.imshow(ramp, cmap="Greys", vmin=-4, vmax=3 * cells, extent=(0, cells, cells, 0))
        for row in range(2):
            for column in range(2):
                width, height = (right - left) / 2, (bottom - top) / 2
                x, y = left + column * width, top + row * height
                style = {"fill": False, "edgecolor": plot.BLUE, "linewidth": 2}
                axes.add_patch(Rectangle((x, y), width, height, **style))
                if title.startswith("RoI align"):
                    points = [
                        (x + width * (2 * i + 1) / 4, y + height * (2 * j + 1) / 4)
                        for i in range(2)
                        for j in range(2)
                    ]
                    axes.plot(*zip(*points, strict=True), ".", color=plot.ORANGE, markersize=5)
        style = {"fill": False, "edgecolor": plot.ORANGE, "linewidth": 1.5, "linestyle": "--"}
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **style))
        axes.set(xticks=range(cells + 1), yticks=range(cells + 1), title=title)
        axes.set_axisbelow(True)
        axes.grid(True, color="white", linewidth=0.8)


def draw_photographs(
    figure: Figure, panels: Mapping[str, tuple[torch.Tensor, torch.Tensor, list[str], torch.Tensor]]
) -> None:
    """{title: (3, H, W), boxes, a text a box, true boxes}: the ground truth white; a box blue where it has an
    IoU of 0.5 or more with a true one, else orange.
    """
    ratios = [image.shape[2] / image.shape[1] for image, *_ in panels.values()]
    grid = figure.subplots(1, len(panels), width_ratios=ratios, squeeze=False)[0]
    for axes, (title, (image, boxes, texts, true)) in zip(grid, panels.items(), strict=True):
        plot.image(axes, image, title)
        draw_boxes(axes, true, width=2.5)
        fits = (box_iou(boxes, true) >= 0.5).any(1)
        for is_near, color in ((False, plot.ORANGE), (True, plot.BLUE)):
            some = [text for text, near in zip(texts, fits.tolist(), strict=False) if near == is_near]
            draw_boxes(axes, boxes[fits == is_near], some, color=color)
        _show_whole(axes, image)


def draw_boxes(
    axes: Axes, boxes: torch.Tensor, texts: list[str] = (), color: str = "white", width: float = 1.5, **style
) -> Axes:
    """(k, 4), k texts -> axes: frames xyxy in pixels over an image; each text beside its box, where it covers
    the least of the boxes and texts that are there.
    """
    for x1, y1, x2, y2 in boxes.tolist():
        frame = Rectangle(
            (x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=width
        )
        frame.set(**style)
        axes.add_patch(frame)
    for box, text in zip(boxes.tolist(), texts, strict=False):
        _write_beside(axes, box, text, "black" if color == "white" else color)
    return axes


FONT = 7  # points of the texts at boxes


def _write_beside(axes, box, text, background):
    """Above, below or beside the box: where the text hides the least."""
    width, height = _text_size(axes, text)
    left, right = sorted(axes.get_xlim())
    top, bottom = sorted(axes.get_ylim())
    x1, y1, x2, y2 = (value - 0.5 for value in box)
    taken = [[*p.get_xy(), p.get_x() + p.get_width(), p.get_y() + p.get_height()] for p in axes.patches]
    taken += [written.place for written in axes.texts if hasattr(written, "place")]
    taken = torch.tensor(taken).view(-1, 4)
    places = [(x, y) for y in (y1 - height, y2) for x in (x1, x2 - width)]
    places += [(x, y) for y in (y1, y2 - height) for x in (x1 - width, x2)]
    best, least = None, float("inf")
    for x, y in places:
        x = min(max(x, left), right - width)
        y = min(max(y, top), bottom - height)
        place = [x, y, x + width, y + height]
        hidden = _shared_area(torch.tensor([place]), taken).sum().item()
        if hidden < least:
            best, least = place, hidden
    style = {"facecolor": background, "pad": 0.4, "linewidth": 0, "alpha": 0.85}
    written = axes.text(*best[:2], text, color="white", fontsize=FONT, va="top", clip_on=True, bbox=style)
    written.place = best


def _shared_area(a, b):
    """(N, 4), (M, 4) -> (N, M)."""
    low = torch.maximum(a[:, None, :2], b[:, :2])
    high = torch.minimum(a[:, None, 2:], b[:, 2:])
    return (high - low).clamp(min=0).prod(-1)


def _text_size(axes, text):
    """-> width and height of a text in pixels of the image, estimated from the size of the panel."""
    figure = axes.figure
    place = axes.get_subplotspec()
    grid = place.get_gridspec()
    ratios = grid.get_width_ratios()
    share = ratios[place.colspan.start] / sum(ratios)
    columns = abs(axes.get_xlim()[1] - axes.get_xlim()[0])
    rows = abs(axes.get_ylim()[1] - axes.get_ylim()[0])
    inches = min(
        0.95 * figure.bbox.width / figure.dpi * share,
        0.85 * figure.bbox.height / figure.dpi / grid.nrows * columns / rows,
    )
    point = columns / (72 * inches)  # pixels of the image
    return (0.58 * len(text) * FONT + 2) * point, 1.35 * FONT * point


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
    owner = match_anchors(iou, 0.7, 0.3, allow_low_quality_matches=True)
    panels = figure.subplots(1, 3, width_ratios=(1, 1, 0.9))
    plot.image(panels[0], image, f"{per_cell} anchors in one cell")
    draw_boxes(panels[0], anchors[middle : middle + per_cell], color=plot.ORANGE)
    center = box_xyxy_to_cxcywh(anchors[middle : middle + 1])[0, :2]
    panels[0].plot(*(center - 0.5).tolist(), "o", color=plot.ORANGE, markersize=4)
    counts = [int((owner >= 0).sum()), int((owner == IGNORED).sum()), int((owner == BACKGROUND).sum())]
    plot.image(panels[1], image, "{} matched, {} ignored,\n{} background".format(*counts))
    draw_boxes(panels[1], anchors[owner >= 0], color=plot.BLUE, width=2)
    draw_boxes(panels[1], boxes, [str(number) for number in range(1, len(boxes) + 1)])
    for panel in panels[:2]:
        _show_whole(panel, image)
    _draw_best_iou(panels[2], iou.amax(1).tolist())


def _draw_best_iou(axes, best):
    """k numbers: a bar an object, orange where no anchor reaches 0.7."""
    rows = range(len(best))
    axes.barh(rows, best, color=[plot.BLUE if iou >= 0.7 else plot.ORANGE for iou in best])
    axes.axvline(0.7, color=plot.GREY, linestyle="--")
    axes.set(xlim=(0, 1), yticks=rows, yticklabels=[row + 1 for row in rows])
    axes.set(ylabel="object", xlabel="IoU of its best anchor", title="matched from 0.7 on")
    axes.invert_yaxis()


# --- one image through every stage --------------------------------------------------------------------------


def draw_stages(
    figure: Figure, image: torch.Tensor, boxes: torch.Tensor, stages: dict, names: list[str]
) -> None:
    """(3, H, W), (k, 4), `FasterRCNN.stages` of this image alone: every stage, one beside the other."""
    proposals = stages["proposals"]
    above, below = figure.subfigures(2, 1)
    first, second, third, fourth = above.subplots(1, 4)
    fifth, sixth, seventh = below.subplots(1, 3, width_ratios=(1, 2, 1))
    draw_boxes(plot.image(first, image, "1: ground truth"), boxes)
    x = stages["map"][0]
    channel = x.flatten(1).std(1).argmax().item()
    _show_map(second, x[channel], f"2: channel {channel} of {len(x)}")
    objectness = proposals.logits[0].sigmoid().view(*x.shape[1:], -1).amax(-1)
    plot.image(third, objectness, "3: objectness")
    plot.image(fourth, image, f"4: {len(proposals.candidates[0])} before NMS")
    draw_boxes(fourth, proposals.candidates[0], color=plot.ORANGE, width=0.6, alpha=0.6)
    plot.image(fifth, image, f"5: {len(proposals.boxes[0])} proposals")
    draw_boxes(fifth, proposals.boxes[0], color=plot.ORANGE, width=0.9)
    _draw_regions(sixth, image, proposals.boxes[0][:8], stages["logits"][:8].softmax(-1), names)
    _draw_likely(seventh, image, stages["detections"][0], names)
    for axes in (first, fourth, fifth, seventh):
        _show_whole(axes, image)


def _draw_regions(axes, image, boxes, p, names, side=24, columns=4):
    """The part of the image under each of the first regions, all of one size, and its most probable class."""
    cut = torchvision.ops.roi_align(image[None], [boxes], side, 1.0, 2, aligned=True)
    cut = F.pad(cut, (1, 1, 9, 1), value=1.0)  # white above, for the text
    rows = [torch.cat(list(cut[i : i + columns]), dim=2) for i in range(0, len(cut), columns)]
    width = max(row.shape[2] for row in rows)
    plot.image(axes, torch.cat([F.pad(row, (0, width - row.shape[2]), value=1.0) for row in rows], dim=1))
    axes.set_title("6: regions 1 to 8, class")
    best = p.max(1)
    for number, (value, label) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
        name = "background" if label == 0 else names[label - 1]
        place = (number % columns * (side + 2) + 1, number // columns * (side + 10) + 8.5)
        axes.text(*place, f"{name} {value:.1f}", fontsize=6.5, va="bottom")


def _draw_likely(axes, image, detections, names):
    """The detections with a score from 0.4 on, each with its class and score."""
    plot.image(axes, image, "7: detections")
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
    detector: str = "two stages",
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
