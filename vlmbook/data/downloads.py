"""Real data sets by name, looked for in `data_folder()`, fetched when they are asked for and not there.

Names of files, MD5 sums and addresses are torchvision's. What is found is checked before it is used. What is
fetched goes to a scratch folder beside its place, is checked there, and is moved to its place whole: however
it is interrupted, the place holds all of it or nothing. Nothing that was found is ever overwritten.
"""

import gzip
import hashlib
import http.client
import io
import os
import tarfile
import tempfile
import urllib.request
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from vlmbook.data.bundled import digits
from vlmbook.data.folder import DataMissing, data_folder
from vlmbook.runtime import profile

TIMEOUT = 20  # seconds without a byte


def fashion_mnist(split):
    """-> (N, 1, 28, 28) float32 in [0, 1], (N,) int64: grey articles of clothing in ten classes [Xiao et al.
    2017].

    `split` is "train" (60,000) or "test" (10,000). Read from `FashionMNIST/raw/*.gz` in `data_folder()` into
    memory. Raises ValueError for another split, DataMissing where the files are not there and cannot be
    fetched, or are not what they should be.
    """
    _check_split("fashion_mnist", split)
    from torchvision.datasets import FashionMNIST

    raw = data_folder() / "FashionMNIST" / "raw"
    prefix = {"train": "train", "test": "t10k"}[split]
    wanted = [(name, md5) for name, md5 in FashionMNIST.resources if name.startswith(prefix)]
    with _explained("Fashion-MNIST", raw, [name for name, _ in wanted]):
        for name, md5 in wanted:
            if not (raw / name).exists():
                with _scratch(raw) as scratch:
                    _fetch([mirror + name for mirror in FashionMNIST.mirrors], scratch / name, md5)
                    os.replace(scratch / name, raw / name)
        images, labels = (_parse_idx(gzip.decompress(_checked(raw / name, md5))) for name, md5 in wanted)
    return images.unsqueeze(1).float().div_(255), labels.long()


def digits_or_fashion(split):
    """-> (N, 1, H, W) float32 in [0, 1], (N,) int64: `digits` in the quick profile, `fashion_mnist` in the
    full one.

    Where Fashion-MNIST is not to be had, it says so and gives the digits. Raises ValueError for another
    split.
    """
    if profile() == "full":
        try:
            return fashion_mnist(split)
        except DataMissing as missing:
            print(missing, "(the digits stand in)")
    return digits(split)


def cifar10(split):
    """-> (N, 3, 32, 32) float32 in [0, 1], (N,) int64: colour photographs of ten kinds of things [Krizhevsky
    2009].

    `split` is "train" (50,000) or "test" (10,000). Read from `cifar-10-batches-py/` in `data_folder()`, else
    from `cifar-10-python.tar.gz` there, unpacked elsewhere and only while it is read. The errors are those of
    `fashion_mnist`. The files are pickles: none is opened before the MD5 sums of all are found right.
    """
    _check_split("cifar10", split)
    from torchvision.datasets import CIFAR10

    root = data_folder()
    folder, archive = root / CIFAR10.base_folder, root / CIFAR10.filename
    wanted = f"the whole folder {CIFAR10.base_folder}" if folder.exists() else CIFAR10.filename
    with _explained("CIFAR-10", root, [wanted]):
        if not folder.exists() and archive.exists():
            with tempfile.TemporaryDirectory(prefix="vlmbook-") as unpacked:
                _unpack(archive, CIFAR10.tgz_md5, unpacked)
                return _read_cifar(CIFAR10, unpacked, split)
        if not folder.exists():
            with _scratch(root) as scratch:
                _fetch([CIFAR10.url], scratch / archive.name, CIFAR10.tgz_md5)
                _unpack(scratch / archive.name, CIFAR10.tgz_md5, scratch)
                _move(scratch / CIFAR10.base_folder, folder)
        return _read_cifar(CIFAR10, root, split)


def _check_split(name, split):
    if split not in ("train", "test"):
        raise ValueError(f'{name} has the splits "train" and "test", got {split!r}')


@contextmanager
def _explained(title, place, names):
    """Turns whatever fails inside, on disk or on the way, into one sentence that says what to put where."""
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataMissing(
            f"{title} cannot be loaded ({reason}): put {' and '.join(names)} into {place}; "
            f"VLMBOOK_DATA can name another folder than {data_folder()}"
        ) from error


@contextmanager
def _scratch(place):
    """-> Path of a folder inside the files' place, so on the same disk: one step moves a finished file from
    it.
    """
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _fetch(addresses, path, md5):
    """Writes the file of the first address that has it. Raises OSError where none has."""
    failures = []
    for address in addresses:
        try:
            _download(address, path)
            _checked(path, md5)
            return
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"fetching {address} failed: {error}")
    raise OSError(", ".join(failures))


def _download(address, path):
    with urllib.request.urlopen(address, timeout=TIMEOUT) as answer, open(path, "wb") as file:
        with tqdm(total=answer.length, unit="B", unit_scale=True, desc=path.name) as bar:
            while chunk := answer.read(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))


def _checked(path, md5):
    """-> bytes of the file. Raises OSError where they are not those that have this MD5 sum."""
    content = path.read_bytes()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise OSError(f"{path.name} is cut short or another file, its MD5 sum is {found}, not {md5}")
    return content


def _move(folder, place):
    try:
        os.replace(folder, place)
    except OSError:
        if not place.exists():  # else another process has been faster
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
    with tarfile.open(fileobj=io.BytesIO(_checked(archive, md5))) as tar:
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python 3.11.4 brought it
        tar.extractall(folder, **safe)


def _read_cifar(cifar, root, split):
    parts = [*cifar.train_list, *cifar.test_list, (cifar.meta["filename"], cifar.meta["md5"])]
    for name, md5 in parts:
        _checked(Path(root) / cifar.base_folder / name, md5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pickled by a NumPy of 2009,
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)  # of which today's complains
        found = cifar(root, train=split == "train")
    return torch.from_numpy(found.data).permute(0, 3, 1, 2).float().div_(255), torch.tensor(found.targets)
