"""Drawings of chapter 4b: the bound over one latent number, the book's diagram and the corrected one, rows of
images, the plane of codes with the decoder's images, the effect of beta, likelihoods of foreign images.
"""

from itertools import pairwise

import numpy as np
import torch
from einops import rearrange
from torch.nn import functional as F

from vlmbook import plot
from vlmbook.chapters.ch04b.experiments import (
    GRID,
    decode_grid,
    decode_means,
    decode_spreads,
    log_normal_on_grid,
    toy_bound,
    toy_posterior,
)


def draw_bound(figure, mu=0.0, sigma=1.0):
    """Prior, true posterior and q over z; beside them the ELBO under log p(x)."""
    curves, bars = figure.subplots(1, 2, width_ratios=(2, 1))
    prior, q = log_normal_on_grid(0.0, 1.0).exp(), log_normal_on_grid(mu, sigma).exp()
    curves.plot(GRID, prior, color=plot.GREY, linewidth=4, label="prior p(z)")
    curves.plot(GRID, toy_posterior(), color=plot.BLUE, label="posterior p(z | x)")
    curves.plot(GRID, q, color=plot.ORANGE, linestyle="--", label="q(z)")
    curves.set(xlim=(-4, 4), ylim=(0, 1.35), xlabel="z", ylabel="density")
    curves.legend(loc="upper left")
    log_p, elbo, gap = toy_bound(mu, sigma)
    low = min(-6.0, elbo * 1.25)
    bars.bar([0, 1], [log_p - low, elbo - low], bottom=low, color=[plot.BLUE, plot.ORANGE], width=0.6)
    bars.set(
        xticks=[0, 1],
        xticklabels=["log p(x)", "ELBO"],
        ylabel="nats",
        ylim=(low, 0),
        xlim=(-0.6, 1.6),
        title=f"gap {gap:.2f} nats",
    )


def draw_gradients(figure, sizes, variances):
    """list of Z, {name: list of variances}: how noisy one draw's gradient is, over the number of latents."""
    axes = figure.subplots()
    colours = [plot.ORANGE, plot.GREEN, plot.BLUE]
    for colour, (name, values) in zip(colours, variances.items(), strict=True):
        axes.loglog(sizes, values, "o-", color=colour, label=name)
    axes.set(xlabel="latent numbers Z", ylabel="variance of one draw", xticks=sizes, xticklabels=sizes)
    axes.minorticks_off()
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


# The boxes of the corrected diagram, by name: their positions.
NODES = {
    "x": (0, 0),
    "Enc": (0.85, 0),
    "μ, log σ²": (2.1, 0),
    "z": (3.25, 0),
    "Dec": (4.15, 0),
    "p(x | z)": (5.35, 0),
    "x'": (6.4, 0),
    "ε": (3.25, 1),
    "KL": (2.1, 1),
    "−log p(x | z)": (5.35, 1),
}
EDGES = [
    ("x", "Enc"),
    ("Enc", "μ, log σ²"),
    ("μ, log σ²", "z"),
    ("ε", "z"),
    ("z", "Dec"),
    ("Dec", "p(x | z)"),
    ("p(x | z)", "x'"),
    ("μ, log σ²", "KL"),
    ("p(x | z)", "−log p(x | z)"),
]
PRINTED = ["x", "E", "μ, σ²", "D", "x'"]


def draw_diagrams(figure):
    """Above the book's chain, below the corrected graph: random parts orange, losses green."""
    axes = figure.subplots()
    chain = {name: (1.6 * i, 2) for i, name in enumerate(PRINTED)}
    for before, after in pairwise(PRINTED):
        _draw_arrow(axes, chain[before], chain[after], before, after)
    for before, after in EDGES:
        _draw_arrow(axes, NODES[before], NODES[after], before, after)
    for name, position in chain.items():
        _draw_box(axes, name, position, plot.BLUE)
    colours = dict.fromkeys(("ε", "z", "x'"), plot.ORANGE) | dict.fromkeys(
        ("KL", "−log p(x | z)"), plot.GREEN
    )
    for name, position in NODES.items():
        _draw_box(axes, name, position, colours.get(name, plot.BLUE))
    axes.text(-0.75, 2, "printed", ha="right", va="center")
    axes.text(-0.75, 0, "corrected", ha="right", va="center")
    axes.set(xlim=(-1.7, 6.8), ylim=(-0.5, 2.5))
    axes.axis("off")


