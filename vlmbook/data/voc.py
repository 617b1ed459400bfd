"""Images with boxes in the layout of the Pascal VOC challenge."""

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import torch
from PIL import ExifTags, ImageOps
from torch.utils.data import Dataset

from vlmbook.data.images import describe_size, index_by_stem, list_folder, list_images, open_image, to_tensor
from vlmbook.runtime import DataMissing, require_path
from vlmbook.validation import require_choice


class VOCBoxes(Dataset):
    """data[i] -> (C, H, W) float32 in [0, 1], {"boxes": (k, 4) float32, "labels": (k,) int64, "difficult":
    (k,) bool}: what `voc_boxes` returns.
    """

    def __init__(self, folder: str | Path, split: str | None = None, *, channels: int | None = None):
        folder = require_path(folder, "folder")
        self.channels = require_choice(channels, "channels", (None, 1, 3))
        names = _voc_names(folder, split)
        self.annotation_paths = [folder / "Annotations" / f"{name}.xml" for name in names]
        annotations = {
            path: _read_voc(path) for path in list_folder(folder / "Annotations") if path.suffix == ".xml"
        }
        for path in self.annotation_paths:
            if path not in annotations:
                raise DataMissing(f"there is no annotation {path}")
        pictures = index_by_stem(list_images(folder / "JPEGImages"))
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

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        turned = self._is_turned(index)
        with open_image(self.paths[index]) as file:
            image = to_tensor(ImageOps.exif_transpose(file) if turned else file, self.channels)
        boxes = self.boxes[index]
        height, width = image.shape[1:]
        for box in boxes:
            if box[0] < 0 or box[1] < 0 or box[2] > width or box[3] > height:
                raise ValueError(
                    f"{self.annotation_paths[index]} has a box {box.tolist()} (xyxy from 0) "
                    f"that reaches out of its image of {describe_size(image)}"
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
        with open_image(path) as file:
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


def voc_boxes(folder: str | Path, split: str | None = None, *, channels: int | None = None) -> VOCBoxes:
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
    return VOCBoxes(folder, split, channels=channels)


def _voc_names(folder, split):
    """-> list of str: the names of a split, in its file's order, without the 1 and −1 that VOC puts beside
    them.
    """
    if split is None:
        return [path.stem for path in list_folder(folder / "Annotations") if path.suffix == ".xml"]
    splits = {path.stem: path for path in list_folder(folder / "ImageSets" / "Main") if path.suffix == ".txt"}
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
