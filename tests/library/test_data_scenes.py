"""Scenes: what they say of an image is what is in it, and train and test share nothing that is pasted."""

import numpy as np
import pytest
import torch

from vlmbook.data import SCENE_NAMES, digits, scenes
from vlmbook.data.scenes import GROUNDS, _draw_digit
from vlmbook.data.shapes import COLOURS


@pytest.fixture(scope="module")
def made():
    return scenes("train", 120, seed=3)


def test_scenes_have_the_documented_form(made):
    images, targets = made
    assert images.shape == (120, 3, 64, 64) and images.dtype == torch.float32 and len(targets) == 120
    assert 0 <= images.min() and images.max() <= 1
    for each in targets:
        k = len(each["labels"])
        assert 1 <= k <= 3 and each["boxes"].shape == (k, 4) and each["boxes"].dtype == torch.float32
        assert each["labels"].dtype == each["digits"].dtype == torch.int64
        low, high = each["boxes"][:, :2], each["boxes"][:, 2:]
        assert (low >= 0).all() and (high <= 64).all() and (high - low >= 5).all()
        assert ((each["digits"] >= 0) == (each["labels"] == SCENE_NAMES.index("digit"))).all()
    labels = torch.cat([each["labels"] for each in targets])
    assert labels.unique().tolist() == list(range(len(SCENE_NAMES)))
    assert {len(each["labels"]) for each in targets} == {1, 2, 3}
    assert len(torch.cat([each["digits"] for each in targets]).unique()) >= 8


def test_each_box_holds_paint_up_to_its_edges_and_none_lies_outside_all(made):
    """Pixels that are exactly of a paint are an object's; the topmost box has some beside each of its
    edges.
    """
    paints = torch.tensor(list(COLOURS.values()))
    for image, each in zip(*made, strict=True):
        painted = ((image[None] - paints[:, :, None, None]).abs().amax(1) < 1e-5).any(0)
        inside = torch.zeros_like(painted)
        for x1, y1, x2, y2 in each["boxes"].long().tolist():
            inside[y1:y2, x1:x2] = True
            assert painted[y1:y2, x1:x2].any()
        assert (painted & ~inside).sum() == 0
        if each["labels"][-1] == 1:  # a square, not covered: all its corners count
            x1, y1, x2, y2 = each["boxes"][-1].long().tolist()
            assert painted[y1:y2, x1:x2].float().mean() > 0.4
            for edge in (
                painted[y1 : y1 + 3, x1:x2],
                painted[y2 - 3 : y2, x1:x2],
                painted[y1:y2, x1 : x1 + 3],
                painted[y1:y2, x2 - 3 : x2],
            ):
                assert edge.any()


def test_an_image_depends_on_its_number_and_not_on_how_many_there_are(made):
    images, targets = scenes("train", 5, seed=3)
    assert torch.equal(images, made[0][:5]) and torch.equal(targets[4]["boxes"], made[1][4]["boxes"])
    assert not torch.equal(images, scenes("train", 5, seed=4)[0])
    assert not torch.equal(images, scenes("test", 5, seed=3)[0])


def test_train_and_test_share_no_photograph_and_no_digit():
    assert not set(GROUNDS["train"]) & set(GROUNDS["test"])
    for split in GROUNDS:
        images, values = digits(split)
        cover, value = _draw_digit(np.random.default_rng(5), split, 8, 10.0, 12.0, 32)
        ink = torch.from_numpy(cover[8:16, 6:14])
        near = [
            (value_ == value) and torch.allclose((1.6 * image[0]).clamp(0, 1), ink, atol=1e-6)
            for image, value_ in zip(images, values.tolist(), strict=True)
        ]
        assert any(near)


def test_size_and_number_of_objects_are_those_asked_for():
    images, targets = scenes("test", 12, size=96, objects=(4, 6))
    assert images.shape == (12, 3, 96, 96) and {len(each["labels"]) for each in targets} <= {4, 5, 6}
    sides = torch.cat([each["boxes"][:, 2:] - each["boxes"][:, :2] for each in targets])
    assert 22 < sides.max() <= 44
    assert scenes("train", 0)[0].shape == (0, 3, 64, 64)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (dict(split="valid"), "train.*test.*valid"),
        (dict(n=-1), "n wants a whole number from 0"),
        (dict(size=16), "size wants a whole number from 32 to 4096, got 16"),
        (dict(seed=-1), "seed wants"),
        (dict(objects=(0, 2)), r"objects\[0\] wants a whole number from 1 to 6, got 0"),
        (dict(objects=(3, 2)), r"objects\[1\] wants a whole number from 3 to 6, got 2"),
        (dict(objects=(1, 7)), r"objects\[1\] wants a whole number from 1 to 6, got 7"),
    ],
)
def test_scenes_refuse_what_they_cannot_draw(arguments, says):
    with pytest.raises(ValueError, match=says):
        scenes(**{"split": "train", "n": 1, **arguments})
