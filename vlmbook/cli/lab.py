"""`vlmbook lab`: open JupyterLab on a reader's own copy of the chapters, over nothing of the reader's."""

import argparse
import hashlib
import json
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path

from vlmbook import chapters
from vlmbook.cli.console import GOOD, chapter_or_mistake, folder_or_mistake, shown

MANIFEST = ".vlmbook.json"  # in a working folder: file name -> SHA-256 of what was laid there
ASIDE = ".vlmbook-replaced"  # a folder in it: chapters that were replaced, until the next call

# Jupytext answers HTTP 400, or shows its text file instead, after a notebook was edited elsewhere. It comes
# as a server extension, or in the settings of the user as the contents manager.
WITHOUT_JUPYTEXT = (
    "--ServerApp.jpserver_extensions=jupyterlab_jupytext=False",
    "--ServerApp.jpserver_extensions=jupytext=False",
    "--ServerApp.contents_manager_class="
    "jupyter_server.services.contents.largefilemanager.AsyncLargeFileManager",
)
# Of the server: a message to a kernel, such as a photograph that a panel opens, may have 256 MiB instead of
# tornado's 10.
SETTINGS = Path(__file__).parent / "jupyter"


def open_lab(args: argparse.Namespace) -> int:
    """-> exit code. On Linux and macOS this process becomes JupyterLab."""
    chapter = chapter_or_mistake(args.chapter) if args.chapter is not None else None
    folder = folder_or_mistake("--dir", args.dir, [chapters.NOTEBOOKS])
    for message in update_working_copy(folder):
        print(message)
    os.environ |= {"JUPYTER_PREFER_ENV_PATH": "1", "VLMBOOK_OUTPUT": str(folder / "runs")}
    readers = os.environ.get("JUPYTER_CONFIG_PATH", "").split(os.pathsep)
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join([*filter(None, readers), str(SETTINGS)])
    opened = [str(folder / chapter.notebook.name)] if chapter else []
    options = [f"--ServerApp.root_dir={folder}", *WITHOUT_JUPYTEXT, *opened, *args.jupyterlab]
    print(f"Opening JupyterLab on {shown(folder)}; Ctrl-C here stops it.", flush=True)
    if os.name == "posix":  # become JupyterLab: one process for Ctrl-C to stop
        # -P: a reader's random.py in this folder must not stand in for Python's own
        os.execv(sys.executable, [sys.executable, "-P", "-m", "jupyterlab", *options])
    from jupyterlab.labapp import LabApp

    LabApp.launch_instance(options)
    return GOOD


# --- the working copy ---------------------------------------------------------------------------------------


def update_working_copy(folder: Path) -> list[str]:
    """Path -> list of messages: lay the book's chapters into a reader's folder, over nothing of the reader's.

    A chapter that is as it was laid is refreshed when the book's is newer. A file that the reader edited, or
    made under a chapter's name, stays, and the newer chapter is laid beside it, once, as
    `….new-1a2b3c.ipynb`. A chapter that the reader deleted comes back: so one starts it afresh.
    """
    manifest = read_manifest(folder / MANIFEST)
    before = dict(manifest)
    messages = rescue_edits(folder)
    done = {"new": [], "put back, since you deleted or renamed it": [], "refreshed": []}
    for chapter in chapters.written():
        name = chapter.notebook.name
        content = chapter.notebook.read_bytes()
        change = lay_chapter(folder / name, content, manifest.get(name))
        if change == "edited":
            messages += lay_beside(folder / name, content, manifest)
            continue
        manifest[name] = sha256(content)
        if change:
            done[change].append(name)
    if manifest != before:
        write_manifest(folder / MANIFEST, manifest)
    return [f"{change}: {', '.join(names)}" for change, names in done.items() if names] + messages


def lay_chapter(working: Path, content: bytes, laid: str | None) -> str:
    """The path in the working copy, the book's chapter, the hash of what was laid there -> what was done.

    "" where nothing was to do, "edited" where the file is the reader's and stays.
    """
    there = sha256(working.read_bytes()) if working.exists() else None
    if there == sha256(content):
        return ""
    if there is None:
        return (
            ("put back, since you deleted or renamed it" if laid else "new")
            if create(working, content)
            else "edited"
        )
    if there == laid and replace_unedited(working, laid, content):
        return "refreshed"
    return "edited"


def lay_beside(working: Path, content: bytes, manifest: dict[str, str]) -> list[str]:
    """Lay a newer chapter beside an edited one, once -> list with the message, if it was."""
    newest = sha256(content)
    beside = working.with_name(f"{working.stem}.new-{newest[:6]}.ipynb")
    if newest in (manifest.get(working.name), manifest.get(beside.name)):
        return []
    create(beside, content)
    manifest[beside.name] = newest
    return [f"{working.name} is yours and stays; the book's newer one is beside it: {beside.name}"]


def create(path: Path, content: bytes) -> bool:
    """-> whether the file was made; False where there is one by now, which stays."""
    from vlmbook.files import write_whole

    try:
        write_whole(path, content, replace=False)
    except FileExistsError:
        return False
    return True


# --- no edit is lost ----------------------------------------------------------------------------------------


def replace_unedited(working: Path, laid: str, content: bytes) -> bool:
    """Replace a file that holds what was laid -> whether it did hold that; an edited one stays.

    An edit may be saved between a look at the file and its replacement. So the file is first moved aside, and
    looked at there. It stays aside until the next call, since a program that had it open may still write to
    it.
    """
    if working.is_symlink():  # the reader's doing
        return False
    aside = working.parent / ASIDE / f"{laid}.{secrets.token_hex(4)}.{working.name}"
    aside.parent.mkdir(exist_ok=True)
    try:
        os.rename(working, aside)
    except (FileNotFoundError, PermissionError):  # gone by now; or open in a program, on Windows
        return False
    if sha256(aside.read_bytes()) == laid:
        return create(working, content)
    move_without_overwriting(aside, working)
    return False


def rescue_edits(folder: Path) -> list[str]:
    """Delete the chapters that were moved aside by earlier calls -> list of messages on those that had an
    edit, which come back under names of their own.
    """
    messages = []
    for aside in sorted((folder / ASIDE).glob("*.ipynb")):
        laid, _, name = aside.name.split(".", maxsplit=2)
        edited = sha256(aside.read_bytes())
        if edited == laid:
            aside.unlink()
            continue
        rescued = folder / f"{Path(name).stem}.edited-{edited[:6]}.ipynb"
        if move_without_overwriting(aside, rescued):
            messages.append(f"{name} was edited while it was refreshed; your edit is in {rescued.name}")
    with suppress(OSError):  # not empty, or not there
        (folder / ASIDE).rmdir()
    return messages


def move_without_overwriting(source: Path, target: Path) -> bool:
    """-> whether it was moved; False where the target is there, and both stay."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if target.exists():
            return False
        os.rename(source, target)
        return True
    source.unlink()
    return True


# --- what was laid ------------------------------------------------------------------------------------------


def read_manifest(path: Path) -> dict[str, str]:
    """Path -> dict; a lost or broken manifest is an empty one: every file that differs is then the
    reader's.
    """
    try:
        laid = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(laid, dict):
        return {}
    return {name: digest for name, digest in laid.items() if isinstance(digest, str)}


def write_manifest(path: Path, laid: dict[str, str]) -> None:
    from vlmbook.files import write_whole

    write_whole(path, json.dumps(laid, indent=1).encode())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
