"""What a run of a chapter measured: written by the notebook's last cell, shown in its first, tabled in the
README.
"""

import json
import math
import os
import platform
import re
import statistics
from importlib.metadata import version
from pathlib import Path

import platformdirs

from vlmbook import runtime

RESULTS = runtime.BOOK / "results"


def output_folder():
    """-> Path: where this run records; `$VLMBOOK_OUTPUT`, else the user's cache folder (never the project's
    tree).
    """
    default = Path(platformdirs.user_cache_dir("vlmbook", appauthor=False)) / "runs"
    return Path(os.environ.get("VLMBOOK_OUTPUT") or default)  # an empty variable is none


def record(chapter, *, seed, **figures):
    """str -> Path of `{chapter}.{profile}.json`: device, peak memory, versions, seed and the figures of
    merit.

    A figure is a number, a list of numbers (one a seed) or a dict of these. Raises TypeError for anything
    else, and ValueError for NaN and infinity, which JSON cannot hold, and for a chapter that is no plain file
    name.
    """
    entry = {
        "chapter": chapter,
        "profile": runtime.profile(),
        "device": runtime.device_name(),
        "seed": seed,
        "versions": {name: version(name) for name in ("torch", "torchvision", "numpy", "scikit-learn")}
        | {"python": platform.python_version()},
        "peak_memory_bytes": runtime.peak_memory(),
        "figures": {name: _plain(value, name) for name, value in figures.items()},
    }
    path = _path(chapter, "json")
    _write(path, entry)
    return path


def picture(chapter, figure):
    """str, matplotlib Figure -> Path of `{chapter}.{profile}.png` beside the record: the chapter's result."""
    path = _path(chapter, "png")
    figure.savefig(path, dpi=100)
    return path


def add_seconds(path, seconds):
    """Path, float -> None: the wall time of the whole run, which only the one who ran the notebook knows."""
    entry = json.loads(Path(path).read_text(encoding="utf-8"))
    _write(Path(path), entry | {"seconds": round(seconds, 1)})


def load(chapter, profile, folder=None):
    """str, str -> dict or None: the record of that run in `folder` (default: the ones published with the
    book).
    """
    path = Path(folder or RESULTS) / f"{chapter}.{profile}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def cost(entry):
    """dict -> str: "24 s, 0.9 GB, CPU, 2 threads"; without seconds where nobody timed the run."""
    seconds = f"{entry['seconds']:.0f} s, " if "seconds" in entry else ""
    memory = ", ".join(
        f"{n / 1e9:.1f} GB{' on the GPU' if kind == 'gpu' else ''}"
        for kind, n in entry["peak_memory_bytes"].items()
    )
    return f"{seconds}{memory}, {entry['device']}"


def published(chapter):
    """str -> None: print what the published runs of a chapter cost, for the notebook's head."""
    for name in runtime.PROFILES:
        entry = load(chapter, name)
        print(f"{name:>5}: {cost(entry)}" if entry else f"{name:>5}: no published run yet")


def show(chapter, profile):
    """str, str -> None: print what the published run of a chapter measured, and where."""
    entry = load(chapter, profile)
    if entry is None:
        print(f"{chapter}: no published {profile} run yet")
        return
    print(f"{chapter}, {profile}: {cost(entry)}, torch {entry['versions']['torch']}, seed {entry['seed']}")
    for name, value in entry["figures"].items():
        print(f"  {name}: {_text(value)}")


def _text(value):
    """A figure as a reader wants it: a list as mean ± standard deviation, a dict item by item."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(v)}" for name, v in value.items())
    if isinstance(value, list) and len(value) > 1 and all(isinstance(v, (int, float)) for v in value):
        return f"{statistics.mean(value):.4g} ± {statistics.stdev(value):.2g} ({len(value)} values)"
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)


def _path(chapter, ending):
    """str, str -> Path of a file of this run in the output folder, which is made."""
    if Path(chapter).name != chapter:
        raise ValueError(f"a record wants the short name of a chapter, such as 'ch03a', got {chapter!r}")
    path = output_folder() / f"{chapter}.{runtime.profile()}.{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _plain(value, name):
    if isinstance(value, dict):
        return {str(key): _plain(v, f"{name}[{key!r}]") for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, name) for v in value]
    number = value.item() if getattr(value, "ndim", None) == 0 else value  # NumPy's and PyTorch's scalars
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"record wants numbers, lists and dicts of them; {name} is a {type(value).__name__}")
    if isinstance(number, int):
        return number
    if not math.isfinite(number):
        raise ValueError(f"record wants finite numbers; {name} is {number}")
    return float(f"{number:.6g}")


def _write(path, entry):
    text = json.dumps(entry, indent=1, ensure_ascii=False)
    spread = r"\[\n\s+([^\[\]{}]*?)\n\s+\]"  # a list over many lines
    text = re.sub(spread, lambda m: "[" + re.sub(r"\n\s+", " ", m[1]) + "]", text)
    partial = path.with_suffix(".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, path)
