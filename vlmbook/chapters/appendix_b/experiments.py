"""Appendix B: a tiny annotated set, a messy folder, mistakes of converters, wrong labels, and the facts."""

import io
import re
import tomllib
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from skimage.draw import polygon
from skimage.filters import sobel
from skimage.segmentation import watershed
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional as F
from torchvision.ops import box_iou

from vlmbook import data
from vlmbook.chapters import references
from vlmbook.chapters.ch07b.experiments import (
    find_label_errors,
    mark_lowest,
    plant_wrong_labels,
    predict_held_out,
)
from vlmbook.data import AnnotatedImage, ImageObject, encode_mask
from vlmbook.data.statistics import FolderStatistics, ObjectStatistics, fingerprint
from vlmbook.files import write_whole
from vlmbook.validation import require_choice

FACTS = Path(__file__).with_name("facts.toml")

# --- the tiny set -------------------------------------------------------------------------------------------

CODES = {  # of Open Images
    "Cat": "/m/01yrx",
    "Clock": "/m/01x3z",
    "Coffee cup": "/m/02p5f1q",
    "Coin": "/m/0242l",
    "Horse": "/m/03k3r",
    "Spoon": "/m/0cmx8",
}
HIERARCHY = {  # a small part of that of Open Images, shortened
    "LabelName": "/m/0bl9f",
    "Subcategory": [
        {"LabelName": "/m/0jbk", "Subcategory": [{"LabelName": "/m/01yrx"}, {"LabelName": "/m/03k3r"}]},
        {"LabelName": "/m/01x3z"},
        {"LabelName": "/m/02p5f1q"},
        {"LabelName": "/m/0242l"},
        {"LabelName": "/m/0cmx8"},
    ],
}
PARENTS = {"/m/0bl9f": "Entity", "/m/0jbk": "Animal"}

CAT = [
    (0, 0),
    (372, 0),
    (385, 28),
    (362, 62),
    (362, 112),
    (352, 160),
    (338, 212),
    (310, 268),
    (288, 300),
    (0, 300),
]
CUP = [(172, 100), (180, 55), (215, 28), (290, 15), (370, 25), (420, 60), (436, 110), (420, 175), (392, 220)]
CUP += [
    (340, 238),
    (262, 240),
    (235, 262),
    (232, 295),
    (210, 306),
    (200, 282),
    (206, 248),
    (218, 220),
    (185, 165),
]
SPOON = [
    (412, 66),
    (424, 70),
    (402, 215),
    (400, 290),
    (370, 325),
    (335, 312),
    (322, 275),
    (345, 245),
    (378, 235),
]


def annotate() -> list[AnnotatedImage]:
    """-> list of AnnotatedImage: six photographs of scikit-image. The outlines of the cat, the cup and the
    spoon are drawn by hand, those of the horse and the coins follow from the pixels.
    """
    cup, spoon = _fill(CUP, (400, 600)), _fill(SPOON, (400, 600))
    coins = segment_coins()
    single = [ImageObject("Coin", _box_of(coin), mask=encode_mask(coin)) for coin in coins[:18]]
    heap = torch.stack(coins[18:]).any(0)
    crowd = ImageObject("Coin", _box_of(heap), crowd=True, mask=encode_mask(heap))
    horse = data.photo("horse")[0] < 0.5
    clock = ImageObject("Clock", (142, 92, 287, 216), difficult=True)  # blurred by a movement of the camera
    objects = {
        "brick": [],
        "cat": [_masked("Cat", _fill(CAT, (300, 451)), truncated=True)],
        "clock": [clock],
        "coffee": [_masked("Coffee cup", cup & ~spoon, occluded=True), _masked("Spoon", spoon)],
        "coins": [*single, crowd],
        "horse": [_masked("Horse", horse)],
    }
    return [
        AnnotatedImage(f"{name}.jpg", *data.photo(name).shape[1:], tuple(each))
        for name, each in objects.items()
    ]


def segment_coins() -> list[torch.Tensor]:
    """-> 24 masks (H, W) bool, row by row: watershed from certainly dark and certainly bright pixels."""
    grey = data.photo("coins")[0].numpy() * 255
    markers = np.zeros(grey.shape, dtype=int)
    markers[grey < 30], markers[grey > 150] = 1, 2
    filled = ndimage.binary_fill_holes(watershed(sobel(grey), markers) == 2)
    found, count = ndimage.label(filled)
    masks = [torch.from_numpy(found == number) for number in range(1, count + 1)]
    large = [mask for mask in masks if mask.sum() > 300]
    return sorted(large, key=lambda mask: (round(_centre(mask)[0] / 70), _centre(mask)[1]))


