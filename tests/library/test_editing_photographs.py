"""Photographs from file to file: what is kept, what is refused, and that no file is ever lost."""

import os
import re
import signal
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from vlmbook.data import DataMissing, photo
from vlmbook.editing import (
    DenoisingNetwork,
    GatedUNet,
    Photograph,
    SubPixelNetwork,
    denoise_photograph,
    encode_photograph,
    inpaint_photograph,
    read_hole,
    read_photograph,
    save_photograph,
    stylise_photograph,
    upscale_photograph,
)
from vlmbook.efficientnet import efficientnet_lite0

CAT = (255 * photo("cat")[:, 100:160, 100:180]).round().byte()  # (3, 60, 80)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def stored(tmp_path):
    """-> a function that saves a Pillow image under a name, and returns its path."""

    def save(name, picture, **options):
        picture.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def as_pillow(pixels):
    values = pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(values[..., 0] if len(pixels) == 1 else values)


def reopened(path):
    """path -> Pillow image, its file closed."""
    with Image.open(path) as picture:
        picture.load()
    return picture


def enlarged(photograph):
    return upscale_photograph(photograph, 2, network=SubPixelNetwork(2, width=4, depth=1))


# --- what is kept -------------------------------------------------------------------------------------------


def test_colours_and_the_profile_are_kept(stored, tmp_path):
    read = read_photograph(stored("cat.png", as_pillow(CAT), icc_profile=PROFILE))
    assert torch.equal(read.pixels, CAT) and read.alpha is None and read.note == ""
    copy = save_photograph(read, tmp_path / "copy.png")
    assert reopened(copy).info["icc_profile"] == PROFILE
    assert torch.equal(read_photograph(copy).pixels, CAT)


def test_grey_stays_grey(stored, tmp_path):
    read = read_photograph(stored("grey.jpg", as_pillow(CAT[:1])))
    assert read.pixels.shape == (1, 60, 80) and read.pixels.dtype == torch.uint8
    copy = save_photograph(enlarged(read), tmp_path / "copy.png")
    assert reopened(copy).mode == "L" and reopened(copy).size == (160, 120)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bits_of_grey_are_kept(stored, tmp_path, name):
    values = np.arange(60 * 80, dtype=np.uint16).reshape(60, 80) * 13 + 7
    read = read_photograph(stored(name, Image.fromarray(values)))
    assert read.pixels.dtype == torch.float32
    assert read_photograph(stored(f"profiled {name}", Image.fromarray(values), icc_profile=PROFILE)).profile
    copy = save_photograph(read, tmp_path / "copy.png")
    assert np.array_equal(np.asarray(reopened(copy)), values)
    large = save_photograph(enlarged(read), tmp_path / "large.png")
    assert len(np.unique(np.asarray(reopened(large)))) > 4800


def test_sixteen_bits_of_colour_are_said_to_be_lost(tmp_path):
    pixels = CAT[:, :4, :5]
    (tmp_path / "deep.png").write_bytes(png_of_16_bits(pixels))
    deep = (257 * pixels.permute(1, 2, 0).numpy().astype(">u2")).tobytes()
    (tmp_path / "deep.ppm").write_bytes(b"P6 5 4 65535\n" + deep)
    for name in ("deep.png", "deep.ppm"):
        read = read_photograph(tmp_path / name)
        assert read.note == "of more than 8 bits a channel, 8 were read"
        assert torch.equal(read.pixels, pixels)


