"""The experiments of chapter 2 on small data: no leak, right controls, right measures."""

import numpy as np
import pytest
import torch
from torch import nn

from vlmbook import chapters, convolution, data
from vlmbook.chapters.ch02 import diagrams, experiments


def make_tiny():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def test_runs_hold_out_other_images_and_small_sets_begin_large_ones(monkeypatch):
    pool = experiments.Pool(torch.rand(60, 1, 8, 8), torch.arange(60) % 10, 20)
    seen, tested = [], []
    monkeypatch.setattr(
        experiments,
        "train",
        lambda network, x, y, **_: seen.append({tuple(i.flatten()[:3].tolist()) for i in x}) or network,
    )
    monkeypatch.setattr(
        experiments,
        "measure_accuracy",
        lambda _, x, y: tested.append({tuple(i.flatten()[:3].tolist()) for i in x}) or 0.5,
    )
    found = experiments.measure_scaling(make_tiny, pool, (20, 40), seeds=(0, 1), steps=1)
    assert [len(each) for each in seen] == [20, 40, 20, 40] and seen[0] < seen[1]
    assert all(not (train & test) for train, test in zip(seen, tested, strict=True))
    assert tested[0] == tested[1] != tested[2] and len(tested[0]) == 20
    assert found["network"] == {20: [0.5, 0.5], 40: [0.5, 0.5]} and len(found["linear"][40]) == 2


def test_training_takes_the_same_steps_for_any_number_of_images_and_keeps_frozen_weights():
    network = experiments.make_seeded(make_tiny, 3)
    again = experiments.make_seeded(make_tiny, 3)
    assert torch.equal(network[1].weight, again[1].weight)
    counts = []
    for n in (5, 50):
        calls = []
        experiments.train(
            make_tiny(), torch.rand(n, 1, 8, 8), torch.zeros(n).long(), steps=7,
            change=lambda x, _, calls=calls: calls.append(len(x)) or x,
        )  # fmt: skip
        counts.append(calls)
    assert counts == [[32] * 7] * 2
    network[1].weight.requires_grad_(False)
    experiments.train(network, torch.rand(9, 1, 8, 8), torch.ones(9).long(), steps=3)
    assert torch.equal(network[1].weight, again[1].weight) and not network.training


@pytest.mark.parametrize("distance", [2, 8])
def test_the_label_of_a_pair_is_whether_both_marks_are_equal(distance):
    images, labels = experiments.draw_pairs(40, distance, seed=0)
    assert labels.double().mean() == 0.5
    for image, label in zip(images, labels, strict=True):
        (row, column), (other, far) = (image[0] != 0.5).nonzero().tolist()
        assert row == other and far - column == distance
        assert (image[0, row, column] == image[0, other, far]) == bool(label)


def test_the_marks_act_apart_where_no_field_holds_both():
    torch.manual_seed(0)
    network = experiments.LocalNet(2)
    assert convolution.receptive_field(network.convs) == 5
    grey = torch.full((1, 1, 6, 20), 0.5)

    def answer(left, right, distance):
        image = grey.clone()
        image[0, 0, 3, 5], image[0, 0, 3, 5 + distance] = left, right
        return network(image)

    for distance, apart in ((6, True), (3, False)):
        both = answer(1, 0, distance) - answer(0.5, 0.5, distance)
        each = answer(1, 0.5, distance) + answer(0.5, 0, distance) - 2 * answer(0.5, 0.5, distance)
        assert torch.allclose(both, each, atol=1e-5) == apart


def test_a_canvas_tells_the_truth():
    canvases = experiments.draw_canvases("train", 30, seed=1)
    again = experiments.draw_canvases("train", 30, seed=1)
    assert torch.equal(canvases.images, again.images) and canvases.images.shape == (30, 1, 16, 16)
    for image, box, mask in zip(canvases.images, canvases.truth["box"], canvases.truth["mask"], strict=True):
        x1, y1, x2, y2 = (16 * box).round().int().tolist()
        assert mask[y1:y2, x1:x2].sum() == mask.sum() > 5
        assert mask[y1].any() and mask[y2 - 1].any() and mask[:, x1].any() and mask[:, x2 - 1].any()
        assert image[0][mask > 0].min() > 0.4
    assert not set(experiments.GROUNDS["train"]) & set(experiments.GROUNDS["test"])


