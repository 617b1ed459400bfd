"""Good calls of `vlmbook.files`, each in a folder of its own."""

import os
import tempfile

from tests.support.good_calls import Call
from vlmbook.files import sole_writer, write_whole


def in_a_new_folder(function):
    def call(**arguments):
        before = os.getcwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                return function(**arguments)
            finally:
                os.chdir(before)

    return call


def write_alone(path):
    with sole_writer(path):
        pass


GOOD_CALLS = {
    "write_whole": lambda: Call(
        in_a_new_folder(write_whole), {"path": "a.st", "content": b"new", "replace": True}
    ),
    "sole_writer": lambda: Call(in_a_new_folder(write_alone), {"path": "a.st"}),
}
