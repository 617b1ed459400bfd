"""The bibliography: `references.bib`, and whether what the notebooks cite stands in it.

An entry has the year of its publication. Its arXiv id tells the year of the first version, which may be
earlier: a notebook may cite either. `python -m tools references` lists what is missing.
"""

import html
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import bibtexparser

BIBLIOGRAPHY = Path(__file__).with_name("references.bib")
VENUES = ("journal", "booktitle", "institution", "publisher", "howpublished")
REQUIRED = ("author", "title", "year")
FIELDS = {*REQUIRED, *VENUES, "volume", "number", "pages", "eprint", "archiveprefix", "doi", "book"}
ARXIV = re.compile(r"(\d\d)(0[1-9]|1[0-2])\.(\d{4,5})")
DOI = re.compile(r"10\.\d{4,9}/[-._;()/:A-Za-z0-9]+")
LATEST = 4  # years from the first version of a paper to its publication, at most
LIST = "**References.**"  # begins the list at the end of a notebook

YEAR = r"(?P<year>(?:19|20)\d\d)(?P<letter>[a-z])?"
BRACKETS = re.compile(r"\[([^\][]*\b(?:19|20)\d\d[a-z]?\b[^\][]*)\](?!\()")
CITED = re.compile(
    r"(?:(?:as in|after|see|cf\.) )?(?P<names>(?:van |de |von |der |den )*[^\W\d_a-z].*?),? "
    rf"{YEAR}(?:[,:] (?P<after>.*))?"
)
YEAR_ALONE = re.compile(rf"{YEAR}(?:[,:] .*)?")
NEAR = 100  # characters before a year in brackets in which the author's name is looked for
INITIALS = re.compile(r"^(?:\w{1,2}\.[\s-]?)+")


@dataclass(frozen=True)
class Entry:
    """A paper, book or report of the bibliography."""

    key: str  # "he2016b": family name, year of publication, a letter where there are several
    authors: tuple[str, ...]  # "He, Kaiming"; the first ones, if there are others
    others: bool  # whether authors are left out
    title: str
    year: int  # of publication
    venue: str
    volume: str
    number: str
    pages: str  # "770-778"
    arxiv: str  # "1512.03385"
    doi: str
    book: tuple[int, ...]  # its numbers in the book's own list

    @property
    def families(self) -> tuple[str, ...]:
        """The family names of the authors."""
        return tuple(author.partition(",")[0] for author in self.authors)

    @property
    def years(self) -> frozenset[int]:
        """The years by which it may be cited: of publication, and of the arXiv id."""
        return frozenset((self.year, arxiv_year(self.arxiv))) if self.arxiv else frozenset((self.year,))

    @property
    def letter(self) -> str:
        """What tells it from another entry of the same author and year: "b", or "" for the first one."""
        return self.key[-1] if self.key[-1].isalpha() else ""

    @property
    def label(self) -> str:
        """How a text cites it: "He et al. 2016b", "Kingma & Ba 2015"."""
        first, *rest = self.families
        if self.others or len(rest) > 1:
            first += " et al."
        elif rest:
            first += f" & {rest[0]}"
        return f"{first} {self.year}{self.letter}"

    @property
    def address(self) -> str:
        """Where it can be read: its page at arXiv, else its DOI's, "" where neither is known."""
        if self.arxiv:
            return f"https://arxiv.org/abs/{self.arxiv}"
        return f"https://doi.org/{self.doi}" if self.doi else ""


@dataclass(frozen=True)
class Citation:
    """What a sentence of a notebook cites."""

    shown: str  # as it stands there
    families: tuple[str, ...]  # the names that are given; () for a year alone
    year: int
    letter: str
    after: str = ""  # what follows the year: "eq. 1", or a word of the title
    near: str = ""  # for a year alone: the text before it, in which the name has to stand


@dataclass(frozen=True)
class Item:
    """A line of the list at the end of a notebook."""

    shown: str
    families: tuple[str, ...]
    complete: bool  # whether it names all authors
    title: str
    years: tuple[int, ...]  # each year that is shown
    cited: tuple[tuple[int, str], ...]  # how the text cites it: (2015, "b") for "ICCV 2015 [2015b]"
    arxiv: str
    doi: str


# --- the file -----------------------------------------------------------------------------------------------


