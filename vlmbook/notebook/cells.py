"""What a code cell says, read without running it: the exercises that it checks, and the claims that it
makes.
"""

import ast
import re
import warnings

from IPython.core.inputtransformer2 import TransformerManager

from vlmbook.validation import require_type

EXERCISE = re.compile(r"\w+\.\w+")  # "ch03a.1"
CHECK = re.compile(r"""^[^#\n]*\bcheck\(\s*["'](\w+\.\w+)["']""", re.MULTILINE)


def parse(source: str) -> ast.Module:
    """str -> its syntax tree; IPython's `%magics`, `!commands` and `help?` are allowed.

    Raises SyntaxError, also where Python's own parser gives up in another way.
    """
    require_type(source, "source", str, "the text of a cell")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # invalid escapes are the cell's own business
            return ast.parse(TransformerManager().transform_cell(source))
    except (ValueError, RecursionError, MemoryError) as error:  # a null character; brackets without end
        raise SyntaxError(str(error)) from None


def checked_exercises(source: str) -> list[str]:
    """str -> list of str: the exercises whose `check("ch03a.1", …)` the cell calls, in order.

    In a cell that is not Python, such as one with a reader's typo, the calls are looked for in the text.
    """
    try:
        tree = parse(source)
    except SyntaxError:
        return CHECK.findall(source)
    names = [_first_argument(node) for node in _calls(tree) if _called(node) == "check"]
    return [name for name in names if EXERCISE.fullmatch(name)]


def count_claims(source: str) -> int:
    """str -> int: how many assertions the cell makes, `assert …` and calls of something named `assert_…`."""
    try:
        tree = parse(source)
    except SyntaxError:
        return 0
    asserts = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    calls = [node for node in _calls(tree) if _called(node).startswith("assert_")]
    return len(asserts) + len(calls)


def _calls(tree):
    """-> list of ast.Call, in the order of the text."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def _called(call):
    """`check(…)` and `exercises.check(…)` -> "check"; "" for what has no name."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _first_argument(call):
    """The text that stands first, or as `name=`, in a call; "" where it is no plain text."""
    values = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "name")]
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return value.value
    return ""
