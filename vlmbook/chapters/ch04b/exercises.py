"""Exercises of chapter 4b, VAE."""

import math

import torch

from vlmbook.notebook.exercises import (
    Exercise,
    Wrong,
    as_number,
    as_tensor,
    require_trainable,
    require_values,
)


def judge_kl(answer):
    got = as_number(answer, "kl")
    right = (5 + 9 - 1 - 2 * math.log(3)) / 2
    if abs(got - right) < 0.006:
        return
    slips = {
        "You added σ of the last number where σ² stands.": (5 + 3 - 1 - 2 * math.log(3)) / 2,
        "The logarithm is of σ², and log 9 = 2 log 3.": (5 + 9 - 1 - math.log(3)) / 2,
        "The factor ½ is missing.": 2 * right,
        "The term −log σ² is missing.": (5 + 9 - 1) / 2,
        "The term −1 of each latent number is missing: three ones.": right + 1.5,
        "Take the natural logarithm, since nats are asked, not bits.": (5 + 9 - 1 - math.log2(9)) / 2,
        "This is in bits; nats are asked.": right / math.log(2),
        "The terms of μ are missing.": (9 - 1 - 2 * math.log(3)) / 2,
        "σ is given, and its square is wanted: twice you took σ for σ².": (5 + 3 - 1 - math.log(3)) / 2,
        "Take the natural logarithm, not that of base 10.": (5 + 9 - 1 - 2 * math.log10(3)) / 2,
        "This is the mean over the three numbers; the KL is their sum.": right / 3,
        "μ is squared before it is added.": (3 + 9 - 1 - 2 * math.log(3)) / 2,
    }
    for help_, value in slips.items():
        if abs(got - value) < 0.006:
            raise Wrong(f"{got:.3g} is not it. {help_}")
    if got < 0:
        raise Wrong(f"{got:.3g}: a KL divergence is never negative.")
    raise Wrong(f"{got:.3g} is not it. The first number gives ½(1 + 1 − 1 − 0); what do the others give?")


def judge_kl_between(answer):
    for m, s, p, r in (
        (1.0, 2.0, 0.0, 1.0),
        (0.5, 0.7, -1.0, 3.0),
        (2.0, 1.5, 2.0, 1.5),
        (0.0, 1.0, 3.0, 0.5),
    ):
        got = as_number(answer(m, s, p, r), f"kl_between({m}, {s}, {p}, {r})")
        want = kl_between(m, s, p, r)
        if abs(got - want) < 1e-5 * max(1, want):
            continue
        case = f"kl_between({m}, {s}, {p}, {r}) is {got:.4g}, not {want:.4g}."
        slips = {
            "This is the KL of the second to the first; it is not symmetric.": kl_between(p, r, m, s),
            "The prior's own mean and spread are not used: this is the KL to N(0, 1).": kl_between(
                m, s, 0.0, 1.0
            ),
            "The squared distance of the means is measured in units of r: divide it by r² as well.": want
            + ((m - p) ** 2 - (m - p) ** 2 / r**2) / 2,
            "The logarithm is of s²/r², twice that of s/r.": want + math.log(s / r) / 2,
            "The factor ½ is missing.": 2 * want,
            "The prior's mean is not used: it is the distance m − p that counts.": want
            + (m**2 - (m - p) ** 2) / (2 * r**2),
            "The logarithm has the wrong sign.": want + 2 * math.log(s / r),
            "The −1 is missing: the KL of equal distributions is 0.": want + 0.5,
            "s is to be squared as well, in units of r.": want + (s - s**2) / (2 * r**2),
            "The squares are measured in units of r², not of r.": (
                ((m - p) ** 2 + s**2) / r - 1 - 2 * math.log(s / r)
            )
            / 2,
        }
        for help_, value in slips.items():
            if abs(got - value) < 1e-5 * max(1, abs(value)):
                raise Wrong(f"{case} {help_}")
        if got < 0:
            raise Wrong(f"{case} A KL divergence is never negative.")
        raise Wrong(
            f"{case} Write log q − log p of both densities, then use E[(z − m)²] = s² and "
            "E[(z − p)²] = s² + (m − p)²."
        )


def kl_between(m, s, p, r):
    return (((m - p) ** 2 + s**2) / r**2 - 1 - 2 * math.log(s / r)) / 2


def judge_free_bits(answer):
    generator = torch.Generator().manual_seed(5)
    mu = torch.randn(6, 4, generator=generator) * torch.tensor([0.05, 0.2, 1.0, 2.0])
    logvar = torch.randn(6, 4, generator=generator) * torch.tensor([0.05, 0.3, 1.0, 1.0])
    each = (mu.square() + logvar.exp() - 1 - logvar) / 2
    for floor in (0.25, 0.0, 1.0):
        want = free_bits(mu, logvar, floor)
        case = f"floor {floor:g}"
        got = answer(mu.clone(), logvar.clone(), floor)
        if isinstance(got, torch.Tensor) and got.ndim:
            raise Wrong(f"One number is wanted, for the whole batch; this has the shape {tuple(got.shape)}.")
        got = as_tensor(torch.as_tensor(got) if isinstance(got, float) else got, want, case)
        if torch.allclose(got, want, atol=1e-5):
            continue
        slips = {
            "You compare each image's KL with the floor; take the mean over the batch first, then the larger.": each.clamp(
                min=floor
            )
            .sum(1)
            .mean(),
            "The floor holds for each latent number, not for their sum.": each.mean(0).sum().clamp(min=floor),
            "The smaller of both is taken; below the floor the floor is charged.": each.mean(0)
            .clamp(max=floor)
            .sum(),
            "Nothing is charged below the floor; the floor is.": (each.mean(0) - floor).clamp(min=0).sum(),
            "This is the plain KL: the floor does nothing.": each.sum(1).mean(),
            "Over the latent numbers it is a sum, not a mean.": each.mean(0).clamp(min=floor).mean(),
            "Over the batch it is a mean, not a sum.": each.sum(0).clamp(min=floor).sum(),
            "The mean is over the images, and a floor for each latent number: which axis is which?": each.mean(
                1
            )
            .clamp(min=floor)
            .sum(),
            "The factor ½ of the KL is missing.": (2 * each).mean(0).clamp(min=floor).sum(),
            "Latent numbers below the floor are left out; they are charged the floor.": each.mean(0)[
                each.mean(0) > floor
            ].sum(),
        }
        for help_, value in slips.items():
            if torch.allclose(got, value, atol=1e-5):
                raise Wrong(f"For {case}: {got.item():.4g}, not {want.item():.4g}. {help_}")
        require_values(got, want, case)
    ask = mu.requires_grad_(), logvar.requires_grad_()
    require_trainable(answer(*ask, 0.0), *ask)


