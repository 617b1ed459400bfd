"""`check`, `hint` and `solution` for the exercises of the chapters, and what their judges are made of.

The exercises of chapter 3a stand in `vlmbook.chapters.ch03a.exercises`, by number, as `EXERCISES`.
"""

import dis
import inspect
import math
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pkgutil import iter_modules
from textwrap import dedent
from types import FunctionType
from typing import Any

import torch

from vlmbook.notebook.messages import MIME, message
from vlmbook.validation import (
    describe,
    require_choice,
    require_number,
    require_tensor,
    require_type,
    require_whole,
)


class _Silent:
    """At the end of a cell nothing is shown: `check` has printed its sentence already."""

    def _ipython_display_(self):
        pass


class Outcome(_Silent, Enum):
    """What `check` returns."""

    PASSED = "passed"
    FAILED = "failed"
    UNANSWERED = "unanswered"


class Wrong(Exception):
    """What a judge raises: one sentence that says what is wrong with the answer and helps to mend it.

    The sentence is a template with named fields, never an f-string: Wrong("{batch} images? There are two.",
    batch=3).
    """

    def __init__(self, template: str, **fields):
        super().__init__(template)
        self.template, self.fields = template, fields

    def __str__(self):
        return message(self.template, **self.fields)


@dataclass(frozen=True)
class Exercise:
    judge: Callable[[Any], None]  # answer -> None; raises Wrong
    hints: tuple[str, ...]  # from a nudge to nearly the answer
    solution: Any  # the answer itself, a value or a function
    why: str  # two or three sentences that explain it


# --- what a reader calls ------------------------------------------------------------------------------------


def check(name: str, answer: Any) -> Outcome:
    """str, answer -> Outcome: judge the answer to exercise `name` and print what is wrong with it.

    It never raises, whatever the answer is and does: an error, an exit or an interrupt in it is a failed
    answer.
    """
    try:
        outcome, sentence = _judge(name, answer)
    except BaseException as error:  # even a sentence can fail: of an object whose repr raises
        outcome, sentence = Outcome.FAILED, message("your answer stopped with {error}", error=_name(error))
    with suppress(Exception):  # an answer may have closed what is printed to
        _show(name if type(name) is str else describe(name), outcome, sentence)
    return outcome


def _judge(name, answer):
    """-> Outcome, sentence."""
    try:
        exercise = find(name)
    except ValueError as unknown:
        return Outcome.FAILED, str(unknown)
    if is_blank(answer):
        return Outcome.UNANSWERED, message('not answered yet; hint("{name}") gives a first step', name=name)
    try:
        exercise.judge(answer)
    except Wrong as wrong:
        return Outcome.FAILED, message("not yet. {reason}", reason=str(wrong))
    except BaseException as error:  # sys.exit() and KeyboardInterrupt too: the cell ends with a sentence
        return Outcome.FAILED, message(
            "your answer stopped with {error}: {reason}", error=_name(error), reason=str(error)
        )
    return Outcome.PASSED, message("correct")


_hints_given = Counter()  # of each exercise, in this kernel


def hint(name: str, stage: int | None = None) -> None:
    """str -> None: print the next hint of the exercise; each says more than the one before.

    `stage` asks for one of them by its number, from 1 on. Raises ValueError for an exercise or a stage that
    is not there.
    """
    hints = find(name).hints
    if stage is None:
        stage = _hints_given[name] + 1
    else:
        stage = require_whole(stage, "stage", most=len(hints))
    _hints_given[name] = max(_hints_given[name], stage)
    if stage > len(hints):
        print(message('{name}: no more hints; solution("{name}") shows one way', name=name))
        return
    print(
        message(
            "{name}, hint {stage} of {count}: {hint}",
            name=name,
            stage=stage,
            count=len(hints),
            hint=message(hints[stage - 1]),
        )
    )


def solution(name: str) -> Any:
    """str -> the answer: print it with the reason, and return it, so that `check(name, solution(name))`
    passes.

    Raises ValueError for an exercise that is not there.
    """
    exercise = find(name)
    answer = exercise.solution
    source = dedent(inspect.getsource(answer)) if callable(answer) else answer
    print(f"{name}: {message(exercise.why)}\n\n{source}")
    return answer


# --- which exercises there are ------------------------------------------------------------------------------


def chapters_with_exercises() -> list[str]:
    """-> list of str: "ch03a", …, in the order of the book."""
    folder = import_module("vlmbook.chapters").__path__
    return [
        module.name
        for module in iter_modules(folder)
        if module.ispkg and find_spec(f"vlmbook.chapters.{module.name}.exercises")
    ]


def of_chapter(chapter: str) -> dict[str, Exercise]:
    """str -> dict: the exercises of a chapter by name, "ch03a.1". Raises ValueError for a chapter without."""
    require_choice(chapter, "chapter", chapters_with_exercises())
    exercises = import_module(f"vlmbook.chapters.{chapter}.exercises").EXERCISES
    return {f"{chapter}.{number}": exercise for number, exercise in exercises.items()}


def find(name: str) -> Exercise:
    """str -> Exercise. Raises ValueError, which names those that exist, for any other."""
    chapters = chapters_with_exercises()
    chapter = name.partition(".")[0] if type(name) is str else ""
    if chapter not in chapters:
        raise ValueError(
            message(
                "there is no exercise {name}; the chapters with exercises are {chapters}",
                name=describe(name),
                chapters=", ".join(chapters),
            )
        )
    exercises = of_chapter(chapter)
    if name not in exercises:
        raise ValueError(
            message(
                "there is no exercise {name}; {chapter} has {exercises}",
                name=describe(name),
                chapter=chapter,
                exercises=", ".join(exercises),
            )
        )
    return exercises[name]


