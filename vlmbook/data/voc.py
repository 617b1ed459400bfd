"""Images with boxes in the layout of the Pascal VOC challenge."""

import codecs
import os
import re
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import torch
from PIL import ExifTags, ImageOps
from torch.utils.data import Dataset

from vlmbook.data.images import (
    MAX_PIXELS,
    MAX_SIDE,
    describe_size,
    index_by_stem,
    list_folder,
    list_images,
    locate,
    open_image,
    resize_boxes,
    resize_image,
    to_tensor,
)
from vlmbook.runtime import DataMissing, require_path
from vlmbook.validation import require_choice, require_pair, require_type, require_whole

FOLDERS = {"images": ("JPEGImages", "images"), "annotations": ("Annotations",)}  # in any case of letters


class VOCBoxes(Dataset):
    """data[i] -> (C, H, W) float32 in [0, 1], {"boxes": (k, 4) float32, "labels": (k,) int64, "difficult":
    (k,) bool}: see `voc_boxes`.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str | None = None,
        *,
        channels: int | None = None,
        size: int | tuple[int, int] | None = None,
        letterbox: bool = False,
        from_zero: bool = False,
        max_pixels: int = MAX_PIXELS,
    ):
        folder = require_path(folder, "folder")
        if split is not None:
            require_type(split, "split", str, "the name of a split, or None for all images")
        self.channels = require_choice(channels, "channels", (None, 1, 3))
        self.size = None if size is None else require_pair(size, "size", most=MAX_SIDE)
        self.letterbox = require_choice(letterbox, "letterbox", (False, True))
        from_zero = require_choice(from_zero, "from_zero", (False, True))
        self.max_pixels = require_whole(max_pixels, "max_pixels", most=2**62)

        where = _find_folder(folder, *FOLDERS["annotations"])
        files = index_by_stem([path for path in list_folder(where) if path.suffix.lower() == ".xml"])
        if not files:
            raise DataMissing(f"{where} has no annotation in it (.xml)")
        names = list(files) if split is None else _read_split(folder, split, files)
        pictures = _find_folder(folder, *FOLDERS["images"])
        images = index_by_stem(list_images(pictures))
        for name in names:
            if name not in files:
                raise DataMissing(f"there is no annotation {where / name}.xml")
            if name not in images:
                raise DataMissing(f"there is no image {pictures / name}.*")
        annotations = {name: _read_annotation(path, from_zero) for name, path in files.items()}
        self.paths = [images[name] for name in names]
        self.annotation_paths = [files[name] for name in names]
        self.classes = sorted(
            {word for each in annotations.values() for word in each.names}
        )  # of every split
        self.sizes = [annotations[name].size for name in names]
        self.boxes = [annotations[name].boxes for name in names]
        self.difficult = [annotations[name].difficult for name in names]
        self.labels = [
            torch.tensor([self.classes.index(word) for word in annotations[name].names], dtype=torch.int64)
            for name in names
        ]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        turned = self._is_turned(index)
        with open_image(self.paths[index], self.max_pixels) as file:
            image = to_tensor(ImageOps.exif_transpose(file) if turned else file, self.channels)
        boxes = self.boxes[index].clone()
        height, width = image.shape[1:]
        for box in boxes:
            if box[2] > width or box[3] > height:
                raise ValueError(
                    f"{self.annotation_paths[index]} wants boxes within its image of {describe_size(image)}, "
                    f"got {box.tolist()} (xyxy from 0)"
                )
        if self.size is not None:
            boxes = resize_boxes(boxes, (height, width), self.size, letterbox=self.letterbox)
            image = resize_image(image, self.size, letterbox=self.letterbox)
        return image, {
            "boxes": boxes,
            "labels": self.labels[index].clone(),
            "difficult": self.difficult[index].clone(),
        }

    def _is_turned(self, index):
        """-> bool: whether its boxes are those of the image turned as EXIF says. Annotation tools differ in
        that.
        """
        path, annotation, size = self.paths[index], self.annotation_paths[index], self.sizes[index]
        with open_image(path, self.max_pixels) as file:
            if ExifTags.Base.Orientation in file.getexif():
                file.load()  # which turns a TIFF, and takes the note out
            note = file.getexif().get(ExifTags.Base.Orientation)
            sizes = {False: file.size}
            if note in range(2, 9):
                sizes[True] = file.size[::-1] if note >= 5 else file.size  # 5 to 8 are quarter turns
        fits = [turned for turned, each in sizes.items() if size in (None, each)]
        if not fits:
            raise ValueError(
                f"{annotation} is of an image of {size[0]:g}×{size[1]:g}, {path} is "
                + " or, turned, ".join(f"{width}×{height}" for width, height in sizes.values())
            )
        if len(fits) == 2:
            raise ValueError(
                f"{path} is to be turned (EXIF orientation {note}), and {annotation} does not tell whether "
                "its boxes are: save the image as they are, without EXIF"
            )
        return fits[0]


def voc_boxes(
    folder: str | Path,
    split: str | None = None,
    *,
    channels: int | None = None,
    size: int | tuple[int, int] | None = None,
    letterbox: bool = False,
    from_zero: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> VOCBoxes:
    """-> Dataset of (C, H, W) float32 in [0, 1] and a dict of k objects: "boxes" (k, 4) float32, xyxy in
    pixels, "labels" (k,) int64 from 0, "difficult" (k,) bool.

    `folder` holds JPEGImages/ (or images/), Annotations/*.xml and, for a `split`, ImageSets/Main/<split>.txt,
    in upper or lower case; without a split, all annotations count. VOC counts pixels from 1 and includes the
    last: its xmin, ymin, xmax, ymax become (xmin − 1, ymin − 1, xmax, ymax), the edges of the area, so that
    x2 − x1 is the width in pixels [Everingham & Winn 2012, VOC2012 development kit]. Many tools write edges
    that count from 0 instead: from_zero=True takes the numbers as they are. A 0 without it is refused.

    data.classes are the names that occur in any annotation, in alphabetical order, so a label means the same
    in every split. Difficult objects are there like the others; VOC's evaluation counts them neither as found
    nor as missed. data.paths and data.annotation_paths are the files. Annotations are in UTF-8, UTF-16 or the
    encoding that they declare, GBK say; lists of a split in any of these.

    An image that EXIF says to turn is turned if the annotation's <size> is that of the turned one, and left
    as stored if it is that of the stored one, so that the boxes fit. `channels`, `size`, `letterbox` and
    `max_pixels` are those of `read_image`; the boxes follow their image.

    Raises DataMissing for files that are not there, ValueError for an unknown split, an annotation that is no
    VOC or has a box without area; when indexed, for a box that reaches out of its image, an image of another
    size than its annotation has, and one to be turned where the size does not tell: a square, half a turn, no
    <size>.
    """
    return VOCBoxes(
        folder,
        split,
        channels=channels,
        size=size,
        letterbox=letterbox,
        from_zero=from_zero,
        max_pixels=max_pixels,
    )


# --- files --------------------------------------------------------------------------------------------------


def _find_folder(folder, *names):
    """-> Path of the first of these folders that is there, in upper or lower case. Raises DataMissing."""
    there = {path.name: path for path in list_folder(folder) if os.path.isdir(path)}
    for name in names:
        fitting = [path for each, path in there.items() if each.lower() == name.lower()]
        if name in there:
            return there[name]
        if fitting:
            return fitting[0]
    raise DataMissing(f"there is no folder {locate(folder / names[0])}")


def _read_split(folder, split, known):
    """-> list of str: the names of a split, in its file's order, without the 1 and −1 that VOC puts beside
    them.

    The file does not tell its encoding: it is the one in which the names are those of annotations.
    """
    lists = _find_folder(_find_folder(folder, "ImageSets"), "Main")
    splits = {path.stem: path for path in list_folder(lists) if path.suffix.lower() == ".txt"}
    if not splits:
        raise DataMissing(f"{lists} has no list of a split in it (.txt)")
    require_choice(split, f"split of {folder}", splits)
    content = splits[split].read_bytes()
    texts = [
        text for text in (_decode(content, encoding) for encoding in _encodings(content)) if text is not None
    ]
    read = [[_strip_flag(line, known) for line in text.splitlines() if line.strip()] for text in texts]
    for names in read:
        if all(name in known for name in names):
            return names
    return read[0]


def _strip_flag(line, known):
    """A line of a split -> the name in it, which may hold blanks itself."""
    name = line.strip()
    if name in known:
        return name
    parts = name.rsplit(maxsplit=1)
    return parts[0] if len(parts) == 2 and parts[1] in ("1", "0", "-1") else name


def _encodings(content):
    """bytes -> the encodings that they may be in, likely ones first."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ["utf-16"]
    if b"\0" in content:
        likely = ["utf-16-le", "utf-16-be"]
        return likely[::-1] if content.startswith(b"\0") else likely
    return ["utf-8-sig", "gb18030", "latin-1"]


def _decode(content, encoding):
    """bytes -> str, None where they are not in this encoding."""
    try:
        return content.decode(encoding)
    except (UnicodeError, LookupError):
        return None


class _Annotation(NamedTuple):
    size: tuple | None  # width, height; None where there is none, or 0
    names: list
    boxes: torch.Tensor  # (k, 4) float32
    difficult: torch.Tensor  # (k,) bool


def _read_annotation(path, from_zero):
    """file -> _Annotation."""
    try:
        root = parse_annotation(path)
        size = tuple(float(root.findtext(f"size/{side}") or 0) for side in ("width", "height"))
        objects = root.findall("object")
        names = [_text(each, "name") for each in objects]
        corners = [
            [float(_text(each, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
            for each in objects
        ]
        difficult = [_is_difficult(each) for each in objects]
    except (ElementTree.ParseError, ValueError, LookupError, OSError) as error:
        raise ValueError(f"{path} is no VOC annotation: {error}") from error
    least = 0 if from_zero else 1
    boxes = torch.tensor(corners, dtype=torch.float32).view(-1, 4) - torch.tensor([least, least, 0.0, 0.0])
    for corner, box in zip(corners, boxes, strict=True):
        if not (box[2] > box[0] and box[3] > box[1]):
            raise ValueError(f"{path} has a box without area, xmin ymin xmax ymax {corner}")
        if min(corner[:2]) < least:
            hint = "" if from_zero else ", as VOC counts pixels; from_zero=True takes edges that count from 0"
            raise ValueError(f"{path} wants xmin and ymin from {least} up{hint}, got {corner[:2]}")
    return _Annotation(size if all(size) else None, names, boxes, torch.tensor(difficult, dtype=torch.bool))


def parse_annotation(path: Path) -> ElementTree.Element:
    """file -> its root, <annotation>, read without entities, in the encoding that the file declares.

    Raises ValueError for a file that is no such XML or declares a document type, OSError for one that cannot
    be read.
    """
    path = require_path(path, "path")
    if not os.path.isfile(path):
        raise DataMissing(f"there is no annotation {locate(path)}")
    try:
        root = ElementTree.fromstring(_read_xml(path), parser=_plain_parser())
    except (ElementTree.ParseError, LookupError, OSError) as error:
        raise ValueError(str(error)) from error
    if root.tag != "annotation":
        raise ValueError(f"its root is <{root.tag}>")
    return root


def _read_xml(path):
    """file -> str. The parser itself knows no encoding of more than one byte but UTF."""
    content = path.read_bytes()
    declared = re.match(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']", content)
    encodings = _encodings(content)
    if b"\0" not in content:  # XML is UTF-8 unless it declares another: nothing is guessed
        encodings = ["utf-8-sig", declared[1].decode("ascii")] if declared else ["utf-8-sig"]
    for encoding in encodings:
        text = _decode(content, encoding)
        if text is not None:
            return text.lstrip()
    raise ValueError(f"it is not in {' or '.join(encodings)}, and declares no other encoding")


def _is_difficult(element):
    text = (element.findtext("difficult") or "0").strip()
    if text not in ("0", "1"):
        raise ValueError(f"an object is difficult {text!r}, where 0 or 1 is required")
    return text == "1"


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
