"""The tools that make the committed chapters and check them, on tiny chapters made here."""

import base64
import json
import sys
from importlib.machinery import ModuleSpec
from io import BytesIO
from types import ModuleType

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image, PngImagePlugin

from tests.support.small_books import make_chapter, use_book
from tools import __main__ as tools
from tools import execute, table
from tools.check import find_problems
from tools.execute import as_text, from_text, read_edited_side, settle_notebook, shrink_png
from vlmbook import chapters
from vlmbook.notebook import records
from vlmbook.notebook.kernel import Stopped

STEM = "ch99a_tiny"

# A chapter for a real kernel: it prints what every run changes only where it is tagged `record`.
TINY = """\
# %% [markdown]
# # A tiny chapter
# §9.9

# %%
import sys

import matplotlib.pyplot as plt

from vlmbook.notebook.records import published, record

# %% tags=["record"]
published("ch99a")

# %%
for step in range(3):
    print(f"step {step}", end="\\r")
    print(f"\\r{step}: it/s", end="", file=sys.stderr)
print("trained")

# %%
_ = plt.plot([1, 2, 4])

# %%
6 * 7

# %%
_ = record("ch99a", seed=0, accuracy=0.5)
"""


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book whose table has one chapter, of which nothing is written yet -> that chapter."""
    folder = use_book(monkeypatch, tmp_path / "notebooks", STEM)
    (folder / "text").mkdir()
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    return chapters.TABLE[0]


@pytest.fixture
def tiny(book):
    """A chapter of which there is only the text."""
    book.text.write_text(TINY, encoding="utf-8")
    return book


def read_tree(chapter):
    """-> dict of path to bytes: everything in the book."""
    root = chapter.notebook.parent.parent
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


# --- execute, in a real kernel ------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_executions_differ_in_nothing_but_what_was_measured(tiny, capsys):
    assert tools.main(["execute", "ch99a"]) == 0
    cost = records.cost(records.load("ch99a", "quick"))
    assert cost in capsys.readouterr().out
    first = read_tree(tiny)
    notebook = nbformat.read(tiny.notebook, as_version=4)
    shown = notebook.cells[2].outputs[0].text
    assert shown == f"quick: {cost}\n full: no published run yet\n"  # the record of this very run
    assert [cell.outputs[0].get("text") for cell in notebook.cells[3:4]] == ["trained\n"]
    assert len(notebook.cells[3].outputs) == 1  # no progress bar
    assert notebook.cells[5].outputs[0].data["text/plain"] == "42"

    assert tools.main(["execute", STEM]) == 0
    second = read_tree(tiny)
    assert (
        first.keys()
        == second.keys()
        == {f"notebooks/{STEM}.ipynb", f"notebooks/text/{STEM}.py", "results/ch99a.quick.json"}
    )
    again = records.cost(records.load("ch99a", "quick"))
    assert (
        second[f"notebooks/{STEM}.ipynb"].decode().replace(again, cost)
        == first[f"notebooks/{STEM}.ipynb"].decode()
    )
    assert second[f"notebooks/text/{STEM}.py"].decode() == first[f"notebooks/text/{STEM}.py"].decode() == TINY
    measured = {"seconds": 0, "processor_seconds": 0, "peak_memory_bytes": 0}
    entries = [json.loads(files["results/ch99a.quick.json"]) for files in (first, second)]
    assert entries[0] | measured == entries[1] | measured
    assert find_problems(tiny) == ["it has 6 code cells, not 15 to 35"]


@pytest.mark.slow
def test_the_first_cell_shows_the_picture_of_this_very_run(tiny):
    look = """published("ch99a")
from vlmbook.notebook import records
print([path.name for path in records.RESULTS.glob("*.png")])"""
    save = """
