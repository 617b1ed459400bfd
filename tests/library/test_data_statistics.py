"""Statistics of folders and of objects: every fault listed, and nothing stops at a broken file."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from tests.support.files import save_image
from vlmbook.data import AnnotatedImage, DataMissing, ImageObject, describe_folder, describe_objects, photo
from vlmbook.data.statistics import fingerprint


def pixels(name, size=(60, 90)):
    image = F.interpolate(photo(name)[None], size=size, antialias=True, mode="bilinear")[0].clamp(0, 1)
    return (image * 255).byte().permute(1, 2, 0).numpy()


@pytest.fixture
def folder(tmp_path):
    for name in ("cat", "coffee", "rocket"):
        save_image(tmp_path / "a" / f"{name}.png", pixels(name))
    save_image(tmp_path / "b" / "copy.png", pixels("cat"))
    Image.fromarray(pixels("coffee", (120, 180))).save(tmp_path / "b" / "again.jpg", quality=60)
    save_image(tmp_path / "top.png", np.zeros((5, 7), np.uint8))
    (tmp_path / "b" / "cut.png").write_bytes((tmp_path / "a" / "cat.png").read_bytes()[:300])
    (tmp_path / "b" / "ps.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (tmp_path / "b" / "notes.txt").write_text("notes")
    (tmp_path / ".hidden.png").write_bytes(b"hidden")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels("horse")).save(tmp_path / "c.jpg", exif=exif)
    return tmp_path


def test_everything_in_a_folder_is_counted(folder):
    found = describe_folder(folder)
    assert len(found.sizes) == 7 and found.sizes["c.jpg"] == (90, 60) and found.channels["top.png"] == 1
    assert found.classes == {"a": 3, "b": 2} and found.imbalance == 1.5
    assert set(found.broken) == {"b/cut.png", "b/ps.jpg"} and found.others == ["b/notes.txt"]
    assert "none of" in found.broken["b/ps.jpg"] and str(folder) not in found.broken["b/ps.jpg"]
    assert found.duplicates == [["a/cat.png", "b/copy.png"]]
    assert [pair[:2] for pair in found.similar] == [("a/coffee.png", "b/again.jpg")]
    assert found.turned == ["c.jpg"]


def test_an_image_of_too_many_pixels_is_listed_before_it_is_decoded(folder):
    save_image(folder / "large.png", np.zeros((200, 200), np.uint8))
    found = describe_folder(folder, max_pixels=30_000)
    assert "max_pixels=30000" in found.broken["large.png"] and "a/cat.png" in found.sizes


def test_an_empty_folder_and_none(tmp_path):
    found = describe_folder(tmp_path)
    assert (found.sizes, found.classes, found.imbalance, found.similar) == ({}, {}, 1.0, [])
    with pytest.raises(DataMissing, match="no folder"):
        describe_folder(tmp_path / "nowhere")


def test_a_fingerprint_survives_size_and_brightness_and_not_a_flip():
    image = photo("cat")
    code = fingerprint(image)
    smaller = F.interpolate(image[None], scale_factor=0.5, antialias=True, mode="bilinear")[0]

    def differing(other):
        return (fingerprint(other) ^ code).bit_count()

    assert differing(0.5 * image + 0.2) == 0 and differing(smaller) <= 2
    assert differing(image.flip(-1)) > 10 and differing(photo("coffee")) > 10
    ramp = torch.linspace(1, 0, 90).expand(1, 40, 90)
    assert fingerprint(ramp) == 2**64 - 1 and fingerprint(ramp.flip(-1)) == 0
    assert fingerprint(torch.full((3, 20, 20), 0.5)) is None


def test_different_photographs_are_not_similar(tmp_path):
    for name in ("astronaut", "brick", "camera", "cat", "coins", "gravel", "page", "rocket"):
        save_image(tmp_path / f"{name}.png", pixels(name))
    assert describe_folder(tmp_path, distance=10).similar == []


def test_objects_are_counted_by_class_and_size():
    objects = (
        ImageObject("cat", (0, 0, 31, 33)),
        ImageObject("cat", (0, 0, 32, 32), difficult=True),
        ImageObject("dog", (0, 0, 96, 96), crowd=True),
        ImageObject("cat", (0, 0, 31, 33)),
    )
    found = describe_objects([AnnotatedImage("a.png", 100, 200, objects), AnnotatedImage("b.png", 5, 5)])
    assert found.classes == {"cat": 3, "dog": 1} and found.imbalance == 3
    assert found.areas == {"small": 2, "medium": 1, "large": 1}
    assert found.per_image == [4, 0] and found.classes_per_image == [2, 0] and found.empty == ["b.png"]
    assert found.shares[2] == pytest.approx(96 * 96 / 20000)
    assert found.flags == {"crowd": 1, "difficult": 1, "truncated": 0, "occluded": 0, "mask": 0}
    assert found.repeated == ["a.png: cat at (0.0, 0.0, 31.0, 33.0)"]
    assert describe_objects([]).imbalance == 1
