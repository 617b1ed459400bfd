"""Chapter 7c: episodes, prototypes, similarity matrices, curves over the number of labels, defects, and the
map of the book.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn
from torch.func import functional_call

from vlmbook import plot
from vlmbook.fewshot import Episode, adapt

COLOURS = (plot.BLUE, plot.ORANGE, plot.GREEN, plot.GREY, "#CC79A7", "#56B4E9")

# --- few shots ----------------------------------------------------------------------------------------------


def draw_episode(figure: Figure, images: torch.Tensor, episode: Episode) -> None:
    """(N, C, H, W), Episode: a row a class, the support on the left, the queries on the right."""
    ways, shots = episode.support.shape
    queries = episode.query.shape[1]
    panels = figure.subplots(ways, shots + queries, squeeze=False)
    for row in range(ways):
        for column, index in enumerate([*episode.support[row].tolist(), *episode.query[row].tolist()]):
            plot.image(panels[row, column], images[index])
            colour = plot.BLUE if column < shots else plot.ORANGE
            frame = Rectangle((0, 0), 1, 1, transform=panels[row, column].transAxes, fill=False)
            frame.set(edgecolor=colour, linewidth=3, clip_on=False)
            panels[row, column].add_patch(frame)
    panels[0, 0].set_title("support", color=plot.BLUE)
    panels[0, shots].set_title("query", color=plot.ORANGE)


def draw_plane(figure: Figure, support: torch.Tensor, query: tuple[float, float]) -> None:
    """(W, K, 2), (x, y): the support of each class, its prototype, and the query with its distances."""
    axes = figure.subplots()
    centres = support.mean(1)
    for colour, points, centre, name in zip(COLOURS, support, centres, "ABCDEF", strict=False):
        axes.plot(*points.T.tolist(), "o", color=colour, alpha=0.5)
        axes.plot(*centre.tolist(), "*", color=colour, markersize=15, label=f"prototype {name}")
        axes.plot([query[0], centre[0]], [query[1], centre[1]], "--", color=colour, linewidth=1)
    axes.plot(*query, "s", color="black", label="query")
    axes.set(aspect="equal", xlabel="embedding 0", ylabel="embedding 1")
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))


def draw_shots(figure: Figure, found: dict[str, dict[int, list[float]]], xlabel: str) -> None:
    """{method: {shots: accuracies}}: the mean with its standard error over episodes or draws."""
    axes = figure.subplots()
    for colour, (name, rows) in zip(COLOURS, found.items(), strict=False):
        means = [np.mean(values) for values in rows.values()]
        errors = [np.std(values, ddof=1) / np.sqrt(len(values)) for values in rows.values()]
        axes.errorbar(list(rows), means, yerr=errors, fmt="o-", color=colour, capsize=3, label=name)
    shots = sorted({shot for rows in found.values() for shot in rows})
    axes.set(xscale="log", xticks=shots, xticklabels=shots, xlabel=xlabel, ylabel="accuracy", ylim=(0, 1.02))
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))


def draw_adaptation(
    figure: Figure,
    networks: dict[str, nn.Module],
    x: torch.Tensor,
    function: Callable[[torch.Tensor], torch.Tensor],
    steps: int = 1,
) -> None:
    """{name: regressor}, (n, 1) points of one task, its function: each network after so many steps."""
    grid = torch.linspace(-5, 5, 200)[:, None]
    for axes, (name, network) in zip(
        figure.subplots(1, len(networks), sharey=True), networks.items(), strict=True
    ):
        axes.plot(grid[:, 0], function(grid)[:, 0], color=plot.GREY, label="task")
        weights = adapt(network, x, function(x), steps=steps, order=1)
        with torch.no_grad():
            fitted, before = functional_call(network, weights, (grid,)), network(grid)
        axes.plot(grid[:, 0], before[:, 0], color=plot.BLUE, linestyle=":", label="before")
        unit = "step" if steps == 1 else "steps"
        axes.plot(grid[:, 0], fitted[:, 0], color=plot.BLUE, label=f"after {steps} {unit}")
        axes.plot(x[:, 0], function(x)[:, 0], "o", color=plot.ORANGE, label="ten points")
        axes.set(title=name, ylim=(-6, 6), xlabel="x")
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8)


def draw_errors(figure: Figure, found: dict[str, list[list[float]]]) -> None:
    """{name: for each number of steps the error of each task}: means with standard errors."""
    axes = figure.subplots()
    for colour, (name, rows) in zip(COLOURS, found.items(), strict=False):
        means = [np.mean(row) for row in rows]
        errors = [np.std(row, ddof=1) / np.sqrt(len(row)) for row in rows]
        axes.errorbar(range(len(rows)), means, yerr=errors, fmt="o-", color=colour, capsize=3, label=name)
    axes.set(xlabel="gradient steps on ten points of a new task", ylabel="squared error", ylim=(0, None))
    axes.legend()


# --- images and sentences -----------------------------------------------------------------------------------


def draw_similarity(
    figure: Figure, images: torch.Tensor, captions: Sequence[str], before: torch.Tensor, after: torch.Tensor
) -> None:
    """(B, C, H, W), B captions, (B, B) cosines before and after the training; the diagonal belongs
    together.
    """
    panels = figure.subplots(1, 3, width_ratios=(0.22, 1, 1))
    plot.image(panels[0], torch.cat(list(images), dim=1))
    for axes, cosines, title in zip(
        panels[1:], (before, after), ("before the training", "after it"), strict=True
    ):
        shown = axes.imshow(cosines.numpy(), vmin=-1, vmax=1, cmap="RdBu")
        axes.set(xticks=range(len(captions)), yticks=[], title=f"cosines {title}")
        axes.set_xticklabels(captions, rotation=60, ha="right", fontsize=7)
    panels[1].set_ylabel("image of the row")
    figure.colorbar(shown, ax=panels[2], shrink=0.8, label="cosine")


def draw_answers(
    figure: Figure, image: torch.Tensor, words: Sequence[str], probabilities: torch.Tensor, truth: str
) -> None:
    """(3, H, W), K descriptions, (K,): the image and the five most probable descriptions."""
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    plot.image(left, image, truth)
    best = probabilities.topk(min(5, len(words)))
    names = [words[index] for index in best.indices.tolist()]
    colours = [plot.BLUE if name == truth else plot.GREY for name in names]
    right.barh(range(len(names)), best.values.tolist(), color=colours)
    right.set(yticks=range(len(names)), yticklabels=names, xlim=(0, 1), xlabel="probability")
    right.invert_yaxis()


# --- domains, defects, modalities ---------------------------------------------------------------------------


def draw_domains(
    figure: Figure, examples: dict[str, torch.Tensor], found: dict[str, dict[str, list[float]]]
) -> None:
    """{domain: (1, H, W)}, {domain: {statistics: accuracies}}: an example above two bars."""
    panels = figure.subplots(2, len(found), sharey="row")
    for column, (name, rows) in zip(panels.T, found.items(), strict=True):
        plot.image(column[0], examples[name], name)
        means = [np.mean(values) for values in rows.values()]
        errors = [np.std(values, ddof=1) for values in rows.values()]
        column[1].bar([0, 1], means, yerr=errors, color=[plot.ORANGE, plot.BLUE], capsize=3)
        column[1].set(xticks=[0, 1], xticklabels=["stored", "adapted"], ylim=(0, 1.05))
    panels[1, 0].set_ylabel("accuracy")


def draw_defects(
    figure: Figure, images: torch.Tensor, maps: torch.Tensor, scores: dict[str, tuple[float, float, float]]
) -> None:
    """(4, 3, H, W), (4, h, w) distances, {method: (AUROC, low, high)}: images, their maps, and the AUROCs."""
    grid = figure.add_gridspec(2, 5, width_ratios=(1, 1, 1, 1, 2.2))
    limit = float(maps.max())
    for column in range(4):
        plot.image(figure.add_subplot(grid[0, column]), images[column], "" if column else "with a scratch")
        axes = figure.add_subplot(grid[1, column])
        axes.imshow(maps[column].numpy(), vmin=float(maps.min()), vmax=limit, cmap="magma")
        axes.axis("off")
        axes.set_title("" if column else "distance")
    middles, lows, highs = zip(*scores.values(), strict=True)
    axes = plot.intervals(figure.add_subplot(grid[:, 4]), list(scores), middles, lows, highs, "AUROC")
    axes.axvline(0.5, color=plot.GREY, linestyle="--")


def draw_fusion(
    figure: Figure, examples: tuple[torch.Tensor, torch.Tensor], accuracies: dict[str, list[float]]
) -> None:
    """(4, 1, 8, 8), (4, 1, 16, 16), {"image", "sound", "both": an accuracy a seed}."""
    grid = figure.add_gridspec(2, 5, width_ratios=(1, 1, 1, 1, 2.2))
    for column in range(4):
        seen, heard = (figure.add_subplot(grid[row, column]) for row in (0, 1))
        plot.image(seen, examples[0][column].clamp(0, 1), "" if column else "image")
        plot.image(heard, _stretch(examples[1][column]), "" if column else "sound")
    axes = figure.add_subplot(grid[:, 4])
    for row, values in enumerate(accuracies.values()):
        axes.plot(values, [row] * len(values), "o", color=COLOURS[row])
        axes.plot(np.mean(values), row + 0.2, "D", color=COLOURS[row])
    axes.set(yticks=range(len(accuracies)), yticklabels=list(accuracies), xlabel="accuracy", ylim=(-0.5, 2.6))


def _stretch(image):
    """-> the same with 0 as its smallest and 1 as its largest value."""
    return (image - image.min()) / (image.max() - image.min()).clamp(min=1e-6)


# --- the map ------------------------------------------------------------------------------------------------


def draw_map(figure: Figure, rows: Sequence[dict[str, Any]]) -> None:
    """Rows of `map_book`: a bar a chapter, as long as its checks that passed; chapters to come are empty."""
    axes = figure.subplots()
    names = [f"{row['chapter']} · {row['title']} ({row['section']})" for row in rows]
    passed = [row["passed"] or 0 for row in rows]
    axes.barh(range(len(rows)), passed, color=plot.BLUE)
    for place, row in enumerate(rows):
        text = "not written yet" if row["checks"] is None else f"{row['passed']} of {row['checks']}"
        axes.annotate(text, (passed[place] + 1, place), va="center", fontsize=8)
    axes.set(
        yticks=range(len(rows)), yticklabels=names, xlabel="checks of the published notebook that passed"
    )
    axes.set_xlim(0, 1.25 * max([*passed, 1]))
    axes.invert_yaxis()
