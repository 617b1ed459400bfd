"""Good calls of vlmbook.data.voc."""

from tests.support.files import small_sets
from tests.support.good_calls import Call
from vlmbook.data.voc import VOCBoxes, parse_annotation, voc_boxes

READING = {"channels": 3, "size": (4, 5), "letterbox": True, "max_pixels": 100}


def of(function):
    options = {"split": "train", "from_zero": True, **READING}
    return lambda: Call(function, {"folder": small_sets() / "voc", **options})


def parse():
    return Call(parse_annotation, {"path": small_sets() / "voc" / "Annotations" / "1.xml"})


GOOD_CALLS = {"VOCBoxes": of(VOCBoxes), "voc_boxes": of(voc_boxes), "parse_annotation": parse}
