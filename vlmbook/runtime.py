"""Where a chapter runs: device, seeds, profile, the folder of the data sets, and what the run cost.

torch is imported where it is used: the command line reads this module, and answers without waiting for it.
"""

from __future__ import annotations

import os
import platform
import random
import sys
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import psutil

if TYPE_CHECKING:
    import torch

PROFILES = ("quick", "full")
BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")  # x86-64 and ARM

# Holds `notebooks/` and `results/`: the checkout, or a folder inside the package where a wheel was installed.
PACKAGE = Path(__file__).parent
BOOK = PACKAGE / "book" if (PACKAGE / "book").is_dir() else PACKAGE.parent


# --- device, seeds, profile ---------------------------------------------------------------------------------


def device() -> torch.device:
    """-> torch.device: the accelerator that is present (CUDA, XPU, MPS, …), else the CPU."""
    import torch

    if torch.accelerator.is_available():
        return torch.accelerator.current_accelerator()
    return torch.device("cpu")


def autocast_precision() -> str | None:
    """-> "bf16" where that device has instructions for bfloat16, else None, for the `precision` of `fit`.

    A processor without them emulates bfloat16, ten times slower than float32.
    """
    import torch

    here = device()
    if here.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif here.type == "cpu":
        native = any(_processor_flags().get(flag) for flag in BFLOAT16_FLAGS)
    else:
        native = here.type == "xpu"
    return "bf16" if native else None


def _processor_flags():
    """-> mapping: the processor's instruction sets, {} where this PyTorch cannot tell."""
    import torch

    capabilities = getattr(torch.cpu, "get_capabilities", dict)  # since torch 2.10
    return capabilities()


def device_name() -> str:
    """-> str: what a reader calls that device, "NVIDIA H100 80GB HBM3" or "CPU, 2 threads"."""
    import torch

    here = device()
    if here.type == "cuda":
        return torch.cuda.get_device_name(here)
    if here.type == "cpu":
        threads = torch.get_num_threads()
        return f"CPU, {threads} thread{'s' * (threads > 1)}"
    return f"{here.type.upper()} on {platform.processor() or platform.machine()}"


def seed_everything(seed: int) -> None:
    """int -> None: seed Python's, NumPy's and PyTorch's global generators.

    Raises TypeError or ValueError for what is no whole number from 0 to 2**32 − 1, NumPy's range.
    """
    import numpy as np
    import torch

    from vlmbook.validation import require_whole

    seed = require_whole(seed, "seed", least=0, most=2**32 - 1)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  scikit-learn draws from NumPy's global generator
    torch.manual_seed(seed)


def profile() -> str:
    """-> "quick" or "full", from the environment variable VLMBOOK_PROFILE; "quick" where it is not set or
    empty.

    Raises ValueError for another value.
    """
    name = os.environ.get("VLMBOOK_PROFILE")
    if not name:
        return "quick"
    if name not in PROFILES:
        raise ValueError(f"VLMBOOK_PROFILE wants {' or '.join(map(repr, PROFILES))}, got {name!r}")
    return name


def pick(*, quick: Any, full: Any) -> Any:
    """The value for the profile in force: `steps = pick(quick=300, full=20_000)`."""
    return {"quick": quick, "full": full}[profile()]


# --- files --------------------------------------------------------------------------------------------------


class DataMissing(OSError):
    """A data set is not there, not whole, or cannot be fetched. Its message, one sentence, says what is
    required where.

    A notebook catches it and goes on with the bundled images.
    """


def data_folder() -> Path:
    """-> Path: the folder of the real data sets, $VLMBOOK_DATA, or `vlmbook/data` in the user's cache folder.

    It need not exist yet. An empty variable counts as none, ~ is the user's folder. Raises ValueError for a
    variable that holds no path.
    """
    folder = os.environ.get("VLMBOOK_DATA")
    if folder:
        return require_path(folder, "VLMBOOK_DATA")
    return platformdirs.user_cache_path("vlmbook", appauthor=False) / "data"


def require_path(value: Any, name: str) -> Path:
    """Any -> Path, where ~ is the user's folder; a relative path starts from the current folder, as with
    `open`.

    Raises TypeError for what is neither a str nor a Path, ValueError for an empty one, one with a NUL
    character, and the ~ of a user that is not there.
    """
    if not isinstance(value, (str, Path)):
        raise TypeError(f"{name} wants a path, a str or a Path, got an object of type {type(value).__name__}")
    if not str(value) or "\0" in str(value):
        raise ValueError(f"{name} wants a path, got {str(value)!r}")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError(f"{name} wants a path, got {str(value)!r}, whose user is not there") from None


# --- cost ---------------------------------------------------------------------------------------------------


def peak_memory() -> dict[str, int]:
    """-> dict of bytes: this process's largest resident size (`ram`) and, with CUDA, PyTorch's on the GPU
    (`gpu`).
    """
    import torch

    if sys.platform == "win32":
        ram = psutil.Process().memory_info().peak_wset
    else:
        import resource

        ram = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ram *= 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    if torch.cuda.is_available():
        return {"ram": ram, "gpu": torch.cuda.max_memory_allocated()}
    return {"ram": ram}


def gigabytes(size: int) -> str:
    """Bytes -> str: "1.1 GB", in units of 10**9 bytes. Raises TypeError for what is no number of bytes."""
    if not isinstance(size, Real) or isinstance(size, bool) or not 0 <= size < 2**63:
        raise TypeError(f"size wants a number of bytes, got an object of type {type(size).__name__}")
    return f"{size / 1e9:.1f} GB"
