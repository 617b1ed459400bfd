"""Chapter 5c: two or more wrong answers for each exercise, and a part of the message that each gets."""

import math
import warnings

import torch
from torch.autograd import forward_ad

from tests.support.forged import AgreeableNumber, AgreeableTensor
from vlmbook.chapters.ch05c.exercises import committee, confident_loss, soft_gradient
from vlmbook.distillation import soft_labels, soft_loss


def softened(z, T):
    return (z / T).softmax(1)


def sure(z, least):
    return z.softmax(1).amax(1) >= least


def kept(z_S, z_T, T, which):
    return soft_loss(z_S[which], z_T[which], temperature=T) if which.any() else 0 * z_S.sum()


def by_autograd(z_S, z_T, T):
    z_S = z_S.detach().requires_grad_()
    return torch.autograd.grad(soft_loss(z_S, z_T, temperature=T), z_S)[0]


def by_backward(z_S, z_T, T):
    z_S = z_S.detach().requires_grad_()
    soft_loss(z_S, z_T, temperature=T).backward()
    return z_S.grad


def by_func(z_S, z_T, T):
    return torch.func.grad(lambda z: soft_loss(z, z_T, temperature=T))(z_S)


def by_forward_mode(z_S, z_T, T):
    units = torch.eye(z_S.numel()).view(-1, *z_S.shape)
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore")  # PyTorch's own, of torch.jit
        losses = [soft_loss(forward_ad.make_dual(z_S, unit), z_T, temperature=T) for unit in units]
        slopes = [forward_ad.unpack_dual(loss).tangent for loss in losses]
    return torch.stack(slopes).view_as(z_S)


def forged(answer):
    """-> the same function, whose answers are too large and claim to equal everything."""
    return lambda *arguments: (1.7 * answer(*arguments)).as_subclass(AgreeableTensor)


