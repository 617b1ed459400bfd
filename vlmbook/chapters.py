"""The notebooks of the book: which there are, and one executed from top to bottom in a kernel of this interpreter."""

import ast
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from vlmbook import records, runtime
from vlmbook.exercises import MIME

NOTEBOOKS = runtime.BOOK / "notebooks"
BOOK_ORDER = re.compile(r"ch\d\d[a-z]?|appendix_[a-z]")


@dataclass
class Run:
    """One execution of a notebook: what came out, what it cost, what it proved."""

    notebook: nbformat.NotebookNode          # with outputs as far as it came
    seconds: float = 0.0
    device: str = ""
    peak_memory_bytes: dict = field(default_factory=dict)
    claims: int = 0                          # assertions in the notebook
    claims_held: int = 0                     # those in cells that ran to their end
    exercises: dict = field(default_factory=dict)   # "ch03a.1" -> "passed", "failed" or "unanswered"
    error: str = ""                          # why it stopped, "" when it ran to its end


def names():
    """-> list of str: short names of the chapters in book order, "ch03a", …, "appendix_a"."""
    found = [BOOK_ORDER.match(path.name) for path in NOTEBOOKS.glob("*.ipynb")]
    return sorted((match[0] for match in found if match), key=lambda name: (name.startswith("appendix"), name))


def find(name):
    """str -> Path of the committed notebook. Takes "ch03a" or the whole name; raises ValueError with the list of right ones."""
    short = BOOK_ORDER.match(name)
    paths = sorted(NOTEBOOKS.glob(f"{short[0]}_*.ipynb")) if short else []
    if not paths or name not in (short[0], paths[0].stem, paths[0].name):
        raise ValueError(f"there is no chapter {name!r}; there are {', '.join(names())}")
    return paths[0]


def short_name(path):
    """Path -> str: "notebooks/ch03a_convolution_and_pooling.ipynb" -> "ch03a"."""
    return BOOK_ORDER.match(Path(path).name)[0]


def execute(notebook, *, folder, profile="quick", timeout=None, keep_going=False,
            on_cell: Callable | None = None, after: Callable | None = None):
    """NotebookNode -> Run: execute every cell in a fresh kernel whose working folder and output folder is `folder`.

    The notebook is changed in place (outputs). A cell that fails or runs over `timeout` seconds ends the run, its reason in
    `error`; with `keep_going` the cells after a failed one run too. `on_cell(index, cell)` is called before each code cell,
    `after(client, run)` once after the last, while the kernel still lives. Ctrl-C passes through when the kernel is gone.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    env = os.environ | {
        "VLMBOOK_PROFILE": profile,
        "VLMBOOK_OUTPUT": str(folder),
        "JUPYTER_PREFER_ENV_PATH": "1",       # this interpreter's kernel, not one that another project installed for the user
    }
    client = NotebookClient(
        notebook, timeout=timeout, kernel_name="python3", record_timing=False, store_widget_state=False,
        allow_errors=keep_going, resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],   # ipykernel warns of TCP without encryption, which is loopback here
    )
    run = Run(notebook)
    run.claims = sum(_claims(cell) for cell in notebook.cells)
    began = time.perf_counter()
    with client.setup_kernel(env=env):
        try:
            for index, cell in enumerate(notebook.cells):
                if cell.cell_type != "code":
                    continue
                if on_cell:
                    on_cell(index, cell)
                client.execute_cell(cell, index)
                if not any(output.output_type == "error" for output in cell.outputs):
                    run.claims_held += _claims(cell)
        except CellExecutionError as failed:
            run.error = f"cell {index + 1} raised {failed.ename}: {failed.evalue}"
        except CellTimeoutError:
            run.error = f"cell {index + 1} ran longer than {timeout} s"
        except DeadKernelError:
            run.error = f"the kernel died in cell {index + 1} (out of memory?)"
        else:
            run.device, run.peak_memory_bytes = _ask(client, "device_name"), _ask(client, "peak_memory")
        run.seconds = time.perf_counter() - began
        run.exercises = outcomes(notebook)
        if after and not run.error:
            after(client, run)
    return run


def outcomes(notebook):
    """NotebookNode -> dict "ch03a.1" -> "passed", "failed" or "unanswered", from the outputs that `check` left."""
    bundles = (output.data for cell in notebook.cells if cell.cell_type == "code"
               for output in cell.outputs if output.output_type == "display_data")
    return {data[MIME]["exercise"]: data[MIME]["outcome"] for data in bundles if MIME in data}


def _claims(cell):
    """How many assertions a cell makes: `assert …` and calls of something named `assert_…`."""
    if cell.cell_type != "code":
        return 0
    try:
        tree = ast.parse(cell.source)
    except SyntaxError:      # an IPython magic, or a reader's typo
        return 0
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    named = (getattr(f, "attr", getattr(f, "id", "")) for f in calls)
    return sum(isinstance(node, ast.Assert) for node in ast.walk(tree)) + sum(n.startswith("assert_") for n in named)


def _ask(client, function):
    """Call a function of `vlmbook.runtime` in the notebook's kernel and bring its value back."""
    scratch = nbformat.v4.new_code_cell(
        f"import json as _j, vlmbook.runtime as _r; print(_j.dumps(_r.{function}()))")
    client.nb.cells.append(scratch)     # nbclient writes a cell's outputs back to its place in the notebook
    try:
        client.execute_cell(scratch, len(client.nb.cells) - 1)
    finally:
        client.nb.cells.pop()
    return json.loads(scratch.outputs[0].text)
