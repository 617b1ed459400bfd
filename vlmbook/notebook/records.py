"""What a run of a chapter measured: written by the notebook's last cell, shown in its first, tabled in the
README.
"""

import io
import json
import math
import os
import platform
import re
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from matplotlib.figure import Figure

from vlmbook import runtime
from vlmbook.files import write_whole
from vlmbook.validation import describe, require_choice, require_number, require_type, require_whole

RESULTS = runtime.BOOK / "results"
ONE_THREAD = "CPU, 1 thread"  # as `runtime.device_name` calls it
PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn")  # whose versions a record names


# --- written by a run ---------------------------------------------------------------------------------------


def output_folder() -> Path:
    """-> Path: where this run records; `$VLMBOOK_OUTPUT`, else the user's cache folder (never the project's
    tree).

    Raises ValueError for a variable that holds no path; an empty one counts as none.
    """
    folder = os.environ.get("VLMBOOK_OUTPUT")
    if folder:
        return runtime.require_path(folder, "VLMBOOK_OUTPUT")
    return platformdirs.user_cache_path("vlmbook", appauthor=False) / "runs"


def record(chapter: str, *, seed: int | list[int], **measurements: Any) -> Path:
    """str -> Path of `{chapter}.{profile}.json`: device, peak memory, versions, seed and what was measured.

    A measurement is a finite number, a list of measurements (one a seed, say) or a dict of them by name.
    Raises TypeError or ValueError for anything else, before anything is written.
    """
    path = _path(chapter, "json")
    entry = {
        "chapter": chapter,
        "profile": runtime.profile(),
        "device": runtime.device_name(),
        "seed": _as_seed(seed),
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "peak_memory_bytes": runtime.peak_memory(),
        "measurements": _as_plain(measurements, "record"),
    }
    _write(path, entry)
    return path


def picture(chapter: str, figure: Figure) -> Path:
    """str, matplotlib Figure -> Path of `{chapter}.{profile}.png` beside the record: the chapter's result."""
    require_type(figure, "figure", Figure, "a matplotlib Figure")
    path = _path(chapter, "png")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    write_whole(path, drawn.getvalue())
    return path


def add_seconds(path: str | os.PathLike, seconds: float, processor_seconds: float | None = None) -> None:
    """Path of a record, float -> None: the wall time of the whole run, which only the one who ran the
    notebook knows, and the processor time of its kernel.
    """
    times = {"seconds": require_number(seconds, "seconds", least=0)}
    if processor_seconds is not None:
        times["processor_seconds"] = require_number(processor_seconds, "processor_seconds", least=0)
    entry = _read(runtime.require_path(path, "path"))
    _write(path, entry | {name: round(value, 1) for name, value in times.items()})


# --- shown to readers ---------------------------------------------------------------------------------------


def load(chapter: str, profile: str, folder: str | os.PathLike | None = None) -> dict | None:
    """str, str -> dict or None: the record of that run in `folder` (default: the ones published with the
    book).

    Raises ValueError where the file is no record.
    """
    _require_chapter(chapter)
    require_choice(profile, "profile", runtime.PROFILES)
    folder = RESULTS if folder is None else runtime.require_path(folder, "folder")
    path = folder / f"{chapter}.{profile}.json"
    return _read(path) if path.exists() else None


def cost(entry: dict) -> str:
    """dict -> str: "24 s, 0.9 GB, CPU, 2 threads"; without seconds where nobody timed the run.

    Of a run in one thread these are the seconds of the processor, which other work on the machine does not
    lengthen: so long it takes on the wall clock where nothing else runs.
    """
    require_type(entry, "entry", dict, "a record, as `load` returns it")
    try:
        parts = [describe_memory(entry["peak_memory_bytes"]), entry["device"]]
        seconds = entry.get("seconds")
        if entry["device"] == ONE_THREAD:
            seconds = entry.get("processor_seconds", seconds)
        if seconds is not None:
            parts.insert(0, f"{seconds:.0f} s")
        return ", ".join(parts)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"entry wants a record, as `load` returns it, got a dict of {len(entry)}") from None


def describe_memory(peak: dict[str, int]) -> str:
    """dict of bytes, as `runtime.peak_memory` returns it -> str: "0.9 GB, 2.5 GB on the GPU"."""
    require_type(peak, "peak", dict, "a dict of bytes, as `runtime.peak_memory` returns it")
    where = {"ram": "", "gpu": " on the GPU"}
    return ", ".join(
        f"{runtime.gigabytes(size)}{where[require_choice(kind, 'peak', where)]}"
        for kind, size in peak.items()
    )


def published(chapter: str) -> None:
    """str -> None: print what the published runs of a chapter cost, for the notebook's head."""
    for profile in runtime.PROFILES:
        entry = load(chapter, profile)
        print(f"{profile:>5}: {cost(entry) if entry else 'no published run yet'}")


def show(chapter: str, profile: str) -> None:
    """str, str -> None: print what the published run of a chapter measured, and where."""
    entry = load(chapter, profile)
    if entry is None:
        print(f"{chapter}: no published {profile} run yet")
        return
    print(f"{chapter}, {profile}: {cost(entry)}, torch {entry['versions']['torch']}, seed {entry['seed']}")
    for name, value in entry["measurements"].items():
        print(f"  {name}: {_describe(value)}")


def _describe(value):
    """A measurement as a reader wants it: a list as mean ± standard deviation, a dict item by item."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_describe(inner)}" for name, inner in value.items())
    if isinstance(value, list) and len(value) > 1 and all(isinstance(each, (int, float)) for each in value):
        return f"{statistics.mean(value):.4g} ± {statistics.stdev(value):.2g} ({len(value)} values)"
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)


# --- what JSON can hold -------------------------------------------------------------------------------------


def _as_seed(seed):
    """An int or several -> the same, Python's own. NaN, fractions and negative numbers are no seeds."""
    if isinstance(seed, (list, tuple)):
        return [require_whole(each, "seed", least=0) for each in seed]
    return require_whole(seed, "seed", least=0)


def _as_plain(value, name, depth=0):
    """-> the same of Python's own numbers, lists and dicts. `name` is where it stands, for a sentence."""
    if depth > 20:  # a list that holds itself
        raise ValueError(f"{name} wants at most 20 lists and dicts within each other")
    if isinstance(value, dict):
        inner = {_as_name(key, name): each for key, each in value.items()}
        if len(inner) < len(value):
            raise ValueError(
                f"{name} wants different names, got some that are written alike, such as 1 and '1'"
            )
        return {
            key: _as_plain(each, f"{name}[{key!r}]" if depth else key, depth + 1)
            for key, each in inner.items()
        }
    if isinstance(value, (list, tuple)):
        return [_as_plain(each, name, depth + 1) for each in value]
    return _as_finite(value, name)


def _as_name(key, name):
    """A name of a measurement, or a number that stands for one, such as a class -> str."""
    if isinstance(key, bool) or not isinstance(key, (str, int, float, np.number)):
        raise TypeError(f"{name} wants names that are text or numbers, got {describe(key)}")
    try:
        str(key).encode()
    except ValueError:
        raise ValueError(f"{name} wants names that can be written as UTF-8, got {key!a}") from None
    return str(key)


def _as_finite(value, name):
    """A number of Python's, NumPy's or PyTorch's -> int, or float of six digits."""
    if isinstance(value, (np.ndarray, torch.Tensor)) and value.ndim:
        raise TypeError(f"{name} wants a number, a list or a dict of them, got {describe(value)}")
    try:
        number = require_number(value, name)
    except TypeError:
        raise TypeError(f"{name} wants a number, a list or a dict of them, got {describe(value)}") from None
    if _is_whole(value):
        return require_whole(value, name, least=-math.inf)
    return float(f"{number:.6g}")


def _is_whole(value):
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point()
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iu"
    return isinstance(value, (int, np.integer))


# --- files --------------------------------------------------------------------------------------------------


def _require_chapter(chapter):
    require_type(chapter, "chapter", str, "the name of a chapter, such as 'ch03a'")
    if not re.fullmatch(r"\w{1,100}", chapter):
        raise ValueError(f"chapter wants the name of a chapter, such as 'ch03a', got {describe(chapter)}")


def _path(chapter, ending):
    """str, str -> Path of a file of this run in the output folder."""
    _require_chapter(chapter)
    return output_folder() / f"{chapter}.{runtime.profile()}.{ending}"


def _read(path):
    """Path -> dict."""
    try:
        entry = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"path wants a record, and nothing is at {path}") from None
    except OSError as error:
        raise OSError(f"path wants a record, and {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"path wants a record, and {path} holds no JSON") from None
    if not isinstance(entry, dict):
        raise ValueError(f"path wants a record, and {path} holds none")
    return entry


def _write(path, entry):
    text = json.dumps(entry, indent=1, ensure_ascii=False, allow_nan=False)
    spread = r"\[\n\s+([^\[\]{}]*?)\n\s+\]"  # a list over many lines
    text = re.sub(spread, lambda m: "[" + re.sub(r"\n\s+", " ", m[1]) + "]", text)
    write_whole(path, (text + "\n").encode())
