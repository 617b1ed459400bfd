"""Exercises of chapter 4b, VAE."""

import math

import torch

from vlmbook.chapters.measured import judge_two_variants
from vlmbook.notebook.exercises import (
    Exercise,
    Wrong,
    as_number,
    as_tensor,
    require_trainable,
    require_values,
)
from vlmbook.notebook.messages import message

# --- 1: a KL divergence by hand -----------------------------------------------------------------------------


def judge_kl(answer):
    got = as_number(answer, "kl")
    log = 2 * math.log(3)  # log 9
    want = (5 + 9 - 1 - log) / 2
    if abs(got - want) < 0.006:
        return
    slips = [
        ((5 + 3 - 1 - log) / 2, "You added σ of the last number where σ² stands."),
        ((5 + 9 - 1 - log / 2) / 2, "The logarithm is of σ², and log 9 = 2 log 3."),
        (2 * want, "The factor ½ is missing."),
        ((5 + 9 - 1) / 2, "The term −log σ² is missing."),
        (want + 1.5, "The term −1 of each latent number is missing: three ones."),
        ((5 + 9 - 1 - math.log2(9)) / 2, "Take the natural logarithm, since the unit is nats, not bits."),
        (want / math.log(2), "This is in bits; the exercise asks for nats."),
        ((9 - 1 - log) / 2, "The terms of μ are missing."),
        ((5 + 3 - 1 - log / 2) / 2, "σ is given, and the formula has σ²: you took σ for σ² twice."),
        ((5 + 9 - 1 - 2 * math.log10(3)) / 2, "Take the natural logarithm, not that of base 10."),
        (want / 3, "This is the mean over the three numbers; the KL is their sum."),
        ((3 + 9 - 1 - log) / 2, "μ is squared before it is added."),
    ]
    for value, sentence in slips:
        if abs(got - value) < 0.006:
            raise Wrong("{got:.3g} is not it. {slip}", got=got, slip=message(sentence))
    if got < 0:
        raise Wrong("{got:.3g}: a KL divergence is never negative.", got=got)
    raise Wrong(
        "{got:.3g} is not it. The first number gives ½(1 + 1 − 1 − 0); what do the others give?", got=got
    )


# --- 2: the KL of two normal distributions ------------------------------------------------------------------


def judge_kl_between(answer):
    cases = ((1.0, 2.0, 0.0, 1.0), (0.5, 0.7, -1.0, 3.0), (2.0, 1.5, 2.0, 1.5), (0.0, 1.0, 3.0, 0.5))
    for m, s, p, r in cases:
        call = f"kl_between({m}, {s}, {p}, {r})"
        got, want = as_number(answer(m, s, p, r), call), kl_between(m, s, p, r)
        if abs(got - want) < 1e-5 * max(1, want):
            continue
        slip = message(_name_slip_of_kl_between(got, m, s, p, r))
        raise Wrong("{call} is {got:.4g}, not {want:.4g}. {slip}", call=call, got=got, want=want, slip=slip)


def _name_slip_of_kl_between(got, m, s, p, r):
    """A wrong number -> the sentence that says where it comes from."""
    want = kl_between(m, s, p, r)
    squares = (m - p) ** 2 + s**2
    slips = [
        (kl_between(p, r, m, s), "This is the KL of the second to the first; it is not symmetric."),
        (
            kl_between(m, s, 0.0, 1.0),
            "The prior's own mean and spread are not used: this is the KL to N(0, 1).",
        ),
        (
            want + ((m - p) ** 2 - (m - p) ** 2 / r**2) / 2,
            "The squared distance of the means is measured in units of r: divide it by r² as well.",
        ),
        (want + math.log(s / r) / 2, "The logarithm is of s²/r², twice that of s/r."),
        (2 * want, "The factor ½ is missing."),
        (
            want + (m**2 - (m - p) ** 2) / (2 * r**2),
            "The prior's mean is not used: it is the distance m − p that counts.",
        ),
        (want + 2 * math.log(s / r), "The logarithm has the wrong sign."),
        (want + 0.5, "The −1 is missing: the KL of equal distributions is 0."),
        (want + (s - s**2) / (2 * r**2), "s is to be squared as well, in units of r."),
        (
            (squares / r - 1 - 2 * math.log(s / r)) / 2,
            "The squares are measured in units of r², not of r.",
        ),
    ]
    for value, sentence in slips:
        if abs(got - value) < 1e-5 * max(1, abs(value)):
            return sentence
    if got < 0:
        return "A KL divergence is never negative."
    return "Write log q − log p of both densities, then use E[(z − m)²] = s² and E[(z − p)²] = s² + (m − p)²."


