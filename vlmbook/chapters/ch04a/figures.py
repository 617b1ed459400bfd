"""Drawings of chapter 4a: the game, its best answer and orbits, a ring of modes, walks in latent space."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vlmbook import plot
from vlmbook.chapters.ch04a.experiments import (
    average_losses,
    find_nearest,
    interpolate_latents,
    simulate_dirac_gan,
    solve_two_normals,
)

GAME = (("z", "G"), ("G", "x_g"), ("x_g", "D"), ("x_r", "D"), ("D", "V"))
GRADIENTS = (("V", "D"), ("V", "G"))
POSITIONS = {"z": (0, 0), "G": (1, 0), "x_g": (2, 0), "x_r": (2, 1), "D": (3, 0.5), "V": (4, 0.5)}
LABELS = {"z": "z, noise", "G": "G", "x_g": "G(z)", "x_r": "x, real", "D": "D", "V": "V(D, G)"}
NETWORKS = ("G", "D")


def draw_game(figure: Figure) -> None:
    """The values (black) and the gradients (orange): ascent on V for D, descent for G."""
    axes = figure.subplots()
    for name, (x, y) in POSITIONS.items():
        fill, ink = (plot.BLUE, "white") if name in NETWORKS else ("white", "black")
        box = dict(boxstyle="round,pad=0.5", edgecolor=plot.BLUE, facecolor=fill)
        axes.text(x, y, LABELS[name], ha="center", va="center", fontsize=11, zorder=3, color=ink, bbox=box)
    for start, end in GAME:
        _draw_arrow(axes, start, end, "black", shrinkA=_reach(start), shrinkB=_reach(end), linewidth=1.5)
    for start, end, bend, label, position in (
        ("V", "D", 0.45, "D makes V larger", (3.55, 0.98)),
        ("V", "G", -0.35, "G makes V smaller", (2.5, -0.72)),
    ):
        style = {"shrinkA": 22, "shrinkB": 18, "linewidth": 2, "connectionstyle": f"arc3,rad={bend}"}
        _draw_arrow(axes, start, end, plot.ORANGE, **style)
        axes.text(*position, label, ha="center", va="center", color=plot.ORANGE)
    axes.set(xlim=(-0.5, 4.6), ylim=(-0.9, 1.4))
    axes.axis("off")


def _draw_arrow(axes, start, end, color, **style):
    arrow = {"arrowstyle": "-|>", "color": color, **style}
    axes.annotate("", POSITIONS[end], POSITIONS[start], arrowprops=arrow)


def _reach(node):
    """str -> points from the middle of a node's box to where its arrows end."""
    return 14 + 3.2 * len(LABELS[node])


def draw_networks(figure: Figure, size: int, latent: int, width: int) -> None:
    """The maps of both networks as boxes: as high as a map's side, the wider the more channels it has; the
    layers stand between them.
    """
    sides = _list_sides(size)
    maps = [(f"{width * 2**step}×{side}×{side}", plot.BLUE, side) for step, side in enumerate(sides)]
    image, z, logit = (
        (f"image\n1×{size}×{size}", plot.GREEN, size),
        (f"z\n{latent} numbers", plot.ORANGE, 1),
        ("logit\n1 number", plot.ORANGE, 1),
    )
    changes = len(sides) - 1  # of the size
    up = ["linear", *["transposed\nconvolution\nstride 2"] * changes, "convolution\n3×3, sigmoid"]
    down = ["convolution\n3×3", *["convolution\n4×4\nstride 2"] * changes, "linear"]
    above, below = figure.subplots(2, 1)
    _draw_chain(above, "generator G", [z, *reversed(maps), image], up, size)
    _draw_chain(below, "discriminator D", [image, *maps, logit], down, size)


