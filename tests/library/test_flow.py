"""Flow matching against closed forms and loops; then what any right answer has, structure, and learning."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import MixtureSameFamily, MultivariateNormal
from torch.distributions.categorical import Categorical
from torch.testing import assert_close

from vlmbook.data import digits
from vlmbook.flow import (
    Averaged,
    FlowUNet,
    ResidualBlock,
    complete,
    flow_matching_loss,
    guided_velocity,
    interpolate,
    noise_to_velocity,
    optimal_velocity,
    sample,
    score_to_velocity,
    velocity_to_image,
    velocity_to_noise,
    velocity_to_score,
)

EXACT = {"rtol": 1e-9, "atol": 1e-9}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64).to(dtype)


class Straight(nn.Module):
    """A velocity that is known: towards one target for each class, from wherever x is; "no class" aims at
    0.
    """

    num_classes = 2
    image_shape = (1, 2, 3)

    def __init__(self):
        super().__init__()
        self.register_buffer(
            "targets", torch.stack([torch.full((1, 2, 3), value) for value in (0.5, -0.5, 0)])
        )

    def forward(self, x, t, labels):
        remaining = (1 - t).clamp(min=1e-6).view(-1, 1, 1, 1)
        return (self.targets.to(x)[labels] - x) / remaining


# --- the path and the loss ----------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(shape=st.sampled_from([(3,), (1, 4, 5), (2, 3, 1)]), batch=st.integers(1, 4), seed=st.integers(0, 999))
def test_the_path_is_straight_and_its_velocity_constant(shape, batch, seed):
    noise, images = randn(batch, *shape, seed=seed), randn(batch, *shape, seed=seed + 1)
    t = torch.rand(batch, generator=generator(seed), dtype=torch.float64).requires_grad_()
    for b in range(batch):
        assert_close(interpolate(noise, images, t)[b], noise[b] + t[b] * (images[b] - noise[b]), **EXACT)
    zero, one = torch.zeros_like(t), torch.ones_like(t)
    assert_close(interpolate(noise, images, zero), noise, rtol=0, atol=0)
    assert_close(interpolate(noise, images, one), images, rtol=0, atol=0)
    _, slope = torch.autograd.functional.jvp(lambda t: interpolate(noise, images, t), t, one)
    assert_close(slope, images - noise, **EXACT)


def test_the_loss_is_the_mean_of_squares_in_loops():
    images, noise = torch.rand(3, 1, 2, 3, generator=generator()), randn(3, 1, 2, 3, dtype=torch.float32)
    t, labels, model = torch.tensor([0.1, 0.5, 0.8]), torch.tensor([0, 1, 0]), Straight()
    total = 0.0
    for b in range(3):
        image = 2 * images[b] - 1
        x = (1 - t[b]) * noise[b] + t[b] * image
        velocity = model(x[None], t[b : b + 1], labels[b : b + 1])[0]
        total += (velocity - (image - noise[b])).square().sum() / (3 * 6)
    assert_close(flow_matching_loss(model, images, labels, drop=0, noise=noise, t=t), total)


def test_a_dropped_label_is_no_class():
    seen = []

    class Watching(Straight):
        def forward(self, x, t, labels):
            seen.append(labels)
            return super().forward(x, t, labels)

    images, labels = torch.rand(4000, 1, 2, 3, generator=generator()), torch.ones(4000, dtype=torch.int64)
    torch.manual_seed(0)
    for drop in (0, 0.1, 1):
        flow_matching_loss(Watching(), images, labels, drop=drop)
    shares = [(each == 2).float().mean().item() for each in seen]
    assert shares[0] == 0 and shares[2] == 1 and 0.08 < shares[1] < 0.12
    assert set(torch.cat(seen).tolist()) == {1, 2}


def test_times_lie_more_often_in_the_middle():
    seen = []

    class Watching(Straight):
        def forward(self, x, t, labels):
            seen.append(t)
            return super().forward(x, t, labels)

    torch.manual_seed(0)
    flow_matching_loss(Watching(), torch.rand(20_000, 1, 2, 3), torch.zeros(20_000, dtype=torch.int64))
    logits = seen[0].logit()
    assert abs(logits.mean()) < 0.03 and abs(logits.std() - 1) < 0.03


def test_the_conditional_loss_has_the_gradient_of_the_marginal_one():
    """The mean over noise and images of the squared error differs from the one to the optimal field by a
    constant.
    """
    images, t = randn(2, 1), torch.tensor([0.3, 0.6, 0.8], dtype=torch.float64)
    slope = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    draws, totals = 400_000, [0.0, 0.0]
    for k, time in enumerate(t):
        which = torch.randint(2, (draws,), generator=generator(k))
        noise = randn(draws, 1, seed=k + 5)
        times = time.expand(draws)
        x = interpolate(noise, images[which], times)
        v = slope[0] * x + slope[1]
        totals[0] = totals[0] + (v - (images[which] - noise)).square().mean()
        totals[1] = totals[1] + (v - optimal_velocity(x, times, images)).square().mean()
    conditional, marginal = (torch.autograd.grad(total, slope, retain_graph=True)[0] for total in totals)
    assert_close(conditional, marginal, rtol=0.01, atol=0.02)


# --- the optimal field, and the same field in other clothes -------------------------------------------------


def mixture(images, t):
    """The density of x_t over a finite set: normals around t · image with spread 1 − t."""
    points = images.flatten(1)
    spread = (1 - t) ** 2 * torch.eye(points.shape[1], dtype=points.dtype)
    each = MultivariateNormal(t * points, covariance_matrix=spread)
    return MixtureSameFamily(Categorical(torch.ones(len(points), dtype=points.dtype)), each)


@settings(max_examples=30, deadline=None)
@given(t=st.floats(0.05, 0.9), count=st.integers(1, 5), seed=st.integers(0, 999))
def test_the_optimal_velocity_is_that_of_the_mixtures_score(t, count, seed):
    images, x = randn(count, 2, seed=seed), randn(6, 2, seed=seed + 1).requires_grad_()
    (score,) = torch.autograd.grad(mixture(images, t).log_prob(x).sum(), x)
    times = torch.full((6,), t, dtype=torch.float64)
    velocity = optimal_velocity(x.detach(), times, images)
    assert_close(score_to_velocity(score, x.detach(), times), velocity, rtol=1e-6, atol=1e-6)
    assert_close(velocity_to_score(velocity, x.detach(), times), score, rtol=1e-6, atol=1e-6)


def test_the_optimal_velocity_in_loops():
    images, x, t = randn(4, 1, 2, 2), randn(3, 1, 2, 2, seed=1), torch.tensor([0.0, 0.4, 0.9]).double()
    for b in range(3):
        share = [
            math.exp(-float((x[b] - t[b] * image).square().sum()) / (2 * (1 - t[b]) ** 2)) for image in images
        ]
        mean = sum(s * image for s, image in zip(share, images, strict=True)) / sum(share)
        assert_close(optimal_velocity(x, t, images)[b], (mean - x[b]) / (1 - t[b]), rtol=1e-6, atol=1e-6)


def test_of_one_image_the_optimal_path_is_the_straight_one():
    noise, image, t = randn(5, 3), randn(1, 3, seed=1), torch.rand(5, generator=generator()).double()
    x = interpolate(noise, image.expand(5, -1), t)
    assert_close(optimal_velocity(x, t, image), image - noise, rtol=1e-6, atol=1e-6)


def test_who_follows_the_optimal_velocity_recites():
    images = randn(6, 1, 2, 2, seed=3).clamp(-0.9, 0.9)

    class Optimal(nn.Module):
        num_classes, image_shape = 1, (1, 2, 2)

        def forward(self, x, t, labels):
            return optimal_velocity(x.double(), t.double().clamp(max=1 - 1e-9), images).to(x)

    labels = torch.zeros(40, dtype=torch.int64)
    made = sample(Optimal(), labels, 200, method="euler", guidance=1, generator=generator())
    distance = torch.cdist((2 * made - 1).flatten(1).double(), images.flatten(1))
    assert distance.min(1).values.max() < 1e-3
    assert len(distance.argmin(1).unique()) == 6


def test_conversions_are_inverse_to_each_other_and_true_for_one_pair():
    noise, image, t = randn(5, 2), randn(5, 2, seed=1), torch.linspace(0.1, 0.9, 5).double()
    x, velocity = interpolate(noise, image, t), image - noise
    assert_close(velocity_to_noise(velocity, x, t), noise, **EXACT)
    assert_close(velocity_to_image(velocity, x, t), image, **EXACT)
    assert_close(noise_to_velocity(noise, x, t), velocity, **EXACT)
    score = velocity_to_score(velocity, x, t)
    assert_close(score, -(x - t[:, None] * image) / (1 - t[:, None]) ** 2, **EXACT)
    assert_close(score_to_velocity(score, x, t), velocity, **EXACT)


@pytest.mark.parametrize(
    "convert, t", [(noise_to_velocity, 0), (score_to_velocity, 0), (velocity_to_score, 1)]
)
def test_conversions_where_a_field_says_nothing_are_refused(convert, t):
    with pytest.raises(ValueError, match="wants values above 0, got 0"):
        convert(torch.ones(1, 2), torch.ones(1, 2), torch.tensor([float(t)]))


# --- sampling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["euler", "heun", "ancestral"])
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_samples_arrive_where_the_field_leads(method, steps):
    labels = torch.tensor([0, 1, 1])
    made = sample(Straight(), labels, steps, method=method, guidance=1, generator=generator())
    assert_close(
        made, torch.tensor([0.75, 0.25, 0.25]).view(3, 1, 1, 1).expand(3, 1, 2, 3), rtol=0, atol=1e-3
    )


class Curved(nn.Module):
    """dx/dt = −2 t x: the path is x_0 · exp(−t²)."""

    num_classes, image_shape = 1, (1, 2, 2)

    def forward(self, x, t, labels):
        return -2 * t.view(-1, 1, 1, 1) * x


def test_heuns_error_falls_with_the_square_of_the_step_and_eulers_with_the_step():
    noise, labels = randn(3, 1, 2, 2).clamp(-1, 1), torch.zeros(3, dtype=torch.int64)
    exact = (noise * math.exp(-1) + 1) / 2
    for method, power in (("euler", 1), ("heun", 2)):
        errors = [
            (sample(Curved(), labels, n, method=method, guidance=1, noise=noise) - exact).abs().max().item()
            for n in (20, 40, 80)
        ]
        orders = [math.log2(a / b) for a, b in pairwise(errors)]
        assert all(abs(order - power) < 0.15 for order in orders), (method, orders)


def test_sampling_from_the_middle_keeps_the_beginning():
    noise, labels = randn(2, 1, 2, 2).clamp(-1, 1), torch.zeros(2, dtype=torch.int64)
    made = sample(Curved(), labels, 400, method="heun", guidance=1, noise=noise, start=0.5)
    assert_close(made, (noise * math.exp(0.25 - 1) + 1) / 2, rtol=0, atol=1e-4)


def test_ancestral_steps_have_the_marginals_of_the_path():
    """From x_t of one image to x_after: mean after · image and spread 1 − after, as `interpolate` gives."""
    from vlmbook.flow import _ancestral_step

    torch.manual_seed(0)
    image, t, after = torch.tensor([0.7]), 0.3, 0.6
    x = interpolate(torch.randn(200_000, 1), image.expand(200_000, 1), torch.full((200_000,), t))
    there = _ancestral_step(lambda x, t: (image - x) / (1 - t), x, t, after, None)
    assert abs(there.mean() - after * 0.7) < 0.005 and abs(there.std() - (1 - after)) < 0.005


def test_ancestral_samples_repeat_with_the_generator():
    model, labels = Straight(), torch.tensor([0, 1])
    first, second = (
        sample(model, labels, 4, method="ancestral", guidance=1, generator=generator(5)) for _ in range(2)
    )
    assert first.equal(second)


def test_a_step_back_has_the_marginals_of_the_path():
    from vlmbook.flow import _step_back

    torch.manual_seed(0)
    image, t, after = 0.7, 0.3, 0.6
    there = after * image + (1 - after) * torch.randn(200_000)
    ratio, variance = _step_back(t, after)
    x = ratio * there + variance**0.5 * torch.randn(200_000)
    assert abs(x.mean() - t * image) < 0.01 and abs(x.std() - (1 - t)) < 0.01


class Reciting(nn.Module):
    """The best velocity of a finite set: what it completes is one of its images."""

    num_classes = 1

    def __init__(self, images):
        super().__init__()
        self.images, self.image_shape = 2 * images - 1, images.shape[1:]

    def forward(self, x, t, labels):
        return optimal_velocity(x, t, self.images)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_hole_is_filled_with_what_belongs_to_the_known_pixels(channels):
    images = torch.rand(4, channels, 6, 8, generator=generator(0))
    mask = torch.zeros(1, 1, 6, 8)
    mask[..., 4:] = 1
    broken = torch.where(mask == 1, 0.5, images)
    labels = torch.zeros(4, dtype=torch.int64)
    model = Reciting(images)
    filled = complete(model, broken, mask, labels, 40, rounds=5, guidance=1, generator=generator(1))
    assert_close(filled, images, rtol=0, atol=1e-3)
    assert filled[mask.expand_as(images) == 0].equal(images[mask.expand_as(images) == 0])


def test_each_image_may_have_a_mask_of_its_own_of_any_kind():
    images, labels = torch.rand(2, 1, 6, 8, generator=generator(0)), torch.zeros(2, dtype=torch.int64)
    mask = torch.zeros(2, 1, 6, 8, dtype=torch.bool)
    mask[0, :, :3], mask[1, :, :, 5:] = True, True
    arguments = (labels, 10)
    filled = [
        complete(Reciting(images), images, kind, *arguments, guidance=1, generator=generator(1))
        for kind in (mask, mask.float(), mask.long())
    ]
    assert filled[0].equal(filled[1]) and filled[0].equal(filled[2])
    assert filled[0][~mask].equal(images[~mask])


@pytest.mark.parametrize(
    "mask, error",
    [
        (torch.full((1, 1, 6, 8), 0.5), "1 in the hole"),
        (torch.zeros(3, 1, 6, 8), "one mask, or 2, got 3"),
        (torch.zeros(1, 1, 6, 7), "mask wants"),
        (torch.zeros(6, 8), "mask wants"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask, error):
    images, labels = torch.rand(2, 1, 6, 8), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=error):
        complete(Reciting(images), images, mask, labels, 2)


def test_guidance_goes_beyond_the_class():
    x, labels = randn(2, 1, 2, 3), torch.tensor([0, 1])
    model = Straight().double()
    alone, none = (guided_velocity(model, x, 0.5, each, 1) for each in (labels, torch.tensor([2, 2])))
    assert_close(guided_velocity(model, x, 0.5, labels, 0), none, **EXACT)
    for w in (0.5, 1.5, 4.0):
        assert_close(guided_velocity(model, x, 0.5, labels, w), none + w * (alone - none), **EXACT)


def test_samples_repeat_with_the_generator_and_keep_the_model_and_the_noise():
    net = FlowUNet(8, 3, widths=(8, 16)).eval()
    nn.init.normal_(net.head[-1].weight)
    labels, noise = torch.tensor([0, 2]), randn(2, 1, 8, 8, dtype=torch.float32)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    copy = noise.clone()
    first, second = (sample(net, labels, 2, generator=generator(1)) for _ in range(2))
    assert first.equal(second) and not first.equal(sample(net, labels, 2, generator=generator(2)))
    sample(net, labels, 2, noise=noise)
    assert noise.equal(copy) and all(net.state_dict()[name].equal(value) for name, value in before.items())
    assert 0 <= first.min() <= first.max() <= 1 and not first.requires_grad


# --- the network --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 28, (12, 20)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_velocity_has_the_shape_of_the_image(size, channels):
    net = FlowUNet(size, 5, channels=channels, widths=(8, 16, 16))
    x = randn(2, *net.image_shape, dtype=torch.float32)
    assert net(x, torch.tensor([0.1, 0.9]), torch.tensor([0, 5])).shape == x.shape


def test_at_the_start_the_velocity_is_zero_and_blocks_are_their_shortcuts():
    net, x = FlowUNet(8, 3, widths=(8, 16)), randn(2, 1, 8, 8, dtype=torch.float32)
    assert net(x, torch.tensor([0.2, 0.7]), torch.tensor([0, 1])).abs().max() == 0
    block, features = ResidualBlock(8, 8, 6), randn(2, 8, 5, 7, dtype=torch.float32)
    assert_close(block(features, randn(2, 6, dtype=torch.float32)), features)


def awake(net):
    """Every zero weight drawn, so that each input has its say."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        if parameter.ndim > 1 and parameter.abs().max() == 0:
            nn.init.normal_(parameter, std=0.1)
    return net


