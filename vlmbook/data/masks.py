"""Images beside masks of the same names: binary masks, and maps of classes."""

import functools
import os
import re
from pathlib import Path

import numpy as np
import torch
from PIL import ImageOps
from torch.utils.data import Dataset

from vlmbook.data.images import (
    MAX_PIXELS,
    MAX_SIDE,
    describe_size,
    list_images,
    locate,
    open_image,
    read_image,
    resize_ids,
    resize_image,
)
from vlmbook.runtime import DataMissing, require_path
from vlmbook.validation import describe, require_choice, require_pair, require_type, require_whole

MOST_ID = 2**31 - 1
SHOWN = 8  # values that an error names


class _PairedFolders(Dataset):
    """Two folders whose files belong together by their names, read and brought to one size together."""

    def __init__(
        self,
        images: str | Path,
        masks: str | Path,
        *,
        channels: int | None = None,
        size: int | tuple[int, int] | None = None,
        letterbox: bool = False,
        image_names: str = "{name}",
        mask_names: str = "{name}",
        max_pixels: int = MAX_PIXELS,
    ):
        images = require_path(images, "images")
        masks = require_path(masks, "masks")
        self.max_pixels = require_whole(max_pixels, "max_pixels", most=2**62)
        channels = require_choice(channels, "channels", (None, 1, 3))
        self.read = functools.partial(read_image, channels=channels, max_pixels=self.max_pixels)
        self.size = None if size is None else require_pair(size, "size", most=MAX_SIDE)
        self.letterbox = require_choice(letterbox, "letterbox", (False, True))
        _require_pattern(image_names, "image_names")
        _require_pattern(mask_names, "mask_names")
        same = os.path.realpath(images) == os.path.realpath(masks)
        if same and image_names == mask_names:
            raise ValueError(
                f"masks wants another folder than images, or other mask_names, got {str(masks)!r}"
            )
        partners = _index_by_name(list_images(masks), mask_names)
        names = {path.name for path in partners.values()} if same else set()
        files = [path for path in list_images(images) if path.name not in names]
        found = _index_by_name(files, image_names)
        for name in [*found, *partners]:
            if name not in partners:
                mask = masks / mask_names.replace("{name}", name)
                raise DataMissing(
                    f"{found[name]} has no mask {locate(mask)}.*; if masks are named otherwise, mask_names "
                    "tells how: '{name}_mask'"
                )
            if name not in found:
                image = images / image_names.replace("{name}", name)
                raise DataMissing(f"{partners[name]} has no image {locate(image)}.*")
        if not found:
            raise DataMissing(f"{locate(images)} has no image named {image_names!r}")
        self.paths = list(found.values())
        self.mask_paths = [partners[name] for name in found]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = self.read(self.paths[index])
        path = self.mask_paths[index]
        with open_image(path, self.max_pixels) as file:
            form, picture = file.format, ImageOps.exif_transpose(file)
        mask = self._to_mask(picture, form, path)
        if mask.shape[-2:] != image.shape[-2:]:
            raise ValueError(
                f"{path} wants the size of its image {self.paths[index]}, {describe_size(image)}, got "
                f"{describe_size(mask)}"
            )
        if self.size is None:
            return image, mask
        resized = resize_image(image, self.size, letterbox=self.letterbox)
        return resized, resize_ids(mask, self.size, letterbox=self.letterbox, border=self.border)


class ImageMaskFolders(_PairedFolders):
    """data[i] -> (C, H, W) float32 in [0, 1], (1, H, W) float32 in {0, 1}: see `image_mask_folders`."""

    border = 0

    def __init__(self, images: str | Path, masks: str | Path, *, values=None, **options):
        super().__init__(images, masks, **options)
        self.values = None if values is None else _require_values(values)

    def _to_mask(self, picture, form, path):
        """Pillow image, its format, its file -> (1, H, W) float32 in {0, 1}."""
        pixels = _read_values(picture, path, greys=True)
        found = pixels.unique().tolist()
        if self.values is None:
            right = len([value for value in found if value != 0]) <= 1
            wanted = "pixels of 0 and one other value"
            mask = pixels != 0
        else:
            right = set(found) <= set(self.values)
            wanted = f"pixels of {self.values[0]} and {self.values[1]}"
            mask = pixels == self.values[1]
        if not right:
            hint = (
                "JPEG mixes values, PNG keeps them" if form == "JPEG" else "class_mask_folders reads classes"
            )
            raise ValueError(f"{path} wants {wanted}, got {_list_values(found)}; {hint}")
        return mask.float()[None]


