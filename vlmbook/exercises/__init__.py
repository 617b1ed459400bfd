"""`check`, `hint` and `solution` for the exercises of the chapters; `vlmbook.exercises.ch03a` holds those of chapter
3a."""

import dis
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from pkgutil import iter_modules
from textwrap import dedent
from typing import Any

MIME = "application/vnd.vlmbook.check+json"   # in a notebook's outputs; `vlmbook grade` reads it there


class Silent:
    """At the end of a cell nothing is shown: `check` has said it already."""

    def _ipython_display_(self):
        pass


class Outcome(Silent, Enum):
    PASSED = "passed"
    FAILED = "failed"
    UNANSWERED = "unanswered"


class Wrong(Exception):
    """What a judge raises: one sentence that says what is wrong with the answer and helps to mend it."""


@dataclass(frozen=True)
class Exercise:
    judge: Callable[[Any], None]        # answer -> None; raises Wrong
    hints: tuple[str, ...]              # from a nudge to nearly the answer
    solution: Any                       # the answer itself, a value or a function
    why: str                            # two or three sentences that explain it


def check(name, answer):
    """str, answer -> Outcome: judge the answer to exercise `name` and say what is wrong with it. It never raises."""
    try:
        exercise = find(name)
    except ValueError as unknown:
        return _say(name, Outcome.FAILED, str(unknown))
    if is_blank(answer):
        return _say(name, Outcome.UNANSWERED, f'not answered yet; hint("{name}") gives a first step')
    try:
        exercise.judge(answer)
    except Wrong as wrong:
        return _say(name, Outcome.FAILED, f"not yet. {wrong}")
    except Exception as error:
        return _say(name, Outcome.FAILED, f"your answer stopped with {type(error).__name__}: {error}")
    return _say(name, Outcome.PASSED, "correct")


def hint(name, stage=1):
    """str -> None: print hint number `stage` of the exercise; each says more than the one before."""
    hints = find(name).hints
    if not 1 <= stage <= len(hints):
        raise ValueError(f"{name} has the hints 1 to {len(hints)}, got {stage!r}")
    more = f'\n(hint("{name}", {stage + 1}) says more)' if stage < len(hints) else f'\n(next: solution("{name}"))'
    print(f"{name}, hint {stage} of {len(hints)}: {hints[stage - 1]}{more}")


def solution(name):
    """str -> the answer: print it with the reason, and return it, so that `check(name, solution(name))` passes."""
    exercise = find(name)
    shown = exercise.solution
    if callable(shown):
        shown = dedent(inspect.getsource(shown))
    print(f"{name}: {exercise.why}\n\n{shown}")
    return exercise.solution


def find(name):
    """str -> Exercise. Raises ValueError, which names those that exist, for any other."""
    chapter, _, number = str(name).partition(".")
    chapters = [module.name for module in iter_modules(__path__)]
    if chapter not in chapters:
        raise ValueError(f"there is no exercise {name!r}; the chapters with exercises are {', '.join(chapters)}")
    exercises = import_module(f"vlmbook.exercises.{chapter}").EXERCISES
    if number not in exercises:
        there = ", ".join(f"{chapter}.{n}" for n in exercises)
        raise ValueError(f"there is no exercise {name!r}; {chapter} has {there}")
    return exercises[number]


def is_blank(answer):
    """Is this `...`, None, or a function with nothing in it but a docstring, `...` or `pass`?"""
    if answer is None or answer is ...:
        return True
    code = getattr(answer, "__code__", None)
    if code is None:
        return False
    instructions = [i for i in dis.get_instructions(code) if i.opname not in ("RESUME", "NOP", "COPY_FREE_VARS")]
    return all(i.opname.startswith(("LOAD_CONST", "RETURN")) for i in instructions) and all(
        i.argval in (None, ...) for i in instructions if i.opname in ("LOAD_CONST", "RETURN_CONST"))


# --- what judges ask of an answer first ----------------------------------------------------------------------------

def as_shape(answer, fraction, axes="(B, C, H, W)"):
    """Any -> four ints. Raises Wrong for anything else; `fraction` says what becomes of a size that is not whole."""
    try:
        got = tuple(answer)
        whole = all(n == int(n) for n in got)
    except (TypeError, ValueError):
        raise Wrong(f"A shape is four whole numbers {axes}, this is a {type(answer).__name__}.") from None
    if not whole:
        raise Wrong(f"A size is a whole number: {fraction}.")
    if len(got) != 4:
        raise Wrong(f"A shape has four numbers {axes}; this has {len(got)}.")
    return tuple(int(n) for n in got)


def as_number(got, call):
    """What `call`, such as "f(3)", gave -> float. Raises Wrong where it is none."""
    check_returned(got)
    try:
        return float(got)
    except (TypeError, ValueError):
        raise Wrong(f"{call} is a {type(got).__name__}; one number is wanted.") from None


def as_tensor(got, want, case):
    """What an answer gave for `case` -> tensor of want's dtype and device. Raises Wrong for another shape."""
    check_returned(got)
    if not isinstance(got, type(want)):
        raise Wrong(f"A tensor is wanted, this is a {type(got).__name__}.")
    if got.shape != want.shape:
        raise Wrong(f"For {case} the result has the shape {tuple(got.shape)}, not {tuple(want.shape)}.")
    return got.detach().to(want)


def check_values(got, want, case):
    """Raises Wrong where two tensors of one shape differ."""
    if not got.allclose(want, atol=1e-4):
        raise Wrong(f"For {case} the shape is right, but values are off by up to {(got - want).abs().max():.3g}.")


def check_trainable(answered, *given):
    """Raises Wrong where no gradient of an answered loss reaches the tensors it was given, leaves that ask for one."""
    if getattr(answered, "requires_grad", False):
        answered.backward()
    if any(tensor.grad is None for tensor in given):
        raise Wrong("The number is right, but no gradient comes back through it: nothing can be learned from a loss "
                    "that was detached or made of plain numbers.")


def check_returned(got):
    """Raises Wrong where a function gave None."""
    if got is None:
        raise Wrong("Your function returns None: is there a `return`?")


# --- around `check` ------------------------------------------------------------------------------------------------

def _say(name, outcome, message):
    """Show one line, with the outcome as data beside it when a notebook is there to keep it."""
    text = f"{name}: {message}"
    if _in_notebook():
        from IPython.display import display
        data = {"exercise": str(name), "outcome": outcome.value, "message": message}
        display({"text/plain": text, MIME: data}, raw=True)
    else:
        print(text)
    return outcome


def _in_notebook():
    try:
        return get_ipython().kernel is not None   # IPython defines it where it runs
    except (NameError, AttributeError):
        return False
