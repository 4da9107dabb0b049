"""What kind of thing it is, and what of it counts: the top of the walk."""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from advex.evaluation.contents.arrays import array, tensor
from advex.evaluation.contents.attributes import attributes, beyond, reduced
from advex.evaluation.contents.containers import within
from advex.evaluation.contents.found import Parts
from advex.evaluation.contents.functions import function, klass
from advex.evaluation.contents.layers import layers, simple
from advex.evaluation.contents.origin import called, home, is_own
from advex.evaluation.contents.origin import origin as origin_of
from advex.model.protocol import Model

DEEPEST, MOST = 40, 50_000  # how far, and how much, is looked at; beyond only the types count

ROUTINES = (
    *(
        types.BuiltinFunctionType,
        types.WrapperDescriptorType,
        types.MethodWrapperType,
        types.MethodDescriptorType,
    ),
    *(types.ClassMethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType),
)
"""Functions and descriptors of C. Not ``inspect.isroutine``, to which ``tf.function`` and
``jax.jit`` are routines, too.
"""

# attributes of functions whose derivative somebody gave, ``jax.custom_vjp``
DERIVED = (
    "fwd",
    "bwd",
    "jvp",
)

VALUE_MODULES = {
    *(
        "argparse",
        "array",
        "collections",
        "configparser",
        "datetime",
        "decimal",
        "fractions",
        "functools",
        "itertools",
    ),
    *("operator", "pathlib", "random", "re", "statistics", "string", "types", "uuid"),
}
"""Modules of the standard library whose objects are values; others (locks, files, loggers) belong
to a process.
"""


def describe(found: Parts, thing: Any, path: str) -> None:
    """Put down what ``thing`` is."""
    if _plain(found, thing, path):
        return
    # equal ones may or may not be one object: not by where they were met
    if isinstance(thing, tuple | frozenset):
        within(found, thing, path)
        beyond(found, thing, path)
        return
    if id(thing) in found.met:
        found.put(path, b"as", found.met[id(thing)][0].encode())
        return
    found.met[id(thing)] = path, thing
    if found.depth > DEEPEST or len(found.met) > MOST:
        found.put(path, b"a", called(type(thing)))
        return
    found.depth += 1
    try:
        _compound(found, thing, path)
    finally:
        found.depth -= 1


def _plain(found: Parts, thing: Any, path: str) -> bool:
    """Put down a value without parts; whether it was one."""
    if isinstance(thing, enum.Enum):
        found.put(path, b"enum", called(type(thing)), str(thing.name).encode())
        found.walk(thing.value, f"{path}.value")
        if home(type(thing)) == "own":  # the methods of its members
            found.walk(type(thing), f"{path}.class")
    elif isinstance(thing, np.generic):
        array(found, np.asarray(thing), path)
    elif thing is None or isinstance(
        thing, bool | int | float | complex | str | bytes | bytearray | types.EllipsisType
    ):
        value = (
            thing.hex()
            if isinstance(thing, float)
            else bytes(thing)
            if isinstance(thing, bytearray)
            else thing
        )
        found.put(path, type(thing).__name__.encode(), repr(value).encode(errors="surrogatepass"))
        beyond(found, thing, path)
    elif isinstance(thing, types.ModuleType) and (
        thing.__name__ == "__main__" or not is_own(thing.__name__)
    ):
        found.put(path, b"module", thing.__name__.encode())
    elif isinstance(thing, range | slice):
        found.put(path, repr(thing).encode())
    else:
        return False
    return True


