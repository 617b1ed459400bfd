"""Explanations against captum, loops, and a network whose answer is known."""

import pytest
import torch
from captum.attr import IntegratedGradients, LayerGradCam, Occlusion, Saliency
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from vlmbook import explain
from vlmbook.efficientnet import efficientnet_lite0

TOLERANCE = {"rtol": 1e-4, "atol": 1e-6}


def make_network(channels=2, classes=5):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(),
        nn.Conv2d(4, 6, 3, stride=2), nn.Tanh(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, classes),
    ).eval()  # fmt: skip


def make_images(batch, height, width, channels=2):
    generator = torch.Generator().manual_seed(height * 100 + width)
    target = torch.randint(5, (batch,), generator=generator)
    return torch.randn(batch, channels, height, width, generator=generator), target


def rounded(x, target):
    """Which class is explained makes a difference: the next one as a control."""
    return (target + 1) % 5


SIZES = pytest.mark.parametrize(("batch", "height", "width"), [(1, 7, 7), (3, 9, 12)])

# --- against captum -----------------------------------------------------------------------------------------


@SIZES
def test_saliency_is_captums(batch, height, width):
    network, (x, target) = make_network(), make_images(batch, height, width)
    want = Saliency(network).attribute(x.clone().requires_grad_(), target=target).amax(1)
    assert_close(explain.saliency(network, x, target), want, **TOLERANCE)
    assert not torch.allclose(explain.saliency(network, x, rounded(x, target)), want)


@SIZES
@pytest.mark.parametrize("baseline", [0.0, -0.7])
def test_integrated_gradients_are_captums(batch, height, width, baseline):
    network, (x, target) = make_network(), make_images(batch, height, width)
    found = explain.integrated_gradients(network, x, target, baseline=baseline, steps=13)
    oracle = IntegratedGradients(network)
    want = oracle.attribute(x, baselines=baseline, target=target, n_steps=13, method="riemann_middle")
    assert_close(found, want.float(), **TOLERANCE)


@SIZES
def test_grad_cam_is_captums(batch, height, width):
    network, (x, target) = make_network(), make_images(batch, height, width)
    found = explain.grad_cam(network, network[3], x, target)
    want = LayerGradCam(network, network[3]).attribute(
        x.clone().requires_grad_(), target=target, relu_attributions=True
    )
    assert_close(found, want.detach()[:, 0], **TOLERANCE)
    assert found.min() == 0 and found.max() > 0


@pytest.mark.parametrize(("window", "stride"), [(3, 1), (3, 3), ((4, 5), (3, 2)), (1, 1)])
def test_occlusion_is_captums(window, stride):
    network, (x, target) = make_network(), make_images(2, 9, 12)
    found = explain.occlusion(network, x, target, window=window, stride=stride, value=0.5)
    high, wide = window if isinstance(window, tuple) else (window, window)
    down, right = stride if isinstance(stride, tuple) else (stride, stride)
    want = Occlusion(network).attribute(
        x, sliding_window_shapes=(2, high, wide), strides=(2, down, right), baselines=0.5, target=target
    )
    assert_close(found, want[:, 0].float(), rtol=1e-3, atol=1e-5)


def test_on_efficientnet_they_are_captums_too():
    torch.manual_seed(0)
    network = efficientnet_lite0(num_classes=5).eval()
    x, target = make_images(1, 48, 40, channels=3)
    layer = network.blocks[-1]
    want = LayerGradCam(network, layer).attribute(
        x.clone().requires_grad_(), target=target, relu_attributions=True
    )
    assert_close(explain.grad_cam(network, layer, x, target), want.detach()[:, 0], rtol=1e-3, atol=1e-6)
    want = Saliency(network).attribute(x.clone().requires_grad_(), target=target).amax(1)
    assert_close(explain.saliency(network, x, target), want, rtol=1e-3, atol=1e-6)


# --- against loops and by hand ------------------------------------------------------------------------------


