"""Chapter 5c: the scheme of distillation, soft labels of photographs and of digits, the classes that networks
confuse, gradients, students side by side, attention maps, a distillation token, and the effect of alpha.
"""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch.nn import functional as F

from vlmbook import plot
from vlmbook.chapters.ch05c.experiments import entropy, falsify_labels, measure_accuracy_by_alpha
from vlmbook.distillation import soft_labels

# --- teacher and student ------------------------------------------------------------------------------------

FROZEN, LEARNS = "dimgrey", plot.BLUE


def draw_scheme(figure: Figure, image: torch.Tensor, shapes: Mapping[str, Sequence[Sequence[int]]]) -> None:
    """(1, H, W), {"teacher", "student"}: shapes of the stem's map, of the maps of three stages, and of the
    logits -> the two networks one above the other, the two losses, and where the gradient goes.
    """
    axes = figure.subplots()
    inset = axes.inset_axes((-0.35, -0.55, 0.8, 1.1), transform=axes.transData)
    plot.image(inset, image)
    axes.text(0.05, -0.62, "image\n" + _as_shape(image.shape), ha="center", va="top", fontsize=8)
    names = ("stem", "stage 1", "stage 2", "stage 3", "logits")
    for row, letter, (who, maps), colour in zip(
        (1, -1), ("T", "S"), shapes.items(), (FROZEN, LEARNS), strict=True
    ):
        places = [(1.15 + 0.98 * column, row) for column in range(len(maps))]
        _draw_arrow(axes, (0.45, 0.35 * row), (0.72, 0.85 * row), colour)
        for place, name, shape in zip(places, names, maps, strict=True):
            symbol = f" $z_{letter}$" if name == "logits" else ""
            _draw_box(axes, place, f"{name}{symbol}\n{_as_shape(shape)}", colour)
        for place in places[:-1]:
            _draw_arrow(axes, (place[0] + 0.4, row), (place[0] + 0.58, row), colour)
        notice = "weights frozen" if who == "teacher" else "weights learn"
        axes.text(1.15, row + 0.42, f"{who}: {notice}", color=colour, fontsize=9, weight="bold", va="bottom")
        soft = "p" if letter == "T" else "q"
        _draw_box(axes, (6.3, row), f"soft label ${soft}$\nsoftmax($z_{letter}$ / T)", colour)
        _draw_arrow(axes, (5.5, row), (5.72, row), colour)
        _draw_arrow(axes, (6.3, 0.7 * row), (6.3, 0.36 * row), colour)
    _draw_box(axes, (6.3, 0), "α T² KL (p ‖ q)", plot.ORANGE)
    _draw_box(axes, (5.07, -2.1), "(1 − α) CE", plot.ORANGE)
    _draw_box(axes, (6.5, -2.1), "label y", plot.GREEN)
    _draw_arrow(axes, (5.07, -1.35), (5.07, -1.8), LEARNS)
    _draw_arrow(axes, (6.1, -2.1), (5.6, -2.1), plot.GREEN)
    _draw_arrow(axes, (4.3, -1.62), (0.9, -1.62), plot.ORANGE, linestyle="--")
    axes.text(2.6, -1.72, "gradient of both losses", color=plot.ORANGE, fontsize=8, ha="center", va="top")
    axes.set(xlim=(-0.4, 7.05), ylim=(-2.45, 1.8))
    axes.axis("off")