def test_time_class_and_every_parameter_matter():
    net, x = awake(FlowUNet(8, 3, widths=(8, 16))), randn(2, 1, 8, 8, dtype=torch.float32)
    t, labels = torch.tensor([0.2, 0.7]), torch.tensor([0, 1])
    y = net(x, t, labels)
    assert (net(x, t + 0.2, labels) - y).abs().max() > 1e-4
    assert (net(x, t, labels + 1) - y).abs().max() > 1e-4
    y.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_images_of_a_batch_do_not_mix():
    net, x = awake(FlowUNet(8, 3, widths=(8, 16))), randn(3, 1, 8, 8, dtype=torch.float32)
    t, labels = torch.tensor([0.2, 0.7, 0.4]), torch.tensor([0, 1, 2])
    alone = torch.cat([net(x[i : i + 1], t[i : i + 1], labels[i : i + 1]) for i in range(3)])
    assert_close(net(x, t, labels), alone, rtol=1e-4, atol=1e-5)


def test_the_chapters_network_has_less_than_a_million_parameters():
    with torch.device("meta"):
        net = FlowUNet(28, 10)
    assert 0.8e6 < sum(p.numel() for p in net.parameters()) < 0.9e6


def test_the_average_follows_the_weights():
    net = nn.Linear(1, 1, bias=False)
    both = Averaged(net, decay=0.9)
    nn.init.zeros_(net.weight)
    both.train()(torch.ones(1, 1))  # the first call copies the weights
    expected = 0.0
    for value in (1.0, 2.0, -1.0):
        nn.init.constant_(net.weight, value)
        assert both(torch.ones(1, 1)).item() == value
        expected = 0.9 * expected + 0.1 * value
        assert_close(both.average.module.weight.item(), expected)
    assert_close(both.eval()(torch.ones(1, 1)).item(), expected)
    assert [p for p in both.parameters() if p.requires_grad] == [net.weight]


# --- learning -----------------------------------------------------------------------------------------------


def test_a_few_digits_are_learned():
    """Below the loss of a field that knows the mean image alone, and samples near their class."""
    images, labels = (part[:64] for part in digits("train"))
    torch.manual_seed(0)
    net = FlowUNet(8, 10, widths=(16, 32))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(250):
        optimizer.zero_grad()
        loss = flow_matching_loss(net, images, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) / 20 < 0.4 * losses[0]
    wanted = torch.arange(10).repeat(4)
    made = sample(net.eval(), wanted, 10, guidance=1.5, generator=generator())
    nearest = labels[torch.cdist(made.flatten(1), images.flatten(1)).argmin(1)]
    assert (nearest == wanted).float().mean() > 0.8
