"""`check`, `hint` and `solution` for the exercises of the chapters, and what their judges are made of.

The exercises of chapter 3a stand in `vlmbook.chapters.ch03a.exercises`, by number, as `EXERCISES`.
"""

import dis
import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from textwrap import dedent
from typing import Any

import torch

from vlmbook.notebook.messages import message

MIME = "application/vnd.vlmbook.check+json"  # in a notebook's outputs; `vlmbook grade` reads it there


class Silent:
    """At the end of a cell nothing is shown: `check` has printed its sentence already."""

    def _ipython_display_(self):
        pass


class Outcome(Silent, Enum):
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
    """str, answer -> Outcome: judge the answer to exercise `name` and say what is wrong with it.

    It never raises, whatever the answer is and does: an error, an exit or an interrupt in it is a failed
    answer.
    """
    try:
        return _say(name, *_judge(name, answer))
    except BaseException as error:  # even a message can fail: of an object whose repr raises
        return _say(
            name, Outcome.FAILED, message("your answer stopped with {error}", error=type(error).__name__)
        )


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
            "your answer stopped with {error}: {reason}", error=type(error).__name__, reason=str(error)
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
        _hints_given[name] += 1
        stage = _hints_given[name]
        if stage > len(hints):
            print(message('{name}: no more hints; solution("{name}") shows one way', name=name))
            return
    elif stage not in range(1, len(hints) + 1):
        raise ValueError(f"{name} has the hints 1 to {len(hints)}, got {stage!r}")
    _hints_given[name] = max(_hints_given[name], stage)
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
    shown = exercise.solution
    if callable(shown):
        shown = dedent(inspect.getsource(shown))
    print(f"{name}: {message(exercise.why)}\n\n{shown}")
    return exercise.solution


# --- which exercises there are ------------------------------------------------------------------------------


def chapters_with_exercises() -> list[str]:
    """-> list of str: "ch03a", …, in the order of the book."""
    folder = import_module("vlmbook.chapters").__path__
    return [
        module.name
        for module in iter_modules(folder)
        if find_spec(f"vlmbook.chapters.{module.name}.exercises")
    ]


def of_chapter(chapter: str) -> dict[str, Exercise]:
    """str -> dict: the exercises of a chapter by name, "ch03a.1"."""
    exercises = import_module(f"vlmbook.chapters.{chapter}.exercises").EXERCISES
    return {f"{chapter}.{number}": exercise for number, exercise in exercises.items()}


def find(name: str) -> Exercise:
    """str -> Exercise. Raises ValueError, which names those that exist, for any other."""
    chapters = chapters_with_exercises()
    chapter = str(name).partition(".")[0]
    if chapter not in chapters:
        raise ValueError(
            message(
                "there is no exercise {name}; the chapters with exercises are {chapters}",
                name=repr(name),
                chapters=", ".join(chapters),
            )
        )
    exercises = of_chapter(chapter)
    if name not in exercises:
        raise ValueError(
            message(
                "there is no exercise {name}; {chapter} has {exercises}",
                name=repr(name),
                chapter=chapter,
                exercises=", ".join(exercises),
            )
        )
    return exercises[name]


def is_blank(answer: Any) -> bool:
    """Is this `...`, None, or a function with nothing in it but a docstring, `...` or `pass`?"""
    if answer is None or answer is ...:
        return True
    if not inspect.isfunction(answer):
        return False
    instructions = [
        i for i in dis.get_instructions(answer) if i.opname not in ("RESUME", "NOP", "COPY_FREE_VARS")
    ]
    return all(i.opname.startswith(("LOAD_CONST", "RETURN")) for i in instructions) and all(
        i.argval in (None, ...) for i in instructions if i.opname in ("LOAD_CONST", "RETURN_CONST")
    )


# --- what judges ask of an answer first ---------------------------------------------------------------------


def as_shape(answer: Any, fraction: str, axes: str = "(B, C, H, W)") -> tuple[int, int, int, int]:
    """Any -> four ints. Raises Wrong for anything else; `fraction` says what becomes of a size that is not
    whole.
    """
    try:
        got = tuple(answer)
        whole = all(n == int(n) for n in got)
    except (TypeError, ValueError, OverflowError):
        raise Wrong(
            "A shape is four whole numbers {axes}, this is a {kind}.", axes=axes, kind=type(answer).__name__
        ) from None
    if not whole:
        raise Wrong("A size is a whole number: {fraction}.", fraction=message(fraction))
    if len(got) != 4:
        raise Wrong("A shape has four numbers {axes}; this has {count}.", axes=axes, count=len(got))
    return tuple(int(n) for n in got)


def as_number(got: Any, call: str) -> float:
    """What `call`, such as "f(3)", gave -> float. Raises Wrong where it is no finite number."""
    require_returned(got)
    try:
        number = float(got)
    except (TypeError, ValueError):
        raise Wrong("{call} is a {kind}; one number is wanted.", call=call, kind=type(got).__name__) from None
    if number != number:
        raise Wrong("{call} is NaN; one number is wanted.", call=call)
    return number


def as_tensor(got: Any, want: torch.Tensor, case: str) -> torch.Tensor:
    """What an answer gave for `case` -> plain tensor of want's dtype and device. Raises Wrong for another
    shape.
    """
    require_returned(got)
    if not isinstance(got, torch.Tensor):
        raise Wrong("A tensor is wanted, this is a {kind}.", kind=type(got).__name__)
    if got.shape != want.shape:
        raise Wrong(
            "For {case} the result has the shape {got}, not {want}.",
            case=message(case),
            got=tuple(got.shape),
            want=tuple(want.shape),
        )
    return got.detach().as_subclass(torch.Tensor).to(want)


def require_values(got: torch.Tensor, want: torch.Tensor, case: str) -> None:
    """Raises Wrong where two tensors of one shape differ; NaN differs from everything."""
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
    if getattr(answered, "requires_grad", False):
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


# --- around `check` -----------------------------------------------------------------------------------------


def _say(name, outcome, sentence):
    """Show one line, with the outcome as data beside it when a notebook is there to keep it."""
    text = f"{name}: {sentence}"
    if _in_notebook():
        from IPython.display import display

        data = {"exercise": str(name), "outcome": outcome.value, "message": sentence}
        display({"text/plain": text, MIME: data}, raw=True)
    else:
        print(text)
    return outcome


def _in_notebook():
    try:
        return get_ipython().kernel is not None  # IPython defines it where it runs
    except (NameError, AttributeError):
        return False
