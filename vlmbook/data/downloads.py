"""Real data sets by name: read from `data_folder()`, and fetched into it only where `download=True` says so.

Names of files, MD5 sums and addresses are torchvision's. What is found is checked before it is used. What is
fetched goes to a temporary folder beside its final one, is checked there, and is moved whole: however it is
interrupted, the final folder holds all of it or nothing. Nothing that was found is ever overwritten.
"""

import gzip
import hashlib
import io
import os
import tarfile
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pooch
import torch

from vlmbook.data.bundled import digits
from vlmbook.data.splits import SPLITS
from vlmbook.runtime import DataMissing, data_folder, profile
from vlmbook.validation import require_choice

TIMEOUT = 20  # seconds without a byte


def fashion_mnist(split: str, *, download: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """-> (N, 1, 28, 28) float32 in [0, 1], (N,) int64: grey articles of clothing in ten classes [Xiao et al.
    2017].

    `split` is "train" (60,000) or "test" (10,000). Read from `FashionMNIST/raw/*.gz` in `data_folder()` into
    memory; with download=True what is missing there is fetched first, 31 MB in all. Raises ValueError for
    another split, DataMissing where the files are not there and are not to be fetched or cannot be, or are
    not what they should be.
    """
    split = require_choice(split, "split", SPLITS)
    download = require_choice(download, "download", (False, True))
    from torchvision.datasets import FashionMNIST

    folder = data_folder() / "FashionMNIST" / "raw"
    prefix = {"train": "train", "test": "t10k"}[split]
    required = [(name, md5) for name, md5 in FashionMNIST.resources if name.startswith(prefix)]
    names = " and ".join(name for name, _ in required)
    with _explained("Fashion-MNIST", f"fashion_mnist({split!r}, download=True)", names, folder):
        for name, md5 in required:
            if download and not (folder / name).exists():
                with _scratch(folder) as scratch:
                    _fetch([mirror + name for mirror in FashionMNIST.mirrors], scratch / name, md5)
                    os.replace(scratch / name, folder / name)
        images, labels = (
            _parse_idx(gzip.decompress(_read_checked(folder / name, md5))) for name, md5 in required
        )
    return images.unsqueeze(1).float().div_(255), labels.long()


def cifar10(split: str, *, download: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """-> (N, 3, 32, 32) float32 in [0, 1], (N,) int64: colour photographs in ten classes [Krizhevsky 2009].

    `split` is "train" (50,000) or "test" (10,000). Read from `cifar-10-batches-py/` in `data_folder()`, else
    from `cifar-10-python.tar.gz` there, unpacked elsewhere and only while it is read; with download=True it
    is fetched first where neither is there, 170 MB. The errors are those of `fashion_mnist`. The files are
    pickles: none is opened before the MD5 sums of all are found right.
    """
    split = require_choice(split, "split", SPLITS)
    download = require_choice(download, "download", (False, True))
    from torchvision.datasets import CIFAR10

    root = data_folder()
    folder = root / CIFAR10.base_folder
    archive = root / CIFAR10.filename
    required = f"the whole folder {CIFAR10.base_folder}" if folder.exists() else CIFAR10.filename
    with _explained("CIFAR-10", f"cifar10({split!r}, download=True)", required, root):
        if not folder.exists() and (archive.exists() or not download):
            with tempfile.TemporaryDirectory(prefix="vlmbook-") as unpacked:
                _unpack(archive, CIFAR10.tgz_md5, unpacked)
                return _read_cifar(CIFAR10, unpacked, split)
        if not folder.exists():
            with _scratch(root) as scratch:
                _fetch([CIFAR10.url], scratch / archive.name, CIFAR10.tgz_md5)
                _unpack(scratch / archive.name, CIFAR10.tgz_md5, scratch)
                _move(scratch / CIFAR10.base_folder, folder)
        return _read_cifar(CIFAR10, root, split)


def digits_or_fashion(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """-> (N, 1, H, W) float32 in [0, 1], (N,) int64: `digits` in the quick profile, `fashion_mnist` in the
    full one.

    It fetches nothing: where Fashion-MNIST is not there, it prints one sentence on how to get it, and returns
    the digits. Raises ValueError for another split.
    """
    split = require_choice(split, "split", SPLITS)
    if profile() == "full":
        try:
            return fashion_mnist(split)
        except DataMissing as missing:
            print(f"{missing} (until then the digits take its place)")
    return digits(split)


@contextmanager
def _explained(title, call, names, folder):
    """Turns whatever fails inside, on disk or on the way, into one sentence that says what to do."""
    try:
        yield
    except (OSError, EOFError, tarfile.TarError) as error:
        reason = " ".join(str(error).split())
        if isinstance(error, FileNotFoundError):
            reason = f"{Path(error.filename).name} not found"
        raise DataMissing(
            f"{title} is not to be had ({reason or type(error).__name__}): call {call} to fetch it, or put "
            f"{names} into {folder}; VLMBOOK_DATA can name another folder than {data_folder()}"
        ) from error


@contextmanager
def _scratch(folder):
    """-> Path of a temporary folder inside, so on the same disk: one step moves a finished file from it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder, ignore_cleanup_errors=True) as scratch:
        yield Path(scratch)


def _fetch(addresses, path, md5):
    """Writes the file of the first address that has it. Raises OSError where none has."""
    failures = []
    for address in addresses:
        downloader = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
        try:
            pooch.retrieve(address, f"md5:{md5}", fname=path.name, path=path.parent, downloader=downloader)
            return
        except (OSError, ValueError) as error:  # ValueError: another MD5 sum
            failures.append(f"fetching {address} failed: {error}")
    raise OSError(", ".join(failures))


def _read_checked(path, md5):
    """-> bytes of the file. Raises OSError where they are not those that have this MD5 sum."""
    content = path.read_bytes()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise OSError(f"{path.name} is cut short or another file, its MD5 sum is {found}, not {md5}")
    return content


def _move(folder, final):
    try:
        os.replace(folder, final)
    except OSError:
        if not final.exists():  # else another process has been faster
            raise


def _parse_idx(content):
    """bytes -> tensor of uint8: two zero bytes, type 8, number of axes, each axis in 4 bytes, then the
    values.

    The format is LeCun's; `torchvision.datasets.mnist.read_sn3_pascalvincent_tensor` reads it from an
    unpacked file.
    """
    axes = content[3]
    shape = [int.from_bytes(content[4 * i : 4 * i + 4], "big") for i in range(1, axes + 1)]
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 * (axes + 1)).view(shape)


def _unpack(archive, md5, folder):
    """By hand: pooch's Untar would unpack beside the archive, and without a filter."""
    with tarfile.open(fileobj=io.BytesIO(_read_checked(archive, md5))) as tar:
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4 brought it
        tar.extractall(folder, **safe)


def _read_cifar(cifar, root, split):
    parts = [*cifar.train_list, *cifar.test_list, (cifar.meta["filename"], cifar.meta["md5"])]
    for name, md5 in parts:
        _read_checked(Path(root) / cifar.base_folder / name, md5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pickled by a NumPy of 2009,
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)  # of which today's complains
        found = cifar(root, train=split == "train")
    return torch.from_numpy(found.data).permute(0, 3, 1, 2).float().div_(255), torch.tensor(found.targets)
