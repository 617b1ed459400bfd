"""A file is written whole or not at all, by one writer."""

import os
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from vlmbook.files import remove_partials, sole_writer, write_whole

posix = pytest.mark.skipif(os.name != "posix", reason="links, permissions and limits as POSIX has them")


def run_python(code, *arguments):
    """Another process -> CompletedProcess."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Writing.


def test_a_new_file_in_new_folders(tmp_path):
    path = tmp_path / "a" / "b" / "记录.json"
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["记录.json"]


@pytest.mark.parametrize("as_path", [str, Path])
def test_a_file_is_replaced_and_nothing_else_is_touched(tmp_path, as_path):
    own = {"a.st.partial": b"mine", ".a.st.partial": b"mine too", "a.st.lock": b"and this"}
    for name, content in own.items():
        (tmp_path / name).write_bytes(content)
    for content in (b"old", b"", b"new"):
        write_whole(as_path(tmp_path / "a.st"), content)
        assert (tmp_path / "a.st").read_bytes() == content
    assert {name: (tmp_path / name).read_bytes() for name in own} == own
    assert names(tmp_path) == sorted([*own, "a.st"])


@posix
def test_a_name_of_255_bytes(tmp_path):
    path = tmp_path / ("权" * 85)
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_relative_path_is_one_of_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_whole("a.st", b"new")
    assert (tmp_path / "a.st").read_bytes() == b"new"


@posix
def test_a_link_stays_a_link(tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    link, dangling = tmp_path / "link.st", tmp_path / "dangling.st"
    (there / "a.st").write_bytes(b"old")
    link.symlink_to(there / "a.st")
    dangling.symlink_to("there/b.st")
    for path in (link, dangling):
        write_whole(path, b"new")
        assert path.is_symlink()
        assert path.read_bytes() == b"new"
    assert names(there) == ["a.st", "b.st"]


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o777])
def test_a_file_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "a.st"
    path.touch()
    path.chmod(mode)
    write_whole(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
@pytest.mark.parametrize("mask", [0o077, 0o022, 0o002])
def test_a_new_file_has_what_the_umask_leaves(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "a.st", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.st").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch, error, step):
    def fail(*_):
        raise error

    path = tmp_path / "a.st"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.st"]


@posix
def test_a_file_too_large_for_the_disk_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.st"
    path.write_bytes(b"old")
    code = (
        "import resource, sys; from vlmbook.files import write_whole;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); write_whole(sys.argv[1], bytes(100_000))"
    )
    run = run_python(code, path)
    assert "a.st cannot be written: File too large" in run.stderr
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.st"]


@posix
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_killed_process_leaves_what_was_there(tmp_path, step):
    path = tmp_path / "a.st"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys; from vlmbook.files import write_whole;"
        f"os.{step} = lambda *_: os.kill(os.getpid(), signal.SIGKILL); write_whole(sys.argv[1], b'new')"
    )
    assert run_python(code, path).returncode < 0
    assert path.read_bytes() == b"old"


def test_a_reader_among_writers_always_finds_a_whole_file(tmp_path):
    path = tmp_path / "a.st"
    contents = [bytes([number]) * 200_000 for number in range(4)]
    write_whole(path, contents[0])
    done = threading.Event()

    def write(content):
        for _ in range(10):
            write_whole(path, content)

    def read():
        found = []
        while not done.is_set():
            found.append(path.read_bytes())
        return found

    with ThreadPoolExecutor(5) as pool:
        reading = pool.submit(read)
        writing = [pool.submit(write, content) for content in contents]
        try:
            for each in writing:
                each.result()
        finally:
            done.set()
        assert set(reading.result()) <= set(contents)
    assert names(tmp_path) == ["a.st"]


# Not replacing.


@pytest.mark.parametrize("has_links", [True, False])
def test_an_existing_file_stays_where_it_is_not_to_be_replaced(tmp_path, monkeypatch, has_links):
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no links here")))
    path = tmp_path / "a.st"
    write_whole(path, b"first", replace=False)
    with pytest.raises(FileExistsError, match=r"a\.st exists already and is not overwritten"):
        write_whole(path, b"second", replace=False)
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["a.st"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_without_links_leaves_no_empty_file(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no links here")))
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(error)):
        write_whole(tmp_path / "a.st", b"new", replace=False)
    assert names(tmp_path) == []


def test_of_many_writers_that_do_not_replace_one_wins(tmp_path):
    path = tmp_path / "a.st"

    def write(number):
        with suppress(FileExistsError):
            write_whole(path, bytes([number]), replace=False)
            return number

    with ThreadPoolExecutor(8) as pool:
        [winner] = [number for number in pool.map(write, range(20)) if number is not None]
    assert path.read_bytes() == bytes([winner])


def test_the_command_line_need_not_wait_for_torch():
    run = run_python("import sys, vlmbook.files; print('torch' in sys.modules)")
    assert run.stdout == "False\n"


# What is no file.


@pytest.mark.parametrize(
    "path, error, sentence",
    [
        ("", IsADirectoryError, "path wants a file, got the folder ''"),
        (".", IsADirectoryError, "path wants a file, got the folder '.'"),
        ("new/", IsADirectoryError, "path wants a file, got the folder 'new/'"),
        ("a\0b", ValueError, r"path wants a path of a file, got 'a\x00b'"),
        (b"a.st", TypeError, "path wants a str or a Path, got an object of type bytes"),
        (None, TypeError, "path wants a str or a Path, got an object of type NoneType"),
        (3, TypeError, "path wants a str or a Path, got an object of type int"),
    ],
)
def test_what_is_no_path_of_a_file_is_refused(tmp_path, monkeypatch, path, error, sentence):
    monkeypatch.chdir(tmp_path)
    for use in (lambda: write_whole(path, b""), lambda: sole_writer(path).__enter__()):
        with pytest.raises(error) as refusal:
            use()
        assert str(refusal.value) == sentence
    assert names(tmp_path) == []


@posix
def test_a_device_a_circle_of_links_and_a_file_for_a_folder_are_refused(tmp_path):
    circle, inside = tmp_path / "circle", tmp_path / "file" / "a.st"
    circle.symlink_to(circle)
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for path, sentence in {
        "/dev/null": "got the device '/dev/null'",
        tmp_path / "pipe": "got the device",
        circle: "got links in a circle",
        inside: r"file/a\.st cannot be written",
        tmp_path / ("a" * 300): "cannot be written: File name too long",
    }.items():
        with pytest.raises(OSError, match=sentence):
            write_whole(path, b"")
        with pytest.raises(OSError, match=sentence), sole_writer(path):
            pass
    assert Path("/dev/null").is_char_device()
    assert names(tmp_path) == ["circle", "file", "pipe"]


def test_only_bytes_are_written(tmp_path):
    for content in ("text", None, 3, [1]):
        with pytest.raises(TypeError, match="content wants bytes, got"):
            write_whole(tmp_path / "a.st", content)
    with pytest.raises(TypeError, match="replace wants True or False, got an object of type str"):
        write_whole(tmp_path / "a.st", b"", replace="no")
    assert names(tmp_path) == []


# One writer.


def test_a_second_writer_is_refused_and_a_later_one_is_not(tmp_path):
    path = tmp_path / "new" / "a.st"
    for _ in range(2):
        with sole_writer(path):
            with pytest.raises(BlockingIOError, match=r"a\.st is being written by another process"):
                with sole_writer(path):
                    pass
            with sole_writer(tmp_path / "new" / "b.st"):
                write_whole(path, b"new")
    assert names(path.parent) == ["a.st"]


def test_another_process_is_refused(tmp_path):
    code = (
        "import sys; from vlmbook.files import sole_writer\n"
        "with sole_writer(sys.argv[1]): print('wrote', end='')"
    )
    path = tmp_path / "a.st"
    with sole_writer(path):
        run = run_python(code, path)
        assert "BlockingIOError" in run.stderr
        assert run.stdout == ""
    assert run_python(code, path).stdout == "wrote"


@posix
def test_a_killed_writer_blocks_nobody(tmp_path):
    code = (
        "import os, signal, sys; from vlmbook.files import sole_writer\n"
        "with sole_writer(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert run_python(code, tmp_path / "a.st").returncode < 0
    with sole_writer(tmp_path / "a.st"):
        pass
    assert names(tmp_path) == []


@posix
def test_a_link_and_its_file_are_one(tmp_path):
    (tmp_path / "link.st").symlink_to("a.st")
    with sole_writer(tmp_path / "a.st"):
        with pytest.raises(BlockingIOError), sole_writer(tmp_path / "link.st"):
            pass


def test_an_error_in_the_block_ends_the_lock_and_comes_through(tmp_path):
    with pytest.raises(OSError, match=r"^mine$"), sole_writer(tmp_path / "a.st"):
        raise OSError("mine")
    with sole_writer(tmp_path / "a.st"):
        pass
    assert names(tmp_path) == []


def test_a_second_writer_can_wait(tmp_path):
    code = (
        "import sys, time; from vlmbook.files import sole_writer\n"
        "with sole_writer(sys.argv[1]):\n"
        "    print('in', flush=True)\n"
        "    time.sleep(0.3)"
    )
    path = tmp_path / "a.st"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"in\n"
        with pytest.raises(BlockingIOError), sole_writer(path, wait=0.01):
            pass
        with sole_writer(path, wait=30):
            pass
    assert names(tmp_path) == []


def test_no_two_of_many_waiting_writers_are_in_the_block(tmp_path):
    """The lock's file is deleted at the end of a block, while others wait for it."""
    inside, most = [], []

    def write():
        for _ in range(20):
            with sole_writer(tmp_path / "a.st", wait=60):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80


