"""Exercises of appendix B: runs of a mask, a converter with a mistake, and a folder to be cleaned."""

import math

import torch

from vlmbook.chapters.appendix_b.experiments import COPIES, TEXTURES
from vlmbook.data.rle import encode_mask
from vlmbook.notebook.exercises import Exercise, Wrong, as_number, require_returned
from vlmbook.notebook.messages import message

# --- 1: IoU from runs ---------------------------------------------------------------------------------------


def judge_iou(answer):
    generator = torch.Generator().manual_seed(4)
    for height, width in ((3, 4), (7, 5)):
        masks = torch.rand(2, height, width, generator=generator) < 0.5
        masks[0, 0, 0], masks[1, 0, 0] = True, False  # one begins inside
        runs = [list(encode_mask(mask).counts) for mask in masks]
        case = message("runs {first} and {second}", first=runs[0], second=runs[1])
        got = as_number(answer(*(list(each) for each in runs)), case)
        both, either = (masks[0] & masks[1]).sum().item(), (masks[0] | masks[1]).sum().item()
        areas = [each.sum().item() for each in masks]
        outside = (~masks[0] & ~masks[1]).sum().item()
        slips = {
            "For {case} this is the area of the intersection. Divide it by the area of the union.": both,
            "For {case} both areas are added. Pixels in both masks count once in the union.": both
            / sum(areas),
            "For {case} this is the IoU of the background: the first run counts pixels outside.": outside
            / (height * width - both),
            "For {case} the areas are compared, not the pixels: do they overlap?": min(areas) / max(areas),
        }
        if math.isclose(got, both / either, abs_tol=1e-6):
            continue
        for template, value in slips.items():
            if math.isclose(got, value, abs_tol=1e-6):
                raise Wrong(template, case=case)
        raise Wrong(
            "For {case} the IoU is {want:.4f}, got {got:.4f}.", case=case, want=both / either, got=got
        )


def iou_of_runs(first, second):
    def inside(runs):
        return [place % 2 == 1 for place, count in enumerate(runs) for _ in range(count)]

    pairs = list(zip(inside(first), inside(second), strict=True))
    return sum(a and b for a, b in pairs) / sum(a or b for a, b in pairs)


# --- 2: the mistake in a converter --------------------------------------------------------------------------

BOXES = ((0, 0, 640, 480), (100, 50, 30, 20), (7, 9, 1, 1))


def judge_converter(answer):
    for x, y, width, height in BOXES:
        case = message("x, y, w, h = {x}, {y}, {width}, {height}", x=x, y=y, width=width, height=height)
        got = answer(x, y, width, height)
        require_returned(got)
        if not isinstance(got, (tuple, list)) or len(got) != 4:
            raise Wrong("For {case} four numbers are wanted: xmin, ymin, xmax, ymax.", case=case)
        got = tuple(as_number(each, "each of the four") for each in got)
        want = (x + 1, y + 1, x + width, y + height)
        if got == want:
            continue
        slips = {
            "For {case} all four numbers are moved by 1: the last pixel is x + w, counted from 1.": (
                x + 1,
                y + 1,
                x + width + 1,
                y + height + 1,
            ),
            "For {case} the box begins at the pixel {x}: VOC counts from 1.": (x, y, x + width, y + height),
            "For {case} the last pixel is lost: it belongs to the box in VOC.": (
                x + 1,
                y + 1,
                x + width - 1,
                y + height - 1,
            ),
            "For {case} the last two numbers are a size. VOC wants the last pixel.": (
                x + 1,
                y + 1,
                width,
                height,
            ),
            "For {case} pixels are counted from 0. VOC counts from 1.": (x, y, x + width - 1, y + height - 1),
        }
        for template, numbers in slips.items():
            if got == numbers:
                raise Wrong(template, case=case, **({"x": x} if "{x}" in template else {}))
        raise Wrong("For {case} it is {want}, got {got}.", case=case, want=want, got=got)


def to_voc(x, y, width, height):
    return x + 1, y + 1, x + width, y + height


