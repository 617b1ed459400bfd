"""Chapter 6a: two or more wrong answers for each exercise, and what the message has to say about them."""

import torch
from torch.nn import functional as F


def arcface(change):
    """change(cosines, true, scale, margin) -> logits."""
    return lambda cosines, labels, scale, margin: change(
        cosines, F.one_hot(labels, cosines.shape[1]).bool(), scale, margin
    )


def turned(cosines, margin):
    return (cosines.acos() + margin).cos()


def at_quantile(share_of):
    """A threshold at the rate `far` of one kind of pairs."""
    return lambda distances, same, far: distances[share_of(same)].quantile(far).item()


class EqualToAll:
    def __eq__(self, other):
        return True

    __hash__ = None


WRONG_ANSWERS = [
    ("ch06a.1", (1800, 19000), "counts each pair twice"),
    ("ch06a.1", (900, 38000), "counts each pair twice"),
    ("ch06a.1", (1100, 19000), "an image with itself"),
    ("ch06a.1", (19000, 900), "exchanged"),
    ("ch06a.1", (45, 19000), "20 people"),
    ("ch06a.1", (900, 190), "pairs of people"),
    ("ch06a.1", (900, 19900), "Subtract"),
    ("ch06a.1", (200, 19000), "10·9/2"),
    ("ch06a.1", (900, 12345), "20·19/2"),
    ("ch06a.1", 900, "Two whole numbers"),
    ("ch06a.1", (900.5, 19000), "Two whole numbers"),
    ("ch06a.1", (EqualToAll(), EqualToAll()), "number"),
    (
        "ch06a.2",
        lambda tp, fp, fn, tn: 2 * (a := (tp + tn) / (tp + fp + fn + tn)) * (r := tp / (tp + fn)) / (a + r),
        "the book's recipe",
    ),
    ("ch06a.2", lambda tp, fp, fn, tn: (tp / (tp + fp) + tp / (tp + fn)) / 2, "harmonic"),
    ("ch06a.2", lambda tp, fp, fn, tn: (tp + tn) / (tp + fp + fn + tn), "the accuracy"),
    ("ch06a.2", lambda tp, fp, fn, tn: tp / (2 * tp + fp + fn), "factor 2"),
    ("ch06a.2", lambda tp, fp, fn, tn: tp / (tp + fp + fn), "IoU"),
    ("ch06a.2", lambda tp, fp, fn, tn: tp / (tp + fp), "take 2PR"),
    ("ch06a.2", lambda tp, fp, fn, tn: float("nan"), "NaN"),
    ("ch06a.2", lambda tp, fp, fn, tn: print(end=""), "return"),
    ("ch06a.2", lambda tp, fp, fn, tn: EqualToAll(), "number"),
    ("ch06a.3", arcface(lambda c, true, s, m: s * c), "nothing is added"),
    ("ch06a.3", arcface(lambda c, true, s, m: s * turned(c, m)), "for every person"),
    ("ch06a.3", arcface(lambda c, true, s, m: s * torch.where(true, c - m, c)), "CosFace"),
    ("ch06a.3", arcface(lambda c, true, s, m: s * torch.where(true, turned(c, -m), c)), "easier"),
    ("ch06a.3", arcface(lambda c, true, s, m: torch.where(true, turned(c, m), c)), "scale is missing"),
    ("ch06a.3", arcface(lambda c, true, s, m: torch.where(true, turned(c, m), s * c)), "not scaled"),
    ("ch06a.3", arcface(lambda c, true, s, m: s * torch.where(true, c + m, c)), "added to the cosine"),
    ("ch06a.3", arcface(lambda c, true, s, m: (s * torch.where(true, turned(c, m), c))[:, :2]), "shape"),
    ("ch06a.3", arcface(lambda c, true, s, m: torch.full_like(c, float("nan"))), "NaN"),
    ("ch06a.3", lambda *_: EqualToAll(), "A tensor is wanted"),
    ("ch06a.4", at_quantile(lambda same: same), "largest threshold"),
    ("ch06a.4", lambda distances, same, far: distances[~same].quantile(far / 2 + 0.2).item(), "more than"),
    ("ch06a.4", lambda distances, same, far: distances.min().item() - 1, "largest threshold"),
    ("ch06a.4", lambda distances, same, far: distances.max().item(), "Use the other pairs"),
    (
        "ch06a.4",
        lambda distances, same, far: min(
            t.item() for t in distances if (distances[same] > t).float().mean() <= max(far, 1e-9)
        ),
        "FRR is limited",
    ),
    ("ch06a.4", lambda distances, same, far: print(end=""), "return"),
    ("ch06a.4", lambda distances, same, far: float("nan"), "NaN"),
    ("ch06a.4", lambda distances, same, far: EqualToAll(), "number"),
    ("ch06a.5", {"more people": 0.14, "more images": 0.09}, "Check which is which"),
    ("ch06a.5", {"more people": 9.0, "more images": 13.0}, "between 0 and 0.5"),
    ("ch06a.5", {"more people": 0.1, "more images": 0.1}, "measured twice"),
    ("ch06a.5", {"more people": 0.1, "more images": 0.48}, "trained"),
    ("ch06a.5", {"more people": 0.1}, "A dict of two numbers"),
    ("ch06a.5", 0.1, "A dict of two numbers"),
    ("ch06a.5", {"more people": float("nan"), "more images": 0.1}, "NaN"),
    ("ch06a.5", {"more people": EqualToAll(), "more images": 0.1}, "number"),
]