def draw_tokens(figure: Figure, patches: int, width: int) -> None:
    """Number of patches, width of a token -> a transformer with a class token and a distillation token, and
    the loss of each.
    """
    axes = figure.subplots()
    labels = ["class\ntoken", "patch 1", "patch 2", "…", f"patch {patches}", "distillation\ntoken"]
    colours = [plot.GREEN, plot.GREY, plot.GREY, plot.GREY, plot.GREY, FROZEN]
    for column, (label, colour) in enumerate(zip(labels, colours, strict=True)):
        _draw_box(axes, (column, 0), label, colour)
        _draw_arrow(axes, (column, 0.3), (column, 0.72), colour)
    text = f"transformer encoder: {patches + 2} tokens of {width} numbers, each attends to all"
    axes.text(2.5, 1, text, ha="center", va="center", fontsize=8.5, zorder=3)
    axes.add_patch(Rectangle((-0.5, 0.75), 6, 0.5, facecolor="#E6F0F8", edgecolor=plot.BLUE))
    for column, colour, loss in (
        (0, plot.GREEN, "½ CE with the label"),
        (5, FROZEN, "½ CE with the teacher's class"),
    ):
        _draw_arrow(axes, (column, 1.27), (column, 1.65), colour)
        _draw_box(axes, (column, 1.95), "linear layer\n10 logits", colour)
        inwards = 1 if column == 0 else -1
        _draw_arrow(axes, (column + 0.5 * inwards, 1.95), (column + 0.8 * inwards, 1.95), colour)
        alignment = "left" if column == 0 else "right"
        axes.text(column + 0.85 * inwards, 1.95, loss, ha=alignment, va="center", fontsize=8.5)
    axes.set(xlim=(-0.7, 5.7), ylim=(-0.35, 2.3))
    axes.axis("off")


def _draw_box(axes, place, label, colour):
    box = {"boxstyle": "round,pad=0.35", "edgecolor": colour, "facecolor": "white", "linewidth": 1.5}
    axes.text(*place, label, ha="center", va="center", fontsize=8, bbox=box, zorder=3)


def _draw_arrow(axes, start, end, colour, **style):
    arrow = {"arrowstyle": "-|>", "color": colour, "shrinkA": 0, "shrinkB": 0, **style}
    axes.annotate("", end, start, arrowprops=arrow)


def _as_shape(shape):
    """(16, 8, 8) -> "16×8×8"."""
    return "×".join(str(size) for size in shape)


# --- soft labels --------------------------------------------------------------------------------------------


