"""A reader's photograph, from a file to an edited copy in a new file.

Colours and grey stay bytes between the two files, so that a large photograph needs little memory. What an
edit does not concern is handed on: transparency, grey as grey, 16 bits of grey, the colour profile.
"""

import io
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps

from vlmbook.data.images import MAX_PIXELS, describe_size, open_image, read_image, resize_image, to_tensor
from vlmbook.editing.denoising import DenoisingNetwork, denoise
from vlmbook.editing.inpainting import GatedUNet, inpaint
from vlmbook.editing.resampling import REACH, enlarge_bicubic
from vlmbook.editing.style import style_transfer
from vlmbook.editing.superresolution import SubPixelNetwork, upscale
from vlmbook.editing.tiling import as_floating, as_kind, map_tiles, require_image
from vlmbook.files import write_whole
from vlmbook.runtime import require_path
from vlmbook.validation import describe, require_tensor, require_type, require_whole

DEEP_GREY = ("I", "F")  # how the modes of more than eight bits begin
ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
GREY = ("1", "L", "LA", "La")
ALPHA_TILE = 1024
COLOUR_SPACES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")  # whose profile describes grey or RGB


class Photograph(NamedTuple):
    """What a file holds. `pixels` (C, H, W), C = 1 or 3, are bytes, or float32 in [0, 1] for grey of 16 bits;
    `alpha` (1, H, W) are bytes, 255 = opaque, None without transparency; `profile` is the ICC colour
    profile; `note` says what was lost in reading, "" if nothing was.
    """

    pixels: torch.Tensor
    alpha: torch.Tensor | None = None
    profile: bytes | None = None
    note: str = ""


