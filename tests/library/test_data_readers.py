"""Real sets and the reader's own images: found and checked, fetched whole or not at all, every fault named.

The sets here are small ones in the real format, whose MD5 sums stand in for the real sets' own, and a server
on loopback. The real sets are read too where they lie: VLMBOOK_DATA, or shared/data beside the checkout.
"""

import functools
import gzip
import hashlib
import http.server
import io
import os
import pickle
import re
import subprocess
import sys
import tarfile
import threading
import warnings
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import torch
from PIL import Image, ImageOps
from torch.testing import assert_close
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10, FashionMNIST
from torchvision.datasets.mnist import read_image_file

from vlmbook.data import (
    DataMissing,
    cifar10,
    class_folders,
    data_folder,
    digits,
    digits_or_fashion,
    downloads,
    fashion_mnist,
    image_mask_folders,
    read_image,
    stacked,
    voc_boxes,
)

RNG = np.random.default_rng(0)
COUNTS = {"train": 12, "test": 5}
GREY = {split: RNG.integers(0, 256, (n, 28, 28), dtype=np.uint8) for split, n in COUNTS.items()}
COLOUR = {split: RNG.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8) for split, n in COUNTS.items()}
LABELS = {split: np.arange(n, dtype=np.uint8) % 10 for split, n in COUNTS.items()}


def md5(content):
    return hashlib.md5(content).hexdigest()


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VLMBOOK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "data"


@pytest.fixture
def fashion(monkeypatch):
    """-> dict of file name to bytes: a Fashion-MNIST of 17 images that is taken for the real one."""
    files = {}
    for split, name in (("train", "train"), ("test", "t10k")):
        files[f"{name}-images-idx3-ubyte.gz"] = gzip.compress(idx(GREY[split]))
        files[f"{name}-labels-idx1-ubyte.gz"] = gzip.compress(idx(LABELS[split]))
    monkeypatch.setattr(FashionMNIST, "resources", [(name, md5(content)) for name, content in files.items()])
    return files


def old_dtype(*arguments):
    warnings.warn(
        "dtype(): align should be passed as Python or NumPy boolean but got `align=0`",
        np.exceptions.VisibleDeprecationWarning,
        stacklevel=2,
    )
    return np.dtype(*arguments)


class OldDtype:
    """What the real batches hold, and what NumPy 2.4.0 says of it."""

    def __reduce__(self):
        return old_dtype, ("u1", 0, 1)


class OldArray:
    """An array as NumPy 1 and Python 2 pickled it for CIFAR-10."""

    def __init__(self, array):
        self.array = array

    def __reduce__(self):
        rebuild, start, _ = self.array.__reduce__()
        return rebuild, start, (1, self.array.shape, OldDtype(), False, self.array.tobytes())