def kl_between(m, s, p, r):
    return (((m - p) ** 2 + s**2) / r**2 - 1 - 2 * math.log(s / r)) / 2


# --- 3: free bits -------------------------------------------------------------------------------------------


def judge_free_bits(answer):
    generator = torch.Generator().manual_seed(5)
    mu = torch.randn(6, 4, generator=generator) * torch.tensor([0.05, 0.2, 1.0, 2.0])
    logvar = torch.randn(6, 4, generator=generator) * torch.tensor([0.05, 0.3, 1.0, 1.0])
    for floor in (0.25, 0.0, 1.0):
        want = free_bits(mu, logvar, floor)
        got = answer(mu.clone(), logvar.clone(), floor)
        if isinstance(got, torch.Tensor) and got.ndim:
            raise Wrong(
                "One number is wanted, for the whole batch; this has the shape {shape}.",
                shape=tuple(got.shape),
            )
        if isinstance(got, float):
            got = torch.tensor(got)
        got = as_tensor(got, want, f"floor {floor:g}")
        if not torch.allclose(got, want, atol=1e-5):
            _name_slip_of_free_bits(got, want, mu, logvar, floor)
            require_values(got, want, f"floor {floor:g}")
    mu.requires_grad_()
    logvar.requires_grad_()
    require_trainable(answer(mu, logvar, 0.0), mu, logvar)


def _name_slip_of_free_bits(got, want, mu, logvar, floor):
    each = (mu.square() + logvar.exp() - 1 - logvar) / 2
    mean = each.mean(0)
    slips = [
        (
            each.clamp(min=floor).sum(1).mean(),
            "You compare each image's KL with the floor; take the mean over the batch, then the larger.",
        ),
        (mean.sum().clamp(min=floor), "The floor holds for each latent number, not for their sum."),
        (
            mean.clamp(max=floor).sum(),
            "The smaller of both is taken; below the floor a latent number costs the floor.",
        ),
        (
            (mean - floor).clamp(min=0).sum(),
            "In your answer a latent number below the floor costs nothing; it has to cost the floor.",
        ),
        (each.sum(1).mean(), "This is the plain KL: the floor does nothing."),
        (mean.clamp(min=floor).mean(), "Over the latent numbers it is a sum, not a mean."),
        (each.sum(0).clamp(min=floor).sum(), "Over the batch it is a mean, not a sum."),
        (
            each.mean(1).clamp(min=floor).sum(),
            "The mean is over the images, and a floor for each latent number: which axis is which?",
        ),
        ((2 * each).mean(0).clamp(min=floor).sum(), "The factor ½ of the KL is missing."),
        (mean[mean > floor].sum(), "Latent numbers below the floor are left out; each costs the floor."),
    ]
    for value, sentence in slips:
        if torch.allclose(got, value, atol=1e-5):
            raise Wrong(
                "For floor {floor:g}: {got:.4g}, not {want:.4g}. {slip}",
                floor=floor,
                got=got.item(),
                want=want.item(),
                slip=message(sentence),
            )


def free_bits(mu, logvar, floor):
    each = (mu.square() + logvar.exp() - 1 - logvar) / 2  # (B, Z)
    return each.mean(0).clamp(min=floor).sum()


# --- 4: the bound of k draws --------------------------------------------------------------------------------


def judge_bound(answer):
    generator = torch.Generator().manual_seed(6)
    for k, batch, shift in ((5, 3, 0.0), (1, 2, 0.0), (7, 4, -4000.0)):
        tables = torch.randn(3, k, batch, generator=generator, dtype=torch.float64) * 3
        tables[0] += shift
        want = bound(*tables)
        got = as_tensor(answer(*tables.clone()), want, f"tables ({k}, {batch})")
        if torch.allclose(got, want):
            continue
        if not got.isfinite().all():
            raise Wrong(
                "For log p(x | z) near {shift:g} this is {got:g}: exp of that is 0 in the computer. "
                "torch.logsumexp takes the largest out first.",
                shift=shift,
                got=got[0].item(),
            )
        _name_slip_of_bound(got, *tables)
        require_values(got, want, f"tables ({k}, {batch})")


