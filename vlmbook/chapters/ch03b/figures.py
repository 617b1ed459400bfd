"""Chapter 3b: loss by depth, gradients by layer, a residual block taken apart, and what a digit hangs on."""

from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vlmbook import plot
from vlmbook.data import photo
from vlmbook.resnet import BasicBlock, small_resnet

PHOTOS = ("astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "rocket")
COLOURS = {"plain20": plot.ORANGE, "plain56": plot.ORANGE, "resnet20": plot.BLUE, "resnet56": plot.BLUE}


def draw_degradation(figure, losses):
    """{name: seeds × epochs of training loss} -> the plain nets beside the residual ones: mean, and a line a
    seed.
    """
    panels = figure.subplots(1, 2, sharey=True)
    for name, runs in losses.items():
        panel, runs = panels[int("resnet" in name)], np.asarray(runs)
        epochs, deep = np.arange(1, runs.shape[1] + 1), "56" in name
        panel.plot(
            epochs, runs.T, color=COLOURS[name], linewidth=0.8, alpha=0.5, linestyle="-" if deep else "--"
        )
        panel.plot(epochs, runs.mean(0), color=COLOURS[name], linewidth=2.5, linestyle="-" if deep else "--")
        panel.annotate(
            f"{name[-2:]} layers",
            (epochs[-1], runs.mean(0)[-1]),
            (5, 0),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
            color=COLOURS[name],
        )
    for panel, title in zip(
        panels, ("plain: the deeper one hardly learns", "residual: both learn"), strict=True
    ):
        panel.set(title=title, xlabel="epoch", xticks=epochs, xlim=(0.9, 1.17 * epochs[-1]), yscale="log")
    panels[0].set_ylabel("training loss, nats")


@cache
def photographs(size=16):
    """-> (B, 3, size, size), (B,) int64: a piece of each photograph, its number the class (read only: it is
    kept).
    """
    crops = [photo(name)[None, :, 50 : 50 + 4 * size, 100 : 100 + 4 * size] for name in PHOTOS]
    images = torch.cat([F.interpolate(crop, size=(size, size), mode="area") for crop in crops])
    return images, torch.arange(len(images))


def gradient_norms(net, images, labels):
    """-> list of float: the norm of the loss's gradient for the weights of each convolution, from the first
    on.
    """
    weights = [module.weight for module in net.modules() if isinstance(module, nn.Conv2d)]
    loss = F.cross_entropy(net(images), labels)
    return [gradient.norm().item() for gradient in torch.autograd.grad(loss, weights)]


def no_norm(channels):
    """int -> nn.Identity: the `norm_layer` of a network without normalisation."""
    return nn.Identity()


@cache
def gradients_at_birth(depth, skip, norm, seed):
    """-> list of float: `gradient_norms` of an untrained net on the photographs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = small_resnet(depth, len(PHOTOS), skip=skip, norm_layer=nn.BatchNorm2d if norm else no_norm)
    return gradient_norms(net, *photographs())


def draw_gradients(figure, depth=56, seed=0):
    """How large is the gradient in each layer before any learning, with BatchNorm and skip and without?"""
    for panel, norm in zip(figure.subplots(1, 2, sharey=True), (False, True), strict=True):
        for skip, colour in ((False, plot.ORANGE), (True, plot.BLUE)):
            norms = gradients_at_birth(depth, skip, norm, seed)
            panel.plot(range(1, len(norms) + 1), norms, color=colour, label="residual" if skip else "plain")
        panel.set(yscale="log", ylim=(1e-9, 1e7), xlim=(0.5, depth), xlabel="convolution, from the image on")
        panel.set_title(f"{depth} layers, {'with' if norm else 'without'} BatchNorm")
        panel.axhline(1, color=plot.GREY, linewidth=0.8)
    panel.legend(loc="lower left")
    figure.axes[0].set_ylabel("norm of the gradient")


def blocks_of(net):
    """ResNet -> list of its blocks, from the image on."""
    return [module for module in net.modules() if isinstance(module, BasicBlock)]


def steps(net, image):
    """ResNet of BasicBlocks, (1, C, H, W) -> list of (shortcut, F, output), each (1, D, H', W'): a block a
    triple.
    """
    with torch.no_grad():
        x, taken = net.maxpool(net.bn1(net.conv1(image)).relu()), []
        for block in blocks_of(net):
            shortcut, residual = block.downsample(x), block.residual(x)
            x = block(x)
            taken.append((shortcut, residual, x))
    return taken


def draw_block(figure, net, images, digit=0, block=2):
    """One block on one digit: what comes in, what F adds, their sum, what leaves; and how much F adds in each
    block.
    """
    taken = steps(net, images[[digit]])
    shortcut, residual, out = taken[block - 1]
    channel = out[0].sum((1, 2)).argmax().item()
    limit = max(shortcut[0, channel].abs().max(), residual[0, channel].abs().max()).item()
    panels = figure.subplots(1, 5, width_ratios=(1, 1, 1, 1, 1.5))
    sums = {
        f"x, channel {channel}": shortcut,
        "F(x)": residual,
        "F(x) + x": shortcut + residual,
        "relu(F(x) + x)": out,
    }
    for panel, (title, x) in zip(panels, sums.items(), strict=False):
        plot.signed(panel, x[0, channel], title, limit=limit)
    ratios = [(residual.norm() / shortcut.norm()).item() for shortcut, residual, _ in taken]
    panels[4].bar(
        range(1, len(ratios) + 1),
        ratios,
        color=[plot.ORANGE if number == block else plot.GREY for number in range(1, len(ratios) + 1)],
    )
    panels[4].set(
        title="‖F(x)‖ / ‖x‖ by block", xticks=range(1, len(ratios) + 1), ylim=(0, 1.05 * max(*ratios, 1))
    )


def occluded(image, size):
    """(1, C, H, W), int -> (H·W, C, H, W): the image with a square of 0 of `size` pixels around each pixel in
    turn.
    """
    rows, columns = (
        torch.arange(n) - torch.arange(n)[:, None] for n in image.shape[2:]
    )  # from middle to pixel
    rows, columns = ((-size // 2 < n) & (n <= size // 2) for n in (rows, columns))
    square = rows[:, None, :, None] & columns[None, :, None, :]  # (H, W, H, W)
    return image.repeat(square[..., 0, 0].numel(), 1, 1, 1).masked_fill(square.flatten(0, 1)[:, None], 0)


def draw_occlusion(figure, net, images, labels, digit=0, size=3):
    """What the answer hangs on: the probability of the right class when a square is blotted out, by its
    place.
    """
    image, label = images[[digit]], labels[digit].item()
    with torch.no_grad():
        whole = net(image).softmax(1)[0]
        p = net(occluded(image, size)).softmax(1)
    share = p[:, label].view(image.shape[2:])
    places = [share.argmin().item(), share.argmax().item()]
    panels = figure.subplots(1, 4, width_ratios=(1, 1.3, 1, 1))
    plot.image(panels[0], image[0], f"a {label}, p = {whole[label]:.2f}")
    shown = panels[1].imshow(share.numpy(), cmap="viridis", vmin=0, vmax=1)
    panels[1].set(xticks=[], yticks=[], title="p by place of blot")
    figure.colorbar(shown, ax=panels[1], shrink=0.8)
    for panel, place, which in zip(panels[2:], places, ("worst", "best"), strict=True):
        said = p[place].argmax().item()
        plot.image(panel, occluded(image, size)[place], f"{which}: a {said}, {p[place, said]:.2f}")


def draw_maps(figure, net, image, columns=5):
    """ResNet, (1, C, H, W): the image, and of the stem and each stage the channels that differ most over
    it.
    """
    with torch.no_grad():
        maps = dict(zip(["stem", *net.stages], net.features(image), strict=True))
    panels = figure.subplots(len(maps), columns + 1)
    for row, (name, stage) in zip(panels, maps.items(), strict=True):
        row[0].axis("off")
        for panel, channel in zip(
            row[1:], stage[0].flatten(1).std(1).topk(columns).indices.tolist(), strict=True
        ):
            plot.signed(panel, stage[0, channel], f"no. {channel}")
        row[1].set_title(f"{name}, no. {row[1].get_title(loc='left').split()[-1]}")
    panels[0, 0].axis("on")
    plot.image(panels[0, 0], image[0], "the input")


def draw_cuts(figure, cut, whole):
    """{name: {block: accuracy without it}}, {name: accuracy of all} -> a line a network."""
    axes = figure.subplots()
    for name, found in cut.items():
        axes.plot(
            found.keys(),
            found.values(),
            "o--" if name == "resnet20" else "o-",
            color=COLOURS[name],
            markersize=4,
            label=f"{name}, whole {whole[name]:.2f}",
        )
    axes.set(xlabel="block taken out", ylabel="accuracy, held out", ylim=(0, 1.02))
    axes.legend(loc="center right")
