"""Arguments of public functions are checked before they are used: one line an argument, one sentence for the
reader.

Every sentence reads *name wants …, got …*. The wrong kind of object is a TypeError, a wrong value a
ValueError. A number may be Python's, NumPy's or a tensor of one element; it comes back as Python's own.
"""

import math
import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import fx

KINDS = {
    "floating": (torch.float16, torch.bfloat16, torch.float32, torch.float64),
    "whole": (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    "discrete": (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    "int64": (torch.int64,),
    "bool": (torch.bool,),
}
LARGEST = 2**31 - 1  # whole number where the caller names no other; PyTorch's sizes end at 2**63 - 1


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
    ignore: float | None = None,
    device: torch.device | None = None,
    **sizes: int,
) -> torch.Tensor:
    """Any -> the tensor itself, which has these axes, this kind and, where bounds are given, values within
    them.

    `axes` names them in order, "B C H W"; a number stands for that size, "N 4"; a leading "…" for any further
    axes. `sizes` gives the size of a named axis, C=3. Every axis has at least one element but those named in
    `empty`, "B". `kind` is "floating", "whole", "discrete", "int64", "bool", or "any". `ignore` is a value
    that the bounds do not hold for, `device` where the tensor has to be. Values are looked at only where
    there are values: not on the meta device, nor while torch.compile, torch.export or torch.fx trace. Raises
    TypeError or ValueError.
    """
    if isinstance(x, fx.Proxy):
        return x
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name} wants a torch.Tensor {_shape(axes, sizes)}, got {describe(x)}")
    if x.layout != torch.strided or x.is_nested:
        raise TypeError(f"{name} wants a dense torch.Tensor {_shape(axes, sizes)}, got {describe(x)}")
    if kind != "any" and x.dtype not in KINDS[kind]:
        raise TypeError(f"{name} wants {_dtype(kind)}, got {x.dtype}")
    _require_shape(x, name, axes, empty, sizes)
    if device is not None and x.device != device:
        raise ValueError(f"{name} wants to be on {device}, got {x.device}")
    _require_values(x if ignore is None else x[x != ignore], name, least, most, finite)
    return x


def require_whole(value: Any, name: str, *, least: int = 1, most: int | None = None) -> int:
    """Any -> int from `least` to `most`, by default LARGEST. Raises TypeError for what is no whole number,
    ValueError for one outside.
    """
    wanted = f"a whole number {_range(least, most)}"
    if _is_bool(value):
        raise TypeError(f"{name} wants {wanted}, got {describe(value)}")
    try:
        number = operator.index(value)
    except Exception:  # whatever a foreign object's __index__ does
        raise TypeError(f"{name} wants {wanted}, got {describe(value)}") from None
    if number < least or (most is not None and number > most):
        raise ValueError(f"{name} wants {wanted}, got {describe(number)}")
    if most is None and number > LARGEST:
        raise ValueError(f"{name} wants a whole number of at most {LARGEST}, got {describe(number)}")
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
    if isinstance(x, fx.Proxy):
        return x
    if x.device == other.device and (x.dtype == other.dtype or _autocasts(x, other)):
        return x
    raise TypeError(
        f"{name} wants the kind of {owner}, {other.dtype} on {other.device}, got {x.dtype} on {x.device}"
    )


# --- built on them ------------------------------------------------------------------------------------------


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
    """Any -> the choice that it equals, which has its type too. Raises ValueError, which names the
    choices.
    """
    choices = tuple(choices)
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return value
    raise ValueError(f"{name} wants {' or '.join(map(repr, choices))}, got {describe(value)}")


def require_type(value: Any, name: str, kind: type | tuple[type, ...], wanted: str) -> Any:
    """Any -> itself, an instance of `kind`; `wanted` names it in words, "a UNet". Raises TypeError."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} wants {wanted}, got {describe(value)}")
    return value


def require_callable(value: Any, name: str, wanted: str = "a function") -> Any:
    """Any -> itself, which can be called. Raises TypeError."""
    if not callable(value):
        raise TypeError(f"{name} wants {wanted}, got {describe(value)}")
    return value


def describe(value: Any) -> str:
    """Any -> str: the value or its type, for the end of a sentence; short, and safe whatever the object's own
    repr does.
    """
    if isinstance(value, torch.Tensor):
        return _describe_tensor(value)
    if _is_plain(value):
        return _shorten(value)
    if type(value) in (tuple, list) and len(value) <= 8 and all(_is_plain(each) for each in value):
        return _shorten(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, (np.ndarray, np.generic)):
        return f"a NumPy {type(value).__name__} of shape {value.shape}"
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
    if least is None and most is None and not finite:
        return
    if x.is_complex():
        raise TypeError(f"{name} wants real numbers, got {x.dtype}")
    if x.numel() == 0 or x.is_meta or torch.compiler.is_compiling():
        return
    low, high = x.detach().aminmax()
    if finite and not (torch.isfinite(low) and torch.isfinite(high)):
        raise ValueError(f"{name} wants finite values, got NaN or infinity")
    if not ((least is None or low >= least) and (most is None or high <= most)):  # so that NaN is refused
        raise ValueError(
            f"{name} wants values{_bounds(None, least, most, None)}, got from {low.item():.4g} to "
            f"{high.item():.4g}"
        )


def _autocasts(x, other):
    """Will autocast bring both to one dtype?"""
    floating = x.is_floating_point() and other.is_floating_point()
    kind = x.device.type
    return floating and torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def _shape(axes, sizes):
    shown = [str(sizes.get(axis, axis)) for axis in axes.split()]
    return f"({', '.join(shown)}{',' if len(shown) == 1 else ''})"


def _dtype(kind):
    return {
        "floating": "a floating dtype",
        "whole": "a whole-number dtype",
        "discrete": "a whole-number or bool dtype",
        "int64": "torch.int64",
        "bool": "torch.bool",
    }[kind]


def _range(least, most):
    return f"of at least {least}" if most is None else f"from {least} to {most}"


def _bounds(above, least, most, below):
    """The bounds that are given, in words: " above 0 and of at most 1"."""
    words = {"above": above, "of at least": least, "of at most": most, "below": below}
    given = [f"{word} {bound:g}" for word, bound in words.items() if bound is not None]
    if least is not None and most is not None:
        given = [f"from {least:g} to {most:g}"]
    return f" {' and '.join(given)}" if given else ""


def _as_number(value):
    """-> float, None for what is no real number."""
    if _is_bool(value):
        return None
    if isinstance(value, torch.Tensor):
        real = value.numel() == 1 and not value.is_complex() and not value.is_meta
        return float(value.detach()) if real else None
    if isinstance(value, np.ndarray) and not (value.ndim == 0 and value.dtype.kind in "iuf"):
        return None
    if not isinstance(value, (Real, np.ndarray)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except Exception:  # whatever a foreign object's __float__ does
        return None


def _is_bool(value):
    """True and False are no numbers here, though Python counts them as 1 and 0."""
    if isinstance(value, torch.Tensor):
        return value.dtype == torch.bool
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype == np.bool_
    return isinstance(value, bool)


def _is_plain(value):
    return value is None or type(value) in (bool, int, float, complex, str, bytes)


def _shorten(value):
    """A plain value, or a tuple or list of them -> str of at most 60 characters."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}…"


def _describe_tensor(value):
    if value.is_nested:
        return "a nested tensor"
    layout = "" if value.layout == torch.strided else f"{str(value.layout).removeprefix('torch.')} "
    return f"a {layout}{value.dtype} tensor of shape {tuple(value.shape)}"
