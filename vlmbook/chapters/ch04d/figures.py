"""Drawings of chapter 4d: the path, lines that cross, fields of arrows, the network, pages of samples, and
what steps, guidance and masks change.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from einops import rearrange
from matplotlib.figure import Figure

from vlmbook import plot
from vlmbook.chapters.ch04d.experiments import follow
from vlmbook.flow import interpolate, optimal_velocity

NOISE, IMAGE = plot.ORANGE, plot.BLUE  # one colour each in all drawings

# --- the path -----------------------------------------------------------------------------------------------


def draw_path(figure: Figure, image: torch.Tensor, noise: torch.Tensor, parts: int = 6) -> None:
    """(C, H, W) in [0, 1], (C, H, W) -> points of the straight path between noise and image, and its two
    uses: training mixes, sampling walks.
    """
    grid = figure.add_gridspec(3, parts, height_ratios=(1, 3, 1))
    times = torch.linspace(0, 1, parts)
    images, noises = (each.expand(parts, *each.shape) for each in (2 * image - 1, noise))
    for column, point in enumerate(interpolate(noises, images, times)):
        plot.image(figure.add_subplot(grid[1, column]), (point + 1) / 2, f"t = {times[column]:.1f}")
    above, below = (figure.add_subplot(grid[row, :]) for row in (0, 2))
    _draw_arrow_with_label(
        above, 0, 1, "sampling: start from noise, follow the network's velocity", plot.GREEN
    )
    _draw_arrow_with_label(below, 1, 0, "training: mix a real image with noise, at a random t", "dimgrey")


def _draw_arrow_with_label(axes, start, end, label, colour):
    arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 2}
    axes.annotate("", (end, 0.5), (start, 0.5), arrowprops=arrow)
    axes.text(0.5, 0.5, label, color=colour, ha="center", va="center", backgroundcolor="white")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axis("off")


def draw_crossing(figure: Figure, images: torch.Tensor, lines: int = 60, curves: int = 16) -> None:
    """(N, 1) -> left, straight lines from noise to an image, drawn at random: they cross; right, the curves
    of the mean velocity: they do not.
    """
    left, right = figure.subplots(1, 2, sharey=True)
    draws = torch.Generator().manual_seed(0)
    noise = torch.randn(lines, 1, generator=draws)
    chosen = images[torch.randint(len(images), (lines,), generator=draws)]
    left.plot([0, 1], torch.cat([noise, chosen], 1).T, color=plot.GREY, linewidth=0.7)
    starts = torch.linspace(-2, 2, curves)[:, None]
    passed = follow(lambda x, t: optimal_velocity(x, t, images), starts, 200)[..., 0]
    right.plot(torch.linspace(0, 1, 201), passed, color=plot.GREEN, linewidth=1.2)
    for axes, title in (
        (left, "one line for each pair (noise, image)"),
        (right, "the mean velocity, followed"),
    ):
        axes.plot(torch.zeros(curves), starts, ".", color=NOISE, markersize=4)
        axes.plot(torch.ones(len(images)), images, "o", color=IMAGE, clip_on=False)
        axes.set(xlabel="t", title=title, xlim=(0, 1), ylim=(-2.4, 2.4))
    left.set_ylabel("x")


# --- points in the plane ------------------------------------------------------------------------------------


def draw_plane(figure: Figure, points: torch.Tensor, walks: Mapping[str, torch.Tensor]) -> None:
    """(N, 2), {name: (steps + 1, n, 2)} -> for each name the way of n points from noise to the data."""
    panels = figure.subplots(1, len(walks), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (name, walk) in zip(panels, walks.items(), strict=True):
        axes.plot(*walk[:, :40].unbind(-1), color=plot.GREEN, linewidth=0.5, alpha=0.6)
        axes.plot(*walk[0].T, ".", color=NOISE, markersize=2, label="noise")
        axes.plot(*points.T, ".", color=plot.GREY, markersize=2, label="data")
        axes.plot(*walk[-1].T, ".", color=IMAGE, markersize=3, label="generated samples")
        _set_plane(axes, name)
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1, 1), markerscale=3)


@torch.no_grad()
def draw_field(
    figure: Figure,
    points: torch.Tensor,
    velocities: Mapping[str, Callable],
    walk: torch.Tensor,
    t: float = 0.8,
) -> None:
    """(N, 2), {name: velocity(x, t)}, (steps + 1, n, 2) -> the arrows of each field at time t, and where the
    samples of a walk are then.
    """
    panels = figure.subplots(1, len(velocities), sharex=True, sharey=True, squeeze=False)[0]
    axis = torch.linspace(-2.4, 2.4, 15)
    grid = torch.cartesian_prod(axis, axis)
    here = walk[round(t * (len(walk) - 1))]
    for axes, (name, velocity) in zip(panels, velocities.items(), strict=True):
        arrows = velocity(grid, torch.full((len(grid),), t))
        axes.plot(*points.T, ".", color=plot.GREY, markersize=2)
        axes.plot(*here.T, ".", color=NOISE, markersize=3)
        axes.quiver(
            *grid.T, *arrows.T, color=plot.GREEN, angles="xy", scale_units="xy", scale=12, width=0.005
        )
        _set_plane(axes, f"{name}, t = {t:.2f}")


def _set_plane(axes, title):
    axes.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), xticks=(), yticks=(), aspect="equal", title=title)


def draw_solvers(figure: Figure, panels: Mapping[str, Mapping[str, Mapping[int, float]]]) -> None:
    """{measure: {method: {evaluations of the network: value}}} -> a panel for each measure, both axes
    logarithmic.
    """
    colours = {"euler": plot.BLUE, "heun": plot.ORANGE, "ancestral": plot.GREEN}
    for axes, (measure, lines) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for method, line in lines.items():
            axes.loglog([*line], [*line.values()], "o-", color=colours[method], label=method)
        axes.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
        axes.minorticks_off()
        axes.set(xlabel="evaluations of the network", title=measure)
        axes.legend(loc="best")


# --- the network --------------------------------------------------------------------------------------------


def draw_network(figure: Figure, size: int, widths: Sequence[int]) -> None:
    """int, channels of each level -> the U-Net with its skip connections and the embedding that enters each
    block, labelled with shapes.
    """
    axes = figure.subplots()
    levels = len(widths)
    last = 2 * levels  # the column of the output
    columns = [level + 0.5 for level in range(levels - 1)] + [levels]  # of each level on the way down
    for level, width in enumerate(widths[:-1]):
        side = size // 2**level
        down, up = (columns[level], -level), (last - columns[level], -level)
        for column, row in (down, up):
            _draw_box(axes, column, row, f"block\n{width}×{side}×{side}", IMAGE)
        _draw_edge(axes, down, up, "skip connection: concatenate", plot.GREY)
        _draw_edge(axes, down, (columns[level + 1], -level - 1), "stride 2", "black")
        _draw_edge(axes, (last - columns[level + 1], -level - 1), up, "upsample", "black")
    side = size // 2 ** (levels - 1)
    _draw_box(axes, levels, 1 - levels, f"2 blocks\n{widths[-1]}×{side}×{side}", IMAGE)
    _draw_box(axes, -0.7, 0, f"x_t\n1×{size}×{size}", NOISE)
    _draw_box(axes, last + 0.7, 0, f"velocity\n1×{size}×{size}", plot.GREEN)
    _draw_edge(axes, (-0.7, 0), (0.5, 0), "", "black")
    _draw_edge(axes, (last - 0.5, 0), (last + 0.7, 0), "", "black")
    _draw_box(axes, -0.7, 1 - levels, f"t and class\n→ {4 * widths[0]} numbers", "dimgrey")
    axes.text(-1.3, 0.55 - levels, "scale and shift in every block", color="dimgrey", va="center")
    axes.set(xlim=(-1.4, last + 1.4), ylim=(0.35 - levels, 0.5))
    axes.axis("off")


def _draw_box(axes, x, y, label, colour):
    box = {"boxstyle": "round,pad=0.4", "edgecolor": colour, "facecolor": "white", "linewidth": 1.5}
    axes.text(x, y, label, ha="center", va="center", fontsize=8, bbox=box, zorder=3)


def _draw_edge(axes, start, end, label, colour):
    arrow = {"arrowstyle": "-|>", "color": colour, "shrinkA": 24, "shrinkB": 24}
    axes.annotate("", end, start, arrowprops=arrow)
    x, y = ((a + b) / 2 for a, b in zip(start, end, strict=True))
    level = start[1] == end[1]
    place = {"ha": "center", "va": "bottom"} if level else {"ha": "left", "va": "center"}
    axes.text(x if level else x + 0.2, y, label, color=colour, fontsize=8, **place)


# --- samples ------------------------------------------------------------------------------------------------


def draw_classes(figure: Figure, samples: torch.Tensor, names: Sequence[str]) -> None:
    """(K, n, C, H, W), K names -> a row of generated samples for each class, with its name."""
    axes = figure.subplots()
    height = samples.shape[-2]
    plot.image(axes, rearrange(_framed(samples), "k n c h w -> c (k h) (n w)"))
    axes.set_yticks([(height + 1) * (row + 0.5) for row in range(len(names))], names)
    axes.tick_params(length=0)


def draw_moment(figure: Figure, states: torch.Tensor, predicted: torch.Tensor, t: float = 0.3) -> None:
    """(steps + 1, n, C, H, W) twice, on the path's scale −1 to 1 -> x_t and the image that the network
    expects from there, at the step nearest to t.
    """
    step = round(t * (len(states) - 1))
    above, below = figure.subplots(2, 1)
    time = step / (len(states) - 1)
    plot.image(above, _join((states[step] + 1) / 2), f"x_t at t = {time:.2f}")
    plot.image(
        below, _join((predicted[step] + 1) / 2), "x_t + (1 − t) · velocity: the image expected from here"
    )


def draw_rows(figure: Figure, rows: Mapping[str, torch.Tensor]) -> None:
    """{name: (n, C, H, W)} -> a row of images for each name."""
    panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (name, images) in zip(panels, rows.items(), strict=True):
        plot.image(axes, _join(images))
        axes.set_yticks([images.shape[-2] / 2], [name])
        axes.tick_params(length=0)


def draw_guidance(
    figure: Figure,
    samples: Mapping[float, torch.Tensor],
    measured: Mapping[str, Mapping[float, float]],
    guidance: float = 1.5,
) -> None:
    """{w: (n, C, H, W)}, {name: {w: number}} -> the samples of one guidance w, and where it stands on the
    curves of both measures.
    """
    pictures, curves = figure.subplots(1, 2, width_ratios=(1, 1.3))
    plot.image(pictures, _sheet(samples[guidance], columns=4), f"guidance w = {guidance:g}")
    for colour, (name, line) in zip((plot.BLUE, plot.ORANGE), measured.items(), strict=True):
        curves.plot([*line], [*line.values()], "o-", color=colour, label=name)
    curves.axvline(guidance, color=plot.GREY, linewidth=1, zorder=0)
    curves.set(xlabel="guidance w", ylim=(0, 1.05))
    curves.legend(loc="lower left")


def draw_neighbours(
    figure: Figure, samples: torch.Tensor, nearest: torch.Tensor, distances: Mapping[str, torch.Tensor]
) -> None:
    """(n, C, H, W) twice, {name: (N,)} -> samples over their nearest training images;
    the distances of all."""
    pictures, curves = figure.subplots(1, 2, width_ratios=(1.1, 1))
    both = torch.cat([_join(samples), _join(nearest)], 1)
    plot.image(pictures, both, "above: generated; below: nearest training image")
    farthest = max(values.max().item() for values in distances.values())
    bins = torch.linspace(0, farthest, 40).tolist()
    for colour, (name, values) in zip((IMAGE, NOISE, plot.GREEN), distances.items(), strict=False):
        share = [1 / len(values)] * len(values)
        curves.hist(values.tolist(), bins=bins, weights=share, alpha=0.5, color=colour, label=name)
    curves.set(xlabel="distance to the nearest training image", ylabel="share", ylim=(0, 0.3))
    curves.legend(loc="upper center")


def draw_completion(figure: Figure, image: torch.Tensor, mask: torch.Tensor, completed: torch.Tensor) -> None:
    """(C, H, W), (1, H, W) with 1 = hole, (n, C, H, W) -> the image, what is left of it, completions."""
    left = torch.where(mask.bool(), 0.5, image)
    panels = figure.subplots(1, 2 + len(completed))
    titles = ["image", "with a hole", *(f"completed {i + 1}" for i in range(len(completed)))]
    for axes, each, title in zip(panels, [image, left, *completed], titles, strict=True):
        plot.image(axes, each, title)


def draw_comparison(figure: Figure, rows: Mapping[str, Mapping[str, Sequence[float]]], measure: str) -> None:
    """{name: {measure: values over draws}} -> a dot and a bar each: mean ± standard deviation."""
    axes = figure.subplots()
    values = torch.tensor([each[measure] for each in rows.values()])
    mean, std = values.mean(1), values.std(1)
    plot.intervals(
        axes, list(rows), mean, mean - std, mean + std, f"{measure}, mean ± std (smaller is better)"
    )
    axes.set_xscale("log")


# --- joined images ------------------------------------------------------------------------------------------


def _framed(images):
    """(…, C, H, W) -> (…, C, H + 1, W + 1): with a white line below and at the right."""
    return torch.nn.functional.pad(images, (0, 1, 0, 1), value=1.0)


def _join(images):
    """(n, C, H, W) -> (C, H + 1, n(W + 1)): side by side."""
    return rearrange(_framed(images), "n c h w -> c h (n w)")


def _sheet(images, columns):
    """(n, C, H, W) -> (C, …, …): rows of `columns`, the last ones that fill no row left out."""
    whole = images[: len(images) // columns * columns]
    return rearrange(_framed(whole), "(r k) c h w -> c (r h) (k w)", k=columns)
