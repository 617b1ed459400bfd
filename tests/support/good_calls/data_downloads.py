"""Good calls of vlmbook.data.downloads, of sets that are not there: the error is the answer."""

from contextlib import suppress

from tests.support.good_calls import Call
from vlmbook.data import DataMissing, downloads


def tried(load):
    """The function, whose good call may end in DataMissing; that of a hostile one too."""

    def call(**arguments):
        with suppress(DataMissing):
            load(**arguments)

    return call


GOOD_CALLS = {
    "fashion_mnist": lambda: Call(tried(downloads.fashion_mnist), {"split": "test", "download": False}),
    "cifar10": lambda: Call(tried(downloads.cifar10), {"split": "test", "download": False}),
    "digits_or_fashion": lambda: Call(downloads.digits_or_fashion, {"split": "test"}),
}
