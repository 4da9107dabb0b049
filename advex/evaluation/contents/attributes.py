"""Objects: their attributes, or what pickle would keep of them."""

from __future__ import annotations

import copyreg
from collections.abc import Iterable, Iterator
from typing import Any

from advex.evaluation.contents.found import Parts
from advex.evaluation.contents.origin import called, home


def attributes(found: Parts, thing: Any, path: str) -> bool:
    """Put down the attributes of an object; whether it has any place for them."""
    slots = [
        f"_{base.__name__.lstrip('_')}{name}"
        if name.startswith("__") and not name.endswith("__")
        else name  # as Python does
        for base in type(thing).__mro__
        for name in _listed(base.__dict__.get("__slots__", ()))
    ]
    names = sorted({*getattr(thing, "__dict__", {}), *slots} - {"__dict__", "__weakref__"})
    for name in names:
        try:
            value = object.__getattribute__(thing, name)
        except AttributeError:
            continue
        found.walk(value, f"{path}.{name}")
    return bool(names) or hasattr(thing, "__dict__")


def beyond(found: Parts, thing: Any, path: str) -> None:
    """What the user's own kind of number, text or tuple has besides its value: methods,
    attributes.
    """
    if home(type(thing)) == "own":
        found.walk(type(thing), f"{path}.class")
        attributes(found, thing, path)


def reduced(found: Parts, thing: Any, path: str) -> None:
    """An object of C: what pickle would keep of it."""
    try:
        special = copyreg.dispatch_table.get(type(thing))
        kept = special(thing) if special is not None else thing.__reduce_ex__(4)
    except Exception:  # a lock, a socket, a generator: it belongs to the process
        found.put(path, b"a", called(type(thing)))
        return
    found.put(path, b"reduced")
    if isinstance(kept, tuple):
        for number, value in enumerate(kept):
            found.walk(list(value) if isinstance(value, Iterator) else value, f"{path}.{number}")


def _listed(slots: Any) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots
