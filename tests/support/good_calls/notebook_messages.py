"""Good calls of the public callables of `vlmbook.notebook.messages`."""

from tests.support.good_calls import Call
from vlmbook.notebook import messages

GOOD_CALLS = {
    "message": lambda: Call(
        messages.message,
        {"template": "{batch} images? There are two.", "batch": 3},
        free=("batch",),  # it is written as it writes itself
    ),
}
