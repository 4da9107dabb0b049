"""The samples of a block of rows, in one order: first those that choose the class of each row, then
those that count it, row after row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from advex._arrays import Array
from advex.certification.sampling import UNIT, Sampler


class Votes(NamedTuple):
    """What the samples of a block have said so far.

    Attributes:
        done: how many units of samples are counted.
        selection: of the samples that choose, (rows, classes) int64.
        counts: of the samples that count, likewise.
    """

    done: int
    selection: Array
    counts: Array

    @classmethod
    def none(cls, rows: int, classes: int) -> Votes:
        """Before the first sample."""
        return cls(0, *(np.zeros((rows, classes), "int64") for _ in range(2)))

    @property
    def chosen(self) -> Array:
        """The class that most of the samples that choose have said, (rows,)."""
        return np.asarray(self.selection.argmax(axis=1))

    @property
    def hits(self) -> Array:
        """How many of the samples that count are of that class, (rows,)."""
        return np.asarray(self.counts[np.arange(len(self.counts)), self.chosen])


class Schedule:
    """Which units of samples there are.

    Args:
        selection: samples that choose the class of a row.
        samples: samples that count it.
    """

    def __init__(self, selection: int, samples: int) -> None:
        self.selection, self.samples = selection, samples
        self.choosing, self.counting = -(-selection // UNIT), -(-samples // UNIT)

    def total(self, rows: int) -> int:
        """How many units so many rows take."""
        return rows * (self.choosing + self.counting)

    def finished(self, rows: int, done: int) -> int:
        """How many rows are finished after ``done`` units."""
        return max(0, done - rows * self.choosing) // self.counting

    def begun(self, rows: int, done: int) -> int:
        """How many units of the row that is counted are done."""
        return max(0, done - rows * self.choosing) % self.counting

    def run(self, sampler: Sampler, x: Array, keys: Array, votes: Votes) -> Iterator[Votes]:
        """Go on after ``votes`` to the end; the votes after each step.

        Args:
            sampler: asks the model.
            x: the rows as the model takes them, float32 (rows, ...).
            keys: of the rows, (rows, 2) int32.
            votes: what is known.
        """
        rows, total = len(x), self.total(len(x))
        while votes.done < total:
            unit = np.arange(votes.done, min(votes.done + sampler.units, total))
            choosing = unit < rows * self.choosing
            later = unit - rows * self.choosing
            row = np.where(choosing, unit // self.choosing, later // self.counting)
            number = np.where(choosing, unit % self.choosing, later % self.counting)
            live = np.where(choosing, self.selection, self.samples) - number * UNIT
            # each unit of a row has a key of its own; the sum wraps
            key = keys[row].astype("int64")
            key[:, 0] += np.where(choosing, number, number + self.choosing)
            found = sampler(x[row], key.astype("int32"), np.minimum(live, UNIT))
            # new arrays: whoever is interrupted keeps what goes together
            selection, counts = votes.selection.copy(), votes.counts.copy()
            np.add.at(selection, row[choosing], found[choosing])
            np.add.at(counts, row[~choosing], found[~choosing])
            votes = Votes(int(unit[-1]) + 1, selection, counts)
            yield votes
