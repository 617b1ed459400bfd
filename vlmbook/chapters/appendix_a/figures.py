"""Appendix A: the network with its sizes, a computational graph with values and gradients, the frameworks
side by side.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from vlmbook import plot
from vlmbook.chapters.appendix_a import experiments

DASHES = ("solid", (0, (6, 3)), (0, (3, 3)), (0, (1, 2)))
MARKERS = ("o", "s", "^", "D", "v")


def draw_layouts(figure: Figure, images: np.ndarray, labels: np.ndarray) -> None:
    """(N, H, W, 1), (N,): a row of digits."""
    panels = figure.subplots(1, len(images), squeeze=False)[0]
    for axes, image, label in zip(panels, images, labels, strict=True):
        plot.image(axes, image[..., 0], str(label))


# --- the network --------------------------------------------------------------------------------------------


def draw_network(figure: Figure, side: int = 28, kernel: int = 3, padding: int = 0, stages: int = 1) -> None:
    """Each layer as a block with its shape and its parameters; below whether the printed layer fits."""
    axes = figure.subplots()
    layers = experiments.list_sizes(side, kernel=kernel, padding=padding, stages=stages)
    square = 0.6 * len(layers) / figure.get_figwidth()  # of an image: from height to width
    for place, (name, shape, parameters) in enumerate(layers):
        linear = len(shape) == 1
        height = 0.25 + 0.35 * np.log10(shape[0]) if linear else 0.033 * shape[1]
        wide = 0.16 if linear else height * square
        colour = plot.ORANGE if parameters else plot.BLUE if place else plot.GREY
        for shift in (0.16, 0.08, 0.0)[0 if shape[0] > 1 and not linear else 2 :]:
            axes.add_patch(
                Rectangle(
                    (place - wide / 2 + shift / 2, -height / 2 + shift),
                    wide,
                    height,
                    facecolor="white",
                    edgecolor=colour,
                    linewidth=1.4,
                )
            )
        axes.text(place, 1.25, name, ha="center", fontsize=9)
        axes.text(place, -1.35, "×".join(f"{n:,}" for n in shape), ha="center", fontsize=9)
        if parameters:
            axes.text(place, -1.72, f"{parameters:,}", ha="center", fontsize=8.5, color=plot.ORANGE)
        if place:
            axes.annotate(
                "",
                (place - 0.36, 0),
                (place - 0.62, 0),
                arrowprops={"arrowstyle": "->", "color": plot.GREY, "linewidth": 1},
            )
    flattened = next(shape[0] for name, shape, _ in layers if name == "flatten")
    fits = flattened == experiments.PRINTED_INPUTS
    verdict = "fits" if fits else "does not fit"
    axes.text(
        (len(layers) - 1) / 2,
        -2.35,
        f"flattened {flattened:,}: nn.Linear(32 * 7 * 7, 128) wants 1,568 and {verdict}",
        ha="center",
        fontsize=9.5,
        color=plot.GREEN if fits else plot.ORANGE,
    )
    axes.set(xlim=(-0.6, len(layers) - 0.4), ylim=(-2.6, 1.6))
    axes.axis("off")


# --- a graph ------------------------------------------------------------------------------------------------


def draw_graph(figure: Figure, result: Any) -> None:
    """The last node of a graph (with value, grad, name and parents) -> the whole graph from left to right:
    values in blue, gradients in orange.
    """
    axes = figure.subplots()
    nodes = _place(result)
    for node, (x, y) in nodes.items():
        for nth, parent in enumerate(node.parents):
            left, low = nodes[parent]
            bend = 0.0
            if node.parents.count(parent) > 1:  # a node times itself: two arrows
                bend = (0.35, -0.35)[nth % 2]
            elif low == y and x - left > 1:  # around the nodes between
                bend = -0.55
            arrow = {"arrowstyle": "->", "color": plot.GREY, "linewidth": 1.2}
            axes.annotate(
                "",
                (x - 0.3, y),
                (left + 0.3, low),
                arrowprops=arrow | {"connectionstyle": f"arc3,rad={bend}"},
            )
        axes.add_patch(
            FancyBboxPatch(
                (x - 0.26, y - 0.2),
                0.52,
                0.4,
                boxstyle="round,pad=0.02",
                facecolor="white" if node.parents else "#E6F0F8",
                edgecolor="0.4",
            )
        )
        axes.text(x, y, node.name, ha="center", va="center", fontsize=10)
        axes.text(x, y + 0.29, f"{node.value:.3g}", ha="center", color=plot.BLUE, fontsize=9)
        axes.text(x, y - 0.47, f"{node.grad:.3g}", ha="center", color=plot.ORANGE, fontsize=9)
    places = np.array(list(nodes.values()))
    axes.set(
        xlim=(places[:, 0].min() - 0.5, places[:, 0].max() + 0.5),
        ylim=(places[:, 1].min() - 0.65, places[:, 1].max() + 0.95),
    )
    axes.text(0.0, 1.0, "value", color=plot.BLUE, transform=axes.transAxes, ha="left", va="top", fontsize=9)
    axes.text(
        0.12, 1.0, "gradient", color=plot.ORANGE, transform=axes.transAxes, ha="left", va="top", fontsize=9
    )
    axes.axis("off")


def _place(result):
    """-> {node: (column, row)}: a node right of its parents, an input just left of where it is used."""
    order, depth = [], {}

    def visit(node):
        if node in depth:
            return
        depth[node] = 0
        for parent in node.parents:
            visit(parent)
        depth[node] = max((depth[parent] + 1 for parent in node.parents), default=0)
        order.append(node)

    visit(result)
    for node in order:
        for parent in node.parents:
            users = [depth[each] for each in order if parent in each.parents]
            if not parent.parents:
                depth[parent] = min(users) - 1
    columns = {}
    for node in order:
        columns.setdefault(depth[node], []).append(node)
    places = {}
    for column, nodes in columns.items():
        computed = [node for node in nodes if node.parents]
        rest = [node for node in nodes if not node.parents]
        for row, node in enumerate([*computed, *rest]):
            places[node] = (column, -1.25 * row)
    return places


# --- side by side -------------------------------------------------------------------------------------------


def draw_losses(figure: Figure, runs: Mapping[str, dict]) -> None:
    """{name: result of `alone.compare`}: mean losses from the same weights on the same batches; and how far
    they lie from those of the first one, with each framework's own epsilon in Adam and without.
    """
    left, right = figure.subplots(1, 2)
    first = next(iter(runs))
    for place, (name, run) in enumerate(runs.items()):
        colour = f"C{place}"
        losses = run["own epsilon"]["loss"]
        steps = range(1, len(losses) + 1)
        left.plot(steps, losses, color=colour, linestyle=DASHES[place], label=name, linewidth=3 - 0.5 * place)
        if name == first:
            continue
        for kind, style in (("own epsilon", "solid"), ("no epsilon", "dotted")):
            gap = np.abs(np.subtract(run[kind]["loss"], runs[first][kind]["loss"]))
            right.plot(steps, gap.clip(1e-9), color=colour, linestyle=style)
    left.set(xlabel="step", ylabel="mean loss so far", title="same weights, same batches")
    left.legend()
    right.set(xlabel="step", yscale="log", title=f"distance from {first}", ylim=(1e-8, 1e-1))
    right.text(0.97, 0.94, "solid: own ε of Adam", transform=right.transAxes, ha="right", fontsize=8.5)
    right.text(0.97, 0.85, "dotted: ε = 10⁻¹²", transform=right.transAxes, ha="right", fontsize=8.5)


def draw_comparison(figure: Figure, runs: Mapping[str, dict], baseline: float) -> None:
    """{name: result of `alone.compare`}, accuracy of the baseline: accuracy of each seed with the interval of
    the mean, processor's seconds, memory.
    """
    accuracy, seconds, memory = figure.subplots(1, 3)
    names = list(runs)
    for row, name in enumerate(names):
        run = runs[name]
        mean, low, high = experiments.mean_interval(run["accuracy"])
        shares = [100 * share for share in run["accuracy"]]
        accuracy.plot(shares, [row] * len(shares), "o", color=plot.BLUE, alpha=0.35, markersize=5)
        accuracy.errorbar(
            100 * mean, row, xerr=[[100 * (mean - low)], [100 * (high - mean)]], color=plot.BLUE, capsize=3
        )
        accuracy.plot(100 * mean, row, "|", color=plot.BLUE, markersize=12)
        spent = float(np.median(run["seconds"]))
        seconds.barh(row, spent, color=plot.ORANGE, height=0.55)
        seconds.text(spent, row, f" {spent:.1f}", va="center", fontsize=8.5)
        memory.barh(row, run["memory"] / 1e9, color=plot.GREEN, height=0.55)
        memory.barh(row, run["memory_imported"] / 1e9, color=plot.GREY, height=0.55)
        memory.text(run["memory"] / 1e9, row, f" {run['memory'] / 1e9:.2f}", va="center", fontsize=8.5)
    accuracy.axvline(100 * baseline, color="0.3", linestyle="dotted")
    accuracy.text(
        100 * baseline, -0.62, "logistic regression ", ha="right", va="center", fontsize=8, color="0.3"
    )
    accuracy.set(yticks=range(len(names)), yticklabels=names, xlabel="accuracy in %", title="accuracy")
    for axes in (accuracy, seconds, memory):
        axes.set_ylim(len(names) - 0.4, -0.85)
    seconds.set_yticks([])
    memory.set_yticks([])
    longest = max(float(np.median(run["seconds"])) for run in runs.values())
    seconds.set(xlabel="processor's seconds", title="training", xlim=(0, 1.25 * longest))
    largest = max(run["memory"] for run in runs.values()) / 1e9
    memory.set(xlabel="GB (grey: before training)", title="memory", xlim=(0, 1.3 * largest))


def draw_choice(figure: Figure, chosen: Sequence[float], fresh: Sequence[float], images: int) -> None:
    """Accuracies of the chosen networks on the half that chose, and on the other half, of so many images."""
    axes = figure.subplots()
    step = 100 / images
    bins = np.arange(min(*chosen, *fresh) * 100 - step / 2, max(*chosen, *fresh) * 100 + step, step)
    for values, colour, name in (
        (chosen, plot.ORANGE, "half that chose"),
        (fresh, plot.BLUE, "other half"),
    ):
        percent = 100 * np.asarray(values)
        axes.hist(percent, bins, color=colour, alpha=0.55, label=name)
        axes.axvline(percent.mean(), color=colour)
    axes.set(xlabel="accuracy in % of the chosen network", ylabel="halvings of the test set")
    axes.legend()


def draw_modes(figure: Figure, passes: Mapping[str, Sequence[float]]) -> None:
    """{mode: accuracies of repeated passes over the same images}."""
    axes = figure.subplots()
    generator = torch.Generator().manual_seed(0)
    for row, values in enumerate(passes.values()):
        shift = 0.5 * (torch.rand(len(values), generator=generator) - 0.5).numpy()
        axes.plot(100 * np.asarray(values), row + shift, MARKERS[row], alpha=0.6, markersize=5)
    axes.set(yticks=range(len(passes)), yticklabels=list(passes), xlabel="accuracy in % of each pass")
    axes.set_ylim(len(passes) - 0.4, -0.6)
