"""How often a system errs that says "the same person": ROC, DET, EER, TAR at a FAR, ten folds, open set.

A pair of images has a distance (N,) and is of one person or not, same (N,) bool. A system accepts a pair if
the distance is at most the threshold. FAR, the false acceptance rate, is the share of different pairs that it
accepts; TAR, the true acceptance rate, the share of same pairs; FRR is 1 − TAR.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from vlmbook.validation import (
    describe,
    require_callable,
    require_number,
    require_tensor,
    require_type,
    require_whole,
)


class Pairs(NamedTuple):
    """All pairs of a set of images; `first` and `second` number their people from 0."""

    distances: torch.Tensor  # (N,) float32
    same: torch.Tensor  # (N,) bool
    first: torch.Tensor  # (N,) int64
    second: torch.Tensor  # (N,) int64


class Roc(NamedTuple):
    """The operating points of a verifier, by growing threshold; the first accepts nothing."""

    thresholds: torch.Tensor  # (K,)
    far: torch.Tensor  # (K,) false acceptance rate
    tar: torch.Tensor  # (K,) true acceptance rate

    @property
    def frr(self) -> torch.Tensor:
        """(K,): the false rejection rate; over `far` it is the DET curve."""
        return 1 - self.tar


class Confusion(NamedTuple):
    """The counts at one threshold, and what is made of them."""

    true_positives: float
    false_positives: float
    false_negatives: float
    true_negatives: float

    @property
    def accuracy(self) -> float:
        return (self.true_positives + self.true_negatives) / sum(self)

    @property
    def precision(self) -> float:
        """NaN where nothing is accepted."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """The TAR. NaN without same pairs."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        return _ratio(
            2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives
        )

    @property
    def far(self) -> float:
        """NaN without different pairs."""
        return _ratio(self.false_positives, self.false_positives + self.true_negatives)


# --- pairs --------------------------------------------------------------------------------------------------


def make_pairs(embeddings: torch.Tensor, labels: torch.Tensor) -> Pairs:
    """(M, D), (M,) int64 -> Pairs: each image with each later one, their Euclidean distances.

    Raises TypeError or ValueError for what are no embeddings, and for fewer than two.
    """
    require_tensor(embeddings, "embeddings", "M D", finite=True)
    require_tensor(labels, "labels", "M", kind="int64", M=len(embeddings))
    if len(embeddings) < 2:
        raise ValueError("embeddings wants at least two rows, got one")
    e = embeddings.detach().float().cpu()
    people = labels.detach().cpu().unique(return_inverse=True)[1]
    i, j = torch.triu_indices(len(e), len(e), offset=1)
    distances = torch.cdist(e, e, compute_mode="donot_use_mm_for_euclid_dist")[i, j]
    return Pairs(distances, people[i] == people[j], people[i], people[j])


# --- one threshold after the other --------------------------------------------------------------------------


def roc_curve(distances: torch.Tensor, same: torch.Tensor, weights: torch.Tensor | None = None) -> Roc:
    """(N,), (N,) bool -> Roc: FAR and TAR at each distance that occurs, and at −∞.

    `weights` (N,) count a pair several times. Raises TypeError or ValueError for what is no pair, and without
    both same and different pairs.
    """
    distances, same, weights = _require_pairs(distances, same, weights)
    order = distances.argsort(stable=True)
    order = order[weights[order] > 0]
    distances, same, weights = distances[order], same[order], weights[order]
    if not (weights[same].sum() > 0 and weights[~same].sum() > 0):
        raise ValueError("same wants pairs of one person and pairs of two, got one kind only")
    last = torch.ones(len(distances), dtype=torch.bool)  # of equal distances only the last is a point
    last[:-1] = distances[1:] != distances[:-1]
    accepted_same = (weights * same).cumsum(0)
    accepted_other = (weights * ~same).cumsum(0)
    zero = torch.zeros(1, dtype=torch.float64)
    return Roc(
        torch.cat([zero - torch.inf, distances[last]]),
        torch.cat([zero, (accepted_other / accepted_other[-1])[last]]),
        torch.cat([zero, (accepted_same / accepted_same[-1])[last]]),
    )


