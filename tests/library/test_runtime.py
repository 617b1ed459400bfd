"""Device, seeds, profile and peak memory."""

import os
import random

import numpy as np
import pytest
import torch

from vlmbook import runtime


def test_device_is_one_that_works():
    x = torch.ones(2, device=runtime.device())
    assert x.device.type == runtime.device().type
    assert (runtime.device().type == "cpu") == (not torch.accelerator.is_available())


def test_the_cpu_is_named_with_its_threads(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert runtime.device() == torch.device("cpu")
    threads = torch.get_num_threads()
    assert runtime.device_name() == ("CPU, 1 thread" if threads == 1 else f"CPU, {threads} threads")


@pytest.mark.parametrize("kind, name", [("cuda", "NVIDIA H100"), ("mps", "MPS on "), ("xpu", "XPU on ")])
def test_an_accelerator_goes_first_and_has_a_name(monkeypatch, kind, name):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    assert runtime.device() == torch.device(kind)
    assert runtime.device_name().startswith(name)


def draws():
    return random.random(), np.random.rand(3).tolist(), torch.rand(3).tolist()  # noqa: NPY002


def test_a_seed_fixes_all_three_generators():
    runtime.seed_everything(3)
    first = draws()
    assert all(a != b for a, b in zip(first, draws(), strict=True))
    runtime.seed_everything(3)
    assert draws() == first
    runtime.seed_everything(4)
    assert all(a != b for a, b in zip(first, draws(), strict=True))


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_the_ends_of_the_range_of_seeds(seed):
    assert runtime.seed_everything(seed) is None


@pytest.mark.parametrize(
    "seed, error, message",
    [
        (-1, ValueError, r"wants 0 <= seed < 2\*\*32, got -1"),
        (2**32, ValueError, r"wants 0 <= seed < 2\*\*32, got 4294967296"),
        (1.0, TypeError, "wants an int, got float"),
        ("1", TypeError, "wants an int, got str"),
        (True, TypeError, "wants an int, got bool"),
        (None, TypeError, "wants an int, got NoneType"),
    ],
)
def test_a_bad_seed_is_refused_and_seeds_nothing(seed, error, message):
    runtime.seed_everything(3)
    first = draws()
    runtime.seed_everything(3)
    with pytest.raises(error, match=message):
        runtime.seed_everything(seed)
    assert draws() == first


def test_pick_goes_by_the_profile(monkeypatch):
    monkeypatch.delenv("VLMBOOK_PROFILE", raising=False)
    assert runtime.profile() == "quick" and runtime.pick(quick=300, full=20_000) == 300
    monkeypatch.setenv("VLMBOOK_PROFILE", "quick")
    assert runtime.pick(quick=300, full=20_000) == 300
    monkeypatch.setenv("VLMBOOK_PROFILE", "full")
    assert runtime.profile() == "full" and runtime.pick(quick=300, full=20_000) == 20_000


@pytest.mark.parametrize("name", ["Full", "fast", "", " quick", "quick,full"])
def test_an_unknown_profile_is_answered_with_the_right_ones(monkeypatch, name):
    monkeypatch.setenv("VLMBOOK_PROFILE", name)
    for ask in (runtime.profile, lambda: runtime.pick(quick=1, full=2)):
        with pytest.raises(ValueError, match="it takes quick or full") as refusal:
            ask()
        assert repr(name) in str(refusal.value)


@pytest.mark.parametrize("values", [{"quick": 1}, {"full": 2}, {"quick": 1, "full": 2, "slow": 3}])
def test_pick_wants_a_value_for_each_profile(values):
    with pytest.raises(TypeError):
        runtime.pick(**values)
    with pytest.raises(TypeError):
        runtime.pick(1, 2)


def test_peak_memory_is_in_bytes_and_never_falls():
    before = runtime.peak_memory()["ram"]
    block = bytearray(os.urandom(1)) * 2**28
    grown = runtime.peak_memory()["ram"]
    del block
    assert 2**26 < before and max(before, 2**28) <= grown < 2**40 and grown <= runtime.peak_memory()["ram"]


def test_the_book_lies_where_its_notebooks_are():
    assert (runtime.BOOK / "notebooks").is_dir()