def write_images(folder: Path, images: list[AnnotatedImage]) -> None:
    """Path, AnnotatedImages of `annotate` -> None: their photographs as JPEG."""
    for image in images:
        write_whole(folder / image.file, _as_jpeg(data.photo(image.stem)))


def load_coco(path: Path) -> Any | None:
    """JSON file of COCO -> the COCO object of pycocotools, or of faster-coco-eval, which then stands for it
    in torchvision too; None where neither is installed.
    """
    if not find_spec("pycocotools"):
        if not find_spec("faster_coco_eval"):
            return None
        import_module("faster_coco_eval").init_as_pycocotools()
    return import_module("pycocotools.coco").COCO(path)


def _masked(label, mask, **flags):
    return ImageObject(label, _box_of(mask), mask=encode_mask(mask), **flags)


def _fill(points, size):
    x, y = np.array(points, dtype=float).T
    mask = np.zeros(size, dtype=bool)
    mask[polygon(y - 0.5, x - 0.5, size)] = True
    return torch.from_numpy(mask)


def _box_of(mask):
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    return (columns[0].item(), rows[0].item(), columns[-1].item() + 1, rows[-1].item() + 1)


def _centre(mask):
    return mask.nonzero().float().mean(0).tolist()


def _as_jpeg(image, quality=92, size=None):
    picture = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())
    content = io.BytesIO()
    (picture if size is None else picture.resize(size)).save(content, format="JPEG", quality=quality)
    return content.getvalue()


# --- a messy folder -----------------------------------------------------------------------------------------

TEXTURES = {"brick": 12, "grass": 8, "gravel": 3}  # images of each class
COPIES = {"grass/00.jpg": "grass/copy.jpg", "brick/03.jpg": "gravel/from_brick.jpg"}


