"""What a thing is, whatever it is called: its parts and a hash of each, the same in every
process.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any

import keras

from advex.evaluation.contents.code import hashed
from advex.evaluation.contents.found import Parts
from advex.evaluation.contents.kinds import describe
from advex.evaluation.contents.layers import layers, weights_hash
from advex.evaluation.contents.origin import is_own

__all__ = ["changed", "combined", "is_own", "model_parts", "parts", "weights_hash"]


def parts(things: Mapping[str, Any]) -> dict[str, str]:
    """The parts of ``things``, each under a path such as ``loss.scale``, with a hash of what it is.

    A function is its code, its defaults, what its closure holds and the globals that it names; a
    class its methods and those of its bases, an object its class and its attributes; arrays are
    what they hold. Names, comments, line numbers and addresses do not count. What belongs to the
    standard library, Keras, its frameworks or advex is its name: their versions stand for it.
    """
    found = Parts(describe)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the attributes that are looked at
        for name, thing in things.items():
            found.walk(thing, name)
    return {path: made.hex() for path, made in found.parts.items()}


def combined(known: Mapping[str, str], without: Collection[str] = ()) -> str:
    """One hash of parts, but for those at the paths of ``without`` and below; empty where there is
    nothing.
    """
    kept = sorted(f"{path}={made}" for path, made in known.items() if not _below(path, without))
    return hashed(*(entry.encode() for entry in kept)).hex() if kept else ""


def changed(
    before: Mapping[str, str], now: Mapping[str, str], without: Collection[str] = ()
) -> list[str]:
    """The paths at which two sets of parts differ, but for those at the paths of ``without`` and
    below.
    """
    differ = (path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
    return sorted(path for path in differ if not _below(path, without))


def _below(path: str, others: Collection[str]) -> bool:
    return any(
        path == other or (other and path.startswith(other) and path[len(other)] in ".[(:")
        for other in others
    )


def model_parts(model: keras.Model) -> dict[str, str]:
    """What a model computes, but for its weights: layers, their settings, wiring, the code of those
    that are the user's.
    """
    found = Parts(describe)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layers(found, model, "model", weights=False)
    return {path: made.hex() for path, made in found.parts.items()}
