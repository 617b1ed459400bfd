"""One image file as a tensor, and the image files of a folder."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from vlmbook.runtime import DataMissing, require_path
from vlmbook.validation import require_choice

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue [ITU-R BT.601]


def read_image(path: str | Path, *, channels: int | None = None) -> torch.Tensor:
    """file -> (C, H, W) float32 in [0, 1]: a grey image has C = 1, any other C = 3, unless `channels` is 1 or
    3.

    Any format and mode that Pillow reads: palettes are resolved, transparency is dropped, 16 bits of grey are
    kept (of colour, Pillow keeps 8), a camera's note on how it was held (EXIF) is followed, of several frames
    the first counts. Raises DataMissing for a file that is not there, ValueError for one that is no image, is
    cut short, or has floating pixels outside [0, 1].
    """
    path = require_path(path, "path")
    channels = require_choice(channels, "channels", (None, 1, 3))
    with open_image(path) as file:
        return to_tensor(ImageOps.exif_transpose(file), channels)


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """file -> Pillow image while the block runs; what goes wrong with it there is a ValueError that names the
    file.
    """
    if not path.is_file():
        raise DataMissing(f"there is no image {path}")
    try:
        with Image.open(path) as file:
            yield file
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error


def to_tensor(picture: Image.Image, channels: int | None) -> torch.Tensor:
    """Pillow image -> (C, H, W) float32 in [0, 1], as `read_image` returns it."""
    pixels = torch.from_numpy(_pixels(picture))
    image = pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    if channels == 3 and len(image) == 1:
        image = image.expand(3, -1, -1)
    if channels == 1 and len(image) == 3:
        image = torch.tensor(LUMA).view(3, 1, 1).mul(image).sum(0, keepdim=True)
    return image.contiguous()


def describe_size(image: torch.Tensor) -> str:
    """(C, H, W) -> str: width × height, "640×480", as cameras and annotations write it."""
    return f"{image.shape[2]}×{image.shape[1]}"


def list_folder(folder: Path) -> list[Path]:
    """-> list of Path: what lies in the folder in numeric order, without hidden names. Raises DataMissing."""
    if not folder.is_dir():
        raise DataMissing(f"there is no folder {folder}")
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=_numeric)


def list_images(folder: Path) -> list[Path]:
    """-> list of Path: the images of a folder in numeric order. Raises DataMissing where there is none."""
    found = [path for path in list_folder(folder) if path.suffix.lower() in SUFFIXES]
    if not found:
        raise DataMissing(f"{folder} has no image in it ({', '.join(SUFFIXES)})")
    return found


def index_by_stem(paths: list[Path]) -> dict[str, Path]:
    """-> dict: stem to Path. Raises ValueError where two images have the same."""
    found = {}
    for path in paths:
        if path.stem in found:
            raise ValueError(f"{found[path.stem]} and {path} differ only in their suffix")
        found[path.stem] = path
    return found


def _pixels(picture):
    """Pillow image -> (H, W) or (H, W, 3) float32 in [0, 1]."""
    if picture.mode.startswith("I"):  # 16 bits of grey; "I" is Pillow's wider home
        return _in_range(np.asarray(picture).astype(np.float32) / 65535)
    if picture.mode == "F":
        return _in_range(np.array(picture))
    if picture.mode == "P":
        picture = picture.convert("RGBA")  # or Pillow warns where the palette is transparent
    grey = picture.mode in ("1", "L", "LA")
    return np.array(picture.convert("L" if grey else "RGB")).astype(np.float32) / 255


def _in_range(pixels):
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"its pixels reach from {pixels.min():g} to {pixels.max():g}, where 0 to 1 was wanted "
            "(of whole ones 0 to 65535)"
        )
    return pixels


def _numeric(path):
    """s2 before s10: runs of digits count as numbers."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if part.isdecimal() else part for part in parts], path.name
