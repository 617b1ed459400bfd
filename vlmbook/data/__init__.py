"""Images for the chapters: real ones from the installed libraries, drawn ones, real sets, and the reader's
own.
"""

from vlmbook.data.annotations import (
    AnnotatedImage,
    ImageObject,
    list_losses,
    read_coco,
    read_open_images,
    read_voc,
    write_coco,
    write_open_images,
    write_voc,
)
from vlmbook.data.avatars import Avatars, avatars
from vlmbook.data.boxes import flip_horizontally, pad_targets, random_zoom, unpad_targets
from vlmbook.data.bundled import digits, face_patches, photo, photo_names
from vlmbook.data.downloads import cifar10, digits_or_fashion, fashion_mnist
from vlmbook.data.folders import class_folders
from vlmbook.data.images import read_image
from vlmbook.data.masks import class_mask_folders, image_mask_folders
from vlmbook.data.rle import RLE, decode_mask, encode_mask
from vlmbook.data.scenes import SCENE_NAMES, scenes
from vlmbook.data.shapes import Shapes, shapes
from vlmbook.data.splits import hold_out
from vlmbook.data.stacking import stack_boxes, stack_images
from vlmbook.data.statistics import describe_folder, describe_objects
from vlmbook.data.textures import textures
from vlmbook.data.voc import voc_boxes
from vlmbook.runtime import DataMissing, data_folder

__all__ = [
    "RLE",
    "SCENE_NAMES",
    "AnnotatedImage",
    "Avatars",
    "DataMissing",
    "ImageObject",
    "Shapes",
    "avatars",
    "cifar10",
    "class_folders",
    "class_mask_folders",
    "data_folder",
    "decode_mask",
    "describe_folder",
    "describe_objects",
    "digits",
    "digits_or_fashion",
    "encode_mask",
    "face_patches",
    "fashion_mnist",
    "flip_horizontally",
    "hold_out",
    "image_mask_folders",
    "list_losses",
    "pad_targets",
    "photo",
    "photo_names",
    "random_zoom",
    "read_coco",
    "read_image",
    "read_open_images",
    "read_voc",
    "scenes",
    "shapes",
    "stack_boxes",
    "stack_images",
    "textures",
    "unpad_targets",
    "voc_boxes",
    "write_coco",
    "write_open_images",
    "write_voc",
]
