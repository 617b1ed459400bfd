"""Fashion-MNIST and CIFAR-10: found and checked, fetched whole or not at all and only when asked for.

The sets here are small ones in the real format, whose MD5 sums stand in for the real sets' own, and a server
on loopback. The real sets are read too where they lie.
"""

import functools
import gc
import gzip
import hashlib
import http.server
import io
import pickle
import subprocess
import sys
import tarfile
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch
from torch.testing import assert_close
from torchvision.datasets import CIFAR10, FashionMNIST
from torchvision.datasets.mnist import read_image_file

from tests.support.files import REAL, list_files, real, write_files
from vlmbook.data import DataMissing, cifar10, digits, digits_or_fashion, downloads, fashion_mnist

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


def assert_fashion(split, **options):
    images, labels = fashion_mnist(split, **options)
    assert images.shape == (COUNTS[split], 1, 28, 28) and images.dtype == torch.float32
    assert_close(images[:, 0] * 255, torch.from_numpy(GREY[split]).float(), rtol=0, atol=1e-4)
    assert labels.dtype == torch.int64 and labels.tolist() == LABELS[split].tolist()


def assert_cifar(split, **options):
    images, labels = cifar10(split, **options)
    assert images.shape == (COUNTS[split], 3, 32, 32) and images.dtype == torch.float32
    assert_close(images * 255, torch.from_numpy(COLOUR[split]).float(), rtol=0, atol=1e-4)
    assert labels.dtype == torch.int64 and labels.tolist() == LABELS[split].tolist()


def refusal(load, *arguments, **options):
    with pytest.raises(DataMissing) as refused:
        load(*arguments, **options)
    message = str(refused.value)
    assert "\n" not in message and "put " in message and "VLMBOOK_DATA" in message
    assert f"call {load.__name__}({arguments[0]!r}, download=True)" in message
    return message


def test_importing_makes_no_folder(folder):
    subprocess.run([sys.executable, "-c", "import vlmbook.data"], check=True)
    assert not folder.exists()


# Fashion-MNIST and CIFAR-10: found


@pytest.mark.parametrize("split", COUNTS)
def test_fashion_mnist_is_read_from_archives_and_leaves_them_alone(folder, fashion, split):
    write_files(folder / "FashionMNIST" / "raw", fashion)
    before = list_files(folder)
    assert_fashion(split)
    assert list_files(folder) == before


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_profile_says_which_small_images(folder, fashion, split, monkeypatch):
    write_files(folder / "FashionMNIST" / "raw", fashion)
    monkeypatch.delenv("VLMBOOK_PROFILE", raising=False)
    assert_close(digits_or_fashion(split), digits(split))
    monkeypatch.setenv("VLMBOOK_PROFILE", "full")
    assert_close(digits_or_fashion(split), fashion_mnist(split))


def test_where_the_full_set_is_missing_the_digits_take_its_place(folder, monkeypatch, capsys):
    monkeypatch.setenv("VLMBOOK_PROFILE", "full")
    assert_close(digits_or_fashion("test"), digits("test"))
    said = capsys.readouterr().out
    assert "Fashion-MNIST" in said and said.endswith("(until then the digits take its place)\n")
    with pytest.raises(ValueError, match="train"):
        digits_or_fashion("valid")


def test_fashion_mnist_is_what_torchvision_reads(folder, fashion, tmp_path):
    write_files(folder / "FashionMNIST" / "raw", fashion)
    (tmp_path / "idx").write_bytes(gzip.decompress(fashion["train-images-idx3-ubyte.gz"]))
    assert_close((fashion_mnist("train")[0][:, 0] * 255).round().byte(), read_image_file(tmp_path / "idx"))


