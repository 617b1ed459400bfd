"""Execute the chapters into their committed form, check them, and make the README's table of them.

python -m tools execute ch03a            after an edit of the notebook or of its text
python -m tools execute ch03a --profile full
python -m tools reword ch03a             after an edit of prose alone; the outputs stay
python -m tools check
python -m tools table
python -m tools references               what references.bib lacks
python -m tools zip                      the book as one file, in dist/
"""

import argparse
import sys
from pathlib import Path

from tools.check import find_problems
from tools.execute import execute, reword
from tools.references import report
from tools.table import write_table
from tools.zip import write_zip
from vlmbook import chapters, runtime
from vlmbook.chapters import Chapter
from vlmbook.notebook import records
from vlmbook.notebook.kernel import Stopped


def main(arguments: list[str] | None = None) -> int:
    """list of str -> int: the exit status, 1 if a chapter is not as it should be."""
    options = make_parser().parse_args(arguments)
    try:
        return options.command(options)
    except Stopped as reason:
        print(reason, file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("execute", help="run chapters and write them with their outputs and records")
    add_chapters(one)
    one.add_argument(
        "--profile", choices=runtime.PROFILES, default="quick", help="full writes the record alone"
    )
    one.add_argument(
        "--from", dest="side", choices=("text", "notebook"), help="the side to take if both were edited"
    )
    one.set_defaults(command=execute_all)
    one = commands.add_parser("reword", help="take the prose of texts into notebooks, and run nothing")
    add_chapters(one)
    one.set_defaults(command=reword_all)
    one = commands.add_parser("check", help="name everything about chapters that is not as it should be")
    add_chapters(one)
    one.set_defaults(command=check_all)
    one = commands.add_parser("table", help="write the README's table of chapters")
    one.set_defaults(command=make_table)
    one = commands.add_parser("references", help="compare the citations of all chapters with references.bib")
    one.set_defaults(command=compare_references)
    one = commands.add_parser("zip", help="pack notebooks, package and tested versions into one file")
    one.add_argument("--output", type=Path, help="default: dist/vlmbook-VERSION.zip")
    one.set_defaults(command=pack)
    return parser


def add_chapters(parser) -> None:
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help="ch03a, … (default: all)")


def execute_all(options: argparse.Namespace) -> int:
    for chapter in choose_chapters(options.chapters):
        execute(chapter, profile=options.profile, side=options.side)
        print(f"{chapter.name}: {records.cost(records.load(chapter.name, options.profile))}")
        if options.profile == "full":
            print(f"  recorded; now `python -m tools execute {chapter.name}` shows it in the notebook")
    return 0


def reword_all(options: argparse.Namespace) -> int:
    for chapter in choose_chapters(options.chapters):
        reword(chapter)
    return 0


def check_all(options: argparse.Namespace) -> int:
    chosen = choose_chapters(options.chapters)
    found = [
        f"{chapter.notebook.name}: {problem}" for chapter in chosen for problem in find_problems(chapter)
    ]
    print("\n".join(found) or f"{', '.join(chapter.name for chapter in chosen)}: as it should be")
    return 1 if found else 0


def make_table(options: argparse.Namespace) -> int:
    write_table()
    return 0


def compare_references(options: argparse.Namespace) -> int:
    """Differences are shown, and are no failure: a text may shorten what references.bib has in full."""
    faults, differences = report()
    print("\n".join([*faults, *differences]) or "every citation has its entry")
    return 1 if faults else 0


def pack(options: argparse.Namespace) -> int:
    path = write_zip(options.output)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


def choose_chapters(names: list[str]) -> list[Chapter]:
    """The chapters named on the command line, by "ch03a" or the file's name; all of them where none is.

    A chapter counts as soon as its text or its notebook is there. Raises Stopped for a name that is none.
    """
    begun = chapters.begun()
    if not begun:
        raise Stopped(f"there is no chapter in {chapters.NOTEBOOKS}")
    found = []
    for name in names:
        named = [chapter for chapter in begun if name in (chapter.name, chapter.stem)]
        if not named:
            there = ", ".join(chapter.name for chapter in begun)
            raise Stopped(f"there is no chapter {name!r}; there are {there}")
        found += named
    return found or begun


if __name__ == "__main__":
    sys.exit(main())
