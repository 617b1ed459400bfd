"""Drawings of chapter 4b: the bound over one latent number, the layers of the network, rows of images, the
plane of codes with the decoder's images, the effect of beta, likelihoods of foreign images.
"""

import numpy as np
import torch
from einops import rearrange
from matplotlib.figure import Figure
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

RANDOM = plot.ORANGE  # the colour of parts that are random
ARROW = {"arrowstyle": "-|>", "color": "black", "shrinkA": 0, "shrinkB": 0}


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


def draw_network(
    figure: Figure,
    size: tuple[int, int] = (8, 8),
    *,
    levels: int = 17,
    latent: int = 16,
    width: int = 16,
    variational: bool = True,
) -> None:
    """Image size and the sizes of a VAE -> its layers as boxes, the shape of each output below; with
    variational=False the plain autoencoder, which has neither noise nor KL.
    """
    axes = figure.subplots()
    (height, wide), grid = size, tuple(-(-side // 4) for side in size)
    half = tuple(-(-side // 2) for side in size)
    wide_map, small_map = _shape(width, half), _shape(2 * width, grid)
    code = ("linear", f"μ: {latent}\nlog σ²: {latent}") if variational else ("linear", f"z: {latent}")
    middle = [("z", f"μ + σ ⊙ ε\n{latent}")] if variational else []
    parts = [
        ("x", _shape(1, size)),
        ("conv\nReLU", wide_map),
        ("conv\nReLU", small_map),
        code,
        *middle,
        ("linear\nReLU", small_map),
        ("conv T\nReLU", _shape(width, (2 * grid[0], 2 * grid[1]))),
        ("conv T\nReLU", _shape(width, (4 * grid[0], 4 * grid[1]))),
        ("conv", f"logits\n{levels}×{height}×{wide}"),
    ]
    for number, (name, shape) in enumerate(parts):
        colour = {"x": "black", "z": RANDOM}.get(name, plot.BLUE)
        _draw_box(axes, (number, 0), name, colour)
        axes.text(number, -0.42, shape, ha="center", va="top", fontsize=8)
        if number:
            axes.annotate("", (number - 0.37, 0), (number - 0.63, 0), arrowprops=ARROW)
    last = len(parts) - 1
    above = [(last, "−log p(x | z)", plot.GREEN)]
    if variational:
        above += [(3, "KL", plot.GREEN), (4, "ε ~ N(0, I)", RANDOM)]
    for number, name, colour in above:
        ends = ((number, 0.36), (number, 0.78)) if colour == RANDOM else ((number, 0.78), (number, 0.36))
        axes.annotate("", *ends, arrowprops=ARROW)
        _draw_box(axes, (number, 1), name, colour)
    decoder = 4 + len(middle)
    names = ("encoder (conv: stride 2)", "decoder (conv T: transposed, stride 2)")
    for start, end, name in ((1, 3, names[0]), (decoder, last, names[1])):
        axes.plot([start - 0.4, end + 0.4], [-1.15, -1.15], color=plot.BLUE, linewidth=1.4)
        axes.text((start + end) / 2, -1.25, name, ha="center", va="top", fontsize=8, color=plot.BLUE)
    axes.set(xlim=(-0.6, last + 0.6), ylim=(-1.6, 1.3))
    axes.axis("off")


def _shape(channels, size):
    return f"{channels}×{size[0]}×{size[1]}"


def _draw_box(axes, position, name, colour):
    box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": colour, "linewidth": 1.4}
    axes.text(*position, name, ha="center", va="center", fontsize=7.5, bbox=box, zorder=3)


def draw_collapse(figure: Figure, progress: list[tuple[float, float, bool]], change: int) -> None:
    """(KL, std of mu, …) of each step, the step from which on the loss has both terms: two curves."""
    axes = figure.subplots()
    columns = list(zip(*progress, strict=True))
    names = ("KL, nats", "std of μ over the images")
    for colour, name, values in zip((plot.BLUE, plot.ORANGE), names, columns, strict=False):
        axes.semilogy([max(value, 1e-7) for value in values], color=colour, label=name)
    axes.axvline(change, color=plot.GREY, linestyle="--")
    for start, text in ((0, " KL alone"), (change, " pixel term and KL")):
        axes.annotate(text, (start, 1), xycoords=("data", "axes fraction"), va="bottom", fontsize=8)
    axes.set(xlabel="step")
    axes.legend(loc="lower right")


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


def draw_plane(figure, net, codes, labels, side=7, reach=2.2, zoom=4):
    """A VAE of two latent numbers, (n, 2), (n,): the code of each image, as its label; the image decoded from
    each z, `zoom` times as large by interpolation.
    """
    left, right = figure.subplots(1, 2)
    _scatter(left, codes, labels)
    tiles = enlarge(decode_grid(net, side, reach).flatten(0, 1), zoom)
    tiles = F.pad(tiles, (0, 1, 0, 1), value=1.0)  # a white line between
    sheet = rearrange(tiles, "(r c) 1 h w -> (r h) (c w)", r=side)[:-1, :-1]
    edge = reach * side / (side - 1)
    right.imshow(sheet.numpy(), cmap="gray", vmin=0, vmax=1, extent=(-edge, edge, -edge, edge))
    right.set(xlabel="$z_1$", ylabel="$z_2$", title="mean image at each z")


def enlarge(images: torch.Tensor, factor: int) -> torch.Tensor:
    """(n, 1, H, W) -> (n, 1, factor · H, factor · W), interpolated; the same images for a factor of 1."""
    if factor == 1:
        return images
    return F.interpolate(images, scale_factor=factor, mode="bicubic", align_corners=False).clamp(0, 1)


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
        ylabel="active latent numbers",
    )


def draw_beta(figure, images, shown, beta=16):
    """(n, 1, H, W), {beta: (reconstructions, images from the prior)}: both for one beta, mean images."""
    reconstructed, new = shown[beta]
    rows = {
        "validation images": images,
        f"reconstructed, β = {beta:g}": reconstructed,
        f"new, β = {beta:g}": new,
    }
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
