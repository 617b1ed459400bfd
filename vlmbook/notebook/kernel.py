"""A notebook executed from top to bottom in a kernel of this interpreter.

nbclient and jupyter_client start the kernel, run the cells, interrupt one that takes too long, notice a
kernel that died, and shut it down. What stands here beside them says why.
"""

import ast
import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_output

from vlmbook import runtime
from vlmbook.notebook.cells import count_claims
from vlmbook.notebook.messages import MIME
from vlmbook.validation import require_callable, require_choice, require_type, require_whole

PATIENCE = 10  # seconds for a kernel to be free again after an interrupt
MOST_PRINTED = 1_000_000  # characters of one cell that are kept


class Stopped(Exception):
    """Why a run ended before its last cell."""


@dataclass
class Run:
    """One execution of a notebook: its outputs, its cost, its claims."""

    notebook: NotebookNode  # with outputs as far as the run came
    seconds: float = 0.0  # on the wall clock
    processor_seconds: float = 0.0  # with its own processes; this and the next two where it ran to its end
    device: str = ""  # without `keep_going`
    peak_memory_bytes: dict[str, int] = field(default_factory=dict)
    claims: int = 0  # assertions in the notebook
    claims_held: int = 0  # those in cells that ran to their end
    exercises: dict[str, str] = field(default_factory=dict)  # "ch03a.1" -> "passed", "failed", "unanswered"
    error: str = ""  # why it stopped, "" when it ran to its end


def execute(
    notebook: NotebookNode,
    *,
    folder: str | os.PathLike,
    profile: str = "quick",
    timeout: int | None = None,
    keep_going: bool = False,
    on_cell: Callable[[int, NotebookNode], None] | None = None,
    after: Callable[[NotebookClient, Run], Awaitable[None]] | None = None,
) -> Run:
    """NotebookNode -> Run: execute every cell in a fresh kernel whose working folder and output folder is
    `folder`.

    The notebook is changed in place; its old outputs go first, so that all it shows afterwards is of this
    run. A cell that fails or runs over `timeout` seconds ends the run, its reason in `error`; with
    `keep_going` the cells after it run too. `on_cell(index, cell)` is called before each code cell;
    `after(client, run)`, a coroutine, is awaited once after the last, while the kernel still lives. Ctrl-C
    passes through when the kernel is gone.
    """
    require_type(notebook, "notebook", NotebookNode, "a notebook as nbformat reads it")
    require_choice(profile, "profile", runtime.PROFILES)
    require_choice(keep_going, "keep_going", (True, False))
    timeout = None if timeout is None else require_whole(timeout, "timeout", most=10**6)
    on_cell = None if on_cell is None else require_callable(on_cell, "on_cell")
    after = None if after is None else require_callable(after, "after", "a coroutine function")
    folder = _make_folder(folder)
    environment = os.environ | {"VLMBOOK_PROFILE": profile, "VLMBOOK_OUTPUT": str(folder)}
    cells = _clear(notebook)
    run = Run(notebook, claims=sum(count_claims(cell.source) for _, cell in cells))
    client = _new_client(notebook, run, folder, timeout, keep_going)
    began = time.perf_counter()

    async def steps():
        async with _Kernel(client, environment) as kernel:
            for number, (index, cell) in enumerate(cells, start=1):
                if on_cell:
                    on_cell(index, cell)
                await _execute_cell(client, index, cell, keep_going, f"cell {number} of {len(cells)}")
                if not _failed(cell):
                    run.claims_held += count_claims(cell.source)
            run.seconds = time.perf_counter() - began
            if not keep_going:  # a grader does not ask what it cost, and need not wait for torch
                await _ask_for_cost(client, run)
            if after:
                await after(client, run)
            kernel.idle = True

    try:
        # asyncio.Runner turns Ctrl-C into the cancellation of every task, and waits for their ends.
        # nbclient's own `execute_cell` leaves its tasks behind then. pyzmq needs a selector loop on Windows.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(steps())
    except Stopped as why:
        run.error = str(why)
        run.seconds = time.perf_counter() - began
    return run


def _make_folder(folder):
    """-> Path of a folder that is there."""
    folder = runtime.require_path(folder, "folder").resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"folder wants a folder, and {folder} cannot be one: {error.strerror}") from None
    return folder


