"""Drawings of chapter 4c: inputs and targets, the network, what a change of a token reaches, losses, images
of several models, the options of sampling, completed images, a linear probe, and where attention looks.
"""

from collections.abc import Mapping, Sequence

import torch
from einops import rearrange
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch.nn import functional as F

from vlmbook import plot
from vlmbook.chapters.ch04c.experiments import predict_next
from vlmbook.gpt import complete, generate, to_images

# --- the network --------------------------------------------------------------------------------------------


def draw_shift(figure: Figure, tokens: Sequence[int], label: int, target: int = 4) -> None:
    """The first tokens of an image, its class, a position from 1 on -> two rows, what goes into the network
    and what each position has to predict; the positions that one target may depend on are blue.
    """
    axes = figure.subplots()
    names = [f"x{subscript(t)} = {token}" for t, token in enumerate(tokens, 1)]
    inputs = [f"class {label}", *names[:-1]]
    for column, (given, wanted) in enumerate(zip(inputs, names, strict=True), 1):
        seen, chosen = column <= target, column == target
        _draw_cell(axes, column, 1.6, given, plot.BLUE if seen else plot.GREY, filled=seen)
        _draw_cell(axes, column, 0, wanted, plot.ORANGE if chosen else plot.GREY, filled=chosen)
        end, start = (target, 0.3), (column, 1.3)
        if seen:
            arrow = {"arrowstyle": "-|>", "color": plot.BLUE, "linewidth": 1.2}
            axes.annotate("", end, start, arrowprops=arrow)
    for height, name in ((1.6, "input"), (0, "target")):
        axes.text(0.4, height, name, ha="right", va="center", fontsize=9)
        axes.text(len(names) + 0.65, height, "…", ha="left", va="center", fontsize=9)
    axes.set(xlim=(-0.2, len(names) + 1), ylim=(-0.4, 2))
    axes.axis("off")


def subscript(number: int) -> str:
    """12 -> "₁₂"."""
    return str(number).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def _draw_cell(axes, column, height, text, colour, filled):
    face = (*to_rgb(colour), 0.2) if filled else "white"
    box = Rectangle((column - 0.45, height - 0.3), 0.9, 0.6, edgecolor=colour, facecolor=face, linewidth=1.5)
    axes.add_patch(box)
    axes.text(column, height, text, ha="center", va="center", fontsize=8)


def draw_network(figure: Figure, vocabulary: int, context: int, width: int, depth: int, heads: int) -> None:
    """Sizes of a GPT -> above, its parts from the tokens to the logits; below, one block with its two
    shortcuts. Under each part stands the shape of what leaves it.
    """
    rows = f"{context}×{width}"
    whole = [
        ("class and\ntokens", f"{context}"),
        ("embedding\n+ position", rows),
        *[(f"block {number}", rows) for number in range(1, depth + 1)],
        ("layer\nnorm", rows),
        ("linear", f"{context}×{vocabulary}\nlogits"),
        ("softmax", f"{context}×{vocabulary}\nprobabilities"),
    ]
    attention = f"{heads} heads of {context}×{width // heads}"
    block = [
        ("x", rows),
        ("layer\nnorm", rows),
        ("causal\nattention", attention),
        ("+", rows),
        ("layer\nnorm", rows),
        ("MLP", f"{context}×{4 * width}\ninside"),
        ("+", rows),
    ]
    above, below = figure.subplots(2, 1, height_ratios=(1, 1.25))
    _draw_parts(above, whole, blue=range(2, 2 + depth))
    _draw_parts(below, block, blue=range(len(block)), arcs=[(0, 3), (3, 6)])
    above.set_title("the network")
    below.set_title("one block")


def _draw_parts(axes, parts, blue, arcs=()):
    """Boxes in a row with arrows between them, arcs above them."""
    for number, (name, shape) in enumerate(parts):
        colour = plot.BLUE if number in blue else plot.GREY
        box = {"boxstyle": "round,pad=0.35", "edgecolor": colour, "facecolor": "white", "linewidth": 1.5}
        axes.text(number, 0, name, ha="center", va="center", fontsize=8, bbox=box, zorder=3)
        axes.text(number, -0.5, shape, ha="center", va="top", fontsize=7.5, color="0.3")
        if number:
            axes.annotate("", (number - 0.4, 0), (number - 0.64, 0), arrowprops={"arrowstyle": "-|>"})
    for start, end in arcs:
        arrow = {
            "arrowstyle": "-|>",
            "color": plot.ORANGE,
            "linewidth": 1.6,
            "connectionstyle": "arc3,rad=-0.25",
        }
        axes.annotate("", (end, 0.3), (start + 0.05, 0.3), arrowprops=arrow)
        axes.text((start + end) / 2, 0.95, "shortcut", ha="center", color=plot.ORANGE, fontsize=8)
    axes.set(xlim=(-0.55, len(parts) - 0.45), ylim=(-1.1, 1.2 if arcs else 0.5))
    axes.axis("off")


