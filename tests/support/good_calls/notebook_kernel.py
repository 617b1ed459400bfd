"""Good calls of the public callables of `vlmbook.notebook.kernel`."""

import tempfile

from tests.support.good_calls import Call
from tests.support.small_books import make_notebook
from vlmbook.notebook import kernel


def on_cell(index, cell):
    pass


GOOD_CALLS = {
    "execute": lambda: Call(
        kernel.execute,
        {
            "notebook": make_notebook(),
            "folder": tempfile.gettempdir(),
            "profile": "quick",
            "timeout": 30,
            "keep_going": True,
            "on_cell": on_cell,
            "after": None,
        },
        free=("after",),  # what a caller's own coroutine raises
    ),
}
