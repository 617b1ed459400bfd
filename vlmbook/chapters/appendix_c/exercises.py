"""Exercises of appendix C, tools."""

import math

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from vlmbook import data
from vlmbook.notebook.exercises import Exercise, Wrong, as_number, as_tensor
from vlmbook.notebook.messages import message

# --- 1: predict ---------------------------------------------------------------------------------------------

SHAPE, DTYPE, VALUE = (80, 60, 3), "float64", (4, 20, 10)
KEYS = {"shape", "dtype", "value"}


def judge_prediction(answer):
    if not isinstance(answer, dict) or set(answer) != KEYS:
        raise Wrong('A dict is wanted, with the keys "shape", "dtype" and "value".')
    shape = _as_whole(answer["shape"], "shape")
    if shape == (60, 80, 3):
        raise Wrong("The shape (60, 80, 3) is 60 rows high. Pillow's sizes are (width, height).")
    if shape == (3, 80, 60):
        raise Wrong(
            "In the shape (3, 80, 60) the channels stand first. A NumPy array of Pillow has them last."
        )
    if shape in ((200, 300, 3), (300, 200, 3)):
        raise Wrong("This is the size before the resize. The result of resize is what is turned to an array.")
    if shape != SHAPE:
        raise Wrong("The shape is not {shape}: rows, columns, channels.", shape=shape)
    dtype = getattr(answer["dtype"], "name", answer["dtype"])
    if dtype == "float32":
        raise Wrong("NumPy divides uint8 in float64, not float32. PyTorch would give float32.")
    if dtype == "uint8":
        raise Wrong("Division with / does not stay in uint8: the result would be 0 or 1.")
    if dtype != DTYPE:
        raise Wrong('The dtype is wanted as text, such as "uint8"; "{dtype}" is not it.', dtype=str(dtype))
    value = _as_whole(answer["value"], "value")
    if value == (255, 20, 10):
        raise Wrong("255 would be right in OpenCV and Pillow, which saturate. NumPy wraps around at 256.")
    if value == (260, 20, 10):
        raise Wrong("260 does not fit into uint8, whose values end at 255.")
    if value != VALUE:
        raise Wrong("The value is not {value}: add 10 to each channel, modulo 256.", value=value)


def _as_whole(answer, name):
    """-> tuple of ints."""
    if not isinstance(answer, (tuple, list)) or len(answer) != 3:
        raise Wrong("Under {name} three whole numbers are wanted.", name=name)
    return tuple(int(as_number(each, name)) for each in answer)


# --- 2: find the bug ----------------------------------------------------------------------------------------


def judge_thumbnail(answer):
    try:
        answer(None)
    except FileNotFoundError:
        pass
    except Exception as error:
        raise Wrong(
            "For None, which OpenCV gives for a missing file, a FileNotFoundError is wanted; this raises "
            "{kind}.",
            kind=type(error).__name__,
        ) from None
    else:
        raise Wrong("None, which OpenCV gives for a missing file, passes without an error.")
    rng = np.random.default_rng(1)
    for height, width in ((40, 60), (64, 36)):
        coarse = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        bgr = coarse.repeat(4, 0).repeat(4, 1)
        case = message("{height} rows and {width} columns", height=height, width=width)
        got = answer(bgr.copy())
        want = thumbnail(bgr)
        if not isinstance(got, np.ndarray) or got.dtype != np.uint8:
            raise Wrong("For {case} a NumPy array of uint8 is wanted.", case=case)
        if got.shape == bgr.shape:
            raise Wrong(
                "For {case} the result has the old size. Pillow's resize returns a new image, and leaves the "
                "old one as it was.",
                case=case,
            )
        if got.shape == (width // 2, height // 2, 3):
            raise Wrong("For {case} height and width are swapped: resize wants (width, height).", case=case)
        as_tensor(torch.from_numpy(got.copy()), torch.from_numpy(want.copy()), case)
        if np.abs(got.astype(int) - want).max() <= 2:
            continue
        swapped = want[..., ::-1]
        if np.abs(got.astype(int) - swapped).max() <= 2:
            raise Wrong("For {case} red and blue are swapped: OpenCV's arrays begin with blue.", case=case)
        if np.array_equal(got, bgr[::2, ::2, ::-1]):
            raise Wrong("For {case} pixels are left out. Use Image.Resampling.BILINEAR.", case=case)
        raise Wrong(
            "For {case} values are off by up to {most} levels. Use Image.Resampling.BILINEAR.",
            case=case,
            most=int(np.abs(got.astype(int) - want).max()),
        )


def thumbnail(bgr):
    if bgr is None:
        raise FileNotFoundError("there is no such picture")
    image = Image.fromarray(np.ascontiguousarray(bgr[..., ::-1]))
    image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BILINEAR)
    return np.asarray(image)


