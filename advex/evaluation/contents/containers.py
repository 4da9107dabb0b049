"""Containers: values as one part, other things one by one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from advex.evaluation.contents.code import hashed
from advex.evaluation.contents.found import Parts
from advex.evaluation.contents.origin import called

PLAIN = (type(None), bool, int, float, complex, str, bytes, np.generic)


def within(found: Parts, things: Any, path: str) -> None:
    """Put down a container: values as one part, other things one by one."""
    kind = called(type(things))
    entries: list[Any] = list(things.values()) if isinstance(things, Mapping) else list(things)
    named = not isinstance(things, Mapping) or all(isinstance(key, str) for key in things)
    named = named and not isinstance(things, set | frozenset | OrderedDict)
    if named and not all(isinstance(entry, PLAIN) for entry in entries):
        found.put(path, kind, repr(len(entries)).encode())
        for name, entry in (
            list(things.items()) if isinstance(things, Mapping) else enumerate(entries)
        ):
            found.walk(entry, f"{path}[{name!r:.80}]")
        return
    if isinstance(things, Mapping):
        pairs = [
            (_one(found, key, path), _one(found, value, f"{path}[{key!r:.40}]"))
            for key, value in list(things.items())
        ]
        entries = [
            hashed(*pair) for pair in (pairs if isinstance(things, OrderedDict) else sorted(pairs))
        ]
    else:
        entries = [
            _one(found, entry, f"{path}[{number}]") for number, entry in enumerate(list(things))
        ]
        entries = sorted(entries) if isinstance(things, set | frozenset) else entries
    found.put(path, kind, *entries)


def _one(found: Parts, thing: Any, path: str) -> bytes:
    """All parts of a thing in one hash."""
    inner = found.inner()
    inner.walk(thing, path)
    return hashed(
        *(
            token
            for name in sorted(inner.parts)
            for token in (name[len(path) :].encode(), inner.parts[name])
        )
    )