@pytest.fixture
def cifar(monkeypatch):
    """-> bytes of an archive: a CIFAR-10 of 17 images that is taken for the real one."""

    def batch(images, labels):
        content = pickle.dumps(
            {"data": OldArray(images.reshape(len(images), -1)), "labels": labels.tolist()}, 2
        )
        return content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")

    files = {
        "data_batch_1": batch(COLOUR["train"][:7], LABELS["train"][:7]),
        "data_batch_2": batch(COLOUR["train"][7:], LABELS["train"][7:]),
        "test_batch": batch(COLOUR["test"], LABELS["test"]),
        "batches.meta": pickle.dumps({"label_names": list("abcdefghij")}, 2),
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    sums = [[name, md5(content)] for name, content in files.items()]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:2])
    monkeypatch.setattr(CIFAR10, "test_list", sums[2:3])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": sums[3][0], "key": "label_names", "md5": sums[3][1]})
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(packed.getvalue()))
    return packed.getvalue()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """-> Path: what lies in this folder is what torchvision's addresses answer with."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    served = tmp_path / "served"
    served.mkdir()
    handler = functools.partial(Quiet, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as there:
        thread = threading.Thread(target=there.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{there.server_port}/"
        monkeypatch.setattr(FashionMNIST, "mirrors", [address + "gone/", address])
        monkeypatch.setattr(CIFAR10, "url", address + "cifar-10-python.tar.gz")
        yield served
        there.shutdown()
        thread.join()


def lay(place, files):
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name).write_bytes(content)


def lying(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def check_fashion(split):
    images, labels = fashion_mnist(split)
    assert images.shape == (COUNTS[split], 1, 28, 28) and images.dtype == torch.float32
    assert_close(images[:, 0] * 255, torch.from_numpy(GREY[split]).float(), rtol=0, atol=1e-4)
    assert labels.dtype == torch.int64 and labels.tolist() == LABELS[split].tolist()


def check_cifar(split):
    images, labels = cifar10(split)
    assert images.shape == (COUNTS[split], 3, 32, 32) and images.dtype == torch.float32
    assert_close(images * 255, torch.from_numpy(COLOUR[split]).float(), rtol=0, atol=1e-4)
    assert labels.dtype == torch.int64 and labels.tolist() == LABELS[split].tolist()


def refusal(load, *arguments):
    with pytest.raises(DataMissing) as refused:
        load(*arguments)
    message = str(refused.value)
    assert "\n" not in message and "put " in message and "VLMBOOK_DATA" in message
    return message


# Where the sets lie


def test_the_folder_is_the_variables_or_the_users_cache(folder, monkeypatch):
    assert data_folder() == folder and not folder.exists()
    monkeypatch.setenv("VLMBOOK_DATA", "~/pictures")
    assert data_folder() == Path.home() / "pictures"
    for unset in ("", None):
        monkeypatch.setenv("VLMBOOK_DATA", "") if unset == "" else monkeypatch.delenv("VLMBOOK_DATA")
        assert data_folder() == platformdirs.user_cache_path("vlmbook", appauthor=False) / "data"


def test_importing_brings_in_no_torchvision_and_no_folder(folder):
    code = "import sys, vlmbook.data; assert 'torchvision' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not folder.exists()


# Fashion-MNIST and CIFAR-10: found


@pytest.mark.parametrize("split", COUNTS)
def test_fashion_mnist_is_read_from_archives_and_leaves_them_alone(folder, fashion, split):
    lay(folder / "FashionMNIST" / "raw", fashion)
    before = lying(folder)
    check_fashion(split)
    assert lying(folder) == before


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_profile_says_which_small_images(folder, fashion, split, monkeypatch):
    lay(folder / "FashionMNIST" / "raw", fashion)
    monkeypatch.delenv("VLMBOOK_PROFILE", raising=False)
    assert_close(digits_or_fashion(split), digits(split))
    monkeypatch.setenv("VLMBOOK_PROFILE", "full")
    assert_close(digits_or_fashion(split), fashion_mnist(split))


def test_where_the_full_set_is_missing_the_digits_stand_in_and_it_is_said(folder, monkeypatch, capsys):
    monkeypatch.setenv("VLMBOOK_PROFILE", "full")
    assert_close(digits_or_fashion("test"), digits("test"))
    said = capsys.readouterr().out
    assert "Fashion-MNIST" in said and said.endswith("(the digits stand in)\n")
    with pytest.raises(ValueError, match="train"):
        digits_or_fashion("valid")


def test_fashion_mnist_is_what_torchvision_reads(folder, fashion, tmp_path):
    lay(folder / "FashionMNIST" / "raw", fashion)
    (tmp_path / "idx").write_bytes(gzip.decompress(fashion["train-images-idx3-ubyte.gz"]))
    assert_close((fashion_mnist("train")[0][:, 0] * 255).round().byte(), read_image_file(tmp_path / "idx"))


@pytest.mark.parametrize("split", COUNTS)
def test_cifar10_is_read_from_its_archive_or_its_folder(folder, cifar, split):
    lay(folder, {"cifar-10-python.tar.gz": cifar})
    check_cifar(split)
    assert lying(folder) == ["cifar-10-python.tar.gz"]
    with tarfile.open(folder / "cifar-10-python.tar.gz") as tar:
        tar.extractall(folder, filter="data")
    (folder / "cifar-10-python.tar.gz").unlink()
    check_cifar(split)


@pytest.mark.parametrize("load", [fashion_mnist, cifar10])
@pytest.mark.parametrize("split", ["valid", "Train", None, 0])
def test_splits_are_named(load, split):
    with pytest.raises(ValueError, match=r'the splits "train" and "test", got ') as refused:
        load(split)
    assert repr(split) in str(refused.value)


# Fetched


def test_fashion_mnist_is_fetched_when_asked_for_and_only_what_is_missing(folder, fashion, server):
    lay(server, {name: content for name, content in fashion.items() if name.startswith("t10k")})
    check_fashion("test")  # its first mirror answers "not found"
    assert lying(folder) == [
        f"FashionMNIST/raw/{name}" for name in sorted(fashion) if name.startswith("t10k")
    ]
    for path in server.iterdir():
        path.unlink()
    check_fashion("test")  # from the folder now


def test_cifar10_is_fetched_and_unpacked(folder, cifar, server):
    lay(server, {"cifar-10-python.tar.gz": cifar})
    check_cifar("test")
    assert {Path(name).parent.as_posix() for name in lying(folder)} == {"cifar-10-batches-py"}
    (server / "cifar-10-python.tar.gz").unlink()
    check_cifar("train")


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-7], lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:], lambda b: b""],
    ids=["cut short", "one bit", "empty"],
)
def test_what_is_fetched_damaged_is_not_kept(folder, fashion, cifar, server, damage):
    lay(
        server,
        {name: damage(content) for name, content in {**fashion, "cifar-10-python.tar.gz": cifar}.items()},
    )
    message = refusal(fashion_mnist, "train")
    assert "cut short or another file" in message and str(folder / "FashionMNIST" / "raw") in message
    assert "train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz" in message
    assert "put cifar-10-python.tar.gz into" in refusal(cifar10, "train")
    assert lying(folder) == []
    lay(server, {**fashion, "cifar-10-python.tar.gz": cifar})
    check_fashion("train"), check_cifar("train")  # nothing of it stands in the way


def failing(error):
    class Bar(downloads.tqdm):
        def update(self, n=1):
            raise error

    return Bar


def test_an_interrupted_download_leaves_nothing_to_be_taken_for_whole(
    folder, fashion, cifar, server, monkeypatch
):
    lay(server, {**fashion, "cifar-10-python.tar.gz": cifar})
    with monkeypatch.context() as patch:
        patch.setattr(downloads, "tqdm", failing(KeyboardInterrupt()))
        for load in (fashion_mnist, cifar10):
            with pytest.raises(KeyboardInterrupt):
                load("test")
    assert lying(folder) == []
    lay(folder / ".fetching-killed", {"cifar-10-python.tar.gz": cifar[:100]})  # as after SIGKILL
    lay(folder / "FashionMNIST" / "raw" / ".fetching-killed", {"t10k-images-idx3-ubyte.gz": b"half"})
    check_fashion("test"), check_cifar("test")


def test_a_full_disk_is_named(folder, fashion, cifar, server, monkeypatch):
    lay(server, {**fashion, "cifar-10-python.tar.gz": cifar})
    monkeypatch.setattr(downloads, "tqdm", failing(OSError(28, "No space left on device")))
    for load in (fashion_mnist, cifar10):
        assert "No space left on device" in refusal(load, "test")
    assert lying(folder) == []


def test_a_place_that_cannot_be_written_is_named(folder, server):
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("a file where a folder was wanted")
    for load in (fashion_mnist, cifar10):
        assert str(folder) in refusal(load, "test")


@pytest.mark.parametrize(
    "load, name", [(fashion_mnist, "t10k-images-idx3-ubyte.gz"), (cifar10, "cifar-10-python.tar.gz")]
)
def test_offline_says_what_to_put_where(folder, load, name):
    message = refusal(load, "test")
    assert "vlmbook tests run offline" in message and name in message and str(folder) in message
    assert lying(folder) == []


def test_another_process_may_have_been_faster(folder, cifar, server, monkeypatch):
    lay(server, {"cifar-10-python.tar.gz": cifar})
    move = downloads._move

    def second(unpacked, place):
        move(unpacked, place)
        lay(unpacked, {"late": b""})
        move(unpacked, place)

    monkeypatch.setattr(downloads, "_move", second)
    check_cifar("test")


# Found, but not what it should be


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-7], lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:], lambda b: b""],
    ids=["cut short", "one bit", "empty"],
)
def test_a_damaged_file_is_named_and_left(folder, fashion, cifar, server, damage):
    lay(server, {**fashion, "cifar-10-python.tar.gz": cifar})
    name = "t10k-labels-idx1-ubyte.gz"
    raw = folder / "FashionMNIST" / "raw"
    lay(raw, {**fashion, name: damage(fashion[name])})
    assert f"{name} is cut short or another file" in refusal(fashion_mnist, "test")
    assert (raw / name).read_bytes() == damage(fashion[name])
    check_fashion("train")
    lay(folder, {"cifar-10-python.tar.gz": damage(cifar)})
    assert "cifar-10-python.tar.gz is cut short or another file" in refusal(cifar10, "test")
    assert (folder / "cifar-10-python.tar.gz").read_bytes() == damage(cifar)


def test_no_pickle_is_opened_before_its_sum_is_right(folder, cifar, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    lay(folder, {"cifar-10-python.tar.gz": cifar})
    with tarfile.open(folder / "cifar-10-python.tar.gz") as tar:
        tar.extractall(folder, filter="data")
    for name in ("data_batch_2", "test_batch", "batches.meta"):
        kept = (folder / "cifar-10-batches-py" / name).read_bytes()
        lay(folder / "cifar-10-batches-py", {name: pickle.dumps(Trap())})
        message = refusal(cifar10, "test")
        assert f"{name} is cut short or another file" in message
        assert f"put the whole folder cifar-10-batches-py into {folder};" in message
        lay(folder / "cifar-10-batches-py", {name: kept})
    assert not (tmp_path / "sprung").exists()
    (folder / "cifar-10-batches-py" / "batches.meta").unlink()
    assert "batches.meta" in refusal(cifar10, "train")


# One image

GREYS = np.arange(0, 60, dtype=np.uint8).reshape(6, 10) * 4
RGB = np.stack([GREYS, GREYS[::-1], 255 - GREYS], -1)


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
    with pytest.raises(ValueError, match=r"channels 1, 3 or None .*got 4"):
        read_image(tmp_path / "whole.png", channels=4)


# A folder a class


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def people(tmp_path):
    for person in (1, 2, 10):
        for shot in (1, 2, 11):
            save(
                tmp_path / "people" / f"s{person}" / f"{shot}.pgm",
                np.full((4, 3), person * 20 + shot, np.uint8),
            )
    return tmp_path / "people"


def test_class_folders_are_in_numeric_order(people):
    (people / "README.txt").write_text("not a class")
    save(people / ".ipynb_checkpoints" / "1.png", GREYS)
    save(people / "s1" / "._1.pgm.png", GREYS)
    (people / "s1" / "notes.txt").write_text("not an image")
    data = class_folders(people)
    assert data.classes == ["s1", "s2", "s10"] and len(data) == 9
    assert [path.name for path in data.paths[:3]] == ["1.pgm", "2.pgm", "11.pgm"]
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    image, label = data[8]
    assert label == 2 and type(label) is int
    assert_close(image, torch.full((1, 4, 3), 211 / 255))


def test_a_dataset_survives_pickling_and_is_batched(people):
    data = pickle.loads(pickle.dumps(class_folders(str(people), channels=3)))
    images, labels = next(iter(DataLoader(data, batch_size=9)))
    assert images.shape == (9, 3, 4, 3) and labels.tolist() == data.labels.tolist()
    assert_close(stacked(data), (images, labels), rtol=0, atol=0)


def test_images_of_unequal_form_are_not_stacked(people):
    save(people / "s2" / "2.pgm", GREYS)
    with pytest.raises(
        ValueError, match=r"s2/2\.pgm is 10×6 with 1 channels, .*s1/1\.pgm 3×4 with 1; they cannot"
    ):
        stacked(class_folders(people))


def test_class_folders_name_what_is_missing(tmp_path, people):
    with pytest.raises(DataMissing, match=r"there is no folder .*gone"):
        class_folders(tmp_path / "gone")
    with pytest.raises(DataMissing, match="s1 has no folder in it"):
        class_folders(people / "s1")
    (people / "s3").mkdir()
    with pytest.raises(DataMissing, match="s3 has no image in it"):
        class_folders(people)


# Image and mask


@pytest.fixture
def slices(tmp_path):
    for i in (0, 2, 10):
        save(tmp_path / "image" / f"{i}.png", np.full((5, 7), i, np.uint8))
        save(tmp_path / "label" / f"{i}.tif", np.uint8([[0, 255, 127, 128, i, 0, 0]] * 5))
    return tmp_path / "image", tmp_path / "label"


def test_masks_stand_beside_their_images(slices):
    data = image_mask_folders(*slices)
    assert [path.name for path in data.paths] == ["0.png", "2.png", "10.png"]
    assert [path.name for path in data.mask_paths] == ["0.tif", "2.tif", "10.tif"]
    image, mask = data[1]
    assert_close(image, torch.full((1, 5, 7), 2 / 255))
    assert mask.dtype == torch.float32 and mask.tolist() == [[[0, 1, 0, 1, 0, 0, 0]] * 5]
    images, masks = stacked(pickle.loads(pickle.dumps(data)))
    assert images.shape == masks.shape == (3, 1, 5, 7)


def test_masks_of_zeros_and_ones_count(slices):
    save(slices[1] / "2.tif", np.uint8([[0, 1, 0, 1, 1, 0, 0]] * 5))
    assert image_mask_folders(*slices)[1][1][0, 0].tolist() == [0, 1, 0, 1, 1, 0, 0]
    save(slices[1] / "2.tif", np.zeros((5, 7), np.uint8))
    assert image_mask_folders(*slices)[1][1].sum() == 0


def test_faults_of_masks_are_named(slices):
    images, masks = slices
    save(masks / "2.tif", np.uint8([[0, 1, 2, 3, 4, 5, 6]] * 5))
    with pytest.raises(ValueError, match=r"2\.tif is no mask in black and white"):
        image_mask_folders(images, masks)[1]
    save(masks / "2.tif", np.zeros((7, 5), np.uint8))
    with pytest.raises(ValueError, match=r"2\.tif is 5×7, its image .*2\.png 7×5"):
        image_mask_folders(images, masks)[1]
    save(images / "3.png", GREYS)
    with pytest.raises(DataMissing, match=r"image/3\.png has no mask .*label/3\.\*"):
        image_mask_folders(images, masks)
    (images / "3.png").unlink(), (images / "0.png").unlink()
    with pytest.raises(DataMissing, match=r"label/0\.tif has no image .*image/0\.\*"):
        image_mask_folders(images, masks)
    save(images / "2.jpg", GREYS)
    with pytest.raises(ValueError, match=r"2\.(jpg|png) and .*2\.(png|jpg) differ only in their suffix"):
        image_mask_folders(images, masks)


# Pascal VOC


def annotation(*objects, size=None, more=""):
    told = "".join(
        f"<object><name>{name}</name>{more}<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2 in objects
    )
    size = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation><filename>any</filename>{size}{told}</annotation>"


@pytest.fixture
def cells(tmp_path):
    root = tmp_path / "cells"
    told = {
        "c_1": annotation(("rbc", 1, 1, 12, 8), ("wbc", 3, 2, 3, 2)),
        "c_2": annotation(),
        "c_10": annotation(("platelet", 2.5, 1, 4, 8)),
    }
    for name, xml in told.items():
        save(root / "JPEGImages" / f"{name}.jpg", np.full((8, 12, 3), 128, np.uint8))
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{name}.xml").write_text(xml)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("c_2\nc_1\n\n")
    (root / "ImageSets" / "Main" / "val.txt").write_text("c_10  1\n")
    return root


def test_boxes_are_the_edges_of_pixels_counted_from_one(cells):
    """VOC's first pixel is 1 and its last belongs to the box: the whole image, and a single pixel."""
    data = voc_boxes(cells, "train")
    assert data.classes == ["platelet", "rbc", "wbc"]  # of all splits
    assert [path.stem for path in data.paths] == ["c_2", "c_1"]
    image, told = data[1]
    assert image.shape == (3, 8, 12)
    assert told["boxes"].tolist() == [[0, 0, 12, 8], [2, 1, 3, 2]] and told["boxes"].dtype == torch.float32
    assert told["labels"].tolist() == [1, 2] and told["labels"].dtype == torch.int64
    assert data[0][1]["boxes"].shape == (0, 4) and data[0][1]["labels"].shape == (0,)
    assert voc_boxes(cells, "val")[0][1]["boxes"].tolist() == [[1.5, 0, 4, 8]]
    assert [path.stem for path in voc_boxes(cells).paths] == ["c_1", "c_2", "c_10"]
    told["boxes"].zero_()
    assert pickle.loads(pickle.dumps(data))[1][1]["boxes"].sum() > 0


