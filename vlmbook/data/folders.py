"""Images in one folder a class, the layout of torchvision's ImageFolder."""

import functools
import os
from pathlib import Path

import torch
from torch.utils.data import Dataset

from vlmbook.data.images import MAX_PIXELS, MAX_SIDE, list_folder, list_images, locate, read_image
from vlmbook.runtime import DataMissing, require_path
from vlmbook.validation import require_choice, require_pair, require_whole


class ClassFolders(Dataset):
    """data[i] -> (C, H, W) float32 in [0, 1], int label: see `class_folders`."""

    def __init__(
        self,
        folder: str | Path,
        *,
        channels: int | None = None,
        size: int | tuple[int, int] | None = None,
        letterbox: bool = False,
        max_pixels: int = MAX_PIXELS,
    ):
        folder = require_path(folder, "folder")
        self.read = functools.partial(
            read_image,
            channels=require_choice(channels, "channels", (None, 1, 3)),
            size=None if size is None else require_pair(size, "size", most=MAX_SIDE),
            letterbox=require_choice(letterbox, "letterbox", (False, True)),
            max_pixels=require_whole(max_pixels, "max_pixels", most=2**62),
        )
        folders = [path for path in list_folder(folder) if os.path.isdir(path)]
        if not folders:
            raise DataMissing(f"{locate(folder)} has no folder in it, where one a class is required")
        self.classes = [path.name for path in folders]
        found = [(path, label) for label, each in enumerate(folders) for path in list_images(each)]
        self.paths = [path for path, _ in found]
        self.labels = torch.tensor([label for _, label in found])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.read(self.paths[index]), int(self.labels[index])


def class_folders(
    folder: str | Path,
    *,
    channels: int | None = None,
    size: int | tuple[int, int] | None = None,
    letterbox: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> ClassFolders:
    """-> Dataset of (C, H, W) float32 in [0, 1] and int label: `folder` holds one folder a class.

    data.classes are the folders' names, data.paths the files, data.labels (N,) int64. Classes and files are
    in numeric order, s2 before s10; names that begin with a dot are passed over. `channels`, `size`,
    `letterbox` and `max_pixels` are those of `read_image`; with `channels` and `size` all images have one
    shape, as `fit` and `stack_images` want it. There is no `transform`: a Dataset around this one does
    anything else. Raises DataMissing for a folder that is not there or has no class or no image in it.
    """
    return ClassFolders(folder, channels=channels, size=size, letterbox=letterbox, max_pixels=max_pixels)
