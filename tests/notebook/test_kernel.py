"""Executing a notebook: what comes back from one that is good, fails, dies, hangs, or was tampered with."""

import json
import os
import sys

import psutil
import pytest
from nbformat.v4 import new_output

from tests.support.small_books import make_notebook
from vlmbook.notebook import kernel
from vlmbook.notebook.messages import MIME

pytestmark = pytest.mark.slow


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def test_a_good_run_in_this_interpreters_kernel(tmp_path, monkeypatch):
    # A kernel "python3" that another project put first on Jupyter's path is not taken.
    foreign = tmp_path / "jupyter" / "kernels" / "python3"
    foreign.mkdir(parents=True)
    (foreign / "kernel.json").write_text(
        json.dumps(
            {
                "argv": ["/nowhere/python", "{connection_file}"],
                "display_name": "foreign",
                "language": "python",
            }
        )
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    nb = make_notebook(
        "# Title",
        "import os, sys; print(sys.executable); print(os.getcwd()); print(os.environ['VLMBOOK_PROFILE'])",
        "assert 1 == 1\nassert_nothing = lambda: None\nassert_nothing()",
        "%pwd",
        "def print(*_): raise RuntimeError('shadowed')\nsys.stdout = open(os.devnull, 'w')",
    )
    seen = []
    lives = []

    async def after(client, run):
        lives.append(client.kc is not None and run.device != "")

    run = kernel.execute(
        nb,
        folder=tmp_path / "out",
        profile="full",
        on_cell=lambda i, cell: seen.append(i),
        after=after,
    )
    assert run.error == "" and run.notebook is nb
    assert printed(nb.cells[1]).split("\n")[:3] == [sys.executable, str(tmp_path / "out"), "full"]
    assert seen == [1, 2, 3, 4] and lives == [True]
    assert (run.claims_held, run.claims) == (2, 2)
    assert run.device and run.peak_memory_bytes["ram"] > 50e6 and run.seconds > 0
    assert len(nb.cells) == 5  # the questions to the kernel left nothing in it


def test_a_failing_cell_ends_the_run_and_nothing_of_an_older_run_stays(tmp_path):
    nb = make_notebook("assert 1", "# Title", "assert 1 == 2, 'one is not two'", "assert 3")
    stale = new_output("display_data", {MIME: {"exercise": "ch03a.1", "outcome": "passed"}})
    nb.cells[3].outputs, nb.cells[3].execution_count = [stale], 7
    run = kernel.execute(nb, folder=tmp_path)
    assert run.error == "cell 2 of 3 raised AssertionError: one is not two"
    assert (run.claims_held, run.claims) == (1, 3)
    assert nb.cells[2].outputs[0].ename == "AssertionError"
    assert nb.cells[3].outputs == [] and nb.cells[3].execution_count is None
    assert run.exercises == {} and run.seconds > 0


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_kernel_that_dies_ends_the_run(tmp_path, keep_going):
    nb = make_notebook("assert 1", "import os; os._exit(1)\nassert 2", "assert 3")
    run = kernel.execute(nb, folder=tmp_path, keep_going=keep_going)
    assert run.error == "cell 2 of 3 killed the kernel (out of memory?)"
    assert (run.claims_held, run.claims) == (1, 3)


def test_a_kernel_that_cannot_start_is_a_reason_and_no_traceback(tmp_path, monkeypatch):
    (tmp_path / "ipykernel_launcher.py").write_text("raise SystemExit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    run = kernel.execute(make_notebook("1"), folder=tmp_path)
    assert run.error.startswith("no Jupyter kernel started (") and "vlmbook doctor" in run.error


def test_a_slow_cell_ends_the_run(tmp_path):
    nb = make_notebook("while True: pass", "assert 2")
    run = kernel.execute(nb, folder=tmp_path, timeout=1)
    assert run.error == "cell 1 of 2 raised TimeoutError: ran longer than 1 s" and run.claims_held == 0
    assert nb.cells[0].outputs[-1].evalue == "ran longer than 1 s"
    assert nb.cells[1].execution_count is None


def test_keep_going_passes_errors_and_endless_loops(tmp_path):
    nb = make_notebook("assert 1\n1/0", "while True: print('x' * 100)", "assert 3\nprint('still here')")
    run = kernel.execute(nb, folder=tmp_path, timeout=3, keep_going=True)
    assert run.error == ""
    assert [cell.outputs[-1].get("ename") for cell in nb.cells[:2]] == ["ZeroDivisionError", "TimeoutError"]
    assert printed(nb.cells[2]) == "still here\n" and (run.claims_held, run.claims) == (1, 2)
    assert len(printed(nb.cells[1])) < 10e6  # it prints 20 MB a second


def test_a_cell_that_was_interrupted_takes_no_outputs_of_the_next(tmp_path):
    # The first cell leaves a queue of outputs behind.
    nb = make_notebook("while True: display(1)", *(f"print({n})" for n in range(5)))
    run = kernel.execute(nb, folder=tmp_path, timeout=1, keep_going=True)
    assert run.error == ""
    assert [printed(cell) for cell in nb.cells[1:]] == [f"{n}\n" for n in range(5)]


def test_keep_going_gives_up_on_a_cell_that_no_interrupt_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel, "PATIENCE", 1)
    nb = make_notebook(
        "import signal; signal.signal(signal.SIGINT, lambda *_: None)\nwhile True: pass", "assert 2"
    )
    run = kernel.execute(nb, folder=tmp_path, timeout=1, keep_going=True)
    assert run.error == "cell 1 of 2 ran longer than 1 s and no interrupt stopped it"
    assert nb.cells[0].outputs[-1].ename == "TimeoutError" and nb.cells[1].execution_count is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups to end at once")
@pytest.mark.parametrize("last", ["1/0", "2"])
def test_neither_the_kernel_nor_what_it_started_outlives_the_run(tmp_path, last):
    nb = make_notebook(
        "import os, subprocess; print(os.getpid(), subprocess.Popen(['sleep', '60']).pid)", last
    )
    kernel.execute(nb, folder=tmp_path)
    for pid in map(int, printed(nb.cells[0]).split()):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_outcomes_come_from_what_check_shows_and_bear_junk(tmp_path):
    nb = make_notebook(
        "from vlmbook.notebook.exercises import check\ncheck('ch03a.99', 1)",
        "# Title",
        f"display({{{MIME!r}: 'junk'}}, raw=True)\nprint('ch03a.2: correct')",
    )
    old = {MIME: {"exercise": "ch03a.1", "outcome": "passed"}}
    nb.cells[0].outputs = [new_output("display_data", old)]
    assert kernel.execute(nb, folder=tmp_path, keep_going=True).exercises == {"ch03a.99": "failed"}


def test_an_outcome_counts_though_the_cell_clears_its_output(tmp_path):
    shown = {MIME: {"exercise": "ch03a.1", "outcome": "passed"}}
    clear = "from IPython.display import clear_output\nclear_output()"
    nb = make_notebook(f"display({shown!r}, raw=True)\n{clear}")
    assert kernel.execute(nb, folder=tmp_path, keep_going=True).exercises == {"ch03a.1": "passed"}
    assert nb.cells[0].outputs == []


def test_what_is_shown_in_an_output_widget_is_kept(tmp_path):
    nb = make_notebook("import ipywidgets\nwith ipywidgets.Output(): print('within')\nprint('after')")
    assert kernel.execute(nb, folder=tmp_path).error == ""
    assert printed(nb.cells[0]) == "within\nafter\n"


def test_a_message_that_cannot_be_read_is_a_reason_and_no_traceback(tmp_path):
    send = (
        "get_ipython().kernel.session.send(get_ipython().kernel.iopub_socket, 'display_data', {}, parent={})"
    )
    parent = "get_ipython().kernel.get_parent()"
    nb = make_notebook(send.replace("parent={}", f"parent={parent}"), "2")
    run = kernel.execute(nb, folder=tmp_path)
    assert run.error.startswith("cell 1 of 2 sent what cannot be read (") and nb.cells[1].outputs == []
