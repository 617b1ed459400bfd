"""A reader's photograph, from a file to an edited copy in a new file.

Colours and grey stay bytes between the two files, so that a large photograph needs little memory. What an
edit does not concern is handed on: transparency, grey as grey, 16 bits of grey, the colour profile. Colours
that transparency hides have no influence on those that are seen.
"""

import io
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps

from vlmbook.data.images import MAX_PIXELS, describe_size, open_image, resize_image, to_tensor
from vlmbook.editing.denoising import DenoisingNetwork, denoise
from vlmbook.editing.inpainting import GatedUNet, fill_image, inpaint
from vlmbook.editing.quality import require_mask
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
COLOUR_SPACES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I")  # whose profile describes grey or RGB
OTHER_SPACES = ("CMYK", "LAB")


class Photograph(NamedTuple):
    """What a file holds. `pixels` (C, H, W), C = 1 or 3, are bytes, or float32 in [0, 1] for grey of 16 bits;
    `alpha` (1, H, W) are bytes, 255 = opaque, None without transparency; `profile` is the ICC colour
    profile; `note` says what of the pixels and colours was lost in reading, "" if nothing was.
    """

    pixels: torch.Tensor
    alpha: torch.Tensor | None = None
    profile: bytes | None = None
    note: str = ""


