"""The experiments of chapter 5c: confused classes, false labels, and softmax regressions for every alpha."""

import math

import pytest
import torch
from scipy.stats import spearmanr
from torch.testing import assert_close

from tests.chapters.ch05c.images import labelled_images
from vlmbook.chapters.ch05c import experiments
from vlmbook.distillation import distillation_loss, soft_labels


def test_entropy_in_nats():
    p = torch.tensor([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]])
    assert_close(experiments.entropy(p), torch.tensor([0, math.log(4)]))


def test_confusions_leave_the_class_itself_out():
    logits = torch.tensor([[5.0, 1, 0], [5, 0, 1], [0, 5, 3], [1, 2, 5]])
    found = experiments.measure_confusions(logits, torch.tensor([0, 0, 1, 2]), 2)
    p = soft_labels(logits, 2)
    assert_close(found.diagonal(), torch.zeros(3))
    assert_close(found[0], torch.tensor([0, 0.5, 0.5]))
    assert_close(found[1], torch.tensor([p[2, 0], 0, p[2, 2]]) / (p[2, 0] + p[2, 2]))
    assert found[2, 1] > found[2, 0]


def test_similarities_are_those_of_the_mean_images():
    images = torch.tensor([0.0, 0.2, 1.0, 5.0, 5.0, 5.0]).view(6, 1, 1, 1)  # means 0.1, 1, 5
    found = experiments.measure_similarities(images, torch.tensor([0, 0, 1, 2, 2, 2]))
    near, far = math.exp(-2 * 0.9), math.exp(-2 * 4.9)
    assert_close(found[0], torch.tensor([0, near, far]) / (near + far))
    assert found[2, 1] > found[2, 0] and found.diagonal().abs().max() == 0


def test_rank_correlation_is_spearmans_without_the_diagonal():
    a, b = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(2))
    others = ~torch.eye(6).bool()
    assert experiments.correlate_ranks(a, b) == pytest.approx(spearmanr(a[others], b[others]).statistic)
    assert experiments.correlate_ranks(a, a**3 + 7 * torch.eye(6)) == pytest.approx(1)


def test_confusions_of_students_beside_the_teachers():
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(60) % 6
    teacher, *others = torch.randn(4, 60, 6, generator=generator)
    students = {"labels alone": others[:2], "distilled": [teacher, others[2]]}
    confusions, correlations = experiments.compare_confusions(teacher, students, labels, 4)
    matrices = [experiments.measure_confusions(each, labels, 4) for each in (teacher, *others)]
    assert list(confusions) == ["teacher", "distilled"]
    assert_close(confusions["teacher"], matrices[0])
    assert_close(confusions["distilled"], matrices[0])
    assert correlations["distilled"][0] == pytest.approx(1)
    expected = [experiments.correlate_ranks(each, matrices[0]) for each in matrices[1:3]]
    assert correlations["labels alone"] == pytest.approx(expected)


def test_ties_share_their_mean_rank():
    a = torch.tensor([[0, 1, 1], [1, 0, 2], [2, 3, 0.0]])
    b = torch.tensor([[0, 1, 1], [1, 0, 2], [2, 4, 0.0]])
    assert experiments.correlate_ranks(a, b) == pytest.approx(1)
    assert experiments.correlate_ranks(a, -b) == pytest.approx(-1)


def some_probabilities():
    return (3 * torch.randn(40, 6, generator=torch.Generator().manual_seed(4))).softmax(1)


def test_the_rest_is_equal_and_the_most_likely_class_stays():
    p = some_probabilities()
    found = experiments.equalise_rest(p)
    assert_close(found.sum(1), torch.ones(40))
    assert torch.equal(found.argmax(1), p.argmax(1))
    assert_close(found.amax(1), p.amax(1))
    others = found.sort(1).values[:, :-1]
    assert_close(others.amin(1), others.amax(1))
    of_one_softness = experiments.equalise_rest(p, p.amax(1).mean())
    assert torch.equal(of_one_softness.argmax(1), p.argmax(1))
    assert_close(of_one_softness.amax(1), p.amax(1).mean().expand(40))
    assert_close(of_one_softness.sum(1), torch.ones(40))


