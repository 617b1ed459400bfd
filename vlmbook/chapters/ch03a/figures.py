"""Chapter 3a: a kernel on a photograph, the window that slides, pooling under a shift, and where a
checkerboard comes from."""

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch.nn import functional as F

from vlmbook import data, plot
from vlmbook.chapters.ch03a.experiments import KERNELS, grey_photo
from vlmbook.convolution import avg_pool2d, conv2d, conv_transpose2d, max_pool2d, output_size

INPUT, TOUCHED, PADDING, MISSED = range(4)  # kinds of cells in `draw_window`
CELL_COLOURS = ["#cfe3f1", plot.ORANGE, "#dddddd", "#ffffff"]  # of these kinds


def draw_examples(
    figure: Figure,
    photo: str = "cat",
    names: tuple[str, ...] = ("blur", "sharpen", "vertical edges", "outline"),
) -> None:
    """Kernels, and below each its output on the photograph: in grey where its weights add up to 1, else
    signed.
    """
    columns = figure.subplots(2, len(names), height_ratios=(1, 2)).T
    for (above, below), name in zip(columns, names, strict=True):
        kernel = torch.tensor(KERNELS[name], dtype=torch.float32)
        y = conv2d(grey_photo(photo), kernel[None, None])[0]
        plot.numbers(above, kernel, name, form="{:.2g}")
        if kernel.sum() > 0.5:
            plot.image(below, y)
        else:
            plot.signed(below, y, limit=y.abs().quantile(0.99).item())


def draw_kernel(
    figure: Figure,
    photo: str = "coins",
    kernel: tuple[tuple[float, ...], ...] = KERNELS["vertical edges"],
    flip: bool = False,
) -> None:
    """A 3×3 kernel on a photograph; `flip` turns the kernel by 180°, which makes correlation the convolution
    of mathematics."""
    x = grey_photo(photo)
    weight = torch.tensor(kernel, dtype=torch.float32)
    weight = weight.flip(0, 1) if flip else weight
    y = conv2d(x, weight[None, None], padding=1)[0]
    before, middle, after = figure.subplots(1, 3, width_ratios=(1, 0.5, 1))
    plot.image(before, x[0], f"{photo}, 192×192")
    plot.numbers(middle, weight, f"kernel, sum {weight.sum():.2g}")
    if weight.sum() > 0.5 or (weight >= 0).all():
        plot.image(after, y, "output (clipped to [0, 1])")
    else:
        plot.signed(after, y, "output (blue < 0 < red)")


def draw_stem(figure: Figure, kernels: torch.Tensor, photo: str = "cat") -> None:
    """(n, 3, 3, 3) -> the kernels as small colour images, grey where a weight is 0, and below each its output
    on the photograph.
    """
    x = data.photo(photo)[None]
    side = min(x.shape[2:])
    x = F.interpolate(x[..., :side, :side] - 0.5, size=(128, 128), mode="area")
    outputs = conv2d(x, kernels)[0]
    for column, ((above, below), kernel, y) in enumerate(
        zip(figure.subplots(2, len(kernels), height_ratios=(1, 2)).T, kernels, outputs, strict=True)
    ):
        plot.image(above, 0.5 + kernel / (2 * kernel.abs().max()), f"no. {column + 1}")
        plot.signed(below, y, limit=y.abs().quantile(0.99).item())


def draw_by_hand(figure: Figure, x: torch.Tensor, kernel: torch.Tensor, window: int = 0) -> None:
    """(H, W), (K, K) -> one window of x framed, the kernel, their products, and the output with its pixel
    framed.
    """
    y = conv2d(x[None, None], kernel[None, None])[0, 0]
    row, column = divmod(window, y.shape[1])
    size = len(kernel)
    products = kernel * x[row : row + size, column : column + size] + 0  # so that -0 is 0
    figure.get_layout_engine().set(wspace=0.14)  # room for the signs
    panels = figure.subplots(1, 4, width_ratios=(4, 3, 3, 2.4))
    for panel, sign in zip(panels[1:], ("×", "=", "→"), strict=True):
        panel.text(-0.14, 0.5, sign, transform=panel.transAxes, ha="center", va="center", fontsize=12)
    plot.numbers(panels[0], x, "x, window framed")
    plot.numbers(panels[1], kernel, "w")
    plot.numbers(panels[2], products, f"products, sum {products.sum():g}")
    plot.numbers(panels[3], y, "y")
    for panel, (top, left, span) in ((panels[0], (row, column, size)), (panels[3], (row, column, 1))):
        panel.add_patch(
            Rectangle(
                (left - 0.5, top - 0.5), span, span, fill=False, edgecolor=plot.ORANGE, linewidth=3, zorder=5
            )
        )


