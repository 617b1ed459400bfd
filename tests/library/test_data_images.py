"""One image file: every mode exactly, every fault named."""

import re
import struct
import subprocess
import threading
import time
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch.testing import assert_close

from tests.support.files import GREYS, RGB, save_image
from vlmbook.data import DataMissing, read_image
from vlmbook.data.images import (
    TooManyPixels,
    compute_frame,
    open_image,
    resize_boxes,
    resize_ids,
    resize_image,
)


@pytest.mark.parametrize(
    "name, picture, expected",
    [
        ("grey.png", Image.fromarray(GREYS), GREYS[None] / 255),
        ("grey.pgm", Image.fromarray(GREYS), GREYS[None] / 255),
        ("grey.tif", Image.fromarray(GREYS), GREYS[None] / 255),
        ("colour.png", Image.fromarray(RGB), RGB.transpose(2, 0, 1) / 255),
        ("colour.ppm", Image.fromarray(RGB), RGB.transpose(2, 0, 1) / 255),
        ("colour.TIFF", Image.fromarray(RGB), RGB.transpose(2, 0, 1) / 255),
        ("glass.png", Image.fromarray(np.dstack([RGB, GREYS])), RGB.transpose(2, 0, 1) / 255),
        ("greyglass.png", Image.fromarray(np.dstack([GREYS, GREYS])), GREYS[None] / 255),
        ("palette.png", Image.fromarray(RGB).quantize(64), RGB.transpose(2, 0, 1) / 255),
        ("bits.png", Image.fromarray(GREYS > 100), (GREYS > 100)[None] * 1.0),
        ("deep.png", Image.fromarray(GREYS.astype(np.uint16) * 257 + 1), (GREYS[None] * 257.0 + 1) / 65535),
        ("deep.tif", Image.fromarray(GREYS.astype(np.uint16) * 257 + 1), (GREYS[None] * 257.0 + 1) / 65535),
        ("palette.gif", Image.fromarray(GREYS), np.stack([GREYS] * 3) / 255),
        ("exact.webp", Image.fromarray(RGB), RGB.transpose(2, 0, 1) / 255),
        ("float.tif", Image.fromarray(GREYS.astype(np.float32) / 255), GREYS[None] / 255),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_mode_is_read_exactly(tmp_path, name, picture, expected):
    picture.save(tmp_path / name, **({"lossless": True} if name.endswith(".webp") else {}))
    image = read_image(tmp_path / name)
    assert image.dtype == torch.float32 and image.is_contiguous()
    assert_close(image, torch.from_numpy(expected).float(), rtol=0, atol=2e-6)
    assert read_image(tmp_path / name, channels=3).shape == (3, 6, 10)
    assert read_image(tmp_path / name, channels=1).shape == (1, 6, 10)


def test_a_palette_with_transparency_and_jpeg_are_read(tmp_path):
    Image.fromarray(RGB).quantize(64).save(tmp_path / "p.png", transparency=bytes(range(64)))
    assert_close(read_image(tmp_path / "p.png"), torch.from_numpy(RGB.transpose(2, 0, 1) / 255).float())
    for mode in ("L", "RGB", "CMYK"):
        Image.fromarray(RGB).convert(mode).save(tmp_path / "x.jpg", quality=100, subsampling=0)
        image = read_image(tmp_path / "x.jpg", channels=3)
        wanted = (
            torch.from_numpy(np.array(Image.fromarray(RGB).convert(mode).convert("RGB"))).permute(2, 0, 1)
            / 255
        )
        assert_close(image, wanted, rtol=0, atol=0.04)


def test_sixteen_bits_of_pgm(tmp_path):
    (tmp_path / "x.pgm").write_bytes(
        b"P5 2 1 65535\n" + (300).to_bytes(2, "big") + (65535).to_bytes(2, "big")
    )
    assert_close(read_image(tmp_path / "x.pgm"), torch.tensor([[[300 / 65535, 1.0]]]))


def test_the_camera_says_how_it_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(GREYS).save(tmp_path / "x.png", exif=exif)
    assert_close(read_image(tmp_path / "x.png"), torch.from_numpy(np.rot90(GREYS, -1).copy())[None] / 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("held, turned", [(6, lambda x: np.rot90(x, -1)), (5, np.transpose)])
def test_an_uncompressed_tiff_may_lie_on_its_side(tmp_path, dtype, held, turned):
    greys = GREYS.astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", greys, extratags=[(274, "H", 1, held, True)])
    expected = torch.from_numpy(turned(greys).astype(np.float32) / np.iinfo(dtype).max)[None]
    assert_close(read_image(tmp_path / "x.tif"), expected)


def test_planes_of_16_bits_are_refused_and_of_8_are_read(tmp_path):
    planes = RGB.transpose(2, 0, 1)
    options = {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "8.tif", planes, **options)
    assert_close(read_image(tmp_path / "8.tif"), torch.from_numpy(planes / 255).float())
    tifffile.imwrite(tmp_path / "16.tif", planes.astype(np.uint16) * 257, **options)
    with pytest.raises(
        ValueError, match=r"16\.tif cannot be read as an image: it keeps its channels of 16 bits"
    ):
        read_image(tmp_path / "16.tif")


def test_what_is_no_image_is_named(tmp_path):
    Image.fromarray(RGB.repeat(20, 0).repeat(20, 1)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    for name, content in {"text.png": b"hello", "empty.jpg": b"", "cut.png": whole[:-200]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            ValueError, match=f"{re.escape(str(tmp_path / name))} cannot be read as an image: "
        ):
            read_image(tmp_path / name)
    Image.fromarray(np.float32([[0, 7.5]])).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=r"x\.tif cannot be .* from 0 to 7\.5, where 0 to 1"):
        read_image(tmp_path / "x.tif")
    tifffile.imwrite(tmp_path / "x.tif", np.uint32([[0, 4 * 10**9]]))  # which Pillow has as a negative one
    with pytest.raises(ValueError, match=r"its whole numbers are not all from 0 to 65535"):
        read_image(tmp_path / "x.tif")
    tifffile.imwrite(tmp_path / "x.tif", np.float16([[0, 0.5]]))
    with pytest.raises(ValueError, match=r"TIFF, WEBP, or of a kind of these that Pillow does not read"):
        read_image(tmp_path / "x.tif")
    with pytest.raises(DataMissing, match=r"there is no image .*gone\.png"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(DataMissing, match=f"{re.escape(str(tmp_path))} is a folder, not an image"):
        read_image(tmp_path)
    with pytest.raises(ValueError, match="channels wants None or 1 or 3, got 4"):
        read_image(tmp_path / "whole.png", channels=4)


@pytest.mark.parametrize("channels", [np.int64(3), True, "3", 2])
def test_channels_are_one_of_three(tmp_path, channels):
    save_image(tmp_path / "x.png", RGB)
    with pytest.raises(ValueError, match="channels wants None or 1 or 3, got"):
        read_image(tmp_path / "x.png", channels=channels)


def test_a_relative_path_starts_from_the_current_folder(tmp_path, monkeypatch):
    save_image(tmp_path / "x.png", GREYS)
    monkeypatch.chdir(tmp_path)
    assert_close(read_image("x.png"), read_image(tmp_path / "x.png"))
    monkeypatch.setenv("VLMBOOK_DATA", str(tmp_path))
    monkeypatch.chdir("/")
    with pytest.raises(DataMissing, match=r"there is no image x\.png in /"):
        read_image("x.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert_close(read_image("~/x.png"), read_image(tmp_path / "x.png"))


# Bytes that are not trusted


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n0 0 8 8 rectfill\nshowpage\n"


@pytest.mark.parametrize("name", ["cat.jpg", "cat.png", "cat.tif", "cat.eps"])
def test_no_program_is_started_for_an_image(tmp_path, name, monkeypatch):
    def started(*arguments, **options):
        raise AssertionError(f"it started {arguments}")

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(subprocess, "check_call", started)
    (tmp_path / name).write_bytes(EPS)
    with pytest.raises(ValueError, match=rf"{name} cannot be read as an image: it is none of BMP, GIF, JPEG"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("form", ["PCX", "TGA", "ICO", "PDF", "SGI", "ICNS", "DDS"])
def test_other_formats_are_refused_whatever_their_name(tmp_path, form):
    Image.fromarray(RGB).resize((64, 64)).save(tmp_path / "x.png", format=form)
    with pytest.raises(ValueError, match="it is none of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP"):
        read_image(tmp_path / "x.png")


def png_of_size(width, height):
    """A PNG that says it has this size, and holds nothing."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(13_000, 13_000), (9_500, 9_500), (2**30, 1), (30_000, 30_000)])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, size):
    (tmp_path / "bomb.png").write_bytes(png_of_size(*size))
    limit, began = Image.MAX_IMAGE_PIXELS, time.perf_counter()
    with pytest.raises(
        ValueError, match=rf"bomb\.png cannot .*{size[0]}×{size[1]} pixels, more than max_pixels=64000000"
    ):
        read_image(tmp_path / "bomb.png")
    assert time.perf_counter() - began < 5 and limit == Image.MAX_IMAGE_PIXELS


def test_the_limit_of_pixels_can_be_raised_and_lowered(tmp_path):
    (tmp_path / "large.png").write_bytes(png_of_size(20_000, 20_000))  # which Pillow by itself refuses
    with pytest.raises(ValueError, match=r"large\.png cannot be read as an image: truncated"):
        with open_image(tmp_path / "large.png", max_pixels=4 * 10**8) as file:
            assert file.size == (20_000, 20_000)
            raise OSError("truncated")
    save_image(tmp_path / "small.png", GREYS)
    assert read_image(tmp_path / "small.png", max_pixels=60).shape == (1, 6, 10)
    with pytest.raises(TooManyPixels, match="10×6 pixels, more than max_pixels=59, which can be raised"):
        read_image(tmp_path / "small.png", max_pixels=59)


def test_pillows_own_limit_stays_whatever_threads_do(tmp_path):
    save_image(tmp_path / "x.png", GREYS)
    limit = Image.MAX_IMAGE_PIXELS
    threads = [
        threading.Thread(target=lambda: [read_image(tmp_path / "x.png") for _ in range(50)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tif", "x.gif", "x.bmp", "x.webp"])
def test_a_damaged_file_is_answered_with_one_sentence(tmp_path, name):
    """Each of its first bytes changed in turn, and cut at each: read, or refused as an image."""
    Image.fromarray(RGB).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    refused = 0
    for i in range(min(len(whole), 120)):
        for content in (whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :], whole[:i]):
            (tmp_path / name).write_bytes(content)
            try:
                read_image(tmp_path / name, max_pixels=10**6)
            except ValueError as error:
                assert str(error).startswith(f"{tmp_path / name} cannot be read as an image: ")
                assert "\n" not in str(error)
                refused += 1
    assert refused > 30


# Another size


def test_an_image_is_stretched_to_a_size(tmp_path):
    save_image(tmp_path / "x.png", np.uint8([[0, 255, 255, 0]] * 2))
    assert read_image(tmp_path / "x.png", size=(4, 8)).shape == (1, 4, 8)
    assert_close(read_image(tmp_path / "x.png", size=(2, 2)), torch.full((1, 2, 2), 0.5), rtol=0, atol=0.15)
    assert read_image(tmp_path / "x.png", size=5).shape == (1, 5, 5)
    for wrong in (0, -1, 2.5, "5", (3,), (3, 0), 10**9):
        with pytest.raises((TypeError, ValueError), match="size wants "):
            read_image(tmp_path / "x.png", size=wrong)


def test_a_letterboxed_image_keeps_its_ratio():
    image = torch.ones(3, 20, 40)
    boxed = resize_image(image, (40, 40), letterbox=True)
    assert boxed.shape == (3, 40, 40)
    assert (boxed[:, 10:30] == 1).all() and (boxed[:, :10] == 0.5).all() and (boxed[:, 30:] == 0.5).all()
    assert compute_frame((40, 20), (30, 60), letterbox=True) == (0, 22, 30, 15)
    assert compute_frame((40, 20), (30, 60)) == (0, 0, 30, 60)


@pytest.mark.parametrize("letterbox", [False, True])
@pytest.mark.parametrize("new", [(30, 60), (41, 17), (8, 8)])
def test_boxes_stay_on_what_they_hold(letterbox, new):
    image = torch.zeros(1, 24, 36)
    image[:, 8:20, 12:30] = 1
    resized = resize_image(image, new, letterbox=letterbox)[0]
    [x1, y1, x2, y2] = resize_boxes(torch.tensor([[12.0, 8, 30, 20]]), (24, 36), new, letterbox=letterbox)[0]
    rows, columns = (resized > 0.75).nonzero(as_tuple=True)
    found = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
    assert_close(found, torch.stack([x1, y1, x2, y2]), rtol=0, atol=1)
    assert resize_boxes(torch.zeros(0, 4), (24, 36), new).shape == (0, 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_resampled_image_keeps_its_dtype(dtype):
    image = torch.rand(3, 9, 13, dtype=torch.float64)
    resized = resize_image(image.to(dtype), (5, 7))
    assert resized.dtype == dtype
    assert_close(resized.double(), resize_image(image, (5, 7)), rtol=0.02, atol=0.01)


def test_ids_are_those_of_the_nearest_pixel():
    ids = torch.arange(12).view(1, 3, 4) * 1000
    assert resize_ids(ids, (3, 4)).equal(ids)
    assert resize_ids(ids, (6, 8)).equal(ids.repeat_interleave(2, 1).repeat_interleave(2, 2))
    fast = torch.nn.functional.interpolate(ids[None].double(), size=(5, 7), mode="nearest-exact")
    assert resize_ids(ids, (5, 7)).equal(fast[0].long())
    boxed = resize_ids(ids, (4, 8), letterbox=True, border=255)
    assert (boxed[:, :, 0] == 255).all() and (boxed != 255).sum() == 4 * 5
