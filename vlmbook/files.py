"""Files are written whole or not at all, so that nothing of a reader's is ever damaged or lost.

It does without torch, and so without `vlmbook.validation`: the command line uses it too, and answers at once.
"""

import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

NAMED = 40  # characters of a file's name that stand in the name of its partial file


def write_whole(path: str | Path, content: bytes, *, replace: bool = True, private: bool = False) -> None:
    """path, bytes -> None: the file holds all of it, or what it held before, however this process ends.

    The bytes go to a file of a unique name in the same folder, are forced to the disk, and take the path's
    position in one step. A symbolic link stays a link: the file that it points to is replaced, with the
    permissions that it had. A new file can be read by others as the umask says, with private=True by its
    owner only. With replace=False an existing file raises FileExistsError and stays. Missing folders on the
    way are created. Raises OSError for a path that is no file, and for a full disk.
    """
    target = _resolve(path)
    if not isinstance(content, bytes):
        raise TypeError(f"content wants bytes, got an object of type {type(content).__name__}")
    if not isinstance(replace, bool):
        raise TypeError(f"replace wants True or False, got an object of type {type(replace).__name__}")
    if not isinstance(private, bool):
        raise TypeError(f"private wants True or False, got an object of type {type(private).__name__}")
    with _naming(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name[:NAMED]}.{secrets.token_hex(8)}.partial")  # of 255 bytes
        try:
            _write_synced(partial, content, _permissions(target, private))
            if replace:
                os.replace(partial, target)
            else:
                _link_new(partial, target)
            _sync_folder(target.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def sole_writer(path: str | Path, *, wait: float = 0) -> Iterator[None]:
    """path -> nothing, while the block runs: no other process on this machine may write the same file.

    Raises BlockingIOError where another one still does after `wait` seconds. The lock is a file beside it,
    `.name.lock`, which ends with the block. Raises OSError for a path that is no file.
    """
    target = _resolve(path)
    wait = _seconds(wait)
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    with _naming(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=wait, poll_interval=0.02)
        except Timeout:
            raise BlockingIOError(
                f"{path} is being written by another process; give each its own file"
            ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # while it is still held, so that nobody takes a lock that is gone
            os.unlink(lock.lock_file)
        lock.release()


def remove_partials(path: str | Path) -> None:
    """path -> None: what killed writers of this file left beside it is deleted.

    To be called by the sole writer of the file. The name has at most 40 characters, since a partial file of a
    longer one could be that of another file. Raises ValueError for a longer one, OSError for a path that is
    no file.
    """
    target = _resolve(path)
    if len(target.name) > NAMED:
        raise ValueError(f"path wants a file name of at most {NAMED} characters, got {target.name!r}")
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}\.partial")
    with _naming(path):
        for each in target.parent.iterdir() if target.parent.is_dir() else ():
            if pattern.fullmatch(each.name):
                each.unlink(missing_ok=True)


def _seconds(wait):
    """A number of seconds, from 0 to a day -> float."""
    if isinstance(wait, bool) or not isinstance(wait, (int, float)):
        raise TypeError(f"wait wants a number of seconds, got an object of type {type(wait).__name__}")
    if not 0 <= wait <= 86_400:
        raise ValueError("wait wants 0 to 86,400 seconds, got a number outside")
    return float(wait)


def _resolve(path):
    """A path of a file, there or not yet there -> Path of that file, links followed."""
    if not isinstance(path, (str, Path)):
        raise TypeError(f"path wants a str or a Path, got an object of type {type(path).__name__}")
    written = str(path)
    if "\0" in written:
        raise ValueError(f"path wants a path of a file, got {written!r}")
    target = Path(os.path.realpath(written))
    with _naming(written):
        if target.is_dir() or not Path(written).name or written.endswith(("/", os.sep)):
            raise IsADirectoryError(f"path wants a file, got the folder {written!r}")
        if target.is_symlink():
            raise OSError(f"path wants a file, got links in a circle at {written!r}")
        if target.exists() and not target.is_file():
            raise OSError(f"path wants a file, got the device {written!r}")
    return target


@contextmanager
def _naming(path):
    """The system's own errors name the path that the reader gave, not a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a sentence of this module
            raise
        raise OSError(error.errno, f"{path} cannot be written: {error.strerror}") from error


def _permissions(target, private):
    """-> int: those that the file has; None for a new one, which gets what the umask leaves."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    return 0o600 if private else None


def _write_synced(path, content, permissions):
    """A new file, which is never more open than the one that it is to replace."""
    opener = None if permissions is None else lambda name, flags: os.open(name, flags, permissions)
    with open(path, "xb", opener=opener) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if permissions is not None:
        os.chmod(path, permissions)  # the umask has taken some


def _link_new(partial, target):
    """A hard link fails where the name is taken: no look before, between which and the link another could
    come.
    """
    try:
        try:
            os.link(partial, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without links: the name is taken first, then the content moves in
            open(target, "xb").close()
            _move_in(partial, target)
    except FileExistsError:
        raise FileExistsError(f"{target} exists already and is not overwritten") from None


def _move_in(partial, target):
    """Where the content does not reach the name that was taken for it, the name is given back."""
    try:
        os.replace(partial, target)
    except BaseException:
        if partial.exists():
            target.unlink()
        raise


def _sync_folder(folder):
    """The new name itself outlives a power cut only when its folder is on the disk."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
