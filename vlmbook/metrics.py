"""Figures of merit: thin calls of scipy, scikit-learn and torchmetrics."""

from scipy.stats import binomtest


def proportion_interval(share, n, *, confidence=0.95):
    """share of n trials in [0, 1], int -> (low, high): the interval of Wilson [1927, JASA 22(158)] for the true share.

    A mean over seeds is rounded to whole trials. Raises ValueError for a share outside [0, 1] or n below 1.
    """
    if not 0 <= share <= 1 or n < 1:
        raise ValueError(f"proportion_interval wants a share in [0, 1] of at least one trial, got {share!r} of {n!r}")
    interval = binomtest(round(share * n), n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
