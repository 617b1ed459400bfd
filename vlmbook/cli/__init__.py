"""The command `vlmbook`: run the chapters, open them in JupyterLab, grade exercises, examine this machine."""

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from glob import glob
from importlib import import_module
from pathlib import Path
from threading import Event, Thread

# What is heavy (torch, Jupyter) is imported where it is used, so that `vlmbook --help` answers at once.

GOOD, BAD, MISUSED, INTERRUPTED = 0, 1, 2, 130  # exit codes; 130 is what shells use for Ctrl-C


class Mistake(Exception):
    """What the user asked for cannot be done; one sentence says what is right."""


# --- what several commands need -----------------------------------------------------------------------------


def print_table(head, rows):
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def one_line(text, longest):
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def shown(path):
    """Path -> str: as a reader in the current folder would write it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def profile_or_mistake(name):
    """str or None -> "quick" or "full"; None is what VLMBOOK_PROFILE says."""
    from vlmbook import runtime

    if name is not None and name not in runtime.PROFILES:
        raise Mistake(f"there is no profile {name!r}; there are {', '.join(runtime.PROFILES)}")
    try:
        return name or runtime.profile()
    except ValueError as wrong:
        raise Mistake(str(wrong)) from None


def chapter_or_mistake(name):
    """str -> Path of the book's notebook."""
    from vlmbook import chapters

    try:
        return chapters.find(name).notebook
    except ValueError as unknown:
        raise Mistake(str(unknown)) from None


