"""The figures of chapter 3c: the U with its sizes, predictions side by side, networks with and without skips,
a threshold on probabilities, and the checkerboard of up-sampling.
"""

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from vlmbook import plot
from vlmbook.chapters.ch03c.experiments import iou_by_threshold
from vlmbook.unet import boundary_f1, iou


def draw_u(figure, height=64, width=64, first=8, depth=4, skip=True):
    """The maps of a U-Net as boxes, a row a level, with channels and sizes; arrows show what is concatenated
    where.
    """
    axes = figure.subplots()
    sizes = [(-(-height // 2**level), -(-width // 2**level)) for level in range(depth + 1)]
    for level, (rows, columns) in enumerate(sizes):
        channels, left, right = first * 2**level, level, 2 * depth + 2 - level
        ends = [(left, f"{channels}")] if level < depth else [((left + right) / 2, f"{channels}")]
        if level < depth:
            ends.append((right, f"{2 * channels if skip else channels} → {channels}"))
            axes.annotate(
                "",
                (right - 0.75, -level),
                (left + 0.4, -level),
                arrowprops=dict(arrowstyle="->", color=plot.ORANGE if skip else "white", linewidth=2),
            )
            below = depth + 1 if level == depth - 1 else left + 1
            above = depth + 1 if level == depth - 1 else right - 1
            axes.annotate("", (below - 0.1, -level - 0.7), (left, -level - 0.3), arrowprops=DOWN)
            axes.annotate("", (right, -level - 0.3), (above + 0.1, -level - 0.7), arrowprops=UP)
        for position, text in ends:
            axes.text(position, -level, text, ha="center", va="center", bbox=BOX)
        axes.text(2 * depth + 3.4, -level, f"{rows}×{columns}", ha="center", va="center")
    axes.text(2 * depth + 3.4, 0.75, "size", ha="center", va="center", color="black")
    axes.text(
        depth + 1,
        0.75,
        "orange: skip, copied and concatenated" if skip else "without skips",
        ha="center",
        va="center",
        color=plot.ORANGE if skip else "black",
    )
    axes.text(0, 0.75, "channels", ha="center", va="center")
    key = "blue: pooling\ngreen: transposed convolution\n" + (
        "a → b: channels after the concatenation\n→ after the convolutions" if skip else ""
    )
    axes.text(-0.9, -depth - 0.4, key, ha="left", va="bottom", fontsize=8, color="black")
    axes.set(xlim=(-0.9, 2 * depth + 4.2), ylim=(-depth - 0.5, 1.1))
    axes.axis("off")


def draw_rows(figure, images, truth, predictions, labels=()):
    """(n, 3, H, W), (n, H, W), {name: (n, H, W)}, n labels or none: a row an image; false negatives are blue,
    false positives red.
    """
    panels = figure.subplots(len(images), 2 + len(predictions), squeeze=False)
    for row, (line, image) in enumerate(zip(panels, images, strict=True)):
        plot.image(line[0], image, "image" if row == 0 else "")
        plot.image(line[1], truth[row], "ground truth" if row == 0 else "")
        for panel, (name, prediction) in zip(line[2:], predictions.items(), strict=True):
            plot.image(panel, colour_errors(prediction[row], truth[row]), name if row == 0 else "")
    for line, label in zip(panels, labels, strict=False):
        line[0].set_ylabel(label)
    figure.supxlabel("red: wrongly marked as object     blue: missed pixel of the object", fontsize=9)


def colour_errors(prediction, truth):
    """(H, W), (H, W) of 0 and 1 -> (3, H, W): white and black where right, false positives red, negatives
    blue.
    """
    colours = torch.tensor([[0.0, 0.0, 0.0], [0.84, 0.15, 0.1], [0.15, 0.45, 0.9], [1.0, 1.0, 1.0]])
    return colours[(2 * truth.long() + prediction.long())].movedim(-1, 0)


def draw_skip(figure, images, truth, predictions, image=0, errors_only=False):
    """One test image, its ground truth, and each network's prediction, or only the pixels where it is wrong.

    truth is (n, H, W) of 0 and 1, predictions {name: (n, H, W)}.
    """
    target = truth[image]
    panels = figure.subplots(1, 2 + len(predictions))
    plot.image(panels[0], images[image], f"test image {image}")
    plot.image(panels[1], target, "ground truth")
    for panel, (name, each) in zip(panels[2:], predictions.items(), strict=True):
        wrong = each[image] != target
        plot.image(panel, wrong.float() if errors_only else colour_errors(each[image], target), name)
        score = iou(each[[image]], target[None], 2)[1]
        outline = boundary_f1(each[[image]], target[None])
        panel.set_xlabel(f"IoU {score:.2f}\nboundary F1 {outline:.2f}\nwrong: {wrong.float().mean():.1%}")


def draw_threshold(figure, images, probability, truth, image=0, threshold=0.5):
    """One test image cut at a probability, and the object's IoU over all of them at every threshold."""
    before, map_, cut, curve = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.5))
    chosen = (probability[image] > threshold).long()
    plot.image(before, images[image], f"test image {image}")
    plot.image(map_, probability[image], "probability")
    plot.image(cut, colour_errors(chosen, truth[image]), f"above {threshold:.2f}")
    thresholds, scores = iou_by_threshold(probability, truth)
    curve.plot(thresholds, scores, color=plot.BLUE)
    now = iou((probability > threshold).long(), truth, 2)[1].item()
    curve.plot([threshold], [now], "o", color=plot.ORANGE)
    curve.set(
        xlabel="threshold",
        ylabel="IoU of the object",
        ylim=(0, 1),
        xlim=(0, 1),
        title=f"all images: {now:.3f}",
    )


def draw_level(figure, images, maps, silenced, truth, image=0, level=0, channel=0):
    """The encoder's map of one level for one image, and the prediction without the skip of that level.

    maps: list over levels of (n, C, h, w), the channels of largest variance first; silenced: list over levels
    of the predictions (n, H, W) with that level's skip set to zero.
    """
    before, kept, got = figure.subplots(1, 3)
    shown = maps[level][image][channel % maps[level].shape[1]]
    plot.image(before, images[image], f"test image {image}")
    low, high = shown.min(), shown.max()
    plot.image(
        kept,
        (shown - low) / (high - low).clamp(min=1e-6),
        f"level {level}: {shown.shape[0]}×{shown.shape[1]}",
    )
    kept.set_xlabel(f"channel {channel % maps[level].shape[1] + 1} of {maps[level].shape[1]}")
    score = iou(silenced[level][image][None], truth[image][None], 2)[1]
    plot.image(
        got, colour_errors(silenced[level][image], truth[image]), f"this skip set to zero: IoU {score:.2f}"
    )
    got.set_xlabel("red: too much, blue: missed")


def draw_tiles(figure: Figure, probability: torch.Tensor, changed: Mapping[str, torch.Tensor]) -> None:
    """(H, W), {name: (H, W) of 0 and 1} -> the probability of the whole image, and beside it, in red, the
    pixels whose class each kind of tiles changed, drawn five pixels wide.
    """
    grid = figure.add_gridspec(2, 4)
    plot.image(figure.add_subplot(grid[:, :2]), probability, "whole image: probability of an object")
    places = [figure.add_subplot(grid[row, column]) for row in (0, 1) for column in (2, 3)]
    for panel, (name, wrong) in zip(places, changed.items(), strict=True):
        pale = 0.6 + 0.35 * (probability > 0.5)
        wide = torch.nn.functional.max_pool2d(wrong[None], 5, stride=1, padding=2)[0]
        shown = torch.stack([pale + (1 - pale) * wide, pale * (1 - wide), pale * (1 - wide)])
        plot.image(panel, shown, name)
        panel.set_xlabel(f"{wrong.mean():.2%} changed")


def draw_cells(figure: Figure, image, membrane, cells, target) -> None:
    """(1, H, W), (H, W), (H, W) of numbers, (H, W) -> the slice, the probability of a membrane, the errors,
    and the cells that were found.
    """
    panels = figure.subplots(1, 4)
    plot.image(panels[0], image, "drawn tissue")
    plot.image(panels[1], membrane, "probability")
    plot.image(panels[2], colour_errors((membrane > 0.5).long(), target), "errors")
    panels[2].set_xlabel("red: too much\nblue: missed")
    _draw_labels(panels[3], cells, f"{len(np.unique(cells))} cells")


def draw_recorded(figure: Figure, membrane, cells) -> None:
    """(H, W), (H, W) of numbers -> the probability of a membrane, and the cells that were found."""
    left, right = figure.subplots(1, 2)
    plot.image(left, membrane, "test slice: probability of membrane")
    _draw_labels(right, cells, f"{len(np.unique(cells))} cells")


def _draw_labels(axes, cells, title):
    """Each number in a colour of its own, drawn at random."""
    colours = np.random.default_rng(0).uniform(0.25, 1, (int(cells.max()) + 1, 3))
    axes.imshow(cells, cmap=ListedColormap(colours), interpolation="nearest")
    axes.set(xticks=[], yticks=[], title=title)


def draw_pattern(figure, maps):
    """{name: (H, W)}: the logits of networks for a flat grey image, less their mean, on one scale."""
    limit = max((x - x.mean()).abs().max().item() for x in maps.values())
    for panel, (name, x) in zip(figure.subplots(1, len(maps)), maps.items(), strict=True):
        apart = x - x.mean()
        plot.signed(panel, apart, f"{name}: {apart.min():+.2f} to {apart.max():+.2f}", limit=limit)


BOX = dict(boxstyle="round", facecolor="#cfe3f1", edgecolor=plot.BLUE)
DOWN = dict(arrowstyle="->", color=plot.BLUE, linewidth=1.5)
UP = dict(arrowstyle="->", color=plot.GREEN, linewidth=1.5)