def test_the_scale_of_a_task_is_the_loss_of_the_best_constant():
    truth = experiments.draw_canvases("test", 50).truth
    scales = experiments.measure_scales(truth)
    shares = truth["class"].bincount() / 50
    assert scales["class"] == pytest.approx(-(shares * shares.log()).sum().item(), rel=1e-4)
    share = truth["mask"].mean(0)
    p = share.clamp(1e-4, 1 - 1e-4)
    wanted = -(share * p.log() + (1 - share) * (1 - p).log()).mean()
    assert scales["mask"] == pytest.approx(wanted.item(), rel=1e-4)


def test_perfect_outputs_get_perfect_measures():
    tests = experiments.draw_canvases("test", 12)

    class Knows(nn.Module):
        def forward(self, _):
            return {
                "class": nn.functional.one_hot(tests.truth["class"], 10).float(),
                "box": tests.truth["box"],
                "mask": 2 * tests.truth["mask"] - 1,
            }

    assert experiments.measure_tasks(Knows(), tests) == pytest.approx({"class": 1, "box": 1, "mask": 1})


def test_networks_of_one_seed_begin_alike_and_few_labels_are_the_first():
    canvases = experiments.draw_canvases("train", 40)
    trunks = []
    for tasks in (["class"], ["class", "mask"]):
        network, cosines = experiments.train_tasks(canvases, tasks, steps=1, seed=2, width=2)
        trunks.append(network.trunk[0].weight)
        assert len(cosines) == len(tasks) - 1 and not network.training
        assert all(-1 <= value <= 1 for angle in cosines for value in angle.values())
    assert (trunks[0] - trunks[1]).abs().max() < 0.02  # one step of Adam apart
    wrong = experiments.Canvases(canvases.images, canvases.truth | {"class": canvases.truth["class"].clone()})
    wrong.truth["class"][5:] = wrong.truth["class"][5:].flip(0)  # as often each, for other images
    states = []
    for each in (canvases, wrong):
        network, _ = experiments.train_tasks(
            experiments.Canvases(each.images, each.truth), ["mask", "class"], steps=3, width=2,
            labelled={"class": 5},
        )  # fmt: skip
        states.append(network.trunk[0].weight)
    assert torch.allclose(*states, atol=1e-4)


def test_a_tiny_weight_is_a_task_alone():
    canvases = experiments.draw_canvases("train", 40)
    alone, _ = experiments.train_tasks(canvases, ["class"], steps=3, width=2)
    off, _ = experiments.train_tasks(canvases, ["class", "box"], steps=3, width=2, weights={"box": 1e-7})
    on, _ = experiments.train_tasks(canvases, ["class", "box"], steps=3, width=2)
    weights = [network.trunk[3].weight for network in (alone, off, on)]
    assert torch.allclose(weights[0], weights[1], atol=1e-4)
    assert not torch.allclose(weights[0], weights[2], atol=1e-3)


def test_shuffled_partners_keep_the_task_and_pairs_share_networks(monkeypatch):
    canvases, tests = experiments.draw_canvases("train", 30), experiments.draw_canvases("test", 9)
    runs = []

    def spy(given, tasks, **_):
        same = {task: torch.equal(given.truth[task], canvases.truth[task]) for task in tasks}
        runs.append(same)
        for task in tasks:  # shuffled: the same values for other images
            assert torch.equal(
                given.truth[task].flatten().sort()[0], canvases.truth[task].flatten().sort()[0]
            )
        return tasks, [{" and ".join(tasks): 0.5}] * (len(tasks) > 1)

    monkeypatch.setattr(experiments, "train_tasks", spy)
    monkeypatch.setattr(experiments, "measure_tasks", lambda tasks, _: dict.fromkeys(tasks, float(len(runs))))
    found, cosines = experiments.measure_transfer(
        canvases, tests, [("class", "box"), ("box", "class")], steps=1, seeds=(0,)
    )
    assert runs == [
        {"class": True},
        {"box": True, "class": True},
        {"box": False, "class": True},
        {"box": True},
        {"box": True, "class": False},
    ]
    assert found["class", "box"] == ([1.0], [2.0], [3.0])
    assert found["box", "class"] == ([4.0], [2.0], [5.0])
    assert cosines == {"box and class": [0.5]}


