"""Chapter 4a: two or more wrong answers for each exercise, and what the message should name."""

import math

import torch
from torch.nn import functional as F


def penalty(
    *,
    swap=False,
    at=None,
    power=1,
    mean_first=False,
    plain=False,
    whole=False,
    average=False,
    graph=True,
    total=False,
    absolute=False,
):
    def answer(D, real, fake, eps):
        x = eps * fake + (1 - eps) * real if swap else eps * real + (1 - eps) * fake
        x = {"real": real, "fake": fake, None: x}[at].detach().requires_grad_()
        y = D(x).mean() if average else D(x).sum()
        (slope,) = torch.autograd.grad(y, x, create_graph=graph)
        length = slope.norm() if whole else slope.flatten(1).norm(dim=1) ** power
        if plain:
            return length.square().mean()
        if mean_first:
            return (length.mean() - 1) ** 2
        apart = length - 1 if absolute else (length - 1) ** 2
        return apart.sum() if total else apart.mean()

    return answer


def shares(no_penalty=(0.62, 0.65, 0.58), r1=(0.59, 0.58, 0.53), conclusion="no difference"):
    return {"no penalty": list(no_penalty), "R1": list(r1), "conclusion": conclusion}


class Forged(torch.Tensor):
    """Whatever is asked of it, the answer is true."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return torch.tensor(True)


class ForgedShape(tuple):
    def __eq__(self, other):
        return True

    __hash__ = None


WRONG_ANSWERS = [
    ("ch04a.1", (5, 16, 64, 64), "the fourth"),
    ("ch04a.1", (5, 3, 64, 64), "This is the image"),
    ("ch04a.1", (16, 64, 16, 16), "5 noise vectors"),
    ("ch04a.1", (5, 128, 8, 8), "double it twice"),
    ("ch04a.1", (5, 256, 16, 16), "at the start"),
    ("ch04a.1", (5, 128, 16, 16), "one step off"),
    ("ch04a.1", (5, 32, 16, 16), "one step off"),
    ("ch04a.1", (5, 3, 16, 16), "Only the image"),
    ("ch04a.1", (5, 48, 16, 16), "four doublings"),
    ("ch04a.1", (5, 64, 12, 12), "doubled twice"),
    ("ch04a.1", (5, 64, 16), "this has 3"),
    ("ch04a.1", (5, 64, 16.5, 16), "whole number"),
    ("ch04a.2", lambda logit: 1 / (1 + math.exp(-logit)), "probability that the image is real"),
    ("ch04a.2", lambda logit: math.exp(-logit), "g/p"),
    ("ch04a.2", lambda logit: logit, "logarithm of what is asked"),
    ("ch04a.2", lambda logit: 1 / (1 + math.exp(logit)), "probability that|1 − D"),
    ("ch04a.2", lambda logit: 2.0**logit, "base 2"),
    ("ch04a.2", lambda logit: 3 * math.exp(logit), "Solve D"),
    ("ch04a.2", lambda logit: print(end=""), "return"),
    ("ch04a.2", lambda logit: "much", "one number"),
    ("ch04a.3", lambda real, fake: F.softplus(real - fake).mean(), "sign is exchanged"),
    ("ch04a.3", lambda real, fake: F.softplus(fake - real).sum(), "mean is wanted"),
    ("ch04a.3", lambda real, fake: -F.softplus(fake - real).mean(), "Minus the logarithm"),
    ("ch04a.3", lambda real, fake: (real - fake).sigmoid().mean(), "no logarithm"),
    ("ch04a.3", lambda real, fake: -(real - fake).sigmoid().mean().log(), "for each pair"),
    ("ch04a.3", lambda real, fake: F.softplus(fake.mean() - real.mean()), "own partner"),
    ("ch04a.3", lambda real, fake: F.softplus(-real).mean() + F.softplus(fake).mean(), "each image alone"),
    (
        "ch04a.3",
        lambda real, fake: -(real.sigmoid() - fake.sigmoid()).sigmoid().log().mean(),
        "not their sigmoids",
    ),
    ("ch04a.3", lambda real, fake: (fake - real).mean(), "only subtracts"),
    ("ch04a.3", lambda real, fake: -(real - fake).sigmoid().log().mean(), "rounded"),
    ("ch04a.3", lambda real, fake: F.softplus(fake - real), "shape"),
    ("ch04a.3", lambda real, fake: 0.5, "tensor is wanted"),
    ("ch04a.3", lambda real, fake: (real - fake).mean() ** 2, "log-sigmoid"),
    ("ch04a.4", penalty(swap=True), "ε belongs"),
    ("ch04a.4", penalty(at="real"), "at real images"),
    ("ch04a.4", penalty(at="fake"), "at generated images"),
    ("ch04a.4", penalty(plain=True), "R1"),
    ("ch04a.4", penalty(power=2), "root is missing"),
    ("ch04a.4", penalty(mean_first=True), "square for each image"),
    ("ch04a.4", penalty(total=True), "mean is wanted"),
    ("ch04a.4", penalty(absolute=True), "square is missing"),
    ("ch04a.4", penalty(whole=True), "whole batch"),
    ("ch04a.4", penalty(average=True), "divides it by B"),
    ("ch04a.4", penalty(graph=False), "create_graph"),
    ("ch04a.4", lambda D, real, fake, eps: penalty()(D, real, fake, eps) * 3, "differentiate the sum"),
    ("ch04a.4", lambda D, real, fake, eps: penalty()(D, real, fake, eps).detach(), "no gradient"),
    ("ch04a.4", lambda D, real, fake, eps: D(real), "shape"),
    ("ch04a.2", lambda logit: logit / (1 - logit), "logit for D"),
    ("ch04a.2", lambda logit: 2 / (1 + math.exp(-logit)) - 1, "Solve D"),
    ("ch04a.3", lambda real, fake: F.softplus(fake - real).mean().detach(), "no gradient"),
    ("ch04a.3", lambda real, fake: F.softplus(fake[None] - real[:, None]).mean(), "own partner only"),
    ("ch04a.3", lambda real, fake: F.softplus(fake - real).mean() / 2, "half of it"),
    (
        "ch04a.3",
        lambda real, fake: F.softplus(fake - real).detach().mean() + 0 * (real + fake).mean(),
        "gradient",
    ),
    ("ch04a.1", ForgedShape((1, 2, 3, 4)), "5 noise vectors"),
    ("ch04a.1", (math.nan, 64, 16, 16), "whole number"),
    ("ch04a.2", lambda logit: math.nan, "NaN"),
    ("ch04a.2", lambda logit: math.inf, "infinite"),
    ("ch04a.3", lambda real, fake: torch.tensor(math.nan), "is nan"),
    ("ch04a.3", lambda real, fake: torch.tensor(0.5).as_subclass(Forged), "log-sigmoid"),
    ("ch04a.4", lambda D, real, fake, eps: D(real).sum() * math.nan, "is nan"),
    ("ch04a.4", lambda D, real, fake, eps: torch.tensor(0.5).as_subclass(Forged), "differentiate the sum"),
    ("ch04a.5", [0.62, 0.65, 0.58], "dict is wanted"),
    ("ch04a.5", shares(conclusion="R1"), "follows"),
    ("ch04a.5", shares(r1=(0.9, 0.91, 0.92)), "follows"),
    ("ch04a.5", shares(r1=(0.59, 0.59, 0.53)), "seed changed"),
    ("ch04a.5", shares(no_penalty=(0.62, 0.65)), "three numbers"),
    ("ch04a.5", shares(no_penalty=(8.0, 8.5, 7.5)), "a run of this exercise"),
    ("ch04a.5", shares(r1=(math.nan, 0.5, 0.6)), "NaN"),
]