def test_difficult_objects_are_marked(cells):
    told = annotation(("rbc", 1, 1, 5, 5), ("wbc", 1, 1, 5, 5), more="<difficult> 1 </difficult>")
    (cells / "Annotations" / "c_1.xml").write_text(told.replace("1 </difficult>", "0</difficult>", 1))
    data = voc_boxes(cells)
    assert data[0][1]["difficult"].tolist() == [False, True] and data[0][1]["labels"].tolist() == [1, 2]
    assert data[1][1]["difficult"].shape == (0,) and data[1][1]["difficult"].dtype == torch.bool
    assert data[2][1]["difficult"].tolist() == [False]  # where nothing is said
    data[0][1]["difficult"].fill_(False)
    assert data[0][1]["difficult"].any()
    (cells / "Annotations" / "c_1.xml").write_text(annotation(("rbc", 1, 1, 5, 5), more="<difficult/>"))
    assert voc_boxes(cells)[0][1]["difficult"].tolist() == [False]
    (cells / "Annotations" / "c_1.xml").write_text(told.replace(" 1 ", "perhaps"))
    with pytest.raises(
        ValueError, match=r"c_1\.xml is no VOC annotation: an object is difficult 'perhaps', where 0"
    ):
        voc_boxes(cells)


def photographed(folder, orientation, *, seen, size=None, shape=(8, 12)):
    """A light spot in the dark, its box told as it is `seen`, or as it is stored -> data."""
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[1:3, 2:7] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(folder / "JPEGImages" / "c_1.jpg", exif=exif, quality=100, subsampling=0)
    if seen:
        with Image.open(folder / "JPEGImages" / "c_1.jpg") as file:
            pixels = np.array(ImageOps.exif_transpose(file))
    rows, columns = np.nonzero(pixels[:, :, 0] > 128)
    told = annotation(
        ("rbc", columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1),
        size=pixels.shape[1::-1] if size is None else size,
    )
    (folder / "Annotations" / "c_1.xml").write_text(told)
    return voc_boxes(folder, "train")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("seen", [False, True])
