"""Chapter 6b's editing panel in JupyterLab with a real mouse: a photograph is opened, a hole is painted and
filled, the result is enlarged, undone and saved.
"""

import os

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from tests.support import lab
from tools.execute import METADATA
from vlmbook import data

if not lab.find_browser() and not os.environ.get("CI"):
    pytest.skip("no Chromium, Chrome or Edge was found", allow_module_level=True)

NAME = "editing.ipynb"
CELL = """
import torch
from vlmbook import editing
from vlmbook.chapters.ch06b import application
grey = torch.full((3, 90, 120), 128, dtype=torch.uint8)
panel = application.EditingPanel(editing.Photograph(grey), {"grey": torch.full((3, 64, 64), 0.5)})
panel
"""


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """-> file of the middle of a photograph, 120 × 90 pixels."""
    path = tmp_path_factory.mktemp("photographs") / "cup.png"
    pixels = (255 * data.photo("coffee")[:, 100:190, 200:320].permute(1, 2, 0)).round().byte().numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reader") / "work"


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    with lab.jupyterlab(folder, tmp_path_factory.mktemp("jupyter")) as where, lab.browser() as browser:
        nbformat.write(new_notebook(cells=[new_code_cell(CELL)], metadata=METADATA), folder / NAME)
        page = lab.open_notebook(browser, where, NAME)
        lab.run_all(page)
        page.wait_for_selector(".jp-Notebook canvas")
        yield page


def press(page, name, *, says):
    """Click the button, and wait until the status says so."""
    page.get_by_role("button", name=name, exact=True).click()
    page.wait_for_selector(f".widget-html:has-text('{says}')", timeout=90_000)


def open_file(page, path, *, says):
    """Choose the file, and wait until the status says so."""
    with page.expect_file_chooser() as chooser:
        page.locator("button.jupyter-widgets:has-text('Open')").click()
    chooser.value.set_files(str(path))
    page.wait_for_selector(f".widget-html:has-text('{says}')", timeout=90_000)


def test_a_photograph_is_opened_filled_enlarged_undone_and_saved(page, photograph, folder):
    open_file(page, photograph, says="cup: 120×90 pixels")
    canvas = page.locator(".jp-Notebook canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    y = box["y"] + box["height"] / 2
    assert (round(box["width"]), round(box["height"])) == (320, 240)
    page.mouse.move(box["x"] + 67, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, y, steps=8)
    page.mouse.up()
    page.wait_for_timeout(1000)
    page.get_by_role("button", name="Fill", exact=True).click()
    page.wait_for_timeout(3000)
    press(page, "Enlarge ×2", says="240×180 pixels")
    press(page, "Undo", says="120×90 pixels")
    press(page, "Save", says="Saved as cup-edited-1.png")
    with Image.open(folder / "cup-edited-1.png") as saved, Image.open(photograph) as opened:
        changed = np.abs(np.asarray(saved).astype(int) - np.asarray(opened)).sum(2) > 0
    rows, columns = changed.nonzero()
    assert 30 < len(rows) < 0.3 * changed.size
    assert abs(rows.mean() - 45) < 4 and 15 < columns.min() < columns.max() < 85
    press(page, "Undo", says="120×90 pixels")
    press(page, "Save", says="Saved as cup-edited-2.png")
    with Image.open(folder / "cup-edited-2.png") as saved, Image.open(photograph) as opened:
        assert np.array_equal(np.asarray(saved), np.asarray(opened))
    assert "Traceback" not in page.locator(".jp-Notebook").inner_text()


def test_a_file_of_more_than_ten_megabytes_reaches_the_kernel(page, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2100, 3), dtype=np.uint8)
    path = tmp_path / "noise.png"
    Image.fromarray(noise).save(path, compress_level=1)
    assert path.stat().st_size > 12_000_000
    open_file(page, path, says="noise: 2100×2000 pixels")