from vlmbook.notebook.records import output_folder
plt.savefig(output_folder() / "ch99a.quick.png")"""
    text = TINY.replace('published("ch99a")', look).replace("accuracy=0.5)", "accuracy=0.5)" + save)
    tiny.text.write_text(text, encoding="utf-8")
    assert tools.main(["execute", "ch99a"]) == 0
    shown = nbformat.read(tiny.notebook, as_version=4).cells[2].outputs[0].text
    assert "['ch99a.quick.png']" in shown


@pytest.mark.slow
def test_a_tagged_cell_that_records_once_more_does_not_lose_the_time(tiny):
    text = TINY.replace('published("ch99a")', 'published("ch99a")\n_ = record("ch99a", seed=0, accuracy=0.7)')
    tiny.text.write_text(text, encoding="utf-8")
    assert tools.main(["execute", "ch99a"]) == 0
    entry = records.load("ch99a", "quick")
    assert entry["seconds"] > 0 and entry["measurements"] == {"accuracy": 0.5}


@pytest.mark.slow
def test_a_full_run_publishes_its_record_and_picture_alone(tiny, capsys):
    picture = "from vlmbook.notebook.records import output_folder\n"
    picture += 'plt.savefig(output_folder() / "ch99a.full.png")\n'
    tiny.text.write_text(TINY + picture, encoding="utf-8")
    before = read_tree(tiny)
    assert tools.main(["execute", "ch99a", "--profile", "full"]) == 0
    assert "execute ch99a` shows it in the notebook" in capsys.readouterr().out
    after = read_tree(tiny)
    assert set(after) - set(before) == {"results/ch99a.full.json", "results/ch99a.full.png"}
    assert records.load("ch99a", "full")["seconds"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("6 * 7", "6 / 0", "cell 5 of 6 raised ZeroDivisionError"),
        ('_ = record("ch99a", seed=0, accuracy=0.5)', "", "it wrote no record"),
        (
            "seed=0, accuracy=0.5)",
            "seed=0)\nfrom vlmbook.notebook.records import output_folder\n"
            '(output_folder() / "ch99a.quick.png").write_bytes(bytes(300_001))',
            "300,001 bytes, more than 300,000",
        ),
        (
            'published("ch99a")',
            'assert "ran" not in globals()\nran = True',
            "tagged record, raised AssertionError",
        ),
    ],
)
def test_a_chapter_that_fails_leaves_every_file_as_it_was(tiny, old, new, said):
    assert old in TINY
    tiny.text.write_text(TINY.replace(old, new), encoding="utf-8")
    tiny.notebook.write_text("what was committed", encoding="utf-8")
    records.RESULTS.mkdir()
    (records.RESULTS / "ch99a.quick.json").write_text("{}", encoding="utf-8")
    before = read_tree(tiny)
    with pytest.raises(Stopped, match=said):
        execute.execute(tiny, side="text")  # which takes no look at a notebook that cannot be read
    assert read_tree(tiny) == before


@pytest.mark.slow
def test_the_command_reports_a_failure(tiny, capsys):
    tiny.text.write_text("# %%\n1 / 0\n", encoding="utf-8")
    assert tools.main(["execute", "ch99a"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "ch99a: cell 1 of 1 raised ZeroDivisionError: division by zero" in said


@pytest.mark.parametrize("arguments", [["execute", "ch98"], ["check", "ch98"]])
def test_an_unknown_chapter_is_answered_with_those_there_are(tiny, capsys, arguments):
    assert tools.main(arguments) == 1
    assert capsys.readouterr().err == "there is no chapter 'ch98'; there are ch99a\n"


def test_no_chapter_at_all_is_no_success(tiny, capsys):
    tiny.text.unlink()
    assert tools.main(["check"]) == 1
    assert "there is no chapter in" in capsys.readouterr().err


# --- which side was edited ----------------------------------------------------------------------------------


def sources(cells):
    return [cell.source for cell in cells]


@pytest.fixture
def pair(tiny):
    """The chapter of two cells as an execution leaves it."""
    cells = [new_markdown_cell("# T"), new_code_cell("%matplotlib inline\nx = 1")]
    notebook = settle_notebook(new_notebook(cells=cells))
    nbformat.write(notebook, tiny.notebook)
    tiny.text.write_text(as_text(notebook.cells), encoding="utf-8")
    return tiny


def edit_text(chapter, new):
    chapter.text.write_text(chapter.text.read_text(encoding="utf-8").replace("x = 1", new), encoding="utf-8")


def edit_notebook(chapter, new):
    notebook = nbformat.read(chapter.notebook, as_version=4)
    notebook.cells[1].source = f"%matplotlib inline\n{new}"
    nbformat.write(notebook, chapter.notebook)


def test_the_edited_side_is_taken(pair):
    assert sources(read_edited_side(pair)) == ["# T", "%matplotlib inline\nx = 1"]
    edit_text(pair, "x = 2")
    assert sources(read_edited_side(pair))[1].endswith("x = 2")
    edit_text(pair, "x = 1")
    pair.text.write_text(as_text(nbformat.read(pair.notebook, as_version=4).cells), encoding="utf-8")
    edit_notebook(pair, "x = 3")
    assert sources(read_edited_side(pair))[1].endswith("x = 3")


def test_new_prose_is_taken_without_a_run_and_the_outputs_stay(pair):
    notebook = nbformat.read(pair.notebook, as_version=4)
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="1\n")]
    nbformat.write(notebook, pair.notebook)
    pair.text.write_text(pair.text.read_text(encoding="utf-8").replace("# T", "# A title"), encoding="utf-8")
    assert tools.main(["reword", "ch99a"]) == 0
    reworded = nbformat.read(pair.notebook, as_version=4)
    assert sources(reworded.cells) == ["# A title", "%matplotlib inline\nx = 1"]
    assert reworded.cells[1].outputs[0].text == "1\n"
    assert sources(read_edited_side(pair)) == sources(reworded.cells)
    assert pair.text.read_text(encoding="utf-8") == as_text(reworded.cells)


def test_new_code_wants_a_run(pair, capsys):
    edit_text(pair, "x = 2")
    before = read_tree(pair)
    assert tools.main(["reword", "ch99a"]) == 1
    assert "a code cell was edited" in capsys.readouterr().err
    assert read_tree(pair) == before


def test_tags_are_sources_and_other_metadata_is_not(pair):
    notebook = nbformat.read(pair.notebook, as_version=4)
    notebook.cells[1].metadata = {"tags": ["record"], "collapsed": True}
    nbformat.write(notebook, pair.notebook)
    assert read_edited_side(pair)[1].metadata == {"tags": ["record"]}


def test_both_edited_is_refused_until_a_side_is_named(pair, capsys):
    edit_text(pair, "x = 2")
    edit_notebook(pair, "x = 3")
    before = read_tree(pair)
    assert tools.main(["execute", "ch99a"]) == 1
    assert "say --from text or --from notebook" in capsys.readouterr().err
    assert read_tree(pair) == before
    assert sources(read_edited_side(pair, "text"))[1].endswith("x = 2")
    assert sources(read_edited_side(pair, "notebook"))[1].endswith("x = 3")


def test_both_edited_alike_is_no_conflict(pair):
    edit_text(pair, "x = 2")
    edit_notebook(pair, "x = 2")
    assert sources(read_edited_side(pair))[1].endswith("x = 2")


def test_a_side_that_is_alone_is_taken(pair):
    pair.text.unlink()
    assert len(read_edited_side(pair)) == 2
    pair.text.write_text(TINY, encoding="utf-8")
    pair.notebook.unlink()
    assert len(read_edited_side(pair)) == 7
    with pytest.raises(Stopped, match="ch99a has no notebook to take"):
        read_edited_side(pair, "notebook")


def test_a_notebook_that_was_never_executed_here_makes_a_conflict_with_another_text(pair):
    nbformat.write(new_notebook(cells=[new_code_cell("x = 3")]), pair.notebook)
    with pytest.raises(Stopped, match="both edited"):
        read_edited_side(pair)


def test_text_and_cells_go_there_and_back():
    cells = from_text(TINY)
    assert as_text(cells) == TINY
    assert [cell.metadata.get("tags") for cell in cells] == [None, None, ["record"], None, None, None, None]
    assert not TINY.startswith("# ---")  # no header, so that nothing pairs by itself


# --- the same bytes -----------------------------------------------------------------------------------------


def picture(kind="chart", size=(400, 300), **options):
    """-> bytes of a PNG: "chart" white with a coloured bar, "photo" of many colours, "blank" or "empty"
    (nearly).
    """
    pixels = np.full((size[1], size[0], 3), 255, np.uint8)
    if kind == "photo":
        pixels[20:-20, 20:-20] = shades(size[1] - 40, size[0] - 40)
    if kind == "chart":
        pixels[100:200, 50:350] = (0, 90, 200)
    if kind == "empty":
        pixels[:4, :4] = 0
    buffer = BytesIO()
    Image.fromarray(pixels).convert("RGBA").save(buffer, "PNG", **options)
    return buffer.getvalue()


def shades(height, width):
    """-> (height, width, 3) uint8: from the white of the page to a dark red, with the noise of a
    photograph.
    """
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    dark = (1 - x[..., None]) * np.array([1, 0.8, 0.6]) * (0.3 + 0.7 * y[..., None] * np.array([1, 0.5, 0]))
    noise = np.random.default_rng(0).normal(0, 2, (height, width, 3))
    return (255 * (1 - dark) + noise).clip(0, 255).astype(np.uint8)


def shown(data, **more):
    return new_output("display_data", {"image/png": base64.b64encode(data).decode(), **more})


def test_pictures_shrink_keep_their_size_and_lose_their_text():
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "Matplotlib")
    for kind in ("chart", "photo"):
        before, after = picture(kind, pnginfo=info), shrink_png(picture(kind, pnginfo=info))
        old, new = Image.open(BytesIO(before)), Image.open(BytesIO(after))
        assert len(after) < len(before)
        assert new.mode == "P" or kind == "chart"
        assert new.size == old.size
        assert "Software" in old.info and not new.info
        assert shrink_png(before) == after
        old, new = (np.asarray(image.convert("RGB")).astype(int) for image in (old, new))
        white = (old == 255).all(axis=-1)
        assert (new[white] == 255).all()  # no speckles on the page
        assert abs(old - new).mean() < (0.01 if kind == "chart" else 4)


def test_a_photograph_keeps_its_tones():
    """Dithered, the mean of a neighbourhood stays; cut to the nearest of 256 colours alone, it does not."""
    y, x = np.mgrid[0:1:260j, 0:1:360j]
    ramp = np.stack([255 * x, 200 * y + 40 * x, 180 * (1 - x) * y + 60], axis=-1).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(ramp).save(buffer, "PNG")
    made = np.asarray(Image.open(BytesIO(shrink_png(buffer.getvalue()))).convert("RGB"))
    blocks = (ramp.astype(float) - made).reshape(26, 10, 36, 10, 3).mean(axis=(1, 3))
    assert abs(blocks).mean() < 0.7


def test_transparency_survives():
    pixels = np.zeros((50, 50, 4), np.uint8)
    pixels[10:40, 10:40] = (200, 30, 30, 128)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    made = np.asarray(Image.open(BytesIO(shrink_png(buffer.getvalue()))).convert("RGBA"))
    assert (made == pixels).all()


def settle(*outputs, source="1"):
    return (
        settle_notebook(new_notebook(cells=[new_code_cell(source, outputs=list(outputs))])).cells[0].outputs
    )


def stream(text, name="stdout"):
    return new_output("stream", text=text, name=name)


@pytest.mark.parametrize(
    ("outputs", "texts"),
    [
        ([stream("a"), stream("b\n")], ["ab\n"]),
        ([stream("a\n"), stream("w\n", "stderr"), stream("b\n")], ["a\n", "w\n", "b\n"]),
        ([stream(" 10%\r 50%\r100%\ndone\n")], ["100%\ndone\n"]),
        (
            [stream("\r  0%|  | 0/9 [00:00<?", "stderr"), stream("\r100%|##| 9/9 [00:01<00:00]\n", "stderr")],
            [],
        ),
        ([stream("\r100%|##| 9/9\nlook out\n", "stderr")], ["look out\n"]),
    ],
)
def test_streams_are_joined_and_progress_bars_dropped(outputs, texts):
    assert [output.text for output in settle(*outputs)] == texts


def test_of_a_widget_its_table_stays():
    data = {execute.WIDGET: {"model_id": "1f"}, "text/html": "<table></table>", "text/plain": "a table"}
    output = execute.settle_output(new_output("display_data", data))
    assert output.data == {"text/html": "<table></table>", "text/plain": "a table"}


def test_of_a_widget_its_picture_stays():
    view = {execute.WIDGET: {"model_id": "1f"}, "text/plain": "VBox()"}
    both = shown(picture(), **view)
    both.metadata = {"needs_background": "light"}
    [output] = settle(both)
    assert set(output.data) == {"image/png", "text/plain"}
    assert output.metadata == {}
    assert settle(new_output("display_data", {**view, "text/plain": "  0%|  | 0/300 [00:00<?, ?it/s]"})) == []
    [output] = settle(new_output("display_data", view))  # left for `check` to name
    assert execute.WIDGET in output.data


def test_ids_come_from_the_source_and_counts_from_the_order():
    cells = [
        new_code_cell("f()"),
        new_markdown_cell("f()"),
        new_code_cell(""),
        new_code_cell("f()", outputs=[new_output("execute_result", {"text/plain": "1"}, execution_count=9)]),
    ]
    first, second = (settle_notebook(new_notebook(cells=cells)) for _ in range(2))
    assert nbformat.writes(first) == nbformat.writes(second)
    assert len({cell.id for cell in first.cells}) == 4
    assert [cell.get("execution_count") for cell in first.cells] == [1, None, None, 2]
    assert first.cells[3].outputs[0].execution_count == 2


# --- check --------------------------------------------------------------------------------------------------

IMPORTS = "import os.path\nfrom vlmbook.notebook import records\nfrom vlmbook.notebook.records import load"


@pytest.fixture
def good(book, monkeypatch):
    """A chapter in which nothing is to be found, with two exercises and an erratum."""
    module = ModuleType("vlmbook.chapters.ch99a.exercises")
    module.__spec__ = ModuleSpec(module.__name__, None)
    module.EXERCISES = {"1": ..., "2": ...}
    monkeypatch.setitem(sys.modules, module.__name__, module)
    chapter = make_chapter(STEM, errata=("W77",))
    monkeypatch.setattr(chapters, "TABLE", (chapter,))
    records.RESULTS.mkdir()
    entry = {"seconds": 12.3, "peak_memory_bytes": {"ram": 1e9}, "device": "CPU, 2 threads"}
    for profile in ("quick", "full"):
        (records.RESULTS / f"ch99a.{profile}.json").write_text(json.dumps(entry), encoding="utf-8")
    costs = stream(f"quick: {records.cost(entry)}\n full: {records.cost(entry)}\n")
    save(
        chapter,
        settle_notebook(
            new_notebook(
                cells=[
                    new_markdown_cell("# A title\n§2.2.1, one question\n```python\n# no title\n```"),
                    new_code_cell(IMPORTS),
                    new_code_cell("published()", metadata={"tags": ["record"]}, outputs=[costs]),
                    new_code_cell(
                        "plot()",
                        outputs=[shown(picture(), **{"text/plain": "<Figure size 400x300 with 1 Axes>"})],
                    ),
                    new_markdown_cell(
                        "As $y = x$ shows (W77), https://example.org/home/page is cited, not loaded."
                    ),
                    *[new_code_cell(f"print({n})", outputs=[stream(f"{n} / 2\n")]) for n in range(12)],
                    new_code_cell('answer = ...\ncheck("ch99a.1", answer)\ncheck("ch99a.2", answer)'),
                ]
            )
        ),
    )
    return chapter


def save(chapter, notebook):
    nbformat.write(notebook, chapter.notebook)
    chapter.text.write_text(as_text(notebook.cells), encoding="utf-8", newline="\n")


def test_a_good_chapter_has_no_problems(good, capsys):
    assert find_problems(good) == []
    assert tools.main(["check"]) == 0
    assert capsys.readouterr().out == "ch99a: as it should be\n"


# Each defect changes a cell: 1 title, 2 imports, 3 record, 4 picture, 5 prose, 6-17 prints, 18 exercises.
def source(number, text):
    def plant(notebook):
        notebook.cells[number - 1].source = text

    return plant


def output(*outputs, number=6):
    def plant(notebook):
        notebook.cells[number - 1].outputs = list(outputs)

    return plant


def cell(number, **values):
    def plant(notebook):
        notebook.cells[number - 1].update(values)

    return plant


def metadata(**values):
    def plant(notebook):
        notebook.metadata.update(values)

    return plant


def without(*numbers):
    def plant(notebook):
        notebook.cells = [cell for number, cell in enumerate(notebook.cells, 1) if number not in numbers]

    return plant


def doubled(notebook):
    notebook.cells += [new_code_cell(f"more({n})") for n in range(30)]


def longer(notebook):
    for kept in notebook.cells[5:17]:
        kept.source = "\n".join(f"x{n} = {n}" for n in range(12))


HOME, WORK, WINDOWS = "/ho" + "me/ann/x.py", "/wo" + "rk/main/x", "C:" + "\\Users\\ann"
ERROR = new_output("error", ename="ValueError", evalue="no", traceback=["ValueError: no"])

# Planted in the sources or the outputs, and then brought into the committed form: all else is as execute
# makes it.
DEFECTS = [
    (output(ERROR), "cell 6 raised ValueError"),
    (output(stream("UserWarning: no\n", "stderr")), "cell 6 wrote to stderr: UserWarning: no"),
    (output(stream(f"in {HOME}")), "cell 6 holds a path of one machine: /ho" + "me/a…"),
    (output(stream(f"'{WORK}'")), "cell 6 holds a path of one machine: /wo" + "rk/m…"),
    (
        output(new_output("display_data", {"text/html": f"<b>{WINDOWS}</b>"})),
        "cell 6 holds a path of one machine: C:" + "\\Users…",
    ),
    (source(6, f"open('{HOME}')"), "cell 6 holds a path of one machine: /ho" + "me/a…"),
    (source(5, f"Look in {WORK}."), "cell 5 holds a path of one machine: /wo" + "rk/m…"),
    (
        output(new_output("execute_result", {"text/plain": "<f at 0x7f12345678>"})),
        "cell 6 shows an object's address in memory, which every run changes",
    ),
    (
        output(new_output("display_data", {"text/plain": "<Figure size 640x480 with 1 Axes>"})),
        "cell 6 names a figure and shows none",
    ),
    (
        output(new_output("display_data", {execute.WIDGET: {}, "text/plain": "VBox()"})),
        "cell 6 shows a widget, and no picture of it for those who have no kernel",
    ),
    (output(number=4), "it shows no picture"),
    (output(shown(picture("blank"))), "cell 6 shows a picture of one colour"),
    (output(shown(picture("empty"))), "cell 6 shows a picture that is 99.99% background"),
    (
        output(new_output("display_data", {"image/jpeg": "bm8gcGljdHVyZQ=="})),
        "cell 6 shows a picture that cannot be decoded",
    ),
    (
        output(new_output("display_data", {"image/svg+xml": "<svg/>"})),
        "cell 6 shows an SVG, which nobody can check for being blank; PNG is smaller too",
    ),
    (
        output(stream("7 s"), number=3),
        "no cell tagged record shows the published quick run: 12 s, 1.0 GB, CPU, 2",
    ),
    (output(stream("x" * 1_000_000)), "the file has 1,0"),
    (without(6, 7), "it has 14 code cells, not 15 to 35"),
    (doubled, "it has 46 code cells, not 15 to 35"),
    (longer, "the median code cell has 12 lines, more than 11"),
    (source(6, "x\n" * 26), "cell 6 has 26 lines, more than 25"),
    (source(6, "x\n\n" * 13 + "x"), "cell 6 has 27 lines, more than 25"),
    (source(6, f"x = '{'y' * 95}'"), "cell 6 has a line over 100 characters"),
    (source(6, "import os\n" * 11), "cell 6 imports on 11 lines, more than 10"),
    (source(6, "from os import (\n" + "    path,\n" * 9 + ")"), "cell 6 imports on 11 lines, more than 10"),
    (source(6, "import torchvisoin.ops"), "cell 6 imports torchvisoin.ops, which does not exist"),
    (
        source(6, "def f():\n    from vlmbook.notebook.records import lode"),
        "cell 6 imports vlmbook.notebook.records.lode, which does not exist",
    ),
    (source(6, "from vlmbook import recrods"), "cell 6 imports vlmbook.recrods, which does not exist"),
    (source(6, "def f(:"), "cell 6 is not Python"),
    (source(5, "# Another title"), "it has 2 titles (`# …`), not 1"),
    (source(1, "## No title, §2"), "it does not begin with its title"),
    (source(1, "# A title"), "its title cell does not name the section of the book (§)"),
    (source(5, "![a photo](https://example.org/a.png)"), "cell 5 shows an image from the network"),
    (source(5, '<img width="9" src="http://example.org/a.png">'), "cell 5 shows an image from the network"),
    (source(18, 'check("ch99a.1", 1)'), "it does not ask exercise ch99a.2"),
    (
        source(6, 'check("ch99a.7", 1)'),
        "it checks ch99a.7, which vlmbook.chapters.ch99a.exercises does not have",
    ),
]

# Of names, in cells 6 and later.
DEFECTS += [
    (
        source(6, "import os.path as load"),
        "cell 6 makes load the import os.path; in cell 2 it is the import vlmbook",
    ),
    (source(7, "os = 1"), "cell 7 binds os to a value; in cell 2 it is the import os"),
    (source(7, "[os for os in 'ab']"), "cell 7 binds os to a value"),
    (source(7, "def f(os): ..."), "cell 7 binds os to a value"),
    (source(7, "def f():\n    def f(): ..."), "cell 7 binds f to a value; in cell 7 it is a function"),
    (source(7, "def load(): ..."), "cell 7 makes load a function; in cell 2 it is the import vlmbook"),
    (source(7, "answer = answer + 1"), "cell 7 cannot be run twice: it reads answer of an earlier cell and"),
    (source(7, "answer += 1"), "cell 7 cannot be run twice: it changes answer of an earlier cell"),
    (source(7, "answer[0].x += 1"), "cell 7 cannot be run twice: it changes answer of an earlier cell"),
    (source(7, "if 1:\n    del answer"), "cell 7 cannot be run twice: it deletes answer"),
    (
        source(7, "answer.x.append(1)"),
        "cell 7 cannot be run twice: it calls answer.append() of an earlier cell",
    ),
    (
        source(7, "h = fit(answer, 2)"),
        "cell 7 cannot be run twice: it calls fit(answer, …) of an earlier cell",
    ),
    (source(5, "no erratum"), "it does not treat erratum W77"),
]
INNOCENT = [
    "import os.path\nfrom vlmbook.notebook.records import load",
    "class Net:\n    load = 1\n    def os(self): ...",
    "x = answer\nx = x + 1\nx += 1",
    "answer = 3\nanswer += 1\nanswer = answer + 1",
    "answer = answer.cpu().eval()",
    "answer, y = answer.cpu(), 1",
    "answer |= {1: 2}\nanswer['a'] = 1\nanswer.b = 2",
    "y = [answer for answer in 'ab']\nfor answer in y: ...",
    "def f(): global answer; answer += 1",
    "fit(net := answer, 2)",
    "z = answer.update(1)",
]

# Planted in the committed form itself.
FORM = "its metadata or cell ids are not those that `python -m tools execute` writes"
SPOILT = [
    (cell(6, execution_count=None), "cell 6 was not executed"),
    (cell(6, execution_count=99), "the execution counts are not 1, 2, 3, … in order"),
    (source(6, "print(0 )"), "the outputs are older than the source"),
    (cell(6, metadata={"tags": ["record"]}), "the outputs are older than the source"),
    (cell(6, id="0123"), FORM),
    (cell(6, metadata={"collapsed": True}), FORM),
    (metadata(widgets={}), FORM),
]


@pytest.mark.parametrize(("plant", "problem"), DEFECTS, ids=[problem[:50] for _, problem in DEFECTS])
def test_a_planted_defect_is_named(good, plant, problem):
    notebook = nbformat.read(good.notebook, as_version=4)
    notebook.cells[5].source = "answer = 2"
    plant(notebook)
    save(good, settle_notebook(notebook))
    found = find_problems(good)
    assert [sentence for sentence in found if sentence.startswith(problem)], found


@pytest.mark.parametrize("innocent", INNOCENT)
def test_names_that_keep_to_the_rules_are_left_in_peace(good, innocent):
    notebook = nbformat.read(good.notebook, as_version=4)
    notebook.cells[5].source = "answer = 2"
    notebook.cells[6].source = innocent
    save(good, settle_notebook(notebook))
    assert find_problems(good) == []


@pytest.mark.parametrize(("plant", "problem"), SPOILT, ids=[problem[:50] for _, problem in SPOILT])
def test_a_chapter_saved_by_other_hands_is_named(good, plant, problem):
    notebook = nbformat.read(good.notebook, as_version=4)
    plant(notebook)
    save(good, notebook)
    assert problem in find_problems(good)


def test_the_text_has_to_be_there_and_to_be_the_same_byte_for_byte(good, capsys):
    good.text.write_bytes(good.text.read_bytes().replace(b"# %%", b"# %% ", 1))
    assert find_problems(good) == [f"text/{STEM}.py is not the text of this notebook"]
    good.text.unlink()
    assert find_problems(good) == [f"there is no text/{STEM}.py beside it"]
    assert tools.main(["check", "ch99a"]) == 1
    assert capsys.readouterr().out == f"{STEM}.ipynb: there is no text/{STEM}.py beside it\n"


def test_a_text_without_its_notebook_is_named(tiny):
    assert find_problems(tiny) == [f"there is only its text, text/{STEM}.py"]


def test_a_record_has_to_be_published(good):
    (records.RESULTS / "ch99a.quick.json").unlink()
    assert find_problems(good) == ["results/ has no ch99a.quick.json"]


# --- the README's table -------------------------------------------------------------------------------------


def test_the_readme_shows_the_table_that_the_records_make():
    readme = table.README.read_text(encoding="utf-8")
    assert table.split_readme(readme)[1] == table.make_table(), "run `python -m tools table`"


def test_the_table_is_written_between_its_markers(book, tmp_path, monkeypatch):
    to_come = make_chapter("appendix_a_frameworks", title="Frameworks", section="App. A", result="snippets")
    monkeypatch.setattr(chapters, "TABLE", (*chapters.TABLE, to_come))
    book.notebook.write_text("{}", encoding="utf-8")
    entry = {"peak_memory_bytes": {"ram": 1e9, "gpu": 2.5e9}, "device": "NVIDIA H100"}
    records.RESULTS.mkdir()
    for profile, seconds in (("full", 61.6), ("quick", 9)):
        path = records.RESULTS / f"ch99a.{profile}.json"
        path.write_text(json.dumps(entry | {"seconds": seconds}), encoding="utf-8")
    readme = tmp_path / "README.md"
    readme.write_text("above\n<!-- chapters -->\nold\n<!-- /chapters -->\nbelow §\n", encoding="utf-8")
    monkeypatch.setattr(table, "README", readme)
    for _ in range(2):
        assert tools.main(["table"]) == 0
        above, made, below = table.split_readme(readme.read_text(encoding="utf-8"))
        assert (above, below) == ("above\n", "\nbelow §\n")
    assert made.splitlines()[2:] == [
        f"| [ch99a Tiny](notebooks/{STEM}.ipynb) | §9.9 | what it shows "
        "| 9 s, 1.0 GB, 2.5 GB on the GPU | 62 s, 1.0 GB, 2.5 GB on the GPU, NVIDIA H100 |",
        "| appendix_a Frameworks | App. A | snippets | to come |  |",
    ]


def test_a_readme_without_markers_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(table, "README", tmp_path / "README.md")
    table.README.write_text("nothing\n", encoding="utf-8")
    assert tools.main(["table"]) == 1
    assert "README.md has no room for the table" in capsys.readouterr().err
