"""The citations of all chapters against references.bib: what it lacks, what differs, what nobody cites."""

from functools import cache

from tools.execute import from_text
from vlmbook import chapters
from vlmbook.chapters import Chapter, references
from vlmbook.chapters.errata import rows
from vlmbook.chapters.references import Entry


def read_prose(chapter: Chapter) -> list[str]:
    """Chapter -> list of str: the Markdown cells of its text, else of its notebook."""
    if not chapter.text.exists():
        return references.read_prose(chapter.notebook)
    return list(_prose_of(chapter.text.read_text(encoding="utf-8")))


@cache
def _prose_of(text):
    """-> tuple of str; the same text is parsed once."""
    return tuple(cell.source for cell in from_text(text) if cell.cell_type == "markdown")


def find_missing(entries: dict[str, Entry]) -> list[str]:
    """Entries -> list of str: what references.bib lacks, each with the chapter that cites it."""
    return [
        f"{chapter.name}: {fault}"
        for chapter in chapters.begun()
        for fault in references.find_missing(read_prose(chapter), entries)
    ]


def find_differences(entries: dict[str, Entry]) -> list[str]:
    """Entries -> list of str: where a chapter says of a paper what references.bib does not."""
    return [
        f"{chapter.name}: {fault}"
        for chapter in chapters.begun()
        for fault in references.find_differences(read_prose(chapter), entries)
    ]


def find_unused(entries: dict[str, Entry]) -> list[str]:
    """Entries -> list of str: keys that no chapter and no erratum cites, but the book's own references."""
    used = {key for erratum in rows.load().values() for key in erratum.papers}
    for chapter in chapters.begun():
        used |= references.find_cited(read_prose(chapter), entries).keys()
    return [key for key, entry in entries.items() if key not in used and not entry.book]


def report() -> tuple[list[str], list[str]]:
    """-> (faults, differences), each a list of lines. Raises ValueError for a faulty references.bib."""
    entries = references.load()
    unused = [f"{key} is cited nowhere; delete it from references.bib" for key in find_unused(entries)]
    return [*find_missing(entries), *unused], find_differences(entries)
