"""Chapter 7a: what a convolution costs, the sizes of models, the roofline, rounded and pruned weights, the
frames of a camera, two budgets.
"""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from torch import nn

from vlmbook import plot
from vlmbook.compression import (
    LayerCost,
    Machine,
    dequantise,
    prune_magnitude,
    quantise,
    sparse_bytes,
    sparsity,
)

BUDGET = 33.0  # milliseconds: 30 frames a second

# --- drawings of the ideas ----------------------------------------------------------------------------------


def draw_window(figure: Figure) -> None:
    """One output of a convolution: 9·C multiplications and additions; the output has D·H·W of them."""
    axes = figure.subplots()
    _draw_block(axes, 0.0, 6, 7, 2, plot.BLUE, "input\nC = 2 channels")
    _draw_block(axes, 16.0, 4, 5, 4, plot.GREEN, "output\nD = 4 channels, 4×5")
    for row in range(3):
        for column in range(3):
            axes.add_patch(
                Rectangle((1 + column, 2 + row), 1, 1, facecolor=plot.ORANGE, edgecolor="white", alpha=0.8)
            )
    axes.add_patch(Rectangle((17.0, 2), 1, 1, facecolor=plot.ORANGE, edgecolor="white"))
    axes.add_patch(_arrow((4.3, 3.5), (16.9, 2.5)))
    axes.annotate(
        "3·3·2 = 18 multiply-adds\nfor one output", (11.9, 4.3), ha="center", va="bottom", fontsize=9
    )
    axes.annotate("4·4·5 = 80 outputs\nso 18 × 80 = 1,440", (11.9, 1.6), ha="center", va="top", fontsize=9)
    axes.set(xlim=(-0.5, 22.5), ylim=(-2.4, 7.5), aspect="equal")
    axes.axis("off")


def _draw_block(axes, left, height, width, depth, colour, text):
    for layer in reversed(range(depth)):
        shift = 0.25 * layer
        for row in range(height):
            for column in range(width):
                axes.add_patch(
                    Rectangle(
                        (left + column + shift, row + shift),
                        1,
                        1,
                        facecolor="white" if layer else "#E6F0F8",
                        edgecolor=colour,
                        linewidth=0.6,
                    )
                )
    axes.annotate(text, (left + width / 2, -0.3), ha="center", va="top", fontsize=9)


def _arrow(start, end):
    return FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=10, color="0.35", shrinkA=0, shrinkB=0
    )


def draw_separable(figure: Figure, full: int, depthwise: int, pointwise: int) -> None:
    """Multiply-adds of the full convolution and of the two parts that replace it: boxes and their shares."""
    top, bottom = figure.subplots(2, 1, height_ratios=(1.5, 1))
    boxes = {
        0.0: ("C channels", "#E6F0F8"),
        2.0: ("one 3×3 kernel\na channel", "#FBE7DA"),
        4.0: ("1×1 over\nall channels", "#DDF1EA"),
        6.0: ("D channels", "#E6F0F8"),
    }
    for x, (text, colour) in boxes.items():
        top.add_patch(FancyBboxPatch((x, 0), 1.3, 0.8, boxstyle="round,pad=0.04", facecolor=colour))
        top.annotate(text, (x + 0.65, 0.4), ha="center", va="center", fontsize=9)
        if x:
            top.add_patch(_arrow((x - 0.62, 0.4), (x - 0.06, 0.4)))
    top.set(xlim=(-0.2, 7.6), ylim=(-0.15, 0.95))
    top.axis("off")
    bottom.barh(1, full / 1e6, color=plot.BLUE)
    bottom.barh(0, depthwise / 1e6, color=plot.ORANGE)
    bottom.barh(0, pointwise / 1e6, left=depthwise / 1e6, color=plot.GREEN)
    bottom.annotate(
        f" {full / (depthwise + pointwise):.1f} times less", ((depthwise + pointwise) / 1e6, 0), va="center"
    )
    bottom.set(yticks=[0, 1], yticklabels=["separable", "full 3×3"], xlabel="multiply-adds, M")


# --- models that are counted --------------------------------------------------------------------------------


def draw_layers(figure: Figure, costs: Sequence[LayerCost], title: str = "") -> None:
    """Layers with weights in the order of the calls: parameters above, multiply-adds below."""
    costs = [cost for cost in costs if cost.macs]
    colours = [plot.ORANGE if cost.kind == "Linear" else plot.BLUE for cost in costs]
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.bar(range(len(costs)), [cost.parameters / 1e6 for cost in costs], color=colours)
    bottom.bar(range(len(costs)), [cost.macs / 1e9 for cost in costs], color=colours)
    top.set(ylabel="parameters, M", title=title)
    bottom.set(ylabel="multiply-adds, G", xlabel="layer (blue: convolution, orange: linear)")


