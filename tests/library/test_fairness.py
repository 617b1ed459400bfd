"""Fairness against fairlearn, scikit-learn, loops, and identities."""

import math

import numpy as np
import pytest
import torch
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    equalized_odds_difference,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from fairlearn.postprocessing import ThresholdOptimizer
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, precision_score

from vlmbook import fairness


def make_people(n, seed, bases=(0.6, 0.3, 0.5)):
    """-> scores that are roughly calibrated, labels, groups"""
    generator = torch.Generator().manual_seed(seed)
    groups = torch.randint(len(bases), (n,), generator=generator)
    base = torch.tensor(bases)[groups]
    scores = (base + 0.25 * torch.randn(n, generator=generator)).clamp(0.01, 0.99)
    labels = (torch.rand(n, generator=generator) < scores).long()
    return scores, labels, groups


# --- rates and criteria -------------------------------------------------------------------------------------


@given(st.integers(60, 200), st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_rates_and_gaps_are_fairlearns(n, seed):
    scores, labels, groups = make_people(n, seed)
    decisions = (scores > 0.5).long()
    found = fairness.rates_by_group(decisions, labels, groups)
    truth = {"y_true": labels.numpy(), "y_pred": decisions.numpy(), "sensitive_features": groups.numpy()}
    if any(math.isnan(value) for rates in found.values() for value in rates):
        return  # fairlearn counts a share of nobody as 0
    metrics = {
        "selection_rate": selection_rate,
        "true_positive_rate": true_positive_rate,
        "false_positive_rate": false_positive_rate,
        "precision": precision_score,
        "accuracy": accuracy_score,
    }
    frame = MetricFrame(metrics=metrics, **truth).by_group
    for group, rates in found.items():
        for name in metrics:
            assert getattr(rates, name) == pytest.approx(frame.loc[group, name])
        assert rates.n == (groups == group).sum()
        assert rates.base_rate == pytest.approx(labels[groups == group].float().mean().item())
    gaps = fairness.criteria_gaps(found)
    assert gaps["demographic parity"] == pytest.approx(demographic_parity_difference(**truth))
    assert gaps["equalised odds"] == pytest.approx(equalized_odds_difference(**truth))
    precisions = frame["precision"]
    assert gaps["predictive parity"] == pytest.approx(precisions.max() - precisions.min())


def test_a_share_of_nobody_is_nan():
    found = fairness.rates_by_group(torch.tensor([0, 0, 1]), torch.tensor([0, 0, 1]), torch.tensor([0, 0, 1]))
    assert math.isnan(found[0].true_positive_rate) and math.isnan(found[0].precision)
    assert found[0].false_positive_rate == 0 and math.isnan(found[1].false_positive_rate)
    assert math.isnan(fairness.criteria_gaps(found)["equalised odds"])
    assert fairness.criteria_gaps(found)["demographic parity"] == 1


@given(st.integers(80, 300), st.integers(0, 10**6), st.floats(0.3, 0.7))
@settings(max_examples=20, deadline=None)
def test_the_false_positive_rate_follows_from_the_three_others(n, seed, threshold):
    scores, labels, groups = make_people(n, seed, bases=(0.6, 0.3))
    for rates in fairness.rates_by_group(scores > threshold, labels, groups).values():
        if 0 < rates.base_rate < 1 and rates.precision > 0:
            forced = fairness.forced_false_positive_rate(
                rates.base_rate, rates.precision, rates.true_positive_rate
            )
            assert forced == pytest.approx(rates.false_positive_rate)


def test_calibration_is_scikit_learns():
    scores, labels, groups = make_people(900, 1)
    found = fairness.calibration_by_group(scores, labels, groups, bins=4)
    for group, rows in found.items():
        own = groups == group
        shares, means = calibration_curve(labels[own].numpy(), scores[own].double().numpy(), n_bins=4)
        assert [row[0] for row in rows] == pytest.approx(means.tolist())
        assert [row[1] for row in rows] == pytest.approx(shares.tolist())
        assert sum(row[2] for row in rows) == int(own.sum())


# --- thresholds ---------------------------------------------------------------------------------------------


def brute_force(scores, labels):
    """-> the most right decisions of any threshold"""
    candidates = [*scores.tolist(), 2.0]
    return max(int(((scores >= cut).long() == labels).sum()) for cut in candidates)


@given(st.integers(20, 60), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_free_thresholds_are_those_of_a_search(n, seed):
    scores, labels, groups = make_people(n, seed)
    scores = (scores * 10).round() / 10  # ties
    own = fairness.choose_thresholds(scores, labels, groups, criterion="none")
    decisions = fairness.decide(scores, groups, own).long()
    for group in groups.unique().tolist():
        there = groups == group
        right = int((decisions[there] == labels[there]).sum())
        assert right == brute_force(scores[there], labels[there])
    same = fairness.choose_thresholds(scores, labels, groups, criterion="one threshold")
    assert len(set(same.values())) == 1
    right = int((fairness.decide(scores, groups, same).long() == labels).sum())
    assert right == brute_force(scores, labels)


class Reader(BaseEstimator):
    """An estimator that has the score already: it is the only feature."""

    def fit(self, x, y):
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, x):
        return np.stack([1 - x[:, 0], x[:, 0]], 1)


@pytest.mark.parametrize(
    ("criterion", "constraint", "rate"),
    [
        ("selection rate", "demographic_parity", "selection_rate"),
        ("true positive rate", "true_positive_rate_parity", "true_positive_rate"),
    ],
)
def test_equal_rates_cost_as_much_as_fairlearns_random_ones(criterion, constraint, rate):
    scores, labels, groups = make_people(6000, 2, bases=(0.65, 0.35))
    chosen = fairness.choose_thresholds(scores, labels, groups, criterion=criterion)
    decisions = fairness.decide(scores, groups, chosen)
    by_group = fairness.rates_by_group(decisions, labels, groups)
    assert abs(getattr(by_group[0], rate) - getattr(by_group[1], rate)) < 0.01
    x, y, g = scores[:, None].double().numpy(), labels.numpy(), groups.numpy()
    oracle = ThresholdOptimizer(
        estimator=Reader().fit(x, y), constraints=constraint, prefit=True, predict_method="predict_proba"
    )
    oracle.fit(x, y, sensitive_features=g)
    chances = oracle._pmf_predict(x, sensitive_features=g)
    theirs = chances[np.arange(len(y)), y].mean()
    ours = (decisions.long() == labels).double().mean().item()
    assert ours == pytest.approx(theirs, abs=0.004)
    free = fairness.choose_thresholds(scores, labels, groups, criterion="none")
    best = (fairness.decide(scores, groups, free).long() == labels).double().mean().item()
    assert best > ours + 0.005  # equal rates cost accuracy here


def test_each_group_has_its_own_threshold():
    scores, groups = torch.tensor([0.4, 0.6, 0.4, 0.6]), torch.tensor([0, 0, 1, 1])
    assert fairness.decide(scores, groups, {0: 0.3, 1: 0.6}).tolist() == [True, True, False, True]
    with pytest.raises(ValueError, match="group 1"):
        fairness.decide(scores, groups, {0: 0.5})
    with pytest.raises(ValueError, match="none in group 1"):
        fairness.choose_thresholds(scores, torch.tensor([1, 0, 0, 0]), groups, criterion="true positive rate")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_scores_of_any_floating_dtype(dtype):
    scores, labels, groups = make_people(100, 3)
    wanted = fairness.choose_thresholds(scores.to(dtype).float(), labels, groups, criterion="none")
    assert fairness.choose_thresholds(scores.to(dtype), labels, groups, criterion="none") == wanted


# --- the ends of the ranges ---------------------------------------------------------------------------------


def test_a_score_of_one_lies_in_the_last_bin():
    scores, labels, groups = torch.tensor([1.0, 0.9]), torch.tensor([1, 0]), torch.zeros(2).long()
    assert fairness.calibration_by_group(scores, labels, groups, bins=4) == {
        0: [(pytest.approx(0.95), 0.5, 2)]
    }


@pytest.mark.parametrize(
    "given", [(0.0, 0.8, 0.6), (1.0, 0.8, 0.6), (0.5, 0.0, 0.6), (0.5, 1.1, 0.6), (0.5, 0.8, 1.1)]
)
def test_rates_outside_their_range_are_refused(given):
    with pytest.raises(ValueError, match="got"):
        fairness.forced_false_positive_rate(*given)


@pytest.mark.parametrize("decisions", [torch.tensor([0, 2]), torch.tensor([-1, 1])])
def test_a_decision_is_zero_or_one(decisions):
    with pytest.raises(ValueError, match="decisions"):
        fairness.rates_by_group(decisions, torch.tensor([0, 1]), torch.tensor([0, 1]))
