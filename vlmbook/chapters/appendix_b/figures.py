"""Appendix B: boxes and masks, three notations of a box, run lengths, statistics of a folder, the book's
figures.
"""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vlmbook import plot
from vlmbook.chapters.appendix_b.experiments import CLASSES, Claim, Pair
from vlmbook.data import AnnotatedImage, decode_mask, encode_mask
from vlmbook.data.statistics import FolderStatistics, ObjectStatistics

COLOURS = (plot.BLUE, plot.ORANGE, plot.GREEN, "#CC79A7", plot.GREY, "#56B4E9")
ROWS, COLUMNS = 6, 8  # of the small image of the notations


def draw_annotated(
    figure: Figure, pictures: Sequence[torch.Tensor], images: Sequence[AnnotatedImage]
) -> None:
    """n × (3, H, W), n AnnotatedImages: masks in colour, boxes, and the flags under each image."""
    columns = min(3, len(images))
    rows = -(-len(images) // columns)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(images) :]:
        axes.axis("off")
    for axes, picture, image in zip(panels.flat, pictures, images, strict=False):
        shown = picture.clone()
        for each in image.objects:
            if each.mask is not None:
                mask = decode_mask(each.mask)
                tint = torch.tensor([0.84, 0.37, 0.0] if each.crowd else [0.0, 0.62, 0.45])
                shown[:, mask] = 0.5 * shown[:, mask] + 0.5 * tint[:, None]
        plot.image(axes, shown)
        for each in image.objects:
            _frame(axes, each.box, plot.ORANGE if each.crowd or each.difficult else plot.BLUE)
        axes.set_title(f"{image.file}: {_describe(image)}", fontsize=8)


def _frame(axes, box, colour, **options):
    x1, y1, x2, y2 = box
    options = {"linewidth": 1.5, "linestyle": "-"} | options
    axes.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor=colour, **options))


def _describe(image):
    flags = [
        flag
        for flag in ("crowd", "difficult", "truncated", "occluded")
        if any(getattr(each, flag) for each in image.objects)
    ]
    count = len(image.objects)
    return f"{count} object{'s' * (count != 1)}" + (f" ({', '.join(flags)})" if flags else "")


def draw_notations(figure: Figure, left: int = 2, top: int = 1, width: int = 4, height: int = 3) -> None:
    """A box of whole pixels in an image of 8×6: its pixels, and its four numbers in three formats. A box that
    reaches out is cut at the border.
    """
    x2, y2 = min(left + width, COLUMNS), min(top + height, ROWS)
    axes, words = figure.subplots(1, 2, width_ratios=(1.2, 1))
    inside = np.zeros((ROWS, COLUMNS))
    inside[top:y2, left:x2] = 1
    axes.imshow(inside, cmap="Blues", vmin=0, vmax=2, extent=(0, COLUMNS, ROWS, 0))
    axes.hlines(range(ROWS + 1), 0, COLUMNS, color="#c8c8c8", linewidth=1)
    axes.vlines(range(COLUMNS + 1), 0, ROWS, color="#c8c8c8", linewidth=1)
    axes.add_patch(
        Rectangle((left, top), x2 - left, y2 - top, fill=False, edgecolor=plot.BLUE, linewidth=2.5)
    )
    axes.set(xticks=range(COLUMNS + 1), yticks=range(ROWS + 1), xlabel="edges, counted from 0")
    for column in range(COLUMNS):
        axes.text(column + 0.5, -0.25, column + 1, ha="center", color=plot.ORANGE, fontsize=8)
    for row in range(ROWS):
        axes.text(COLUMNS + 0.15, row + 0.5, row + 1, va="center", color=plot.ORANGE, fontsize=8)
    words.axis("off")
    words.set(xlim=(0, 1), ylim=(0, 1))
    lines = {
        "edges xyxy": f"{left}, {top}, {x2}, {y2}",
        "COCO": f"x, y, w, h = {left}, {top}, {x2 - left}, {y2 - top}",
        "VOC": f"{left + 1}, {top + 1}, {x2}, {y2}",
        "Open Images": f"{left / COLUMNS:.4g}, {x2 / COLUMNS:.4g}, {top / ROWS:.4g}, {y2 / ROWS:.4g}",
    }
    notes = ("corners", "corner and size", "first and last pixel, from 1", "x, x, y, y as parts of the image")
    places = np.linspace(0.92, 0.14, len(lines))
    for place, (name, text), note in zip(places, lines.items(), notes, strict=True):
        colour = plot.ORANGE if name == "VOC" else "black"
        words.text(0, place, f"{name}: {note}", fontsize=8, color=colour)
        words.text(0.04, place - 0.1, text, fontsize=10, weight="bold", color=colour)