def _clear(notebook):
    """-> list of (index, code cell), without outputs."""
    cells = [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    for _, cell in cells:
        cell.outputs = []
        cell.execution_count = None
    return cells


def _failed(cell):
    return any(output.output_type == "error" for output in cell.outputs)


# --- client and kernel --------------------------------------------------------------------------------------


class _Client(NotebookClient):
    """nbclient with two additions to what it does with a cell's outputs.

    It keeps the first million printed characters of a cell: an endless loop prints 20 MB a second, and
    nbclient has no limit. It notes what `check` says when it arrives: `clear_output()` may remove it from the
    notebook.
    """

    def output(self, outs, msg, display_id, cell_index):
        if msg["msg_type"] == "stream" and sum(len(out.get("text", "")) for out in outs) > MOST_PRINTED:
            return None
        if msg["msg_type"] == "display_data":
            _note_outcome(self.run, msg["content"].get("data", {}).get(MIME))
        return super().output(outs, msg, display_id, cell_index)


def _note_outcome(run, shown):
    """`shown` is what `check` displays, or anything else that a reader's cell displays under the same
    name.
    """
    if isinstance(shown, dict):
        run.exercises[str(shown.get("exercise"))] = shown.get("outcome")


def _new_client(notebook, run, folder, timeout, keep_going):
    # With no folders to look for kernels in, "python3" is this interpreter's kernel, and not one that another
    # project set up.
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    slow = f"ran longer than {timeout} s"
    error = {"ename": "TimeoutError", "evalue": slow, "traceback": [slow]}

    def show_timeout(cell, cell_index, execute_reply):
        """nbclient replies with this error in the kernel's place, and shows nothing of it in the notebook."""
        content = execute_reply["content"]
        if content["ename"] == error["ename"] and content["evalue"] == slow:
            cell.outputs.append(new_output("error", **error))

    client = _Client(
        notebook,
        manager,
        timeout_func=lambda cell: timeout,  # of a cell; a question of ours has its own
        interrupt_on_timeout=True,
        error_on_timeout=error,
        on_cell_error=show_timeout,
        allow_errors=keep_going,
        record_timing=False,
        store_widget_state=False,
        shell_timeout_interval=1,
        resources={"metadata": {"path": str(folder)}},
        # ipykernel warns of TCP without encryption, which is loopback here
        extra_arguments=["--log-level=ERROR"],
    )
    # nbclient would hide what a cell shows within an Output widget, and needs the states of all widgets for
    # that.
    client.comm_open_handlers = {}
    client.run = run
    return client


class _Kernel:
    """The client's kernel while the block runs, and none after it, whatever ends it.

    nbclient's `async_setup_kernel` does the same, but it catches Ctrl-C itself: a run that the reader stopped
    would look like one whose kernel died. And it leaves a kernel behind when Ctrl-C comes while the kernel
    starts.
    """

    def __init__(self, client, environment):
        self.client = client
        self.environment = environment
        self.idle = False  # a kernel in the middle of a cell is killed; an idle one may end what it began

    async def __aenter__(self):
        try:
            await self.client.async_start_new_kernel(env=self.environment)
            await self.client.async_start_new_kernel_client()
        except BaseException as reason:
            await self.__aexit__()
            if isinstance(reason, RuntimeError):  # from jupyter_client: it died, or did not answer
                raise Stopped(f"no Jupyter kernel started ({reason}); `vlmbook doctor` looks why") from None
            raise
        return self

    async def __aexit__(self, *_):
        manager = self.client.km
        if manager is not None and manager.has_kernel:
            await manager.shutdown_kernel(now=not self.idle)
        if self.client.kc is not None:
            self.client.kc.stop_channels()


async def _execute_cell(client, index, cell, keep_going, where):
    """Execute one cell. Raises Stopped, with the reason, when the run cannot go on after it."""
    try:
        await client.async_execute_cell(cell, index)
    except CellExecutionError as failed:
        raise Stopped(f"{where} raised {failed.ename}: {failed.evalue}") from None
    except DeadKernelError:
        if (
            asyncio.current_task().cancelling()
        ):  # nbclient takes the cancellation after Ctrl-C for a dead kernel
            raise asyncio.CancelledError from None
        raise Stopped(f"{where} killed the kernel (out of memory?)") from None
    except Exception as error:  # nbclient stumbles over messages that a cell may send by itself
        raise Stopped(f"{where} sent what cannot be read ({type(error).__name__}: {error})") from error
    # nbclient goes on after an interrupt without a look whether the kernel obeyed. In one that did not, every
    # further cell would wait for its own timeout.
    ran_too_long = cell.outputs and cell.outputs[-1].get("ename") == "TimeoutError"
    if ran_too_long and await _ask(client, "True") is not True:
        raise Stopped(f"{where} {cell.outputs[-1].evalue} and no interrupt stopped it")


# --- questions to the kernel --------------------------------------------------------------------------------


async def _ask(client, expression):
    """str -> its value in the notebook's kernel (number, string, dict), None where no answer comes in time.

    nbclient runs cells only. The value comes back beside the reply and not by print, which a reader's cell
    may have redefined.
    """
    asked = client.kc.execute("", silent=True, user_expressions={"value": expression})
    try:
        reply = await asyncio.wait_for(client.async_wait_for_reply(asked), PATIENCE)
    except (TimeoutError, DeadKernelError):
        return None
    value = reply["content"]["user_expressions"]["value"]
    return ast.literal_eval(value["data"]["text/plain"]) if value["status"] == "ok" else None


async def _ask_for_cost(client, run):
    here = '__import__("vlmbook.runtime").runtime'
    run.processor_seconds = await _ask(client, "sum(__import__('os').times()[:4])") or 0.0
    run.device = await _ask(client, f"{here}.device_name()") or ""
    run.peak_memory_bytes = await _ask(client, f"{here}.peak_memory()") or {}
