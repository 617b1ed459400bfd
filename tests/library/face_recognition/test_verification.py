"""Error rates against scikit-learn, loops, and what can be counted by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from torch.testing import assert_close

from vlmbook.face_recognition import (
    Pairs,
    best_threshold,
    bootstrap_people,
    confusion,
    equal_error_rate,
    fold_accuracy,
    make_pairs,
    open_set_identification,
    roc_curve,
    tar_at_far,
)

# Ten pairs: of four same pairs one is far, of six different pairs one is near.
DISTANCES = torch.tensor([0.1, 0.2, 0.3, 0.8, 0.25, 0.5, 0.6, 0.7, 0.9, 1.0])
SAME = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0, 0, 0]).bool()


def random_pairs(n, seed, ties=False):
    generator = torch.Generator().manual_seed(seed)
    same = torch.rand(n, generator=generator) < 0.4
    same[:2] = torch.tensor([True, False])
    distances = torch.rand(n, generator=generator) + 0.4 * ~same
    return (10 * distances).round() / 10 if ties else distances, same


def images(people=6, each=3, width=5, noise=0.6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(people, width, generator=generator).repeat_interleave(each, 0)
    return centres + noise * torch.randn(centres.shape, generator=generator), torch.arange(
        people
    ).repeat_interleave(each)


# Pairs.


def test_pairs_are_all_pairs():
    embeddings, labels = images(3, 2)
    pairs = make_pairs(embeddings, 10 * labels + 5)
    expected = [(i, j) for i in range(6) for j in range(i + 1, 6)]
    assert len(pairs.same) == len(expected) == 15
    for number, (i, j) in enumerate(expected):
        assert_close(pairs.distances[number], (embeddings[i] - embeddings[j]).norm())
        assert bool(pairs.same[number]) == bool(labels[i] == labels[j])
        assert (int(pairs.first[number]), int(pairs.second[number])) == (int(labels[i]), int(labels[j]))


# The ROC.


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.integers(0, 999), st.booleans())
def test_the_roc_is_scikit_learns(n, seed, ties):
    distances, same = random_pairs(n, seed, ties)
    roc = roc_curve(distances, same)
    far, tar, _ = metrics.roc_curve(same.numpy(), -distances.double().numpy(), drop_intermediate=False)
    assert_close(roc.far.numpy(), far)
    assert_close(roc.tar.numpy(), tar)
    assert roc.thresholds[0] == -torch.inf and (roc.thresholds.diff() > 0).all()
    for threshold, far, tar in zip(*roc, strict=True):
        accepted = (distances.double() <= threshold).double()
        assert math.isclose(far, accepted[~same].mean())
        assert math.isclose(tar, accepted[same].mean())
    assert_close(roc.frr, 1 - roc.tar)


def test_the_det_curve_is_scikit_learns():
    distances, same = random_pairs(50, 1)
    roc = roc_curve(distances, same)
    fpr, fnr, _ = metrics.det_curve(same.numpy(), -distances.double().numpy())
    ours = {(round(a, 9), round(b, 9)) for a, b in zip(roc.far.tolist(), roc.frr.tolist(), strict=True)}
    theirs = {(round(a, 9), round(b, 9)) for a, b in zip(fpr.tolist(), fnr.tolist(), strict=True)}
    assert theirs <= ours


@pytest.mark.parametrize("measure", [equal_error_rate, roc_curve, lambda *a: tar_at_far(*a[:2], 0.2, *a[2:])])
def test_a_weight_counts_a_pair_so_often(measure):
    distances, same = random_pairs(30, 2)
    counts = torch.arange(30) % 4
    repeated = measure(distances.repeat_interleave(counts), same.repeat_interleave(counts))
    weighted = measure(distances, same, counts.float())
    if measure is roc_curve:  # a pair of weight 0 leaves a point where nothing changes
        kept = torch.isin(weighted.thresholds, repeated.thresholds)
        weighted, repeated = weighted.tar[kept], repeated.tar
    assert_close(torch.as_tensor(weighted), torch.as_tensor(repeated))


# Rates by hand.


def test_the_equal_error_rate_by_hand():
    """FAR and FRR are 1/6 and 1/4 at 0.3, 2/6 and 1/4 at 0.5: they meet in between."""
    rate, threshold = equal_error_rate(DISTANCES, SAME)
    assert math.isclose(rate, 1 / 4, abs_tol=1e-9)
    assert 0.3 < threshold < 0.5


def test_a_perfect_verifier_errs_never_and_a_blind_one_half_of_the_time():
    distances = torch.tensor([0.1, 0.2, 0.8, 0.9])
    same = torch.tensor([True, True, False, False])
    assert equal_error_rate(distances, same)[0] == 0
    assert equal_error_rate(distances, ~same)[0] == 1
    assert equal_error_rate(torch.ones(4), same)[0] == 0.5


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 50), st.integers(0, 999), st.floats(0, 1), st.booleans())
def test_tar_at_far_is_the_best_of_all_thresholds(n, seed, far, ties):
    distances, same = random_pairs(n, seed, ties)
    best = 0.0
    for threshold in distances:
        found = confusion(distances, same, float(threshold))
        if found.far <= far:
            best = max(best, found.recall)
    tar, threshold = tar_at_far(distances, same, far)
    assert math.isclose(tar, best)
    if math.isfinite(threshold):
        assert confusion(distances, same, threshold).far <= far


def test_the_counts_and_what_is_made_of_them():
    found = confusion(DISTANCES, SAME, 0.5)
    assert found == (3, 2, 1, 4)
    assert found.accuracy == 0.7 and found.precision == 0.6 and found.recall == 0.75
    assert math.isclose(found.f1, 2 * 0.6 * 0.75 / (0.6 + 0.75)) and math.isclose(found.far, 2 / 6)
    nothing = confusion(DISTANCES, SAME, 0.0)
    assert math.isnan(nothing.precision) and nothing.recall == 0 and nothing.f1 == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(0, 999), st.booleans())
def test_no_threshold_is_better_than_the_best(n, seed, ties):
    distances, same = random_pairs(n, seed, ties)
    best = confusion(distances, same, best_threshold(distances, same)).accuracy
    for threshold in [-1.0, *distances.tolist()]:
        assert confusion(distances.double(), same, threshold).accuracy <= best + 1e-12


# Folds and people.


def test_ten_folds_choose_on_nine_and_count_on_the_tenth():
    distances, same = random_pairs(200, 5)
    folds = torch.arange(200) % 10
    mean, error, accuracies = fold_accuracy(distances, same, folds)
    expected = []
    for fold in range(10):
        threshold = best_threshold(distances[folds != fold], same[folds != fold])
        right = (distances <= threshold) == same
        expected.append(float(right[folds == fold].double().mean()))
    assert_close(accuracies, torch.tensor(expected, dtype=torch.float64))
    assert math.isclose(mean, np.mean(expected))
    assert math.isclose(error, np.std(expected, ddof=1) / math.sqrt(10))


def test_a_threshold_never_sees_its_own_fold():
    """Two folds whose distances are of different size: the other fold's threshold is of no use."""
    distances = torch.tensor([0.1, 0.2, 10.0, 20.0])
    same = torch.tensor([True, False, True, False])
    assert fold_accuracy(distances, same, torch.tensor([0, 0, 1, 1]))[0] == 0.5


