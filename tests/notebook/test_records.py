"""Records of runs: what goes in comes out, nothing else goes in, and nothing goes elsewhere."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from vlmbook import runtime
from vlmbook.notebook import records


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VLMBOOK_OUTPUT", str(tmp_path / "runs"))
    monkeypatch.delenv("VLMBOOK_PROFILE", raising=False)
    return tmp_path / "runs"


MEASURED = {
    "accuracy": [0.981, 0.975, 0.978],
    "count": 1437,
    "loss": {"train": 0.01, "test": [0.1, 0.2], "ünïcode [ a,  b ]": {}},
    "matrix": [[1, 2], [3.5]],
    "nothing": [],
}


def test_round_trip(folder):
    path = records.record("ch99z", seed=3, **MEASURED)
    assert path == folder / "ch99z.quick.json"
    entry = records.load("ch99z", "quick", folder)
    assert entry == json.loads(path.read_text(encoding="utf-8"))
    assert entry["measurements"] == MEASURED and "ünïcode" in path.read_text(encoding="utf-8")
    assert (entry["chapter"], entry["profile"], entry["seed"]) == ("ch99z", "quick", 3)
    assert entry["device"] == runtime.device_name()
    assert torch.__version__.startswith(entry["versions"]["torch"])
    assert entry["peak_memory_bytes"]["ram"] > 2**26


def test_the_profile_is_in_the_name(folder, monkeypatch):
    monkeypatch.setenv("VLMBOOK_PROFILE", "full")
    assert records.record("ch99z", seed=0).name == "ch99z.full.json"
    assert records.load("ch99z", "full", folder)["profile"] == "full"
    assert records.load("ch99z", "quick", folder) is None


def test_scalars_of_numpy_and_pytorch_become_plain_numbers(folder):
    given = {
        "whole": [np.int64(1234567), torch.tensor(12345678)],
        "long": 1 / 3,
        "array": np.array(2.0),
        "real": [np.float32(0.1), torch.tensor(0.25)],
    }
    path = records.record("ch99z", seed=0, **given)
    measured = records.load("ch99z", "quick", path.parent)["measurements"]
    assert measured == {"whole": [1234567, 12345678], "real": [0.1, 0.25], "long": 0.333333, "array": 2.0}
    assert all(type(n) is int for n in measured["whole"])


def test_a_list_of_numbers_takes_one_line(folder):
    path = records.record("ch99z", seed=0, accuracy=list(range(20)))
    assert f' "accuracy": {list(range(20))}' in path.read_text(encoding="utf-8")


class Endless(dict):
    """A dict that holds itself."""

    def __init__(self):
        super().__init__()
        self["again"] = self


@pytest.mark.parametrize(
    "value, error, message",
    [
        ("0.9", TypeError, "loss wants a number, a list or a dict of them, got '0.9'"),
        (None, TypeError, "loss wants .*, got None"),
        (True, TypeError, "loss wants .*, got True"),
        (np.bool_(True), TypeError, "loss wants .*, got a NumPy bool"),
        (1j, TypeError, "loss wants .*, got 1j"),
        ({1, 2}, TypeError, "loss wants .*, got an object of type set"),
        (range(3), TypeError, "loss wants .*, got an object of type range"),
        (np.zeros(2), TypeError, "loss wants .*, got a NumPy ndarray"),
        (torch.zeros(1), TypeError, "loss wants .*, got a torch.float32 tensor"),
        ([0.1, "x"], TypeError, "loss wants .*, got 'x'"),
        ({"test": {"cat": "x"}}, TypeError, r"loss\['test'\]\['cat'\] wants .*, got 'x'"),
        (float("nan"), ValueError, "loss wants a finite number, got nan"),
        ([1.0, float("inf")], ValueError, "loss wants a finite number, got inf"),
        (torch.tensor(float("nan")), ValueError, "loss wants a finite number, got nan"),
        (10**400, ValueError, "loss wants a finite number, got inf"),
        (Endless(), ValueError, "loss.* wants at most 20 lists and dicts within each other"),
        ({1: 0.5, "1": 0.6}, ValueError, "loss wants different names"),
        ({None: 0.5}, TypeError, "loss wants names that are text or numbers, got None"),
        ({"\ud800": 0.5}, ValueError, "loss wants names that can be written as UTF-8"),
    ],
)
def test_what_json_cannot_hold_is_refused_and_nothing_written(folder, value, error, message):
    with pytest.raises(error, match=message):
        records.record("ch99z", seed=0, loss=value)
    assert not folder.exists()


@pytest.mark.parametrize(
    "seed", [float("nan"), 0.5, -1, True, None, "0", [0, float("nan")], [0, 0.5], {0: 1}]
)
def test_what_is_no_seed_is_refused_and_nothing_written(folder, seed):
    with pytest.raises((TypeError, ValueError), match="seed wants a whole number of at least 0, got "):
        records.record("ch99z", seed=seed, loss=1)
    assert not folder.exists()


def test_seeds_of_numpy_and_pytorch_become_plain_numbers(folder):
    records.record("ch99z", seed=(np.int64(3), torch.tensor(4)))
    assert records.load("ch99z", "quick", folder)["seed"] == [3, 4]


@pytest.mark.parametrize("chapter", ["../ch99z", "/ch99z", "a/b", "a/", "", ".", "a b", "a\0b", "x" * 300])
def test_no_chapter_leads_out_of_the_folder(folder, chapter):
    for write in (lambda: records.record(chapter, seed=0), lambda: records.picture(chapter, Figure())):
        with pytest.raises(ValueError, match="chapter wants the name of a chapter, such as 'ch03a', got "):
            write()
        assert not list(folder.parent.rglob("*.*"))


def test_a_picture_lies_beside_its_record(folder):
    figure = Figure(figsize=(3, 2))
    figure.text(0.1, 0.5, "result")
    path = records.picture("ch99z", figure)
    assert path == folder / "ch99z.quick.png"
    with Image.open(path) as picture:
        assert picture.size == (300, 200)


def test_a_run_writes_only_into_its_output_folder(folder, monkeypatch, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    published = sorted(records.RESULTS.glob("*"))
    records.add_seconds(records.record("ch99z", seed=0), 1)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["ch99z.quick.json"]
    assert sorted(records.RESULTS.glob("*")) == published


def test_without_a_folder_named_it_is_the_users_cache(monkeypatch):
    for unset in (None, ""):
        monkeypatch.delenv("VLMBOOK_OUTPUT", raising=False)
        if unset is not None:
            monkeypatch.setenv("VLMBOOK_OUTPUT", unset)
        folder = records.output_folder()
        assert folder.is_absolute() and "vlmbook" in folder.parts
        assert not folder.is_relative_to(runtime.PACKAGE.parent)


def test_a_failed_write_leaves_the_old_record(folder, monkeypatch):
    path = records.record("ch99z", seed=1)
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError(28, "disk full")

    for broken in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, broken, fail)
            with pytest.raises(OSError, match="disk full"):
                records.record("ch99z", seed=2)
        assert path.read_bytes() == before
    records.record("ch99z", seed=2)
    assert records.load("ch99z", "quick", folder)["seed"] == 2
    assert [p.name for p in folder.iterdir()] == [path.name]  # no half-written file stays


RECORDER = """import sys
from vlmbook.notebook import records
for n in range(200):
    records.record("ch99z", seed=int(sys.argv[1]), long=list(range(n)))
"""


def test_two_processes_that_record_the_same_chapter_leave_a_whole_record(folder):
    recorders = [subprocess.Popen([sys.executable, "-c", RECORDER, seed]) for seed in "12"]
    while any(recorder.poll() is None for recorder in recorders):
        entry = records.load("ch99z", "quick", folder)  # whole at any time
        assert entry is None or entry["seed"] in (1, 2)
    assert [recorder.wait() for recorder in recorders] == [0, 0]
    assert [path.name for path in folder.iterdir()] == ["ch99z.quick.json"]


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b"{", b"[" * 100_000])
def test_a_file_that_is_no_record_is_named(folder, content):
    path = records.record("ch99z", seed=1)
    path.write_bytes(content)
    for read in (lambda: records.load("ch99z", "quick", folder), lambda: records.add_seconds(path, 1)):
        with pytest.raises(ValueError, match=f"path wants a record, and {re.escape(str(path))} holds no"):
            read()
    assert path.read_bytes() == content


def test_seconds_are_added_and_the_rest_kept(folder):
    path = records.record("ch99z", seed=0, **MEASURED)
    before = records.load("ch99z", "quick", folder)
    records.add_seconds(str(path), 24.3456)
    assert records.load("ch99z", "quick", folder) == before | {"seconds": 24.3}
    records.add_seconds(path, 30, 12.34)
    assert records.load("ch99z", "quick", folder) == before | {"seconds": 30, "processor_seconds": 12.3}


def test_load_of_what_is_not_there_is_none(tmp_path):
    assert records.load("ch99z", "quick") is None
    assert records.load("ch99z", "quick", tmp_path) is None


def test_cost_in_words():
    entry = {"seconds": 24.4, "peak_memory_bytes": {"ram": 940_000_000}, "device": "CPU, 2 threads"}
    assert records.cost(entry) == "24 s, 0.9 GB, CPU, 2 threads"
    entry["peak_memory_bytes"]["gpu"] = 2_460_000_000
    assert records.cost(entry | {"device": "NVIDIA H100"}) == "24 s, 0.9 GB, 2.5 GB on the GPU, NVIDIA H100"
    assert records.cost({k: v for k, v in entry.items() if k != "seconds"}).startswith("0.9 GB, ")


def test_the_cost_of_one_thread_is_the_time_of_the_processor():
    entry = {"seconds": 99.0, "processor_seconds": 24.4, "peak_memory_bytes": {"ram": 10**9}}
    assert records.cost(entry | {"device": "CPU, 1 thread"}) == "24 s, 1.0 GB, CPU, 1 thread"
    assert records.cost(entry | {"device": "CPU, 2 threads"}).startswith("99 s, ")


def test_published_prints_a_line_a_profile(folder, monkeypatch, capsys):
    records.add_seconds(records.record("ch99z", seed=0), 24, 24)
    monkeypatch.setattr(records, "RESULTS", folder)
    records.published("ch99z")
    quick, full = capsys.readouterr().out.splitlines()
    assert quick.startswith("quick: 24 s, ") and full == " full: no published run yet"


def test_show_prints_what_was_measured(folder, monkeypatch, capsys):
    records.add_seconds(records.record("ch99z", seed=3, single=[0.5], **MEASURED), 24)
    monkeypatch.setattr(records, "RESULTS", folder)
    records.show("ch99z", "quick")
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("ch99z, quick: 24 s, ") and head.endswith(", seed 3")
    assert "  accuracy: 0.978 ± 0.003 (3 values)" in lines and "  count: 1437" in lines
    assert len(lines) == 6 and "  matrix: [[1, 2], [3.5]]" in lines
    records.show("ch99z", "full")
    assert capsys.readouterr().out == "ch99z: no published full run yet\n"
