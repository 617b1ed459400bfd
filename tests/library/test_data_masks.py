"""Images beside masks: found by their names, read exactly, and every fault named."""

import pickle

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tests.support.files import GREYS, REAL, real, save_image
from vlmbook.data import DataMissing, image_mask_folders, stack_images


@pytest.fixture
def slices(tmp_path):
    for i in (0, 2, 10):
        save_image(tmp_path / "image" / f"{i}.png", np.full((5, 7), i, np.uint8))
        save_image(tmp_path / "label" / f"{i}.tif", np.uint8([[0, 255, 127, 128, i, 0, 0]] * 5))
    return tmp_path / "image", tmp_path / "label"


def test_masks_stand_beside_their_images(slices):
    data = image_mask_folders(*slices)
    assert [path.name for path in data.paths] == ["0.png", "2.png", "10.png"]
    assert [path.name for path in data.mask_paths] == ["0.tif", "2.tif", "10.tif"]
    image, mask = data[1]
    assert_close(image, torch.full((1, 5, 7), 2 / 255))
    assert mask.dtype == torch.float32 and mask.tolist() == [[[0, 1, 0, 1, 0, 0, 0]] * 5]
    images, masks = stack_images(pickle.loads(pickle.dumps(data)))
    assert images.shape == masks.shape == (3, 1, 5, 7)


def test_masks_of_zeros_and_ones_count(slices):
    save_image(slices[1] / "2.tif", np.uint8([[0, 1, 0, 1, 1, 0, 0]] * 5))
    assert image_mask_folders(*slices)[1][1][0, 0].tolist() == [0, 1, 0, 1, 1, 0, 0]
    save_image(slices[1] / "2.tif", np.zeros((5, 7), np.uint8))
    assert image_mask_folders(*slices)[1][1].sum() == 0


def test_faults_of_masks_are_named(slices):
    images, masks = slices
    save_image(masks / "2.tif", np.uint8([[0, 1, 2, 3, 4, 5, 6]] * 5))
    with pytest.raises(ValueError, match=r"2\.tif is no mask in black and white"):
        image_mask_folders(images, masks)[1]
    save_image(masks / "2.tif", np.zeros((7, 5), np.uint8))
    with pytest.raises(ValueError, match=r"2\.tif is 5×7, its image .*2\.png 7×5"):
        image_mask_folders(images, masks)[1]
    save_image(images / "3.png", GREYS)
    with pytest.raises(DataMissing, match=r"image/3\.png has no mask .*label/3\.\*"):
        image_mask_folders(images, masks)
    (images / "3.png").unlink(), (images / "0.png").unlink()
    with pytest.raises(DataMissing, match=r"label/0\.tif has no image .*image/0\.\*"):
        image_mask_folders(images, masks)
    save_image(images / "2.jpg", GREYS)
    with pytest.raises(ValueError, match=r"2\.(jpg|png) and .*2\.(png|jpg) differ only in their suffix"):
        image_mask_folders(images, masks)


@real("membrane")
def test_the_real_membranes():
    images, masks = stack_images(
        image_mask_folders(REAL / "membrane/train/image", REAL / "membrane/train/label")
    )
    assert images.shape == masks.shape == (30, 1, 512, 512) and masks.unique().tolist() == [0, 1]
    assert images[masks > 0].mean() > images[masks == 0].mean() + 0.1  # membranes are dark, and 0
