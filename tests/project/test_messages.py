"""What judges say can be translated: each sentence is a template with named fields, and gets those that
it names.
"""

import ast
from string import Formatter

import pytest

from vlmbook import runtime
from vlmbook.notebook import exercises

MODULES = sorted((runtime.PACKAGE / "chapters").glob("*/exercises.py"))
MODULES.append(runtime.PACKAGE / "notebook" / "exercises.py")
# What takes a template as its first argument; the other arguments are its fields.
TEMPLATES = ("Wrong", "message")


def find_faults(source: str) -> list[str]:
    """str -> list of str: each call of `Wrong` or `message` whose template is none, or does not fit its
    fields.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in TEMPLATES:
            fault = _fault(node)
            if fault:
                found.append(f"line {node.lineno}: {fault}")
    return found


def _fault(call):
    if len(call.args) != 1:
        return "wants one template, and fields by name"
    template = call.args[0]
    if isinstance(template, (ast.JoinedStr, ast.BinOp)):
        return "is an f-string or a sum of strings"
    if not isinstance(template, ast.Constant):  # a name: the constant stands elsewhere
        return ""
    given = {keyword.arg for keyword in call.keywords}
    if None in given:  # **fields
        return ""
    named = _fields(template.value)
    return "" if named == given else f"names the fields {sorted(named)}, and gets {sorted(given)}"


def _fields(template):
    """-> set of str: the names in braces, "" for `{}`, "a.b" for what is not plain."""
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.parent.name)
def test_each_sentence_is_a_template_with_the_fields_that_it_gets(path):
    assert find_faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("raise Wrong(f'{n} images?')", "is an f-string"),
        ("raise Wrong('a' + b)", "is an f-string or a sum"),
        ("raise Wrong('a %s' % b)", "is an f-string or a sum"),
        ("raise Wrong('{batch} images?')", "names the fields ['batch'], and gets []"),
        ("raise Wrong('{batch} images?', size=1)", "names the fields ['batch'], and gets ['size']"),
        ("raise Wrong('{} images?', 3)", "wants one template"),
        ("message('{} images?')", "names the fields ['']"),
        ("message('{a.b:.3g}', a=1)", "names the fields ['a.b'], and gets ['a']"),
    ],
)
def test_a_planted_fault_is_named(code, fault):
    [found] = find_faults(code)
    assert found.startswith(f"line 1: {fault}")


@pytest.mark.parametrize(
    "code", ["Wrong('{a:.3g} of {b}', a=1, b=2)", "Wrong('{{1}} 100 %')", "message(hint)"]
)
def test_templates_that_fit_are_left_in_peace(code):
    assert find_faults(code) == []


@pytest.mark.parametrize("chapter", exercises.chapters_with_exercises())
def test_hints_and_reasons_are_sentences_without_fields(chapter):
    for name, exercise in exercises.of_chapter(chapter).items():
        for sentence in (*exercise.hints, exercise.why):
            assert isinstance(sentence, str) and sentence, name
            assert _fields(sentence) == set(), f"{name}: {sentence}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.parent.name)
def test_hints_and_reasons_are_constants(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Exercise":
            fields = ("judge", "hints", "solution", "why")
            given = dict(zip(fields, node.args, strict=False)) | {kw.arg: kw.value for kw in node.keywords}
            for part in (given["hints"], given["why"]):
                computed = [each for each in ast.walk(part) if isinstance(each, (ast.JoinedStr, ast.BinOp))]
                assert computed == [], f"{path.parent.name}, line {node.lineno}"
