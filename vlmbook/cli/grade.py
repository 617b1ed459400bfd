"""`vlmbook grade`: execute students' notebooks, and table their exercises."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from vlmbook import chapters
from vlmbook.cli.console import (
    BAD,
    GOOD,
    MISUSED,
    Mistake,
    describe_stop,
    escape_controls,
    execute_with_bar,
    expand_pattern,
    one_line,
    print_table,
    profile_or_mistake,
    stop_code,
)

RIGHT, BLANK, WRONG = "passed", "unanswered", "failed"  # from `check`; two more where it says nothing:
MISSING, NOT_REACHED = "missing", "not reached"


def grade_files(args: argparse.Namespace) -> int:
    """-> exit code."""
    profile = profile_or_mistake(args.profile)
    files = list(dict.fromkeys(file for name in args.files for file in expand_pattern(name)))
    graded = {}
    reasons = []
    unusable = []
    stop = None
    try:
        for file in files:
            try:
                graded[file], why = grade_file(file, profile, args.timeout)
                reasons += why
            except Mistake as mistake:
                unusable.append(f"vlmbook: {escape_controls(str(mistake))}")
    except KeyboardInterrupt as stopped:
        stop = stopped
    print_grades(graded)
    for reason in reasons:
        print(escape_controls(reason))
    for mistake in unusable:
        print(mistake, file=sys.stderr)
    if stop is not None:
        count = f"{len(graded)} of {len(files)} files"
        print(f"Stopped by {describe_stop(stop)}; no kernel is left. Graded: {count}; none is changed.")
        return stop_code(stop)
    if unusable:
        return MISUSED
    grades = [grade for row in graded.values() for grade in row.values()]
    return GOOD if all(grade in (RIGHT, BLANK) for grade in grades) else BAD


def print_grades(graded: dict[str, dict[str, str]]) -> None:
    """dict: file -> exercise -> grade."""
    if not graded:
        return
    exercises = list(dict.fromkeys(name for row in graded.values() for name in row))
    rows = []
    for file, row in graded.items():
        passed = list(row.values()).count(RIGHT)
        rows.append([file, *(row.get(name, "") for name in exercises), f"{passed} of {len(row)}"])
    print_table(["file", *exercises, "passed"], rows)


# --- one file -----------------------------------------------------------------------------------------------


def grade_file(file: str, profile: str, timeout: int) -> tuple[dict[str, str], list[str]]:
    """str -> dict "ch03a.1" -> grade, and a list of what went wrong in the notebook beside wrong answers."""
    from vlmbook.notebook.cells import checked_exercises

    notebook = read_student_notebook(file)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    required = required_exercises(file, cells)
    with tempfile.TemporaryDirectory(prefix="vlmbook-grade-", ignore_cleanup_errors=True) as folder:
        done = execute_with_bar(
            Path(file).name, notebook, folder=folder, profile=profile, timeout=timeout, keep_going=True
        )
    called = {name: cell for cell in cells for name in checked_exercises(cell.source)}
    grades = {name: grade(done.exercises.get(name), called.get(name)) for name in required}
    reasons = describe_errors(file, cells)
    if done.error:
        reasons.append(f"{file}: stopped, {one_line(done.error, 200)}")
    return grades, reasons


def read_student_notebook(file: str):
    """str -> NotebookNode: its cells alone, new, with neither outputs nor metadata.

    Every editor writes a notebook a little differently: without ids or execution counts, with outputs on text
    cells, a byte order mark, a kernel without a name, the worksheets of 2013. Nothing of that matters here:
    the cells run again, in a kernel of ours.
    """
    try:
        content = json.loads(Path(file).read_bytes())  # UTF-8 with a byte order mark or without, UTF-16
    except OSError as error:
        raise Mistake(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise Mistake(f"{file} is not a notebook") from None
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    try:
        found = [read_cell(cell) for cell in find_cells(content)]
    except (TypeError, KeyError, AttributeError):
        raise Mistake(f"{file} is not a notebook") from None
    make = {True: new_code_cell, False: new_markdown_cell}
    return new_notebook(cells=[make[is_code](source) for is_code, source in found])


def find_cells(content: dict) -> list[dict]:
    """The cells of a notebook, which format 3 and older keep in worksheets."""
    if "cells" in content:
        return content["cells"]
    return [cell for sheet in content["worksheets"] for cell in sheet["cells"]]


def read_cell(cell: dict) -> tuple[bool, str]:
    """-> whether it is code, and its source. Raises TypeError or KeyError for what is no cell."""
    is_code = cell["cell_type"] == "code"
    source = cell["input"] if is_code and "input" in cell else cell["source"]  # "input" in format 3
    text = source if isinstance(source, str) else "".join(source)
    return is_code, text.encode("utf-8", "replace").decode()  # half a character cannot be sent to a kernel


def required_exercises(file: str, cells: list) -> list[str]:
    """-> list of str: all exercises of each chapter of which the notebook checks one, or whose name it
    bears.
    """
    from vlmbook.notebook import exercises
    from vlmbook.notebook.cells import checked_exercises

    named = {name.partition(".")[0] for cell in cells for name in checked_exercises(cell.source)}
    of_file = chapters.of_file(file)
    if of_file is not None:
        named.add(of_file.name)
    required = [
        name
        for chapter in exercises.chapters_with_exercises()
        if chapter in named
        for name in exercises.of_chapter(chapter)
    ]
    if not required:
        raise Mistake(f'{file} has no exercises: no cell of it calls check("ch03a.1", …) or the like')
    return required


def grade(outcome: str | None, cell) -> str:
    """What `check` said and the cell that calls it, or None for either -> grade."""
    if outcome in (RIGHT, BLANK, WRONG):
        return outcome
    if cell is None:
        return MISSING
    return WRONG if cell.execution_count else NOT_REACHED  # a cell that ran without an answer had an error


def describe_errors(file: str, cells: list) -> list[str]:
    """-> list of str: the error in which each of the failed cells ended."""
    found = []
    for number, cell in enumerate(cells, start=1):
        end = cell.outputs[-1] if cell.outputs else None
        if end is not None and end.output_type == "error":
            found.append(f"{file}: cell {number}: {one_line(f'{end.ename}: {end.evalue}', 200)}")
    return found
