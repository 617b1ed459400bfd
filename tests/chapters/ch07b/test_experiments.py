"""The experiments of chapter 7b on small data: right controls, right measures, no leak."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from vlmbook import data, fairness
from vlmbook.chapters.ch07b import experiments


@pytest.fixture(scope="module")
def digits():
    return data.digits("train"), data.digits("test")


# --- privacy ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uniform", "pair"])
def test_planted_labels_are_wrong_and_as_many_as_asked(kind):
    labels = torch.arange(200) % 10
    noisy, wrong = experiments.plant_wrong_labels(labels, 0.15, seed=3, kind=kind)
    assert wrong.sum() == 30
    assert torch.equal(noisy != labels, wrong)
    shifts = ((noisy - labels) % 10)[wrong].unique().tolist()
    assert shifts == [1] if kind == "pair" else len(shifts) > 5


def test_members_and_others_are_different_images_with_as_many_wrong_labels():
    images = torch.arange(100.0).view(100, 1, 1, 1)
    members = experiments.draw_members(images, torch.arange(100) % 10, 40, share_wrong=0.25, seed=1)
    together = torch.cat([members.x, members.other_x]).flatten()
    assert len(together.unique()) == 80
    assert members.wrong.sum() == members.other_wrong.sum() == 10
    right = members.x.flatten().long() % 10
    assert torch.equal(members.y != right, members.wrong)


def test_a_network_has_the_same_weights_for_a_seed_and_leaves_the_generator_alone():
    state = torch.get_rng_state()
    first, second = experiments.make_mlp(3), experiments.make_mlp(3)
    assert torch.equal(first[1].weight, second[1].weight)
    assert not torch.equal(first[1].weight, experiments.make_mlp(4)[1].weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_noise_and_with_whole_batches_private_training_is_gradient_descent(digits):
    (x, y), _ = digits
    x, y = x[:50], y[:50]
    private = experiments.train_private(
        experiments.make_mlp(0), x, y, noise_multiplier=0.0, steps=3, rate=1.0, max_norm=1e6, lr=0.1
    )
    plain = experiments.make_mlp(0)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(x), y).backward()
        optimizer.step()
    assert torch.allclose(private[1].weight, plain[1].weight, atol=1e-5)


def test_the_attack_sees_a_network_that_knows_its_members(digits):
    (images, labels), _ = digits
    found = experiments.measure_attack(images, labels, (40, 400), (0,), steps=150, seeds=2)
    [rows] = found.values()
    assert min(rows[40]) > max(rows[400])


def test_skewed_clients_share_no_digit_and_equal_ones_do(digits):
    (x, y), test = digits
    first, second = experiments.split_clients(y, skewed=True, seed=0)
    assert y[first].max() < 5 <= y[second].min() and len(first) == len(second)
    first, second = experiments.split_clients(y, skewed=False, seed=0)
    assert len(y[first].unique()) == len(y[second].unique()) == 10
    assert not set(first.tolist()) & set(second.tolist())
    one = experiments.train_federated(x, y, [torch.cat([first, second])], test, rounds=4, local_steps=1)
    two = experiments.train_federated(x, y, [first, second], test, rounds=4, local_steps=1)
    assert np.allclose(one, two, atol=0.01)  # equal clients, one step: the step on all data


# --- transparency -------------------------------------------------------------------------------------------


class Corner(nn.Module):
    """Stands for EfficientNet: class 0 is the brightness of red, class 1 that of green."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Identity()])
        self.weight = nn.Parameter(torch.eye(2, 3))

    def forward(self, x):
        return self.blocks[-1](x).mean((2, 3)) @ self.weight.T


def test_heat_moves_with_the_class_and_that_of_the_control_does_not():
    red, green = torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)
    red[0, 2:5, 2:5] = 1.0
    green[1, 3:6, 1:4] = 1.0
    shares = experiments.point_at_halves(Corner().eval(), [red, green], [0, 1])
    assert shares["Grad-CAM"] == pytest.approx([1.0, 1.0])
    assert shares["integrated gradients"] == pytest.approx([1.0, 1.0])
    assert sum(shares["edges (control)"]) == pytest.approx(1.0)


def test_rank_correlation_of_equal_opposite_and_constant_maps():
    heat = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(0))
    assert experiments.correlate_ranks(heat, 3 * heat + 1) == pytest.approx(1)
    assert experiments.correlate_ranks(heat, -heat) == pytest.approx(-1)
    assert experiments.correlate_ranks(heat, torch.ones(2, 5, 6)) == 0


