"""All that is known of each row, on the host. The only place where passes are counted, and where it
is decided which of several runs of one row counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from advex._arrays import Array
from advex.driver.plan import Wave
from advex.result import StageInfo

Aim = Literal["first", "smallest", "strongest"]
"""Of a row: its first success, its smallest, or the point where the goal is exceeded most."""
Settle = Callable[[Array, Array], Array]  # points of the search and their rows -> final points


@dataclass(frozen=True)
class Jobs:
    """Rows, each with the place of its run in the wave: (k,) both. Row -1 is a free seat."""

    row: Array
    run: Array

    @classmethod
    def none(cls, count: int = 0) -> Jobs:
        return cls(np.full(count, -1), np.full(count, -1))

    @property
    def taken(self) -> Array:
        return self.row >= 0

    def __len__(self) -> int:
        return len(self.row)

    def __iter__(self) -> Iterator[Array]:
        return iter((self.row, self.run))

    def of(self, index: Array | slice) -> Jobs:
        """Those of these numbers, of a mask or a slice."""
        return Jobs(self.row[index], self.run[index])

    def then(self, other: Jobs) -> Jobs:
        return Jobs(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


class Outcome(NamedTuple):
    """What a batch has to say about its seats, on the host."""

    found: Array
    nan: Array
    flat: Array
    doubt: Array
    gradients: Array
    queries: Array
    size: Array
    notes: dict[str, Array]
    points: Callable[[Array], Array]
    """The best points of the seats of these numbers."""
    margin: Array
    """At the last points."""
    last: Callable[[Array], Array]
    """The last points of the seats of these numbers."""
    trace: Array | None = None
    """The smallest sizes at the marks, where they are kept."""


class Ledger:
    """What is known of each row of a call, and what each run has cost.

    Args:
        x: the originals, (n, ...).
        aim: what is looked for within a row.
        settle: makes final points of those that the search has found.
        leaves: whether a row that has a success is done, where any success will do.
        marks: the numbers of queries at which the smallest size is kept.
    """

    def __init__(
        self,
        x: Array,
        aim: Aim,
        settle: Settle,
        leaves: bool = True,
        marks: tuple[int, ...] = (),
    ) -> None:
        count = len(x)
        self.marks = np.asarray(marks, "int64")
        self.trace = np.full((count, len(marks)), np.inf)
        """The smallest size at each mark, in the units of the search."""
        self.pending = np.zeros(count, bool)
        """Rows that an error has stopped."""
        self._x, self._aim, self._settle, self._leaves = x, aim, settle, leaves
        self.points = x.copy()
        self.attempts = x.copy()
        """How far each row came: its last point; with "strongest" its worst one."""
        self.margin = np.full(count, np.nan)
        """At the last points; NaN where they were outside the budget."""
        self.tried = np.zeros(count, bool)
        """Whose last points are known."""
        self._hit = np.zeros(count, bool)  # whether an attack has had a success
        self._latest = np.full(count, -1)  # the run of the wave that an attempt is of
        self.found, self.nan, self.flat, self.doubt = (np.zeros(count, bool) for _ in range(4))
        self.size = np.full(count, np.inf)
        self.broken_by = np.full(count, "", object)
        self.gradients, self.queries = np.zeros(count, "int64"), np.zeros(count, "int64")
        self.ranking = np.zeros((count, 0), "int32")
        """The wrong classes of each clean input, the likeliest first."""
        self.notes: dict[str, Array] = {}
        self.account: list[StageInfo] = []
        """What each run did."""
        self._wave = Wave(())
        self._tally = np.zeros((0, 3), "int64")  # examples, gradients, queries of each run
        self._before = self.found
        # Which run of the wave has settled each row; as many as there are runs: none has.
        self._settled_by = np.zeros(count, "int64")

    def clean(self, reached: Array, ranking: Array) -> None:
        """What the first look has shown: which rows are misclassified already. One query each."""
        self.queries += 1
        self.found |= reached
        if self._aim != "strongest":
            self.size[reached] = 0
        self.broken_by[reached] = "clean"
        self.ranking = ranking

    def open(self, wave: Wave) -> Jobs:
        """Begin a wave: its jobs, run by run, so that a full batch does no more than one run after
        the other.
        """
        self._wave, self._before = wave, self.found.copy()
        self._tally = np.zeros((len(wave.runs), 3), "int64")
        self._settled_by = np.full(len(self.found), len(wave.runs))
        needy = ~self.nan
        if self._aim == "smallest":
            needy &= ~(self.found & (self.size == 0))
        elif self._leaves:
            needy &= ~self.found
        self._latest = np.full(len(self.found), -1)
        if wave.who is not None and needy.any():
            needy &= wave.who(self)
        rows = np.flatnonzero(needy)
        runs = np.arange(len(wave.runs))
        return Jobs(np.tile(rows, len(runs)), np.repeat(runs, len(rows)))

    def overtaken(self, jobs: Jobs) -> Array:
        """Which jobs are of rows that an earlier run of the wave has settled."""
        return jobs.taken & (jobs.run > self._settled_by[jobs.row])

    def record(self, jobs: Jobs, outcome: Outcome, ended: Array) -> Array:
        """Write down what the jobs that have ended have found, and what all that leave have cost:
        those, and the ones that are overtaken by them. Returns which leave.
        """
        self._decide(jobs, outcome, ended)
        leaving = ended | self.overtaken(jobs)
        self._count(jobs, outcome, leaving)
        return leaving

    def _decide(self, jobs: Jobs, outcome: Outcome, ended: Array) -> None:
        """Of two runs of one row the earlier counts."""
        if self._aim == "strongest":
            self._keep_strongest(jobs, outcome, np.flatnonzero(ended))
            return
        self._keep_last(jobs, outcome, np.flatnonzero(ended & ~outcome.found & ~outcome.nan))
        told = ended & (outcome.found | outcome.nan) & (jobs.run < self._settled_by[jobs.row])
        index = np.flatnonzero(told)
        index = index[np.argsort(jobs.run[index], kind="stable")]
        index = index[np.unique(jobs.row[index], return_index=True)[1]]  # the first of each row
        lost = outcome.nan[index]
        self._lose(jobs.of(index[lost]))
        won = index[~lost]
        if len(self._wave.runs) == 1:
            row = jobs.row[won]
            won = won[~self.found[row] | (outcome.size[won] < self.size[row])]
        if len(won):
            row, run = jobs.of(won)
            self.points[row] = self._settle(outcome.points(won), row)
            self.found[row], self.size[row] = True, outcome.size[won]
            self.nan[row] = False  # of a later run
            self._settled_by[row] = run
            labels = np.array([each.label for each in self._wave.runs], object)
            self.broken_by[row] = labels[run]

    def _keep_last(self, jobs: Jobs, outcome: Outcome, index: Array) -> None:
        """How far rows came that have no success: by the last of their runs."""
        index = index[jobs.run[index] > self._latest[jobs.row[index]]]
        index = index[np.argsort(-jobs.run[index], kind="stable")]
        index = index[np.unique(jobs.row[index], return_index=True)[1]]
        if len(index):
            row, run = jobs.of(index)
            self.attempts[row] = self._settle(outcome.last(index), row)
            self.margin[row], self._latest[row] = outcome.margin[index], run
            self.tried[row] = True

    def _keep_strongest(self, jobs: Jobs, outcome: Outcome, index: Array) -> None:
        """The worst point of each row, by the only run of the wave; a success before all others."""
        lost = index[outcome.nan[index]]
        self.nan[jobs.row[lost]] = True
        row, found, size = jobs.row[index], outcome.found[index], outcome.size[index]
        hit = self._hit[row]
        better = (found & ~hit) | ((found | ~hit) & (size < self.size[row]))
        index, row, found = index[better], row[better], found[better]
        if not len(index):
            return
        self.attempts[row] = self._settle(outcome.points(index), row)
        self.size[row] = outcome.size[index]
        won = row[found]
        self._settled_by[won[~self.found[won]]] = 0
        self.broken_by[won] = self._wave.runs[0].label
        self.points[won] = self.attempts[won]
        self.found[won] = self._hit[won] = True

    def _lose(self, jobs: Jobs) -> None:
        """Rows that were answered with NaN. What a later run has found of them does not count."""
        row, run = jobs
        if len(self._wave.runs) > 1:
            self.found[row], self.size[row], self.broken_by[row] = False, np.inf, ""
            self.points[row] = self._x[row]
        self.nan[row], self._settled_by[row] = True, run

    def _count(self, jobs: Jobs, outcome: Outcome, leaving: Array) -> None:
        """The passes of jobs that leave, what was noticed about their rows, and their notes."""
        index = np.flatnonzero(leaving)
        row, run = jobs.of(index)
        gradients, queries = outcome.gradients[index], outcome.queries[index]
        np.add.at(self.gradients, row, gradients)
        np.add.at(self.queries, row, queries)
        spent = np.stack([np.ones_like(queries), gradients, queries], axis=1)
        np.add.at(self._tally, run, spent)
        if outcome.trace is not None:
            np.minimum.at(self.trace, row, outcome.trace[index])
        self.flat[row[outcome.flat[index]]] = True
        self.doubt[row[outcome.doubt[index]]] = True
        for name, merge in self._wave.attack.notes.items():
            values = outcome.notes[name][index]
            shape = (len(self.found), *values.shape[1:])
            kept = self.notes.setdefault(name, np.zeros(shape, values.dtype))
            if merge is None or not self._wave.goes_on:
                kept[row] = values
            else:
                merge.at(kept, row, values)

    def close(self, seconds: float) -> None:
        """End the wave: a line in the account for each run, time shared out by passes."""
        passes = self._tally[:, 1:].sum(1)
        total = passes.sum()
        for place, (run, counts) in enumerate(
            zip(self._wave.runs, self._tally.tolist(), strict=True)
        ):
            broken = self.found & ~self._before & (self._settled_by == place)
            share = float(passes[place] / total) if total else 1 / len(self._wave.runs)
            line: StageInfo = {
                "attack": run.label,
                "seconds": seconds * share,
                "examples": counts[0],
                "broken": int(broken.sum()),
                "gradients": counts[1],
                "queries": counts[2],
            }
            if run.begin:
                last = self.account[-1]
                last["seconds"] += line["seconds"]
                last["broken"] += line["broken"]
                last["gradients"] += line["gradients"]
                last["queries"] += line["queries"]
            else:
                self.account.append(line)
