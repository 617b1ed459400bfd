"""The drawings of chapter 7b: each is a pure function of a matplotlib Figure and plain values."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from sklearn.metrics import roc_curve

from vlmbook import fairness, plot, privacy

COLOURS = (plot.BLUE, plot.ORANGE, plot.GREEN, plot.GREY, "#CC79A7")


def _draw_lines(axes: Axes, found: dict[str, dict[float, list[float]]]) -> None:
    """{name: {x: values over seeds}}: means with standard deviations."""
    for colour, (name, rows) in zip(COLOURS, found.items(), strict=False):
        means = [np.mean(values) for values in rows.values()]
        errors = [np.std(values, ddof=1) for values in rows.values()]
        axes.errorbar(list(rows), means, yerr=errors, fmt="o-", color=colour, capsize=3, label=name)


def _draw_rows(axes: Axes, found: dict[str, list[float]], xlabel: str, *, named: bool = True) -> None:
    """{name: values over seeds}: a dot a seed and a diamond for the mean; the first name on top."""
    names = list(found)
    for row, values in enumerate(found.values()):
        axes.plot(values, [row] * len(values), "o", color=plot.GREY, markersize=4)
        axes.plot(np.mean(values), row, "D", color=plot.BLUE)
    axes.set(yticks=range(len(names)), xlabel=xlabel, ylim=(len(names) - 0.4, -0.6))
    axes.set_yticklabels(names if named else [])


# --- privacy ------------------------------------------------------------------------------------------------


def draw_scores(figure: Figure, members: torch.Tensor, others: torch.Tensor) -> None:
    """(N,), (M,) losses: how often each loss occurs among members and among others, on a logarithmic axis."""
    axes = figure.subplots()
    bins = np.logspace(-5, 1.5, 27)
    for values, name, colour in ((members, "members", plot.BLUE), (others, "others", plot.ORANGE)):
        weights = np.full(len(values), 1 / len(values))
        shown = values.clamp(1e-5, 30).numpy()
        axes.hist(shown, bins, weights=weights, color=colour, alpha=0.6, label=name)
    axes.set(xlabel="loss of a sample", ylabel="share of the samples", xscale="log")
    axes.legend()


def draw_attack(figure: Figure, found: dict[str, dict[int, list[float]]]) -> None:
    """{labels: {number of members: AUCs}}: the attack against the size of the training set."""
    axes = figure.subplots()
    _draw_lines(axes, found)
    axes.axhline(0.5, color=plot.GREY, linestyle="--")
    axes.set(xlabel="images in the training set", ylabel="AUC of the attack", ylim=(0.45, 1.0))
    axes.legend()


def draw_clipping(figure: Figure, gradients: torch.Tensor, max_norm: float, noise: torch.Tensor) -> None:
    """(B, 2) gradients, C, (2,) noise: the gradients, the clipped ones in their circle, the noisy sum."""
    clipped = gradients * (max_norm / gradients.norm(dim=1, keepdim=True)).clamp(max=1)
    total = clipped.sum(0)
    titles = ("1: gradient of each sample", "2: clipped to norm C", "3: sum, plus noise")
    panels = figure.subplots(1, 3, sharex=True, sharey=True)
    for axes, title, arrows in zip(panels, titles, (gradients, clipped, ()), strict=True):
        for arrow, colour in zip(torch.as_tensor(arrows).tolist(), COLOURS, strict=False):
            axes.annotate("", arrow, (0, 0), arrowprops={"arrowstyle": "->", "color": colour, "lw": 2})
        axes.add_patch(Circle((0, 0), max_norm, fill=False, color=plot.GREY, linestyle="--"))
        axes.set(xlim=(-1.5, 4.5), ylim=(-2.2, 3.2), title=title, aspect="equal")
    noisy = (total + noise).tolist()
    steps = {"sum": ((0, 0), total.tolist(), "black"), "noise": (total.tolist(), noisy, "0.55")}
    for name, (start, end, colour) in steps.items():
        panels[2].annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour, "lw": 2})
        middle = [(a + b) / 2 + 0.15 for a, b in zip(start, end, strict=True)]
        panels[2].annotate(name, middle, color=colour, fontsize=8)


def draw_privacy(figure: Figure, found: dict[str, dict[str, list[float]]]) -> None:
    """{training: {"auc", "accuracy": one a seed}}"""
    left, right = figure.subplots(1, 2)
    _draw_rows(left, {name: rows["auc"] for name, rows in found.items()}, "AUC of the attack")
    left.axvline(0.5, color=plot.GREY, linestyle="--")
    accuracies = {name: rows["accuracy"] for name, rows in found.items()}
    _draw_rows(right, accuracies, "accuracy on the test", named=False)


def draw_bound(
    figure: Figure, members: torch.Tensor, others: torch.Tensor, epsilon: float, delta: float
) -> None:
    """Scores of members and others, ε, δ: the attack's ROC curve under the bound of this ε."""
    axes = figure.subplots()
    truth = [1] * len(members) + [0] * len(others)
    false, true, _ = roc_curve(truth, torch.cat([members, others]).numpy())
    grid = np.linspace(0, 1, 201)
    bound = [privacy.most_true_positives(rate, epsilon, delta) for rate in grid.tolist()]
    axes.fill_between(grid, bound, 1, color=plot.GREY, alpha=0.4, label=f"excluded by ε = {epsilon:g}")
    axes.plot(false, true, color=plot.BLUE, label="the attack")
    axes.plot([0, 1], [0, 1], color=plot.GREY, linestyle="--", label="guessing")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="lower right", fontsize=8)