def test_boxes_fit_however_the_camera_was_held(cells, orientation, seen):
    """Some tools follow EXIF and some do not; the size that they write tells which picture they saw."""
    image, told = photographed(cells, orientation, seen=seen)[1]
    assert image.shape == ((3, 12, 8) if seen else (3, 8, 12))
    [[x1, y1, x2, y2]] = told["boxes"].int().tolist()
    spot = torch.zeros(image.shape[1:], dtype=torch.bool)
    spot[y1:y2, x1:x2] = True
    assert (image[0] > 0.5).equal(spot) and spot.sum() == 10


def test_an_image_that_is_not_to_be_turned_needs_no_size(cells):
    for orientation in (0, 1, 9):
        assert photographed(cells, orientation, seen=True, size=(0, 0))[1][0].shape == (3, 8, 12)
        assert photographed(cells, orientation, seen=True)[1][0].shape == (3, 8, 12)


def test_a_tiff_that_pillow_turns_itself_is_turned_once(cells):
    (cells / "JPEGImages" / "c_1.jpg").unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(cells / "JPEGImages" / "c_1.tif", exif=exif)
    (cells / "Annotations" / "c_1.xml").write_text(annotation(size=(6, 10)))
    assert_close(voc_boxes(cells)[0][0], torch.from_numpy(np.rot90(RGB, -1).copy()).permute(2, 0, 1) / 255)
    (cells / "Annotations" / "c_1.xml").write_text(annotation(size=(10, 6)))
    with pytest.raises(ValueError, match=r"c_1\.xml is of an image of 10×6, .*c_1\.tif is 6×10$"):
        voc_boxes(cells)[0]


