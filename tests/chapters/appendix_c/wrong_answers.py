"""Appendix C: two or more wrong answers for each exercise, and what the message has to say about them."""

import numpy as np
from PIL import Image

RIGHT = {"shape": (80, 60, 3), "dtype": "float64", "value": (4, 20, 10)}
MEASURED = {"brick": 7.37, "cat": 5.68, "coffee": 8.54, "gravel": 14.21}


def shrink(bgr, *, turn=True, size=True, keep=False, method=Image.Resampling.BILINEAR, missing=True):
    """The right answer, with one fault at a time."""
    if bgr is None and missing:
        raise FileNotFoundError("not there")
    if bgr is None:
        return None
    image = Image.fromarray(np.ascontiguousarray(bgr[..., ::-1] if turn else bgr))
    sides = (image.width // 2, image.height // 2) if size else (image.height // 2, image.width // 2)
    return np.asarray(image if keep else image.resize(sides, method))


def drop_pixels(bgr):
    if bgr is None:
        raise FileNotFoundError("not there")
    return bgr[::2, ::2, ::-1]


WRONG_ANSWERS = [
    ("appendix_c.1", RIGHT | {"shape": (60, 80, 3)}, "width, height"),
    ("appendix_c.1", RIGHT | {"shape": (3, 80, 60)}, "channels last|has them last"),
    ("appendix_c.1", RIGHT | {"shape": (200, 300, 3)}, "before the resize"),
    ("appendix_c.1", RIGHT | {"shape": (80, 61, 3)}, "rows, columns"),
    ("appendix_c.1", RIGHT | {"dtype": "float32"}, "float64"),
    ("appendix_c.1", RIGHT | {"dtype": np.dtype("uint8")}, "uint8"),
    ("appendix_c.1", RIGHT | {"value": (255, 20, 10)}, "wraps around"),
    ("appendix_c.1", RIGHT | {"value": (260, 20, 10)}, "does not fit"),
    ("appendix_c.1", RIGHT | {"value": (5, 20, 10)}, "modulo 256"),
    ("appendix_c.1", (80, 60, 3), "dict"),
    ("appendix_c.2", lambda bgr: shrink(bgr, missing=False), "missing file"),
    ("appendix_c.2", lambda bgr: bgr[::2], "TypeError"),
    ("appendix_c.2", lambda bgr: shrink(bgr, turn=False), "red and blue"),
    ("appendix_c.2", lambda bgr: shrink(bgr, size=False), "swapped"),
    ("appendix_c.2", lambda bgr: shrink(bgr, keep=True), "old size"),
    ("appendix_c.2", lambda bgr: shrink(bgr, method=Image.Resampling.LANCZOS), "BILINEAR"),
    ("appendix_c.2", lambda bgr: shrink(bgr) / 255, "uint8"),
    ("appendix_c.3", MEASURED | {"largest": "brick"}, "the largest is gravel"),
    ("appendix_c.3", MEASURED | {"brick": 7.37 / 255, "largest": "gravel"}, "Multiply by 255"),
    ("appendix_c.3", MEASURED | {"brick": 7.37**2, "largest": "gravel"}, "Take its root"),
    ("appendix_c.3", MEASURED | {"brick": 30.0, "largest": "brick"}, "is not what factor 4"),
    ("appendix_c.3", MEASURED | {"dog": 3.0, "largest": "gravel"}, "no photograph"),
    ("appendix_c.3", {"brick": 7.37, "largest": "brick"}, "four or more"),
]