def draw_federated(figure: Figure, found: dict[str, list[list[float]]]) -> None:
    """{way: for each seed the accuracies after each round}: means with standard deviations."""
    axes = figure.subplots()
    styles = ("-", "--", "-", ":", "-")
    for colour, style, (name, curves) in zip(COLOURS, styles, found.items(), strict=False):
        means, errors = np.mean(curves, axis=0), np.std(curves, axis=0, ddof=1)
        rounds = np.arange(1, len(means) + 1)
        axes.errorbar(rounds, means, yerr=errors, fmt="o", linestyle=style, color=colour, label=name)
    axes.set(xlabel="local steps of each client / 20", ylabel="accuracy on all ten digits", ylim=(0, 1))
    axes.legend(fontsize=8, loc="lower right")


# --- transparency -------------------------------------------------------------------------------------------


def draw_heat(
    figure: Figure, images: torch.Tensor, titles: Sequence[str], maps: dict[str, torch.Tensor]
) -> None:
    """(B, 3, H, W) in [0, 1], B titles, {method: (B, H, W)}: a row an image, the heat over its grey copy."""
    grid = figure.subplots(len(images), 1 + len(maps), squeeze=False)
    for row, image, title in zip(grid, images, titles, strict=True):
        plot.image(row[0], image, title)
    for column, (name, heats) in enumerate(maps.items(), 1):
        for row, (image, heat) in enumerate(zip(images, heats, strict=True)):
            axes = grid[row, column]
            plot.image(axes, image.mean(0), name.replace(" ", "\n") if row == 0 else "")
            top = float(heat.flatten().quantile(0.99)) or 1.0
            axes.imshow((heat / top).clamp(0, 1).numpy(), cmap="magma", vmin=0, vmax=1, alpha=0.6)


def draw_halves(
    figure: Figure, image: torch.Tensor, heats: dict[str, torch.Tensor], shares: dict[str, list[float]]
) -> None:
    """(3, H, 2H), {class: (H, 2H) heat}, {method: shares}: one collage explained for both of its classes."""
    grid = figure.add_gridspec(len(heats), 2, width_ratios=(1.3, 1))
    for row, (name, heat) in enumerate(heats.items()):
        axes = figure.add_subplot(grid[row, 0])
        plot.image(axes, image.mean(0), f'Grad-CAM for "{name}"')
        axes.imshow((heat / heat.max()).numpy(), cmap="magma", vmin=0, vmax=1, alpha=0.6)
    axes = figure.add_subplot(grid[:, 1])
    _draw_rows(axes, shares, "share of the heat in the half of the class")
    axes.axvline(0.5, color=plot.GREY, linestyle="--")
    axes.set_xlim(0, 1)


def draw_randomisation(figure: Figure, found: dict[str, dict[str, list[float]]]) -> None:
    """{part: {method: correlations}}: a bar a method in each group."""
    axes = figure.subplots()
    methods = list(next(iter(found.values())))
    for place, (colour, method) in enumerate(zip(COLOURS, methods, strict=False)):
        means = [np.mean(rows[method]) for rows in found.values()]
        errors = [np.std(rows[method], ddof=1) for rows in found.values()]
        at = np.arange(len(found)) + 0.25 * place
        axes.bar(at, means, 0.22, yerr=errors, color=colour, capsize=3, label=method)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xticks=np.arange(len(found)) + 0.25, xticklabels=list(found), ylim=(-0.3, 1.4))
    axes.set(ylabel="rank correlation", xlabel="part with random weights")
    axes.legend(fontsize=8, loc="upper center", ncols=len(methods))


def draw_shortcut(
    figure: Figure,
    image: torch.Tensor,
    heats: dict[str, torch.Tensor],
    found: dict[str, dict[str, list[float]]],
) -> None:
    """(1, H, W), {training: (H, W)}, results: mean heat of each training, accuracies below."""
    top = max(float(heat.max()) for heat in heats.values())
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.1))
    panels = upper.subplots(1, 1 + len(heats))
    plot.image(panels[0], image, "face with mark")
    for axes, (name, heat) in zip(panels[1:], heats.items(), strict=True):
        axes.imshow(heat.numpy(), cmap="magma", vmin=0, vmax=top)
        axes.set(xticks=[], yticks=[], title=name)
    left, middle, right = lower.subplots(1, 3)
    for axes, measure, title in (
        (left, "clean", "accuracy, no marks"),
        (middle, "mark on the others", "accuracy, non-faces marked"),
        (right, "share in the mark", "heat in the mark, share"),
    ):
        values = {name: rows[measure] for name, rows in found.items()}
        _draw_rows(axes, values, title, named=axes is left)
        axes.set(xlim=(0, 1.05), xticks=(0, 0.5, 1))


