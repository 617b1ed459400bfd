"""Data sets as tensors: images of one size, and boxes that stretch with theirs."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset, random_split

from tests.support.files import GREYS, RGB, save_image
from vlmbook.data import class_folders, stack_boxes, stack_images
from vlmbook.data.stacking import name_sample

IMAGE = torch.zeros(1, 2, 2)
BYTES = IMAGE.to(torch.uint8)


def test_boxes_stretch_with_their_images():
    image, box = torch.zeros(3, 20, 40), torch.tensor([[8.0, 4, 24, 16]])
    image[:, 4:16, 8:24] = 1
    other = torch.rand(3, 60, 30)
    none = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.long),
        "difficult": torch.zeros(0).bool(),
    }
    images, targets = stack_boxes(
        [(image, {"boxes": box, "labels": torch.tensor([2])}), (other, none)], (40, 60)
    )
    assert images.shape == (2, 3, 40, 60) and targets[1]["boxes"].shape == (0, 4)
    assert targets[0]["boxes"].tolist() == [[12, 8, 36, 32]] and targets[0]["labels"].tolist() == [2]
    assert images[0, :, 9:31, 14:34].min() > 0.99
    assert images[0, :, :7].max() < 0.01 and images[0, :, :, 38:].max() < 0.01


@pytest.fixture
def mixed(tmp_path):
    """Two colour images and a grey one, all of one size."""
    for name, pixels in (("a/1.png", RGB), ("a/2.png", RGB), ("b/1.png", GREYS)):
        save_image(tmp_path / name, pixels)
    return tmp_path


class Boxes(Dataset):
    def __init__(self, *targets, images=None):
        self.targets = targets
        self.images = images or [torch.rand(3, 6, 8)] * len(targets)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return self.images[index], self.targets[index]


def test_one_grey_image_among_colour_is_named(mixed):
    with pytest.raises(
        ValueError,
        match=r"b/1\.png wants the shape of .*a/1\.png, \(3, 6, 10\), got \(1, 6, 10\); .*channels=3",
    ):
        stack_images(class_folders(mixed))
    assert stack_images(class_folders(mixed, channels=3))[0].shape == (3, 3, 6, 10)


def test_images_of_other_sizes_are_named(mixed):
    save_image(mixed / "a" / "2.png", RGB[:4])
    with pytest.raises(
        ValueError, match=r"a/2\.png wants the shape .*got \(3, 4, 10\); the readers' size=\(height, width\)"
    ):
        stack_images(class_folders(mixed, channels=3))


def test_parts_of_a_data_set_are_stacked(mixed):
    data = class_folders(mixed, channels=3)
    first, second = random_split(data, [2, 1], generator=torch.Generator().manual_seed(0))
    images, labels = stack_images(first)
    assert images.shape == (2, 3, 6, 10) and labels.tolist() == [data.labels[i] for i in first.indices]
    assert name_sample(second, 0) == str(data.paths[second.indices[0]])
    assert name_sample(Subset(Subset(data, [2, 0]), [1]), 0).endswith("a/1.png")
    assert name_sample(TensorDataset(torch.zeros(4)), 3) == "sample 3"
    with pytest.raises(ValueError, match=r"b/1\.png wants the shape of .*a/2\.png"):
        stack_images(Subset(class_folders(mixed), [1, 2]))


def test_labels_of_any_kind_of_number_are_stacked():
    samples = [(torch.zeros(1, 2, 2), label) for label in (3, np.int64(4), torch.tensor(5), np.uint8(6))]
    assert stack_images(samples)[1].tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([(BYTES, 1)], "the image of sample 0 wants a floating dtype, got torch.uint8"),
        ([(torch.zeros(2, 2), 1)], r"the image of sample 0 wants the shape \(C, H, W\)"),
        ([torch.zeros(3, 2, 2)], "sample 0 wants an image and its target, got a torch"),
        ([(IMAGE, {"boxes": 1})], "wants a label or a mask, got an object of type dict; stack_boxes"),
        ([(IMAGE, "cat")], "wants a whole number"),
        ([(IMAGE, torch.zeros(1, 2)), (IMAGE, torch.zeros(2, 2))], "wants the shape of the first"),
        ([], "at least one sample"),
        (TensorDataset(torch.zeros(0, 1)), "at least one sample"),
        (torch.zeros(3, 1, 2, 2), "data wants a Dataset with a length"),
        (3, "data wants a Dataset with a length"),
    ],
)  # fmt: skip
def test_what_cannot_be_stacked_is_named(data, says):
    with pytest.raises((TypeError, ValueError), match=says):
        stack_images(data)


def test_everything_that_a_target_holds_is_kept():
    target = {
        "boxes": torch.tensor([[1.0, 2, 3, 4]]),
        "labels": torch.tensor([5]),
        "difficult": torch.tensor([True]),
    }
    empty = {
        "boxes": torch.tensor([]),
        "labels": torch.tensor([], dtype=torch.int64),
        "difficult": torch.tensor([]).bool(),
    }
    images, targets = stack_boxes(Boxes(target, empty))
    assert images.shape == (2, 3, 6, 8) and targets[0]["boxes"].tolist() == [[1, 2, 3, 4]]
    assert targets[0]["difficult"].tolist() == [True] and targets[1]["boxes"].shape == (0, 4)
    images, targets = stack_boxes(Boxes(target, empty), 12)
    assert images.shape == (2, 3, 12, 12) and targets[0]["boxes"].tolist() == [[1.5, 4, 4.5, 8]]
    assert targets[0]["difficult"].tolist() == [True] and target["boxes"].tolist() == [[1, 2, 3, 4]]
    images, targets = stack_boxes(Boxes(target, empty), 12, letterbox=True)
    assert targets[0]["boxes"].tolist() == [[1.5, 4, 4.5, 7]] and (images[:, :, 0] == 0.5).all()


def test_boxes_without_a_size_want_images_of_one():
    target = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    data = Boxes(target, target, images=[torch.rand(3, 6, 8), torch.rand(1, 6, 8)])
    for size in (None, 5):
        with pytest.raises(ValueError, match=r"sample 1 wants the shape of sample 0, .*channels=3 or 1"):
            stack_boxes(data, size)
    with pytest.raises(TypeError, match="the target of sample 0 wants a dict of boxes, labels, got 3"):
        stack_boxes([(torch.rand(3, 4, 4), 3)], 5)
    with pytest.raises(
        ValueError, match=r"the target of sample 0\['labels'\] wants the shape \(1,\), got \(2,\)"
    ):
        stack_boxes(Boxes({"boxes": torch.zeros(1, 4), "labels": torch.zeros(2)}))
