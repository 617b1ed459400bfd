"""Good calls of the public callables of `vlmbook.notebook.exercises`."""

import torch

from tests.support.good_calls import Call
from vlmbook.notebook import exercises

ONES = torch.ones(2, 3)


def trainable():
    given = torch.ones(2, requires_grad=True)
    return {"answered": given.sum(), "*given": (given,)}


# `free`: what a reader answers may be anything, and ends in a sentence that begins with `Wrong`.
GOOD_CALLS = {
    "check": lambda: Call(exercises.check, {"name": "ch03a.1", "answer": (1, 64, 27, 27)}),
    "hint": lambda: Call(exercises.hint, {"name": "ch03a.1", "stage": 1}),
    "solution": lambda: Call(exercises.solution, {"name": "ch03a.1"}),
    "chapters_with_exercises": lambda: Call(exercises.chapters_with_exercises),
    "of_chapter": lambda: Call(exercises.of_chapter, {"chapter": "ch03a"}),
    "find": lambda: Call(exercises.find, {"name": "ch03a.1"}),
    "is_blank": lambda: Call(exercises.is_blank, {"answer": ...}),
    "as_shape": lambda: Call(
        exercises.as_shape,
        {"answer": (1, 2, 3, 4), "fraction": "it is rounded", "axes": "(B, C, H, W)"},
        free=("answer",),
    ),
    "as_number": lambda: Call(exercises.as_number, {"got": 3, "call": "f(3)"}, free=("got",)),
    "as_tensor": lambda: Call(
        exercises.as_tensor,
        {"got": torch.ones(2, 3), "want": ONES, "case": "a case"},
        free=("got", "want"),  # `want` decides which shape of `got` is wrong
    ),
    "require_values": lambda: Call(
        exercises.require_values,
        {"got": torch.ones(2, 3), "want": ONES, "case": "a case"},
        free=("got", "want"),
    ),
    "require_trainable": lambda: Call(exercises.require_trainable, trainable(), free=("answered", "*given")),
    "require_returned": lambda: Call(exercises.require_returned, {"got": 3}, free=("got",)),
}
