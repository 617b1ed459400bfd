"""Annotated images, and the three formats in which they are exchanged: COCO, Pascal VOC, Open Images.

Boxes are xyxy in pixels; a box is the edges of an area, so that the whole image is (0, 0, width, height).
Coordinates are kept to a millionth of a pixel, so each format gives back exactly what was written.
"""

import csv
import io
import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image
from skimage.draw import polygon

from vlmbook.data.images import MAX_PIXELS, index_by_stem, list_folder, list_images, open_image, resize_ids
from vlmbook.data.rle import RLE, decode_mask, encode_mask, read_counts, write_counts
from vlmbook.data.voc import parse_annotation
from vlmbook.files import write_whole
from vlmbook.runtime import DataMissing, require_path
from vlmbook.validation import describe, require_choice, require_number, require_type, require_whole

SIDES = ("height", "width")
CORNERS = ("xmin", "ymin", "xmax", "ymax")  # of VOC
MARKS = {"crowd": "IsGroupOf", "truncated": "IsTruncated", "occluded": "IsOccluded"}  # of Open Images
DECIMALS = 6  # of a coordinate in pixels
FLAGS = ("crowd", "difficult", "truncated", "occluded")
HOLDS = {  # of an object, besides label, box and mask
    "COCO": {"crowd"},
    "VOC": {"difficult", "truncated", "occluded"},
    "Open Images": {"crowd", "truncated", "occluded"},
}
VOC_OBJECTS = 254  # with a mask in one image: 0 is the background, 255 the border
LONGEST_NAME = 200  # characters of a file's name or a label
COLUMNS = (
    "ImageID Source LabelName Confidence XMin XMax YMin YMax IsOccluded IsTruncated IsGroupOf IsDepiction "
    "IsInside"
).split()
MASK_COLUMNS = "MaskPath ImageID LabelName BoxID BoxXMin BoxXMax BoxYMin BoxYMax PredictedIoU Clicks".split()


@dataclass(frozen=True)
class ImageObject:
    """One object: its label, its box xyxy in pixels, four flags, and its mask, if it has one.

    `crowd` is a box around many objects of a class, `difficult` an object that is hard to recognise,
    `truncated` one that reaches out of its box, `occluded` one that another covers in part. Raises TypeError
    or ValueError for a label that is no printable text, and for a box without area.
    """

    label: str
    box: tuple[float, float, float, float]
    crowd: bool = False
    difficult: bool = False
    truncated: bool = False
    occluded: bool = False
    mask: RLE | None = None

    def __post_init__(self):
        _require_name(self.label, "label")
        object.__setattr__(self, "box", _as_box(self.box))
        for flag in FLAGS:
            require_choice(getattr(self, flag), flag, (False, True))
        if self.mask is not None:
            require_type(self.mask, "mask", RLE, "an RLE or None")


@dataclass(frozen=True)
class AnnotatedImage:
    """One image: the name of its file without a folder, its size in pixels, and its objects.

    Raises TypeError or ValueError for a name that is more than a name, a box that reaches out of the image,
    and a mask of another size.
    """

    file: str
    height: int
    width: int
    objects: tuple[ImageObject, ...] = ()

    def __post_init__(self):
        _require_file(self.file)
        height = require_whole(self.height, "height")
        width = require_whole(self.width, "width")
        if height * width > MAX_PIXELS:
            raise ValueError(f"{self.file} wants at most {MAX_PIXELS} pixels, got {width}×{height}")
        require_type(self.objects, "objects", (list, tuple), "a tuple of ImageObject")
        for each in self.objects:
            require_type(each, "objects", ImageObject, "a tuple of ImageObject")
            _require_fit(each, height, width)
        for name, value in {"height": height, "width": width, "objects": tuple(self.objects)}.items():
            object.__setattr__(self, name, value)

    @property
    def stem(self) -> str:
        """The file's name without its suffix: VOC and Open Images know an image by it."""
        return Path(self.file).stem

    @property
    def boxes(self) -> torch.Tensor:
        """(k, 4) float32 xyxy."""
        return torch.tensor([each.box for each in self.objects], dtype=torch.float32).view(-1, 4)


def list_losses(images: Sequence[AnnotatedImage], form: str) -> list[str]:
    """AnnotatedImages, "COCO"|"VOC"|"Open Images" -> list of str: a sentence for everything that the format
    cannot hold.

    Raises TypeError or ValueError for what are no such images, and another format.
    """
    require_choice(form, "form", HOLDS)
    losses = []
    for image in _require_images(images, unique_stems=form != "COCO"):
        for place, each in enumerate(image.objects):
            where = f"{image.file}, object {place} ({each.label})"
            for flag in FLAGS:
                if getattr(each, flag) and flag not in HOLDS[form]:
                    losses.append(f"{where}: {form} has no mark for {flag}")
        if form == "VOC":
            losses += _lost_in_map(image)
        if form == "Open Images":
            losses += _lost_in_pairing(image)
    return losses


def _lost_in_map(image):
    """VOC has one map of objects for an image: a pixel belongs to one object, and an object has a pixel."""
    masked = [(place, each) for place, each in enumerate(image.objects) if each.mask is not None]
    if masked and len(image.objects) > VOC_OBJECTS:
        yield f"{image.file}: a map of VOC holds at most {VOC_OBJECTS} objects, not {len(image.objects)}"
        return
    taken = np.zeros((image.height, image.width), dtype=bool)
    for place, each in masked:
        pixels = decode_mask(each.mask).numpy()
        where = f"{image.file}, object {place} ({each.label})"
        if each.mask.area == 0:
            yield f"{where}: a map of VOC cannot hold a mask without a pixel"
        if (taken & pixels).any():
            yield f"{where}: {(taken & pixels).sum()} pixels of its mask belong to an earlier object in VOC"
        taken |= pixels


def _lost_in_pairing(image):
    """Open Images finds the mask of a box by label and box."""
    same = defaultdict(list)
    for each in image.objects:
        same[each.label, each.box].append(each.mask is not None)
    for (label, box), masked in same.items():
        if any(masked) and not all(masked):
            which = f"which of {len(masked)} objects {label} at {box} has a mask"
            yield f"{image.file}: Open Images cannot tell {which}"


# --- COCO ---------------------------------------------------------------------------------------------------


def read_coco(
    path: str | Path, *, masks: bool = True, faults: list[str] | None = None
) -> list[AnnotatedImage]:
    """JSON file of COCO's instances -> AnnotatedImages in its order.

    Read are file_name, height and width; bbox (x, y, width, height), category, iscrowd and segmentation. Ids,
    areas, captions, keypoints and licences are not kept. masks=False reads no segmentation, which saves time
    and memory. Runs, compressed or not, are exact; of a polygon those pixels count whose centre is inside,
    which differs at the outline from pycocotools.

    What cannot be read raises ValueError; with a list of `faults` the sentence is added to it, and the object
    or image is left out. Raises DataMissing for a file that is not there. [Lin et al. 2014]
    """
    path = require_path(path, "path")
    require_choice(masks, "masks", (False, True))
    _require_faults(faults)
    content = _load_json(path)
    labels = {}
    for each in _list_of(content, "categories", path):
        labels[_identify(each, "id", path)] = _take(each, "name", str, path)
    if len(set(labels.values())) != len(labels):
        raise ValueError(f"{path} has two categories of one name")
    images, objects = {}, defaultdict(list)
    for each in _list_of(content, "images", path):
        number = _identify(each, "id", path)
        if number in images:
            raise ValueError(f"{path} has the image {number} twice")
        images[number] = each
    for each in _list_of(content, "annotations", path):
        with _Faults(faults, f"{path}, annotation {describe(each.get('id'))}"):
            number = _identify(each, "image_id", path)
            if number not in images:
                raise ValueError(f"there is no image {describe(number)}")
            size = [require_whole(images[number].get(side), side) for side in SIDES]
            found = _from_coco(each, labels, size, masks)
            _require_fit(found, *size)
            objects[number].append(found)
    found = []
    for number, each in images.items():
        with _Faults(faults, f"{path}, image {number}"):
            size = [each.get(side) for side in SIDES]
            found.append(AnnotatedImage(each.get("file_name"), *size, tuple(objects[number])))
    return found