def free_bits(mu, logvar, floor):
    each = (mu.square() + logvar.exp() - 1 - logvar) / 2  # (B, Z)
    return each.mean(0).clamp(min=floor).sum()


def judge_bound(answer):
    generator = torch.Generator().manual_seed(6)
    for k, batch, shift in ((5, 3, 0.0), (1, 2, 0.0), (7, 4, -4000.0)):
        fit, prior, q = torch.randn(3, k, batch, generator=generator, dtype=torch.float64) * 3
        fit = fit + shift
        want = bound(fit, prior, q)
        case = f"tables {tuple(fit.shape)}"
        got = answer(fit.clone(), prior.clone(), q.clone())
        got = as_tensor(got, want, case)
        if torch.allclose(got, want):
            continue
        if not got.isfinite().all():
            raise Wrong(
                f"For log p(x | z) near {shift:g} this is {got[0].item():g}: exp of that is 0 in the computer. "
                "torch.logsumexp takes the largest out first."
            )
        weights = fit + prior - q
        slips = {
            "This is the mean of the logarithms, the ELBO; wanted is the logarithm of the mean.": weights.mean(
                0
            ),
            "This is the sum of the weights; divide by k inside of the logarithm: minus log k.": weights.logsumexp(
                0
            ),
            "The weight divides by q: minus log q.": (fit + prior + q).logsumexp(0) - math.log(k),
            "log p(z) is missing in the weights.": (fit - q).logsumexp(0) - math.log(k),
            "log q(z | x) is missing in the weights.": (fit + prior).logsumexp(0) - math.log(k),
            "Only log p(x | z) is used: z was drawn from q, not from the prior.": fit.logsumexp(0)
            - math.log(k),
            "The number of draws is the first size of the tables, the batch the second.": weights.logsumexp(0)
            - math.log(batch),
            "Divide by k inside of the logarithm; outside, it is minus log k.": weights.logsumexp(0) / k,
            "This is the largest weight, not their mean.": weights.amax(0),
        }
        for help_, value in slips.items():
            if torch.allclose(got, value):
                raise Wrong(f"For {case}: {help_}")
        require_values(got, want, case)


def bound(log_fit, log_prior, log_q):
    return (log_fit + log_prior - log_q).logsumexp(0) - math.log(len(log_fit))


EXERCISES = {
    "1": Exercise(
        judge_kl,
        hints=(
            "Each latent number adds ½(μ² + σ² − 1 − log σ²), with the natural logarithm.",
            "The first: ½(1 + 1 − 1 − 0) = 0.5. The second: ½(4 + 1 − 1 − 0) = 2, since only μ² counts.",
            "The third: ½(0 + 9 − 1 − log 9), with log 9 = 2.197.",
        ),
        solution=5.40,
        why="0.5 + 2 + ½(9 − 1 − 2.197) = 5.40 nats. A spread that is too wide costs as a shifted mean does.",
    ),
    "2": Exercise(
        judge_kl_between,
        hints=(
            "Both log densities have −log of the spread and a square; what is E[(z − p)²] if z is from N(m, s²)?",
            "E[log q] = −log s − ½ + const; E[log p] = −log r − (s² + (m − p)²)/(2r²) + const.",
            "((m − p)² + s²)/r² − 1 − log(s²/r²), and half of that.",
        ),
        solution=kl_between,
        why="Only how far the means lie apart and how the spreads compare counts, both in units of the prior's spread: "
        "so it is the KL of N((m − p)/r, (s/r)²) to N(0, 1).",
    ),
    "3": Exercise(
        judge_free_bits,
        hints=(
            "First the KL of each image and each latent number, (B, Z), from the closed form.",
            "Then the mean over the batch: (Z,). Which of the Z numbers are below the floor?",
            "each.mean(0).clamp(min=floor).sum()",
        ),
        solution=free_bits,
        why="A latent number below the floor gets no gradient from the KL, so it is free to say so much. It is a "
        "remedy against collapse that needs no warm-up.",
    ),
    "4": Exercise(
        judge_bound,
        hints=(
            "The logarithm of a weight is log p(x | z) + log p(z) − log q(z | x).",
            "The mean over the k draws stands inside of the logarithm: log Σ exp(log weight) − log k.",
            "exp(−4000) is 0 in the computer; (…).logsumexp(0) does not mind.",
        ),
        solution=bound,
        why="With k = 1 this is one draw of the ELBO. With more, good draws outweigh bad ones, and the bound rises "
        "towards log p(x).",
    ),
}
