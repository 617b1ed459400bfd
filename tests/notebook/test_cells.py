"""What is read out of a cell's text: calls of `check` and claims, in good and in broken Python."""

import pytest

from vlmbook.notebook import cells


@pytest.mark.parametrize(
    ("source", "exercises"),
    [
        ('check("ch03a.1", shape)', ["ch03a.1"]),
        ("x = 1\nif x:\n    check('ch03a.1', x); check('appendix_a.2', x)", ["ch03a.1", "appendix_a.2"]),
        ('exercises.check(\n    "ch03a.1",\n    answer,\n)', ["ch03a.1"]),
        ('check(name="ch03a.1", answer=3)', ["ch03a.1"]),
        ('%time check("ch03a.1", 1)\n!ls', []),
        ('!ls\ncheck("ch03a.1", 1)', ["ch03a.1"]),
        ('# check("ch03a.1", 1)', []),
        ('"""\ncheck("ch03a.1", 1)\n"""', []),
        ("text = 'check(\"ch03a.1\", 1)'", []),
        ('recheck("ch03a.1", 1)\ncheck("no number")\ncheck(name)\ncheck()', []),
        ('def answer(: 4\ncheck("ch03a.1", answer)\n#check("ch03a.2", 1)', ["ch03a.1"]),
        ("", []),
        ("\0", []),
        ("(" * 5000, []),
    ],
)
def test_checked_exercises(source, exercises):
    assert cells.checked_exercises(source) == exercises


@pytest.mark.parametrize(
    ("source", "claims"),
    [
        ("assert 1\nassert_close(a, b)\ntorch.testing.assert_close(a, b)\nasserted(1)", 3),
        ("%matplotlib inline\nassert 1", 1),
        ("# assert 1\n'assert 2'", 0),
        ("assert (", 0),
    ],
)
def test_count_claims(source, claims):
    assert cells.count_claims(source) == claims