def read_photograph(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Photograph:
    """file -> Photograph, upright: a camera's note on how it was held (EXIF) is followed.

    It reads the formats of `vlmbook.data.read_image`. Palettes are resolved; of several frames the first
    counts; of colours with 16 bits a channel Pillow keeps 8. What is lost so, `note` says. Dates, places and
    other metadata are not read. Raises DataMissing for a file that is not there, ValueError for one that is
    no image, is damaged, or has more than `max_pixels` pixels.
    """
    path = require_path(path, "path")
    max_pixels = require_whole(max_pixels, "max_pixels", most=2**62)
    with open_image(path, max_pixels) as file:
        profile = file.info.get("icc_profile") if file.mode.split(";")[0] in COLOUR_SPACES else None
        note = "; ".join(_list_losses(file))
        stored = [tile[3] for tile in file.tile]
        grey = file.mode in GREY or stored == ["LA;16B"]  # of which Pillow makes colours
        if _has_deep_transparency(file):
            del file.info["transparency"]  # Pillow would compare it with what it makes of 16 bits
        picture = ImageOps.exif_transpose(file)
        if picture.mode.startswith(DEEP_GREY):
            return Photograph(to_tensor(picture), None, profile, note)
        pixels, alpha = _bytes_and_alpha(picture)
        return Photograph(pixels[:1].clone() if grey else pixels, alpha, profile, note)


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
    """file of a mask, Photograph -> (1, H, W) bool: True, a hole, where the mask is lighter than middle grey
    and not transparent.

    So the soft edges of a painted mask, and one stored as JPEG, are read too. Raises DataMissing or
    ValueError as `read_photograph`, and for a mask of another size than the photograph.
    """
    path = require_path(path, "path")
    _require_photograph(photograph)
    with open_image(path, max_pixels) as file:
        mask = _is_light(ImageOps.exif_transpose(file))
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
    pixels = upscale(_spread_visible(photograph), factor, network=network, progress=progress)
    alpha = photograph.alpha
    if alpha is not None:
        reach = partial(enlarge_bicubic, factor=factor)
        alpha = map_tiles(reach, alpha, tile=ALPHA_TILE, overlap=REACH, factor=factor)
    return photograph._replace(pixels=pixels, alpha=alpha)


def inpaint_photograph(
    photograph: Photograph, mask: torch.Tensor, *, network: GatedUNet | None = None, progress: bool = False
) -> Photograph:
    """Photograph, (1, H, W) of 0 and 1 -> Photograph whose holes are filled: `inpaint`; transparency stays.

    Raises as `inpaint`, and ValueError where nothing outside the holes is visible.
    """
    _require_photograph(photograph)
    hole = require_mask(mask, "mask", photograph.pixels)
    known = _spread_visible(photograph, hole)
    filled = inpaint(known, hole[None], network=network, progress=progress)
    return photograph._replace(pixels=torch.where(hole.to(filled.device), filled, photograph.pixels))


def denoise_photograph(
    photograph: Photograph,
    sigma: float | None = None,
    *,
    network: DenoisingNetwork | None = None,
    progress: bool = False,
) -> Photograph:
    """Photograph -> Photograph without its noise: `denoise`; transparency stays. Raises as `denoise`."""
    _require_photograph(photograph)
    pixels = denoise(_spread_visible(photograph), sigma, network=network, progress=progress)
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
    contents = _spread_visible(photograph), _spread_visible(style)
    pixels = style_transfer(*contents, size=size, keep_colours=keep_colours, **options)
    if keep_colours and len(photograph.pixels) == 1:
        pixels = pixels[:1]
    alpha = photograph.alpha
    if alpha is not None:
        alpha = as_kind(resize_image(as_floating(alpha), tuple(pixels.shape[1:])), torch.uint8)
    same_space = len(pixels) == len(photograph.pixels)  # a profile of grey does not describe colours
    profile = photograph.profile if same_space else None
    return photograph._replace(pixels=pixels, alpha=alpha, profile=profile)


def _spread_visible(photograph, hole=None):
    """Photograph, (H, W) bool -> (C, H, W): its pixels; where they are transparent or in the hole, a smooth
    filling from the visible ones.
    """
    pixels, alpha, *_ = photograph
    if alpha is None:
        return pixels
    unseen = alpha[0].cpu() == 0
    if hole is not None:
        unseen = unseen | hole
        if unseen.all():
            raise ValueError("mask wants at least one visible pixel outside the hole, got none")
    if unseen.all() or not unseen.any():
        return pixels
    return fill_image(pixels, unseen[None])


# --- what Pillow loses --------------------------------------------------------------------------------------


def _list_losses(file):
    """Pillow image, not yet decoded -> list of str: what of its pixels and colours does not reach a
    Photograph.
    """
    losses = []
    if _is_deep(file) and not file.mode.startswith(DEEP_GREY):
        losses.append("of more than 8 bits a channel, 8 were read")
    if _has_deep_transparency(file):
        losses.append("its transparent colour was lost")
    if file.mode in OTHER_SPACES:
        losses.append(f"its {file.mode} colours were converted without their profile")
    if getattr(file, "is_animated", False):
        losses.append("of several frames, the first was read")
    return losses


def _is_deep(file):
    """Has a channel more than 8 bits? ("BGR;16" of a BMP file is 16 bits for three.)"""
    if file.format == "PPM":
        return any(isinstance(each, int) and each > 255 for each in file.tile[0][3])
    return file.format in ("PNG", "TIFF") and any(";16" in str(tile[3]) for tile in file.tile)


def _has_deep_transparency(file):
    """One of the colours of 16 bits counts as transparent, of which Pillow loses track."""
    return file.format == "PNG" and "transparency" in file.info and _is_deep(file)


# --- Pillow's images and tensors ----------------------------------------------------------------------------


def _bytes_and_alpha(picture):
    """Pillow image of 8 bits -> (C, H, W) uint8, (1, H, W) uint8 or None"""
    if not _is_transparent(picture):
        return _as_bytes(picture.convert("L" if picture.mode in GREY else "RGB")), None
    picture = picture.convert("RGBA")
    return _as_bytes(picture.convert("RGB")), _as_bytes(picture.getchannel("A"))


def _is_light(picture):
    """Pillow image -> (1, H, W) bool: lighter than middle grey, and not transparent"""
    if picture.mode.startswith(DEEP_GREY):
        return to_tensor(picture) > 0.5
    if not _is_transparent(picture):
        return _as_bytes(picture.convert("L")) > 127
    picture = picture.convert("RGBA")
    return (_as_bytes(picture.convert("L")) > 127) & (_as_bytes(picture.getchannel("A")) > 127)


def _is_transparent(picture):
    return picture.mode in ALPHA or "transparency" in picture.info


def _as_bytes(picture):
    """Pillow image of mode L or RGB -> (C, H, W) uint8"""
    pixels = torch.from_numpy(np.array(picture))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _as_picture(photograph):
    """Photograph -> Pillow image"""
    pixels = photograph.pixels.detach().cpu()
    alpha = photograph.alpha
    if pixels.is_floating_point() and len(pixels) == 1 and alpha is None:
        deep = (65535 * pixels[0].float().clamp(0, 1)).round().numpy().astype(np.uint16)
        return Image.fromarray(deep)
    if pixels.is_floating_point():
        pixels = pixels.float().clamp(0, 1).mul(255).round().byte()
    if alpha is not None:
        pixels = torch.cat([pixels, alpha.cpu()])
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