def equal_error_rate(
    distances: torch.Tensor, same: torch.Tensor, weights: torch.Tensor | None = None
) -> tuple[float, float]:
    """(N,), (N,) bool -> float, float: the rate at which FAR and FRR are equal, and the threshold there.

    Between two points of the ROC both rates are interpolated linearly. Raises as `roc_curve`.
    """
    roc = roc_curve(distances, same, weights)
    gap = roc.far - roc.frr  # grows from −1 to 1
    after = int((gap >= 0).nonzero()[0, 0])
    before = after - 1
    share = float(-gap[before] / (gap[after] - gap[before]))
    rate = float(roc.far[before] + share * (roc.far[after] - roc.far[before]))
    low, high = float(roc.thresholds[before]), float(roc.thresholds[after])
    return rate, high if low == -torch.inf else low + share * (high - low)


def tar_at_far(
    distances: torch.Tensor, same: torch.Tensor, far: float, weights: torch.Tensor | None = None
) -> tuple[float, float]:
    """(N,), (N,) bool, FAR -> float, float: the largest TAR with at most this FAR, and its threshold.

    The threshold is −∞ where nothing may be accepted. With N different pairs no FAR below 1/N can be
    measured. Raises as `roc_curve`.
    """
    far = require_number(far, "far", least=0, most=1)
    roc = roc_curve(distances, same, weights)
    point = int((roc.far <= far).nonzero()[-1, 0])
    return float(roc.tar[point]), float(roc.thresholds[point])


def confusion(
    distances: torch.Tensor, same: torch.Tensor, threshold: float, weights: torch.Tensor | None = None
) -> Confusion:
    """(N,), (N,) bool, float -> Confusion at this threshold. Raises TypeError or ValueError."""
    threshold = require_number(threshold, "threshold")
    distances, same, weights = _require_pairs(distances, same, weights)
    accepted = distances <= threshold
    kinds = (accepted & same, accepted & ~same, ~accepted & same, ~accepted & ~same)
    return Confusion(*(float(weights[kind].sum()) for kind in kinds))


def best_threshold(distances: torch.Tensor, same: torch.Tensor) -> float:
    """(N,), (N,) bool -> float: the threshold of the highest accuracy, half-way to the next distance; of
    several the smallest. Raises TypeError or ValueError.
    """
    distances, same, _ = _require_pairs(distances, same, None)
    values, inverse = distances.unique(return_inverse=True)
    gain = torch.zeros(len(values), dtype=torch.float64).index_add_(0, inverse, 2 * same.double() - 1)
    right = torch.cat([gain.new_zeros(1), gain.cumsum(0)])  # accepting the first k distances
    edges = torch.cat([values[:1] - 1, (values[1:] + values[:-1]) / 2, values[-1:] + 1])
    return float(edges[right.argmax()])


# --- how sure the figures are -------------------------------------------------------------------------------


def fold_accuracy(
    distances: torch.Tensor, same: torch.Tensor, folds: torch.Tensor
) -> tuple[float, float, torch.Tensor]:
    """(N,), (N,) bool, (N,) int64 -> mean, standard error, (F,) accuracies: the protocol of LFW [Huang et al.
    2007, §3].

    For each fold the threshold is the best one of the other folds. The standard error is the standard
    deviation of the F accuracies (F − 1) divided by √F. Raises TypeError or ValueError with fewer than two
    folds.
    """
    distances, same, _ = _require_pairs(distances, same, None)
    require_tensor(folds, "folds", "N", kind="int64", N=len(distances))
    folds = folds.detach().cpu()
    numbers = folds.unique()
    if len(numbers) < 2:
        raise ValueError("folds wants at least two folds, got one")
    accuracies = []
    for number in numbers:
        test = folds == number
        threshold = best_threshold(distances[~test], same[~test])
        accuracies.append(confusion(distances[test], same[test], threshold).accuracy)
    accuracies = torch.tensor(accuracies, dtype=torch.float64)
    return float(accuracies.mean()), float(accuracies.std() / len(accuracies) ** 0.5), accuracies


