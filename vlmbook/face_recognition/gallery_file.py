"""A gallery as bytes: names and embeddings, in safetensors' format, from which nothing is executed."""

import hashlib
import json
import os
import stat
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy

from vlmbook.runtime import require_path
from vlmbook.validation import describe, require_type

FORMAT = "vlmbook face gallery 1"
LONGEST_NAME = 200  # characters
LARGEST = 2**31  # bytes of a file

People = dict[str, np.ndarray]  # name -> (n, D) float32


class Version(NamedTuple):
    """Which file it was that was read: a file that is replaced is another one."""

    inode: int
    time: int  # of the last change, nanoseconds
    size: int


def pack(people: Mapping[str, np.ndarray], network: str) -> bytes:
    """dict of (n, D) float32, digest of the network -> bytes. Raises TypeError or ValueError."""
    require_type(network, "network", str, "the digest of a network")
    names, embeddings, counts = _as_arrays(people)
    about = {"format": FORMAT, "network": network, "names": names}
    about["sha256"] = _digest(about, embeddings, counts)
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    return safetensors.numpy.save({"about": text, "embeddings": embeddings, "counts": counts})


def unpack(content: bytes, network: str, source: str) -> People:
    """bytes, digest of the network, where they come from -> dict of (n, D) float32.

    Raises ValueError for what is damaged, no gallery, or a gallery of another network.
    """
    require_type(content, "content", bytes, "bytes")
    require_type(network, "network", str, "the digest of a network")
    require_type(source, "source", str, "a name for the sentence")
    try:
        about, people = _parse(content)
    except Exception:  # whatever a damaged file raises
        raise ValueError(f"{source} is no gallery of faces, or it is damaged") from None
    if about["network"] != network:
        raise ValueError(
            f"{source} holds embeddings of another network; enroll its people again, in a new gallery"
        )
    return people


def read(path: str | Path, network: str) -> tuple[People, Version | None]:
    """path, digest of the network -> people, Version; of no file no people and None.

    Raises OSError for what cannot be read, and ValueError as `unpack`.
    """
    path = require_path(path, "path")
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"path wants a file, got the device {str(path)!r}")
            if status.st_size > LARGEST:
                raise ValueError(f"{path} is no gallery of faces: it has more than {LARGEST:,} bytes")
            content = file.read()
    except FileNotFoundError:
        return {}, None
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror}") from None
    return unpack(content, network, str(path)), _version(status)


def find_version(path: str | Path) -> Version | None:
    """path -> Version of the file that is there now, None where none is. Raises OSError."""
    path = require_path(path, "path")
    try:
        return _version(os.stat(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OSError(f"{path} cannot be read: {error.strerror}") from None


def as_name(name: str) -> str:
    """str -> str: the name of a person in one spelling: without blanks around it, in Unicode's form NFC.

    Raises TypeError or ValueError for an empty name, one of more than 200 characters, and one with characters
    that cannot be printed.
    """
    require_type(name, "name", str, "the name of a person")
    found = unicodedata.normalize("NFC", name[: 4 * LONGEST_NAME].strip())
    if not found or not found.isprintable() or len(found) > LONGEST_NAME:
        raise ValueError(
            f"name wants 1 to {LONGEST_NAME} characters that can be printed, got {describe(name)}"
        )
    return found


def _as_arrays(people):
    """dict -> names, (M, D) float32, (P,) int64."""
    require_type(people, "people", Mapping, "a dict of embeddings")
    width = None
    for name, rows in people.items():
        if as_name(name) != name:
            raise ValueError(f"people wants names without blanks around them, got {describe(name)}")
        if not isinstance(rows, np.ndarray) or rows.dtype != np.float32 or rows.ndim != 2 or not rows.size:
            raise TypeError(f"people wants embeddings (n, D) in float32, got {describe(rows)}")
        width = rows.shape[1] if width is None else width
        if rows.shape[1] != width or not np.isfinite(rows).all():
            raise ValueError(f"people wants finite embeddings of one width, got {describe(rows)}")
    counts = np.array([len(rows) for rows in people.values()], np.int64)
    embeddings = np.concatenate(list(people.values())) if people else np.zeros((0, 0), np.float32)
    return list(people), embeddings, counts


def _parse(content):
    """bytes -> dict, people; raises whatever comes."""
    stored = safetensors.numpy.load(content)
    embeddings, counts = stored.pop("embeddings"), stored.pop("counts")
    about = json.loads(stored.pop("about").tobytes())
    if stored or about.pop("sha256") != _digest(about, embeddings, counts) or about["format"] != FORMAT:
        raise ValueError
    ends = np.cumsum(counts)
    parts = np.split(embeddings, ends[:-1]) if len(counts) else []
    people = dict(zip(about["names"], parts, strict=True))
    if _as_arrays(people)[2].tolist() != counts.tolist():  # a forged file may be as consistent as it likes
        raise ValueError
    return about, people


def _digest(about, embeddings, counts):
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for array in (embeddings, counts):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _version(status):
    return Version(status.st_ino, status.st_mtime_ns, status.st_size)
