"""Pixel accuracy and mean IoU, before and after each attack, and the worst case over the
attacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from advex._arrays import Array
from advex.evaluation.kept import read_kept
from advex.evaluation.store import Store
from advex.evaluation.table import Table

PASSES = 3  # of the search for the worst case of the mean IoU

RIGHT, TRUE, SAID = range(3)
"""What is counted of each class: its pixels that are right, all its pixels, all taken for it."""


@dataclass(frozen=True)
class MapFigure:
    """One figure of all maps together, such as mean IoU.

    Attributes:
        before: without attack, 0 to 1.
        attacks: the name of an attack -> the figure at the points to which the examples came.
        worst: with the attack that is worst for it chosen for each example, or none.
    """

    before: float
    attacks: dict[str, float]
    """The name of an attack -> the figure at the points to which the examples came."""
    worst: float
    """With the attack that is worst for it chosen for each example, or none."""


@dataclass(frozen=True)
class MapFigures:
    """The share of the pixels that are right, and the mean IoU of the classes that occur."""

    pixel_accuracy: MapFigure
    """Its worst case takes the fewest right pixels of each image."""
    mean_iou: MapFigure
    """Its worst case is searched greedily: from that of the pixels on, image by image, the attack
    that makes the mean IoU of all images lowest, until nothing changes or three passes are over.
    """


def map_figures(store: Store, table: Table, attacks: list[str]) -> MapFigures | None:
    """The figures of all examples that count; None without any."""
    counts = read_counts(store, table, len(attacks))
    if not counts.shape[1]:
        return None
    worst = lowest(counts)
    every = np.arange(counts.shape[1])
    greedy = most_harmful(counts, worst)
    made = [
        MapFigure(
            figure(counts[0].sum(axis=0)),
            {name: figure(counts[1 + number].sum(axis=0)) for number, name in enumerate(attacks)},
            figure(counts[chosen, every].sum(axis=0)),
        )
        for figure, chosen in ((accuracy, worst), (iou, greedy))
    ]
    return MapFigures(*made)


def read_counts(store: Store, table: Table, attacks: int) -> Array:
    """What is counted of each class, without attack and after each: (1 + attacks, n, 3, classes)
    int64.
    """
    made: list[Array] = []
    for before, after in read_kept(store, table):
        rows = [before, *(after.get(number, before) for number in range(attacks))]
        made.append(np.stack([_counts(row) for row in rows]))
    if not made:
        return np.zeros((1 + attacks, 0, 3, 1), "int64")
    return np.stack(made, axis=1)


def accuracy(counts: Array) -> Any:
    """The share of the pixels that are right: (..., 3, classes) -> (...,)."""
    right, true = counts[..., RIGHT, :].sum(axis=-1), counts[..., TRUE, :].sum(axis=-1)
    return right / np.maximum(true, 1)


def iou(counts: Array) -> Any:
    """The mean over the classes, of those that occur, of intersection over union: (..., 3, classes)
    -> (...,); 0 where there are none.
    """
    right = counts[..., RIGHT, :]
    union = counts[..., TRUE, :] + counts[..., SAID, :] - right
    there = union > 0
    return (right / np.maximum(union, 1)).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)


def lowest(counts: Array) -> Array:
    """Which row of ``counts`` has the fewest right pixels of each image: (n,)."""
    return np.asarray(accuracy(counts).argmin(axis=0))


def most_harmful(counts: Array, start: Array) -> Array:
    """Which row of ``counts`` of each image makes the mean IoU of all together lowest, (n,);
    greedily from ``start`` on.
    """
    chosen = start.copy()
    total = counts[chosen, np.arange(len(chosen))].sum(axis=0)
    for _ in range(PASSES):
        before = chosen.copy()
        for image, now in enumerate(before):
            others = total - counts[now, image] + counts[:, image]
            found = iou(others)
            best = int(found.argmin())
            if found[best] < found[now]:
                chosen[image], total = best, others[best]
        if (chosen == before).all():
            break
    return chosen


def _counts(told: dict[str, Any]) -> Array:
    classes, cells = told["classes"], np.asarray(told["cells"], "int64").reshape(-1, 2)
    true, said = cells[:, 0] // classes, cells[:, 0] % classes
    made = np.zeros((3, classes), "int64")
    same = true == said
    np.add.at(made[RIGHT], true[same], cells[same, 1])
    np.add.at(made[TRUE], true, cells[:, 1])
    np.add.at(made[SAID], said, cells[:, 1])
    return made