# --- fairness -----------------------------------------------------------------------------------------------


def draw_criteria(
    figure: Figure,
    scores: torch.Tensor,
    labels: torch.Tensor,
    groups: torch.Tensor,
    first: float,
    second: float,
) -> None:
    """Scores, labels, groups, a threshold for each of two groups: who is selected, and the three gaps."""
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    for group, (threshold, colour) in enumerate(((first, plot.BLUE), (second, plot.ORANGE))):
        values = scores[groups == group].numpy()
        left.hist(values, np.linspace(0, 1, 26), color=colour, alpha=0.5, label=f"group {group}")
        left.axvline(threshold, color=colour, linewidth=2)
    left.set(xlabel="score; the lines are the thresholds", ylabel="people")
    left.legend()
    decisions = fairness.decide(scores, groups, {0: first, 1: second})
    gaps = fairness.criteria_gaps(fairness.rates_by_group(decisions, labels, groups))
    accuracy = (decisions.long() == labels).double().mean().item()
    names = [*(f"gap: {name}" for name in gaps), "accuracy"]
    values = [*gaps.values(), accuracy]
    right.barh(range(4), values, color=[plot.ORANGE] * 3 + [plot.GREEN])
    for row, value in enumerate(values):
        text = "no one" if np.isnan(value) else f"{value:.2f}"
        right.annotate(text, (0 if np.isnan(value) else value, row), va="center")
    right.set(yticks=range(4), yticklabels=names, xlim=(0, 1.15))
    right.invert_yaxis()


def draw_costs(figure: Figure, found: dict[str, dict[str, list[float]]]) -> None:
    """{criterion: {measure: one a draw}}: a panel a measure."""
    measures = list(next(iter(found.values())))
    panels = figure.subplots(1, len(measures))
    for axes, measure in zip(panels, measures, strict=True):
        title = measure if measure == "accuracy" else f"gap: {measure}"
        values = {name: rows[measure] for name, rows in found.items()}
        _draw_rows(axes, values, title, named=axes is panels[0])


def draw_cameras(
    figure: Figure,
    found: dict[str, dict[float, list[float]]],
    scores: torch.Tensor,
    labels: torch.Tensor,
    groups: torch.Tensor,
) -> None:
    """{camera: {share: accuracies}}, scores of one network: accuracy by group, ROC curve by group."""
    left, right = figure.subplots(1, 2)
    _draw_lines(left, found)
    left.set(xlabel="share of camera B in the training set", ylabel="accuracy", ylim=(0.5, 1.0))
    left.legend(loc="lower right")
    for group, (name, colour) in enumerate(zip(found, COLOURS, strict=False)):
        own = groups == group
        false, true, cuts = roc_curve(labels[own].numpy(), scores[own].numpy())
        right.plot(false, true, color=colour, label=name)
        half = np.abs(cuts - 0.5).argmin()
        right.plot(false[half], true[half], "o", color=colour)
    right.set(xlabel="false positive rate", ylabel="true positive rate")
    right.legend(loc="lower right")


# --- data quality -------------------------------------------------------------------------------------------


def draw_noise(figure: Figure, kinds: dict[str, dict[str, dict[float, list[float]]]]) -> None:
    """{kind of error: {classifier: {share: accuracies}}}: a panel a kind."""
    panels = figure.subplots(1, len(kinds), sharey=True)
    for axes, (kind, found) in zip(panels, kinds.items(), strict=True):
        _draw_lines(axes, found)
        axes.set(xlabel="share of wrong labels", title=kind, ylim=(0, 1.02))
    panels[0].set_ylabel("accuracy on right labels")
    panels[0].legend(fontsize=8, loc="lower left")


def draw_cleaning(
    figure: Figure, finders: dict[str, dict[str, list[float]]], accuracies: dict[str, list[float]]
) -> None:
    """{finder: {"precision", "recall"}}, {training set: accuracies}"""
    left, right = figure.subplots(1, 2)
    for colour, (name, rows) in zip(COLOURS, finders.items(), strict=False):
        left.plot(rows["recall"], rows["precision"], "o", color=colour, label=name)
    left.set(xlabel="recall of planted errors", ylabel="precision", xlim=(0, 1.05), ylim=(0, 1.05))
    left.legend(fontsize=7, loc="center left", bbox_to_anchor=(0.08, 0.4))
    _draw_rows(right, accuracies, "accuracy of 1 nearest neighbour")


def draw_imbalance(figure: Figure, found: dict[str, dict[str, list[float]]]) -> None:
    """{method: {measure: values}}: a panel a measure."""
    measures = list(next(iter(found.values())))
    panels = figure.subplots(1, len(measures))
    for axes, measure in zip(panels, measures, strict=True):
        values = {name: rows[measure] for name, rows in found.items()}
        _draw_rows(axes, values, measure, named=axes is panels[0])
        axes.set_xlim(-0.05, 1.05)