def test_marks_are_planted_where_they_are_asked_and_nowhere_else():
    images = torch.zeros(3, 1, 25, 25)
    marked = experiments.plant_mark(images, torch.tensor([True, False, True]))
    assert marked.sum((1, 2, 3)).tolist() == [25, 0, 25] and images.sum() == 0
    assert marked[0, 0, 1:6, 1:6].min() == 1


def test_patches_to_learn_from_are_not_those_of_the_test():
    x, y, test_x, test_y = experiments.split_patches(0)
    assert len(x) == len(y) == 140 and len(test_x) == len(test_y) == 60
    distances = torch.cdist(x.flatten(1), test_x.flatten(1))
    assert distances.min() > 0


# --- fairness -----------------------------------------------------------------------------------------------


def test_the_drawn_scores_are_calibrated_and_base_rates_differ():
    scores, labels, groups = experiments.draw_people(20_000, seed=0)
    for group, rows in fairness.calibration_by_group(scores, labels, groups).items():
        base = labels[groups == group].double().mean().item()
        assert base == pytest.approx((0.5, 0.3)[group], abs=0.015)
        assert all(mean == pytest.approx(share, abs=0.03) for mean, share, _ in rows)


def test_camera_b_turns_the_image_and_the_share_is_that_asked(digits):
    (images, labels), _ = digits
    assert torch.equal(experiments.turn(images)[0, 0], images[0, 0].rot90())
    network = experiments.make_mlp(0, outputs=2)
    scores, y, groups = experiments.score_two_cameras(network.eval(), images[:30], labels[:30])
    assert torch.equal(y[:30], y[30:]) and torch.equal(y[:30], (labels[:30] >= 5).long())
    assert groups.tolist() == [0] * 30 + [1] * 30
    assert scores[:30].tolist() != scores[30:].tolist()


def test_a_camera_that_was_never_seen_is_worse(digits):
    found = experiments.measure_cameras(*digits, (0.0, 0.5), n=300, seeds=2)
    assert np.mean(found["camera A"][0.0]) > np.mean(found["camera B"][0.0]) + 0.2
    assert abs(np.mean(found["camera A"][0.5]) - np.mean(found["camera B"][0.5])) < 0.06


# --- data quality -------------------------------------------------------------------------------------------


def suspects_by_loop(probabilities, labels):
    classes = probabilities.shape[1]
    thresholds = []
    for k in range(classes):
        own = [float(row[k]) for row, label in zip(probabilities, labels, strict=True) if label == k]
        thresholds.append(sum(own) / len(own))
    found = []
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        reached = [k for k in range(classes) if row[k] >= thresholds[k] - 1e-12]
        best = max(reached, key=lambda k: row[k]) if reached else label
        found.append(best != label)
    return found


def test_confident_learning_is_that_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 3
    probabilities = (torch.randn(90, 3, generator=generator) + 1.5 * torch.eye(3)[labels]).softmax(1).double()
    found = experiments.find_label_errors(probabilities, labels)
    assert found.tolist() == suspects_by_loop(probabilities, labels)
    assert 0 < found.sum() < 60


def test_held_out_probabilities_come_from_models_that_have_not_seen_the_image():
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(60, 1, 12, 12, generator=generator), torch.arange(60) % 2
    held_out = experiments.predict_held_out(images, labels)  # noise: nothing can be known
    accuracy = (held_out.argmax(1) == labels).double().mean().item()
    assert accuracy < 0.75
    assert torch.allclose(held_out.double().sum(1), torch.ones(60, dtype=torch.float64), atol=1e-5)


def test_cleaning_finds_planted_errors_better_than_chance(digits):
    (images, labels), test = digits
    finders, accuracies = experiments.measure_cleaning((images[:400], labels[:400]), test, share=0.1, seeds=2)
    assert min(finders["confident learning"]["precision"]) > 0.6
    assert max(finders["as many at random"]["precision"]) < 0.4
    assert np.mean(accuracies["right labels"]) > np.mean(accuracies["wrong labels in"])


def test_accuracy_of_a_rare_class_is_weighted_as_in_the_training(digits):
    found = experiments.measure_imbalance(*digits, rare=5, common=95, seeds=2)
    never = found["always no"]
    assert never["accuracy"] == pytest.approx([0.95, 0.95]) and never["recall"] == [0, 0]
    assert never["average precision"] == pytest.approx([0.05, 0.05])
    assert all(math.isfinite(value) for rows in found.values() for each in rows.values() for value in each)
    images, y = experiments.draw_rare(*digits[0], rare=4, common=30, digit=8, seed=0)
    assert y.sum() == 4 and len(images) == 34
