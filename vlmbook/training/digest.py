"""What a run is made of, its data and its loss, as hashes: a checkpoint is not continued with others.

Nothing is read from a Dataset by its index: that would draw random numbers, and take an epoch.
"""

import functools
import hashlib
import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import CodeType

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from vlmbook.validation import describe, require_callable, require_type

PLAIN = (bool, int, float, complex, str, bytes, type(None))


def digest_data(data: tuple[torch.Tensor, ...] | Dataset) -> str:
    """tuple of tensors or Dataset -> str of 16 hexadecimal digits: a hash of what it holds.

    Of tensors every value counts. Of a Dataset count its type, its length, and what its public attributes
    hold in tensors, arrays, lists, tuples, functions and further Datasets; of files their names and sizes.
    Numbers and dicts do not count: counters and caches change while a Dataset is read. Raises TypeError for
    anything else.
    """
    if not (isinstance(data, (tuple, list)) or hasattr(type(data), "__getitem__")):
        raise TypeError(f"data wants a tuple of tensors or a Dataset, got {describe(data)}")
    digest = hashlib.sha256()
    if isinstance(data, (tuple, list, torch.Tensor)):
        _add_value(digest, data, [])
    else:
        _add_dataset(digest, data, [data])
    return digest.hexdigest()[:16]


def digest_loss(loss_fn: Callable, model: nn.Module) -> str:
    """function, Module -> str of 16 hexadecimal digits: a hash of what the loss computes.

    Of a function count its code, its defaults and what it has caught in its closure: numbers, strings,
    tensors, functions, and modules with their weights, but for the model that is trained. Global names that
    the function looks up do not count. Raises TypeError for what is no function or no Module.
    """
    require_callable(loss_fn, "loss_fn")
    require_type(model, "model", nn.Module, "a torch.nn.Module")
    digest = hashlib.sha256()
    _add_function(digest, loss_fn, [model])
    return digest.hexdigest()[:16]


def hash_layers(model: nn.Module) -> str:
    """Module -> str: a hash of what it prints as, which tells apart layers without weights, ReLU and GELU.

    Raises TypeError for what is no Module.
    """
    require_type(model, "model", nn.Module, "a torch.nn.Module")
    printed = re.sub(r"0x[0-9a-f]+", "", repr(model))  # addresses in memory
    return hashlib.sha256(printed.encode()).hexdigest()


def _add_value(digest, value, seen):
    """Anything -> None: it enters the digest; what is no data enters by its type."""
    digest.update(f"|{type(value).__qualname__}|".encode())
    if isinstance(value, torch.Tensor):
        _add_tensor(digest, value)
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(b"" if value.dtype.hasobject else np.ascontiguousarray(value).tobytes())
    elif isinstance(value, (str, Path)):
        digest.update(_describe_file(value).encode(errors="surrogatepass"))
    elif isinstance(value, PLAIN):
        digest.update(repr(value).encode())
    elif any(value is each for each in seen):
        return
    elif isinstance(value, (list, tuple)):
        digest.update(str(len(value)).encode())
        for each in value:
            _add_value(digest, each, [*seen, value])
    elif isinstance(value, Dataset):
        _add_dataset(digest, value, [*seen, value])
    elif isinstance(value, (nn.Module, functools.partial)) or inspect.isroutine(value):
        _add_function(digest, value, seen)


def _add_dataset(digest, dataset, seen):
    digest.update(f"|{type(dataset).__qualname__}|".encode())
    digest.update(str(len(dataset) if hasattr(type(dataset), "__len__") else None).encode())
    for name, value in sorted(getattr(dataset, "__dict__", {}).items()):
        if not name.startswith("_") and not isinstance(value, (dict, set, *PLAIN)):
            digest.update(name.encode())
            _add_value(digest, value, seen)


def _add_tensor(digest, tensor):
    digest.update(f"{tensor.dtype}{tuple(tensor.shape)}{tensor.layout}".encode())
    if tensor.layout == torch.strided and not tensor.is_meta:
        whole = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(memoryview(whole.numpy()))


def _describe_file(value):
    """A path of a file -> its name, its folder's and its size, so that a set may be moved; other text as it
    is.
    """
    if os.path.isfile(value):
        path = Path(value)
        return f"{path.parent.name}/{path.name} {path.stat().st_size}"
    return str(value)


def _add_function(digest, function, seen):
    """A function, method, partial, Module or other callable object -> None: what it computes enters the
    digest.
    """
    if any(function is each for each in seen):
        return
    seen = [*seen, function]
    if isinstance(function, functools.partial):
        _add_function(digest, function.func, seen)
        _add_caught(digest, [*function.args, *sorted(function.keywords.items())], seen)
    elif isinstance(function, nn.Module):
        _add_module(digest, function, seen)
    elif inspect.ismethod(function):
        _add_function(digest, function.__func__, seen)
        _add_caught(digest, [function.__self__], seen)
    elif inspect.isfunction(function):
        _add_code(digest, function.__code__)
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        defaults = [*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())]
        _add_caught(digest, cells + defaults, seen)
    else:
        kind = type(function) if not inspect.isroutine(function) else function
        digest.update(f"|{kind.__qualname__}|".encode())
        call = inspect.getattr_static(type(function), "__call__", None)
        if inspect.isfunction(call):
            _add_function(digest, call, seen)


def _add_module(digest, module, seen):
    """The model that is trained changes, and so do modules that share its parameters: they enter by type."""
    model = seen[0]
    trained = {id(parameter) for parameter in model.parameters()} if isinstance(model, nn.Module) else set()
    digest.update(f"|{type(module).__qualname__}|".encode())
    _add_function(digest, type(module).forward, seen)
    if not any(id(parameter) in trained for parameter in module.parameters()):
        digest.update(hash_layers(module).encode())
        for name, tensor in module.state_dict().items():
            digest.update(name.encode())
            if isinstance(tensor, torch.Tensor):
                _add_tensor(digest, tensor)


def _add_caught(digest, values, seen):
    """What a function holds: lists, dicts and objects may change with each call, so they enter by type."""
    for value in values:
        kept = isinstance(value, (*PLAIN, tuple, torch.Tensor, np.ndarray, nn.Module, functools.partial))
        if kept or inspect.isroutine(value):
            _add_value(digest, value, seen)
        else:
            digest.update(f"|{type(value).__qualname__}|".encode())


def _add_code(digest, code):
    digest.update(code.co_code)
    digest.update(repr((code.co_names, code.co_freevars)).encode())
    for value in code.co_consts:
        if isinstance(value, CodeType):
            _add_code(digest, value)
        elif isinstance(value, frozenset):  # its order differs from process to process
            digest.update(repr(sorted(map(repr, value))).encode())
        else:
            digest.update(repr(value).encode())


def _is_filled(cell):
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
