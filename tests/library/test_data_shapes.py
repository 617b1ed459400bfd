"""Drawn shapes and pasted cut-outs: what they say about an image is exactly what is in it."""

from importlib import import_module

import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu
from torch.testing import assert_close
from torchvision.ops import masks_to_boxes

from vlmbook.data import Shapes, face_patches, shapes, textures
from vlmbook.data.shapes import COLOURS, SHAPES, draw_shape, mask_to_box
from vlmbook.data.textures import _cut_outs

# The package exports functions under the names of these modules.
drawn_module = import_module("vlmbook.data.shapes")
pasted_module = import_module("vlmbook.data.textures")


@pytest.fixture(scope="module")
def drawn():
    return shapes(150, size=48, seed=3)


def test_shapes_have_the_documented_form(drawn):
    assert isinstance(drawn, Shapes) and len(drawn) == 150
    assert drawn.images.shape == (150, 3, 48, 48) and drawn.images.dtype == torch.float32
    assert 0 <= drawn.images.min() and drawn.images.max() <= 1
    for labels, colours, boxes, masks in zip(
        drawn.labels, drawn.colours, drawn.boxes, drawn.masks, strict=True
    ):
        k = len(labels)
        assert 1 <= k <= 3
        assert labels.shape == colours.shape == (k,) and labels.dtype == colours.dtype == torch.int64
        assert boxes.shape == (k, 4) and boxes.dtype == torch.float32
        assert masks.shape == (k, 48, 48) and masks.dtype == torch.bool
    assert torch.cat(drawn.labels).unique().tolist() == list(range(len(SHAPES)))
    assert torch.cat(drawn.colours).unique().tolist() == list(range(len(COLOURS)))
    assert {len(labels) for labels in drawn.labels} == {1, 2, 3}


def test_boxes_are_tight_on_masks(drawn):
    for boxes, masks in zip(drawn.boxes, drawn.masks, strict=True):
        expected = masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])  # torchvision names the last pixel
        assert_close(boxes, expected, rtol=0, atol=0)


def test_no_two_masks_overlap_and_together_they_are_the_semantic_one(drawn):
    semantic = drawn.semantic()
    assert semantic.shape == (150, 48, 48) and semantic.dtype == torch.int64
    for plane, labels, masks in zip(semantic, drawn.labels, drawn.masks, strict=True):
        assert masks.sum(0).max() == 1
        assert (plane > 0).equal(masks.any(0))
        for label, mask in zip(labels, masks, strict=True):
            assert (plane[mask] == label + 1).all()


def eroded(mask):
    """Pixels with all eight neighbours in the mask; beyond the border is none."""
    return torch.nn.functional.avg_pool2d(mask[None].float(), 3, stride=1, padding=1)[0] > 0.999


def test_a_mask_shows_the_colour_of_its_object(drawn):
    """All of it where no edge is near; on its edge the topmost one's colour has at least half."""
    whole = 0
    for image, colours, masks in zip(drawn.images, drawn.colours, drawn.masks, strict=True):
        for colour, mask in zip(colours, masks, strict=True):
            off = (image - torch.tensor(list(COLOURS.values())[colour])[:, None, None]).abs().amax(0)
            assert not eroded(mask).any() or off[eroded(mask)].max() < 1e-6
            whole += int(eroded(mask).sum())
        assert off[mask].max() <= 0.5 + 1e-6
    assert whole > 0.3 * sum(int(masks.sum()) for masks in drawn.masks)


def test_edges_are_anti_aliased():
    for name in SHAPES:
        cover = draw_shape(name, 12.3, 0.2, 20.4, 19.7, 40)
        edge = (cover > 0) & (cover < 1)
        assert 10 < edge.sum() < 150
        assert cover.max() == 1 and cover.min() == 0