def _draw_box(axes, name, position, colour):
    box = {"boxstyle": "round", "facecolor": "white", "edgecolor": colour, "linewidth": 1.5}
    axes.text(*position, name, ha="center", va="center", bbox=box)


def _draw_arrow(axes, start, end, before, after):
    """From the edge of one box to that of the other; boxes are as wide as their names."""
    room = [8 + 3.2 * len(name) if start[1] == end[1] else 14 for name in (before, after)]
    axes.annotate(
        "",
        end,
        start,
        arrowprops=dict(arrowstyle="->", color="black", linewidth=1.2, shrinkA=room[0], shrinkB=room[1]),
    )


def draw_edges(figure, edges, predictions):
    """(N, W), {name: (W,)}: some of the edges in grey, what each loss predicts in colour."""
    axes = figure.subplots()
    for i, edge in enumerate(edges[:3]):
        axes.plot(range(len(edge)), edge, color=plot.GREY, linewidth=1, label=None if i else "three edges")
    for colour, (name, line) in zip((plot.ORANGE, plot.BLUE), predictions.items(), strict=True):
        axes.plot(range(len(line)), line, "o-", color=colour, label=name)
    axes.set(xlabel="pixel", ylabel="brightness", ylim=(-0.1, 1.1))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def draw_curves(figure, curves, baselines):
    """A list of ELBOs in bits by epoch for each seed, {name: bits}: learning curves over level lines."""
    axes = figure.subplots()
    for seed, curve in enumerate(curves):
        axes.plot(
            range(1, len(curve) + 1), curve, color=plot.BLUE, label="VAE, three seeds" if seed == 0 else None
        )
    for (name, value), style in zip(baselines.items(), ("--", ":"), strict=True):
        axes.axhline(value, color=plot.GREY, linestyle=style, label=name)
    top = max(baselines.values()) * 1.15
    axes.set(xlabel="epoch", ylabel="−ELBO, bits a pixel,\nvalidation", ylim=(None, top))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def draw_rows(figure, rows):
    """{name: (n, 1, H, W)}: a named row of images each."""
    panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (name, images) in zip(panels, rows.items(), strict=True):
        plot.image(axes, side_by_side(images))
        axes.set_ylabel(name, rotation=0, ha="right", va="center")


def side_by_side(images, gap=1):
    """(n, 1, H, W) -> (H, n·W + gaps): one row, white between."""
    padded = F.pad(images, (0, gap, 0, 0), value=1.0)
    return torch.cat([*padded[:, 0]], dim=1)[:, :-gap]


def draw_plane(figure, net, codes, labels, side=9, reach=2.2):
    """A VAE of two latent numbers, (n, 2), (n,): the code of each image, as its label; the image decoded from
    each z.
    """
    left, right = figure.subplots(1, 2)
    _scatter(left, codes, labels)
    tiles = F.pad(decode_grid(net, side, reach), (0, 1, 0, 1), value=1.0)  # a white line between
    sheet = rearrange(tiles, "r c 1 h w -> (r h) (c w)")[:-1, :-1]
    edge = reach * side / (side - 1)
    right.imshow(sheet.numpy(), cmap="gray", vmin=0, vmax=1, extent=(-edge, edge, -edge, edge))
    right.set(xlabel="$z_1$", ylabel="$z_2$", title="images decoded from each z")


def draw_pad(figure, net, codes, labels, z1=0.0, z2=0.0):
    """The codes of the images and a cross at (z1, z2); the image decoded there, the spread of its pixels."""
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    _scatter(left, codes, labels)
    left.plot([z1], [z2], "+", color="black", markersize=16, markeredgewidth=3)
    z = torch.tensor([[z1, z2]], dtype=torch.float32)
    plot.image(middle, decode_means(net, z)[0], "mean of each pixel")
    plot.image(right, 2 * decode_spreads(net, z)[0], "its spread, doubled")
    distance, nearest = (codes - z).norm(dim=1).min(0)
    middle.set_xlabel(f"nearest image: {labels[nearest].item()}")
    right.set_xlabel(f"distance {distance.item():.2f}")


