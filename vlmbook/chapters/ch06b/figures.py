"""Chapter 6b: how a photograph gets small, the networks, enlarged and filled photographs, textures, and what
the measures of quality say.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, FancyArrowPatch, FancyBboxPatch, Rectangle
from torch.nn import functional as F

from vlmbook import plot
from vlmbook.chapters.ch06b.experiments import blur, compress, cut_middle, empty, fill_biharmonic
from vlmbook.editing import free_form_mask, inpaint, psnr, ssim
from vlmbook.editing.inpainting import GatedUNet

COLOURS = (plot.BLUE, plot.ORANGE, plot.GREEN, plot.GREY, "#CC79A7", "#56B4E9")

# --- drawings of the methods --------------------------------------------------------------------------------


def draw_chain(figure: Figure, images: dict[str, torch.Tensor], steps: Sequence[str]) -> None:
    """{title: image}, what happens between two of them: panels at their own scale, an arrow between each."""
    widths = [
        max(0.45, image.shape[2] / max(x.shape[2] for x in images.values())) for image in images.values()
    ]
    panels = figure.subplots(1, len(images), width_ratios=widths, gridspec_kw={"wspace": 0.45})
    for axes, (title, image) in zip(panels, images.items(), strict=True):
        plot.image(axes, image, title)
    for (left, right), step in zip(pairwise(panels), steps, strict=True):
        arrow = {"arrowstyle": "-|>", "mutation_scale": 14, "color": plot.GREY, "linewidth": 1.5}
        ends = {
            "xyA": (1.02, 0.5),
            "xyB": (-0.03, 0.5),
            "coordsA": left.transAxes,
            "coordsB": right.transAxes,
        }
        figure.add_artist(ConnectionPatch(**ends, **arrow))
        place = {"xycoords": left.transAxes, "ha": "left", "va": "top", "fontsize": 8}
        left.annotate(step, (1.04, 0.46), annotation_clip=False, **place)


def draw_shuffle(figure: Figure, maps: torch.Tensor, shuffled: torch.Tensor) -> None:
    """(4, h, w), (2h, 2w): the four maps in four colours, and where each of their numbers goes."""
    panels = figure.subplots(1, 5, width_ratios=(1, 1, 1, 1, 2.2))
    for channel in range(4):
        _draw_cells(panels[channel], maps[channel], lambda row, column, channel=channel: channel)
        panels[channel].set_title(f"channel {channel}")
    _draw_cells(panels[4], shuffled, lambda row, column: 2 * (row % 2) + column % 2)
    panels[4].set_title("after the pixel shuffle")


def _draw_cells(axes, numbers, choose):
    height, width = numbers.shape
    for row in range(height):
        for column in range(width):
            colour = COLOURS[choose(row, column)]
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="white", alpha=0.55))
            text = f"{numbers[row, column]:g}"
            axes.annotate(text, (column + 0.5, row + 0.5), ha="center", va="center", fontsize=9)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    axes.axis("off")


def draw_network(
    figure: Figure, parts: Sequence[tuple[str, str]], arcs: Sequence[tuple[int, int, str]] = ()
) -> None:
    """(name, shape of the output) of each part, (from, to, text) of each shortcut: boxes in a row, the
    shortcuts above them.
    """
    axes = figure.subplots()
    for index, (name, shape) in enumerate(parts):
        box = FancyBboxPatch((index - 0.36, -0.3), 0.72, 0.6, boxstyle="round,pad=0.02", facecolor="#E6F0F8")
        axes.add_patch(box)
        axes.annotate(name, (index, 0), ha="center", va="center", fontsize=8)
        axes.annotate(shape, (index, -0.42), ha="center", va="top", fontsize=7.5, color="0.3")
        if index:
            axes.add_patch(_arrow((index - 0.62, 0), (index - 0.39, 0)))
    for start, end, text in arcs:
        height = 0.45 + 0.12 * (end - start)
        axes.plot([start, start, end], [0.33, height, height], color="0.35", linewidth=1)
        axes.add_patch(_arrow((end, height), (end, 0.33)))
        axes.annotate(text, ((start + end) / 2, height + 0.04), ha="center", va="bottom", fontsize=8)
    highest = max([0.75 + 0.12 * (end - start) for start, end, _ in arcs], default=0.5)
    axes.set(xlim=(-0.6, len(parts) - 0.4), ylim=(-0.85, highest))
    axes.axis("off")


def _arrow(start, end, **style):
    return FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=10, color="0.35", shrinkA=0, shrinkB=0, **style
    )


# --- edited photographs -------------------------------------------------------------------------------------


def draw_zoom(
    figure: Figure, whole: torch.Tensor, images: dict[str, torch.Tensor], box: tuple[int, int, int]
) -> None:
    """(C, H, W), {title: (C, h, w)} of any sizes, (left, top, side) in pixels of the whole: the whole with
    the box, and the box cut out of each image.
    """
    panels = figure.subplots(1, len(images) + 1)
    left, top, side = box
    plot.image(panels[0], whole, "the photograph")
    frame = {"fill": False, "edgecolor": plot.ORANGE, "linewidth": 1.5}
    panels[0].add_patch(Rectangle((left - 0.5, top - 0.5), side, side, **frame))
    for axes, (title, image) in zip(panels[1:], images.items(), strict=True):
        scale = image.shape[1] / whole.shape[1]
        rows = slice(round(scale * top), round(scale * (top + side)))
        columns = slice(round(scale * left), round(scale * (left + side)))
        plot.image(axes, image[:, rows, columns], title)


def draw_differences(
    figure: Figure, differences: dict[str, list[float]], xlabel: str, zero: str = ""
) -> None:
    """{name: a value for each photograph or seed}, what 0 means: a dot each, their mean and its standard
    error; blue above 0 and orange below, grey within two standard errors of 0.
    """
    axes = figure.subplots()
    names = list(differences)
    rows = np.arange(len(names))[::-1]
    for row, values in zip(rows, differences.values(), strict=True):
        axes.plot(values, [row] * len(values), "o", color=plot.GREY, alpha=0.5, markersize=4)
        mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
        colour = plot.BLUE if mean > 2 * error else plot.ORANGE if mean < -2 * error else "0.25"
        axes.errorbar(mean, row + 0.18, xerr=error, fmt="D", color=colour, capsize=4)
    axes.axvline(0, color="black", linewidth=1)
    axes.set(yticks=rows, yticklabels=names, ylim=(-0.6, len(names) - 0.3))
    axes.set_xlabel(f"{xlabel} (diamond: mean ± standard error)")
    if zero:
        axes.annotate(
            zero, (0, len(names) - 0.35), ha="center", va="bottom", fontsize=8, annotation_clip=False
        )


def draw_fillings(
    figure: Figure, rows: Sequence[dict[str, torch.Tensor]], titles: Sequence[Sequence[str]]
) -> None:
    """{name: image} of each row, what stands over each image: a row of panels each."""
    panels = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for line, row, above in zip(panels, rows, titles, strict=True):
        for axes, image, title in zip(line, row.values(), above, strict=True):
            plot.image(axes, image, title)


def draw_hole(
    figure: Figure, photograph: torch.Tensor, network: GatedUNet, brush: float = 0.06, seed: int = 0
) -> None:
    """(3, H, W), the inpainter: strokes of this width (a share of the side), filled in two ways, with the
    PSNR inside the hole; below, the part where the hole hides most edges.
    """
    generator = torch.Generator().manual_seed(seed)
    mask = free_form_mask(photograph.shape[1:], brush=brush, strokes=3, generator=generator)
    holed = empty(photograph, mask)
    filled = {
        "biharmonic": fill_biharmonic(holed, mask),
        "learned": inpaint(holed, mask, network=network),
    }
    images = {f"{mask.mean():.0%} is missing": torch.where(mask > 0, 1.0, photograph)}
    for name, image in filled.items():
        images[f"{name}\n{psnr(image, photograph, mask=mask):.1f} dB in the hole"] = image
    images["original"] = photograph
    rows, columns = _find_edges(photograph, mask)
    for axes, (title, image) in zip(figure.subplots(2, 4).T, images.items(), strict=True):
        plot.image(axes[0], image, title)
        plot.image(axes[1], image[:, rows, columns])


def _find_edges(photograph, mask, size=48):
    """(3, H, W), (1, H, W) -> slices of a square with as many edges inside the hole as possible."""
    grey = photograph.mean(0, keepdim=True)
    contrast = F.max_pool2d(grey[None], 3, 1, 1) + F.max_pool2d(-grey[None], 3, 1, 1)
    hidden = F.avg_pool2d(contrast * mask, size, stride=1)[0, 0]
    top, left = divmod(int(hidden.argmax()), hidden.shape[1])
    return slice(top, top + size), slice(left, left + size)


# --- style --------------------------------------------------------------------------------------------------


def draw_gram(figure: Figure, features: torch.Tensor, gram: torch.Tensor, order: Sequence[int]) -> None:
    """(D, N) features at N pixels, (D, D), another order of the pixels: the same Gram matrix belongs to
    both.
    """
    panels = figure.subplots(1, 3, width_ratios=(1.6, 1, 1.6))
    for axes, numbers, title in (
        (panels[0], features, f"features at {features.shape[1]} pixels"),
        (panels[1], gram, "Gram matrix of both"),
        (panels[2], features[:, list(order)], "the pixels in another order"),
    ):
        plot.numbers(axes, numbers, title)
    for axes in (panels[0], panels[2]):
        for row, name in enumerate(("blue", "yellow")):
            axes.annotate(name, (-0.6, row), ha="right", va="center", fontsize=8, annotation_clip=False)
    for axes, pixels in ((panels[0], range(features.shape[1])), (panels[2], order)):
        for column, pixel in enumerate(pixels):
            place = {"ha": "center", "va": "top", "fontsize": 8, "annotation_clip": False}
            axes.annotate(f"pixel {pixel}", (column, len(features) - 0.4), **place)


def draw_styles(
    figure: Figure, columns: Sequence[tuple[str, torch.Tensor, torch.Tensor, torch.Tensor]]
) -> None:
    """(name, style, photograph, result) of each column: a row of styles, one of photographs, one of
    results.
    """
    panels = figure.subplots(3, len(columns))
    for axes, (name, *images) in zip(panels.T, columns, strict=True):
        for panel, image in zip(axes, images, strict=True):
            plot.image(panel, cut_middle(image, min(image.shape[1:])))
        axes[0].set_title(name)
    for panel, name in zip(panels[:, 0], ("style", "photograph", "result"), strict=True):
        panel.set_ylabel(name)


# --- quality ------------------------------------------------------------------------------------------------


def draw_distortion(
    figure: Figure,
    image: torch.Tensor,
    measure: Callable[[torch.Tensor, torch.Tensor], float] | None,
    kind: str = "blur",
    strength: float = 0.3,
) -> None:
    """(3, H, W), perceptual distance or None, a distortion, its strength in [0, 1]: both images, and the
    measures of their difference.
    """
    spoiled = spoil(image, kind, strength)
    panels = figure.subplots(1, 3, width_ratios=(1, 1, 0.8))
    plot.image(panels[0], image, "original")
    plot.image(panels[1], spoiled, f"{kind}, strength {strength:.1f}")
    lines = [f"PSNR {psnr(spoiled, image):.1f} dB", f"SSIM {ssim(spoiled, image):.3f}"]
    if measure is not None:
        lines.append(f"perceptual distance {measure(spoiled, image):.3f}")
    panels[2].annotate("\n\n".join(lines), (0, 0.5), va="center", fontsize=10)
    panels[2].axis("off")


def spoil(image: torch.Tensor, kind: str, strength: float) -> torch.Tensor:
    """(3, H, W), "blur", "noise", "JPEG" or "brighter", a number in [0, 1] -> (3, H, W)."""
    if kind == "blur":
        return blur(image, 6 * strength).clamp(0, 1)
    if kind == "noise":
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
        return (image + 0.3 * strength * noise).clamp(0, 1)
    if kind == "JPEG":
        return compress(image, max(1, round(95 * (1 - strength) ** 2)))
    return (image + 0.4 * strength).clamp(0, 1)


def draw_severities(figure: Figure, table: dict[str, dict[str, list[float]]]) -> None:
    """{distortion: {measure: values}}: a panel a measure, a line a distortion."""
    measures = list(next(iter(table.values())))
    for axes, measure in zip(np.atleast_1d(figure.subplots(1, len(measures))), measures, strict=True):
        for colour, (name, values) in zip(COLOURS, table.items(), strict=False):
            axes.plot(range(1, 5), values[measure], "o-", color=colour, label=name)
        axes.set(
            title=f"{measure}, dB" if measure == "PSNR" else measure, xlabel="severity", xticks=range(1, 5)
        )
    axes.legend()


def draw_clothes(figure: Figure, sheets: dict[float, torch.Tensor]) -> None:
    """{strength of the edit: (N, 1, 28, 28)}: a row for each strength."""
    for axes, (strength, images) in zip(figure.subplots(len(sheets), 1), sheets.items(), strict=True):
        plot.image(axes, torch.cat(list(images), dim=2))
        name = f"strength {strength:g}" if strength else "before"
        axes.set_ylabel(name, rotation=0, ha="right", va="center")


def draw_result(figure: Figure, pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
    """{edit: (before, after)}: the chapter's result, a column an edit."""
    for axes, (name, (before, after)) in zip(figure.subplots(2, len(pairs)).T, pairs.items(), strict=True):
        plot.image(axes[0], before, name)
        plot.image(axes[1], after)