def draw_stamps(figure: Figure, u: torch.Tensor, kernel: torch.Tensor, stride: int = 2) -> None:
    """(n,), (k,) -> a transposed convolution along one axis: a row for the stamp of each pixel, and their
    sum.
    """
    size = stride * (len(u) - 1) + len(kernel)
    stamps = torch.zeros(len(u), size)
    for position, pixel in enumerate(u):
        stamps[position, stride * position : stride * position + len(kernel)] = pixel * kernel
    above, below = figure.subplots(2, 1, height_ratios=(len(u), 1))
    plot.numbers(above, stamps)
    above.set_yticks(range(len(u)), [f"{pixel:g} × w at {stride * i}" for i, pixel in enumerate(u)])
    plot.numbers(below, stamps.sum(0, keepdim=True))
    below.set_yticks([0], ["sum"])
    for panel in (above, below):
        panel.tick_params(length=0)
        panel.set_aspect("auto")


def draw_cnn(figure: Figure) -> None:
    """The chapter's network from the image to the logits: a box a layer, labelled with shapes."""
    parts = (
        ("image", "1×8×8"),
        ("conv 3×3\nBN, ReLU", "32×8×8"),
        ("conv 3×3\nBN, ReLU", "32×8×8"),
        ("max pooling\n2×2", "32×4×4"),
        ("conv 3×3\nBN, ReLU", "64×4×4"),
        ("mean over\npositions", "64"),
        ("linear", "10 logits"),
    )
    axes = figure.subplots()
    for number, (name, shape) in enumerate(parts):
        colour = plot.BLUE if "conv" in name or name == "linear" else plot.GREY
        box = {"boxstyle": "round,pad=0.4", "edgecolor": colour, "facecolor": "white", "linewidth": 1.5}
        axes.text(number, 0, name, ha="center", va="center", fontsize=8, bbox=box, zorder=3)
        axes.text(number, -0.75, shape, ha="center", va="center", fontsize=8)
        if number:
            axes.annotate("", (number - 0.42, 0), (number - 0.58, 0), arrowprops={"arrowstyle": "-|>"})
    axes.set(xlim=(-0.5, len(parts) - 0.5), ylim=(-1, 0.6))
    axes.axis("off")


def draw_first_layer(
    figure: Figure, before: torch.Tensor, after: torch.Tensor, maps: torch.Tensor, image: torch.Tensor
) -> None:
    """(O, 1, 3, 3) twice, (O, H, W), (1, H, W) -> eight kernels before and after training, a row each, and
    the maps that they make of the image.
    """
    rows = figure.subplots(3, 9)
    for axes, label in zip(rows[:2, 0], ("at\nrandom", "after\ntraining"), strict=True):
        axes.text(0.5, 0.5, label, ha="center", va="center")
        axes.axis("off")
    plot.image(rows[2, 0], image, "image")
    strongest = after.flatten(1).norm(dim=1).topk(8).indices.tolist()
    for column, channel in enumerate(strongest, start=1):
        plot.signed(rows[0, column], before[channel, 0], f"no. {channel}")
        plot.signed(rows[1, column], after[channel, 0])
        plot.signed(rows[2, column], maps[channel])


def draw_window(
    figure: Figure,
    n: int = 7,
    kernel: int = 3,
    stride: int = 2,
    padding: int = 1,
    dilation: int = 1,
    window: int = 5,
) -> None:
    """Which input pixels make output pixel number `window`, on an n×n input: the output-size formula as a
    picture.
    """
    padded = n + 2 * padding
    span = dilation * (kernel - 1) + 1
    left, right = figure.subplots(1, 2)
    cells = np.pad(np.full((n, n), INPUT), padding, constant_values=PADDING)
    taps = dilation * np.arange(kernel)
    left.set_title(
        f"input {n}×{n}, with padding {padding} (grey): {padded}×{padded}\n"
        f"the window spans {dilation}·({kernel} − 1) + 1 = {span} pixels"
    )
    if span > padded:
        _draw_cells(left, cells, padded)
        right.set_title(f"no output: a window of {span} does not fit into {padded}")
        right.axis("off")
        return
    size = output_size(n, kernel, stride=stride, padding=padding, dilation=dilation)
    row, column = divmod(window % size**2, size)
    missed = np.setdiff1d(np.arange(padded), np.add.outer(stride * np.arange(size), taps))
    cells[missed, :] = MISSED
    cells[:, missed] = MISSED
    cells[np.ix_(row * stride + taps, column * stride + taps)] = TOUCHED
    out = np.full((size, size), INPUT)
    out[row, column] = TOUCHED
    _draw_cells(left, cells, padded)
    if len(missed):
        left.text(0, padded - 0.3, "white: no window comes here", va="top")
    _draw_cells(right, out, padded)
    right.set_title(
        f"output {size}×{size}, window {window % size**2 + 1} of {size**2}\n"
        f"⌊({padded} − {span}) / {stride}⌋ + 1 = {size}"
    )