def draw_sizes(figure: Figure, sizes: dict[str, tuple[int, float, bool]]) -> None:
    """{name: (year, parameters, counted here)}: a logarithmic axis; full dots were counted, open ones are
    cited. The band is "millions to hundreds of millions".
    """
    axes = figure.subplots()
    axes.axhspan(1e6, 1e9, color=plot.GREY, alpha=0.2, linewidth=0)
    left = {"ViT-H/14", "Swin V2-G", "Flamingo", "VGG-16", "ResNet-50", "MobileNet-V2", "ViT-B/16"}
    for name, (year, parameters, counted) in sizes.items():
        face = plot.BLUE if counted else "white"
        axes.plot(year, parameters, "o", color=plot.BLUE, markerfacecolor=face)
        side = ("right", -6) if name in left else ("left", 6)
        axes.annotate(
            name,
            (year, parameters),
            (side[1], 0),
            textcoords="offset points",
            ha=side[0],
            va="center",
            fontsize=8,
        )
    axes.set(yscale="log", xlim=(1996, 2030), ylim=(2e4, 4e11), xlabel="year", ylabel="parameters")
    axes.annotate("the book's range", (1996.6, 6e8), va="top", fontsize=8, color="0.3")


def draw_batch(
    figure: Figure,
    memory: dict[str, float],
    times: dict[int, float],
    batch: int = 32,
) -> None:
    """{"state", "saved"} bytes of training, {batch size: seconds of a batch}: memory at this batch size, and
    the time of an image against the time that the first image waits.
    """
    left, right = figure.subplots(1, 2)
    state, saved = memory["state"] / 1e9, batch * memory["saved"] / 1e9
    left.barh(["saved for\nbackward", "weights,\nAdam"], [saved, state], color=[plot.ORANGE, plot.BLUE])
    left.set(xlabel="GB to train ResNet-50", xlim=(0, max(1.0, 1.15 * saved)), title=f"batch of {batch}")
    sizes = np.array(list(times))
    seconds = np.array(list(times.values()))
    nearest = int(np.abs(sizes - batch).argmin())
    right.plot(sizes, 1000 * seconds / sizes, "o-", color=plot.BLUE, label="time for each image")
    right.plot(sizes, 1000 * seconds, "s--", color=plot.ORANGE, label="until the batch is done")
    right.axvline(sizes[nearest], color=plot.GREY, linewidth=6, alpha=0.35, zorder=0)
    right.set(xscale="log", yscale="log", xlabel="batch size", ylabel="ms", title="ResNet-20, inference")
    right.set_xticks(sizes, [str(size) for size in sizes])
    right.minorticks_off()
    right.legend(fontsize=8)


def draw_roofline(
    figure: Figure, memory: Machine, cache: Machine, layers: dict[str, dict[str, float]]
) -> None:
    """The limits of the machine with the bandwidth of its memory and of its cache, and where layers lie."""
    axes = figure.subplots()
    x = np.geomspace(0.1, 1000, 200)
    peak = max(memory.peak, cache.peak)
    axes.plot(x, np.minimum(peak, x * memory.bandwidth) / 1e9, color="black", label="limit, memory")
    axes.plot(x, np.minimum(peak, x * cache.bandwidth) / 1e9, "--", color="black", label="limit, cache")
    for (name, row), marker in zip(layers.items(), "os^Dv", strict=False):
        axes.plot(row["intensity"], row["reached"] / 1e9, marker, label=name, markersize=7)
    highest = max(peak, *(row["reached"] for row in layers.values())) / 1e9
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(0.1, 1000),
        ylim=(0.1 * memory.bandwidth / 1e9, 8 * highest),
        xlabel="FLOPs for each byte (intensity)",
        ylabel="GFLOPs a second",
    )
    axes.annotate("← memory limits", (0.03, 0.96), xycoords="axes fraction", va="top", fontsize=9)
    place = {"xycoords": "axes fraction", "ha": "right", "va": "top", "fontsize": 9}
    axes.annotate("arithmetic limits →", (0.97, 0.96), **place)
    axes.legend(fontsize=8, loc="lower right")


# --- rounded and pruned weights -----------------------------------------------------------------------------