def _name_slip_of_bound(got, log_fit, log_prior, log_q):
    k, batch = log_fit.shape
    log_ratio = log_fit + log_prior - log_q
    log_k = math.log(k)
    slips = [
        (
            log_ratio.mean(0),
            "This is the mean of the logarithms, the ELBO. Take the logarithm of the mean.",
        ),
        (
            log_ratio.logsumexp(0),
            "This is the sum of the ratios; divide by k inside of the logarithm: minus log k.",
        ),
        ((log_fit + log_prior + log_q).logsumexp(0) - log_k, "The ratio divides by q: minus log q."),
        ((log_fit - log_q).logsumexp(0) - log_k, "log p(z) is missing in the ratios."),
        ((log_fit + log_prior).logsumexp(0) - log_k, "log q(z | x) is missing in the ratios."),
        (log_fit.logsumexp(0) - log_k, "Only log p(x | z) is used: z was drawn from q, not from the prior."),
        (
            log_ratio.logsumexp(0) - math.log(batch),
            "The number of draws is the first size of the tables, the batch the second.",
        ),
        (log_ratio.logsumexp(0) / k, "Divide by k inside of the logarithm; outside, it is minus log k."),
        (log_ratio.amax(0), "This is the largest ratio, not their mean."),
    ]
    for value, sentence in slips:
        if torch.allclose(got, value):
            raise Wrong("For tables ({k}, {batch}): {slip}", k=k, batch=batch, slip=message(sentence))


def bound(log_fit, log_prior, log_q):
    return (log_fit + log_prior - log_q).logsumexp(0) - math.log(len(log_fit))


# --- 5: train, change, measure ------------------------------------------------------------------------------

WARM, COLD = "warm-up", "no warm-up"


def judge_warm_up(answer):
    judge_two_variants(answer, (WARM, COLD), larger_is_better=False, least=1.0, most=8.0)


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
            "Both log densities have −log of the spread and a square; what is E[(z − p)²] if z is from "
            "N(m, s²)?",
            "E[log q] = −log s − ½ + const; E[log p] = −log r − (s² + (m − p)²)/(2r²) + const.",
            "((m − p)² + s²)/r² − 1 − log(s²/r²), and half of that.",
        ),
        solution=kl_between,
        why="Only how far the means lie apart and how the spreads compare counts, both in units of the "
        "prior's spread: so it is the KL of N((m − p)/r, (s/r)²) to N(0, 1).",
    ),
    "3": Exercise(
        judge_free_bits,
        hints=(
            "First the KL of each image and each latent number, (B, Z), from the closed form.",
            "Then the mean over the batch: (Z,). Which of the Z numbers are below the floor?",
            "each.mean(0).clamp(min=floor).sum()",
        ),
        solution=free_bits,
        why="A latent number below the floor gets no gradient from the KL, so it may carry as much for free. "
        "It is a remedy against collapse that needs no warm-up.",
    ),
    "4": Exercise(
        judge_bound,
        hints=(
            "The logarithm of a ratio is log p(x | z) + log p(z) − log q(z | x).",
            "The mean over the k draws stands inside of the logarithm: log Σ exp(log ratio) − log k.",
            "exp(−4000) is 0 in the computer; (…).logsumexp(0) has no such problem.",
        ),
        solution=bound,
        why="With k = 1 this is one draw of the ELBO. With more, good draws outweigh bad ones, and the bound "
        "rises towards log p(x).",
    ),
    "5": Exercise(
        judge_warm_up,
        hints=(
            "net, _ = trained(seed, 12, images=images[:2000]); the second variant has warm=False as well.",
            'Collect evaluated(net)["ELBO"] in two lists of three numbers, one for each variant.',
            "Compare the distance of both means with the sum of both standard deviations.",
        ),
        solution={WARM: [2.2250, 2.2759, 2.3030], COLD: [2.4177, 2.3699, 2.4218], "conclusion": WARM},
        why="In this run the means are 2.268 and 2.403 bits a pixel, and the standard deviations 0.040 and "
        "0.029, so the warm-up helps here. With it the KL was 0.09 to 0.13 bits, without it 0.00 to 0.05: "
        "without the warm-up the code is nearly empty after 12 epochs.",
    ),
}
