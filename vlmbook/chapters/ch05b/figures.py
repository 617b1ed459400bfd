"""Chapter 5b: attention among the patches of a photograph, what √d does, what attention costs, where networks
look.
"""

import math

import torch
from einops import rearrange
from matplotlib.patches import Rectangle
from torch.nn import functional as F

from vlmbook import data, plot
from vlmbook.attention import attention, to_patches

PATCH = 16


def resized(name, size=(192, 256)):
    """str -> (3, H, W): the photo at that size."""
    return F.interpolate(data.photo(name)[None], size=size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def draw_similarity(figure, photo="coffee", row=9, column=4, sharpness=15):
    """A patch of a photograph asks, all patches answer: query and keys are the patches themselves, at length
    1.

    On the right the answer: the patches of the photograph, each replaced by what it takes from all others.
    """
    image = resized(photo)
    patches = to_patches(image[None], PATCH)[0]  # (N, 3·16·16)
    keys = F.normalize(patches - patches.mean(0), dim=1)
    answers, weights = attention(sharpness * keys.shape[1] ** 0.5 * keys, keys, patches)
    rows, columns = (side // PATCH for side in image.shape[1:])
    asked = weights[row * columns + column]
    mixed = rearrange(answers, "(r c) (k p q) -> k (r p) (c q)", r=rows, k=3, p=PATCH)
    panels = figure.subplots(1, 3)
    plot.image(panels[0], image, f"{photo}: the query in orange")
    plot.image(panels[1], asked.view(rows, columns) / asked.max(), f"its weights, up to {asked.max():.2f}")
    plot.image(panels[2], mixed, "every patch's answer")
    for panel, size in zip(panels, (PATCH, 1, PATCH), strict=True):
        corner = (column * size - 0.5, row * size - 0.5)
        panel.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=plot.ORANGE, linewidth=2))


def draw_scale(figure, d=64, scaled=True):
    """Scores of 200 queries of d random numbers, each with 16 keys of its own, and the weights of the first
    query.

    The generator is a fixed one. The slope is the mean over queries of how far a weight moves with its own
    score.
    """
    generator = torch.Generator().manual_seed(2)
    q, k = torch.randn(200, d, 1, generator=generator), torch.randn(200, 16, d, generator=generator)
    scores = (k @ q)[..., 0] / (d**0.5 if scaled else 1)
    weights = scores.softmax(-1)
    slope = (weights * (1 - weights)).mean()
    left, right = figure.subplots(1, 2)
    left.hist(scores.flatten().numpy(), bins=40, color=plot.BLUE)
    left.set(
        xlabel=f"q·k / √{d}" if scaled else "q·k", yticks=[], title=f"standard deviation {scores.std():.2f}"
    )
    right.bar(range(1, 17), weights[0].tolist(), color=plot.BLUE)
    right.axhline(1 / 16, color=plot.GREY, linestyle="--")
    right.set(
        xlabel="key",
        ylabel="weight of one query",
        ylim=(0, 1),
        xticks=range(1, 17),
        title=f"slope {slope:.4f}, even weights dashed",
    )


def draw_cost(figure, tokens, seconds, kept):
    """list of N, {name: list of seconds}, {name: list of bytes}: time and memory, on logarithmic axes."""
    left, right = figure.subplots(1, 2)
    for name in seconds:
        left.plot(tokens, [1e3 * s for s in seconds[name]], "o-", label=name)
        right.plot(tokens, [n / 1e6 for n in kept[name]], "o-", label=name)
    for panel, what in ((left, "ms, forward and backward"), (right, "MB kept for the backward pass")):
        panel.set(xscale="log", yscale="log", xlabel="tokens", title=what)
        panel.set_xticks(tokens, [str(n) for n in tokens])
        panel.minorticks_off()
    left.legend()


def draw_learners(figure, shares):
    """{number of images: {name: (seeds,) share of the test images read rightly}}: mean ± std, a panel a
    number.
    """
    panels = figure.subplots(1, len(shares), sharex=True, sharey=True, squeeze=False)[0]
    for panel, (n, of) in zip(panels, shares.items(), strict=True):
        wrong = 100 * (1 - torch.stack(list(of.values())))
        mean, std = wrong.mean(1), wrong.std(1)
        plot.intervals(panel, list(of), mean, mean - std, mean + std, "% wrong, mean ± std")
        panel.set(title=f"{n:,} training images", xlim=(0, None))


