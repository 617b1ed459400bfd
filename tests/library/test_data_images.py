"""One image file: every mode exactly, every fault named."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from tests.support.files import GREYS, RGB
from vlmbook.data import DataMissing, read_image


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
        ("float.tif", Image.fromarray(GREYS.astype(np.float32) / 255), GREYS[None] / 255),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_mode_is_read_exactly(tmp_path, name, picture, expected):
    picture.save(tmp_path / name)
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
    with pytest.raises(DataMissing, match=r"there is no image .*gone\.png"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="channels wants None or 1 or 3, got 4"):
        read_image(tmp_path / "whole.png", channels=4)
