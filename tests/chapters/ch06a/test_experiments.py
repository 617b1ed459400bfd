"""The experiments of chapter 6a: spoiled faces are found, leaks are measured, a network is exported."""

import io
import time
from datetime import UTC, datetime

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from vlmbook import data
from vlmbook.chapters.ch06a import application, experiments
from vlmbook.face_recognition import FacePipeline, equal_error_rate, make_pairs, roc_curve
from vlmbook.face_recognition.detection import detect_faces


@pytest.fixture(scope="module")
def faces():
    return data.avatars(10, 4, size=32, seed=7)


class Squares(nn.Module):
    """(B, 3, H, W) -> (B, 48): a coarse, standardised copy of the image."""

    def forward(self, x):
        x = F.adaptive_avg_pool2d(x, 4).flatten(1)
        return F.normalize(x - x.mean(1, keepdim=True))


# --- spoiled faces ------------------------------------------------------------------------------------------


def test_each_fault_is_where_it_says(faces):
    images, labels, faults = experiments.spoil(faces.images, faces.labels, count=5)
    assert len(images) == len(labels) == 45
    changed = (images[:40] != faces.images).flatten(1).any(1).nonzero()[:, 0]
    assert set(changed.tolist()) == set(faults["blurred"].tolist()) and len(changed) == 5
    renamed = (labels[:40] != faces.labels).nonzero()[:, 0]
    assert set(renamed.tolist()) == set(faults["mislabelled"].tolist()) and len(renamed) == 5
    assert faults["duplicate"].tolist() == [40, 41, 42, 43, 44]
    copies = experiments.find_copies(images)
    assert copies[:, 1].sort().values.tolist() == [40, 41, 42, 43, 44]
    assert not set(copies[:, 0].tolist()) & set(changed.tolist())


def test_a_blurred_image_is_less_sharp_whatever_its_contrast(faces):
    sharp = experiments.measure_sharpness(faces.images)
    images, _, faults = experiments.spoil(faces.images, faces.labels, count=5)
    assert (experiments.measure_sharpness(images)[faults["blurred"]] < 0.5 * sharp[faults["blurred"]]).all()
    assert_close(experiments.measure_sharpness(0.5 * faces.images + 0.2), sharp, rtol=1e-4, atol=1e-4)


def test_a_wrong_name_is_suspicious():
    generator = torch.Generator().manual_seed(0)
    middles = torch.eye(4).repeat_interleave(5, 0)
    embeddings = middles + 0.1 * torch.randn(20, 4, generator=generator)
    labels = torch.arange(4).repeat_interleave(5)
    assert (experiments.suspect_labels(embeddings, labels) < 0).all()
    labels[7] = 3
    assert (experiments.suspect_labels(embeddings, labels) > 0).nonzero()[:, 0].tolist() == [7]


def test_suspicion_is_a_difference_of_mean_distances():
    embeddings, labels = torch.randn(9, 3), torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2])
    got = experiments.suspect_labels(embeddings, labels)
    for i in range(9):
        means = {}
        for person in range(3):
            others = [j for j in range(9) if labels[j] == person and j != i]
            means[person] = torch.stack([(embeddings[i] - embeddings[j]).norm() for j in others]).mean()
        own = means.pop(labels[i].item())
        assert got[i].item() == pytest.approx((own - min(means.values())).item(), abs=1e-4)


# --- leaks, folds, groups -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_only_the_wrong_order_leaks(seed):
    assert experiments.measure_leak(augment_first=True, seed=seed) > 0.8
    assert experiments.measure_leak(augment_first=False, seed=seed) < 0.25


def test_the_best_of_many_coins_is_lucky_on_validation_only():
    best, test = experiments.measure_luck()
    assert best > 0.65 and test == pytest.approx(0.5, abs=0.03)
    assert experiments.measure_luck(tries=1)[0] < best


