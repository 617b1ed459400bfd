"""Bring a chapter into its committed form: notebook and text agree, executed, the same bytes at every run."""

import base64
import hashlib
import json
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import jupytext
import nbformat
import numpy as np
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image
from tqdm import tqdm

from vlmbook.chapters import Chapter
from vlmbook.files import write_whole
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
CLAIMS = "claims"  # the tag of a cell that holds a section's asserts
WIDGET = "application/vnd.jupyter.widget-view+json"
NEW_CELL = {
    "code": nbformat.v4.new_code_cell,
    "markdown": nbformat.v4.new_markdown_cell,
    "raw": nbformat.v4.new_raw_cell,
}
PROGRESS_BAR = re.compile(r"\[\d\d:\d\d[<,]")  # "  0%|          | 0/300 [00:00<?, ?it/s]"


# --- the two sides of a chapter -----------------------------------------------------------------------------


def as_text(cells: list[NotebookNode]) -> str:
    """list of cells -> str: the chapter as a Python file, cells parted by `# %%`."""
    metadata = METADATA | {"jupytext": FILTERS}
    return jupytext.writes(nbformat.v4.new_notebook(cells=cells, metadata=metadata), fmt=FORMAT)


def from_text(text: str) -> list[NotebookNode]:
    """str -> list of cells without outputs."""
    return [strip_cell(cell) for cell in jupytext.reads(text, fmt=FORMAT).cells]


def strip_cell(cell: NotebookNode) -> NotebookNode:
    """cell -> its source and tags alone."""
    tags = cell.metadata.get("tags")
    return NEW_CELL[cell.cell_type](cell.source, metadata={"tags": list(tags)} if tags else {})


def hash_sources(cells: list[NotebookNode]) -> str:
    """list of cells -> str: changes with any cell's type, source or tags, and with nothing else."""
    plain = [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in cells]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()


def read_edited_side(chapter: Chapter, side: str | None = None) -> list[NotebookNode]:
    """Chapter, "text"|"notebook"|None -> list of cells: those of the side that was edited since the last
    execution.

    Raises Stopped where that is both and they disagree. A named side is taken without a look at the other.
    """
    if side and not getattr(chapter, side).exists():
        raise Stopped(f"{chapter.name} has no {side} to take")
    if side:
        return read_text(chapter) if side == "text" else read_notebook(chapter)[0]
    if not chapter.notebook.exists():
        return read_text(chapter)
    cells, executed = read_notebook(chapter)
    if not chapter.text.exists():
        return cells
    text = read_text(chapter)
    if hash_sources(cells) in (executed, hash_sources(text)):
        return text
    if hash_sources(text) == executed:
        return cells
    raise Stopped(
        f"{chapter.name}: notebook and text were both edited and disagree; say --from text or --from notebook"
    )


def read_text(chapter):
    return from_text(chapter.text.read_text(encoding="utf-8"))


def read_notebook(chapter):
    """Chapter -> (list of cells, as its text would give them; hash of the sources that made its outputs)."""
    notebook = nbformat.read(chapter.notebook, as_version=4)
    executed = notebook.metadata.get("vlmbook", {}).get("sources")
    return from_text(as_text([strip_cell(cell) for cell in notebook.cells])), executed


# --- one execution ------------------------------------------------------------------------------------------


def execute(chapter: Chapter, *, profile: str = "quick", side: str | None = None) -> None:
    """Chapter -> None: run it, publish its record and, in the quick profile, write notebook and text.

    Raises Stopped, and then has changed no file, when a cell fails or the notebook records nothing.
    """
    notebook = nbformat.v4.new_notebook(cells=read_edited_side(chapter, side))
    with tempfile.TemporaryDirectory(prefix="vlmbook-", ignore_cleanup_errors=True) as folder:
        made = Path(folder) / f"{chapter.name}.{profile}.json"
        run_notebook(notebook, chapter, made, profile)
        files = {
            records.RESULTS / path.name: path.read_bytes()
            for path in (made, made.with_suffix(".png"))
            if path.exists()
        }
    if profile == "quick":
        notebook = settle_notebook(notebook)
        files |= {
            chapter.text: as_text(notebook.cells).encode(),
            chapter.notebook: (nbformat.writes(notebook) + "\n").encode(),
        }
    for path, content in files.items():
        write_whole(path, content)


def reword(chapter: Chapter) -> None:
    """Chapter -> None: the notebook gets the prose of its text and keeps its outputs; nothing is run.

    Raises Stopped, and then has changed no file, where a code cell was edited too.
    """
    if not (chapter.notebook.exists() and chapter.text.exists()):
        raise Stopped(f"{chapter.name} wants a text and an executed notebook")
    executed = only_code(nbformat.read(chapter.notebook, as_version=4))
    notebook = settle_notebook(nbformat.v4.new_notebook(cells=read_text(chapter)))
    code = only_code(notebook)
    if hash_sources(code) != hash_sources(executed):
        raise Stopped(f"{chapter.name}: a code cell was edited; `python -m tools execute {chapter.name}`")
    for cell, old in zip(code, executed, strict=True):
        cell.outputs = old.outputs
    write_whole(chapter.text, as_text(notebook.cells).encode())
    write_whole(chapter.notebook, (nbformat.writes(notebook) + "\n").encode())


