"""Functions of the notebook, each run in a Python process of its own, in which one framework is alone.

TensorFlow, Keras and PyTorch in one process share threads and memory, so neither could be measured. Where a
framework is not installed, what the function returned on our machine is given back: `recorded.json` holds it.
`VLMBOOK_KEEP=1 python -m tools execute appendix_a` writes that file anew.
"""

import ast
import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from vlmbook import runtime
from vlmbook.files import write_whole

RECORDED = Path(__file__).with_name("recorded.json")
DRIVER = Path(__file__).with_name("alone.py")
INSTALL = 'pip install "vlmbook[frameworks]"'
NAMES = {"torch": "PyTorch", "tensorflow": "TensorFlow", "keras": "Keras"}
DISTRIBUTIONS = {"tensorflow": ("tensorflow-cpu", "tensorflow"), "keras": ("keras",), "torch": ("torch",)}
TIME_LIMITS = {"quick": 280, "full": 3000}  # seconds; in the tests a cell of a notebook has 300
ONE_THREAD = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


class Failed(RuntimeError):
    """A function that ran elsewhere ended with this error."""


# --- what is here -------------------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """-> {"torch": "2.15.0", …}: the frameworks that are installed here."""
    return {name: _find_version(name) for name in NAMES if find_spec(name) is not None}


def _find_version(name):
    for distribution in DISTRIBUTIONS[name]:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"


def find_missing(needs: tuple[str, ...]) -> list[str]:
    """Names of modules -> those that are not installed here."""
    return [name for name in needs if find_spec(name) is None]


# --- run a function -----------------------------------------------------------------------------------------


def run(
    function: Callable[..., Any],
    *helpers: Callable,
    needs: tuple[str, ...],
    backend: str = "tensorflow",
    arrays: Mapping[str, np.ndarray] | None = None,
    **arguments: Any,
) -> Any:
    """A function, what it calls -> what it returned in a process of its own, or on our machine where one of
    `needs` is missing; then one line says so.

    It gets `arrays` and `arguments` by name, imports what it needs itself, and returns what JSON can hold.
    Raises Failed where it raises.
    """
    task = {"call": function.__name__, "compare": None, "arguments": arguments}
    code = write_part(*helpers, function)
    return _run_or_recall(f"{function.__name__} on {backend}", code, task, needs, backend, arrays or {})


def compare(
    make: Callable,
    train: Callable,
    predict: Callable,
    *,
    needs: tuple[str, ...],
    backend: str,
    arrays: Mapping[str, np.ndarray],
    **arguments: Any,
) -> dict:
    """Three functions of one framework -> dict: what `alone.compare` measures of them, as `run` does."""
    names = [function.__name__ for function in (make, train, predict)]
    task = {"call": "", "compare": names, "arguments": arguments}
    code = write_part(make, train, predict)
    return _run_or_recall(f"{names[1]} on {backend}", code, task, needs, backend, arrays)


def read_source(function: Callable) -> str:
    """A function -> its code as text."""
    return textwrap.dedent(inspect.getsource(function))


def write_part(*functions: Callable) -> str:
    """Functions -> the module that holds them: first imports of the modules that they name without importing
    them, then their code.
    """
    sources = [read_source(function) for function in functions]
    imports = set()
    for function, source in zip(functions, sources, strict=True):
        for node in ast.walk(ast.parse(source)):
            module = function.__globals__.get(node.id) if isinstance(node, ast.Name) else None
            if inspect.ismodule(module):
                imports.add(f"import {module.__name__} as {node.id}")
    return "\n\n".join([*sorted(imports), *sources])


def fingerprint(code: str) -> str:
    """str -> str: the same for the same code, however it is laid out."""
    return hashlib.sha256(ast.dump(ast.parse(code)).encode()).hexdigest()[:16]


def count_lines(*functions: Callable) -> int:
    """Functions -> int: their lines of code, without blank lines, comments and docstrings."""
    lines = set()
    for place, function in enumerate(functions):
        tree = ast.parse(read_source(function)).body[0]
        nodes = [tree] if ast.get_docstring(tree) is None else [tree.args, *tree.body[1:]]
        for node in (inner for outer in nodes for inner in ast.walk(outer)):
            if hasattr(node, "lineno"):
                lines |= {(place, line) for line in range(node.lineno, node.end_lineno + 1)}
        source = read_source(function).splitlines()
        lines -= {(place, n) for n, line in enumerate(source, 1) if line.strip()[:1] in ("", "#")}
    return len(lines)


