"""Chapter 4b: two or more wrong answers for each exercise, and what the message has to say about them."""

import math

import torch

from tests.support.forged import AgreeableNumber, AgreeableTensor
from vlmbook.chapters.ch04b.exercises import kl_between

NAN = float("nan")


def agreeable(x):
    return x.as_subclass(AgreeableTensor)


def warmed(warm=(2.21, 2.22, 2.24), cold=(2.40, 2.42, 2.43), conclusion="warm-up"):
    return {"warm-up": list(warm), "no warm-up": list(cold), "conclusion": conclusion}


def each(mu, logvar):
    return (mu.square() + logvar.exp() - 1 - logvar) / 2


WRONG_ANSWERS = [
    ("ch04b.1", (5 + 3 - 1 - math.log(9)) / 2, "where σ² stands"),
    ("ch04b.1", (5 + 9 - 1 - math.log(3)) / 2, "logarithm is of σ²"),
    ("ch04b.1", 10.80, "factor ½"),
    ("ch04b.1", 6.5, "log σ² is missing"),
    ("ch04b.1", 6.90, "−1 of each"),
    ("ch04b.1", 4.915, "natural logarithm"),
    ("ch04b.1", 7.793, "in bits"),
    ("ch04b.1", 1.80, "their sum"),
    ("ch04b.1", 2.90, "terms of μ"),
    ("ch04b.1", 4.40, "μ is squared"),
    ("ch04b.1", -1.0, "never negative"),
    ("ch04b.1", 17, "what do the others"),
    ("ch04b.1", "5.40 nats", "one number is wanted"),
    ("ch04b.2", lambda m, s, p, r: kl_between(p, r, m, s), "not symmetric"),
    ("ch04b.2", lambda m, s, p, r: kl_between(m, s, 0, 1), "own mean and spread"),
    ("ch04b.2", lambda m, s, p, r: ((m - p) ** 2 + s**2 / r**2 - 1 - 2 * math.log(s / r)) / 2, "units of r"),
    ("ch04b.2", lambda m, s, p, r: (((m - p) ** 2 + s**2) / r**2 - 1 - math.log(s / r)) / 2, "twice that"),
    ("ch04b.2", lambda m, s, p, r: 2 * kl_between(m, s, p, r), "factor ½"),
    ("ch04b.2", lambda m, s, p, r: ((m**2 + s**2) / r**2 - 1 - 2 * math.log(s / r)) / 2, "prior's mean"),
    (
        "ch04b.2",
        lambda m, s, p, r: (((m - p) ** 2 + s**2) / r**2 - 1 + 2 * math.log(s / r)) / 2,
        "wrong sign",
    ),
    (
        "ch04b.2",
        lambda m, s, p, r: (((m - p) ** 2 + s**2) / r**2 - 2 * math.log(s / r)) / 2,
        "equal distributions",
    ),
    ("ch04b.2", lambda m, s, p, r: -7.0, "never negative"),
    ("ch04b.2", lambda m, s, p, r: 123.0, "log q − log p"),
    ("ch04b.2", lambda m, s, p, r: print(end=""), "return"),
    (
        "ch04b.3",
        lambda mu, logvar, floor: each(mu, logvar).clamp(min=floor).sum(1).mean(),
        "mean over the batch, then",
    ),
    (
        "ch04b.3",
        lambda mu, logvar, floor: each(mu, logvar).sum(1).mean().clamp(min=floor),
        "each latent number|plain",
    ),
    ("ch04b.3", lambda mu, logvar, floor: each(mu, logvar).mean(0).clamp(max=floor).sum(), "smaller of both"),
    (
        "ch04b.3",
        lambda mu, logvar, floor: (each(mu, logvar).mean(0) - floor).relu().sum(),
        "costs nothing",
    ),
    ("ch04b.3", lambda mu, logvar, floor: each(mu, logvar).sum(1).mean() + 0 * floor, "plain KL|each latent"),
    (
        "ch04b.3",
        lambda mu, logvar, floor: each(mu, logvar).mean(0).clamp(min=floor).mean(),
        "a sum, not a mean",
    ),
    (
        "ch04b.3",
        lambda mu, logvar, floor: each(mu, logvar).sum(0).clamp(min=floor).sum(),
        "a mean, not a sum",
    ),
    (
        "ch04b.3",
        lambda mu, logvar, floor: 2 * each(mu, logvar).mean(0).clamp(min=floor / 2).sum(),
        "factor ½",
    ),
    ("ch04b.3", lambda mu, logvar, floor: each(mu, logvar).sum(1), "One number"),
    ("ch04b.3", lambda mu, logvar, floor: print(end=""), "return"),
    ("ch04b.4", lambda fit, prior, q: (fit + prior - q).mean(0), "logarithm of the mean"),
    ("ch04b.4", lambda fit, prior, q: (fit + prior - q).logsumexp(0), "minus log k"),
    ("ch04b.4", lambda fit, prior, q: (fit + prior - q).exp().mean(0).log(), "logsumexp"),
    ("ch04b.4", lambda fit, prior, q: (fit + prior + q).logsumexp(0) - math.log(len(q)), "minus log q"),
    ("ch04b.4", lambda fit, prior, q: (fit - q).logsumexp(0) - math.log(len(q)), r"p\(z\) is missing"),
    (
        "ch04b.4",
        lambda fit, prior, q: (fit + prior).logsumexp(0) - math.log(len(q)),
        r"q\(z \| x\) is missing",
    ),
    ("ch04b.4", lambda fit, prior, q: fit.logsumexp(0) - math.log(len(q)), "drawn from q"),
    ("ch04b.4", lambda fit, prior, q: (fit + prior - q).logsumexp(1) - math.log(len(q)), "shape"),
    ("ch04b.4", lambda fit, prior, q: (fit + prior - q).logsumexp(0) / len(q), "inside of the logarithm"),
    ("ch04b.4", lambda fit, prior, q: (fit + prior - q).amax(0), "largest ratio"),
    ("ch04b.4", lambda fit, prior, q: torch.zeros(fit.shape[1]), "off by up to"),
    ("ch04b.4", lambda fit, prior, q: print(end=""), "return"),
    ("ch04b.1", 2.951, "σ for σ²"),
    ("ch04b.1", 6.023, "base 10"),
    (
        "ch04b.2",
        lambda m, s, p, r: (((m - p) ** 2 + s) / r**2 - 1 - 2 * math.log(s / r)) / 2,
        "s is to be squared",
    ),
    (
        "ch04b.2",
        lambda m, s, p, r: (((m - p) ** 2 + s**2) / r - 1 - 2 * math.log(s / r)) / 2,
        "units of r², not",
    ),
    (
        "ch04b.3",
        lambda mu, logvar, floor: each(mu, logvar).mean(0).clamp(min=floor).sum().detach(),
        "no gradient",
    ),
    ("ch04b.3", lambda mu, logvar, floor: each(mu, logvar).mean(1).clamp(min=floor).sum(), "which axis"),
    ("ch04b.4", lambda fit, prior, q: (fit + prior - q).logsumexp(0) - math.log(fit.shape[1]), "first size"),
    ("ch04b.1", NAN, "NaN"),
    ("ch04b.1", float("inf"), "infinite"),
    ("ch04b.1", AgreeableNumber(), "one number is wanted"),
    ("ch04b.1", torch.tensor([5.4, 5.4]), "one number is wanted"),
    ("ch04b.2", lambda m, s, p, r: NAN, "NaN"),
    ("ch04b.2", lambda m, s, p, r: AgreeableNumber(), "one number is wanted"),
    ("ch04b.3", lambda mu, logvar, floor: mu.sum() * NAN, "NaN"),
    ("ch04b.3", lambda mu, logvar, floor: agreeable(mu.sum()), "off by up to"),
    ("ch04b.3", lambda mu, logvar, floor: AgreeableNumber(), "A tensor is wanted"),
    ("ch04b.4", lambda fit, prior, q: fit[0] * NAN, "NaN|near 0"),
    ("ch04b.4", lambda fit, prior, q: agreeable(fit[0] * 0), "off by up to"),
    ("ch04b.4", lambda fit, prior, q: AgreeableNumber(), "A tensor is wanted"),
    ("ch04b.5", [2.2, 2.3, 2.4], "A dict is wanted"),
    ("ch04b.5", {"warm-up": [2.2], "no warm-up": [2.3]}, "A dict is wanted"),
    ("ch04b.5", warmed(warm=(2.21, 2.22)), "three numbers"),
    ("ch04b.5", warmed(cold=(2.40, 2.40, 2.41)), "was the seed changed"),
    ("ch04b.5", warmed(cold=(2.40, 99.0, 2.41)), "gives numbers from"),
    ("ch04b.5", warmed(conclusion="yes"), "The conclusion is"),
    ("ch04b.5", warmed(conclusion="no difference"), 'follows "warm-up"'),
    ("ch04b.5", warmed(cold=(2.20, 2.24, 2.23)), 'follows "no difference"'),
    ("ch04b.5", warmed(warm=(2.60, 2.61, 2.62)), 'follows "no warm-up"'),
    ("ch04b.5", warmed(cold=(2.40, NAN, 2.41)), "NaN"),
]
