"""Painting a mask in JupyterLab with a real mouse: the kernel gets the strokes, *Fill* changes the image."""

import os

import nbformat
import pytest

from tests.support import lab
from tools.execute import METADATA

if not lab.find_browser() and not os.environ.get("CI"):
    pytest.skip("no Chromium, Chrome or Edge was found", allow_module_level=True)

CELLS = (
    """import torch
from vlmbook.notebook.paint import MaskPainter
painter = MaskPainter(torch.zeros(1, 28, 28), lambda image, mask: torch.where(mask == 1, 1.0, image))
painter""",
    "print('painted', int(painter.mask.sum()), 'white', int(painter.image.sum()))",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("painter") / "work"
    folder.mkdir()
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
    nbformat.write(notebook, folder / "painter.ipynb")
    private = tmp_path_factory.mktemp("jupyter")
    with lab.jupyterlab(folder, private) as where, lab.browser() as browser:
        page = lab.open_notebook(browser, where, "painter.ipynb")
        lab.run_all(page)
        yield page


def count(page, what):
    """-> int: what the second cell prints about the kernel's side, run anew."""
    cell = page.locator(".jp-CodeCell").nth(1)
    prompt = cell.locator(".jp-InputPrompt").first
    before = prompt.inner_text()
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    page.wait_for_function(
        r"([prompt, before]) => prompt.textContent != before && /\[\d+\]/.test(prompt.textContent)",
        arg=[prompt.element_handle(), before],
    )
    words = cell.locator(".jp-OutputArea").inner_text().split()
    return int(words[words.index(what) + 1])


def wait_until(page, what, holds):
    """Look at the kernel's number once a second, until it is as wanted."""
    for _ in range(30):
        found = count(page, what)
        if holds(found):
            return
        page.wait_for_timeout(1000)
    raise AssertionError(f"{what} {found}")


def test_the_mouse_paints_and_fill_changes_what_is_shown(page):
    assert count(page, "painted") == 0
    canvas = page.locator(".jp-Notebook canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 100, steps=8)
    page.mouse.up()
    wait_until(page, "painted", lambda pixels: pixels > 15)
    page.get_by_role("button", name="Fill", exact=True).click()
    wait_until(page, "white", lambda pixels: pixels > 15)
    assert count(page, "painted") == 0
    page.wait_for_function(
        """canvas => {
        const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return data.filter((value, i) => i % 4 == 0 && value == 255).length > 1000;
    }""",
        arg=canvas.element_handle(),
    )
    page.get_by_role("button", name="Undo", exact=True).click()
    wait_until(page, "white", lambda pixels: pixels == 0)
