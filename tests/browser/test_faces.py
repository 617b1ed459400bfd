"""Chapter 6a's application in JupyterLab: photographs are uploaded, a person is enrolled and verified."""

import os

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from tests.support import lab
from tools.execute import METADATA
from vlmbook import data

NAME = "faces.ipynb"
CELL = """
import torch
from torch import nn
from vlmbook import face_recognition as fr
from vlmbook.chapters.ch06a import application

class Squares(nn.Module):                    # a coarse copy of the face: quick, and needs no weights
    def forward(self, x):
        x = nn.functional.adaptive_avg_pool2d(x, 6).flatten(1)
        return nn.functional.normalize(x - x.mean(1, keepdim=True))

curve = fr.roc_curve(torch.tensor([0.1, 0.3, 0.5, 0.6, 0.9]), torch.tensor([1, 1, 0, 1, 0]).bool())
application.FaceDesk(fr.FacePipeline(Squares()), curve, threshold=0.4)
"""
if not lab.find_browser() and not os.environ.get("CI"):
    pytest.skip("no Chromium, Chrome or Edge was found", allow_module_level=True)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """-> {name: file}: the astronaut, darker, upside down (no face is found), and what is no photograph."""
    folder = tmp_path_factory.mktemp("photographs")
    face = data.photo("astronaut")[:, :242, 100:342]
    files = {}
    for name, image in {"first": face, "darker": 0.6 * face, "none": data.photo("brick")}.items():
        files[name] = folder / f"{name}.png"
        pixels = (255 * image.permute(1, 2, 0)).round().byte().numpy()
        Image.fromarray(np.ascontiguousarray(pixels)).save(files[name])
    files["text"] = folder / "text.png"
    files["text"].write_text("no photograph")
    return files


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader") / "work"
    with lab.jupyterlab(folder, tmp_path_factory.mktemp("jupyter")) as where, lab.browser() as browser:
        nbformat.write(new_notebook(cells=[new_code_cell(CELL)], metadata=METADATA), folder / NAME)
        page = lab.open_notebook(browser, where, NAME)
        lab.run_all(page)
        page.wait_for_selector(".widget-image")
        yield page


def upload(page, *files):
    with page.expect_file_chooser() as chooser:
        page.locator("button.jupyter-widgets:has-text('photographs')").click()
    chooser.value.set_files([str(file) for file in files])
    page.wait_for_selector(f"button:has-text('photographs ({len(files)})')")


def press(page, name, *, says):
    """Click the button, and wait until the status says so."""
    page.locator(f"button.jupyter-button:text-is('{name}')").click()
    page.wait_for_selector(f".widget-html:has-text('{says}')")


def test_a_person_is_enrolled_verified_and_removed(page, photographs):
    page.locator(".widget-text input").fill("Anna")
    upload(page, photographs["first"])
    press(page, "enrol", says="Anna is enrolled with 1 photograph.")
    before = lab.pixels(page, 0)
    upload(page, photographs["darker"])
    press(page, "verify", says="darker.png is Anna")
    page.wait_for_timeout(500)
    assert lab.pixels(page, 0) != before
    lab.focus_slider(page, "threshold")
    shown = lab.pixels(page, 0)
    page.keyboard.press("Home")
    page.wait_for_timeout(1500)
    assert lab.pixels(page, 0) != shown
    press(page, "remove", says="Anna is removed.")


def test_a_photograph_without_a_face_and_a_file_that_is_none_get_a_sentence(page, photographs):
    page.locator(".widget-text input").fill("Anna")
    upload(page, photographs["none"])
    press(page, "enrol", says="wants exactly one face, got none")
    upload(page, photographs["text"])
    press(page, "enrol", says="text.png cannot be read as an image")
    assert "Traceback" not in page.locator(".jp-Notebook").inner_text()
