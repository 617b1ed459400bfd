"""What chapter 3c computes and is too long for one of its cells."""

import numpy as np


def iou_by_threshold(probability, truth, steps=50):
    """(n, H, W) in [0, 1], (n, H, W) of 0 and 1 -> (steps,), (steps,): the object's IoU at thresholds 0,
    1/steps, …
    """
    bins = (probability.flatten() * steps).long().clamp(max=steps - 1)
    above = bins.bincount(minlength=steps).flip(0).cumsum(0).flip(0).double()
    hits = bins.bincount(truth.flatten().double(), minlength=steps).flip(0).cumsum(0).flip(0)
    return np.arange(steps) / steps, (hits / (above + truth.sum() - hits)).numpy()
