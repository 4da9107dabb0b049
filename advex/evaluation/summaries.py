"""Figures of one attack and of one class, and an input that was kept for the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from advex._arrays import Array
from advex.evaluation.store import Store
from advex.evaluation.table import Table, share


@dataclass(frozen=True)
class AttackSummary:
    """What one attack did in an evaluation.

    Attributes:
        name: of the attack.
        settings: the attack as one types it.
        attacked: how many examples it was tried on: those that are classified correctly.
        broken: how many it broke.
        held: how many it did not break.
        fragile: successes that rounding errors could undo; in neither count.
        invalid: examples for which the model answered NaN during the search; in neither count.
        alone: how many were broken by this attack and by no other.
        accuracy: the share of all examples, the wrong ones included, that are right and not broken
            by this attack; None where there are none.
        median_distance: of the examples it broke, in the budget's norm and in units of the box's
            range; None where it broke none.
        gradients: backward passes in total.
        queries: forward passes in total.
        seconds: of the attack in total.
        figures: of numbers the quantiles of the error after it, of maps pixel accuracy and mean
            IoU.
    """

    name: str
    settings: str
    attacked: int
    broken: int
    held: int
    fragile: int
    """Successes that rounding errors could undo; in neither count."""
    invalid: int
    """The model answered NaN during the search; in neither count."""
    alone: int
    """Broken by this attack and by no other."""
    accuracy: float | None
    """The share of all examples, the wrong ones included, that are right and not broken by this
    attack.
    """
    median_distance: float | None
    """Of those it broke."""
    gradients: int
    queries: int
    seconds: float
    figures: dict[str, float] = field(default_factory=dict)
    """Of numbers the quantiles of the error after it, of maps pixel accuracy and mean IoU."""


@dataclass(frozen=True)
class ClassSummary:
    """The examples of one class in an evaluation.

    Attributes:
        label: the number of the class.
        name: its name, or its number as text.
        examples: how many there are.
        clean_accuracy: the share that is right without attack; None where there are none.
        robust_accuracy: the share that is right and that no attack broke; None where there are
            none.
    """

    label: int
    name: str
    examples: int
    clean_accuracy: float | None
    robust_accuracy: float | None


@dataclass(frozen=True)
class Pair:
    """One adversarial input that was kept for the report.

    Attributes:
        example: its number in the data.
        attack: the name of the attack.
        distance: size of the change in the budget's norm, in units of the box's range.
        label: the true class; in a run towards classes the one predicted before.
        prediction: what the model takes the changed input for.
        confidence: the probability of that class, 0 to 1.
        before: what was attacked: one array, or where several inputs were attacked at once a dict.
        after: the same after the attack.
        maps: where the goal is about maps: the true one, the one predicted before, and after, (3,
            ...).
    """

    example: int
    attack: str
    distance: float
    label: str
    """The true class; in a run towards classes the one predicted before."""
    prediction: str
    """What the model takes the changed input for."""
    confidence: float
    before: Any
    """What was attacked: one array, or where several inputs were attacked at once a dict."""
    after: Any
    maps: Array | None = None
    """Where the goal is about maps: the true one, the one predicted before, and after, (3, ...)."""


def per_attack(store: Store, table: Table, matrix: Array) -> list[AttackSummary]:
    """What each attack did; ``matrix`` says which of them broke which example."""
    alone = (matrix & (matrix.sum(axis=0) == 1)).sum(axis=1)
    wrong = int(table.are("wrong").sum())
    # none of a block that not all attacks have seen is in a figure
    whole = "".join(f" AND NOT example BETWEEN {first} AND {last}" for first, last in table.partial)
    return [
        _per_attack(store, number, name, settings, whole, int(alone[number]), wrong)
        for number, name, settings in store.rows(
            "SELECT id, name, settings FROM attacks ORDER BY id"
        )
    ]


def _per_attack(
    store: Store, number: int, name: str, settings: str, whole: str, alone: int, wrong: int
) -> AttackSummary:
    counts: dict[str, int] = {}
    gradients = queries = 0
    passes = (
        "SELECT status, count(*), sum(gradients), sum(queries) FROM verdicts"  # noqa: S608
        f" WHERE attack = ?{whole} GROUP BY status"
    )
    for status, count, backward, forward in store.rows(passes, (number,)):
        counts[status] = count
        gradients, queries = gradients + backward, queries + forward
    broken = f"SELECT distance FROM verdicts WHERE attack = ? AND status = 'broken'{whole}"  # noqa: S608
    distances = [distance for (distance,) in store.stream(broken, (number,))]
    spent = "SELECT coalesce(sum(seconds), 0) FROM work WHERE attack = ?"
    total = sum(counts.values())
    return AttackSummary(
        name=name,
        settings=settings,
        attacked=total,
        broken=counts.get("broken", 0),
        held=counts.get("held", 0),
        fragile=counts.get("fragile", 0),
        invalid=counts.get("invalid", 0),
        alone=alone,
        accuracy=counts.get("held", 0) / (total + wrong) if total + wrong else None,
        median_distance=float(np.median(distances)) if distances else None,
        gradients=int(gradients),
        queries=int(queries),
        seconds=float(store.one(spent, (number,))[0]),
    )


def per_class(table: Table, names: list[str] | None) -> list[ClassSummary]:
    """Accuracies of the examples of each class."""
    right, held = table.are("held", "broken", "undecided"), table.are("held")
    made = []
    for label in np.unique(table.label[table.counted]):
        own = table.counted & (table.label == label)
        summary = ClassSummary(
            int(label),
            caption(names, int(label)),
            int(own.sum()),
            share(right, own),
            share(held, own),
        )
        made.append(summary)
    return made


def caption(names: list[str] | None, label: int) -> str:
    """The name of a class, or its number."""
    return names[label] if names and 0 <= label < len(names) else str(label)
