"""Chapter 6a: the way of a face through the system, its network, the margin of ArcFace, and the system's
errors.
"""

import math
from itertools import pairwise

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, FancyArrowPatch, Rectangle
from torch import nn

from vlmbook import plot
from vlmbook.chapters.ch05a.figures import draw_boxes
from vlmbook.chapters.ch06a.experiments import ASTRONAUT, turn_image
from vlmbook.face_embedder import MEAN_FACE, PADDING, FaceLandmarks
from vlmbook.face_recognition import (
    OpenSet,
    confusion,
    crop_box,
    cut_faces,
    equal_error_rate,
    roc_curve,
)

FACE = ASTRONAUT - torch.tensor([100.0, 0, 100, 0])  # in the left 242 columns of the cut photograph
COLOURS = (plot.BLUE, plot.ORANGE, plot.GREEN, plot.GREY, "#CC79A7", "#56B4E9")

# --- the way of one face ------------------------------------------------------------------------------------


def draw_pipeline(
    figure: Figure,
    image: torch.Tensor,
    box: torch.Tensor,
    chip: torch.Tensor,
    embedding: torch.Tensor,
    distances: dict[str, float],
    threshold: float,
) -> None:
    """(3, H, W), (4,), (3, h, w), (D,), {name: distance}: detect, align, embed, match, an arrow between
    each.
    """
    panels = figure.subplots(1, 4, width_ratios=(1.2, 1, 0.55, 1.5))
    draw_boxes(plot.image(panels[0], image, "1 detect\n(3, H, W) → (4,)"), box[None], color=plot.ORANGE)
    plot.image(panels[1], chip, f"2 align\n→ {tuple(chip.shape)}")
    columns = 8
    cells = torch.full((math.ceil(len(embedding) / columns) * columns,), torch.nan)
    cells[: len(embedding)] = embedding
    plot.signed(panels[2], cells.view(-1, columns).nan_to_num(), f"3 embed\n→ ({len(embedding)},)")
    _draw_distances(panels[3], distances, threshold)
    panels[3].set_title("4 match\ndistance to the enrolled")
    panels[3].set_yticks([])
    for row, name in enumerate(distances):
        panels[3].annotate(name, (0.03, row), va="center", fontsize=8)
    for left, right in pairwise(panels):
        _join(figure, left, right)


def _join(figure, left, right):
    arrow = {"arrowstyle": "-|>", "mutation_scale": 14, "color": plot.GREY, "linewidth": 1.5}
    ends = {"xyA": (1.01, 0.5), "xyB": (-0.03, 0.5), "coordsA": left.transAxes, "coordsB": right.transAxes}
    figure.add_artist(ConnectionPatch(**ends, **arrow))


def _draw_distances(axes, distances, threshold):
    """A bar a name; blue is accepted."""
    rows = range(len(distances))
    near = [value <= threshold for value in distances.values()]
    axes.barh(rows, distances.values(), color=[plot.BLUE if each else plot.ORANGE for each in near])
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1)
    axes.set(yticks=rows, yticklabels=list(distances), xlim=(0, max([*distances.values(), threshold]) * 1.15))
    axes.invert_yaxis()


def draw_distances(
    figure: Figure, distances: dict[str, float], strangers: torch.Tensor, threshold: float = 0.6
) -> None:
    """{name: distance}, (N,): one person's photographs as named bars, the strangers as points below."""
    axes = figure.subplots()
    _draw_distances(axes, distances, threshold)
    heights = len(distances) + 0.6 * torch.linspace(-0.5, 0.5, len(strangers))
    axes.plot(strangers.tolist(), heights.tolist(), ".", color=plot.ORANGE)
    rows = [*range(len(distances)), len(distances)]
    axes.set(yticks=rows, yticklabels=[*distances, f"{len(strangers)} strangers"])
    axes.set(xlim=(0, max(float(strangers.max()), threshold) * 1.05), ylim=(len(distances) + 0.7, -0.7))
    axes.set_xlabel("distance of the embeddings")