def test_shuffled_rest_keeps_the_most_likely_class_and_the_values():
    p = some_probabilities()
    found = experiments.shuffle_rest(p, seed=0)
    best = p.argmax(1, keepdim=True)
    assert torch.equal(found.gather(1, best), p.gather(1, best))
    assert torch.equal(found.sort(1).values, p.sort(1).values)
    assert_close(experiments.entropy(found), experiments.entropy(p))
    moved = (found != p).any(1)
    assert moved.float().mean() > 0.9  # one order of five classes in 120 moves nothing
    assert torch.equal(experiments.shuffle_rest(p, seed=0), found)
    assert not torch.equal(experiments.shuffle_rest(p, seed=1), found)


def test_every_class_may_come_to_every_place():
    p = torch.tensor([0.5, 0.3, 0.15, 0.05]).expand(600, 4)
    found = experiments.shuffle_rest(p, seed=0)
    for place in (1, 2, 3):
        for value in (0.3, 0.15, 0.05):
            assert 0.25 < (found[:, place] == value).float().mean() < 0.42


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_falsified_labels_differ_where_they_were_replaced_and_nowhere_else(share):
    labels = torch.arange(50) % 5
    falsified, replaced = experiments.falsify_labels(labels, share, 5)
    assert len(replaced) == round(50 * share) == (falsified != labels).sum()
    assert (falsified[replaced] != labels[replaced]).all()
    assert falsified.min() >= 0 and falsified.max() < 5
    again, _ = experiments.falsify_labels(labels, share, 5)
    assert torch.equal(again, falsified)


def test_accuracy_by_alpha_rises_towards_the_teacher_where_labels_are_false():
    images, labels, logits = labelled_images(100)
    test_images, test_labels, _ = labelled_images(200, seed=1)
    task = (images, labels, logits, test_images, test_labels)
    alphas, accuracies = experiments.measure_accuracy_by_alpha(*task, 2.0, wrong=0.6)
    assert alphas.tolist() == pytest.approx([n / 10 for n in range(11)])
    assert accuracies[-1] > 0.9 > accuracies[0]
    _, of_true_labels = experiments.measure_accuracy_by_alpha(*task, 2.0)
    assert of_true_labels.min() > 0.9


def test_linear_students_follow_the_loss_of_the_package():
    images, labels, logits = labelled_images(30)
    x, alphas = experiments.append_one(images), torch.tensor([0.0, 0.3, 1.0])
    found = experiments.train_linear_students(images, labels, logits, alphas, 3, steps=2)
    for alpha, ours in zip(alphas.tolist(), found, strict=True):
        weights, velocity = torch.zeros(65, 10), torch.zeros(65, 10)
        for _ in range(2):
            slope = torch.func.grad(
                lambda w, a=alpha: distillation_loss(x @ w, logits, labels, temperature=3, alpha=a)
            )
            velocity = 0.9 * velocity - slope(weights) / 8
            weights = weights + velocity
        assert_close(ours, weights)


def test_squares_come_from_two_halves_of_each_photograph():
    parts = experiments.cut_squares(3, held_out=2, side=32)
    again = experiments.cut_squares(3, held_out=2, side=32)
    for part, count in (("train", 3), ("test", 2)):
        squares, labels = parts[part]
        assert squares.shape == (8 * count, 1, 32, 32) and torch.equal(squares, again[part][0])
        assert labels.tolist() == [k for k in range(8) for _ in range(count)]
        assert squares.min() >= 0 and squares.max() <= 1
        assert (squares.mean((1, 2, 3)) - 0.5).abs().max() < 0.1  # clipping moves it a little


def test_a_square_lies_in_the_half_of_its_part(monkeypatch):
    """Photographs whose left half rises from top to bottom, and whose right half falls."""
    ramp = torch.linspace(0, 1, 40)[:, None].expand(-1, 30)
    photograph = torch.cat([ramp, 1 - ramp], dim=1).expand(3, -1, -1)
    monkeypatch.setattr(experiments.data, "photo", lambda name: photograph)
    parts = experiments.cut_squares(3, held_out=3, side=20)
    for part, sign in (("train", 1), ("test", -1)):
        squares, _ = parts[part]
        assert (sign * squares.diff(dim=2) > 0).all()


def test_shots_are_as_many_of_each_class():
    labels = torch.arange(40) % 4
    chosen = experiments.choose_shots(labels, 3, seed=0)
    assert labels[chosen].bincount().tolist() == [3, 3, 3, 3] and len(set(chosen.tolist())) == 12
    assert torch.equal(chosen, experiments.choose_shots(labels, 3, seed=0))
    assert not torch.equal(chosen, experiments.choose_shots(labels, 3, seed=1))
