"""The loop: rows take seats, step, leave when they are finished, and make room for others."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array
from advex._grid import Grid
from advex._inputs import Examples
from advex._space import INPUT
from advex.budgets import Budget
from advex.driver.batch import Batch
from advex.driver.candidates import Candidates
from advex.driver.draws import row_keys
from advex.driver.ledger import Aim, Jobs, Ledger
from advex.driver.plan import Run, Wave
from advex.driver.programs import Programs, Stopped
from advex.driver.rows import Rows, blank
from advex.driver.shapes import Shapes
from advex.goals import Goal

BURST = 3  # steps between two looks at the rows, on an accelerator


class Stepping(Protocol):
    """What the loop needs of an attack's programs, see ``programs.Program``."""

    def init(self, rows: Rows, /) -> Rows: ...
    def step(self, rows: Rows, /) -> Rows: ...
    def finish(self, rows: Rows, /) -> Rows: ...


class Scene(NamedTuple):
    """What all waves of a call have in common."""

    grid: Grid
    x: Array
    goal: Goal
    budget: Budget
    seed: int
    start: Array | None = None
    """Where to begin, if that was given."""
    strongest: bool = False
    """Whether the worst point of each row is kept."""
    mask: Array | None = None
    """Which elements of ``x`` may change, where not all may."""
    until_success: bool = True
    """Whether a row leaves at its first success, where there is a limit."""
    given: Array | Examples | None = None
    """``x`` with what travels along, where anything does."""
    scale: Array | None = None
    """By how much the space is stretched, see ``scale_of``."""
    others: Candidates | None = None
    """Points of other classes, where such are known."""
    marks: tuple[int, ...] = ()
    """Numbers of queries at which the smallest size is kept."""

    @property
    def examples(self) -> Array | Examples:
        """What the model is asked with."""
        return self.x if self.given is None else self.given

    def first(self, count: int) -> Scene:
        """The same of the first rows alone."""

        def cut(values: Any) -> Any:
            return None if values is None else values[:count]

        return self._replace(
            x=self.x[:count],
            mask=cut(self.mask),
            start=cut(self.start),
            others=None if self.others is None else self.others.first(count),
            given=cut(self.given),
            scale=self._scaled(np.arange(min(count, len(self.x)))),
            budget=self.budget.part(np.arange(min(count, len(self.x)))),
        )

    def _scaled(self, row: Array) -> Array | None:
        return None if self.scale is None else self.scale[row]

    @property
    def leaves(self) -> bool:
        """Whether a row leaves at its first success."""
        return bool(self.budget.limited) and self.until_success

    @property
    def aim(self) -> Aim:
        """What is looked for within a row."""
        if not self.budget.limited:
            return "smallest"
        return "strongest" if self.strongest else "first"

    def rows(self, wave: Wave, jobs: Jobs, count: int, ledger: Ledger) -> Rows:
        """The rows of ``jobs``, filled up to ``count`` with copies of the first."""
        row, run = (np.concatenate([part, np.full(count - len(part), part[0])]) for part in jobs)
        x, scale, budget = self.x[row], self._scaled(row), self.budget.part(row)
        x0 = self.grid.scaled(x, scale)
        beside = self.grid.about(x, scale)
        if isinstance(self.given, Examples):
            beside |= {f"{INPUT}{name}": each[row] for name, each in self.given.beside.items()}
        if budget.epsilons is not None and not budget.homogeneous:
            beside["epsilon"] = budget.epsilons.astype("float32")
        start: Any = ()
        target: Any = ()
        if self.start is not None or wave.warm:
            first = x if self.start is None else self.start[row]
            known = (ledger.found[row] & wave.warm).reshape((-1,) + (1,) * (x.ndim - 1))
            start = self.grid.scaled(np.where(known, ledger.points[row], first), scale)
        others: Any = ()
        if self.others is not None and wave.attack.needs == "labels":
            many = self.others.numbers.shape[1]
            points = self.others.of(row, self.x).reshape(-1, *x.shape[1:])
            wide = None if scale is None else np.repeat(scale, many, axis=0)
            others = self.grid.scaled(points, wide).reshape(count, many, *x0.shape[1:])
        marked = self.aim == "smallest" and bool(self.marks) and wave.attack.needs != "gradients"
        known = blank(count)
        if marked:
            known["trace"] = np.full((count, len(self.marks)), np.inf, "float32")
        if wave.aimed:
            target = ledger.ranking[row, np.array([each.rank for each in wave.runs])[run]]
        made = Rows(
            x0=x0,
            bounds=self.grid.limits(x, budget, scale),
            beside=beside,
            mask=() if self.mask is None else self.mask[row],
            goal={name: values[row] for name, values in self.goal.rows().items()},
            key=row_keys(x0, self.seed),
            salt=np.array([each.salt for each in wave.runs], "int32")[run],
            repetition=np.array([each.repetition for each in wave.runs], "int32")[run],
            numbers=_numbers(wave, run),
            target=target,
            start=start,
            others=others,
            spent=ledger.queries[row].astype("int32") if marked else (),
            live=np.arange(count) < len(jobs),
            step=np.array([each.begin for each in wave.runs], "int32")[run],
            best=x0,
            **known,
        )
        return made.map(ops.convert_to_tensor)


def _numbers(wave: Wave, run: Array) -> dict[str, Array]:
    """The attack's own numbers of each row's run."""
    kinds = {int: "int32", float: "float32", bool: "bool"}
    return {
        name: np.array([each.numbers[name] for each in wave.runs], kinds[type(value)])[run]
        for name, value in wave.runs[0].numbers.items()
    }


