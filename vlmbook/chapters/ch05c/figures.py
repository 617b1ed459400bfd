"""Chapter 5c: what a temperature does to soft labels, whom a teacher takes for whom, gradients, students side
by side, where networks look, and what alpha weighs."""

import torch
from torch.nn import functional as F

from vlmbook import plot
from vlmbook.distillation import soft_labels


def draw_temperature(figure, images, logits, image=0, temperature=1.0):
    """An image, what the teacher says of it at this temperature, and how its entropy grows with the
    temperature.
    """
    picture, axes, curve = figure.subplots(1, 3, width_ratios=(1, 1.6, 1.6))
    z = logits[[image]]
    p, classes = soft_labels(z, temperature)[0], z.shape[1]
    plot.image(picture, images[image], f"image {image}")
    axes.bar(range(classes), p.tolist(), color=plot.BLUE)
    axes.set(xlabel="class", ylim=(0, 1), xticks=range(classes), title=f"soft label at T = {temperature:g}")
    temperatures = torch.logspace(-1, 2, 61)
    entropies = [entropy(soft_labels(z, t)).item() for t in temperatures.tolist()]
    curve.plot(temperatures.tolist(), entropies, color=plot.GREY)
    curve.plot([temperature], [entropy(p[None]).item()], "o", color=plot.ORANGE)
    curve.set(xscale="log", xlabel="temperature", ylabel="nats", ylim=(-0.05, None), title="entropy")


def entropy(p):
    """(B, K) probabilities -> (B,): their entropy in nats."""
    return torch.special.entr(p).sum(1)


def doubts(logits, labels, temperature):
    """(B, K), (B,) -> (K, K): the mean soft label of each class without the class itself; rows sum to 1."""
    p = soft_labels(logits, temperature)
    mean = torch.stack([p[labels == k].mean(0) for k in range(p.shape[1])]).fill_diagonal_(0)
    return mean / mean.sum(1, keepdim=True)


def nearness(images, labels):
    """(N, 1, H, W), (N,) -> (K, K): how near the mean images of two classes are; no class to itself, rows sum
    to 1.
    """
    means = torch.stack([images[labels == k].mean(0).flatten() for k in range(int(labels.max()) + 1)])
    return torch.softmax(-2 * torch.cdist(means, means).fill_diagonal_(torch.inf), 1)


def rank_correlation(a, b):
    """(K, K), (K, K) -> float: Spearman's, over all cells but the diagonal."""
    others = ~torch.eye(len(a), dtype=torch.bool)
    ranks = torch.stack([matrix[others].argsort().argsort().float() for matrix in (a, b)])
    return torch.corrcoef(ranks)[0, 1].item()


def draw_doubts(figure, matrices):
    """{name: (K, K)} of `doubts`: a row tells for what a class is taken when not for itself; darker is more
    often.
    """
    panels = figure.subplots(1, len(matrices), squeeze=False)[0]
    for panel, (name, matrix) in zip(panels, matrices.items(), strict=True):
        _show_doubts(panel, matrix, name)
    panels[0].set_ylabel("true class")


def _show_doubts(panel, matrix, name):
    k = len(matrix)
    panel.imshow(
        matrix.masked_fill(torch.eye(k).bool(), float("nan")).numpy(), cmap="Blues", vmin=0, vmax=0.5
    )
    panel.plot(range(k), range(k), "x", color=plot.GREY, markersize=4)
    panel.set(xticks=range(k), yticks=range(k), xlabel="taken for", title=name)
    panel.grid(False)


def draw_agreement(figure, teacher, students):
    """(K, K), {name: list over seeds of (K, K)} -> {name: list}: rank correlations with the teacher's doubts.

    Drawn are the teacher's, those of the last way's first student, and the mean ± std of the correlations.
    """
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
    found = {
        name: [rank_correlation(each, teacher) for each in matrices] for name, matrices in students.items()
    }
    last = list(students)[-1]
    _show_doubts(left, teacher, "teacher")
    _show_doubts(middle, students[last][0], last)
    left.set_ylabel("true class")
    values = torch.tensor(list(found.values()))
    mean, std = values.mean(1), values.std(1)
    plot.intervals(right, list(found), mean, mean - std, mean + std, "rank correlation")
    right.set_xlim(0, 1)
    return found


def draw_doubtful(figure, images, p):
    """(n, 1, H, W), (n, K): images in a row, and under each the soft label as bars."""
    panels = figure.subplots(2, len(images), height_ratios=(1.3, 1))
    for above, below, image, each in zip(*panels, images, p, strict=True):
        best, second = each.topk(2).indices.tolist()
        plot.image(above, image, f"{best}, or {second}?")
        colours = [
            plot.BLUE if k == best else plot.ORANGE if k == second else plot.GREY for k in range(len(each))
        ]
        below.bar(range(len(each)), each.tolist(), color=colours)
        below.set(ylim=(0, 1), xticks=[best, second], yticks=[])
    panels[1, 0].set_yticks([0, 1])


