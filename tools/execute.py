"""Bring a chapter into its committed form: notebook and text agree, executed, the same bytes at every run."""

import base64
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import jupytext
import nbformat
import numpy as np
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image
from tqdm import tqdm

from vlmbook.notebook import kernel, records
from vlmbook.notebook.kernel import Stopped

# How a chapter looks as text. It stands in no configuration file, so that no reader's JupyterLab pairs
# anything.
FORMAT = "py:percent"
FILTERS = {"notebook_metadata_filter": "-all", "cell_metadata_filter": "tags,-all"}

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
PICTURE_LIMIT = 300_000  # bytes of the one picture that may stand beside a record
PHOTOGRAPH = 4096  # a picture with more colours than this is dithered
WIDGET = "application/vnd.jupyter.widget-view+json"
NEW_CELL = {
    "code": nbformat.v4.new_code_cell,
    "markdown": nbformat.v4.new_markdown_cell,
    "raw": nbformat.v4.new_raw_cell,
}
PROGRESS_BAR = re.compile(r"\[\d\d:\d\d[<,]")  # "  0%|          | 0/300 [00:00<?, ?it/s]"


@dataclass(frozen=True)
class Chapter:
    """Where the parts of a chapter lie, from `notebooks/ch03a_….ipynb`."""

    notebook: Path

    @property
    def text(self):
        return self.notebook.parent / "text" / f"{self.notebook.stem}.py"

    @property
    def results(self):
        return self.notebook.parent.parent / "results"

    @property
    def short(self):
        return self.notebook.name.partition("_")[0]


# --- the two sides of a chapter -----------------------------------------------------------------------------


def as_text(cells):
    """list of cells -> str: the chapter as a Python file, cells parted by `# %%`."""
    metadata = METADATA | {"jupytext": FILTERS}
    return jupytext.writes(nbformat.v4.new_notebook(cells=cells, metadata=metadata), fmt=FORMAT)


def from_text(text):
    """str -> list of cells without outputs."""
    return [bare(cell) for cell in jupytext.reads(text, fmt=FORMAT).cells]


def bare(cell):
    """cell -> its source and tags alone."""
    tags = cell.metadata.get("tags")
    return NEW_CELL[cell.cell_type](cell.source, metadata={"tags": list(tags)} if tags else {})


def source_hash(cells):
    """list of cells -> str: changes with any cell's type, source or tags, and with nothing else."""
    plain = [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in cells]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def edited_side(chapter, side=None):
    """Chapter, "text"|"notebook"|None -> list of cells: those of the side that was edited since the last
    execution.

    Raises Stopped where that is both and they disagree. A named side is taken without a look at the other.
    """
    if side and not getattr(chapter, side).exists():
        raise Stopped(f"{chapter.short} has no {side} to take")
    if side:
        return read_text(chapter) if side == "text" else read_notebook(chapter)[0]
    if not chapter.notebook.exists():
        return read_text(chapter)
    cells, executed = read_notebook(chapter)
    if not chapter.text.exists():
        return cells
    text = read_text(chapter)
    if source_hash(cells) in (executed, source_hash(text)):
        return text
    if source_hash(text) == executed:
        return cells
    raise Stopped(
        f"{chapter.short}: notebook and text were both edited and disagree; "
        "say --from text or --from notebook"
    )


def read_text(chapter):
    return from_text(chapter.text.read_text(encoding="utf-8"))


def read_notebook(chapter):
    """Chapter -> (list of cells, as its text would give them; hash of the sources that made its outputs)."""
    notebook = nbformat.read(chapter.notebook, as_version=4)
    executed = notebook.metadata.get("vlmbook", {}).get("sources")
    return from_text(as_text([bare(cell) for cell in notebook.cells])), executed


# --- one execution ------------------------------------------------------------------------------------------


def execute(chapter, *, profile="quick", side=None):
    """Chapter -> None: run it, publish its record and, in the quick profile, write notebook and text.

    Raises Stopped, and then has changed no file, when a cell fails or the notebook records nothing.
    """
    notebook = nbformat.v4.new_notebook(cells=edited_side(chapter, side))
    with tempfile.TemporaryDirectory(prefix="vlmbook-", ignore_cleanup_errors=True) as folder:
        made = Path(folder) / f"{chapter.short}.{profile}.json"
        run_notebook(notebook, chapter, made, profile)
        files = {
            chapter.results / path.name: path.read_bytes()
            for path in (made, made.with_suffix(".png"))
            if path.exists()
        }
    if profile == "quick":
        notebook = committed_form(notebook)
        files |= {
            chapter.text: as_text(notebook.cells).encode(),
            chapter.notebook: (nbformat.writes(notebook) + "\n").encode(),
        }
    for path, data in files.items():
        put(path, data)


