"""One image file as a tensor, and the image files of a folder."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.nn import functional as F

from vlmbook.runtime import DataMissing, require_path
from vlmbook.validation import require_choice, require_pair, require_tensor, require_type, require_whole

# Of Pillow's formats those of photographs and masks. Some of the others start programs: EPS runs Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")
MAX_PIXELS = 64_000_000  # 8,000 × 8,000, in colour 0.8 GB as float32
MAX_SIDE = 16384  # pixels of a resampled image
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue [ITU-R BT.601]
BORDER = 0.5  # of a letterboxed image: grey
PILLOWS_LIMIT = threading.Lock()
BITS_PER_SAMPLE = 258  # a tag of TIFF


class TooManyPixels(ValueError):
    """An image has more pixels than the caller allows."""


def read_image(
    path: str | Path,
    *,
    channels: int | None = None,
    size: int | tuple[int, int] | None = None,
    letterbox: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> torch.Tensor:
    """file -> (C, H, W) float32 in [0, 1]: a grey image has C = 1, any other C = 3, unless `channels` is 1 or
    3.

    Any mode that Pillow reads of BMP, GIF, JPEG, PNG, PPM and PGM, TIFF and WebP: palettes are resolved,
    transparency is dropped, 16 bits of grey are kept (of colour, Pillow keeps 8), a camera's note on how it
    was held (EXIF) is followed, of several frames the first counts. A relative path starts from the current
    folder, as with `open`.

    size: (height, width), or one int for both; the image is resampled bilinearly to it, stretched where its
    sides have another ratio, or with letterbox=True fitted in with grey borders. Raises DataMissing for a
    file that is not there, ValueError for one that is no image, is cut short, has more than `max_pixels`
    pixels, or floating pixels outside [0, 1].
    """
    path = require_path(path, "path")
    channels = require_choice(channels, "channels", (None, 1, 3))
    size = None if size is None else require_pair(size, "size", most=MAX_SIDE)
    letterbox = require_choice(letterbox, "letterbox", (False, True))
    max_pixels = require_whole(max_pixels, "max_pixels", most=2**62)
    with open_image(path, max_pixels) as file:
        image = to_tensor(ImageOps.exif_transpose(file), channels)
    return image if size is None else resize_image(image, size, letterbox=letterbox)


# --- opened and turned into numbers -------------------------------------------------------------------------


@contextmanager
def open_image(path: Path, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """file -> Pillow image while the block runs; what goes wrong with it there is a ValueError that names the
    file.

    Raises DataMissing for a file that is not there, ValueError for one of another format and one that Pillow
    misreads, TooManyPixels, a ValueError, for more than `max_pixels`, before any of them is decoded.
    """
    path = require_path(path, "path")
    max_pixels = require_whole(max_pixels, "max_pixels", most=2**62)
    if os.path.isdir(path):
        raise DataMissing(f"{path} is a folder, not an image")
    if not os.path.isfile(path):
        raise DataMissing(f"there is no image {locate(path)}")
    try:
        # A file instead of its path: what Pillow maps into memory, it reads in rows of a wrong length where a
        # TIFF lies on its side.
        with open(path, "rb") as content, _open(content) as file:
            if file.width * file.height > max_pixels:
                raise TooManyPixels(
                    f"{path} cannot be read as an image: it has {file.width}×{file.height} pixels, more than "
                    f"max_pixels={max_pixels}, which can be raised"
                )
            _refuse_deep_planes(file)
            yield file
    except (MemoryError, TooManyPixels):
        raise
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{path} cannot be read as an image: it is none of {', '.join(FORMATS)}, or of a kind of these "
            "that Pillow does not read"
        ) from error
    except Exception as error:  # whatever a decoder meets in a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} cannot be read as an image: {reason}") from error


def _open(content):
    """Pillow's own limit of pixels, one for the whole process, is put aside: `open_image` has one."""
    with PILLOWS_LIMIT:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(content, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _refuse_deep_planes(file):
    """Of a TIFF whose channels lie one after the other, with 16 bits each, Pillow reads bytes of 8."""
    if file.format != "TIFF" or 16 not in file.tag_v2.get(BITS_PER_SAMPLE, ()):
        return
    if not any(";16" in str(tile[3]) for tile in file.tile):
        raise ValueError("it keeps its channels of 16 bits apart, which Pillow misreads; save it interleaved")


def to_tensor(picture: Image.Image, channels: int | None = None) -> torch.Tensor:
    """Pillow image -> (C, H, W) float32 in [0, 1], as `read_image` returns it. Raises TypeError or
    ValueError.
    """
    require_type(picture, "picture", Image.Image, "a Pillow image")
    channels = require_choice(channels, "channels", (None, 1, 3))
    pixels = torch.from_numpy(_pixels(picture))
    image = pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    if channels == 3 and len(image) == 1:
        image = image.expand(3, -1, -1)
    if channels == 1 and len(image) == 3:
        image = torch.tensor(LUMA).view(3, 1, 1).mul(image).sum(0, keepdim=True)
    return image.contiguous()


def _pixels(picture):
    """Pillow image -> (H, W) or (H, W, 3) float32 in [0, 1]."""
    if picture.mode.startswith("I"):  # 16 bits of grey; "I" is Pillow's wider home
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its whole numbers are not all from 0 to 65535, which is required")
        return values.astype(np.float32) / 65535
    if picture.mode == "F":
        return _in_range(np.array(picture))
    if picture.mode == "P":
        picture = picture.convert("RGBA")  # or Pillow warns where the palette is transparent
    grey = picture.mode in ("1", "L", "LA")
    return np.array(picture.convert("L" if grey else "RGB")).astype(np.float32) / 255


def _in_range(pixels):
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"its pixels reach from {pixels.min():g} to {pixels.max():g}, where 0 to 1 is required"
        )
    return pixels


