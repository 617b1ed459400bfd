"""Episodes, prototypes and adaptation against loops, scikit-learn and derivatives by hand."""

import pytest
import torch
from sklearn.neighbors import NearestCentroid
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import fewshot


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


# --- episodes -----------------------------------------------------------------------------------------------


def test_an_episode_has_other_images_of_the_same_classes():
    labels = torch.arange(6).repeat_interleave(torch.tensor([9, 2, 7, 8, 7, 3]))
    seen = set()
    for seed in range(20):
        episode = fewshot.sample_episode(labels, ways=3, shots=3, queries=4, generator=draws(seed))
        assert episode.support.shape == (3, 3) and episode.query.shape == (3, 4)
        together = torch.cat([episode.support, episode.query], 1)
        assert len(together.unique()) == together.numel()
        classes = labels[together]
        assert (classes == classes[:, :1]).all() and len(classes[:, 0].unique()) == 3
        seen |= set(classes[:, 0].tolist())
    assert seen == {0, 2, 3, 4}  # classes 1 and 5 have fewer than seven images


def test_the_generator_decides_and_the_global_one_stays():
    labels = torch.arange(5).repeat_interleave(6)
    state = torch.get_rng_state()
    first, second = (
        fewshot.sample_episode(labels, ways=2, shots=2, queries=2, generator=draws(4)) for _ in "ab"
    )
    assert torch.equal(first.support, second.support) and torch.equal(first.query, second.query)
    assert torch.equal(torch.get_rng_state(), state)


def test_too_few_classes_are_said():
    with pytest.raises(ValueError, match="3 classes with 4 images each, got 2"):
        fewshot.sample_episode(torch.tensor([0] * 4 + [1] * 4 + [2] * 3), ways=3, shots=2, queries=2)


# --- prototypes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_prototypes_are_means_and_logits_are_squared_distances(dtype):
    embeddings = torch.randn(3, 4, 5, generator=draws()).to(dtype)
    queries = torch.randn(7, 5, generator=draws(1)).to(dtype)
    centres = fewshot.prototypes(embeddings)
    assert centres.dtype == dtype
    logits = fewshot.prototype_logits(queries, centres)
    for n in range(7):
        for w in range(3):
            mean = sum(embeddings[w, k].double() for k in range(4)) / 4
            want = -((queries[n].double() - mean) ** 2).sum()
            tolerance = 0.15 if dtype in (torch.float16, torch.bfloat16) else 1e-4
            assert_close(logits[n, w].double(), want, rtol=tolerance, atol=tolerance)


def test_the_nearest_prototype_is_scikit_learns_nearest_centroid():
    embeddings = torch.randn(4, 6, 3, generator=draws())
    queries = torch.randn(50, 3, generator=draws(1))
    oracle = NearestCentroid().fit(
        embeddings.flatten(0, 1).numpy(), torch.arange(4).repeat_interleave(6).numpy()
    )
    answers = fewshot.prototype_logits(queries, fewshot.prototypes(embeddings)).argmax(1)
    assert answers.tolist() == oracle.predict(queries.numpy()).tolist()


def test_the_loss_of_an_episode_is_the_cross_entropy_of_its_queries():
    images = torch.rand(20, 1, 3, 3, generator=draws())
    labels = torch.arange(4).repeat_interleave(5)
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    episode = fewshot.sample_episode(labels, ways=3, shots=2, queries=3, generator=draws(2))
    centres = network(images[episode.support.flatten()]).view(3, 2, 2).mean(1)
    logits = -(torch.cdist(network(images[episode.query.flatten()]), centres) ** 2)
    target = torch.arange(3).repeat_interleave(3)
    assert_close(fewshot.episode_loss(network, images, episode), F.cross_entropy(logits, target))
    accuracy = (logits.argmax(1) == target).double().mean().item()
    assert fewshot.episode_accuracy(network, images, episode) == accuracy


def test_training_by_episodes_makes_a_hidden_difference_visible():
    labels = torch.arange(8).repeat_interleave(10)
    noise = torch.randn(80, 1, 4, 4, generator=draws())
    images = noise.clone()
    images[:, 0, 0, 0] = labels / 4.0  # one of 16 pixels tells the class
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for seed in range(150):
        episode = fewshot.sample_episode(labels, ways=4, shots=3, queries=4, generator=draws(seed))
        optimizer.zero_grad()
        fewshot.episode_loss(network, images, episode).backward()
        optimizer.step()
    tests = [
        fewshot.sample_episode(labels, ways=4, shots=3, queries=4, generator=draws(s))
        for s in range(900, 920)
    ]
    trained = sum(fewshot.episode_accuracy(network, images, episode) for episode in tests) / 20
    plain = sum(fewshot.episode_accuracy(nn.Flatten(), images, episode) for episode in tests) / 20
    assert trained > plain + 0.15


# --- adaptation ---------------------------------------------------------------------------------------------


class Weight(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(value))

    def forward(self, x):
        return self.theta * x


@pytest.mark.parametrize("order", [1, 2])
def test_a_step_and_its_derivative_are_those_by_hand(order):
    network = Weight(1.0)
    x, y, lr = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0]), 0.1
    adapted = fewshot.adapt(network, x, y, lr=lr, order=order)["theta"]
    curvature = 2 * (x**2).mean().item()  # of the mean squared error in theta
    assert_close(adapted, torch.tensor(1 - lr * curvature * (1 - 3)))
    slope = torch.autograd.grad(adapted, network.theta)[0].item()
    assert slope == pytest.approx(1 - lr * curvature if order == 2 else 1.0)
    assert network.theta.item() == 1.0 and network.theta.grad is None


def test_several_steps_are_plain_gradient_descent():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    x, y = torch.randn(9, 1), torch.randn(9, 1)
    adapted = fewshot.adapt(network, x, y, lr=0.05, steps=4, order=1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    before = network(x).detach()
    for _ in range(4):
        optimizer.zero_grad()
        F.mse_loss(network(x), y).backward()
        optimizer.step()
    assert_close(functional_call(network, adapted, (x,)), network(x))
    assert not torch.allclose(before, network(x))
    again = fewshot.adapt(network, x, y, steps=0)
    assert_close(functional_call(network, again, (x,)), network(x))


def test_a_sine_task_is_a_sine_wave_within_the_bounds():
    grid = torch.linspace(-5, 5, 2001)[:, None]
    largest = set()
    for seed in range(30):
        function, x = fewshot.sine_task(7, generator=draws(seed))
        assert x.shape == (7, 1) and x.abs().max() <= 5
        wave = function(grid)
        assert_close(wave[:1001] + function(grid[:1001] + torch.pi), torch.zeros(1001, 1), rtol=0, atol=1e-4)
        amplitude = wave.abs().max().item()
        assert 0.099 <= amplitude <= 5
        largest.add(round(amplitude, 1))
    assert len(largest) > 15
