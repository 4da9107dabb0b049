"""Who sits where on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array
from advex.driver.ledger import Jobs, Outcome
from advex.driver.rows import Rows
from advex.driver.shapes import Shapes


class Batch:
    """Seats, the jobs that have them, and their rows on the device.

    A seat that is left empty holds a copy of one that is taken, and steps along with it. So no
    attack ever meets a row that is beyond its last step, or in any other state that no live row is
    in.
    """

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = self._shapes = shapes
        self.jobs = Jobs.none()
        self._rows: Rows | None = None

    @property
    def rows(self) -> Rows:
        if self._rows is None:
            raise ValueError("nobody is seated")
        return self._rows

    @rows.setter
    def rows(self, rows: Rows) -> None:
        self._rows = rows

    @property
    def taken(self) -> Array:
        return self.jobs.taken

    @property
    def room(self) -> int:
        """How many fresh rows have room."""
        return self._shapes.room(len(self.jobs), int(self.taken.sum()))

    def seat(self, jobs: Jobs, rows: Rows) -> None:
        """Fresh rows after ``init``, filled up with some that nobody looks at, take free seats."""
        fresh = jobs.then(Jobs.none(rows.seats - len(jobs)))
        if self._rows is None:
            self._rows, self.jobs = rows, fresh
            return
        both, every = self._rows.joined(rows), self.jobs.then(fresh)
        if self._shapes.ragged:  # the free seats are gone already
            self._rows, self.jobs = both, every
            return
        places, free = np.arange(len(self.jobs)), np.flatnonzero(~self.taken)
        places[free] = len(self.jobs) + np.arange(len(free))
        self._rows, self.jobs = both.picked(places), every.of(places)

    def ended(self, ends: Array, first: bool) -> tuple[Array, Array]:
        """Which seats are finished, and which of them only because they ran out of steps.

        Args:
            ends: the step that each run of the wave no longer takes.
            first: whether the first success ends a row.
        """
        found, nan, step, done = map(
            _host, (self.rows.found, self.rows.nan, self.rows.step, self.rows.done)
        )
        settled = nan | found if first else nan
        over = ((step >= ends[self.jobs.run]) | done) & ~settled & self.taken
        return (settled | over) & self.taken, over

    def steps_left(self, ends: Array) -> int:
        """Steps until the first row runs out."""
        return int((ends[self.jobs.run] - _host(self.rows.step))[self.taken].min())

    def judge(self, over: Array, finish: Callable[[Rows], Rows]) -> None:
        """The last points of seats that are out of steps, looked at like all the others."""
        rows = self.rows
        if over.all():
            self._rows = finish(rows)
        elif not self._shapes.ragged:
            only = rows._replace(live=ops.logical_and(rows.live, ops.convert_to_tensor(over)))
            self._rows = finish(only)._replace(live=rows.live)
        else:
            index, rest = np.flatnonzero(over), np.flatnonzero(~over)
            more = np.repeat(index[:1], self._shapes.judged(len(index)) - len(index))
            judged = finish(rows.picked(np.concatenate([index, more])))
            judged = judged.map(lambda leaf: leaf[: len(index)])
            back = np.argsort(np.concatenate([rest, index]), kind="stable")
            self._rows = rows.picked(rest).joined(judged).picked(back)

    def outcome(self, notes: Iterable[str]) -> Outcome:
        """What the seats have to say; ``notes`` are entries of the memory."""
        rows = self.rows
        return Outcome(
            found=_host(rows.found),
            nan=_host(rows.nan),
            flat=_host(rows.flat),
            doubt=_host(rows.doubt),
            gradients=_host(rows.gradients),
            queries=_host(rows.queries),
            size=_host(rows.size),
            notes={name: _host(rows.memory[name]) for name in notes},
            points=lambda index: _host(_backend.gather(rows.best, index)),
            margin=_host(rows.margin),
            last=lambda index: _host(_backend.gather(rows.x, index)),
            trace=None if isinstance(rows.trace, tuple) else _host(rows.trace),
        )

    def leave(self, leaving: Array, waiting: int) -> None:
        """Seats become free; they are removed as far as the size of the batch may change."""
        seats, kept = len(self.jobs), np.flatnonzero(self.taken & ~leaving)
        size = self._shapes.shrunk(seats, len(kept), waiting)
        row, run = (np.where(leaving, -1, numbers) for numbers in self.jobs)
        if not len(kept):
            self.jobs = Jobs(row, run)
            if not size:
                self._rows, self.jobs = None, Jobs.none()
            return
        if size < seats:
            index = np.concatenate([kept, np.repeat(kept[:1], size - len(kept))])
            live = np.arange(size) < len(kept)
        else:
            live = row >= 0
            index = np.where(live, np.arange(seats), kept[0])
        if live.all() and size == seats:
            return
        rows = self.rows.picked(index)
        self._rows = rows._replace(live=ops.convert_to_tensor(live))
        self.jobs = Jobs(np.where(live, row[index], -1), np.where(live, run[index], -1))


def _host(tensor: object) -> Array:
    return _backend.to_numpy(tensor)
