"""The command `vlmbook` as a reader, a teacher and a stranger meet it: real kernels, a real server, a real
Ctrl-C.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import psutil
import pytest
from jupyter_server.serverapp import ServerApp
from nbformat.v4 import new_output

from tests.support.small_books import make_chapter, make_notebook, read_notebook, use_book, write_notebook
from vlmbook import chapters, cli, runtime
from vlmbook.cli import console, doctor, lab, run
from vlmbook.notebook.messages import MIME

ROOT = Path(__file__).parents[2]
CHAPTERS = ("ch00_new", "ch01_features", "ch02_foundations", "ch03a_convolution")

# A process of its own, with another book: what `vlmbook ARGS` does, for what must not happen in the tests'
# process.
PROGRAM = f"""import sys
from pathlib import Path
import pytest
from tests.support.small_books import use_book
from vlmbook import cli
use_book(pytest.MonkeyPatch(), Path(sys.argv[1]), *{CHAPTERS!r})
sys.exit(cli.main(sys.argv[2:]))
"""


def contents(folder):
    """Path -> dict: name -> bytes of every file in it, hidden ones too."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def words(table):
    """str -> list of lists: the cells of a printed table, which stand two blanks apart."""
    return [[word.strip() for word in line.split("  ") if word.strip()] for line in table.splitlines()]


def with_path(*folders):
    """-> str: the value of PYTHONPATH with these folders first."""
    return os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])


