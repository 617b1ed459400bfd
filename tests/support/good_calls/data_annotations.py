"""Good calls of vlmbook.data.annotations."""

import shutil
from itertools import count
from pathlib import Path

from tests.support.files import small_sets
from tests.support.good_calls import Call
from vlmbook.data import annotations
from vlmbook.data.annotations import AnnotatedImage, ImageObject

IMAGES = [AnnotatedImage(f"{i}.png", 6, 10, (ImageObject("cell", (0, 0, 10, 6)),)) for i in (1, 2)]
NUMBERS = count()


def fresh():
    """-> Path of nothing yet, in the current folder, which a test gives up afterwards."""
    return Path(f"new{next(NUMBERS)}").absolute()


def written(form):
    root = small_sets() / "annotations" / form
    if not root.exists():
        if form == "coco":
            annotations.write_coco(root / "a.json", IMAGES)
        else:
            annotations.write_voc(root, IMAGES)
            annotations.write_open_images(root, IMAGES)
            shutil.copytree(small_sets() / "images", root / "JPEGImages")
    return root


READING = {"masks": False, "faults": []}
WRITING = {"images": IMAGES, "allow_loss": True}
CODES = {"cell": "/m/0"}
GOOD_CALLS = {
    "list_losses": lambda: Call(annotations.list_losses, {"images": IMAGES, "form": "VOC"}),
    "read_coco": lambda: Call(annotations.read_coco, {"path": written("coco") / "a.json", **READING}),
    "read_voc": lambda: Call(
        annotations.read_voc, {"folder": written("others"), "from_zero": False, **READING}
    ),
    "read_open_images": lambda: Call(
        annotations.read_open_images,
        {"folder": written("others"), "images": small_sets() / "images", **READING},
    ),
    "write_coco": lambda: Call(
        annotations.write_coco, {"path": fresh() / "a.json", "categories": {"cell": 1}, **WRITING}
    ),
    "write_voc": lambda: Call(annotations.write_voc, {"folder": fresh(), **WRITING}),
    "write_open_images": lambda: Call(
        annotations.write_open_images, {"folder": fresh(), "codes": CODES, **WRITING}
    ),
}