def run_notebook(notebook, chapter, made, profile):
    """Execute in the folder of `made`, the record that the notebook has to write; complete the record, show
    it.
    """

    def complete(client, run):
        if not made.exists():
            raise Stopped(f"it wrote no record; its last cell has to call record({chapter.short!r}, …)")
        records.add_seconds(made, run.seconds)
        picture = made.with_suffix(".png")
        if picture.exists() and picture.stat().st_size > PICTURE_LIMIT:
            raise Stopped(f"{picture.name} has {picture.stat().st_size:,} bytes, more than {PICTURE_LIMIT:,}")
        show_record(client, chapter.results, made)

    count = sum(cell.cell_type == "code" for cell in notebook.cells)
    with tqdm(total=count, desc=chapter.short, unit="cell", disable=None) as bar:
        run = kernel.execute(
            notebook, folder=made.parent, profile=profile, on_cell=lambda *_: bar.update(), after=complete
        )
    if run.error:
        print_tracebacks(notebook)
        raise Stopped(f"{chapter.short}: {run.error}")


def show_record(client, results, made):
    """Run the cells tagged `record` again, in the same kernel, over the published records and the one just
    made.

    The kernel reads a copy of results/, so that nothing is published before everything went well.
    """
    published = made.parent / "published"
    shutil.copytree(results, published) if results.exists() else published.mkdir()
    shutil.copy(made, published)
    there = f"__import__('pathlib').Path({str(published)!r})"
    client.kc.execute(f"__import__('vlmbook.notebook.records').records.RESULTS = {there}", silent=True)
    for index, cell in enumerate(client.nb.cells):
        if "record" in cell.metadata.get("tags", []):
            try:
                client.execute_cell(cell, index)
            except CellExecutionError as failed:
                raise Stopped(
                    f"cell {index + 1}, tagged record, raised {failed.ename}: {failed.evalue}"
                ) from None


def print_tracebacks(notebook):
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                print("\n".join(output.traceback), file=sys.stderr)


def put(path, data):
    """Path, bytes -> None: the whole file or, if this is killed, the one that was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    os.replace(partial, path)


# --- the same bytes at every run ----------------------------------------------------------------------------


def committed_form(notebook):
    """executed NotebookNode -> NotebookNode with nothing in it that another run would change, but measured
    values.
    """
    cells = [bare(cell) for cell in notebook.cells]
    for cell, executed, name in zip(cells, notebook.cells, content_ids(cells), strict=True):
        cell.id = name
        if cell.cell_type == "code":
            cell.outputs = [small for output in merged(executed.outputs) if (small := settled(output))]
    for count, cell in enumerate(
        (cell for cell in cells if cell.cell_type == "code" and cell.source.strip()), 1
    ):
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    made = nbformat.v4.new_notebook(
        cells=cells, metadata=METADATA | {"vlmbook": {"sources": source_hash(cells)}}
    )
    nbformat.validate(made)
    return made


def content_ids(cells):
    """list of cells -> str for each: an id made from its source, and its place among cells of the same
    source.
    """
    seen = Counter()
    for cell in cells:
        seen[cell.source] += 1
        yield hashlib.sha256(f"{cell.cell_type}\n{cell.source}\n{seen[cell.source]}".encode()).hexdigest()[
            :12
        ]


def merged(outputs):
    """list of outputs -> the same with neighbouring pieces of one stream joined: the pieces are an accident
    of time.
    """
    joined = []
    for output in outputs:
        if output.output_type == "stream" and joined and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(NotebookNode(output))
    return joined


def settled(output):
    """output -> the output as it is committed, None for what is of no use on paper (progress bars)."""
    if output.output_type == "stream":
        return settled_stream(output)
    if output.output_type not in ("display_data", "execute_result"):
        return output
    data = dict(output.data)
    if WIDGET in data and "image/png" not in data and PROGRESS_BAR.search(data.get("text/plain", "")):
        return None
    if "image/png" in data:
        data.pop(WIDGET, None)  # the view needs a kernel, the picture does not
        data["image/png"] = base64.b64encode(small_png(base64.b64decode(data["image/png"]))).decode()
    return NotebookNode(output | {"data": data, "metadata": {}})


def settled_stream(output):
    """Progress bars go from stderr, for they hold times; of what stdout wrote over itself the last state
    stays.
    """
    lines = output.text.split("\n")
    if output.name == "stderr":
        lines = [line for line in lines if "\r" not in line]
    text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
    return NotebookNode(output | {"text": text}) if text.strip() else None


def small_png(data):
    """PNG bytes -> PNG bytes without text chunks: the picture as it is or in 256 colours, whichever is
    smaller.
    """
    picture = Image.open(BytesIO(data))
    picture.load()
    picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    if picture.mode == "RGBA" and picture.getextrema()[3] == (255, 255):
        picture = picture.convert("RGB")
    return min((png(made) for made in (picture, in_palette(picture))), key=len)


def in_palette(picture):
    """RGB or RGBA picture -> the same in at most 256 colours, dithered where it is a photograph."""
    if picture.mode == "RGBA":
        return picture.quantize(256, method=Image.Quantize.FASTOCTREE)
    plain = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=1)
    if picture.getcolors(PHOTOGRAPH):
        return plain
    dithered = picture.quantize(palette=plain, dither=Image.Dither.FLOYDSTEINBERG)
    exact = (np.asarray(plain.convert("RGB")) == np.asarray(picture)).all(axis=-1)
    mixed = Image.fromarray(np.where(exact, plain, dithered))  # dithering would speckle the white page
    mixed.putpalette(plain.getpalette())
    return mixed


def png(picture):
    buffer = BytesIO()
    picture.info.clear()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
