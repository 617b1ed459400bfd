"""Files written whole or not at all, so that nothing of a reader's is ever damaged or lost."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


def write_whole(path: str | os.PathLike, content: bytes, *, replace: bool = True) -> None:
    """path, bytes -> None: the file holds all of it, or what it held before, however this process ends.

    The bytes go to a file of a unique name in the same folder, are forced to the disk, and take the path's
    place in one step. A symbolic link stays a link: what it points to is replaced, with the permissions that
    it had. With replace=False an existing file raises FileExistsError and stays. Folders on the way are made.
    Raises OSError for a path that is no file, and for a full disk.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir() or not Path(path).name or str(path).endswith(("/", os.sep)):
        raise IsADirectoryError(f"a file wants a name, got the folder {path}")
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".partial", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _give_permissions(name, target)
        if replace:
            os.replace(name, target)
        else:
            _link_new(name, target)
        _settle(target.parent)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


@contextmanager
def sole_writer(path: str | os.PathLike) -> Iterator[None]:
    """path -> nothing, while the block runs: no other process on this machine may write the same file.

    Raises BlockingIOError where another one does. The lock is a file beside it, `.name.lock`, which ends with
    the block.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(f"{path} is being written by another process; give each its own file") from None
    try:
        yield
    finally:
        with suppress(OSError):  # while it is still held, so that nobody takes a lock that is gone
            os.unlink(lock.lock_file)
        lock.release()


def _give_permissions(name, target):
    """mkstemp's files are for the owner alone; the target keeps its own, a new file gets what the umask
    leaves.
    """
    if os.name != "posix":
        return
    if target.exists():
        os.chmod(name, target.stat().st_mode & 0o7777)
        return
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(name, 0o666 & ~mask)


def _link_new(name, target):
    """A hard link fails where the name is taken: no look before, between which and the link another could
    come.
    """
    try:
        os.link(name, target)
    except FileExistsError:
        raise FileExistsError(f"{target} is there already and is not overwritten") from None
    except OSError:  # a file system without links
        with open(target, "xb") as file:
            file.write(Path(name).read_bytes())


def _settle(folder):
    """The new name itself outlives a power cut only when its folder is on the disk."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
