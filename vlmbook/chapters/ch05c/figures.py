"""Chapter 5c: the effect of a temperature on soft labels, the classes that networks confuse, gradients,
students side by side, attention maps, and the effect of alpha.
"""

import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch.nn import functional as F

from vlmbook import plot
from vlmbook.chapters.ch05c.experiments import entropy, falsify_labels, measure_accuracy_by_alpha
from vlmbook.distillation import soft_labels


def draw_temperature(
    figure: Figure, images: torch.Tensor, logits: torch.Tensor, image: int = 0, temperature: float = 4.0
):
    """An image, its probabilities at T = 1 and at this temperature, and the entropy over the temperature."""
    picture, *panels, curve = figure.subplots(1, 4, width_ratios=(1, 1.5, 1.5, 1.5))
    z = logits[[image]]
    p = soft_labels(z, temperature)
    classes = range(z.shape[1])
    plot.image(picture, images[image], f"image {image}")
    for axes, t in zip(panels, (1.0, temperature), strict=True):
        axes.bar(classes, soft_labels(z, t)[0].tolist(), color=plot.BLUE)
        axes.set(xlabel="class", ylim=(0, 1), xticks=classes, title=f"T = {t:g}")
        axes.tick_params(axis="x", labelsize=7)
    temperatures = torch.logspace(-1, 2, 61).tolist()
    entropies = [entropy(soft_labels(z, t)).item() for t in temperatures]
    curve.plot(temperatures, entropies, color=plot.GREY)
    curve.plot([temperature], [entropy(p).item()], "o", color=plot.ORANGE)
    curve.set(xscale="log", xlabel="temperature", ylabel="nats", ylim=(-0.05, None), title="entropy")


def draw_uncertain(figure: Figure, images: torch.Tensor, p: torch.Tensor):
    """(n, 1, H, W), (n, K): images in a row, and under each the soft label as bars."""
    panels = figure.subplots(2, len(images), height_ratios=(1.3, 1))
    for above, below, image, each in zip(*panels, images, p, strict=True):
        best, second = each.topk(2).indices.tolist()
        plot.image(above, image, f"{best}, or {second}?")
        colours = [plot.GREY] * len(each)
        colours[best] = plot.BLUE
        colours[second] = plot.ORANGE
        below.bar(range(len(each)), each.tolist(), color=colours)
        below.set(ylim=(0, 1), xticks=[best, second], yticks=[])
    panels[1, 0].set_yticks([0, 1])


def draw_confusions(figure: Figure, matrices: dict[str, torch.Tensor]):
    """{name: (K, K)} of `measure_confusions`: a row shows with which classes one class is confused, darker is
    more often.
    """
    panels = figure.subplots(1, len(matrices), squeeze=False)[0]
    for panel, (name, matrix) in zip(panels, matrices.items(), strict=True):
        _show_confusions(panel, matrix, name)
    panels[0].set_ylabel("true class")


def draw_agreement(figure: Figure, confusions: dict[str, torch.Tensor], correlations: dict[str, list[float]]):
    """{name: (K, K)} of two networks, {name: list over seeds}: their confusions, and rank correlations as
    mean ± std.
    """
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
    for panel, (name, matrix) in zip((left, middle), confusions.items(), strict=True):
        _show_confusions(panel, matrix, name)
    left.set_ylabel("true class")
    values = torch.tensor(list(correlations.values()))
    mean, std = values.mean(1), values.std(1)
    plot.intervals(right, list(correlations), mean, mean - std, mean + std, "rank correlation")
    right.set_xlim(0, 1)


def draw_gradients(figure: Figure, temperatures: list[float], norms: dict[str, list[float]]):
    """{name: list}: the length of the loss's gradient over the temperature, both axes logarithmic."""
    axes = figure.subplots()
    for (name, values), colour in zip(norms.items(), (plot.ORANGE, plot.BLUE, plot.GREEN), strict=False):
        axes.plot(temperatures, values, "o-", color=colour, label=name)
    axes.set(xscale="log", yscale="log", xlabel="temperature", ylabel="length of the gradient")
    axes.legend()