def draw_discriminators(figure: Figure, found: dict[str, list]) -> None:
    """What `follow_discriminator` gives: the generator's loss, though the generator stays the same."""
    axes = figure.subplots()
    for colour, name in zip(COLOURS, ("generator's loss", "discriminator's loss"), strict=False):
        for index, row in enumerate(found[name]):
            axes.plot(found["steps"], row, "o-", color=colour, label=name if index == 0 else None)
    axes.set(xlabel="training steps of the discriminator; the generator is fixed", ylabel="loss, nats")
    axes.legend()


def draw_slants(figure: Figure, angles: dict[str, torch.Tensor], samples: dict[str, torch.Tensor]) -> None:
    """{name: (M,) degrees}, {name: (N, 1, H, W)}: samples on the left, their slants on the right."""
    panels = figure.subplots(len(angles), 2, width_ratios=(1.3, 1), sharex="col")
    for row, (name, degrees) in zip(panels, angles.items(), strict=True):
        order = degrees[:8].argsort()
        plot.image(row[0], torch.cat(list(samples[name][:8][order]), dim=2), f"{name}: eight samples")
        row[1].hist(degrees.numpy(), bins=np.arange(-92.5, 93, 5), color=plot.BLUE)
        row[1].set(yticks=[], title=f"standard deviation {degrees.std():.0f}°")
    panels[-1][1].set_xlabel("slant of the samples, degrees")


def draw_bars(axes: Axes, values: dict[str, float], xlabel: str) -> Axes:
    """{name: value} -> axes: a bar each, the first on top."""
    bars = axes.barh(range(len(values)), list(values.values()), color=plot.BLUE)
    axes.bar_label(bars, fmt="%.1f", padding=2)
    axes.margins(x=0.12)
    axes.set(yticks=range(len(values)), yticklabels=list(values), xlabel=xlabel)
    axes.invert_yaxis()
    return axes
