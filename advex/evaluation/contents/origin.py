"""Whose a thing is: known by its version, of the standard library, installed, or the user's own."""

from __future__ import annotations

import functools
import sys
import sysconfig
from pathlib import Path
from typing import Any

HOUSE = {"advex", "keras", "numpy", "tensorflow", "jax", "jaxlib", "torch", "builtins"}
"""Packages whose versions a run records, or whose functions are what their names say."""

HEAP_TYPE = 1 << 9  # the flag of types that a class statement has made, Py_TPFLAGS_HEAPTYPE


def is_own(module: str | None) -> bool:
    """Whether a module is the user's own: neither known by its version nor installed."""
    return origin(module) == "own"


@functools.cache
def origin(module: str | None) -> str:
    """Whose a module is: "house" (known by its version), "standard", "installed", or the user's
    "own".
    """
    root = (module or "").partition(".")[0]
    if root in HOUSE:
        return "house"
    if root == "__main__":
        return "own"
    if root in sys.stdlib_module_names:
        return "standard"
    file = getattr(sys.modules.get(module or "") or sys.modules.get(root), "__file__", None)
    folders = {sysconfig.get_paths()[name] for name in ("purelib", "platlib")}
    return (
        "installed"
        if file and any(Path(file).is_relative_to(folder) for folder in folders)
        else "own"
    )


def home(kind: type) -> str:
    """Whose a class is; one that was made by ``exec`` without a module says that it is built in."""
    made = kind.__module__ == "builtins" and kind.__flags__ & HEAP_TYPE
    return "own" if made else origin(kind.__module__)


def called(thing: Any) -> bytes:
    """The full name of a class or function, with the version of its package where that is an
    installed one.
    """
    module = (
        getattr(thing, "__module__", None) or getattr(thing, "__objclass__", type(None)).__module__
    )
    name = f"{module}.{getattr(thing, '__qualname__', getattr(thing, '__name__', type(thing).__qualname__))}"  # noqa: E501
    if origin(module) == "own":
        return name.rpartition(".")[
            2
        ].encode()  # a script may be run or imported, or be given another name
    if origin(module) == "installed":
        name += f" {getattr(sys.modules.get(module.partition('.')[0]), '__version__', '?')}"
    return name.encode()
