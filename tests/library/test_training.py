"""`fit`: it learns, goes on after a kill as if nothing had happened, and takes no checkpoint that it did not
write.
"""

import json
import math
import os
import pickle
import random
import re
import runpy
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.testing import assert_close
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tests.support.files import GREYS, RGB, save_image
from vlmbook.data import class_folders
from vlmbook.training.checkpoint import History, read_checkpoint, write_checkpoint
from vlmbook.training.loop import batches, fit, learning_rate

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups as POSIX has them")


class Tied(nn.Module):
    """Two layers of one weight, with BatchNorm's buffers and dropout: all that a checkpoint has to hold."""

    def __init__(self, dropout=0.3):
        super().__init__()
        self.first, self.norm, self.dropout, self.last = (
            nn.Linear(6, 6),
            nn.BatchNorm1d(6),
            nn.Dropout(dropout),
            nn.Linear(6, 6),
        )
        self.last.weight = self.first.weight

    def forward(self, x):
        return self.last(self.dropout(self.norm(self.first(x)).relu()))


def seeded(make=Tied, seed=0):
    torch.manual_seed(seed)
    return make()


def problem(samples=70):
    x = torch.randn(samples, 6, generator=torch.Generator().manual_seed(1))
    return x, x.argmax(1)


HOOKS = []  # what the loss calls first; a global name, so that the loss stays the same one


def loss_fn(model, x, y):
    for hook in HOOKS:
        hook()
    return F.cross_entropy(model(x), y)


@contextmanager
def hooked(hook):
    HOOKS.append(hook)
    try:
        yield
    finally:
        HOOKS.clear()


@contextmanager
def crash_at(stop):
    """The loss raises at that call."""
    calls = iter(range(stop))

    def crash():
        if next(calls, None) is None:
            raise Crash

    with hooked(crash), pytest.raises(Crash):
        yield


def train(model, data=None, **options):
    data = problem() if data is None else data
    options = {"loss_fn": loss_fn, "epochs": 3, "batch_size": 16, "lr": 0.01, "progress": False} | options
    return fit(model, data, **options)


def assert_same(ours, theirs):
    """Bit for bit."""
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


class Crash(Exception):
    pass


# --- the loop -----------------------------------------------------------------------------------------------


def test_it_learns():
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 6)))
    history = train(model, epochs=40, lr=0.03)
    assert len(history.losses) == len(history.lrs) == 40 * 5
    assert history.losses[0] > 1.5 and np.mean(history.losses[-5:]) < 0.1
    assert 0 < history.seconds < 60


