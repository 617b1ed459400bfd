"""Exercises: the solution passes, the notebook's stub is unanswered, plausible slips get a message that
helps.
"""

import re
import sys
from importlib import import_module

import jupytext
import pytest
import torch
from torch.nn import functional as F

from vlmbook import chapters
from vlmbook.notebook import exercises
from vlmbook.notebook.cells import checked_exercises
from vlmbook.notebook.exercises import Outcome, Wrong, check, hint, is_blank, solution

ALL = [name for chapter in exercises.chapters_with_exercises() for name in exercises.of_chapter(chapter)]


@pytest.mark.parametrize("name", ALL)
def test_the_solution_passes(name, capsys):
    answer = solution(name)
    assert exercises.find(name).why in capsys.readouterr().out
    assert check(name, answer) is Outcome.PASSED
    assert capsys.readouterr().out == f"{name}: correct\n"


@pytest.mark.parametrize("name", ALL)
def test_the_untouched_stub_is_unanswered(name, capsys):
    cells = jupytext.read(chapters.find(name.partition(".")[0]).text).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    [stub] = [source for source in code if name in checked_exercises(source)]
    outcomes = []
    exec(stub, {"check": lambda *given: outcomes.append(check(*given))})
    assert outcomes == [Outcome.UNANSWERED]
    assert f'{name}: not answered yet; hint("{name}")' in capsys.readouterr().out


# Of each chapter: (exercise, a wrong answer, what the message has to say about it).
WRONG_ANSWERS = [
    wrong
    for chapter in exercises.chapters_with_exercises()
    for wrong in import_module(f"tests.chapters.{chapter}.wrong_answers").WRONG_ANSWERS
]


@pytest.mark.parametrize(("name", "answer", "says"), WRONG_ANSWERS)
def test_a_plausible_slip_fails_with_a_message_that_helps(name, answer, says, capsys):
    assert check(name, answer) is Outcome.FAILED
    said = capsys.readouterr().out
    assert said.startswith(f"{name}: ") and said.count("\n") == 1
    assert re.search(says, said)


def test_each_exercise_has_two_slips_and_hints_that_lead_on():
    for name in ALL:
        assert sum(slip[0] == name for slip in WRONG_ANSWERS) >= 2
        assert len(set(exercises.find(name).hints)) >= 2


def test_an_answer_may_change_what_it_is_given():
    def greedy(x, window):
        weight = torch.full((x.shape[1], 1, window, window), 1 / window**2)
        result = F.conv2d(x, weight, stride=window, groups=x.shape[1])
        x.zero_()
        return result

    assert check("ch03a.3", greedy) is Outcome.PASSED


def test_each_hint_leads_to_the_next_until_there_are_no_more(capsys, monkeypatch):
    monkeypatch.setattr(exercises, "_hints_given", exercises.Counter())
    lines = []
    for _ in range(5):
        hint("ch03a.2")
        lines.append(capsys.readouterr().out)
    assert [line.split(":")[0] for line in lines[:3]] == [f"ch03a.2, hint {n} of 3" for n in (1, 2, 3)]
    assert lines[3] == lines[4] == 'ch03a.2: no more hints; solution("ch03a.2") shows one way\n'
    hint("ch03a.1")  # each exercise counts by itself
    assert "hint 1 of" in capsys.readouterr().out


def test_a_hint_can_be_asked_for_by_its_number(capsys, monkeypatch):
    monkeypatch.setattr(exercises, "_hints_given", exercises.Counter())
    hint("ch03a.2", 2)
    assert "hint 2 of 3" in capsys.readouterr().out
    hint("ch03a.2")
    assert "hint 3 of 3" in capsys.readouterr().out
    for stage in (0, 4):
        with pytest.raises(ValueError, match=f"stage wants a whole number from 1 to 3, got {stage}"):
            hint("ch03a.2", stage)


@pytest.mark.parametrize("name", ["ch99.1", "ch03a.9", "ch03a", "", None, 3])
def test_an_unknown_exercise_is_answered_with_those_that_exist(name, capsys):
    assert check(name, 1) is Outcome.FAILED
    assert "there is no exercise" in capsys.readouterr().out
    with pytest.raises(ValueError, match="ch03a"):
        hint(name)


def test_what_counts_as_blank():
    def dots(x): ...
    def docstring(x):
        """Nothing yet."""

    def nothing(x):
        pass

    def bare_return(x):
        return

    def ellipsis_return(x):
        return ...

    assert all(map(is_blank, (None, ..., dots, docstring, nothing, bare_return, ellipsis_return)))

    def something(x):
        return 0

    def calls(x):
        x.mean()

    assert not any(
        map(is_blank, (0, "", (), torch.zeros(2), something, calls, max, torch.relu, torch.nn.ReLU()))
    )


# --- check never raises -------------------------------------------------------------------------------------


