"""Drawn faces: what belongs to a person stays, what belongs to a photograph changes."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vlmbook.data import Avatars, avatars

module = import_module("vlmbook.data.avatars")  # the package exports the function under the module's name


@pytest.fixture(scope="module")
def faces():
    return avatars(24, 6, size=32, seed=3)


def test_they_have_the_documented_form(faces):
    assert isinstance(faces, Avatars) and len(faces) == 144
    assert faces.images.shape == (144, 3, 32, 32) and faces.images.dtype == torch.float32
    assert 0 <= faces.images.min() < 0.1 and 0.9 < faces.images.max() <= 1
    assert (
        faces.labels.tolist() == [i for i in range(24) for _ in range(6)]
        and faces.labels.dtype == torch.int64
    )
    assert faces.tones.shape == (144,) and faces.tones.dtype == torch.float32
    assert faces.glasses.shape == (144,) and faces.glasses.dtype == torch.bool


def test_an_image_depends_on_its_person_and_number_alone(faces):
    state = torch.random.get_rng_state()
    few = avatars(2, 3, size=32, seed=3)
    assert torch.equal(few.images[3:], faces.images[6:9])
    assert torch.equal(state, torch.random.get_rng_state())
    assert not torch.equal(few.images, avatars(2, 3, size=32, seed=4).images)


def test_a_person_keeps_tone_and_glasses(faces):
    tones = faces.tones.view(24, 6)
    assert (tones == tones[:, :1]).all()
    assert tones[:, 0].unique().numel() == 24 and 0 <= tones.min() < 0.3 and 0.7 < tones.max() <= 1
    wearing = faces.glasses.view(24, 6)
    owners = wearing.any(1)
    assert 3 <= owners.sum() <= 16
    assert 0.25 < wearing[owners].float().mean() < 0.75
    frames = [module._draw_person(np.random.default_rng([3, i]))["has_glasses"] for i in range(24)]
    assert all(owns for owns, wears in zip(frames, owners.tolist(), strict=True) if wears)


def test_dark_skin_is_darker_in_the_images(faces):
    """In the middle of the face, over many lights."""
    cheeks = faces.images[:, :, 16:20, 10:22].mean((1, 2, 3)).view(24, 6).mean(1)
    assert torch.corrcoef(torch.stack([cheeks, faces.tones.view(24, 6)[:, 0]]))[0, 1] < -0.8


def test_images_of_one_person_are_nearer_to_each_other_than_to_others(faces):
    """By the colours of a coarse copy; no two are equal."""
    coarse = F.normalize(F.avg_pool2d(faces.images, 4).flatten(1) - 0.4)
    alike = coarse @ coarse.T
    same = faces.labels[:, None] == faces.labels
    other_image = same & ~torch.eye(144, dtype=torch.bool)
    assert alike[other_image].mean() > alike[~same].mean() + 0.1
    assert (
        torch.cdist(faces.images.flatten(1), faces.images.flatten(1))[~torch.eye(144, dtype=torch.bool)].min()
        > 1
    )


@pytest.mark.parametrize("size", [16, 33, 64])
def test_every_size_shows_the_same_face(size):
    large = avatars(2, 2, size=128, seed=5).images
    small = avatars(2, 2, size=size, seed=5).images
    assert small.shape == (4, 3, size, size)
    middle = slice(3 * size // 8, 5 * size // 8)  # of the face; the ground is another crop
    reduced = F.interpolate(large, size=(size, size), mode="bilinear", antialias=True)
    assert (reduced - small)[:, :, middle, middle].abs().mean() < 0.06


def photograph(shot_changes, glasses=False):
    """-> (64, 64, 3): one person, one photograph in which only these values are not neutral."""
    person = module._draw_person(np.random.default_rng([3, 1]))
    shot = module._draw_shot(np.random.default_rng([3, 1, 0]))
    neutral = {
        "yaw": 0.0,
        "pitch": 0.0,
        "roll": 0.0,
        "shift": np.zeros(2),
        "scale": 0.8,
        "smile": 0.0,
        "open": 0.0,
    }
    neutral |= {
        "light": np.array([0.0, 0.0, 1.0]),
        "ambient": 0.5,
        "direct": 0.5,
        "tint": np.ones(3),
        "blur": 0.0,
    }
    neutral |= {"lids": 1.0, "gaze": np.zeros(2)}
    return module._photograph(person, shot | neutral | shot_changes, np.zeros((64, 64, 3)), glasses)


def test_light_from_one_side_makes_that_side_brighter():
    left, right = (photograph({"light": np.array([x, 0.0, 0.3]) / np.hypot(x, 0.3)}) for x in (-1.0, 1.0))
    middle = slice(20, 44)
    assert left[middle, 20:32].mean() > 1.2 * left[middle, 32:44].mean()
    assert right[middle, 32:44].mean() > 1.2 * right[middle, 20:32].mean()


def darkest_column(picture):
    """Of the eyes' and nostrils' rows: where the middle of what is dark lies."""
    rows = picture[28:46, 16:48].mean((0, 2))
    dark = (rows.max() - rows) ** 2
    return (np.arange(len(dark)) * dark).sum() / dark.sum()


def test_a_turned_head_moves_the_features_and_not_the_head():
    """The columns of the features move to the side that it turns to, by about the sine of the angle."""
    ahead, turned = (photograph({"yaw": yaw}) for yaw in (0.0, 0.4))
    moved = darkest_column(turned) - darkest_column(ahead)
    assert 2 < abs(moved) < 12
    assert np.sign(moved) == -np.sign(darkest_column(photograph({"yaw": -0.4})) - darkest_column(ahead))


@pytest.mark.parametrize(
    "change", [{"smile": 1.0}, {"open": 1.0}, {"lids": 0.5}, {"roll": 0.15}, {"blur": 1.0}]
)
def test_each_change_of_the_photograph_shows(change):
    assert abs(photograph(change) - photograph({})).max() > 0.1


def test_glasses_show():
    assert (abs(photograph({}, glasses=True) - photograph({})).max(-1) > 0.1).sum() > 40


def test_avatars_cannot_be_changed_by_assignment(faces):
    assert len(replace(faces, images=faces.images[:3])) == 3
    with pytest.raises(AttributeError):
        faces.images = None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"people": 0, "shots": 1}, "people wants a whole number"),
        ({"people": 1, "shots": 0}, "shots wants a whole number"),
        ({"people": 1000, "shots": 1001}, "shots wants a whole number"),
        ({"people": 1, "shots": 1, "size": 15}, "size wants a whole number"),
        ({"people": 1, "shots": 1, "seed": -1}, "seed wants a whole number"),
    ],
)
def test_bad_numbers_get_a_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        avatars(**arguments)