def test_cross_validation_never_measures_on_people_it_trained_on():
    seen = []

    def measure(train, valid, lr):
        seen.append((set(train.flatten().tolist()), set(valid.flatten().tolist())))
        return lr

    found = experiments.cross_validate(measure, torch.arange(12).view(6, 2), [(0.1,), (0.2,)], folds=3)
    assert found == {(0.1,): [0.1] * 3, (0.2,): [0.2] * 3}
    for train, valid in seen:
        assert not train & valid and train | valid == set(range(12)) and len(valid) == 4
        assert all(number // 2 * 2 in valid and number // 2 * 2 + 1 in valid for number in valid)
    assert set.union(*(valid for _, valid in seen[:3])) == set(range(12))


def test_folds_hold_pairs_of_their_own_people_half_of_them_same(faces):
    pairs = make_pairs(Squares()(faces.images), faces.labels)
    distances, same, folds = experiments.make_folds(pairs, 5)
    assert same.float().mean() == 0.5 and len(distances) == 120
    assert folds.unique().tolist() == [0, 1, 2, 3, 4]
    assert same.sum() == pairs.same.sum()  # each pair of one person lies within a fold


def test_groups_are_measured_on_their_own_pairs():
    faces = data.avatars(16, 3, size=16, seed=2)
    embeddings = F.normalize(torch.randn(48, 5, generator=torch.Generator().manual_seed(0)))
    pairs = make_pairs(embeddings, faces.labels)
    found = experiments.measure_groups(pairs, faces)
    i, j = torch.triu_indices(48, 48, offset=1)
    both = ~faces.glasses[i] & ~faces.glasses[j]
    assert found["no glasses"][0] == pytest.approx(
        equal_error_rate(pairs.distances[both], pairs.same[both])[0]
    )
    dark = (faces.tones[i] > 0.5) & (faces.tones[j] > 0.5)
    assert found["dark skin"][0] == pytest.approx(
        equal_error_rate(pairs.distances[dark], pairs.same[dark])[0]
    )
    for rate, low, high in found.values():
        assert 0 <= low <= rate <= high <= 1


def test_a_gallery_gives_strangers_more_names_the_larger_it_is():
    embeddings = F.normalize(torch.randn(60, 3, generator=torch.Generator().manual_seed(0)))
    labels = torch.arange(30).repeat_interleave(2)
    shares = experiments.measure_gallery_errors(embeddings, labels, 0.3, (1, 5, 20), draws=50)
    far = (torch.cdist(embeddings, embeddings) <= 0.3).fill_diagonal_(False).float().mean().item()
    assert shares[1] == pytest.approx(far, abs=0.02)
    assert shares[1] < shares[5] < shares[20]
    assert experiments.measure_gallery_errors(embeddings, labels, 0.0, (5,), draws=5) == {5: 0}


# --- images -------------------------------------------------------------------------------------------------


def test_the_faces_of_the_group_are_where_their_boxes_are():
    group, boxes = experiments.make_group_photo()
    assert len(boxes) == 4 and (boxes[:, 2] <= group.shape[2]).all() and (boxes[:, 3] <= group.shape[1]).all()
    found = detect_faces(group)
    assert experiments._count_found(found, boxes) == 4 == len(found)
    assert experiments._count_found(boxes + 200, boxes) == 0


@pytest.mark.parametrize("size", [(40, 60), (61, 33)])
def test_a_turned_image_keeps_its_shapes(size):
    """A square mark of known place is turned by 90°; a full turn changes nothing."""
    image = torch.zeros(1, *size)
    middle = (size[0] / 2, size[1] / 2)
    image[0, int(middle[0]) - 10, int(middle[1])] = 1
    turned = experiments.turn_image(image, 90)
    row, column = divmod(int(turned.argmax()), size[1])
    assert abs(row - middle[0]) <= 1 and abs(column - middle[1] + 10) <= 1  # against the clock: to the left
    assert_close(experiments.turn_image(image, 360), image, rtol=0, atol=1e-3)


def test_variants_and_strangers_have_the_form_of_images():
    variants = experiments.make_variants()
    assert next(iter(variants)) == "same file" and "printed" in variants
    for image in variants.values():
        assert image.shape == (3, 242, 242) and 0 <= image.min() and image.max() <= 1
    strangers = experiments.read_strangers(5)
    assert strangers.shape == (5, 3, 150, 150) and 0 <= strangers.min() and strangers.max() <= 1


def test_detections_are_counted_for_a_detector_that_finds_all_and_one_that_finds_none():
    none = experiments.count_detections(lambda image: torch.zeros(0, 4))
    assert set(none.values()) == {0}

    def everywhere(image):
        return torch.tensor([[0.0, 0, image.shape[2], image.shape[1]]])

    counts = experiments.count_detections(everywhere)
    assert counts["boxes on 100 patches without a face"] == 100
    assert counts["boxes on 8 photographs without a face"] == 8
    assert counts["faces in a group of 4"] == 0


# --- deployment ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_exported_network_gives_the_same_numbers_for_any_batch(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 5)
    ).eval()
    x = torch.rand(7, 3, 16, 16)
    plain, small = tmp_path / "a.onnx", tmp_path / "b.onnx"
    experiments.export_network(network, x[:3], plain)
    experiments.quantize_network(plain, x, small)
    for batch in (x[:1], x):
        assert_close(experiments.open_onnx(plain)(batch), network(batch).detach(), rtol=1e-4, atol=1e-5)
        assert (experiments.open_onnx(small)(batch) - network(batch).detach()).abs().max() < 0.05
    assert not torch.equal(experiments.open_onnx(small)(x), experiments.open_onnx(plain)(x))


