"""Every committed chapter is what `python -m tools check` wants it to be, and its cells can be run twice."""

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools.check import find_problems
from tools.execute import from_text
from vlmbook import chapters
from vlmbook.notebook import kernel

BEGUN = chapters.begun()


def test_there_is_a_chapter():
    assert BEGUN


@pytest.mark.parametrize("chapter", BEGUN, ids=lambda chapter: chapter.stem)
def test_a_chapter_has_no_problems(chapter):
    assert find_problems(chapter) == []


@pytest.mark.slow
@pytest.mark.notebook
def test_each_cell_of_a_chapter_runs_twice_in_a_row(tmp_path):
    """Of one chapter, and each claim holds both times; in the others the tools look for the usual offenders.

    What a cell prints may differ, since each run draws further random numbers.
    """
    cells = from_text(chapters.find("ch03a").text.read_text(encoding="utf-8"))
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    twice = new_notebook(cells=[new_code_cell(source) for source in sources for _ in range(2)])
    run = kernel.execute(twice, folder=tmp_path)
    assert run.error == ""
    assert run.claims_held == run.claims > 0