def draw_runs(figure: Figure, mask: Sequence[Sequence[float]] = ((0, 0), (0, 1))) -> None:
    """Rows of 0 and 1: the mask with the order in which its pixels are read, and its runs as a bar."""
    pixels = torch.tensor([[float(value) != 0 for value in row] for row in mask])
    rle = encode_mask(pixels)
    left, right = figure.subplots(1, 2, width_ratios=(1, 2.4))
    left.imshow(pixels.float().numpy(), cmap="Blues", vmin=0, vmax=1.6)
    for place in range(pixels.numel()):
        left.text(place // rle.height, place % rle.height, place, ha="center", va="center", fontsize=8)
    left.set(xticks=[], yticks=[], title="read column by column")
    start = 0
    for place, count in enumerate(rle.counts):
        colour = "#7fb8d8" if place % 2 else "#e6e6e6"
        right.barh(0, count, left=start, color=colour, edgecolor="black", height=0.5)
        if count:
            right.text(start + count / 2, 0, count, ha="center", va="center")
        start += count
    right.set(yticks=[], ylim=(-0.8, 0.8), xlabel="pixels, in the order on the left")
    right.set_title(f"counts = {list(rle.counts)}, area = {rle.area}", fontsize=9)


def draw_mistakes(figure: Figure, found: dict[str, dict[str, list[float]]]) -> None:
    """{mistake: {size: mean IoU for each seed}}: a group of bars for each mistake."""
    axes = figure.subplots()
    for place, (size, colour) in enumerate(zip(CLASSES, COLOURS, strict=False)):
        means = [np.mean(rows[size]) for rows in found.values()]
        errors = [np.std(rows[size], ddof=1) for rows in found.values()]
        heights = [row + 0.25 * (place - 1) for row in range(len(found))]
        low, high = CLASSES[size]
        axes.barh(
            heights, means, 0.23, xerr=errors, color=colour, label=f"{size} (sides of {low} to {high} pixels)"
        )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(yticks=range(len(found)), xlabel="mean IoU with the right box", xlim=(0, 1.02))
    axes.set_yticklabels(list(found))
    axes.invert_yaxis()
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))


def draw_digits(figure: Figure, found: dict[int, list[float]]) -> None:
    """{width: the largest error in pixels after 1, 2, … digits}, with the half pixel that rounding mends."""
    axes = figure.subplots()
    for colour, (width, errors) in zip(COLOURS, found.items(), strict=False):
        axes.plot(range(1, len(errors) + 1), errors, "o-", color=colour, label=f"image of {width:,} pixels")
    axes.axhline(0.5, color="black", linestyle="--", linewidth=1, label="half a pixel")
    axes.set(yscale="log", xlabel="digits after the point", ylabel="largest error in pixels")
    axes.set_ylim(1e-4, None)  # below, the computer's own rounding
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))


def draw_fingerprints(figure: Figure, found: dict[str, list[int]], limit: int) -> None:
    """{change: differing bits}: a point for each photograph or pair, and the limit of `describe_folder`."""
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    for row, values in enumerate(found.values()):
        colour = plot.BLUE if row < len(found) - 1 else plot.ORANGE
        heights = row + rng.uniform(-0.25, 0.25, len(values))
        axes.plot(values, heights, "o", color=colour, markersize=4, alpha=0.6)
    axes.axvline(limit + 0.5, color="black", linestyle="--", linewidth=1)
    axes.set(yticks=range(len(found)), xlabel="bits of 64 that differ", xlim=(-1, 64))
    axes.set_yticklabels(list(found))
    axes.invert_yaxis()


