"""What the commands share: exit codes, mistakes and how a command is stopped, tables, the progress of a
run.
"""

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

from vlmbook import chapters, runtime

GOOD, BAD, MISUSED = 0, 1, 2  # exit codes
INTERRUPTED, TERMINATED = 130, 143  # what shells use for Ctrl-C and for SIGTERM


class Mistake(Exception):
    """What the user asked for cannot be done; one sentence says what is right."""


# --- how a command is stopped -------------------------------------------------------------------------------


class Terminated(KeyboardInterrupt):
    """SIGTERM, which a batch system or a container sends: everything ends as after Ctrl-C."""


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """While the block runs, SIGTERM raises Terminated, so that what an interrupted run keeps is kept then
    too.
    """

    def stop(signum, frame):
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def describe_stop(stop: KeyboardInterrupt) -> str:
    """-> str: what stopped the command, for a sentence."""
    return "SIGTERM" if isinstance(stop, Terminated) else "Ctrl-C"


def stop_code(stop: KeyboardInterrupt) -> int:
    """-> the exit code of a command that was stopped."""
    return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED


# --- what was asked for -------------------------------------------------------------------------------------


def profile_or_mistake(name: str | None) -> str:
    """str or None -> "quick" or "full"; None stands for what VLMBOOK_PROFILE says."""
    if name is not None and name not in runtime.PROFILES:
        raise Mistake(f"there is no profile {name!r}; there are {', '.join(runtime.PROFILES)}")
    try:
        return name or runtime.profile()
    except ValueError as wrong:
        raise Mistake(str(wrong)) from None


def chapter_or_mistake(name: str) -> chapters.Chapter:
    """str -> Chapter whose notebook is there."""
    try:
        return chapters.find(name)
    except ValueError as unknown:
        raise Mistake(str(unknown)) from None


def folder_or_mistake(option: str, name: str, belongs_to_the_book: list[Path]) -> Path:
    """The value of an option -> Path of a folder that is there, made if need be, and is none of the book's;
    ~ is the user's.
    """
    if not name:
        raise Mistake(f"{option} wants a folder, got ''")
    try:
        folder = runtime.require_path(name, option).absolute()
    except ValueError as wrong:
        raise Mistake(str(wrong)) from None
    if folder.resolve() in [path.resolve() for path in belongs_to_the_book]:
        raise Mistake(f"{folder} is the book's own; choose another {option}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise Mistake(f"{folder} is not a folder and cannot become one: a file is in its place") from None
    return folder


def expand_pattern(name: str) -> list[str]:
    """str -> list of str: the console of Windows hands on `*.ipynb` as it stands."""
    if os.path.exists(name):
        return [name]
    return sorted(glob(name)) or [name]


# --- what is printed ----------------------------------------------------------------------------------------


def print_table(head: list[str], rows: list[list[str]]) -> None:
    """Columns as wide as their widest cell, two blanks apart."""
    table = [[escape_controls(text) for text in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def escape_controls(text: str) -> str:
    """str -> the same on one line, without what could steer a terminal: the names of files and the errors in
    notebooks are other people's.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def one_line(text: str, longest: int) -> str:
    """str -> the same on one line, cut at `longest` characters."""
    text = escape_controls(" ".join(text.split()))
    return text if len(text) <= longest else text[: longest - 1] + "…"


def shown(path: Path) -> str:
    """Path -> str: as a reader in the current folder would write it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


# --- a notebook that runs -----------------------------------------------------------------------------------


def execute_with_bar(label: str, notebook, **how):
    """`kernel.execute` under a progress bar that says which cell runs and what it is about."""
    from tqdm import tqdm

    from vlmbook.notebook import kernel

    under = find_headings(notebook)
    number = {index: n for n, index in enumerate(under, start=1)}
    look = "{percentage:3.0f}%|{bar:10}| {desc} [{elapsed}]"
    with tqdm(total=len(under), bar_format=look, dynamic_ncols=True) as bar:

        def on_cell(index, cell):
            bar.n = number[index] - 1
            about = one_line(under[index], 40)
            bar.set_description_str(f"{label} cell {number[index]} of {len(under)}: {about}")

        bar.set_description_str(f"{label} starts a kernel")
        with _ticking(bar):
            run = kernel.execute(notebook, on_cell=on_cell, **how)
        if not run.error:
            bar.n = len(under)
            bar.set_description_str(f"{label} ran {len(under)} cells")
    return run


def find_headings(notebook) -> dict[int, str]:
    """NotebookNode -> dict: index of each code cell -> the heading that it stands under."""
    heading = ""
    found = {}
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            found[index] = heading
        elif cell.cell_type == "markdown":
            prose = re.sub(r"^(```|~~~).*?^\1", "", cell.source, flags=re.MULTILINE | re.DOTALL)
            lines = re.findall(r"^#{1,6}\s+(.+)$", prose, flags=re.MULTILINE)
            heading = lines[-1].strip() if lines else heading
    return found


@contextmanager
def _ticking(bar):
    """Redraw a progress bar each second while a cell computes; in a file that would only be more lines."""
    done = threading.Event()

    def tick():
        while not done.wait(1):
            bar.refresh()

    if sys.stderr.isatty():
        threading.Thread(target=tick, daemon=True).start()
    try:
        yield
    finally:
        done.set()
