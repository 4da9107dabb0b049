"""Carlini and Wagner in L2: Adam on the squared length plus c times what the margin lacks, and a
search for c.
"""

from __future__ import annotations

from typing import Any, Protocol

from keras import ops

from advex._arrays import Tensor, flat, rows
from advex.attacks._parts import Bracket, Moments, adam, replaced
from advex.attacks.hyperplane import boundary
from advex.driver.problem import Problem

SMALLEST_FALL = 1e-4  # a loss that falls by a smaller share between two looks has stopped falling
LOOKS = 10  # at the loss, in a round
LONGEST_STEP = 0.1  # as a share of the largest change of a success


class Settings(Protocol):
    """Those of ``CarliniWagner``."""

    @property
    def steps(self) -> int: ...
    @property
    def rounds_of(self) -> int: ...
    @property
    def step_size(self) -> float: ...
    @property
    def c(self) -> float: ...
    @property
    def searches(self) -> int: ...


def init_l2(problem: Problem, settings: Settings) -> tuple[Tensor, Any]:
    """The start of the first round."""
    one, none = ops.ones_like(problem.progress), ops.zeros_like(problem.step)
    return problem.start, {
        "bracket": Bracket.around(settings.c * one),
        "adam": Moments.zeros(problem.x0),
        "reach": one * float("inf"),  # the smallest success by its largest change
        "last": one * float("inf"),  # the loss when it was looked at last
        "won": ops.zeros_like(problem.found),  # in this round
        "taken": none,  # steps of this round
        "round": none,
    }


def step_l2(problem: Problem, x: Tensor, memory: Any, settings: Settings) -> tuple[Tensor, Any]:
    """One step of Adam on |d|^2 + c max(-f, 0); at the end of a round the next c."""
    x0, span, c, taken = problem.x0, problem.span, memory["bracket"].c, memory["taken"]
    value, gradient = problem.gradient(x, boundary)
    delta = (x - x0) / span
    loss = ops.sum(flat(ops.square(delta)), axis=1) + c * ops.maximum(-value, 0.0)
    slope = 2 * delta - rows(ops.where(value > 0, 0.0, c), x) * span * gradient
    direction, moments = adam(memory["adam"], slope, taken)
    reach = smallest_success(problem, delta, memory["reach"])
    length = step_length(reach, taken, settings)
    ahead = ops.clip(x - rows(length, x) * span * direction, *problem.box)

    look = ops.equal((taken + 1) % max(1, settings.rounds_of // LOOKS), 0)
    stopped = ops.logical_and(look, loss > (1 - SMALLEST_FALL) * memory["last"])
    ended = ops.logical_or(taken + 1 >= settings.rounds_of, stopped)
    won = ops.logical_or(memory["won"], problem.reached)
    now = memory | {
        "adam": moments,
        "reach": reach,
        "last": ops.where(look, loss, memory["last"]),
        "won": won,
        "taken": taken + 1,
    }
    fresh = now | {
        "bracket": memory["bracket"].narrowed(won),
        "adam": Moments.zeros(x),
        "last": ops.full_like(c, float("inf")),
        "won": ops.zeros_like(won),
        "taken": ops.zeros_like(taken),
        "round": memory["round"] + 1,
    }
    return ops.where(rows(ended, x), problem.start, ahead), replaced(now, fresh, ended)


def smallest_success(problem: Problem, delta: Tensor, before: Tensor) -> Tensor:
    """The smallest success so far, by its largest change in units of the box's range: (batch,)."""
    largest = ops.max(flat(ops.abs(delta)), axis=1)
    return ops.where(problem.reached, ops.minimum(before, largest), before)


def step_length(reach: Tensor, taken: Tensor, settings: Settings) -> Tensor:
    """Adam's step falls to 0 in every round, and is short where the change is small: (batch,)."""
    left = 1 - ops.cast(taken, "float32") / settings.rounds_of
    return ops.minimum(settings.step_size, LONGEST_STEP * reach) * left
