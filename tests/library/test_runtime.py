"""Device, seeds, profile and peak memory."""

import os
import random
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import torch

from vlmbook import data, runtime


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


@pytest.mark.parametrize(
    "flags, precision",
    [({"avx2": True, "avx512_bf16": False}, None), ({"amx_bf16": True}, "bf16"), ({"bf16": True}, "bf16")],
)
def test_bfloat16_is_for_processors_that_have_it(monkeypatch, flags, precision):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
    assert runtime.autocast_precision() == precision
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # a PyTorch that cannot tell
    assert runtime.autocast_precision() is None


@pytest.mark.parametrize("kind, precision", [("mps", None), ("xpu", "bf16")])
def test_bfloat16_on_an_accelerator(monkeypatch, kind, precision):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
    assert runtime.autocast_precision() == precision


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
        (-1, ValueError, "seed wants a whole number from 0 to 4294967295, got -1"),
        (2**32, ValueError, "seed wants a whole number from 0 to 4294967295, got 4294967296"),
        (1.0, TypeError, "wants a whole number from 0 to 4294967295, got 1.0"),
        ("1", TypeError, "wants a whole number from 0 to 4294967295, got '1'"),
        (True, TypeError, "wants a whole number from 0 to 4294967295, got True"),
        (None, TypeError, "wants a whole number from 0 to 4294967295, got None"),
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
    monkeypatch.setenv("VLMBOOK_PROFILE", "")
    assert runtime.profile() == "quick"
    monkeypatch.setenv("VLMBOOK_PROFILE", "full")
    assert runtime.profile() == "full" and runtime.pick(quick=300, full=20_000) == 20_000


@pytest.mark.parametrize("name", ["Full", "fast", " ", " quick", "quick,full"])
def test_an_unknown_profile_is_answered_with_the_right_ones(monkeypatch, name):
    monkeypatch.setenv("VLMBOOK_PROFILE", name)
    for ask in (runtime.profile, lambda: runtime.pick(quick=1, full=2)):
        with pytest.raises(ValueError, match="VLMBOOK_PROFILE wants 'quick' or 'full', got ") as refusal:
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


def test_the_data_folder_is_the_variables_or_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VLMBOOK_DATA", str(tmp_path / "data"))
    assert runtime.data_folder() == data.data_folder() == tmp_path / "data" and not any(tmp_path.iterdir())
    monkeypatch.setenv("VLMBOOK_DATA", "~/pictures")
    assert runtime.data_folder() == Path.home() / "pictures"
    monkeypatch.setenv("VLMBOOK_DATA", "")
    assert runtime.data_folder() == platformdirs.user_cache_path("vlmbook", appauthor=False) / "data"
    monkeypatch.delenv("VLMBOOK_DATA")
    assert runtime.data_folder() == platformdirs.user_cache_path("vlmbook", appauthor=False) / "data"


def test_a_data_folder_of_nobody_is_named(monkeypatch):
    monkeypatch.setenv("VLMBOOK_DATA", "~nosuchuser/data")
    with pytest.raises(ValueError, match="VLMBOOK_DATA wants a path, got '~nosuchuser/data', whose user"):
        runtime.data_folder()


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        ("", ValueError, "got ''"),
        ("a\0b", ValueError, r"got 'a\\x00b'"),
        (3, TypeError, "type int"),
        (b"a", TypeError, "type bytes"),
    ],
)
def test_what_is_no_path_is_named(value, error, says):
    with pytest.raises(error, match=f"folder wants a path.*{says}"):
        runtime.require_path(value, "folder")


def test_sizes_are_written_in_gigabytes():
    assert runtime.gigabytes(1_149_000_000) == "1.1 GB" and runtime.gigabytes(0) == "0.0 GB"
    for wrong in (-1, float("nan"), "1", None, True):
        with pytest.raises(TypeError, match="size wants a number of bytes"):
            runtime.gigabytes(wrong)
