"""Good calls of vlmbook.data.masks."""

from tests.support.files import small_sets
from tests.support.good_calls import Call
from vlmbook.data.masks import ClassMaskFolders, ImageMaskFolders, class_mask_folders, image_mask_folders

READING = {"channels": 3, "size": (4, 5), "letterbox": True, "max_pixels": 100}


def of(function, **options):
    names = {"image_names": "{name}", "mask_names": "{name}"}

    def make():
        folders = {"images": small_sets() / "images", "masks": small_sets() / "masks"}
        return Call(function, folders | names | READING | options)

    return make


BINARY = {"values": (0, 1)}
CLASSES = {"ignore": 255, "num_classes": 2}
GOOD_CALLS = {
    "ImageMaskFolders": of(ImageMaskFolders, **BINARY),
    "image_mask_folders": of(image_mask_folders, **BINARY),
    "ClassMaskFolders": of(ClassMaskFolders, **CLASSES),
    "class_mask_folders": of(class_mask_folders, **CLASSES),
}