def draw_photographs(
    figure: Figure,
    photographs: Mapping[str, torch.Tensor],
    p: torch.Tensor,
    names: Sequence[str],
    most: int = 4,
) -> None:
    """{name: (3, H, W)}, (n, K) probabilities, K names of classes -> each photograph, and under it the most
    likely classes as bars with their names.
    """
    panels = figure.subplots(2, len(photographs), height_ratios=(1.2, 1))
    for above, below, photograph, each in zip(*panels, photographs.values(), p, strict=True):
        side = min(photograph.shape[1:])
        top, left = ((length - side) // 2 for length in photograph.shape[1:])
        plot.image(above, photograph[:, top : top + side, left : left + side])
        probabilities, classes = each.topk(most)
        rows = range(most)[::-1]
        colours = [plot.BLUE, plot.ORANGE] + [plot.GREY] * (most - 2)
        below.barh(rows, probabilities.tolist(), 0.3, color=colours)
        for row, probability, k in zip(rows, probabilities.tolist(), classes.tolist(), strict=True):
            below.text(0, row + 0.2, f"{names[k]}, {probability:.1%}", fontsize=8, va="bottom")
        below.set(xlim=(0, 1), ylim=(-0.3, most - 0.1), yticks=[], xticks=[0, 0.5, 1])


def draw_temperature(
    figure: Figure, images: torch.Tensor, logits: torch.Tensor, image: int = 0, temperature: float = 4.0
) -> None:
    """An image, its probabilities at T = 1 and at this temperature, and the entropy over the temperature.

    The most likely class is blue, the second orange.
    """
    picture, *panels, curve = figure.subplots(1, 4, width_ratios=(1.1, 1.7, 1.7, 1.3))
    z = logits[[image]]
    p = soft_labels(z, temperature)
    classes = range(z.shape[1])
    best, second = z[0].topk(2).indices.tolist()
    colours = [plot.GREY] * z.shape[1]
    colours[best] = plot.BLUE
    colours[second] = plot.ORANGE
    plot.image(picture, images[image], f"image {image}")
    for axes, t in zip(panels, (1.0, temperature), strict=True):
        heights = soft_labels(z, t)[0].tolist()
        axes.bar(classes, heights, color=colours)
        for k in (best, second):
            axes.text(k, heights[k] + 0.02, f"{heights[k]:.1%}", ha="center", va="bottom", fontsize=8)
        axes.set(xlabel="class", ylim=(0, 1.12), xticks=classes, yticks=[0, 0.5, 1], title=f"T = {t:g}")
        axes.tick_params(axis="x", labelsize=7)
    temperatures = torch.logspace(-1, 2, 61).tolist()
    entropies = [entropy(soft_labels(z, t)).item() for t in temperatures]
    curve.plot(temperatures, entropies, color=plot.GREY)
    curve.plot([temperature], [entropy(p).item()], "o", color=plot.ORANGE)
    curve.set(xscale="log", xlabel="temperature", ylim=(-0.05, None), title="entropy, nats")


def draw_uncertain(figure: Figure, images: torch.Tensor, p: torch.Tensor):
    """(n, 1, H, W), (n, K): images in a row, and under each the soft label as bars."""
    panels = figure.subplots(2, len(images), height_ratios=(1.3, 1))
    for above, below, image, each in zip(*panels, images, p, strict=True):
        best, second = each.topk(2).indices.tolist()
        plot.image(above, image, f"{best}, or {second}?")
        colours = [plot.GREY] * len(each)
        colours[best] = plot.BLUE
        colours[second] = plot.ORANGE
        below.bar(range(len(each)), each.tolist(), color=colours)
        below.set(ylim=(0, 1), xticks=[best, second], yticks=[])
    panels[1, 0].set_yticks([0, 1])


def draw_confusions(figure: Figure, matrices: dict[str, torch.Tensor]):
    """{name: (K, K)} of `measure_confusions`: a row shows with which classes one class is confused, darker is
    more often.
    """
    panels = figure.subplots(1, len(matrices), squeeze=False)[0]
    for panel, (name, matrix) in zip(panels, matrices.items(), strict=True):
        _show_confusions(panel, matrix, name)
    panels[0].set_ylabel("true class")


def draw_agreement(figure: Figure, confusions: dict[str, torch.Tensor], correlations: dict[str, list[float]]):
    """{name: (K, K)} of two networks, {name: list over seeds}: their confusions, and rank correlations as
    mean ± std.
    """
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
    for panel, (name, matrix) in zip((left, middle), confusions.items(), strict=True):
        _show_confusions(panel, matrix, name)
    left.set_ylabel("true class")
    values = torch.tensor(list(correlations.values()))
    mean, std = values.mean(1), values.std(1)
    plot.intervals(right, list(correlations), mean, mean - std, mean + std, "rank correlation")
    right.set_xlim(0, 1)


def draw_gradients(figure: Figure, temperatures: list[float], norms: dict[str, list[float]]):
    """{name: list}: the length of the loss's gradient over the temperature, both axes logarithmic."""
    axes = figure.subplots()
    for (name, values), colour in zip(norms.items(), (plot.ORANGE, plot.BLUE, plot.GREEN), strict=False):
        axes.plot(temperatures, values, "o-", color=colour, label=name)
    axes.set(xscale="log", yscale="log", xlabel="temperature", ylabel="length of the gradient")
    axes.legend()


def draw_accuracies(
    figure: Figure, groups: Mapping[str, Mapping[str, Sequence[float]]], baselines: Mapping[str, float]
) -> None:
    """{group: {name: accuracies over seeds}}, {name: accuracy}: accuracies in %, a colour a group, each
    seed a small dot, mean ± std; baselines as vertical lines.
    """
    axes = figure.subplots()
    lines = [(group, name, values) for group, rows in groups.items() for name, values in rows.items()]
    colours = dict(zip(groups, (plot.GREY, plot.ORANGE, plot.BLUE, plot.GREEN), strict=False))
    for row, (group, _, values) in zip(range(len(lines))[::-1], lines, strict=True):
        percent = 100 * torch.as_tensor(values)
        bar = {"fmt": "o", "capsize": 4, "color": colours[group]}
        axes.errorbar(percent.mean().item(), row, xerr=percent.std().item(), **bar)
        axes.plot(percent.tolist(), [row - 0.27] * len(percent), ".", color=plot.GREY, markersize=4)
    axes.set(
        xlabel="accuracy on test images, %",
        yticks=range(len(lines))[::-1],
        yticklabels=[name for _, name, _ in lines],
        ylim=(-0.6, len(lines) - 0.4),
    )
    for label, (group, _, _) in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_color(colours[group] if colours[group] != plot.GREY else "black")
    for (name, accuracy), colour in zip(baselines.items(), ("black", plot.GREY), strict=False):
        axes.axvline(100 * accuracy, color=colour, linestyle="--", linewidth=1.2, label=name)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.3, 1), ncols=len(baselines))
    seen = 0
    for group, rows in groups.items():  # the name of each group at the right border
        place = (1.01, len(lines) - seen - (len(rows) + 1) / 2)
        axes.text(
            *place,
            group,
            transform=axes.get_yaxis_transform(),
            color=colours[group] if colours[group] != plot.GREY else "black",
            fontsize=8.5,
            va="center",
        )
        seen += len(rows)