def _draw_chain(axes, title, boxes, layers, size):
    """Boxes (label, colour, side) from left to right, and the names of the layers between them."""
    for column, (label, colour, side) in enumerate(boxes):
        height, breadth = 0.1 + 0.9 * side / size, 0.05 + 0.15 * (1 - side / size)
        if "×" not in label or "image" in label:
            breadth = 0.05  # a list of numbers, or one channel
        corner = (column - breadth / 2, -height / 2)
        axes.add_patch(Rectangle(corner, breadth, height, facecolor=colour, alpha=0.8))
        axes.text(column, -0.58, label, ha="center", va="top", fontsize=8)
    for column, layer in enumerate(layers):
        arrow = {"arrowstyle": "-|>", "color": "black"}
        axes.annotate("", (column + 0.8, -0.1), (column + 0.2, -0.1), arrowprops=arrow)
        axes.text(column + 0.5, -0.03, layer, ha="center", va="bottom", fontsize=7.5)
    axes.set(xlim=(-0.4, len(boxes) - 0.6), ylim=(-1.1, 0.6), title=title)
    axes.axis("off")


def _list_sides(size):
    """int -> list of int: the sides of the maps, from the image's down to the smallest."""
    sides = [size]
    while sides[-1] > 7 and sides[-1] % 2 == 0:
        sides.append(sides[-1] // 2)
    return sides


def draw_optimal(figure: Figure, shift: float = 1.5, spread: float = 1.0) -> None:
    """The densities of data and generator; beside them the best discriminator and the value of the game."""
    game = solve_two_normals(shift, spread)
    densities, answer = figure.subplots(1, 2)
    densities.fill_between(game.x, game.p_data, color=plot.BLUE, alpha=0.5, label="data p")
    densities.fill_between(game.x, game.p_model, color=plot.ORANGE, alpha=0.5, label="generator g")
    top = max(0.5, 0.45 / spread)
    densities.set(xlim=(-4, 6), ylim=(0, top), xlabel="x", ylabel="density", title="real and generated")
    densities.legend(loc="upper right")
    answer.plot(game.x, game.best, color=plot.GREEN)
    answer.axhline(0.5, color=plot.GREY, linewidth=1)
    jsd = abs(game.value + math.log(4)) / 2
    title = f"V(D*, G) = {game.value:.3f}, JSD = {jsd:.3f} nats"
    answer.set(xlim=(-4, 6), ylim=(-0.03, 1.03), xlabel="x", ylabel="D*(x)", title=title)


ORBITS = {  # title -> order, loss, with R1
    "simultaneous": ("simultaneous", "minimax", False),
    "alternating": ("alternating", "minimax", False),
    "alternating, −log D": ("alternating", "non-saturating", False),
    "alternating, R1": ("alternating", "minimax", True),
}


def draw_orbits(figure: Figure, lr: float = 0.1, gamma: float = 0.5) -> None:
    """Two players of one number each, in four ways: 500 steps around the equilibrium (0, 0). `gamma` weighs
    R1 in the last panel.
    """
    panels = figure.subplots(1, len(ORBITS))
    for axes, (name, (order, loss, penalised)) in zip(panels, ORBITS.items(), strict=True):
        orbit = simulate_dirac_gan(order, loss, lr, gamma if penalised else 0.0)
        axes.plot(*orbit.T, color=plot.BLUE, linewidth=0.8)
        axes.plot(*orbit[0], "o", color=plot.GREY)
        axes.plot(*orbit[-1], "o", color=plot.ORANGE)
        axes.plot(0, 0, "+", color="black", markersize=10)
        limit = 1.15 * orbit.abs().max().item()
        ends = (-limit, limit)
        axes.set(xlim=ends, ylim=ends, xticks=(), yticks=(), aspect="equal", xlabel="θ of G")
        axes.set_title(f"{name}\nend: distance {orbit[-1].norm():.2f}", fontsize=8.5)
    panels[0].set_ylabel("ψ of D")


def draw_ring(figure: Figure, real: torch.Tensor, runs: Mapping, run: str, moment: int = 0) -> None:
    """One moment of a training in two dimensions, and how many of eight modes were found until then.

    real: (M, 2); runs: {name: {"steps": (S,), "points": (S, n, 2), "logits": (S, k, k) over [−3, 3]², rows
    along y, "found": (S,)}}; a moment past the end of a run is its last.
    """
    chosen = runs[run]
    moment = min(moment, len(chosen["steps"]) - 1)
    step, found = chosen["steps"][moment], chosen["found"][moment]
    plane, curve = figure.subplots(1, 2, width_ratios=(1, 1.1))
    _draw_probabilities(figure, plane, torch.as_tensor(chosen["logits"][moment]).sigmoid().numpy())
    plane.plot(*torch.as_tensor(real).T, ".", color="black", markersize=1.5)
    plane.plot(*torch.as_tensor(chosen["points"][moment]).T, ".", color=plot.ORANGE, markersize=3)
    plane.set(xlim=(-3, 3), ylim=(-3, 3), xticks=(), yticks=(), aspect="equal")
    plane.set_title(f"step {step}: {found} of 8")
    curve.step(chosen["steps"], chosen["found"], where="post", color=plot.BLUE)
    curve.plot([step], [found], "o", color=plot.ORANGE)
    curve.set(xlabel="step", ylabel="modes found", ylim=(-0.3, 8.3), yticks=range(0, 9, 2), title=run)


def _draw_probabilities(figure, axes, p):
    """D(x) on a grid: blue above a half, red below, symmetric around it."""
    most = max(0.01, abs(p - 0.5).max().item())
    ends = {"vmin": 0.5 - most, "vmax": 0.5 + most}
    shown = axes.imshow(p, extent=(-3, 3, -3, 3), origin="lower", cmap="RdBu", alpha=0.55, **ends)
    ticks = (0.5 - most, 0.5, 0.5 + most)
    figure.colorbar(shown, ax=axes, label="D(x): real", fraction=0.046, format="%.2f", ticks=ticks)


@torch.no_grad()
def draw_walk(
    figure: Figure,
    generator: Callable,
    latents: torch.Tensor,
    start: int = 0,
    end: int = 1,
    position: float = 0.5,
    path: str = "arc",
    steps: int = 9,
) -> None:
    """From one latent to another: generated images on the way, under them the mixtures of the first and the
    last image.

    generator: in evaluation mode; latents: (n, Z).
    """
    a, b = latents[start], latents[end]
    ways = torch.linspace(0, 1, steps).tolist()
    here, *way = generator(interpolate_latents(a, b, torch.tensor([position, *ways]), path))
    mixed = [way[0] + t * (way[-1] - way[0]) for t in ways]
    channels, height, width = here.shape
    chosen, strips = figure.subplots(1, 2, width_ratios=(1, 4.2))
    plot.image(chosen, here, f"at {position:.2f}")
    gap = torch.ones(channels, max(1, height // 8), steps * width)
    rows = torch.cat([torch.cat(way, 2), gap, torch.cat(mixed, 2)], 1)
    plot.image(strips, rows, "above: G(z) on the way between two z; below: the two images mixed")
    marked = (steps - 1) * width * position + width / 2 - 0.5
    strips.plot([marked], [height + gap.shape[1] / 2 - 0.5], "^", color=plot.ORANGE, clip_on=False)


def draw_rows(figure: Figure, rows: Mapping[str, torch.Tensor]) -> None:
    """{name: (n, C, H, W)} -> a row of images for each name; rows may differ in n."""
    longest = max(map(len, rows.values()))
    strips = []
    for images in rows.values():
        framed = F.pad(smooth(images), (0, 1, 0, 1), value=1.0)
        strips.append(F.pad(framed, (0, 0, 0, 0, 0, 0, 0, longest - len(framed)), value=1.0))
    page = rearrange(torch.stack(strips), "k n c h w -> c (k h) (n w)")
    axes = figure.subplots()
    plot.image(axes, page)
    height = page.shape[1] / len(rows)
    axes.set_yticks([height * (row + 0.5) for row in range(len(rows))], list(rows))
    axes.tick_params(length=0)


def smooth(images: torch.Tensor, least: int = 28) -> torch.Tensor:
    """(n, C, H, W) -> (n, C, H', W'): images below `least` pixels are enlarged, in bicubic interpolation, so
    that the eye sees strokes and not squares.
    """
    times = math.ceil(least / images.shape[-1])
    if times == 1:
        return images
    return F.interpolate(images, scale_factor=times, mode="bicubic", align_corners=False).clamp(0, 1)


def draw_neighbours(
    figure: Figure, generated: torch.Tensor, held_out: torch.Tensor, images: torch.Tensor, shown: int = 6
) -> None:
    """(N, C, H, W), (M, C, H, W), training images (K, C, H, W) -> above, the first few of both over their
    nearest training images; below, the distances of all.
    """
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.1))
    left, right = above.subplots(1, 2)
    axes = below.subplots()
    for panel, pictures, name, colour in (
        (left, generated, "generated", plot.ORANGE),
        (right, held_out, "held out, real", plot.BLUE),
    ):
        distances, indices = find_nearest(pictures, images)
        upper, lower = _join(pictures[:shown]), _join(images[indices[:shown]])
        gap = torch.ones(upper.shape[0], max(1, upper.shape[1] // 8), upper.shape[2])
        plot.image(panel, torch.cat([upper, gap, lower], 1), name)
        panel.set_xlabel("over the nearest training image")
        axes.hist(distances.tolist(), bins=40, density=True, color=colour, alpha=0.5, label=name)
    axes.set(xlabel="distance to the nearest training image", ylabel="density", xlim=(0, None))
    axes.legend(loc="upper left")


def _join(images):
    """(n, C, H, W) -> (C, H, W'): side by side, with white between."""
    gap = torch.ones(*images.shape[1:3], max(1, images.shape[3] // 8))
    parts = [part for image in images for part in (image, gap)]
    return torch.cat(parts[:-1], 2)


def draw_training(
    figure: Figure, curve: Sequence[tuple[float, float]], distances: Mapping[int, float]
) -> None:
    """(D's loss, G's loss) of each step, {step: Fréchet distance} -> averaged losses beside the distances."""
    steps, losses = average_losses(curve)
    left, right = figure.subplots(1, 2)
    left.plot(steps, losses[:, 0], label="discriminator", color=plot.BLUE, linewidth=1.2)
    left.plot(steps, losses[:, 1], label="generator", color=plot.ORANGE, linewidth=1.2)
    left.axhline(math.log(4), color=plot.GREY, linewidth=1)
    left.set(xlabel="step", ylabel="loss, nats", ylim=(0, None), title="losses")
    left.legend(loc="best")
    right.semilogy([*distances], [*distances.values()], "o-", color=plot.GREEN)
    right.set(xlabel="step", ylabel="Fréchet distance, log", title="distance from validation images")


def draw_memory(
    figure: Figure,
    logits: Mapping[str, Mapping[int, torch.Tensor]],
    gaps: Mapping[int, tuple[float, float]],
) -> None:
    """{name: {step: (N,) logits of D}}, {step: (difference, its standard error)} -> the mean logit of each
    part over the training; beside it the difference between training and validation images.
    """
    curves, difference = figure.subplots(1, 2)
    for colour, (name, by_step) in zip((plot.BLUE, plot.GREEN, plot.ORANGE), logits.items(), strict=True):
        means = [each.mean().item() for each in by_step.values()]
        curves.plot([*by_step], means, "o-", color=colour, label=name, markersize=4)
    curves.axhline(0, color=plot.GREY, linewidth=1)
    curves.set(xlabel="step", title="mean logit of D")
    curves.legend(loc="best")
    values, errors = zip(*gaps.values(), strict=True)
    difference.errorbar([*gaps], values, yerr=errors, fmt="o-", color=plot.BLUE, capsize=3, markersize=4)
    difference.axhline(0, color=plot.GREY, linewidth=1)
    difference.set(xlabel="step", title="training − validation, ± standard error")


def draw_found(figure: Figure, found: Mapping[str, Sequence[float]]) -> None:
    """{name: (seeds,) modes found} -> a dot for each seed; mean ± standard deviation written beside them."""
    axes = figure.subplots()
    rows = range(len(found) - 1, -1, -1)
    for row, each in zip(rows, found.values(), strict=True):
        counts = torch.as_tensor(each).float()
        heights = row + torch.linspace(-0.15, 0.15, len(counts))  # dots of equal counts stand apart
        axes.plot(counts.tolist(), heights.tolist(), "o", color=plot.BLUE, markersize=5)
        axes.text(8.9, row, f"{counts.mean():.1f} ± {counts.std():.1f}", va="center")
    axes.set(xlim=(-0.3, 10.4), xticks=range(9), xlabel="modes found, of 8; a dot a seed")
    axes.set(ylim=(-0.5, len(found) - 0.5), yticks=rows, yticklabels=list(found))