def png_of_16_bits(pixels, transparent=None):
    """(C, H, W) uint8 -> bytes of a PNG with 16 bits a channel, which Pillow itself does not write."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    channels, height, width = pixels.shape
    kind = {1: 0, 2: 4, 3: 2}[channels]
    deep = (pixels.permute(1, 2, 0).numpy().astype(">u2") * 257).tobytes()
    step = 2 * channels * width
    rows = b"".join(b"\0" + deep[step * y : step * (y + 1)] for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    hidden = b"" if transparent is None else chunk(b"tRNS", struct.pack(f">{channels}H", *transparent))
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + hidden
    return start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_transparent_colour_of_16_bits_is_said_to_be_lost(tmp_path):
    for name, pixels in (("grey.png", CAT[:1, :4, :5]), ("colour.png", CAT[:, :4, :5])):
        (tmp_path / name).write_bytes(png_of_16_bits(pixels, [257 * int(each) for each in pixels[:, 0, 0]]))
        read = read_photograph(tmp_path / name)
        assert "its transparent colour was lost" in read.note and read.alpha is None


def test_sixteen_bits_of_grey_with_alpha_stay_grey(tmp_path):
    (tmp_path / "glass.png").write_bytes(png_of_16_bits(CAT[:2, :4, :5]))
    read = read_photograph(tmp_path / "glass.png")
    assert torch.equal(read.pixels, CAT[:1, :4, :5]) and torch.equal(read.alpha, CAT[1:2, :4, :5])


def test_five_bits_a_channel_are_all_read(tmp_path):
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    head = struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, 16, 3, 16, 0, 0, 0, 0) + masks
    (tmp_path / "565.bmp").write_bytes(
        b"BM" + struct.pack("<IHHI", 30 + len(head), 0, 0, 14 + len(head)) + head + bytes(16)
    )
    assert read_photograph(tmp_path / "565.bmp").note == ""


def test_further_frames_are_said_to_be_lost(stored):
    first, second = as_pillow(CAT), as_pillow(255 - CAT)
    read = read_photograph(stored("two.tif", first, save_all=True, append_images=[second]))
    assert torch.equal(read.pixels, CAT) and read.note == "of several frames, the first was read"


def test_transparency_is_kept_and_enlarged(stored, tmp_path):
    alpha = torch.zeros(1, 60, 80, dtype=torch.uint8)
    alpha[:, 20:40, 20:60] = 255
    read = read_photograph(stored("glass.png", as_pillow(torch.cat([CAT, alpha]))))
    assert torch.equal(read.alpha, alpha) and torch.equal(read.pixels, CAT)
    copy = reopened(save_photograph(enlarged(read), tmp_path / "copy.png"))
    assert copy.mode == "RGBA" and copy.size == (160, 120)
    large = np.asarray(copy.getchannel("A"))
    assert large[60, 80] == 255 and large[5, 5] == 0
    grey = read_photograph(stored("grey.png", as_pillow(torch.cat([CAT[:1], alpha]))))
    assert grey.pixels.shape == (1, 60, 80)
    assert reopened(save_photograph(grey, tmp_path / "grey copy.png")).mode == "LA"


def test_a_palette_with_a_transparent_colour(stored):
    picture = as_pillow(CAT).quantize(16)
    read = read_photograph(stored("few.gif", picture, transparency=3))
    expected = np.asarray(picture) == 3
    assert np.array_equal(read.alpha[0].numpy() == 0, expected) and expected.any()
    assert read.pixels.shape == (3, 60, 80)


def test_the_cameras_note_is_followed(stored):
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright: turn by a quarter
    read = read_photograph(stored("upright.jpg", as_pillow(CAT), exif=exif, quality=100, subsampling=0))
    assert read.pixels.shape == (3, 80, 60)
    turned = CAT.rot90(-1, (1, 2))
    assert (read.pixels.float() - turned.float()).abs().mean() < 2


def test_a_profile_for_other_inks_is_dropped(stored):
    picture = as_pillow(CAT).convert("CMYK")
    read = read_photograph(stored("ink.jpg", picture, icc_profile=PROFILE))
    assert read.profile is None and read.pixels.shape == (3, 60, 80)
    assert read.note == "its CMYK colours were converted without their profile"


# --- edits --------------------------------------------------------------------------------------------------


def test_holes_come_from_a_mask_file_even_a_soft_one(stored):
    mask = torch.zeros(1, 60, 80)
    mask[:, 10:30, 20:50] = 1
    path = stored("mask.jpg", as_pillow((255 * mask).byte()))
    photograph = Photograph(CAT)
    hole = read_hole(path, photograph)
    assert torch.equal(hole, mask.bool())
    network = GatedUNet(width=4, depth=1).eval()
    repaired = inpaint_photograph(photograph, hole, network=network)
    assert torch.equal(repaired.pixels[:, mask[0] == 0], CAT[:, mask[0] == 0])
    assert not torch.equal(repaired.pixels, CAT)
    with pytest.raises(ValueError, match=r"mask.jpg wants the size of the photograph, 40×60, got 80×60"):
        read_hole(path, Photograph(CAT[:, :, :40]))


def test_a_transparent_part_of_a_mask_is_no_hole(stored):
    alpha = torch.zeros(1, 60, 80, dtype=torch.uint8)
    alpha[:, 10:30, 20:50] = 255
    white = torch.full((3, 60, 80), 255, dtype=torch.uint8)
    path = stored("layer.png", as_pillow(torch.cat([white, alpha])))
    assert torch.equal(read_hole(path, Photograph(CAT)), alpha > 0)


def test_a_deep_mask_and_one_of_a_palette_are_read(stored):
    light = torch.arange(60 * 80).view(1, 60, 80) % 2
    deep = stored("deep.png", Image.fromarray((32767 + light[0].numpy()).astype(np.uint16)))
    assert torch.equal(read_hole(deep, Photograph(CAT)), light.bool())
    few = stored("few.gif", as_pillow((100 + 100 * light).byte()).convert("P"))
    assert torch.equal(read_hole(few, Photograph(CAT)), light.bool())


@pytest.fixture
def disk():
    """-> Photograph: a white disk, around which black is hidden."""
    y, x = torch.meshgrid(torch.arange(48) - 23.5, torch.arange(64) - 31.5, indexing="ij")
    inside = (y.square() + x.square() < 400)[None]
    white = torch.where(inside, 255, 0).byte()
    return Photograph(white.repeat(3, 1, 1), white)


def test_hidden_colours_have_no_influence_on_what_is_seen(disk):
    hole = torch.zeros(1, 48, 64)
    hole[:, 10:30, 6:30] = 1
    options = {"size": 64, "steps": 1, "network": efficientnet_lite0(2).eval()}
    edits = (
        enlarged,
        lambda photograph: denoise_photograph(photograph, 0.1, network=DenoisingNetwork(width=4, depth=1)),
        lambda photograph: inpaint_photograph(photograph, hole, network=GatedUNet(width=4, depth=1)),
        lambda photograph: stylise_photograph(
            photograph, photograph, generator=torch.Generator().manual_seed(0), **options
        ),
    )
    other = disk._replace(pixels=torch.where(disk.alpha > 0, disk.pixels, 255 - disk.pixels))
    for edit in edits:
        edited = edit(disk)
        seen = edited.alpha > 0
        assert torch.equal((edited.pixels * seen), (edit(other).pixels * seen))
    assert (enlarged(disk).pixels[:, enlarged(disk).alpha[0] > 0] > 250).all()


def test_holes_are_filled_from_what_is_seen(disk):
    hole = torch.zeros(1, 48, 64)
    hole[:, 10:30, 6:30] = 1
    network = GatedUNet(width=4, depth=1)  # untrained, it adds nothing
    filled = inpaint_photograph(disk, hole, network=network)
    assert (filled.pixels[:, hole[0] > 0] > 250).all()
    assert torch.equal(filled.pixels[:, hole[0] == 0], disk.pixels[:, hole[0] == 0])
    with pytest.raises(ValueError, match="mask wants at least one visible pixel outside the hole, got none"):
        inpaint_photograph(disk, (disk.alpha > 0).float(), network=network)
    nothing = disk._replace(alpha=torch.zeros_like(disk.alpha))
    assert torch.equal(enlarged(nothing).alpha, torch.zeros(1, 96, 128, dtype=torch.uint8))


def test_a_grey_photograph_stays_grey_where_colours_are_kept():
    alpha = torch.full((1, 60, 80), 255, dtype=torch.uint8)
    options = {"size": 48, "steps": 1, "network": efficientnet_lite0(2).eval()}
    grey = Photograph(CAT[:1], alpha)
    kept = stylise_photograph(grey, Photograph(CAT), keep_colours=True, **options)
    assert kept.pixels.shape == (1, 36, 48) and kept.alpha.shape == (1, 36, 48)
    assert stylise_photograph(grey, Photograph(CAT), **options).pixels.shape == (3, 36, 48)
    profiled = grey._replace(profile=b"of grey")
    assert stylise_photograph(profiled, Photograph(CAT), **options).profile is None
    assert stylise_photograph(profiled, Photograph(CAT), keep_colours=True, **options).profile == b"of grey"


# --- files --------------------------------------------------------------------------------------------------


def test_nothing_is_overwritten(tmp_path):
    path = tmp_path / "precious.png"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="not overwritten"):
        save_photograph(Photograph(CAT), path)
    assert path.read_bytes() == b"precious" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match=r"ends with .png"):
        save_photograph(Photograph(CAT), tmp_path / "cat.jpg")


def test_what_is_no_image_is_refused_with_its_name(tmp_path):
    for name, content in (("text.jpg", b"no image"), ("script.png", b"%!PS-Adobe-3.0\n"), ("empty.png", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(name)):
            read_photograph(tmp_path / name)
    with pytest.raises(DataMissing, match=r"nowhere.png"):
        read_photograph(tmp_path / "nowhere.png")
    large = tmp_path / "large.png"
    Image.new("L", (300, 300)).save(large)
    with pytest.raises(ValueError, match="more than max_pixels=1000"):
        read_photograph(large, max_pixels=1000)


def test_photographs_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="alpha wants the shape"):
        encode_photograph(Photograph(CAT, torch.zeros(1, 3, 3, dtype=torch.uint8)))
    with pytest.raises(TypeError, match="alpha wants"):
        encode_photograph(Photograph(CAT, torch.zeros(1, 60, 80)))
    with pytest.raises(TypeError, match="profile wants bytes"):
        encode_photograph(Photograph(CAT, None, "sRGB"))
    with pytest.raises(TypeError, match="a Photograph"):
        encode_photograph(CAT)


def test_damaged_files_end_in_a_sentence(stored, tmp_path):
    """Two hundred hostile files: bytes flipped, cut, or repeated."""
    whole = {
        "png": stored("a.png", as_pillow(CAT)).read_bytes(),
        "jpg": stored("a.jpg", as_pillow(CAT)).read_bytes(),
        "gif": stored("a.gif", as_pillow(CAT).quantize(8)).read_bytes(),
        "webp": stored("a.webp", as_pillow(CAT)).read_bytes(),
        "tif": stored("a.tif", as_pillow(CAT)).read_bytes(),
    }
    random = np.random.default_rng(0)
    outcomes = {"read": 0, "refused": 0}
    for number in range(200):
        kind = list(whole)[number % 5]
        content = bytearray(whole[kind])
        if number % 3 == 0:
            del content[int(random.integers(len(content))) :]
        for position in random.integers(max(1, len(content)), size=1 + number % 7):
            if content:
                content[int(position)] = int(random.integers(256))
        path = tmp_path / f"{number}.{kind}"
        path.write_bytes(content)
        try:
            photograph = read_photograph(path)
            encode_photograph(photograph)
            outcomes["read"] += 1
        except ValueError as error:
            assert path.name in str(error) and "\n" not in str(error) and len(str(error)) < 600
            outcomes["refused"] += 1
        assert path.read_bytes() == bytes(content)
    assert outcomes["refused"] > 40 and outcomes["read"] > 20


# Forks for each line that it reads, since to import PyTorch thirty times would take minutes.
SAVER = """
import os
import sys
from pathlib import Path
from vlmbook.editing.photographs import read_photograph, save_photograph
original = Path(sys.argv[1])
photograph = read_photograph(original)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        for number in range(10_000):
            save_photograph(photograph, original.with_name(f"copy-{number}.png"))
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_thirty_kills_while_saving_lose_nothing(stored, tmp_path):
    original = stored("cat.png", as_pillow(CAT.repeat(1, 4, 4)))
    before, pixels = original.read_bytes(), read_photograph(original).pixels
    random = np.random.default_rng(0)
    copies = 0
    command = [sys.executable, "-c", SAVER, str(original)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as saver:
        for _ in range(30):
            print("go", file=saver.stdin, flush=True)
            child = int(saver.stdout.readline())
            time.sleep(float(random.uniform(0.02, 0.2)))
            os.kill(child, signal.SIGKILL)
            assert saver.stdout.readline() == "ended\n"
            assert original.read_bytes() == before
            for copy in tmp_path.glob("copy-*.png"):
                assert torch.equal(read_photograph(copy).pixels, pixels)
                copy.unlink()
                copies += 1
        saver.stdin.close()
    assert copies > 30
