"""Images in one folder a class, the layout of torchvision's ImageFolder."""

from pathlib import Path

import torch
from torch.utils.data import Dataset

from vlmbook.data.images import list_folder, list_images, read_image
from vlmbook.runtime import DataMissing, require_path
from vlmbook.validation import require_choice


class ClassFolders(Dataset):
    """data[i] -> (C, H, W) float32 in [0, 1], int label: what `class_folders` returns."""

    def __init__(self, folder: str | Path, *, channels: int | None = None):
        folder = require_path(folder, "folder")
        self.channels = require_choice(channels, "channels", (None, 1, 3))
        folders = [path for path in list_folder(folder) if path.is_dir()]
        if not folders:
            raise DataMissing(f"{folder} has no folder in it, where one a class was wanted")
        self.classes = [path.name for path in folders]
        found = [(path, label) for label, each in enumerate(folders) for path in list_images(each)]
        self.paths = [path for path, _ in found]
        self.labels = torch.tensor([label for _, label in found])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return read_image(self.paths[index], channels=self.channels), int(self.labels[index])


def class_folders(folder: str | Path, *, channels: int | None = None) -> ClassFolders:
    """-> Dataset of (C, H, W) float32 in [0, 1] and int label: `folder` holds one folder a class.

    data.classes are the folders' names, data.paths the files, data.labels (N,) int64. Classes and files are
    in numeric order, s2 before s10; names that begin with a dot are passed over. `channels` is that of
    `read_image`. Raises DataMissing for a folder that is not there or has no class or no image in it.
    """
    return ClassFolders(folder, channels=channels)
