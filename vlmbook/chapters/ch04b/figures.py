"""Chapter 4b: the bound over one latent number, the book's diagram and the mended one, rows of images, a map
of the latent plane with a decoder beside it, the price of beta, and likelihoods of foreign images."""

import math
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional as F

from vlmbook import plot
from vlmbook.vae import kl_to_standard_normal, log_normal, mean_image

# The model of section 3: p(x_i = 1 | z) = sigmoid(w_i z + b_i), one latent number, three pixels.
WEIGHT, BIAS, IMAGE = (
    torch.tensor([4.0, 2.0, -3.0]),
    torch.tensor([0.0, -2.0, 1.0]),
    torch.tensor([1.0, 1.0, 0.0]),
)
GRID, STEP = torch.linspace(-20, 20, 8001, dtype=torch.float64), 0.005


def log_p_of_toy(z, x=IMAGE):
    """(…), (3,) -> (…): log p(x | z) of that model in nats."""
    logits = z[..., None] * WEIGHT + BIAS
    return (x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)).sum(-1)


def bound_of_toy(mu, sigma, x=IMAGE):
    """float, float -> log p(x), the ELBO of q = N(mu, sigma²), and KL(q || p(z | x)): sums over a grid of
    z.
    """
    mu, logvar = torch.tensor([[float(mu)], [2 * math.log(sigma)]], dtype=torch.float64)
    joint = log_p_of_toy(GRID, x) + log_normal(GRID[:, None], torch.zeros(1), torch.zeros(1))
    log_p = joint.logsumexp(0) + math.log(STEP)
    log_q = log_normal(GRID[:, None], mu, logvar)
    q = log_q.exp() * STEP
    elbo = (q * log_p_of_toy(GRID, x)).sum() - kl_to_standard_normal(mu[None], logvar[None])[0]
    gap = (q * (log_q - joint + log_p)).sum()
    return log_p.item(), elbo.item(), gap.item()


def draw_bound(figure, mu=0.0, sigma=1.0):
    """Prior, true posterior and q over z; beside them the ELBO under log p(x)."""
    curves, bars = figure.subplots(1, 2, width_ratios=(2, 1))
    prior = log_normal(GRID[:, None], torch.zeros(1), torch.zeros(1))
    posterior = (log_p_of_toy(GRID) + prior).softmax(0) / STEP
    q = log_normal(GRID[:, None], torch.tensor([mu]), torch.tensor([2 * math.log(sigma)])).exp()
    curves.plot(GRID, prior.exp(), color=plot.GREY, linewidth=4, label="prior p(z)")
    curves.plot(GRID, posterior, color=plot.BLUE, label="posterior p(z | x)")
    curves.plot(GRID, q, color=plot.ORANGE, linestyle="--", label="q(z)")
    curves.set(xlim=(-4, 4), ylim=(0, 1.35), xlabel="z", ylabel="density")
    curves.legend(loc="upper left")
    log_p, elbo, gap = bound_of_toy(mu, sigma)
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


# name: (place, colour); the boxes of the mended diagram.
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
    """Above the book's chain, below the mended graph: random parts orange, losses green."""
    axes = figure.subplots()
    chain = {name: (1.6 * i, 2) for i, name in enumerate(PRINTED)}
    for before, after in pairwise(PRINTED):
        _arrow(axes, chain[before], chain[after], before, after)
    for before, after in EDGES:
        _arrow(axes, NODES[before], NODES[after], before, after)
    for name, place in [*chain.items(), *NODES.items()]:
        random, loss = name in ("ε", "z") or (name == "x'" and place[1] == 0), name in ("KL", "−log p(x | z)")
        colour = plot.ORANGE if random else plot.GREEN if loss else plot.BLUE
        axes.text(
            *place,
            name,
            ha="center",
            va="center",
            bbox=dict(boxstyle="round", facecolor="white", edgecolor=colour, linewidth=1.5),
        )
    axes.text(-0.75, 2, "printed", ha="right", va="center")
    axes.text(-0.75, 0, "mended", ha="right", va="center")
    axes.set(xlim=(-1.7, 6.8), ylim=(-0.5, 2.5))
    axes.axis("off")


