"""The zip of the book: what is in it, the same bytes each time, and it works where it is unpacked."""

import os
import subprocess
import sys
import zipfile

import pytest

import vlmbook
from tools import __main__ as tools
from tools.zip import TIME, list_files, write_zip
from vlmbook import chapters, runtime
from vlmbook.notebook.kernel import Stopped

TOP = f"vlmbook-{vlmbook.__version__}"


@pytest.fixture
def checkout(tmp_path):
    """A small book in git, with a file that git does not know and one that no reader needs."""
    book = tmp_path / "book"
    for name in ("vlmbook/a.py", "notebooks/ch01.ipynb", "README.md", "tests/test_a.py", "constraints.txt"):
        path = book / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"this is {name}\n", encoding="utf-8")
    subprocess.run(["git", "init", "--quiet"], cwd=book, check=True)
    subprocess.run(["git", "add", "."], cwd=book, check=True)
    (book / "vlmbook" / "secret.txt").write_text("not in git", encoding="utf-8")
    return book


def test_it_holds_what_git_knows_and_a_reader_needs(checkout):
    path = write_zip(book=checkout)
    assert path == checkout / "dist" / f"{TOP}.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            f"{TOP}/{name}"
            for name in ("README.md", "constraints.txt", "notebooks/ch01.ipynb", "vlmbook/a.py")
        ]
        assert {entry.date_time for entry in archive.infolist()} == {TIME}
        assert archive.read(f"{TOP}/vlmbook/a.py") == (checkout / "vlmbook" / "a.py").read_bytes()


def test_the_same_files_give_the_same_bytes(checkout, tmp_path):
    first = write_zip(tmp_path / "first.zip", checkout).read_bytes()
    path = checkout / "README.md"
    os.utime(path, (1, 1))
    path.chmod(0o755)
    assert write_zip(tmp_path / "second.zip", checkout).read_bytes() == first
    path.write_text("changed", encoding="utf-8")
    assert write_zip(tmp_path / "third.zip", checkout).read_bytes() != first


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(Stopped, match="made from a checkout"):
        write_zip(tmp_path / "x.zip", tmp_path)
    assert not (tmp_path / "x.zip").exists()


def test_the_book_itself_is_whole_and_runs_where_it_is_unpacked(tmp_path, capsys):
    try:
        names = list_files(runtime.BOOK)
    except Stopped:
        pytest.skip("this is no git checkout")
    assert {"README.md", "constraints.txt", "pyproject.toml", "LICENSE"} <= set(names)
    committed = {name for name in names if name.endswith(".ipynb")}
    assert committed <= {f"notebooks/{chapter.notebook.name}" for chapter in chapters.TABLE}
    assert tools.main(["zip", "--output", str(tmp_path / "book.zip")]) == 0
    assert "MB" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "book.zip") as archive:
        archive.extractall(tmp_path)
    code = "from vlmbook import chapters, runtime; print(runtime.BOOK, len(chapters.written()))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / TOP, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [str((tmp_path / TOP).resolve()), str(len(committed))]
