"""The order of the house: a module imports only what stands before it, and importing it has no effect to be
seen.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2] / "vlmbook"
ROOMS = """
    validation files runtime metrics plot data training
    convolution resnet unet gan pixel_models vae generation gpt flow attention distillation
    efficientnet detection
    features multitask face_embedder dlib_format pretrained face_recognition editing
    compression privacy fairness explain fewshot clip
    notebook chapters cli
""".split()
PLACE = {room: place for place, room in enumerate(ROOMS)}
OUTSIDE = -1  # of the package's own __init__.py, which may import none of them


def modules(house):
    """Path of a package -> its modules in the order of the house: (room, dotted name, file)."""
    found = []
    for path in house.rglob("*.py"):
        parts = list(path.relative_to(house).with_suffix("").parts)
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        found.append((parts[0] if parts else "", ".".join([house.name, *parts]), path))
    return sorted(found, key=lambda module: (PLACE.get(module[0], OUTSIDE), module[1]))


def violations(house):
    """Path of a package -> list of str: everything that breaks the order."""
    found = []
    for room, name, path in modules(house):
        if room and room not in PLACE:
            found.append(f"{name} is no room of the house; add it to the list here, in its place")
        if "utils" in name.split("."):
            found.append(f"{name} is a module for whatever")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found += [f"{name}:{node.lineno} {fault}" for fault in faults(node, room, house)]
    return found


def faults(node, room, house):
    """AST node -> what is wrong with it, if it is an import."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] == house.name:
                yield f"imports {alias.name} whole; it is always `from {house.name}.x import …`"
    if not isinstance(node, ast.ImportFrom):
        return
    if any(alias.name == "*" for alias in node.names):
        yield "imports *"
    if node.level:
        yield f"imports by a relative name; it is always `from {house.name}.x import …`"
    elif (node.module or "").split(".")[0] == house.name:
        for there in rooms_of(node):
            if there != room and PLACE.get(there, len(PLACE)) > PLACE.get(room, OUTSIDE):
                yield f"imports {there}, which does not stand before it"


def rooms_of(node):
    """`from vlmbook.a.b import c` -> ["a"], `from vlmbook import a, __version__` -> ["a"]."""
    _, *inner = node.module.split(".")
    return inner[:1] or [alias.name for alias in node.names if not alias.name.startswith("__")]


def test_every_module_imports_only_what_stands_before_it():
    assert violations(HOUSE) == []


def build(house, files):
    for name, text in {"__init__.py": "", **files}.items():
        path = house / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return house


def test_an_orderly_house_is_left_in_peace(tmp_path):
    assert (
        violations(
            build(
                tmp_path / "vlmbook",
                {
                    "runtime.py": "import os.path\nfrom torch import nn",
                    "data/__init__.py": "from vlmbook.data.bundled import photo",
                    "data/embedded.py": "from vlmbook import runtime, __version__",
                    "cli.py": "def main():\n    from vlmbook.unet import UNet",
                    "unet.py": "from vlmbook.data.bundled import photo",
                },
            )
        )
        == []
    )


@pytest.mark.parametrize(
    ("name", "text", "violation"),
    [
        ("resnet.py", "from vlmbook.unet import UNet", "vlmbook.resnet:1 imports unet, which does not"),
        (
            "resnet.py",
            "def f():\n    from vlmbook import unet",
            "vlmbook.resnet:2 imports unet, which does not",
        ),
        ("data/real.py", "from vlmbook.gan import GAN", "vlmbook.data.real:1 imports gan, which does not"),
        ("__init__.py", "from vlmbook import runtime", "vlmbook:1 imports runtime, which does not"),
        ("resnet.py", "from vlmbook.helpers import f", "vlmbook.resnet:1 imports helpers, which does not"),
        ("resnet.py", "import vlmbook.runtime as r", "vlmbook.resnet:1 imports vlmbook.runtime whole"),
        ("resnet.py", "from .runtime import device", "vlmbook.resnet:1 imports by a relative name"),
        ("resnet.py", "from torch.nn import *", "vlmbook.resnet:1 imports *"),
        ("helpers.py", "", "vlmbook.helpers is no room of the house"),
        ("data/utils.py", "", "vlmbook.data.utils is a module for whatever"),
    ],
)
def test_a_violation_is_named(tmp_path, name, text, violation):
    [found] = violations(build(tmp_path / "vlmbook", {name: text}))
    assert found.startswith(violation)


# Run in a fresh interpreter, which imports one module after the other in the order of the house, so that what
# each one does by itself shows. What they stand on is imported before (THEIRS): it is not ours to judge.
THEIRS = "torchvision, sklearn.datasets, skimage.data, IPython.display, nbclient, ipywidgets"
OBSERVER = """
import contextlib, io, json, pickle, random, sys
import matplotlib.pyplot as plt, numpy, torch

def state():
    return pickle.dumps((random.getstate(), numpy.random.get_state(), torch.get_rng_state().tolist(),
                         torch.get_num_threads(), torch.get_default_dtype(), plt.get_fignums()))

def effects(name):
    before, printed = state(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        __import__(name)
    seen = [f"prints {printed.getvalue()!r}"] if printed.getvalue() else []
    return seen + (["seeds, draws random numbers, sets torch or opens a figure"] if state() != before else [])

random.seed(1)
numpy.random.seed(2)
torch.manual_seed(3)
found = {name: effects(name) for name in sys.argv[1:]}
print(json.dumps({name: seen for name, seen in found.items() if seen}))
"""


def effects_of_import(house, before=""):
    """Path of a package -> dict: for each module what its import does beyond defining names."""
    names = [name for _, name, _ in modules(house)]
    run = subprocess.run(
        [sys.executable, "-c", before + OBSERVER, *names], cwd=house.parent, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return json.loads(run.stdout)


def test_importing_has_no_effect_to_be_seen():
    assert effects_of_import(HOUSE, before=f"import {THEIRS}") == {}


def test_an_effect_of_importing_is_named(tmp_path):
    changed = "seeds, draws random numbers, sets torch or opens a figure"
    house = build(
        tmp_path / "house",
        {
            "runtime.py": "print('hello')",
            "data.py": "import torch\ntorch.manual_seed(0)",
            "plot.py": "import matplotlib.pyplot as plt\nplt.figure()",
            "train.py": "import random\nrandom.seed(1)\nrandom.random()",
            "records.py": "import numpy\nnumpy.random.rand()",
            "unet.py": "import sys\nsys.stderr.write('loading')",
            "gan.py": "import torch\ntorch.nn.Linear(2, 2)",
            "cli.py": "x = 1",
        },
    )
    assert effects_of_import(house) == {
        "house.runtime": ["prints 'hello\\n'"],
        "house.data": [changed],
        "house.plot": [changed],
        "house.train": [changed],
        "house.records": [changed],
        "house.gan": [changed],
        "house.unet": ["prints 'loading'"],
    }


def test_the_package_itself_brings_in_nothing_heavy():
    code = "import sys, vlmbook; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "vlmbook" in loaded
    assert not {"torch", "numpy", "matplotlib", "IPython", "nbclient"} & {
        name.split(".")[0] for name in loaded
    }


def test_ruff_has_nothing_to_say():
    run = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", HOUSE.parent], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout
