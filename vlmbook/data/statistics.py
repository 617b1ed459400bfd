"""What is in a folder of images: sizes, classes, boxes, imbalance, duplicates, and files that are broken."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, ImageOps
from torch.nn import functional as F

from vlmbook.data.annotations import AnnotatedImage
from vlmbook.data.images import MAX_PIXELS, SUFFIXES, locate, open_image, to_tensor
from vlmbook.runtime import DataMissing, require_path
from vlmbook.validation import describe, require_tensor, require_type, require_whole

ROWS, COLUMNS = 8, 9  # of the small image whose neighbours a fingerprint compares
FLAT = 0.02  # an image of less contrast has no fingerprint
SMALL, MEDIUM = 32**2, 96**2  # pixels: areas below are small, areas below are medium [Lin et al. 2014]


@dataclass(frozen=True)
class FolderStatistics:
    """What `describe_folder` found. Files are named by their path from the folder."""

    sizes: dict[str, tuple[int, int]]  # (height, width) of each image that can be read
    channels: dict[str, int]  # 1 for a grey image, 3 for any other
    classes: dict[str, int]  # images by the name of the folder they are in, the largest class first
    broken: dict[str, str]  # why an image cannot be read
    others: list[str]  # files that no image reader takes
    duplicates: list[list[str]]  # files of equal pixels
    similar: list[tuple[str, str, int]]  # pairs, and in how many of 64 bits their fingerprints differ
    turned: list[str] = field(default_factory=list)  # images that EXIF says to turn or mirror

    @property
    def imbalance(self) -> float:
        """The size of the largest class, divided by that of the smallest; 1 where there is no class."""
        counts = self.classes.values()
        return max(counts) / min(counts) if counts else 1.0


@dataclass(frozen=True)
class ObjectStatistics:
    """What `describe_objects` found."""

    classes: dict[str, int]  # objects by label, the largest class first
    per_image: list[int]  # objects of each image
    classes_per_image: list[int]  # different labels of each image
    areas: dict[str, int]  # objects that are small, medium and large, by the area of their box
    shares: list[float]  # of each object: the area of its box as a part of the image
    flags: dict[str, int]  # objects that are crowd, difficult, truncated, occluded, or have a mask
    empty: list[str]  # images without an object
    repeated: list[str]  # objects of one label and one box in one image

    @property
    def imbalance(self) -> float:
        """The number of objects in the largest class, divided by that in the smallest; 1 without objects."""
        counts = self.classes.values()
        return max(counts) / min(counts) if counts else 1.0


def describe_folder(
    folder: str | Path, *, distance: int = 4, max_pixels: int = MAX_PIXELS
) -> FolderStatistics:
    """Folder -> FolderStatistics of all image files in it and its subfolders.

    A broken file, one of another format under an image's name, and one of more than `max_pixels` pixels are
    listed, and the others go on. Links to folders are not followed, hidden files are left out. A class is the
    name of the folder that an image is in, where that is not the folder itself. Two images are similar where
    their fingerprints differ in at most `distance` bits, which is a hint to look at them, and no proof: with
    18 photographs, half the size changed at most 3 bits and JPEG of quality 20 at most 7, and different ones
    differed in at least 15; parts of one texture come nearer.

    Each image is decoded once, one after the other. The pairs are compared all with all.
    Raises DataMissing for a folder that is not there.
    """
    folder = require_path(folder, "folder")
    distance = require_whole(distance, "distance", least=0, most=64)
    max_pixels = require_whole(max_pixels, "max_pixels", most=2**62)
    if not os.path.isdir(folder):
        raise DataMissing(f"there is no folder {locate(folder)}")
    sizes, channels, broken, turned, others = {}, {}, {}, [], []
    by_pixels, prints = {}, {}
    for name in _walk(folder):
        if Path(name).suffix.lower() not in SUFFIXES:
            others.append(name)
            continue
        try:
            with open_image(folder / name, max_pixels) as file:
                if file.getexif().get(ExifTags.Base.Orientation) in range(2, 9):
                    turned.append(name)
                image = to_tensor(ImageOps.exif_transpose(file))
        except (ValueError, DataMissing) as error:
            broken[name] = str(error).removeprefix(f"{folder / name} cannot be read as an image: ")
            continue
        sizes[name], channels[name] = tuple(image.shape[1:]), len(image)
        by_pixels.setdefault(_digest(image), []).append(name)
        prints[name] = fingerprint(image)
    classes = Counter(Path(name).parent.name for name in sizes if Path(name).parent.name)
    same = [names for names in by_pixels.values() if len(names) > 1]
    return FolderStatistics(
        sizes=sizes,
        channels=channels,
        classes=dict(classes.most_common()),
        broken=broken,
        others=others,
        duplicates=same,
        similar=_find_similar([names[0] for names in by_pixels.values()], prints, distance),
        turned=turned,
    )


def describe_objects(images: Sequence[AnnotatedImage]) -> ObjectStatistics:
    """AnnotatedImages -> ObjectStatistics. Raises TypeError for what are no such images."""
    require_type(images, "images", (list, tuple), "a list of AnnotatedImage")
    for image in images:
        require_type(image, "images", AnnotatedImage, "a list of AnnotatedImage")
    objects = [(image, each) for image in images for each in image.objects]
    areas = {"small": 0, "medium": 0, "large": 0}
    shares, repeated, seen = [], [], set()
    for image, each in objects:
        x1, y1, x2, y2 = each.box
        area = (x2 - x1) * (y2 - y1)
        areas["small" if area < SMALL else "medium" if area < MEDIUM else "large"] += 1
        shares.append(area / (image.height * image.width))
        key = (image.file, each.label, each.box)
        if key in seen:
            repeated.append(f"{image.file}: {each.label} at {each.box}")
        seen.add(key)
    flags = {
        flag: sum(getattr(each, flag) for _, each in objects)
        for flag in ("crowd", "difficult", "truncated", "occluded")
    }
    flags["mask"] = sum(each.mask is not None for _, each in objects)
    return ObjectStatistics(
        classes=dict(Counter(each.label for _, each in objects).most_common()),
        per_image=[len(image.objects) for image in images],
        classes_per_image=[len({each.label for each in image.objects}) for image in images],
        areas=areas,
        shares=shares,
        flags=flags,
        empty=[image.file for image in images if not image.objects],
        repeated=repeated,
    )


def fingerprint(image: torch.Tensor) -> int | None:
    """(C, H, W) in [0, 1] -> int of 64 bits: whether each pixel of the image, reduced to 8 × 9 means, is
    brighter than its right neighbour; None for an image of nearly one brightness.

    Equal for an image of another size or brightness, nearly equal after JPEG; it changes when the image is
    turned or mirrored. Raises TypeError or ValueError for what is no image.
    """
    require_tensor(image, "image", "C H W", finite=True)
    if image.is_meta:
        raise ValueError(f"image wants pixels with values, got {describe(image)}")
    grey = image.float().mean(0, keepdim=True)
    small = F.adaptive_avg_pool2d(grey, (ROWS, COLUMNS))[0]
    if small.max() - small.min() < FLAT:
        return None
    bits = (small[:, :-1] > small[:, 1:]).flatten().tolist()
    return sum(1 << place for place, bit in enumerate(bits) if bit)


def _walk(folder):
    """-> paths of files from the folder, with "/", in order, without hidden ones."""
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield (Path(root) / name).relative_to(folder).as_posix()


def _digest(image):
    return hashlib.sha256(repr(tuple(image.shape)).encode() + image.numpy().tobytes()).digest()


def _find_similar(names, prints, distance):
    """-> list of pairs with their distance, the nearest first."""
    names = [name for name in names if prints[name] is not None]
    codes = np.array([prints[name] for name in names], dtype=np.uint64)
    found = []
    for place, code in enumerate(codes):
        bits = np.unpackbits((codes[place + 1 :] ^ code).view(np.uint8))
        differing = bits.reshape(-1, 64).sum(1)
        for other in np.flatnonzero(differing <= distance):
            found.append((names[place], names[place + 1 + int(other)], int(differing[other])))
    return sorted(found, key=lambda pair: pair[2])
