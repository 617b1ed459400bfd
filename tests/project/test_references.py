"""references.bib: sound in itself, and every citation of every chapter stands in it."""

import re

import pytest

from tools import references as tool
from tools.__main__ import main
from vlmbook import chapters
from vlmbook.chapters import references
from vlmbook.chapters.references import Citation

ENTRIES = references.load()
BEGUN = chapters.begun()


# --- the file against the chapters --------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", BEGUN, ids=lambda chapter: chapter.name)
def test_every_citation_and_every_listed_paper_has_an_entry(chapter):
    """The message says what to add to vlmbook/chapters/references.bib."""
    missing = references.find_missing(tool.read_prose(chapter), ENTRIES)
    assert missing == [], "\n".join(missing)


def test_no_chapter_differs_from_the_bibliography():
    assert tool.find_differences(ENTRIES) == []


def test_every_entry_is_cited():
    unused = tool.find_unused(ENTRIES)
    assert unused == [], f"delete from references.bib, for nothing cites them: {', '.join(unused)}"


def test_the_citations_of_the_chapters_are_found_at_all():
    """A pattern that found none would pass every test above."""
    by_hand = {"ch03b": ("he2016", "he2015", "he2016b"), "ch07c": ("chao2016",), "ch03a": ("hubel1962",)}
    for name, keys in by_hand.items():
        cited = references.find_cited(tool.read_prose(chapters.find(name)), ENTRIES)
        assert all(cited.get(key) for key in keys), name


def test_no_year_in_brackets_is_overlooked():
    """Each bracket of a text that holds a year and a name is read as a citation, whole."""
    for chapter in BEGUN:
        for text in tool.read_prose(chapter):
            flat = " ".join(text.partition(references.LIST)[0].split())
            for found in re.findall(r"\[([^\][]*[A-Za-z][^\][]* (?:19|20)\d\d\w?)\](?!\()", flat):
                count = len(references.find_citations([f"[{found}]"]))
                assert count == found.count(";") + 1, f"{chapter.name}: [{found}]"


def test_the_tool_tells_what_is_missing(monkeypatch, capsys):
    assert main(["references"]) == 0
    fewer = {key: entry for key, entry in ENTRIES.items() if key != "chao2016"}
    monkeypatch.setattr(references, "load", lambda: fewer)
    assert main(["references"]) == 1
    said = capsys.readouterr().out
    assert (
        "ch07c: add to references.bib: @…{chao2016, author = {Chao, …}, title = {An empirical study" in said
    )
    assert "eprint = {1605.04253}" in said
    assert "ch07c: add to references.bib the paper of 2016 that is cited as '[Chao et al. 2016]'" in said


# --- the file in itself -------------------------------------------------------------------------------------

GOOD = {
    "author": "He, Kaiming and others",
    "title": "A title",
    "booktitle": "CVPR",
    "year": "2016",
    "eprint": "1512.03385",
    "archiveprefix": "arXiv",
    "doi": "10.1109/CVPR.2016.90",
}


def write(path, key="he2016", **changes):
    fields = {name: value for name, value in (GOOD | changes).items() if value is not None}
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    path.write_text(f"@inproceedings{{{key},\n{lines}}}\n", encoding="utf-8")
    return path


def test_a_good_entry_is_read(tmp_path):
    [entry] = references.load(write(tmp_path / "a.bib", pages="1--9", volume="3", book="7, 12")).values()
    assert entry.families == ("He",) and entry.others and entry.venue == "CVPR"
    assert (entry.pages, entry.book, entry.years) == ("1-9", (7, 12), {2015, 2016})
    assert entry.label == "He et al. 2016" and entry.address == "https://arxiv.org/abs/1512.03385"
    assert references.describe(entry) == "K. He et al.: A title. CVPR 3, 2016, 1-9."
    assert "https://doi.org/10.1109/CVPR.2016.90" in references.as_html(entry)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"title": None}, "it has no title"),
        ({"author": None}, "it has no author"),
        ({"year": None}, "it has no year"),
        ({"year": "2016a"}, "its year is"),
        ({"title": " "}, "its title is empty"),
        ({"title": r"\'Etude"}, "holds LaTeX"),
        ({"colour": "red"}, "has the field colour"),
        ({"booktitle": None, "eprint": None, "archiveprefix": None}, "neither a venue nor an arXiv id"),
        ({"journal": "Nature"}, "venues journal and booktitle"),
        ({"eprint": None}, "belong together"),
        ({"archiveprefix": None}, "belong together"),
        ({"eprint": "1513.03385"}, "its arXiv id is"),
        ({"eprint": "1701.03385"}, "published in 2016, but its arXiv id is of 2017"),
        ({"eprint": "1001.03385"}, "published in 2016, but its arXiv id is of 2010"),
        ({"doi": "doi:10.1109/x"}, "its doi is"),
        ({"author": "Kaiming He"}, "Family, Given"),
        ({"key": "he2015"}, "its key wants to be he2016"),
        ({"key": "he2016a"}, "its key wants to be he2016"),
        ({"key": "ren2016"}, "its key wants to be he2016"),
    ],
)
def test_a_faulty_entry_is_refused(tmp_path, changes, says):
    with pytest.raises(ValueError, match=says):
        references.load(write(tmp_path / "a.bib", **changes))


