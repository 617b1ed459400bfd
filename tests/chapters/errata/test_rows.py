"""The list of errata: complete, in agreement with the note it was made from, each row with its evidence."""

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import nbformat
import pytest

from tests.project.test_chapters import ERRATA, LIST
from vlmbook import chapters
from vlmbook.chapters import references
from vlmbook.chapters.errata import browser, experiments, rows

ROWS = rows.load()
ENTRIES = references.load()
NAMED = {"App. A": "App. A", "A": "App. A", "B": "App. B", "C": "App. C", "App. C": "App. C"}
NOTE = re.compile(r"^### ([WMI]\d\d) · (.+) · (\w+)\n\n- \*\*Quote:\*\* (.+)$", re.MULTILINE)


def test_each_erratum_has_one_row():
    assert sorted(ROWS) == sorted(ERRATA)


@pytest.mark.skipif(not LIST.exists(), reason="the list of errata is not here")
def test_section_kind_severity_and_phrase_are_those_of_the_list():
    text = LIST.read_text(encoding="utf-8")
    notes = {name: rest for name, *rest in NOTE.findall(text)}
    assert len(notes) == 159
    part = {name: text[: text.index(f"### {name} ")].rpartition("\n## ")[2].split()[0] for name in notes}
    for name, (sections, kind, quote) in notes.items():
        erratum = ROWS[name]
        assert erratum.sections == tuple(NAMED.get(each, each) for each in sections.split(", ")), name
        assert erratum.kind == kind and erratum.severity == part[name].lower(), name
        assert erratum.printed == quote.strip("`“”"), name


@pytest.mark.skipif(not LIST.exists(), reason="the book is not here")
def test_what_is_ours_holds_no_sentence_of_the_book():
    [path] = LIST.parent.glob("*.txt")
    book = re.sub(r"\s", "", path.read_text(encoding="utf-8"))
    for erratum in ROWS.values():
        assert len(re.findall("[一-鿿]", erratum.printed)) <= 20, erratum.name
        for text in (erratum.wrong, erratum.right):
            for run in re.findall("[一-鿿，、]{13,}", text):
                assert run not in book, erratum.name


def test_each_row_has_its_source_and_its_papers_are_in_the_bibliography():
    for erratum in ROWS.values():
        assert erratum.source.strip()
        assert set(erratum.papers) <= set(ENTRIES), erratum.name


def test_each_wrong_or_misleading_entry_of_a_written_chapter_is_in_its_notebook():
    """LookupError says which notebook does not name which erratum."""
    for erratum in ROWS.values():
        if erratum.chapter.notebook.exists():
            assert erratum.place.chapter == erratum.chapter, erratum.name
            assert erratum.place.links, erratum.name


def test_every_link_leads_to_one_heading():
    assert experiments.find_broken_links(ROWS) == []


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if tag == "a" and name == "href"]


def committed_links():
    """-> list of str: the links in the tables of the committed notebook, and those in its text."""
    notebook = nbformat.read(chapters.find("errata").notebook, as_version=4)
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            found += Links(output.get("data", {}).get("text/html", "")).found
        if cell.cell_type == "markdown":
            found += re.findall(r"\]\(([^)]+)\)", cell.source)
    return found


def test_the_committed_links_lead_somewhere():
    """A heading that was renamed since is named here: execute the errata again."""
    found = committed_links()
    addresses = {entry.address for entry in ENTRIES.values()}
    addresses |= {f"https://doi.org/{entry.doi}" for entry in ENTRIES.values()}
    inner = [link for link in found if not link.startswith("https://")]
    assert set(found) - set(inner) <= addresses
    assert len(inner) > 80
    anchors = {}
    for link in inner:
        name, _, anchor = link.partition("#")
        path = chapters.NOTEBOOKS / name
        assert path.exists(), link
        if path not in anchors:
            anchors[path] = [rows.anchor(heading) for heading in rows.find_headings(path)]
        assert not anchor or anchors[path].count(unquote(anchor)) == 1, f"{link}: execute the errata again"


# --- places in a small notebook -----------------------------------------------------------------------------


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    """A chapter whose notebook a test writes: `chapter(("markdown", "…"), ("code", "…"))`."""
    monkeypatch.setattr(chapters, "NOTEBOOKS", tmp_path)

    def write(*cells):
        new = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
        notebook = nbformat.v4.new_notebook(cells=[new[kind](source) for kind, source in cells])
        found = chapters.TABLE[2]
        nbformat.write(notebook, found.notebook)
        return found

    return write


def test_the_book_check_goes_before_other_mentions(chapter):
    there = chapter(
        ("markdown", "# Title\n\n## 1 First\n\nlater: **W01**"),
        ("code", "x = 1"),
        ("markdown", "## 2 Book check\n\n- **W01** is wrong.\n- **W09** too."),
        ("markdown", "## 3 Exercises\n\n**1** as **W01**"),
    )
    place = rows.find_place("W01", there)
    assert (place.heading, place.cell, place.runs, place.referred) == ("2 Book check", 3, False, ())
    assert list(place.links.values()) == [f"{there.notebook.name}#2-Book-check"]