@pytest.mark.parametrize("split", COUNTS)
def test_cifar10_is_read_from_its_archive_or_its_folder(folder, cifar, split):
    write_files(folder, {"cifar-10-python.tar.gz": cifar})
    assert_cifar(split)
    assert list_files(folder) == ["cifar-10-python.tar.gz"]
    with tarfile.open(folder / "cifar-10-python.tar.gz") as tar:
        tar.extractall(folder, filter="data")
    (folder / "cifar-10-python.tar.gz").unlink()
    assert_cifar(split)


@pytest.mark.parametrize("load", [fashion_mnist, cifar10])
@pytest.mark.parametrize("split", ["valid", "Train", None, 0])
def test_splits_are_named(load, split):
    with pytest.raises(ValueError, match=f"split wants 'train' or 'test', got {split!r}"):
        load(split)


# Fetched


@pytest.mark.parametrize("load", [fashion_mnist, cifar10, digits_or_fashion])
def test_nothing_is_fetched_unless_it_is_asked_for(folder, fashion, cifar, server, load, monkeypatch, capsys):
    write_files(server, {**fashion, "cifar-10-python.tar.gz": cifar})
    monkeypatch.setenv("VLMBOOK_PROFILE", "full")
    monkeypatch.setattr(downloads, "_fetch", None)
    if load is digits_or_fashion:
        assert_close(load("test"), digits("test"))
        assert "call fashion_mnist('test', download=True) to fetch it" in capsys.readouterr().out
    else:
        assert "not found): call" in refusal(load, "test")
    assert not folder.exists()


def test_fashion_mnist_is_fetched_when_asked_for_and_only_what_is_missing(folder, fashion, server):
    write_files(server, {name: content for name, content in fashion.items() if name.startswith("t10k")})
    assert_fashion("test", download=True)  # its first mirror answers "not found"
    assert list_files(folder) == [
        f"FashionMNIST/raw/{name}" for name in sorted(fashion) if name.startswith("t10k")
    ]
    for path in server.iterdir():
        path.unlink()
    assert_fashion("test")


def test_cifar10_is_fetched_and_unpacked(folder, cifar, server):
    write_files(server, {"cifar-10-python.tar.gz": cifar})
    assert_cifar("test", download=True)
    assert {Path(name).parent.as_posix() for name in list_files(folder)} == {"cifar-10-batches-py"}
    (server / "cifar-10-python.tar.gz").unlink()
    assert_cifar("train")


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-7], lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:], lambda b: b""],
    ids=["cut short", "one bit", "empty"],
)
def test_what_is_fetched_damaged_is_not_kept(folder, fashion, cifar, server, damage):
    write_files(
        server,
        {name: damage(content) for name, content in {**fashion, "cifar-10-python.tar.gz": cifar}.items()},
    )
    message = refusal(fashion_mnist, "train", download=True)
    assert "does not match the known hash" in message and str(folder / "FashionMNIST" / "raw") in message
    assert "train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz" in message
    assert "put cifar-10-python.tar.gz into" in refusal(cifar10, "train", download=True)
    assert list_files(folder) == []
    write_files(server, {**fashion, "cifar-10-python.tar.gz": cifar})
    assert_fashion("train", download=True)  # nothing of it stands in the way
    assert_cifar("train", download=True)


@contextmanager
def failing(error):
    """Raises the error as soon as something has arrived, through the progress bar."""

    class Bar(pooch.downloaders.tqdm):
        def update(self, n=1):
            raise error

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # pooch leaves the connection to the collector
        patch.setattr(pooch.downloaders, "tqdm", Bar)
        yield
        gc.collect()


