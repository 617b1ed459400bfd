"""Measures of how good a model is: thin calls of SciPy and PyTorch.

Features are (N, D) of any real dtype, on any device; they are compared in float64 on the CPU.
"""

import math

import torch
from scipy.stats import binomtest

from vlmbook.validation import require_number, require_tensor, require_whole

LARGEST = 1e70  # of a feature: the product of two covariances stays finite


def proportion_interval(share: float, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Share of n trials in [0, 1], int -> (low, high): the interval of Wilson [1927, JASA 22(158)] for the
    true share.

    A mean over seeds is rounded to whole trials. Raises TypeError or ValueError for a share outside [0, 1], n
    below 1, or a confidence outside (0, 1).
    """
    share = require_number(share, "share", least=0, most=1)
    n = require_whole(n, "n")
    confidence = require_number(confidence, "confidence", above=0, below=1)
    interval = binomtest(round(share * n), n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def bits_per_dimension(nats: torch.Tensor, dimensions: int) -> torch.Tensor:
    """Log-likelihoods (…) in nats, int -> (…): the bits that each of so many numbers of an image costs,
    −nats / (D ln 2).

    Raises TypeError or ValueError for fewer than one dimension and for what is no floating tensor.
    """
    require_tensor(nats, "nats", "…")
    dimensions = require_whole(dimensions, "dimensions")
    return -nats / (dimensions * math.log(2))


def frechet_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """(N, D), (M, D) features -> float: between the Gaussians of their means and covariances [Heusel et al.
    2017, arXiv:1706.08500, eq. 6].

    ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½). It depends on N: compare only at equal numbers. Raises
    TypeError or ValueError unless both have two axes, the same D, at least two rows, and finite real values.
    """
    a, b = _as_features(a, "a", b, "b", least=2)
    root = _square_root(_covariance(a))
    product = root @ _covariance(b) @ root  # its eigenvalues are those of Σ_a Σ_b
    cross = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0).sqrt().sum()
    means = (a.mean(0) - b.mean(0)).square().sum()
    distance = means + a.var(0).sum() + b.var(0).sum() - 2 * cross
    return max(0.0, float(distance))  # rounding may leave it a little below 0


def precision_recall(real: torch.Tensor, generated: torch.Tensor, k: int = 3) -> tuple[float, float]:
    """(N, D), (M, D) features -> float, float: improved precision and recall [Kynkäänniemi et al. 2019,
    arXiv:1904.06991, eq. 1-2].

    Precision is the share of generated points inside a ball around a real one that reaches to its k-th
    nearest real neighbour; recall is the share of real points inside the balls around generated ones. Raises
    TypeError or ValueError unless both have two axes, the same D, more than k rows, and finite real values.
    """
    k = require_whole(k, "k")
    real, generated = _as_features(real, "real", generated, "generated", least=k + 1)
    distances = _distances(real, generated)
    inside_real = distances <= _radii(real, k)[:, None]
    inside_generated = distances <= _radii(generated, k)
    return float(inside_real.any(0).double().mean()), float(inside_generated.any(1).double().mean())


def _distances(a, b):
    """(N, D), (M, D) -> (N, M): from the differences, since a product of matrices would round small ones."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _radii(points, k):
    """(N, D) -> (N,): each point's distance to its k-th nearest neighbour."""
    return _distances(points, points).kthvalue(k + 1, dim=1).values  # the first is the point itself


def _covariance(points):
    """(N, D) -> (D, D), also for D = 1."""
    return torch.cov(points.T).reshape(points.shape[1], -1)


def _square_root(covariance):
    """(D, D), symmetric -> (D, D): its square root; rounding's negative eigenvalues count as 0."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0).sqrt() @ vectors.T


def _as_features(a, name_a, b, name_b, least):
    """-> both in float64 on the CPU, detached, at least `least` rows each."""
    for x, name in ((a, name_a), (b, name_b)):
        require_tensor(x, name, "N D", kind="any", least=-LARGEST, most=LARGEST, finite=True)
        if x.is_meta:
            raise ValueError(f"{name} wants features with values, got a tensor on the meta device")
        if len(x) < least:
            raise ValueError(f"{name} wants at least {least} rows of features, got {len(x)}")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{name_b} wants the width of {name_a}, {a.shape[1]}, got {b.shape[1]}")
    return a.detach().cpu().double(), b.detach().cpu().double()