# --- another size -------------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """The rectangle that an image takes in one of another size, in pixels of that one."""

    top: int
    left: int
    height: int
    width: int


def compute_frame(old: tuple[int, int], new: tuple[int, int], *, letterbox: bool = False) -> Frame:
    """(height, width) of an image, (height, width) of the new one -> Frame: all of it, or with letterbox=True
    the largest in its middle that has the image's ratio.

    Raises TypeError or ValueError for what are no sizes.
    """
    height, width = require_pair(old, "old")
    new_height, new_width = require_pair(new, "new", most=MAX_SIDE)
    if not require_choice(letterbox, "letterbox", (False, True)):
        return Frame(0, 0, new_height, new_width)
    scale = min(new_height / height, new_width / width)
    inner_height = min(new_height, max(1, round(scale * height)))
    inner_width = min(new_width, max(1, round(scale * width)))
    return Frame((new_height - inner_height) // 2, (new_width - inner_width) // 2, inner_height, inner_width)


def resize_image(
    image: torch.Tensor, size: int | tuple[int, int], *, letterbox: bool = False
) -> torch.Tensor:
    """(C, h, w) in [0, 1] -> (C, H, W): bilinear and anti-aliased, stretched, or with letterbox=True fitted
    in with grey borders.

    Raises TypeError or ValueError for what is no image or no size.
    """
    require_tensor(image, "image", "C H W")
    size = require_pair(size, "size", most=MAX_SIDE)
    frame = compute_frame(image.shape[1:], size, letterbox=letterbox)
    wide = image[None].to(torch.promote_types(image.dtype, torch.float32))
    inner = F.interpolate(wide, size=(frame.height, frame.width), mode="bilinear", antialias=True)
    resized = image.new_full((len(image), *size), BORDER)
    rows = slice(frame.top, frame.top + frame.height)
    columns = slice(frame.left, frame.left + frame.width)
    resized[:, rows, columns] = inner[0].clamp(0, 1)
    return resized


def resize_ids(
    ids: torch.Tensor, size: int | tuple[int, int], *, letterbox: bool = False, border: int = 0
) -> torch.Tensor:
    """(…, h, w) -> (…, H, W) of the same dtype: each value is that of the nearest pixel, none is a mixture;
    `border` fills the borders of letterbox=True.

    Raises TypeError or ValueError for what is no tensor of that form or no size.
    """
    require_tensor(ids, "ids", "… H W", kind="any")
    size = require_pair(size, "size", most=MAX_SIDE)
    border = require_whole(border, "border", least=0)
    frame = compute_frame(ids.shape[-2:], size, letterbox=letterbox)
    rows = _nearest(ids.shape[-2], frame.height).to(ids.device)
    columns = _nearest(ids.shape[-1], frame.width).to(ids.device)
    resized = ids.new_full((*ids.shape[:-2], *size), border)
    inner = ids.index_select(-2, rows).index_select(-1, columns)
    resized[..., frame.top : frame.top + frame.height, frame.left : frame.left + frame.width] = inner
    return resized


def resize_boxes(
    boxes: torch.Tensor, old: tuple[int, int], new: int | tuple[int, int], *, letterbox: bool = False
) -> torch.Tensor:
    """(k, 4) xyxy in an image of `old` (height, width) -> (k, 4) in the same image resampled to `new`, as
    `resize_image` does it.

    Raises TypeError or ValueError for what are no boxes or no sizes.
    """
    require_tensor(boxes, "boxes", "k 4", empty="k")
    height, width = require_pair(old, "old")
    frame = compute_frame((height, width), require_pair(new, "new", most=MAX_SIDE), letterbox=letterbox)
    scale = boxes.new_tensor([frame.width / width, frame.height / height] * 2)
    return boxes * scale + boxes.new_tensor([frame.left, frame.top] * 2)


def _nearest(old, new):
    """int, int -> (new,) int64: for the middle of each new pixel the old one that holds it."""
    return ((2 * torch.arange(new) + 1) * old) // (2 * new)


# --- the files of a folder ----------------------------------------------------------------------------------


def list_folder(folder: Path) -> list[Path]:
    """-> list of Path: what lies in the folder in numeric order, without hidden names. Raises DataMissing."""
    folder = require_path(folder, "folder")
    if not os.path.isdir(folder):
        raise DataMissing(f"there is no folder {locate(folder)}")
    try:
        return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=_numeric)
    except OSError as error:
        raise DataMissing(f"{folder} cannot be listed: {error.strerror}") from None