# --- 3: measure on a folder ---------------------------------------------------------------------------------

# What is left: the one in the wrong class (gravel/from_brick.jpg), the copy and the smaller version go.
BEFORE = {name: TEXTURES[name] + (name == "brick") + sum(copy.startswith(name) for copy in COPIES.values())
          for name in TEXTURES}  # fmt: skip
KEPT, IMBALANCE = sum(TEXTURES.values()), max(TEXTURES.values()) / min(TEXTURES.values())


def judge_cleaning(answer):
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        raise Wrong("Two numbers are wanted: the images that are left, and the imbalance.")
    kept, imbalance = (as_number(each, "each of the two") for each in answer)
    total = sum(BEFORE.values())
    if kept == total:
        raise Wrong("{kept:g} are all images that can be read. Copies have to go too.", kept=kept)
    if kept == total + 3:
        raise Wrong("{kept:g} counts files that cannot be read as images.", kept=kept)
    if kept == total - len(COPIES):
        raise Wrong(
            "{kept:g}: the copies are gone. One image is still there in a smaller version.", kept=kept
        )
    if kept == total - 2 * len(COPIES) - 2:
        raise Wrong("{kept:g}: of each pair one image stays.", kept=kept)
    if kept != KEPT:
        raise Wrong("{kept:g} images? Look at duplicates and similar.", kept=kept)
    if math.isclose(imbalance, max(BEFORE.values()) / min(BEFORE.values())):
        raise Wrong("{imbalance:g} is the imbalance before the cleaning.", imbalance=imbalance)
    if math.isclose(imbalance, max(TEXTURES.values()) / (min(TEXTURES.values()) + 1)) or math.isclose(
        imbalance, (max(TEXTURES.values()) - 1) / (min(TEXTURES.values()) + 1)
    ):
        raise Wrong(
            "{imbalance:g}: gravel/from_brick.jpg shows bricks. Which of the two copies has the right class?",
            imbalance=imbalance,
        )
    if math.isclose(imbalance, 1 / IMBALANCE):
        raise Wrong("Divide the largest class by the smallest, not the other way round.")
    if not math.isclose(imbalance, IMBALANCE, abs_tol=0.01):
        raise Wrong(
            "The imbalance is the largest class divided by the smallest, got {imbalance:g}.",
            imbalance=imbalance,
        )


EXERCISES = {
    "1": Exercise(
        judge_iou,
        hints=(
            "Runs are outside, inside, outside, …: the first one may be 0.",
            "A slow and sure way: write each run out as so many False or True.",
            "[place % 2 == 1 for place, count in enumerate(runs) for _ in range(count)] is the mask as a "
            "list; count the pixels where both are True, and those where one is.",
        ),
        solution=iou_of_runs,
        why="Both masks are read in the same order, so pixels with the same number are the same pixel. The "
        "shape is not needed. A fast version walks along both lists of runs and never writes out a pixel.",
    ),
    "2": Exercise(
        judge_converter,
        hints=(
            "Try the box of the whole image, 640×480. VOC writes it as 1, 1, 640, 480.",
            "x is an edge, counted from 0. The pixel to the right of this edge is the pixel x + 1.",
            "The last pixel lies to the left of the edge x + w, and it is the pixel x + w: nothing is added.",
        ),
        solution=to_voc,
        why="An edge and a pixel are different. From edges to pixels counted from 1, the first pixel is one "
        "more than its edge, and the last pixel has the number of its edge.",
    ),
    "3": Exercise(
        judge_cleaning,
        hints=(
            "data.describe_folder(messy) has sizes, duplicates and similar. Broken files are not in sizes.",
            "From each list in duplicates, and each pair in similar, one image stays.",
            "gravel/from_brick.jpg is a copy of brick/03.jpg: the one in the right class stays. Count again.",
        ),
        solution=(KEPT, IMBALANCE),
        why="Two copies and a smaller version are gone. The smallest class has lost a quarter of its images, "
        "so the imbalance is larger than before.",
    ),
}