def wait_for(what, *, at_most=60):
    deadline = time.monotonic() + at_most
    while not (found := what()):
        assert time.monotonic() < deadline, f"waited {at_most} s in vain"
        time.sleep(0.05)
    return found


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of which nothing is written yet, and an empty current folder beside it."""
    folder = use_book(monkeypatch, tmp_path / "book", *CHAPTERS)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("VLMBOOK_PROFILE", raising=False)
    return folder


@pytest.fixture
def start(book, tmp_path):
    """-> a function that starts `vlmbook ARGS` on the book in a process of its own; it ends with the test."""
    started = []

    def begin(*args, **env):
        out, err = (tmp_path / "stdout").open("wb"), (tmp_path / "stderr").open("wb")
        with out, err:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-c", PROGRAM, str(book), *args],
                    stdout=out,
                    stderr=err,
                    env=os.environ | {"PYTHONPATH": with_path(ROOT)} | env,
                    # Where the tests run in the background of a shell, Ctrl-C is ignored, and children
                    # inherit that.
                    preexec_fn=None
                    if os.name == "nt"
                    else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                )
            )
        return started[0]

    def said():
        return (tmp_path / "stdout").read_bytes(), (tmp_path / "stderr").read_bytes()

    begin.said = said
    yield begin
    for process in started:
        process.kill()
        process.wait()


# --- everywhere ---------------------------------------------------------------------------------------------


def test_help_answers_without_loading_anything_heavy():
    code = (
        "import sys, vlmbook.cli\ntry: vlmbook.cli.main(['--help'])\n"
        "finally: print({'torch', 'nbformat', 'jupyterlab', 'numpy', 'IPython'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "doctor" in done.stdout and done.stdout.endswith("set()\n")


@pytest.mark.parametrize(
    "wrong, says",
    [
        (["run", "ch77"], "there is no chapter 'ch77'; there are ch01, ch02"),
        (["run", "ch01", "ch0"], "there is no chapter 'ch0'; there are ch01, ch02"),
        (["run", "--profile", "huge"], "there is no profile 'huge'; there are quick, full"),
        (["run", "ch01", "--output", "taken"], "a file is in its place"),
        (["run", "ch01", "--output", "taken/deeper"], "a file is in its place"),
        (["run", "ch01", "--output", "../book"], "is the book's own"),
        (["run", "ch01", "--output", ""], "--output wants a folder, got ''"),
        (["run", "ch01", "--profile", ""], "there is no profile ''"),
        (["lab", "--dir", ""], "--dir wants a folder, got ''"),
        (["lab", ""], "there is no chapter ''"),
        (["lab", "ch77"], "there is no chapter 'ch77'; there are ch01, ch02"),
        (["lab", "--dir", "taken"], "a file is in its place"),
        (["lab", "--dir", "../book"], "is the book's own"),
        (
            ["grade", "student.ipynb", "--profile", "huge"],
            "there is no profile 'huge'; there are quick, full",
        ),
        (["run", "ch01", "--", "--port=1"], "there is no chapter '--port=1'; there are ch01, ch02"),
        (["run", "ch01", "--output", "~nobody-of-this-name/out"], "whose user is not there"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(book, capsys, wrong, says):
    write_notebook(book / "ch01_features.ipynb", "1")
    write_notebook(book / "ch02_foundations.ipynb", "1")
    Path("taken").write_text("mine")
    before = contents(book)
    assert cli.main(wrong) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("vlmbook: ") and says in err and len(err.splitlines()) == 1
    assert contents(Path()) == {"taken": b"mine"} and [*Path().iterdir()] == [Path("taken")]
    assert contents(book) == before


def test_a_wrong_profile_in_the_environment_is_a_mistake_too(book, capsys, monkeypatch):
    write_notebook(book / "ch01_features.ipynb", "1")
    monkeypatch.setenv("VLMBOOK_PROFILE", "fast")
    assert cli.main(["run"]) == 2
    assert capsys.readouterr().err == "vlmbook: VLMBOOK_PROFILE wants 'quick' or 'full', got 'fast'\n"


def test_an_empty_profile_in_the_environment_counts_as_none(book, monkeypatch):
    monkeypatch.setenv("VLMBOOK_PROFILE", "")
    assert console.profile_or_mistake(None) == "quick"


@pytest.mark.parametrize(
    "wrong", [[], ["sing"], ["grade"], ["grade", "x", "--timeout", "0"], ["run", "--nope"]]
)
def test_misuse_exits_2(wrong):
    with pytest.raises(SystemExit) as ended:
        cli.main(wrong)
    assert ended.value.code == 2


@pytest.mark.slow
def test_a_console_without_the_letters_prints_others(book, start):
    write_notebook(book / "ch01_features.ipynb", "# 卷积 und Größe", "raise ValueError('错误')")
    process = start("run", PYTHONIOENCODING="cp1252")
    assert process.wait(60) == 1
    out, err = start.said()
    assert b"cell 1 of 1 raised ValueError: ??" in out and "und Größe".encode("cp1252") in err
    assert b"Unicode" not in out + err


# --- vlmbook run --------------------------------------------------------------------------------------------

GOOD_CHAPTER = [
    "# # A good chapter\n\n```\n# no heading\n```",
    "import os\nassert 1 == 1\nassert 2 == 2",
    "# ## The second part of it, whose heading is too long for a progress bar",
    "from vlmbook.notebook.exercises import check\nfor answer in (..., ...): check('ch03a.1', ...)\n"
    "check('ch03a.2', 5)",
    "from vlmbook.notebook import records\nrecords.record('ch01', seed=0, accuracy=0.5)",
]
GOOD_CHAPTER[0], GOOD_CHAPTER[2] = GOOD_CHAPTER[0][2:], "# " + GOOD_CHAPTER[2][5:]


@pytest.mark.slow
def test_run_executes_tables_records_and_never_overwrites(book, capsys):
    source = write_notebook(book / "ch01_features.ipynb", *GOOD_CHAPTER)
    committed = source.read_bytes()
    assert cli.main(["run", "--output", "out"]) == 0
    out, err = capsys.readouterr()

    head, row, where = words(out)
    assert head == ["chapter", "seconds", "peak memory", "device", "checks passed", "exercises"]
    assert row[0] == "ch01" and row[2].endswith(" GB") and row[3].startswith(("CPU", "NVIDIA", "MPS", "XPU"))
    assert row[4:] == ["2/2", "1 of 2 answered, 1 wrong"]
    assert where == [f"Executed copy: {Path('out/ch01_features.quick.ipynb')}"]

    assert "ch01 cell 1 of 3: A good chapter" in err
    assert re.search(r" 33%\|[^|]*\| ch01 cell 2 of 3: The second", err)
    assert "ch01 cell 3 of 3: The second part of it, whose heading is…" in err
    assert "100%" in err and "ch01 ran 3 cells" in err

    record = json.loads(Path("out/ch01.quick.json").read_text(encoding="utf-8"))
    assert record["measurements"] == {"accuracy": 0.5}
    assert abs(record["seconds"] - int(row[1])) < 0.6 and record["seconds"] > 0  # each rounded by itself
    assert read_notebook("out/ch01_features.quick.ipynb").cells[1].execution_count == 1
    assert source.read_bytes() == committed

    kept = contents(Path("out"))
    write_notebook(book / "ch00_new.ipynb", "1")
    assert cli.main(["run", "all", "--output", "out"]) == 2  # nothing of it starts, ch00 neither
    assert "exists already and is not overwritten" in capsys.readouterr().err
    Path("out/ch01_features.quick.ipynb").unlink()
    assert cli.main(["run", "ch01", "--output", "out"]) == 2  # for the sake of its record
    assert contents(Path("out")) == {"ch01.quick.json": kept["ch01.quick.json"]}
    Path("out/ch01.quick.json").rename("out/ch01.quick.png")
    assert cli.main(["run", "ch01", "--output", "out"]) == 2  # and of its picture


@pytest.mark.slow
def test_run_says_which_chapters_failed_and_goes_on(book, capsys):
    write_notebook(
        book / "ch01_features.ipynb",
        "assert 1",
        "# # Part",
        "raise ValueError('first line\\nsecond')",
        "assert 2",
    )
    write_notebook(book / "ch02_foundations.ipynb", "import os", "os._exit(1)")
    assert cli.main(["run", "ch02", "ch01", "ch02", "--profile", "full"]) == 1
    out, err = capsys.readouterr()
    assert [row[0] for row in words(out)[1:3]] == ["ch02", "ch01"] and words(out)[2][-2:] == ["1/2", "-"]
    assert "ch01 failed: cell 2 of 3 raised ValueError: first line second\n" in out
    assert "ch02 failed: cell 2 of 2 killed the kernel (out of memory?)\n" in out
    assert "Traceback" not in out + err
    [folder] = Path("vlmbook-runs").iterdir()
    assert f"Executed copies: {folder}\n" in out
    copy = read_notebook(folder / "ch01_features.full.ipynb")
    assert copy.cells[2].outputs[0].ename == "ValueError" and copy.cells[3].outputs == []
    assert (folder / "ch02_foundations.full.ipynb").exists()


def test_two_runs_in_one_second_have_two_folders(book):
    folders = [run.output_folder(None) for _ in range(3)]
    assert len(set(folders)) == 3 and all(folder.is_dir() for folder in folders)


needs_sigint = pytest.mark.skipif(
    os.name == "nt", reason="Windows sends Ctrl-C to a whole console, the tests' too"
)


@pytest.mark.slow
@needs_sigint
def test_ctrl_c_stops_kernels_and_says_what_is_kept(book, start):
    write_notebook(book / "ch01_features.ipynb", "1/0")
    write_notebook(
        book / "ch02_foundations.ipynb",
        "print('so far')",
        "import os, pathlib\npathlib.Path('pid').write_text(f'{os.getpid()}.')\nwhile True: pass",
        "2",
    )
    write_notebook(book / "ch03a_convolution.ipynb", "3")
    process = start("run", "--output", "out")
    pid = wait_for(lambda: Path("out/pid").exists() and Path("out/pid").read_text().endswith("."))
    assert pid
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert not alive(int(Path("out/pid").read_text()[:-1]))
    out, err = (text.decode() for text in start.said())
    kept = [Path("out/ch01_features.quick.ipynb"), Path("out/ch02_foundations.quick.ipynb")]
    assert words(out)[1][0] == "ch01"
    assert out.endswith(
        f"Stopped by Ctrl-C; no kernel is left. Kept, as far as it ran: {kept[0]}, {kept[1]}\n"
    )
    assert "Traceback" not in out + err and "Task was destroyed" not in err
    assert [len(cell.outputs) for cell in read_notebook(kept[1]).cells] == [1, 0, 0]
    assert not Path("out/ch03a_convolution.quick.ipynb").exists()


FOREVER = "import os, pathlib\npathlib.Path('pid').write_text(f'{os.getpid()}.')\nwhile True: pass"


def read_pid(path):
    """Path -> the number that a kernel has written there, None where it has not yet."""
    return int(path.read_text()[:-1]) if path.exists() and path.read_text().endswith(".") else None


@pytest.mark.slow
@needs_sigint
def test_sigterm_keeps_what_ctrl_c_keeps(book, start):
    write_notebook(book / "ch01_features.ipynb", "print('so far')", FOREVER, "2")
    process = start("run", "--output", "out")
    pid = wait_for(lambda: read_pid(Path("out/pid")))
    process.terminate()
    assert process.wait(20) == 143
    assert not alive(pid)
    out, err = (text.decode() for text in start.said())
    kept = Path("out/ch01_features.quick.ipynb")
    assert out.endswith(f"Stopped by SIGTERM; no kernel is left. Kept, as far as it ran: {kept}\n")
    assert "Traceback" not in out + err
    assert [len(cell.outputs) for cell in read_notebook(kept).cells] == [1, 0, 0]


@pytest.mark.slow
@needs_sigint
def test_two_runs_of_a_chapter_into_one_folder_do_not_meet(book, start, capsys):
    write_notebook(book / "ch01_features.ipynb", "'quick'")
    write_notebook(book / "ch02_foundations.ipynb", FOREVER)
    process = start("run", "ch02", "--output", "out")
    wait_for(lambda: read_pid(Path("out/pid")))
    before = contents(Path("out"))
    assert cli.main(["run", "ch01", "ch02", "--output", "out"]) == 2  # before its first chapter runs
    out, err = capsys.readouterr()
    assert out == "" and "ch02_foundations.quick.ipynb exists already and is not overwritten; choose " in err
    assert contents(Path("out")) == before
    assert cli.main(["run", "ch01", "--output", "out"]) == 0  # another chapter may run there at once
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert read_notebook("out/ch01_features.quick.ipynb").cells[0].outputs


@pytest.mark.slow
@needs_sigint
def test_ctrl_c_while_a_kernel_starts_leaves_none(book, start, tmp_path):
    write_notebook(book / "ch01_features.ipynb", "1")
    stuck = tmp_path / "stuck"
    stuck.mkdir()
    (stuck / "ipykernel_launcher.py").write_text(
        "import os, time, pathlib, signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"  # as a kernel does when it starts
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(f'{{os.getpid()}}.')\n"
        "time.sleep(60)"
    )
    process = start("run", PYTHONPATH=with_path(stuck, ROOT))
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("."))
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert not alive(int((tmp_path / "pid").read_text()[:-1]))
    assert b"Kept, as far as it ran: " in start.said()[0] and b"Traceback" not in b"".join(start.said())


# --- vlmbook lab: the working copy --------------------------------------------------------------------------


@pytest.fixture
def work(book):
    """A working copy of a book of two chapters."""
    write_notebook(book / "ch01_features.ipynb", "'one'")
    write_notebook(book / "ch02_foundations.ipynb", "'two'")
    folder = Path("deep/er/work").absolute()
    assert lab.update_working_copy(folder) == ["new: ch01_features.ipynb, ch02_foundations.ipynb"]
    return folder


def new_edition(book):
    return write_notebook(book / "ch01_features.ipynb", "'one, second edition'").read_bytes()


def test_a_working_copy_is_the_book_and_a_second_call_changes_nothing(book, work):
    first = contents(work)
    assert {name for name in first} == {"ch01_features.ipynb", "ch02_foundations.ipynb", lab.MANIFEST}
    assert all(first[name] == data for name, data in contents(book).items())
    assert lab.update_working_copy(work) == [] and contents(work) == first


def test_a_chapter_that_nobody_edited_is_refreshed(book, work):
    newer = new_edition(book)
    assert lab.update_working_copy(work) == ["refreshed: ch01_features.ipynb"]
    assert contents(work)["ch01_features.ipynb"] == newer and len(contents(work)) == 3
    assert lab.update_working_copy(work) == []


def test_an_edited_chapter_stays_and_the_newer_one_is_laid_beside_it_once(book, work):
    mine = write_notebook(work / "ch01_features.ipynb", "'my own'").read_bytes()
    assert lab.update_working_copy(work) == [] and len(contents(work)) == 3  # nothing newer, nothing beside
    newer = new_edition(book)
    beside = f"ch01_features.new-{hashlib.sha256(newer).hexdigest()[:6]}.ipynb"
    assert lab.update_working_copy(work) == [
        f"ch01_features.ipynb is yours and stays; the book's newer one is beside it: {beside}"
    ]
    assert contents(work)["ch01_features.ipynb"] == mine and contents(work)[beside] == newer
    after = contents(work)
    assert lab.update_working_copy(work) == [] and contents(work) == after
    (work / beside).unlink()
    assert (
        lab.update_working_copy(work) == [] and not (work / beside).exists()
    )  # declined, and not offered again
    (work / "ch01_features.ipynb").write_bytes(newer)  # taken over by hand: no edit any more
    assert lab.update_working_copy(work) == []
    newest = write_notebook(book / "ch01_features.ipynb", "'third'").read_bytes()
    assert lab.update_working_copy(work) == ["refreshed: ch01_features.ipynb"]
    assert contents(work)["ch01_features.ipynb"] == newest


MINE = b"an edit of the reader's"


def test_an_edit_saved_before_the_file_is_moved_aside_stays(book, work, monkeypatch):
    newer = new_edition(book)

    def rename(source, target, real=os.rename):
        if Path(source).name == "ch01_features.ipynb":
            Path(source).write_bytes(MINE)
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    [said] = lab.update_working_copy(work)
    assert said.startswith("ch01_features.ipynb is yours and stays")
    assert contents(work)["ch01_features.ipynb"] == MINE and newer in contents(work).values()
    assert not (work / lab.ASIDE).exists() or not [*(work / lab.ASIDE).iterdir()]


def test_an_edit_saved_before_the_newer_chapter_is_laid_stays(book, work, monkeypatch):
    new_edition(book)

    def create(path, content, real=lab.create):
        if path.name == "ch01_features.ipynb":
            path.write_bytes(MINE)
        return real(path, content)

    monkeypatch.setattr(lab, "create", create)
    [said] = lab.update_working_copy(work)
    assert said.startswith("ch01_features.ipynb is yours and stays")
    assert contents(work)["ch01_features.ipynb"] == MINE


@pytest.mark.skipif(os.name == "nt", reason="Windows moves no file that is open")
def test_an_edit_that_an_open_program_saves_late_comes_back(book, work):
    newer = new_edition(book)
    with (work / "ch01_features.ipynb").open("ab") as editor:
        assert lab.update_working_copy(work) == ["refreshed: ch01_features.ipynb"]
        editor.write(MINE)
    [said] = lab.update_working_copy(work)
    [rescued] = work.glob("ch01_features.edited-*.ipynb")
    assert said == f"ch01_features.ipynb was edited while it was refreshed; your edit is in {rescued.name}"
    assert rescued.read_bytes().endswith(MINE) and contents(work)["ch01_features.ipynb"] == newer
    assert lab.update_working_copy(work) == [] and not (work / lab.ASIDE).exists()


def test_a_link_of_the_readers_stays_a_link(book, work, tmp_path):
    target = tmp_path / "elsewhere.ipynb"
    (work / "ch01_features.ipynb").rename(target)
    try:
        (work / "ch01_features.ipynb").symlink_to(target)
    except OSError:
        pytest.skip("no right to make links")
    before = target.read_bytes()
    new_edition(book)
    [said] = lab.update_working_copy(work)
    assert said.startswith("ch01_features.ipynb is yours and stays")
    assert (work / "ch01_features.ipynb").is_symlink() and target.read_bytes() == before


def test_an_edit_of_the_newer_chapter_beside_stays_too(book, work):
    write_notebook(work / "ch01_features.ipynb", "'my own'")
    new_edition(book)
    lab.update_working_copy(work)
    [beside] = work.glob("*.new-*.ipynb")
    mine = write_notebook(beside, "'edited here'").read_bytes()
    (work / lab.MANIFEST).unlink()
    lab.update_working_copy(work)
    assert beside.read_bytes() == mine


def test_a_deleted_chapter_comes_back_as_the_books(book, work):
    write_notebook(work / "ch01_features.ipynb", "'my own'").rename(work / "my own.ipynb")
    assert lab.update_working_copy(work) == ["put back, since you deleted or renamed it: ch01_features.ipynb"]
    assert contents(work)["ch01_features.ipynb"] == contents(book)["ch01_features.ipynb"]
    assert read_notebook(work / "my own.ipynb").cells[0].source == "'my own'"


@pytest.mark.parametrize("manifest", [None, b"", b"[1]", b'{"ch01_features.ipynb": 5}', b"\xff"])
def test_a_file_of_the_readers_under_a_chapters_name_stays(book, tmp_path, manifest):
    write_notebook(book / "ch01_features.ipynb", "'one'")
    folder = tmp_path / "work"
    folder.mkdir()
    mine = write_notebook(folder / "ch01_features.ipynb", "'mine, from elsewhere'").read_bytes()
    if manifest is not None:
        (folder / lab.MANIFEST).write_bytes(manifest)
    [said] = lab.update_working_copy(folder)
    assert said.startswith("ch01_features.ipynb is yours and stays") and lab.update_working_copy(folder) == []
    assert contents(folder)["ch01_features.ipynb"] == mine
    assert len([*folder.glob("ch01_features.new-*.ipynb")]) == 1


def test_a_lost_manifest_is_made_again_from_files_that_are_as_the_books(book, work):
    (work / lab.MANIFEST).unlink()
    assert lab.update_working_copy(work) == []
    new_edition(book)
    assert lab.update_working_copy(work) == ["refreshed: ch01_features.ipynb"]


@pytest.mark.skipif(os.name != "posix", reason="there the process does not become JupyterLab")
def test_a_photograph_fits_into_one_message_to_the_kernel(book, monkeypatch):
    def become(program, command):
        raise SystemExit(command)

    for name in ("JUPYTER_PREFER_ENV_PATH", "VLMBOOK_OUTPUT", "JUPYTER_CONFIG_PATH"):
        monkeypatch.setenv(name, "")  # so that what the command sets ends with the test
    monkeypatch.setattr(os, "execv", become)
    with pytest.raises(SystemExit):
        cli.main(["lab"])
    server = ServerApp()
    server.load_config_file(suppress_errors=False)
    assert server.tornado_settings["websocket_max_message_size"] >= 200_000_000  # tornado takes 10 MiB


@pytest.mark.slow
def test_jupyterlab_serves_the_working_copy_without_jupytext(book, start, tmp_path):
    write_notebook(book / "ch01_features.ipynb", "'one'")
    write_notebook(book / "ch02_foundations.ipynb", "'two'")
    # Both ways by which Jupytext acts: its server extension, and the settings of the user; and pairing for
    # the folder.
    config, work = tmp_path / "config", Path("work").absolute()
    config.mkdir()
    work.mkdir()
    (config / "jupyter_server_config.py").write_text(
        "c.ServerApp.contents_manager_class = 'jupytext.TextFileContentsManager'"
    )
    (work / "jupytext.toml").write_text('formats = "ipynb,py:percent"')
    Path("random.py").write_text("raise SystemExit('a file of the reader, not of Python')")
    process = start(
        "lab",
        "ch02",
        "--dir",
        "work",
        "--",
        "--no-browser",
        "--allow-root",
        "--ServerApp.port=0",
        "--IdentityProvider.token=secret",
        JUPYTER_RUNTIME_DIR=str(tmp_path / "runtime"),
        JUPYTER_CONFIG_DIR=str(config),
        JUPYTER_DATA_DIR=str(tmp_path / "data"),
    )
    server = json.loads(wait_for(lambda: text(tmp_path / "runtime" / f"jpserver-{process.pid}.json")))
    assert Path(server["root_dir"]).resolve() == work.resolve()
    there = psutil.Process(process.pid).environ()
    assert there["JUPYTER_PREFER_ENV_PATH"] == "1" and there["VLMBOOK_OUTPUT"] == str(work / "runs")
    opens = wait_for(lambda: text(tmp_path / "runtime" / f"jpserver-file-to-run-{process.pid}-open.html"))
    assert "/lab/tree/ch02_foundations.ipynb" in opens

    def ask(path, body=None):
        request = urllib.request.Request(
            f"{server['url']}api/{path}",
            data=body and json.dumps(body).encode(),
            method="PUT" if body else "GET",
            headers={"Authorization": "token secret", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def up():
        try:
            return ask("status")
        except urllib.error.URLError:
            return False

    wait_for(up)
    kernels = ask("kernelspecs")
    assert Path(kernels["kernelspecs"][kernels["default"]]["spec"]["argv"][0]).name.startswith("python")
    opened = ask("contents/ch01_features.ipynb")
    opened["content"]["cells"][0]["source"] = "'saved in JupyterLab'"
    ask("contents/ch01_features.ipynb", {"type": "notebook", "content": opened["content"]})
    assert read_notebook(work / "ch01_features.ipynb").cells[0].source == "'saved in JupyterLab'"
    assert not [*work.glob("*.py")]
    write_notebook(work / "ch01_features.ipynb", "'edited elsewhere'")
    assert ask("contents/ch01_features.ipynb")["content"]["cells"][0]["source"] == "'edited elsewhere'"
    assert lab.update_working_copy(work) == []
    assert read_notebook(work / "ch01_features.ipynb").cells[0].source == "'edited elsewhere'"
    process.terminate()
    process.wait(20)
    assert (
        f"new: ch01_features.ipynb, ch02_foundations.ipynb\nOpening JupyterLab on {Path('work')};"
        in start.said()[0].decode()
    )


def text(path):
    return path.exists() and path.read_text(encoding="utf-8")


# --- vlmbook grade ------------------------------------------------------------------------------------------

IMPORT = "from vlmbook.notebook.exercises import check, solution"


@pytest.fixture
def light_exercises(tmp_path, monkeypatch):
    """A chapter ch98z with four exercises, known here, and to a kernel after the cell that this returns."""
    folder = tmp_path / "more_chapters"
    (folder / "ch98z").mkdir(parents=True)
    (folder / "ch98z" / "__init__.py").touch()
    (folder / "ch98z" / "exercises.py").write_text(
        "from vlmbook.notebook.exercises import Exercise, Wrong\n"
        "def judge(answer):\n"
        "    if answer() != 4: raise Wrong('four is wanted')\n"
        "EXERCISES = {n: Exercise(judge, ('a hint',), lambda: 4, 'why') for n in '1234'}\n"
    )
    monkeypatch.setattr(chapters, "__path__", [*chapters.__path__, str(folder)])
    monkeypatch.setattr(chapters, "TABLE", (*chapters.TABLE, make_chapter("ch98z_light")))
    yield f"{IMPORT}\nimport vlmbook.chapters\nvlmbook.chapters.__path__.append({str(folder)!r})"
    for name in ("vlmbook.chapters.ch98z", "vlmbook.chapters.ch98z.exercises"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_grade_of_a_real_chapter(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A renamed file, the check of 4 deleted, and saved outputs that claim that 3 and 4 are passed.
    nb = make_notebook(
        IMPORT,
        "check('ch03a.1', solution('ch03a.1'))",
        "check('ch03a.2', lambda n, k: k)",
        "#check('ch03a.4', 1)",
        "def mean(x, window):\n    ...\ncheck('ch03a.3', mean)",
        "",
    )
    for cell, number in zip(nb.cells[-2:], (3, 4), strict=True):
        forged = {MIME: {"exercise": f"ch03a.{number}", "outcome": "passed"}}
        cell.outputs = [new_output("display_data", forged)]
    nbformat.write(nb, "anna.ipynb")
    before = contents(Path())
    assert cli.main(["grade", "anna.ipynb"]) == 1
    head, row = words(capsys.readouterr().out)
    assert head == ["file", *(f"ch03a.{number}" for number in range(1, 6)), "passed"]
    assert row == ["anna.ipynb", "passed", "failed", "unanswered", "missing", "missing", "1 of 5"]
    assert contents(Path()) == before and [*Path().iterdir()] == [Path("anna.ipynb")]


@pytest.mark.slow
def test_grade_goes_on_after_endless_loops_and_dead_kernels(light_exercises, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answers = [
        f"def answer(): {body}\ncheck('ch98z.{n}', answer)"
        for n, body in enumerate(["return 4", "return 5", "...", "return 4"], start=1)
    ]
    loop, death = answers[1].replace("return 5", "\n    while True: pass"), "import os; os._exit(1)"
    write_notebook("loop.ipynb", light_exercises, answers[0], loop, "1/0", *answers[2:])
    write_notebook("dead.ipynb", light_exercises, answers[0], death, *answers[1:])
    write_notebook("blank.ipynb", light_exercises, *(f"check('ch98z.{n}', ...)" for n in (1, 2, 3, 4)))
    write_notebook("syntax.ipynb", light_exercises, *answers[:3], "def answer(: 4\ncheck('ch98z.4', answer)")
    Path("broken.ipynb").write_text('{"cells": 5}')
    files = ["loop.ipynb", "dead.ipynb", "broken.ipynb", "blank.ipynb", "syntax.ipynb"]
    assert cli.main(["grade", *files, "--timeout", "10"]) == 2
    out, err = capsys.readouterr()
    assert words(out)[1:5] == [
        ["loop.ipynb", "passed", "failed", "unanswered", "passed", "2 of 4"],
        ["dead.ipynb", "passed", "not reached", "not reached", "not reached", "1 of 4"],
        ["blank.ipynb", "unanswered", "unanswered", "unanswered", "unanswered", "0 of 4"],
        ["syntax.ipynb", "passed", "failed", "unanswered", "failed", "1 of 4"],
    ]
    assert "loop.ipynb: cell 3: TimeoutError: ran longer than 10 s\n" in out
    assert "loop.ipynb: cell 4: ZeroDivisionError: division by zero\n" in out
    assert "dead.ipynb: stopped, cell 3 of 6 killed the kernel (out of memory?)\n" in out
    assert "syntax.ipynb: cell 5: SyntaxError: " in out
    assert "vlmbook: broken.ipynb is not a notebook\n" in err and "Traceback" not in out + err
    assert cli.main(["grade", "blank.ipynb"]) == 0


def vs_code(notebook):
    """Neither counts nor outputs, no ids, and metadata of its own."""
    for cell in notebook["cells"]:
        for key in ("id", "execution_count", "outputs"):
            cell.pop(key, None)
        cell["metadata"] = {"vscode": {"languageId": "python"}}
    notebook["metadata"] = {"language_info": {"name": "python"}, "orig_nbformat": 4}


def pycharm(notebook):
    """A kernel without a name to show, outputs on text cells, one string in place of a list of lines."""
    notebook["metadata"] = {"kernelspec": {"name": "python3"}}
    for cell in notebook["cells"]:
        cell["outputs"] = []
        cell["source"] = "".join(cell["source"])
        cell.pop("id")


def otter(notebook):
    """Ids that are no ids, tags, cells without metadata, and older than its ids."""
    notebook["nbformat_minor"] = 2
    for number, cell in enumerate(notebook["cells"]):
        cell["id"] = f"q{number}: not an id!"
        cell["metadata"] = {"deletable": False, "editable": "no", "tags": "otter_ignore"}
    notebook["cells"][0].pop("metadata")
    notebook["metadata"]["otter"] = {"OK_FORMAT": True}


def same_ids(notebook):
    for cell in notebook["cells"]:
        cell["id"] = "same"


def format_3(notebook):
    """As Jupyter wrote them in 2014."""
    cells = notebook.pop("cells")
    for cell in cells:
        if cell["cell_type"] == "code":
            cell["input"] = cell.pop("source")
            cell |= {"language": "python", "prompt_number": 3, "collapsed": False}
            cell.pop("execution_count")
        cell.pop("id")
    cells.insert(0, {"cell_type": "heading", "level": 1, "source": "A title"})
    notebook |= {"worksheets": [{"cells": cells}], "nbformat": 3, "nbformat_minor": 0}


def skipped(notebook):
    """Tags that would keep a cell from being run."""
    for cell in notebook["cells"]:
        cell["metadata"] = {"tags": ["skip-execution", "raises-exception"]}


def without_version(notebook):
    notebook.pop("nbformat")
    notebook.pop("nbformat_minor")


WRITERS = [vs_code, pycharm, otter, same_ids, format_3, skipped, without_version]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("writer", "encoding"),
    [*((writer, "utf-8") for writer in WRITERS), *((vs_code, encoding) for encoding in ENCODINGS[1:])],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_notebooks_are_graded_as_other_programs_write_them(
    light_exercises, capsys, tmp_path, monkeypatch, writer, encoding
):
    monkeypatch.chdir(tmp_path)
    cells = [
        f"{light_exercises}  # 答案",
        "# # A title",
        "check('ch98z.1', lambda: 4)\nx = '\\n'",
        "check('ch98z.2', ...)",
    ]
    content = json.loads(nbformat.writes(make_notebook(*cells)))
    writer(content)
    Path("anna.ipynb").write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    before = contents(Path())
    assert cli.main(["grade", "anna.ipynb"]) == 1
    out, err = capsys.readouterr()
    assert words(out)[1] == ["anna.ipynb", "passed", "unanswered", "missing", "missing", "1 of 4"], err
    assert contents(Path()) == before


@pytest.mark.slow
def test_a_right_answer_counts_whatever_the_cell_does_with_its_outputs(
    light_exercises, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    clear = "from IPython.display import clear_output"
    write_notebook(
        "anna.ipynb",
        light_exercises,
        f"{clear}\ncheck('ch98z.1', lambda: 4)\nclear_output()",
        "check('ch98z.2', lambda: 4)\nclear_output(wait=True)\nprint('cleared')",
        "import ipywidgets\nwith ipywidgets.Output(): check('ch98z.3', lambda: 4)",
        "check('ch98z.4', lambda: 4)\nraise ValueError('an error\x1b[2J in red')",
    )
    assert cli.main(["grade", "anna.ipynb"]) == 0
    out = capsys.readouterr().out
    assert words(out)[1][1:] == ["passed"] * 4 + ["4 of 4"]
    assert r"anna.ipynb: cell 5: ValueError: an error\x1b[2J in red" in out and "\x1b" not in out


def test_a_chapters_own_name_asks_for_its_exercises_where_all_checks_are_deleted(
    light_exercises, capsys, tmp_path
):
    path = write_notebook(tmp_path / "ch98z_answers.ipynb", "raise SystemExit")
    assert cli.main(["grade", str(path)]) == 1
    assert words(capsys.readouterr().out)[1][1:] == ["missing"] * 4 + ["0 of 4"]


@pytest.mark.parametrize(
    "content, says",
    [
        (None, "cannot read"),
        (b"", "is not a notebook"),
        (b"\x89PNG\xff", "is not a notebook"),
        (b"[]", "is not a notebook"),
        (b"[" * 100_000, "is not a notebook"),
        (b'{"cells": [{"cell_type": "code"}]}', "is not a notebook"),
        (
            b'{"cells": [{"cell_type": "code", "source": 5, "outputs": [], "metadata": {}}]}',
            "is not a notebook",
        ),
        (b'{"cells": [{"source": "1"}]}', "is not a notebook"),
        (b'{"cells": ["1"]}', "is not a notebook"),
        (b'{"cells": {"a": 1}}', "is not a notebook"),
        (b'{"cells": null}', "is not a notebook"),
        (b'{"worksheets": [{"cells": [{"cell_type": "code", "input": [1]}]}]}', "is not a notebook"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}', "has no exercises"),
    ],
)
def test_what_cannot_be_graded_is_named_and_exits_2(capsys, tmp_path, content, says):
    path = tmp_path / "student.ipynb"
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["grade", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and str(path) in err and says in err and len(err.splitlines()) == 1


def test_grade_finds_files_by_a_pattern_where_the_console_does_not(tmp_path):
    for name in ("b.ipynb", "a.ipynb", "a1.ipynb", "a[1].ipynb"):
        (tmp_path / name).touch()
    assert console.expand_pattern(str(tmp_path / "[ab].ipynb")) == [
        str(tmp_path / "a.ipynb"),
        str(tmp_path / "b.ipynb"),
    ]
    assert console.expand_pattern(str(tmp_path / "a[1].ipynb")) == [str(tmp_path / "a[1].ipynb")]
    assert console.expand_pattern("nowhere*.ipynb") == ["nowhere*.ipynb"]


def test_grade_says_in_its_help_that_it_runs_the_students_code(capsys):
    with pytest.raises(SystemExit):
        cli.main(["grade", "--help"])
    assert "THIS RUNS THE STUDENTS' CODE" in " ".join(capsys.readouterr().out.split())


# --- vlmbook doctor -----------------------------------------------------------------------------------------


def examined(out):
    """str -> dict: name of the examination -> "ok" or "FAIL"."""
    return {
        line[6:18].strip(): line[:4].strip() for line in out.splitlines() if line.startswith(("ok ", "FAIL "))
    }


@pytest.mark.slow
def test_doctor_on_a_machine_that_can(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VLMBOOK_DATA", str(tmp_path / "file"))  # which the quick profile does not need
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert [*examined(out)] == [each.name for each in doctor.EXAMINATIONS] and len(examined(out)) == 8
    assert {name for name, state in examined(out).items() if state == "FAIL"} <= {
        "accelerator",
        "data folder",
        "disk",
    }
    assert (
        f"FAIL  data folder  {tmp_path / 'file'} is a file, and a folder is required. Fix: set VLMBOOK_DATA"
        in out
    )
    assert out.endswith("The quick profile can run here.\n")


def test_doctor_leaves_nothing_in_a_data_folder_that_can_be_made(tmp_path, monkeypatch):
    monkeypatch.setenv("VLMBOOK_DATA", str(tmp_path / "a" / "b"))
    assert doctor.try_data_folder() == f"{tmp_path / 'a' / 'b'}, can be made"
    assert doctor.measure_disk().endswith("GB free where the data go")
    assert [*tmp_path.iterdir()] == []
    monkeypatch.setenv("VLMBOOK_DATA", str(tmp_path))
    assert doctor.try_data_folder() == f"{tmp_path}, writable" and [*tmp_path.iterdir()] == []


def test_doctor_looks_at_the_folder_that_the_readers_use(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("VLMBOOK_DATA", "~/sets")
    assert runtime.data_folder() == tmp_path / "sets"
    assert doctor.try_data_folder() == f"{tmp_path / 'sets'}, can be made"


@pytest.mark.slow
def test_doctor_sees_a_kernel_that_dies_and_says_the_fix(capsys, tmp_path, monkeypatch):
    (tmp_path / "ipykernel_launcher.py").write_text("raise SystemExit(3)")
    monkeypatch.setenv("PYTHONPATH", with_path(tmp_path))
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert examined(out)["kernel"] == "FAIL" and examined(out)["torch"] == "ok"
    assert "Fix: pip install --force-reinstall ipykernel" in out and "quick profile cannot run here" in out


@pytest.mark.slow
def test_doctor_sees_a_torchvision_that_does_not_fit_torch(start, tmp_path):
    wrong = tmp_path / "wrong" / "torchvision"
    wrong.mkdir(parents=True)
    (wrong / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    process = start("doctor", PYTHONPATH=with_path(wrong.parent, ROOT))
    assert process.wait(90) == 1
    out = start.said()[0].decode()
    assert examined(out)["torchvision"] == "FAIL" and examined(out)["torch"] == "ok"
    assert "operator torchvision::nms does not exist. Fix: it must match torch: pip install" in out


def test_doctor_reports_an_older_python(capsys, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    with pytest.raises(console.Mistake, match=r"3\.10\.4, and 3\.11 or newer is required"):
        doctor.find_python()
