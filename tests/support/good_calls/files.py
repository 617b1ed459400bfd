"""Good calls of `vlmbook.files`, each in a folder of its own."""

import os
import tempfile

from tests.support.good_calls import Call
from vlmbook.files import remove_partials, sole_writer, write_whole


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


def write_alone(path, wait):
    with sole_writer(path, wait=wait):
        pass


GOOD_CALLS = {
    "write_whole": lambda: Call(
        in_a_new_folder(write_whole), {"path": "a.st", "content": b"new", "replace": True, "private": True}
    ),
    "sole_writer": lambda: Call(in_a_new_folder(write_alone), {"path": "a.st", "wait": 0.1}),
    "remove_partials": lambda: Call(in_a_new_folder(remove_partials), {"path": "a.st"}),
}