def test_each_weight_is_measured_for_both_tasks_and_each_seed():
    canvases, tests = experiments.draw_canvases("train", 20), experiments.draw_canvases("test", 9)
    found = experiments.measure_weights(canvases, tests, (0.1, 1.0), steps=1, seeds=(0, 1))
    assert list(found) == ["class", "box"]
    assert all([len(values) for values in rows.values()] == [2, 2] for rows in found.values())


def test_the_rule_finds_the_ink_and_cuts_out_the_digit():
    tests = experiments.draw_canvases("test", 50)
    measures = experiments.measure_outputs(experiments.find_by_rule(tests.images), tests.truth)
    assert measures["box"] > 0.95 and measures["mask"] > 0.9
    digits, _ = data.digits("test")
    for top, left in ((0, 0), (5, 8), (8, 3)):
        image = torch.zeros(1, 1, 16, 16)
        image[..., top : top + 8, left : left + 8] = digits[:1]
        cut = experiments.cut_out(image)
        assert cut.shape == (1, 1, 8, 8) and (cut > 0.5).sum() == (digits[:1] > 0.5).sum()


def test_fields_are_measured_for_each_depth_distance_and_seed():
    found = experiments.measure_fields((1, 2), (2, 4, 6), steps=1, seeds=(0, 1))
    assert found.shape == (2, 3, 2) and ((found >= 0) & (found <= 1)).all()


def test_two_probes_differ_in_the_weights_alone(monkeypatch):
    rotation_net = experiments.make_seeded(lambda: experiments.SmallNet(8, outputs=4), 9)
    begun = []

    def spy(network, x, y, **settings):
        begun.append((network.layers[0].weight.clone(), network.head.weight.clone(), x, settings))
        return network.eval()

    monkeypatch.setattr(experiments, "train", spy)
    found = experiments.probe_labels(rotation_net, (1,), draws=1, steps=3)
    (nothing, head, x, settings), (tuned, other_head, other_x, other_settings) = begun
    assert torch.equal(tuned, rotation_net.layers[0].weight) and not torch.equal(nothing, tuned)
    assert torch.equal(head, other_head) and torch.equal(x, other_x) and settings == other_settings
    assert found["rotations, linear"] != found["untrained, linear"]


def test_the_fixed_trunk_keeps_its_weights_and_the_other_one_does_not(monkeypatch):
    canvases, tests = experiments.draw_canvases("train", 60), experiments.draw_canvases("test", 20)
    trained = []
    real = experiments.train

    def spy(network, *args, **settings):
        before = network.network.trunk[0].weight.clone()
        real(network, *args, **settings)
        trained.append(torch.equal(before, network.network.trunk[0].weight))
        return network

    monkeypatch.setattr(experiments, "train", spy)
    found = experiments.compare_pipelines(canvases, tests, (40,), steps=2, seeds=(0,))
    assert trained == [True, False]
    assert all(len(rows[40]) == 1 and 0 <= rows[40][0] <= 1 for rows in found.values())


def test_corruptions_do_what_they_are_called():
    x, y = (each[:6] for each in data.digits("test"))
    assert (
        torch.equal(experiments.shift(x, 2)[..., 2:], x[..., :-2])
        and not experiments.shift(x, 2)[..., :2].any()
    )
    assert torch.allclose(experiments.rotate(x, 0), x)
    signs = experiments.flip_signs(0.5 + 0 * x, 0.1)
    assert signs.unique().tolist() == pytest.approx([0.4, 0.6])
    noise = experiments.add_noise(torch.full((1, 1, 99, 99), 0.5), 0.1) - 0.5
    assert noise.std() == pytest.approx(0.1, rel=0.05)
    network = make_tiny()
    for name, (_, severities) in experiments.CORRUPTIONS.items():
        assert torch.allclose(experiments.corrupt(name, 0, network, x, y), x, atol=1e-6)
        assert not torch.allclose(experiments.corrupt(name, severities[-1], network, x, y), x, atol=1e-2)


