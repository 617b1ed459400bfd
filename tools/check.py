"""What a committed chapter has to be: `find_problems` names everything that is not so."""

import ast
import base64
import re
import statistics
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO

import nbformat
import numpy as np
from PIL import Image

from tools.execute import (
    CLAIMS,
    METADATA,
    WIDGET,
    as_text,
    hash_sources,
    make_ids,
    settle_metadata,
    strip_cell,
)
from tools.names import find_rebound_names, find_unrepeatable_cells
from vlmbook import runtime
from vlmbook.chapters import Chapter
from vlmbook.notebook import records
from vlmbook.notebook.cells import checked_exercises, parse

CODE_CELLS = range(15, 36)
MEDIAN_LINES, MOST_LINES, IMPORT_LINES, LINE_LENGTH = 11, 25, 10, 100
OPTIONAL = {"keras", "tensorflow"}  # of the extra `frameworks`: a cell says itself where they are missing
FILE_LIMIT = 1_000_000
NEARLY_EQUAL = 8  # of 255, in every channel: dithering moves a background that much
NOT_BACKGROUND = 0.005  # of a picture's pixels have to differ from its commonest colour
MACHINE_PATH = re.compile(
    r"(?<![\w./~-])(?:/(?:home|root|tmp|work|Users|private|var/folders)/\S|[A-Za-z]:\\+Users)"
)
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")
NETWORK_IMAGE = re.compile(r"!\[[^\]]*\]\(\s*https?:|<img[^>]+src\s*=\s*[\"']?https?:", re.IGNORECASE)


def find_problems(chapter: Chapter) -> list[str]:
    """Chapter -> list of str, one sentence each; empty for a chapter that may be committed."""
    if not chapter.notebook.exists():
        return [f"there is only its text, text/{chapter.text.name}"]
    notebook = nbformat.read(chapter.notebook, as_version=4)
    code = [
        (number, cell)
        for number, cell in enumerate(notebook.cells, 1)
        if cell.cell_type == "code" and cell.source.strip()
    ]
    return [
        *check_sides(chapter, notebook),
        *check_execution(notebook, code),
        *check_form(notebook),
        *check_record(chapter, notebook),
        *check_outputs(code),
        *check_pictures(code),
        *check_sizes(chapter, code),
        *check_imports(code),
        *check_names(code),
        *check_prose(notebook),
        *check_paths(notebook),
        *check_exercises(chapter, code),
        *check_errata(chapter, notebook),
    ]


# --- notebook, text and record belong together --------------------------------------------------------------


def check_sides(chapter, notebook):
    if not chapter.text.exists():
        yield f"there is no text/{chapter.text.name} beside it"
    elif chapter.text.read_bytes() != as_text(notebook.cells).encode():
        yield f"text/{chapter.text.name} is not the text of this notebook"


def check_execution(notebook, code):
    for number, cell in code:
        if cell.execution_count is None:
            yield f"cell {number} was not executed"
    counts = [cell.execution_count for _, cell in code]
    if None not in counts and counts != list(range(1, len(code) + 1)):
        yield "the execution counts are not 1, 2, 3, … in order"
    if notebook.metadata.get("vlmbook", {}).get("sources") != hash_sources(notebook.cells):
        yield "the outputs are older than the source"


def check_form(notebook):
    """Saved by hand from JupyterLab, a notebook has other ids and metadata, which the next execution changes
    back.
    """
    metadata = {key: value for key, value in notebook.metadata.items() if key != "vlmbook"}
    settled = [settle_metadata(strip_cell(cell)).metadata for cell in notebook.cells]
    extra = [cell.metadata for cell in notebook.cells] != settled
    if (
        metadata != METADATA
        or extra
        or [cell.id for cell in notebook.cells] != list(make_ids(notebook.cells))
    ):
        yield "its metadata or cell ids are not those that `python -m tools execute` writes"


def check_record(chapter, notebook):
    """The cells tagged `record` show what the published runs cost."""
    shown = "".join(
        text
        for cell in notebook.cells
        if "record" in cell.metadata.get("tags", [])
        for output in cell.get("outputs", [])
        for text in read_texts(output)
    )
    for profile in runtime.PROFILES:
        entry = records.load(chapter.name, profile)
        if entry and records.cost(entry) not in shown:
            yield f"no cell tagged record shows the published {profile} run: {records.cost(entry)}"
        if profile == "quick" and not entry:
            yield f"results/ has no {chapter.name}.quick.json"


def check_outputs(code):
    for number, cell in code:
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"cell {number} raised {output.ename}"
            if output.output_type == "stream" and output.name == "stderr":
                yield f"cell {number} wrote to stderr: {output.text.strip().splitlines()[0][:60]}"
            if any(ADDRESS.search(text) for text in read_texts(output)):
                yield f"cell {number} shows an object's address in memory, which every run changes"
            data = output.get("data", {})
            if "image/png" not in data and data.get("text/plain", "").startswith("<Figure size"):
                yield f"cell {number} names a figure and shows none"
            if WIDGET in data:
                yield f"cell {number} shows a widget, and no picture of it for those who have no kernel"


def check_pictures(code):
    found = [
        (number, mime, data)
        for number, cell in code
        for output in cell.outputs
        for mime, data in output.get("data", {}).items()
        if mime.startswith("image/")
    ]
    if not found:
        yield "it shows no picture"
    for number, mime, data in found:
        if mime == "image/svg+xml":
            yield f"cell {number} shows an SVG, which nobody can check for being blank; PNG is smaller too"
        else:
            fault = describe_blank(base64.b64decode(data))
            if fault:
                yield f"cell {number} shows a picture {fault}"


