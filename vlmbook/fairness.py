"""Fairness between groups: rates of each group, three criteria, and what a threshold for each group costs.

A decision is 1 (selected) or 0, a label is 1 (positive) or 0, a group is a whole number from 0 on.
"""

import math
from typing import NamedTuple

import torch

from vlmbook.validation import require_choice, require_number, require_tensor, require_whole

MOST_GROUPS = 2**10
CRITERIA = ("none", "one threshold", "selection rate", "true positive rate")

# --- what happens to a group --------------------------------------------------------------------------------


class Rates(NamedTuple):
    """Of one group: its size, and shares in [0, 1]; NaN where a share is of nobody."""

    n: int
    base_rate: float  # P(Y = 1)
    selection_rate: float  # P(D = 1)
    true_positive_rate: float  # P(D = 1 | Y = 1)
    false_positive_rate: float  # P(D = 1 | Y = 0)
    precision: float  # P(Y = 1 | D = 1)
    accuracy: float  # P(D = Y)


def rates_by_group(decisions: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor) -> dict[int, Rates]:
    """(N,) decisions, (N,) labels, (N,) int64 groups -> {group: Rates}.

    Raises TypeError or ValueError for what is not 0 or 1, and for different lengths.
    """
    decisions = _as_bits(decisions, "decisions")
    labels = _as_bits(labels, "labels", N=len(decisions))
    groups = _as_groups(groups, len(decisions))
    return {
        group: _rates(decisions[groups == group], labels[groups == group])
        for group in groups.unique().tolist()
    }


def _rates(decisions, labels):
    return Rates(
        len(labels),
        _share(labels),
        _share(decisions),
        _share(decisions[labels]),
        _share(decisions[~labels]),
        _share(labels[decisions]),
        _share(decisions == labels),
    )


def _share(bits):
    return bits.double().mean().item() if len(bits) else math.nan


# --- three criteria -----------------------------------------------------------------------------------------


def criteria_gaps(by_group: dict[int, Rates]) -> dict[str, float]:
    """{group: Rates} -> the largest difference between two groups: "demographic parity" of the selection
    rates, "equalised odds" of the true or the false positive rates, "predictive parity" of the precisions.

    0 means that the criterion holds [Hardt et al. 2016, arXiv:1610.02413, def. 2.1; Chouldechova 2017,
    arXiv:1703.00056]. Raises TypeError or ValueError for fewer than two groups.
    """
    if not isinstance(by_group, dict) or not all(isinstance(each, Rates) for each in by_group.values()):
        raise TypeError("by_group wants what rates_by_group returns, got something else")
    if len(by_group) < 2:
        raise ValueError(f"by_group wants at least two groups, got {len(by_group)}")
    every = list(by_group.values())
    odds = (
        _gap(rates.true_positive_rate for rates in every),
        _gap(rates.false_positive_rate for rates in every),
    )
    return {
        "demographic parity": _gap(rates.selection_rate for rates in every),
        "equalised odds": math.nan if any(map(math.isnan, odds)) else max(odds),
        "predictive parity": _gap(rates.precision for rates in every),
    }


def _gap(values):
    values = list(values)
    return math.nan if any(map(math.isnan, values)) else max(values) - min(values)


def forced_false_positive_rate(base_rate: float, precision: float, true_positive_rate: float) -> float:
    """p, PPV, TPR -> the false positive rate that follows from them: p / (1 − p) · (1 − PPV) / PPV · TPR
    [Chouldechova 2017, arXiv:1703.00056].

    So groups with other base rates cannot have the same precision, TPR and FPR. A result above 1 says that no
    decision has these three numbers. Raises TypeError or ValueError outside 0 < p < 1, 0 < PPV ≤ 1, 0 ≤ TPR ≤
    1.
    """
    p = require_number(base_rate, "base_rate", above=0, below=1)
    precision = require_number(precision, "precision", above=0, most=1)
    sensitivity = require_number(true_positive_rate, "true_positive_rate", least=0, most=1)
    return p / (1 - p) * (1 - precision) / precision * sensitivity


def calibration_by_group(
    scores: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor, *, bins: int = 5
) -> dict[int, list[tuple[float, float, int]]]:
    """(N,) scores in [0, 1], (N,) labels, (N,) groups -> {group: (mean score, share of positives, number) of
    each bin that is not empty}; the bins are equally wide.

    A score is calibrated if both agree in each bin and group [Kleinberg et al. 2016, arXiv:1609.05807, sec.
    1.2]. Raises TypeError or ValueError for what does not fit.
    """
    scores = _as_scores(scores)
    labels = _as_bits(labels, "labels", N=len(scores))
    groups = _as_groups(groups, len(scores))
    bins = require_whole(bins, "bins", most=2**10)
    places = (scores * bins).long().clamp(max=bins - 1)
    found = {}
    for group in groups.unique().tolist():
        found[group] = []
        for place in range(bins):
            inside = (groups == group) & (places == place)
            if inside.any():
                mean, share = scores[inside].mean().item(), _share(labels[inside])
                found[group].append((mean, share, int(inside.sum())))
    return found


