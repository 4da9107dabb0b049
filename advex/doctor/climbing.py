"""A plain ascent outside the driver: PGD from which no example leaves, step by step.

D10 compares the first half of such an ascent with the second, and D1 to D3 look at its starts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor, rows
from advex._grid import Grid
from advex.budgets import Budget
from advex.doctor.examination import Examination
from advex.driver.problem import NO_GRADIENT
from advex.errors import GradientUnavailable
from advex.goals import Goal, Untargeted
from advex.losses import cross_entropy

CLIMB_SEED = 2  # added to that of the call


def untargeted(labels: Tensor) -> Goal:
    """The goal of leaving ``labels``, which are a tensor."""
    return Untargeted(np.zeros(1, "int32")).bound({"labels": labels})


class Draws:
    """Random numbers outside the driver, for ``Budget.sample``."""

    def __init__(self, x0: Tensor, span: float, seed: int) -> None:
        self.x0, self.span = x0, span
        self._generator = np.random.default_rng(seed % 2**63)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        return ops.convert_to_tensor(
            self._generator.random((len(self.x0), *shape), dtype="float32")
        )

    def signs(self, shape: tuple[int, ...]) -> Tensor:
        return ops.where(self.uniform(shape) < 0.5, -1.0, 1.0)


class Room:
    """Ball and box around some examples, as tensors: where an ascent may go."""

    def __init__(self, grid: Grid, budget: Budget, x: Array) -> None:
        lower, upper = grid.bounds(x, budget)
        self.grid, self.span = grid, float(grid.span)
        self.x0, self.lower, self.upper = (
            ops.convert_to_tensor(values) for values in (grid.working(x), lower, upper)
        )
        self.limit = np.float32(budget.limit(grid.span))
        self.budget = budget.bound(ops.convert_to_tensor(self.limit))

    def start(self, seed: int) -> Tensor:
        """A random point."""
        return self._inside(self.x0 + self.budget.sample(Draws(self.x0, self.span, seed)))

    def seen(self, x: Tensor) -> Tensor:
        """What the model is shown for ``x``."""
        return self.grid.snapped(
            x, self.x0, self.budget, self.lower, self.upper, ops.convert_to_tensor(np.float32(255))
        )

    def moved(self, x: Tensor, gradient: Tensor) -> Tensor:
        """A step of PGD's size."""
        reach = float(self.limit) if self.budget.homogeneous else float(self.limit) * self.span
        return self._inside(x + 0.25 * reach * self.budget.steepest(gradient))

    def _inside(self, x: Tensor) -> Tensor:
        return self.budget.nearest(x, self.x0, self.lower, self.upper)


def random_starts(exam: Examination) -> Array:
    """A random point of the budget for each example, in the model's units."""
    parts = []
    for index, count in exam.batches(np.arange(exam.n)):
        room = Room(exam.grid, exam.budget, exam.x[index])
        parts.append(_backend.to_numpy(room.start(exam.seed))[:count])
    return np.concatenate(parts)


class Ascent(NamedTuple):
    """The course of m examples over some steps."""

    losses: Array
    """Before each step and after the last, (steps + 1, m)."""
    points: Array
    """The first point that reaches the goal, or the start, (m, ...) in the model's units."""
    when: Array
    """The step at which it was reached, (m,); steps + 1 where it was not."""


def climbed(exam: Examination, index: Array, steps: int) -> Ascent:
    """An ascent of the cross-entropy by the examples ``index``."""
    forward = exam.forward

    def climb(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        goal = untargeted(labels)

        def loss(point: Tensor) -> tuple[Tensor, Tensor]:
            logits = forward.exact(point)
            return cross_entropy(logits, goal), logits

        value, gradient, logits = _backend.value_and_gradient(loss, x)
        if gradient is None:
            raise GradientUnavailable(NO_GRADIENT)
        return value, gradient, goal.reached(logits, 2 * forward.slack)

    run = exam.compiled("climb", climb)
    losses, points, times = [], [], []
    for part, count in exam.batches(index):
        room, labels = (
            Room(exam.grid, exam.budget, exam.x[part]),
            ops.convert_to_tensor(exam.labels[part]),
        )
        x, trace = room.start(exam.seed + CLIMB_SEED), []
        first, when = room.seen(x), np.full(len(part), steps + 1)
        for step in range(steps + 1):
            seen = room.seen(x)
            value, gradient, reached = run(seen, labels)
            new = _backend.to_numpy(reached) & (when > step)
            first = ops.where(rows(ops.convert_to_tensor(new), first), seen, first)
            when = np.where(new, step, when)
            trace.append(_backend.to_numpy(value)[:count])
            x = room.moved(x, gradient)
        losses.append(np.stack(trace))
        points.append(_backend.to_numpy(first)[:count])
        times.append(when[:count])
    exam.queries += len(index) * (steps + 1)
    exam.gradients += len(index) * (steps + 1)
    return Ascent(np.concatenate(losses, axis=1), np.concatenate(points), np.concatenate(times))


def judged(exam: Examination, points: Array, index: Array) -> Array:
    """Whether points in the model's units are successes for the examples ``index``.

    They are judged as arrays of the user's kind, by the model itself.
    """
    x = exam.grid.settled(exam.grid.returned(points), exam.x[index], exam.budget)
    verdict = exam.judge(x, Untargeted(exam.labels[index]))["reached"]
    exam.queries += len(x)
    return np.asarray(verdict & exam.grid.within(x, exam.x[index], exam.budget))