def test_a_heading_in_the_same_cell_counts_only_above_the_mention(chapter):
    there = chapter(("markdown", "# T\n\n## 1 Book check\n\n**W01**\n\n## 2 After"), ("code", "x = 1"))
    assert rows.find_place("W01", there).heading == "1 Book check"


def test_a_cell_shows_what_stands_right_above_it_or_what_it_names(chapter):
    there = chapter(
        ("markdown", "# T\n\n## 1 Book check\n\n- **W01** one\n- **W09** two\n- **W10** three"),
        ("code", "assert 1  # W09"),
    )
    assert [rows.find_place(name, there).runs for name in ("W01", "W09", "W10")] == [False, True, True]


def test_a_reference_to_sections_is_followed(chapter):
    there = chapter(
        ("markdown", "# T\n\n## 1 Convolve\n\ntext"),
        ("markdown", "## 2 Pool\n\ntext"),
        ("markdown", "## 3 Book check\n\n- **W01**: sections 1 and\n  2 show it.\n- **W09** is alone."),
    )
    assert rows.find_place("W01", there).referred == ("1 Convolve", "2 Pool")
    assert rows.find_place("W01", there).runs and not rows.find_place("W09", there).runs


def test_an_erratum_that_is_not_named_is_an_error(chapter):
    there = chapter(("markdown", "# T\n\n## 1 Book check\n\n**W011**, XW01"))
    with pytest.raises(LookupError, match="does not name W01"):
        rows.find_place("W01", there)


def test_a_mention_above_every_heading_is_an_error(chapter):
    with pytest.raises(LookupError, match="above its first heading"):
        rows.find_place("W01", chapter(("code", "# W01"), ("markdown", "# T")))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ('sections = ["3.1.4.1"]', "its sections are"),
        ("sections = []", "its sections are"),
        ('kind = "rumour"', "its kind is 'rumour'"),
        ('right = " "', "its right is empty"),
        ('colour = "red"', "it has the fields"),
    ],
)
def test_a_faulty_row_is_refused(tmp_path, change, says):
    row = {
        "sections": '["2.1"]',
        "kind": '"fact"',
        "printed": '"a"',
        "wrong": '"b"',
        "right": '"c"',
        "source": '"d"',
    }
    name, _, value = change.partition(" = ")
    path = tmp_path / "errata.toml"
    path.write_text("[W01]\n" + "".join(f"{k} = {v}\n" for k, v in (row | {name: value}).items()))
    with pytest.raises(ValueError, match=f"W01: {says}"):
        rows.load(path)


# --- the table ----------------------------------------------------------------------------------------------


def test_the_menus_and_words_choose_rows():
    def names(**chosen):
        return {erratum.name for erratum in browser.choose(ROWS, **chosen)}

    assert names() == set(ROWS)
    assert names(section="2.2.1") < names(section="2.2")
    assert names(severity="wrong") == {name for name in ROWS if name[0] == "W"}
    assert names(words="SOFTMAX w02") == {"W02"}
    assert names(words="no such words") == set()
    with pytest.raises(ValueError, match="severity wants"):
        browser.choose(ROWS, severity="Wrong")
    for section in browser.find_sections(ROWS):
        assert names(section=section)


def test_sections_stand_in_the_order_of_the_book():
    found = browser.find_sections(ROWS)
    assert found[0] == "1.1" and found[-4:] == ["App. A", "App. B", "App. C", "Refs"]


def test_the_browser_follows_its_controls_and_stays_readable_without_a_kernel():
    shown = browser.Browser(ROWS, ENTRIES)
    assert len(shown.shown) == 159
    shown.severity.value, shown.section.value, shown.words.value = "wrong", "App. A", "dropout"
    assert [erratum.name for erratum in shown.shown] == ["W23"]
    assert shown.count.value.startswith("1 of 159")
    assert "<b>W23</b>" in shown.table.value and "<b>W24</b>" not in shown.table.value
    data, _ = shown._repr_mimebundle_()
    assert data["text/html"].count("<tr>") == 160  # the whole table, whatever is chosen


def test_what_is_printed_is_no_formula_and_no_html_for_a_browser():
    row = rows.Erratum("W01", ("2.1",), "fact", "<b>$x$</b> & y", "a", "b", "@he2016, eq. 1")
    table = browser.as_table([row], ENTRIES)
    assert ">&lt;b&gt;&#36;x&#36;&lt;/b&gt; &amp; y</code>" in table
    assert '<a href="https://arxiv.org/abs/1512.03385">He et al. 2016</a>, eq. 1' in table


def test_an_erratum_of_a_chapter_to_come_is_a_fact_with_its_source(monkeypatch, tmp_path):
    monkeypatch.setattr(chapters, "NOTEBOOKS", tmp_path)
    row = rows.load()["W44"]
    assert row.place is None
    table = browser.as_table([row], ENTRIES)
    assert "<i>fact</i>; chapter appendix_b is to come" in table and "Deng et al. 2009" in table