@pytest.mark.parametrize("wait", [-1, 1e9, float("nan"), "1", None, True])
def test_a_time_to_wait_is_a_number_of_seconds(tmp_path, wait):
    with (
        pytest.raises((TypeError, ValueError), match="wait wants"),
        sole_writer(tmp_path / "a.st", wait=wait),
    ):
        pass


@posix
def test_a_private_file_is_its_owner_s(tmp_path):
    path = tmp_path / "a.st"
    write_whole(path, b"mine", private=True)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    write_whole(path, b"new", private=True)
    assert path.stat().st_mode & 0o777 == 0o640  # the owner has opened it


def test_what_killed_writers_left_is_deleted_and_nothing_else(tmp_path):
    kept = ["a.st", ".a.st.lock", f".a.st.b.{'0' * 16}.partial", f".a.st.{'0' * 15}.partial", ".a.st.partial"]
    for name in [*kept, f".a.st.{'0123456789abcdef'}.partial"]:
        (tmp_path / name).touch()
    remove_partials(tmp_path / "a.st")
    assert names(tmp_path) == sorted(kept)
    remove_partials(tmp_path / "nowhere" / "a.st")
    with pytest.raises(ValueError, match="path wants a file name of at most 40 characters"):
        remove_partials(tmp_path / ("a" * 41))