def write_messy_folder(folder: Path) -> None:
    """Path -> None: three classes of textures with what real folders have: other class sizes, copies, one in
    a wrong class, a smaller version, and three files that are no images.
    """
    rng = np.random.default_rng(0)
    for name, count in TEXTURES.items():
        photograph = data.photo(name)
        for number in range(count):
            height, width = rng.integers(90, 200, size=2)
            top, left = rng.integers(0, 512 - height), rng.integers(0, 512 - width)
            crop = photograph[:, top : top + height, left : left + width]
            write_whole(folder / name / f"{number:02}.jpg", _as_jpeg(crop))
    for source, copy in COPIES.items():
        write_whole(folder / copy, (folder / source).read_bytes())
    again = data.read_image(folder / "brick" / "05.jpg")
    write_whole(folder / "brick" / "05_small.jpg", _as_jpeg(again, quality=60, size=(80, 80)))
    whole = (folder / "brick" / "01.jpg").read_bytes()
    write_whole(folder / "brick" / "cut.jpg", whole[: len(whole) // 2])
    write_whole(folder / "grass" / "page.jpg", b"<html>404 Not Found</html>")
    write_whole(folder / "gravel" / "huge.ppm", b"P6 90000 90000 255\n")
    write_whole(folder / "notes.txt", b"taken in May")


def explore(folder: str | Path) -> tuple[FolderStatistics, ObjectStatistics | None, list[str]]:
    """Folder -> statistics of its images, statistics of the objects where annotations are in it, and what of
    these could not be read.

    Annotations are looked for as *.json of COCO, Annotations/ of VOC, *annotations-bbox.csv of Open Images.
    """
    found = data.describe_folder(folder)
    where, faults = Path(folder).expanduser(), []
    tables = sorted(where.glob("*annotations-bbox.csv"))
    files = sorted(where.glob("*.json"))
    images = None
    try:
        if (where / "Annotations").is_dir():
            images = data.read_voc(where, faults=faults)
        elif tables:
            pictures = where / "images" if (where / "images").is_dir() else where
            images = data.read_open_images(where, pictures, faults=faults)
        elif files:
            images = data.read_coco(files[0], faults=faults)
    except (ValueError, OSError) as error:
        faults.append(str(error))
    return found, None if images is None else data.describe_objects(images), faults


CHANGES = ("half the size", "JPEG, quality 20", "darker", "a frame of 3 % cut off", "mirrored")


def measure_fingerprints() -> dict[str, list[int]]:
    """-> dict: in how many of 64 bits the fingerprint of each of 18 photographs differs from that of its
    changed version, and of all pairs of different photographs.
    """
    photographs = [data.photo(name) for name in data.photo_names()]
    prints = [fingerprint(photograph) for photograph in photographs]
    found = {
        change: [
            (fingerprint(_change(photograph, change)) ^ code).bit_count()
            for photograph, code in zip(photographs, prints, strict=True)
        ]
        for change in CHANGES
    }
    pairs = [(one, two) for place, one in enumerate(prints) for two in prints[:place]]
    return found | {"different photographs": [(one ^ two).bit_count() for one, two in pairs]}


def _change(image, change):
    height, width = image.shape[1:]
    if change == "half the size":
        return F.interpolate(image[None], scale_factor=0.5, mode="bilinear", antialias=True)[0]
    if change == "JPEG, quality 20":
        with Image.open(io.BytesIO(_as_jpeg(image, quality=20))) as file:
            return torch.from_numpy(np.array(file)).permute(2, 0, 1) / 255
    if change == "darker":
        return 0.6 * image
    if change == "mirrored":
        return image.flip(-1)
    y, x = round(0.03 * height), round(0.03 * width)
    return image[:, y : height - y, x : width - x]


# --- mistakes of converters ---------------------------------------------------------------------------------

CLASSES = {"small": (8, 32), "medium": (32, 96), "large": (96, 300)}  # sides in pixels
WIDTH, HEIGHT = 640, 480


def draw_boxes(size: str, count: int = 500, seed: int = 0) -> torch.Tensor:
    """ "small"|"medium"|"large" -> (count, 4) float64 xyxy of whole pixels in an image of 640×480."""
    low, high = CLASSES[require_choice(size, "size", CLASSES)]
    generator = torch.Generator().manual_seed(seed)
    sides = torch.randint(low, high + 1, (count, 2), generator=generator)
    room = torch.tensor([WIDTH, HEIGHT]) - sides
    corner = (torch.rand(count, 2, generator=generator) * (room + 1)).floor().long()
    return torch.cat([corner, corner + sides], dim=1).double()


def _without_one(boxes):
    return torch.cat([boxes[:, :2] + 1, boxes[:, 2:]], dim=1)  # xmin is 1 more than the edge


def _one_too_many(boxes):
    return torch.cat([boxes[:, :2], boxes[:, 2:] - 1], dim=1)  # xmax − 1 as well as xmin − 1


def _two_digits(boxes):
    scale = torch.tensor([WIDTH, HEIGHT] * 2)
    return (boxes / scale * 100).round() / 100 * scale


def _wrong_side(boxes):
    """y / width is written, and read as y / height."""
    return boxes * torch.tensor([1, HEIGHT / WIDTH] * 2)


MISTAKES = {
    "VOC: the 1 is not subtracted": _without_one,
    "VOC: 1 is subtracted everywhere": _one_too_many,
    "two digits after the point": _two_digits,
    "y divided by the width": _wrong_side,
}


def measure_mistakes(seeds: int = 3) -> dict[str, dict[str, list[float]]]:
    """-> {mistake: {size: mean IoU with the right boxes, for each seed}}: the same boxes for all mistakes."""
    return {
        name: {
            size: [_mean_iou(draw_boxes(size, seed=seed), mistake) for seed in range(seeds)]
            for size in CLASSES
        }
        for name, mistake in MISTAKES.items()
    }


def _mean_iou(boxes, mistake):
    return box_iou(boxes, mistake(boxes)).diagonal().mean().item()


def measure_digits(widths: tuple[int, ...], most: int = 6) -> dict[int, list[float]]:
    """Widths of images -> dict: the largest error in pixels of all whole edges after writing x / width with
    1, 2, … digits.
    """
    return {
        width: [
            max(abs(round(x / width, digits) * width - x) for x in range(width + 1))
            for digits in range(1, most + 1)
        ]
        for width in widths
    }


# --- wrong labels -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two classifiers on one test set with right labels, and with labels of which a share is wrong."""

    names: tuple[str, str]
    gap: float  # of their accuracies with the right labels, from 0 up
    lost: float  # the share of draws of wrong labels in which the better one is no longer better


def rank_classifiers(
    share: float = 0.06, draws: int = 200, train: int = 300
) -> tuple[dict[str, tuple[float, float]], list[Pair]]:
    """-> {classifier: accuracy with right labels, mean accuracy with wrong ones}, and each pair of different
    accuracies.

    All are trained on the same `train` right labels of digits; only the labels of the test set are wrong.
    """
    (images, labels), (test_images, test_labels) = (_digits(split) for split in ("train", "test"))
    models = {f"{k} nearest": KNeighborsClassifier(k) for k in (1, 3, 5, 7, 9)}
    models["logistic regression"] = LogisticRegression(max_iter=500)
    answers = {
        name: model.fit(images[:train], labels[:train]).predict(test_images) for name, model in models.items()
    }
    truth = torch.from_numpy(test_labels)
    noisy = [plant_wrong_labels(truth, share, seed=seed)[0].numpy() for seed in range(draws)]
    right = {name: float((answer == test_labels).mean()) for name, answer in answers.items()}
    wrong = {
        name: np.array([(answer == labels).mean() for labels in noisy]) for name, answer in answers.items()
    }
    pairs = []
    for better in models:
        for other in models:
            gap = right[better] - right[other]
            if gap > 0:
                pairs.append(Pair((better, other), gap, float((wrong[better] <= wrong[other]).mean())))
    accuracies = {name: (right[name], float(wrong[name].mean())) for name in models}
    return accuracies, sorted(pairs, key=lambda pair: pair.gap)


def find_wrong_labels(share: float = 0.06, seeds: int = 3) -> dict[str, list[tuple[float, float]]]:
    """-> {method: (precision, recall) for each seed} of finding wrong labels among 1,437 digits, as chapter
    7b does it: each image is judged by a logistic regression that has not seen it.

    "random" chooses as many images as confident learning does; "disagreement" takes all whose predicted class
    is another one.
    """
    images, labels = data.digits("train")
    found = {"random": [], "disagreement": [], "confident learning": []}
    for seed in range(seeds):
        noisy, is_wrong = plant_wrong_labels(labels, share, seed=seed)
        probabilities = predict_held_out(images, noisy, seed=seed)
        flagged = find_label_errors(probabilities, noisy)
        drawn = torch.rand(len(labels), generator=torch.Generator().manual_seed(seed))
        chosen = {
            "random": mark_lowest(drawn, int(flagged.sum())),
            "disagreement": probabilities.argmax(1) != noisy,
            "confident learning": flagged,
        }
        for name, each in chosen.items():
            hits = int((each & is_wrong).sum())
            found[name].append((hits / int(each.sum()), hits / int(is_wrong.sum())))
    return found


def _digits(split):
    images, labels = data.digits(split)
    return images.flatten(1).numpy(), labels.numpy()


# --- facts --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataSet:
    """A data set with what its source states; None where no source at hand states it."""

    name: str
    year: int
    origin: str
    use: str
    source: str  # with "@deng2009" for a paper of references.bib
    images: int | None = None
    classes: int | None = None
    licence: str | None = None


@dataclass(frozen=True)
class Claim:
    """A number of the book beside that of the source."""

    set: str
    what: str
    printed: float
    sourced: float
    erratum: str

    @property
    def ratio(self) -> float:
        """The printed number, divided by that of the source."""
        return self.printed / self.sourced


def load_facts(path: Path = FACTS) -> tuple[list[DataSet], list[Claim]]:
    """Path -> data sets and claims. Raises ValueError for a source that is not in references.bib."""
    content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    entries = references.load()
    sets = [DataSet(**each) for each in content["set"]]
    for each in sets:
        for key in re.findall(r"@(\w+)", each.source):
            if key not in entries:
                raise ValueError(f"{each.name}: references.bib has no {key}")
    return sets, [Claim(**each) for each in content["claim"]]


def as_rows(sets: list[DataSet]) -> list[str]:
    """list of DataSet -> list of str: a line each, for printing."""
    entries = references.load()
    lines = []
    for each in sets:
        source = re.sub(r"@(\w+)", lambda found: entries[found[1]].label, each.source)
        images = "" if each.images is None else f"{each.images:,}"
        classes = "" if each.classes is None else f"{each.classes:,}"
        lines.append(f"{each.name:42} {each.year} {images:>13} {classes:>6}  {source}")
    return lines
