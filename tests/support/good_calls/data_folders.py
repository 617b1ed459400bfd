"""Good calls of vlmbook.data.folders."""

from tests.support.files import small_sets
from tests.support.good_calls import Call
from vlmbook.data.folders import ClassFolders, class_folders

READING = {"channels": 3, "size": (4, 5), "letterbox": True, "max_pixels": 100}


def of(function):
    return lambda: Call(function, {"folder": small_sets() / "classes", **READING})


GOOD_CALLS = {"ClassFolders": of(ClassFolders), "class_folders": of(class_folders)}
