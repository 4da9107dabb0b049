"""The smallest legal change of a linearised margin, where features are whole or in groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, axes
from advex._settings import setting
from advex.attacks.base import Attack
from advex.driver.problem import Problem
from advex.losses import margin

BEYOND = 1e-4  # of the gain that is needed: by how much more is aimed at, at first
GROWTH = 4.0  # times as much as before, after a step that was not enough
MOST = 0.5


@dataclass(frozen=True, kw_only=True)
class Knapsack(Attack):
    """x <- argmin of the size over the legal points at which the margin, as it is linearised at the
    last point, is above zero.

    Each whole feature and each group is a choice with a gain and a cost, so that this is a
    knapsack: dynamic programming solves it up to 1/256 of the size, and continuous features fill
    what is left. On a model that is linear one step is enough.

    Args:
        steps: number of steps.
    """

    needs_epsilon: ClassVar[bool] = False

    steps: int = setting(12, "whole")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return problem.start, {"beyond": BEYOND * ops.ones_like(problem.progress)}

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        value, gradient = problem.gradient(x, margin)
        crossed, here = problem.reached, problem.shown(x)
        before = memory["beyond"]
        first = ops.equal(problem.step, 0)
        beyond = ops.where(crossed, ops.maximum(before / GROWTH, BEYOND), before * GROWTH)
        beyond = ops.where(first, before, ops.minimum(beyond, MOST))
        rise = ops.sum(gradient * (here - problem.x0), axis=axes(x))
        need = rise - value  # from the original, by this gradient
        need = need + beyond * ops.abs(need)
        return problem.smallest(gradient, ops.maximum(need, 0.0)), {"beyond": beyond}
