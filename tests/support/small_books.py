"""Small notebooks, and a small book in place of the real one, for the tests of the command line and the
tools.
"""

from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from vlmbook import chapters


def make_notebook(*sources: str) -> NotebookNode:
    """Sources -> NotebookNode; a source that starts with # and a space becomes a markdown cell."""
    cells = [
        new_markdown_cell(source) if source.startswith("# ") else new_code_cell(source) for source in sources
    ]
    return new_notebook(cells=cells)


def write_notebook(path: str | Path, *sources: str) -> Path:
    """Path, sources -> Path of the notebook that is now there."""
    nbformat.write(make_notebook(*sources), path)
    return Path(path)


def read_notebook(path: str | Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def make_chapter(stem: str, **fields) -> chapters.Chapter:
    """ "ch03b_resnet" -> Chapter of that name, and of the given title, section …"""
    name, _, slug = stem.partition("_")
    if name == "appendix":
        letter, _, slug = slug.partition("_")
        name = f"appendix_{letter}"
    defaults = {
        "title": slug.capitalize(),
        "title_zh": "章",
        "section": "§9.9",
        "modules": (),
        "result": "what it shows",
        "errata": (),
    }
    return chapters.Chapter(name, slug, **(defaults | fields))


def use_book(monkeypatch, folder: Path, *stems: str) -> Path:
    """Make `folder` the book, with a table of these chapters; none of their notebooks is written yet."""
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(chapters, "NOTEBOOKS", folder)
    monkeypatch.setattr(chapters, "TABLE", tuple(make_chapter(stem) for stem in stems))
    return folder
