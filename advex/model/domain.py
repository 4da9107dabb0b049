"""The box and the class names of a model, checked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from advex._settings import real_number, shown
from advex.domain import Domain
from advex.errors import InvalidInput, InvalidType


def checked_domain(box: Any) -> Domain:
    """A box or a domain as a domain.

    Raises:
        InvalidType: it is neither.
        InvalidInput: its ends are not finite and increasing.
    """
    return box if isinstance(box, Domain) else Domain(*checked_box(box))


def checked_box(box: Any) -> tuple[float, float]:
    """The ends of a box, ``(lowest, highest)``.

    Raises:
        InvalidType: it is no pair.
        InvalidInput: its ends are not finite and increasing.
    """
    if isinstance(box, str | bytes | dict | set):
        raise InvalidType(f"box must be a pair (lowest, highest); received {shown(box)}")
    try:
        low, high = box
    except (TypeError, ValueError):
        raise InvalidType(f"box must be a pair (lowest, highest); received {shown(box)}") from None
    low, high = (real_number("each end of box", end, lowest=-math.inf) for end in (low, high))
    if not low < high:
        raise InvalidInput(
            f"box must be (lowest, highest) with lowest < highest; received {shown(box)}"
        )
    if not np.float32(low) < np.float32(high):
        raise InvalidInput(
            f"box must have room between its ends in float32, which the model works in; received"
            f" {shown(box)}"
        )
    return low, high


def checked_names(classes: Any) -> list[str] | None:
    """The names of the classes, or None where none are given.

    Raises:
        InvalidType: it is no list of names.
    """
    if classes is None:
        return None
    if isinstance(classes, dict):
        raise InvalidType(
            "classes must be the list of the classes' names, in order; received a dict:"
            " [names[number] for number in sorted(names)] if its keys are the class numbers"
        )
    if isinstance(classes, str | bytes | set | frozenset) or not isinstance(classes, Iterable):
        raise InvalidType(
            f"classes must be the list of the classes' names, in order; received {shown(classes)}"
        )
    try:
        return list(map(str, classes))
    except TypeError:  # an array without axes
        raise InvalidType(
            f"classes must be the list of the classes' names, in order; received {shown(classes)}"
        ) from None
