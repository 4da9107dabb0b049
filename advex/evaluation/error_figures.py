"""How far numbers are from the true ones, before and after each attack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from advex._arrays import Array
from advex.evaluation.kept import read_kept
from advex.evaluation.store import Store
from advex.evaluation.table import Table


@dataclass(frozen=True)
class Quantiles:
    """Quantiles of the absolute errors of all examples.

    Attributes:
        median: half of the errors are not larger.
        ninety: nine in ten are not larger.
        largest: none is larger.
    """

    median: float
    ninety: float
    """Nine in ten are not larger."""
    largest: float


@dataclass(frozen=True, eq=False)
class Errors:
    """The absolute error of each example; where a model answers with several numbers the largest.

    After an attack it is that of the point to which the example came, whether the goal was reached
    there or not. An example whose goal was reached before any attack keeps its error.

    Attributes:
        before: without attack, (n,) float64.
        attacks: the name of an attack -> the errors after it, (n,).
    """

    before: Array
    attacks: dict[str, Array]

    @property
    def worst(self) -> Array:
        """The largest error of each example, over the attacks and none, (n,)."""
        return np.max([self.before, *self.attacks.values()], axis=0)

    def quantiles(self) -> dict[str, Quantiles]:
        """Median, nine in ten and the largest: "before", of each attack by name, and "worst"."""
        every = {"before": self.before, **self.attacks, "worst": self.worst}
        return (
            {name: _quantiles(values) for name, values in every.items()} if self.before.size else {}
        )


def errors(store: Store, table: Table, attacks: list[str]) -> Errors:
    """The errors of all examples that count."""
    before, after = [], []
    for was, now in read_kept(store, table):
        start = float(was["error"])
        # a point at which the model answers NaN has no error
        ends = [now.get(number, was)["error"] for number in range(len(attacks))]
        before.append(start)
        after.append([start if end is None else float(end) for end in ends])
    made = np.asarray(after, "float64").reshape(len(before), len(attacks))
    return Errors(
        np.asarray(before, "float64"),
        {name: made[:, number] for number, name in enumerate(attacks)},
    )


def _quantiles(values: Array) -> Quantiles:
    median, ninety = np.quantile(values, [0.5, 0.9])
    return Quantiles(float(median), float(ninety), float(values.max()))