@pytest.mark.filterwarnings("ignore:The epoch parameter in")  # torch 2.6 warns within its own SequentialLR
def test_it_does_what_a_plain_loop_does():
    ours, theirs = seeded(nn.Sequential().append(nn.Linear(6, 6)).cpu), None
    theirs = deepcopy(ours)
    history = train(ours, lr=0.02, warmup=3, weight_decay=0.1, clip=0.5, seed=5)
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.02, weight_decay=0.1)
    schedule = SequentialLR(
        optimizer,
        [LinearLR(optimizer, 1 / 4, total_iters=3), CosineAnnealingLR(optimizer, 12)],
        milestones=[3],
    )
    x, y = problem()
    order, losses = torch.Generator().manual_seed(5), []
    for _ in range(3):
        for batch in torch.randperm(70, generator=order).split(16):
            loss = loss_fn(theirs, x[batch], y[batch])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    assert_close(history.losses, losses, rtol=1e-6, atol=1e-6)
    assert_close(dict(ours.named_parameters()), dict(theirs.named_parameters()), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step()`")
@pytest.mark.filterwarnings("ignore:The epoch parameter in")  # torch 2.6 warns within its own SequentialLR
@given(st.integers(2, 50), st.data())
def test_the_learning_rate_is_that_of_torch(steps, data):
    warmup = data.draw(st.integers(0, steps - 1))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    cosine = CosineAnnealingLR(optimizer, steps - warmup)
    schedule = (
        SequentialLR(
            optimizer,
            [LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup), cosine],
            milestones=[warmup],
        )
        if warmup
        else cosine
    )
    for step in range(steps):
        assert learning_rate(step, steps, 0.3, warmup) == pytest.approx(
            optimizer.param_groups[0]["lr"], abs=1e-9
        )
        optimizer.step()
        schedule.step()


def test_clipping_bounds_the_norm_of_all_gradients_together():
    def longest_step(clip):
        model, sgd = seeded(), partial(torch.optim.SGD, momentum=0)
        before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        train(model, epochs=1, batch_size=70, lr=1.0, clip=clip, optimizer=sgd)
        return (torch.cat([p.detach().flatten() for p in model.parameters()]) - before).norm().item()

    assert longest_step(0.01) == pytest.approx(0.01, rel=1e-3)
    assert longest_step(None) > 0.1


def test_evaluation_sees_the_bare_model_in_eval_mode_each_epoch():
    model, seen = seeded(), []

    def evaluate(given):
        seen.append((given is model, given.training, given.dropout.training, torch.is_grad_enabled()))
        return {"count": torch.tensor(len(seen)), "half": 0.5}

    history = train(model, evaluate=evaluate)
    assert seen == [(True, False, False, False)] * 3
    assert history.evaluations == [{"count": float(n), "half": 0.5} for n in (1, 2, 3)]


def test_a_dataset_and_a_tuple_of_tensors_give_the_same():
    tuples, datasets = seeded(), seeded()
    one = train(tuples)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    other = train(seeded(), TensorDataset(*problem()))
    assert other.losses == one.losses
    assert not torch.equal(state, torch.get_rng_state())  # dropout drew, the loader did not
    workers = train(datasets := seeded(), TensorDataset(*problem()), workers=1)
    assert workers.losses == one.losses
    assert_same(datasets.state_dict(), tuples.state_dict())


def test_items_that_are_no_tuples_come_as_one_argument():
    images = list(torch.randn(10, 6))
    history = train(
        seeded(), images_only := ListDataset(images), loss_fn=lambda model, x: model(x).square().mean()
    )
    assert len(images_only) == 10 and len(history.losses) == 3


class ListDataset(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_only_the_private_generator_shuffles():
    ours, other = (train(seeded(partial(Tied, dropout=0.0)), seed=seed).losses for seed in (0, 1))
    assert ours != other
    torch.manual_seed(7)
    before = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]  # noqa: NPY002
    train(model := Tied(dropout=0.0))
    del model
    torch.manual_seed(7)
    assert before == [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]  # noqa: NPY002


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 5), st.integers(0, 20))
def test_the_processes_share_each_batch(samples, batch_size, processes, start):
    data = (torch.arange(samples),)
    whole = list(batches(data, batch_size, 3, seed=4))
    assert [
        sorted(
            torch.cat(
                [
                    b
                    for step, (b,), _ in whole
                    if epoch * len(whole) // 3 <= step < (epoch + 1) * len(whole) // 3
                ]
            ).tolist()
        )
        for epoch in range(3)
    ] == [list(range(samples))] * 3
    parts = [
        list(batches(data, batch_size, 3, seed=4, start=start, rank=rank, processes=processes))
        for rank in range(processes)
    ]
    for (step, (batch,), share), *shares in zip(whole[start:], *parts, strict=True):
        assert share == 1 and {s for s, _, _ in shares} == {step}
        counted = torch.cat([part for _, (part,), share in shares if share])
        assert sorted(counted.tolist()) == sorted(batch.tolist())
        mean = sum(part.double().mean() * share for _, (part,), share in shares) / processes
        assert mean.item() == pytest.approx(batch.double().mean().item())


def test_the_model_comes_back_as_it_came():
    model = seeded()
    model.norm.eval()
    state, names = {name: m.training for name, m in model.named_modules()}, set(vars(model))
    train(model, precision=None)
    assert {name: m.training for name, m in model.named_modules()} == state
    assert set(vars(model)) == names
    assert all(p.grad is None for p in model.parameters())
    with crash_at(2):
        train(model)
    assert {name: m.training for name, m in model.named_modules()} == state


# --- what it refuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"data": "digits"}, TypeError, "got 'digits'"),
        (
            {"data": torch.zeros(3, 6)},
            TypeError,
            "tuple of tensors or a Dataset with a length, got a torch.float32 tensor",
        ),
        (
            {"data": (torch.zeros(3, 6), [1, 2, 3])},
            TypeError,
            r"such as \(images, labels\), got \(Tensor, list\)",
        ),
        ({"data": (torch.zeros(3, 6), torch.zeros(4))}, ValueError, "one length, got 3 and 4"),
        ({"data": (torch.zeros(0, 6), torch.zeros(0))}, ValueError, "got 0 samples"),
        ({"data": TensorDataset(torch.zeros(0, 6))}, ValueError, "got 0 samples"),
        (
            {"data": type("Stream", (IterableDataset,), {"__iter__": None})()},
            TypeError,
            "with a length, got an object of type Stream",
        ),
        ({"model": 3}, TypeError, "model wants a torch.nn.Module, got 3"),
        ({"model": nn.ReLU()}, ValueError, "model wants parameters to train"),
        ({"loss_fn": 3}, TypeError, "loss_fn wants a function, got 3"),
        ({"evaluate": 3}, TypeError, "evaluate wants a function, got 3"),
        ({"evaluate": lambda model: 3}, TypeError, "return a dict of numbers, got 3"),
        (
            {"loss_fn": lambda model, x, y: model(x)},
            TypeError,
            r"a scalar tensor with a gradient, got a torch.float32 tensor of shape \(16",
        ),
        ({"loss_fn": lambda model, x, y: 3.0}, TypeError, "got 3.0"),
        ({"epochs": 0}, ValueError, "epochs wants a whole number from 1 to .*, got 0"),
        ({"epochs": 1.5}, TypeError, "epochs wants a whole number .*, got 1.5"),
        ({"batch_size": 0}, ValueError, "batch_size wants a whole number .*, got 0"),
        ({"warmup": 15}, ValueError, "warmup wants a whole number from 0 to 14, got 15"),
        ({"warmup": -1}, ValueError, "warmup wants .*, got -1"),
        ({"lr": 0.0}, ValueError, "lr wants a finite number above 0 and of at most 1e.06, got 0"),
        ({"lr": float("nan")}, ValueError, "lr wants a finite number above 0 and of at most 1e.06, got nan"),
        ({"lr": "0.1"}, TypeError, "lr wants a finite number .*, got '0.1'"),
        ({"lr": 1e9}, ValueError, "lr wants a finite number .*, got 1e.09"),
        ({"weight_decay": None}, TypeError, "weight_decay wants a finite number"),
        ({"clip": "1"}, TypeError, "clip wants a finite number above 0, got '1'"),
        ({"epochs": True}, TypeError, "epochs wants a whole number .*, got True"),
        ({"resume": "yes"}, ValueError, "resume wants False or True, got 'yes'"),
        ({"workers": -1}, ValueError, "workers wants a whole number from 0"),
        (
            {"data": DataLoader(TensorDataset(torch.zeros(3, 6)))},
            TypeError,
            "got a DataLoader: pass its dataset",
        ),
        ({"data": (torch.zeros(3, 6, device="meta"),)}, TypeError, "data wants a tuple of tensors"),
        ({"data": (torch.zeros(3, 6).to_sparse(),)}, TypeError, "data wants a tuple of tensors"),
        ({"data": np.zeros((3, 6))}, TypeError, "data wants a tuple of tensors or a Dataset"),
        (
            {"evaluate": lambda model: {"a": "b"}},
            TypeError,
            "evaluate wants to return numbers, got 'b' as 'a'",
        ),
        ({"checkpoint": ""}, ValueError, "checkpoint wants a path, got ''"),
        ({"checkpoint": 3}, TypeError, "checkpoint wants a path, a str or a Path, got"),
        ({"checkpoint": "newdir/"}, IsADirectoryError, "checkpoint wants a file, got the folder 'newdir/'"),
        ({"checkpoint": "/"}, IsADirectoryError, "checkpoint wants a file, got the folder '/'"),
        (
            {"checkpoint": "~nosuchuser/c"},
            ValueError,
            "checkpoint wants a path, got '~nosuchuser/c', whose user",
        ),
        ({"clip": -1}, ValueError, "clip wants a finite number above 0"),
        ({"seed": -1}, ValueError, "seed wants a whole number from 0"),
        ({"precision": "fp16"}, ValueError, "precision wants None or 'bf16', got 'fp16'"),
        ({"resume": True}, ValueError, "checkpoint wants a file"),
        ({"checkpoint_every": 3}, ValueError, "checkpoint wants a file"),
        ({"checkpoint_every": 0, "checkpoint": "x"}, ValueError, "checkpoint_every wants .*, got 0"),
    ],
)
def test_an_argument_it_cannot_use_is_named(options, error, says):
    with pytest.raises(error, match=says):
        train(options.pop("model", seeded()), **options)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_it_does_harm(tmp_path, bad):
    calls = iter(range(100))

    def exploding(model, *batch):
        return loss_fn(model, *batch) * (bad if next(calls) == 7 else 1)

    model, path = seeded(), tmp_path / "c.safetensors"
    with pytest.raises(FloatingPointError, match=f"the loss is {bad} at step 7"):
        train(model, loss_fn=exploding, checkpoint=path, checkpoint_every=1)
    saved, notes = read_checkpoint(path)
    assert notes["step"] == 7
    assert_same(
        {n: p.data for n, p in model.named_parameters()},
        {n: saved[f"model.{n}"] for n, _ in model.named_parameters()},
    )


def infinite_gradient(model):
    """A finite loss, whose gradient is not."""
    return (model.last.bias - model.last.bias.detach()).abs().sum().sqrt()


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_not_finite_stops_before_the_step(steps, clip):
    """Also in the last step, of which no loss would tell."""
    model = seeded()
    before = deepcopy(model.state_dict())

    def exploding(model, x, y):
        return loss_fn(model, x, y) + infinite_gradient(model)

    says = r"the gradient of last\.bias is not finite at step 0 \(lr .*\); the model is as it was before that"
    with pytest.raises(FloatingPointError, match=says):
        train(model, loss_fn=exploding, epochs=steps, batch_size=70, clip=clip)
    assert_same(model.state_dict(), before)
    assert all(p.grad is None for p in model.parameters())


def test_what_is_not_finite_replaces_no_checkpoint(tmp_path):
    calls = iter(range(100))

    def exploding(model, *batch):
        if next(calls) == 7:
            return infinite_gradient(model) + loss_fn(model, *batch)
        return loss_fn(model, *batch)

    path, model = tmp_path / "c.safetensors", seeded()
    with pytest.raises(FloatingPointError, match=r"the gradient of last.bias is not finite at step 7"):
        train(model, loss_fn=exploding, checkpoint=path, checkpoint_every=1)
    saved, notes = read_checkpoint(path)
    assert notes["step"] == 7
    assert_same(
        model.state_dict(),
        {
            name: saved[f"model.{'first.weight' if name == 'last.weight' else name}"]
            for name in model.state_dict()
        },
    )


class Exploding(torch.optim.SGD):
    """Its step leaves what no gradient tells of."""

    def step(self, closure=None):
        with torch.no_grad():
            for parameter in self.param_groups[0]["params"]:
                parameter.fill_(math.inf)


def test_weights_that_a_step_made_infinite_are_told_even_at_the_end(tmp_path):
    with pytest.raises(FloatingPointError, match=r"first\.weight is not finite after step 0"):
        train(seeded(), epochs=1, batch_size=70, optimizer=Exploding)
    with pytest.raises(FloatingPointError, match="no checkpoint was written of it"):
        train(seeded(), epochs=1, batch_size=70, optimizer=Exploding, checkpoint=tmp_path / "c")
    assert not (tmp_path / "c").exists()
    says = "the loss is nan at step 1 .*; first.weight has not been finite since before that step"
    with pytest.raises(FloatingPointError, match=says):
        train(seeded(), optimizer=Exploding)


def test_a_buffer_that_became_infinite_is_not_written(tmp_path):
    x, y = problem()
    model = seeded(lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 6)))
    calls = iter(range(100))

    def exploding(model, x, y):
        if next(calls) == 6:
            model[0].running_var.fill_(math.inf)  # as the variance of 1e20 does
        return loss_fn(model, x, y)

    with pytest.raises(FloatingPointError, match=r"0\.running_var is not finite after step 9; no checkpoint"):
        train(model, (x, y), loss_fn=exploding, checkpoint=tmp_path / "c")
    assert read_checkpoint(tmp_path / "c")[1]["step"] == 5


def test_a_mask_of_minus_infinity_is_no_fault(tmp_path):
    model = seeded()
    model.register_buffer("mask", torch.full((3, 3), -math.inf).triu(1))
    train(model, checkpoint=tmp_path / "c")
    train(again := deepcopy(model), checkpoint=tmp_path / "c", resume=True)
    assert_same(again.state_dict(), model.state_dict())


def test_a_loss_that_is_not_finite_leaves_the_buffers_too():
    model = seeded()
    before = deepcopy(model.state_dict())
    x, y = problem()
    with pytest.raises(FloatingPointError, match="the model is as it was before that step"):
        train(model, (x * math.nan, y))
    assert_same(model.state_dict(), before)


# --- modes and batches --------------------------------------------------------------------------------------


def test_what_is_in_eval_mode_stays_there():
    """A frozen BatchNorm does not drift."""
    model = seeded()
    model.norm.eval()
    before = deepcopy(model.norm.state_dict())
    seen = []
    with hooked(lambda: seen.append([module.training for module in model.modules()])):
        train(model, evaluate=lambda model: {"norm": float(model.norm.training)})
    assert seen == [[True, True, False, True, True]] * 15
    after = model.norm.state_dict()
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(after[name], before[name])
    assert not torch.equal(after["weight"], before["weight"])


def test_a_model_in_eval_mode_is_trained_in_it_and_it_is_told(capsys):
    model = seeded().eval()
    before = model.norm.running_mean.clone()
    train(model)
    assert torch.equal(model.norm.running_mean, before) and not any(m.training for m in model.modules())
    assert "fit: the model is in eval mode and stays in it; model.train() puts" in capsys.readouterr().out


@pytest.mark.parametrize(("samples", "batch_size"), [(65, 16), (3, 1), (1, 4)])
def test_a_last_batch_of_one_is_refused_before_the_first_step(samples, batch_size):
    model = seeded()
    before = deepcopy(model.state_dict())
    with pytest.raises(
        ValueError, match="batch_size wants to leave no batch of one sample, got one: the BatchNorm 'norm'"
    ):
        train(model, problem(samples), batch_size=batch_size)
    assert_same(model.state_dict(), before)
    assert not model.norm._forward_pre_hooks


def test_a_last_batch_of_one_is_right_where_batchnorm_has_more_values():
    convolution = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 16, 6))
    data = torch.randn(17, 3, 6, 6), torch.arange(17) % 6
    assert len(train(convolution, data, epochs=1).losses) == 2
    frozen = seeded()
    frozen.norm.eval()
    assert len(train(frozen, problem(65), epochs=1).losses) == 5
    patches = nn.Sequential(
        nn.Flatten(0, 1), nn.BatchNorm1d(6), nn.Unflatten(0, (-1, 5)), nn.Flatten(), nn.Linear(30, 6)
    )
    assert len(train(patches, (torch.randn(17, 5, 6), torch.arange(17) % 6), epochs=1).losses) == 2


@pytest.mark.parametrize(
    "lazy",
    [lambda: nn.LazyLinear(6), lambda: nn.Sequential(nn.Linear(6, 6), nn.LazyBatchNorm1d(affine=False))],
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_lazy_layers_are_refused_at_the_start(lazy):
    with pytest.raises(ValueError, match="model wants layers that know their sizes, got a lazy one"):
        train(lazy())
    model = lazy()
    model(torch.randn(3, 6))
    train(model, epochs=1)


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path):
    options = {"epochs": np.int64(2), "batch_size": torch.tensor(16), "lr": np.float32(0.01)}
    options |= {"weight_decay": torch.tensor(0.0), "warmup": np.int32(1), "clip": np.float64(2.0)}
    options |= {"seed": np.uint8(3), "checkpoint_every": torch.tensor(3)}
    train(one := seeded(), checkpoint=tmp_path / "c", **options)
    plain = {name: value.item() for name, value in options.items()}
    train(two := seeded(seed=4), checkpoint=tmp_path / "c", resume=True, **plain)
    assert_same(one.state_dict(), two.state_dict())


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_of_other_shapes_are_named(tmp_path, workers):
    for name, pixels in (("a/1.png", RGB), ("a/2.png", RGB[:4]), ("b/1.png", GREYS)):
        save_image(tmp_path / name, pixels)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 10, 2))
    with pytest.raises(
        ValueError, match=r"data wants samples of one shape, got \(.*\), int of .*\.png"
    ) as refusal:
        train(net, class_folders(tmp_path), workers=workers)
    assert "\n" not in str(refusal.value) and "size=… and channels=…" in str(refusal.value)
    history = train(net, class_folders(tmp_path, channels=3, size=(6, 10)), workers=workers)
    assert len(history.losses) == 3


def test_samples_that_are_no_tensors_are_named():
    with pytest.raises(
        ValueError, match=r"data wants samples of tensors and numbers, got object of sample [0-9]"
    ):
        train(seeded(), ListDataset([object() for _ in range(4)]))


def test_every_argument_of_batches_is_checked_at_once():
    data = problem()
    wrong = {"batch_size": 0, "epochs": "3", "seed": -1, "start": 2.5, "rank": 1, "processes": 0}
    wrong |= {"device": "nowhere", "workers": -1, "data": 3}
    for name, value in wrong.items():
        with pytest.raises((TypeError, ValueError), match=f"{name} wants "):
            batches(**({"data": data, "batch_size": 16, "epochs": 1, "seed": 0} | {name: value}))


# --- going on -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [0, 1, 4, 5, 6, 14])
@pytest.mark.parametrize("every", [1, 4, None])
def test_it_goes_on_as_if_nothing_had_happened(tmp_path, capsys, stop, every):
    options = {
        "checkpoint_every": every,
        "clip": 1.0,
        "warmup": 2,
        "resume": True,
        "evaluate": lambda model: {
            "draw": torch.rand(()),
            "python": random.random(),
            "numpy": np.random.rand(),  # noqa: NPY002
        },
    }
    random.seed(3), np.random.seed(3)  # noqa: NPY002
    whole = train(one := seeded(), checkpoint=tmp_path / "one", **options)
    random.seed(3), np.random.seed(3)  # noqa: NPY002
    with crash_at(stop):
        train(seeded(), checkpoint=tmp_path / "two", **options)
    capsys.readouterr()
    written = stop // (every or 5) * (every or 5)
    if written:
        random.seed(8), np.random.seed(8)  # noqa: NPY002
    else:
        random.seed(3), np.random.seed(3)  # noqa: NPY002
    history = train(two := seeded(seed=9 if written else 0), checkpoint=tmp_path / "two", **options)
    assert (f"after step {written}" if written else "starts at step 0") in capsys.readouterr().out
    assert_same(one.state_dict(), two.state_dict())
    assert (history.losses, history.lrs, history.evaluations) == (whole.losses, whole.lrs, whole.evaluations)
    (ours, our_notes), (theirs, their_notes) = (
        read_checkpoint(tmp_path / "one"),
        read_checkpoint(tmp_path / "two"),
    )
    assert_same(ours, theirs)
    assert {**our_notes, "seconds": 0} == {**their_notes, "seconds": 0}


@pytest.mark.parametrize(
    "optimizer",
    [
        partial(torch.optim.SGD, momentum=0.9),
        torch.optim.SGD,
        torch.optim.Adagrad,
        torch.optim.RMSprop,
        partial(torch.optim.Adam, amsgrad=True),
    ],
)
def test_any_optimizer_goes_on(tmp_path, optimizer):
    options = {"optimizer": optimizer, "resume": True, "checkpoint_every": 1}
    train(one := seeded(), checkpoint=tmp_path / "one", **options)
    with crash_at(6):
        train(seeded(), checkpoint=tmp_path / "two", **options)
    train(two := seeded(), checkpoint=tmp_path / "two", **options)
    assert_same(one.state_dict(), two.state_dict())


def test_a_dataset_goes_on(tmp_path):
    data = NoisyDataset()
    train(one := seeded(), data)
    with crash_at(7):
        train(seeded(), data, checkpoint=tmp_path / "c", checkpoint_every=1)
    train(two := seeded(seed=5), data, checkpoint=tmp_path / "c", resume=True)
    assert_same(one.state_dict(), two.state_dict())


class NoisyDataset(ListDataset):
    """Augments as it reads, from the global generator."""

    def __init__(self):
        super().__init__(list(zip(*problem(), strict=True)))

    def __getitem__(self, index):
        x, y = self.items[index]
        return x + torch.rand(6), y


def test_channels_last_goes_on(tmp_path):
    def net():
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(32, 6)
        ).to(memory_format=torch.channels_last)

    x, y = torch.randn(40, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 6
    train(one := seeded(net), (x, y))
    with crash_at(4):
        train(seeded(net), (x, y), checkpoint=tmp_path / "c", checkpoint_every=1)
    train(two := seeded(net, 5), (x, y), checkpoint=tmp_path / "c", resume=True)
    assert_same(one.state_dict(), two.state_dict())
    assert two[2].weight.is_contiguous(memory_format=torch.channels_last)


def test_moments_lie_in_memory_as_their_weights_do(tmp_path):
    made = []

    def optimizer(*parameters, **options):
        made.append(torch.optim.AdamW(*parameters, **options))
        return made[-1]

    x, y = torch.randn(8, 3, 6, 6), torch.arange(8) % 4
    for resume in (False, True):  # the second time a finished run: only loaded
        net = nn.Sequential(nn.Conv2d(3, 4, 6), nn.Flatten()).to(memory_format=torch.channels_last)
        train(net, (x, y), checkpoint=tmp_path / "c", resume=resume, optimizer=optimizer)
        state = made[-1].state[net[0].weight]
        assert (
            net[0].weight.stride()
            == state["exp_avg"].stride()
            == state["exp_avg_sq"].stride()
            == (108, 1, 18, 3)
        )
    assert torch.equal(state["exp_avg"], made[0].state[made[0].param_groups[0]["params"][0]]["exp_avg"])
    tensors, _ = read_checkpoint(tmp_path / "c")
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    assert torch.equal(tensors["model.0.weight"], net[0].weight)


def test_tied_weights_are_kept_once_and_stay_tied(tmp_path):
    model = seeded()
    train(model, checkpoint=tmp_path / "c")
    tensors, _ = read_checkpoint(tmp_path / "c")
    names = {name.removeprefix("model.") for name in tensors if name.startswith("model.")}
    assert names == {
        "first.weight",
        "first.bias",
        "last.bias",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
    }
    train(again := seeded(seed=4), checkpoint=tmp_path / "c", resume=True)
    assert again.last.weight is again.first.weight
    assert_same(again.state_dict(), model.state_dict())


def test_tensors_that_share_memory_are_kept_each(tmp_path):
    model = seeded()
    model.register_buffer("head", model.first.weight.detach()[:2])  # safetensors refuses such
    train(model, checkpoint=tmp_path / "c")
    tensors, _ = read_checkpoint(tmp_path / "c")
    assert torch.equal(tensors["model.head"], tensors["model.first.weight"][:2])


def test_a_finished_run_is_only_loaded(tmp_path):
    whole = train(one := seeded(), checkpoint=tmp_path / "c")
    with hooked(lambda: pytest.fail("it went on")):
        history = train(two := seeded(seed=4), checkpoint=tmp_path / "c", resume=True)
    assert history == whole
    assert_same(one.state_dict(), two.state_dict())


def test_a_checkpoint_is_not_overwritten_unasked(tmp_path):
    train(seeded(), checkpoint=tmp_path / "c")
    before = (tmp_path / "c").read_bytes()
    with pytest.raises(FileExistsError, match="c exists; go on from it with resume=True, or delete it"):
        train(seeded(), checkpoint=tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == before


def test_nothing_is_pickled(tmp_path, monkeypatch):
    for name in ("dump", "dumps", "load", "loads"):
        monkeypatch.setattr(pickle, name, None)
    monkeypatch.setattr(torch, "save", None)
    monkeypatch.setattr(torch, "load", None)
    train(seeded(), checkpoint=tmp_path / "folder" / "c")
    train(seeded(), checkpoint=tmp_path / "folder" / "c", resume=True)
    assert os.listdir(tmp_path / "folder") == ["c"]


def test_two_fits_do_not_write_one_checkpoint(tmp_path):
    refusals = []

    def second():
        with pytest.raises(BlockingIOError, match="c is being written by another process; give each its own"):
            train(seeded(), checkpoint=tmp_path / "c", resume=True)
        refusals.append(True)

    calls = iter(range(100))
    with hooked(lambda: next(calls) or (HOOKS.clear(), second())):
        train(seeded(), checkpoint=tmp_path / "c")
    assert refusals == [True] and os.listdir(tmp_path) == ["c"]
    train(seeded(), checkpoint=tmp_path / "c", resume=True)


def test_a_link_stays_a_link_and_other_files_stay(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "c").symlink_to(tmp_path / "far" / "real")
    (tmp_path / "c.partial").write_text("the reader's own")
    train(one := seeded(), checkpoint=tmp_path / "c")
    assert (tmp_path / "c").is_symlink() and os.listdir(tmp_path / "far") == ["real"]
    assert (tmp_path / "c.partial").read_text() == "the reader's own"
    train(two := seeded(seed=4), checkpoint=tmp_path / "c", resume=True)
    assert_same(one.state_dict(), two.state_dict())
    assert (tmp_path / "c").is_symlink() and sorted(os.listdir(tmp_path)) == ["c", "c.partial", "far"]


# --- checkpoints that are refused ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "c.safetensors"
    train(seeded(), checkpoint=path)
    return path.read_bytes()


def refused(folder, contents, says, **options):
    """The file is refused in one sentence, with model, history and random state as they were."""
    (folder / "c").write_bytes(contents)
    model = options.pop("model", None) or seeded()
    before, drawn = deepcopy(model.state_dict()), torch.get_rng_state()
    with pytest.raises(ValueError, match=says) as refusal:
        train(model, checkpoint=folder / "c", resume=True, **options)
    assert str(folder / "c") in str(refusal.value) and "\n" not in str(refusal.value)
    assert_same(model.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert (folder / "c").read_bytes() == contents


BROKEN = "is damaged|its beginning is damaged"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_any_byte_changed_is_refused(tmp_path, written, place, flip):
    changed = bytearray(written)
    changed[int(place * len(written))] ^= flip
    (tmp_path / "c").write_bytes(changed)
    with pytest.raises(ValueError, match=BROKEN):
        read_checkpoint(tmp_path / "c")


def test_every_byte_of_the_header_counts(tmp_path, written):
    end = 8 + int.from_bytes(written[:8], "little")
    for place in [*range(0, end, 7), *range(10), end - 1, end, len(written) - 1]:
        changed = bytearray(written)
        changed[place] ^= 1
        (tmp_path / "c").write_bytes(changed)
        with pytest.raises(ValueError, match=BROKEN):
            read_checkpoint(tmp_path / "c")
    digest = written.index(b'"sha256":"') + len(b'"sha256":"')
    refused(
        tmp_path, written[:digest] + written[digest : digest + 64].upper() + written[digest + 64 :], BROKEN
    )


@pytest.mark.parametrize("part", [0, 1, 8, 100, 0.1, 0.5, 0.99, -1])
def test_a_part_of_a_checkpoint_is_refused(tmp_path, written, part):
    refused(tmp_path, written[: int(part * len(written)) if isinstance(part, float) else part], BROKEN)


def test_more_than_a_checkpoint_is_refused(tmp_path, written):
    refused(tmp_path, written + b"\0", "is damaged")


class Trap:
    def __reduce__(self):
        return os.mkdir, (os.environ["VLMBOOK_TRAP"],)


@pytest.mark.parametrize("disguise", ["pickle", "torch", "torch.legacy", "within"])
def test_a_pickle_in_disguise_is_never_loaded(tmp_path, written, monkeypatch, disguise):
    monkeypatch.setenv("VLMBOOK_TRAP", str(tmp_path / "trap"))
    if disguise == "pickle":
        contents = pickle.dumps(Trap())
    elif disguise == "within":
        contents = written[:200] + pickle.dumps(Trap()) + written[200:]
    else:
        torch.save(Trap(), tmp_path / "t", _use_new_zipfile_serialization=disguise == "torch")
        contents = (tmp_path / "t").read_bytes()
    refused(tmp_path, contents, BROKEN)
    assert not (tmp_path / "trap").exists()


def test_a_safetensors_file_of_others_is_refused(tmp_path):
    refused(tmp_path, safetensors.torch.save({"a": torch.zeros(3)}), "is no checkpoint of fit")
    write_checkpoint(tmp_path / "c", {"a": torch.zeros(3)}, {"format": 9})
    refused(tmp_path, (tmp_path / "c").read_bytes(), "is of format 9, this version reads 2")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: nn.Linear(6, 6), "of another model: weight is missing there and float32 \\(6, 6\\) here"),
        (lambda: Tied().double(), "first.weight is float32 \\(6, 6\\) there and float64 \\(6, 6\\) here"),
        (lambda: Tied(dropout=0.4), "of another model: the weights have the same shapes, the layers differ"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path, written, make, says):
    refused(tmp_path, written, says, model=make())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lr": 0.02}, "other settings: lr 0.01 there, 0.02 here"),
        ({"epochs": 4, "clip": 1.0}, "other settings: epochs 3 there, 4 here; clip None there, 1.0 here"),
        ({"batch_size": 8}, "batch_size 16 there, 8 here"),
        ({"seed": 1}, "seed 0 there, 1 here"),
        ({"warmup": 1}, "warmup 0 there, 1 here"),
        ({"weight_decay": 0.1}, "weight_decay 0.0 there, 0.1 here"),
        ({"data": problem(71)}, "samples 70 there, 71 here"),
        ({"optimizer": partial(torch.optim.AdamW, eps=1e-6)}, "optimizer eps 1e-08 there, 1e-06 here"),
        ({"optimizer": torch.optim.SGD}, "optimizer 'AdamW' there, 'SGD' here"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, written, options, says):
    refused(tmp_path, written, says, **options)


def other_loss(model, x, y):
    return F.cross_entropy(model(x), y, label_smoothing=0.1)


def test_a_finished_run_of_other_data_or_another_loss_is_refused(tmp_path, written):
    x, y = problem()
    changed = x.clone()
    changed[3, 4] += 1e-6
    refused(tmp_path, written, "other settings: other data$", data=(changed, y))
    refused(tmp_path, written, "other settings: other data$", data=(x, y.roll(1)))
    refused(tmp_path, written, "other settings: another loss$", loss_fn=other_loss)
    refused(
        tmp_path, written, "other settings: another loss$", loss_fn=lambda m, x, y: F.cross_entropy(m(x), y)
    )


def test_other_trained_parameters_and_modes_are_refused(tmp_path, written):
    model = seeded()
    model.norm.weight.requires_grad = False
    refused(tmp_path, written, "trained parameters: norm.weight only there", model=model)
    model = seeded()
    model.norm.eval()
    refused(tmp_path, written, "modules in eval mode: norm only here", model=model)


def test_a_loss_with_other_numbers_in_its_closure_is_another(tmp_path):
    def smoothed(share, teacher):
        return lambda m, x, y: F.cross_entropy(m(x), y, label_smoothing=share) + 0 * teacher(x).sum()

    teacher, other = nn.Linear(6, 1), nn.Linear(6, 1)
    train(seeded(), loss_fn=smoothed(0.1, teacher), checkpoint=tmp_path / "c")
    contents = (tmp_path / "c").read_bytes()
    refused(tmp_path, contents, "another loss", loss_fn=smoothed(0.2, teacher))
    refused(tmp_path, contents, "another loss", loss_fn=smoothed(0.1, other))
    train(seeded(), loss_fn=smoothed(0.1, deepcopy(teacher)), checkpoint=tmp_path / "c", resume=True)


def edited(contents, folder, edit):
    """A checkpoint with something changed, and a right digest."""
    (folder / "edited").write_bytes(contents)
    tensors, notes = read_checkpoint(folder / "edited")
    edit(tensors, notes)
    write_checkpoint(folder / "edited", tensors, notes)
    return (folder / "edited").read_bytes()


def put(name, change):
    def edit(tensors, notes):
        tensors[name] = change(tensors[name])

    return edit


def note(**changes):
    return lambda tensors, notes: notes.update(changes)


def drop(*names, listed=False):
    def edit(tensors, notes):
        for name in [*tensors]:
            if name.startswith(names):
                del tensors[name]
        if listed:
            notes["tensors"] = sorted(tensors)

    return edit


@pytest.mark.parametrize("edit", [
    note(step=10**9), note(step=-1), note(step=0), note(step=16), note(step=True), note(step="3"),
    note(step=14), note(step=None), note(settings=[]), note(layers=None), note(evaluations=[3]),
    note(evaluations=None), note(evaluations=[{"a": "b"}]), note(seconds="x"), note(seconds=-1.0),
    note(seconds=math.nan), note(tensors=[]), note(tensors=[3]), note(optimizer=[]),
    note(optimizer={"optimizer.99.step": 3}),
    note(optimizer={"optimizer.0.more": 3}), note(optimizer={"optimizer.x.step": 3}),
    note(format=3), note(format="2"),
    drop("optimizer"), drop("optimizer", listed=True), drop("optimizer.0.exp_avg_sq"), drop("history"),
    drop("optimizer.0.exp_avg_sq", listed=True), drop("optimizer.2.", listed=False), drop("random.torch"),
    drop("random.torch", listed=True), drop("random", listed=True), drop("history.lrs", listed=True),
    drop("random.numpy", listed=True), drop("model.norm"), drop("model.norm", listed=True),
    put("optimizer.0.exp_avg", lambda t: t[:3]), put("optimizer.0.exp_avg", lambda t: t.double()),
    put("optimizer.0.step", lambda t: t.long()), put("random.torch", lambda t: t[:, :100]),
    put("random.torch", lambda t: t.int()), put("random.torch", lambda t: t.clone().fill_(255)),
    put("random.torch", lambda t: t[0]), put("random.python", lambda t: t * 0.5),
    put("random.python", lambda t: -t - 1),
    put("random.python", lambda t: t[:, :9]), put("random.python", lambda t: t * math.nan),
    put("random.python", lambda t: t.fill_(1000)), put("random.numpy", lambda t: t.fill_(math.inf)),
    put("random.numpy", lambda t: t.fill_(700)), put("history.losses", lambda t: t[:3]),
    put("history.losses", lambda t: t.float()), put("model.norm.running_var", lambda t: t * math.inf),
    put("model.first.weight", lambda t: t.fill_(math.nan)),
    lambda tensors, notes: tensors.update(more=torch.zeros(1)),
])  # fmt: skip
def test_a_checkpoint_that_is_wrong_inside_changes_nothing(tmp_path, written, edit):
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    states = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    refused(
        tmp_path,
        edited(written, tmp_path, edit),
        "c is (no checkpoint to go on|of another|of a run with|of format)",
    )
    assert states == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002


@pytest.mark.parametrize("notes", [None, 3, [], "text", {}, {"format": 2}])
def test_notes_that_are_none_are_refused(tmp_path, notes):
    write_checkpoint(tmp_path / "c", {"a": torch.zeros(1)}, notes)
    refused(tmp_path, (tmp_path / "c").read_bytes(), "c is (no checkpoint to go on|of format)")


@pytest.mark.parametrize(
    "contents", ["这是一个中文文本文件，不是检查点。\n" * 9, "x", "", '{"a": 3}', "\0" * 99]
)
def test_any_other_file_is_refused_in_a_sentence(tmp_path, contents):
    for encoding in ("utf-8", "gb18030", "utf-16"):
        refused(tmp_path, contents.encode(encoding), "is no checkpoint of fit, or its beginning is damaged")


def test_a_checkpoint_takes_the_place_of_the_last_in_one_step(tmp_path, monkeypatch):
    path, kept, order = tmp_path / "c", tmp_path / "kept", []
    write_checkpoint(path, {"a": torch.zeros(3)}, 1)
    before = path.read_bytes()
    os.link(path, kept)  # the same file by another name: written into, it would change too

    def replace(new, old, *, do=os.replace):
        assert read_checkpoint(new)[1] == 2 and path.read_bytes() == before
        do(new, old)
        order.append("replaced")

    def fsync(file, *, do=os.fsync):
        do(file)
        order.append("on the disk")

    monkeypatch.setattr(os, "replace", replace), monkeypatch.setattr(os, "fsync", fsync)
    write_checkpoint(path, {"a": torch.ones(3)}, 2)
    assert order[:2] == ["on the disk", "replaced"] and read_checkpoint(path)[1] == 2
    assert kept.read_bytes() == before and sorted(os.listdir(tmp_path)) == ["c", "kept"]


def test_a_write_that_fails_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    train(seeded(), checkpoint=tmp_path / "c")
    before = (tmp_path / "c").read_bytes()

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(tmp_path / "c", {"a": torch.zeros(3)}, {})
    assert (tmp_path / "c").read_bytes() == before


# --- interruption -------------------------------------------------------------------------------------------


def interrupt_at(*at):
    """Presses Ctrl-C in those steps."""
    calls = iter(range(1000))

    def press():
        if next(calls) in at:
            signal.raise_signal(signal.SIGINT)

    return hooked(press)


def test_an_interrupt_leaves_a_usable_model_and_its_history(tmp_path, capsys):
    whole = train(one := seeded())
    model, handler = seeded(), signal.getsignal(signal.SIGINT)
    with interrupt_at(6):
        history = train(model, checkpoint=tmp_path / "c")
    assert "interrupted after 7 of 15 steps" in capsys.readouterr().out
    assert isinstance(history, History) and history.losses == whole.losses[:7]
    assert model.training and signal.getsignal(signal.SIGINT) is handler
    assert read_checkpoint(tmp_path / "c")[1]["step"] == 7
    again = train(two := seeded(seed=3), checkpoint=tmp_path / "c", resume=True)
    assert again.losses == whole.losses
    assert_same(one.state_dict(), two.state_dict())


def test_a_second_interrupt_stops_at_once(tmp_path):
    calls = []

    def impatient(model, *batch):
        calls.append(batch)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it went on")

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(seeded(), loss_fn=impatient)
    assert len(calls) == 1 and signal.getsignal(signal.SIGINT) is handler


def test_it_trains_in_a_thread_where_no_signal_arrives():
    losses = []
    thread = threading.Thread(target=lambda: losses.extend(train(seeded()).losses))
    thread.start()
    thread.join()
    assert len(losses) == 15


# --- processes of their own ---------------------------------------------------------------------------------

SCRIPT = """
import json, os, sys, time
import torch
from torch import nn
from torch.nn import functional as F
from vlmbook.training import fit
from vlmbook.training.checkpoint import state_tensors

def digest(model):
    return {name: tensor.tolist() for name, tensor in state_tensors(model).items()}

torch.manual_seed(0)
x = torch.randn(70, 6, generator=torch.Generator().manual_seed(1))
y = x.argmax(1)
"""


def script(tmp_path, body):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT + textwrap.dedent(body), encoding="utf-8")
    return path


@posix
def test_killed_at_three_moments_it_ends_where_an_uninterrupted_run_ends(tmp_path):
    path = script(
        tmp_path,
        """
        def slow_loss(model, x, y):
            print("step", flush=True)
            time.sleep(0.01)
            return F.cross_entropy(model(x), y)

        layers = nn.Linear(6, 300), nn.BatchNorm1d(300), nn.Dropout(0.5), nn.ReLU(), nn.Linear(300, 6)
        model = nn.Sequential(*layers)
        history = fit(model, (x, y), loss_fn=slow_loss, epochs=12, batch_size=16, lr=0.01, progress=False,
                      checkpoint=sys.argv[1], checkpoint_every=1, resume=True)
        with open(sys.argv[2], "w") as file:
            json.dump([history.losses, digest(model)], file)
    """,
    )

    def start(name):
        return subprocess.Popen(
            [sys.executable, path, tmp_path / name, tmp_path / f"{name}.json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    uninterrupted, moments, said = start("one"), random.Random(time.time_ns()), []
    for _ in range(3):
        run = start("two")
        said.append(run.stdout.readline())
        for _ in range(moments.randrange(2, 16)):
            run.stdout.readline()
        time.sleep(moments.uniform(0, 0.02))
        run.kill()
        run.communicate()
        assert run.returncode == -signal.SIGKILL
    last = start("two")
    out, errors = last.communicate(timeout=60)
    assert last.returncode == 0, errors
    assert uninterrupted.communicate(timeout=60) and uninterrupted.returncode == 0
    steps = [int(line.split("after step")[1]) for line in [*said[1:], out.splitlines()[0]]]
    assert "starts at step 0" in said[0] and 0 < steps[0] < steps[1] < steps[2] < 60
    assert json.loads((tmp_path / "one.json").read_text()) == json.loads((tmp_path / "two.json").read_text())


def test_the_loaders_processes_ignore_an_interrupt():
    [(_, (ignored,), _)] = batches(
        HandlerDataset([0, 1]), 2, 1, seed=0, workers=1, device=torch.device("cpu")
    )
    assert ignored.tolist() == [True, True]
    [(_, (ignored,), _)] = batches(HandlerDataset([0, 1]), 2, 1, seed=0, device=torch.device("cpu"))
    assert ignored.tolist() == [False, False]


class HandlerDataset(ListDataset):
    def __getitem__(self, index):
        return torch.tensor(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)


@posix
def test_an_interrupt_of_the_whole_group_leaves_the_loader_its_processes(tmp_path):
    """A terminal and Jupyter interrupt the processes of a DataLoader too."""
    path = script(
        tmp_path,
        """
        class Slow(torch.utils.data.TensorDataset):
            def __getitem__(self, index):
                time.sleep(0.02)      # 0.3 s a batch: it is being loaded when the interrupt comes
                return super().__getitem__(index)

        def loss_fn(model, x, y):
            print("step", flush=True)
            return F.cross_entropy(model(x), y)

        fit(nn.Linear(6, 6), Slow(x, y), loss_fn=loss_fn, epochs=9, batch_size=16, lr=0.01, workers=1,
            progress=False)
    """,
    )
    run = subprocess.Popen(
        [sys.executable, path],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout.readline() == "step\n"
    time.sleep(0.1)
    os.killpg(run.pid, signal.SIGINT)
    out, errors = run.communicate(timeout=30)
    assert run.returncode == 0, errors
    assert "fit: interrupted after 2 of 45 steps" in out and errors == ""


@posix
def test_two_processes_train_as_one_does(tmp_path):
    path = script(
        tmp_path,
        """
        import atexit
        import random
        import numpy as np
        import vlmbook.training.checkpoint

        out, rank, written = sys.argv[1], os.environ.get("RANK", "0"), []

        def at_the_end():                # registered before fit's own end, so it comes after that
            with open(f"{out}.{rank}.end", "w") as file:
                file.write(str(torch.distributed.is_initialized()))
        atexit.register(at_the_end)

        def counted(*arguments, write=vlmbook.training.checkpoint.write_checkpoint):
            written.append(arguments)
            write(*arguments)
        vlmbook.training.checkpoint.write_checkpoint = counted

        def drawn():
            return [torch.rand(()).item(), random.random(), np.random.rand()]

        model = nn.Sequential(nn.Linear(6, 20), nn.LayerNorm(20), nn.ReLU(), nn.Linear(20, 6))
        seen = []

        def count(module, inputs):
            if module.training:
                seen.append(len(inputs[0]))

        def evaluate(model):
            return {"right": (model(x).argmax(1) == y).sum()}

        options = dict(loss_fn=lambda model, x, y: F.cross_entropy(model(x), y), batch_size=23, lr=0.02,
                       clip=1.0, epochs=3, progress=False, evaluate=evaluate)
        model.register_forward_pre_hook(count)
        torch.manual_seed(int(rank))
        random.seed(int(rank))
        np.random.seed(int(rank))
        history = fit(model, (x, y), checkpoint=out + ".c", checkpoint_every=2, **options)
        draws = drawn()
        resumed = nn.Sequential(nn.Linear(6, 20), nn.LayerNorm(20), nn.ReLU(), nn.Linear(20, 6))
        again = fit(resumed, (x, y), checkpoint=out + ".c", resume=True, **options)
        assert again.losses == history.losses and digest(resumed) == digest(model)
        assert drawn() == draws      # each process has its own random state back
        assert type(model) is nn.Sequential
        with open(f"{out}.{rank}", "w") as file:
            json.dump([os.environ.get("WORLD_SIZE"), os.getpid(),
                       torch.distributed.is_initialized() and torch.distributed.get_world_size(),
                       history.losses, history.evaluations, digest(model), seen, draws, len(written)], file)
    """,
    )
    alone = subprocess.Popen(
        [sys.executable, path, tmp_path / "one"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    both = subprocess.run(
        [*torchrun, path, tmp_path / "two"],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )
    assert both.returncode == 0, both.stderr
    _, errors = alone.communicate(timeout=60)
    assert alone.returncode == 0, errors
    _, _, _, losses, evaluations, digest, seen, *_ = json.loads((tmp_path / "one.0").read_text())
    first, second = (json.loads((tmp_path / f"two.{rank}").read_text()) for rank in (0, 1))
    assert first[0] == second[0] == "2" and first[1] != second[1] and first[2] == second[2] == 2
    assert seen == [23, 23, 23, 1] * 3  # the last batch is too small for two: the second counts nothing
    assert first[6] == [12, 12, 12, 1] * 3 and second[6] == [11, 11, 11, 1] * 3
    assert first[3] == second[3] and first[5] == second[5]
    assert_close(first[3], losses, rtol=1e-5, atol=1e-5)
    assert first[4] == evaluations
    assert_close(first[5]["0.weight"], digest["0.weight"], rtol=1e-4, atol=1e-5)
    assert not {*first[7]} & {*second[7]}
    assert (first[8], second[8], both.stdout.count("goes on from")) == (
        6,
        0,
        1,
    )  # one process writes and speaks
    assert [(tmp_path / f"two.{rank}.end").read_text() for rank in (0, 1)] == [
        "False",
        "False",
    ]  # it parts in peace


@posix
def test_the_readmes_script_runs_in_two_processes(tmp_path, monkeypatch):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    [body] = [
        block
        for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
        if "vlmbook.training" in block
    ]
    (tmp_path / "train.py").write_text(body, encoding="utf-8")
    _, *arguments = next(line for line in readme.splitlines() if line.startswith("torchrun ")).split()
    monkeypatch.chdir(tmp_path)
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "PET_STANDALONE": "1",
    }  # any port
    run = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    assert (
        run.stdout.count("starts at step 0") == 1 and run.stderr.count("| 0/230 [") == 1
    )  # one process speaks
    both, notes = read_checkpoint("digits.safetensors")
    assert notes["settings"]["processes"] == 2 and notes["step"] == 230
    with pytest.raises(ValueError, match="other settings: processes 2 there, 1 here"):
        runpy.run_path("train.py")
    os.remove("digits.safetensors")
    runpy.run_path("train.py")
    alone, notes = read_checkpoint("digits.safetensors")
    assert notes["settings"]["processes"] == 1 and notes["settings"]["batch_size"] == 64
    assert_close(both["history.losses"], alone["history.losses"], rtol=1e-3, atol=1e-3)
    assert both["history.losses"][-10:].mean() < 0.3


def test_precision_is_bfloat16_where_asked_for_and_fixed_for_the_process(tmp_path):
    path = script(
        tmp_path,
        """
        import copy
        from accelerate import Accelerator
        seen = []
        def loss_fn(model, x, y):
            return F.cross_entropy(model(x), y)
        model = nn.Linear(6, 6)
        model.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
        inner = nn.Sequential(model)
        options = dict(loss_fn=loss_fn, epochs=1, batch_size=70, lr=0.1, progress=False)
        fit(inner, (x, y), precision="bf16", **options)
        assert seen == [torch.bfloat16], seen
        assert model.weight.dtype == torch.float32
        assert inner(x).dtype == torch.float32 and copy.deepcopy(inner)(x).dtype == torch.float32
        fit(inner, (x, y), precision="bf16", **options)
        assert seen[-1] == torch.bfloat16
        try:
            fit(inner, (x, y), **options)
        except ValueError as reason:
            print(reason)
    """,
    )
    run = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    assert run.returncode == 0, run.stderr
    assert "precision is fixed per process: it has been 'bf16' since the first fit, got 'no'" in run.stdout
