"""The book as one file, for readers whom no notebook service and no git reaches: `python -m tools zip`."""

import io
import subprocess
import zipfile
from pathlib import Path

import vlmbook
from vlmbook import runtime
from vlmbook.files import write_whole
from vlmbook.notebook.kernel import Stopped

# What a reader needs to read and to run: notebooks with their outputs, the package, the tested versions.
PARTS = (
    "README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CITATION.cff", "LICENSE",
    "pyproject.toml", "constraints.txt", "environment.yml", "Dockerfile", ".dockerignore",
    ".devcontainer/", "notebooks/", "results/", "vlmbook/",
)  # fmt: skip
TIME = (1980, 1, 1, 0, 0, 0)  # of each file: the earliest that the format knows


def write_zip(output: Path | None = None, book: Path = runtime.BOOK) -> Path:
    """-> Path of the zip, `dist/vlmbook-0.1.0.zip` by default. Files that git does not know stay outside.

    The same files give the same bytes: names are sorted, time stamps and permissions are fixed. Raises
    Stopped where `book` is no git checkout.
    """
    name = f"vlmbook-{vlmbook.__version__}"
    output = book / "dist" / f"{name}.zip" if output is None else output
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in list_files(book):
            entry = zipfile.ZipInfo(f"{name}/{path}", TIME)
            entry.create_system = 3  # Unix, on Windows too
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, (book / path).read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, packed.getvalue())
    return output


def list_files(book: Path) -> list[str]:
    """Path -> list of str: the files of PARTS that are in git, sorted, with / between folders."""
    listed = subprocess.run(["git", "ls-files", "-z", "--", *PARTS], cwd=book, capture_output=True)
    if listed.returncode:
        raise Stopped(f"git knows no files in {book}: a zip is made from a checkout")
    names = filter(None, listed.stdout.decode().split("\0"))
    return sorted(name for name in names if (book / name).is_file())