def _run_or_recall(name, code, task, needs, backend, arrays):
    missing = find_missing(needs)
    if missing:
        return _recall(name, code, missing)
    value = _run(code, task, backend, arrays)
    if os.environ.get("VLMBOOK_KEEP") and runtime.profile() == "quick":
        _keep(name, code, value)
    return value


def _run(code, task, backend, arrays):
    with tempfile.TemporaryDirectory(prefix="vlmbook-", ignore_cleanup_errors=True) as folder:
        part, asked, stored, result = (
            Path(folder) / name for name in ("part.py", "task.json", "arrays.npz", "result.json")
        )
        part.write_text(code, encoding="utf-8")
        asked.write_text(json.dumps(task), encoding="utf-8")
        np.savez(stored, **arrays)
        command = [sys.executable, "-P", str(DRIVER), *map(str, (part, asked, stored, result))]
        ended = _start(command, folder, backend)
        if not result.exists():
            raise Failed((ended.stderr.strip().splitlines() or ["it ended without a word"])[-1])
        answer = json.loads(result.read_text(encoding="utf-8"))
    if "error" in answer:
        raise Failed(answer["error"])
    return answer["value"]


def _start(command, folder, backend):
    return subprocess.run(
        command,
        env=make_environment(folder, backend),
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=TIME_LIMITS[runtime.profile()],
    )


def make_environment(folder: str | os.PathLike, backend: str) -> dict[str, str]:
    """Path, str -> dict: this process's variables; one thread, no accelerator, no messages of TensorFlow, no
    warnings that are errors, and settings of Keras in that folder, not in the reader's.
    """
    ours = {name: "1" for name in ONE_THREAD} | {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": backend,
        "KERAS_HOME": str(folder),
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONIOENCODING": "utf-8",
    }
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    return inherited | ours


# --- a script, as a reader would start it -------------------------------------------------------------------


def run_script(text: str, *, say: str) -> tuple[bool, bool]:
    """A program, a phrase -> (did it end without an error, is the phrase in what it said)."""
    with tempfile.TemporaryDirectory(prefix="vlmbook-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "script.py"
        path.write_text(text, encoding="utf-8")
        ended = _start([sys.executable, str(path)], folder, "torch")
    return ended.returncode == 0, say in ended.stdout + ended.stderr


# --- what was returned on our machine -----------------------------------------------------------------------


def load_recorded() -> dict[str, dict]:
    """-> {name: {"code": fingerprint, "versions": …, "value": …}}."""
    return json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}


def _recall(name, code, missing):
    recorded = load_recorded().get(name)
    absent = " and ".join(NAMES[each] for each in missing)
    verb = "is" if len(missing) == 1 else "are"
    if recorded is None:
        raise Failed(f"{absent} {verb} not installed here, and nothing is recorded: {INSTALL}")
    made = ", ".join(f"{NAMES[each]} {number}" for each, number in recorded["versions"].items())
    print(f"({absent} {verb} not installed here. Recorded with {made}. To run it: {INSTALL})")
    if recorded["code"] != fingerprint(code):
        print("(The recorded result belongs to the book's cell, not to your changed code.)")
    return recorded["value"]


def _keep(name, code, value):
    entry = {"code": fingerprint(code), "versions": versions(), "value": _round(value)}
    everything = load_recorded() | {name: entry}
    text = json.dumps(dict(sorted(everything.items())), indent=1, ensure_ascii=False)
    spread = r"\[\n\s+([^\[\]{}]*?)\n\s+\]"  # a list over many lines
    text = re.sub(spread, lambda found: "[" + re.sub(r"\n\s+", " ", found[1]) + "]", text)
    write_whole(RECORDED, (text + "\n").encode())


def _round(value):
    """Floats of nine digits, as float32 has them."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, list):
        return [_round(each) for each in value]
    if isinstance(value, dict):
        return {key: _round(each) for key, each in value.items()}
    return value
