"""The network with several heads, cosines of gradients, power laws, FGSM: against loops, SciPy and captum."""

import math

import numpy as np
import pytest
import torch
from captum.robust import FGSM
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit
from scipy.stats import linregress
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import multitask


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def seeded(tasks=multitask.TASKS, **settings):
    torch.manual_seed(0)
    return multitask.MultiTaskNet(tasks, **settings)


# --- the network --------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(
    height=st.integers(8, 21),
    width=st.integers(8, 21),
    batch=st.integers(1, 3),
    channels=st.sampled_from([1, 3]),
)
def test_each_head_gives_its_shape_for_images_of_any_size(height, width, batch, channels):
    network = seeded(classes=4, in_channels=channels, width=2)
    outputs = network(torch.rand(batch, channels, height, width, generator=draws()))
    assert {task: tuple(output.shape) for task, output in outputs.items()} == {
        "class": (batch, 4),
        "box": (batch, 4),
        "mask": (batch, height, width),
    }
    assert 0 <= outputs["box"].min() and outputs["box"].max() <= 1


@pytest.mark.parametrize("tasks", [("class",), ("mask", "box"), multitask.TASKS])
def test_the_trunk_of_one_seed_does_not_depend_on_the_heads(tasks):
    reference, network = seeded(("box",), width=4), seeded(tasks, width=4)
    assert list(network(torch.rand(1, 3, 8, 8))) == list(tasks)
    for name, value in reference.trunk.state_dict().items():
        if not name.endswith(("mean", "var", "tracked")):
            assert torch.equal(network.trunk.state_dict()[name], value)