def write_coco(
    path: str | Path,
    images: Sequence[AnnotatedImage],
    *,
    categories: Mapping[str, int] | None = None,
    allow_loss: bool = False,
) -> list[str]:
    """Path, AnnotatedImages -> list of str: what COCO cannot hold; a JSON file of instances is written.

    `categories` gives an id to each label; by default they count from 1 in alphabetical order. The images
    themselves are not copied. A mask of a crowd is written as plain runs, another as compressed runs. Raises
    ValueError where something would be lost, unless allow_loss=True, and for a label without an id;
    FileExistsError for a file that is there.
    """
    path = require_path(path, "path")
    losses = _require_lossless(images, "COCO", allow_loss)
    used = sorted({each.label for image in images for each in image.objects})
    ids = _require_codes(
        categories, "categories", used, lambda value, name: require_whole(value, name, least=0)
    )
    if ids is None:
        ids = {label: number for number, label in enumerate(used, 1)}
    annotations = []
    for number, image in enumerate(images, 1):
        for each in image.objects:
            x1, y1, x2, y2 = each.box
            box = [x1, y1, round(x2 - x1, DECIMALS), round(y2 - y1, DECIMALS)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ids[each.label],
                    "bbox": box,
                    "area": box[2] * box[3] if each.mask is None else each.mask.area,
                    "iscrowd": int(each.crowd),
                    "segmentation": [] if each.mask is None else _to_coco(each.mask, each.crowd),
                }
            )
    content = {
        "images": [
            {"id": number, "file_name": image.file, "height": image.height, "width": image.width}
            for number, image in enumerate(images, 1)
        ],
        "annotations": annotations,
        "categories": [{"id": ids[label], "name": label} for label in ids],
    }
    write_whole(path, json.dumps(content, ensure_ascii=False).encode(), replace=False)
    return losses


def _load_json(path):
    """file -> dict. A number that is none, and brackets without end, are refused."""
    if not os.path.isfile(path):
        raise DataMissing(f"there is no file {path}")
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError, OSError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} wants an object with images, annotations and categories")
    return content


def _refuse_constant(name):
    raise ValueError(f"it holds {name}")


def _list_of(content, key, path):
    """-> list of dicts."""
    found = content.get(key)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError(f"{path} wants a list of objects called {key}")
    return found


def _take(each, key, kind, path):
    found = each.get(key)
    if not isinstance(found, kind) or isinstance(found, bool):
        raise ValueError(f"{path} wants {key} in each entry, got {describe(found)}")
    return found


def _identify(each, key, path):
    """-> int or str: files made by other tools number with text too."""
    return _take(each, key, (int, str), path)


def _from_coco(each, labels, size, masks):
    """Annotation, labels by id, (height, width) -> ImageObject."""
    box = each.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(f"bbox wants x, y, width and height, got {describe(box)}")
    x, y, width, height = (require_number(value, "bbox") for value in box)
    category = each.get("category_id")
    if not isinstance(category, (int, str)) or category not in labels:
        raise ValueError(f"there is no category {describe(category)}")
    crowd = each.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise ValueError(f"iscrowd wants 0 or 1, got {describe(crowd)}")
    mask = _read_segmentation(each.get("segmentation"), size) if masks else None
    return ImageObject(labels[category], (x, y, x + width, y + height), crowd=bool(crowd), mask=mask)


