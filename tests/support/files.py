"""Files that the tests of the readers write, and the real sets where they lie on this machine."""

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REAL = Path(os.environ.get("VLMBOOK_DATA") or Path(__file__).parents[3] / "shared" / "data")
GREYS = np.arange(0, 60, dtype=np.uint8).reshape(6, 10) * 4
RGB = np.stack([GREYS, GREYS[::-1], 255 - GREYS], -1)


def real(name):
    """A mark: the test needs the real set of this name."""
    return pytest.mark.skipif(not (REAL / name).is_dir(), reason=f"no {name} on this machine")


def write_files(folder, files):
    """{name: bytes} -> None"""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def list_files(folder):
    """-> list of str: every file below the folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def save_image(path, array):
    """(H, W) or (H, W, C) uint8 -> None"""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@functools.cache
def small_sets():
    """-> Path of a folder with one small set of each layout, which goes when the process ends."""
    root = Path(tempfile.mkdtemp(prefix="vlmbook-tests-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for i in (1, 2):
        save_image(root / "classes" / f"class{i}" / "1.png", RGB)
        save_image(root / "images" / f"{i}.png", RGB)
        save_image(root / "masks" / f"{i}.png", np.uint8([[0, 1] * 5] * 6))
        save_image(root / "voc" / "JPEGImages" / f"{i}.jpg", RGB)
        box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>6</ymax></bndbox>"
        xml = f"<annotation><object><name>cell</name>{box}</object></annotation>"
        write_files(root / "voc" / "Annotations", {f"{i}.xml": xml.encode()})
    write_files(root / "voc" / "ImageSets" / "Main", {"train.txt": b"1\n2\n"})
    return root
