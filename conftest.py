"""What holds for each test and notebook that pytest runs: offline, threads shared, the tree left alone.

It stands at the root, not in tests/, since `pytest notebooks/ch03a_….ipynb` has to find it too.
"""

import atexit
import os
import runpy
import shutil
import signal
import tempfile
import threading
from pathlib import Path

import psutil

OFFLINE = Path(__file__).parent / "tests" / "support" / "offline"


def go_offline():
    """Loopback only: in this process, and through PYTHONPATH in the kernels and processes that it starts."""
    inherited = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    if str(OFFLINE) not in inherited:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(OFFLINE), *inherited])
    runpy.run_path(str(OFFLINE / "sitecustomize.py"))


def share_threads():
    """Workers of pytest-xdist, and the kernels they start, share the cores. Before torch is imported."""
    if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
        process = psutil.Process()
        cores = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count()
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // workers)))


def leave_no_trace():
    """Records go to a folder of this process, whatever profile and output folder the shell has set."""
    folder = tempfile.mkdtemp(prefix="vlmbook-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["VLMBOOK_OUTPUT"] = folder
    os.environ.pop("VLMBOOK_PROFILE", None)


def use_own_kernel():
    """This interpreter's kernel, not one the user installed. It draws inline: no MPLBACKEND may reach it."""
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    os.environ.pop("MPLBACKEND", None)


def hear_interrupts():
    """A shell starts what runs in the background deaf to Ctrl-C, and everything started from there is."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


go_offline()
hear_interrupts()
share_threads()
leave_no_trace()
use_own_kernel()

import hypothesis  # noqa: E402
import matplotlib  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import pytest  # noqa: E402

matplotlib.use("agg")  # in this process only: a test opens no window
hypothesis.settings.register_profile("vlmbook", deadline=None, print_blob=True)
hypothesis.settings.load_profile("vlmbook")


@pytest.fixture(autouse=True)
def _close_figures():
    """A test starts without open figures of pyplot, whichever tests its process has run before."""
    yield
    plt.close("all")


def pytest_collection_modifyitems(items):
    """Markers that follow from where a test stands: `pytest -m "not notebook and not browser"` leaves
    them out.
    """
    browser = Path(__file__).parent / "tests" / "browser"
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.notebook)
        elif item.path.is_relative_to(browser):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.slow)