@pytest.mark.parametrize(
    "name, area",
    [
        ("circle", np.pi),
        ("square", 2),
        ("triangle", 3 * 3**0.5 / 4),
        ("star", 5 * 0.45 * np.sin(np.pi / 5)),
        ("cross", 4 * 2 * 0.33 * (0.94 - 0.33) + 4 * 0.33**2),
    ],
)
@pytest.mark.parametrize("angle", [-0.35, 0.0, 0.2])
def test_a_cover_has_the_area_of_its_shape_and_lies_in_the_middle(name, area, angle):
    cover = draw_shape(name, 20.0, angle, 33.25, 30.5, 64)
    assert_close(cover.sum(), np.float32(area * 400), rtol=0.02, atol=0)
    rows, columns = np.indices(cover.shape) + 0.5
    centre = (cover * columns).sum() / cover.sum(), (cover * rows).sum() / cover.sum()
    assert_close(centre, (33.25, 30.5), rtol=0, atol=0.1)


def test_an_edge_pixel_is_blended_by_its_cover_and_in_the_mask_from_one_half(monkeypatch):
    """One object on black: its image is cover × colour, so that the cover can be read back from the
    picture.
    """
    monkeypatch.setattr(
        drawn_module, "crop_photo", lambda rng, names, size, channels: torch.zeros(3, size, size)
    )
    alone = shapes(40, size=32, seed=6, objects=(1, 1))
    for image, [colour], [mask] in zip(alone.images, alone.colours, alone.masks, strict=True):
        cover = image.max(0).values / max(list(COLOURS.values())[colour])
        assert mask.equal(cover >= 0.5 - 1e-6) and ((cover > 0.01) & (cover < 0.99)).any()


def test_a_triangle_and_a_star_point_up():
    for name in ("triangle", "star"):
        cover = draw_shape(name, 20.0, 0.0, 32.0, 32.0, 64)
        top = np.nonzero(cover.sum(1))[0][0]
        assert cover[top].sum() < 4 and 12 <= top <= 13


def test_every_object_is_whole_in_the_image_and_half_to_be_seen(monkeypatch):
    kept = []
    arrange = drawn_module._arrange

    def spy(*arguments):
        kept.append(arrange(*arguments))
        return kept[-1]

    monkeypatch.setattr(drawn_module, "_arrange", spy)
    crowded = shapes(40, size=40, seed=1, objects=(4, 8))
    for covers, masks in zip(map(np.stack, kept), crowded.masks, strict=True):
        full = (covers >= 0.5).sum((1, 2))
        assert (masks.sum((1, 2)).numpy() >= 0.5 * full).all() and full.min() >= 4
        assert (covers[:, 0] < 1).all() and (covers[:, :, -1] < 1).all()
    hidden = sum(
        (np.stack(covers) >= 0.5).sum() - masks.sum()
        for covers, masks in zip(kept, crowded.masks, strict=True)
    )
    assert hidden > 0  # some do lie on others


def test_no_shape_occurs_twice_in_the_same_colour():
    crowded = shapes(60, size=64, seed=5, objects=(6, 10))
    for labels, colours in zip(crowded.labels, crowded.colours, strict=True):
        assert len(set(zip(labels.tolist(), colours.tolist(), strict=True))) == len(labels)


def test_captions_are_true(drawn):
    relations = set()
    for i, caption in enumerate(drawn.captions):
        names = [
            f"{list(COLOURS)[colour]} {SHAPES[label]}"
            for label, colour in zip(drawn.labels[i], drawn.colours[i], strict=True)
        ]
        names = [("an " if name.startswith("orange") else "a ") + name for name in names]
        if len(names) == 1:
            assert caption == names[0]
        elif len(names) == 3:
            assert caption == f"{names[0]}, {names[1]} and {names[2]}"
        else:
            assert caption.startswith(names[0]) and caption.endswith(names[1])
            relation = caption[len(names[0]) : -len(names[1])].strip()
            (x1, y1), (x2, y2) = ((box[:2] + box[2:]).tolist() for box in drawn.boxes[i])
            truths = {"above": y1 < y2, "below": y1 > y2, "left of": x1 < x2, "right of": x1 > x2}
            assert truths[relation], caption
            assert (relation in ("above", "below")) == (abs(y1 - y2) >= abs(x1 - x2))
            relations.add(relation)
    assert relations == {"above", "below", "left of", "right of"}