def draw_gradients(figure, temperatures, norms):
    """{name: list}: the length of the loss's gradient over the temperature, both axes logarithmic."""
    axes = figure.subplots()
    for (name, values), colour in zip(norms.items(), (plot.ORANGE, plot.BLUE, plot.GREEN), strict=False):
        axes.plot(temperatures, values, "o-", color=colour, label=name)
    axes.set(xscale="log", yscale="log", xlabel="temperature", ylabel="length of the gradient")
    axes.legend()


def draw_students(figure, accuracies, lines):
    """{name: list over seeds}, {name: share}: accuracies in %, each seed a small dot, mean ± std; lines to
    compare.
    """
    axes = figure.subplots()
    values = 100 * torch.tensor(list(accuracies.values()))
    mean, std = values.mean(1), values.std(1)
    plot.intervals(axes, list(accuracies), mean, mean - std, mean + std, "right on test images, %")
    for row, each in zip(range(len(values) - 1, -1, -1), values, strict=True):
        axes.plot(each.tolist(), [row - 0.25] * len(each), ".", color=plot.GREY, markersize=4)
    for (name, share), colour in zip(lines.items(), (plot.ORANGE, plot.GREY), strict=False):
        axes.axvline(100 * share, color=colour, linestyle="--", label=name)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(lines))


def draw_attention(figure, images, maps):
    """(n, 1, H, W), {name: (n, h, w)}: images in the first row, under them where each network looks."""
    panels = figure.subplots(1 + len(maps), len(images), squeeze=False)
    rows = {"image": images} | {
        name: each / each.amax((1, 2), keepdim=True).clamp(min=1e-9) for name, each in maps.items()
    }
    for line, (name, each) in zip(panels, rows.items(), strict=True):
        for panel, x in zip(line, each, strict=True):
            plot.image(panel, x)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")


def draw_alpha(figure, images, labels, logits, held_out, truth, alpha=0.5, temperature=2.0, wrong=0.4):
    """What one image is to be like, and what softmax regressions learn from labels and teacher, for every
    alpha.

    `wrong` is the share of the labels that are replaced by false ones; the teacher's logits stay.
    """
    generator = torch.Generator().manual_seed(0)
    spoiled = torch.randperm(len(labels), generator=generator)[: round(wrong * len(labels))]
    false = labels.clone()
    false[spoiled] = (
        labels[spoiled] + torch.randint(1, 10, spoiled.shape, generator=generator)
    ) % logits.shape[1]
    shown = spoiled[0].item() if len(spoiled) else 0
    picture, bars, axes = figure.subplots(1, 3, width_ratios=(1, 1.8, 1.8))
    plot.image(picture, images[shown], f"label {false[shown]}")
    hard = F.one_hot(false[[shown]], logits.shape[1])[0].float()
    soft, classes = soft_labels(logits[[shown]], temperature)[0], range(logits.shape[1])
    bars.bar(
        [k - 0.2 for k in classes],
        ((1 - alpha) * hard).tolist(),
        0.4,
        color=plot.ORANGE,
        label="label, 1 − α",
    )
    bars.bar([k + 0.2 for k in classes], (alpha * soft).tolist(), 0.4, color=plot.BLUE, label="teacher, α")
    bars.set(xlabel="class", ylim=(0, 1.45), xticks=classes, yticks=[0, 0.5, 1], title="what pulls")
    bars.legend(loc="upper center")
    alphas = torch.linspace(0, 1, 11)
    learned = linear_students(images, false, logits, alphas, temperature)
    said = torch.einsum("nd,adk->ank", with_one(held_out), learned).argmax(-1)
    right = (said == truth).float().mean(1)
    place = int((alphas - alpha).abs().argmin())
    axes.plot(alphas.tolist(), right.tolist(), ".-", color=plot.GREY)
    axes.plot([alpha], [right[place].item()], "o", color=plot.BLUE)
    axes.set(xlabel="α", ylim=(0.4, 1), title=f"{right[place]:.1%} right, held out")


def linear_students(images, labels, logits, alphas, temperature, steps=150, lr=1.0):
    """(N, 1, H, W), (N,), (N, K), (A,) -> (A, D, K): weights of a softmax regression for each alpha, the bias
    last.

    Plain gradient descent with momentum on the distillation loss, whose gradient for the logits is written
    out.
    """
    x, y = with_one(images), F.one_hot(labels, logits.shape[1]).float()
    p, alpha = soft_labels(logits, temperature), alphas[:, None, None]
    weights, speed = (torch.zeros(len(alphas), x.shape[1], logits.shape[1]) for _ in range(2))
    for _ in range(steps):
        z = torch.einsum("nd,adk->ank", x, weights)
        pull = (1 - alpha) * (z.softmax(-1) - y) + alpha * temperature * ((z / temperature).softmax(-1) - p)
        speed = 0.9 * speed - lr / len(x) / images[0].numel() ** 0.5 * torch.einsum("nd,ank->adk", x, pull)
        weights = weights + speed
    return weights


def with_one(images):
    """(N, 1, H, W) -> (N, H·W + 1): flat, and a 1 for the bias."""
    return F.pad(images.flatten(1), (0, 1), value=1)
