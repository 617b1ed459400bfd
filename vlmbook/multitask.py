"""What a large model is said to have, in small: a network with one trunk and several heads, the angle between
the gradients of two tasks, a power law of error against data, and an adversarial change of an image.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import linregress
from torch import nn
from torch.nn import functional as F

from vlmbook.validation import (
    describe,
    require_callable,
    require_choice,
    require_number,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)

TASKS = ("class", "box", "mask")
MOST = 2**16  # of a size that a reader chooses
GRID = 4  # the box head looks at 4 × 4 places of the feature map

# --- one trunk, several heads -------------------------------------------------------------------------------


class MultiTaskNet(nn.Module):
    """(B, C, H, W) -> {task: output} of one object an image, H and W of at least 8: "class" logits (B, K),
    "box" xyxy as shares of width and height (B, 4), "mask" logits (B, H, W) [Caruana 1997, Machine Learning
    28, fig. 2: hard parameter sharing].

    `tasks` says which heads it has; the trunk does not depend on them.
    """

    def __init__(
        self, tasks: Sequence[str] = TASKS, *, classes: int = 5, in_channels: int = 3, width: int = 16
    ):
        super().__init__()
        tasks = _require_tasks(tasks)
        classes = require_whole(classes, "classes", most=MOST)
        self.in_channels = require_whole(in_channels, "in_channels", most=MOST)
        width = require_whole(width, "width", most=MOST)
        self.trunk = nn.Sequential(
            *_conv_block(self.in_channels, width, stride=2),
            *_conv_block(width, 2 * width, stride=1),
            *_conv_block(2 * width, 2 * width, stride=2),
        )
        makers = {
            "class": lambda: ClassHead(2 * width, classes),
            "box": lambda: BoxHead(2 * width),
            "mask": lambda: MaskHead(2 * width),
        }
        self.heads = nn.ModuleDict({task: makers[task]() for task in tasks})

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        _, _, height, width = require_tensor(x, "x", "B C H W", C=self.in_channels).shape
        if min(height, width) < 8:
            raise ValueError(f"x wants images of at least 8×8 pixels, got {height}×{width}")
        require_same_kind(x, "x", next(self.parameters()))
        features = self.trunk(x)
        outputs = {task: head(features) for task, head in self.heads.items()}
        if "mask" in outputs:
            outputs["mask"] = outputs["mask"][:, :height, :width]
        return outputs


class ClassHead(nn.Module):
    """(B, D, h, w) -> (B, K) logits: the mean over all places, and a linear layer."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.width = require_whole(width, "width", most=MOST)
        self.linear = nn.Linear(self.width, require_whole(classes, "classes", most=MOST))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        _require_features(features, self.linear, self.width)
        return self.linear(features.mean((2, 3)))


class BoxHead(nn.Module):
    """(B, D, h, w) -> (B, 4) in [0, 1]: x1, y1, x2, y2; a linear layer that knows the place of a feature."""

    def __init__(self, width: int):
        super().__init__()
        self.width = require_whole(width, "width", most=MOST)
        self.linear = nn.Linear(self.width * GRID**2, 4)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        _require_features(features, self.linear, self.width)
        return self.linear(F.adaptive_avg_pool2d(features, GRID).flatten(1)).sigmoid()