def test_the_heads_by_hand():
    features = torch.randn(2, 3, 4, 4, generator=draws())
    heads = multitask.ClassHead(3, 5), multitask.BoxHead(3), multitask.MaskHead(3)
    logits, boxes, masks = (head(features) for head in heads)
    assert_close(logits, features.flatten(2).mean(2) @ heads[0].linear.weight.T + heads[0].linear.bias)
    flat = features.flatten(1)
    assert_close(boxes, (flat @ heads[1].linear.weight.T + heads[1].linear.bias).sigmoid())
    maps = heads[2].conv(features)
    assert masks.shape == (2, 16, 16)
    for row, column in ((0, 0), (5, 7), (14, 1)):
        assert_close(masks[:, row, column], maps[:, 4 * (row % 4) + column % 4, row // 4, column // 4])


def test_a_task_moves_the_trunk_and_its_own_head_only():
    network = seeded(width=2)
    network(torch.rand(2, 3, 8, 8, generator=draws()))["box"].sum().backward()
    with_gradient = {name.split(".")[1] for name, p in network.named_parameters() if p.grad is not None}
    assert "box" in with_gradient and not {"class", "mask"} & with_gradient
    assert all(parameter.grad is not None for parameter in network.trunk.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_losses_are_the_textbooks(dtype):
    logits, labels = torch.randn(5, 4, generator=draws()).to(dtype), torch.tensor([0, 3, 1, 2, 2])
    boxes, truth = (torch.rand(5, 4, generator=draws(seed)).to(dtype) for seed in (1, 2))
    masks, ink = (
        torch.randn(5, 6, 7, generator=draws(3)).to(dtype),
        torch.rand(5, 6, 7, generator=draws(4)).to(dtype),
    )
    outputs = {"class": logits, "box": boxes, "mask": masks}
    losses = multitask.task_losses(outputs, {"class": labels, "box": truth, "mask": ink})
    wide = [x.double() for x in (logits, boxes, truth, masks, ink)]
    entropy = -sum(wide[0][i].log_softmax(0)[label] for i, label in enumerate(labels)) / 5
    distance = (wide[1] - wide[2]).abs()
    smooth = torch.where(distance < 0.1, distance**2 / 0.2, distance - 0.05).mean()
    p = wide[3].sigmoid()
    binary = -(wide[4] * p.log() + (1 - wide[4]) * (1 - p).log()).mean()
    tolerance = 2e-2 if dtype in (torch.float16, torch.bfloat16) else 1e-5
    for task, want in (("class", entropy), ("box", smooth), ("mask", binary)):
        assert_close(losses[task].double(), want, rtol=tolerance, atol=tolerance)


def test_one_batch_can_be_learned():
    network = seeded(classes=3, in_channels=1, width=8)
    x = torch.rand(6, 1, 12, 10, generator=draws())
    truth = {
        "class": torch.tensor([0, 1, 2, 0, 1, 2]),
        "box": torch.rand(6, 4, generator=draws(1)),
        "mask": (torch.rand(6, 12, 10, generator=draws(2)) > 0.7).float(),
    }
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    history = []
    for _ in range(80):
        losses = multitask.task_losses(network(x), truth)
        history.append({task: loss.item() for task, loss in losses.items()})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    assert all(history[-1][task] < history[0][task] / 3 for task in truth)


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match="each of tasks wants 'class' or 'box' or 'mask', got 'depth'"):
        multitask.MultiTaskNet(["depth"])
    with pytest.raises(ValueError, match="each once"):
        multitask.MultiTaskNet(["box", "box"])
    with pytest.raises(ValueError, match="at least 8×8"):
        seeded(width=2)(torch.rand(1, 3, 7, 9))
    with pytest.raises(ValueError, match="ground truth of 'class'"):
        multitask.task_losses({"class": torch.ones(1, 2)}, {})


# --- the cosine ---------------------------------------------------------------------------------------------


def test_opposed_targets_have_the_cosine_minus_one_and_equal_ones_plus_one():
    w = nn.Parameter(torch.tensor([1.0, -2.0]))
    x = torch.tensor([3.0, 1.0])
    losses = [(w @ x - target) ** 2 for target in (w @ x + 1, w @ x - 1)]
    losses = [(w @ x - (w @ x).detach() - change) ** 2 for change in (1.0, -1.0)]
    assert multitask.gradient_cosine(*losses, [w]) == pytest.approx(-1)
    assert multitask.gradient_cosine(losses[0], 5 * losses[0], [w]) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(4))
def test_the_cosine_is_that_of_all_parameters_as_one_vector(seed):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    x = torch.randn(6, 4)
    first, second = network(x)[:, 0].square().mean(), network(x)[:, 1].exp().mean()
    found = multitask.gradient_cosine(first, second, network.parameters())
    gradients = []
    for loss in (first, second):
        network.zero_grad()
        loss.backward(retain_graph=True)
        gradients.append(torch.cat([p.grad.flatten().clone() for p in network.parameters()]))
    assert found == pytest.approx(F.cosine_similarity(*gradients, dim=0).item(), abs=1e-5)
    assert found != pytest.approx(
        F.cosine_similarity(*[g[:20] for g in gradients], dim=0).item(), abs=1e-3
    )  # not the first layer alone


def test_a_step_for_one_task_raises_the_loss_of_the_other_where_the_cosine_is_negative():
    w = nn.Parameter(torch.tensor([0.0, 0.0]))

    def losses(weights):
        return ((weights - torch.tensor([1.0, 0.0])) ** 2).sum(), (
            (weights + torch.tensor([1.0, -0.5])) ** 2
        ).sum()

    a, b = losses(w)
    assert multitask.gradient_cosine(a, b, [w]) < 0
    (gradient,) = torch.autograd.grad(a, w)
    assert losses(w - 0.01 * gradient)[1] > losses(w)[1]


def test_parameters_that_one_loss_does_not_reach_count_as_zero():
    a, b = nn.Parameter(torch.tensor([3.0])), nn.Parameter(torch.tensor([4.0]))
    assert multitask.gradient_cosine(a.sum(), (a + b).sum(), [a, b]) == pytest.approx(math.sqrt(0.5))
    with pytest.raises(ValueError, match="not zero"):
        multitask.gradient_cosine(a.sum(), b.sum(), [b])
    with pytest.raises(ValueError, match="loss_a wants a scalar with a gradient"):
        multitask.gradient_cosine(torch.tensor(1.0), b.sum(), [b])


def test_gradients_in_half_precision_are_added_in_float32():
    w = nn.Parameter(torch.ones(70_000, dtype=torch.float16))
    assert multitask.gradient_cosine(w.sum(), (3 * w).sum(), [w]) == pytest.approx(1, abs=1e-4)


# --- power laws ---------------------------------------------------------------------------------------------


def test_an_exact_power_law_is_found():
    images = [20, 70, 300, 2000]
    law = multitask.fit_power_law(images, [[0.9 * n**-0.37] * 2 for n in images])
    assert law == pytest.approx((0.9, 0.37)) and law.predict(5000) == pytest.approx(0.9 * 5000**-0.37)


@pytest.mark.parametrize("seed", range(3))
def test_the_fit_is_scipys(seed):
    rng = np.random.default_rng(seed)
    images = np.sort(rng.choice(np.arange(10, 3000), 6, replace=False))
    errors = images[:, None] ** -0.5 * np.exp(0.2 * rng.normal(size=(6, 4)))
    law = multitask.fit_power_law(images, errors)
    means = np.log(errors.mean(1))
    (a, b), _ = curve_fit(lambda x, a, b: a - b * x, np.log(images), means, p0=(0.0, 0.5))
    assert law == pytest.approx((np.exp(a), b), rel=1e-5)
    assert law.exponent == pytest.approx(-linregress(np.log(images), means).slope)


def test_the_interval_covers_new_runs_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    images, at, runs, trials = np.array([50, 100, 200, 400, 800]), 3200, 5, 60
    hits, widths = {"exponent": 0, "error": 0}, []
    for trial in range(trials):
        errors = images[:, None] ** -0.5 * np.exp(0.15 * rng.normal(size=(5, runs)))
        interval = multitask.bootstrap_power_law(images, errors, at, draws=100, seed=trial)
        new = at**-0.5 * np.exp(0.15 * rng.normal(size=runs)).mean()
        hits["exponent"] += interval["exponent"][0] <= 0.5 <= interval["exponent"][1]
        hits["error"] += interval["error"][0] <= new <= interval["error"][1]
        widths.append((interval["error"][1] - interval["error"][0]) / at**-0.5)
    assert all(count / trials > 0.8 for count in hits.values())
    assert 0.2 < np.mean(widths) < 0.6  # four standard errors of the law and of the new mean are about 0.45


def test_a_higher_confidence_gives_a_wider_interval_and_the_seed_decides():
    images, errors = [10, 100, 1000], [[0.5, 0.4, 0.6], [0.2, 0.15, 0.3], [0.1, 0.05, 0.08]]
    wide, narrow, again = (
        multitask.bootstrap_power_law(images, errors, 5000, confidence=c)["error"] for c in (0.99, 0.5, 0.99)
    )
    assert wide == again and wide[0] < narrow[0] < narrow[1] < wide[1]
    with pytest.raises(ValueError, match="at least two runs"):
        multitask.bootstrap_power_law(images, [row[:1] for row in errors], 5000)


@pytest.mark.parametrize(
    ("images", "errors", "says"),
    [
        ([10, 10], [[0.1], [0.2]], "two different numbers"),
        ([10, 20], [[0.1]], "two different numbers"),
        ([10, 20], [[0.1], [0.0]], "above 0"),
        ([10, 20], [[0.1], [float("nan")]], "finite"),
        ([10, 20], [0.1, 0.2], "2 axes"),
        ([0, 20], [[0.1], [0.2]], "above 0"),
    ],
)
def test_runs_that_no_power_law_fits_are_refused(images, errors, says):
    with pytest.raises(ValueError, match=says):
        multitask.fit_power_law(images, errors)


# --- FGSM ---------------------------------------------------------------------------------------------------


def make_classifier():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.mark.parametrize("eps", [0.0, 0.03, 0.2])
def test_fgsm_is_captums(eps):
    model, x, y = make_classifier(), torch.rand(4, 1, 5, 6, generator=draws()), torch.tensor([0, 2, 1, 1])
    found = multitask.fgsm(model, x, y, eps)
    oracle = FGSM(model, nn.CrossEntropyLoss(reduction="none"), lower_bound=0, upper_bound=1)
    perturbed = oracle.perturb(x.clone().requires_grad_(), epsilon=eps, target=y)  # without: it warns
    assert_close(found, perturbed.detach())
    assert 0 <= found.min() and found.max() <= 1 and (found - x).abs().max() <= eps + 1e-6


def test_each_pixel_goes_where_the_loss_grows():
    model, x, y = (
        make_classifier().double(),
        torch.rand(1, 1, 5, 6, generator=draws()).double(),
        torch.tensor([2]),
    )
    x = 0.2 + 0.6 * x
    found = multitask.fgsm(model, x, y, 0.01)
    for place in range(30):
        more = x.clone()
        more.view(-1)[place] += 1e-5
        slope = F.cross_entropy(model(more), y) - F.cross_entropy(model(x), y)
        assert torch.sign(found - x).view(-1)[place] == torch.sign(slope)
    assert F.cross_entropy(model(found), y) > F.cross_entropy(model(x), y)


def test_fgsm_leaves_the_model_and_the_images_alone():
    model, x, y = make_classifier(), torch.rand(4, 1, 5, 6), torch.tensor([0, 2, 1, 1])
    before = x.clone()
    with torch.no_grad():
        found = multitask.fgsm(model, x, y, 0.1)
    assert torch.equal(x, before) and not found.requires_grad and not x.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(ValueError, match="y wants values of at most 2"):
        multitask.fgsm(model, x, y + 1, 0.1)