def test_drawn_images_depend_on_seed_and_number_alone(drawn):
    first = shapes(6, size=48, seed=3)
    assert first.images.equal(drawn.images[:6]) and first.captions == drawn.captions[:6]
    assert all(a.equal(b) for a, b in zip(first.masks, drawn.masks[:6], strict=True))
    assert not shapes(6, size=48, seed=4).images.equal(first.images)
    images, masks = textures(5, size=32, seed=3)
    assert images.equal(textures(9, size=32, seed=3)[0][:5]) and masks.equal(textures(5, size=32, seed=3)[1])
    assert not images.equal(textures(5, size=32, seed=4)[0])


@pytest.mark.parametrize("make", [shapes, textures])
def test_drawing_neither_reads_nor_moves_the_global_generators(make):
    np.random.seed(7)  # noqa: NPY002
    torch.manual_seed(7)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    make(3, size=24, seed=1)
    assert (np.random.get_state()[1] == before[0]).all() and torch.get_rng_state().equal(before[1])  # noqa: NPY002


def test_what_was_returned_is_the_readers_own():
    kept = shapes(4, size=32).images.clone()
    for _ in range(2):
        given = shapes(4, size=32)
        assert given.images.equal(kept)
        given.images.zero_()
        for mask in given.masks:
            mask.zero_()
    kept = textures(4, size=32)[0].clone()
    given = textures(4, size=32)
    for part in given:
        part.zero_()
    assert textures(4, size=32)[0].equal(kept)


@pytest.mark.parametrize("make", [shapes, textures])
def test_none_is_an_empty_set(make):
    given = make(0, size=20)
    images = given.images if make is shapes else given[0]
    assert images.shape == (0, 3, 20, 20)
    assert (given.semantic().shape == (0, 20, 20)) if make is shapes else (given[1].shape == (0, 1, 20, 20))


@pytest.mark.parametrize("make", [shapes, textures])
@pytest.mark.parametrize("size", [16, 33, 600])
def test_every_size_works_beyond_the_photographs_own(make, size):
    given = make(1, size=size, seed=2)
    images = given.images if make is shapes else given[0]
    assert images.shape == (1, 3, size, size) and torch.isfinite(images).all() and images.std() > 0.02


