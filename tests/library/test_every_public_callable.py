"""Every public callable of the library answers what it cannot use with one clear sentence.

For each there is a good call (`tests/support/good_calls/`). Every argument in turn is replaced by hostile
values. The call then either works, or raises an error that vlmbook itself raises, by a `raise` statement,
with one sentence. An error from within torch, NumPy or Python is an *internal* one: a reader cannot know what
it means. A new callable without a good call fails the test.
"""

import ast
import functools
import importlib
import importlib.util
import linecache
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import vlmbook
from tests.support.public import modules, public_callables

PACKAGE = Path(vlmbook.__file__).parent
ALLOWED = (TypeError, ValueError, OSError)  # OSError: files and folders that are not there, or taken
LONGEST = 600  # characters of a sentence


class Hostile:
    """An object that fails at whatever is asked of it."""

    def __getattr__(self, name):
        raise RuntimeError("no")

    def __repr__(self):
        raise RuntimeError("nor this")

    def __eq__(self, other):
        raise RuntimeError("nor that")

    __hash__ = None


def hostile_values():
    """-> dict: what people pass by mistake, by name, fresh."""
    return {
        "None": None,
        "True": True,
        "0": 0,
        "-1": -1,
        "3": 3,
        "2.5": 2.5,
        "NaN": float("nan"),
        "infinity": float("inf"),
        "10**30": 10**30,
        "complex": 1j,
        "text": "text",
        "empty text": "",
        "bytes": b"bytes",
        "empty list": [],
        "list of text": ["a", "b"],
        "list of numbers": [0.5, -1],
        "pair": (3, 4),
        "four": (1, 2, 3, 4),
        "dict": {"a": 1},
        "set": {1},
        "object": object(),
        "hostile object": Hostile(),
        "a class": int,
        "NumPy array": np.ones((2, 3)),
        "NumPy scalar": np.float32(0.5),
        "scalar tensor": torch.tensor(0.5),
        "empty tensor": torch.tensor([]),
        "vector": torch.ones(3),
        "matrix": torch.ones(2, 5),
        "image": torch.ones(3, 6, 7),
        "batch": torch.full((2, 3, 6, 7), 0.5),
        "batch of NaN": torch.full((2, 3, 6, 7), float("nan")),
        "empty batch": torch.ones(0, 3, 6, 7),
        "batch without width": torch.ones(2, 3, 6, 0),
        "whole batch": torch.ones(2, 3, 6, 7, dtype=torch.int64),
        "negative whole vector": torch.tensor([-7, 10**9]),
        "bool tensor": torch.ones(2, 3, dtype=torch.bool),
        "complex tensor": torch.ones(2, 3, 6, 7, dtype=torch.complex64),
        "half batch": torch.ones(2, 3, 6, 7, dtype=torch.float16),
        "double batch": torch.ones(2, 3, 6, 7, dtype=torch.float64),
        "tensor elsewhere": torch.ones(2, 3, 6, 7, device="meta"),
        "five axes": torch.ones(1, 2, 3, 4, 5),
    }


def good_calls(module_name):
    """str -> dict: the registry of a module, empty where there is none."""
    where = f"tests.support.good_calls.{module_name.removeprefix('vlmbook.').replace('.', '_')}"
    return importlib.import_module(where).GOOD_CALLS if importlib.util.find_spec(where) else {}


EVERY = [(module, name) for module in modules() for name, _ in public_callables(module)]


@pytest.mark.parametrize(("module", "name"), EVERY, ids=[f"{module}.{name}" for module, name in EVERY])
def test_it_answers_bad_input_with_a_sentence(module, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # "text" is the name of a file, too
    make = good_calls(module).get(name)
    assert make, f"{module}.{name} has no good call in tests/support/good_calls"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make().run()
        assert internal_errors(make) == []


@pytest.mark.parametrize("module", modules())
def test_no_good_call_is_of_something_that_is_not_there(module):
    assert set(good_calls(module)) <= {name for name, _ in public_callables(module)}


def internal_errors(make):
    """function that makes a Call -> list of str: the arguments and values that ended in an internal error."""
    found = []
    for argument in make().arguments:
        for description in hostile_values():
            call = make()
            if argument in call.free:
                continue
            fault = _fault(call, argument, hostile_values()[description])
            if fault:
                found.append(f"{argument} = {description}: {fault}")
    return found


def _fault(call, argument, value):
    """-> str: what is wrong with how a call ended, "" where it worked or was refused by a sentence."""
    replaced = {argument: (value,) if argument.startswith("*") else value}
    try:
        call.run(**replaced)
    except ALLOWED as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = str(error)
        if not _is_raise(where):
            return f"{type(error).__name__}: {text[:90]} [{Path(where.filename).name}:{where.lineno}]"
        if not text or len(text) > LONGEST or "\n" in text.strip():
            return f"no sentence: {text[:90]!r}"
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:90]}"
    return ""


def _is_raise(where):
    """Does a line of a traceback stand in a `raise` statement of the package?"""
    if not Path(where.filename).is_relative_to(PACKAGE):
        return False
    return any(first <= where.lineno <= last for first, last in _raises(where.filename))


@functools.cache
def _raises(filename):
    tree = ast.parse("".join(linecache.getlines(filename)))
    return [(node.lineno, node.end_lineno) for node in ast.walk(tree) if isinstance(node, ast.Raise)]


# --- the test itself
# -------------------------------------------------------------------------------------------------


def test_an_internal_error_is_found():
    """A function without a check is found out; a sentence from the package is let pass."""
    from tests.support.good_calls import Call
    from vlmbook.validation import require_whole

    def careless(n):
        return [0] * n.real

    def careful(n):
        return require_whole(n, "n")

    assert len(internal_errors(lambda: Call(careless, {"n": 3}))) > 10
    assert internal_errors(lambda: Call(careful, {"n": 3})) == []
    assert internal_errors(lambda: Call(careless, {"n": 3}, free=("n",))) == []
