"""What the notebook of errata computes: the book's references against the bibliography; who cites what."""

import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from vlmbook import chapters
from vlmbook.chapters import references
from vlmbook.chapters.errata.rows import Erratum, find_headings
from vlmbook.chapters.references import Entry, plain

PRINTED = Path(__file__).with_name("printed.toml")
COLUMNS = ("title", "authors", "year", "venue", "volume", "pages", "arXiv id")
SAME, DIFFERS, MISSING, NOT_FOUND, ABSENT = "same", "differs", "missing", "no such paper", "not printed"


@dataclass(frozen=True)
class Printed:
    """A reference as the book prints it."""

    number: int
    key: str  # of the paper that is meant, "" where none was found
    authors: tuple[str, ...]  # "He, K."
    title: str
    venue: str  # "arXiv" for a preprint
    year: int
    shortened: bool = False  # whether authors are left out
    volume: str = ""
    pages: str = ""
    arxiv: str = ""


def load_printed(path: Path = PRINTED) -> list[Printed]:
    """Path -> list of Printed, in the order of the book."""
    tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))["reference"]
    return [Printed(**table | {"authors": tuple(table["authors"])}) for table in tables]


def load_levels(path: Path = PRINTED) -> dict[str, int]:
    """Path -> dict: the level in Markdown of the heading of each section of the book."""
    return tomllib.loads(Path(path).read_text(encoding="utf-8"))["levels"]


# --- printed against right ----------------------------------------------------------------------------------


def compare(printed: Printed, entries: dict[str, Entry]) -> dict[str, str]:
    """Printed -> dict: for each field whether it is the same, differs, is missing or is not printed."""
    if not printed.key:
        return dict.fromkeys(COLUMNS, NOT_FOUND)
    entry = entries[printed.key]
    preprint = printed.venue == "arXiv"
    same_venue = bool(entry.arxiv) if preprint else printed.venue == entry.venue
    no_pages = MISSING if entry.pages and not preprint else ABSENT
    return {
        "title": _judge(plain(printed.title) == plain(entry.title)),
        "authors": _judge(_same_authors(printed, entry)),
        "year": _judge(printed.year in entry.years),
        "venue": _judge(same_venue),
        "volume": _judge(printed.volume == entry.volume) if printed.volume else ABSENT,
        "pages": _judge(printed.pages == entry.pages) if printed.pages else no_pages,
        "arXiv id": _judge(printed.arxiv == entry.arxiv) if printed.arxiv else ABSENT,
    }


def _judge(same):
    return SAME if same else DIFFERS


def _same_authors(printed, entry):
    """Family names and first initials; where the list is shortened, its last name is the last author."""
    given = [_initial(author) for author in printed.authors]
    wanted = [_initial(author) for author in entry.authors]
    if printed.shortened:
        return given[:-1] == wanted[: len(given) - 1] and given[-1] == wanted[-1]
    return given == wanted


def _initial(author):
    """`He, Kaiming` -> ("he", "k")."""
    family, _, given = author.partition(", ")
    return plain(family), plain(given)[:1]


def find_duplicates(printed: list[Printed]) -> list[tuple[int, int]]:
    """list of Printed -> pairs of numbers that have the same title."""
    return [
        (one.number, two.number)
        for place, one in enumerate(printed)
        for two in printed[place + 1 :]
        if plain(one.title) == plain(two.title)
    ]


def overlap(pages: str, other: str) -> range:
    """`34-42`, `30-38` -> range: the pages that both have."""
    (first, last), (begin, end) = (map(int, each.split("-")) for each in (pages, other))
    return range(max(first, begin), min(last, end) + 1)


# --- the literal formulas -----------------------------------------------------------------------------------


def compare_f1(shares: list[float], precision: float = 0.5, recall: float = 0.5) -> dict[str, list[float]]:
    """Shares of positives -> dict: F1, the harmonic mean of accuracy and recall, and the accuracy, for a
    classifier with this precision and recall.
    """
    found = {"F1": [], "accuracy with recall": [], "accuracy": []}
    for share in shares:
        false_negatives = share * (1 - recall)
        false_positives = share * recall * (1 - precision) / precision
        accuracy = 1 - false_negatives - false_positives
        found["F1"].append(2 * precision * recall / (precision + recall))
        found["accuracy with recall"].append(2 * accuracy * recall / (accuracy + recall))
        found["accuracy"].append(accuracy)
    return found


# --- who treats and who cites -------------------------------------------------------------------------------


def count_places(errata: dict[str, Erratum]) -> dict[str, dict[str, int]]:
    """Errata -> dict: for each chapter of the table how many of its errata a cell shows, the text explains,
    or the source alone answers (the chapter is not written yet).
    """
    found = {chapter.name: Counter() for chapter in chapters.TABLE}
    for erratum in errata.values():
        place = erratum.place
        shown = "fact" if place is None else "cell" if place.runs else "text"
        found[erratum.chapter.name][shown] += 1
    return {
        name: {shown: count[shown] for shown in ("cell", "text", "fact")} for name, count in found.items()
    }


def find_broken_links(errata: dict[str, Erratum]) -> list[str]:
    """Errata -> list of str: each link whose notebook or heading does not exist."""
    found = []
    for erratum in errata.values():
        if erratum.place is None:
            continue
        there = headings_of(erratum.place.chapter.notebook)
        for heading in erratum.place.links:
            if there[heading] != 1:
                found.append(f"{erratum.name}: {there[heading]} headings are called {heading!r}")
    return found


def headings_of(notebook: Path) -> Counter:
    """Path of a notebook -> Counter of its headings."""
    return Counter(find_headings(notebook))


def count_citing(entries: dict[str, Entry]) -> dict[str, list[str]]:
    """Entries -> dict: key -> the chapters whose notebook lists or cites it, the most cited first; this one
    is left out.
    """
    found = {key: [] for key in entries}
    for chapter in (chapter for chapter in chapters.written() if chapter.name != "errata"):
        for key in references.find_cited(references.read_prose(chapter.notebook), entries):
            found[key].append(chapter.name)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def find_missing(entries: dict[str, Entry]) -> list[str]:
    """Entries -> list of str: each citation of a written notebook that the bibliography does not have."""
    return [
        f"{chapter.name}: {fault}"
        for chapter in chapters.written()
        for fault in references.find_missing(references.read_prose(chapter.notebook), entries)
    ]