class ClassMaskFolders(_PairedFolders):
    """data[i] -> (C, H, W) float32 in [0, 1], (H, W) int64: see `class_mask_folders`."""

    def __init__(
        self,
        images: str | Path,
        masks: str | Path,
        *,
        ignore: int | None = 255,
        num_classes: int | None = None,
        **options,
    ):
        super().__init__(images, masks, **options)
        self.ignore = None if ignore is None else require_whole(ignore, "ignore", least=0, most=MOST_ID)
        self.num_classes = (
            None if num_classes is None else require_whole(num_classes, "num_classes", most=MOST_ID)
        )
        self.border = 0 if self.ignore is None else self.ignore

    def _to_mask(self, picture, form, path):
        """Pillow image, its format, its file -> (H, W) int64."""
        if form == "JPEG":
            raise ValueError(
                f"{path} wants the exact number of each pixel's class, got a JPEG, which mixes them"
            )
        pixels = _read_values(picture, path, greys=False)
        if self.num_classes is not None:
            outside = pixels[(pixels >= self.num_classes) & (pixels != self.border)].unique().tolist()
            if outside:
                kept = "" if self.ignore is None else f" and {self.ignore} to ignore"
                raise ValueError(
                    f"{path} wants classes 0 to {self.num_classes - 1}{kept}, got {_list_values(outside)}"
                )
        return pixels


def image_mask_folders(
    images: str | Path,
    masks: str | Path,
    *,
    values: tuple[int, int] | None = None,
    channels: int | None = None,
    size: int | tuple[int, int] | None = None,
    letterbox: bool = False,
    image_names: str = "{name}",
    mask_names: str = "{name}",
    max_pixels: int = MAX_PIXELS,
) -> ImageMaskFolders:
    """-> Dataset of (C, H, W) float32 in [0, 1] and (1, H, W) float32 in {0, 1}: images and binary masks.

    The pixels of a mask hold 0 for the background and one other value for the object, whichever it is; with
    values=(background, object) exactly these two. Anything else is refused with the values found: classes,
    ids of objects, an ignore value, a JPEG's mixtures.

    An image and its mask have the same name, with any suffixes (1.jpg, 1.png). Where names differ, patterns
    tell how: mask_names="{name}_mask" finds x_mask.png beside x.jpg, image_names="{name}_training" with
    mask_names="{name}_manual1" pairs 21_training.tif and 21_manual1.gif. Both may lie in one folder. The
    order is numeric; data.paths and data.mask_paths are the files.

    `channels` and `max_pixels` are those of `read_image`, `size` and `letterbox` too: the mask is resampled
    with its image, by the nearest pixel. Raises DataMissing for an image without mask, a mask without image,
    or an empty folder; when indexed, ValueError for a mask of another size than its image, of other values,
    in colour, or with a transparency that is part of it.
    """
    return ImageMaskFolders(
        images,
        masks,
        values=values,
        channels=channels,
        size=size,
        letterbox=letterbox,
        image_names=image_names,
        mask_names=mask_names,
        max_pixels=max_pixels,
    )