def draw_pairs(figure: Figure, pairs: Sequence[Pair]) -> None:
    """Pairs of classifiers: the gap of their accuracies, and how often wrong labels hide it."""
    axes = figure.subplots()
    axes.plot([100 * pair.gap for pair in pairs], [100 * pair.lost for pair in pairs], "o", color=plot.BLUE)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xlabel="gap of two classifiers with right labels, in points", xlim=(0, None))
    axes.set_ylabel("better one not better\n(% of draws)")


def draw_claims(figure: Figure, claims: Sequence[Claim]) -> None:
    """Claims: the printed number, divided by that of the source; a factor of 1 is right."""
    axes = figure.subplots()
    ratios = [claim.ratio for claim in claims]
    colours = [plot.GREEN if abs(np.log(ratio)) < np.log(1.05) else plot.ORANGE for ratio in ratios]
    for row, (claim, colour) in enumerate(zip(claims, colours, strict=True)):
        axes.plot([1, claim.ratio], [row, row], color=colour, linewidth=2)
        axes.plot(claim.ratio, row, "o", color=colour, markersize=7)
        text = f"{claim.printed:,.0f} for {claim.sourced:,g}" if claim.sourced < 1e6 else ""
        text = text or f"{claim.printed:,.0f} for {claim.sourced:,.0f}"
        axes.text(max(claim.ratio, 1) * 1.12, row, text, va="center", fontsize=7)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", xlim=(0.15, 150), xlabel="the book's number / the source's number")
    axes.set(yticks=range(len(claims)))
    axes.set_yticklabels([f"{claim.set}: {claim.what}" for claim in claims])
    axes.invert_yaxis()


def draw_statistics(
    figure: Figure, found: FolderStatistics, objects: ObjectStatistics | None, faults: Sequence[str] = ()
) -> None:
    """Statistics of a folder: sizes, classes, areas of boxes where there are any, and a list of what is to be
    looked at.
    """
    left, middle, right, words = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.1))
    heights, widths = zip(*found.sizes.values(), strict=True) if found.sizes else ((), ())
    left.plot(widths, heights, "o", color=plot.BLUE, alpha=0.6)
    left.set(xlabel="width", ylabel="height", xlim=(0, None), ylim=(0, None), title="sizes")
    _draw_bars(middle, found.classes, "images by folder", plot.BLUE)
    _draw_bars(right, {} if objects is None else objects.classes, "objects by class", plot.ORANGE)
    words.axis("off")
    lines = [
        f"images: {len(found.sizes)}",
        f"largest / smallest class: {found.imbalance:.3g}",
        f"broken: {len(found.broken)}",
        f"copies: {sum(len(names) - 1 for names in found.duplicates)}",
        f"similar pairs: {len(found.similar)}",
        f"turned by EXIF: {len(found.turned)}",
        f"other files: {len(found.others)}",
    ]
    if objects is not None:
        lines += [
            f"objects: {sum(objects.per_image)}",
            f"images without: {len(objects.empty)}",
            ", ".join(f"{count} {size}" for size, count in objects.areas.items()),
            f"not read: {len(faults)}",
        ]
    for place, line in enumerate(lines):
        words.text(0, 1 - 0.1 * place, line, fontsize=8, va="top", transform=words.transAxes)


def _draw_bars(axes, counts, title, colour):
    shown = dict(list(counts.items())[:8])
    axes.barh(range(len(shown)), list(shown.values()), color=colour)
    axes.set(yticks=range(len(shown)), title=title)
    axes.set_yticklabels([name if len(name) <= 14 else f"{name[:13]}…" for name in shown])
    axes.invert_yaxis()
    if not shown:
        axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