def draw_attention(
    figure: Figure, images: torch.Tensor, maps: Mapping[str, torch.Tensor], distances: Mapping[str, float]
) -> None:
    """(n, 1, H, W), {name: (n, h, w)}, {name: number}: images in the first row, under them the attention maps
    of each network as heat maps, bright is high, with the mean distance to the teacher's maps.
    """
    panels = figure.subplots(1 + len(maps), len(images), squeeze=False)
    for panel, x in zip(panels[0], images, strict=True):
        plot.image(panel, x)
    for line, (name, each) in zip(panels[1:], maps.items(), strict=True):
        for panel, heat in zip(line, each, strict=True):
            panel.imshow(heat.numpy(), cmap="inferno", vmin=0)
            panel.set(xticks=[], yticks=[])
        label = f"{name}\ndistance {distances[name]:.2f}" if name in distances else name
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    panels[0, 0].set_ylabel("image", rotation=0, ha="right", va="center")


def draw_alpha(
    figure: Figure,
    images: torch.Tensor,
    labels: torch.Tensor,
    logits: torch.Tensor,
    test_images: torch.Tensor,
    test_labels: torch.Tensor,
    alpha: float = 0.5,
    temperature: float = 2.0,
    wrong: float = 0.4,
):
    """The two targets of one image, weighted by alpha, and the accuracy of softmax regressions that learn
    from labels and teacher, for every alpha.

    `wrong` is the share of the labels that are replaced by false ones; the teacher's logits stay.
    """
    num_classes = logits.shape[1]
    falsified, replaced = falsify_labels(labels, wrong, num_classes)
    shown = replaced[0].item() if len(replaced) > 0 else 0
    picture, bars, axes = figure.subplots(1, 3, width_ratios=(1, 1.8, 1.8))
    plot.image(picture, images[shown], f"label {falsified[shown]}")
    hard = F.one_hot(falsified[shown], num_classes)
    soft = soft_labels(logits[[shown]], temperature)[0]
    targets = (("label, 1 − α", (1 - alpha) * hard, plot.ORANGE), ("teacher, α", alpha * soft, plot.BLUE))
    for shift, (name, target, colour) in zip((-0.2, 0.2), targets, strict=True):
        bars.bar([k + shift for k in range(num_classes)], target.tolist(), 0.4, color=colour, label=name)
    bars.set(xlabel="class", ylim=(0, 1.45), xticks=range(num_classes), yticks=[0, 0.5, 1], title="targets")
    bars.legend(loc="upper center")
    task = (images, labels, logits, test_images, test_labels)
    alphas, accuracies = measure_accuracy_by_alpha(*task, temperature, wrong)
    chosen = int((alphas - alpha).abs().argmin())
    axes.plot(alphas.tolist(), accuracies.tolist(), ".-", color=plot.GREY)
    axes.plot([alpha], [accuracies[chosen].item()], "o", color=plot.BLUE)
    axes.set(xlabel="α", ylim=(0.4, 1), title=f"accuracy {accuracies[chosen]:.1%}, held out")


def _show_confusions(panel: Axes, matrix: torch.Tensor, name: str):
    classes = range(len(matrix))
    shown = matrix.masked_fill(torch.eye(len(matrix)).bool(), float("nan"))
    panel.imshow(shown.numpy(), cmap="Blues", vmin=0, vmax=0.5)
    panel.plot(classes, classes, "x", color=plot.GREY, markersize=4)
    panel.set(xticks=classes, yticks=classes, xlabel="predicted instead", title=name)
    panel.grid(False)