def _compound(found: Parts, thing: Any, path: str) -> None:
    if isinstance(thing, np.ndarray):
        array(found, thing, path)
        if type(thing) not in (np.ndarray, np.memmap):  # such as a masked one
            found.put(path, called(type(thing)))
            attributes(found, thing, path)
    elif isinstance(thing, memoryview):
        array(found, np.asarray(thing), path)
    elif isinstance(
        thing, types.ModuleType
    ):  # the user's own, handed on as a whole: a file of settings
        found.put(path, b"module", thing.__name__.encode())
        for name, value in sorted(vars(thing).items()):
            if not (name.startswith("__") or isinstance(value, types.ModuleType)):
                found.walk(value, f"{path}.{name}")
    elif isinstance(thing, type):
        klass(found, thing, path)
    elif isinstance(thing, types.FunctionType):
        function(found, thing, path)
    elif isinstance(thing, types.MethodType):
        found.walk(thing.__func__, path)
        found.walk(thing.__self__, f"{path}.self")
    elif isinstance(thing, functools.partial):
        found.put(path, b"partial")
        for name in ("func", "args", "keywords"):
            found.walk(getattr(thing, name), f"{path}.{name}")
        attributes(found, thing, path)
    elif isinstance(thing, staticmethod | classmethod):
        found.put(path, type(thing).__name__.encode())
        found.walk(thing.__func__, f"{path}.function")
    elif isinstance(thing, property | functools.cached_property):
        found.put(path, type(thing).__name__.encode())
        for name in ("fget", "fset", "func"):
            found.walk(getattr(thing, name, None), f"{path}.{name}")
    elif isinstance(thing, keras.layers.Layer):
        layers(found, thing, path, weights=True)
    elif isinstance(thing, Model):
        found.put(path, called(type(thing)))
        for name in ("model", "predict", "preprocess", "box", "names"):
            found.walk(getattr(thing, name, None), f"{path}.{name}")
        if thing.perturb:
            found.walk(thing.perturb, f"{path}.perturb")
        for name, domain in getattr(thing, "boxes", {"": thing.domain}).items():
            if name or not domain.plain or domain.fixed is not None:
                found.walk(domain, f"{path}.domain[{name!r}]")
    elif isinstance(thing, keras.KerasTensor):
        found.put(path, b"symbol", repr((thing.shape, thing.dtype)).encode())
    elif isinstance(thing, keras.Variable) or keras.ops.is_tensor(thing):
        tensor(
            found,
            getattr(thing, "value", thing) if isinstance(thing, keras.Variable) else thing,
            path,
        )
    elif isinstance(thing, Mapping | list | set | deque):
        within(found, thing, path)
        if home(type(thing)) in ("own", "installed"):
            attributes(found, thing, path)
        elif isinstance(thing, defaultdict | deque):
            found.walk(getattr(thing, "default_factory", None), f"{path}.default_factory")
            found.walk(getattr(thing, "maxlen", None), f"{path}.maxlen")
    elif isinstance(thing, ROUTINES):
        found.put(path, b"routine", called(thing))
        found.walk(getattr(thing, "__self__", None), f"{path}.self")
    else:
        _object(found, thing, path)


def _object(found: Parts, thing: Any, path: str) -> None:
    kind = type(thing)
    root = kind.__module__.partition(".")[0]
    inner = getattr(thing, "python_function", None) or getattr(thing, "__wrapped__", None)
    # compiled or cached functions
    if inner is not None and callable(thing) and home(kind) != "own":
        found.put(path, called(kind))
        found.walk(inner, f"{path}.function")
        for name in DERIVED:
            found.walk(
                vars(thing).get(name) if hasattr(thing, "__dict__") else None, f"{path}.{name}"
            )
    elif root == "keras" and hasattr(thing, "get_config") and origin_of(kind.__module__) == "house":
        found.put(path, called(kind))
        for name, value in [*sorted(thing.get_config().items()), *sorted(vars(thing).items())]:
            if name not in ("name", "_auto_config") and simple(value):
                found.walk(value, f"{path}.{name}")
    elif hasattr(kind, "__array__"):
        tensor(found, thing, path)
    elif home(kind) == "standard" and not dataclasses.is_dataclass(thing):
        found.put(path, called(kind))
        if root in VALUE_MODULES:
            reduced(found, thing, path)
    else:
        found.walk(kind, f"{path}.class")
        if not attributes(found, thing, path):
            reduced(found, thing, path)
