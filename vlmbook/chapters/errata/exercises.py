"""Exercises of the notebook of errata: which printed number is wrong, and the year in an arXiv id."""

from vlmbook.notebook.exercises import Exercise, Wrong, as_number
from vlmbook.notebook.messages import message

# --- 1: a printed table -------------------------------------------------------------------------------------

# LeNet-5's layout with full connections: input 32×32, kernels 5×5, pooling 2×2. One number is planted wrong.
SIDES = {"convolution 1": 28, "pooling 1": 14, "convolution 2": 10, "pooling 2": 5}
PARAMETERS = {
    "convolution 1": 6 * (1 * 5 * 5) + 6,
    "convolution 2": 16 * (6 * 5 * 5) + 16,
    "linear 1": 120 * (16 * 5 * 5) + 120,
    "linear 2": 84 * 120 + 84,
    "linear 3": 10 * 84 + 10,
}
WRONG_ROW, PRINTED_VALUE = "linear 1", 120 * 16 * 5 * 5
TOTAL = sum(PARAMETERS.values())


def judge_row(answer):
    if not isinstance(answer, (tuple, list)) or len(answer) != 2 or not isinstance(answer[0], str):
        raise Wrong('A row and the right number are wanted, such as ("linear 3", 850).')
    row, value = answer[0], as_number(answer[1], "the right number")
    if row == "total":
        raise Wrong(
            "The total is right. Add the five rows as they are printed: which one makes the difference?"
        )
    if row not in PARAMETERS:
        raise Wrong("There is no row {row!r}; there are {rows}.", row=row, rows=", ".join(PARAMETERS))
    if row != WRONG_ROW:
        raise Wrong("{row} is right: {value:,} weights and biases.", row=row, value=PARAMETERS[row])
    if value == PRINTED_VALUE:
        raise Wrong("{value:,.0f} is what is printed. It counts the weights alone.", value=value)
    if value != PARAMETERS[WRONG_ROW]:
        raise Wrong("The row is found. {value:,.0f} is not the sum of its weights and biases.", value=value)


# --- 2: the year in an arXiv id -----------------------------------------------------------------------------

CASES = {
    "1512.03385": 2015,
    "1406.2661": 2014,
    "0704.0001": 2007,
    "2011.13456v2": 2020,
    "arXiv:1909.11723": 2019,
    "cs/0112017": 2001,
    "hep-th/9711200": 1997,
    "math.GT/0309136": 2003,
}


def judge_year(answer):
    for identifier, year in CASES.items():
        case = message("{identifier}", identifier=identifier)
        got = as_number(answer(identifier), case)
        if got == year:
            continue
        if got == year % 100:
            raise Wrong("{case}: two digits of the year are not the year.", case=case)
        if got == year + 100:
            raise Wrong("{case}: arXiv began in 1991, so 91 to 99 are years before 2000.", case=case)
        if "/" in identifier:
            raise Wrong(
                "{case}: before April 2007 the number after the slash begins with the year, not {got:g}.",
                case=case,
                got=got,
            )
        raise Wrong("{case}: the year is {year}. Your answer is {got:g}.", case=case, year=year, got=got)


def year_of(identifier):
    digits = identifier.rpartition("/")[2] if "/" in identifier else identifier.removeprefix("arXiv:")
    short = int(digits[:2])
    return 1900 + short if short >= 91 else 2000 + short


EXERCISES = {
    "1": Exercise(
        judge_row,
        (
            "A convolution with K kernels of C × 5 × 5 has K·C·25 weights and K biases.",
            "A linear layer has a bias for each output. Compare each row with weights plus biases.",
            "The first linear layer gets 16 maps of 5 × 5 numbers and has 120 outputs.",
        ),
        (WRONG_ROW, PARAMETERS[WRONG_ROW]),
        "16 · 5 · 5 · 120 = 48,000 weights and 120 biases are 48,120. Only with it the rows add up to "
        "the printed total, 61,706.",
    ),
    "2": Exercise(
        judge_year,
        (
            "Since April 2007 an id is YYMM.number. Before, it was archive/YYMMnumber.",
            "Cut off what stands before a slash, and a prefix arXiv: if there is one.",
            "Two digits from 91 on belong to the years before 2000.",
        ),
        year_of,
        "The first four digits of the number are year and month of the first version, in the new form and in "
        "the old one. So an id that is years younger than the publication is wrong.",
    ),
}
