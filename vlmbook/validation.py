"""What a public function is given, checked before it is used: one line an argument, one sentence for the
reader.

Every sentence reads *name wants …, got …*. The wrong kind of object is a TypeError, a wrong value a
ValueError. A number may be Python's, NumPy's or a tensor of one element; it comes back as Python's own.
"""

import math
import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any

import torch

KINDS = {
    "floating": (torch.float16, torch.bfloat16, torch.float32, torch.float64),
    "whole": (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    "int64": (torch.int64,),
    "bool": (torch.bool,),
}


# --- the four verbs -----------------------------------------------------------------------------------------


def require_tensor(
    x: Any,
    name: str,
    axes: str,
    *,
    kind: str = "floating",
    empty: str = "",
    least: float | None = None,
    most: float | None = None,
    finite: bool = False,
    **sizes: int,
) -> torch.Tensor:
    """Any -> the tensor itself, which has these axes, this kind and, where bounds are given, values within
    them.

    `axes` names them in order, "B C H W"; a number stands for that size, "N 4"; a leading "…" for any further
    axes. `sizes` gives the size of a named axis, C=3. Every axis has at least one element but those named in
    `empty`, "B". `kind` is "floating", "whole", "int64", "bool", or "any". Raises TypeError or ValueError.
    """
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name} wants a torch.Tensor {_shape(axes, sizes)}, got {describe(x)}")
    if kind != "any" and x.dtype not in KINDS[kind]:
        raise TypeError(f"{name} wants {_dtype(kind)}, got {x.dtype}")
    _require_shape(x, name, axes, empty, sizes)
    _require_values(x, name, least, most, finite)
    return x


def require_whole(value: Any, name: str, *, least: int = 1, most: int | None = None) -> int:
    """Any -> int from `least` to `most`. Raises TypeError for what is no whole number, ValueError for one
    outside.
    """
    wanted = f"a whole number {_range(least, most)}"
    if _is_bool(value):
        raise TypeError(f"{name} wants {wanted}, got {describe(value)}")
    try:
        number = operator.index(value)
    except Exception:  # whatever a foreign object's __index__ does
        raise TypeError(f"{name} wants {wanted}, got {describe(value)}") from None
    if number < least or (most is not None and number > most):
        raise ValueError(f"{name} wants {wanted}, got {number}")
    return number