def draw_rounding(figure: Figure, w: torch.Tensor, bits: int = 3) -> None:
    """(N,) weights: the grid of numbers of so many bits, and where each weight goes."""
    axes = figure.subplots()
    q = quantise(w, bits)
    scale, largest = q.scale.item(), 2 ** (bits - 1) - 1
    grid = scale * np.arange(-largest, largest + 1)
    axes.hlines(0, grid[0], grid[-1], color=plot.GREY, linewidth=1)
    axes.plot(grid, np.zeros(len(grid)), "|", color="black", markersize=16)
    for step, value in zip(range(-largest, largest + 1), grid, strict=True):
        if bits <= 4:
            axes.annotate(f"{step}", (value, -0.35), ha="center", va="top", fontsize=8)
    for value, rounded in zip(w.tolist(), dequantise(q).tolist(), strict=True):
        axes.plot(value, 1, "o", color=plot.BLUE)
        axes.plot([value, rounded], [1, 0.15], color=plot.BLUE, linewidth=1)
        axes.annotate(f"{value:g}", (value, 1.15), ha="center", va="bottom", fontsize=8)
    axes.set(ylim=(-0.9, 1.8), yticks=[], title=f"{bits} bits: s = {scale:.3g}, error at most s/2")
    axes.set_xlabel("weight (below the line: q)")


def draw_bits(
    figure: Figure, photograph: torch.Tensor, weights: torch.Tensor, accuracy: dict, bits: int = 4
) -> None:
    """(C, H, W), (N,) weights of a layer, {per channel: {bits: accuracy}}: a photograph and weights of so
    many bits, and what the network loses.
    """
    panels = figure.subplots(1, 3, width_ratios=(1, 1.2, 1.2))
    steps = 2**bits - 1
    plot.image(panels[0], (steps * photograph).round() / steps, f"pixels of {bits} bits")
    rounded = dequantise(quantise(weights, bits))
    panels[1].hist(weights.numpy(), 60, color=plot.GREY, alpha=0.6, label="float32")
    edges = rounded.unique()
    counts = [(rounded == edge).sum().item() for edge in edges] if len(edges) < 40 else []
    if counts:
        height = panels[1].get_ylim()[1]
        panels[1].bar(
            edges.numpy(),
            np.array(counts) / max(counts) * height,
            width=0.012,
            color=plot.ORANGE,
            alpha=0.9,
            label="rounded",
        )
        panels[1].legend(fontsize=7, loc="upper left")
    panels[1].set(title=f"weights: {len(edges)} values", yticks=[], xlabel="weight")
    for name, style in (("per tensor", "s--"), ("per channel", "o-")):
        values = accuracy[name]
        panels[2].plot(list(values), [100 * each for each in values.values()], style, label=name)
    panels[2].axvline(bits, color=plot.GREY, linewidth=6, alpha=0.35, zorder=0)
    panels[2].set(xlabel="bits of the weights", ylabel="accuracy, %", ylim=(0, 103))
    panels[2].legend(fontsize=8, loc="lower right")


def draw_sparsity(
    figure: Figure, network: nn.Module, layer: str, accuracy: dict[float, float], share: float = 0.75
) -> None:
    """Network, name of a convolution, {share: accuracy}: the weights of the layer with zeros, the bytes, the
    accuracy without further training.
    """
    pruned = prune_magnitude(network, share)
    weights = pruned.get_submodule(layer).weight.detach()[:12, :12]
    grid = weights.permute(0, 2, 1, 3).reshape(weights.shape[0] * weights.shape[2], -1)
    panels = figure.subplots(1, 3, width_ratios=(1.1, 1, 1.2))
    plot.image(panels[0], (grid == 0).float(), f"white: {sparsity(pruned):.0%} zeros")
    dense, sparse = sparse_bytes(network) / 1000, sparse_bytes(pruned) / 1000
    panels[1].bar(["dense", "sparse"], [dense, sparse], color=[plot.GREY, plot.BLUE])
    panels[1].set(ylabel="kB", title="storage")
    panels[2].plot(
        [100 * each for each in accuracy], [100 * each for each in accuracy.values()], "o-", color=plot.BLUE
    )
    panels[2].axvline(100 * share, color=plot.GREY, linewidth=6, alpha=0.35, zorder=0)
    panels[2].set(xlabel="weights that are 0, %", ylabel="accuracy, %", ylim=(0, 103))


def draw_pruning(
    figure: Figure, table: dict[str, dict[str, list[list[float]]]], shares: Sequence[float]
) -> None:
    """{method: {step: accuracy, a list a seed}}: mean and standard deviation over the seeds."""
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (method, steps) in zip(panels, table.items(), strict=True):
        for (step, rows), style in zip(steps.items(), ("s:", "^--", "o-"), strict=True):
            values = 100 * np.array(rows)
            axes.errorbar(
                [100 * share for share in shares],
                values.mean(0),
                yerr=values.std(0, ddof=1),
                fmt=style,
                capsize=3,
                label=step,
            )
        axes.set(title=f"pruned by {method}", xlabel="taken away, %", ylim=(0, 104))
    panels[0].set_ylabel("accuracy, %")
    panels[0].legend(fontsize=8, loc="lower left")