def load(path: Path = BIBLIOGRAPHY) -> dict[str, Entry]:
    """Path of a BibTeX file -> dict of Entry by key, in the order of the file.

    Raises ValueError, which names each fault: what cannot be parsed, a key that is there twice, a field that
    is missing, empty or unknown, an arXiv id or DOI of another form, a year that does not fit the arXiv id.
    """
    library = bibtexparser.parse_string(Path(path).read_text(encoding="utf-8"))
    faults = [f"line {block.start_line + 1}: {block.error}" for block in library.failed_blocks]
    for block in library.entries:
        fields = {field.key: field.value for field in block.fields}
        faults += [f"{block.key}: {fault}" for fault in _find_faults(block.key, fields)]
    if faults:
        raise ValueError(f"{Path(path).name} wants to be mended: " + "; ".join(faults))
    return {
        block.key: _as_entry(block.key, {field.key: field.value for field in block.fields})
        for block in library.entries
    }


def arxiv_year(identifier: str) -> int:
    """str, an arXiv id since 2007 -> int: the year of its first version. "1512.03385" gives 2015.

    Raises ValueError for anything else.
    """
    found = ARXIV.fullmatch(identifier)
    if not found:
        raise ValueError(f"an arXiv id wants the form 1512.03385, got {identifier!r}")
    return 2000 + int(found[1])


def _find_faults(key, fields):
    for name in sorted(fields.keys() - FIELDS):
        yield f"it has the field {name}, which nobody reads"
    for name in REQUIRED:
        if not fields.get(name):
            yield f"it has no {name}"
    for name, value in fields.items():
        if not value.strip():
            yield f"its {name} is empty"
        if re.search(r"[{}\\]", value):
            yield f"its {name} holds LaTeX; the file is plain UTF-8"
    venues = [name for name in VENUES if fields.get(name)]
    if not venues and not fields.get("eprint"):
        yield "it has neither a venue nor an arXiv id"
    if len(venues) > 1:
        yield f"it has the venues {' and '.join(venues)}"
    if ("eprint" in fields) != (fields.get("archiveprefix") == "arXiv"):
        yield "eprint and archiveprefix = {arXiv} belong together"
    if fields.get("doi") and not DOI.fullmatch(fields["doi"]):
        yield f"its doi is {fields['doi']!r}"
    year = fields.get("year", "")
    if not re.fullmatch(r"(19|20)\d\d", year):
        yield f"its year is {year!r}"
    elif fields.get("eprint"):
        yield from _find_faults_of_arxiv(fields["eprint"], int(year))
    family = fields.get("author", "").partition(",")[0]
    if not re.fullmatch(rf"{re.escape(_key_of(family))}{year}[b-z]?", key):
        yield f"its key wants to be {_key_of(family)}{year}, and a letter from b on if that is taken"
    for author in fields.get("author", "").split(" and "):
        if author != "others" and not re.fullmatch(r"[^,]+, [^,]+", author):
            yield f"the author {author!r} wants the form Family, Given"


def _find_faults_of_arxiv(identifier, year):
    if not ARXIV.fullmatch(identifier):
        yield f"its arXiv id is {identifier!r}"
    elif not 0 <= year - arxiv_year(identifier) <= LATEST:
        yield f"it was published in {year}, but its arXiv id is of {arxiv_year(identifier)}"


def _key_of(family):
    """`Bond-Taylor` -> "bondtaylor", `van den Oord` -> "vandenoord"."""
    return plain(family).replace(" ", "")


def _as_entry(key, fields):
    authors = fields["author"].split(" and ")
    others = authors[-1] == "others"
    return Entry(
        key=key,
        authors=tuple(authors[:-1] if others else authors),
        others=others,
        title=fields["title"],
        year=int(fields["year"]),
        venue=next((fields[name] for name in VENUES if name in fields), ""),
        volume=fields.get("volume", ""),
        number=fields.get("number", ""),
        pages=fields.get("pages", "").replace("--", "-"),
        arxiv=fields.get("eprint", ""),
        doi=fields.get("doi", ""),
        book=tuple(int(number) for number in fields.get("book", "").split(",") if number.strip()),
    )


@cache
def plain(text: str) -> str:
    """str -> str: lower case, without accents and punctuation, single spaces; two titles are compared so."""
    letters = unicodedata.normalize("NFKD", text.replace("ø", "o").replace("ł", "l").replace("Ł", "L"))
    kept = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(re.sub(r"[^\w\s]|_", " ", kept.lower()).split())


# --- for a reader -------------------------------------------------------------------------------------------


def describe(entry: Entry) -> str:
    """Entry -> str: authors, title, venue and pages, in plain text without its links."""
    names = [_with_initials(author) for author in entry.authors] + ["et al."] * entry.others
    volume = f" {entry.volume}" + (f"({entry.number})" if entry.number else "") if entry.volume else ""
    venue = f"{entry.venue}{volume}, " if entry.venue else ""
    pages = f", {entry.pages}" if entry.pages else ""
    title = entry.title if entry.title.endswith("?") else f"{entry.title}."
    return f"{', '.join(names).replace(', et al.', ' et al.')}: {title} {venue}{entry.year}{pages}."