def _read_segmentation(found, shape):
    """Polygons, runs or nothing, (height, width) -> RLE or None."""
    if not found:
        return None
    if isinstance(found, dict):
        size, counts = found.get("size"), found.get("counts")
        if not isinstance(size, list) or len(size) != 2:
            raise ValueError(f"segmentation wants a size, height and width, got {describe(size)}")
        if isinstance(counts, str):
            return read_counts(counts, *size)
        return RLE(*size, counts)
    require_type(found, "segmentation", list, "polygons or runs")
    if shape[0] * shape[1] > MAX_PIXELS:
        raise ValueError(f"its image wants at most {MAX_PIXELS} pixels, got {shape[1]}×{shape[0]}")
    mask = np.zeros(shape, dtype=bool)
    for outline in found:
        if not isinstance(outline, list) or len(outline) < 6 or len(outline) % 2:
            raise ValueError(f"a polygon wants three points or more, x and y each, got {describe(outline)}")
        values = np.array([require_number(value, "polygon", least=-1e6, most=1e6) for value in outline])
        mask[polygon(values[1::2] - 0.5, values[::2] - 0.5, mask.shape)] = True  # centres lie at halves
    return encode_mask(torch.from_numpy(mask))


def _to_coco(mask, crowd):
    counts = list(mask.counts) if crowd else write_counts(mask)
    return {"size": [mask.height, mask.width], "counts": counts}


# --- Pascal VOC ---------------------------------------------------------------------------------------------


def read_voc(
    folder: str | Path, *, from_zero: bool = False, masks: bool = True, faults: list[str] | None = None
) -> list[AnnotatedImage]:
    """Folder with Annotations/*.xml -> AnnotatedImages in the order of the names.

    VOC counts pixels from 1, and the last pixel belongs to the box: xmin − 1 and xmax are its edges.
    from_zero=True takes the numbers as edges. The file is the one of that name in JPEGImages/, else the
    <filename>. A map SegmentationObject/*.png gives the masks: its value i is the i-th object of the XML, 0
    and 255 (the border) are nobody's. Pose, parts and actions are not kept.

    `faults` is that of `read_coco`, for an object, or an annotation that is no VOC. Raises DataMissing where
    there is no annotation. [Everingham & Winn 2012, VOC2012 development kit]
    """
    folder = require_path(folder, "folder")
    require_choice(from_zero, "from_zero", (False, True))
    require_choice(masks, "masks", (False, True))
    _require_faults(faults)
    where = folder / "Annotations"
    paths = [path for path in list_folder(where) if path.suffix.lower() == ".xml"]
    if not paths:
        raise DataMissing(f"{where} has no annotation in it (.xml)")
    pictures = folder / "JPEGImages"
    files = index_by_stem(list_images(pictures)) if os.path.isdir(pictures) else {}
    found = []
    for path in paths:
        with _Faults(faults, str(path)):
            root = parse_annotation(path)
            name = files[path.stem].name if path.stem in files else _text(root, "filename")
            if Path(name).stem != path.stem:
                raise ValueError(f"its <filename> is {describe(name)}, and there is no image of its own name")
            height, width = (require_whole(int(_text(root, f"size/{side}")), side) for side in SIDES)
            areas = _read_map(folder, path.stem, (height, width)) if masks else {}
            objects = _objects_of_voc(root, areas, (height, width), from_zero, faults, path)
            found.append(AnnotatedImage(name, height, width, tuple(objects)))
    return found


def write_voc(folder: str | Path, images: Sequence[AnnotatedImage], *, allow_loss: bool = False) -> list[str]:
    """Path, AnnotatedImages -> list of str: what VOC cannot hold; Annotations/*.xml are written, and
    SegmentationObject/*.png for images with masks.

    The images themselves are not copied. Whole coordinates are written without a point, as VOC's own. Raises
    ValueError where something would be lost, unless allow_loss=True: of two masks that overlap, the first
    keeps the pixels. FileExistsError for a file that is there.
    """
    folder = require_path(folder, "folder")
    losses = _require_lossless(images, "VOC", allow_loss)
    files = {}
    for image in images:
        files[folder / "Annotations" / f"{image.stem}.xml"] = _as_xml(image)
        if any(each.mask is not None for each in image.objects) and len(image.objects) <= VOC_OBJECTS:
            files[folder / "SegmentationObject" / f"{image.stem}.png"] = _as_map(image)
    _write_new(files)
    return losses


