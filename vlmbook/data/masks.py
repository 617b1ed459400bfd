"""Images beside masks of the same names, the layout of most segmentation sets."""

from pathlib import Path

import torch
from torch.utils.data import Dataset

from vlmbook.data.images import describe_size, index_by_stem, list_images, read_image
from vlmbook.runtime import DataMissing, require_path
from vlmbook.validation import require_choice


class ImageMaskFolders(Dataset):
    """data[i] -> (C, H, W) float32 in [0, 1], (1, H, W) float32 in {0, 1}: see `image_mask_folders`."""

    def __init__(self, images: str | Path, masks: str | Path, *, channels: int | None = None):
        images = require_path(images, "images")
        masks = require_path(masks, "masks")
        self.channels = require_choice(channels, "channels", (None, 1, 3))
        self.paths = list_images(images)
        partners = index_by_stem(list_images(masks))
        stems = index_by_stem(self.paths)
        for stem in [*stems, *partners]:
            if stem not in partners:
                raise DataMissing(f"{stems[stem]} has no mask {masks / stem}.*")
            if stem not in stems:
                raise DataMissing(f"{partners[stem]} has no image {images / stem}.*")
        self.mask_paths = [partners[path.stem] for path in self.paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = read_image(self.paths[index], channels=self.channels)
        mask = _read_mask(self.mask_paths[index])
        if mask.shape[1:] != image.shape[1:]:
            raise ValueError(
                f"{self.mask_paths[index]} is {describe_size(mask)}, its image {self.paths[index]} "
                f"{describe_size(image)}"
            )
        return image, mask


def image_mask_folders(
    images: str | Path, masks: str | Path, *, channels: int | None = None
) -> ImageMaskFolders:
    """-> Dataset of (C, H, W) float32 in [0, 1] and (1, H, W) float32 in {0, 1}: two folders, same names.

    A mask is 1 where it is brighter than half, or where it is not 0 if it has no pixels but 0 and 1 (of 255).
    The suffixes may differ (1.jpg, 1.png); the order is numeric. data.paths and data.mask_paths are the
    files. Raises DataMissing for an image without mask, a mask without image, or an empty folder; when
    indexed, ValueError for a mask of another size than its image, or one that is neither black all over nor
    anywhere brighter than half.
    """
    return ImageMaskFolders(images, masks, channels=channels)


def _read_mask(path):
    """file -> (1, H, W) float32 in {0, 1}."""
    mask = read_image(path, channels=1)
    brightest = mask.max().item()
    if 0.01 < brightest <= 0.5:  # classes, perhaps; not for us to guess
        raise ValueError(
            f"{path} is no mask in black and white: its brightest pixel has {brightest:.2f} of 1"
        )
    return (mask > (0.5 if brightest > 0.5 else 0)).float()
