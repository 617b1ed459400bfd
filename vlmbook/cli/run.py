"""`vlmbook run`: execute chapters from top to bottom, and table what they took and proved."""

import argparse
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

from vlmbook import chapters
from vlmbook.chapters import Chapter
from vlmbook.cli.console import (
    BAD,
    GOOD,
    Mistake,
    chapter_or_mistake,
    describe_stop,
    execute_with_bar,
    folder_or_mistake,
    one_line,
    print_table,
    profile_or_mistake,
    shown,
    stop_code,
)

HEAD = ["chapter", "seconds", "peak memory", "device", "checks passed", "exercises"]


def run_chapters(args: argparse.Namespace) -> int:
    """-> exit code. The copies are reserved before the first chapter runs, so that no other run takes their
    names.
    """
    profile = profile_or_mistake(args.profile)
    chosen = choose_chapters(args.chapters)
    output = output_folder(args.output)
    copies = reserve_copies(chosen, output, profile)
    rows = []
    failures = []
    stop = None
    reached = set()
    try:
        for chapter, copy in copies.items():
            reached.add(copy)
            row, reasons = run_chapter(chapter, copy, profile)
            rows.append(row)
            failures += reasons
    except KeyboardInterrupt as stopped:
        stop = stopped
    finally:
        give_back(copy for copy in copies.values() if copy not in reached)
    if rows:
        print_table(HEAD, rows)
    for failure in failures:
        print(failure)
    kept = ", ".join(shown(copy) for copy in copies.values() if copy in reached)
    if stop is not None:
        stopped_by = describe_stop(stop)
        print(f"Stopped by {stopped_by}; no kernel is left. Kept, as far as it ran: {kept or 'nothing'}")
        return stop_code(stop)
    print(f"Executed copy: {kept}" if len(rows) == 1 else f"Executed copies: {shown(output)}")
    return BAD if failures else GOOD


def choose_chapters(names: list[str]) -> list[Chapter]:
    """The names on the command line -> the chapters, each once; all of them for "all" and for no name."""
    if names and "all" not in names:
        return list(dict.fromkeys(chapter_or_mistake(name) for name in names))
    chosen = chapters.written()
    if not chosen:
        raise Mistake(f"there are no chapters in {chapters.NOTEBOOKS}")
    return chosen


# --- where the copies go ------------------------------------------------------------------------------------


def output_folder(asked: str | None) -> Path:
    """-> Path of the folder that was asked for, or of a new one."""
    from vlmbook.notebook import records

    if asked is not None:
        return folder_or_mistake("--output", asked, [chapters.NOTEBOOKS, records.RESULTS])
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    for again in count(1):  # two runs in one second
        folder = Path.cwd() / "vlmbook-runs" / (stamp if again == 1 else f"{stamp}_{again}")
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder


def reserve_copies(chosen: list[Chapter], output: Path, profile: str) -> dict[Chapter, Path]:
    """-> dict: chapter -> its copy in `output`, which this run alone has made, and which holds no outputs
    yet.

    Raises Mistake, and leaves nothing behind, where a run of one of them is there already, finished or not.
    """
    import nbformat

    from vlmbook.files import write_whole

    copies = {}
    try:
        for chapter in chosen:
            copy = output / f"{chapter.stem}.{profile}.ipynb"
            record = record_of(copy)
            for path in (record, record.with_suffix(".png")):
                if path.exists():
                    raise FileExistsError(f"{path} exists already and is not overwritten")
            notebook = nbformat.read(chapter.notebook, as_version=4)
            clear_outputs(notebook)
            write_whole(copy, nbformat.writes(notebook).encode(), replace=False)
            copies[chapter] = copy
    except BaseException as error:
        give_back(copies.values())
        if isinstance(error, FileExistsError):
            raise Mistake(f"{error}; choose another --output") from None
        raise
    return copies


def record_of(copy: Path) -> Path:
    """The copy of a chapter -> the record that its run writes beside it."""
    _, profile, _ = copy.name.split(".")
    return copy.with_name(f"{chapters.of_file(copy).name}.{profile}.json")


def clear_outputs(notebook) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None


def give_back(copies) -> None:
    """Remove reserved copies of chapters that did not run."""
    for copy in copies:
        with suppress(FileNotFoundError):
            copy.unlink()


# --- one chapter --------------------------------------------------------------------------------------------


def run_chapter(chapter: Chapter, copy: Path, profile: str) -> tuple[list[str], list[str]]:
    """A chapter and its reserved copy -> its row of the table, and a list with the reason if it failed."""
    import nbformat

    from vlmbook.files import write_whole
    from vlmbook.notebook import records

    notebook = nbformat.read(copy, as_version=4)
    try:
        done = execute_with_bar(chapter.name, notebook, folder=copy.parent, profile=profile)
    finally:  # a failed or interrupted run too shows how far it came
        write_whole(copy, nbformat.writes(notebook).encode())
    record = record_of(copy)
    if record.exists():
        records.add_seconds(record, done.seconds, done.processor_seconds)
    row = [
        chapter.name,
        f"{done.seconds:.0f}",
        records.describe_memory(done.peak_memory_bytes) or "-",
        done.device or "-",
        f"{done.claims_held}/{done.claims}",
        count_answers(done.exercises),
    ]
    return row, [f"{chapter.name} failed: {one_line(done.error, 400)}"] if done.error else []


def count_answers(exercises: dict[str, str]) -> str:
    """dict of outcomes -> "1 of 4 answered", and how many of them are wrong."""
    if not exercises:
        return "-"
    outcomes = list(exercises.values())
    answered = len(outcomes) - outcomes.count("unanswered")
    failed = outcomes.count("failed")
    wrong = f", {failed} wrong" if failed else ""
    return f"{answered} of {len(outcomes)} answered{wrong}"