def _objects_of_voc(root, areas, size, from_zero, faults, path):
    elements = root.findall("object")
    odd = sorted(set(areas) - set(range(1, len(elements) + 1)))
    if odd:
        raise ValueError(f"its map has the value {odd[0]}, where {len(elements)} objects are annotated")
    objects = []
    for place, element in enumerate(elements, 1):
        with _Faults(faults, f"{path}, object {place}"):
            edges = [require_number(float(_text(element, f"bndbox/{each}")), each) for each in CORNERS]
            if not from_zero:
                edges = [edges[0] - 1, edges[1] - 1, *edges[2:]]
            flags = {flag: _flag(element, flag) for flag in ("difficult", "truncated", "occluded")}
            each = ImageObject(_text(element, "name"), tuple(edges), mask=areas.get(place), **flags)
            _require_fit(each, *size)
            objects.append(each)
    return objects


def _flag(element, name):
    text = (element.findtext(name) or "0").strip()
    return require_choice(text, name, ("0", "1")) == "1"


def _text(element, path):
    found = element.findtext(path)
    if found is None or not found.strip():
        raise ValueError(f"it has no {path}")
    return found.strip()


def _read_map(folder, stem, size):
    """-> {value: RLE} of the map of objects, {} where there is none."""
    path = folder / "SegmentationObject" / f"{stem}.png"
    if not path.exists():
        return {}
    with open_image(path) as file:
        if file.mode not in ("P", "L"):
            raise ValueError(f"{path} wants one number a pixel, got an image of Pillow's mode {file.mode}")
        values = torch.from_numpy(np.array(file))
    if tuple(values.shape) != size:
        raise ValueError(f"{path} wants the size {size[1]}×{size[0]}, got {file.width}×{file.height}")
    ids = [value for value in values.unique().tolist() if value not in (0, 255)]
    return {value: encode_mask(values == value) for value in ids}


def _as_xml(image):
    root = ElementTree.Element("annotation")
    _add(root, "filename", image.file)
    size = ElementTree.SubElement(root, "size")
    for name, value in (("width", image.width), ("height", image.height), ("depth", 3)):
        _add(size, name, value)
    _add(root, "segmented", int(any(each.mask is not None for each in image.objects)))
    for each in image.objects:
        element = ElementTree.SubElement(root, "object")
        _add(element, "name", each.label)
        for flag in ("truncated", "occluded", "difficult"):
            _add(element, flag, int(getattr(each, flag)))
        box = ElementTree.SubElement(element, "bndbox")
        x1, y1, x2, y2 = each.box
        for name, value in zip(CORNERS, (x1 + 1, y1 + 1, x2, y2), strict=True):
            _add(box, name, _shorten(value))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8") + b"\n"


def _add(parent, name, value):
    ElementTree.SubElement(parent, name).text = str(value)


def _shorten(value):
    """10.0 -> "10", 2.25 -> "2.25"; never with an exponent."""
    return f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")


def _as_map(image):
    """-> bytes of a PNG with VOC's palette: the value i + 1 is object i."""
    values = np.zeros((image.height, image.width), dtype=np.uint8)
    for place, each in enumerate(image.objects, 1):
        if each.mask is not None:
            values[decode_mask(each.mask).numpy() & (values == 0)] = place
    picture = Image.fromarray(values)
    picture.putpalette([channel for value in range(256) for channel in _voc_colour(value)])
    return _as_png(picture)


def _voc_colour(value):
    """int -> red, green, blue: bit 3k + c of the value is bit 7 − k of channel c [VOC's development kit]."""
    bits = [[value >> (3 * place + channel) & 1 for place in range(3)] for channel in range(3)]
    return [sum(bit << (7 - place) for place, bit in enumerate(channel)) for channel in bits]


def _as_png(picture):
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()


# --- Open Images --------------------------------------------------------------------------------------------


