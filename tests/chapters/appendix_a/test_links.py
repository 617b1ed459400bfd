"""Each link of the appendix leads to a chapter or to one of its own headings, and its sections exist."""

import re

import pytest

from tests.chapters.appendix_a.cells import PROSE
from vlmbook import chapters

LINK = re.compile(r"\]\(([^)\s]+)\)")
LINKS = sorted(set(LINK.findall(PROSE)))
HEADINGS = re.findall(r"^## (\d+) ", PROSE, flags=re.MULTILINE)


def test_there_are_links():
    assert len(LINKS) >= 2


@pytest.mark.parametrize("link", LINKS)
def test_a_link_leads_to_a_chapter(link):
    assert link in {chapter.notebook.name for chapter in chapters.TABLE}


def test_the_sections_are_numbered_and_those_that_are_named_exist():
    assert HEADINGS == [str(number) for number in range(1, len(HEADINGS) + 1)]
    named = re.findall(r"\b[Ss]ections? (\d+)(?: to (\d+))?", PROSE)
    assert named and {number for pair in named for number in pair if number} <= set(HEADINGS)
