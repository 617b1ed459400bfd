"""vlmbook.generation: one classifier's features for all generators, and the scores made of them."""

import math

import pytest
import torch
from torch.testing import assert_close

from vlmbook import data, generation
from vlmbook.metrics import frechet_distance, precision_recall
from vlmbook.notebook import records
from vlmbook.pixel_models import PixelHistogram


@pytest.fixture(scope="module")
def judge():
    return generation.judge(*data.digits("train"), epochs=3)


def test_the_judge_names_digits_it_has_not_seen(judge):
    images, labels = data.digits("test")
    assert (judge(images).argmax(1) == labels).double().mean() > 0.93
    assert not judge.training and not any(p.requires_grad for p in judge.parameters())


def test_the_judge_is_the_same_whatever_was_drawn_before():
    images, labels = data.digits("train")
    some = images[:100], labels[:100]
    torch.manual_seed(3)
    first, after = generation.judge(*some, epochs=1), torch.rand(1)
    torch.manual_seed(3)
    assert_close(torch.rand(1), after)  # and leaves the global generator as it was
    torch.rand(17)
    second, other = generation.judge(*some, epochs=1), generation.judge(*some, epochs=1, seed=1)
    weights = [net.state_dict()["fc.weight"] for net in (first, second, other)]
    assert_close(weights[0], weights[1])
    assert (weights[0] - weights[2]).abs().max() > 0.01


def test_features_are_what_the_last_layer_reads(judge):
    images = data.digits("test")[0].repeat(2, 1, 1, 1)  # more than one part of 500
    found = generation.features(judge, images)
    assert found.shape == (720, 64)
    assert_close(judge.fc(found), judge(images), rtol=1e-4, atol=1e-4)


def test_the_score_is_that_of_the_features_and_orders_what_the_eye_orders(judge):
    images, held_out = data.digits("train")[0], data.digits("test")[0]
    real, seen = (generation.features(judge, x) for x in (held_out, images[:360]))
    best = generation.score(judge, images[:360], held_out)
    assert best["frechet"] == frechet_distance(real, seen)
    assert (best["precision"], best["recall"]) == precision_recall(real, seen)
    g = torch.Generator().manual_seed(0)
    histogram, collapsed = PixelHistogram(images, 17).sample(360, g), images[:1].expand(360, -1, -1, -1)
    scores = [generation.score(judge, x, held_out) for x in (histogram, collapsed)]
    assert best["frechet"] * 5 < scores[0]["frechet"] < scores[1]["frechet"]
    assert best["precision"] > 0.9 > scores[0]["precision"] and scores[1]["recall"] < 0.02
    with pytest.raises(ValueError, match="as many samples as held-out images, got 10 and 360"):
        generation.score(judge, images[:10], held_out)


def test_a_row_and_the_table(judge):
    held_out = data.digits("test")[0]
    nats = torch.full((360,), -64 * math.log(2) * 1.5)
    row = generation.row("A", judge, held_out, held_out, nats=nats, seconds=2, ms=0.5)
    bare = generation.row("a longer name", judge, held_out, held_out)
    assert row["bits"] == pytest.approx(1.5) and row["frechet"] == pytest.approx(0, abs=1e-6)
    assert bare["bits"] is bare["seconds"] is bare["ms"] is None and bare["precision"] == bare["recall"] == 1
    head, first, second = generation.table([row, bare]).splitlines()
    assert len(head) == len(first) == len(second)
    assert head.split() == [
        "bits/dim",
        "Fréchet",
        "precision",
        "recall",
        "training",
        "s",
        "ms",
        "a",
        "sample",
    ]
    assert first.split() == ["A", "1.500", "0.00", "1.00", "1.00", "2.0", "0.500"]
    assert second.split() == ["a", "longer", "name", "–", "0.00", "1.00", "1.00", "–", "–"]


@pytest.mark.parametrize(
    ("images", "labels", "error", "says"),
    [
        (torch.rand(4, 1, 8, 8), torch.zeros(4), TypeError, "int64 labels, got torch.float32"),
        (torch.rand(4, 1, 8, 8), torch.tensor([0, 1, -1, 0]), ValueError, "label from 0 on"),
        (torch.rand(4, 1, 8, 8), torch.zeros(3).long(), ValueError, r"got \(4, 1, 8, 8\) and \(3,\)"),
        (torch.zeros(4, 1, 8, 8).byte(), torch.zeros(4).long(), TypeError, "floating dtype, got torch.uint8"),
    ],
)
def test_a_judge_wants_images_and_labels(images, labels, error, says):
    with pytest.raises(error, match=says):
        generation.judge(images, labels)


def test_real_images_of_the_same_classes():
    images, labels = data.digits("train")
    wanted = data.digits("test")[1]
    chosen = generation.same_classes(images, labels, wanted)
    known = {
        tuple(image.flatten().tolist()): label.item() for image, label in zip(images, labels, strict=True)
    }
    assert [known[tuple(image.flatten().tolist())] for image in chosen] == wanted.tolist()
    assert len({tuple(image.flatten().tolist()) for image in chosen}) == len(chosen)
    with pytest.raises(ValueError, match="wants 2 images of class 3, there are 1"):
        generation.same_classes(images[:3], torch.tensor([3, 1, 1]), torch.tensor([1, 3, 3]))


def test_a_row_wants_a_number_for_each_held_out_image(judge):
    held_out = data.digits("test")[0][:40]
    with pytest.raises(ValueError, match=r"shape \(40,\), got \(7,\)"):
        generation.row("A", judge, held_out, held_out, nats=torch.zeros(7))
    with pytest.raises(ValueError, match="a name of its own, got A, A"):
        generation.as_figures([generation.row("A", judge, held_out, held_out)] * 2)


def test_rows_come_back_from_a_record(judge, tmp_path, monkeypatch):
    held_out = data.digits("test")[0]
    rows = [
        generation.row("A", judge, held_out, held_out, seconds=2.5),
        generation.row("B b", judge, held_out, held_out),
    ]
    assert generation.published_rows("ch99", "A") == []
    monkeypatch.setenv("VLMBOOK_OUTPUT", str(tmp_path))
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    records.record("ch99", seed=0, rows=generation.as_figures(rows))
    back = generation.published_rows("ch99", "B b", "no such", "A")
    assert [line["name"] for line in back] == ["B b (ch99)", "A (ch99)"]
    assert [line["seconds"] for line in back] == [None, 2.5] and back[0]["bits"] is None
    assert back[1] | {"name": "A"} == pytest.approx(rows[0] | {"name": "A"}, abs=1e-6)
    generation.table(back)
    assert generation.published_rows("ch99", "A", profile="full") == []
    records.record("ch98", seed=0, other=1)
    assert generation.published_rows("ch98", "A") == []
