"""The README's examples run as they stand."""

import re

import pytest
from PIL import Image

from vlmbook import runtime

README = (runtime.BOOK / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((32, 24), 60).convert("RGB").save("mine.jpg")  # what a reader brings
    exec(compile(EXAMPLES[number], "README.md", "exec"), {"__name__": "__main__"})
