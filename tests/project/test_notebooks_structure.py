"""Every committed chapter is what `python tools/notebooks.py check` wants it to be."""

import pytest

from tools.check import problems
from vlmbook import chapters

COMMITTED = sorted(
    {
        chapters.NOTEBOOKS / f"{path.stem}.ipynb"
        for pattern in ("*.ipynb", "text/*.py")
        for path in chapters.NOTEBOOKS.glob(pattern)
    }
)


def test_there_is_a_chapter():
    assert COMMITTED


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_chapter_has_no_problems(path):
    assert problems(path) == []
