"""Judging an exercise in which a reader trains two variants with three seeds each, and draws a conclusion."""

import statistics
from collections.abc import Mapping
from typing import Any

from vlmbook.notebook.exercises import Wrong, as_number
from vlmbook.notebook.messages import message

SEEDS = 3


def judge_two_variants(
    answer: Any, names: tuple[str, str], *, larger_is_better: bool, least: float, most: float
) -> None:
    """Any, two names -> None: judges {name: three numbers, other name: three numbers, "conclusion": a name or
    "no difference"}.

    Two means differ if their distance is larger than the sum of both standard deviations. Raises Wrong for
    another form, for equal numbers, for numbers outside `least` to `most`, which a run does not give, and for
    a conclusion that does not follow from the numbers.
    """
    keys = {*names, "conclusion"}
    if not isinstance(answer, Mapping) or set(answer) != keys:
        raise Wrong(
            'A dict is wanted, with the keys "{first}", "{second}" and "conclusion".',
            first=names[0],
            second=names[1],
        )
    values = {name: _as_measured(answer[name], name, least, most) for name in names}
    follows = _conclude(values, larger_is_better)
    if answer["conclusion"] not in (*names, "no difference"):
        raise Wrong(
            'The conclusion is "{first}", "{second}" or "no difference".', first=names[0], second=names[1]
        )
    if answer["conclusion"] != follows:
        raise Wrong(
            "Your means differ by {difference:.4f}, and the sum of your standard deviations is {spread:.4f}. "
            'From these numbers follows "{follows}".',
            difference=abs(_difference(values)),
            spread=sum(statistics.stdev(each) for each in values.values()),
            follows=message(follows),
        )


def _difference(values):
    """{name: numbers} of two -> the first mean minus the second."""
    first, second = (statistics.mean(each) for each in values.values())
    return first - second


def _conclude(values, larger_is_better):
    """{name: numbers} of two -> the better name, or "no difference"."""
    difference = _difference(values)
    if abs(difference) <= sum(statistics.stdev(each) for each in values.values()):
        return "no difference"
    first, second = values
    first_is_better = (difference > 0) == larger_is_better
    return first if first_is_better else second


def _as_measured(numbers, name, least, most):
    """-> three numbers as a run gives them."""
    if not isinstance(numbers, (list, tuple)) or len(numbers) != SEEDS:
        raise Wrong("Under {name} three numbers are wanted, one for each seed.", name=name)
    measured = [as_number(number, f"a number under {name}") for number in numbers]
    if len(set(measured)) < SEEDS:
        raise Wrong("Two numbers under {name} are equal: was the seed changed?", name=name)
    for number in measured:
        if not least <= number <= most:
            raise Wrong(
                "{number:.3g} under {name}: a run of this exercise gives numbers from {least:g} to {most:g}. "
                "Was everything else left as in the chapter?",
                number=number,
                name=name,
                least=least,
                most=most,
            )
    return measured