@pytest.mark.parametrize("make", [shapes, textures])
@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"n": -1}, "n wants a whole number from 0 to 1000000, got -1"),
        ({"n": 2.0}, "n wants a whole number from 0 to 1000000, got 2.0"),
        ({"n": 1, "size": 15}, "size wants a whole number from 16 to 4096, got 15"),
        ({"n": 1, "seed": -3}, "seed wants a whole number of at least 0, got -3"),
        ({"n": 1, "seed": None}, "seed wants a whole number of at least 0, got None"),
        ({"n": True}, "got True"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(make, arguments, named):
    with pytest.raises((TypeError, ValueError), match=named):
        make(**arguments)


@pytest.mark.parametrize("objects", [(0, 2), (3, 2), (1, 11), (-1, 1)])
def test_numbers_of_objects_are_checked(objects):
    with pytest.raises(ValueError, match=r"objects\[[01]\] wants a whole number from . to 10, got "):
        shapes(1, objects=objects)


def test_a_mask_to_box_of_nothing_is_nothing():
    assert mask_to_box(torch.zeros(5, 7, dtype=torch.bool)).tolist() == [0, 0, 0, 0]
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[2, 3] = True
    assert mask_to_box(mask).tolist() == [3, 2, 4, 3]


@pytest.fixture(scope="module")
def pasted():
    return textures(120, size=48, seed=1)


def test_textures_have_the_documented_form(pasted):
    images, masks = pasted
    assert images.shape == (120, 3, 48, 48) and masks.shape == (120, 1, 48, 48)
    assert images.dtype == masks.dtype == torch.float32
    assert 0 <= images.min() and images.max() <= 1 and masks.unique().tolist() == [0, 1]
    shares = masks.mean((1, 2, 3))
    assert 0.01 < shares.min() and shares.max() < 0.7 and 0.1 < shares.mean() < 0.3


def test_masks_are_what_covers_half_and_the_rest_is_ground(monkeypatch):
    """The same seeds with nothing put down: they differ only where an object covers something."""
    placed, alphas = pasted_module._placed, []

    def spy(*arguments):
        alphas.append(placed(*arguments))
        return alphas[-1]

    monkeypatch.setattr(pasted_module, "_placed", spy)
    partly = 0
    for seed in range(12):
        alphas.clear()
        images, masks = textures(1, size=48, seed=seed)
        covers = torch.stack([alpha for alpha, _ in alphas])
        with monkeypatch.context() as patch:
            patch.setattr(pasted_module, "_choose", lambda rng, part: [])
            grounds, empty = textures(1, size=48, seed=seed)
        assert empty.sum() == 0
        assert masks[0, 0].bool().equal((covers >= 0.5).any(0))
        changed = (images - grounds).abs().amax(1)[0] > 1e-6
        assert not changed[(covers == 0).all(0)].any() and changed[masks[0, 0] > 0].float().mean() > 0.95
        partly += int(((covers > 0.02) & (covers < 0.98)).sum())
    assert partly > 500  # anti-aliased


@pytest.mark.parametrize(
    "part, grounds, half",
    [
        ("train", ["brick", "grass"], "left"),
        ("test", ["brick", "grass"], "right"),
        ("new ground", ["gravel"], None),
        ("new object", ["brick", "grass"], "right"),
    ],
)
def test_parts_share_no_coin_no_horse_and_no_pixel_of_a_ground(part, grounds, half, monkeypatch):
    horse, coins = _cut_outs()
    cropped, placed = [], []
    crop, place = pasted_module.crop_photo, pasted_module._placed
    monkeypatch.setattr(
        pasted_module, "crop_photo", lambda *a, **o: cropped.append((a[1], o)) or crop(*a, **o)
    )
    monkeypatch.setattr(pasted_module, "_placed", lambda cut, *a: placed.append(cut) or place(cut, *a))
    textures(40, size=24, seed=5, part=part)
    names = {name for used, _ in cropped if used != ("cat", "tissue") for name in used}
    assert names == set(grounds)
    assert {options["half"] for used, options in cropped if used != ("cat", "tissue")} == {half}
    allowed = {"train": coins[::2], "new object": [horse]}.get(part, coins[1::2])
    assert placed and {id(cut) for cut in placed} <= {id(cut) for cut in allowed}


def test_a_part_is_one_of_five():
    with pytest.raises(ValueError, match="part wants 'all' or 'train' or"):
        textures(1, part="validation")


def test_there_are_24_coins_and_a_horse():
    horse, coins = _cut_outs()
    assert len(coins) == 24
    for coin in coins:
        height, width = coin.alpha.shape
        assert coin.pixels.shape == (height, width) and 0.6 < height / width < 1.5
        assert 0.5 < coin.alpha.mean() < np.pi / 4 and coin.alpha[height // 2, width // 2] == 1
        assert coin.alpha[0].sum() == coin.alpha[-1].sum() == 0  # cut with a margin
    assert horse.pixels is None and 0.2 < horse.alpha.mean() < 0.5 and horse.alpha[0, 0] == 0


def test_neither_brightness_nor_colour_tells_objects_from_ground(pasted):
    images, masks = pasted
    inside = (images * masks).sum((2, 3)) / masks.sum((2, 3))
    outside = (images * (1 - masks)).sum((2, 3)) / (1 - masks).sum((2, 3))
    assert (inside - outside).mean(0).abs().max() < 0.04  # ± 0.011 by chance
    assert (inside.std(1) - outside.std(1)).mean().abs() < 0.02
    grey, masks = images.mean(1, keepdim=True), masks.bool()
    bright = torch.stack([image > threshold_otsu(image.numpy()) for image in grey])
    overlaps = [
        ((guess & masks).sum((1, 2, 3)) / (guess | masks).sum((1, 2, 3))) for guess in (bright, ~bright)
    ]
    assert torch.maximum(*overlaps).mean() < 0.4  # even knowing which side is the object


def test_face_patches_are_half_faces():
    images, labels = face_patches()
    assert images.shape == (200, 1, 25, 25) and images.dtype == torch.float32 and images.is_contiguous()
    assert 0 <= images.min() and images.max() <= 1
    assert labels.dtype == torch.int64 and labels.tolist() == [1] * 100 + [0] * 100
    images.zero_()
    assert face_patches()[0].max() > 0.9
