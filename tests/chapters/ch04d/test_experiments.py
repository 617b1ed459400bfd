"""The computations of chapter 4d: points, paths, and the generators that it compares."""

import pytest
import torch
from torch.testing import assert_close

from vlmbook import data
from vlmbook.chapters.ch04d import experiments
from vlmbook.flow import optimal_velocity


def test_points_are_the_same_each_time_and_of_unit_spread():
    points = experiments.make_points(256)
    assert points.shape == (256, 2) and points.equal(experiments.make_points(256))
    assert_close(points.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    assert_close(points.std(0), torch.ones(2))


def test_following_a_constant_velocity_goes_straight():
    start = torch.tensor([[0.0, 0.0], [1.0, -1.0]])
    passed = experiments.follow(lambda x, t: torch.ones_like(x), start, 4)
    assert passed.shape == (5, 2, 2)
    assert_close(passed[:, 0, 0], torch.linspace(0, 1, 5))
    assert_close(passed[-1], start + 1)


def test_images_end_between_0_and_1():
    ended = experiments.follow_images(lambda x, t: torch.full_like(x, 9.0), torch.zeros(2, 1, 3, 3), 2)
    assert ended.equal(torch.ones(2, 1, 3, 3))


def test_on_the_straight_path_the_best_velocity_is_that_of_the_package():
    points, x, t = experiments.make_points(50), torch.randn(9, 2), torch.full((9,), 0.4)
    got = experiments.optimal_velocity_on("straight", x, t, points)
    assert_close(got, optimal_velocity(x, t, points), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("path", experiments.PATHS)
def test_on_each_path_the_best_velocity_is_the_mean_of_simulated_pairs(path):
    """At a point x and a time t, over pairs (noise, image) that pass near x."""
    torch.manual_seed(0)
    images, t = torch.tensor([[-1.0], [1.5]]), 0.6
    (a, b), (a_slope, b_slope) = (each(t) for each in experiments.PATHS[path])
    image = images[torch.randint(2, (2_000_000,)), 0]
    noise = torch.randn(2_000_000)
    for x in (-0.2, 0.6):
        near = (a * noise + b * image - x).abs() < 0.02
        velocities = (a_slope * noise + b_slope * image)[near]
        exact = experiments.optimal_velocity_on(path, torch.tensor([[x]]), torch.tensor([t]), images)
        assert abs(velocities.mean() - exact.item()) < 5 * velocities.std() / near.sum() ** 0.5 + 0.01


def test_the_slopes_are_the_derivatives_of_the_weights():
    for weights, slopes in experiments.PATHS.values():
        for t in (0.1, 0.5, 0.9):
            after, before = weights(t + 1e-5), weights(t - 1e-5)
            numeric = [(a - b) / 2e-5 for a, b in zip(after, before, strict=True)]
            assert numeric == pytest.approx(list(slopes(t)), abs=1e-4)


def test_the_rivals_of_the_digits_draw_digits():
    images, labels = data.digits("train")
    rivals = experiments.make_rivals(images, labels, quick=True)
    assert (
        set(rivals.seconds) == set(rivals.parameters) == {"GAN", "VAE", "GPT", "flow trained without classes"}
    )
    torch.manual_seed(0)
    for name, draw in rivals.draw.items():
        drawn = draw(20)
        assert drawn.shape == (20, 1, 8, 8), name
        assert 0 <= drawn.min() and drawn.max() <= 1, name
        assert (drawn - images.mean(0)).square().mean() < 0.2, name  # noise would have more
    assert (
        torch.cdist(rivals.draw["other real images"](5).flatten(1), images.flatten(1)).min(1).values.max()
        == 0
    )


def test_a_flow_goes_on_from_its_checkpoint(tmp_path):
    images, labels = data.digits("train")
    few = {"epochs": 1, "widths": (8, 16), "warmup": 1}
    once, history = experiments.train_flow(images[:128], labels[:128], **few)
    kept, _ = experiments.train_flow(images[:128], labels[:128], **few, checkpoint=tmp_path / "a.safetensors")
    again, resumed = experiments.train_flow(
        images[:128], labels[:128], **few, checkpoint=tmp_path / "a.safetensors"
    )
    assert len(history.losses) == 2 == len(resumed.losses) and not once.training
    for name, weight in once.state_dict().items():
        assert kept.state_dict()[name].equal(weight) and again.state_dict()[name].equal(weight)


@pytest.mark.parametrize("train", ["train_gan", "train_vae", "train_gpt"])
def test_each_rival_can_be_trained(train):
    images, labels = data.digits("train")
    options = {
        "train_gan": {"images": images[:64], "steps": 2, "latent": 4, "width": 4, "lr": 1e-3},
        "train_vae": {"images": images[:704], "levels": 17, "epochs": 1, "width": 4},
        "train_gpt": {"images": images[:832], "labels": labels[:832], "levels": 17, "epochs": 2},
    }
    net = getattr(experiments, train)(**options[train])
    assert not net.training and all(weight.isfinite().all() for weight in net.parameters())