def draw_losses(figure, losses, window=10):
    """{name: list of float, one a step}: each as means of `window` steps, on a logarithmic scale."""
    axes = figure.subplots()
    for name, each in losses.items():
        means = torch.tensor(each).unfold(0, window, window).mean(1)
        axes.semilogy(range(window, len(means) * window + 1, window), means, label=name)
    axes.set(xlabel="step", ylabel="cross-entropy, nats")
    axes.legend()


def draw_looks(figure, images, cells, maps):
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
    for line, name in zip(panels[:, 0], ["image", *maps], strict=True):
        line.set_ylabel(name, rotation=0, ha="right", va="center")


def draw_heads(figure, images, weights, image=0, block=0, head=0, query=0):
    """Where one head looks: in one image, and in the mean over all; query 0 is the class token, then the
    patches.

    images: (n, 1, H, W), square; weights: list over blocks of (n, h, N + 1, N + 1).
    """
    rows = weights[block][:, head, query]  # (n, N + 1)
    side = math.isqrt(rows.shape[1] - 1)
    panels = figure.subplots(1, 3)
    asks = "the class token" if query == 0 else f"patch {query}"
    plot.image(panels[0], images[image], f"image {image}, {asks} asks")
    panels[0].set_xlabel(f"block {block}, head {head}")
    means = f"mean of {len(images)}"
    for panel, row, name in zip(panels[1:], (rows[image], rows.mean(0)), ("here", means), strict=True):
        seen = row[1:].view(side, side)
        plot.image(panel, seen / seen.max().clamp(min=1e-9), f"{name}, up to {seen.max():.2f}")
        panel.set_xlabel(f"on the class token: {row[0]:.0%}")
    if query:
        for panel, size in zip(panels, (images.shape[-1] / side, 1, 1), strict=True):
            _frame(panel, (query - 1) // side, (query - 1) % side, size)


def _frame(panel, row, column, size):
    panel.add_patch(
        Rectangle(
            (column * size - 0.5, row * size - 0.5),
            size,
            size,
            fill=False,
            edgecolor=plot.ORANGE,
            linewidth=1.8,
        )
    )


# --- what is drawn ------------------------------------------------------------------------------------------


def hide(digits, rows, seed):
    """(n, 1, 8, 8), (first, last) -> (n, 1, 24, 24), (n,) in 0 … 8: each digit in one of nine places on a
    texture.

    Brick, grass or gravel, cut from these rows of the photographs at half their size (256×256) and darkened
    under it.
    """
    grounds = torch.stack([F.avg_pool2d(data.photo(name)[:1], 2)[0] for name in ("brick", "grass", "gravel")])
    windows = grounds[:, rows[0] : rows[1]].unfold(1, 24, 4).unfold(2, 24, 4)  # (3, i, j, 24, 24)
    generator, n = torch.Generator().manual_seed(seed), len(digits)
    ground, i, j, cell = (torch.randint(high, (n,), generator=generator) for high in (*windows.shape[:3], 9))
    cells = rearrange(windows[ground, i, j], "n (r h) (c w) -> n (r c) h w", h=8, w=8).clone()
    at = torch.arange(n), cell
    cells[at] = torch.maximum(cells[at] / 2, digits[:, 0])
    return rearrange(cells, "n (r c) h w -> n 1 (r h) (c w)", r=3), cell


def inside(maps, cells):
    """(n, h, w), at least (n,) in 0 … 8 -> float: the share of a map in the true ninth, mean over the
    maps.
    """
    ninths = rearrange(maps, "n (r h) (c w) -> n (r c) h w", r=3, c=3).sum((2, 3))
    shares = ninths / ninths.sum(1, keepdim=True).clamp(min=1e-9)
    return shares.gather(1, cells[: len(maps), None]).mean().item()


def shuffled(x, order, patch):
    """(B, C, H, W), (N,) -> (B, C, H, W): the same patches, number order[i] now in place i."""
    size = {"h": x.shape[2] // patch, "p": patch, "q": patch}
    cells = rearrange(x, "b c (h p) (w q) -> b (h w) c p q", **size)[:, order]
    return rearrange(cells, "b (h w) c p q -> b c (h p) (w q)", **size)


def kept(f, *inputs):
    """function, tensors -> int: bytes that f(*inputs) keeps for its backward pass, each storage once."""
    found = {}

    def pack(x):
        found[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        held = f(*inputs)  # the graph, and with it all that was counted
    del held
    return sum(found.values())


@torch.no_grad()
def loud(net):
    """VisionTransformer -> the same, its weights so large that every dependence shows; its head starts at
    zero.
    """
    for p in net.parameters():
        p.normal_(std=0.3)
    return net