def test_people_are_drawn_with_all_their_pairs():
    """Copy the images of the people who are drawn, and count the pairs of copies of one person as no pair."""
    embeddings, labels = images()
    pairs = make_pairs(embeddings, labels)
    found = bootstrap_people(lambda d, s, w: equal_error_rate(d, s, w)[0], pairs, draws=5, seed=3)
    generator = torch.Generator().manual_seed(3)
    for value in found:
        drawn = torch.randint(6, (6,), generator=generator)
        distances, same = [], []
        for a in range(6):
            mine = embeddings[labels == drawn[a]]
            i, j = torch.triu_indices(3, 3, 1)
            distances.append((mine[i] - mine[j]).norm(dim=1))
            same.append(torch.ones(3, dtype=torch.bool))
            for b in range(a + 1, 6):
                if drawn[a] != drawn[b]:
                    distances.append(torch.cdist(mine, embeddings[labels == drawn[b]]).flatten())
                    same.append(torch.zeros(9, dtype=torch.bool))
        expected, _ = equal_error_rate(torch.cat(distances), torch.cat(same))
        assert math.isclose(float(value), expected, abs_tol=1e-6)


def test_intervals_over_people_are_wider_than_over_pairs():
    """One odd person spoils many pairs: the pairs are not independent."""
    embeddings, labels = images(12, 4, noise=0.3, seed=1)
    embeddings[labels == 0] += 2 * torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    pairs = make_pairs(embeddings, labels)

    def recall(distances, same, weights):
        return confusion(distances, same, 1.5, weights).recall

    people = bootstrap_people(recall, pairs, draws=200)
    generator = torch.Generator().manual_seed(0)
    ones = pairs.same.nonzero()[:, 0]
    single = []
    for _ in range(200):
        drawn = ones[torch.randint(len(ones), (len(ones),), generator=generator)]
        single.append(float((pairs.distances[drawn] <= 1.5).double().mean()))
    assert people.std() > 1.3 * np.std(single)


