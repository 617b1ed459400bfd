"""The optimiser that keeps a mean of the weights, and the trainings that use it."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vlmbook.data import photo
from vlmbook.editing import AveragingAdam, SubPixelNetwork, train_upscaler


def quadratic_steps(optimizer, weight, steps):
    """-> list of the weight after each step towards 0."""
    seen = []
    for _ in range(steps):
        weight.grad = weight.detach().clone()
        optimizer.step()
        seen.append(weight.detach().clone())
    return seen


def test_its_steps_are_adams_and_its_mean_that_of_a_loop():
    start = torch.tensor([1.0, -2.0, 0.5])
    ours, plain = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    averaging = AveragingAdam([ours], lr=0.1, average=0.3)
    seen = quadratic_steps(averaging, ours, 12)
    adams = quadratic_steps(torch.optim.Adam([plain], lr=0.1), plain, 12)
    assert all(torch.equal(a, b) for a, b in zip(seen, adams, strict=True))
    mean = 0
    for step, weight in enumerate(seen, start=1):
        share = min(0.3, (step - 1) / (step + 9))
        mean = share * mean + (1 - share) * weight
    averaging.copy_mean()
    assert_close(ours.detach(), mean)
    assert not torch.allclose(mean, seen[-1])


def test_without_an_average_it_is_the_last_weight():
    weight = nn.Parameter(torch.tensor([1.0, 3.0]))
    optimizer = AveragingAdam([weight], lr=0.1)
    last = quadratic_steps(optimizer, weight, 5)[-1]
    optimizer.copy_mean()
    assert torch.equal(weight.detach(), last)


def test_the_mean_stands_in_the_state_that_a_checkpoint_holds():
    weights = [nn.Parameter(torch.tensor([1.0, 3.0])) for _ in range(2)]
    first, second = (AveragingAdam([weight], lr=0.1, average=0.9) for weight in weights)
    quadratic_steps(first, weights[0], 6)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    with torch.no_grad():
        weights[1].copy_(weights[0])
    for optimizer, weight in zip((first, second), weights, strict=True):
        quadratic_steps(optimizer, weight, 3)
        optimizer.copy_mean()
    assert torch.equal(*weights)


@pytest.mark.parametrize("average", [1.0, -0.1, 2])
def test_an_average_outside_0_and_1_is_refused(average):
    with pytest.raises(ValueError, match="average wants"):
        AveragingAdam([nn.Parameter(torch.ones(2))], average=average)


def test_a_stopped_training_goes_on_with_its_mean(tmp_path, monkeypatch):
    """Halfway through it is stopped by what a full disk or Ctrl-C would do; the result is the same."""
    options = {"size": 8, "count": 48, "epochs": 2, "average": 0.7, "precision": None, "progress": False}
    images = [photo("cat")]

    def make():
        torch.manual_seed(0)
        return SubPixelNetwork(2, width=4, depth=1)

    whole, history = train_upscaler(images, 2, network=make(), **options)
    last, _ = train_upscaler(images, 2, network=make(), **(options | {"average": 0.0}))
    assert not torch.equal(whole.first.weight, last.first.weight)

    saved, steps, step = tmp_path / "run", [], AveragingAdam.step

    def stop_at_the_fourth(optimizer, closure=None):
        steps.append(optimizer)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return step(optimizer, closure)

    monkeypatch.setattr("vlmbook.editing.training.EVERY", 1)
    monkeypatch.setattr(AveragingAdam, "step", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        train_upscaler(images, 2, network=make(), checkpoint=saved, **options)
    monkeypatch.setattr(AveragingAdam, "step", step)
    again, gone_on = train_upscaler(images, 2, network=make(), checkpoint=saved, **options)
    assert len(steps) == 4 and len(gone_on.losses) == len(history.losses) == 6
    for name, tensor in whole.state_dict().items():
        assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)
    with pytest.raises(ValueError, match="average"):
        train_upscaler(images, 2, network=make(), checkpoint=saved, **(options | {"average": 0.5}))
