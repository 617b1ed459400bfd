"""Good calls of vlmbook.data.images."""

from pathlib import Path

import torch
from PIL import Image

from tests.support.files import small_sets
from tests.support.good_calls import Call
from vlmbook.data import images


def open_and_close(**arguments):
    with images.open_image(**arguments) as file:
        file.load()


def file():
    return small_sets() / "images" / "1.png"


READING = {"channels": 3, "size": (4, 5), "letterbox": True, "max_pixels": 100}
SIZE = {"size": (4, 5), "letterbox": True}
FRAME = {"old": (6, 10), "new": (4, 5), "letterbox": True}
IDS = torch.ones(2, 6, 7, dtype=torch.int64)
GOOD_CALLS = {
    "read_image": lambda: Call(images.read_image, {"path": file(), **READING}),
    "open_image": lambda: Call(open_and_close, {"path": file(), "max_pixels": 100}),
    "to_tensor": lambda: Call(images.to_tensor, {"picture": Image.open(file()), "channels": 3}),
    "compute_frame": lambda: Call(images.compute_frame, FRAME),
    "resize_image": lambda: Call(images.resize_image, {"image": torch.rand(3, 6, 7), **SIZE}),
    "resize_ids": lambda: Call(images.resize_ids, {"ids": IDS, "border": 255, **SIZE}),
    "resize_boxes": lambda: Call(images.resize_boxes, {"boxes": torch.ones(2, 4), **FRAME}),
    "list_folder": lambda: Call(images.list_folder, {"folder": small_sets()}),
    "list_images": lambda: Call(images.list_images, {"folder": small_sets() / "images"}),
    "index_by_stem": lambda: Call(images.index_by_stem, {"paths": [Path("a.png")]}),
    "locate": lambda: Call(images.locate, {"path": Path("a")}),
    "describe_size": lambda: Call(images.describe_size, {"image": torch.rand(3, 6, 7)}),
}
