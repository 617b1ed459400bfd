"""A notebook executed from top to bottom in a kernel of this interpreter."""

import ast
import asyncio
import os
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import psutil
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from vlmbook.notebook.exercises import MIME

PATIENCE = 10  # seconds for a kernel to come back after an interrupt


@dataclass
class Run:
    """One execution of a notebook: what came out, what it cost, what it proved."""

    notebook: nbformat.NotebookNode  # with outputs as far as it came
    seconds: float = 0.0
    device: str = ""  # this and the next where it ran to its end without `keep_going`
    peak_memory_bytes: dict = field(default_factory=dict)
    claims: int = 0  # assertions in the notebook
    claims_held: int = 0  # those in cells that ran to their end
    exercises: dict = field(default_factory=dict)  # "ch03a.1" -> "passed", "failed" or "unanswered"
    error: str = ""  # why it stopped, "" when it ran to its end


def execute(
    notebook,
    *,
    folder,
    profile="quick",
    timeout=None,
    keep_going=False,
    on_cell: Callable | None = None,
    after: Callable | None = None,
):
    """NotebookNode -> Run: execute every cell in a fresh kernel whose working folder and output folder is
    `folder`.

    The notebook is changed in place; its old outputs go first, so that all it shows afterwards is of this
    run. A cell that fails or runs over `timeout` seconds ends the run, its reason in `error`; with
    `keep_going` the cells after it run too. `on_cell(index, cell)` is called before each code cell,
    `after(client, run)` once after the last, while the kernel still lives. Ctrl-C passes through when the
    kernel is gone.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    cells = [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    for _, cell in cells:
        cell.outputs, cell.execution_count = [], None
    # With no folders to look for kernels in, "python3" is this interpreter's and not one that another project
    # set up.
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = _Client(
        notebook,
        manager,
        timeout=timeout,
        record_timing=False,
        store_widget_state=False,
        allow_errors=keep_going,
        shell_timeout_interval=1,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=[
            "--log-level=ERROR"
        ],  # ipykernel warns of TCP without encryption, which is loopback here
    )
    run = Run(notebook, claims=sum(_claims(cell) for _, cell in cells))
    began = time.perf_counter()
    try:
        with _kernel(client, os.environ | {"VLMBOOK_PROFILE": profile, "VLMBOOK_OUTPUT": str(folder)}):
            for number, (index, cell) in enumerate(cells, start=1):
                if on_cell:
                    on_cell(index, cell)
                _step(client, index, cell, keep_going, f"cell {number} of {len(cells)}")
                if not any(output.output_type == "error" for output in cell.outputs):
                    run.claims_held += _claims(cell)
            run.seconds = time.perf_counter() - began
            if (
                not keep_going
            ):  # who wants to know all that fails does not ask what it cost, and waits for no torch
                here = '__import__("vlmbook.runtime").runtime'
                run.device = _ask(client, f"{here}.device_name()") or ""
                run.peak_memory_bytes = _ask(client, f"{here}.peak_memory()") or {}
            run.exercises = outcomes(notebook)
            if after:
                after(client, run)
    except Stopped as why:
        run.error, run.seconds, run.exercises = str(why), time.perf_counter() - began, outcomes(notebook)
    return run


def outcomes(notebook):
    """NotebookNode -> dict "ch03a.1" -> "passed", "failed" or "unanswered", from the outputs that `check`
    left.
    """
    said = (
        output.data.get(MIME)
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "display_data"
    )
    return {str(one.get("exercise")): one.get("outcome") for one in said if isinstance(one, dict)}


class Stopped(Exception):
    """Why a run ended before its last cell."""


class _Client(NotebookClient):
    """nbclient that keeps the first million printed characters of a cell: an endless loop prints 20 MB a
    second.
    """

    def output(self, outs, msg, display_id, cell_index):
        if msg["msg_type"] == "stream" and sum(len(out.get("text", "")) for out in outs) > 1_000_000:
            return None
        return super().output(outs, msg, display_id, cell_index)


@contextmanager
def _kernel(client, env):
    """The client's kernel while the block runs, and none after it, whatever ends it.

    By itself nbclient leaves its kernel behind when Ctrl-C comes while it starts.
    """
    manager = client.km
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(client.setup_kernel(env=env, cleanup_kc=True))
            except RuntimeError as reason:  # from jupyter_client: it died, or did not answer
                raise Stopped(f"no Jupyter kernel started ({reason}); `vlmbook doctor` looks why") from None
            try:
                yield
            except KeyboardInterrupt:
                _kill(manager)
                raise
    finally:
        _kill(manager)
        _settle(0)


def _kill(manager):
    """End a kernel and its children at once. Asked to end, a busy one would first print a traceback of its
    own.
    """
    kernel = getattr(manager.provisioner, "process", None)
    if kernel is None or kernel.poll() is not None:
        return
    for process in [*psutil.Process(kernel.pid).children(recursive=True), psutil.Process(kernel.pid)]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    kernel.wait()
    manager.cleanup_connection_file()


def _step(client, index, cell, keep_going, where):
    """Execute one cell. Raises Stopped, with the reason, when the run cannot go on after it."""
    try:
        client.execute_cell(cell, index)
    except CellExecutionError as failed:
        raise Stopped(f"{where} raised {failed.ename}: {failed.evalue}") from None
    except DeadKernelError:
        raise Stopped(f"{where} killed the kernel (out of memory?)") from None
    except CellTimeoutError:
        free = keep_going and _interrupt(client)
        slow = f"ran longer than {client.timeout} s"
        cell.outputs.append(
            nbformat.v4.new_output("error", ename="TimeoutError", evalue=slow, traceback=[slow])
        )
        if not free:
            _kill(client.km)
            raise Stopped(f"{where} {slow}") from None


def _interrupt(client):
    """Interrupt the cell that is running -> bool: is the kernel free for the next one?"""
    run_sync(client.km.interrupt_kernel)()
    cell_timeout, client.timeout = client.timeout, PATIENCE
    free = _ask(client, "True") is True
    client.timeout = cell_timeout
    if free:
        _settle(PATIENCE)
    return free


@run_sync
async def _settle(patience):
    """End what nbclient left running: after a timeout it still reads outputs, and would take those of the next cell."""
    left = {
        task for task in asyncio.all_tasks() if task.get_coro().__qualname__.startswith("NotebookClient.")
    }
    if left:
        _, endless = await asyncio.wait(left, timeout=patience)
        for task in endless:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _ask(client, expression):
    """str -> what it is worth in the notebook's kernel (number, string, dict), None where nothing comes back.

    It comes back beside the reply and not by print, which a reader's cell may have redefined.
    """
    asked = client.kc.execute("", silent=True, user_expressions={"value": expression})
    try:
        reply = client.wait_for_reply(asked, nbformat.v4.new_code_cell(expression))
    except (CellTimeoutError, DeadKernelError):
        return None
    value = reply["content"]["user_expressions"]["value"]
    return ast.literal_eval(value["data"]["text/plain"]) if value["status"] == "ok" else None


def _claims(cell):
    """How many assertions a cell makes: `assert …` and calls of something named `assert_…`."""
    if cell.cell_type != "code":
        return 0
    try:
        tree = ast.parse(cell.source)
    except SyntaxError:  # an IPython magic, or a reader's typo
        return 0
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    named = (getattr(f, "attr", getattr(f, "id", "")) for f in calls)
    return sum(isinstance(node, ast.Assert) for node in ast.walk(tree)) + sum(
        n.startswith("assert_") for n in named
    )
