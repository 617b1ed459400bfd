"""Good calls of `vlmbook.validation`. Only the value that is checked comes from a reader; the rest of the
arguments is written by the author of the function that checks, and is free.
"""

import torch

from tests.support.good_calls import Call
from vlmbook.validation import (
    describe,
    require_callable,
    require_choice,
    require_number,
    require_pair,
    require_same_kind,
    require_tensor,
    require_type,
    require_whole,
)


def check_kind(x):
    """`require_same_kind` wants a tensor, as `require_tensor` returns it."""
    return require_same_kind(require_tensor(x, "x", "…", kind="any"), "x", torch.ones(1))


GOOD_CALLS = {
    "require_tensor": lambda: Call(
        lambda x: require_tensor(x, "x", "B C H W", least=0, most=1, finite=True, C=3),
        {"x": torch.ones(2, 3, 6, 7)},
    ),
    "require_whole": lambda: Call(lambda value: require_whole(value, "n", most=5), {"value": 3}),
    "require_number": lambda: Call(lambda value: require_number(value, "n", above=0), {"value": 0.5}),
    "require_same_kind": lambda: Call(check_kind, {"x": torch.ones(2)}),
    "require_pair": lambda: Call(lambda value: require_pair(value, "size"), {"value": (3, 4)}),
    "require_choice": lambda: Call(
        lambda value: require_choice(value, "mode", ("max", 3, None)), {"value": "max"}
    ),
    "require_type": lambda: Call(lambda value: require_type(value, "x", int, "an int"), {"value": 3}),
    "require_callable": lambda: Call(lambda value: require_callable(value, "f"), {"value": len}),
    "describe": lambda: Call(describe, {"value": 3}),
}