def draw_accuracies(figure: Figure, accuracies: dict[str, list[float]], baselines: dict[str, float]):
    """{name: list over seeds}, {name: accuracy}: accuracies in %, each seed a small dot, mean ± std;
    baselines as vertical lines.
    """
    axes = figure.subplots()
    values = 100 * torch.tensor(list(accuracies.values()))
    mean, std = values.mean(1), values.std(1)
    plot.intervals(axes, list(accuracies), mean, mean - std, mean + std, "accuracy on test images, %")
    for row, each in zip(range(len(values) - 1, -1, -1), values, strict=True):
        axes.plot(each.tolist(), [row - 0.25] * len(each), ".", color=plot.GREY, markersize=4)
    for (name, accuracy), colour in zip(baselines.items(), (plot.ORANGE, plot.GREY), strict=False):
        axes.axvline(100 * accuracy, color=colour, linestyle="--", label=name)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(baselines))


def draw_attention(figure: Figure, images: torch.Tensor, maps: dict[str, torch.Tensor]):
    """(n, 1, H, W), {name: (n, h, w)}: images in the first row, under them the attention maps of each
    network, resampled to the size of the images and laid over them in orange, up to each map's maximum.
    """
    panels = figure.subplots(1 + len(maps), len(images), squeeze=False)
    size = images.shape[-2:]
    for panel, x in zip(panels[0], images, strict=True):
        plot.image(panel, x)
    for line, each in zip(panels[1:], maps.values(), strict=True):
        fine = F.interpolate(each[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
        fine = fine / fine.amax((1, 2), keepdim=True).clamp(min=1e-9)
        for panel, x, heat in zip(line, images, fine, strict=True):
            grey = 0.6 * x[0][..., None].expand(-1, -1, 3)
            orange = torch.tensor(to_rgb(plot.ORANGE))
            plot.image(panel, torch.lerp(grey, orange, 0.8 * heat[..., None]).permute(2, 0, 1))
    for line, name in zip(panels, ["image", *maps], strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")


def draw_alpha(
    figure: Figure,
    images: torch.Tensor,
    labels: torch.Tensor,
    logits: torch.Tensor,
    test_images: torch.Tensor,
    test_labels: torch.Tensor,
    alpha: float = 0.5,
    temperature: float = 2.0,
    wrong: float = 0.4,
):
    """The two targets of one image, weighted by alpha, and the accuracy of softmax regressions that learn
    from labels and teacher, for every alpha.

    `wrong` is the share of the labels that are replaced by false ones; the teacher's logits stay.
    """
    num_classes = logits.shape[1]
    falsified, replaced = falsify_labels(labels, wrong, num_classes)
    shown = replaced[0].item() if len(replaced) > 0 else 0
    picture, bars, axes = figure.subplots(1, 3, width_ratios=(1, 1.8, 1.8))
    plot.image(picture, images[shown], f"label {falsified[shown]}")
    hard = F.one_hot(falsified[shown], num_classes)
    soft = soft_labels(logits[[shown]], temperature)[0]
    targets = (("label, 1 − α", (1 - alpha) * hard, plot.ORANGE), ("teacher, α", alpha * soft, plot.BLUE))
    for shift, (name, target, colour) in zip((-0.2, 0.2), targets, strict=True):
        bars.bar([k + shift for k in range(num_classes)], target.tolist(), 0.4, color=colour, label=name)
    bars.set(xlabel="class", ylim=(0, 1.45), xticks=range(num_classes), yticks=[0, 0.5, 1], title="targets")
    bars.legend(loc="upper center")
    task = (images, labels, logits, test_images, test_labels)
    alphas, accuracies = measure_accuracy_by_alpha(*task, temperature, wrong)
    chosen = int((alphas - alpha).abs().argmin())
    axes.plot(alphas.tolist(), accuracies.tolist(), ".-", color=plot.GREY)
    axes.plot([alpha], [accuracies[chosen].item()], "o", color=plot.BLUE)
    axes.set(xlabel="α", ylim=(0.4, 1), title=f"accuracy {accuracies[chosen]:.1%}, held out")


def _show_confusions(panel: Axes, matrix: torch.Tensor, name: str):
    classes = range(len(matrix))
    shown = matrix.masked_fill(torch.eye(len(matrix)).bool(), float("nan"))
    panel.imshow(shown.numpy(), cmap="Blues", vmin=0, vmax=0.5)
    panel.plot(classes, classes, "x", color=plot.GREY, markersize=4)
    panel.set(xticks=classes, yticks=classes, xlabel="predicted instead", title=name)
    panel.grid(False)
