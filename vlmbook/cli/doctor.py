"""`vlmbook doctor`: examine whether this machine can run the book, and say how to mend what fails."""

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vlmbook import runtime
from vlmbook.cli.console import BAD, GOOD, Mistake, one_line

OLDEST_PYTHON = 3, 11
OLDEST_TORCH = 2, 6
LEAST_BYTES = 1e9  # of memory, and of disk


@dataclass(frozen=True)
class Examination:
    name: str
    look: Callable[[], str]  # -> one line on what was found; whatever it raises is a failure
    required: bool  # by the quick profile
    fix: str


def examine(args: argparse.Namespace) -> int:
    """-> exit code: BAD where the quick profile cannot run."""
    can_run = True
    for each in EXAMINATIONS:
        try:
            print(f"ok    {each.name:<12} {each.look()}", flush=True)
        except Exception as error:  # whatever a broken installation raises
            reason = one_line(str(error) or type(error).__name__, 160).rstrip(".")
            print(f"FAIL  {each.name:<12} {reason}. Fix: {each.fix}", flush=True)
            can_run = can_run and not each.required
    if can_run:
        print("The quick profile can run here.")
        return GOOD
    print("The quick profile cannot run here; see FAIL above.")
    return BAD


def find_python() -> str:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise Mistake(f"{version}, and 3.11 or newer is required")
    return f"{version} at {sys.executable}"


def find_torch() -> str:
    import torch

    version = tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2])
    if version < OLDEST_TORCH:
        raise Mistake(f"{torch.__version__}, and 2.6 or newer is required")
    builds = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip}
    build = " ".join(f"{name} {number}" for name, number in builds.items() if number)
    return f"{torch.__version__}, built for {build or 'the CPU'}"


def try_torchvision() -> str:
    import torch
    import torchvision

    torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)  # compiled code
    return f"{torchvision.__version__}, works with this torch"


def try_accelerator() -> str:
    import torch

    here = runtime.device()
    if here.type == "cpu":
        if shutil.which("nvidia-smi"):
            raise Mistake("an NVIDIA driver is here, but torch finds no GPU to use")
        return f"none, and none is required ({runtime.device_name()})"
    (torch.ones(2, device=here) + 1).cpu()
    if here.type != "cuda":
        return runtime.device_name()
    free, total = torch.cuda.mem_get_info(here)
    return f"{runtime.device_name()}, {runtime.gigabytes(free)} of {runtime.gigabytes(total)} free"


def try_kernel() -> str:
    from nbformat.v4 import new_code_cell, new_notebook

    from vlmbook.notebook import kernel

    notebook = new_notebook(cells=[new_code_cell("import vlmbook\nprint(6 * 7)")])
    with tempfile.TemporaryDirectory(prefix="vlmbook-doctor-", ignore_cleanup_errors=True) as folder:
        done = kernel.execute(notebook, folder=folder, timeout=60)
    if done.error:
        raise Mistake(done.error)
    return f"starts and computes, in {done.seconds:.1f} s"


def try_data_folder() -> str:
    folder = runtime.data_folder()
    there = nearest_existing(folder)
    if not there.is_dir():
        raise Mistake(f"{there} is a file, and a folder is required")
    with tempfile.TemporaryFile(dir=there):
        return f"{folder}, {'writable' if there == folder else 'can be made'}"


def measure_disk() -> str:
    free = shutil.disk_usage(nearest_existing(runtime.data_folder())).free
    if free < LEAST_BYTES:
        raise Mistake(f"{runtime.gigabytes(free)} free where the data go, and 1 GB is required")
    return f"{runtime.gigabytes(free)} free where the data go"


def measure_memory() -> str:
    import psutil

    state = psutil.virtual_memory()
    if state.available < LEAST_BYTES:
        raise Mistake(f"{runtime.gigabytes(state.available)} free, and 1 GB is required")
    return f"{runtime.gigabytes(state.available)} of {runtime.gigabytes(state.total)} free"


def nearest_existing(folder: Path) -> Path:
    """Path -> the nearest folder to it, upwards, that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


EXAMINATIONS = (
    Examination("Python", find_python, True, "make the virtual environment with Python 3.11 or newer"),
    Examination("torch", find_torch, True, "pip install 'torch>=2.6' torchvision, both in one command"),
    Examination(
        "torchvision",
        try_torchvision,
        True,
        "it must match torch: pip install --force-reinstall torch torchvision, both in one command",
    ),
    Examination(
        "accelerator",
        try_accelerator,
        False,
        "install a torch built for this GPU and driver (pytorch.org/get-started); without, chapters run on "
        "the CPU",
    ),
    Examination("kernel", try_kernel, True, "pip install --force-reinstall ipykernel, into this Python"),
    Examination(
        "data folder",
        try_data_folder,
        False,
        "set VLMBOOK_DATA to a folder you can write to; the quick profile needs none",
    ),
    Examination(
        "disk",
        measure_disk,
        False,
        "free some, or set VLMBOOK_DATA to a folder on another; the quick profile needs none",
    ),
    Examination("memory", measure_memory, True, "close other programs"),
)