def as_html(entry: Entry) -> str:
    """Entry -> str: the same in HTML, with links to arXiv and to the DOI."""
    links = []
    if entry.arxiv:
        links.append(f'<a href="https://arxiv.org/abs/{entry.arxiv}">arXiv:{entry.arxiv}</a>')
    if entry.doi:
        address = html.escape(f"https://doi.org/{entry.doi}", quote=True)
        links.append(f'<a href="{address}">doi:{html.escape(entry.doi)}</a>')
    return " ".join([html.escape(describe(entry), quote=False), *links])


def _with_initials(author):
    """`Le, Quoc V.` -> "Q. V. Le"."""
    family, _, given = author.partition(", ")
    initials = ["-".join(f"{part[0]}." for part in name.split("-") if part) for name in given.split() if name]
    return " ".join([*initials, family])


# --- what a notebook cites ----------------------------------------------------------------------------------


def read_prose(notebook: Path) -> list[str]:
    """Path of a notebook -> list of str: its Markdown cells."""
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


def find_citations(prose: list[str]) -> list[Citation]:
    """list of Markdown texts -> list of Citation: each `[He et al. 2016; Kingma & Ba 2014, eq. 1]`, and each
    `[1962]` after a name, but those in the list at the end.
    """
    return [citation for text in prose for citation in _find_in(" ".join(_without_list(text).split()))]


def _find_in(text):
    for brackets in BRACKETS.finditer(text):
        for part in brackets[1].split(";"):
            found, alone = CITED.fullmatch(part.strip()), YEAR_ALONE.fullmatch(part.strip())
            if alone:
                near = text[max(0, brackets.start() - NEAR) : brackets.start()]
                yield Citation(
                    f"{near[-25:]}[{part}]", (), int(alone["year"]), alone["letter"] or "", near=near
                )
            elif found:
                families = _split_names(found["names"])
                yield Citation(
                    f"[{part.strip()}]",
                    families,
                    int(found["year"]),
                    found["letter"] or "",
                    after=found["after"] or "",
                )


def _split_names(names):
    """`Zhang, Dauphin & Ma` -> its three names, "He et al." -> ("He",)."""
    return tuple(re.split(r", (?:and )?| & | and ", names.removesuffix(" et al.")))


def _without_list(text):
    return text.partition(LIST)[0]


def find_items(prose: list[str]) -> list[Item]:
    """list of Markdown texts -> list of Item: the papers that are listed after `**References.**`. Pages of a
    library's documentation have no year, and stand in no bibliography.
    """
    listed = " ".join(text.partition(LIST)[2] for text in prose)
    parts = " ".join(listed.split()).split(" · ")
    return [_as_item(part) for part in parts if "*" in part and " documentation, *" not in part]


def _as_item(shown):
    before, title, after = (part.strip(" ,.") for part in re.split(r"\*(.+?)\*", shown, maxsplit=1))
    before = before.rpartition(": ")[2]  # "sizes of models: Y. LeCun et al."
    complete = not before.endswith("et al")
    names = [INITIALS.sub("", name).strip() for name in before.removesuffix(" et al").split(", ")]
    arxiv, doi = re.search(r"arXiv:(\d{4}\.\d{4,5})", after), re.search(r"doi:(\S+?)[.,]?(?: |$)", after)
    bare = re.sub(r"(arXiv|doi):\S+", "", after)
    years = tuple(int(year) for year in re.findall(r"\b((?:19|20)\d\d)[a-z]?\b", bare))
    brackets = [(int(year), letter) for year, letter in re.findall(r"\[((?:19|20)\d\d)([a-z]?)\]", bare)]
    return Item(
        shown=shown.strip(" ."),
        families=tuple(names),
        complete=complete,
        title=title,
        years=years,
        cited=tuple(brackets or ((year, "") for year in years)),
        arxiv=arxiv[1] if arxiv else "",
        doi=doi[1] if doi else "",
    )


def find_entry(item: Item, entries: dict[str, Entry]) -> Entry | None:
    """Item -> the Entry with its title, which may be shortened, and its first author; else the one with its
    arXiv id; None if there is none.
    """
    for entry in entries.values():
        title, whole = plain(item.title), plain(entry.title)
        same = title == whole or whole.startswith(f"{title} ")
        if same and plain(item.families[0]) == plain(entry.families[0]):
            return entry
    found = [entry for entry in entries.values() if item.arxiv and entry.arxiv == item.arxiv]
    return found[0] if found else None


