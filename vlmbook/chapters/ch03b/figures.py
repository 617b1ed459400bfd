"""Chapter 3b: loss by depth, blocks and network, signals and gradients before any learning, a residual block
taken apart, and what a prediction depends on.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vlmbook import plot
from vlmbook.chapters.ch03b.experiments import measure_signals, occlude, trace_blocks
from vlmbook.resnet import ResNet

COLOURS = {"plain20": plot.ORANGE, "plain56": plot.ORANGE, "resnet20": plot.BLUE, "resnet56": plot.BLUE}


def draw_degradation(figure: Figure, losses: dict[str, list[list[float]]]) -> None:
    """{name: seeds × epochs of training loss} -> the plain networks beside the residual ones: mean, and a
    line a seed.
    """
    plain, residual = figure.subplots(1, 2, sharey=True)
    for panel, kind in ((plain, "plain"), (residual, "resnet")):
        runs_of_kind = {name: np.asarray(runs) for name, runs in losses.items() if kind in name}
        ends = {name: runs[:, -1].mean() for name, runs in runs_of_kind.items()}
        for name, runs in runs_of_kind.items():
            _draw_runs(panel, name, runs, above=ends[name] == max(ends.values()))
    epochs = np.arange(1, 1 + len(next(iter(losses.values()))[0]))
    for panel in (plain, residual):
        panel.set(xlabel="epoch", xticks=epochs, xlim=(0.9, 1.17 * epochs[-1]), yscale="log")
    plain.set(title="plain: the deeper one hardly learns", ylabel="training loss, nats")
    residual.set_title("residual: both learn")


def _draw_runs(axes, name, runs, above):
    """A thin line a seed, a thick one for their mean, with the depth above or below its end."""
    epochs = np.arange(1, runs.shape[1] + 1)
    mean = runs.mean(0)
    style = {"color": COLOURS[name], "linestyle": "-" if "56" in name else "--"}
    axes.plot(epochs, runs.T, linewidth=0.8, alpha=0.5, **style)
    axes.plot(epochs, mean, linewidth=2.5, **style)
    axes.annotate(
        f"{name[-2:]} layers",
        (epochs[-1], mean[-1]),
        (5, 1 if above else -1),
        textcoords="offset points",
        va="bottom" if above else "top",
        annotation_clip=False,
        color=COLOURS[name],
    )


def draw_rates(figure: Figure, losses: dict[str, dict[str, list[float]]]) -> None:
    """{learning rate: {name: loss of each seed}} -> a row a network, a panel a rate: dots are seeds."""
    panels = figure.subplots(1, len(losses), sharex=True, sharey=True)
    for panel, (rate, runs) in zip(panels, losses.items(), strict=True):
        for row, (name, values) in enumerate(reversed(runs.items())):
            panel.plot(values, [row] * len(values), "o", color=COLOURS[name], alpha=0.7)
        panel.set(xscale="log", title=f"learning rate {rate}", yticks=range(len(runs)))
        panel.set_ylim(-0.6, len(runs) - 0.4)
        panel.set_yticklabels(reversed(runs))
        panel.grid(axis="y", alpha=0.4)
    panels[len(panels) // 2].set_xlabel("final training loss, nats")


# --- drawings of the architecture ---------------------------------------------------------------------------

PLAIN_LAYERS = ("3×3 conv", "BN", "ReLU", "3×3 conv", "BN")
BOTTLENECK_LAYERS = (
    "1×1 conv, 256→64",
    "BN, ReLU",
    "3×3 conv, 64→64",
    "BN, ReLU",
    "1×1 conv, 64→256",
    "BN",
)


def draw_kinds(figure: Figure) -> None:
    """The plain block, the residual block and the bottleneck block, layer by layer."""
    kinds = (
        ("plain block", PLAIN_LAYERS, False),
        ("residual block", PLAIN_LAYERS, True),
        ("bottleneck block", BOTTLENECK_LAYERS, True),
    )
    for axes, (title, layers, skip) in zip(figure.subplots(1, 3), kinds, strict=True):
        last = len(layers) + 1  # the row of the addition
        rows = [0.85 * row for row in range(last + 2)]
        _draw_step(axes, rows[0], "x", plot.GREY)
        for row, layer in enumerate(layers, start=1):
            _draw_step(axes, rows[row], layer, plot.BLUE)
        if skip:
            _draw_step(axes, rows[last], "+", plot.ORANGE)
        _draw_step(axes, rows[last + 1], "ReLU", plot.BLUE)
        drawn = rows if skip else [*rows[:last], rows[last + 1]]
        for above, below in pairwise(drawn):
            axes.annotate("", (0, below - 0.25), (0, above + 0.25), arrowprops={"arrowstyle": "-|>"})
        if skip:
            _draw_bypass(axes, rows[0], rows[last])
            middle = (rows[1] + rows[last - 1]) / 2
            axes.plot([-1.35, -1.5, -1.5, -1.35], np.repeat([rows[1], rows[last - 1]], 2), color=plot.BLUE)
            axes.text(-1.6, middle, "F(x)", ha="right", va="center", color=plot.BLUE)
        axes.set(xlim=(-2.1, 2.6), ylim=(rows[-1] + 0.5, -0.5))
        axes.set_title(title, loc="center")
        axes.axis("off")


def _draw_step(axes, row, label, colour):
    box = {"boxstyle": "round,pad=0.25", "edgecolor": colour, "facecolor": "white", "linewidth": 1.4}
    axes.text(0, row, label, ha="center", va="center", fontsize=8, bbox=box, zorder=3)


def _draw_bypass(axes, start, end):
    axes.plot([0.2, 2, 2], [start, start, end], color=plot.ORANGE, linewidth=2)
    axes.annotate(
        "",
        (0.25, end),
        (2.03, end),
        arrowprops={"arrowstyle": "-|>", "color": plot.ORANGE, "linewidth": 2},
    )
    axes.text(2.15, (start + end) / 2, "shortcut: x", color=plot.ORANGE, rotation=270, va="center")


def draw_network(figure: Figure, height: int = 28, width: int = 28, blocks: int = 3) -> None:
    """The small ResNet from the image to the logits: a box a part, labelled with shapes; arcs are shortcuts,
    dashed where the size changes.
    """
    axes = figure.subplots()
    sizes = [(height, width)]
    for _ in range(2):
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    parts = ["image", "conv\nBN\nReLU", *["block"] * 3 * blocks, "mean", "linear"]
    for number, name in enumerate(parts):
        colour = plot.BLUE if name == "block" else plot.GREY
        box = {"boxstyle": "round,pad=0.3", "edgecolor": colour, "facecolor": "white", "linewidth": 1.4}
        axes.text(number, 0, name, ha="center", va="center", fontsize=7.5, bbox=box, zorder=3)
        if number:
            axes.annotate("", (number - 0.3, 0), (number - 0.7, 0), arrowprops={"arrowstyle": "-|>"})
        if name == "block":
            resized = number in (2 + blocks, 2 + 2 * blocks)
            arrow = {"arrowstyle": "-|>", "color": plot.ORANGE, "linewidth": 1.6}
            arrow |= {"linestyle": "--" if resized else "-", "connectionstyle": "arc3,rad=-0.8"}
            axes.annotate("", (number + 0.48, 0.12), (number - 0.52, 0.12), arrowprops=arrow)
    axes.text(0, -0.75, f"1×{height}×{width}", ha="center", va="top", fontsize=8)
    for stage, (rows, columns) in enumerate(sizes):
        first = 2 + stage * blocks
        ends = [first - 0.35 - (stage == 0), first + blocks - 0.65]
        axes.plot(ends, [-0.62, -0.62], color=plot.BLUE, linewidth=1.4)
        shape = f"{16 * 2**stage}×{rows}×{columns}"
        axes.text(sum(ends) / 2, -0.75, shape, ha="center", va="top", fontsize=8)
    axes.text(len(parts) - 2, -0.75, "64", ha="center", va="top", fontsize=8)
    axes.text(len(parts) - 1, -0.75, "10 logits", ha="center", va="top", fontsize=8)
    axes.set(xlim=(-0.6, len(parts) - 0.3), ylim=(-1.1, 0.9))
    axes.axis("off")


# --- before any learning ------------------------------------------------------------------------------------

WAYS = {  # name: skip, norm, colour, line
    "plain": (False, False, plot.ORANGE, "-"),
    "residual": (True, False, plot.BLUE, "-"),
    "plain + BN": (False, True, plot.ORANGE, ":"),
    "residual + BN": (True, True, plot.BLUE, ":"),
}


def draw_signals(figure: Figure, depth: int = 56, seed: int = 0) -> None:
    """Three panels, from the image on: how large are the outputs of the blocks, the gradients of the loss
    that come back to these outputs, and the gradients of the weights, before any learning?
    """
    panels = figure.subplots(1, 3)
    for name, (skip, norm, colour, line) in WAYS.items():
        signals = measure_signals(depth, skip, norm, seed)
        for panel, values in zip(panels, signals, strict=True):
            panel.plot(range(1, len(values) + 1), values, line, color=colour, label=name)
    titles = ("‖h‖, forward →", "‖∂L/∂h‖, ← backward", "‖∂L/∂W‖")
    for panel, title, xlabel in zip(panels, titles, ("block", "block", "convolution"), strict=True):
        panel.set(yscale="log", title=title, xlabel=xlabel)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(WAYS))


# --- inside a trained network -------------------------------------------------------------------------------


def draw_block(figure: Figure, net: ResNet, images: Tensor, image: int = 0, block: int = 2) -> None:
    """One block on one image: its input, F(x), their sum, its output, of the channel in which F(x) is
    largest; and how much F adds in each block.
    """
    traced = trace_blocks(net, images[[image]])
    shortcut, residual, out = traced[block - 1]
    channel = residual[0].square().sum((1, 2)).argmax().item()
    limit = max(shortcut[0, channel].abs().max(), residual[0, channel].abs().max()).item()
    panels = figure.subplots(1, 6, width_ratios=(1, 1, 1, 1, 1, 1.4))
    plot.image(panels[0], images[image], "image")
    sums = {
        f"x, channel {channel}": shortcut,
        "F(x)": residual,
        "F(x) + x": shortcut + residual,
        "relu(F(x) + x)": out,
    }
    for panel, (title, x) in zip(panels[1:], sums.items(), strict=False):
        plot.signed(panel, x[0, channel], title, limit=limit)
    ratios = [(residual.norm() / shortcut.norm()).item() for shortcut, residual, _ in traced]
    numbers = range(1, len(ratios) + 1)
    colours = [plot.ORANGE if number == block else plot.GREY for number in numbers]
    panels[5].bar(numbers, ratios, color=colours)
    panels[5].axhline(1, color="black", linewidth=0.8)
    panels[5].set(title="‖F(x)‖ / ‖x‖ by block", xticks=numbers, ylim=(0, 1.05 * max(*ratios, 1)))


@torch.no_grad()
def draw_occlusion(
    figure: Figure,
    net: ResNet,
    images: Tensor,
    labels: Tensor,
    names: Sequence[str],
    image: int = 0,
    size: int = 9,
) -> None:
    """What the prediction depends on: the probability of the right class when a square is covered, by its
    position.
    """
    x = images[[image]]
    label = labels[image].item()
    whole = net(x).softmax(1)[0, label]
    covered = occlude(x, size)
    p = net(covered).softmax(1)
    right = p[:, label]
    panels = figure.subplots(1, 4, width_ratios=(1, 1.3, 1, 1))
    plot.image(panels[0], x[0], f"{names[label]}, p = {whole:.2f}")
    shown = panels[1].imshow(right.view(x.shape[2:]).numpy(), cmap="viridis", vmin=0, vmax=1)
    panels[1].set(xticks=[], yticks=[], title="p by square's position")
    figure.colorbar(shown, ax=panels[1], shrink=0.8)
    extremes = {"smallest p": right.argmin(), "largest p": right.argmax()}
    for panel, (name, position) in zip(panels[2:], extremes.items(), strict=True):
        predicted = p[position].argmax().item()
        plot.image(panel, covered[position], f"{name}: {names[predicted]}")


@torch.no_grad()
def draw_maps(figure: Figure, net: ResNet, image: Tensor, columns: int = 6) -> None:
    """ResNet, (1, C, H, W): the image, and of the stem and each stage the channels that differ most over it,
    each on its own scale.
    """
    maps = dict(zip(["stem", *net.stages], net.features(image), strict=True))
    panels = figure.subplots(len(maps), columns + 1)
    for row, (name, stage) in zip(panels, maps.items(), strict=True):
        row[0].axis("off")
        size = "×".join(str(side) for side in stage.shape[2:])
        row[0].text(0.5, 0.5, f"{name}\n{size}", ha="center", va="center")
        channels = stage[0].flatten(1).std(1).topk(columns).indices.tolist()
        for panel, channel in zip(row[1:], channels, strict=True):
            plot.image(panel, stage[0, channel] / stage[0, channel].max())
    panels[0, 0].clear()
    plot.image(panels[0, 0], image[0], "the input")
    rows, columns = maps["stem"].shape[2:]
    panels[0, 0].text(
        0.5, -0.05, f"stem {rows}×{columns}", transform=panels[0, 0].transAxes, ha="center", va="top"
    )


def draw_cuts(figure: Figure, cut: dict[str, list[dict[int, float]]], whole: dict[str, list[float]]) -> None:
    """{name: [{block: accuracy without it}, … a seed]}, {name: accuracy of all, a seed} -> a line a network:
    mean ± standard deviation over the seeds.
    """
    axes = figure.subplots()
    for shift, (name, seeds) in enumerate(cut.items()):
        values = np.array([list(each.values()) for each in seeds])
        axes.errorbar(
            np.array(list(seeds[0])) + 0.12 * (shift - (len(cut) - 1) / 2),
            values.mean(0),
            values.std(0, ddof=1) if len(seeds) > 1 else None,
            fmt="o--" if "fresh" in name else "o-",
            color=COLOURS[name.split(",")[0]],
            mfc="white" if "fresh" in name else None,
            markersize=4,
            capsize=2,
            label=f"{name}; intact {np.mean(whole[name.split(',')[0]]):.2f}",
        )
    axes.set(xlabel="block taken out", ylabel="accuracy, held out", ylim=(0, 1.02))
    axes.set_xticks(list(next(iter(cut.values()))[0]))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