def run_wave(
    wave: Wave,
    ledger: Ledger,
    program: Stepping,
    shapes: Shapes,
    scene: Scene,
    report: Callable[[int, int], None],
) -> None:
    """The runs of a wave over all rows that still need them, side by side as far as there is room.

    Of the jobs, those of the first run enter first, so that a full batch does no more work than
    running them in sequence. A row for which an earlier run has succeeded leaves the later ones. So
    what is found, and by which run, is what the runs would find one by one.

    Args:
        wave: what runs.
        ledger: what is known, and is written down.
        program: the compiled steps of the wave's attack.
        shapes: of the batches.
        scene: inputs, goal and budget.
        report: told after every round how many rows are done, and how many have a success.
    """
    began = time.monotonic()
    batch, stop = Batch(shapes), None
    waiting = Queue(ledger.open(wave))
    try:
        _rounds(wave, ledger, program, batch, waiting, scene, report)
    except Stopped as stopped:
        stop = stopped.error
    finally:
        if batch.taken.any() or len(waiting.jobs):  # an error: what was found until then counts
            with contextlib.suppress(Exception):
                ledger.pending[batch.jobs.row[batch.taken]] = True
                ledger.pending[waiting.jobs.row] = True
                outcome = batch.outcome(wave.attack.notes) if batch.taken.any() else None
                if outcome is not None:
                    ledger.record(batch.jobs, outcome, batch.taken)
        ledger.close(time.monotonic() - began)
    if stop is not None:
        raise stop


class Queue:
    """The jobs that wait."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs

    def take(self, count: int) -> Jobs:
        """The first ones, which wait no longer."""
        first, self.jobs = self.jobs.of(slice(count)), self.jobs.of(slice(count, None))
        return first


def _rounds(
    wave: Wave,
    ledger: Ledger,
    program: Stepping,
    batch: Batch,
    waiting: Queue,
    scene: Scene,
    report: Callable[[int, int], None],
) -> None:
    """One round after the other, until nobody waits and no seat is taken."""
    shapes = batch.shapes
    ends = np.array([run.end for run in wave.runs])
    burst = BURST if _backend.accelerated() else 1
    while True:
        joined = len(waiting.jobs) > 0 and shapes.joins(batch.room)
        if joined:
            fresh = waiting.take(shapes.fresh(batch.room))
            rows = scene.rows(wave, fresh, shapes.filled(len(fresh), batch.room), ledger)
            try:
                rows = program.init(rows)
            except Stopped as stopped:
                batch.seat(fresh, stopped.rows)
                raise
            batch.seat(fresh, _gone_on(wave, ledger, fresh, rows))
        if not batch.taken.any():
            break
        # Rows that an evaluation inside init has finished already take no step.
        ended, over = batch.ended(ends, scene.leaves) if joined else (np.zeros(0, bool),) * 2
        if not ended.any():
            for _ in range(min(burst, batch.steps_left(ends)) if burst > 1 else 1):
                try:
                    batch.rows = program.step(batch.rows)
                except Stopped as stopped:
                    batch.rows = stopped.rows
                    raise
            ended, over = batch.ended(ends, scene.leaves)
        if ended.any():
            if over.any() and wave.attack.query_limit is None:
                batch.judge(over, program.finish)
            leaving = ledger.record(batch.jobs, batch.outcome(wave.attack.notes), ended)
            waiting.jobs = waiting.jobs.of(~ledger.overtaken(waiting.jobs))
            batch.leave(leaving, len(waiting.jobs))
        left = len(waiting.jobs) + int(batch.taken.sum())
        report(len(scene.x) - -(-left // len(wave.runs)), int(ledger.found.sum()))


def _gone_on(wave: Wave, ledger: Ledger, jobs: Jobs, rows: Rows) -> Rows:
    """``rows`` after ``init``; those of a run that goes on have the notes of the runs before."""
    if not wave.goes_on:
        return rows
    row = np.concatenate([jobs.row, np.full(rows.seats - len(jobs), jobs.row[0])])
    notes = {name: ops.convert_to_tensor(ledger.notes[name][row]) for name in wave.attack.notes}
    return rows._replace(memory={**rows.memory, **notes})


class Seen(NamedTuple):
    """An attack after ``init`` or after a step, as ``by_hand`` gives it."""

    points: Array
    """(n, ...), in the model's units."""
    found: Array
    """Which rows had a success at a point that the attack has looked at so far, (n,) of bool."""
    rows: Rows


def by_hand(run: Run, programs: Programs, scene: Scene) -> Iterator[Seen]:
    """A run step by step, over all rows at once: nothing leaves, and nothing is compiled.

    The last that it gives has looked at the last point as well.
    """
    wave, count = Wave((run,)), len(scene.x)
    ledger = Ledger(scene.x, scene.aim, lambda points, _: points)
    jobs = Jobs(np.arange(count), np.zeros(count, "int64"))
    rows = scene.rows(wave, jobs, count, ledger)
    problem = programs.problem(run.attack, rows)
    x, memory = run.attack.init(problem)
    rows = problem.outcome()._replace(x=x, memory=memory)
    for _ in range(run.begin, run.end):
        yield _seen(rows)
        problem = programs.problem(run.attack, rows)
        x, memory = run.attack.step(problem, rows.x, rows.memory)
        seen = problem.outcome()
        rows = seen._replace(x=x, memory=memory, step=rows.step + 1, idle=seen.idle + 1)
    yield _seen(programs.problem(run.attack, rows).last(rows.x)._replace(x=rows.x))


def _seen(rows: Rows) -> Seen:
    return Seen(np.array(_backend.to_numpy(rows.x)), np.array(_backend.to_numpy(rows.found)), rows)
