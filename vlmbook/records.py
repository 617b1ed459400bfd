"""What a run of a chapter measured: written by the notebook's last cell, shown in its first, tabled in the README."""

import json
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

import platformdirs

from vlmbook import runtime

RESULTS = runtime.BOOK / "results"


def output_folder():
    """-> Path: where this run records; `$VLMBOOK_OUTPUT`, else the user's cache folder (never the project's tree)."""
    default = Path(platformdirs.user_cache_dir("vlmbook", appauthor=False)) / "runs"
    return Path(os.environ.get("VLMBOOK_OUTPUT", default))


def record(chapter, *, seed, **figures):
    """str -> Path of `{chapter}.{profile}.json`: device, peak memory, versions, seed and the figures of merit.

    A figure is a number, a list of numbers (one a seed) or a dict of these. Raises TypeError for anything else.
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
    path = output_folder() / f"{chapter}.{entry['profile']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, entry)
    return path


def add_seconds(path, seconds):
    """Path, float -> None: the wall time of the whole run, which only the one who ran the notebook knows."""
    entry = json.loads(Path(path).read_text(encoding="utf-8"))
    _write(Path(path), entry | {"seconds": round(seconds, 1)})


def load(chapter, profile, folder=None):
    """str, str -> dict or None: the record of that run in `folder` (default: the ones published with the book)."""
    path = Path(folder or RESULTS) / f"{chapter}.{profile}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def cost(entry):
    """dict -> str: "24 s, 0.9 GB, CPU, 2 threads"."""
    memory = ", ".join(f"{n / 1e9:.1f} GB{' on the GPU' if kind == 'gpu' else ''}"
                       for kind, n in entry["peak_memory_bytes"].items())
    return f"{entry['seconds']:.0f} s, {memory}, {entry['device']}"


def published(chapter):
    """str -> None: print what the published runs of a chapter cost, for the notebook's head."""
    for name in runtime.PROFILES:
        entry = load(chapter, name)
        print(f"{name:>5}: {cost(entry)}" if entry else f"{name:>5}: no published run yet")


def _plain(value, name):
    if isinstance(value, dict):
        return {str(key): _plain(v, f"{name}[{key!r}]") for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, name) for v in value]
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"record wants numbers, lists and dicts of them; {name} is a {type(value).__name__}")
    return value if isinstance(value, int) else float(f"{float(value):.6g}")


def _write(path, entry):
    text = json.dumps(entry, indent=1, ensure_ascii=False)
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s+", " ", m[1]) + "]", text)   # a list a line
    partial = path.with_suffix(".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, path)