def test_an_interrupted_download_leaves_nothing_to_be_taken_for_whole(folder, fashion, cifar, server):
    write_files(server, {**fashion, "cifar-10-python.tar.gz": cifar})
    for load in (fashion_mnist, cifar10):
        with failing(KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
            load("test", download=True)
    assert list_files(folder) == []
    write_files(folder / ".fetching-killed", {"cifar-10-python.tar.gz": cifar[:100]})  # as after SIGKILL
    killed = {"t10k-images-idx3-ubyte.gz": b"half"}
    write_files(folder / "FashionMNIST" / "raw" / ".fetching-killed", killed)
    assert_fashion("test", download=True)
    assert_cifar("test", download=True)


def test_a_full_disk_is_named(folder, fashion, cifar, server):
    write_files(server, {**fashion, "cifar-10-python.tar.gz": cifar})
    for load in (fashion_mnist, cifar10):
        with failing(OSError(28, "No space left on device")):
            assert "No space left on device" in refusal(load, "test", download=True)
    assert list_files(folder) == []


def test_a_folder_that_cannot_be_written_is_named(folder, server):
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("a file where a folder was wanted")
    for load in (fashion_mnist, cifar10):
        assert str(folder) in refusal(load, "test", download=True)


@pytest.mark.parametrize(
    "load, name", [(fashion_mnist, "t10k-images-idx3-ubyte.gz"), (cifar10, "cifar-10-python.tar.gz")]
)
def test_offline_says_what_to_put_where(folder, load, name):
    message = refusal(load, "test", download=True)
    assert "vlmbook tests run offline" in message and name in message and str(folder) in message
    assert list_files(folder) == []


def test_another_process_may_have_been_faster(folder, cifar, server, monkeypatch):
    write_files(server, {"cifar-10-python.tar.gz": cifar})
    move = downloads._move

    def second(unpacked, place):
        move(unpacked, place)
        write_files(unpacked, {"late": b""})
        move(unpacked, place)

    monkeypatch.setattr(downloads, "_move", second)
    assert_cifar("test", download=True)


# Found, but not what it should be


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-7], lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:], lambda b: b""],
    ids=["cut short", "one bit", "empty"],
)
def test_a_damaged_file_is_named_and_left(folder, fashion, cifar, server, damage):
    write_files(server, {**fashion, "cifar-10-python.tar.gz": cifar})
    name = "t10k-labels-idx1-ubyte.gz"
    raw = folder / "FashionMNIST" / "raw"
    write_files(raw, {**fashion, name: damage(fashion[name])})
    assert f"{name} is cut short or another file" in refusal(fashion_mnist, "test")
    assert (raw / name).read_bytes() == damage(fashion[name])
    assert_fashion("train")
    write_files(folder, {"cifar-10-python.tar.gz": damage(cifar)})
    assert "cifar-10-python.tar.gz is cut short or another file" in refusal(cifar10, "test")
    assert (folder / "cifar-10-python.tar.gz").read_bytes() == damage(cifar)


def test_no_pickle_is_opened_before_its_sum_is_right(folder, cifar, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    write_files(folder, {"cifar-10-python.tar.gz": cifar})
    with tarfile.open(folder / "cifar-10-python.tar.gz") as tar:
        tar.extractall(folder, filter="data")
    for name in ("data_batch_2", "test_batch", "batches.meta"):
        kept = (folder / "cifar-10-batches-py" / name).read_bytes()
        write_files(folder / "cifar-10-batches-py", {name: pickle.dumps(Trap())})
        message = refusal(cifar10, "test")
        assert f"{name} is cut short or another file" in message
        assert f"put the whole folder cifar-10-batches-py into {folder};" in message
        write_files(folder / "cifar-10-batches-py", {name: kept})
    assert not (tmp_path / "sprung").exists()
    (folder / "cifar-10-batches-py" / "batches.meta").unlink()
    assert "batches.meta" in refusal(cifar10, "train")


@real("FashionMNIST")
def test_the_real_fashion_mnist(monkeypatch):
    monkeypatch.setenv("VLMBOOK_DATA", str(REAL))
    before = list_files(REAL / "FashionMNIST")
    images, labels = fashion_mnist("test")
    assert images.shape == (10_000, 1, 28, 28) and labels.bincount().tolist() == [1000] * 10
    assert images.min() == 0 and images.max() == 1 and list_files(REAL / "FashionMNIST") == before
