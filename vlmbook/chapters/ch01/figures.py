"""Chapter 1: photographs with their answers, pixels as numbers, features drawn, losses and gradients, the
table of programs, what breaks them, the timeline.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from vlmbook import features, plot
from vlmbook.chapters.ch01.timeline import KINDS, find_works
from vlmbook.metrics import proportion_interval

PINK, SKY = "#CC79A7", "#56B4E9"
COLOURS = (plot.GREY, SKY, plot.GREEN, PINK, plot.BLUE, plot.ORANGE)
MARKERS = "osD^vP"
# Where the name of a model stands in the drawing of sizes: to a side of its disc, points above it.
PLACES = {
    "Qwen2.5-VL-72B": ("left", 0),
    "DINOv3 ViT-7B": ("left", 0),
    "ViT-B/16": ("left", 4),
    "DDPM": ("left", 0),
    "DINOv2 ViT-g": ("left", -8),
    "latent diffusion": ("left", 2),
    "ViT-22B": ("right", 6),
    "Stable Diffusion 3": ("right", -7),
    "VGG-16": ("right", 3),
    "ResNet-50": ("left", -4),
}

# --- photographs and numbers --------------------------------------------------------------------------------


def draw_answers(
    figure: Figure, images: Sequence[torch.Tensor], answers: Sequence[Sequence[tuple[str, float]]]
) -> None:
    """Photographs, for each its most probable classes with their probabilities: four columns; the colour of
    the title says whether the network is sure (blue: at least 0.5).
    """
    panels = figure.subplots(-(-len(images) // 4), 4, squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    for axes, image, best in zip(panels.flat, images, answers, strict=False):
        side = min(image.shape[1:])
        top, left = ((length - side) // 2 for length in image.shape[1:])
        square = image[:, top : top + side, left : left + side]
        plot.image(axes, torch.nn.functional.interpolate(square[None], size=(150, 150), mode="area")[0])
        name, probability = best[0]
        colour = plot.BLUE if probability >= 0.5 else plot.ORANGE
        short = name if len(name) <= 16 else f"{name[:15]}…"
        axes.set_title(f"{short}\n{probability:.0%}", color=colour, fontsize=10)


def draw_numbers(figure: Figure, image: torch.Tensor, top: int, left: int, side: int = 8) -> None:
    """(1, H, W): the image with a frame, and the pixels of the frame as numbers."""
    whole, part = figure.subplots(1, 2)
    plot.image(whole, image)
    frame = _frame(left - 0.5, top - 0.5, side)
    frame.set(edgecolor=plot.ORANGE)
    whole.add_patch(frame)
    numbers = image[0, top : top + side, left : left + side]
    plot.numbers(part, numbers, "what the program gets", "{:.1f}", cmap="gray", vmin=0, vmax=1)


def _frame(left, top, side):
    return Rectangle((left, top), side, side, fill=False, linewidth=2)


def draw_profile(figure: Figure, row: torch.Tensor) -> None:
    """(W,) brightness along a line: the brightness, and its difference from one pixel to the next but one."""
    above, below = figure.subplots(2, 1, sharex=True)
    above.step(range(len(row)), row.tolist(), where="mid", color="black")
    above.set(ylabel="brightness", ylim=(-0.1, 1.1))
    change = ((row[2:] - row[:-2]) / 2).tolist()
    below.bar(range(1, len(row) - 1), change, color=[plot.ORANGE if v > 0 else plot.BLUE for v in change])
    below.axhline(0, color="black", linewidth=0.8)
    below.set(ylabel="change", xlabel="pixel")


def draw_by_hand(figure: Figure, image: torch.Tensor, kernel: torch.Tensor, result: torch.Tensor) -> None:
    """(H, W), (3, 3), (H − 2, W − 2): the numbers of a small image, the kernel, and what comes out."""
    panels = figure.subplots(1, 3, width_ratios=(image.shape[1], 3, result.shape[1]))
    plot.numbers(panels[0], image, "image", "{:.2g}", cmap="gray", vmin=-0.6, vmax=1)
    plot.numbers(panels[1], kernel, "kernel ·8", "{:.0f}")
    plot.numbers(panels[2], result, "result", "{:.2f}")


def draw_features(figure: Figure, image: torch.Tensor, corners: int = 40) -> None:
    """(3, H, W): the photograph and what four programs find on it."""
    grey = features.to_grey(image)
    panels = figure.subplots(2, 3).flat
    plot.image(panels[0], image, "photograph")
    plot.image(panels[1], 1 - 4 * features.edge_strength(grey), "gradient (Sobel)")
    plot.image(panels[2], 1 - features.canny(grey, sigma=2).float(), "edges (Canny)")
    plot.image(panels[3], grey, "corners (Harris)")
    response = features.corner_response(grey, sigma=2)
    found = features.find_corners(response, count=corners, distance=8)
    panels[3].plot(
        found[:, 1].tolist(),
        found[:, 0].tolist(),
        "o",
        color=plot.ORANGE,
        markersize=4,
        markeredgecolor="white",
    )
    plot.image(panels[4], features.local_binary_patterns(grey).float() / 255, "patterns (LBP)")
    panels[5].axis("on")
    _draw_cells(panels[5], grey, 16)
    panels[5].set_title("orientations (HOG)")


def _draw_cells(axes, grey, cell, bins=9):
    """In each cell a line for each orientation of an edge, across the gradient, as bright as strong."""
    cells = features.orientation_histograms(grey, cell=cell, bins=bins)
    strength = cells / cells.amax().clamp_min(1e-6)
    height, width = grey.shape
    axes.imshow(np.zeros((height, width)), cmap="gray", vmin=0, vmax=1)
    rows, columns, _ = cells.shape
    lines, shades = [], []
    for row in range(rows):
        for column in range(columns):
            for index in range(bins):
                value = strength[row, column, index].item() ** 0.5
                if value > 0.25:
                    angle = np.pi * (index + 0.5) / bins + np.pi / 2
                    dx, dy = 0.48 * cell * np.cos(angle), 0.48 * cell * np.sin(angle)
                    x, y = (column + 0.5) * cell, (row + 0.5) * cell
                    lines.append([(x - dx, y - dy), (x + dx, y + dy)])
                    shades.append(str(round(value, 2)))
    axes.add_collection(LineCollection(lines, colors=shades, linewidths=1))
    axes.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def draw_hog(figure: Figure, image: torch.Tensor, cell: int = 16, row: int = 0, column: int = 0) -> None:
    """(3, H, W): the photograph with a cell framed, all orientations, and the histogram of that cell."""
    grey = features.to_grey(image)
    cells = features.orientation_histograms(grey, cell=cell)
    row, column = min(row, cells.shape[0] - 1), min(column, cells.shape[1] - 1)
    panels = figure.subplots(1, 3, width_ratios=(1, 1, 0.8))
    plot.image(panels[0], image, f"cell {row}, {column}")
    frame = _frame(column * cell, row * cell, cell)
    frame.set(edgecolor=SKY)
    panels[0].add_patch(frame)
    _draw_cells(panels[1], grey, cell)
    panels[1].set_title(f"cells of {cell}×{cell}")
    panels[2].bar(20 * np.arange(9) + 10, cells[row, column].tolist(), width=17, color=SKY)
    panels[2].set(xlabel="gradient, degrees", xticks=[0, 90, 180], yticks=[], title="framed cell")


# --- learning -----------------------------------------------------------------------------------------------


def draw_softmax(figure: Figure, logits: torch.Tensor, names: Sequence[str], label: int) -> None:
    """(K,) logits: the logits, their probabilities, and the loss of the label (orange)."""
    left, right = figure.subplots(1, 2)
    colours = [plot.ORANGE if i == label else plot.GREY for i in range(len(names))]
    probabilities = logits.softmax(0)
    left.bar(names, logits.tolist(), color=colours)
    left.axhline(0, color="black", linewidth=0.8)
    left.set_title("logits")
    right.bar(names, probabilities.tolist(), color=colours)
    right.set(ylim=(0, 1), title=f"probabilities: loss {-probabilities[label].log():.2f}")


def draw_descent(figure: Figure, w: Sequence[float], losses: Sequence[float], rate: float) -> None:
    """Weights of some steps of gradient descent on the loss (w − 3)²."""
    axes = figure.subplots()
    grid = np.linspace(-2, 8, 200)
    axes.plot(grid, (grid - 3) ** 2, color=plot.GREY)
    axes.plot(w, losses, "o-", color=plot.ORANGE)
    axes.set(xlabel="weight w", ylabel="loss", title=f"learning rate {rate:g}", xlim=(-2, 8), ylim=(-1, 26))


def draw_learning(figure: Figure, curves: dict[str, Sequence[float]], ylabel: str = "loss") -> None:
    """{name: a value after each epoch}."""
    axes = figure.subplots()
    for (name, values), colour, style in zip(
        curves.items(), (plot.BLUE, plot.ORANGE), ("o-", "s--"), strict=False
    ):
        axes.plot(range(1, len(values) + 1), values, style, color=colour, label=name)
    axes.set(xlabel="epoch", ylabel=ylabel, ylim=(0, None))
    axes.legend()


def draw_network(figure: Figure, shapes: Sequence[tuple[str, tuple[int, ...]]], title: str = "") -> None:
    """(name of a layer, its output (C, H, W) or (D,)): boxes from left to right, as high as the side."""
    axes = figure.subplots()
    x = 0.0
    highest = max(shape[-1] for _, shape in shapes if len(shape) == 3)
    for number, (name, shape) in enumerate(shapes):
        height = shape[-1] / highest if len(shape) == 3 else 0.3
        wide = 0.25 + 0.12 * np.log2(shape[0])
        colour = plot.BLUE if len(shape) == 3 else plot.GREEN
        axes.add_patch(
            _box(x, 0.5 - height / 2, wide, height, colour),
        )
        label = "×".join(str(size) for size in shape)
        above = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
        axes.annotate(label, (x + wide / 2, 0.5 + height / 2), (0, 3 + 10 * (number % 2)), **above)
        if x:
            axes.annotate(name, (x - 0.45, -0.1), ha="center", va="top", fontsize=8)
            axes.add_patch(
                FancyArrowPatch(
                    (x - 0.8, 0.5), (x - 0.05, 0.5), arrowstyle="-|>", mutation_scale=9, color="0.3"
                )
            )
        x += wide + 0.9
    axes.set(xlim=(-0.2, x - 0.6), ylim=(-0.45, 1.5), title=title)
    axes.axis("off")


def _box(x, y, width, height, colour):
    return Rectangle((x, y), width, height, facecolor=colour, alpha=0.35, edgecolor=colour)


# --- the experiment -----------------------------------------------------------------------------------------


def draw_comparison(figure: Figure, tables: dict[str, dict[str, dict]]) -> None:
    """{data set: {program: {"accuracy" a value a seed, "count"}}}: mean and 95 % interval over images."""
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (title, table) in zip(panels, tables.items(), strict=True):
        names = list(table) if axes is panels[0] else [""] * len(table)
        means = [sum(row["accuracy"]) / len(row["accuracy"]) for row in table.values()]
        ends = [
            proportion_interval(mean, row["count"]) for mean, row in zip(means, table.values(), strict=True)
        ]
        for y, (mean, (low, high), colour) in enumerate(zip(means, ends, COLOURS, strict=False)):
            axes.plot([100 * low, 100 * high], [y, y], color=colour, linewidth=3)
            axes.plot(100 * mean, y, "o", color=colour, markersize=8)
            above = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
            axes.annotate(f"{100 * mean:.1f}", (100 * mean, y), (0, 6), **above)
        axes.set(yticks=range(len(names)), xlabel="accuracy, %", title=title, ylim=(len(names) - 0.5, -0.7))
        axes.set_yticklabels(names)


def draw_breaks(
    figure: Figure,
    examples: dict[str, Sequence[torch.Tensor]],
    strengths: dict[str, Sequence[float]],
    table: dict[str, dict[str, Sequence[float]]],
) -> None:
    """{change: an image at each strength}, {change: strengths}, {change: {program: accuracies}}."""
    grid = figure.add_gridspec(2, len(table), height_ratios=(0.35, 1))
    axes = None
    for column, (change, by_program) in enumerate(table.items()):
        strip = figure.add_subplot(grid[0, column])
        plot.image(strip, torch.cat(list(examples[change]), dim=2))
        axes = figure.add_subplot(grid[1, column])
        for (name, values), colour, marker in zip(by_program.items(), COLOURS, MARKERS, strict=False):
            axes.plot(strengths[change], [100 * v for v in values], marker + "-", color=colour, label=name)
        axes.set(xlabel=change, ylim=(0, 102))
        if column == 0:
            axes.set_ylabel("accuracy, %")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9)


# --- the story ----------------------------------------------------------------------------------------------


def draw_timeline(figure: Figure, counted: dict[str, int], first: int = 1959, last: int = 2025) -> None:
    """{model: counted parameters}, years: the works of these years, a row a kind; the area of a disc grows
    with the number of parameters. A name is written where it has room, above or below its disc.
    """
    axes = figure.subplots()
    left, right = first - 0.5, last + 1.0
    year_per_inch = (right - left) / (figure.get_figwidth() - 1.3)
    taken = {(kind, lane): left for kind in KINDS for lane in (0.36, -0.36)}  # up to which year
    seen = []
    for work in find_works(first, last):
        row = -KINDS.index(work.kind)
        x = work.year + 0.3 * seen.count((work.year, work.kind))  # works of one year stand side by side
        seen.append((work.year, work.kind))
        size = counted.get(work.name, work.parameters)
        area = 20 if size is None else 20 + 7 * max(0.0, np.log10(size) - 4) ** 2
        colour = COLOURS[-row % len(COLOURS)]
        axes.scatter(x, row, s=area, color=colour, alpha=0.75, edgecolor="white", zorder=3)
        shown = work.name if size is None else f"{work.name} ({_short(size)})"
        for text, lane in product((shown, work.name), (0.36, -0.36)):
            half = (0.033 * len(text) + 0.05) * year_per_inch
            middle = min(max(x, left + half), right - half)
            if middle - half >= taken[work.kind, lane]:
                axes.annotate(text, (middle, row + lane), ha="center", va="center", fontsize=7)
                taken[work.kind, lane] = middle + half
                break
    axes.set(yticks=[-i for i in range(len(KINDS))], yticklabels=KINDS, xlabel="year", xlim=(left, right))
    axes.set_ylim(-len(KINDS) + 0.4, 0.6)
    axes.grid(axis="x", alpha=0.3)


def draw_growth(figure: Figure, counted: dict[str, int]) -> None:
    """{model: counted parameters}: every model of the timeline with a size; full discs were counted here,
    open ones are cited.
    """
    axes = figure.subplots()
    sizes = [
        (work.year, counted.get(work.name, work.parameters), work.name) for work in find_works(1959, 2025)
    ]
    sizes = [each for each in sizes if each[1] is not None]
    for year, size, name in sizes:
        face = plot.BLUE if name in counted else "white"
        axes.plot(year, size, "o", color=plot.BLUE, markerfacecolor=face)
        side, up = PLACES.get(name, ("left" if year < 2010 else "right", 0))
        beside = {"textcoords": "offset points", "va": "center", "fontsize": 8}
        axes.annotate(name, (year, size), (6 if side == "left" else -6, up), ha=side, **beside)
    axes.set(yscale="log", xlabel="year", ylabel="parameters", xlim=(1994, 2036), ylim=(2e4, 4e11))


def _short(size):
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{size / unit:.3g} {letter}"
    return f"{size:g}"
