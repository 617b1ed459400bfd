"""Execute the chapters into their committed form, check them, and make the README's table of them.

python -m tools execute ch03a            after an edit of the notebook or of its text
python -m tools execute ch03a --profile full
python -m tools check
python -m tools table
"""

import argparse
import re
import sys
from pathlib import Path

from tools.check import problems
from tools.execute import Chapter, execute, put
from vlmbook import runtime
from vlmbook.notebook import records
from vlmbook.notebook.kernel import Stopped

ROOT = Path(__file__).resolve().parent.parent
MARKERS = "<!-- chapters -->", "<!-- /chapters -->"

# Every chapter that the book gets, written or not: notebook, section of the book, title, what it shows.
BOOK = [
    (
        "ch01_from_features_to_networks",
        "§1.1-1.3",
        "From features to networks",
        "hand-made features against learned ones on the same photographs",
    ),
    (
        "ch02_foundations",
        "§2.1",
        "Foundations",
        "data, depth, several tasks at once: what each of them buys, measured",
    ),
    (
        "ch03a_convolution_and_pooling",
        "§2.2.1(1)",
        "Convolution and pooling",
        "kernels on photographs, sizes and strides, the transposed convolution, a CNN in seconds",
    ),
    (
        "ch03b_resnet",
        "§2.2.1(2)",
        "ResNet",
        "why depth alone makes a network worse and the residual block does not",
    ),
    ("ch03c_unet", "§2.2.1(3)", "U-Net", "segmentation, and what the skip connections carry"),
    ("ch04a_gan", "§2.2.2(1)", "GAN", "generator against discriminator, and how the game fails"),
    ("ch04b_vae", "§2.2.2(2)", "VAE", "a latent space to walk in, reconstruction against KL"),
    ("ch04c_gpt", "§2.2.2(3)", "GPT", "an image written pixel by pixel, the causal mask tested"),
    (
        "ch05a_classification_and_detection",
        "§2.2.3(1)",
        "Classification and detection",
        "boxes, anchors, non-maximum suppression, average precision by hand",
    ),
    (
        "ch05b_attention",
        "§2.2.3(2), (4)",
        "Attention",
        "queries, keys and values, and a vision transformer that looks",
    ),
    (
        "ch05c_distillation",
        "§2.2.3(3)",
        "Distillation",
        "a small network taught by a large one, temperature by temperature",
    ),
    (
        "ch06a_face_recognition",
        "§6.1",
        "Face recognition",
        "a system from detection to matching, its errors and its threshold",
    ),
    (
        "ch06b_image_generation_and_editing",
        "§6.2",
        "Image generation and editing",
        "inpainting, super-resolution and style, judged by numbers",
    ),
    (
        "ch07_challenges_and_directions",
        "§7, §8",
        "Challenges and directions",
        "compression, privacy, fairness, explanation, few shots, image and text",
    ),
    ("appendix_a_frameworks", "App. A", "Frameworks", "the book's snippets run, and mended"),
    ("appendix_b_datasets", "App. B", "Data sets", "the book's figures held against the sources"),
    ("appendix_c_tools", "App. C", "Tools", "the book's tools tried on one photograph"),
]


def main(arguments=None):
    """list of str -> int: the exit status, 1 if a chapter is not as it should be."""
    options = parser().parse_args(arguments)
    try:
        return options.command(options)
    except Stopped as reason:
        print(reason, file=sys.stderr)
        return 1


def parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT, help=argparse.SUPPRESS
    )  # another tree, for the tests
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("execute", help="run chapters and write them with their outputs and records")
    run.add_argument("chapters", nargs="*", metavar="CHAPTER", help="ch03a, … (default: all)")
    run.add_argument(
        "--profile", choices=runtime.PROFILES, default="quick", help="full writes the record alone"
    )
    run.add_argument(
        "--from", dest="side", choices=("text", "notebook"), help="the side to take if both were edited"
    )
    run.set_defaults(command=execute_all)
    check = commands.add_parser("check", help="name everything about chapters that is not as it should be")
    check.add_argument("chapters", nargs="*", metavar="CHAPTER", help="ch03a, … (default: all)")
    check.set_defaults(command=check_all)
    commands.add_parser("table", help="write the README's table of chapters").set_defaults(
        command=write_table
    )
    return parser


def execute_all(options):
    for chapter in chosen(options):
        execute(chapter, profile=options.profile, side=options.side)
        print(
            f"{chapter.short}: {records.cost(records.load(chapter.short, options.profile, chapter.results))}"
        )
        if options.profile == "full":
            print(f"  recorded; now `python -m tools execute {chapter.short}` shows it in the notebook")
    return 0


def check_all(options):
    named = chosen(options)
    found = [
        f"{chapter.notebook.name}: {problem}" for chapter in named for problem in problems(chapter.notebook)
    ]
    print("\n".join(found) or f"{', '.join(chapter.short for chapter in named)}: as it should be")
    return 1 if found else 0


def write_table(options):
    readme = options.root / "README.md"
    before, _, after = split_readme(readme.read_text(encoding="utf-8"))
    put(readme, f"{before}{MARKERS[0]}\n{readme_table(options.root)}{MARKERS[1]}{after}".encode())
    return 0


def chosen(options):
    """The chapters named on the command line, by "ch03a" or the whole name; all of them where none is."""
    folder = options.root / "notebooks"
    stems = sorted({path.stem for path in (*folder.glob("*.ipynb"), *folder.glob("text/*.py"))})
    there = {Chapter(folder / f"{stem}.ipynb").short: stem for stem in stems}
    if not stems:
        raise Stopped(f"there is no chapter in {folder}")
    for name in options.chapters:
        if name not in there and name not in stems:
            raise Stopped(f"there is no chapter {name!r}; there are {', '.join(there)}")
    names = [there.get(name, name) for name in options.chapters] or stems
    return [Chapter(folder / f"{name}.ipynb") for name in names]


def split_readme(text):
    """str -> (before, table, after). Raises Stopped where the markers are missing."""
    found = re.fullmatch(rf"(.*){MARKERS[0]}\n(.*){MARKERS[1]}(.*)", text, re.DOTALL)
    if not found:
        raise Stopped(f"README.md has no place for the table, between {MARKERS[0]} and {MARKERS[1]}")
    return found.groups()


def readme_table(root=ROOT):
    """-> str: a line a chapter, with what its published runs cost."""
    rows = [("Chapter", "Book", "What it shows", "Quick", "Full"), ("---",) * 5]
    rows += [row(root, *entry) for entry in BOOK]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def row(root, stem, section, title, shows):
    chapter = Chapter(root / "notebooks" / f"{stem}.ipynb")
    name = f"{chapter.short} {title}"
    if not chapter.notebook.exists():
        return name, section, shows, "to come", ""
    quick, full = (records.load(chapter.short, profile, chapter.results) for profile in runtime.PROFILES)
    return (
        f"[{name}](notebooks/{stem}.ipynb)",
        section,
        shows,
        records.cost(quick).removesuffix(f", {quick['device']}") if quick else "not measured yet",
        records.cost(full) if full else "not measured yet",
    )


if __name__ == "__main__":
    sys.exit(main())
