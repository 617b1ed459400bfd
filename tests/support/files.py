"""Files that the tests of the readers write, and the real sets where they lie on this machine."""

import os
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
