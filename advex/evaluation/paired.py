"""The figures of two runs on the same data within the same budget, example by example."""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from advex._arrays import Array
from advex.evaluation.figures import Figures
from advex.evaluation.summaries import caption
from advex.evaluation.table import wilson
from advex.evaluation.wanted import CLASSES


@dataclass(frozen=True)
class ClassChange:
    """The examples of one class, in both runs.

    Attributes:
        label: the number of the class.
        name: its name, or its number as text.
        examples: how many there are.
        clean_before: clean accuracy in the first run, 0 to 1.
        clean_after: clean accuracy in the second run.
        robust_before: robust accuracy in the first run.
        robust_after: robust accuracy in the second run.
        won: examples that hold in the second run only.
        lost: examples that hold in the first run only.
    """

    label: int
    name: str
    examples: int
    clean_before: float
    clean_after: float
    robust_before: float
    robust_after: float
    won: int
    lost: int


class Paired:
    """Two runs, and what is different in the second.

    Attributes:
        before: the first run.
        after: the second.
    """

    def __init__(self, before: Figures, after: Figures) -> None:
        self.before, self.after = before, after

    @functools.cached_property
    def _counted(self) -> Array:
        """Which examples both runs count, (n,) bool."""
        return self.before._table.counted & self.after._table.counted

    @functools.cached_property
    def _held(self) -> tuple[Array, Array]:
        """Which of these held in each run, (n,) bool."""
        first, second = (
            run._table.are("held") & self._counted for run in (self.before, self.after)
        )
        return first, second

    @property
    def examples(self) -> int:
        """How many examples the figures are of: those that both runs count."""
        return int(self._counted.sum())

    @property
    def robust_accuracy(self) -> tuple[float, float]:
        """Of these, in the first run and in the second."""
        first, second = (float(held.sum()) / self.examples for held in self._held)
        return first, second

    @property
    def clean_accuracy(self) -> tuple[float, float]:
        """Likewise, without attack."""
        right = ("held", "broken", "undecided")
        first, second = (
            float((run._table.are(*right) & self._counted).sum()) / self.examples
            for run in (self.before, self.after)
        )
        return first, second

    @property
    def won(self) -> Array:
        """The numbers of the examples that held in the second run alone."""
        first, second = self._held
        return self.before._table.example[second & ~first]

    @property
    def lost(self) -> Array:
        """The numbers of the examples that held in the first run alone."""
        first, second = self._held
        return self.before._table.example[first & ~second]

    @property
    def change(self) -> float:
        """How much higher the robust accuracy of the second run is."""
        first, second = self.robust_accuracy
        return second - first

    @property
    def interval(self) -> tuple[float, float]:
        """Where the change lies for more data of the same kind, with 95% confidence (Newcombe's
        interval for pairs, his method 10).
        """
        first, second = self._held
        both, neither = int((first & second).sum()), int((~first & ~second & self._counted).sum())
        return newcombe(both, len(self.won), len(self.lost), neither)

    @property
    def per_class(self) -> list[ClassChange]:
        """The same for the examples of each class; empty for goals that are not about one class."""
        if self.before.measured != CLASSES:
            return []
        first, second = self._held
        label, made = self.before._table.label, []
        right = ("held", "broken", "undecided")
        clean = [run._table.are(*right) for run in (self.before, self.after)]
        for one in np.unique(label[self._counted]):
            own = self._counted & (label == one)
            count = int(own.sum())
            shares = [float((part & own).sum()) / count for part in (*clean, first, second)]
            made.append(
                ClassChange(
                    int(one),
                    caption(self.classes, int(one)),
                    count,
                    clean_before=shares[0],
                    clean_after=shares[1],
                    robust_before=shares[2],
                    robust_after=shares[3],
                    won=int((own & second & ~first).sum()),
                    lost=int((own & first & ~second).sum()),
                )
            )
        return made

    @property
    def classes(self) -> list[str] | None:
        """The names of the classes; None where there are none, or the runs name them differently:
        then classes have their numbers.
        """
        first, second = (run.facts["classes"] for run in (self.before, self.after))
        return None if self.other_names else first or second

    @property
    def other_names(self) -> bool:
        """Whether both runs have names of classes, and not the same."""
        first, second = (run.facts["classes"] for run in (self.before, self.after))
        return bool(first and second) and list(first) != list(second)

    @property
    def same_attacks(self) -> bool:
        """Whether both runs used the same attacks with the same settings."""
        first, second = (
            sorted((attack.name, attack.settings) for attack in run.attacks)
            for run in (self.before, self.after)
        )
        return first == second

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain values for JSON."""
        return {
            "before": _told(self.before),
            "after": _told(self.after),
            "budget": self.before.budget,
            "examples": self.examples,
            "robust_accuracy": list(self.robust_accuracy),
            "clean_accuracy": list(self.clean_accuracy),
            "change": self.change,
            "interval": list(self.interval),
            "won": self.won.tolist(),
            "lost": self.lost.tolist(),
            "same_attacks": self.same_attacks,
            "classes": [asdict(one) for one in self.per_class],
        }


def _told(run: Figures) -> dict[str, Any]:
    return {
        "model": run.facts["model"],
        "weights": run.hashes["weights"],
        "attacks": {attack.name: attack.settings for attack in run.attacks},
        "flags": [flag.id for flag in run.flags],
        "began": run.facts["began"],
    }


def newcombe(both: int, won: int, lost: int, neither: int) -> tuple[float, float]:
    """The 95% interval of the difference of two shares of the same examples, the second minus the
    first.

    Args:
        both: examples that count in both.
        won: in the second alone.
        lost: in the first alone.
        neither: in none.

    Example:
        >>> [round(end, 3) for end in newcombe(10, 0, 0, 10)]
        [-0.09, 0.09]
    """
    total = both + won + lost + neither
    if not total:
        return -1.0, 1.0
    second, first = (both + won) / total, (both + lost) / total
    low2, high2 = wilson(both + won, total) or (0.0, 1.0)
    low1, high1 = wilson(both + lost, total) or (0.0, 1.0)
    product = (both + won) * (lost + neither) * (both + lost) * (won + neither)
    phi = 0.0
    if product:
        together = float(both * neither - won * lost)
        if together > 0:
            together = max(together - total / 2, 0.0)
        phi = together / math.sqrt(product)

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

    change = second - first
    down = reach(second - low2, high1 - first)
    up = reach(high2 - second, first - low1)
    return max(-1.0, change - down), min(1.0, change + up)