def list_images(folder: Path) -> list[Path]:
    """-> list of Path: the images of a folder in numeric order. Raises DataMissing where there is none."""
    found = [path for path in list_folder(folder) if path.suffix.lower() in SUFFIXES]
    if not found:
        raise DataMissing(f"{folder} has no image in it ({', '.join(SUFFIXES)})")
    return found


def index_by_stem(paths: list[Path]) -> dict[str, Path]:
    """-> dict: stem to Path. Raises TypeError for what are no paths, ValueError where two have the same
    stem.
    """
    require_type(paths, "paths", (list, tuple), "a list of paths")
    found = {}
    for path in paths:
        path = require_path(path, "paths")
        if path.stem in found:
            raise ValueError(f"{found[path.stem]} and {path} differ only in their suffix")
        found[path.stem] = path
    return found


def locate(path: Path) -> str:
    """-> str: the path as it was written, and from where a relative one was looked up. Raises TypeError."""
    path = require_path(path, "path")
    return str(path) if path.is_absolute() else f"{path} in {Path.cwd()}"


def describe_size(image: torch.Tensor) -> str:
    """(…, H, W) -> str: width × height, "640×480", as cameras and annotations write it. Raises TypeError or
    ValueError for what is no image.
    """
    require_tensor(image, "image", "… H W", kind="any", empty="H W")
    return f"{image.shape[-1]}×{image.shape[-2]}"


def _numeric(path):
    """s2 before s10: runs of digits count as numbers."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if part.isdecimal() else part for part in parts], path.name
