"""The table of chapters: each erratum of the book in one of them, and files and names that belong
together.
"""

import re
from collections import Counter

import pytest

from tests.support.small_books import use_book, write_notebook
from vlmbook import chapters, runtime

ERRATA = [
    f"{kind}{number:02}"
    for kind, last in {"W": 58, "M": 38, "I": 63}.items()
    for number in range(1, last + 1)
]
LIST = runtime.BOOK.parent / "shared" / "book" / "errata.md"  # beside the checkout, where there is one


def test_each_erratum_of_the_book_belongs_to_exactly_one_chapter():
    assert len(ERRATA) == 159
    treated = Counter(erratum for chapter in chapters.TABLE for erratum in chapter.errata)
    assert treated == Counter(ERRATA)


@pytest.mark.skipif(not LIST.exists(), reason="the list of errata is not here")
def test_the_list_has_the_errata_that_are_counted_here():
    headings = re.findall(r"^### ([WMI]\d\d)\b", LIST.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(headings) == sorted(ERRATA)


def test_names_and_titles_are_different_and_complete():
    for field in ("name", "stem", "title", "title_zh"):
        values = [getattr(chapter, field) for chapter in chapters.TABLE]
        assert len(set(values)) == len(values) and all(values), field
    for chapter in chapters.TABLE:
        assert re.fullmatch(r"ch\d\d[a-z]?|appendix_[a-z]|errata", chapter.name)
        assert re.search("[一-鿿]", chapter.title_zh) and chapter.section and chapter.result


def test_each_notebook_text_and_record_belongs_to_a_chapter():
    for folder, pattern in ((chapters.NOTEBOOKS, "*.ipynb"), (chapters.NOTEBOOKS / "text", "*.py")):
        stems = {path.stem for path in folder.glob(pattern)}
        assert stems <= {chapter.stem for chapter in chapters.TABLE}
    for path in (runtime.BOOK / "results").iterdir():
        assert chapters.of_file(path) is not None, path.name


@pytest.mark.parametrize("chapter", chapters.written(), ids=lambda chapter: chapter.name)
def test_the_modules_of_a_written_chapter_are_there(chapter):
    for module in chapter.modules:
        path = runtime.PACKAGE / module
        assert path.with_suffix(".py").exists() or (path / "__init__.py").exists(), module


# --- looking up ---------------------------------------------------------------------------------------------

STEMS = ("ch01_features", "ch03a_convolution", "ch03b_resnet", "ch04a_gan", "appendix_a_frameworks")


@pytest.fixture
def book(tmp_path, monkeypatch):
    """Five chapters in the table; of the fourth nothing is written, of the third only the text."""
    folder = use_book(monkeypatch, tmp_path / "book", *STEMS)
    (folder / "text").mkdir()
    (folder / "text" / "ch03b_resnet.py").touch()
    for stem in ("appendix_a_frameworks", "ch01_features", "ch03a_convolution", "notes"):
        write_notebook(folder / f"{stem}.ipynb", "1")
    return folder


def test_chapters_stand_in_the_order_of_the_table(book):
    assert [chapter.name for chapter in chapters.written()] == ["ch01", "ch03a", "appendix_a"]
    assert [chapter.name for chapter in chapters.begun()] == ["ch01", "ch03a", "ch03b", "appendix_a"]


@pytest.mark.parametrize("name", ["ch03a", "ch03a_convolution", "ch03a_convolution.ipynb"])
def test_a_chapter_is_found_by_its_short_and_its_whole_name(book, name):
    chapter = chapters.find(name)
    assert chapter.name == "ch03a" and chapter.notebook == book / "ch03a_convolution.ipynb"
    assert chapter.text == book / "text" / "ch03a_convolution.py"


@pytest.mark.parametrize(
    "name", ["ch03", "ch03a_gan", "ch04a", "ch99", "notes", "", "../book/ch03a_convolution"]
)
def test_an_unknown_chapter_is_answered_with_the_right_ones(book, name):
    with pytest.raises(ValueError, match="there are ch01, ch03a, appendix_a"):
        chapters.find(name)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("ch03a.full.json", "ch03a"),
        ("a/ch03a_anna (1).ipynb", "ch03a"),
        ("appendix_a.quick.ipynb", "appendix_a"),
        ("ch03ab.ipynb", None),
        ("ch03.ipynb", None),
        ("anna_ch03a.ipynb", None),
        ("", None),
    ],
)
def test_a_file_belongs_to_the_chapter_whose_name_it_bears(book, file, name):
    chapter = chapters.of_file(file)
    assert (chapter and chapter.name) == name