@pytest.mark.parametrize(
    "orientation, options, fault",
    [
        (
            3,
            {},
            r"c_1\.jpg is to be turned \(EXIF orientation 3\), and .*c_1\.xml does not tell whether its boxes are",
        ),
        (6, {"shape": (9, 9)}, r"\(EXIF orientation 6\), and .*does not tell"),
        (6, {"size": (0, 0)}, r"\(EXIF orientation 6\), and .*does not tell"),
        (6, {"size": (40, 30)}, r"c_1\.xml is of an image of 40×30, .*c_1\.jpg is 12×8 or, turned, 8×12"),
        (1, {"size": (8, 12)}, r"c_1\.xml is of an image of 8×12, .*c_1\.jpg is 12×8$"),
    ],
)
def test_where_boxes_cannot_be_laid_on_their_image_it_is_said(cells, orientation, options, fault):
    data = photographed(cells, orientation, seen=False, **options)
    with pytest.raises(ValueError, match=fault):
        data[1]
    assert data[0][0].shape == (3, 8, 12)


@pytest.mark.parametrize("box", [(0, 1, 5, 5), (1, 0, 5, 5), (1, 1, 13, 5), (1, 1, 5, 9), (1, 1, "inf", 5)])
def test_a_box_outside_its_image_is_named(cells, box):
    (cells / "Annotations" / "c_1.xml").write_text(annotation(("rbc", *box)))
    with pytest.raises(ValueError, match=r"c_1\.xml has a box .* reaches out of its image of 12×8"):
        voc_boxes(cells, "train")[1]


