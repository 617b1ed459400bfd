"""A folder a class: found in numeric order, batched, and every fault named."""

import pickle

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import DataLoader

from tests.support.files import GREYS, REAL, RGB, real, save_image
from vlmbook.data import DataMissing, class_folders, stack_images


@pytest.fixture
def people(tmp_path):
    for person in (1, 2, 10):
        for shot in (1, 2, 11):
            save_image(
                tmp_path / "people" / f"s{person}" / f"{shot}.pgm",
                np.full((4, 3), person * 20 + shot, np.uint8),
            )
    return tmp_path / "people"


def test_class_folders_are_in_numeric_order(people):
    (people / "README.txt").write_text("not a class")
    save_image(people / ".ipynb_checkpoints" / "1.png", GREYS)
    save_image(people / "s1" / "._1.pgm.png", GREYS)
    (people / "s1" / "notes.txt").write_text("not an image")
    data = class_folders(people)
    assert data.classes == ["s1", "s2", "s10"] and len(data) == 9
    assert [path.name for path in data.paths[:3]] == ["1.pgm", "2.pgm", "11.pgm"]
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    image, label = data[8]
    assert label == 2 and type(label) is int
    assert_close(image, torch.full((1, 4, 3), 211 / 255))


def test_a_dataset_survives_pickling_and_is_batched(people):
    data = pickle.loads(pickle.dumps(class_folders(str(people), channels=3)))
    images, labels = next(iter(DataLoader(data, batch_size=9)))
    assert images.shape == (9, 3, 4, 3) and labels.tolist() == data.labels.tolist()
    assert_close(stack_images(data), (images, labels), rtol=0, atol=0)


def test_images_of_other_sizes_and_channels_are_read_alike(people):
    save_image(people / "s2" / "2.pgm", GREYS)
    save_image(people / "s10" / "1.png", RGB)
    images, labels = stack_images(class_folders(people, channels=3, size=(8, 6)))
    assert images.shape == (10, 3, 8, 6) and labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
    assert class_folders(people, size=8, letterbox=True)[4][0].shape == (1, 8, 8)
    with pytest.raises(ValueError, match="10×6 pixels, more than max_pixels=20"):
        class_folders(people, max_pixels=20)[4]


def test_class_folders_name_what_is_missing(tmp_path, people):
    with pytest.raises(DataMissing, match=r"there is no folder .*gone"):
        class_folders(tmp_path / "gone")
    with pytest.raises(DataMissing, match="s1 has no folder in it"):
        class_folders(people / "s1")
    (people / "s3").mkdir()
    with pytest.raises(DataMissing, match="s3 has no image in it"):
        class_folders(people)


@real("orl_faces")
def test_the_real_faces():
    images, labels = stack_images(class_folders(REAL / "orl_faces"))
    assert images.shape == (400, 1, 112, 92) and labels.bincount().tolist() == [10] * 40
