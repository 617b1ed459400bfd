"""Each link of the appendix leads to a chapter, a file of the project or one of its own headings."""

import re

import nbformat
import pytest

from tools.execute import from_text
from vlmbook import chapters, runtime
from vlmbook.notebook import kernel

[CHAPTER] = [chapter for chapter in chapters.TABLE if chapter.name == "appendix_c"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CELLS = from_text(CHAPTER.text.read_text(encoding="utf-8")) if CHAPTER.text.exists() else []
PROSE = "\n".join(cell.source for cell in CELLS if cell.cell_type == "markdown")
LINKS = sorted(set(LINK.findall(PROSE)))


def test_there_are_links_of_each_kind():
    assert any(link.startswith("#") for link in LINKS) and any(link.endswith(".ipynb") for link in LINKS)
    assert "../Dockerfile" in LINKS


@pytest.mark.parametrize("link", LINKS)
def test_a_link_leads_somewhere(link):
    path, _, anchor = link.partition("#")
    if path.endswith(".ipynb"):
        assert path in {chapter.notebook.name for chapter in chapters.TABLE}
    elif path:
        assert not path.startswith("http") and (chapters.NOTEBOOKS / path).resolve().exists()
        assert (chapters.NOTEBOOKS / path).resolve().is_relative_to(runtime.BOOK)
    if anchor and not path:
        headings = re.findall(r"^#+ (.+)$", PROSE, flags=re.MULTILINE)
        assert anchor in {heading.replace(" ", "-") for heading in headings}  # as JupyterLab makes them


@pytest.mark.slow
@pytest.mark.notebook
def test_the_appendix_runs_without_opencv(tmp_path):
    sources = [cell.source for cell in CELLS if cell.cell_type == "code"]
    hidden = "import sys\nsys.modules['cv2'] = None  # as if it were not installed"
    cells = [nbformat.v4.new_code_cell(source) for source in (hidden, *sources)]
    run = kernel.execute(nbformat.v4.new_notebook(cells=cells), folder=tmp_path)
    assert run.error == ""
    assert run.claims_held == run.claims > 20