def test_latency_is_in_milliseconds():
    assert 1.5 < experiments.measure_latency(lambda x: time.sleep(0.002), torch.ones(1), repeats=5) < 100


# --- records ------------------------------------------------------------------------------------------------


def test_a_thinned_roc_comes_back_and_lies_on_the_whole_one(faces):
    pairs = make_pairs(Squares()(faces.images), faces.labels)
    roc = roc_curve(pairs.distances, pairs.same)
    points = experiments.thin_roc(roc, 20)
    assert len(points["far"]) <= 40
    again = experiments.make_roc(points)
    assert again.far[0] == again.tar[0] == 0 and again.tar[-1] == 1 == again.far[-1]
    for threshold, far, tar in zip(*points.values(), strict=True):
        at = (roc.thresholds == threshold).nonzero()[0, 0]
        assert (roc.far[at].item(), roc.tar[at].item()) == (far, tar)


# --- the application ----------------------------------------------------------------------------------------


def as_upload(name, content):
    kind = {"type": "image/png", "size": len(content), "last_modified": datetime.now(UTC)}
    return {"name": name, "content": memoryview(content), **kind}


def upload(desk, *images, name="face{}.png"):
    """What a browser's upload leaves in the widget."""
    files = []
    for number, image in enumerate(images):
        content = io.BytesIO()
        Image.fromarray((255 * image.permute(1, 2, 0)).byte().numpy()).save(content, "PNG")
        files.append(as_upload(name.format(number), content.getvalue()))
    desk.photographs.set_trait("value", tuple(files))


@pytest.fixture
def desk():
    same = torch.tensor([True, True, False, False])
    roc = roc_curve(torch.tensor([0.1, 0.5, 0.4, 0.9]), same)

    def middle(image):
        return torch.tensor([[0.0, 0, image.shape[2], image.shape[1]]])

    return application.FaceDesk(FacePipeline(Squares(), detect=middle), roc, threshold=0.5)


def test_a_person_is_enrolled_verified_and_removed(desk, faces):
    desk.person.value = "Anna"
    upload(desk, faces.images[0], faces.images[1])
    desk.enroll_button.click()
    assert desk.gallery.count("Anna") == 2 and "2 photographs" in desk.status.value
    assert desk.photographs.value == ()
    upload(desk, faces.images[0], 1 - faces.images[0])
    before = desk.picture.value
    desk.verify_button.click()
    assert "face0.png is Anna" in desk.status.value and "face1.png is not Anna" in desk.status.value
    assert desk.picture.value != before and len(desk.answers) == 2
    desk.remove_button.click()
    assert desk.gallery.names() == [] and desk.answers == []


def test_the_slider_moves_the_threshold_of_the_gallery(desk):
    before = desk.picture.value
    desk.slider.value = 0.8
    assert desk.gallery.threshold == 0.8 and desk.picture.value != before


def test_mistakes_are_sentences(desk, faces):
    desk.enroll_button.click()
    assert "at least one file" in desk.status.value
    desk.photographs.set_trait("value", (as_upload("a<b>.txt", b"no image"),))
    desk.person.value = "Anna"
    desk.enroll_button.click()
    assert "a&lt;b&gt;.txt cannot be read as an image" in desk.status.value
    upload(desk, faces.images[0])
    desk.verify_button.click()
    assert "enrolled" in desk.status.value and desk.gallery.names() == []


def test_the_desk_shows_a_picture_where_no_kernel_runs(desk):
    data, _ = desk._repr_mimebundle_()
    assert data["image/png"] and "html" not in data


def test_a_desk_without_the_weights_is_one_of_our_own_network_with_its_own_curve():
    curve = roc_curve(torch.tensor([0.1, 0.3, 0.5, 0.6]), torch.tensor([True, True, False, False]))
    photograph = data.photo("astronaut")[:, :242, 100:342]
    desk = application.make_desk(None, Squares(), curve, photograph)
    assert desk.roc is curve and desk.gallery.threshold == 0.9
    assert [file for _, file, _ in desk.answers] == ["darker", "mirrored"]


def test_a_pretrained_desk_shows_no_curve_of_another_network(monkeypatch):
    monkeypatch.setattr(application.records, "load", lambda *_: None)
    curve = roc_curve(torch.tensor([0.1, 0.6]), torch.tensor([True, False]))
    photograph = data.photo("astronaut")[:, :242, 100:342]
    desk = application.make_desk(FacePipeline(Squares()), Squares(), curve, photograph)
    assert desk.roc is None and desk.picture.value
