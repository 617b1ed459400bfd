"""Explaining what a classifier looks at: occlusion, saliency, integrated gradients, Grad-CAM, two checks of
an explanation, and a model card.

Every explanation is of one logit of each image. The network stays in evaluation mode, so that an image's
explanation does not depend on the other images of the batch.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from vlmbook.validation import (
    describe,
    require_number,
    require_pair,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

# --- which pixels: gradients --------------------------------------------------------------------------------


def saliency(network: nn.Module, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """network, (B, C, H, W), (B,) classes -> (B, H, W): the largest |∂ logit / ∂ x| over the channels
    [Simonyan et al. 2014, arXiv:1312.6034, sec. 3.1].

    Raises TypeError or ValueError for what does not fit, and for a network in training mode.
    """
    _require_input(network, x, target)
    return _gradient(network, x, target).abs().amax(1)


def integrated_gradients(
    network: nn.Module,
    x: torch.Tensor,
    target: torch.Tensor,
    *,
    baseline: float = 0.0,
    steps: int = 32,
) -> torch.Tensor:
    """network, (B, C, H, W), (B,) classes -> (B, C, H, W): (x − x₀) times the mean gradient on the straight
    path from x₀ to x [Sundararajan et al. 2017, arXiv:1703.01365, eq. 1].

    x₀ is an image of the value `baseline`. The mean is taken at the middles of `steps` equal parts. Up to
    that, the attributions of an image add up to logit(x) − logit(x₀). Raises as `saliency`.
    """
    _require_input(network, x, target)
    baseline = require_number(baseline, "baseline", least=-1e4, most=1e4)
    steps = require_whole(steps, "steps", most=2**12)
    start = torch.full_like(x, baseline)
    total = torch.zeros_like(x)
    for step in range(steps):
        point = start + (step + 0.5) / steps * (x - start)
        total += _gradient(network, point, target)
    return (x - start) * total / steps


def grad_cam(network: nn.Module, layer: nn.Module, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """network, one of its modules with K maps, (B, C, H, W), (B,) classes -> (B, h, w) of at least 0: the sum
    of the maps, each weighted by its mean gradient, without its negative part [Selvaraju et al. 2017,
    arXiv:1610.02391, eq. 1-2].

    h and w are those of the layer's output. Raises as `saliency`, and for a layer that is no part of the
    network, does not run, or does not give (B, K, h, w).
    """
    _require_input(network, x, target)
    require_type(layer, "layer", nn.Module, "a module of the network")
    if all(layer is not module for module in network.modules()):
        raise ValueError("layer wants a module of the network, got another module")
    kept = []
    handle = layer.register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        with torch.enable_grad():
            chosen = _chosen_logits(network, x.detach().requires_grad_(), target)
    finally:
        handle.remove()
    if not kept:
        raise ValueError("layer wants a module that runs in the forward pass, got one that does not")
    maps = require_tensor(kept[-1], "the output of layer", "B K h w", B=len(x))
    (gradient,) = torch.autograd.grad(chosen.sum(), maps)
    weights = gradient.mean((2, 3))
    return torch.einsum("bk,bkhw->bhw", weights, maps.detach()).relu()


def _gradient(network, x, target):
    """-> (B, C, H, W): the derivative of each image's logit with respect to its pixels."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(_chosen_logits(network, x, target).sum(), x)
    return gradient


# --- which pixels: changing them ----------------------------------------------------------------------------


@torch.no_grad()
def occlusion(
    network: nn.Module,
    x: torch.Tensor,
    target: torch.Tensor,
    *,
    window: int | tuple[int, int],
    stride: int | tuple[int, int],
    value: float = 0.0,
) -> torch.Tensor:
    """network, (B, C, H, W), (B,) classes -> (B, H, W): by how much the logit falls if a window is covered
    with `value` [Zeiler & Fergus 2014, arXiv:1311.2901, sec. 4.2].

    The window (height, width) moves by the stride; at the right and bottom border it is cut off. A pixel gets
    the mean over the windows that cover it. Raises as `saliency`, for a window larger than the image, and for
    a stride larger than the window, which would leave pixels out.
    """
    _require_input(network, x, target)
    window, stride = require_pair(window, "window"), require_pair(stride, "stride")
    value = require_number(value, "value", least=-1e4, most=1e4)
    height, width = x.shape[2:]
    if window[0] > height or window[1] > width:
        raise ValueError(f"window wants at most the image, {height} by {width}, got {window}")
    if stride[0] > window[0] or stride[1] > window[1]:
        raise ValueError(f"stride wants at most the window, {window}, got {stride}")
    whole = _chosen_logits(network, x, target)
    falls = x.new_zeros(len(x), height, width)
    counts = x.new_zeros(height, width)
    for top in _starts(height, window[0], stride[0]):
        for left in _starts(width, window[1], stride[1]):
            covered = x.clone()
            part = slice(top, top + window[0]), slice(left, left + window[1])
            covered[:, :, *part] = value
            falls[:, *part] += (whole - _chosen_logits(network, covered, target))[:, None, None]
            counts[part] += 1
    return falls / counts