def read_open_images(
    folder: str | Path, images: str | Path, *, masks: bool = True, faults: list[str] | None = None
) -> list[AnnotatedImage]:
    """Folder with *annotations-bbox.csv, folder of the images -> AnnotatedImages in the order of the images'
    names.

    The files of Open Images tell no size, and no image without a box: both come from the images. IsGroupOf
    is `crowd`. *class-descriptions*.csv turns codes such as /m/01yrx into names, where it is there;
    *annotations-object-segmentation.csv and the masks in masks/ give the masks, resampled to the image's size
    by the nearest pixel. −1, unknown, counts as not marked. Confidence, Source, IsDepiction and IsInside are
    not kept.

    `faults` is that of `read_coco`, for a row or an image. Raises DataMissing where the files are not there.
    [Kuznetsova et al. 2020]
    """
    folder = require_path(folder, "folder")
    images = require_path(images, "images")
    require_choice(masks, "masks", (False, True))
    _require_faults(faults)
    boxes = _find(folder, "annotations-bbox.csv")
    if boxes is None:
        raise DataMissing(f"{folder} has no *annotations-bbox.csv in it")
    names = _read_names(folder)
    sizes = _measure(images, faults)
    areas = _read_areas(folder, sizes, faults) if masks else {}
    objects = {stem: [] for stem in sizes}
    seen = Counter()
    for number, row in enumerate(_read_rows(boxes, COLUMNS[:3] + COLUMNS[4:11]), 2):
        with _Faults(faults, f"{boxes}, line {number}"):
            size = _size_of(row["ImageID"], sizes)
            key = (row["ImageID"], row["LabelName"], _edges(row, "", size))
            rest = areas.get(key, [])
            mask = rest[seen[key]] if seen[key] < len(rest) else None
            seen[key] += 1
            flags = {flag: _mark(row, column) for flag, column in MARKS.items()}
            label = names.get(row["LabelName"], row["LabelName"])
            found = ImageObject(label, key[2], mask=mask, **flags)
            _require_fit(found, size.height, size.width)
            objects[row["ImageID"]].append(found)
    for key, rest in areas.items():
        with _Faults(faults, f"{folder}, masks of {describe(key[0])}"):
            if len(rest) > seen[key]:
                raise ValueError(
                    f"{len(rest) - seen[key]} masks of {describe(key[1])} have no box at {key[2]}"
                )
    return [
        AnnotatedImage(size.file, size.height, size.width, tuple(objects[stem]))
        for stem, size in sizes.items()
    ]


def write_open_images(
    folder: str | Path,
    images: Sequence[AnnotatedImage],
    *,
    codes: Mapping[str, str] | None = None,
    allow_loss: bool = False,
) -> list[str]:
    """Path, AnnotatedImages -> list of str: what Open Images cannot hold; annotations-bbox.csv,
    class-descriptions-boxable.csv and, for objects with masks, annotations-object-segmentation.csv and
    masks/*.png are written.

    `codes` gives each label its code, {"Cat": "/m/01yrx"}; by default a label is its own code. The images
    themselves are not copied. A coordinate is divided by the image's width or height and written with all
    its digits. Raises ValueError where something would be lost, unless allow_loss=True, and for a label
    without a code; FileExistsError for a file that is there.
    """
    folder = require_path(folder, "folder")
    losses = _require_lossless(images, "Open Images", allow_loss)
    used = sorted({each.label for image in images for each in image.objects})
    codes = _require_codes(codes, "codes", used, _require_name)
    if codes is None:
        codes = {label: label for label in used}
    rows, mask_rows, files = [], [], {}
    for image in images:
        for place, each in enumerate(image.objects):
            x1, y1, x2, y2 = each.box
            edges = [x1 / image.width, x2 / image.width, y1 / image.height, y2 / image.height]
            marks = [int(each.occluded), int(each.truncated), int(each.crowd), 0, 0]
            rows.append([image.stem, "manual", codes[each.label], 1, *map(repr, edges), *marks])
            if each.mask is not None:
                name = f"{image.stem}_{place}.png"
                mask_rows.append([name, image.stem, codes[each.label], f"{place:08x}", *edges, "", ""])
                picture = Image.fromarray(decode_mask(each.mask).numpy().astype(np.uint8) * 255)
                files[folder / "masks" / name] = _as_png(picture)
    files[folder / "annotations-bbox.csv"] = _as_csv([COLUMNS, *rows])
    files[folder / "class-descriptions-boxable.csv"] = _as_csv([[codes[label], label] for label in codes])
    if mask_rows:
        files[folder / "annotations-object-segmentation.csv"] = _as_csv([MASK_COLUMNS, *mask_rows])
    _write_new(files)
    return losses


