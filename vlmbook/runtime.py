"""Where a chapter runs: device, seeds, profile, and what the run cost.

torch is imported where it is used: the command line reads this module, and answers without waiting for it.
"""

import os
import platform
import random
import sys
from pathlib import Path

import psutil

PROFILES = ("quick", "full")

# Holds `notebooks/` and `results/`: the checkout, or a folder inside the package where a wheel was installed.
PACKAGE = Path(__file__).parent
BOOK = PACKAGE / "book" if (PACKAGE / "book").is_dir() else PACKAGE.parent


def device():
    """-> torch.device: the accelerator that is present (CUDA, XPU, MPS, …), else the CPU."""
    import torch

    if torch.accelerator.is_available():
        return torch.accelerator.current_accelerator()
    return torch.device("cpu")


def device_name():
    """-> str: what a reader calls that device, "NVIDIA H100 80GB HBM3" or "CPU, 2 threads"."""
    import torch

    here = device()
    if here.type == "cuda":
        return torch.cuda.get_device_name(here)
    if here.type == "cpu":
        threads = torch.get_num_threads()
        return f"CPU, {threads} thread{'s' * (threads > 1)}"
    return f"{here.type.upper()} on {platform.processor() or platform.machine()}"


def seed_everything(seed):
    """int -> None: seed Python's, NumPy's and PyTorch's global generators (0 <= seed < 2**32, NumPy's
    range).
    """
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed_everything wants an int, got {type(seed).__name__}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed_everything wants 0 <= seed < 2**32, got {seed}")
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  scikit-learn draws from NumPy's global generator
    torch.manual_seed(seed)


def profile():
    """-> "quick" or "full", from the environment variable VLMBOOK_PROFILE (default "quick")."""
    name = os.environ.get("VLMBOOK_PROFILE", "quick")
    if name not in PROFILES:
        raise ValueError(f"VLMBOOK_PROFILE is {name!r}; it takes {' or '.join(PROFILES)}")
    return name


def pick(*, quick, full):
    """The value for the profile in force: `steps = pick(quick=300, full=20_000)`."""
    return {"quick": quick, "full": full}[profile()]


def peak_memory():
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
