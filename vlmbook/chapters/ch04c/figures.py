"""Drawings of chapter 4c: what a change of a token reaches, losses, images of several models, the options of
sampling, completed images, and where attention looks.
"""

import torch
from einops import rearrange
from matplotlib.patches import Rectangle
from torch.nn import functional as F

from vlmbook import plot
from vlmbook.chapters.ch04c.experiments import predict_next
from vlmbook.gpt import complete, generate, to_images


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
    """A `fit` history that evaluated "nats", {name: nats a pixel}: losses, and lines to compare with."""
    axes = figure.subplots()
    losses = torch.tensor(history.losses)
    validation = [each["nats"] for each in history.evaluations]
    window = max(1, len(losses) // 30)
    epoch = len(losses) // len(validation)
    ends = range(window, len(losses) + 1, window)
    means = losses.unfold(0, window, window).mean(1)
    axes.plot(ends, means, label=f"training, means of {window} steps")
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


def draw_samples(figure, rows):
    """{name: (n, 1, H, W)}: a row for each model, one image beside the other."""
    count = max(map(len, rows.values()))
    panels = figure.subplots(len(rows), count, squeeze=False)
    for line, (name, images) in zip(panels, rows.items(), strict=True):
        for panel, image in zip(line, images, strict=True):
            plot.image(panel, image)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")


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
    framed = F.pad(to_images(tokens, model.vocabulary, size), (0, 1, 0, 1), value=1)  # a white line between
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