def bootstrap_people(
    measure: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], float],
    pairs: Pairs,
    *,
    draws: int = 200,
    seed: int = 0,
) -> torch.Tensor:
    """measure(distances, same, weights) -> float, Pairs -> (draws,) float64: the measure on other samples of
    *people*, drawn with replacement.

    Pairs are not independent: one odd person is in many of them. So people are drawn, not pairs. A person
    drawn k times counts each pair of own images k times, and a pair with another person, drawn l times, k·l
    times; copies of one person are not a different pair. The quantiles of the result are an interval. Raises
    TypeError or ValueError for what are no pairs, and with fewer than three people.
    """
    require_callable(measure, "measure", "a function of distances, same and weights")
    pairs = _require_all_pairs(pairs)
    draws = require_whole(draws, "draws", most=1_000_000)
    seed = require_whole(seed, "seed", least=0, most=2**62)
    people = int(torch.maximum(pairs.first.max(), pairs.second.max())) + 1
    if people < 3:
        raise ValueError(f"pairs wants at least three people, got {people}")
    generator = torch.Generator().manual_seed(seed)
    values = []
    while len(values) < draws:
        drawn = torch.randint(people, (people,), generator=generator).bincount(minlength=people)
        weights = torch.where(pairs.same, drawn[pairs.first], drawn[pairs.first] * drawn[pairs.second])
        if weights[pairs.same].any() and weights[~pairs.same].any():
            value = measure(pairs.distances, pairs.same, weights.double())
            values.append(require_number(value, "what measure returns"))
    return torch.tensor(values, dtype=torch.float64)


# --- who is it, and is it anybody ---------------------------------------------------------------------------


class OpenSet(NamedTuple):
    """Identification with people who are not enrolled, by growing threshold."""

    thresholds: torch.Tensor  # (K,)
    identified: torch.Tensor  # (K,) share of enrolled people's images that get the right name
    false_alarms: torch.Tensor  # (K,) share of strangers' images that get any name


def open_set_identification(
    gallery: torch.Tensor, names: torch.Tensor, probes: torch.Tensor, truth: torch.Tensor
) -> OpenSet:
    """(G, D), (G,) int64, (P, D), (P,) int64 -> OpenSet: each probe gets the name of the nearest enrolled
    embedding, if the distance is at most the threshold.

    A probe is a stranger's if its `truth` is not among `names`. [Grother & Ngan 2014, NISTIR 8009: DIR and
    FPIR] Raises TypeError or ValueError without both enrolled people and strangers.
    """
    require_tensor(gallery, "gallery", "G D", finite=True)
    require_tensor(names, "names", "G", kind="int64", G=len(gallery))
    require_tensor(probes, "probes", "P D", finite=True, D=gallery.shape[1])
    require_tensor(truth, "truth", "P", kind="int64", P=len(probes))
    names, truth = names.detach().cpu(), truth.detach().cpu()
    enrolled = torch.isin(truth, names)
    if enrolled.all() or not enrolled.any():
        raise ValueError("truth wants enrolled people and strangers, got one kind only")
    nearest = torch.cdist(
        probes.detach().float().cpu(),
        gallery.detach().float().cpu(),
        compute_mode="donot_use_mm_for_euclid_dist",
    ).min(1)
    right = enrolled & (names[nearest.indices] == truth)
    thresholds = nearest.values.unique()
    accepted = nearest.values[:, None] <= thresholds  # (P, K)
    return OpenSet(
        thresholds.double(),
        (accepted & right[:, None])[enrolled].double().mean(0),
        accepted[~enrolled].double().mean(0),
    )


# --- checks -------------------------------------------------------------------------------------------------


def _require_pairs(distances, same, weights):
    """-> all three on the CPU, distances and weights in float64."""
    require_tensor(distances, "distances", "N", finite=True)
    require_tensor(same, "same", "N", kind="bool", N=len(distances))
    if weights is None:
        weights = torch.ones(len(distances))
    require_tensor(weights, "weights", "N", least=0, most=1e12, N=len(distances))
    for x, name in ((distances, "distances"), (same, "same"), (weights, "weights")):
        if x.is_meta:
            raise ValueError(f"{name} wants a tensor with values, got one on the meta device")
    return distances.detach().cpu().double(), same.detach().cpu(), weights.detach().cpu().double()


def _require_all_pairs(pairs):
    require_type(pairs, "pairs", Pairs, "Pairs")
    distances, same, _ = _require_pairs(pairs.distances, pairs.same, None)
    for people, name in ((pairs.first, "first"), (pairs.second, "second")):
        require_tensor(people, name, "N", kind="int64", least=0, most=10_000_000, N=len(distances))
    if not torch.equal(same, pairs.first.cpu() == pairs.second.cpu()):
        raise ValueError(
            f"pairs wants same to say where first and second are equal, got {describe(pairs.same)}"
        )
    return Pairs(distances, same, pairs.first.cpu(), pairs.second.cpu())


def _ratio(part, whole):
    return part / whole if whole else float("nan")