@pytest.mark.parametrize(
    "xml, fault",
    [
        (annotation(("rbc", 5, 1, 4, 5)), "a box without area"),
        (annotation(("rbc", 1, "nan", 4, 5)), "without area"),
        (annotation(("rbc", 1, "x", 4, 5)), "could not convert"),
        (annotation((" ", 1, 1, 4, 5)), "an object has no name"),
        ("<annotation><object><name>a</name></object></annotation>", "an object has no bndbox/xmin"),
        ("<annotation><object>", "no element found"),
        ("", "no element found"),
        ("hello", "syntax error"),
        ("<html/>", "its root is <html>"),
        (
            '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>',
            "document type 'a'",
        ),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "document type 'a'"),
    ],
)
def test_an_annotation_that_is_none_is_named(cells, xml, fault):
    (cells / "Annotations" / "c_1.xml").write_text(xml)
    with pytest.raises(ValueError, match=rf"c_1\.xml (is no VOC annotation|has a box).*{fault}|{fault}"):
        voc_boxes(cells, "train")


def test_voc_names_what_is_missing(cells, tmp_path):
    with pytest.raises(ValueError, match=r"cells has the splits train, val, got 'test'"):
        voc_boxes(cells, "test")
    with pytest.raises(DataMissing, match=r"there is no folder .*gone/Annotations"):
        voc_boxes(tmp_path / "gone")
    with pytest.raises(DataMissing, match=r"there is no folder .*gone/ImageSets/Main"):
        voc_boxes(tmp_path / "gone", "train")
    (cells / "JPEGImages" / "c_1.jpg").unlink()
    with pytest.raises(DataMissing, match=r"there is no image .*JPEGImages/c_1\.\*"):
        voc_boxes(cells, "train")
    (cells / "Annotations" / "c_1.xml").unlink()
    with pytest.raises(DataMissing, match=r"there is no annotation .*c_1\.xml"):
        voc_boxes(cells, "train")


