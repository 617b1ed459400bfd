"""Exercises: the solution passes, the notebook's stub is unanswered, plausible slips get a message that
helps.
"""

import re
from importlib import import_module

import jupytext
import pytest
import torch
from torch.nn import functional as F

from vlmbook import chapters
from vlmbook.notebook import exercises
from vlmbook.notebook.exercises import Outcome, check, hint, is_blank, solution

ALL = [name for chapter in exercises.chapters_with_exercises() for name in exercises.of_chapter(chapter)]


@pytest.mark.parametrize("name", ALL)
def test_the_solution_passes(name, capsys):
    answer = solution(name)
    assert exercises.find(name).why in capsys.readouterr().out
    assert check(name, answer) is Outcome.PASSED
    assert capsys.readouterr().out == f"{name}: correct\n"


@pytest.mark.parametrize("name", ALL)
def test_the_untouched_stub_is_unanswered(name, capsys):
    path = chapters.find(name.split(".")[0]).notebook
    cells = jupytext.read(path.parent / "text" / f"{path.stem}.py").cells
    [stub] = [cell.source for cell in cells if cell.cell_type == "code" and f'check("{name}"' in cell.source]
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
        result = F.avg_pool2d(x, window)
        x.zero_()
        return result

    assert check("ch03a.3", greedy) is Outcome.PASSED


def test_hints_come_in_stages(capsys):
    hint("ch03a.2")
    first = capsys.readouterr().out
    assert "hint 1 of 3" in first and 'hint("ch03a.2", 2)' in first
    hint("ch03a.2", 3)
    assert 'solution("ch03a.2")' in capsys.readouterr().out
    with pytest.raises(ValueError, match="hints 1 to 3, got 4"):
        hint("ch03a.2", 4)


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


def test_check_never_raises():
    class Spiteful:
        def __iter__(self):
            raise RuntimeError("no")

        def __repr__(self):
            raise RuntimeError("nor this")

    assert check("ch03a.1", Spiteful()) is Outcome.FAILED
    assert check("ch03a.2", Spiteful()) is Outcome.FAILED
    with pytest.raises(KeyboardInterrupt):  # but a reader can stop it
        check("ch03a.2", lambda n, kernel: (_ for _ in ()).throw(KeyboardInterrupt))
