"""Chapter 5b: attention among the patches of a photograph, the effect of √d, the cost of attention, and maps
of what networks attend to.
"""

import math

import torch
from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch.nn import functional as F

from vlmbook import plot
from vlmbook.attention import attention, to_patches
from vlmbook.chapters.ch05b.experiments import resize_photo

PATCH = 16  # pixels a side
KEYS = 16  # that a query meets in `draw_scale`


def draw_similarity(
    figure: Figure, photo: str = "coffee", row: int = 9, column: int = 4, sharpness: float = 15
):
    """One patch of a photograph is the query, all patches are keys and values: query and keys are the patches
    themselves, at length 1.

    The last panel shows all outputs: each patch is replaced by its weighted mean of all patches.
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
    highest = row_of_query.max()
    plot.image(panels[0], image, f"{photo}: the query in orange")
    plot.image(panels[1], row_of_query.view(rows, columns) / highest, f"its weights, up to {highest:.2f}")
    plot.image(panels[2], mixed, "every patch's output")
    for panel, size in zip(panels, (PATCH, 1, PATCH), strict=True):
        _frame(panel, row, column, size)


def draw_scale(figure: Figure, d: int = 64):
    """Scores of 200 queries of d random numbers, each with 16 keys of its own, and the attention weights of
    the first query: without √d in the upper row, with it in the lower one.

    The random numbers are the same each time. The slope is the mean over queries and keys of the derivative
    of a weight for its own score.
    """
    generator = torch.Generator().manual_seed(2)
    q = torch.randn(200, d, 1, generator=generator)
    k = torch.randn(200, KEYS, d, generator=generator)
    products = (k @ q)[..., 0]
    rows = {"q·k": products, f"q·k / √{d}": products / d**0.5}
    panels = figure.subplots(2, 2)
    for (left, right), (name, scores) in zip(panels, rows.items(), strict=True):
        attention_weights = scores.softmax(-1)
        slope = (attention_weights * (1 - attention_weights)).mean()
        left.hist(scores.flatten().numpy(), bins=40, color=plot.BLUE)
        left.set(xlabel=name, yticks=[], title=f"scores: standard deviation {scores.std():.2f}")
        right.bar(range(1, KEYS + 1), attention_weights[0].tolist(), color=plot.BLUE)
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


def draw_losses(figure: Figure, losses: dict[str, list[float]], window: int = 10):
    """{name: list of float, one a step}: each as means of `window` steps, on a logarithmic scale."""
    axes = figure.subplots()
    for name, each in losses.items():
        means = torch.tensor(each).unfold(0, window, window).mean(1)
        axes.semilogy(range(window, len(means) * window + 1, window), means, label=name)
    axes.set(xlabel="step", ylabel="cross-entropy, nats")
    axes.legend()


def draw_interventions(figure: Figure, stay: dict[str, list[float]], strengths: dict[str, float]):
    """{name: shares of predictions that stay, one a draw}, {name: distance}: mean ± std of the shares, and
    the strength of each intervention beside it.
    """
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    values = 100 * torch.tensor(list(stay.values()))
    mean = values.mean(1)
    std = values.std(1)
    plot.intervals(left, list(stay), mean, mean - std, mean + std, "predictions that stay, %")
    left.set_xlim(0, 105)
    rows = range(len(strengths) - 1, -1, -1)
    right.barh(rows, list(strengths.values()), 0.6, color=plot.GREY)
    right.set(xlim=(0, 1), xlabel="strength (total variation)", yticks=[], ylim=left.get_ylim())


def draw_maps(figure: Figure, images: torch.Tensor, cells: torch.Tensor, maps: dict[str, torch.Tensor]):
    """(n, 1, 24, 24), (n,) in 0 … 8, {name: (n, h, w)}: a column an image, the true cell in orange, a row a
    map.

    Each map is shown up to its own maximum, below zero black.
    """
    panels = figure.subplots(1 + len(maps), len(images), squeeze=False)
    for column, cell in enumerate(cells.tolist()):
        plot.image(panels[0, column], images[column])
        for line, each in zip(panels[1:], maps.values(), strict=True):
            plot.image(line[column], each[column] / each[column].max().clamp(min=1e-9))
            _frame(line[column], cell // 3, cell % 3, each.shape[1] / 3)
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

    images: (n, 1, H, W), square; attention_weights: list over blocks of (n, h, N + 1, N + 1).
    """
    rows = attention_weights[block][:, head, query]  # (n, N + 1)
    side = math.isqrt(rows.shape[1] - 1)
    panels = figure.subplots(1, 3)
    token = "the class token" if query == 0 else f"patch {query}"
    plot.image(panels[0], images[image], f"image {image}, query: {token}")
    panels[0].set_xlabel(f"block {block}, head {head}")
    shown = {"here": rows[image], f"mean of {len(images)}": rows.mean(0)}
    for panel, (name, row) in zip(panels[1:], shown.items(), strict=True):
        patches = row[1:].view(side, side)
        plot.image(panel, patches / patches.max().clamp(min=1e-9), f"{name}, up to {patches.max():.2f}")
        panel.set_xlabel(f"on the class token: {row[0]:.0%}")
    if query > 0:
        for panel, size in zip(panels, (images.shape[-1] / side, 1, 1), strict=True):
            _frame(panel, (query - 1) // side, (query - 1) % side, size)


def _frame(panel: Axes, row: int, column: int, size: float):
    """An orange border around a cell of a grid whose cells are `size` pixels wide."""
    corner = (column * size - 0.5, row * size - 0.5)
    panel.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=plot.ORANGE, linewidth=2))
