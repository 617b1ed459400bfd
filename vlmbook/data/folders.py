"""Readers of the layouts that people's own images come in: a folder a class, image and mask, Pascal VOC
boxes.

Each is a map-style `torch.utils.data.Dataset` that opens an image when it is indexed, and that a DataLoader's
worker can be given. What is not there is a DataMissing, what is there and wrong a ValueError; both name the
file.
"""

import re
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch.nn import functional as F
from torch.utils.data import Dataset

from vlmbook.data.folder import DataMissing

SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".ppm",
    ".bmp",
    ".pgm",
    ".tif",
    ".tiff",
    ".webp",
)  # as torchvision's ImageFolder


def read_image(path, *, channels=None):
    """file -> (C, H, W) float32 in [0, 1]: a grey image has C = 1, any other C = 3, unless `channels` is 1 or
    3.

    Any format and mode that Pillow reads: palettes are resolved, transparency is dropped, 16 bits of grey are
    kept (of colour, Pillow keeps 8), a camera's note on how it was held (EXIF) is followed, of several frames
    the first counts. Raises DataMissing for a file that is not there, ValueError for one that is no image, is
    cut short, or has floating pixels outside [0, 1].
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"an image is read with channels 1, 3 or None (as it is), got {channels!r}")
    return _read(Path(path), channels, turned=True)


def _read(path, channels, turned):
    """file -> (C, H, W) float32 in [0, 1]: `turned` as EXIF says, or as it is stored."""
    with _opened(path) as file:
        pixels = _pixels(ImageOps.exif_transpose(file) if turned else file)
    image = (
        torch.from_numpy(pixels).unsqueeze(0)
        if pixels.ndim == 2
        else torch.from_numpy(pixels).permute(2, 0, 1)
    )
    if channels == 3 and len(image) == 1:
        image = image.expand(3, -1, -1)
    if channels == 1 and len(image) == 3:
        image = (
            torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1).mul(image).sum(0, keepdim=True)
        )  # ITU-R BT.601 luma
    return image.contiguous()


@contextmanager
def _opened(path):
    """-> Pillow image while the block runs; what goes wrong with it there is a ValueError that names the
    file.
    """
    if not path.is_file():
        raise DataMissing(f"there is no image {path}")
    try:
        with Image.open(path) as file:
            yield file
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error


class ClassFolders(Dataset):
    """data[i] -> (C, H, W) float32 in [0, 1], int label: as `class_folders` says."""

    def __init__(self, folder, channels):
        self.channels = channels
        folders = [path for path in _listed(folder) if path.is_dir()]
        if not folders:
            raise DataMissing(f"{folder} has no folder in it, where one a class was wanted")
        self.classes = [path.name for path in folders]
        found = [(path, label) for label, each in enumerate(folders) for path in _images(each)]
        self.paths = [path for path, _ in found]
        self.labels = torch.tensor([label for _, label in found])

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return read_image(self.paths[index], channels=self.channels), int(self.labels[index])


class ImageMaskFolders(Dataset):
    """data[i] -> (C, H, W) float32 in [0, 1], (1, H, W) float32 in {0, 1}: as `image_mask_folders` says."""

    def __init__(self, images, masks, channels):
        self.channels = channels
        self.paths = _images(images)
        partners = _by_stem(_images(masks))
        stems = _by_stem(self.paths)
        for stem in [*stems, *partners]:
            if stem not in partners:
                raise DataMissing(f"{stems[stem]} has no mask {Path(masks) / stem}.*")
            if stem not in stems:
                raise DataMissing(f"{partners[stem]} has no image {Path(images) / stem}.*")
        self.mask_paths = [partners[path.stem] for path in self.paths]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        image = read_image(self.paths[index], channels=self.channels)
        mask = _read_mask(self.mask_paths[index])
        if mask.shape[1:] != image.shape[1:]:
            raise ValueError(
                f"{self.mask_paths[index]} is {_size(mask)}, its image {self.paths[index]} {_size(image)}"
            )
        return image, mask


class VOCBoxes(Dataset):
    """data[i] -> (C, H, W) float32 in [0, 1], {"boxes": (k, 4) float32, "labels": (k,) int64, "difficult":
    (k,) bool}.

    As `voc_boxes` says.
    """

    def __init__(self, folder, split, channels):
        self.channels = channels
        folder = Path(folder)
        names = _voc_names(folder, split)
        self.annotation_paths = [folder / "Annotations" / f"{name}.xml" for name in names]
        annotations = {
            path: _read_voc(path) for path in _listed(folder / "Annotations") if path.suffix == ".xml"
        }
        for path in self.annotation_paths:
            if path not in annotations:
                raise DataMissing(f"there is no annotation {path}")
        pictures = _by_stem(_images(folder / "JPEGImages"))
        for name in names:
            if name not in pictures:
                raise DataMissing(f"there is no image {folder / 'JPEGImages' / name}.*")
        self.paths = [pictures[name] for name in names]
        self.classes = sorted(
            {word for each in annotations.values() for word in each.words}
        )  # of every split
        mine = [annotations[path] for path in self.annotation_paths]
        self.sizes = [each.size for each in mine]
        self.boxes = [each.boxes for each in mine]
        self.labels = [
            torch.tensor([self.classes.index(word) for word in each.words], dtype=torch.int64)
            for each in mine
        ]
        self.difficult = [each.difficult for each in mine]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        image = _read(self.paths[index], self.channels, self._is_turned(index))
        boxes = self.boxes[index]
        height, width = image.shape[1:]
        for box in boxes:
            if box[0] < 0 or box[1] < 0 or box[2] > width or box[3] > height:
                raise ValueError(
                    f"{self.annotation_paths[index]} has a box {box.tolist()} (xyxy from 0) "
                    f"that reaches out of its image of {_size(image)}"
                )
        return image, {
            "boxes": boxes.clone(),
            "labels": self.labels[index].clone(),
            "difficult": self.difficult[index].clone(),
        }

    def _is_turned(self, index):
        """-> bool: whether its boxes are those of the image turned as EXIF says. Annotation tools differ in
        that.
        """
        path, told, size = self.paths[index], self.annotation_paths[index], self.sizes[index]
        with _opened(path) as file:
            if ExifTags.Base.Orientation in file.getexif():
                file.load()  # which turns a TIFF, and takes the note out
            note = file.getexif().get(ExifTags.Base.Orientation)
            sizes = {False: file.size}
            if note in range(2, 9):
                sizes[True] = file.size[::-1] if note >= 5 else file.size  # 5 to 8 are quarter turns
        fits = [turned for turned, each in sizes.items() if size in (None, each)]
        if not fits:
            raise ValueError(
                f"{told} is of an image of {size[0]:g}×{size[1]:g}, {path} is "
                + " or, turned, ".join(f"{width}×{height}" for width, height in sizes.values())
            )
        if len(fits) == 2:
            raise ValueError(
                f"{path} is to be turned (EXIF orientation {note}), and {told} does not tell whether its "
                "boxes are: save the image as they are, without EXIF"
            )
        return fits[0]


def class_folders(folder, *, channels=None):
    """-> Dataset of (C, H, W) float32 in [0, 1] and int label: `folder` holds one folder a class.

    data.classes are the folders' names, data.paths the files, data.labels (N,) int64. Classes and files are
    in numeric order, s2 before s10; names that begin with a dot are passed over. `channels` is that of
    `read_image`. Raises DataMissing for a folder that is not there or has no class or no image in it.
    """
    return ClassFolders(folder, channels)


def image_mask_folders(images, masks, *, channels=None):
    """-> Dataset of (C, H, W) float32 in [0, 1] and (1, H, W) float32 in {0, 1}: two folders, same names.

    A mask is 1 where it is brighter than half, or where it is not 0 if it has no pixels but 0 and 1 (of 255).
    The suffixes may differ (1.jpg, 1.png); the order is numeric. data.paths and data.mask_paths are the
    files. Raises DataMissing for an image without mask, a mask without image, or an empty folder; when
    indexed, ValueError for a mask of another size than its image, or one that is neither black all over nor
    anywhere brighter than half.
    """
    return ImageMaskFolders(images, masks, channels)


def voc_boxes(folder, split=None, *, channels=None):
    """-> Dataset of (C, H, W) float32 in [0, 1] and a dict of k objects: "boxes" (k, 4) float32, xyxy in
    pixels, "labels" (k,) int64, "difficult" (k,) bool.

    `folder` holds JPEGImages/, Annotations/*.xml and, for a `split`, ImageSets/Main/<split>.txt; without a
    split, all annotations count. VOC counts pixels from 1 and includes the last: its xmin, ymin, xmax, ymax
    become (xmin − 1, ymin − 1, xmax, ymax), the edges of the area, so that x2 − x1 is the width in pixels
    [Everingham & Winn 2012, VOC2012 development kit]. data.classes are the names that occur in any
    annotation, in alphabetical order, so a label means the same in every split. Difficult objects are there
    like the others; VOC's evaluation counts them neither as found nor as missed. data.paths and
    data.annotation_paths are the files.

    An image that EXIF says to turn is turned if the annotation's <size> is that of the turned one, and left
    as stored if it is that of the stored one, so that the boxes fit.

    Raises DataMissing for files that are not there, ValueError for an unknown split, an annotation that is no
    VOC or has a box without area; when indexed, for a box that reaches out of its image, an image of another
    size than its annotation says, and one to be turned where the size does not tell: a square, half a turn,
    no <size>.
    """
    return VOCBoxes(folder, split, channels)


def stacked(data):
    """Dataset of (image, label) or (image, mask) -> (N, C, H, W), and (N,) int64 or (N, 1, H, W): all of it
    at once.

    Raises ValueError, which names the file, where an image is not of the first one's shape.
    """
    images, targets = [], []
    for i, (image, target) in enumerate(data[j] for j in range(len(data))):
        images.append(image)
        targets.append(torch.as_tensor(target))
        if image.shape != images[0].shape:
            raise ValueError(
                f"{data.paths[i]} is {_size(image)} with {len(image)} channels, "
                f"{data.paths[0]} {_size(images[0])} with {len(images[0])}; they cannot be stacked"
            )
    return torch.stack(images), torch.stack(targets)


def stacked_boxes(data, size):
    """Dataset of (image, {boxes, labels}), (height, width) -> (N, C, height, width), N × {boxes, labels}: all
    at once.

    Images are resampled to that size, bilinearly, and boxes are stretched with them.
    """
    images, targets = [], []
    for image, target in (data[i] for i in range(len(data))):
        down, across = size[0] / image.shape[1], size[1] / image.shape[2]
        images.append(F.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0].clamp(0, 1))
        boxes = target["boxes"] * torch.tensor([across, down, across, down])
        targets.append({"boxes": boxes, "labels": target["labels"]})
    return torch.stack(images), targets


def _read_mask(path):
    """file -> (1, H, W) float32 in {0, 1}."""
    mask = read_image(path, channels=1)
    brightest = mask.max().item()
    if 0.01 < brightest <= 0.5:  # classes, perhaps; not for us to guess
        raise ValueError(
            f"{path} is no mask in black and white: its brightest pixel has {brightest:.2f} of 1"
        )
    return (mask > (0.5 if brightest > 0.5 else 0)).float()


def _pixels(picture):
    """Pillow image -> (H, W) or (H, W, 3) float32 in [0, 1]."""
    if picture.mode.startswith("I"):  # 16 bits of grey; "I" is Pillow's wider home
        return _in_range(np.asarray(picture).astype(np.float32) / 65535)
    if picture.mode == "F":
        return _in_range(np.array(picture))
    if picture.mode == "P":
        picture = picture.convert("RGBA")  # or Pillow warns where the palette has glass
    grey = picture.mode in ("1", "L", "LA")
    return np.array(picture.convert("L" if grey else "RGB")).astype(np.float32) / 255


def _in_range(pixels):
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"its pixels reach from {pixels.min():g} to {pixels.max():g}, where 0 to 1 was wanted "
            "(of whole ones 0 to 65535)"
        )
    return pixels


def _size(image):
    return f"{image.shape[2]}×{image.shape[1]}"


def _listed(folder):
    """-> list of Path: what lies in the folder in numeric order, without hidden names."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataMissing(f"there is no folder {folder}")
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=_numeric)


def _numeric(path):
    """s2 before s10: runs of digits count as numbers."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if part.isdecimal() else part for part in parts], path.name


def _images(folder):
    found = [path for path in _listed(folder) if path.suffix.lower() in SUFFIXES]
    if not found:
        raise DataMissing(f"{folder} has no image in it ({', '.join(SUFFIXES)})")
    return found


def _by_stem(paths):
    """-> dict: stem to Path. Raises ValueError where two images have the same."""
    found = {}
    for path in paths:
        if path.stem in found:
            raise ValueError(f"{found[path.stem]} and {path} differ only in their suffix")
        found[path.stem] = path
    return found


def _voc_names(folder, split):
    """-> list of str: the names of a split, in its file's order, without the 1 and −1 that VOC puts beside
    them.
    """
    if split is None:
        return [path.stem for path in _listed(folder / "Annotations") if path.suffix == ".xml"]
    splits = {path.stem: path for path in _listed(folder / "ImageSets" / "Main") if path.suffix == ".txt"}
    if split not in splits:
        raise ValueError(f"{folder} has the splits {', '.join(splits) or 'none at all'}, got {split!r}")
    return [
        line.split()[0] for line in splits[split].read_text(encoding="utf-8").splitlines() if line.strip()
    ]


class _Annotation(NamedTuple):
    size: tuple | None  # width, height; None where it is not told, or as 0
    words: list
    boxes: torch.Tensor  # (k, 4) float32
    difficult: torch.Tensor  # (k,) bool


def _read_voc(path):
    """file -> _Annotation."""
    try:
        root = ElementTree.fromstring(path.read_bytes(), parser=_plain_parser())
        if root.tag != "annotation":
            raise ValueError(f"its root is <{root.tag}>")
        size = tuple(float(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
        objects = root.findall("object")
        words = [_text(each, "name") for each in objects]
        corners = [
            [float(_text(each, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
            for each in objects
        ]
        difficult = [_is_difficult(each) for each in objects]
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path} is no VOC annotation: {error}") from error
    boxes = torch.tensor(corners, dtype=torch.float32).view(-1, 4) - torch.tensor([1.0, 1.0, 0.0, 0.0])
    for corner, box in zip(corners, boxes, strict=True):
        if not (box[2] > box[0] and box[3] > box[1]):
            raise ValueError(f"{path} has a box without area, xmin ymin xmax ymax {corner}")
    return _Annotation(size if all(size) else None, words, boxes, torch.tensor(difficult, dtype=torch.bool))


def _is_difficult(element):
    said = (element.findtext("difficult") or "0").strip()
    if said not in ("0", "1"):
        raise ValueError(f"an object is difficult {said!r}, where 0 or 1 was wanted")
    return said == "1"


def _text(element, path):
    found = element.findtext(path)
    if found is None or not found.strip():
        raise ValueError(f"an object has no {path}")
    return found.strip()


def _plain_parser():
    """An XML parser that refuses a document type: entities, which can grow without end, are declared only
    there.
    """

    class Plain(ElementTree.TreeBuilder):
        def doctype(self, name, *_):
            raise ValueError(f"it declares a document type {name!r}")

    return ElementTree.XMLParser(target=Plain())
