"""The smallest change that is known of each example, whoever found it: an attack of the run, or the
doctor's search without a limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from advex._arrays import Array
from advex.evaluation.curves import Curve, SampleCurve
from advex.evaluation.schema import HELD, PICTURES, SAMPLE, seal
from advex.evaluation.store import Store
from advex.evaluation.summaries import Pair, caption
from advex.evaluation.table import Table
from advex.evaluation.values import unpacked

NEAR = 1e-9  # relative: distances that are the same
DOCTOR = "the doctor's FMN"  # who found what no attack of the run has found


class Pooled(NamedTuple):
    """One entry for each example of a run.

    Attributes:
        distance: the smallest change found, (n,) float64: 0 where it was wrong, inf where none is
            known.
        searched: whether the doctor has searched for its smallest change, (n,) bool.
        sample: what was written down of the search, by the number of the example: distance (None
            for none), prediction, confidence.
    """

    distance: Array
    searched: Array
    sample: dict[int, tuple[float | None, int | None, float | None]]


def pooled(table: Table, fact: dict[str, Any] | None) -> Pooled:
    """What the attacks and the doctor's search have found, together.

    Args:
        table: of all examples.
        fact: what was written down of the doctor's search.
    """
    distance, searched = table.distance.copy(), np.zeros(len(table.example), bool)
    if fact is None:
        return Pooled(distance, searched, {})
    count = len(fact["distances"])
    examples = fact.get("examples")
    if examples is None:  # an older run file: the first that were classified correctly
        right = table.are("held", "broken", "undecided", "unfinished")
        examples = table.example[right][:count].tolist()
    blank = [None] * count
    told = zip(
        fact["distances"],
        fact.get("predictions", blank),
        fact.get("confidences", blank),
        strict=True,
    )
    sample = dict(zip(examples, told, strict=False))
    for example, (found, *_) in sample.items():
        place = int(np.searchsorted(table.example, example))
        if place < len(searched) and table.counted[place]:
            searched[place] = True
            distance[place] = min(distance[place], math.inf if found is None else found)
    return Pooled(distance, searched, sample)


def whole_curve(table: Table, known: Pooled, norm: str, epsilon: float | None) -> Curve:
    """Accuracy over radii of all examples that the figures are of.

    Where the doctor has searched for the smallest change of every example that was classified
    correctly it has no limit; else nothing is known between 0 and the limit of the run.
    """
    counted, undecided = table.counted, table.are("undecided")
    if epsilon is None:
        return Curve(known.distance[counted], norm)
    right = table.are("held", "broken", "undecided")
    doubtful = np.where(undecided & (known.distance > epsilon), epsilon, known.distance)[counted]
    if right.any() and known.searched[right].all():
        return Curve(doubtful, norm)
    return Curve(doubtful, norm, epsilon, exact=False)


def some_curve(table: Table, known: Pooled, norm: str) -> Curve | None:
    """Accuracy over radii of the few examples whose smallest change the doctor has searched for;
    None without any.
    """
    some = known.searched & table.counted
    return SampleCurve(known.distance[some], norm) if some.any() else None


# Pictures.


class About(NamedTuple):
    """What is said of the examples of a run's pictures."""

    attacks: list[str]
    classes: list[str] | None
    shape: list[int]
    beside: Array
    """Which examples the doctor's search alone has broken, (n,) bool."""
    label: Callable[[int], str]
    """The true class of an example, by its number; in a run towards classes that said before."""


def read_ends(store: Store, place: str, table: Table, known: Pooled, about: About) -> list[Pair]:
    """The examples that were broken by the smallest changes of all, or by the largest, or (place
    "doctor") those that the doctor's search alone has broken: at most four, no example twice, each
    with the smallest change that is known of it.

    A picture is kept of a few examples of each attack: where it is not of the smallest change that
    is known, it is not shown, if there are others.
    """
    rows = store.rows(
        "SELECT p.place, p.example, p.attack, p.distance, p.before, p.after, v.prediction,"
        " v.confidence FROM pictures p LEFT JOIN verdicts v ON v.attack = p.attack AND v.example ="
        " p.example WHERE p.attack != ? ORDER BY p.distance, p.example, p.attack < 0,"
        " p.attack",
        (HELD,),
    )
    some = about.beside if place == "doctor" else table.are("broken")
    every: dict[int, tuple[Any, ...]] = {}
    exact: dict[int, tuple[Any, ...]] = {}
    for row in rows:  # all: a wrong distance would let others be chosen
        where, example, attack, distance, before, after, *_ = row
        store.sealed(where, attack, example, seal(distance, before, after))
        spot = int(np.searchsorted(table.example, example))
        if not some[spot]:
            continue
        if where == place or attack == SAMPLE:
            every.setdefault(example, row)
        if distance <= known.distance[spot] * (1 + NEAR):
            if example in exact and exact[example][2] == SAMPLE != attack:
                exact[example] = row  # as near as the doctor's: the attack of the run is named
            exact.setdefault(example, row)
    ordered = list((exact or every).values())
    ordered = ordered[::-1] if place == "farthest" else ordered
    return [_pair(row, known, about) for row in ordered[:PICTURES]]


def read_held(store: Store, table: Table, known: Pooled, about: About) -> list[Pair]:
    """Examples that no attack broke, at most four: first those that break a little beyond the
    budget, with that change, then others as they are.
    """
    rows = store.rows(
        "SELECT p.place, p.example, p.attack, p.distance, p.before, p.after, e.prediction,"
        " e.confidence FROM pictures p JOIN examples e ON e.id = p.example WHERE p.attack = ?"
        " ORDER BY p.place, p.distance, p.example",
        (HELD,),
    )
    held, found = table.are("held") & ~about.beside, {}
    for place, example, attack, distance, before, after, said, confidence in rows:
        store.sealed(place, attack, example, seal(distance, before, after))
        if not held[int(np.searchsorted(table.example, example))] or example in found:
            continue
        row = (place, example, attack, distance, before, after, said, confidence)
        if place == "farthest":  # of the doctor's search
            found[example] = _pair(row, known, about)
        else:
            same = unpacked(before, about.shape)
            name = caption(about.classes, said)
            found[example] = Pair(
                example, "", math.inf, about.label(example), name, confidence, same, same
            )
    return list(found.values())[:PICTURES]


def _pair(row: tuple[Any, ...], known: Pooled, about: About) -> Pair:
    _, example, attack, distance, before, after, prediction, confidence = row
    if attack < 0:
        _, prediction, confidence = known.sample[example]
    return Pair(
        example,
        about.attacks[attack] if attack >= 0 else DOCTOR,
        distance,
        about.label(example),
        caption(about.classes, prediction if prediction is not None else -1),
        math.nan if confidence is None else confidence,
        unpacked(before, about.shape),
        unpacked(after, about.shape),
    )
