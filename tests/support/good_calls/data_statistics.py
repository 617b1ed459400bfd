"""Good calls of vlmbook.data.statistics."""

import torch

from tests.support.files import small_sets
from tests.support.good_calls import Call
from vlmbook.data.annotations import AnnotatedImage, ImageObject
from vlmbook.data.statistics import describe_folder, describe_objects, fingerprint

IMAGES = [AnnotatedImage("1.png", 6, 10, (ImageObject("cell", (0, 0, 10, 6)),))]
FOLDER = {"distance": 2, "max_pixels": 100}
GOOD_CALLS = {
    "describe_folder": lambda: Call(describe_folder, {"folder": small_sets() / "classes", **FOLDER}),
    "describe_objects": lambda: Call(describe_objects, {"images": IMAGES}),
    "fingerprint": lambda: Call(fingerprint, {"image": torch.rand(3, 20, 30)}),
}
