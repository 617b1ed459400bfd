"""Chapter 5b: one head and a vision transformer as drawings, attention among the patches of a photograph, the
effect of √d, the cost of attention, and maps of what networks attend to.
"""

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch.nn import functional as F

from vlmbook import plot
from vlmbook.attention import attention, to_patches
from vlmbook.chapters.ch05b.experiments import resize_photo

PATCH = 16  # pixels a side
KEYS = 16  # that a query meets in `draw_scale`
DARKEST = 0.15  # what stays of a pixel where a map is 0

# --- drawings of the networks -------------------------------------------------------------------------------


def draw_patches(figure: Figure, photo: torch.Tensor, patch_size: int, order: torch.Tensor):
    """(3, H, W), pixels a side, (N,) -> the photograph, its patches with gaps between them, and the same
    patches in another order.
    """
    rows, columns = (side // patch_size for side in photo.shape[1:])
    patches = rearrange(photo, "c (h p) (w q) -> (h w) c p q", h=rows, w=columns)
    panels = figure.subplots(1, 3)
    plot.image(panels[0], photo, "a photograph")
    for panel, some, title in (
        (panels[1], patches, f"{len(patches)} patches"),
        (panels[2], patches[order], "in another order"),
    ):
        gap = max(1, patch_size // 8)
        apart = F.pad(some, (0, gap, 0, gap), value=1)
        plot.image(panel, rearrange(apart, "(h w) c p q -> c (h p) (w q)", h=rows), title)


def draw_head(figure: Figure, tokens: int, width: int, heads: int):
    """N, D, h -> self-attention of one head, and what the heads do together: a box a step, with the shape
    of its output.
    """
    head = width // heads
    wide, narrow, square = f"{tokens}×{width}", f"{tokens}×{head}", f"{tokens}×{tokens}"
    boxes = {
        "x": (0, 0, f"tokens X\n{wide}", plot.GREY),
        "q": (1.3, 1, f"queries\nQ = X W_Q\n{narrow}", plot.BLUE),
        "k": (1.3, 0, f"keys\nK = X W_K\n{narrow}", plot.BLUE),
        "v": (1.3, -1, f"values\nV = X W_V\n{narrow}", plot.GREEN),
        "s": (2.75, 0.5, f"scores\nQ Kᵀ / √{head}\n{square}", plot.BLUE),
        "a": (4.05, 0.5, f"weights\nsoftmax of\neach row\n{square}", plot.ORANGE),
        "o": (5.2, -0.25, f"weights · V\n{narrow}", plot.GREEN),
        "c": (6.45, -0.25, f"{heads} heads\nside by side\n{wide}", plot.GREY),
        "y": (6.45, 0.85, f"output: × W_O\n{wide}", plot.GREY),
    }
    axes = figure.subplots()
    drawn = {name: _draw_box(axes, *box) for name, box in boxes.items()}
    for start, end in ("xq", "xk", "xv", "qs", "ks", "sa", "ao", "vo", "oc", "cy"):
        ends = {"patchA": drawn[start].get_bbox_patch(), "patchB": drawn[end].get_bbox_patch()}
        axes.add_patch(_arrow(boxes[start][:2], boxes[end][:2], **ends))
    axes.set(xlim=(-0.55, 7.05), ylim=(-1.45, 1.45))
    axes.axis("off")


def draw_vit(figure: Figure, side: int, patch: int, channels: int, width: int, depth: int, classes: int):
    """Sizes -> a vision transformer from the image to the logits, and below it one pre-LN block with its two
    residual connections; a box a step, with the shape of its output.
    """
    patches = (side // patch) ** 2
    tokens = f"{patches + 1}×{width}"
    chain = [
        ("image", f"{channels}×{side}×{side}", plot.GREY),
        ("cut into\npatches", f"{patches}×{channels * patch**2}", plot.GREY),
        ("linear\nmap E", f"{patches}×{width}", plot.BLUE),
        ("+ class\ntoken", tokens, plot.BLUE),
        ("+ positions", tokens, plot.BLUE),
        (f"{depth} blocks", tokens, plot.ORANGE),
        ("LN of the\nclass token", f"{width}", plot.BLUE),
        ("linear\nmap", f"{classes} logits", plot.GREEN),
    ]
    block = [
        ("in", tokens, plot.GREY),
        ("LN", tokens, plot.BLUE),
        ("multi-head\nattention", tokens, plot.ORANGE),
        ("+", "", plot.GREY),
        ("LN", tokens, plot.BLUE),
        ("linear\nmap", f"{patches + 1}×{4 * width}", plot.BLUE),
        ("GELU", f"{patches + 1}×{4 * width}", plot.BLUE),
        ("linear\nmap", tokens, plot.BLUE),
        ("+", "", plot.GREY),
        ("out", tokens, plot.GREY),
    ]
    above, below = figure.subplots(2, 1, height_ratios=(1.9, 3.1))
    _draw_chain(above, chain, [], "The network")
    _draw_chain(below, block, [(0, 3), (3, 8)], "One block")


def _draw_chain(axes: Axes, parts: Sequence[tuple[str, str, str]], arcs: Sequence[tuple[int, int]], title):
    """Boxes from left to right with the shapes below them; an arc is a residual connection."""
    for number, (name, shape, colour) in enumerate(parts):
        _draw_box(axes, number, 0, name, colour)
        axes.text(number, -0.95, shape, ha="center", va="center", fontsize=8, color="0.3")
        if number:
            axes.add_patch(_arrow((number - 0.62, 0), (number - 0.4, 0)))
    for start, end in arcs:
        axes.plot([start + 0.48, start + 0.48, end], [0, 1.15, 1.15], color=plot.ORANGE, linewidth=1.5)
        axes.add_patch(_arrow((end, 1.17), (end, 0.4), color=plot.ORANGE, linewidth=1.5))
        axes.text((start + end + 0.48) / 2, 1.3, "residual connection", ha="center", va="bottom", fontsize=8)
    axes.set(xlim=(-0.6, len(parts) - 0.4), ylim=(-1.2, 1.9 if arcs else 0.7))
    axes.set_title(title)
    axes.axis("off")


def _draw_box(axes, x, y, label, colour):
    box = {"boxstyle": "round,pad=0.35", "edgecolor": colour, "facecolor": "white", "linewidth": 1.5}
    return axes.text(x, y, label, ha="center", va="center", fontsize=8, bbox=box, zorder=3)


def _arrow(start, end, color="0.35", **style):
    return FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=10, color=color, shrinkA=0, shrinkB=0, **style
    )


# --- attention by hand --------------------------------------------------------------------------------------


def draw_similarity(
    figure: Figure, photo: str = "astronaut", row: int = 3, column: int = 3, sharpness: float = 12
):
    """One patch of a photograph is the query, all patches are keys and values: query and keys are the patches
    themselves, at length 1.

    The middle panel is dark where the weights are small. The last panel shows all outputs: each patch is
    replaced by its weighted mean of all patches.
    """
    image = resize_photo(photo)
    patches = to_patches(image[None], PATCH)[0]  # (N, 3·16·16)
    keys = F.normalize(patches - patches.mean(0), dim=1)
    queries = sharpness * keys.shape[1] ** 0.5 * keys  # `attention` divides by this root
    outputs, attention_weights = attention(queries, keys, patches)
    rows, columns = (side // PATCH for side in image.shape[1:])
    row_of_query = attention_weights[row * columns + column]
    mixed = rearrange(outputs, "(r c) (k p q) -> k (r p) (c q)", r=rows, k=3, p=PATCH)
    panels = figure.subplots(1, 3)
    plot.image(panels[0], image, f"{photo}: the query in orange")
    weights_shown = light(image, row_of_query.view(rows, columns))
    plot.image(panels[1], weights_shown, f"its weights, up to {row_of_query.max():.2f}")
    plot.image(panels[2], mixed, "output of every patch")
    for panel in panels:
        _frame(panel, row, column, PATCH)


def draw_scale(figure: Figure, d: int = 64):
    """Scores of 200 queries of d random numbers, each with 16 keys of its own, and the attention weights of
    the first query: without √d in the upper row (orange), with it in the lower one (blue).

    The random numbers are the same each time. The slope is the mean over queries and keys of the derivative
    of a weight for its own score.
    """
    generator = torch.Generator().manual_seed(2)
    q = torch.randn(200, d, 1, generator=generator)
    k = torch.randn(200, KEYS, d, generator=generator)
    products = (k @ q)[..., 0]
    rows = {"q·k": (products, plot.ORANGE), f"q·k / √{d}": (products / d**0.5, plot.BLUE)}
    panels = figure.subplots(2, 2)
    for (left, right), (name, (scores, colour)) in zip(panels, rows.items(), strict=True):
        attention_weights = scores.softmax(-1)
        slope = (attention_weights * (1 - attention_weights)).mean()
        left.hist(scores.flatten().numpy(), bins=40, color=colour)
        left.set(yticks=[], title=f"scores {name}: standard deviation {scores.std():.2f}")
        right.bar(range(1, KEYS + 1), attention_weights[0].tolist(), color=colour)
        right.axhline(1 / KEYS, color=plot.GREY, linestyle="--")
        right.set(ylim=(0, 1), xticks=range(1, KEYS + 1), title=f"weights of one query: slope {slope:.4f}")
    panels[1, 1].set_xlabel("key; dashed: equal weights")
    limit = 1.05 * products.abs().max().item()
    for left in panels[:, 0]:
        left.set_xlim(-limit, limit)


def draw_cost(
    figure: Figure, tokens: list[int], seconds: dict[str, list[float]], saved_bytes: dict[str, list[int]]
):
    """list of N, {name: seconds for each N}, {name: bytes}: time and memory, on logarithmic axes."""
    left, right = figure.subplots(1, 2)
    for name in seconds:
        left.plot(tokens, [1e3 * each for each in seconds[name]], "o-", label=name)
        right.plot(tokens, [each / 1e6 for each in saved_bytes[name]], "o-", label=name)
    for panel, title in ((left, "ms, forward and backward"), (right, "MB saved for the backward pass")):
        panel.set(xscale="log", yscale="log", xlabel="tokens", title=title)
        panel.set_xticks(tokens, [str(n) for n in tokens])
        panel.minorticks_off()
    left.legend()


def draw_error_rates(figure: Figure, accuracies: dict[int, dict[str, torch.Tensor]]):
    """{number of training images: {name: (seeds,) accuracy on the test images}}: error rates, mean ± std, a
    panel a number.
    """
    panels = figure.subplots(1, len(accuracies), sharex=True, sharey=True, squeeze=False)[0]
    for panel, (n, of_nets) in zip(panels, accuracies.items(), strict=True):
        errors = 100 * (1 - torch.stack(list(of_nets.values())))
        mean, std = errors.mean(1), errors.std(1)
        plot.intervals(panel, list(of_nets), mean, mean - std, mean + std, "error rate, %, mean ± std")
        panel.set(title=f"{n:,} training images", xlim=(0, None))


def draw_interventions(figure: Figure, stay: dict[str, list[float]], strengths: dict[str, float]):
    """{"change, block 1": shares of predictions that stay, one a draw}, {"change, block 1": distance}: mean
    ± std of the shares, and below it the strength of each change; a group a block, a colour a change.
    """
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.7, 1))
    changes = list(dict.fromkeys(name.rpartition(", ")[0] for name in stay))
    blocks = list(dict.fromkeys(name.rpartition(", ")[2] for name in stay))
    for number, change in enumerate(changes):
        names = [f"{change}, {block}" for block in blocks]
        at = [group + 0.25 * (number - (len(changes) - 1) / 2) for group in range(len(blocks))]
        shares = 100 * torch.tensor([stay[name] for name in names])  # (blocks, draws)
        mean, std = shares.mean(1).tolist(), shares.std(1).tolist()
        above.bar(at, mean, 0.22, yerr=std, label=change, capsize=2)
        below.bar(at, [strengths[name] for name in names], 0.22)
    above.set(ylim=(0, 105), title="predictions that stay, %")
    below.set(ylim=(0, 1.05), title="strength of the change (total variation)")
    below.set_xticks(range(len(blocks)), blocks)
    figure.legend(loc="outside right upper")


def draw_maps(figure: Figure, images: torch.Tensor, cells: torch.Tensor, maps: dict[str, torch.Tensor]):
    """(n, C, H, W), (n,) in 0 … 8, {name: (n, h, w)}: a column an image, a row a map; the image is dark where
    the map is small. The true cell is orange.
    """
    panels = figure.subplots(1 + len(maps), len(images), squeeze=False)
    for column, cell in enumerate(cells.tolist()):
        plot.image(panels[0, column], images[column])
        for line, each in zip(panels[1:], maps.values(), strict=True):
            plot.image(line[column], light(images[column], each[column]))
            _frame(line[column], cell // 3, cell % 3, images.shape[-1] / 3)
    for panel, name in zip(panels[:, 0], ["image", *maps], strict=True):
        panel.set_ylabel(name, rotation=0, ha="right", va="center")


def draw_heads(
    figure: Figure,
    images: torch.Tensor,
    attention_weights: list[torch.Tensor],
    image: int = 0,
    block: int = 0,
    head: int = 0,
    query: int = 0,
):
    """The attention weights of one head for one query, in one image and in the mean over all; query 0 is the
    class token, then come the patches.

    images: (n, C, H, W), square; attention_weights: list over blocks of (n, h, N + 1, N + 1).
    """
    rows = attention_weights[block][:, head, query]  # (n, N + 1)
    side = math.isqrt(rows.shape[1] - 1)
    panels = figure.subplots(1, 3)
    token = "the class token" if query == 0 else f"patch {query}"
    plot.image(panels[0], images[image], f"image {image}, query: {token}")
    panels[0].set_xlabel(f"block {block + 1}, head {head + 1}")
    patches = rows[image, 1:].view(side, side)
    plot.image(panels[1], light(images[image], patches), f"its weights, up to {patches.max():.2f}")
    patches = rows[:, 1:].mean(0).view(side, side)
    plot.image(panels[2], patches / patches.max(), f"mean of {len(images)} images, up to {patches.max():.2f}")
    for panel, row in ((panels[1], rows[image]), (panels[2], rows.mean(0))):
        panel.set_xlabel(f"on the class token: {row[0]:.0%}")
    if query > 0:
        pixels = images.shape[-1] / side
        for panel, size in zip(panels, (pixels, pixels, 1), strict=True):
            _frame(panel, (query - 1) // side, (query - 1) % side, size)


def _frame(panel: Axes, row: int, column: int, size: float):
    """An orange border around a cell of a grid whose cells are `size` pixels wide."""
    corner = (column * size - 0.5, row * size - 0.5)
    panel.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=plot.ORANGE, linewidth=2))


def draw_words(figure: Figure, image: torch.Tensor, words: Sequence[str], attention_weights: torch.Tensor):
    """(3, H, W), W words, (W, N) with N patches of a square image -> the image, and for each word the same
    image, dark where the word's weights are small.
    """
    side = math.isqrt(attention_weights.shape[1])
    panels = figure.subplots(1, 1 + len(words))
    plot.image(panels[0], image, "image")
    for panel, word, row in zip(panels[1:], words, attention_weights, strict=True):
        plot.image(panel, light(image, row.view(side, side)), f"“{word}”")


def light(image: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """(C, H, W), (h, w) -> (C, H, W): the image, as bright as the map, whose maximum keeps every pixel as it
    is. Values below zero count as zero.
    """
    share = (values / values.max().clamp(min=1e-9)).clamp(min=0)
    share = F.interpolate(share[None, None], size=image.shape[1:], mode="nearest")[0]
    return image * (DARKEST + (1 - DARKEST) * share)
