"""The rows of `errata.toml`, and where a notebook treats each of them."""

import json
import re
import tomllib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from urllib.parse import quote

from vlmbook import chapters
from vlmbook.chapters import Chapter, references

ROWS = Path(references.BIBLIOGRAPHY).with_name("errata.toml")
SEVERITIES = {"W": "wrong", "M": "misleading", "I": "imprecise"}
KINDS = (
    "fact theory code formula method citation terminology diagram omission outdated structure typo naming "
    "notation typesetting"
).split()
FIELDS = ("sections", "kind", "printed", "wrong", "right", "source")
SECTION = re.compile(r"[1-8]\.\d(\.\d)?|App\. [ABC]|Refs")
PAPER = re.compile(r"@(\w+)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#{1,4} (.+?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """Where a notebook treats an erratum."""

    chapter: Chapter
    heading: str  # as JupyterLab shows it
    cell: int  # from 1, of the cell that names the erratum
    runs: bool  # whether a code cell shows it: that cell, the one below it, or those of `referred`
    referred: tuple[str, ...] = ()  # headings of the sections in which code shows it

    @property
    def links(self) -> dict[str, str]:
        """Heading -> its address from another notebook: where it is explained, then where code shows it."""
        headings = (self.heading, *self.referred)
        return {heading: f"{self.chapter.notebook.name}#{quote(anchor(heading))}" for heading in headings}


@dataclass(frozen=True)
class Erratum:
    """A row of the list."""

    name: str  # "W13"
    sections: tuple[str, ...]  # of the book
    kind: str
    printed: str  # a phrase or a formula of the book
    wrong: str
    right: str
    source: str  # with "@he2016" for a paper of references.bib

    @property
    def severity(self) -> str:
        """Wrong, misleading or imprecise."""
        return SEVERITIES[self.name[0]]

    @property
    def papers(self) -> list[str]:
        """The keys of the papers in its source."""
        return PAPER.findall(self.source)

    @property
    def chapter(self) -> Chapter:
        """The chapter that treats it, which may not be written yet."""
        [chapter] = [chapter for chapter in chapters.TABLE if self.name in chapter.errata]
        return chapter

    @cached_property
    def place(self) -> Place | None:
        """Where that chapter treats it; None while it is not written. Then its source stands for it."""
        return find_place(self.name, self.chapter) if self.chapter.notebook.exists() else None


def load(path: Path = ROWS) -> dict[str, Erratum]:
    """Path -> dict of Erratum by name, in the order of the file. Raises ValueError, which names faults."""
    tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    faults = [f"{name}: {fault}" for name, row in tables.items() for fault in _find_faults(name, row)]
    if faults:
        raise ValueError(f"{Path(path).name} wants to be mended: " + "; ".join(faults))
    return {name: Erratum(name, **row | {"sections": tuple(row["sections"])}) for name, row in tables.items()}


def _find_faults(name, row):
    if not re.fullmatch(r"[WMI]\d\d", name):
        yield "a name is W, M or I and two digits"
    if set(row) != set(FIELDS):
        yield f"it has the fields {', '.join(row)}, not {', '.join(FIELDS)}"
        return
    if not row["sections"] or not all(SECTION.fullmatch(section) for section in row["sections"]):
        yield f"its sections are {row['sections']}"
    if row["kind"] not in KINDS:
        yield f"its kind is {row['kind']!r}"
    for field in FIELDS[2:]:
        if not row[field].strip():
            yield f"its {field} is empty"


def order(section: str) -> tuple[int, str]:
    """A section -> where it stands in the book: chapters, appendices, references."""
    if section[0].isdigit():
        return 0, section
    return (1, section) if section.startswith("App.") else (2, section)


# --- places -------------------------------------------------------------------------------------------------


def anchor(heading: str) -> str:
    """str -> str: how JupyterLab calls the heading in an address."""
    return heading.replace(" ", "-")


def find_headings(notebook: Path) -> list[str]:
    """Path of a notebook -> list of str: its headings, as a reader sees them."""
    return _headings(_read_cells(notebook))


def find_place(name: str, chapter: Chapter) -> Place:
    """Name, Chapter -> Place: the cell of its book check that names it; else the last one that names it in
    bold, else the last one.

    Raises LookupError for a notebook that does not name it, and for one that names it under no heading.
    """
    cells = _read_cells(chapter.notebook)
    naming = [number for number, (_, source) in enumerate(cells) if _names(name, source)]
    if not naming:
        raise LookupError(f"{chapter.notebook.name} does not name {name}")
    above = {number: _heading_above(cells, number, name) for number in naming}
    checked = [number for number in naming if "Book check" in above[number]]
    bold = [number for number in naming if re.search(rf"\*\*[^*\n]*\b{name}\b", cells[number][1])]
    number = (checked or bold or naming)[-1]
    if not above[number]:
        raise LookupError(f"{chapter.notebook.name} names {name} above its first heading")
    referred = _sections_of(name, cells[number][1], find_headings(chapter.notebook))
    in_code = any(cells[each][0] == "code" for each in naming)
    below = number + 1 < len(cells) and cells[number + 1][0] == "code"
    here = above[number] and not checked and _has_code(cells, number, above[number])
    runs = in_code or here or bool(referred) or (below and _names(name, _parts(cells[number][1])[-1]))
    return Place(chapter, above[number], number + 1, runs, referred)


def _names(name, source):
    return bool(re.search(rf"\b{name}\b", source))


def _heading_above(cells, number, name):
    """-> str: the last heading before the cell names the erratum, "" if there is none."""
    kind, source = cells[number]
    before = source[: source.find("\n", re.search(rf"\b{name}\b", source).start())] + "\n"
    found = _headings([*cells[:number], (kind, before)])
    return found[-1] if found else ""


def _has_code(cells, number, heading):
    """-> bool: whether the section of the cell, which the heading begins, has a code cell."""
    first = max(at for at in range(number + 1) if heading in _headings([cells[at]]))
    after = [at for at in range(first + 1, len(cells)) if _headings([cells[at]])]
    return any(kind == "code" for kind, _ in cells[first : after[0] if after else None])


def _sections_of(name, source, headings):
    """-> tuple of headings: the sections, or the exercise, to which the note on the erratum refers."""
    [note, *_] = [part for part in _parts(source) if _names(name, part)]
    pairs = re.findall(r"\b[Ss]ections? (\d+)(?: (?:and|to) (\d+))?", " ".join(note.split()))
    numbers = [int(number) for pair in pairs for number in pair if number]
    found = [heading for heading in headings for number in numbers if heading.startswith(f"{number} ")]
    if re.search(r"\bExercise \d", note):
        found += [heading for heading in headings if re.search(r"\bExercises$", heading)]
    return tuple(dict.fromkeys(found))


def _parts(source):
    """-> list of str: paragraphs and points of lists."""
    return re.split(r"\n\s*\n|\n- ", source.strip())


def _read_cells(notebook):
    """-> tuple of (type, source)."""
    return _cells_of(Path(notebook), Path(notebook).stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _cells_of(path, _changed):
    """A notebook is read once, and again after it was changed."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return tuple((cell["cell_type"], "".join(cell["source"])) for cell in cells)


def _headings(cells):
    """-> list of str: the headings in the Markdown cells, without the marks of Markdown."""
    prose = [FENCE.sub("", source) for kind, source in cells if kind == "markdown"]
    return [re.sub(r"\*\*|`", "", heading) for source in prose for heading in HEADING.findall(source)]