class Linear(nn.Module):
    """Two classes; the logit of class 1 is the sum of weights times pixels."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, x):
        score = (x * self.weights).sum((1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], 1)


@given(st.integers(1, 3), st.integers(3, 7), st.integers(3, 7), st.integers(0, 999))
@settings(max_examples=15, deadline=None)
def test_of_a_linear_network_all_are_known(channels, height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(channels, height, width, generator=generator)
    x = torch.randn(2, channels, height, width, generator=generator)
    network, target = Linear(weights).eval(), torch.tensor([1, 1])
    assert_close(explain.saliency(network, x, target), weights.abs().amax(0).expand(2, -1, -1))
    product = weights * (x - 0.3)
    found = explain.integrated_gradients(network, x, target, baseline=0.3, steps=3)
    assert_close(found, product, rtol=1e-4, atol=1e-5)
    single = explain.occlusion(network, x, target, window=1, stride=1, value=0.3)
    assert_close(single, product.sum(1), rtol=1e-3, atol=1e-4)


def test_the_attributions_add_up_to_the_change_of_the_logit():
    network, (x, target) = make_network(), make_images(3, 9, 12)
    parts = explain.integrated_gradients(network, x, target, steps=200).sum((1, 2, 3))
    with torch.no_grad():
        change = network(x) - network(torch.zeros_like(x))
    assert_close(parts, change.gather(1, target[:, None])[:, 0], rtol=1e-3, atol=1e-4)


def test_grad_cam_by_hand():
    maps = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    head = nn.Linear(3, 2, bias=False)
    network = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
    found = explain.grad_cam(network, network[0], maps, torch.tensor([1]))
    want = sum(head.weight[1, k] / 20 * maps[0, k] for k in range(3)).clamp(min=0)
    assert_close(found[0], want.detach())


def test_deletion_takes_the_hottest_pixels_first():
    weights = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    network, x = Linear(weights).eval(), torch.ones(1, 1, 2, 2)
    curve = explain.deletion(network, x, torch.tensor([1]), weights, steps=4)
    want = torch.tensor([10.0, 6.0, 3.0, 1.0, 0.0]).sigmoid()
    assert_close(curve[0], want)
    backwards = explain.deletion(network, x, torch.tensor([1]), -weights, steps=4)
    assert (curve[0, 1:4] < backwards[0, 1:4]).all()


def test_the_class_stands_in_the_target_and_others_are_refused():
    network, (x, _) = make_network(), make_images(1, 7, 7)
    with pytest.raises(ValueError, match="below 5, got 5"):
        explain.saliency(network, x, torch.tensor([5]))
    with pytest.raises(ValueError, match="evaluation mode"):
        explain.saliency(network.train(), x, torch.tensor([0]))
    other = nn.Conv2d(2, 2, 1)
    with pytest.raises(ValueError, match="got another module"):
        explain.grad_cam(network.eval(), other, x, torch.tensor([0]))
    with pytest.raises(ValueError, match="at most the window"):
        explain.occlusion(network, x, torch.tensor([0]), window=2, stride=3)


def test_nothing_of_the_network_changes():
    network, (x, target) = make_network(), make_images(2, 7, 7)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    image = x.clone()
    explain.saliency(network, x, target)
    explain.integrated_gradients(network, x, target, steps=2)
    explain.grad_cam(network, network[3], x, target)
    explain.occlusion(network, x, target, window=3, stride=3)
    assert torch.equal(x, image) and not x.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(weights.grad is None for weights in network.parameters())
    assert not network[3]._forward_hooks


# --- random weights and the card ----------------------------------------------------------------------------


def test_randomised_layers_are_random_with_the_same_spread_and_the_others_stay():
    network = make_network()
    wide = nn.Sequential(network, nn.Linear(5, 4000))
    with torch.no_grad():
        wide[1].weight.add_(3.0)
    changed = explain.randomise(wide, ["1"], generator=torch.Generator().manual_seed(0))
    assert torch.equal(changed[0][0].weight, wide[0][0].weight)
    old, new = wide[1].weight.detach(), changed[1].weight.detach()
    assert torch.corrcoef(torch.stack([old.flatten(), new.flatten()]))[0, 1].abs() < 0.05
    assert_close(new.mean(), old.mean(), rtol=0.02, atol=0.0)
    assert_close(new.std(), old.std(), rtol=0.02, atol=0.0)
    with pytest.raises(ValueError, match="got 'head'"):
        explain.randomise(network, ["head"])


def test_a_card_has_every_section_and_writes_intervals():
    sections = dict.fromkeys(explain.SECTIONS, "text")
    sections["Quantitative analyses"] = {"accuracy": (0.9, 0.85, 0.95), "images": 360}
    card = explain.model_card("digits", sections)
    assert "| accuracy | 0.9 [0.85, 0.95] |" in card and "| images | 360 |" in card
    assert all(f"**{name}.**" in card for name in explain.SECTIONS)
    del sections["Factors"]
    with pytest.raises(ValueError, match="Factors"):
        explain.model_card("digits", sections)
