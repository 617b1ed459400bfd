"""What of the library is public: every function, class and method that a reader can call, found by
looking.
"""

import enum
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass

import vlmbook

OUTSIDE = ("vlmbook.chapters", "vlmbook.cli")  # chapters have tests of their own, the command line too


def modules() -> list[str]:
    """-> list of str: the library's modules, and those of vlmbook.notebook, by their dotted names."""
    found = (module.name for module in pkgutil.walk_packages(vlmbook.__path__, "vlmbook."))
    return sorted(
        name for name in found if not name.startswith(OUTSIDE) and not name.rpartition(".")[2].startswith("_")
    )


def public_callables(module_name: str) -> Iterator[tuple[str, Callable]]:
    """str -> pairs of name and callable that the module itself defines: "conv2d", "ResNet",
    "ResNet.forward".
    """
    module = importlib.import_module(module_name)
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module_name:
            continue
        if inspect.isclass(value):
            yield from _of_class(name, value)
        elif inspect.isroutine(value):
            yield name, value


def _of_class(name, value):
    """The constructor, and the methods that the class itself defines."""
    if not _is_plain_record(value):
        yield name, value
    if issubclass(value, (BaseException, enum.Enum)):
        return
    for method, function in vars(value).items():
        inner = getattr(function, "__func__", function)
        if not method.startswith("_") and inspect.isfunction(inner):
            yield f"{name}.{method}", inner


def _is_plain_record(value):
    """Exceptions, enumerations, NamedTuples, dataclasses: no author's code takes their arguments."""
    named_tuple = issubclass(value, tuple) and hasattr(value, "_fields")
    return named_tuple or is_dataclass(value) or issubclass(value, (BaseException, enum.Enum))
