"""What was compiled for a model, until the model changes."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeAlias

import keras

MAX_FUNCTIONS = 64  # per model and preprocessing; the oldest goes
MAX_PREPROCESSINGS = 8  # per model
NEVER_EVICTED = ("forward", "canary")  # the look at the head, and the oldest trace of the model

Kept: TypeAlias = dict[Hashable, Any]

_COMPILED: weakref.WeakKeyDictionary[keras.Model, Kept] = weakref.WeakKeyDictionary()


def kept(model: keras.Model, preprocess: Any) -> Kept:
    """What was compiled for this very model and preprocessing; all of it goes when layers or plain
    attributes change.
    """
    groups = _COMPILED.setdefault(model, {})
    mark = _mark(model)
    if groups.get("mark") != mark:
        groups.clear()
        groups["mark"] = mark
    name = ("preprocess", _identity(preprocess))
    own: Kept = groups.pop(name, {})
    groups[name] = own  # the one used last is the last to go
    for oldest in [name for name in groups if name != "mark"][:-MAX_PREPROCESSINGS]:
        del groups[oldest]
    return own


def compiled(
    kept: Callable[[], Kept], key: Hashable, make: Callable[[], Callable[..., Any]]
) -> Callable[..., Any]:
    """``make()``, or what is kept under the key."""
    try:
        hash(key)
    except TypeError:
        return make()
    known = kept()
    if key in known:
        found: Callable[..., Any] = known[key]
        return found
    made = make()
    known = kept()  # the mark may have changed: the first call builds a model
    known[key] = made
    passing = [name for name in known if not (isinstance(name, tuple) and name[0] in NEVER_EVICTED)]
    for oldest in passing[:-MAX_FUNCTIONS]:
        del known[oldest]
    return made


def _identity(thing: Any) -> Hashable:
    """What stands for ``thing`` in a key: itself, or its address (what is compiled with it keeps it
    alive).
    """
    try:
        hash(thing)
    except TypeError:
        return id(thing)
    return thing


def _mark(model: keras.Model) -> Hashable:
    """What a trace of the model has made constant: its layers, and their attributes that are plain
    values or functions.
    """

    def plain(layer: keras.layers.Layer) -> Iterator[tuple[str, Hashable]]:
        for name, value in vars(layer).items():
            if isinstance(value, types.FunctionType):
                yield name, id(value)  # its closure may hold the model
            elif (
                name[0] != "_"
                and name != "built"
                and isinstance(value, bool | int | float | str | None)
            ):
                yield name, value

    return tuple((id(layer), *plain(layer)) for layer in model._flatten_layers())
