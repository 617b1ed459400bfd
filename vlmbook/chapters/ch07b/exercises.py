"""Exercises of chapter 7b, trust."""

import math

import torch

from vlmbook.chapters.measured import judge_two_variants
from vlmbook.notebook.exercises import Exercise, Wrong, as_number, as_tensor, require_values
from vlmbook.notebook.messages import message

# --- 1: the AUC by counting pairs ---------------------------------------------------------------------------

AUC = 4 / 6  # 0.2 wins twice, 0.6 once, 2.0 once


def judge_auc(answer):
    auc = as_number(answer, "the AUC")
    if math.isclose(auc, AUC, abs_tol=0.006):
        return
    if math.isclose(auc, 1 - AUC, abs_tol=0.006):
        raise Wrong("{auc:.3g} counts the pairs in which the member has the *larger* loss.", auc=auc)
    if math.isclose(auc, 4):
        raise Wrong("{auc:g} is the number of pairs. Divide it by all pairs.", auc=auc)
    if not 0 <= auc <= 1:
        raise Wrong("{auc:g} is no AUC. It is a share of pairs, between 0 and 1.", auc=auc)
    raise Wrong("{auc:.3g}? There are 3 · 2 pairs. In how many has the member the smaller loss?", auc=auc)


# --- 2: clipping --------------------------------------------------------------------------------------------


def judge_clipping(answer):
    generator = torch.Generator().manual_seed(0)
    for batch, width, max_norm in ((4, 3, 1.0), (6, 5, 0.4)):
        gradients = torch.randn(batch, width, generator=generator)
        gradients[0] *= 0.01  # one that is shorter than the norm
        case = message("{batch} gradients and C = {norm:g}", batch=batch, norm=max_norm)
        want = clip_and_add(gradients, max_norm)
        got = as_tensor(answer(gradients.clone(), max_norm), want, case)
        if torch.allclose(got, want, atol=1e-4):
            continue
        norms = gradients.norm(dim=1, keepdim=True)
        total = gradients.sum(0)
        slips = {
            "For {case} short gradients are made longer. The factor is at most 1.": (
                gradients * max_norm / norms
            ).sum(0),
            "For {case} the sum is clipped. Clip each sample's gradient before you add.": total
            * min(1.0, max_norm / total.norm().item()),
            "For {case} each number is clipped by itself. The norm of the whole gradient counts.": (
                gradients.clamp(-max_norm, max_norm).sum(0)
            ),
            "For {case} the mean is taken. The sum is wanted.": want / batch,
            "For {case} nothing is clipped.": total,
        }
        for template, values in slips.items():
            if torch.allclose(got, values, atol=1e-4):
                raise Wrong(template, case=case)
        require_values(got, want, case)


def clip_and_add(gradients, max_norm):
    norms = gradients.norm(dim=1, keepdim=True)
    return (gradients * (max_norm / norms).clamp(max=1)).sum(0)


# --- 3: integrated gradients --------------------------------------------------------------------------------


def judge_attribution(answer):
    def cubic(x):
        return 3 * x**2 + x.flip(0)

    x, start = torch.tensor([1.0, -0.5, 2.0]), torch.tensor([0.2, 0.4, -1.0])
    for steps in (1, 4):
        case = message("{steps} steps", steps=steps)
        want = attribute(cubic, x, start, steps)
        got = as_tensor(answer(cubic, x.clone(), start.clone(), steps), want, case)
        if torch.allclose(got, want, atol=1e-4):
            continue
        middle = want / (x - start)
        ends = {name: _riemann(cubic, x, start, steps, shift) for name, shift in (("left", 0), ("right", 1))}
        slips = {
            "For {case} this is the mean gradient. Multiply by x − start.": middle,
            "For {case} the mean gradient is multiplied by x. Multiply by x − start.": middle * x,
            "For {case} the sum over the steps is taken. Take the mean.": want * steps,
            "For {case} the gradient is taken at the left ends of the parts. Take the middles.": ends["left"],
            "For {case} the gradient is taken at the right ends of the parts. Take the middles.": ends[
                "right"
            ],
        }
        for template, values in slips.items():
            if torch.allclose(got, values, atol=1e-4) and not torch.allclose(values, want, atol=1e-4):
                raise Wrong(template, case=case)
        require_values(got, want, case)


def _riemann(slope_at, x, start, steps, shift):
    points = [start + (k + shift) / steps * (x - start) for k in range(steps)]
    return (x - start) * sum(slope_at(point) for point in points) / steps