@torch.no_grad()
def deletion(
    network: nn.Module,
    x: torch.Tensor,
    target: torch.Tensor,
    heat: torch.Tensor,
    *,
    steps: int = 10,
    value: float = 0.0,
) -> torch.Tensor:
    """network, (B, C, H, W), (B,) classes, (B, H, W) -> (B, steps + 1): the probability of the class while
    the hottest pixels are replaced by `value`, from none to all [Petsiuk et al. 2018, arXiv:1806.07421, sec.
    4.3].

    A map that names the important pixels makes the curve fall early. Raises as `saliency`.
    """
    _require_input(network, x, target)
    require_tensor(heat, "heat", "B H W", finite=True, B=len(x), H=x.shape[2], W=x.shape[3])
    require_same_kind(heat, "heat", x, "x")
    steps = require_whole(steps, "steps", most=2**12)
    value = require_number(value, "value", least=-1e4, most=1e4)
    order = heat.flatten(1).argsort(dim=1, descending=True, stable=True)
    curve = []
    for step in range(steps + 1):
        deleted = order[:, : round(step / steps * order.shape[1])]
        hit = torch.zeros_like(order, dtype=torch.bool).scatter(1, deleted, True)
        left = x.masked_fill(hit.view(len(x), 1, *x.shape[2:]), value)
        curve.append(_logits(network, left, target).softmax(1).gather(1, target[:, None])[:, 0])
    return torch.stack(curve, 1)


def _starts(size, window, stride):
    """-> where windows begin along one axis, so that the last one reaches the end."""
    count = -(-(size - window) // stride) + 1
    return range(0, count * stride, stride)


# --- is it the network that is explained? -------------------------------------------------------------------


@torch.no_grad()
def randomise(
    network: nn.Module, modules: Sequence[str], *, generator: torch.Generator | None = None
) -> nn.Module:
    """network, names of modules in it -> a copy in which their weights are random: normal, with the mean and
    the standard deviation of the trained ones [after Adebayo et al. 2018, arXiv:1810.03292, sec. 3].

    An explanation of the network has to change with them. Raises TypeError or ValueError for names that are
    not there.
    """
    require_type(network, "network", nn.Module, "a torch.nn.Module")
    require_type(modules, "modules", (list, tuple), "a list of names of modules")
    if generator is not None:
        require_type(generator, "generator", torch.Generator, "a torch.Generator")
    there = dict(network.named_modules())
    for name in modules:
        if not isinstance(name, str) or name not in there:
            raise ValueError(f"modules wants names of modules of the network, got {describe(name)}")
    changed = copy.deepcopy(network)
    for name in modules:
        for weights in changed.get_submodule(name).parameters():
            noise = torch.randn(weights.shape, generator=generator).to(weights)
            spread = weights.std() if weights.numel() > 1 else 0
            weights.copy_(weights.mean() + spread * noise)
    return changed


# --- what all of them ask -----------------------------------------------------------------------------------


def _chosen_logits(network, x, target):
    """-> (B,): of each image the logit of its class."""
    return _logits(network, x, target).gather(1, target[:, None])[:, 0]


def _logits(network, x, target):
    """-> (B, classes)"""
    logits = require_tensor(network(x), "network(x)", "B classes", B=len(x))
    if int(target.max()) >= logits.shape[1]:
        raise ValueError(f"target wants classes below {logits.shape[1]}, got {int(target.max())}")
    return logits


def _require_input(network, x, target):
    require_type(network, "network", nn.Module, "a torch.nn.Module")
    if network.training:
        raise ValueError("network wants to be in evaluation mode: call network.eval()")
    require_tensor(x, "x", "B C H W", finite=True)
    require_tensor(target, "target", "B", kind="int64", least=0, B=len(x), device=x.device)
    for weights in network.parameters():
        require_same_kind(x, "x", weights)
        break
    if x.is_meta:
        raise ValueError("x wants images with values, got a tensor on the meta device")


# --- a model card -------------------------------------------------------------------------------------------

SECTIONS = (
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Training data",
    "Evaluation data",
    "Quantitative analyses",
    "Ethical considerations",
    "Caveats and recommendations",
)


def model_card(title: str, sections: dict[str, str | dict[str, Any]]) -> str:
    """title, {section: text, or {name: measured value}} -> Markdown [Mitchell et al. 2019, arXiv:1810.03993,
    sec. 4].

    A value is text, a number, or (value, low, high) with its interval. All nine sections of the paper are
    wanted, so that none is left out by mistake. Raises TypeError or ValueError for anything else.
    """
    require_type(title, "title", str, "text")
    require_type(sections, "sections", dict, "a dict of sections")
    missing = [name for name in SECTIONS if name not in sections]
    unknown = [name for name in sections if name not in SECTIONS]
    if missing or unknown:
        raise ValueError(f"sections wants {', '.join(SECTIONS)}, got a dict with {len(sections)} others")
    lines = [f"## Model card: {title}", ""]
    for name in SECTIONS:
        lines += [f"**{name}.** {_write(sections[name], name)}", ""]
    return "\n".join(lines).strip() + "\n"


def _write(content, name):
    if isinstance(content, dict) and content:
        rows = [f"| {key} | {_write_value(value, name)} |" for key, value in content.items()]
        return "\n".join(["", "", "| what | value |", "| --- | --- |", *rows])
    if isinstance(content, str) and content.strip():
        return content
    raise ValueError(f"section {name!r} wants text or measured values, got {describe(content)}")


def _write_value(value, name):
    if isinstance(value, str):
        return value
    if isinstance(value, tuple) and len(value) == 3:
        middle, low, high = (require_number(each, f"a value of {name!r}") for each in value)
        return f"{middle:.3g} [{low:.3g}, {high:.3g}]"
    return f"{require_number(value, f'a value of {name!r}'):.3g}"
