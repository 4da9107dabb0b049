"""Figures of each label, where an example may have several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from advex.evaluation.kept import read_kept
from advex.evaluation.store import Store
from advex.evaluation.summaries import caption
from advex.evaluation.table import Table


@dataclass(frozen=True)
class LabelSummary:
    """One label of a multi-label evaluation: counts of examples.

    Attributes:
        label: the number of the label.
        name: its name, or its number as text.
        examples: how many there are.
        there: examples that truly have it.
        right: examples of which the model says rightly, without attack, whether they have it.
        flipped: attack -> examples of which the model says the opposite after it. Only successes
            count.
    """

    label: int
    name: str
    examples: int
    there: int
    """Examples that truly have it."""
    right: int
    """Examples of which the model says rightly, without attack, whether they have it."""
    flipped: dict[str, int]
    """Attack -> examples of which the model says the opposite after it. Only successes count."""


def per_label(
    store: Store, table: Table, attacks: list[str], names: list[str] | None
) -> list[LabelSummary]:
    """Figures of each label."""
    there, right, flipped, count = [], [], [], 0
    for before, after in read_kept(store, table):
        true, said = np.asarray(before["labels"]), np.asarray(before["prediction"])
        there.append(true)
        right.append(true == said)
        now = [
            np.asarray(after[number]["prediction"]) if number in after else said
            for number in range(len(attacks))
        ]
        flipped.append(np.stack([one != said for one in now]))
        count += 1
    if not count:
        return []
    sums = np.sum(there, axis=0), np.sum(right, axis=0), np.sum(flipped, axis=0)
    return [
        LabelSummary(
            label,
            caption(names, label),
            count,
            int(sums[0][label]),
            int(sums[1][label]),
            {name: int(sums[2][number, label]) for number, name in enumerate(attacks)},
        )
        for label in range(len(sums[0]))
    ]