def test_a_key_twice_and_broken_bibtex_are_refused(tmp_path):
    text = write(tmp_path / "a.bib").read_text(encoding="utf-8")
    for broken in (text + text, text.replace("title = {A title},", "title = {A title"), f"{text}@misc{{x,"):
        (tmp_path / "a.bib").write_text(broken, encoding="utf-8")
        with pytest.raises(ValueError, match="line "):
            references.load(tmp_path / "a.bib")


def test_no_paper_is_there_twice():
    for field in ("arxiv", "doi"):
        values = [value for entry in ENTRIES.values() if (value := getattr(entry, field))]
        assert len(set(values)) == len(values), field
    titles = [references.plain(entry.title) for entry in ENTRIES.values()]
    assert len(set(titles)) == len(titles)


def test_letters_follow_one_another():
    for key in ENTRIES:
        if key[-1].isalpha():
            before = key[:-1] + ("" if key[-1] == "b" else chr(ord(key[-1]) - 1))
            assert before in ENTRIES, key


# --- reading citations --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("as [He et al. 2016] says", [(("He",), 2016, "", "")]),
        (
            "[Kingma & Ba 2014; He et al. 2015b, §4.2]",
            [(("Kingma", "Ba"), 2014, "", ""), (("He",), 2015, "b", "§4.2")],
        ),
        ("[after Zhang, Dauphin & Ma 2019]", [(("Zhang", "Dauphin", "Ma"), 2019, "", "")]),
        ("[van den Oord et al.\n2018]", [(("van den Oord",), 2018, "", "")]),
        ("[Radford et al. 2018: a decoder]", [(("Radford",), 2018, "", "a decoder")]),
        ("a link [chapter 2019](ch01.ipynb), sizes [128, 2048], `x[2015]`", None),
        ("Hubel and Wiesel [1962] found", [((), 1962, "", "")]),
        ("**References.** K. He, *Title*, CVPR 2016 [2015].", []),
    ],
)
def test_citations_are_read(text, wanted):
    found = references.find_citations([text])
    if wanted is None:
        assert not [citation for citation in found if citation.families]
    else:
        assert [(c.families, c.year, c.letter, c.after) for c in found] == wanted


LISTED = (
    "**References.** K. He, X. Zhang, S. Ren, J. Sun, *Deep residual learning*, CVPR 2016 [2015], "
    "arXiv:1512.03385 · K. He et al., *Delving deep into rectifiers*, ICCV 2015 [2015b]."
)


def test_a_list_is_read():
    one, two = references.find_items([LISTED])
    assert one.families == ("He", "Zhang", "Ren", "Sun") and one.complete and one.arxiv == "1512.03385"
    assert (one.years, one.cited, two.cited) == ((2016, 2015), ((2015, ""),), ((2015, "b"),))
    assert not two.complete and two.families == ("He",)
    assert [references.find_entry(item, ENTRIES).key for item in (one, two)] == ["he2016", "he2015"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("1512.03385", "1512.03386"), "has the arXiv id 1512.03385"),
        (("CVPR 2016", "CVPR 2017"), "has the years 2015, 2016"),
        (("X. Zhang, ", ""), "has the authors He, Zhang, Ren, Sun"),
        (("*Deep residual learning*", "*Deep learning*"), "has the title"),
        (("CVPR 2016 [2015]", "CVPR"), "it has no year"),
    ],
)
def test_a_list_that_differs_is_named(change, says):
    assert references.find_differences([LISTED], ENTRIES) == []
    found = references.find_differences([LISTED.replace(*change)], ENTRIES)
    assert len(found) == 1 and says in found[0]


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("[He et al. 2015]", ["he2016"]),
        ("[He et al. 2015b]", ["he2015"]),
        ("He and others [2015b]", ["he2015"]),
        ("[He et al. 2016]", []),
        ("[Ren et al. 2015]", []),
    ],
)
def test_the_list_of_a_notebook_decides_what_a_citation_means(text, keys):
    cited = references.find_cited([text, LISTED], ENTRIES)
    assert [key for key, shown in cited.items() if shown] == keys


def test_without_a_list_the_bibliography_decides():
    assert references.find_missing(["[He et al. 2017; Snell et al. 2017]"], ENTRIES) == []
    [fault] = references.find_missing(["[He et al. 2011]"], ENTRIES)
    assert "paper of 2011" in fault and "[He et al. 2011]" in fault
    [fault] = references.find_missing(["[Kingma & He 2014]"], ENTRIES)
    assert "Kingma & He" in fault


def test_a_word_of_the_title_decides_between_two():
    both = [entry for entry in ENTRIES.values() if entry.key in ("zhang2018", "zhang2018b")]
    named = Citation("", ("Zhang",), 2018, "", after="FFDNet")
    pairs = [(entry, None) for entry in both]
    assert [entry.key for entry in references._fitting(named, pairs)] == ["zhang2018b"]


@pytest.mark.parametrize("identifier", ["1513.03385", "151.03385", "cs/0112017", "", "1512.033"])
def test_what_is_no_arxiv_id_is_refused(identifier):
    with pytest.raises(ValueError, match="arXiv id wants"):
        references.arxiv_year(identifier)
