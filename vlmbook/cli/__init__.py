"""The command `vlmbook`: run the chapters, open them in JupyterLab, name photographs and the people on them,
grade exercises.
"""

import argparse
import sys

# What is heavy (torch, Jupyter) is imported where it is used, so that `vlmbook --help` answers at once.
from vlmbook.cli.classify import classify_photographs
from vlmbook.cli.console import MISUSED, Mistake, ending_on_sigterm, escape_controls, stop_code
from vlmbook.cli.doctor import examine
from vlmbook.cli.edit import (
    denoise_photographs,
    inpaint_photographs,
    stylise_photographs,
    upscale_photographs,
)
from vlmbook.cli.faces import GALLERY, enroll_person, identify_faces, remove_person, verify_person
from vlmbook.cli.grade import grade_files
from vlmbook.cli.lab import open_lab
from vlmbook.cli.run import run_chapters


def main(argv: list[str] | None = None) -> int:
    """list of str -> exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a Windows console may lack the letters of a heading
    argv = sys.argv[1:] if argv is None else argv
    for_lab = argv[:1] == ["lab"] and "--" in argv
    split = argv.index("--") if for_lab else len(argv)
    args = make_parser().parse_args(argv[:split])
    args.jupyterlab = argv[split + 1 :]
    try:
        with ending_on_sigterm():
            return args.command(args)
    except Mistake as mistake:
        print(f"vlmbook: {escape_controls(str(mistake))}", file=sys.stderr)
        return MISUSED
    except OSError as error:  # a full disk, a folder without the right to write
        print(f"vlmbook: {escape_controls(str(error))}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt as stop:
        print("vlmbook: stopped", file=sys.stderr)
        return stop_code(stop)


def make_parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="vlmbook", description=__doc__)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    add_run(commands)
    add_lab(commands)
    add_classify(commands)
    add_faces(commands)
    add_edit(commands)
    add_grade(commands)
    add_doctor(commands)
    return top


def add_run(commands) -> None:
    one = commands.add_parser(
        "run",
        help="execute chapters from top to bottom; tables what they took and proved",
        epilog="Exit code 0: all ran, 1: one failed, 2: misused, 130: Ctrl-C, 143: SIGTERM.",
    )
    one.add_argument("chapters", nargs="*", metavar="CHAPTER", help="ch03a, …, or all (default: all)")
    add_profile(one)
    one.add_argument(
        "--output",
        metavar="DIR",
        help="for executed copies and records; nothing there is overwritten (default: a new folder in "
        "vlmbook-runs)",
    )
    one.set_defaults(command=run_chapters)


def add_lab(commands) -> None:
    one = commands.add_parser(
        "lab",
        help="open JupyterLab on a working copy of the chapters",
        usage="vlmbook lab [-h] [CHAPTER] [--dir DIR] [-- JUPYTERLAB_OPTION ...]",
        epilog="What you edit is never overwritten: a newer chapter is laid beside yours. To start a chapter "
        "afresh, delete or rename it and call this again.",
    )
    one.add_argument("chapter", nargs="?", metavar="CHAPTER", help="open this one")
    one.add_argument("--dir", default="vlmbook-work", help="the working copy (default: vlmbook-work)")
    one.set_defaults(command=open_lab)


def add_classify(commands) -> None:
    one = commands.add_parser(
        "classify",
        help="name what photographs show, with a network that was trained on ImageNet",
        epilog="Exit code 0: all were read, 1: some were not, 2: the weights are missing.",
    )
    one.add_argument("files", nargs="+", metavar="FILE", help="a photograph")
    one.set_defaults(command=classify_photographs)


def add_faces(commands) -> None:
    one = commands.add_parser(
        "faces",
        help="enroll people from photographs, identify, verify and remove them",
        description="Recognises people on photographs. The gallery is one file with names and embeddings, "
        "never an image. Enroll only people who have agreed to it.",
    )
    actions = one.add_subparsers(metavar="ACTION", required=True)
    person, photographs, gallery = (argparse.ArgumentParser(add_help=False) for _ in range(3))
    person.add_argument("name", metavar="NAME", help="the person")
    photographs.add_argument("files", nargs="+", metavar="FILE", help="a photograph")
    gallery.add_argument("--gallery", default=GALLERY, metavar="FILE", help=f"default: {GALLERY}")
    gallery.add_argument(
        "--threshold",
        type=float,
        metavar="DISTANCE",
        help="up to which two faces are of one person (default: what the library takes)",
    )
    enroll = actions.add_parser(
        "enroll",
        help="add the face of each photograph to a person",
        epilog="Exit code 0: all are enrolled, 1: some could not be, 2: misused, or the weights are missing.",
        parents=[person, photographs, gallery],
    )
    enroll.set_defaults(command=enroll_person)
    identify = actions.add_parser(
        "identify",
        help="name the people on photographs",
        epilog="Exit code 0: all were read, 1: some were not, 2: misused, or the weights are missing.",
        parents=[photographs, gallery],
    )
    identify.set_defaults(command=identify_faces)
    verify = actions.add_parser(
        "verify",
        help="tell whether photographs show a person",
        epilog="Exit code 0: all show the person, 1: some do not, or could not be read, 2: misused, or the "
        "weights are missing.",
        parents=[person, photographs, gallery],
    )
    verify.set_defaults(command=verify_person)
    remove = actions.add_parser(
        "remove",
        help="delete a person from the gallery",
        epilog="Exit code 0: deleted, 2: nobody of this name is enrolled, or the weights are missing.",
        parents=[person, gallery],
    )
    remove.set_defaults(command=remove_person)


def add_edit(commands) -> None:
    one = commands.add_parser(
        "edit",
        help="enlarge, clean, repair or stylise photographs; the copies are new files",
        epilog="No file is overwritten. A copy is a PNG file, with the transparency, the grey and the colour "
        "profile of the photograph, without its date, place and other metadata.",
    )
    kinds = one.add_subparsers(metavar="EDIT", required=True)
    upscale = kinds.add_parser("upscale", help="enlarge 2, 3 or 4 times with a trained network")
    upscale.add_argument("--factor", type=int, default=2, choices=(2, 3, 4), help="default: 2")
    upscale.set_defaults(command=upscale_photographs)
    denoise = kinds.add_parser("denoise", help="take the noise out with a trained network")
    denoise.add_argument(
        "--sigma",
        type=read_level,
        metavar="LEVEL",
        help="standard deviation of the noise, where white is 255, up to 63 (default: measured in each "
        "photograph)",
    )
    denoise.set_defaults(command=denoise_photographs)
    inpaint = kinds.add_parser("inpaint", help="fill holes, such as scratches and unwanted text")
    inpaint.add_argument(
        "--mask",
        required=True,
        metavar="MASK",
        help="an image of the same size, white where the hole is; or a folder of such images, named as the "
        "photographs",
    )
    inpaint.set_defaults(command=inpaint_photographs)
    style = kinds.add_parser("style", help="give photographs the texture of a painting (extra: pretrained)")
    style.add_argument("--style", required=True, metavar="PAINTING", help="an image")
    style.add_argument(
        "--size", type=read_pixels, default=256, metavar="PIXELS", help="of the longer side (default: 256)"
    )
    style.add_argument("--steps", type=read_count, default=100, help="of the optimisation (default: 100)")
    style.add_argument("--keep-colours", action="store_true", help="those of the photograph")
    style.set_defaults(command=stylise_photographs)
    for kind in (upscale, denoise, inpaint, style):
        kind.add_argument("files", nargs="+", metavar="FILE", help="a photograph")
        kind.add_argument("--output", required=True, metavar="DIR", help="where the copies go")
        kind.add_argument(
            "--max-pixels",
            type=read_limit,
            default=64_000_000,
            metavar="COUNT",
            help="of a photograph; a larger one is refused before it is read (default: 64000000)",
        )
        kind.epilog = (
            "Exit code 0: all were edited, 1: some were not, 2: misused, or the weights are missing."
        )


def add_grade(commands) -> None:
    one = commands.add_parser(
        "grade",
        help="execute students' notebooks and table their exercises",
        description="Executes each notebook afresh (saved outputs count for nothing) and tables its "
        "exercises. THIS RUNS THE STUDENTS' CODE with your rights, and believes what it says: use an account "
        "or a machine where it can do no harm, and read what looks odd. No file is changed.",
        epilog="passed, failed and unanswered are what check says. failed also stands where the cell ended "
        "in an error or ran too long, missing where no cell calls check, not reached where the notebook had "
        "stopped before. Exit code 0: all passed or unanswered, 1: any other, 2: a file cannot be read or "
        "has no exercises (the others are graded), 130: Ctrl-C, 143: SIGTERM.",
    )
    one.add_argument("files", nargs="+", metavar="FILE", help="a notebook, under whatever name")
    add_profile(one)
    one.add_argument(
        "--timeout", type=read_seconds, default=60, metavar="SECONDS", help="for each cell (default: 60)"
    )
    one.set_defaults(command=grade_files)


def add_doctor(commands) -> None:
    one = commands.add_parser(
        "doctor",
        help="examine whether this machine can run the book, and say how to mend it",
        epilog="Exit code 0: the quick profile can run, 1: it cannot.",
    )
    one.set_defaults(command=examine)


def add_profile(parser) -> None:
    parser.add_argument(
        "--profile", metavar="quick|full", help="default: what VLMBOOK_PROFILE says, else quick"
    )


def read_pixels(text: str) -> int:
    if not text.isdecimal() or not 32 <= int(text) <= 4096:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of pixels from 32 to 4096")
    return int(text)


def read_limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 2**40:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of pixels from 1 to {2**40}")
    return int(text)


def read_level(text: str) -> float:
    """Digits with at most one point; no nan and no 1e3."""
    if not text.replace(".", "", 1).isdecimal() or not 0 <= float(text) <= 63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 63")
    return float(text)


def read_count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 100,000")
    return int(text)


def read_seconds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds from 1 up")
    return int(text)