def require_number(
    value: Any,
    name: str,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> float:
    """Any -> a finite float within the bounds: above < value < below, least <= value <= most.

    Raises TypeError for what is no real number, ValueError for one outside, NaN or infinite.
    """
    wanted = f"a finite number{_bounds(above, least, most, below)}"
    number = _as_number(value)
    if number is None:
        raise TypeError(f"{name} wants {wanted}, got {describe(value)}")
    inside = (
        (above is None or number > above)
        and (least is None or number >= least)
        and (most is None or number <= most)
        and (below is None or number < below)
    )
    if not (math.isfinite(number) and inside):
        raise ValueError(f"{name} wants {wanted}, got {number:g}")
    return number


def require_same_kind(
    x: torch.Tensor, name: str, other: torch.Tensor, owner: str = "the model"
) -> torch.Tensor:
    """Tensor -> itself, of the dtype and device of `other`, a tensor of `owner`; autocast makes the dtype
    fit.

    Raises TypeError.
    """
    casts = (
        x.device == other.device
        and x.is_floating_point()
        and other.is_floating_point()
        and torch.is_autocast_enabled(x.device.type)
    )
    if x.device != other.device or (x.dtype != other.dtype and not casts):
        raise TypeError(
            f"{name} wants the kind of {owner}, {other.dtype} on {other.device}, got {x.dtype} on {x.device}"
        )
    return x


# --- what is made of them -----------------------------------------------------------------------------------


def require_pair(value: Any, name: str, *, least: int = 1, most: int | None = None) -> tuple[int, int]:
    """An int, or two of them (height, width) -> (int, int). Raises TypeError or ValueError as
    `require_whole`.
    """
    if not isinstance(value, (tuple, list, torch.Size)):
        number = require_whole(value, name, least=least, most=most)
        return number, number
    if len(value) != 2:
        raise ValueError(f"{name} wants one whole number or two, height and width, got {describe(value)}")
    return (
        require_whole(value[0], name, least=least, most=most),
        require_whole(value[1], name, least=least, most=most),
    )


def require_choice(value: Any, name: str, choices: Iterable) -> Any:
    """Any -> itself, one of the choices. Raises ValueError, which names them."""
    choices = tuple(choices)
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise ValueError(f"{name} wants {' or '.join(map(repr, choices))}, got {describe(value)}")
    return value


def require_type(value: Any, name: str, kind: type | tuple[type, ...], wanted: str) -> Any:
    """Any -> itself, an instance of `kind`; `wanted` says what that is, "a UNet". Raises TypeError."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} wants {wanted}, got {describe(value)}")
    return value


def require_callable(value: Any, name: str, wanted: str = "a function") -> Any:
    """Any -> itself, which can be called. Raises TypeError."""
    if not callable(value):
        raise TypeError(f"{name} wants {wanted}, got {describe(value)}")
    return value


def describe(value: Any) -> str:
    """Any -> str: what came, for the end of a sentence; short, and safe whatever the object's own repr
    does.
    """
    if isinstance(value, torch.Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    if value is None or isinstance(value, (bool, int, float, str)):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}…"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    shape = getattr(value, "shape", None) if type(value).__module__ == "numpy" else None
    if shape is not None:
        return f"a NumPy {type(value).__name__} of shape {tuple(shape)}"
    if type(value) in (tuple, list) and len(value) <= 8 and all(_is_plain(each) for each in value):
        return repr(value)
    return f"an object of type {type(value).__name__}"


# --- shapes and words ---------------------------------------------------------------------------------------


def _require_shape(x, name, axes, empty, sizes):
    names = axes.split()
    leading = names[0] == "…"
    names = names[1:] if leading else names
    if x.ndim < len(names) or (x.ndim > len(names) and not leading):
        raise ValueError(f"{name} wants the shape {_shape(axes, sizes)}, got {tuple(x.shape)}")
    for axis, size in zip(names, x.shape[x.ndim - len(names) :], strict=True):
        wanted = int(axis) if axis.isdecimal() else sizes.get(axis)
        if wanted is not None and size != wanted:
            raise ValueError(f"{name} wants the shape {_shape(axes, sizes)}, got {tuple(x.shape)}")
        if wanted is None and size == 0 and axis not in empty.split():
            raise ValueError(
                f"{name} wants at least one element along {axis} of {_shape(axes, sizes)}, "
                f"got {tuple(x.shape)}"
            )


def _require_values(x, name, least, most, finite):
    if x.numel() == 0 or (least is None and most is None and not finite):
        return
    low, high = x.detach().aminmax()
    if finite and not (torch.isfinite(low) and torch.isfinite(high)):
        raise ValueError(f"{name} wants finite values, got NaN or infinity")
    if not ((least is None or low >= least) and (most is None or high <= most)):  # so that NaN is refused
        raise ValueError(
            f"{name} wants values{_bounds(None, least, most, None)}, got from {low.item():.4g} to "
            f"{high.item():.4g}"
        )


def _shape(axes, sizes):
    shown = [str(sizes.get(axis, axis)) for axis in axes.split()]
    return f"({', '.join(shown)}{',' if len(shown) == 1 else ''})"


def _dtype(kind):
    return {
        "floating": "a floating dtype",
        "whole": "a whole-number dtype",
        "int64": "torch.int64",
        "bool": "torch.bool",
    }[kind]


def _range(least, most):
    return f"of at least {least}" if most is None else f"from {least} to {most}"


def _bounds(above, least, most, below):
    """The bounds that are given, in words: " above 0 and at most 1"."""
    words = {"above": above, "of at least": least, "of at most": most, "below": below}
    said = [f"{word} {bound:g}" for word, bound in words.items() if bound is not None]
    if least is not None and most is not None:
        said = [f"from {least:g} to {most:g}"]
    return f" {' and '.join(said)}" if said else ""


def _as_number(value):
    """-> float, None for what is no real number."""
    if _is_bool(value):
        return None
    if isinstance(value, torch.Tensor):
        real = value.numel() == 1 and not value.is_complex()
        return float(value.detach()) if real else None
    if isinstance(value, Real):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0 and value.dtype.kind in "iuf":
        return float(value)
    return None


def _is_bool(value):
    """Is it True or False, Python's, NumPy's or a tensor's? Another object's attributes are not touched."""
    foreign = isinstance(value, torch.Tensor) or type(value).__module__ == "numpy"
    return isinstance(value, bool) or (foreign and getattr(value, "dtype", None) in (torch.bool, bool))


def _is_plain(value):
    return value is None or isinstance(value, (bool, int, float))