def describe_blank(data):
    """bytes of a picture -> str: what is wrong with it, "" for one with something to see."""
    try:
        picture = Image.open(BytesIO(data)).convert("RGB")
    except OSError:
        return "that cannot be decoded"
    counts, colours = map(np.array, zip(*picture.getcolors(picture.width * picture.height), strict=True))
    if len(colours) == 1:
        return "of one colour"
    differs = abs(colours - colours[counts.argmax()]).max(axis=1) > NEARLY_EQUAL
    share = counts[differs].sum() / counts.sum()
    return f"that is {1 - share:.2%} background" if share < NOT_BACKGROUND else ""


def check_sizes(chapter, code):
    size = chapter.notebook.stat().st_size
    if size > FILE_LIMIT:
        yield f"the file has {size:,} bytes, more than {FILE_LIMIT:,}"
    open_cells = [cell for _, cell in code if CLAIMS not in cell.metadata.get("tags", [])]
    if len(open_cells) not in CODE_CELLS:  # claims are folded: a reader does not see them as code
        yield f"it has {len(open_cells)} code cells, not {CODE_CELLS[0]} to {CODE_CELLS[-1]}"
    lines = {number: [line for line in cell.source.splitlines() if line.strip()] for number, cell in code}
    median = statistics.median(map(len, lines.values())) if code else 0
    if median > MEDIAN_LINES:
        yield f"the median code cell has {median:g} lines, more than {MEDIAN_LINES}"
    for number, cell in code:
        whole = len(cell.source.splitlines())  # blank ones included
        if whole > MOST_LINES:
            yield f"cell {number} has {whole} lines, more than {MOST_LINES}"
    for number, block in lines.items():
        if any(len(line) > LINE_LENGTH for line in block):
            yield f"cell {number} has a line over {LINE_LENGTH} characters"


def check_imports(code):
    """At most ten lines of them in a cell, and each names something that exists."""
    for number, cell in code:
        try:
            tree = parse(cell.source)
        except SyntaxError:
            yield f"cell {number} is not Python"
            continue
        found = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        lines = sum(node.end_lineno - node.lineno + 1 for node in found)
        if lines > IMPORT_LINES:
            yield f"cell {number} imports on {lines} lines, more than {IMPORT_LINES}"
        for node in found:
            for module, name in list_imported(node):
                if not exists(module, name):
                    shown = f"{module}.{name}" if name else module
                    yield f"cell {number} imports {shown}, which does not exist"


def list_imported(node):
    """import statement -> list of (module, name), name "" where the module itself is imported."""
    if isinstance(node, ast.Import):
        return [(alias.name, "") for alias in node.names]
    return [(node.module or ".", alias.name) for alias in node.names]


def exists(module, name):
    if module.split(".")[0] in OPTIONAL:
        return True
    try:
        if find_spec(module) is None:
            return False
        return not (name and module.split(".")[0] == "vlmbook") or (
            hasattr(import_module(module), name) or find_spec(f"{module}.{name}") is not None
        )
    except (ImportError, ValueError):
        return False


def check_prose(notebook):
    text = [cell.source if cell.cell_type == "markdown" else "" for cell in notebook.cells]
    titles = sum(len(re.findall(r"^# ", without_fences(source), re.MULTILINE)) for source in text)
    if titles != 1:
        yield f"it has {titles} titles (`# …`), not 1"
    if not text or not text[0].startswith("# "):
        yield "it does not begin with its title"
    elif "§" not in text[0]:
        yield "its title cell does not name the section of the book (§)"
    for number, source in enumerate(text, 1):
        if NETWORK_IMAGE.search(source):
            yield f"cell {number} shows an image from the network"


def without_fences(source):
    return re.sub(r"^```.*?^```", "", source, flags=re.DOTALL | re.MULTILINE)


def check_paths(notebook):
    for number, cell in enumerate(notebook.cells, 1):
        parts = [cell.source, *(text for output in cell.get("outputs", []) for text in read_texts(output))]
        for found in filter(None, map(MACHINE_PATH.search, parts)):
            yield f"cell {number} holds a path of one machine: {found[0]}…"


def read_texts(output):
    """output -> list of str: everything in it that a reader reads, so no pictures."""
    if output.output_type == "stream":
        return [output.text]
    if output.output_type == "error":
        return [output.evalue, *output.traceback]
    return [str(data) for mime, data in output.data.items() if not mime.startswith("image/")]


def check_exercises(chapter, code):
    """Each exercise of the chapter is asked, and no other is."""
    asked = {name for _, cell in code for name in checked_exercises(cell.source)}
    module = f"vlmbook.chapters.{chapter.name}.exercises"
    exercises = import_module(module).EXERCISES if exists(module, "") else ()
    written = {f"{chapter.name}.{number}" for number in exercises}
    for name in sorted(asked - written):
        yield f"it checks {name}, which {module} does not have"
    for name in sorted(written - asked):
        yield f"it does not ask exercise {name}"


def check_errata(chapter, notebook):
    """Each of the chapter's errata of the book is named in its text."""
    text = "\n".join(cell.source for cell in notebook.cells)
    for erratum in chapter.errata:
        if not re.search(rf"\b{erratum}\b", text):
            yield f"it does not treat erratum {erratum}"


# --- names --------------------------------------------------------------------------------------------------


def check_names(code):
    """A name means one thing in a notebook, and a cell can be run twice."""
    trees = {}
    for number, cell in code:
        with suppress(SyntaxError):
            trees[number] = parse(cell.source)
    yield from find_rebound_names(trees)
    yield from find_unrepeatable_cells(trees)