def draw_pooling(
    figure: Figure, photo: str = "camera", kind: str = "max", window: int = 4, shift: int = 1
) -> None:
    """Pool a photograph and the same photograph shifted to the right by `shift` pixels: how much does the
    result change?"""
    pool = {"max": max_pool2d, "average": avg_pool2d}[kind]
    wide = grey_photo(photo, 176)
    x = wide[..., 16:, 16:]
    moved = wide[..., 16:, 16 - shift : 176 - shift]  # real pixels come in from the left
    before = pool(x, window)
    after = pool(moved, window)
    change = (after - before).abs().mean()
    change_without = (moved - x).abs().mean()
    row, column = _liveliest(after - before)
    panels = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.25))
    plot.image(panels[0], x[0], f"{photo}, {x.shape[-1]} wide")
    plot.image(panels[1], before[0], f"{kind} {window}×{window}: {before.shape[-1]} wide")
    plot.signed(panels[2], (after - before)[0], f"change after {shift} px", limit=0.5)
    panels[2].set_xlabel(f"mean |change| {change:.3f}\nwithout pooling {change_without:.3f}")
    pixels = [each[0, 0, row : row + 3, column : column + 3] for each in (before, after)]
    plot.numbers(panels[3], torch.cat(pixels), "before / after", form="{:.2f}", vmin=0, vmax=1)
    panels[3].axhline(2.5, color=plot.ORANGE, linewidth=3)


def _liveliest(change):
    """(1, 1, H, W) -> row, column: of the 3×3 pixels that change most, inside the image."""
    sums = F.avg_pool2d(change.abs(), 3, stride=1)[0, 0]
    return divmod(sums.argmax().item(), sums.shape[1])


def draw_checkerboard(figure: Figure, photo: str = "rocket", kernel: int = 3, stride: int = 2) -> None:
    """How many stamps of a transposed convolution cover each output pixel, and what uneven cover does to a
    photograph."""
    small = grey_photo(photo, 48)
    weight = torch.ones(1, 1, kernel, kernel) * (stride / kernel) ** 2  # keeps the mean brightness
    cover = conv_transpose2d(torch.ones(1, 1, 10, 10), torch.ones(1, 1, kernel, kernel), stride=stride)
    y = conv_transpose2d(small, weight, stride=stride)
    first = kernel - 1  # nearer to the border stamps are missing
    end = cover.shape[-1] - first
    inner = cover[..., first:end, first:end]
    panels = figure.subplots(1, 3)
    plot.image(panels[0], small[0], f"input, {small.shape[-1]}×{small.shape[-1]}")
    panels[1].imshow(cover[0, 0].numpy(), cmap="viridis", vmin=0)
    panels[1].set(xticks=[], yticks=[])
    panels[1].set_title(f"stamps a pixel gets: {int(inner.min())} to {int(inner.max())}")
    plot.image(panels[2], y[0], f"kernel {kernel}, stride {stride}: {y.shape[-1]}×{y.shape[-1]}")


def _draw_cells(axes, cells, room):
    """A grid of cells by kind, drawn as if `room` cells were on each side, so that two grids share one
    scale.
    """
    high = cells.shape[0]
    axes.imshow(cells, cmap=ListedColormap(CELL_COLOURS), vmin=0, vmax=3)
    axes.hlines(np.arange(high + 1) - 0.5, -0.5, high - 0.5, color=plot.GREY, linewidth=0.7)
    axes.vlines(np.arange(high + 1) - 0.5, -0.5, high - 0.5, color=plot.GREY, linewidth=0.7)
    axes.set(xlim=(-0.6, room - 0.4), ylim=(room - 0.4, -0.6), aspect="equal")
    axes.axis("off")