def read_photograph(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Photograph:
    """file -> Photograph, upright: a camera's note on how it was held (EXIF) is followed.

    It reads the formats of `vlmbook.data.read_image`. Palettes are resolved; of several frames the first
    counts; of colours with 16 bits a channel Pillow keeps 8, and `note` says so. Raises DataMissing for a
    file that is not there, ValueError for one that is no image, is damaged, or has more than `max_pixels`
    pixels.
    """
    path = require_path(path, "path")
    max_pixels = require_whole(max_pixels, "max_pixels", most=2**62)
    with open_image(path, max_pixels) as file:
        stored = " ".join(str(tile[3]) for tile in file.tile)  # before Pillow decodes it
        profile = file.info.get("icc_profile") if file.mode in COLOUR_SPACES else None
        picture = ImageOps.exif_transpose(file)
        if picture.mode.startswith(DEEP_GREY):
            return Photograph(to_tensor(picture), None, profile)
        note = "of 16 bits a channel, 8 were read" if ";16" in stored else ""
        return Photograph(*_bytes_and_alpha(picture), profile, note)


def encode_photograph(photograph: Photograph) -> bytes:
    """Photograph -> bytes of a PNG file, which loses nothing of what Photograph holds.

    Floating pixels are stored as 16 bits where they are grey, else as 8. Raises TypeError or ValueError for
    what is no Photograph, and for an alpha of another size than the pixels.
    """
    _require_photograph(photograph)
    options = {"icc_profile": photograph.profile} if photograph.profile else {}
    content = io.BytesIO()
    picture = _as_picture(photograph)
    picture.save(content, format="PNG", compress_level=4, **options)
    return content.getvalue()


def save_photograph(photograph: Photograph, path: str | Path) -> Path:
    """Photograph, path -> Path of the new PNG file, which is there whole or not at all.

    Raises FileExistsError for a file that exists, which stays as it is; ValueError for a name that does not
    end with .png; TypeError or ValueError for what is no Photograph, and OSError for a full disk.
    """
    path = require_path(path, "path")
    if path.suffix.lower() != ".png":
        raise ValueError(f"path wants a name that ends with .png, got {describe(path.name)}")
    write_whole(path, encode_photograph(photograph), replace=False)
    return path


def read_hole(path: str | Path, photograph: Photograph, *, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """file of a mask, Photograph -> (1, H, W) bool: True, a hole, where the mask is lighter than middle grey.

    So the soft edges of a painted mask, and one stored as JPEG, are read too. Raises DataMissing or
    ValueError as `read_photograph`, and for a mask of another size than the photograph.
    """
    path = require_path(path, "path")
    _require_photograph(photograph)
    mask = read_image(path, channels=1, max_pixels=max_pixels) > 0.5
    if mask.shape[1:] != photograph.pixels.shape[1:]:
        raise ValueError(
            f"{path} wants the size of the photograph, {describe_size(photograph.pixels)}, got "
            f"{describe_size(mask)}"
        )
    return mask


# --- edits of a whole photograph ----------------------------------------------------------------------------


def upscale_photograph(
    photograph: Photograph, factor: int = 2, *, network: SubPixelNetwork | None = None, progress: bool = False
) -> Photograph:
    """Photograph -> Photograph, 2, 3 or 4 times as large: `upscale`; transparency is interpolated.

    Raises as `upscale`.
    """
    _require_photograph(photograph)
    pixels = upscale(photograph.pixels, factor, network=network, progress=progress)
    alpha = photograph.alpha
    if alpha is not None:
        reach = partial(enlarge_bicubic, factor=factor)
        alpha = map_tiles(reach, alpha, tile=ALPHA_TILE, overlap=REACH, factor=factor)
    return photograph._replace(pixels=pixels, alpha=alpha)


def inpaint_photograph(
    photograph: Photograph, mask: torch.Tensor, *, network: GatedUNet | None = None, progress: bool = False
) -> Photograph:
    """Photograph, (1, H, W) of 0 and 1 -> Photograph whose holes are filled: `inpaint`; transparency stays.

    Raises as `inpaint`.
    """
    _require_photograph(photograph)
    pixels = inpaint(photograph.pixels, mask, network=network, progress=progress)
    return photograph._replace(pixels=pixels)


def denoise_photograph(
    photograph: Photograph,
    sigma: float | None = None,
    *,
    network: DenoisingNetwork | None = None,
    progress: bool = False,
) -> Photograph:
    """Photograph -> Photograph without its noise: `denoise`; transparency stays. Raises as `denoise`."""
    _require_photograph(photograph)
    pixels = denoise(photograph.pixels, sigma, network=network, progress=progress)
    return photograph._replace(pixels=pixels)


def stylise_photograph(
    photograph: Photograph, style: Photograph, *, size: int = 256, keep_colours: bool = False, **options: Any
) -> Photograph:
    """Photograph, Photograph of a painting -> Photograph: `style_transfer`, which takes the further options.

    A grey photograph stays grey with keep_colours=True; transparency is resized with the image. Raises as
    `style_transfer`.
    """
    _require_photograph(photograph)
    _require_photograph(style, "style")
    pixels = style_transfer(photograph.pixels, style.pixels, size=size, keep_colours=keep_colours, **options)
    if keep_colours and len(photograph.pixels) == 1:
        pixels = pixels[:1]
    alpha = photograph.alpha
    if alpha is not None:
        alpha = as_kind(resize_image(as_floating(alpha), tuple(pixels.shape[1:])), torch.uint8)
    same_space = len(pixels) == len(photograph.pixels)  # a profile of grey does not describe colours
    profile = photograph.profile if same_space else None
    return photograph._replace(pixels=pixels, alpha=alpha, profile=profile)


# --- Pillow's images and tensors ----------------------------------------------------------------------------


def _bytes_and_alpha(picture):
    """Pillow image of 8 bits -> (C, H, W) uint8, (1, H, W) uint8 or None"""
    transparent = picture.mode in ALPHA or "transparency" in picture.info
    grey = picture.mode in GREY
    if not transparent:
        return _as_bytes(picture.convert("L" if grey else "RGB")), None
    picture = picture.convert("RGBA")
    colours = _as_bytes(picture.convert("RGB"))
    return colours[:1].clone() if grey else colours, _as_bytes(picture.getchannel("A"))


def _as_bytes(picture):
    """Pillow image of mode L or RGB -> (C, H, W) uint8"""
    pixels = torch.from_numpy(np.array(picture))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _as_picture(photograph):
    """Photograph -> Pillow image"""
    pixels, alpha, *_ = photograph
    if pixels.is_floating_point() and len(pixels) == 1 and alpha is None:
        deep = (65535 * pixels[0].float().clamp(0, 1)).round().numpy().astype(np.uint16)
        return Image.fromarray(deep)
    if pixels.is_floating_point():
        pixels = pixels.float().clamp(0, 1).mul(255).round().byte()
    if alpha is not None:
        pixels = torch.cat([pixels, alpha])
    values = pixels.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(values[..., 0] if len(pixels) == 1 else values)


def _require_photograph(photograph, name="photograph"):
    require_type(photograph, name, Photograph, "a Photograph")
    require_image(photograph.pixels, f"{name}.pixels", channels=(1, 3))
    if photograph.alpha is not None:
        _, height, width = photograph.pixels.shape
        require_tensor(photograph.alpha, f"{name}.alpha", "1 H W", kind="whole", H=height, W=width)
        if photograph.alpha.dtype != torch.uint8 or photograph.alpha.is_meta:
            raise TypeError(f"{name}.alpha wants bytes, got {describe(photograph.alpha)}")
    if photograph.profile is not None:
        require_type(photograph.profile, f"{name}.profile", bytes, "bytes")