# The real ones, where they lie

REAL = Path(os.environ.get("VLMBOOK_DATA") or Path(__file__).parents[3] / "shared" / "data")


def real(name):
    return pytest.mark.skipif(not (REAL / name).is_dir(), reason=f"no {name} on this machine")


@real("FashionMNIST")
def test_the_real_fashion_mnist(monkeypatch):
    monkeypatch.setenv("VLMBOOK_DATA", str(REAL))
    before = lying(REAL / "FashionMNIST")
    images, labels = fashion_mnist("test")
    assert images.shape == (10_000, 1, 28, 28) and labels.bincount().tolist() == [1000] * 10
    assert images.min() == 0 and images.max() == 1 and lying(REAL / "FashionMNIST") == before


@real("BCCD")
def test_the_real_blood_cells():
    data = voc_boxes(REAL / "BCCD")
    assert len(data) == 364 and sum(len(boxes) for boxes in data.boxes) == 4888
    assert data.classes == ["Platelets", "RBC", "WBC"]
    assert len(voc_boxes(REAL / "BCCD", "trainval")) + len(voc_boxes(REAL / "BCCD", "test")) == 364
    image, told = data[363]
    assert image.shape == (3, 480, 640) and not told["difficult"].any()


@real("membrane")
def test_the_real_membranes():
    images, masks = stacked(image_mask_folders(REAL / "membrane/train/image", REAL / "membrane/train/label"))
    assert images.shape == masks.shape == (30, 1, 512, 512) and masks.unique().tolist() == [0, 1]
    assert images[masks > 0].mean() > images[masks == 0].mean() + 0.1  # membranes are dark, and 0


@real("orl_faces")
def test_the_real_faces():
    images, labels = stacked(class_folders(REAL / "orl_faces"))
    assert images.shape == (400, 1, 112, 92) and labels.bincount().tolist() == [10] * 40
