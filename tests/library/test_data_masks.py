"""Images beside masks: found by their names, read exactly, and every fault named."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torch.testing import assert_close

from tests.support.files import GREYS, REAL, RGB, real, save_image
from vlmbook.data import DataMissing, class_mask_folders, image_mask_folders, stack_images

ROW = [0, 255, 0, 255, 0, 0, 255]


@pytest.fixture
def slices(tmp_path):
    for i in (0, 2, 10):
        save_image(tmp_path / "image" / f"{i}.png", np.full((5, 7), i, np.uint8))
        save_image(tmp_path / "label" / f"{i}.tif", np.uint8([ROW] * 5))
    return tmp_path / "image", tmp_path / "label"


def one_pair(folder, mask, name="x.png", **options):
    """Pillow image or array -> the folders of one image and that mask."""
    mask = Image.fromarray(mask) if isinstance(mask, np.ndarray) else mask
    save_image(folder / "image" / "x.png", np.zeros(mask.size[::-1], np.uint8))
    (folder / "label").mkdir(exist_ok=True)
    mask.save(folder / "label" / name, **options)
    return folder / "image", folder / "label"


def with_palette(indices, colours):
    picture = Image.fromarray(np.uint8(indices), mode=None).convert("P")
    picture.putdata(np.uint8(indices).flatten().tolist())
    picture.putpalette([channel for colour in colours for channel in colour])
    return picture


VOC = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]  # the first colours of VOC's palette


# Binary


def test_masks_stand_beside_their_images(slices):
    data = image_mask_folders(*slices)
    assert [path.name for path in data.paths] == ["0.png", "2.png", "10.png"]
    assert [path.name for path in data.mask_paths] == ["0.tif", "2.tif", "10.tif"]
    image, mask = data[1]
    assert_close(image, torch.full((1, 5, 7), 2 / 255))
    assert mask.dtype == torch.float32 and mask.tolist() == [[[0, 1, 0, 1, 0, 0, 1]] * 5]
    images, masks = stack_images(pickle.loads(pickle.dumps(data)))
    assert images.shape == masks.shape == (3, 1, 5, 7)


@pytest.mark.parametrize(
    "mask",
    [
        np.uint8([[0, 1, 1]]),
        np.uint8([[0, 255, 255]]),
        np.uint8([[0, 128, 128]]),
        np.uint8([[0, 3, 3]]),
        np.uint16([[0, 1, 1]]),
        np.uint16([[0, 65535, 65535]]),
        np.uint16([[0, 300, 300]]),
        np.array([[False, True, True]]),
        np.uint8([[[0] * 3, [255] * 3, [255] * 3]]),
        np.uint8([[[0] * 3 + [255], [255] * 4, [255] * 4]]),
        with_palette([[0, 1, 1]], [(0, 0, 0), (255, 255, 255)]),
        with_palette([[1, 0, 0]], [(255, 255, 255), (0, 0, 0)]),
        with_palette([[0, 2, 2]], VOC),
    ],
    ids=lambda mask: (
        f"{mask.mode} palette" if isinstance(mask, Image.Image) else f"{mask.dtype} {mask.max()} {mask.ndim}"
    ),
)
def test_a_mask_of_zero_and_one_other_value_is_read(tmp_path, mask):
    assert image_mask_folders(*one_pair(tmp_path, mask))[0][1].tolist() == [[[0, 1, 1]]]


@pytest.mark.parametrize(("value", "mean"), [(0, 0), (255, 1), (1, 1)])
def test_a_mask_of_one_value_is_all_background_or_all_object(tmp_path, value, mean):
    assert image_mask_folders(*one_pair(tmp_path, np.full((3, 4), value, np.uint8)))[0][1].mean() == mean


def test_a_gif_is_a_mask_too(tmp_path):
    folders = one_pair(tmp_path, np.uint8([[0, 255, 255]]), "x.gif")
    assert image_mask_folders(*folders)[0][1].tolist() == [[[0, 1, 1]]]


def test_two_other_values_can_be_declared(tmp_path):
    folders = one_pair(tmp_path, np.uint8([[255, 7, 255]]))
    assert image_mask_folders(*folders, values=(255, 7))[0][1].tolist() == [[[0, 1, 0]]]
    assert image_mask_folders(*folders, values=(np.int64(7), torch.tensor(255)))[0][1].tolist() == [
        [[1, 0, 1]]
    ]
    with pytest.raises(ValueError, match=r"x\.png wants pixels of 0 and 255, got 7, 255"):
        image_mask_folders(*folders, values=(0, 255))[0]
    for wrong in (3, (1,), (1, 1), (-1, 2), "ab", (0.5, 1)):
        with pytest.raises((TypeError, ValueError), match=r"values(\[.\])? wants "):
            image_mask_folders(*folders, values=wrong)


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (np.uint8([[0, 1, 2]]), "0 and one other value, got 0, 1, 2; class_mask_folders reads classes"),
        (np.uint8([[0, 1, 255]]), "got 0, 1, 255"),
        (np.uint16([[0, 256, 512]]), "got 0, 256, 512"),
        (np.uint8([[7, 9, 9]]), "got 7, 9"),
        (np.arange(60, dtype=np.uint8)[None], "got 0, 1, 2, 3, 4, 5, 6, 7 and 52 more"),
        (with_palette([[0, 1, 2]], VOC), "got 0, 1, 2"),
        (
            np.uint8([[[0, 0, 0], [128, 0, 0], [0, 0, 0]]]),
            r"one number a pixel, grey or of a palette, got colours: \(0, 0, 0\), \(128",
        ),
        (
            np.uint8([[[0, 0, 0, 0], [0, 0, 0, 255]]]),
            "without transparency, got an alpha channel that varies",
        ),
        (Image.fromarray(np.uint8([[[9, 0], [9, 255]]]), "LA"), "got an alpha channel that varies"),
    ],
)
def test_any_other_mask_is_refused_with_what_it_holds(tmp_path, mask, says):
    with pytest.raises(ValueError, match=rf"label/x\.png wants .*{says}"):
        image_mask_folders(*one_pair(tmp_path, mask))[0]


def test_a_mask_of_floats_is_refused(tmp_path):
    folders = one_pair(tmp_path, np.float32([[0, 1]]), "x.tif")
    with pytest.raises(
        ValueError, match=r"x\.tif wants one whole number a pixel, got an image of Pillow's mode F"
    ):
        image_mask_folders(*folders)[0]


def test_a_mask_as_jpeg_is_refused_where_it_mixes(tmp_path):
    mask = np.zeros((32, 32), np.uint8)
    mask[5:20, 7:19] = 255
    with pytest.raises(ValueError, match=r"and [0-9]+ more; JPEG mixes values, PNG keeps them"):
        image_mask_folders(*one_pair(tmp_path, mask, "x.jpg"))[0]


def test_a_mask_is_resampled_with_its_image(slices):
    image, mask = image_mask_folders(*slices, size=(10, 14))[0]
    assert image.shape == mask.shape == (1, 10, 14) and mask.unique().tolist() == [0, 1]
    assert mask[0, ::2, ::2].tolist() == [[value / 255 for value in ROW]] * 5
    image, mask = image_mask_folders(*slices, size=14, letterbox=True)[0]
    assert image.shape == mask.shape == (1, 14, 14) and mask[0, 0].sum() == 0 and image[0, 0, 0] == 0.5


# Names


def test_names_may_have_a_suffix_or_a_prefix(slices):
    images, masks = slices
    for path in [*masks.iterdir()]:
        path.rename(masks / f"m_{path.stem}_mask.tif")
    with pytest.raises(
        DataMissing, match=r"0\.png has no mask .*label/0\.\*; .*mask_names tells how: '\{name\}_mask'"
    ):
        image_mask_folders(images, masks)
    data = image_mask_folders(images, masks, mask_names="m_{name}_mask")
    assert [path.name for path in data.mask_paths] == ["m_0_mask.tif", "m_2_mask.tif", "m_10_mask.tif"]


def test_images_and_masks_may_lie_in_one_folder(tmp_path):
    for i in (1, 2):
        save_image(tmp_path / f"{i}.jpg", np.full((5, 7), i, np.uint8))
        save_image(tmp_path / f"{i}_mask.png", np.uint8([ROW] * 5))
    data = image_mask_folders(tmp_path, f"{tmp_path}/", mask_names="{name}_mask")
    assert [path.name for path in data.paths] == ["1.jpg", "2.jpg"] and data[0][1].sum() == 15
    with pytest.raises(ValueError, match="masks wants another folder than images, or other mask_names"):
        image_mask_folders(tmp_path, tmp_path)


def test_both_names_may_have_a_pattern(tmp_path):
    """As in DRIVE."""
    for i in (21, 22):
        save_image(tmp_path / "images" / f"{i}_training.tif", RGB)
        save_image(tmp_path / "1st_manual" / f"{i}_manual1.gif", np.uint8([[0, 255] * 5] * 6))
    patterns = {"image_names": "{name}_training", "mask_names": "{name}_manual1"}
    data = image_mask_folders(tmp_path / "images", tmp_path / "1st_manual", **patterns)
    assert len(data) == 2 and data[1][1].mean() == 0.5
    with pytest.raises(DataMissing, match=r"has no image named '\{name\}_test'|has no image .*21_test"):
        image_mask_folders(
            tmp_path / "images", tmp_path / "1st_manual", **(patterns | {"image_names": "{name}_test"})
        )


@pytest.mark.parametrize("pattern", ["_mask", "{name}{name}", "", None, 3, "{Name}"])
def test_a_pattern_has_the_name_once(slices, pattern):
    with pytest.raises((TypeError, ValueError), match=r"mask_names wants a pattern with \{name\} once"):
        image_mask_folders(*slices, mask_names=pattern)


def test_faults_of_names_and_sizes_are_named(slices):
    images, masks = slices
    save_image(masks / "2.tif", np.zeros((7, 5), np.uint8))
    with pytest.raises(ValueError, match=r"2\.tif wants the size of its image .*2\.png, 7×5, got 5×7"):
        image_mask_folders(images, masks)[1]
    save_image(images / "3.png", GREYS)
    with pytest.raises(DataMissing, match=r"image/3\.png has no mask .*label/3\.\*"):
        image_mask_folders(images, masks)
    (images / "3.png").unlink()
    (images / "0.png").unlink()
    with pytest.raises(DataMissing, match=r"label/0\.tif has no image .*image/0\.\*"):
        image_mask_folders(images, masks)
    save_image(images / "2.jpg", GREYS)
    with pytest.raises(ValueError, match=r"2\.(jpg|png) and .*2\.(png|jpg) differ only in their suffix"):
        image_mask_folders(images, masks)


# Classes


@pytest.mark.parametrize(
    ("mask", "classes"),
    [
        (np.uint8([[0, 3, 255]]), [0, 3, 255]),
        (np.uint16([[0, 300, 65535]]), [0, 300, 65535]),
        (np.uint8([[[0] * 3, [11] * 3, [255] * 3]]), [0, 11, 255]),
        (with_palette([[0, 1, 3]], VOC), [0, 1, 3]),
        (with_palette([[0, 1, 255]], VOC + [(0, 0, 0)] * 251 + [(224, 224, 192)]), [0, 1, 255]),
        (with_palette([[0, 1, 0]], [(0, 0, 0), (255, 255, 255)]), [0, 1, 0]),
        (np.array([[False, True, True]]), [0, 1, 1]),
    ],
    ids=lambda mask: (
        f"{mask.mode} palette" if isinstance(mask, Image.Image) else str(getattr(mask, "dtype", ""))
    ),
)
def test_a_class_map_is_read_exactly(tmp_path, mask, classes):
    image, target = class_mask_folders(*one_pair(tmp_path, mask))[0]
    assert target.dtype == torch.int64 and target.tolist() == [classes] and image.shape == (1, 1, 3)


def test_the_ignored_value_is_kept_for_the_loss(tmp_path):
    folders = one_pair(tmp_path, np.uint8([[0, 1, 255]]))
    data = pickle.loads(pickle.dumps(class_mask_folders(*folders, ignore=255, num_classes=2)))
    target = data[0][1]
    logits = torch.zeros(1, 2, 1, 3)
    assert F.cross_entropy(logits, target[None], ignore_index=255).item() == pytest.approx(np.log(2))
    assert stack_images(data)[1].shape == (1, 1, 3)


def test_classes_outside_their_number_are_refused(tmp_path):
    folders = one_pair(tmp_path, np.uint8([[0, 21, 255]]))
    with pytest.raises(ValueError, match=r"x\.png wants classes 0 to 20 and 255 to ignore, got 21"):
        class_mask_folders(*folders, num_classes=21)[0]
    with pytest.raises(ValueError, match="wants classes 0 to 21, got 255"):
        class_mask_folders(*folders, num_classes=22, ignore=None)[0]
    assert class_mask_folders(*folders, num_classes=22)[0][1].tolist() == [[0, 21, 255]]


def test_a_class_map_is_resampled_by_the_nearest_pixel(tmp_path):
    folders = one_pair(tmp_path, np.uint8([[0, 9], [4, 255]]))
    target = class_mask_folders(*folders, size=(4, 8), letterbox=True)[0][1]
    assert (target[:, :2] == 255).all() and (target[:, 6:] == 255).all()
    assert target[:2, 2:6].tolist() == [[0, 0, 9, 9]] * 2 and target[2:, 2:4].unique().tolist() == [4]


@pytest.mark.parametrize(
    ("mask", "name", "says"),
    [
        (RGB, "x.png", "one number a pixel, grey or of a palette, got colours"),
        (GREYS, "x.jpg", "the exact number of each pixel's class, got a JPEG"),
        (np.float32(GREYS), "x.tif", "one whole number a pixel"),
    ],
)
def test_what_is_no_class_map_is_refused(tmp_path, mask, name, says):
    with pytest.raises(ValueError, match=rf"{name} wants {says}"):
        class_mask_folders(*one_pair(tmp_path, mask, name))[0]


@real("membrane")
def test_the_real_membranes():
    images, masks = stack_images(
        image_mask_folders(REAL / "membrane/train/image", REAL / "membrane/train/label")
    )
    assert images.shape == masks.shape == (30, 1, 512, 512) and masks.unique().tolist() == [0, 1]
    assert images[masks > 0].mean() > images[masks == 0].mean() + 0.1  # membranes are dark, and 0