def attribute(slope_at, x, start, steps):
    total = torch.zeros_like(x)
    for step in range(steps):
        total += slope_at(start + (step + 0.5) / steps * (x - start))
    return (x - start) * total / steps


# --- 4: the forced false positive rates ---------------------------------------------------------------------

FORCED = (0.15, 0.0375)


def judge_forced(answer):
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Two numbers are wanted: the false positive rates of group 0 and group 1.")
    first, second = (as_number(each, "each of the two") for each in answer)
    if math.isclose(first, FORCED[1], abs_tol=1e-3) and math.isclose(second, FORCED[0], abs_tol=1e-3):
        raise Wrong("The two groups are exchanged: group 0 has the base rate 0.5.")
    for got, want, base in ((first, FORCED[0], 0.5), (second, FORCED[1], 0.2)):
        if math.isclose(got, want, abs_tol=1e-3):
            continue
        if math.isclose(got, base / (1 - base) * 4 * 0.6, abs_tol=1e-3):
            raise Wrong("{got:g} uses v / (1 − v). The formula has (1 − v) / v.", got=got)
        if math.isclose(got, base / (1 - base) * 0.25, abs_tol=1e-3):
            raise Wrong("{got:g} leaves out the true positive rate.", got=got)
        raise Wrong(
            "{got:g} for the base rate {base:g}? Use FPR = p / (1 − p) · (1 − v) / v · t.", got=got, base=base
        )


# --- 5: train, change, measure ------------------------------------------------------------------------------

SHARE, NUMBER = "600 images, 20 %", "1200 images, 10 %"


def judge_cameras(answer):
    judge_two_variants(answer, (SHARE, NUMBER), larger_is_better=True, least=0.75, most=0.97)


EXERCISES = {
    "1": Exercise(
        judge_auc,
        hints=(
            "Compare each member with each other sample: 3 · 2 pairs.",
            "0.2 is smaller than 0.4 and 3.0. 0.6 is smaller than 3.0 alone.",
            "(2 + 1 + 1) / 6",
        ),
        solution=AUC,
        why="The AUC needs no threshold: it is the probability that a random member has the smaller loss of "
        "a random pair.",
    ),
    "2": Exercise(
        judge_clipping,
        hints=(
            "First the norm of each row: gradients.norm(dim=1, keepdim=True).",
            "The factor of a row is C / norm, and at most 1: clamp(max=1).",
            "(gradients * (max_norm / norms).clamp(max=1)).sum(0)",
        ),
        solution=clip_and_add,
        why="After the clipping one sample changes the sum by at most C, whatever the sample is. The noise "
        "is as large as σ times this change.",
    ),
    "3": Exercise(
        judge_attribution,
        hints=(
            "The point in the middle of part k is start + (k + 0.5) / steps · (x − start).",
            "Add slope_at of all these points, and divide by steps.",
            "Multiply the mean gradient by (x − start).",
        ),
        solution=attribute,
        why="The sum of the attributions is the change of the function from start to x, because each part of "
        "the path adds gradient times way.",
    ),
    "4": Exercise(
        judge_forced,
        hints=(
            "FPR = p / (1 − p) · (1 − v) / v · t, with v = 0.8 and t = 0.6.",
            "(1 − 0.8) / 0.8 = 0.25. For p = 0.5 the first factor is 1.",
            "1 · 0.25 · 0.6 and 0.25 · 0.25 · 0.6",
        ),
        solution=FORCED,
        why="The group with the larger base rate has four times as many false positives among its negatives, "
        "though precision and true positive rate are the same.",
    ),
    "5": Exercise(
        judge_cameras,
        hints=(
            "experiments.measure_cameras(known, test, (0.2,), n=600, seeds=3) returns accuracies of both "
            "cameras.",
            'Take ["camera B"][0.2], and for the other variant n=1200 and ["camera B"][0.1].',
            "Compute both means and both standard deviations with statistics.stdev.",
        ),
        solution={
            SHARE: [0.9194, 0.8806, 0.9],  # measured with seeds 0, 1, 2
            NUMBER: [0.8944, 0.8556, 0.8917],
            "conclusion": "no difference",
        },
        why="Both variants hold the same 120 images of camera B. If the means do not differ by more than "
        "their spread, the number counts in this experiment, and more images of camera A did not help "
        "or harm camera B measurably.",
    ),
}