# --- time ---------------------------------------------------------------------------------------------------


def draw_percentiles(figure: Figure, times: dict[str, tuple[float, float]]) -> None:
    """{name: (p50, p95) in milliseconds}: a bar to the median, a line to the 95th percentile."""
    axes = figure.subplots()
    rows = np.arange(len(times))[::-1]
    for row, (p50, p95) in zip(rows, times.values(), strict=True):
        axes.barh(row, p50, color=plot.BLUE, height=0.55)
        axes.plot([p50, p95], [row, row], color=plot.ORANGE, linewidth=3)
        axes.annotate(f" p50 {p50:.3g}, p95 {p95:.3g}", (max(p50, p95), row), va="center", fontsize=8)
    axes.set(yticks=rows, yticklabels=list(times), xlabel="ms (bar: p50, orange line: to p95)")
    axes.set_xlim(0, 1.35 * max(p95 for _, p95 in times.values()))


def draw_frames(figure: Figure, totals: dict[str, list[float]], pictures: Sequence[torch.Tensor]) -> None:
    """{name: seconds of each frame}, some frames: the frames, the time of each, and the budget."""
    grid = figure.add_gridspec(2, len(pictures), height_ratios=(1, 2))
    for column, picture in enumerate(pictures):
        plot.image(figure.add_subplot(grid[0, column]), picture)
    axes = figure.add_subplot(grid[1, :])
    for (name, seconds), colour in zip(totals.items(), (plot.BLUE, plot.ORANGE), strict=False):
        p95 = 1000 * float(np.percentile(seconds, 95, method="inverted_cdf"))
        axes.plot(1000 * np.array(seconds), ".-", color=colour, label=f"{name}: p95 {p95:.3g} ms")
    axes.axhline(BUDGET, color="black", linestyle="--")
    axes.annotate("33 ms", (1.01, BUDGET), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    highest = max(BUDGET, 1000 * max(map(max, totals.values())))
    axes.set(xlabel="frame", ylabel="ms", ylim=(0, 1.4 * highest))
    axes.legend(fontsize=8, loc="upper right")


# --- two budgets, the result --------------------------------------------------------------------------------


def draw_budgets(
    figure: Figure, accuracy: dict[str, dict[int, list[float]]], kilobytes: dict[str, float]
) -> None:
    """{backbone: {labels a class: accuracy, a value a draw}}, {backbone: kB}: what labels buy, and what they
    do not change.
    """
    left, right = figure.subplots(1, 2)
    markers = ("o-", "s--", "^:")
    apart = (0.94, 1.0, 1.06)  # so that no error bar hides another
    for (name, by_shots), style, shift in zip(accuracy.items(), markers, apart, strict=False):
        shots = list(by_shots)
        values = [np.array(each) for each in by_shots.values()]
        left.errorbar(
            [shift * each for each in shots],
            [100 * each.mean() for each in values],
            yerr=[100 * each.std(ddof=1) for each in values],
            fmt=style,
            capsize=3,
            label=name,
        )
        right.plot(shots, [kilobytes[name]] * len(shots), style, label=name)
    for axes in (left, right):
        axes.set(xscale="log", xlabel="labels for each new class")
        axes.set_xticks(shots, [str(each) for each in shots])
        axes.minorticks_off()
    left.set(ylabel="accuracy, %", title="label budget")
    right.set(ylabel="kB of the network", title="memory budget", ylim=(0, 1.25 * max(kilobytes.values())))
    left.legend(fontsize=8, loc="lower right")


def draw_result(
    figure: Figure, points: dict[str, tuple[float, float, float]], label: str = "accuracy"
) -> None:
    """{name: (kB, p50 in ms, share)}: size and time of each network, its share written beside."""
    axes = figure.subplots()
    colours = (plot.BLUE, plot.ORANGE, plot.GREEN, plot.GREY, "#CC79A7")
    for (name, (size, time, share)), colour in zip(points.items(), colours, strict=False):
        axes.plot(size, time, "o", color=colour, markersize=11, label=f"{name}: {share:.1%}")
    axes.set(
        xlabel="size of the file, kB",
        ylabel="ms for 360 images, median",
        ylim=(0, 1.3 * max(time for _, time, _ in points.values())),
    )
    axes.set_xlim(0, 1.1 * max(size for size, _, _ in points.values()))
    axes.legend(title=label, fontsize=8, title_fontsize=8, loc="lower right")
