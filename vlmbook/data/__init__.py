"""Images for the chapters: real ones from the installed libraries, drawn ones, real sets, and the reader's
own.
"""

from vlmbook.data.bundled import digits, face_patches, photo, photo_names, split
from vlmbook.data.downloads import cifar10, digits_or_fashion, fashion_mnist
from vlmbook.data.folder import DataMissing, data_folder
from vlmbook.data.folders import (
    class_folders,
    image_mask_folders,
    read_image,
    stacked,
    stacked_boxes,
    voc_boxes,
)
from vlmbook.data.scenes import SCENE_NAMES, scenes
from vlmbook.data.shapes import Shapes, shapes
from vlmbook.data.textures import textures

__all__ = [
    "SCENE_NAMES",
    "DataMissing",
    "Shapes",
    "cifar10",
    "class_folders",
    "data_folder",
    "digits",
    "digits_or_fashion",
    "face_patches",
    "fashion_mnist",
    "image_mask_folders",
    "photo",
    "photo_names",
    "read_image",
    "scenes",
    "shapes",
    "split",
    "stacked",
    "stacked_boxes",
    "textures",
    "voc_boxes",
]