def _arrow(axes, start, end, before, after):
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
    """A VAE of two latents, (n, 2), (n,): where the images lie, each as its label; what the plane decodes
    to.
    """
    places, grid = figure.subplots(1, 2)
    _scatter(places, codes, labels)
    axis = torch.linspace(-reach, reach, side)
    z = torch.cartesian_prod(axis.flip(0), axis).flip(1)  # rows from above, z1 to the right
    decoded = decoded_means(net, z)
    height, width = decoded.shape[2:]
    tiles = F.pad(decoded, (0, 1, 0, 1), value=1.0)[:, 0].view(side, side, height + 1, width + 1)
    sheet = tiles.permute(0, 2, 1, 3).reshape(side * (height + 1), side * (width + 1))[:-1, :-1]
    edge = reach * side / (side - 1)
    grid.imshow(sheet.numpy(), cmap="gray", vmin=0, vmax=1, extent=(-edge, edge, -edge, edge))
    grid.set(xlabel="$z_1$", ylabel="$z_2$", title="what each place decodes to")


def draw_pad(figure, net, codes, labels, z1=0.0, z2=0.0):
    """Where images lie on the plane and a cross at (z1, z2); what is decoded there, and how sure each pixel
    is.
    """
    places, decoded, spread = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    _scatter(places, codes, labels)
    places.plot([z1], [z2], "+", color="black", markersize=16, markeredgewidth=3)
    with torch.no_grad():
        logits = net.decode(torch.tensor([[z1, z2]], dtype=torch.float32))
    mean = mean_image(logits)
    values = torch.linspace(0, 1, logits.shape[1])
    second = torch.einsum("blchw,l->bchw", logits.softmax(1), values.square())
    plot.image(decoded, mean[0], "mean of each pixel")
    plot.image(spread, 2 * (second - mean.square()).clamp(min=0).sqrt()[0], "its spread, doubled")
    distance, nearest = (codes - torch.tensor([z1, z2])).norm(dim=1).min(0)
    decoded.set_xlabel(f"nearest image: {labels[nearest].item()}")
    spread.set_xlabel(f"{distance.item():.2f} away")


def _scatter(axes, codes, labels):
    """Each image's mean code, written as its label."""
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
        title="where the images lie",
    )


@torch.no_grad()
def decoded_means(net, z):
    """VAE, (n, Z) -> (n, C, H, W): the mean image at each z."""
    return mean_image(net.decode(z))


def draw_trade(figure, sweep):
    """{beta: (seeds, 3 or more): fit and KL in bits a pixel, active latents, …}: the price of each beta."""
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
    again, new = shown[beta]
    draw_rows(figure, {"held out": images, f"again, β = {beta:g}": again, f"new, β = {beta:g}": new})


def draw_foreign(figure, examples, bits, known):
    """{name: (n, 1, H, W)}, {name: (n,) bits a pixel}, one of the names: a few images and the scores of
    all.
    """
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.5))
    names = list(examples)
    few = {name: images[:: max(1, len(images) // 4)][:4] for name, images in examples.items()}
    sheet = torch.cat([F.pad(side_by_side(few[name]), (0, 0, 0, 1), value=1.0) for name in names])
    plot.image(left, sheet)
    height = examples[known].shape[2] + 1
    left.set(yticks=np.arange(len(names)) * height + height / 2 - 1, yticklabels=names)
    left.tick_params(length=0)
    for row, name in enumerate(names):
        values = bits[name]
        colour = plot.BLUE if name == known else plot.ORANGE
        right.plot(
            values,
            np.full(len(values), row) + np.linspace(-0.25, 0.25, len(values)),
            ".",
            color=colour,
            markersize=3,
        )
    right.axvspan(*np.quantile(bits[known], (0.05, 0.95)), color=plot.BLUE, alpha=0.15)
    right.set(
        yticks=range(len(names)),
        yticklabels=[],
        ylim=(len(names) - 0.5, -0.5),
        xscale="log",
        xlabel="bits a pixel",
    )
    ticks = [tick for tick in (0.5, 1, 2, 4, 8, 16) if tick > min(v.min() for v in bits.values()) * 0.8]
    right.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    right.minorticks_off()