def only_code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run_notebook(notebook, chapter, made, profile):
    """Execute in the folder of `made`, the record that the notebook has to write; complete the record, show
    it.
    """

    async def complete(client, run):
        if not made.exists():
            raise Stopped(f"it wrote no record; its last cell has to call record({chapter.name!r}, …)")
        records.add_seconds(made, run.seconds, run.processor_seconds)
        picture = made.with_suffix(".png")
        if picture.exists() and picture.stat().st_size > PICTURE_LIMIT:
            raise Stopped(f"{picture.name} has {picture.stat().st_size:,} bytes, more than {PICTURE_LIMIT:,}")
        entry = made.read_bytes()
        await show_record(client, made)
        made.write_bytes(entry)  # a cell that records and shows has just recorded once more, without the time

    count = sum(cell.cell_type == "code" for cell in notebook.cells)
    with tqdm(total=count, desc=chapter.name, unit="cell", disable=None) as bar:
        run = kernel.execute(
            notebook, folder=made.parent, profile=profile, on_cell=lambda *_: bar.update(), after=complete
        )
    if run.error:
        print_tracebacks(notebook)
        raise Stopped(f"{chapter.name}: {run.error}")


async def show_record(client, made):
    """Run the cells tagged `record` again, in the same kernel, over the published records and the one just
    made.

    The kernel reads a copy of results/, so that nothing is published before everything went well.
    """
    published = made.parent / "published"
    if records.RESULTS.exists():
        shutil.copytree(records.RESULTS, published)
    else:
        published.mkdir()
    for path in (made, made.with_suffix(".png")):
        if path.exists():
            shutil.copy(path, published)
    there = f"__import__('pathlib').Path({str(published)!r})"
    client.kc.execute(
        f"__import__('vlmbook.notebook.records').notebook.records.RESULTS = {there}", silent=True
    )
    for index, cell in enumerate(client.nb.cells):
        if "record" in cell.metadata.get("tags", []):
            try:
                await client.async_execute_cell(cell, index)
            except CellExecutionError as failed:
                raise Stopped(
                    f"cell {index + 1}, tagged record, raised {failed.ename}: {failed.evalue}"
                ) from None


def print_tracebacks(notebook):
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                print("\n".join(output.traceback), file=sys.stderr)


# --- the same bytes at every run ----------------------------------------------------------------------------


def settle_notebook(notebook: NotebookNode) -> NotebookNode:
    """executed NotebookNode -> NotebookNode with nothing in it that another run would change, but measured
    values.
    """
    cells = [strip_cell(cell) for cell in notebook.cells]
    for cell, executed, name in zip(cells, notebook.cells, make_ids(cells), strict=True):
        cell.id = name
        settle_metadata(cell)
        if cell.cell_type == "code":
            settled = [settle_output(output) for output in merge_streams(executed.outputs)]
            cell.outputs = [output for output in settled if output is not None]
    number_cells(cells)
    metadata = METADATA | {"vlmbook": {"sources": hash_sources(cells)}}
    settled_notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.validate(settled_notebook)
    return settled_notebook


def settle_metadata(cell: NotebookNode) -> NotebookNode:
    """cell -> the same cell, folded in JupyterLab where it holds claims."""
    if CLAIMS in cell.metadata.get("tags", []):
        cell.metadata["jupyter"] = {"source_hidden": True}
    return cell


def number_cells(cells):
    """Execution counts from the order: 1, 2, 3, …"""
    executed = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    for count, cell in enumerate(executed, start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count


def make_ids(cells: list[NotebookNode]) -> Iterator[str]:
    """list of cells -> str for each: an id made from its source, and its position among cells of the same
    source.
    """
    seen = Counter()
    for cell in cells:
        seen[cell.source] += 1
        content = f"{cell.cell_type}\n{cell.source}\n{seen[cell.source]}"
        yield hashlib.sha256(content.encode()).hexdigest()[:12]


def merge_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
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


def settle_output(output: NotebookNode) -> NotebookNode | None:
    """output -> the output as it is committed, None for what is of no use on paper (progress bars)."""
    if output.output_type == "stream":
        return settle_stream(output)
    if output.output_type not in ("display_data", "execute_result"):
        return output
    data = dict(output.data)
    if WIDGET in data and "image/png" not in data and PROGRESS_BAR.search(data.get("text/plain", "")):
        return None
    if "image/png" in data or "text/html" in data:
        data.pop(WIDGET, None)  # the view needs a kernel, the picture or the table does not
    if "image/png" in data:
        data["image/png"] = base64.b64encode(shrink_png(base64.b64decode(data["image/png"]))).decode()
    return NotebookNode(output | {"data": data, "metadata": {}})


def settle_stream(output):
    """Progress bars go from stderr, for they hold times; of what stdout wrote over itself the last state
    stays.
    """
    lines = output.text.split("\n")
    if output.name == "stderr":
        lines = [line for line in lines if "\r" not in line]
    text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
    return NotebookNode(output | {"text": text}) if text.strip() else None


def shrink_png(data: bytes) -> bytes:
    """PNG bytes -> PNG bytes without text chunks: the picture as it is or in 256 colours, whichever is
    smaller.
    """
    picture = Image.open(BytesIO(data))
    picture.load()
    picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    if picture.mode == "RGBA" and picture.getextrema()[3] == (255, 255):
        picture = picture.convert("RGB")
    return min(encode_png(picture), encode_png(reduce_colours(picture)), key=len)


def reduce_colours(picture):
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


def encode_png(picture):
    buffer = BytesIO()
    picture.info.clear()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
