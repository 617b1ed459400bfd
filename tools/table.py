"""The README's table of chapters: a line for each of `vlmbook.chapters.TABLE`, with what its published
runs cost.
"""

import re

from vlmbook import chapters, runtime
from vlmbook.chapters import Chapter
from vlmbook.files import write_whole
from vlmbook.notebook import records
from vlmbook.notebook.kernel import Stopped

README = runtime.BOOK / "README.md"
MARKERS = "<!-- chapters -->", "<!-- /chapters -->"
HEAD = ("Chapter", "Book", "What it shows", "Quick", "Full")


def write_table() -> None:
    """Put the table into the README, between its markers. Raises Stopped where they are missing."""
    before, _, after = split_readme(README.read_text(encoding="utf-8"))
    write_whole(README, f"{before}{MARKERS[0]}\n{make_table()}{MARKERS[1]}{after}".encode())


def split_readme(text: str) -> tuple[str, str, str]:
    """str -> (before, table, after). Raises Stopped where the markers are missing."""
    found = re.fullmatch(rf"(.*){MARKERS[0]}\n(.*){MARKERS[1]}(.*)", text, re.DOTALL)
    if not found:
        raise Stopped(f"README.md has no room for the table, between {MARKERS[0]} and {MARKERS[1]}")
    return found.groups()


def make_table() -> str:
    """-> str: in Markdown, written chapters and those to come."""
    rows = [HEAD, ("---",) * len(HEAD), *(make_row(chapter) for chapter in chapters.TABLE)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def make_row(chapter: Chapter) -> tuple[str, ...]:
    name = f"{chapter.name} {chapter.title}"
    if not chapter.notebook.exists():
        return name, chapter.section, chapter.result, "to come", ""
    quick, full = (records.load(chapter.name, profile) for profile in runtime.PROFILES)
    return (
        f"[{name}](notebooks/{chapter.notebook.name})",
        chapter.section,
        chapter.result,
        records.cost(quick).removesuffix(f", {quick['device']}") if quick else "not measured yet",
        records.cost(full) if full else "not measured yet",
    )
