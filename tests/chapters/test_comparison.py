"""The table that chapters 4a to 4d share, and its way through a record."""

import math

import pytest
import torch

from vlmbook import data
from vlmbook.chapters import comparison
from vlmbook.generation import train_feature_classifier
from vlmbook.notebook import records


@pytest.fixture(scope="module")
def classifier():
    images, labels = data.digits("train")
    return train_feature_classifier(images[:200], labels[:200], epochs=1)


@pytest.fixture(scope="module")
def held_out():
    return data.digits("test")[0][:40]


@pytest.fixture
def published(tmp_path, monkeypatch):
    """What this run records is published at once."""
    monkeypatch.setenv("VLMBOOK_OUTPUT", str(tmp_path))
    monkeypatch.setattr(records, "RESULTS", tmp_path)


def test_bits_are_means_over_images_and_pixels(held_out):
    nats = torch.full((40,), -64 * math.log(2) * 1.5)
    nats[:20] *= 2
    assert comparison.measure_bits(nats, held_out) == pytest.approx(2.25)


def draw_real(n):
    images, _ = data.digits("train")
    return images[torch.randint(len(images), (n,))]


def test_draws_have_the_classes_of_the_labels_by_the_classifiers_judgement(classifier):
    torch.manual_seed(0)
    named = classifier(data.digits("train")[0]).argmax(1)
    labels = named[:60]  # classes that it names at all
    images, drawn = comparison.draw_same_classes(draw_real, classifier, labels)
    assert classifier(images).argmax(1).equal(labels) and drawn >= 60 and drawn % 30 == 0


def test_a_class_that_never_comes_is_an_error(classifier, monkeypatch):
    monkeypatch.setattr(comparison, "ROUNDS", 2)
    labels = torch.arange(10)
    with pytest.raises(ValueError, match="images of all classes, got"):
        comparison.draw_same_classes(lambda n: torch.zeros(n, 1, 8, 8), classifier, labels)


def test_measured_draws_and_their_table(classifier, held_out):
    torch.manual_seed(0)
    labels = classifier(held_out).argmax(1)
    row = comparison.measure_draws(draw_real, classifier, held_out, labels, draws=2)
    assert set(row) == {"frechet", "precision", "recall", "ms"} and all(len(x) == 2 for x in row.values())
    assert row["frechet"][0] != row["frechet"][1] and min(row["frechet"]) > 0
    table = comparison.format_draws({"A": {"frechet": [1.0, 3.0], "parameters": 1234}, "a name": {"s": 0.5}})
    head, first, second = table.splitlines()
    assert len(head) == len(first) == len(second)
    assert head.split() == "frechet parameters s".split()
    assert first.split() == "A 2.00 ± 1.41 1,234 –".split()
    assert second.split() == "a name – – 0.5".split()


def test_bits_need_a_likelihood_for_each_held_out_image(held_out):
    with pytest.raises(ValueError, match=r"nats wants the shape \(40,\), got \(7,\)"):
        comparison.measure_bits(torch.zeros(7), held_out)


def test_rows_come_back_from_a_record(published):
    rows = {"A": {"frechet": [1.5, 2.0], "training s": 2.5}, "B b": {"frechet": [3.0, 3.5], "bits": 1.25}}
    records.record("ch04a", seed=0, rows=rows)
    found = comparison.load_published_rows("ch04a", "B b", "no such", "A")
    assert found == {"B b (ch04a)": rows["B b"], "A (ch04a)": rows["A"]}
    assert len(comparison.format_draws(rows | found).splitlines()) == 5


def test_no_rows_where_no_record_has_them(published):
    assert comparison.load_published_rows("ch04a", "A") == {}
    records.record("ch04a", seed=0, other=1)
    assert comparison.load_published_rows("ch04a", "A") == {}
    assert comparison.load_published_rows("ch04a", "A", profile="full") == {}