def test_each_image_of_a_batch_moves_in_its_own_way():
    blob = torch.zeros(200, 1, 17, 17)
    blob[:, 0, 8, 8] = 1
    moved = experiments.move_a_little(blob, torch.Generator().manual_seed(1))
    columns = torch.arange(17.0)
    centres = (moved[:, 0].sum(1) * columns).sum(1) / moved.sum((1, 2, 3))
    shifts = (centres - 8).round()
    assert set(shifts.tolist()) == {-2, -1, 0, 1, 2}
    line = torch.zeros(200, 1, 17, 17)
    line[:, 0, 8] = 1
    turned = experiments.move_a_little(line, torch.Generator().manual_seed(1))[:, 0]
    rows = (turned * columns[:, None]).sum(1) / turned.sum(1)
    slopes = (rows[:, 12] - rows[:, 4]) / 8
    assert slopes.abs().max() < 0.6 and slopes.max() > 0.4 and slopes.min() < -0.4  # tan 30° is 0.58


def test_each_corruption_is_measured_for_each_network():
    networks = [make_tiny(), make_tiny()]
    found = experiments.measure_corruptions({"tiny": networks})
    x, y = data.digits("test")
    for name, (_, severities) in experiments.CORRUPTIONS.items():
        assert len(found[name]["tiny"]) == len(severities)
        clean = [experiments.measure_accuracy(network, x, y) for network in networks]
        assert found[name]["tiny"][0] == pytest.approx(clean, abs=0.01)


def test_large_models_are_counted_without_weights():
    costs = experiments.count_large()
    assert costs["ResNet-50"]["parameters"] == 25_557_032 and costs["AlexNet"]["parameters"] == 61_100_840
    assert costs["ResNet-50"]["macs"] == pytest.approx(4.09e9, rel=0.01)
    assert costs["ViT-B/16"]["macs"] == pytest.approx(17.6e9, rel=0.05)
    placed = {name: (parameters, images) for name, _, parameters, images in experiments.place_known(costs)}
    assert placed["ResNet-50"] == (25_557_032, 1.28e6) and len(placed) == len(experiments.KNOWN)


def test_a_wrong_sound_harms_and_a_right_one_helps():
    found = experiments.fuse_modalities((0.6,), sound_noise=4.0, seed=0)
    assert found["both"][0] > max(found["image"][0], found["sound"][0]) > found["both, wrong sound"][0]


def test_fashion_is_made_small_where_it_is_there(monkeypatch):
    def missing(_):
        raise data.DataMissing("not there")

    monkeypatch.setattr(data, "fashion_mnist", missing)
    assert experiments.read_fashion() is None
    monkeypatch.setattr(data, "fashion_mnist", lambda split: (torch.rand(3, 1, 28, 28), torch.arange(3)))
    pool = experiments.read_fashion()
    assert pool.images.shape == (6, 1, 14, 14) and pool.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_the_map_holds_each_chapter_once():
    parts = experiments.map_companion()
    found = [row["chapter"] for rows in parts.values() for row in rows]
    assert found == [chapter.name for chapter in chapters.TABLE]
    assert [len(rows) for rows in parts.values()] == [1, 1, 3, 4, 3, 2, 3, 3, 1]


def test_every_arrow_joins_two_boxes_and_no_two_boxes_overlap():
    sketches = [
        sketch
        for diagram in diagrams.DIAGRAMS.values()
        for sketch in (*diagram.printed.values(), diagram.corrected)
    ]
    assert len(sketches) == 13 + 7
    for sketch in sketches:
        assert {key for arrow in sketch.arrows for key in arrow[:2]} == set(sketch.boxes)
        places = np.array([(box.x, box.y) for box in sketch.boxes.values()])
        gaps = np.abs(places[:, None] - places) + 9 * np.eye(len(places))[..., None]
        assert (gaps.max(-1) >= 0.9).all()