def class_mask_folders(
    images: str | Path,
    masks: str | Path,
    *,
    ignore: int | None = 255,
    num_classes: int | None = None,
    channels: int | None = None,
    size: int | tuple[int, int] | None = None,
    letterbox: bool = False,
    image_names: str = "{name}",
    mask_names: str = "{name}",
    max_pixels: int = MAX_PIXELS,
) -> ClassMaskFolders:
    """-> Dataset of (C, H, W) float32 in [0, 1] and (H, W) int64: images and the class of each pixel.

    A map is grey, of 8 or 16 bits, and a pixel's value is its class; or it has a palette, as VOC's, and the
    index into it is the class, whatever its colours. `ignore` marks pixels that count for nothing, such as
    the borders of objects in VOC: it is kept, for `F.cross_entropy(…, ignore_index=255)`, and fills the
    borders of letterbox=True. With `num_classes` any other value outside 0 … num_classes − 1 is refused.

    Everything else is as in `image_mask_folders`. When indexed, ValueError also for a map in colours without
    a palette, and for a JPEG, whose values are mixtures.
    """
    return ClassMaskFolders(
        images,
        masks,
        ignore=ignore,
        num_classes=num_classes,
        channels=channels,
        size=size,
        letterbox=letterbox,
        image_names=image_names,
        mask_names=mask_names,
        max_pixels=max_pixels,
    )


# --- names --------------------------------------------------------------------------------------------------


def _require_pattern(pattern, argument):
    require_type(pattern, argument, str, "a pattern with {name} once, such as '{name}_mask'")
    if pattern.count("{name}") != 1:
        raise ValueError(f"{argument} wants a pattern with {{name}} once, got {describe(pattern)}")


def _index_by_name(paths, pattern):
    """-> {name: Path} of those that the pattern fits. Raises ValueError where two have the same name."""
    before, after = pattern.split("{name}")
    found = {}
    for path in paths:
        match = re.fullmatch(f"{re.escape(before)}(.+){re.escape(after)}", path.stem, flags=re.DOTALL)
        if match is None:
            continue
        if match[1] in found:
            raise ValueError(f"{found[match[1]]} and {path} differ only in their suffix")
        found[match[1]] = path
    return found


# --- values -------------------------------------------------------------------------------------------------


def _require_values(values):
    """-> (background, object), two whole numbers."""
    require_type(values, "values", (tuple, list), "two whole numbers, background and object")
    if len(values) != 2:
        raise ValueError(f"values wants two whole numbers, background and object, got {len(values)}")
    background = require_whole(values[0], "values[0]", least=0, most=MOST_ID)
    foreground = require_whole(values[1], "values[1]", least=0, most=MOST_ID)
    if background == foreground:
        raise ValueError(f"values wants two different numbers, got {background} twice")
    return background, foreground


def _read_values(picture, path, greys):
    """Pillow image -> (H, W) int64: what it stores; of a palette the index, or where `greys` and the colours
    are grey, the grey.
    """
    if picture.mode in ("LA", "PA", "RGBA"):
        low, high = picture.getchannel("A").getextrema()
        if low != high:
            raise ValueError(f"{path} wants a mask without transparency, got an alpha channel that varies")
        picture = picture.convert("RGB") if picture.mode == "RGBA" else picture.getchannel(0)
    pixels = np.asarray(picture)
    if picture.mode == "RGB":
        if not (pixels == pixels[..., :1]).all():
            colours = np.unique(pixels.reshape(-1, 3), axis=0)
            raise ValueError(
                f"{path} wants one number a pixel, grey or of a palette, got colours: "
                f"{_list_values([tuple(colour) for colour in colours.tolist()])}"
            )
        pixels = pixels[..., 0]
    elif picture.mode == "P" and greys:
        pixels = _to_greys(picture, pixels)
    elif picture.mode not in ("1", "L", "P") and not picture.mode.startswith("I"):
        raise ValueError(
            f"{path} wants one whole number a pixel, got an image of Pillow's mode {picture.mode}"
        )
    ids = torch.from_numpy(pixels.astype(np.int64))
    if ids.min() < 0:
        raise ValueError(f"{path} wants no pixel below 0, got {ids.min().item()}")
    return ids


def _to_greys(picture, indices):
    """A tool may have made a palette of black and white in any order: there the colours count."""
    palette = np.array(picture.getpalette("RGB"), dtype=np.int64).reshape(-1, 3)
    used = np.unique(indices)
    if used.max() >= len(palette) or not (palette[used] == palette[used][:, :1]).all():
        return indices
    return palette[:, 0][indices]


def _list_values(values):
    shown = ", ".join(map(str, values[:SHOWN]))
    return shown if len(values) <= SHOWN else f"{shown} and {len(values) - SHOWN} more"