def make_folder(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise Mistake(f"{folder} is not a folder and cannot become one: a file is in its place") from None


def headings(notebook):
    """NotebookNode -> dict: index of each code cell -> the heading that it stands under."""
    heading, found = "", {}
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            found[index] = heading
        elif cell.cell_type == "markdown":
            prose = re.sub(r"^(```|~~~).*?^\1", "", cell.source, flags=re.MULTILINE | re.DOTALL)
            lines = re.findall(r"^#{1,6}\s+(.+)$", prose, flags=re.MULTILINE)
            heading = lines[-1].strip() if lines else heading
    return found


@contextmanager
def ticking(bar):
    """Redraw a progress bar each second while a cell computes; in a file that would only be more lines."""
    done = Event()

    def tick():
        while not done.wait(1):
            bar.refresh()

    if sys.stderr.isatty():
        Thread(target=tick, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def execute_with_bar(label, notebook, **how):
    """`kernel.execute` under a progress bar that says which cell runs and what it is about."""
    from tqdm import tqdm

    from vlmbook.notebook import kernel

    under = headings(notebook)
    number = {index: n for n, index in enumerate(under, start=1)}
    look = "{percentage:3.0f}%|{bar:10}| {desc} [{elapsed}]"
    with tqdm(total=len(under), bar_format=look, dynamic_ncols=True) as bar:

        def on_cell(index, _):
            bar.n = number[index] - 1
            about = one_line(under[index], 40)
            bar.set_description_str(f"{label} cell {number[index]} of {len(under)}: {about}")

        bar.set_description_str(f"{label} starts a kernel")
        with ticking(bar):
            run = kernel.execute(notebook, on_cell=on_cell, **how)
        if not run.error:
            bar.n = len(under)
            bar.set_description_str(f"{label} ran {len(under)} cells")
    return run


# --- vlmbook run --------------------------------------------------------------------------------------------

RUN_TABLE = ["chapter", "seconds", "peak memory", "device", "checks passed", "exercises"]


def run(args):
    from vlmbook import chapters

    profile = profile_or_mistake(args.profile)
    asked = (
        args.chapters
        if args.chapters and "all" not in args.chapters
        else [chapter.name for chapter in chapters.written()]
    )
    sources = list(dict.fromkeys(chapter_or_mistake(name) for name in asked))
    if not sources:
        raise Mistake(f"there are no chapters in {chapters.NOTEBOOKS}")
    output = output_folder(args.output, sources, profile)
    rows, failures, interrupted = [], [], False
    try:
        for source in sources:
            row, reasons = run_chapter(source, output, profile)
            rows.append(row)
            failures += reasons
    except KeyboardInterrupt:
        interrupted = True
    if rows:
        print_table(RUN_TABLE, rows)
    for failure in failures:
        print(failure)
    copies = [executed_copy(source, output, profile) for source in sources]
    kept = ", ".join(shown(copy) for copy in copies if copy.exists())
    if interrupted:
        print(f"Stopped by Ctrl-C; no kernel is left. Kept, as far as it ran: {kept or 'nothing'}")
        return INTERRUPTED
    print(f"Executed copy: {kept}" if len(rows) == 1 else f"Executed copies: {shown(output)}")
    return BAD if failures else GOOD


def executed_copy(source, output, profile):
    return output / f"{source.stem}.{profile}.ipynb"


def record_of(source, output, profile):
    from vlmbook import chapters

    return output / f"{chapters.of_file(source).name}.{profile}.json"


def output_folder(asked, sources, profile):
    """-> Path of a folder in which none of these chapters has left anything; a new one where none is asked
    for.
    """
    from vlmbook import chapters
    from vlmbook.notebook import records

    if asked is None:
        stamp = Path.cwd() / "vlmbook-runs" / time.strftime("%Y-%m-%d_%H-%M-%S")
        folder, again = stamp, 1
        while folder.exists():  # two runs in one second
            folder, again = stamp.with_name(f"{stamp.name}_{again}"), again + 1
        make_folder(folder)
        return folder
    folder = Path(asked).absolute()
    if folder.resolve() in (chapters.NOTEBOOKS.resolve(), records.RESULTS.resolve()):
        raise Mistake(f"{folder} belongs to the book; choose another --output")
    make_folder(folder)
    for source in sources:
        record = record_of(source, folder, profile)
        for there in (executed_copy(source, folder, profile), record, record.with_suffix(".png")):
            if there.exists():
                raise Mistake(f"{there} is there already and is not overwritten; choose another --output")
    return folder


def run_chapter(source, output, profile):
    """Path of a chapter -> its row of the table, and a list with the reason if it failed."""
    import nbformat

    from vlmbook import chapters
    from vlmbook.notebook import records

    name, copy = chapters.of_file(source).name, executed_copy(source, output, profile)
    notebook = nbformat.read(source, as_version=4)
    try:
        done = execute_with_bar(name, notebook, folder=output, profile=profile)
    finally:  # a failed or interrupted run too shows how far it came
        with copy.open("x", encoding="utf-8") as file:
            nbformat.write(notebook, file)
    if (record := record_of(source, output, profile)).exists():
        records.add_seconds(record, done.seconds)
    row = [
        name,
        f"{done.seconds:.0f}",
        memory(done.peak_memory_bytes),
        done.device or "-",
        f"{done.claims_held}/{done.claims}",
        answered(done.exercises),
    ]
    return row, [f"{name} failed: {one_line(done.error, 400)}"] if done.error else []


def memory(peak):
    """dict of bytes, as `runtime.peak_memory` gives it -> str."""
    where = {"ram": "", "gpu": " on the GPU"}
    return " + ".join(f"{size / 1e9:.1f} GB{where[kind]}" for kind, size in peak.items()) or "-"


def answered(exercises):
    """dict of outcomes -> "1 of 4 answered", and how many of them are wrong."""
    count = list(exercises.values()).count
    wrong = f", {count('failed')} wrong" if count("failed") else ""
    return f"{len(exercises) - count('unanswered')} of {len(exercises)} answered{wrong}" if exercises else "-"


# --- vlmbook lab --------------------------------------------------------------------------------------------

# Jupytext answers HTTP 400, or shows its text file instead, after a notebook was edited elsewhere. It comes
# as a server extension, or in the settings of the user as the contents manager.
WITHOUT_JUPYTEXT = (
    "--ServerApp.jpserver_extensions=jupyterlab_jupytext=False",
    "--ServerApp.jpserver_extensions=jupytext=False",
    "--ServerApp.contents_manager_class="
    "jupyter_server.services.contents.largefilemanager.AsyncLargeFileManager",
)


def lab(args):
    folder = Path(args.dir).absolute()
    chapter = [folder / chapter_or_mistake(args.chapter).name] if args.chapter else []
    for message in working_copy(folder):
        print(message)
    os.environ |= {"JUPYTER_PREFER_ENV_PATH": "1", "VLMBOOK_OUTPUT": str(folder / "runs")}
    options = [f"--ServerApp.root_dir={folder}", *WITHOUT_JUPYTEXT, *map(str, chapter), *args.jupyterlab]
    print(f"Opening JupyterLab on {shown(folder)}; Ctrl-C here stops it.", flush=True)
    if os.name == "posix":  # become JupyterLab: one process for Ctrl-C to stop
        # -P: a reader's random.py in this folder must not stand in for Python's own
        os.execv(sys.executable, [sys.executable, "-P", "-m", "jupyterlab", *options])
    from jupyterlab.labapp import LabApp

    LabApp.launch_instance(options)
    return GOOD


MANIFEST = ".vlmbook.json"  # in a working folder: file name -> SHA-256 of what was laid there


def working_copy(folder):
    """Path -> list of messages: lay the book's chapters into a reader's folder, over nothing of the reader's.

    A chapter that is as it was laid is refreshed when the book's is newer. A file that the reader edited, or
    made under a chapter's name, stays, and the newer chapter is laid beside it, once, as
    `….new-1a2b3c.ipynb`. A chapter that the reader deleted comes back: so one starts it afresh.
    """
    from vlmbook import chapters

    book = [chapter.notebook for chapter in chapters.written()]
    if folder.resolve() == chapters.NOTEBOOKS.resolve():
        raise Mistake(f"{folder} is the book's own; choose another --dir")
    make_folder(folder)
    laid = read_manifest(folder / MANIFEST)
    before, laid_now, back, refreshed, messages = dict(laid), [], [], [], []
    for source in book:
        content = source.read_bytes()
        newest, working = sha256(content), folder / source.name
        there = sha256(working.read_bytes()) if working.exists() else None
        if there in (None, laid.get(source.name), newest):
            if there != newest:
                write(working, content)
                (refreshed if there else back if source.name in laid else laid_now).append(source.name)
            laid[source.name] = newest
            continue
        beside = working.with_name(f"{source.stem}.new-{newest[:6]}.ipynb")
        if newest not in (laid.get(source.name), laid.get(beside.name)):
            if not beside.exists():
                write(beside, content)
            laid[beside.name] = newest
            messages.append(
                f"{source.name} is yours and stays; the book's newer one is beside it: {beside.name}"
            )
    if laid != before:
        write(folder / MANIFEST, json.dumps(laid, indent=1).encode())
    done = {"new": laid_now, "put back, since you deleted or renamed it": back, "refreshed": refreshed}
    return [f"{what}: {', '.join(names)}" for what, names in done.items() if names] + messages


def read_manifest(path):
    """Path -> dict; a lost or broken manifest is an empty one: every file that differs is then the
    reader's.
    """
    try:
        laid = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return laid if isinstance(laid, dict) else {}


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def write(path, content):
    """Whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)


# --- vlmbook grade ------------------------------------------------------------------------------------------

CHECK = re.compile(r"""^[^#\n]*\bcheck\(\s*["'](\w+)\.(\w+)["']""", re.MULTILINE)
RIGHT, BLANK, WRONG = "passed", "unanswered", "failed"  # from `check`; two more where it says nothing:
MISSING, NOT_REACHED = "missing", "not reached"


def grade(args):
    profile = profile_or_mistake(args.profile)
    files = list(dict.fromkeys(file for name in args.files for file in spelled_out(name)))
    graded, reasons, unusable, interrupted = {}, [], [], False
    try:
        for file in files:
            try:
                graded[file], why = grade_file(file, profile, args.timeout)
                reasons += why
            except Mistake as mistake:
                unusable.append(f"vlmbook: {mistake}")
    except KeyboardInterrupt:
        interrupted = True
    print_grades(graded)
    for reason in reasons:
        print(reason)
    for mistake in unusable:
        print(mistake, file=sys.stderr)
    if interrupted:
        print(
            f"Stopped by Ctrl-C; no kernel is left. Graded: {len(graded)} of {len(files)} files; none is changed."
        )
        return INTERRUPTED
    if unusable:
        return MISUSED
    return GOOD if all(one in (RIGHT, BLANK) for row in graded.values() for one in row.values()) else BAD


def spelled_out(name):
    """str -> list of str: the console of Windows hands on `*.ipynb` as it stands."""
    return [name] if os.path.exists(name) else sorted(glob(name)) or [name]


def print_grades(graded):
    if not graded:
        return
    exercises = list(dict.fromkeys(name for row in graded.values() for name in row))
    print_table(
        ["file", *exercises, "passed"],
        [
            [
                file,
                *(row.get(name, "") for name in exercises),
                f"{list(row.values()).count(RIGHT)} of {len(row)}",
            ]
            for file, row in graded.items()
        ],
    )


def grade_file(file, profile, timeout):
    """str -> dict "ch03a.1" -> grade, and a list of what went wrong in the notebook beside wrong answers."""
    notebook = read_student(file)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    wanted = wanted_exercises(file, cells)
    with tempfile.TemporaryDirectory(prefix="vlmbook-grade-", ignore_cleanup_errors=True) as folder:
        done = execute_with_bar(
            Path(file).name, notebook, folder=folder, profile=profile, timeout=timeout, keep_going=True
        )
    called = {name: cell for cell in cells for name in checks(cell)}
    ends = [(number, cell.outputs[-1]) for number, cell in enumerate(cells, start=1) if cell.outputs]
    reasons = [
        f"{file}: cell {number}: {one_line(end.ename + ': ' + end.evalue, 200)}"
        for number, end in ends
        if end.output_type == "error"
    ]
    if done.error:
        reasons.append(f"{file}: stopped, {one_line(done.error, 200)}")
    return {name: verdict(done.exercises.get(name), called.get(name)) for name in wanted}, reasons


def read_student(file):
    import nbformat

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cells without ids come from older editors
            notebook = nbformat.read(file, as_version=4)
            nbformat.validate(notebook)
    except OSError as error:
        raise Mistake(f"cannot read {file}: {error.strerror}") from None
    except Exception:  # nbformat raises half a dozen kinds, AttributeError too
        raise Mistake(f"{file} is not a notebook") from None
    return notebook


def wanted_exercises(file, cells):
    """-> list of str: all exercises of each chapter of which the notebook checks one, or whose name it
    bears.
    """
    from pkgutil import iter_modules

    from vlmbook.notebook import exercises

    named = {name.partition(".")[0] for cell in cells for name in checks(cell)}
    named.add(re.split(r"[_.]", Path(file).name)[0])
    chapters = sorted(named & {module.name for module in iter_modules(exercises.__path__)})
    wanted = [
        f"{chapter}.{number}"
        for chapter in chapters
        for number in import_module(f"vlmbook.chapters.{chapter}.exercises").EXERCISES
    ]
    if not wanted:
        raise Mistake(f'{file} has no exercises: no cell of it calls check("ch03a.1", …) or the like')
    return wanted


def checks(cell):
    """Code cell -> list of str: the exercises it checks, "ch03a.1"."""
    return [f"{chapter}.{number}" for chapter, number in CHECK.findall(cell.source)]


def verdict(outcome, cell):
    """What `check` said and the cell that calls it, or None for either -> grade."""
    if outcome in (RIGHT, BLANK, WRONG):
        return outcome
    if cell is None:
        return MISSING
    return WRONG if cell.execution_count else NOT_REACHED  # a cell that ran without an answer had an error


# --- vlmbook doctor -----------------------------------------------------------------------------------------

OLDEST_PYTHON = 3, 11


def doctor(args):
    can_run = True
    for name, look, needed, fix in EXAMINATIONS:
        try:
            print(f"ok    {name:<12} {look()}", flush=True)
        except Exception as error:  # whatever a broken installation raises
            reason = one_line(str(error) or type(error).__name__, 160).rstrip(".")
            print(f"FAIL  {name:<12} {reason}. Fix: {fix}", flush=True)
            can_run &= not needed
    print(
        "The quick profile can run here." if can_run else "The quick profile cannot run here; see FAIL above."
    )
    return GOOD if can_run else BAD


def python_version():
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise Mistake(f"{version}, and 3.11 or newer is wanted")
    return f"{version} at {sys.executable}"


def torch_build():
    import torch

    if [int(n) for n in re.findall(r"\d+", torch.__version__)[:2]] < [2, 6]:
        raise Mistake(f"{torch.__version__}, and 2.6 or newer is wanted")
    builds = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip}
    build = " ".join(f"{name} {version}" for name, version in builds.items() if version)
    return f"{torch.__version__}, built for {build or 'the CPU'}"


def torchvision_with_torch():
    import torch
    import torchvision

    torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)  # compiled code
    return f"{torchvision.__version__}, works with this torch"


def accelerator():
    import torch

    from vlmbook import runtime

    here = runtime.device()
    if here.type == "cpu":
        if shutil.which("nvidia-smi"):
            raise Mistake("an NVIDIA driver is here, but torch finds no GPU to use")
        return f"none, and none is needed ({runtime.device_name()})"
    (torch.ones(2, device=here) + 1).cpu()
    if here.type != "cuda":
        return runtime.device_name()
    free, total = torch.cuda.mem_get_info(here)
    return f"{runtime.device_name()}, {free / 1e9:.0f} GB of {total / 1e9:.0f} GB free"


def jupyter_kernel():
    import nbformat

    from vlmbook.notebook import kernel

    cell = nbformat.v4.new_code_cell("import vlmbook\nprint(6 * 7)")
    with tempfile.TemporaryDirectory(prefix="vlmbook-doctor-", ignore_cleanup_errors=True) as folder:
        done = kernel.execute(nbformat.v4.new_notebook(cells=[cell]), folder=folder, timeout=60)
    if done.error:
        raise Mistake(done.error)
    return f"starts and computes, in {done.seconds:.1f} s"


def data_folder():
    """-> Path: VLMBOOK_DATA, else the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("VLMBOOK_DATA") or platformdirs.user_cache_dir("vlmbook", appauthor=False))


def there_already(folder):
    """Path -> the nearest folder to it, upwards, that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def data_folder_is_writable():
    folder = data_folder()
    there = there_already(folder)
    if not there.is_dir():
        raise Mistake(f"{there} is a file, and a folder is wanted")
    with tempfile.TemporaryFile(dir=there):
        return f"{folder}, {'writable' if there == folder else 'can be made'}"


def free_disk():
    free = shutil.disk_usage(there_already(data_folder())).free
    if free < 1e9:
        raise Mistake(f"{free / 1e9:.1f} GB free where the data go, and 1 GB is wanted")
    return f"{free / 1e9:.0f} GB free where the data go"


def free_memory():
    import psutil

    state = psutil.virtual_memory()
    if state.available < 1e9:
        raise Mistake(f"{state.available / 1e9:.1f} GB free, and 1 GB is wanted")
    return f"{state.available / 1e9:.1f} GB of {state.total / 1e9:.1f} GB free"


# name, what looks (a line, or an error), whether the quick profile needs it, how to mend it
EXAMINATIONS = (
    ("Python", python_version, True, "make the virtual environment with Python 3.11 or newer"),
    ("torch", torch_build, True, "pip install 'torch>=2.6' torchvision, both in one command"),
    (
        "torchvision",
        torchvision_with_torch,
        True,
        "it must match torch: pip install --force-reinstall torch torchvision, both in one command",
    ),
    (
        "accelerator",
        accelerator,
        False,
        "install a torch built for this GPU and driver (pytorch.org/get-started); without, chapters run on the CPU",
    ),
    ("kernel", jupyter_kernel, True, "pip install --force-reinstall ipykernel, into this Python"),
    (
        "data folder",
        data_folder_is_writable,
        False,
        "set VLMBOOK_DATA to a folder you can write to; the quick profile needs none",
    ),
    (
        "disk",
        free_disk,
        False,
        "free some, or set VLMBOOK_DATA to a folder on another; the quick profile needs none",
    ),
    ("memory", free_memory, True, "close other programs"),
)


# --- the command line ---------------------------------------------------------------------------------------


def seconds(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds from 1 up")
    return int(text)


def parser():
    top = argparse.ArgumentParser(prog="vlmbook", description=__doc__)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    profile = dict(metavar="quick|full", help="default: what VLMBOOK_PROFILE says, else quick")

    one = commands.add_parser(
        "run",
        help="execute chapters from top to bottom; tables what they took and proved",
        epilog="Exit code 0: all ran, 1: one failed, 2: misused, 130: Ctrl-C.",
    )
    one.add_argument("chapters", nargs="*", metavar="CHAPTER", help="ch03a, …, or all (default: all)")
    one.add_argument("--profile", **profile)
    one.add_argument(
        "--output",
        metavar="DIR",
        help="for executed copies and records; nothing there is "
        "overwritten (default: a new folder in vlmbook-runs)",
    )
    one.set_defaults(command=run)

    one = commands.add_parser(
        "lab",
        help="open JupyterLab on a working copy of the chapters",
        usage="vlmbook lab [-h] [CHAPTER] [--dir DIR] [-- JUPYTERLAB_OPTION ...]",
        epilog="What you edit is never overwritten: a newer chapter is laid beside yours. To start a chapter afresh, "
        "delete or rename it and call this again.",
    )
    one.add_argument("chapter", nargs="?", metavar="CHAPTER", help="open this one")
    one.add_argument("--dir", default="vlmbook-work", help="the working copy (default: vlmbook-work)")
    one.set_defaults(command=lab)

    one = commands.add_parser(
        "grade",
        help="execute students' notebooks and table their exercises",
        description="Executes each notebook afresh (saved outputs count for nothing) and tables its exercises. "
        "THIS RUNS THE STUDENTS' CODE with your rights, and believes what it says: use an account or a "
        "machine where it can do no harm, and read what looks odd. No file is changed.",
        epilog="passed, failed and unanswered are what check says. failed also stands where the cell ended in an "
        "error or ran too long, missing where no cell calls check, not reached where the notebook had stopped "
        "before. Exit code 0: all passed or unanswered, 1: any other, 2: a file cannot be read or has no "
        "exercises (the others are graded), 130: Ctrl-C.",
    )
    one.add_argument("files", nargs="+", metavar="FILE", help="a notebook, under whatever name")
    one.add_argument("--profile", **profile)
    one.add_argument(
        "--timeout", type=seconds, default=60, metavar="SECONDS", help="for each cell (default: 60)"
    )
    one.set_defaults(command=grade)

    one = commands.add_parser(
        "doctor",
        help="examine whether this machine can run the book, and say how to mend it",
        epilog="Exit code 0: the quick profile can run, 1: it cannot.",
    )
    one.set_defaults(command=doctor)
    return top


def main(argv=None):
    """list of str -> exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a Windows console may lack the letters of a heading
    argv = sys.argv[1:] if argv is None else argv
    split = argv.index("--") if "--" in argv else len(argv)
    args = parser().parse_args(argv[:split])
    args.jupyterlab = argv[split + 1 :]
    try:
        if args.jupyterlab and args.command is not lab:
            raise Mistake("only `vlmbook lab` takes options after --, for JupyterLab")
        return args.command(args)
    except Mistake as mistake:
        print(f"vlmbook: {mistake}", file=sys.stderr)
        return MISUSED
    except OSError as error:  # a full disk, a folder without the right to write
        print(f"vlmbook: {error}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        print("Stopped by Ctrl-C.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
