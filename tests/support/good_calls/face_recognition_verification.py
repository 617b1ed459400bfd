"""Good calls of vlmbook.face_recognition.verification."""

import torch

from tests.support.good_calls import Call
from vlmbook.face_recognition import verification

E = torch.arange(32.0).view(8, 4).sin()
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
PAIRS = verification.make_pairs(E, LABELS)
TWO = {"distances": PAIRS.distances, "same": PAIRS.same}
WEIGHTED = TWO | {"weights": torch.ones(len(PAIRS.same))}


def mean_distance(distances, same, weights):
    return float(distances.mean())


GOOD_CALLS = {
    "make_pairs": lambda: Call(verification.make_pairs, {"embeddings": E, "labels": LABELS}),
    "roc_curve": lambda: Call(verification.roc_curve, WEIGHTED),
    "equal_error_rate": lambda: Call(verification.equal_error_rate, WEIGHTED),
    "tar_at_far": lambda: Call(verification.tar_at_far, WEIGHTED | {"far": 0.1}),
    "confusion": lambda: Call(verification.confusion, WEIGHTED | {"threshold": 1.0}),
    "best_threshold": lambda: Call(verification.best_threshold, TWO),
    "fold_accuracy": lambda: Call(
        verification.fold_accuracy, TWO | {"folds": torch.arange(len(PAIRS.same)) % 4}
    ),
    "bootstrap_people": lambda: Call(
        verification.bootstrap_people,
        {"measure": mean_distance, "pairs": PAIRS, "draws": 3, "seed": 1},
        free=(
            "measure",
        ),  # what a caller's own function raises is the caller's; test_verification has the rest
    ),
    "open_set_identification": lambda: Call(
        verification.open_set_identification,
        {"gallery": E[:4], "names": LABELS[:4], "probes": E[2:], "truth": LABELS[2:]},
    ),
}
