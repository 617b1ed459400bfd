"""Figures of merit: thin calls of scipy and PyTorch."""

import math

import torch
from scipy.stats import binomtest


def proportion_interval(share, n, *, confidence=0.95):
    """share of n trials in [0, 1], int -> (low, high): the interval of Wilson [1927, JASA 22(158)] for the
    true share.

    A mean over seeds is rounded to whole trials. Raises ValueError for a share outside [0, 1] or n below 1.
    """
    if not 0 <= share <= 1 or n < 1:
        raise ValueError(
            f"proportion_interval wants a share in [0, 1] of at least one trial, got {share!r} of {n!r}"
        )
    interval = binomtest(round(share * n), n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def bits_per_dimension(nats, dimensions):
    """(B,) log-likelihoods in nats, int -> (B,): bits that each of so many numbers of an image costs, −nats /
    (D ln 2).

    Raises ValueError for fewer than one dimension.
    """
    if dimensions < 1:
        raise ValueError(f"bits_per_dimension wants at least one dimension, got {dimensions!r}")
    return -nats / (dimensions * math.log(2))


def frechet_distance(a, b):
    """(N, D), (M, D) features -> float: between Gaussians of their means and covariances [Heusel et al. 2017,
    eq. 6].

    ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½), in float64. It depends on N: compare only at equal numbers.
    Raises ValueError unless both have two axes, the same D, at least two rows, and finite values only.
    """
    a, b = _features(a, b, least=2)
    root = _root(torch.cov(a.T).reshape(a.shape[1], -1))
    middle = root @ torch.cov(b.T).reshape(b.shape[1], -1) @ root  # its roots are those of Σ_a Σ_b
    cross = torch.linalg.eigvalsh((middle + middle.T) / 2).clamp_min(0).sqrt().sum()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return max(
        0.0, float(apart + a.var(0).sum() + b.var(0).sum() - 2 * cross)
    )  # rounding's −1e-10 counts as 0


def precision_recall(real, generated, k=3):
    """(N, D), (M, D) features -> float, float: improved precision and recall [Kynkäänniemi et al. 2019, eq.
    1-2].

    Precision is the share of generated points inside a ball around a real one that reaches to its k-th
    nearest real neighbour; recall the share of real points inside the balls of the generated ones. Raises
    ValueError unless both have two axes, the same D, more than k rows, and finite values only.
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"precision_recall wants a whole k of at least 1, got {k!r}")
    real, generated = _features(real, generated, least=k + 1)
    across = _distances(real, generated)
    inside_real = across <= _radii(real, k)[:, None]
    inside_generated = across <= _radii(generated, k)
    return float(inside_real.any(0).double().mean()), float(inside_generated.any(1).double().mean())


def _distances(a, b):
    """(N, D), (M, D) -> (N, M): from the differences, since a product of matrices would round small ones."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _radii(points, k):
    """(N, D) -> (N,): each point's distance to its k-th nearest other."""
    return _distances(points, points).kthvalue(k + 1, dim=1).values  # the first is the point itself


def _root(covariance):
    """(D, D), symmetric -> (D, D): its square root; rounding's negative eigenvalues count as 0."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0).sqrt() @ vectors.T


def _features(a, b, least):
    """-> both as float64, detached. Raises TypeError or ValueError for what are no two sets of finite
    features.
    """
    for x in (a, b):
        if not isinstance(x, torch.Tensor) or x.is_complex():
            kind = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
            raise TypeError(f"features are to be a real torch.Tensor (N, D), got {kind}")
        if x.ndim != 2 or len(x) < least or x.shape[1] < 1:
            raise ValueError(f"features are to be (N, D) with N of at least {least}, got {tuple(x.shape)}")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"both want features of the same width, got {tuple(a.shape)} and {tuple(b.shape)}")
    a, b = a.detach().double(), b.detach().double()
    if not (a.isfinite().all() and b.isfinite().all()):
        raise ValueError("features are to be finite, got NaN or infinity")
    return a, b