# --- 3: measure ---------------------------------------------------------------------------------------------

FACTOR, LEAST = 4, 4


def judge_aliasing(answer):
    if not isinstance(answer, dict) or "largest" not in answer or len(answer) < LEAST + 1:
        raise Wrong('A dict is wanted: four or more photographs with a number each, and "largest", a name.')
    measured = {name: value for name, value in answer.items() if name != "largest"}
    for name, value in measured.items():
        if name not in data.photo_names():
            raise Wrong(
                "{name} is no photograph of the package; data.photo_names() lists them.", name=str(name)
            )
        got, want = as_number(value, str(name)), measure_aliasing(name)
        if math.isclose(got, want, rel_tol=0.03):
            continue
        if math.isclose(got * 255, want, rel_tol=0.03):
            raise Wrong("{name}: {got:.4f} is in units of 0 to 1. Multiply by 255.", name=name, got=got)
        if math.isclose(got, want**2, rel_tol=0.05):
            raise Wrong("{name}: {got:.4g} is the mean square. Take its root.", name=name, got=got)
        if math.isclose(got, measure_aliasing(name, mean=True), rel_tol=0.03):
            raise Wrong(
                "{name}: {got:.4g} is the mean absolute difference. Square first, then take mean and root.",
                name=name,
                got=got,
            )
        raise Wrong(
            "{name}: {got:.4g} is not what factor 4 gives, with antialias=True and antialias=False, on the "
            "whole photograph.",
            name=name,
            got=got,
        )
    largest = max(measured, key=measured.get)
    if answer["largest"] != largest:
        raise Wrong("From your numbers the largest is {name}.", name=largest)


def measure_aliasing(name, mean=False):
    x = data.photo(name)
    size = [x.shape[1] // FACTOR, x.shape[2] // FACTOR]
    difference = 255 * (TF.resize(x, size, antialias=False) - TF.resize(x, size, antialias=True))
    return difference.abs().mean().item() if mean else difference.square().mean().sqrt().item()


EXERCISES = {
    "1": Exercise(
        judge_prediction,
        hints=(
            "Pillow names the width first. An array of it has rows first, and the channels last.",
            "NumPy divides whole numbers into float64. Sums of uint8 stay uint8, modulo 256.",
            'dict(shape=(80, 60, 3), dtype="float64", value=(4, 20, 10))',
        ),
        solution={"shape": SHAPE, "dtype": DTYPE, "value": VALUE},
        why="Each of the three is a convention and no law: another library has another one. So write shape, "
        "dtype and range beside each picture that leaves your function.",
    ),
    "2": Exercise(
        judge_thumbnail,
        hints=(
            "There are four faults: one for a missing file, one of colour, one of size, one of the result.",
            "bgr[..., ::-1] turns the channels. resize wants (width, height), and returns a new image.",
            "if bgr is None: raise FileNotFoundError; Image.fromarray(bgr[..., ::-1].copy()); "
            "image = image.resize((w // 2, h // 2), Image.Resampling.BILINEAR)",
        ),
        solution=thumbnail,
        why="None of the four faults raises an error in the place where it is made. A test with a picture "
        "that is not square and not grey finds three of them.",
    ),
    "3": Exercise(
        judge_aliasing,
        hints=(
            "x = data.photo(name) is (3, H, W) in [0, 1]; the new size is [H // 4, W // 4].",
            "TF.resize(x, size, antialias=True) and TF.resize(x, size, antialias=False), with TF = "
            "torchvision.transforms.v2.functional",
            "(255 * (a - b)).square().mean().sqrt().item()",
        ),
        solution={"brick": 7.37, "cat": 5.68, "coffee": 8.54, "gravel": 14.21, "largest": "gravel"},
        why="Aliasing needs details finer than the small picture can hold. A photograph with fine texture "
        "has more of them than one with smooth areas.",
    ),
}