def draw_windows(figure: Figure, image: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> None:
    """(3, H, W), (M, 4), (N, 4): a detector's windows before and after non-maximum suppression."""
    for axes, boxes, when in zip(figure.subplots(1, 2), (before, after), ("before", "after"), strict=True):
        plot.image(axes, image, f"{len(boxes)} windows {when} NMS")
        draw_boxes(axes, boxes, color=plot.ORANGE, width=0.8)
        axes.set(xlim=(-0.5, image.shape[2] - 0.5), ylim=(image.shape[1] - 0.5, -0.5))


# --- alignment ----------------------------------------------------------------------------------------------


def draw_alignment(
    figure: Figure, image: torch.Tensor, landmarks: FaceLandmarks | None = None, angle: int = 20
) -> None:
    """(3, 242, 242) with the face of the astronaut, FaceLandmarks: the image turned by `angle` degrees, the
    box cut out, and the face aligned; without landmarks the first two.
    """
    turned = turn_image(image, angle)
    panels = figure.subplots(1, 2 if landmarks is None else 4)
    draw_boxes(plot.image(panels[0], turned, f"turned by {angle}°"), FACE[None], color=plot.ORANGE)
    plot.image(panels[1], crop_box(turned, FACE, 150), "the box alone")
    if landmarks is None:
        return
    points = landmarks(turned, FACE)
    panels[0].plot(*points.T.tolist(), "o", color=plot.BLUE, markersize=4)
    _draw_targets(panels[2])
    plot.image(panels[3], cut_faces(turned, FACE[None], landmarks)[0], "aligned")


def _draw_targets(axes):
    """Where the five points of the mean face lie in a chip."""
    x, y = ((MEAN_FACE + PADDING) / (1 + 2 * PADDING) * 150).T
    names = ("outer\ncorner", "inner", "outer\ncorner", "inner", "nose")
    for left, top, name in zip(x, y, names, strict=True):
        axes.plot(left, top, "o", color=plot.BLUE)
        place = {"xytext": (0, -6), "va": "top"} if name == "inner" else {"xytext": (0, 5)}
        axes.annotate(name, (left, top), textcoords="offset points", ha="center", fontsize=7, **place)
    axes.set(xlim=(0, 150), ylim=(150, 0), xticks=[], yticks=[], aspect="equal")
    axes.set_title("mean face")


# --- the network --------------------------------------------------------------------------------------------


def draw_network(figure: Figure, shapes: dict[str, tuple[int, ...]]) -> None:
    """{name of a step: (C, H, W) or (D,) that leaves it}: boxes from left to right, as high as the map and as
    wide as it has channels.
    """
    axes = figure.subplots()
    x, largest = 0.0, max(shape[-1] for shape in shapes.values() if len(shape) == 3)
    previous = None
    for name, shape in shapes.items():
        channels = shape[0] if len(shape) == 3 else 4
        height = shape[1] / largest if len(shape) == 3 else 0.75
        width = 0.25 + 0.12 * math.log2(channels)
        colour = plot.BLUE if len(shape) == 3 else plot.ORANGE
        axes.add_patch(
            Rectangle((x, -height / 2), width, height, facecolor=colour, alpha=0.3, edgecolor=colour)
        )
        axes.text(x + width / 2, -0.62, name, ha="center", va="top", fontsize=8)
        axes.text(x + width / 2, 0.56, "×".join(map(str, shape)), ha="center", va="bottom", fontsize=8)
        if previous is not None:
            arrow = {"arrowstyle": "-|>", "mutation_scale": 10, "color": plot.GREY}
            axes.add_patch(FancyArrowPatch((previous + 0.05, 0), (x - 0.05, 0), **arrow))
        previous = x + width
        x += width + 0.75
    axes.set(xlim=(-0.5, x - 0.3), ylim=(-1.05, 0.8))
    axes.axis("off")


def draw_margin(figure: Figure, margin: float = 0.3, angle: float = 0.6, scale: int = 16) -> None:
    """Two people's weights on the unit circle, 1.4 radians apart, and an embedding `angle` from the first
    one's, who it is: angles, and the probabilities without and with the margin.
    """
    circle, bars = figure.subplots(1, 2, width_ratios=(1, 1.6))
    turn = torch.linspace(0, 2 * math.pi, 200)
    circle.plot(turn.cos(), turn.sin(), color=plot.GREY, linewidth=1)
    arrows = {"person 1": (0.0, plot.BLUE), "person 2": (1.4, plot.GREEN), "embedding": (angle, "black")}
    for name, (theta, colour) in arrows.items():
        circle.plot([0, math.cos(theta)], [0, math.sin(theta)], color=colour, label=name, linewidth=2)
    counted = angle + margin
    circle.plot([0, math.cos(counted)], [0, math.sin(counted)], "--", color=plot.ORANGE, label="θ + m")
    circle.set(xlim=(-0.35, 1.15), ylim=(-0.3, 1.2), xticks=[], yticks=[], aspect="equal")
    circle.legend(loc="lower left", fontsize=7, ncols=2)
    other = math.cos(1.4 - angle)
    for row, true in enumerate((math.cos(angle), math.cos(min(counted, math.pi)))):
        p = torch.tensor([scale * true, scale * other]).softmax(0)[0].item()
        bars.barh(row, p, color=(plot.BLUE, plot.ORANGE)[row])
        bars.annotate(f"p = {p:.3f}, loss {-math.log(max(p, 1e-30)):.3f}", (0.02, row), va="center")
    bars.set(yticks=[0, 1], yticklabels=["softmax: s cos θ", "ArcFace: s cos(θ + m)"], xlim=(0, 1.02))
    bars.set_xlabel("probability of person 1, who it is")
    bars.invert_yaxis()


@torch.no_grad()
def draw_occlusion(figure: Figure, network: nn.Module, images: torch.Tensor, size: int = 7) -> None:
    """Module, (N, C, H, W): each image, and below it how far the embedding moves when a grey square of `size`
    pixels covers each position.
    """
    panels = figure.subplots(2, len(images), squeeze=False)
    for column, image in enumerate(images):
        plot.image(panels[0, column], image)
        panels[1, column].imshow(_measure_moves(network, image, size).numpy(), cmap="Greys")
        panels[1, column].set(xticks=[], yticks=[])
    panels[0, 0].set_ylabel("image")
    panels[1, 0].set_ylabel("distance")


def _measure_moves(network, image, size, step=2):
    """(C, H, W) -> (h, w): the distance of the embedding with a square to that of the image as it is."""
    height, width = image.shape[1:]
    corners = [(y, x) for y in range(0, height - size + 1, step) for x in range(0, width - size + 1, step)]
    covered = image.repeat(len(corners), 1, 1, 1)
    for number, (y, x) in enumerate(corners):
        covered[number, :, y : y + size, x : x + size] = image.mean()
    moves = (network(covered) - network(image[None])).norm(dim=1)
    return moves.view(-(-(height - size + 1) // step), -1)


# --- training -----------------------------------------------------------------------------------------------


def draw_training(figure: Figure, losses: dict[str, list[float]], errors: dict[str, list[float]]) -> None:
    """{name: loss of each step}, {name: EER after each epoch}: two panels."""
    left, right = figure.subplots(1, 2)
    for name, values in losses.items():
        window = max(1, len(values) // 30)
        smooth = torch.tensor(values).unfold(0, window, 1).mean(1)
        left.plot(range(window, window + len(smooth)), smooth, label=name)
    for name, values in errors.items():
        right.plot(range(1, len(values) + 1), [100 * value for value in values], label=name)
    left.set(xlabel="step", ylabel="loss, smoothed")
    right.set(xlabel="epoch", ylabel="EER of new people, %", ylim=(0, None))
    left.legend()


def draw_curves(figure: Figure, pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
    """{name: (distances, same)}: the ROC with a logarithmic FAR, and the DET curve; a point at the EER."""
    left, right = figure.subplots(1, 2)
    for (name, (distances, same)), colour in zip(pairs.items(), COLOURS, strict=False):
        roc = roc_curve(distances, same)
        rate, _ = equal_error_rate(distances, same)
        shown = roc.far > 0
        left.semilogx(roc.far[shown], roc.tar[shown], label=name, color=colour)
        both = shown & (roc.frr > 0)
        right.loglog(roc.far[both], roc.frr[both], color=colour)
        right.plot(rate, rate, "o", color=colour)
        left.plot(rate, 1 - rate, "o", color=colour)
    left.set(xlabel="FAR", ylabel="TAR", ylim=(0, 1.02), title="ROC")
    right.set(xlabel="FAR", ylabel="FRR", title="DET")
    left.legend(fontsize=7)


def draw_seeds(axes: Axes, rates: dict[str, list[float]], xlabel: str = "EER, %") -> Axes:
    """{name: a rate of each seed} -> axes: the runs as dots, the mean as a bar, a name a row."""
    for row, values in enumerate(rates.values()):
        percent = 100 * np.asarray(values)
        axes.barh(row, percent.mean(), color=plot.BLUE, alpha=0.35)
        axes.plot(percent, [row] * len(percent), "o", color=plot.BLUE, markersize=4)
    axes.set(yticks=range(len(rates)), yticklabels=list(rates), xlabel=xlabel, xlim=(0, None))
    axes.invert_yaxis()
    return axes


def draw_identities(figure: Figure, rates: dict[int, list[float]], limit: float | None = None) -> None:
    """{number of people in the training set: EER of each seed}: both axes logarithmic; a line at `limit`."""
    axes = figure.subplots()
    people = list(rates)
    for n, values in rates.items():
        axes.plot([n] * len(values), [100 * value for value in values], "o", color=plot.BLUE, markersize=4)
    means = [100 * sum(values) / len(values) for values in rates.values()]
    axes.plot(people, means, color=plot.BLUE)
    if limit is not None:
        axes.axhline(100 * limit, color=plot.GREY, linestyle="--", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="people in the training set", ylabel="EER of new people, %")
    ticks = sorted({round(value) for value in (1, 2, 3, 5, 7, 10, 15, 20, 30) if 0.6 * min(means) < value})
    axes.set(xticks=people, xticklabels=people, yticks=ticks, yticklabels=ticks)
    axes.minorticks_off()


def draw_orl(figure: Figure, by_people: dict[str, list[float]], eer: dict[str, list[float]]) -> None:
    """{people in the training set: EER of each seed}, {method: EER of each run}: our network on photographs,
    and the other methods as lines.
    """
    axes = figure.subplots()
    people = [int(n) for n in by_people]
    for n, values in zip(people, by_people.values(), strict=True):
        axes.plot([n] * len(values), [100 * value for value in values], "o", color=plot.BLUE, markersize=4)
    axes.plot(people, [100 * sum(values) / len(values) for values in by_people.values()], color=plot.BLUE)
    axes.annotate(
        "own network",
        (people[0], 100 * max(by_people[min(by_people, key=int)])),
        (4, 4),
        textcoords="offset points",
        color=plot.BLUE,
    )
    others = {name: 100 * sum(values) / len(values) for name, values in eer.items() if name != "own network"}
    height = 0.0  # of a label: above the one before, also where two rates are nearly equal
    for colour, name in zip(COLOURS[1:], sorted(others, key=others.get), strict=False):
        rate = others[name]
        axes.axhline(rate, color=colour, linestyle="--", linewidth=1.2)
        height = max(rate, 1.45 * height)
        place = {"xycoords": ("axes fraction", "data"), "va": "center"}
        axes.annotate(f"{name}, {rate:.1f} %", (1.02, height), color=colour, fontsize=8, **place)
    axes.set(xscale="log", yscale="log", xticks=people, xticklabels=people)
    axes.set(xlabel="people in the training set", ylabel="EER of people 21-40, %")
    ticks = (0.5, 1, 2, 5, 10, 20, 30)
    axes.set(yticks=ticks, yticklabels=ticks)
    axes.minorticks_off()


# --- the system's errors ------------------------------------------------------------------------------------


def draw_threshold(
    figure: Figure,
    distances: torch.Tensor,
    same: torch.Tensor,
    threshold: float = 0.9,
    same_share: float = 0.5,
) -> None:
    """(N,), (N,) bool: both kinds of pairs over their distance, the ROC, and what is made of the counts where
    `same_share` of all pairs are of one person.
    """
    panels = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
    edges = torch.linspace(0, float(distances.max()) + 1e-3, 50)
    for kind, colour, name in ((same, plot.BLUE, "same person"), (~same, plot.ORANGE, "two people")):
        density, _ = torch.histogram(distances[kind].float().cpu(), edges)
        panels[0].stairs(density / density.sum(), edges, color=colour, fill=True, alpha=0.5, label=name)
    panels[0].axvline(threshold, color="black", linestyle="--")
    panels[0].set(xlabel="distance", yticks=[], ylabel="share of the pairs")
    panels[0].legend(fontsize=7)
    roc = roc_curve(distances, same)
    weights = torch.where(
        same, same_share / same.float().mean(), (1 - same_share) / (1 - same.float().mean())
    )
    counts = confusion(distances, same, threshold, weights.float())
    panels[1].plot(roc.far, roc.tar, color=plot.GREY)
    panels[1].plot(counts.far, counts.recall, "o", color="black")
    panels[1].set(xlabel="FAR", ylabel="TAR", xlim=(-0.02, 1.02), ylim=(-0.02, 1.04))
    precision = counts.precision if counts.precision == counts.precision else 0.0  # NaN: nothing is accepted
    values = {
        "accuracy": counts.accuracy,
        "precision": precision,
        "recall = TAR": counts.recall,
        "F1": counts.f1,
        "FAR": counts.far,
    }
    panels[2].barh(range(5), values.values(), color=[plot.BLUE] * 4 + [plot.ORANGE])
    for row, value in enumerate(values.values()):
        panels[2].annotate(f"{value:.3f}", (0.03, row), va="center")
    panels[2].set(yticks=range(5), yticklabels=list(values), xlim=(0, 1))
    panels[2].invert_yaxis()


def draw_open_set(figure: Figure, found: OpenSet, groups: dict[str, tuple[float, float, float]]) -> None:
    """OpenSet, {group: EER and the ends of its interval}: identification with strangers; errors by group."""
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    left.plot(100 * found.false_alarms, 100 * found.identified, color=plot.BLUE)
    left.set(xlabel="strangers who get a name, %", ylabel="right names, %", ylim=(0, 102))
    middles, lows, highs = (100 * np.array(values) for values in zip(*groups.values(), strict=True))
    plot.intervals(right, list(groups), middles, lows, highs, "EER, %, and its 95 % interval")
    right.set_xlim(0, None)


def draw_gallery_growth(
    figure: Figure, far: float, measured: dict[int, float] | None = None, largest: int = 100_000
) -> None:
    """FAR of one comparison, {size: measured share}: how probable it is that a stranger gets some name."""
    axes = figure.subplots()
    sizes = torch.logspace(0, math.log10(largest), 200)
    for rate, colour in ((far, plot.BLUE), (far / 10, plot.GREEN), (far / 100, plot.GREY)):
        axes.semilogx(sizes, 100 * (1 - (1 - rate) ** sizes), color=colour, label=f"1 − (1 − {rate:.2g})^N")
    if measured:
        shares = [100 * share for share in measured.values()]
        axes.plot(list(measured), shares, "o", color=plot.ORANGE, label=f"measured, FAR {far:.2g}")
    axes.set(xlabel="people in the gallery, N", ylabel="strangers who get a name, %", ylim=(0, 102))
    axes.legend(fontsize=7)
