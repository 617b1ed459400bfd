"""A reader's half hour with chapter 3a in JupyterLab: run it, move a slider by keyboard, answer wrong, then
right.
"""

import os
import re

import nbformat
import pytest

from tests.support import lab
from vlmbook import chapters

CHAPTER = chapters.find("ch03a").notebook.name
if not lab.find_browser() and not os.environ.get("CI"):
    pytest.skip("no Chromium, Chrome or Edge was found", allow_module_level=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reader") / "work"


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    with lab.jupyterlab(folder, tmp_path_factory.mktemp("jupyter")) as where:
        yield where


@pytest.fixture(scope="module")
def browser():
    with lab.browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(browser, server):
    page = lab.open_notebook(browser, server, CHAPTER)
    lab.run_all(page)
    return page


def test_the_chapter_runs_to_its_end_without_an_error(page):
    assert (
        page.locator(
            "[data-mime-type='application/vnd.jupyter.error'], .jp-RenderedText[data-mime-type*='stderr'] "
            "pre:has-text('Traceback')"
        ).count()
        == 0
    )
    assert "not answered yet" in page.locator(".jp-Notebook").inner_text()


def test_each_live_figure_is_a_real_picture(page):
    live_figures = chapters.find("ch03a").text.read_text(encoding="utf-8").count("interact.live(")
    assert page.locator(".jp-Notebook .widget-image").count() == live_figures
    for number in range(live_figures):
        shown = lab.picture(page, number)
        assert shown.evaluate("image => image.naturalWidth") == 700
        assert len(lab.pixels(page, number)) > 10_000
    assert "Error displaying widget" not in page.locator(".jp-Notebook").inner_text()


def test_a_key_on_a_slider_changes_the_picture(page):
    number = lab.live_figure_of(page, "stride")
    before = lab.pixels(page, number)
    lab.focus_slider(page, "stride")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        """([number, before]) => {
        const image = document.querySelectorAll('.jp-Notebook .widget-image')[number];
        if (!image.complete) return false;
        const canvas = document.createElement('canvas');
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
        canvas.getContext('2d').drawImage(image, 0, 0);
        return canvas.toDataURL() != before;
    }""",
        arg=[number, before],
    )
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(1500)
    assert lab.pixels(page, number) == before


def answer(page, stub, mine):
    """Replace a line of a stub cell, run the cell -> what `check` says below it."""
    cell = page.locator(".jp-CodeCell", has=page.locator(".cm-content", has_text=stub)).last
    number = cell.locator(".jp-InputPrompt").first.inner_text()
    cell.locator(".cm-content").click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(mine)
    page.keyboard.press("Shift+Enter")
    cell = page.locator(".jp-CodeCell", has=page.locator(".cm-content", has_text=mine.splitlines()[-1])).last
    prompt = cell.locator(".jp-InputPrompt").first
    page.wait_for_function(
        """([prompt, before]) =>
        prompt.textContent != before && /\\[\\d+\\]/.test(prompt.textContent)""",
        arg=[prompt.element_handle(), number],
    )
    return cell.locator(".jp-OutputArea").inner_text()


def test_an_exercise_answers_wrong_and_right(page):
    shape = 'shape = {}\ncheck("ch03a.1", shape)'
    assert "without the padding" in answer(page, 'check("ch03a.1"', shape.format((1, 64, 26, 26)))
    assert re.search(r"ch03a\.1: correct", answer(page, 'check("ch03a.1"', shape.format((1, 64, 27, 27))))


def test_an_edit_made_outside_jupyterlab_is_there_when_the_copy_is_opened_again(browser, server, folder):
    path = folder / CHAPTER
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source += "\n\nA sentence written in another editor."
    nbformat.write(notebook, path)
    again = lab.open_notebook(browser, server, CHAPTER)
    again.wait_for_selector(".jp-MarkdownOutput :text('A sentence written in another editor.')")
    assert "another editor" in path.read_text(encoding="utf-8")