class MaskHead(nn.Module):
    """(B, D, h, w) -> (B, 4h, 4w) logits: sixteen pixels for each place of the feature map."""

    def __init__(self, width: int):
        super().__init__()
        self.width = require_whole(width, "width", most=MOST)
        self.conv = nn.Conv2d(self.width, 16, 3, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        _require_features(features, self.conv, self.width)
        return F.pixel_shuffle(self.conv(features), 4)[:, 0]


def _conv_block(in_channels, channels, stride):
    conv = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
    return conv, nn.BatchNorm2d(channels), nn.ReLU()


def task_losses(
    outputs: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """{task: output of MultiTaskNet}, {task: ground truth} -> {task: scalar}: cross-entropy of the class,
    smooth L1 of the box [Girshick 2015, arXiv:1504.08083, eq. 3], binary cross-entropy of the mask.

    Ground truth is (B,) int64, (B, 4) shares of width and height, and (B, H, W) in [0, 1]. Only tasks of
    `outputs` count. Raises TypeError or ValueError for what does not fit.
    """
    require_type(outputs, "outputs", dict, "a dict of task and output")
    require_type(targets, "targets", dict, "a dict of task and ground truth")
    losses = {}
    for task in _require_tasks(list(outputs), "outputs"):
        if task not in targets:
            raise ValueError(f"targets wants the ground truth of {task!r}, got none")
        losses[task] = LOSSES[task](outputs[task], targets[task])
    return losses


def _class_loss(logits, labels):
    rows, classes = require_tensor(logits, "outputs['class']", "B K").shape
    require_tensor(labels, "targets['class']", "B", B=rows, kind="int64", least=0, most=classes - 1)
    return F.cross_entropy(logits, labels)


def _box_loss(boxes, truth):
    rows, _ = require_tensor(boxes, "outputs['box']", "B 4").shape
    require_tensor(truth, "targets['box']", "B 4", B=rows)
    return F.smooth_l1_loss(boxes, truth, beta=0.1)


def _mask_loss(logits, truth):
    rows, height, width = require_tensor(logits, "outputs['mask']", "B H W").shape
    require_tensor(truth, "targets['mask']", "B H W", B=rows, H=height, W=width, least=0, most=1)
    return F.binary_cross_entropy_with_logits(logits, truth)


LOSSES = {"class": _class_loss, "box": _box_loss, "mask": _mask_loss}

# --- do two tasks agree? ------------------------------------------------------------------------------------


def gradient_cosine(loss_a: torch.Tensor, loss_b: torch.Tensor, parameters: Iterable[torch.Tensor]) -> float:
    """scalar, scalar, parameters that both share -> float in [−1, 1]: cos(∇L_a, ∇L_b), all parameters as one
    vector; below 0 a step for one task raises the loss of the other [Yu et al. 2020, arXiv:2001.06782,
    def. 1].

    Both losses stay ready for `backward`. Raises TypeError or ValueError for losses without a gradient, and
    where one of the gradients is zero, since it has no direction.
    """
    for loss, name in ((loss_a, "loss_a"), (loss_b, "loss_b")):
        require_tensor(loss, name, "…")
        if loss.ndim or not loss.requires_grad:
            raise ValueError(f"{name} wants a scalar with a gradient, got {describe(loss)}")
    shared = _require_parameters(parameters)
    first, second = (_flat_gradient(loss, shared) for loss in (loss_a, loss_b))
    lengths = first.norm() * second.norm()
    if not lengths > 0:
        raise ValueError("parameters wants a gradient of both losses that is not zero, got zero")
    return float((first @ second / lengths).clamp(-1, 1))


def _flat_gradient(loss, parameters):
    """-> (N,) in float32 at least; 0 for parameters that the loss does not reach."""
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    rows = [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, gradients, strict=True)
    ]
    return torch.cat([row.flatten().to(torch.promote_types(row.dtype, torch.float32)) for row in rows])


# --- error against number of images -------------------------------------------------------------------------


class PowerLaw(NamedTuple):
    """error = scale · images ^ −exponent, a straight line where both axes are logarithmic."""

    scale: float
    exponent: float

    def predict(self, images: float) -> float:
        """-> float: the error at so many images."""
        return self.scale * require_number(images, "images", above=0) ** -self.exponent


def fit_power_law(images: Sequence[float], errors: Sequence[Sequence[float]]) -> PowerLaw:
    """S numbers of images, S × R errors of R runs -> PowerLaw through the mean error of each number, by least
    squares of the logarithms [Hestness et al. 2017, arXiv:1712.00409, eq. 1, without their constant].

    Raises TypeError or ValueError unless there are at least two different numbers and all errors are above 0.
    """
    sizes, rows = _require_runs(images, errors)
    return _fit(sizes, rows.mean(1))


def bootstrap_power_law(
    images: Sequence[float],
    errors: Sequence[Sequence[float]],
    at: float,
    *,
    draws: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """As `fit_power_law`, and a number of images -> {"exponent", "error"}: (low, high) of the exponent, and
    of the mean error that R new runs with `at` images will show [Efron & Tibshirani 1993, ch. 25].

    Each draw takes R runs of each number of images with replacement, fits, and adds to the prediction the
    mean of R relative deviations of single runs. The interval assumes that the power law goes on. Raises
    TypeError or ValueError as `fit_power_law`, and for fewer than two runs.
    """
    sizes, rows = _require_runs(images, errors)
    at = require_number(at, "at", above=0)
    draws = require_whole(draws, "draws", most=MOST)
    confidence = require_number(confidence, "confidence", above=0, below=1)
    rng = np.random.default_rng(require_whole(seed, "seed", least=0))
    runs = rows.shape[1]
    if runs < 2:
        raise ValueError(f"errors wants at least two runs for each number of images, got {runs}")
    relative = (rows / rows.mean(1, keepdims=True)).ravel()
    exponents, predictions = [], []
    for _ in range(draws):
        drawn = np.take_along_axis(rows, rng.integers(0, runs, rows.shape), axis=1)
        law = _fit(sizes, drawn.mean(1))
        exponents.append(law.exponent)
        predictions.append(law.predict(at) * rng.choice(relative, runs).mean())
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    return {
        name: tuple(np.quantile(values, ends).tolist())
        for name, values in (("exponent", exponents), ("error", predictions))
    }


def _fit(sizes, means):
    line = linregress(np.log(sizes), np.log(means))
    return PowerLaw(float(np.exp(line.intercept)), float(-line.slope))


# --- an adversarial change ----------------------------------------------------------------------------------


def fgsm(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    eps: float,
    *,
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = F.cross_entropy,
) -> torch.Tensor:
    """classifier, (B, C, H, W) in [0, 1], (B,) labels, size of the change -> (B, C, H, W) in [0, 1]: x + eps
    · sign(∂L/∂x), the fast gradient sign method [Goodfellow et al. 2015, arXiv:1412.6572, sec. 4].

    No pixel changes by more than eps. The model acts in the mode that it is in, and its gradients stay as
    they are. Raises TypeError or ValueError for what does not fit.
    """
    require_type(model, "model", nn.Module, "a torch.nn.Module")
    rows = len(require_tensor(x, "x", "B C H W", least=0, most=1))
    require_tensor(y, "y", "B", B=rows, kind="int64", least=0)
    eps = require_number(eps, "eps", least=0, most=1)
    require_callable(loss_fn, "loss_fn")
    changed = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        logits = model(changed)
        _, classes = require_tensor(logits, "model(x)", "B K", B=rows).shape
        require_tensor(y, "y", "B", kind="int64", most=classes - 1)
        (gradient,) = torch.autograd.grad(loss_fn(logits, y), changed)
    return (x + eps * gradient.sign()).clamp(0, 1).detach()


# --- what they are given ------------------------------------------------------------------------------------


def _require_tasks(tasks, name="tasks"):
    require_type(tasks, name, (list, tuple), f"a list of {', '.join(TASKS)}")
    chosen = [require_choice(task, f"each of {name}", TASKS) for task in tasks]
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"{name} wants at least one task, each once, got {describe(tasks)}")
    return chosen


def _require_features(features, layer, width):
    require_tensor(features, "features", "B D h w", D=width)
    require_same_kind(features, "features", layer.weight)


def _require_parameters(parameters):
    try:
        found = [] if isinstance(parameters, (str, bytes, dict)) else list(parameters)
    except Exception:  # whatever a foreign object's __iter__ does
        found = []
    if not found:
        raise TypeError(f"parameters wants a list of tensors, got {describe(parameters)}")
    for each in found:
        require_type(each, "each of parameters", torch.Tensor, "a tensor with a gradient")
        if not each.requires_grad:
            raise ValueError(f"each of parameters wants a gradient, got {describe(each)} without one")
    return found


def _require_runs(images, errors):
    """-> (S,) and (S, R) NumPy arrays in float64."""
    sizes = _as_numbers(images, "images", 1)
    rows = _as_numbers(errors, "errors", 2)
    if len(np.unique(sizes)) < 2 or len(rows) != len(sizes):
        raise ValueError(
            f"images and errors want at least two different numbers of images and a row of errors for each, "
            f"got {len(sizes)} and {len(rows)}"
        )
    return sizes, rows


def _as_numbers(values, name, axes):
    if isinstance(values, torch.Tensor) and values.is_floating_point() and not values.is_meta:
        values = values.detach().cpu().double().numpy()
    try:
        array = np.asarray(values) if isinstance(values, (list, tuple, np.ndarray)) else np.asarray(None)
    except Exception:  # rows of unequal lengths, or whatever a foreign object does
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} wants real numbers in {axes} axes, got {describe(values)}")
    if array.ndim != axes or not array.size or not np.isfinite(array).all() or array.min() <= 0:
        raise ValueError(
            f"{name} wants finite numbers above 0 in {axes} axes, got an array of shape {array.shape}"
        )
    return array.astype(float)
