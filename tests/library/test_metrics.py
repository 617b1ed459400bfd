"""vlmbook.metrics: the numbers against loops, SciPy and torchmetrics, and their invariants."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.stats import norm
from torch import nn
from torch.testing import assert_close
from torchmetrics.image.fid import FrechetInceptionDistance

from tests.support.no_float64 import WithoutFloat64
from vlmbook.metrics import bits_per_dimension, frechet_distance, precision_recall, proportion_interval


def cloud(n, d, seed, spread=1.0, centre=0.0):
    g = torch.Generator().manual_seed(seed)
    stretch = torch.randn(d, d, generator=g, dtype=torch.float64) * spread
    return torch.randn(n, d, generator=g, dtype=torch.float64) @ stretch + centre


def precision_recall_loops(real, generated, k):
    """The definition, point by point."""

    def covered(points, by):
        inside = 0
        for p in points:
            for i, centre in enumerate(by):
                others = sorted(math.dist(centre, other) for j, other in enumerate(by) if j != i)
                if math.dist(p, centre) <= others[k - 1]:
                    inside += 1
                    break
        return inside / len(points)

    real, generated = real.tolist(), generated.tolist()
    return covered(generated, real), covered(real, generated)


def test_bits_per_dimension_of_a_fair_die():
    nats = torch.full((3,), 5 * math.log(1 / 16))  # five pixels of sixteen equal levels
    assert_close(bits_per_dimension(nats, 5), torch.full((3,), 4.0))
    with pytest.raises(ValueError, match="dimensions wants a whole number of at least 1"):
        bits_per_dimension(nats, 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(2, 30), st.integers(2, 30), st.integers(0, 99))
def test_the_frechet_distance_is_the_formula_with_scipys_root(d, n, m, seed):
    a, b = cloud(n, d, seed), cloud(m, d, seed + 1, spread=0.7, centre=0.5)
    sigma_a, sigma_b = (np.cov(x.numpy().T).reshape(d, d) for x in (a, b))
    cross = np.trace(np.real(sqrtm(sigma_a @ sigma_b + 1e-13 * np.eye(d))))
    want = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(sigma_a) + np.trace(sigma_b) - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(want, rel=1e-3, abs=1e-3)


def test_the_frechet_distance_is_torchmetrics_on_the_same_features():
    class Rows(nn.Module):
        num_features = 6

        def forward(self, images):
            return images.flatten(1)

    a, b = cloud(50, 6, 0).sigmoid(), cloud(40, 6, 1).sigmoid()
    theirs = FrechetInceptionDistance(feature=Rows(), input_img_size=(1, 2, 3)).set_dtype(torch.float64)
    theirs.update(a.view(-1, 1, 2, 3), real=True)
    theirs.update(b.view(-1, 1, 2, 3), real=False)
    assert frechet_distance(a, b) == pytest.approx(theirs.compute().item(), rel=1e-6)


def test_the_frechet_distance_knows_a_shift_a_spread_and_a_turn():
    a = cloud(200, 5, 0)
    turn = torch.linalg.qr(cloud(5, 5, 3)).Q
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 2) == pytest.approx(5 * 4)
    assert frechet_distance(a, 3 * (a - a.mean(0)) + a.mean(0)) == pytest.approx(4 * a.var(0).sum().item())
    b = cloud(90, 5, 7)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(a @ turn, b @ turn))
    assert frechet_distance(a[:, :1], b[:, :1]) >= 0  # one feature is enough


def test_fewer_points_than_features_give_no_nan():
    assert frechet_distance(cloud(3, 64, 0), cloud(3, 64, 1)) > 0
    same = torch.ones(5, 4)
    assert frechet_distance(same, same) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(4, 12), st.integers(4, 12), st.integers(0, 99))
def test_precision_and_recall_are_the_loops(k, d, n, m, seed):
    real, generated = cloud(n, d, seed), cloud(m, d, seed + 50)
    assert precision_recall(real, generated, k) == pytest.approx(precision_recall_loops(real, generated, k))


def test_precision_falls_with_junk_and_recall_with_collapse():
    real = cloud(300, 4, 0)
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(real, cloud(300, 4, 0) + 1000) == (0, 0)
    collapsed = real[:1] + 1e-3 * cloud(300, 4, 5)
    precision, recall = precision_recall(real, collapsed)
    assert precision == 1 and recall < 0.02
    junk = torch.cat([real[:150], real[150:] + 1000])
    assert precision_recall(real, junk)[0] == pytest.approx(0.5)


def test_precision_and_recall_do_not_depend_on_the_origin():
    real, generated = cloud(60, 3, 0, spread=1e-4), cloud(60, 3, 1, spread=1e-4)
    assert precision_recall(real + 1e4, generated + 1e4) == precision_recall(real, generated)


def test_points_that_are_equal_count_as_inside():
    twice = torch.tensor([[0.0], [0.0], [0.0], [0.0], [5.0]])
    assert precision_recall(twice, torch.zeros(4, 1), k=1) == (1, 0.8)


@pytest.mark.parametrize("measure", [frechet_distance, precision_recall])
@pytest.mark.parametrize(
    "wrong, error, message",
    [
        ([[1.0]], TypeError, "wants a torch.Tensor .*, got an object of type list"),
        (torch.ones(8), ValueError, r"wants the shape \(N, D\), got \(8,\)"),
        (torch.ones(1, 3), ValueError, r"wants at least [24] rows of features, got 1"),
        (torch.ones(8, 0), ValueError, r"wants at least one element along D of \(N, D\), got \(8, 0\)"),
        (torch.ones(8, 2), ValueError, "wants the width of .*, 2, got 3"),
        (torch.full((8, 3), math.nan), ValueError, "wants finite values"),
        (torch.full((8, 3), math.inf), ValueError, "wants finite values"),
        (torch.full((8, 3), 1e100, dtype=torch.float64), ValueError, "got from 1e.100 to 1e.100"),
        (torch.ones(8, 3, dtype=torch.complex64), TypeError, "wants real numbers, got torch.complex64"),
        (torch.ones(8, 3, device="meta"), ValueError, "wants features with values"),
    ],
)
def test_what_is_no_set_of_features_is_refused(measure, wrong, error, message):
    with pytest.raises(error, match=message):
        measure(wrong, torch.rand(8, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64, torch.uint8])
def test_features_of_any_dtype_are_compared_in_float64(dtype):
    a, b = (torch.randint(9, (20, 3), generator=torch.Generator().manual_seed(seed)) for seed in range(2))
    got = frechet_distance(a.to(dtype), b.to(dtype)), precision_recall(a.to(dtype), b.to(dtype))
    assert got == (frechet_distance(a.double(), b.double()), precision_recall(a.double(), b.double()))


def test_features_may_be_where_there_is_no_float64():
    a, b = cloud(20, 3, 0).float(), cloud(20, 3, 1).float()
    there = WithoutFloat64(a), WithoutFloat64(b)
    with pytest.raises(TypeError, match="float64 on a device that has none"):
        there[0].double()
    assert frechet_distance(*there) == frechet_distance(a, b)
    assert precision_recall(*there) == precision_recall(a, b)


def test_features_with_a_gradient_are_taken():
    a, b = torch.randint(9, (20, 3)), torch.rand(20, 3, requires_grad=True)
    assert frechet_distance(a, b) > 0 and len(precision_recall(a, b.half())) == 2


@pytest.mark.parametrize(
    "k, error", [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), (8, ValueError)]
)
def test_a_number_of_neighbours_is_whole_and_below_the_number_of_rows(k, error):
    with pytest.raises(error, match=r"k wants a whole number|at least 9 rows"):
        precision_recall(torch.rand(8, 3), torch.rand(8, 3), k)


def test_equal_clouds_are_never_below_zero_apart():
    for seed in range(20):
        x = torch.randn(30, 6, generator=torch.Generator().manual_seed(seed)) * 1e3
        assert 0 <= frechet_distance(x, x) < 1e-3


def test_an_interval_is_wilsons():
    """p = (p̂ + z²/2n ± z √(p̂(1 − p̂)/n + z²/4n²)) / (1 + z²/n)."""
    share, n, z = 0.3, 40, norm.ppf(0.975)
    middle = share + z**2 / (2 * n)
    reach = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    want = ((middle - reach) / (1 + z**2 / n), (middle + reach) / (1 + z**2 / n))
    assert proportion_interval(share, n) == pytest.approx(want)
    assert proportion_interval(torch.tensor(0.3), torch.tensor(40)) == pytest.approx(want)
    narrow = proportion_interval(share, n, confidence=0.5)
    assert want[0] < narrow[0] < narrow[1] < want[1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"share": 1.2}, "share wants a finite number from 0 to 1, got 1.2"),
        ({"share": math.nan}, "share wants a finite number from 0 to 1, got nan"),
        ({"n": 0}, "n wants a whole number of at least 1"),
        ({"confidence": 1}, "confidence wants a finite number above 0 and below 1, got 1"),
    ],
)
def test_what_is_no_share_of_trials_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        proportion_interval(**{"share": 0.5, "n": 10, "confidence": 0.95} | wrong)
