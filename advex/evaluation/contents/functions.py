"""Functions and classes: code, defaults, closures, globals, methods."""

from __future__ import annotations

import sys
import types
from typing import Any

from advex.evaluation.contents.code import code_hash, named_globals
from advex.evaluation.contents.found import Parts
from advex.evaluation.contents.origin import called, home, is_own
from advex.evaluation.contents.origin import origin as origin_of

UNTOLD = {  # of a class: what follows from the rest, or says nothing about what it does
    *(
        "__dict__",
        "__weakref__",
        "__doc__",
        "__module__",
        "__qualname__",
        "__name__",
        "__annotations__",
        "__annotate__",
    ),
    *(
        "__annotate_func__",
        "__annotations_cache__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__match_args__",
    ),
    *(
        "__abstractmethods__",
        "_abc_impl",
        "__parameters__",
        "__orig_bases__",
        "__firstlineno__",
        "__static_attributes__",
    ),
}


def function(found: Parts, function: types.FunctionType, path: str) -> None:
    """Put down a function."""
    # where the code is; decorators give their functions others' names
    home = function.__globals__.get("__name__")
    origin = origin_of(home)
    # Not a lambda: one that Keras read from a file has the globals of Keras, but the user's
    # code.
    if origin in ("house", "standard") and "<lambda>" not in function.__code__.co_qualname:
        found.put(path, b"function", f"{home}.{function.__code__.co_qualname}".encode())
    else:
        found.put(path, b"function", code_hash(function.__code__))
    for name, value in zip(reversed(function.__code__.co_varnames[: function.__code__.co_argcount]),
                           reversed(function.__defaults__ or ()), strict=False):  # fmt: skip
        found.walk(value, f"{path}({name})")
    for name, value in sorted((function.__kwdefaults__ or {}).items()):
        found.walk(value, f"{path}({name})")
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found.walk(cell.cell_contents, f"{path}.{name}")
        except ValueError:
            found.put(f"{path}.{name}", b"not yet")
    if origin == "own":
        for name, value in sorted(vars(function).items()):
            found.walk(value, f"{path}.{name}")
        _globals(found, function, path)


def _globals(found: Parts, function: types.FunctionType, path: str) -> None:
    """Put down the globals that a function names, each at its own path."""
    for chain in sorted(set(named_globals(function.__code__))):
        if chain[0].startswith("."):
            value: Any = sys.modules.get(chain[0][1:])
            if not is_own(chain[0][1:]) or not hasattr(value, chain[1]):
                continue
        elif chain[0] not in function.__globals__:
            continue  # built in, or not there
        else:
            value = function.__globals__[chain[0]]
        taken = 1
        while isinstance(value, types.ModuleType) and is_own(value.__name__) and taken < len(chain):
            value, taken = getattr(value, chain[taken], None), taken + 1
        where = f"{path}:{'.'.join(chain[:taken])}"
        if where not in found.parts:
            found.walk(value, where)


def klass(found: Parts, kind: type, path: str) -> None:
    """Put down a class: its name, its bases, the methods that are not known by a version."""
    origins = [(base, home(base)) for base in kind.__mro__ if base is not object]
    found.put(path, b"class", called(kind))
    for base, origin in origins:
        if base is not kind:
            found.put(path, called(base))
        if origin not in ("own", "installed"):
            continue
        for name, value in sorted(vars(base).items()):
            if name in UNTOLD:
                continue
            if origin == "installed":
                code = getattr(getattr(value, "__func__", value), "__code__", None)
                found.put(
                    f"{path}.{name}",
                    code_hash(code)
                    if isinstance(code, types.CodeType)
                    else type(value).__name__.encode(),
                )
            else:
                found.walk(value, f"{path}.{name}")
