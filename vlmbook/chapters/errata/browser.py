"""The table of errata: menus and a box for words over it, and the whole table where no kernel runs."""

import html

import ipywidgets as widgets

from vlmbook.chapters import references
from vlmbook.chapters.errata.rows import PAPER, SEVERITIES, Erratum, order
from vlmbook.chapters.references import Entry
from vlmbook.validation import require_choice, require_type

ALL = "all"
COLUMNS = {"No.": 9, "Printed, and what is wrong": 34, "Right": 29, "Source, and where": 28}  # per cent
FRAME = '<div style="max-height: 480px; overflow: auto">{}</div>'


def choose(
    errata: dict[str, Erratum], section: str = ALL, severity: str = ALL, words: str = ""
) -> list[Erratum]:
    """Errata -> list of Erratum: of a section ("2.2" also finds 2.2.1) and a severity, with every word.

    Upper and lower case count as one. Raises ValueError for a severity that does not exist.
    """
    require_choice(severity, "severity", (ALL, *SEVERITIES.values()))
    require_type(section, "section", str, "a section of the book")
    require_type(words, "words", str, "words to look for")
    return [
        erratum
        for erratum in errata.values()
        if (section == ALL or any(_within(each, section) for each in erratum.sections))
        and severity in (ALL, erratum.severity)
        and all(word in _read(erratum) for word in words.lower().split())
    ]


def _within(section, whole):
    return section == whole or section.startswith(f"{whole}.")


def _read(erratum):
    """-> str: all that a reader sees of it, in lower case."""
    parts = (erratum.name, erratum.kind, erratum.printed, erratum.wrong, erratum.right, erratum.source)
    return " ".join(parts).lower()


def find_sections(errata: dict[str, Erratum]) -> list[str]:
    """Errata -> list of str: their sections, in the order of the book."""
    return sorted({section for erratum in errata.values() for section in erratum.sections}, key=order)


def as_table(errata: list[Erratum], entries: dict[str, Entry]) -> str:
    """list of Erratum -> str: a table in HTML, a row each, with links to papers and notebooks."""
    head = "".join(
        f'<th style="width: {width}%; text-align: left">{name}</th>' for name, width in COLUMNS.items()
    )
    rows = "".join(_as_row(erratum, entries) for erratum in errata)
    style = "table-layout: fixed; width: 100%; overflow-wrap: anywhere"
    return f'<table style="{style}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _as_row(erratum, entries):
    cells = (
        f"<b>{erratum.name}</b><br>{erratum.severity}<br>{', '.join(erratum.sections)}",
        f'<code style="white-space: normal">{_escape(erratum.printed)}</code><br>{_escape(erratum.wrong)}',
        _escape(erratum.right),
        f"{_link_papers(erratum.source, entries)}<br>{_link_places(erratum)}",
    )
    style = "text-align: left; vertical-align: top; white-space: normal"
    return "<tr>" + "".join(f'<td style="{style}">{cell}</td>' for cell in cells) + "</tr>"


def _escape(text):
    """A dollar sign would begin a formula in JupyterLab."""
    return html.escape(text, quote=False).replace("$", "&#36;")


def _link_papers(source, entries):
    def link(found):
        entry = entries[found[1]]
        label = _escape(entry.label)
        return f'<a href="{html.escape(entry.address)}">{label}</a>' if entry.address else label

    return PAPER.sub(link, _escape(source))


def _link_places(erratum):
    chapter, place = erratum.chapter, erratum.place
    if place is None:
        return f"<i>fact</i>; chapter {chapter.name} is to come"
    links = [f'<a href="{address}">{_escape(heading)}</a>' for heading, address in place.links.items()]
    return f"{chapter.name}: {', '.join(links)}" + ("" if place.runs else " (text)")


def as_list(entries: list[Entry]) -> str:
    """list of Entry -> str: the bibliography in HTML, with links."""
    lines = "".join(
        f"<li><b>{_escape(entry.label)}</b> {references.as_html(entry)}</li>" for entry in entries
    )
    return f"<ul>{lines}</ul>"


class Page:
    """HTML at the end of a cell, in a frame that scrolls."""

    def __init__(self, content: str):
        self.content = require_type(content, "content", str, "HTML")

    def _repr_html_(self):
        return FRAME.format(self.content)

    def __repr__(self):
        return "a table"


class Browser(widgets.VBox):
    """Menus of section and severity and a box for words over the table of errata; `shown` are the rows.

    Opened without a kernel, the whole table is there.
    """

    def __init__(self, errata: dict[str, Erratum], entries: dict[str, Entry]):
        self.errata, self.entries = errata, entries
        self.section = widgets.Dropdown(options=[ALL, *find_sections(errata)], description="section")
        self.severity = widgets.Dropdown(options=[ALL, *SEVERITIES.values()], description="severity")
        self.words = widgets.Text(placeholder="words, such as: softmax", description="words")
        self.count, self.table = widgets.HTML(), widgets.HTML()
        for control in (self.section, self.severity, self.words):
            control.observe(self._fill, "value")
        self._fill(None)
        wrapped = widgets.Layout(flex_flow="row wrap", align_items="flex-start")
        row = widgets.Box([self.section, self.severity, self.words, self.count], layout=wrapped)
        super().__init__([row, self.table])

    def _fill(self, _change):
        self.shown = choose(self.errata, self.section.value, self.severity.value, self.words.value)
        self.count.value = f"{len(self.shown)} of {len(self.errata)} errata"
        self.table.value = FRAME.format(as_table(self.shown, self.entries))

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        whole = FRAME.format(as_table(list(self.errata.values()), self.entries))
        return data | {"text/html": whole, "text/plain": f"a table of {len(self.errata)} errata"}, metadata