# --- a threshold for each group -----------------------------------------------------------------------------


def choose_thresholds(
    scores: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor, *, criterion: str, grid: int = 200
) -> dict[int, float]:
    """(N,) scores in [0, 1], (N,) labels, (N,) groups -> {group: threshold}: the most accurate thresholds
    under a criterion; selected is whose score is at least the group's threshold.

    "none": each group's most accurate threshold; "one threshold": the same for all; "selection rate" or
    "true positive rate": this rate is equal in all groups up to the grid of `grid` + 1 rates and to the size
    of a group [Hardt et al. 2016, sec. 3.2, without its random decisions]. Raises TypeError or ValueError for
    what does not fit, and for a group without a positive where that rate is wanted.
    """
    scores = _as_scores(scores)
    labels = _as_bits(labels, "labels", N=len(scores))
    groups = _as_groups(groups, len(scores))
    criterion = require_choice(criterion, "criterion", CRITERIA)
    grid = require_whole(grid, "grid", most=2**12)
    members = {group: groups == group for group in groups.unique().tolist()}
    if criterion == "none":
        return {group: _most_accurate(scores[own], labels[own]) for group, own in members.items()}
    if criterion == "one threshold":
        return dict.fromkeys(members, _most_accurate(scores, labels))
    of_whom = {g: own & labels if criterion == "true positive rate" else own for g, own in members.items()}
    for group, chosen in of_whom.items():
        if not chosen.any():
            raise ValueError(f"labels wants a positive in each group, got none in group {group}")
    ranked = {group: scores[chosen].sort(descending=True).values for group, chosen in of_whom.items()}
    best, most = {}, -1
    for step in range(grid + 1):
        candidate = {group: _threshold_at(values, step / grid) for group, values in ranked.items()}
        right = int((decide(scores, groups, candidate) == labels).sum())
        if right > most:
            best, most = candidate, right
    return best


def decide(scores: torch.Tensor, groups: torch.Tensor, thresholds: dict[int, float]) -> torch.Tensor:
    """(N,) scores in [0, 1], (N,) groups, {group: threshold} -> (N,) bool: is the score at least the
    threshold of its group?

    Raises TypeError or ValueError for a group without a threshold.
    """
    scores = _as_scores(scores)
    groups = _as_groups(groups, len(scores))
    if not isinstance(thresholds, dict):
        raise TypeError(f"thresholds wants a dict of groups, got {type(thresholds).__name__}")
    decisions = torch.zeros(len(scores), dtype=torch.bool)
    for group in groups.unique().tolist():
        if group not in thresholds:
            raise ValueError(f"thresholds wants a threshold for group {group}, got none")
        threshold = require_number(thresholds[group], "each of thresholds")
        decisions[groups == group] = scores[groups == group] >= threshold
    return decisions


def _most_accurate(scores, labels):
    """-> the threshold with the fewest errors; 2.0, above all scores, selects nobody."""
    values, order = scores.sort(descending=True, stable=True)
    hits = labels[order].long().cumsum(0)
    right = hits + (~labels).sum() - (torch.arange(1, len(scores) + 1) - hits)
    last_of_tie = torch.cat([values[1:] != values[:-1], torch.tensor([True])])
    right = right.where(last_of_tie, -1)
    place = int(right.argmax())
    return float(values[place]) if right[place] > (~labels).sum() else 2.0


def _threshold_at(values, rate):
    """(n,) falling values, share -> the threshold that selects round(share · n) of them; ties go together."""
    count = round(rate * len(values))
    return float(values[count - 1]) if count else 2.0


# --- what they are given ------------------------------------------------------------------------------------


def _as_bits(x, name, **sizes):
    require_tensor(x, name, "N", kind="discrete", least=0, most=1, **sizes)
    return _with_values(x, name).bool()


def _as_groups(groups, length):
    require_tensor(groups, "groups", "N", kind="int64", least=0, most=MOST_GROUPS, N=length)
    return _with_values(groups, "groups")


def _as_scores(scores):
    require_tensor(scores, "scores", "N", least=0, most=1)
    return _with_values(scores, "scores").double()


def _with_values(x, name):
    """-> the same on the CPU"""
    if x.is_meta:
        raise ValueError(f"{name} wants a tensor with values, got one on the meta device")
    return x.detach().cpu()
