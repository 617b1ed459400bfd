"""Chapter 3b: loss by depth, gradients by layer, a residual block taken apart, and what a prediction depends
on.
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from vlmbook import plot
from vlmbook.chapters.ch03b.experiments import gradients_at_initialisation, occlude, trace_blocks
from vlmbook.resnet import ResNet

COLOURS = {"plain20": plot.ORANGE, "plain56": plot.ORANGE, "resnet20": plot.BLUE, "resnet56": plot.BLUE}


def draw_degradation(figure: Figure, losses: dict[str, list[list[float]]]) -> None:
    """{name: seeds × epochs of training loss} -> the plain networks beside the residual ones: mean, and a
    line a seed.
    """
    plain, residual = figure.subplots(1, 2, sharey=True)
    for name, runs in losses.items():
        _draw_runs(residual if "resnet" in name else plain, name, np.asarray(runs))
    epochs = np.arange(1, 1 + len(next(iter(losses.values()))[0]))
    for panel in (plain, residual):
        panel.set(xlabel="epoch", xticks=epochs, xlim=(0.9, 1.17 * epochs[-1]), yscale="log")
    plain.set(title="plain: the deeper one hardly learns", ylabel="training loss, nats")
    residual.set_title("residual: both learn")


def _draw_runs(axes, name, runs):
    """A thin line a seed, a thick one for their mean, with the depth at its end."""
    epochs = np.arange(1, runs.shape[1] + 1)
    mean = runs.mean(0)
    style = {"color": COLOURS[name], "linestyle": "-" if "56" in name else "--"}
    axes.plot(epochs, runs.T, linewidth=0.8, alpha=0.5, **style)
    axes.plot(epochs, mean, linewidth=2.5, **style)
    axes.annotate(
        f"{name[-2:]} layers",
        (epochs[-1], mean[-1]),
        (5, 0),
        textcoords="offset points",
        va="center",
        annotation_clip=False,
        color=COLOURS[name],
    )


def draw_gradients(figure: Figure, depth: int = 56, seed: int = 0) -> None:
    """How large is the gradient in each layer before any learning, with BatchNorm and skip and without?"""
    for panel, norm in zip(figure.subplots(1, 2, sharey=True), (False, True), strict=True):
        for skip, colour in ((False, plot.ORANGE), (True, plot.BLUE)):
            norms = gradients_at_initialisation(depth, skip, norm, seed)
            panel.plot(range(1, len(norms) + 1), norms, color=colour, label="residual" if skip else "plain")
        panel.set(yscale="log", ylim=(1e-9, 1e7), xlim=(0.5, depth), xlabel="convolution, from the image on")
        panel.set_title(f"{depth} layers, {'with' if norm else 'without'} BatchNorm")
        panel.axhline(1, color=plot.GREY, linewidth=0.8)
    panel.legend(loc="lower left")
    figure.axes[0].set_ylabel("norm of the gradient")


def draw_block(figure: Figure, net: ResNet, images: Tensor, digit: int = 0, block: int = 2) -> None:
    """One block on one digit: its input, F(x), their sum, its output; and how much F adds in each block."""
    traced = trace_blocks(net, images[[digit]])
    shortcut, residual, out = traced[block - 1]
    channel = out[0].sum((1, 2)).argmax().item()
    limit = max(shortcut[0, channel].abs().max(), residual[0, channel].abs().max()).item()
    panels = figure.subplots(1, 5, width_ratios=(1, 1, 1, 1, 1.5))
    sums = {
        f"x, channel {channel}": shortcut,
        "F(x)": residual,
        "F(x) + x": shortcut + residual,
        "relu(F(x) + x)": out,
    }
    for panel, (title, x) in zip(panels, sums.items(), strict=False):
        plot.signed(panel, x[0, channel], title, limit=limit)
    ratios = [(residual.norm() / shortcut.norm()).item() for shortcut, residual, _ in traced]
    numbers = range(1, len(ratios) + 1)
    colours = [plot.ORANGE if number == block else plot.GREY for number in numbers]
    panels[4].bar(numbers, ratios, color=colours)
    panels[4].set(title="‖F(x)‖ / ‖x‖ by block", xticks=numbers, ylim=(0, 1.05 * max(*ratios, 1)))


@torch.no_grad()
def draw_occlusion(
    figure: Figure, net: ResNet, images: Tensor, labels: Tensor, digit: int = 0, size: int = 3
) -> None:
    """What the prediction depends on: the probability of the right class when a square is covered, by its
    position.
    """
    image = images[[digit]]
    label = labels[digit].item()
    whole = net(image).softmax(1)[0, label]
    covered = occlude(image, size)
    p = net(covered).softmax(1)
    right = p[:, label]
    panels = figure.subplots(1, 4, width_ratios=(1, 1.3, 1, 1))
    plot.image(panels[0], image[0], f"a {label}, p = {whole:.2f}")
    shown = panels[1].imshow(right.view(image.shape[2:]).numpy(), cmap="viridis", vmin=0, vmax=1)
    panels[1].set(xticks=[], yticks=[], title="p by position of square")
    figure.colorbar(shown, ax=panels[1], shrink=0.8)
    extremes = {"worst": right.argmin(), "best": right.argmax()}
    for panel, (name, position) in zip(panels[2:], extremes.items(), strict=True):
        predicted = p[position].argmax().item()
        plot.image(panel, covered[position], f"{name}: a {predicted}, {p[position, predicted]:.2f}")


@torch.no_grad()
def draw_maps(figure: Figure, net: ResNet, image: Tensor, columns: int = 5) -> None:
    """ResNet, (1, C, H, W): the image, and of the stem and each stage the channels that differ most over
    it.
    """
    maps = dict(zip(["stem", *net.stages], net.features(image), strict=True))
    panels = figure.subplots(len(maps), columns + 1)
    for row, (name, stage) in zip(panels, maps.items(), strict=True):
        row[0].axis("off")
        channels = stage[0].flatten(1).std(1).topk(columns).indices.tolist()
        titles = [f"no. {channel}" for channel in channels]
        titles[0] = f"{name}, {titles[0]}"
        for panel, channel, title in zip(row[1:], channels, titles, strict=True):
            plot.signed(panel, stage[0, channel], title)
    panels[0, 0].axis("on")
    plot.image(panels[0, 0], image[0], "the input")


def draw_cuts(figure: Figure, cut: dict[str, dict[int, float]], whole: dict[str, float]) -> None:
    """{name: {block: accuracy without it}}, {name: accuracy of all} -> a line a network."""
    axes = figure.subplots()
    for name, accuracies in cut.items():
        axes.plot(
            accuracies.keys(),
            accuracies.values(),
            "o--" if name == "resnet20" else "o-",
            color=COLOURS[name],
            markersize=4,
            label=f"{name}, whole {whole[name]:.2f}",
        )
    axes.set(xlabel="block taken out", ylabel="accuracy, held out", ylim=(0, 1.02))
    axes.legend(loc="center right")