def _scatter(axes, codes, labels):
    """The mean code of each image, written as its label."""
    colours = [
        "#000000",
        "#E69F00",
        "#56B4E9",
        "#009E73",
        "#B59F00",
        "#0072B2",
        "#D55E00",
        "#CC79A7",
        "#777777",
        "#7A4DA0",
    ]
    for label in labels.unique().tolist():
        x, y = codes[labels == label].T
        axes.scatter(x, y, marker=f"${label}$", s=32, color=colours[label % 10], linewidth=0.3)
    axes.set(
        xlim=(-3.3, 3.3),
        ylim=(-3.3, 3.3),
        aspect="equal",
        xlabel="$z_1$",
        ylabel="$z_2$",
        title="codes of the images",
    )


def draw_trade(figure, sweep):
    """{beta: (seeds, 3 or more): fit and KL in bits a pixel, active latents, …}: both terms for each beta."""
    plane, active = figure.subplots(1, 2, width_ratios=(1.6, 1))
    middle = torch.stack([each.mean(0) for each in sweep.values()]).numpy()
    spread = torch.stack([each.std(0) for each in sweep.values()]).numpy()
    plane.errorbar(
        middle[:, 1], middle[:, 0], xerr=spread[:, 1], yerr=spread[:, 0], fmt="o-", color=plot.BLUE
    )
    for beta, (fit, kl, *_) in zip(sweep, middle.tolist(), strict=True):
        plane.annotate(f"β = {beta:g}", (kl, fit), (6, 5), textcoords="offset points")
    plane.set(
        xlabel="KL, bits a pixel",
        ylabel="−log p(x | z), bits a pixel",
        xlim=(None, middle[:, 1].max() * 1.22),
        ylim=(None, middle[:, 0].max() * 1.08),
    )
    active.bar(range(len(sweep)), middle[:, 2], yerr=spread[:, 2], color=plot.ORANGE, capsize=4)
    active.set(
        xticks=range(len(sweep)),
        xticklabels=[f"{beta:g}" for beta in sweep],
        xlabel="β",
        ylabel="active latents",
    )


def draw_beta(figure, images, shown, beta=1):
    """(n, 1, H, W), {beta: (reconstructions, images from the prior)}: both for one beta, mean images."""
    reconstructed, new = shown[beta]
    rows = {"held out": images, f"reconstructed, β = {beta:g}": reconstructed, f"new, β = {beta:g}": new}
    draw_rows(figure, rows)


def draw_foreign(figure, examples, bits, known):
    """{name: (n, 1, H, W)}, {name: (n,) bits a pixel}, one of the names: a few images, the scores of all."""
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.5))
    names = list(examples)
    few = {name: images[:: max(1, len(images) // 4)][:4] for name, images in examples.items()}
    sheet = torch.cat([F.pad(side_by_side(few[name]), (0, 0, 0, 1), value=1.0) for name in names])
    plot.image(left, sheet)
    height = examples[known].shape[2] + 1
    left.set(yticks=np.arange(len(names)) * height + height / 2 - 1, yticklabels=names)
    left.tick_params(length=0)
    for row, name in enumerate(names):
        heights = row + np.linspace(-0.25, 0.25, len(bits[name]))  # dots of equal bits stand apart
        right.plot(bits[name], heights, ".", color=plot.BLUE if name == known else plot.ORANGE, markersize=3)
    right.axvspan(*np.quantile(bits[known], (0.05, 0.95)), color=plot.BLUE, alpha=0.15)
    right.set(
        yticks=range(len(names)),
        yticklabels=[],
        ylim=(len(names) - 0.5, -0.5),
        xscale="log",
        xlabel=f"bits a pixel; band: 90 % of the {known}",
    )
    ticks = [tick for tick in (0.5, 1, 2, 4, 8, 16) if tick > min(v.min() for v in bits.values()) * 0.8]
    right.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    right.minorticks_off()
