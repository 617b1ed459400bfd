"""Chapter 2: power laws, receptive fields, a network with three heads, transfer between tasks, corruptions,
sizes of models, two modalities, diagrams as printed and corrected, and a map of the companion.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from vlmbook import plot
from vlmbook.chapters.ch02.diagrams import Arrow, Box, Diagram, Sketch
from vlmbook.chapters.ch02.experiments import Transfer
from vlmbook.multitask import MultiTaskNet, PowerLaw, fit_power_law

PINK, SKY = "#CC79A7", "#56B4E9"
COLOURS = (plot.BLUE, plot.ORANGE, plot.GREEN, PINK, SKY, plot.GREY)
MARKERS = "os^Dv"

# --- boxes and arrows ---------------------------------------------------------------------------------------

HALF_WIDTH, HALF_HEIGHT = 0.44, 0.33


def draw_sketch(axes: Axes, sketch: Sketch, title: str = "") -> None:
    """Boxes and arrows on the axes; what is new is orange."""
    for arrow in sketch.arrows:
        _add_arrow(axes, sketch.boxes[arrow.start], sketch.boxes[arrow.end], arrow)
    for box in sketch.boxes.values():
        colour = plot.ORANGE if box.new else plot.BLUE
        corner = box.x - HALF_WIDTH, box.y - HALF_HEIGHT
        frame = FancyBboxPatch(
            corner, 2 * HALF_WIDTH, 2 * HALF_HEIGHT, boxstyle="round,pad=0,rounding_size=0.08"
        )
        frame.set(facecolor="#fdeee5" if box.new else "#e8f1f8", edgecolor=colour, linewidth=1, zorder=2)
        axes.add_patch(frame)
        axes.text(box.x, box.y, box.label, ha="center", va="center", fontsize=7, zorder=3)
    x, y = ([getattr(box, axis) for box in sketch.boxes.values()] for axis in ("x", "y"))
    axes.set(xlim=(min(x) - 0.6, max(x) + 0.6), ylim=(max(y) + 0.5, min(y) - 0.5))
    axes.set_title(title, loc="center", fontsize=9)
    axes.axis("off")


def _add_arrow(axes, start, end, arrow):
    colour = plot.ORANGE if arrow.new else "0.35"
    line = FancyArrowPatch(
        _find_border(start, end), _find_border(end, start), arrowstyle="-|>", mutation_scale=8, color=colour,
        shrinkA=0, shrinkB=0, linewidth=1.2, zorder=1, connectionstyle=f"arc3,rad={arrow.bend}",
    )  # fmt: skip
    axes.add_patch(line)


def _find_border(box, other):
    """-> (x, y): where the line from the centre of a box to another one leaves the box."""
    across, down = other.x - box.x, other.y - box.y
    scale = max(abs(across) / HALF_WIDTH, abs(down) / HALF_HEIGHT)
    return box.x + across / scale, box.y + down / scale


def draw_diagram(figure: Figure, diagram: Diagram) -> None:
    """What the book prints on the left, the corrected drawing on the right."""
    sketches = {f"printed, {section}": sketch for section, sketch in diagram.printed.items()}
    sketches["corrected"] = diagram.corrected
    widths = [1.2 + max(box.x for box in sketch.boxes.values()) for sketch in sketches.values()]
    panels = figure.subplots(1, len(sketches), width_ratios=widths, squeeze=False)[0]
    for axes, (title, sketch) in zip(panels, sketches.items(), strict=True):
        draw_sketch(axes, sketch, title)


def draw_heads(figure: Figure, network: MultiTaskNet, images: torch.Tensor) -> None:
    """MultiTaskNet, (B, C, H, W): its trunk and heads, with the shapes that it gives for one image."""
    with torch.no_grad():
        features = network.eval().trunk(images[:1])
        outputs = network(images[:1])
    boxes = {
        "image": Box(0, 1, f"image\n{_shape(images)}"),
        "trunk": Box(1.2, 1, f"shared trunk\n{_shape(features)}"),
    }
    arrows = [Arrow("image", "trunk")]
    for row, (task, output) in enumerate(outputs.items()):
        boxes[f"head {task}"] = Box(2.4, row, f"{task} head", new=True)
        boxes[task] = Box(3.6, row, f"{task}\n{_shape(output)}")
        arrows += [Arrow("trunk", f"head {task}"), Arrow(f"head {task}", task)]
    draw_sketch(figure.subplots(), Sketch(boxes, tuple(arrows)))


def _shape(x):
    return "×".join(str(size) for size in x.shape[1:])


# --- data ---------------------------------------------------------------------------------------------------


def draw_law(figure: Figure, images: Sequence[float], errors: Sequence[float], at: float) -> None:
    """Two points and the power law through them, up to a third number of images."""
    axes = figure.subplots()
    law = fit_power_law(images, [[error] for error in errors])
    ends = [min(images), at]
    axes.plot(ends, [law.predict(n) for n in ends], "--", color=plot.GREY)
    axes.plot(images, errors, "o", color=plot.BLUE, markersize=8)
    axes.plot([at], [law.predict(at)], "o", color=plot.ORANGE, markersize=8, markerfacecolor="white")
    for n in [*images, at]:
        axes.annotate(f"{law.predict(n):.2f}", (n, law.predict(n)), (6, 5), textcoords="offset points")
    _make_logarithmic(axes, [*images, at], [*errors, law.predict(at)])


def _make_logarithmic(axes, sizes, errors):
    ticks = [t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if min(errors) / 1.8 <= t <= max(errors) * 1.8]
    axes.set(xscale="log", yscale="log", xlabel="images to learn from", ylabel="error")
    axes.set(xticks=sizes, xticklabels=[f"{n:,.0f}" for n in sizes], yticks=ticks)
    axes.set_yticklabels([f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set(xlim=(min(sizes) / 1.25, max(sizes) * 1.5), ylim=(min(errors) / 1.6, max(errors) * 1.6))


def draw_scaling(
    figure: Figure,
    found: dict[str, dict[int, list[float]]],
    predicted: dict[str, tuple[PowerLaw, tuple[float, float]]],
    known: int,
    at: int,
) -> None:
    """{method: {images: an error a seed}}, {method: (law, interval of the error at `at`)}: full points up to
    `known` images were used for the fit, open ones were not; the bar is the predicted interval.
    """
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    everything = [float(np.mean(errors)) for rows in found.values() for errors in rows.values()]
    ends = [end for _, interval in predicted.values() for end in interval]
    for axes, colour, (name, rows) in zip(panels, COLOURS, found.items(), strict=False):
        law, (low, high) = predicted[name]
        grid = np.geomspace(min(rows), at, 50)
        axes.plot(grid, law.scale * grid**-law.exponent, "--", color=plot.GREY, linewidth=1.2)
        axes.plot([at, at], [low, high], color=plot.GREY, linewidth=7, alpha=0.45, label="predicted, 95 %")
        for used, label in ((True, "used for the fit"), (False, "measured afterwards")):
            points = {n: np.mean(errors) for n, errors in rows.items() if (n <= known) == used}
            face = colour if used else "white"
            axes.plot(points.keys(), points.values(), "o", color=colour, markerfacecolor=face, label=label)
        _make_logarithmic(axes, list(rows), [*everything, *ends])
        axes.set_title(f"{name}: error = {law.scale:.2g} · $n^{{{-law.exponent:.2f}}}$")
        axes.tick_params(axis="x", labelsize=7)
    panels[-1].set_ylabel("")
    panels[0].legend(loc="lower left", fontsize=7.5)


# --- depth --------------------------------------------------------------------------------------------------


def draw_windows(figure: Figure, images: torch.Tensor, labels: torch.Tensor, fields: Sequence[int]) -> None:
    """(N, 1, H, W) images with two marks, (N,): a frame of each receptive field around the place in the
    middle between the marks.
    """
    panels = figure.subplots(1, len(images), squeeze=False)[0]
    for axes, image, label in zip(panels, images, labels.tolist(), strict=True):
        plot.image(axes, image, "same" if label else "different")
        marks = (image[0] != 0.5).nonzero().double()
        row, column = marks.mean(0).tolist()
        for colour, field in zip(COLOURS[1:], fields, strict=False):
            corner = column - field / 2, row - field / 2
            axes.add_patch(Rectangle(corner, field, field, fill=False, edgecolor=colour, linewidth=2))
    for axes, colour, layers in zip(panels, COLOURS[1:], range(1, len(fields) + 1), strict=False):
        name = f"{layers} layer{'s' * (layers > 1)}"
        axes.text(0, -0.06, name, color=colour, transform=axes.transAxes, va="top", fontsize=8.5)


def draw_fields(
    figure: Figure, accuracy: torch.Tensor, depths: Sequence[int], distances: Sequence[int]
) -> None:
    """(depths, distances) accuracies; the orange stairs: to their right a receptive field is too small."""
    axes = figure.subplots()
    plot.numbers(axes, accuracy, form="{:.2f}", cmap="Blues", vmin=0.3, vmax=1.3)
    for row, depth in enumerate(depths):
        seen = sum(distance < 2 * depth + 1 for distance in distances)
        axes.plot([seen - 0.5] * 2, [row - 0.5, row + 0.5], color=plot.ORANGE, linewidth=3)
        after = sum(distance < 2 * depth + 3 for distance in distances)
        if row + 1 < len(depths):
            axes.plot([seen - 0.5, after - 0.5], [row + 0.5] * 2, color=plot.ORANGE, linewidth=3)
    axes.set(xticks=range(len(distances)), xticklabels=distances, xlabel="distance of the two marks, pixels")
    names = [f"{depth} layer{'s' * (depth > 1)}, field {2 * depth + 1}" for depth in depths]
    axes.set(yticks=range(len(depths)), yticklabels=names, xlim=(-0.5, len(distances) - 0.3), aspect="auto")


# --- several tasks ------------------------------------------------------------------------------------------


def draw_canvases(
    figure: Figure,
    images: torch.Tensor,
    truth: dict[str, torch.Tensor],
    found: dict[str, torch.Tensor] | None = None,
) -> None:
    """(n, 1, H, W), ground truth: each image with its box, and its mask below; the outputs of a network, if
    there are any, are orange.
    """
    panels = figure.subplots(2, len(images), squeeze=False)
    side = images.shape[-1]
    for column, image in enumerate(images):
        title = str(truth["class"][column].item())
        if found:
            title += f" → {found['class'][column].argmax().item()}"
        plot.image(panels[0, column], image, title)
        _add_box(panels[0, column], truth["box"][column] * side, plot.BLUE)
        if found:
            _add_box(panels[0, column], found["box"][column] * side, plot.ORANGE)
        shown = truth["mask"][column] if found is None else (found["mask"][column] > 0).float()
        plot.image(panels[1, column], shown)


def _add_box(axes, box, colour):
    x1, y1, x2, y2 = box.tolist()
    frame = Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=2)
    axes.add_patch(frame)


def draw_gradients(figure: Figure, pairs: Sequence[tuple[Sequence[float], Sequence[float]]]) -> None:
    """Pairs of gradients (x, y): two arrows from one point, and their cosine."""
    for axes, (first, second) in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        for (x, y), colour in ((first, plot.BLUE), (second, plot.ORANGE)):
            axes.annotate(
                "", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2}
            )
        cosine = np.dot(first, second) / np.linalg.norm(first) / np.linalg.norm(second)
        axes.plot(0, 0, "ko", markersize=4)
        axes.set(xlim=(-5.5, 5.5), ylim=(-1, 5.5), aspect="equal", title=f"cosine {cosine:+.2f}")
        axes.set(xticks=[], yticks=[])


def draw_transfer(figure: Figure, found: dict[tuple[str, str], Transfer]) -> None:
    """{(task, partner): Transfer}: a row a pair; the measure of the task alone, with its partner, and with
    the ground truth of the partner shuffled; a dot a seed, the mean as a line.
    """
    axes = figure.subplots()
    styles = {
        "alone": ("alone", "black", "s", -0.22),
        "together": ("with the partner", plot.BLUE, "o", 0),
        "shuffled": ("with the partner's labels shuffled", plot.ORANGE, "^", 0.22),
    }
    for y, transfer in enumerate(found.values()):
        for field, (label, colour, marker, lower) in styles.items():
            values = getattr(transfer, field)
            axes.plot(values, [y + lower] * len(values), marker, color=colour, alpha=0.6, markersize=5,
                      label=label if y == 0 else None)  # fmt: skip
            axes.plot([np.mean(values)] * 2, [y + lower - 0.1, y + lower + 0.1], color=colour, linewidth=3)
    axes.set(yticks=range(len(found)), yticklabels=[f"{task}, with {other}" for task, other in found])
    axes.set(ylim=(len(found) - 0.5, -0.5), xlim=(0, 1), xlabel="accuracy of the class, IoU of box or mask")
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=3, fontsize=7.5, frameon=False)


def draw_weights(
    figure: Figure, found: dict[str, dict[float, list[float]]], alone: dict[str, list[float]]
) -> None:
    """{task: {weight of the box loss: a measure a seed}}, {task: the same without the other task}: curves,
    and a dashed line for each task alone.
    """
    axes = figure.subplots()
    for colour, marker, (task, rows) in zip(COLOURS, MARKERS, found.items(), strict=False):
        means = [np.mean(values) for values in rows.values()]
        spreads = [np.std(values, ddof=1) for values in rows.values()]
        axes.errorbar(list(rows), means, yerr=spreads, fmt=f"{marker}-", color=colour, capsize=3, label=task)
        axes.axhline(np.mean(alone[task]), color=colour, linestyle="--", linewidth=1, label=f"{task} alone")
    weights = sorted({weight for rows in found.values() for weight in rows})
    axes.set(xscale="log", xticks=weights, xlabel="weight of the box loss", ylim=(0, 1.02))
    axes.set_xticklabels([f"{weight:g}" for weight in weights])
    axes.set_ylabel("accuracy, IoU")
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8)


# --- curves over a number of labels -------------------------------------------------------------------------


def draw_curves(
    figure: Figure, panels: dict[str, dict[str, dict[float, list[float]]]], xlabel: str, chance: float = 0.1
) -> None:
    """{title: {method: {number: accuracies}}}: means with their standard deviation over seeds or draws."""
    for axes, (title, found) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True
    ):
        numbers = sorted({number for rows in found.values() for number in rows})
        for colour, marker, (name, rows) in zip(COLOURS, MARKERS, found.items(), strict=False):
            means = [np.mean(values) for values in rows.values()]
            spreads = [np.std(values, ddof=1) if len(values) > 1 else 0.0 for values in rows.values()]
            axes.errorbar(
                list(rows), means, yerr=spreads, fmt=f"{marker}-", color=colour, capsize=3, label=name
            )
        axes.axhline(chance, color=plot.GREY, linestyle=":", linewidth=1)
        axes.set(xscale="log", xticks=numbers, xlabel=xlabel, ylim=(0, 1.02), title=title)
        axes.set_xticklabels([f"{number:,}" for number in numbers])
        axes.minorticks_off()
        axes.legend(fontsize=7.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False)
    figure.axes[0].set_ylabel("accuracy")


# --- generalisation -----------------------------------------------------------------------------------------


def draw_corruptions(
    figure: Figure,
    examples: dict[str, Sequence[torch.Tensor]],
    severities: dict[str, Sequence[float]],
    measured: dict[str, dict[str, list[list[float]]]],
) -> None:
    """{corruption: an image a severity}, {corruption: severities}, {corruption: {method: for each severity an
    accuracy a seed}}: three examples above the curves.
    """
    panels = figure.subplots(2, len(measured), sharey="row", height_ratios=(1, 3))
    for (top, axes), (name, rows) in zip(panels.T, measured.items(), strict=True):
        images = examples[name]
        plot.image(top, torch.cat([images[0], images[len(images) // 2], images[-1]], dim=2), name)
        for colour, marker, (method, values) in zip(COLOURS, MARKERS, rows.items(), strict=False):
            means = [np.mean(accuracies) for accuracies in values]
            axes.plot(severities[name], means, f"{marker}-", color=colour, markersize=4, label=method)
        axes.set(ylim=(0, 1.02), xticks=severities[name][::2])
    panels[1, 0].set_ylabel("accuracy")
    handles, names = panels[1, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8, frameon=False)


def draw_answers(
    figure: Figure,
    images: torch.Tensor,
    labels: torch.Tensor,
    answers: torch.Tensor,
    curves: dict[str, Sequence[float]],
    severities: Sequence[float],
    chosen: int,
) -> None:
    """Corrupted images with their labels and answers; {method: an accuracy for each severity}, and which one
    is chosen.
    """
    grid = figure.add_gridspec(2, 6, width_ratios=(1, 1, 1, 1, 0.3, 3.2))
    for number in range(8):
        axes = figure.add_subplot(grid[number // 4, number % 4])
        label, answer = labels[number].item(), answers[number].item()
        plot.image(axes, images[number])
        axes.set_title(f"{label} → {answer}", color=plot.BLUE if label == answer else plot.ORANGE)
    axes = figure.add_subplot(grid[:, 5])
    for colour, marker, (method, values) in zip(COLOURS, MARKERS, curves.items(), strict=False):
        axes.plot(severities, values, f"{marker}-", color=colour, label=method)
    axes.axvline(severities[chosen], color=plot.GREY, linewidth=6, alpha=0.4)
    axes.set(ylim=(0, 1.02), xlabel="severity", ylabel="accuracy", xticks=severities)
    axes.legend(fontsize=7.5, loc="lower left")


# --- large models -------------------------------------------------------------------------------------------


LABELS_LEFT = ("DINOv2 ViT-g",)  # two labels would overlap


def draw_sizes(
    figure: Figure, known: Sequence[tuple[str, str, float, float]], sets: Sequence[tuple[str, float, str]]
) -> None:
    """[(model, architecture, parameters, images)], [(data set, images, source)]: sizes of sets as bars,
    models as points, both with logarithmic axes.
    """
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.7))
    names = [name for name, _, _ in sets]
    left.barh(range(len(sets)), [images for _, images, _ in sets], color=plot.BLUE)
    left.axvspan(1e3, 1e4, color=plot.ORANGE, alpha=0.3)
    left.set(yticks=range(len(sets)), yticklabels=names, xscale="log", xlabel="images", xlim=(300, 3e10))
    left.set_title("orange: thousands")
    left.invert_yaxis()
    for kind, colour, marker in (("CNN", plot.ORANGE, "s"), ("Transformer", plot.BLUE, "o")):
        chosen = [row for row in known if row[1] == kind]
        right.plot([row[3] for row in chosen], [row[2] for row in chosen], marker, color=colour, label=kind)
    for name, _, parameters, images in known:
        at_right = images > 5e8 or name in LABELS_LEFT
        shift = (-6, 0) if at_right else (6, 0)
        right.annotate(
            name, (images, parameters), shift, textcoords="offset points", fontsize=7, va="center",
            ha="right" if at_right else "left",
        )  # fmt: skip
    right.set(xscale="log", yscale="log", xlabel="images of the pre-training", ylabel="parameters")
    right.set(xlim=(6e5, 1.5e10), ylim=(1e7, 6e10))
    right.legend(loc="upper left")


def draw_costs(figure: Figure, counted: dict[str, dict[str, float]]) -> None:
    """{model: {"parameters", "macs", "weights", "saved"}}: three bars a model, logarithmic."""
    measures = {
        "parameters, millions": ("parameters", 1e6),
        "multiply-adds an image, G": ("macs", 1e9),
        "memory of training an image, MB": ("saved", 1e6),
    }
    panels = figure.subplots(1, len(measures), sharey=True)
    for axes, colour, (title, (key, unit)) in zip(panels, COLOURS, measures.items(), strict=False):
        values = [row[key] / unit for row in counted.values()]
        axes.barh(range(len(values)), values, color=colour)
        for y, value in enumerate(values):
            axes.annotate(f"{value:,.3g}" if value < 1000 else f"{value:,.0f}", (value, y), (3, 0),
                          textcoords="offset points", va="center", fontsize=7.5)  # fmt: skip
        axes.set(xscale="log", xlim=(min(values) / 3, max(values) * 12), xticks=[])
        axes.set_title(title, fontsize=8.5)
        axes.minorticks_off()
    panels[0].set(yticks=range(len(counted)), yticklabels=list(counted))
    panels[0].invert_yaxis()


# --- two modalities, and the map ----------------------------------------------------------------------------


def draw_modalities(figure: Figure, noises: Sequence[float], found: dict[str, list[list[float]]]) -> None:
    """Noise of the image, {"image", "sound", "both", "both, wrong sound": for each seed an accuracy a noise}:
    means over the seeds.
    """
    axes = figure.subplots()
    for colour, marker, (name, rows) in zip(COLOURS, MARKERS, found.items(), strict=False):
        axes.errorbar(noises, np.mean(rows, 0), yerr=np.std(rows, 0, ddof=1) if len(rows) > 1 else None,
                      fmt=f"{marker}-", color=colour, capsize=3, label=name)  # fmt: skip
    axes.set(
        xlabel="noise of the image, standard deviation", ylabel="accuracy", ylim=(0, 1.02), xticks=noises
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))


def draw_map(figure: Figure, parts: dict[str, list[dict[str, Any]]], here: str = "ch02") -> None:
    """{part of the book: its chapters}: a row a part; the chapter `here` is orange, one to come is empty."""
    axes = figure.subplots()
    for y, (part, rows) in enumerate(parts.items()):
        axes.text(-0.1, y, part, ha="right", va="center", fontsize=8.5)
        for x, row in enumerate(rows):
            colour = plot.ORANGE if row["chapter"] == here else plot.BLUE
            frame = FancyBboxPatch((x, y - 0.38), 0.94, 0.76, boxstyle="round,pad=0,rounding_size=0.06")
            frame.set(
                edgecolor=colour, facecolor=colour if row["written"] or row["chapter"] == here else "white"
            )
            frame.set_alpha(0.25)
            axes.add_patch(frame)
            number = row["chapter"].removeprefix("ch0").removeprefix("appendix_").removeprefix("errata")
            label = textwrap.fill(f"{number} {row['title']}".strip(), 20)
            axes.text(x + 0.47, y, label, ha="center", va="center", fontsize=7)
    axes.set(xlim=(-1.7, 4.05), ylim=(len(parts) - 0.5, -0.6))
    axes.axis("off")