class _Size(NamedTuple):
    file: str
    height: int
    width: int


def _find(folder, ending):
    """-> Path of the one file with this ending, None where there is none. Raises ValueError for two."""
    found = [path for path in list_folder(folder) if path.name.endswith(ending)]
    if len(found) > 1:
        raise ValueError(f"{folder} wants one file *{ending}, got {found[0].name} and {found[1].name}")
    return found[0] if found else None


def _read_rows(path, columns):
    """CSV file -> list of dicts with these columns."""
    rows = _read_csv(path)
    head = rows[0] if rows else []
    missing = [column for column in columns if column not in head]
    if missing:
        raise ValueError(f"{path} wants the columns {', '.join(columns)}; there is no {missing[0]}")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(head):
            raise ValueError(f"{path}, line {number}: {len(head)} columns are wanted, got {len(row)}")
    return [dict(zip(head, row, strict=True)) for row in rows[1:]]


def _read_csv(path):
    """-> list of rows that are not empty."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except (csv.Error, UnicodeError, OSError) as error:
        raise ValueError(f"{path} is no CSV: {error}") from error


def _read_names(folder):
    """-> {code: name}; releases differ in whether the file has a header."""
    path = next((each for each in list_folder(folder) if "class-descriptions" in each.name), None)
    if path is None:
        return {}
    rows = _read_csv(path)
    for row in rows:
        if len(row) != 2:
            raise ValueError(f"{path} wants a code and a name in each line, got {len(row)} columns")
    return {code: name for code, name in rows if code not in ("LabelName", "id")}


def _measure(folder, faults):
    """-> {stem: _Size}; only the head of each file is read."""
    sizes = {}
    for stem, path in index_by_stem(list_images(folder)).items():
        with _Faults(faults, str(path)), open_image(path) as file:
            sizes[stem] = _Size(_require_file(path.name), file.height, file.width)
    return sizes


def _size_of(stem, sizes):
    if stem not in sizes:
        raise ValueError(f"there is no image {describe(stem)}")
    return sizes[stem]


def _edges(row, prefix, size):
    """-> box xyxy in pixels."""
    scale = {"X": size.width, "Y": size.height}
    edges = []
    for column in ("XMin", "YMin", "XMax", "YMax"):
        value = require_number(_as_float(row[prefix + column]), prefix + column, least=0, most=1)
        edges.append(value * scale[column[0]])
    return _as_box(tuple(edges))


def _as_float(text):
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"a coordinate wants a number, got {describe(text)}") from None


def _mark(row, column):
    return require_choice(row[column].strip(), column, ("0", "1", "-1")) == "1"


def _read_areas(folder, sizes, faults):
    """-> {(stem, code, box): masks in the order of the file}."""
    path = _find(folder, "annotations-object-segmentation.csv")
    found = defaultdict(list)
    if path is None:
        return found
    for number, row in enumerate(_read_rows(path, MASK_COLUMNS[:8]), 2):
        with _Faults(faults, f"{path}, line {number}"):
            size = _size_of(row["ImageID"], sizes)
            name = _require_file(row["MaskPath"])
            with open_image(folder / "masks" / name) as file:
                values = torch.from_numpy(np.array(file.convert("L"))) > 0
            mask = encode_mask(resize_ids(values, (size.height, size.width)))
            found[row["ImageID"], row["LabelName"], _edges(row, "Box", size)].append(mask)
    return found


def _as_csv(rows):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


# --- what all of them ask for -------------------------------------------------------------------------------


class _Faults:
    """A block whose fault is raised with the name of the file, or collected."""

    def __init__(self, faults, where):
        self.faults, self.where = faults, where

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _trace):
        if not isinstance(error, (ValueError, TypeError, DataMissing)):
            return False
        text = str(error) if str(error).startswith(self.where) else f"{self.where}: {error}"
        if self.faults is None:
            raise ValueError(text) from error
        self.faults.append(text)
        return True


def _require_faults(faults):
    if faults is not None:
        require_type(faults, "faults", list, "a list that is filled, or None")


def _require_images(images, unique_stems=False):
    require_type(images, "images", (list, tuple), "a list of AnnotatedImage")
    seen = set()
    for each in images:
        require_type(each, "images", AnnotatedImage, "a list of AnnotatedImage")
        name = each.stem if unique_stems else each.file
        if name in seen:
            raise ValueError(f"images wants one entry for each file, got {name} twice")
        seen.add(name)
    return images


def _require_lossless(images, form, allow_loss):
    """-> list of str: the losses, where they are allowed."""
    require_choice(allow_loss, "allow_loss", (False, True))
    losses = list_losses(images, form)
    if losses and not allow_loss:
        more = f", and {len(losses) - 1} more (list_losses names them)" if len(losses) > 1 else ""
        raise ValueError(f"{losses[0]}{more}; allow_loss=True writes the rest")
    return losses


def _require_codes(codes, name, used, require):
    """-> dict or None. Each label has a code, and no code is there twice."""
    if codes is None:
        return None
    require_type(codes, name, Mapping, "a dict with a code for each label, or None")
    codes = {_require_name(label, name): require(code, f"a code of {name}") for label, code in codes.items()}
    missing = [label for label in used if label not in codes]
    if missing:
        raise ValueError(f"{name} wants a code for each label, got none for {missing[0]!r}")
    if len(set(codes.values())) < len(codes):
        raise ValueError(f"{name} wants a different code for each label")
    return codes


def _write_new(files):
    """{path: bytes}; nothing is written where one of the files is there."""
    for path in files:
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists already and is not overwritten")
    for path, content in files.items():
        write_whole(path, content, replace=False)


def _require_name(text, name):
    """-> the text, which can be written to JSON, XML and CSV and comes back the same."""
    require_type(text, name, str, "text")
    if not text.isprintable() or text != text.strip() or not 0 < len(text) <= LONGEST_NAME:
        raise ValueError(f"{name} wants printable text without blanks at its ends, got {describe(text)}")
    return text


def _require_file(name):
    """-> the name, which leads into no other folder."""
    _require_name(name, "file")
    stem = Path(name).stem
    if any(letter in name for letter in '/\\:<>"|?*') or name.startswith(".") or stem != stem.strip():
        raise ValueError(f"file wants the name of a file without a folder, got {describe(name)}")
    return name


def _as_box(box):
    """-> four floats, kept to a millionth of a pixel. Raises TypeError or ValueError."""
    require_type(box, "box", (list, tuple), "four numbers x1, y1, x2, y2")
    if len(box) != 4:
        raise ValueError(f"box wants four numbers x1, y1, x2, y2, got {len(box)}")
    x1, y1, x2, y2 = (round(require_number(value, "box", least=-1e6, most=1e6), DECIMALS) for value in box)
    if not (x2 > x1 and y2 > y1):
        raise ValueError(f"box wants an area, x1 < x2 and y1 < y2, got {(x1, y1, x2, y2)}")
    return x1, y1, x2, y2


def _require_fit(each, height, width):
    """Box and mask belong to an image of this size."""
    x1, y1, x2, y2 = each.box
    if min(x1, y1) < 0 or x2 > width or y2 > height:
        raise ValueError(f"box wants to lie within its image of {width}×{height}, got {each.box}")
    if each.mask is not None and (each.mask.height, each.mask.width) != (height, width):
        raise ValueError(
            f"mask wants the size of its image, {width}×{height}, got {each.mask.width}×{each.mask.height}"
        )
