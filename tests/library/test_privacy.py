"""Privacy against loops, Opacus, scikit-learn, and what can be computed by hand."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus import GradSampleModule
from opacus.accountants import RDPAccountant
from opacus.accountants.utils import get_noise_multiplier
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import privacy


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def make_network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.GroupNorm(1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 3 * 4, 4)
    )


def make_samples(n, seed=0):
    return torch.randn(n, 1, 5, 6, generator=draws(seed)), torch.randint(4, (n,), generator=draws(seed + 1))


# --- the attack ---------------------------------------------------------------------------------------------


@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_the_auc_is_scikit_learns_also_with_ties(n, m, seed):
    generator = draws(seed)
    members = torch.randint(6, (n,), generator=generator) + 1
    others = torch.randint(6, (m,), generator=generator)
    auc, low, high = privacy.attack_auc(members, others)
    assert auc == pytest.approx(roc_auc_score([1] * n + [0] * m, torch.cat([members, others]).numpy()))
    assert 0 <= low <= auc <= high <= 1


def test_the_interval_holds_the_true_auc_as_often_as_it_says():
    true_auc = norm.cdf(0.5 / math.sqrt(2))
    generator = draws(1)
    hits = 0
    for _ in range(400):
        members, others = torch.randn(60, generator=generator) + 0.5, torch.randn(40, generator=generator)
        _, low, high = privacy.attack_auc(members, others, confidence=0.8)
        hits += low <= true_auc <= high
    assert 0.74 < hits / 400 < 0.86


@pytest.mark.parametrize("sigma", [0.7, 1.0, 3.0])
def test_the_best_attack_on_the_gaussian_mechanism_stays_below_the_bound(sigma):
    delta = 1e-3
    budget = privacy.epsilon(1.0, sigma, 1, delta)
    rates = torch.linspace(0.001, 0.999, 200).tolist()
    reached = [norm.cdf(norm.ppf(rate) + 1 / sigma) for rate in rates]
    bound = [privacy.most_true_positives(rate, budget, delta) for rate in rates]
    assert all(there <= most for there, most in zip(reached, bound, strict=True))
    too_small = [privacy.most_true_positives(rate, budget / 2, delta) for rate in rates]
    assert any(there > most for there, most in zip(reached, too_small, strict=True))


def test_the_bound_by_hand():
    assert privacy.most_true_positives(0.1, 0.0, 0.0) == pytest.approx(0.1)
    assert privacy.most_true_positives(0.1, math.log(2), 0.05) == pytest.approx(0.25)
    assert privacy.most_true_positives(0.8, math.log(4), 0.0) == pytest.approx(0.95)
    assert privacy.most_true_positives(0.5, 1e6, 0.0) == 1


# --- gradients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7])
def test_per_sample_gradients_are_those_of_a_loop_and_of_opacus(n):
    network, (x, y) = make_network(), make_samples(n)
    found = privacy.per_sample_gradients(network, x, y)
    for sample in range(n):
        loss = F.cross_entropy(network(x[sample : sample + 1]), y[sample : sample + 1])
        for (name, _), gradient in zip(
            network.named_parameters(), torch.autograd.grad(loss, list(network.parameters())), strict=True
        ):
            assert_close(found[name][sample], gradient)
    oracle = GradSampleModule(make_network(), loss_reduction="sum")
    F.cross_entropy(oracle(x.clone().requires_grad_()), y, reduction="sum").backward()
    for name, parameter in oracle._module.named_parameters():
        assert_close(found[name], parameter.grad_sample, rtol=1e-4, atol=1e-5)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_frozen_parameters_are_left_out_and_mixing_layers_refused():
    network, (x, y) = make_network(), make_samples(3)
    network[0].requires_grad_(False)
    assert set(privacy.per_sample_gradients(network, x, y)) == {"1.weight", "1.bias", "4.weight", "4.bias"}
    mixed = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(30), nn.Linear(30, 4))
    with pytest.raises(ValueError, match="mixes the samples"):
        privacy.per_sample_gradients(mixed, x, y)
    assert len(privacy.per_sample_gradients(mixed.eval(), x, y)) == 4


def test_an_empty_draw_gives_noise_alone():
    network, (x, y) = make_network(), make_samples(2)
    found = privacy.private_gradient(
        network, x[:0], y[:0], max_norm=2.0, noise_multiplier=3.0, expected_batch=4.0, generator=draws()
    )
    values = torch.cat([gradient.flatten() for gradient in found.values()])
    assert len(values) == sum(p.numel() for p in network.parameters())
    assert 1.2 < values.std() < 1.8  # σC / (q n) = 1.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_clipping_shortens_each_sample_over_all_parameters(dtype):
    first = torch.randn(5, 2, 3, generator=draws()).to(dtype)
    second = torch.randn(5, 4, generator=draws(1)).to(dtype)
    found = privacy.clipped_sum({"a": first, "b": second}, 1.5)
    want = {"a": torch.zeros(2, 3, dtype=torch.float64), "b": torch.zeros(4, dtype=torch.float64)}
    for sample in range(5):
        a, b = first[sample].double(), second[sample].double()
        norm_of_both = math.sqrt(float((a**2).sum() + (b**2).sum()))
        factor = min(1.0, 1.5 / norm_of_both)
        want["a"] += factor * a
        want["b"] += factor * b
    loose = dtype in (torch.float16, torch.bfloat16)
    for name, value in want.items():
        assert found[name].dtype == dtype
        assert_close(found[name].double(), value, rtol=0.05 if loose else 1e-5, atol=0.05 if loose else 1e-6)
    zero = privacy.clipped_sum({"a": torch.zeros(3, 2)}, 1.0)["a"]
    assert torch.equal(zero, torch.zeros(2))


def test_without_noise_and_clipping_it_is_the_ordinary_gradient():
    network, (x, y) = make_network(), make_samples(6)
    found = privacy.private_gradient(
        network, x, y, max_norm=1e6, noise_multiplier=0.0, expected_batch=6.0, generator=draws()
    )
    F.cross_entropy(network(x), y).backward()
    for name, parameter in network.named_parameters():
        assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_one_sample_changes_the_sum_by_at_most_the_norm():
    network, (x, y) = make_network(), make_samples(8)
    without = privacy.clipped_sum(privacy.per_sample_gradients(network, x[:7], y[:7]), 0.3)
    with_all = privacy.clipped_sum(privacy.per_sample_gradients(network, 100 * x, y), 0.3)
    base = privacy.clipped_sum(privacy.per_sample_gradients(network, 100 * x[:7], y[:7]), 0.3)
    change = torch.cat([(with_all[name] - base[name]).flatten() for name in without])
    assert 0.29 < change.norm() < 0.3001


def test_poisson_draws_each_index_with_the_same_probability():
    sizes, counts = [], torch.zeros(50)
    for seed in range(2000):
        drawn = privacy.sample_poisson(50, 0.2, generator=draws(seed))
        sizes.append(len(drawn))
        counts[drawn] += 1
    assert abs(sum(sizes) / 2000 - 10) < 0.3
    assert torch.tensor(sizes).float().var() == pytest.approx(8, rel=0.15)  # n q (1 − q)
    assert (counts / 2000 - 0.2).abs().max() < 0.04


# --- the accountant -----------------------------------------------------------------------------------------


def opacus_epsilon(rate, sigma, steps, delta, **alphas):
    accountant = RDPAccountant()
    accountant.history = [(sigma, rate, steps)]
    return accountant.get_privacy_spent(delta=delta, **alphas)[0]


@pytest.mark.filterwarnings("ignore:Optimal order")
@pytest.mark.parametrize(
    ("rate", "sigma", "steps"),
    [
        (0.001, 0.5, 2000),
        (0.02, 1.0, 50),
        (0.02, 2.5, 2000),
        (0.25, 1.0, 2000),
        (0.25, 2.5, 1),
        (1.0, 0.5, 50),
    ],
)
def test_epsilon_is_that_of_opacus(rate, sigma, steps):
    ours = privacy.epsilon(rate, sigma, steps, 1e-5)
    oracle = opacus_epsilon(rate, sigma, steps, 1e-5, alphas=list(privacy.ORDERS))
    assert ours == pytest.approx(oracle, rel=0.01)
    assert ours <= opacus_epsilon(rate, sigma, steps, 1e-5) * 1.01  # with its own orders


@given(st.floats(1e-3, 1.0), st.floats(0.4, 4.0), st.integers(1, 5000), st.floats(1e-8, 1e-3))
@settings(max_examples=6, deadline=None)
def test_epsilon_is_that_of_opacus_at_random(rate, sigma, steps, delta):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = opacus_epsilon(rate, sigma, steps, delta, alphas=list(privacy.ORDERS))
    assert privacy.epsilon(rate, sigma, steps, delta) == pytest.approx(max(oracle, 0.0), rel=0.01)


def test_the_divergence_without_sampling_is_that_of_two_gaussians():
    for sigma in (0.3, 1.0, 20.0):
        for order in (1.5, 7.0, 64.0):
            found = privacy.renyi_divergence(1.0, sigma, order)
            assert found == pytest.approx(order / (2 * sigma**2), rel=1e-6)


def test_whole_orders_are_the_binomial_sum():
    rate, sigma = 0.3, 1.3
    for order in (2, 3, 9):
        terms = [
            math.comb(order, k) * (1 - rate) ** (order - k) * rate**k * math.exp(k * (k - 1) / (2 * sigma**2))
            for k in range(order + 1)
        ]
        want = math.log(sum(terms)) / (order - 1)
        assert privacy.renyi_divergence(rate, sigma, order) == pytest.approx(want, rel=1e-9)


def test_more_noise_fewer_steps_and_smaller_samples_cost_less():
    base = privacy.epsilon(0.05, 1.0, 300, 1e-5)
    assert privacy.epsilon(0.05, 1.2, 300, 1e-5) < base
    assert privacy.epsilon(0.05, 1.0, 200, 1e-5) < base
    assert privacy.epsilon(0.03, 1.0, 300, 1e-5) < base
    assert privacy.epsilon(0.05, 1.0, 300, 1e-3) < base


@pytest.mark.filterwarnings("ignore:Optimal order")
@pytest.mark.parametrize(("target", "rate", "steps"), [(1.0, 0.05, 300), (8.0, 0.05, 300), (3.0, 1.0, 20)])
def test_the_noise_for_an_epsilon_is_that_of_opacus(target, rate, steps):
    sigma = privacy.noise_multiplier_for(target, rate, steps, 1e-5)
    assert privacy.epsilon(rate, sigma, steps, 1e-5) == pytest.approx(target, rel=1e-3)
    oracle = get_noise_multiplier(
        target_epsilon=target,
        target_delta=1e-5,
        sample_rate=rate,
        steps=steps,
        accountant="rdp",
        epsilon_tolerance=0.001,
    )
    assert sigma == pytest.approx(oracle, rel=0.01)


def test_an_epsilon_out_of_reach_is_said():
    with pytest.raises(ValueError, match="target wants an ε from"):
        privacy.noise_multiplier_for(1e-9, 0.5, 10**6, 1e-5)


# --- several clients ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_the_average_is_weighted_by_the_numbers_of_samples(dtype):
    states = [{"w": torch.full((2, 3), value, dtype=dtype), "n": torch.tensor(4)} for value in (1.0, 4.0)]
    found = privacy.federated_average(states, [200, 100])
    assert found["w"].dtype == dtype and found["n"].item() == 4
    assert_close(found["w"], torch.full((2, 3), 2.0, dtype=dtype), rtol=0.01, atol=0.01)


def test_one_step_of_each_client_is_one_step_on_all_data():
    x, y = make_samples(9)
    clients = []
    for part in (slice(0, 6), slice(6, 9)):
        network = make_network()
        F.cross_entropy(network(x[part]), y[part]).backward()
        torch.optim.SGD(network.parameters(), lr=0.1).step()
        clients.append(network.state_dict())
    central = make_network()
    F.cross_entropy(central(x), y).backward()
    torch.optim.SGD(central.parameters(), lr=0.1).step()
    for name, value in privacy.federated_average(clients, [6, 3]).items():
        assert_close(value, central.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_clients_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="same names"):
        privacy.federated_average([{"a": torch.ones(1)}, {"b": torch.ones(1)}], [1, 1])
    with pytest.raises(ValueError, match="same shape and dtype"):
        privacy.federated_average([{"a": torch.ones(1)}, {"a": torch.ones(2)}], [1, 1])
