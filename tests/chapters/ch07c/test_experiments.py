"""The experiments of chapter 7c on small data: no leak, right controls, right measures."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import nn

from vlmbook import chapters, clip, data
from vlmbook.chapters.ch07c import experiments


def test_squares_of_training_and_test_lie_apart_and_are_standardised():
    parts = experiments.cut_textures(size=64, each=3)
    images, labels = parts["train"]
    assert images.shape == (24, 3, 64, 64) and labels.bincount().tolist() == [3] * 8
    assert (images.mean((1, 2, 3)) - 0.5).abs().max() < 0.06
    assert torch.equal(images[:, 0], images[:, 2])
    assert not torch.equal(images, parts["test"][0])


def test_neither_colour_nor_shape_alone_names_an_unseen_pair():
    words, pairs = experiments.describe_pairs()
    unseen = pairs[experiments.is_unseen(pairs)]
    assert len(words) == len(set(words)) == 30 and words[0] == "a red circle"
    assert len(unseen) == 6
    assert (
        sorted(unseen[:, 0].tolist()) == [0, 0, 2, 2, 4, 4]
        and sorted(unseen[:, 1].tolist()) == [0] * 3 + [3] * 3
    )
    seen = pairs[~experiments.is_unseen(pairs)]
    assert set(seen[:, 0].tolist()) == set(range(6)) and set(seen[:, 1].tolist()) == set(range(5))


def test_captions_describe_what_the_pairs_say():
    _, pairs, captions = experiments.draw_single_shapes(40, seed=3)
    words, described = experiments.describe_pairs()
    for pair, caption in zip(pairs, captions, strict=True):
        assert caption == words[(described == pair).all(1).nonzero()[0, 0]]


class Oracle(nn.Module):
    """An image encoder that knows the answer: the image's pixels hold its pair."""

    def forward(self, x):
        return x[:, 0, 0, :30]


class Table(nn.Module):
    def __init__(self, table):
        super().__init__()
        self.table = table

    def forward(self, words):
        return torch.stack([self.table[tuple(row.tolist())] for row in words])


def test_zero_shot_accuracy_is_one_for_a_model_that_knows_and_counts_the_unseen_alone():
    words, described = experiments.describe_pairs()
    vocabulary = clip.Vocabulary(words)
    table = {tuple(row.tolist()): torch.eye(30)[i] for i, row in enumerate(vocabulary.encode(words))}
    model = clip.CLIP(Oracle(), Table(table)).eval()
    images = torch.zeros(30, 3, 1, 32)
    images[:, 0, 0, :30] = torch.eye(30)
    rates = experiments.measure_zero_shot(model, images, described, vocabulary)
    assert set(rates.values()) == {1.0}
    images[experiments.is_unseen(described)] = images[0].clone()  # all look like a seen pair
    rates = experiments.measure_zero_shot(model, images, described, vocabulary)
    assert rates["unseen pairs among all 30"] < 0.2 and rates["seen pairs among all 30"] == 1


def test_the_adapted_statistics_are_those_of_the_test_images_and_leave_the_network_alone():
    images, labels = data.digits("train")
    network = experiments.train_classifier(images[:400], labels[:400], epochs=3)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    found = experiments.measure_domains([network])
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not network.training
    low = found["low contrast"]
    assert low["adapted statistics"][0] > low["stored statistics"][0] + 0.3


def test_a_scratch_is_a_thin_line_and_good_bricks_have_none():
    good, bad = (experiments.draw_bricks(5, defects=defects, seed=1) for defects in (False, True))
    assert good.shape == bad.shape == (5, 3, 96, 96)
    defective = experiments._scratch(good[0].clone(), np.random.default_rng(0))
    changed = (defective != good[0]).any(0)
    assert 40 < changed.sum() < 250
    assert defective[:, changed].std() < 1e-6


def test_a_position_of_a_normal_image_has_distance_zero():
    images = torch.rand(3, 2, 4, 5)
    maps = experiments.map_anomalies(lambda x: x, images, images)
    assert maps.shape == (3, 4, 5) and maps.max() < 1e-3
    odd = images[:1].clone()
    odd[0, :, 1, 2] = 9.0
    found = experiments.map_anomalies(lambda x: x, images, odd)[0]
    assert found.argmax() == 1 * 5 + 2


def test_the_auroc_is_scikit_learns_and_lies_in_its_interval():
    generator = torch.Generator().manual_seed(0)
    normal, odd = torch.randn(30, generator=generator), torch.randn(20, generator=generator) + 1
    value, low, high = experiments.measure_auroc(normal, odd)
    assert value == pytest.approx(roc_auc_score([0] * 30 + [1] * 20, torch.cat([normal, odd]).numpy()))
    assert low < value < high


def test_each_digit_has_its_own_two_tones():
    sounds = experiments.make_sounds(torch.arange(10), noise=0.0, seed=0).flatten(1)
    distances = torch.cdist(sounds, sounds) + 100 * torch.eye(10)
    assert distances.min() > 0.05
    noisy = experiments.make_sounds(torch.arange(10), noise=1.0, seed=0)
    assert noisy.shape == (10, 1, 16, 16)


def test_both_modalities_are_better_than_one():
    accuracy, (images, sounds) = experiments.fuse(0.4, 4.0)
    assert accuracy["both"] > max(accuracy["image"], accuracy["sound"])
    assert images.shape == (4, 1, 8, 8) and sounds.shape == (4, 1, 16, 16)


def test_one_step_of_maml_helps_more_than_one_of_ordinary_training():
    networks = {
        order: experiments.meta_train(experiments.make_regressor(), steps=150, order=order)
        for order in (0, 2)
    }
    errors = experiments.measure_adaptation(networks, tasks=30, most=1)
    gains = {order: sum(rows[0]) - sum(rows[1]) for order, rows in errors.items()}
    assert gains[2] > gains[0] > 0


def test_the_map_has_a_row_for_each_chapter_of_the_table():
    rows = experiments.map_book()
    assert [row["chapter"] for row in rows] == [chapter.name for chapter in chapters.TABLE]
    by_name = {row["chapter"]: row for row in rows}
    assert by_name["ch04a"]["passed"] == by_name["ch04a"]["checks"] > 10
    assert by_name["ch04a"]["exercises"] >= 3 and "Exercises" in by_name["ch04a"]["headings"]


def test_class_folders_of_people_are_split_five_and_five(monkeypatch, tmp_path):
    monkeypatch.setenv("VLMBOOK_DATA", str(tmp_path))
    assert experiments.read_people() is None
    for person in range(1, 41):
        folder = tmp_path / "orl_faces" / f"s{person}"
        folder.mkdir(parents=True)
        for number in range(1, 11):
            Image.new("L", (92, 112), person + number).save(folder / f"{number}.pgm")
    people = experiments.read_people()
    assert people["train"][0].shape == people["test"][0].shape == (200, 3, 112, 96)
    assert people["test"][1].bincount().tolist() == [5] * 40
