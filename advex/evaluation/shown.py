"""Which of the examples that an attack has looked at are kept to be shown."""

from __future__ import annotations

import numpy as np

from advex._arrays import Array
from advex.evaluation.details import right
from advex.evaluation.pieces import Verdicts
from advex.evaluation.schema import PICTURES


def ranks(found: Verdicts) -> Array:
    """By what examples are put in order, (rows,): how far each was moved; of maps the share of the
    pixels that is right.
    """
    if found.maps is None or found.details is None:
        return found.distance
    return np.asarray([right(detail) for detail in found.details], "float64")


def ends(found: Verdicts) -> tuple[Array, Array]:
    """The places of those that are kept from each end."""
    key = ranks(found)
    some = np.arange(len(key)) if found.maps is not None else _broken(found)
    first = some[np.argsort(key[some], kind="stable")[:PICTURES]]
    last = some[np.argsort(-key[some], kind="stable")[:PICTURES]]
    return first, last


def _broken(found: Verdicts) -> Array:
    return np.flatnonzero(found.status == "broken")