def find_cited(prose: list[str], entries: dict[str, Entry]) -> dict[str, list[str]]:
    """list of Markdown texts -> dict: the key of each entry that they list or cite, with the citations."""
    found = {}
    for item in find_items(prose):
        entry = find_entry(item, entries)
        if entry:
            found.setdefault(entry.key, [])
    for citation in find_citations(prose):
        for entry in _fitting(citation, _candidates(prose, entries)):
            found.setdefault(entry.key, []).append(citation.shown)
    return found


# --- what is missing, and what differs ----------------------------------------------------------------------


def find_missing(prose: list[str], entries: dict[str, Entry]) -> list[str]:
    """list of Markdown texts -> list of str: each citation and each listed reference that no entry has, and
    what is to be added to references.bib.
    """
    found = []
    for item in find_items(prose):
        if find_entry(item, entries) is None:
            year = item.years[0] if item.years else "YEAR"
            key = _free_key(f"{_key_of(item.families[0])}{year}", entries)
            names = " and ".join(f"{family}, …" for family in item.families)
            arxiv = f" eprint = {{{item.arxiv}}}, archiveprefix = {{arXiv}}," if item.arxiv else ""
            found.append(
                f"add to references.bib: @…{{{key}, author = {{{names}}}, title = {{{item.title}}}, "
                f"year = {{{year}}},{arxiv} …}} for {item.shown!r}"
            )
    for citation in find_citations(prose):
        if not _fitting(citation, [(entry, None) for entry in entries.values()]):
            found.append(
                f"add to references.bib the paper of {citation.year} that is cited as {citation.shown!r}, or "
                "mend the name or the year"
            )
    return list(dict.fromkeys(found))


def _free_key(key, entries):
    """-> str: the key, with a letter from b on where it is taken."""
    return next(key + letter for letter in ("", *"bcdefghij") if key + letter not in entries)


def find_differences(prose: list[str], entries: dict[str, Entry]) -> list[str]:
    """list of Markdown texts -> list of str: what a notebook says of a paper and references.bib does not:
    other names, years or ids; a citation that its own list does not have, or that fits two papers of it.
    """
    found = []
    for item in find_items(prose):
        entry = find_entry(item, entries)
        if entry:
            found += [f"{item.shown!r}: {fault}" for fault in _compare(item, entry)]
    if find_items(prose):
        candidates = _candidates(prose, entries)
        for citation in find_citations(prose):
            fitting = _fitting(citation, candidates)
            if not fitting and _fitting(citation, [(entry, None) for entry in entries.values()]):
                found.append(f"{citation.shown!r}: its own list has no paper of this name and year")
            if len(fitting) > 1:
                keys = ", ".join(entry.key for entry in fitting)
                found.append(f"{citation.shown!r}: this fits {keys}")
    return list(dict.fromkeys(found))


def _candidates(prose, entries):
    """-> list of (Entry, Item): those that the notebook lists; all entries where it has no list."""
    items = find_items(prose)
    if not items:
        return [(entry, None) for entry in entries.values()]
    found = [(find_entry(item, entries), item) for item in items]
    return [(entry, item) for entry, item in found if entry]


def _fitting(citation, candidates):
    """-> list of Entry: those that the citation can mean. The list of a notebook decides on its letters, and
    a word of the title after the year, as in `[Zhang et al. 2018, FFDNet]`, on the rest.
    """
    found = [entry for entry, item in candidates if _names(citation, entry) and _dates(citation, entry, item)]
    named = [entry for entry in found if citation.after and plain(citation.after) in plain(entry.title)]
    return named or found


def _names(citation, entry):
    if not citation.families:
        return plain(entry.families[0]) in plain(citation.near)
    given = [plain(family) for family in citation.families]
    return given == [plain(family) for family in entry.families[: len(given)]]


def _dates(citation, entry, item):
    if item is None:
        return citation.year in entry.years
    return (citation.year, citation.letter) in item.cited


def _compare(item: Item, entry: Entry) -> Iterator[str]:
    given = [plain(family) for family in item.families]
    wanted = [plain(family) for family in entry.families]
    whole = item.complete and not entry.others
    if (given if whole else given[: len(wanted)]) != (wanted if whole else wanted[: len(given)]):
        yield f"references.bib has the authors {', '.join(entry.families)}"
    title, full = plain(item.title), plain(entry.title)
    if title != full and not full.startswith(f"{title} "):
        yield f"references.bib has the title {entry.title!r}"
    for year in item.years:
        if year not in entry.years:
            yield f"references.bib has the years {', '.join(map(str, sorted(entry.years)))}"
    if not item.years:
        yield "it has no year"
    if item.arxiv and item.arxiv != entry.arxiv:
        yield f"references.bib has the arXiv id {entry.arxiv or 'none'}"
    if item.doi and item.doi.lower() != entry.doi.lower():
        yield f"references.bib has the DOI {entry.doi or 'none'}"
