"""The examples of a run file: what became of each, over all attacks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from advex._arrays import Array
from advex.evaluation.store import Store

FEW_CLASSES = 0.75  # of those that a random sample would have: fewer are a sign of sorted data
VERDICTS = ("held", "broken", "undecided", "wrong", "invalid", "unfinished")


@dataclass(frozen=True)
class Table:
    """One entry for each example.

    Attributes:
        example: its number, (n,) int64.
        label, prediction: its true class, and the one predicted for it as it is, (n,) int64.
        verdict: what became of it, (n,) int8, a place in ``VERDICTS``.
        distance: the smallest change that any attack found, (n,) float64: 0 where it was wrong, inf
            where none did.
        partial: the first and last example of each block that not all attacks have seen: none of it
            is in a figure.
    """

    example: Array
    label: Array
    prediction: Array
    verdict: Array
    distance: Array
    partial: list[tuple[int, int]]

    def are(self, *verdicts: str) -> Array:
        """Which examples have one of these verdicts, (n,) bool."""
        return np.isin(self.verdict, [VERDICTS.index(name) for name in verdicts])

    @property
    def counted(self) -> Array:
        """Which examples the figures are of, (n,) bool."""
        return self.are("held", "broken", "undecided", "wrong")


def read_table(store: Store, attacks: int) -> Table:
    """Read the verdicts of so many attacks."""
    question = (
        "SELECT e.id, e.label, e.prediction, e.status, coalesce(sum(v.status = 'broken'), 0),"
        " coalesce(sum(v.status = 'held'), 0), count(v.status), min(v.distance) FROM examples e"
        " LEFT JOIN verdicts v ON v.example = e.id GROUP BY e.id ORDER BY e.id"
    )
    number, label, prediction, verdict, distance = [], [], [], [], []
    for id_, true, seen, status, broken, held, looked, near in store.stream(question):
        worst = _worst(status, broken, held, looked, attacks)
        number.append(id_)
        label.append(true)
        prediction.append(seen)
        verdict.append(VERDICTS.index(worst))
        distance.append(0.0 if worst == "wrong" else math.inf if near is None else near)
    partial = store.rows(
        "SELECT first, first + rows - 1 FROM blocks b WHERE (SELECT count(*) FROM work w WHERE"
        " w.block = b.id) < ? ORDER BY first",
        (attacks,),
    )
    numbers, verdicts = np.asarray(number, "int64"), np.asarray(verdict, "int8")
    for first, last in partial:  # the wrong ones alone would give a false picture
        verdicts[(numbers >= first) & (numbers <= last)] = VERDICTS.index("unfinished")
    return Table(
        numbers,
        np.asarray(label, "int64"),
        np.asarray(prediction, "int64"),
        verdicts,
        np.asarray(distance, "float64"),
        partial,
    )


def _worst(status: str, broken: int, held: int, looked: int, attacks: int) -> str:
    """The verdict on one example: how the clean look went, how many attacks broke it, held, and
    have looked.
    """
    if status != "correct":
        return status
    if broken:
        return "broken"
    if looked < attacks:
        return "unfinished"
    return "held" if held == attacks else "undecided"


def read_matrix(store: Store, table: Table, attacks: int) -> Array:
    """Which attack broke which example, (attacks, n) bool."""
    made = np.zeros((attacks, len(table.example)), bool)
    for attack, example in store.stream(
        "SELECT attack, example FROM verdicts WHERE status = 'broken'"
    ):
        made[attack, np.searchsorted(table.example, example)] = True
    made[:, table.are("unfinished")] = False
    return made


def read_answers(store: Store, table: Table) -> Array:
    """The class that the model says after the smallest change that broke an example, (n,) int64;
    without attack where none did.
    """
    made = table.prediction.copy()
    seen = -1
    for example, prediction in store.stream(
        "SELECT example, prediction FROM verdicts WHERE status = 'broken' ORDER BY example,"
        " distance, attack"
    ):
        if example != seen:
            made[np.searchsorted(table.example, example)] = prediction
            seen = example
    return made


def in_order(table: Table, looked: int) -> str:
    """That the first ``looked`` examples that are classified correctly, which the doctor has
    examined, are of few classes: the data are sorted, and what it says is about these classes.
    Empty where they are not.
    """
    labels = table.label[table.are("held", "broken", "undecided", "unfinished")]
    _, counts = np.unique(labels, return_counts=True)
    seen = len(np.unique(labels[:looked]))
    # as many classes as so many examples drawn at random would have, in the mean
    drawn = (1 - (1 - counts / max(1, len(labels))) ** looked).sum()
    if looked >= len(labels) or seen >= FEW_CLASSES * drawn:
        return ""
    return (
        f"The doctor has examined {looked} examples of {seen} of the {len(counts)} classes: the"
        " data are in order of class. Shuffle them before the evaluation, or it speaks of these"
        " classes alone."
    )


def share(part: Array, whole: Array) -> float | None:
    """The share of ``part`` among ``whole``; None without any."""
    return float((part & whole).sum() / whole.sum()) if whole.any() else None


def wilson(count: int, total: int) -> tuple[float, float] | None:
    """Wilson's 95 % interval of a share."""
    if not total:
        return None
    z, middle_share = 1.959964, count / total
    middle = (middle_share + z * z / (2 * total)) / (1 + z * z / total)
    half = (
        z
        / (1 + z * z / total)
        * math.sqrt(middle_share * (1 - middle_share) / total + z * z / (4 * total * total))
    )
    # at the ends exactly: not one more than rounding errors leave
    low = max(0.0, middle - half) if count else 0.0
    return low, min(1.0, middle + half) if count < total else 1.0
