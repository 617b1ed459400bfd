"""What chapter 1 computes: fair tasks, programs that learn, changes that are what they say, a blend without a
seam, and a timeline whose dates agree with its sources.
"""

import re
from collections import Counter

import pytest
import torch
from torch import nn

from vlmbook import data
from vlmbook.chapters.ch01 import experiments, timeline


@pytest.fixture(scope="module")
def digits():
    return experiments.read_digits()


def test_a_digit_has_a_margin_that_is_empty(digits):
    assert digits.x.shape == (1437, 1, 24, 24) and digits.x_test.shape == (360, 1, 24, 24)
    assert digits.x[..., :4].max() == 0 and digits.x[..., 20:, :].max() == 0
    assert torch.equal(digits.x_test[:, :, 4:20, 4:20], data.digits("test", size=16)[0])


def test_each_patch_is_held_out_once_and_half_are_faces():
    tasks = experiments.fold_faces()
    held_out = torch.cat([task.x_test for task in tasks])
    assert len(tasks) == 5 and len(held_out.flatten(1).unique(dim=0)) == 200
    for task in tasks:
        assert task.y_test.float().mean() == 0.5 and len(task.x) == 160
        together = torch.cat([task.x, task.x_test]).flatten(1)
        assert len(together.unique(dim=0)) == 200


@pytest.mark.parametrize("name", list(experiments.CLASSIC))
def test_the_classic_programs_know_most_digits(name, digits):
    trained = experiments.train_classic(name, digits.x[:500], digits.y[:500])
    accuracy = experiments.measure_accuracy(trained, digits.x_test, digits.y_test)
    assert 0.6 < accuracy <= 1 and trained.seconds > 0
    wanted = {
        "pixels, linear SVM": 577 * 10,
        "HOG, linear SVM": (900 + 1) * 10,
        "pixels, 3 nearest": 500 * 576,
    }
    assert trained.numbers == wanted.get(name, trained.numbers)


def test_a_network_learns_and_the_seed_decides(digits):
    def make():
        return nn.Sequential(nn.Flatten(), nn.Linear(576, 10))

    torch.manual_seed(5)
    state = torch.get_rng_state()
    runs = [
        experiments.train_network(make, digits.x[:400], digits.y[:400], epochs=3, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert torch.equal(state, torch.get_rng_state())
    answers = [run.predict(digits.x_test) for run in runs]
    assert torch.equal(answers[0], answers[1]) and not torch.equal(answers[0], answers[2])
    assert runs[0].numbers == 5770
    assert experiments.measure_accuracy(runs[0], digits.x_test, digits.y_test) > 0.7


def test_a_shift_goes_to_the_right_and_a_rotation_against_the_clock():
    x = torch.zeros(1, 1, 24, 24)
    x[0, 0, 5, 10] = 1
    moved = experiments.shift(x, 3)
    assert moved[0, 0, 5, 13] == 1 and moved.sum() == 1
    x = torch.zeros(1, 1, 25, 25)
    x[0, 0, 12, 22] = 1  # right of the centre
    assert experiments.rotate(x, 90)[0, 0, 2, 12] == pytest.approx(1, abs=1e-4)  # above it
    noisy = experiments.add_noise(torch.full((4, 1, 24, 24), 0.5), 0.1)
    assert noisy.std().item() == pytest.approx(0.1, rel=0.1)


def test_programs_are_measured_at_each_strength(digits):
    constant = experiments.Trained(lambda x: torch.zeros(len(x), dtype=torch.int64), 1, 0.0)
    table = experiments.break_programs({"zero": [constant]}, digits.x_test, digits.y_test)
    share = (digits.y_test == 0).float().mean().item()
    for change, (_, strengths) in experiments.CHANGES.items():
        assert table[change]["zero"] == pytest.approx([share] * len(strengths))


def test_a_blend_keeps_the_gradients_and_has_no_seam():
    target = torch.full((1, 12, 14), 0.3)
    source = torch.rand(1, 12, 14, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.6
    mask = torch.zeros(12, 14, dtype=torch.bool)
    mask[3:9, 4:10] = True
    blended = experiments.blend(target, source, mask)
    assert torch.equal(blended[:, ~mask], target[:, ~mask])

    def laplacian(image):
        return 4 * image[1:-1, 1:-1] - image[:-2, 1:-1] - image[2:, 1:-1] - image[1:-1, :-2] - image[1:-1, 2:]

    inner = mask[1:-1, 1:-1]
    assert torch.allclose(laplacian(blended[0])[inner], laplacian(source[0])[inner], atol=1e-5)
    assert (blended[0, 3, 4:10] - 0.3).abs().max() < 0.15


# --- the timeline -------------------------------------------------------------------------------------------


def test_works_are_in_order_and_named_once():
    years = [work.year for work in timeline.WORKS]
    assert years == sorted(years)
    assert max(Counter(work.name for work in timeline.WORKS).values()) == 1
    assert {work.kind for work in timeline.WORKS} == set(timeline.KINDS)
    assert {work.does for work in timeline.WORKS} == set(timeline.DOES)


@pytest.mark.parametrize("work", timeline.WORKS, ids=lambda work: work.name)
def test_the_source_agrees_with_the_year(work):
    """An arXiv number begins with the year and month of its first version; other sources name the year."""
    arxiv = re.search(r"arXiv:(\d\d)(0[1-9]|1[0-2])\.\d{4,5}\b", work.source)
    if arxiv:
        assert 2000 + int(arxiv[1]) == work.year
    else:
        assert str(work.year) in work.source
    assert work.parameters is None or work.parameters > 1e6


def test_the_counts_are_those_of_the_papers():
    counts = timeline.count_models()
    assert counts["LeNet-5"] == 60_000  # LeCun et al. 1998, sec. II.B: 60,000 trained parameters
    assert counts["AlexNet"] == pytest.approx(60e6, rel=0.03)  # Krizhevsky et al. 2012, abstract
    assert counts["VGG-16"] == pytest.approx(138e6, rel=0.005)  # Simonyan & Zisserman 2014, table 2
    assert counts["ViT-B/16"] == pytest.approx(86e6, rel=0.01)  # Dosovitskiy et al. 2020, table 1
    cited = {work.name for work in timeline.WORKS if work.parameters is not None}
    assert not cited & set(counts)
    assert set(counts) <= {work.name for work in timeline.WORKS}


def test_works_of_some_years():
    assert [work.name for work in timeline.find_works(1959, 1963)] == [
        "cells that see edges",
        "Roberts: edges of blocks",
    ]