def test_the_draws_depend_on_their_seed_only():
    pairs = make_pairs(*images())

    def measure(distances, same, weights):
        return equal_error_rate(distances, same, weights)[0]

    torch.manual_seed(1)
    first = bootstrap_people(measure, pairs, draws=4)
    torch.manual_seed(2)
    assert_close(bootstrap_people(measure, pairs, draws=4), first)
    assert not torch.equal(bootstrap_people(measure, pairs, draws=4, seed=9), first)


def test_inconsistent_pairs_are_refused():
    pairs = make_pairs(*images())
    with pytest.raises(ValueError, match="pairs wants same to say where first and second are equal"):
        bootstrap_people(lambda *_: 0.0, Pairs(pairs.distances, ~pairs.same, pairs.first, pairs.second))


def test_a_measure_is_a_function_that_returns_a_number():
    pairs = make_pairs(*images())
    for bad in (None, 3, "text", [len]):
        with pytest.raises(TypeError, match="measure wants a function of distances, same and weights"):
            bootstrap_people(bad, pairs)
    for value in ("text", None, float("nan"), (0.1, 0.2)):
        with pytest.raises((TypeError, ValueError), match="what measure returns wants a finite number"):
            bootstrap_people(lambda *_, value=value: value, pairs)


# Open set.


def test_open_set_by_loops():
    embeddings, labels = images(8, 3, seed=4)
    first = torch.arange(24) % 3 == 0
    enrolled = first & (labels < 5)
    gallery, names = embeddings[enrolled], labels[enrolled]
    probes, truth = embeddings[~first], labels[~first]
    found = open_set_identification(gallery, names, probes, truth)
    for threshold, identified, alarms in zip(*found, strict=True):
        right = wrong = 0
        for probe, person in zip(probes, truth, strict=True):
            distances = (gallery - probe).norm(dim=1)
            accepted = distances.min() <= threshold + 1e-6
            if person < 5:
                right += bool(accepted and names[distances.argmin()] == person)
            else:
                wrong += bool(accepted)
        assert math.isclose(identified, right / 10) and math.isclose(alarms, wrong / 6)


def test_one_kind_only_is_refused():
    embeddings, labels = images()
    for truth in (labels, labels + 100):
        with pytest.raises(ValueError, match="truth wants enrolled people and strangers, got one kind only"):
            open_set_identification(embeddings, labels, embeddings, truth)
    for same in (torch.ones(4).bool(), torch.zeros(4).bool()):
        with pytest.raises(ValueError, match="same wants pairs of one person and pairs of two"):
            roc_curve(torch.rand(4), same)
