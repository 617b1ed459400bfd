"""Chapter 4c: what a change of a token reaches, samples of several models, the dials of sampling, completed
images, and where attention looks."""

import torch
from einops import rearrange
from matplotlib.patches import Rectangle
from torch.nn import functional as F

from vlmbook import plot
from vlmbook.gpt import complete, generate, narrowed, to_images, to_tokens


def draw_reach(figure, reach):
    """{name: (N, N) bool}: does the logit of place i (row) move with token j (column)? Orange where it must
    not.
    """
    for panel, (name, moved) in zip(figure.subplots(1, len(reach)), reach.items(), strict=True):
        n = len(moved)
        forbidden = moved & ~torch.ones(n, n).tril(-1).bool()
        colours = torch.tensor([[0.93, 0.93, 0.93], [0.0, 0.45, 0.7], [0.84, 0.37, 0.0]])
        plot.image(panel, colours[moved.long() + forbidden].movedim(-1, 0), name)
        panel.set(
            xlabel="token that is changed",
            xticks=range(0, n, 2),
            yticks=range(0, n, 2),
            xticklabels=range(1, n + 1, 2),
            yticklabels=range(1, n + 1, 2),
        )
    figure.axes[0].set_ylabel("place that is asked")


def draw_learning(figure, history, costs):
    """A `fit` history that evaluated "nats", {name: nats a pixel}: the loss while learning, with lines to
    beat.
    """
    axes, losses, epochs = figure.subplots(), torch.tensor(history.losses), len(history.evaluations)
    window, step = max(1, len(losses) // 30), len(losses) // epochs
    axes.plot(
        range(window, len(losses) + 1, window),
        losses.unfold(0, window, window).mean(1),
        label=f"training, means of {window} steps",
    )
    axes.plot(
        range(step, len(losses) + 1, step),
        [each["nats"] for each in history.evaluations],
        "o",
        label="validation",
    )
    for name, cost in costs.items():  # the highest line is named above, others below
        above = cost == max(costs.values())
        axes.axhline(cost, color=plot.GREY, linestyle="--")
        axes.annotate(
            name,
            (len(losses), cost),
            (0, 3 if above else -3),
            textcoords="offset points",
            ha="right",
            va="bottom" if above else "top",
        )
    axes.set(xlabel="step", ylabel="nats a pixel")
    axes.legend()


def draw_dials(figure, found):
    """{figure of merit: {setting: list of numbers}} -> {figure of merit: {setting: mean}}; a panel each."""
    means = {}
    for panel, (what, of) in zip(figure.subplots(1, len(found), sharey=True), found.items(), strict=True):
        values = torch.tensor(list(of.values())).float()
        mean, std = values.mean(1), values.std(1)
        plot.intervals(panel, list(of), mean, mean - std, mean + std, what.replace("frechet", "Fréchet"))
        means[what] = dict(zip(of, mean.tolist(), strict=True))
    return means


def draw_samples(figure, rows):
    """{name: (n, 1, H, W)}: a row a model, one image beside the other."""
    count = max(map(len, rows.values()))
    panels = figure.subplots(len(rows), count, squeeze=False)
    for line, (name, images) in zip(panels, rows.items(), strict=True):
        for panel, image in zip(line, images, strict=True):
            plot.image(panel, image)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")


def draw_sampling(figure, model, prefix, size, label=0, temperature=1.0, top_k=17, top_p=1.0):
    """What the dials do to one distribution, and to eight images of a class that are drawn with them.

    prefix: (K,) tokens; on the left stands the distribution of the next one. The random numbers are always
    the same.
    """
    axes, panel = figure.subplots(1, 2, width_ratios=(2.2, 4))
    dials = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    classes = torch.full((8,), label)
    with torch.no_grad():
        logits = model.read(model.embed(prefix[None], classes[:1]))[:, -1]
    before, after = (z.softmax(-1)[0].tolist() for z in (logits, narrowed(logits, **dials)))
    levels = range(model.vocabulary)
    axes.bar(levels, before, color=plot.GREY, width=1.0, alpha=0.5, label="as learned")
    axes.bar(levels, after, color=plot.BLUE, width=0.5, label="drawn from")
    axes.set(
        xlabel=f"level of pixel {len(prefix) + 1}",
        ylim=(0, 1),
        title=f"{sum(p > 0 for p in after)} levels left",
    )
    axes.legend(loc="upper right")
    drawn = generate(model, classes, generator=torch.Generator().manual_seed(0), **dials)
    framed = F.pad(to_images(drawn, model.vocabulary, size), (0, 1, 0, 1), value=1)  # a white line between
    plot.image(panel, rearrange(framed, "(r c) 1 h w -> (r h) (c w)", r=2), f"eight samples of class {label}")


def draw_completion(figure, model, judge, images, labels, image=0, rows=4, told="the truth"):
    """A held-out image, the rows that the model sees, and four ends that it writes; what it is told is its
    class.

    Under each stands what the judge takes it for.
    """
    height, width = images.shape[2:]
    label = labels[[image]] if told == "the truth" else torch.tensor([told])
    true, rows = images[[image]], min(rows, height)
    ends = complete(
        model,
        true.expand(4, -1, -1, -1),
        label.expand(4),
        rows,
        generator=torch.Generator().manual_seed(image),
    )
    said = judge(torch.cat([true, ends])).argmax(1).tolist()
    known = F.pad(torch.ones(rows, width), (0, 0, 0, height - rows))
    seen = torch.stack(
        [
            true[0, 0] * known + 0.55 * (1 - known),
            true[0, 0] * known + 0.75 * (1 - known),
            true[0, 0] * known + 0.9 * (1 - known),
        ]
    )
    panels = figure.subplots(1, 6)
    plot.image(panels[0], true[0], f"image {image}")
    plot.image(panels[1], seen, f"told: {label.item()}")
    for number, (panel, end) in enumerate(zip(panels[2:], ends, strict=True), 1):
        plot.image(panel, end, f"end {number}")
        if 0 < rows < height:
            panel.axhline(rows - 0.5, color=plot.ORANGE, linewidth=1.5)
    for panel, name in zip([panels[0], *panels[2:]], said, strict=True):
        panel.set_xlabel(f"judge: {name}")


def draw_attention(figure, images, weights, image=0, pixel=37, block=0, head=0):
    """Where a head of a block looks when it writes a pixel: in one image, and in the mean over all of them.

    images: (n, 1, H, W); weights: list over blocks of (n, h, N, N). Pixels count from 1; the place that
    writes pixel t sees the class and the pixels 1 … t − 1.
    """
    height, width = images.shape[2:]
    place = pixel - 1
    rows = weights[block][:, head, place]  # (n, N), the class first
    one, mean = (
        F.pad(each[1 : place + 1], (0, height * width - place)).view(height, width)
        for each in (rows[image], rows.mean(0))
    )
    panels = figure.subplots(1, 3)
    plot.image(panels[0], images[image], f"image {image}")
    for panel, weight, name, share in zip(
        panels[1:],
        (one, mean),
        ("here", f"mean of {len(images)}"),
        (rows[image, 0], rows[:, 0].mean()),
        strict=True,
    ):
        plot.image(panel, weight / weight.max().clamp(min=1e-9), f"{name}, up to {weight.max():.2f}")
        panel.set_xlabel(f"on the class: {share:.0%}")
    for panel in panels:
        corner = (place % width - 0.5, place // width - 0.5)
        panel.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=plot.ORANGE, linewidth=2))


def tokens_before(image, pixel, levels):
    """(1, H, W), int -> (pixel − 1,) int64: what is known when that pixel is written; pixels count from 1."""
    return to_tokens(image[None], levels)[0, : pixel - 1]


@torch.no_grad()
def loud(net):
    """GPT -> GPT, frozen, with weights so large that every dependence shows."""
    for p in net.parameters():
        if p.ndim > 1:
            p.normal_(std=0.4)
    return net.requires_grad_(False)