class Spiteful:
    """Fails at whatever it is asked."""

    def __getattribute__(self, name):
        raise RuntimeError("no")

    def __iter__(self):
        raise RuntimeError("no")

    def __repr__(self):
        raise RuntimeError("nor this")

    __str__ = __bool__ = __len__ = __call__ = __float__ = __repr__


class NamelessKind(type):
    @property
    def __name__(cls):
        raise RuntimeError("no name")


class Nameless(BaseException, metaclass=NamelessKind):
    def __str__(self):
        raise SystemExit("nor words")


class Impostor:
    """Says that it is a function, and has none of what a function has."""

    @property
    def __class__(self):
        return type(check)

    def __call__(self, *given):
        return self


class Pretender:
    """Says that it is a tensor, equal to every other."""

    @property
    def __class__(self):
        return torch.Tensor

    def __eq__(self, other):
        return True

    __hash__ = None


def raising(error):
    def answer(*given, **named):
        raise error

    return answer


def odd_code(*given):
    return 1


odd_code.__code__ = odd_code.__code__.replace(co_consts=())
interrupted = raising(KeyboardInterrupt())

ODD_ANSWERS = [
    Spiteful(),
    Spiteful,
    Impostor(),
    Pretender(),
    lambda *given: Spiteful(),
    lambda *given: Pretender(),
    lambda *given: given[0] / 0,
    lambda *given: sys.exit(),
    lambda *given: exit(3),
    interrupted,
    raising(GeneratorExit()),
    raising(Nameless()),
    raising(BaseException("base")),
    raising(RecursionError()),
    Nameless,
    (n for n in range(3)),
    iter(int, 1),
    10**5000,
    float("nan"),
    "\ud800",
]


@pytest.mark.parametrize("name", ["ch03a.1", "ch03a.2", "ch03a.3"])
@pytest.mark.parametrize("number", range(len(ODD_ANSWERS)))
def test_check_never_raises(name, number, capsys):
    assert check(name, ODD_ANSWERS[number]) is Outcome.FAILED
    shown = capsys.readouterr().out
    assert shown.startswith(f"{name}: ") and shown.count("\n") == 1


def test_check_says_in_which_way_an_answer_stopped(capsys):
    check("ch03a.2", lambda *given: sys.exit("bye"))
    assert capsys.readouterr().out == "ch03a.2: your answer stopped with SystemExit: bye\n"
    check("ch03a.2", interrupted)
    assert capsys.readouterr().out == "ch03a.2: your answer stopped with KeyboardInterrupt: \n"
    check("ch03a.2", raising(Nameless()))
    assert capsys.readouterr().out == "ch03a.2: your answer stopped with SystemExit\n"


def test_check_bears_any_name():
    for name in (Spiteful(), Spiteful, Impostor(), b"ch03a.1", ["ch03a.1"], float("nan")):
        assert check(name, 1) is Outcome.FAILED


def test_check_bears_an_answer_that_closes_the_output(monkeypatch):
    with open("/dev/null" if sys.platform != "win32" else "nul", "w") as closed:
        pass
    monkeypatch.setattr(sys, "stdout", closed)
    assert check("ch03a.1", 1) is Outcome.FAILED


# --- what judges ask of an answer ---------------------------------------------------------------------------


class EqualToAll(torch.Tensor):
    """A tensor of another size and other values, which says that they are right."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return torch.tensor(True)

    shape = property(lambda self: torch.Size((2, 3)))

    def detach(self):
        return torch.ones(2, 3)


def test_a_forged_tensor_is_taken_for_what_it_holds():
    want = torch.ones(2, 3)
    forged = torch.zeros(2, 3).as_subclass(EqualToAll)
    assert exercises.as_tensor(forged, want, "a case").equal(torch.zeros(2, 3))
    with pytest.raises(Wrong, match=r"has the shape \(5,\), not \(2, 3\)"):
        exercises.as_tensor(torch.zeros(5).as_subclass(EqualToAll), want, "a case")
    with pytest.raises(Wrong, match="A tensor is wanted, this is a Pretender"):
        exercises.as_tensor(Pretender(), want, "a case")


def test_values_that_differ_or_are_nan_are_wrong():
    want = torch.ones(2, 3)
    exercises.require_values(want + 1e-6, want, "a case")
    with pytest.raises(Wrong, match=r"off by up to 0\.5"):
        exercises.require_values(want + 0.5, want, "a case")
    with pytest.raises(Wrong, match="holds NaN"):
        exercises.require_values(want * float("nan"), want, "a case")


@pytest.mark.parametrize(
    ("got", "says"),
    [
        ("3", "is a str"),
        (True, "is a bool"),
        (None, "return"),
        (float("nan"), "is NaN"),
        (float("inf"), "is infinite"),
        (torch.ones(2), "is a Tensor"),
    ],
)
def test_a_number_is_a_finite_number(got, says):
    with pytest.raises(Wrong, match=says):
        exercises.as_number(got, "f(3)")
    assert exercises.as_number(torch.tensor([3]), "f(3)") == exercises.as_number(3, "f(3)") == 3.0
