"""What the notebook of errata computes and draws."""

import pytest
from sklearn.metrics import f1_score

from tests.support.drawings import drawn
from vlmbook.chapters import references
from vlmbook.chapters.errata import experiments, figures, rows
from vlmbook.chapters.errata.experiments import ABSENT, DIFFERS, MISSING, NOT_FOUND, SAME, Printed

ENTRIES = references.load()
RIGHT = Printed(
    number=4,
    key="he2016",
    authors=("He, K.", "Zhang, X.", "Ren, S.", "Sun, J."),
    title="Deep residual learning for image recognition",
    venue="CVPR",
    year=2016,
    pages="770-778",
)


def change(**fields):
    return experiments.compare(Printed(**vars(RIGHT) | fields), ENTRIES)


def test_a_right_reference_has_no_fault():
    assert set(experiments.compare(RIGHT, ENTRIES).values()) == {SAME, ABSENT}


@pytest.mark.parametrize(
    ("field", "given", "column", "state"),
    [
        ("title", "Deep residual learning", "title", DIFFERS),
        ("title", "Deep Residual Learning for Image Recognition.", "title", SAME),
        ("authors", ("Zhang, X.", "He, K.", "Ren, S.", "Sun, J."), "authors", DIFFERS),
        ("authors", ("He, K.", "Zhang, X.", "Ren, S."), "authors", DIFFERS),
        ("authors", ("He, Q.", "Zhang, X.", "Ren, S.", "Sun, J."), "authors", DIFFERS),
        ("year", 2015, "year", SAME),  # of its arXiv id
        ("year", 2014, "year", DIFFERS),
        ("venue", "ICCV", "venue", DIFFERS),
        ("venue", "arXiv", "venue", SAME),
        ("pages", "", "pages", MISSING),
        ("pages", "1-9", "pages", DIFFERS),
        ("volume", "3", "volume", DIFFERS),
        ("arxiv", "1512.03385", "arXiv id", SAME),
        ("arxiv", "1512.03386", "arXiv id", DIFFERS),
    ],
)
def test_each_field_is_compared(field, given, column, state):
    assert change(**{field: given})[column] == state


def test_a_shortened_list_ends_in_the_last_author():
    assert change(authors=("He, K.", "Sun, J."), shortened=True)["authors"] == SAME
    assert change(authors=("He, K.", "Ren, S."), shortened=True)["authors"] == DIFFERS


def test_a_paper_that_does_not_exist_has_no_right_field():
    assert set(change(key="").values()) == {NOT_FOUND}


def test_the_printed_list_is_whole():
    printed = experiments.load_printed()
    assert [each.number for each in printed] == list(range(1, 15))
    numbers = {each.number: each.key for each in printed if each.key}
    assert numbers == {number: key for key, entry in ENTRIES.items() for number in entry.book}


def test_duplicates_and_overlaps():
    twin = Printed(**vars(RIGHT) | {"number": 9, "title": "Deep residual learning for image recognition!"})
    assert experiments.find_duplicates([RIGHT, twin]) == [(4, 9)]
    assert list(experiments.overlap("3-5", "5-9")) == [5]
    assert not experiments.overlap("3-5", "6-9")


def test_f1_is_that_of_scikit_learn():
    truth = [1] * 10 + [0] * 990
    predicted = [1] * 5 + [0] * 5 + [1] * 5 + [0] * 985
    found = experiments.compare_f1([0.01])
    assert found["F1"] == [pytest.approx(f1_score(truth, predicted))]
    assert found["accuracy"] == [pytest.approx(0.99)]
    assert found["accuracy with recall"] == [pytest.approx(2 * 0.99 * 0.5 / 1.49)]


def test_places_are_counted_once_each():
    count = experiments.count_places(rows.load())
    assert sum(sum(row.values()) for row in count.values()) == 159


# --- figures ------------------------------------------------------------------------------------------------


def test_the_bars_count_each_erratum_at_its_first_section():
    found = [
        rows.Erratum(name, sections, "fact", "a", "b", "c", "d")
        for name, sections in (("W01", ("2.1", "1.1")), ("W02", ("2.1",)), ("I01", ("Refs",)))
    ]
    [axes] = drawn(figures.draw_counts, (7.5, 4.4), errata=found).axes
    lengths = {
        label.get_text(): [bar.get_width() for bar in bars]
        for label, bars in zip(axes.get_legend().get_texts(), axes.containers, strict=True)
    }
    assert lengths == {"wrong: 2": [2, 0], "misleading: 0": [0, 0], "imprecise: 1": [0, 1]}
    assert [text.get_text() for text in axes.get_yticklabels()] == ["2.1", "Refs"]


def test_the_comparison_has_a_colour_a_field():
    states = {4: experiments.compare(RIGHT, ENTRIES), 8: change(key="")}
    [axes] = drawn(figures.draw_comparison, (7.5, 3.8), states=states).axes
    colours = [patch.get_facecolor() for patch in axes.patches]
    assert len(colours) == 2 * len(experiments.COLUMNS)
    assert len(set(colours[7:])) == 1 and len(set(colours)) == 3


def test_f1_is_drawn_as_it_is():
    shares = [0.01, 0.1, 0.4]
    found = experiments.compare_f1(shares)
    [axes] = drawn(figures.draw_f1, (6.5, 2.6), shares=shares, found=found).axes
    assert [list(line.get_ydata()) for line in axes.lines] == list(found.values())