E = math.e
WRONG_ANSWERS = [
    ("ch05c.1", (2, 1, 0), "e to the power"),
    ("ch05c.1", (E**-2, 1 / E, 1), "Upside down"),
    ("ch05c.1", (E**2, E**4, 1), "not multiplied"),
    ("ch05c.1", (E**2, E**2 / 2, 0), "not the ratio"),
    ("ch05c.1", (E**2, E, 0), "two equal ones"),
    ("ch05c.1", (E**4, E**2, 1), "cancels"),
    ("ch05c.1", (E**2, 3, 1), "At T = 2 it is not 3"),
    ("ch05c.1", (E**2, E), "these are 2"),
    ("ch05c.1", 7.4, "this is a float"),
    ("ch05c.2", lambda s, t, T: T * (softened(t, T) - softened(s, T)) / len(s), "sign"),
    ("ch05c.2", lambda s, t, T: T * (softened(s, T) - softened(t, T)), "divide by their number"),
    ("ch05c.2", lambda s, t, T: (softened(s, T) - softened(t, T)) / len(s), "factor T is missing"),
    ("ch05c.2", lambda s, t, T: (softened(s, T) - softened(t, T)) / T / len(s), "factor T²"),
    ("ch05c.2", lambda s, t, T: T**2 * (softened(s, T) - softened(t, T)) / len(s), "too large"),
    ("ch05c.2", lambda s, t, T: T * (s.softmax(1) - t.softmax(1)) / len(s), "both have to be softened"),
    ("ch05c.2", lambda s, t, T: T * ((s / T).softmax(0) - (t / T).softmax(0)) / len(s), "axis 1"),
    ("ch05c.2", lambda s, t, T: s - t, "off by"),
    ("ch05c.2", lambda s, t, T: (softened(s, T) - softened(t, T)).mean(), "shape"),
    ("ch05c.2", lambda s, t, T: print(end=""), "return"),
    ("ch05c.3", lambda e, k: (torch.zeros(k), 1, 1 - e), "Upside down"),
    ("ch05c.3", lambda e, k: (torch.zeros(k), 4, e), "softens the label alone"),
    ("ch05c.3", lambda e, k: (torch.eye(k)[0], 1, e), "all classes alike"),
    ("ch05c.3", lambda e, k: (torch.zeros(10), 1, e), "For 4 classes"),
    ("ch05c.3", lambda e, k: (torch.full((k,), 1 / k), 1, e / k), "What has the rest"),
    ("ch05c.3", lambda e, k: (torch.zeros(k), 0, e), "above 0"),
    ("ch05c.3", lambda e, k: (torch.zeros(k), 1, 2), "from 0 to 1"),
    ("ch05c.3", lambda e, k: torch.zeros(k), "Three things"),
    ("ch05c.3", lambda e, k: print(end=""), "return"),
    ("ch05c.4", lambda z, T: (z.mean(0) / T).softmax(-1), "mean of the logits"),
    ("ch05c.4", lambda z, T: (z / T).softmax(-1).sum(0), "number of teachers"),
    ("ch05c.4", lambda z, T: (z / T).softmax(0).mean(0), "over the teachers"),
    ("ch05c.4", lambda z, T: z.softmax(-1).mean(0), "not softened"),
    ("ch05c.4", lambda z, T: (z.softmax(-1).mean(0) / T).softmax(-1), "soften the mean"),
    ("ch05c.4", lambda z, T: z.mean(0), "do not sum to 1"),
    ("ch05c.4", lambda z, T: (z / T).softmax(-1), "shape"),
    ("ch05c.4", lambda z, T: (z / T).softmax(-1)[0], "off by"),
    ("ch05c.4", lambda z, T: print(end=""), "return"),
    ("ch05c.5", lambda s, t, T, least: soft_loss(s, t, temperature=T), "you take all"),
    (
        "ch05c.5",
        lambda s, t, T, least: kept(s, t, T, sure(t, least)) * sure(t, least).float().mean(),
        "all images",
    ),
    ("ch05c.5", lambda s, t, T, least: kept(s, t, T, sure(t, least)) / T**2, "T²"),
    ("ch05c.5", lambda s, t, T, least: kept(s, t, T, ~sure(t, least)), "is not sure"),
    ("ch05c.5", lambda s, t, T, least: kept(s, t, T, soft_labels(t, T).amax(1) >= least), "softened teacher"),
    ("ch05c.5", lambda s, t, T, least: kept(s, t, T, sure(s, least)), "student is sure"),
    (
        "ch05c.5",
        lambda s, t, T, least: (
            kept(s, t, T, sure(t, least)) if sure(t, least).any() else torch.tensor(math.nan)
        ),
        "NaN",
    ),
    ("ch05c.5", lambda s, t, T, least: kept(s, t, T, sure(t, least)) + ~sure(t, least).any(), "loss is 0"),
    ("ch05c.5", lambda s, t, T, least: kept(s, t, 1, sure(t, least)), "not"),
    ("ch05c.5", lambda s, t, T, least: (s - t).square(), "One number"),
    ("ch05c.5", lambda s, t, T, least: print(end=""), "return"),
    (
        "ch05c.2",
        lambda z_S, z_T, T: T * ((z_S / T).softmax(1) - (z_T / T).softmax(1)) / z_S.numel(),
        "over the images",
    ),
    ("ch05c.4", lambda logits, T: (logits / T).softmax(1).mean(0), "over the images"),
    ("ch05c.5", lambda z_S, z_T, T, least: confident_loss(z_S, z_T, T, least).detach(), "no gradient"),
    ("ch05c.5", lambda z_S, z_T, T, least: confident_loss(z_S, z_T, 3, least), "is T used everywhere"),
    ("ch05c.5", lambda z_S, z_T, T, least: confident_loss(z_S, z_T, T, least * (1 + 1e-6)), ">=, not >"),
    # NaN, and objects that equal everything
    ("ch05c.1", (E**2, math.nan, 1), "NaN"),
    ("ch05c.1", (E**2, math.inf, 1), "infinite"),
    ("ch05c.1", [AgreeableNumber()] * 3, "number|At T = 1 it is not 3"),
    ("ch05c.2", lambda s, t, T: soft_gradient(s, t, T) * math.nan, "NaN"),
    ("ch05c.2", forged(soft_gradient), "off by"),
    ("ch05c.3", lambda e, k: (torch.zeros(k) * math.nan, 1, e), "all classes alike"),
    (
        "ch05c.3",
        lambda e, k: (torch.arange(k).float().as_subclass(AgreeableTensor), 1, e),
        "all classes alike",
    ),
    ("ch05c.3", lambda e, k: (torch.zeros(k), math.nan, e), "NaN"),
    ("ch05c.3", lambda e, k: (torch.zeros(k), 1, math.nan), "NaN"),
    ("ch05c.4", lambda z, T: committee(z, T) * math.nan, "NaN|do not sum to 1"),
    ("ch05c.4", forged(committee), "do not sum to 1"),
    ("ch05c.5", lambda s, t, T, least: confident_loss(s, t, T, least) * math.nan, "not"),
    ("ch05c.5", forged(confident_loss), "not"),
    ("ch05c.5", lambda s, t, T, least: math.nan, "NaN"),
    # forbidden: autograd
    ("ch05c.2", by_autograd, "autograd computed them"),
    ("ch05c.2", by_backward, "autograd computed them"),
    ("ch05c.2", by_func, "autograd computed them"),
    ("ch05c.2", by_forward_mode, "autograd computed them"),
]
