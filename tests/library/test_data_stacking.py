"""Data sets as tensors: images of one size, and boxes that stretch with theirs."""

import torch

from vlmbook.data import stack_boxes


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
