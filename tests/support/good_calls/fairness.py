"""vlmbook.fairness: six people in two groups."""

import torch

from tests.support.good_calls import Call
from vlmbook import fairness

DECISIONS = torch.tensor([1, 0, 1, 1, 0, 0])
LABELS = torch.tensor([1, 0, 0, 1, 1, 0])
GROUPS = torch.tensor([0, 0, 0, 1, 1, 1])
SCORES = torch.tensor([0.9, 0.2, 0.6, 0.8, 0.3, 0.1])

GOOD_CALLS = {
    "rates_by_group": lambda: Call(
        fairness.rates_by_group, {"decisions": DECISIONS, "labels": LABELS, "groups": GROUPS}
    ),
    "criteria_gaps": lambda: Call(
        fairness.criteria_gaps, {"by_group": fairness.rates_by_group(DECISIONS, LABELS, GROUPS)}
    ),
    "forced_false_positive_rate": lambda: Call(
        fairness.forced_false_positive_rate,
        {"base_rate": 0.5, "precision": 0.8, "true_positive_rate": 0.6},
    ),
    "calibration_by_group": lambda: Call(
        fairness.calibration_by_group,
        {"scores": SCORES, "labels": LABELS, "groups": GROUPS, "bins": 2},
    ),
    "choose_thresholds": lambda: Call(
        fairness.choose_thresholds,
        {
            "scores": SCORES,
            "labels": LABELS,
            "groups": GROUPS,
            "criterion": "true positive rate",
            "grid": 4,
        },
    ),
    "decide": lambda: Call(
        fairness.decide, {"scores": SCORES, "groups": GROUPS, "thresholds": {0: 0.5, 1: 0.5}}
    ),
}