PROLOGUE = ("RESUME", "NOP", "COPY_FREE_VARS")  # instructions with which a function begins


def is_blank(answer: Any) -> bool:
    """Is this `...`, None, or a function with nothing in it but a docstring, `...` or `pass`?"""
    if answer is None or answer is ...:
        return True
    if type(answer) is not FunctionType:  # whatever its `__class__` pretends
        return False
    try:
        instructions = [each for each in dis.get_instructions(answer) if each.opname not in PROLOGUE]
    except Exception:  # code that is none
        return False
    constants = [each for each in instructions if each.opname in ("LOAD_CONST", "RETURN_CONST")]
    returns_only = all(each.opname.startswith(("LOAD_CONST", "RETURN")) for each in instructions)
    return returns_only and all(each.argval is None or each.argval is ... for each in constants)


# --- what judges ask of an answer first ---------------------------------------------------------------------


def as_shape(answer: Any, fraction: str, axes: str = "(B, C, H, W)") -> tuple[int, int, int, int]:
    """Any -> four ints. Raises Wrong for anything else; `fraction` says what becomes of a size that is not
    whole.
    """
    require_type(fraction, "fraction", str, "a sentence")
    require_type(axes, "axes", str, "the names of the axes")
    try:
        got = None if isinstance(answer, (str, bytes)) else tuple(islice(answer, 100))
        whole = all(n == int(n) for n in got)
    except (TypeError, ValueError, OverflowError):
        raise Wrong(
            "A shape is four whole numbers {axes}, this is a {kind}.", axes=axes, kind=_name(answer)
        ) from None
    if not whole:
        raise Wrong("A size is a whole number: {fraction}.", fraction=message(fraction))
    if len(got) != 4:
        raise Wrong("A shape has four numbers {axes}; this has {count}.", axes=axes, count=len(got))
    return tuple(int(n) for n in got)


def as_number(got: Any, call: str) -> float:
    """What `call`, such as "f(3)", returned -> float. Raises Wrong where it is no finite number."""
    require_type(call, "call", str, "a call as text")
    require_returned(got)
    try:
        return require_number(got, call)
    except TypeError:
        raise Wrong("{call} is a {kind}; one number is wanted.", call=call, kind=_name(got)) from None
    except ValueError:
        odd = "NaN" if math.isnan(float(got)) else "infinite"
        raise Wrong("{call} is {odd}; one finite number is wanted.", call=call, odd=odd) from None


def as_tensor(got: Any, want: torch.Tensor, case: str) -> torch.Tensor:
    """What an answer returned for `case` -> plain tensor of want's dtype and device. Raises Wrong for another
    shape.

    Plain: a subclass that calls everything equal comes back as the numbers that it holds.
    """
    require_tensor(want, "want", "…", kind="any")
    require_type(case, "case", str, "the name of a case")
    require_returned(got)
    if not issubclass(type(got), torch.Tensor):  # whatever its `__class__` pretends
        raise Wrong("A tensor is wanted, this is a {kind}.", kind=_name(got))
    with torch._C.DisableTorchFunctionSubclass():
        plain = torch.Tensor.as_subclass(got, torch.Tensor).detach()
    if plain.is_complex() and not want.is_complex():
        raise Wrong("A tensor of real numbers is wanted; this one is complex.")
    if plain.shape != want.shape:
        raise Wrong(
            "For {case} the result has the shape {got}, not {want}.",
            case=message(case),
            got=tuple(plain.shape),
            want=tuple(want.shape),
        )
    return plain.to(want)


def require_values(got: torch.Tensor, want: torch.Tensor, case: str) -> None:
    """Raises Wrong where two tensors of one shape differ; NaN differs from everything."""
    require_tensor(want, "want", "…", kind="any")
    got = as_tensor(got, want, case)
    if got.isnan().any() and not want.isnan().any():
        raise Wrong("For {case} the result holds NaN.", case=message(case))
    if not got.allclose(want, atol=1e-4):
        raise Wrong(
            "For {case} the shape is right, but values are off by up to {most:.3g}.",
            case=message(case),
            most=(got - want).abs().max().item(),
        )


def require_trainable(answered: Any, *given: torch.Tensor) -> None:
    """Raises Wrong where no gradient of an answered loss reaches the tensors it was given, leaves that ask
    for one.
    """
    for tensor in given:
        require_type(tensor, "given", torch.Tensor, "tensors that ask for a gradient")
    if isinstance(answered, torch.Tensor) and answered.requires_grad:
        answered.backward()
    if any(tensor.grad is None for tensor in given):
        raise Wrong(
            "The number is right, but no gradient comes back through it: nothing can be learned from a loss "
            "that was detached or made of plain numbers."
        )


def require_returned(got: Any) -> None:
    """Raises Wrong where a function gave None."""
    if got is None:
        raise Wrong("Your function returns None: is there a `return`?")


def _name(got):
    """-> str: the name of an object's class, which no metaclass can forge or break."""
    return type.__dict__["__name__"].__get__(type(got))


# --- around `check` -----------------------------------------------------------------------------------------


def _show(name, outcome, sentence):
    """Show one line, with the outcome as data beside it when a notebook is there to keep it."""
    text = f"{name}: {sentence}"
    if _in_notebook():
        from IPython.display import display

        data = {"exercise": name, "outcome": outcome.value, "message": sentence}
        display({"text/plain": text, MIME: data}, raw=True)
    else:
        print(text)


def _in_notebook():
    try:
        return get_ipython().kernel is not None  # IPython defines it where it runs
    except (NameError, AttributeError):
        return False
