"""Where real data sets lie on this machine, and the one error for what does not lie there."""

import os
from pathlib import Path

import platformdirs


class DataMissing(OSError):
    """A data set is not there, not whole, or cannot be fetched. Its message, one sentence, names what is
    wanted where.

    A notebook catches it and goes on with the embedded images.
    """


def data_folder():
    """-> Path: the folder of the real sets, $VLMBOOK_DATA, or `vlmbook/data` in the user's cache folder.

    It need not exist yet. `fashion_mnist` and `cifar10` lay there what they fetch.
    """
    if folder := os.environ.get("VLMBOOK_DATA"):
        return Path(folder).expanduser()
    return platformdirs.user_cache_path("vlmbook", appauthor=False) / "data"