# --- what was measured --------------------------------------------------------------------------------------


def draw_reach(figure, reach):
    """{name: (N, N) bool}: do logits of token i (row) change with token j (column)? Orange: forbidden."""
    for panel, (name, changed) in zip(figure.subplots(1, len(reach)), reach.items(), strict=True):
        n = len(changed)
        forbidden = changed & ~torch.ones(n, n).tril(-1).bool()
        colours = torch.tensor([[0.93, 0.93, 0.93], [0.0, 0.45, 0.7], [0.84, 0.37, 0.0]])
        plot.image(panel, colours[changed.long() + forbidden].movedim(-1, 0), name)
        ticks, labels = range(0, n, 2), range(1, n + 1, 2)
        panel.set(
            xlabel="token that is changed", xticks=ticks, yticks=ticks, xticklabels=labels, yticklabels=labels
        )
    figure.axes[0].set_ylabel("token that is predicted")


def draw_learning(figure, history, costs):
    """A `fit` history, which may have evaluated "nats", {name: nats a pixel}: losses, and lines to compare
    with.
    """
    axes = figure.subplots()
    losses = torch.tensor(history.losses)
    window = max(1, len(losses) // 30)
    ends = range(window, len(losses) + 1, window)
    means = losses.unfold(0, window, window).mean(1)
    axes.plot(ends, means, label=f"training, means of {window} steps")
    validation = [each["nats"] for each in history.evaluations]
    if validation:
        epoch = len(losses) // len(validation)
        axes.plot(range(epoch, len(losses) + 1, epoch), validation, "o", label="validation")
    for name, cost in costs.items():
        _draw_level(axes, name, cost, len(losses), above=cost == max(costs.values()))
    axes.set(xlabel="step", ylabel="nats a pixel")
    axes.legend()


def _draw_level(axes, name, height, right, above):
    """A dashed line with its name at the right end, above or below it."""
    axes.axhline(height, color=plot.GREY, linestyle="--")
    offset, align = ((0, 3), "bottom") if above else ((0, -3), "top")
    axes.annotate(name, (right, height), offset, textcoords="offset points", ha="right", va=align)


def draw_dials(figure, measurements):
    """{measure: {setting: a value for each seed}}: mean and standard deviation, a panel for each measure."""
    panels = figure.subplots(1, len(measurements), sharey=True)
    for panel, (measure, settings) in zip(panels, measurements.items(), strict=True):
        values = torch.tensor(list(settings.values())).float()
        mean, std = values.mean(1), values.std(1)
        label = measure.replace("frechet", "Fréchet")
        plot.intervals(panel, list(settings), mean, mean - std, mean + std, label)


def draw_samples(figure: Figure, rows: Mapping[str, torch.Tensor]) -> None:
    """{name: (n, C, H, W)}: a row of images for each name."""
    panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, (name, images) in zip(panels, rows.items(), strict=True):
        plot.image(axes, rearrange(_frame(images), "n c h w -> c h (n w)"))
        axes.set_yticks([images.shape[-2] / 2], [name])
        axes.tick_params(length=0)


def draw_classes(figure: Figure, samples: torch.Tensor, names: Sequence[str]) -> None:
    """(K, n, C, H, W), K names -> a column of generated samples for each class, its name above."""
    axes = figure.subplots()
    plot.image(axes, rearrange(_frame(samples), "k n c h w -> c (n h) (k w)"))
    wide = samples.shape[-1] + 1
    axes.xaxis.tick_top()
    axes.set_xticks([wide * (column + 0.5) for column in range(len(names))], names, fontsize=8)
    axes.tick_params(length=0)


def _frame(images):
    """(…, C, H, W) -> (…, C, H + 1, W + 1): with a white line below and at the right."""
    return F.pad(images, (0, 1, 0, 1), value=1.0)


def draw_leak(
    figure: Figure, losses: Mapping[str, list[list[float]]], costs: Mapping[str, Mapping[str, list[float]]]
) -> None:
    """{mask: losses of each seed}, {mask: {which mask it is measured with: nats of each seed}} -> left, the
    losses in training; right, validation nats: what the loss promises and what sampling gets.
    """
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    colours = dict(zip(losses, (plot.BLUE, plot.ORANGE), strict=True))
    for name, runs in losses.items():
        for number, run in enumerate(runs):
            window = max(1, len(run) // 30)
            means = torch.tensor(run).unfold(0, window, window).mean(1)
            steps = range(window, len(run) + 1, window)
            left.plot(steps, means, color=colours[name], label=name if number == 0 else None)
    left.set(xlabel="step", ylabel="training loss, nats a pixel", ylim=(0, None))
    left.legend()
    for name, measured in costs.items():
        for column, values in enumerate(measured.values()):
            right.plot([column] * len(values), values, "o", color=colours[name], alpha=0.6)
    ticks = list(next(iter(costs.values())))
    right.set(
        xticks=range(len(ticks)), xlim=(-0.5, len(ticks) - 0.5), ylabel="validation nats", ylim=(0, None)
    )
    right.set_xticklabels(ticks)


def draw_probe(figure: Figure, accuracies: Mapping[str, Mapping[int, list[float]]]) -> None:
    """{features: {labels: an accuracy for each draw}} -> a line for each kind of features, mean ± standard
    deviation over the draws.
    """
    axes = figure.subplots()
    for name, line in accuracies.items():
        values = torch.tensor(list(line.values()))
        axes.errorbar(list(line), values.mean(1), values.std(1), fmt="o-", capsize=3, label=name)
    axes.set(xscale="log", xlabel="images with a label", ylabel="test accuracy", ylim=(0, 1.02))
    ticks = sorted({number for line in accuracies.values() for number in line})
    axes.set_xticks(ticks, [str(number) for number in ticks])
    axes.minorticks_off()
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def draw_sampling(figure, model, prefix, size, label=0, temperature=0.5, top_k=17, top_p=1.0):
    """What the options do to one distribution, and to eight images of a class that are drawn with them.

    prefix: (K,) tokens; on the left stands the distribution of the next one. The random numbers are always
    the same.
    """
    axes, panel = figure.subplots(1, 2, width_ratios=(2.2, 4))
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    learned, filtered = predict_next(model, prefix, label, **options)
    levels = range(model.vocabulary)
    axes.bar(levels, learned.tolist(), color=plot.GREY, width=1.0, alpha=0.5, label="as learned")
    axes.bar(levels, filtered.tolist(), color=plot.BLUE, width=0.5, label="drawn from")
    left = int((filtered > 0).sum())
    axes.set(xlabel=f"level of pixel {len(prefix) + 1}", ylim=(0, 1), title=f"{left} levels left")
    axes.legend(loc="upper right")
    generator = torch.Generator().manual_seed(0)
    tokens = generate(model, torch.full((8,), label), generator=generator, **options)
    framed = _frame(to_images(tokens, model.vocabulary, size))
    sheet = rearrange(framed, "(r c) 1 h w -> (r h) (c w)", r=2)
    plot.image(panel, sheet, f"eight samples of class {label}")


def draw_completion(figure, model, classifier, images, labels, image=0, rows=4, given="true class"):
    """A held-out image, the rows that the model gets, and four images that it completes for the given class.

    Under each stands the class that the classifier predicts.
    """
    true, height = images[[image]], images.shape[2]
    rows = min(rows, height)
    label = labels[[image]] if given == "true class" else torch.tensor([given])
    generator = torch.Generator().manual_seed(image)
    completed = complete(model, true.expand(4, -1, -1, -1), label.expand(4), rows, generator=generator)
    predicted = classifier(torch.cat([true, completed])).argmax(1).tolist()

    panels = figure.subplots(1, 6)
    plot.image(panels[0], true[0], f"image {image}")
    plot.image(panels[1], _tint_below(true[0, 0], rows), f"class {label.item()}")
    for number, (panel, each) in enumerate(zip(panels[2:], completed, strict=True), 1):
        plot.image(panel, each, f"sample {number}")
        if 0 < rows < height:
            panel.axhline(rows - 0.5, color=plot.ORANGE, linewidth=1.5)
    for panel, name in zip([panels[0], *panels[2:]], predicted, strict=True):
        panel.set_xlabel(f"predicted: {name}")


def _tint_below(image, rows):
    """(H, W), int -> (3, H, W): light blue from that row on."""
    tinted = image.expand(3, -1, -1).clone()
    tinted[:, rows:] = torch.tensor([0.55, 0.75, 0.9])[:, None, None]
    return tinted


def draw_attention(figure, images, attention_weights, image=0, pixel=37, block=0, head=0):
    """Where a head of a block looks while it predicts a pixel: in one image, and in the mean over all.

    images: (n, 1, H, W); attention_weights: (n, h, N, N) for each block. Pixels count from 1; the position
    that predicts pixel t attends to the class and the pixels 1 … t − 1.
    """
    height, width = images.shape[2:]
    position = pixel - 1
    rows = attention_weights[block][:, head, position]  # (n, N), the class first
    shown = {"here": rows[image], f"mean of {len(images)}": rows.mean(0)}
    panels = figure.subplots(1, 3)
    plot.image(panels[0], images[image], f"image {image}")
    for panel, (name, row) in zip(panels[1:], shown.items(), strict=True):
        seen = F.pad(row[1 : position + 1], (0, height * width - position)).view(height, width)
        plot.image(panel, seen / seen.max().clamp(min=1e-9), f"{name}, up to {seen.max():.2f}")
        panel.set_xlabel(f"on the class: {row[0]:.0%}")
    for panel in panels:
        corner = (position % width - 0.5, position // width - 0.5)
        panel.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=plot.ORANGE, linewidth=2))
