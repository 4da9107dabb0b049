"""Carlini and Wagner in the maximum norm: Adam on what lies beyond a bound plus c times what the
margin lacks; the bound shrinks with every success.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from advex._arrays import Tensor, flat, rows
from advex.attacks._parts import MAX_C, Moments, adam, replaced
from advex.attacks.carlini_wagner_l2 import Settings, smallest_success, step_length
from advex.attacks.hyperplane import boundary
from advex.driver.problem import Problem

SHRINK = 0.9  # the first bound, and the next one as a share of the largest change of a success


def init_linf(problem: Problem, settings: Settings) -> tuple[Tensor, Any]:
    """The start of the first round."""
    one, none = ops.ones_like(problem.progress), ops.zeros_like(problem.step)
    return problem.start, {
        "c": settings.c * one,
        "bound": SHRINK * one,  # t of the paper, in units of the box's range
        "low": 0 * one,  # what is too small for the bound
        "high": one,  # what is enough
        "adam": Moments.zeros(problem.x0),
        "reach": one * float("inf"),  # the smallest success by its largest change
        "taken": none,  # steps of this round
        "round": none,  # rounds without a success
    }


def step_linf(problem: Problem, x: Tensor, memory: Any, settings: Settings) -> tuple[Tensor, Any]:
    """One step of Adam on sum(max(|d| - t, 0)) + c max(-f, 0); at the end of a round the next t."""
    x0, span, c, taken = problem.x0, problem.span, memory["c"], memory["taken"]
    value, gradient = problem.gradient(x, boundary)
    delta = (x - x0) / span
    over = ops.maximum(ops.abs(delta) - rows(memory["bound"], x), 0.0)
    pull = ops.where(over > 0, ops.sign(delta), 0.0)
    slope = pull - rows(ops.where(value > 0, 0.0, c), x) * span * gradient
    direction, moments = adam(memory["adam"], slope, taken)
    reach = smallest_success(problem, delta, memory["reach"])
    length = step_length(reach, taken, settings)
    ahead = ops.clip(x - rows(length, x) * span * direction, *problem.box)

    won = ops.logical_and(problem.reached, ops.sum(flat(over), axis=1) == 0)
    ended = ops.logical_or(taken + 1 >= settings.rounds_of, won)
    now = memory | {"adam": moments, "reach": reach, "taken": taken + 1}
    largest = ops.max(flat(ops.abs(delta)), axis=1)
    fresh = now | _next_bound(memory, largest, won)
    fresh |= {
        # a larger one makes the search swing wider
        "c": ops.minimum(ops.where(ops.isinf(reach), 2 * c, c), MAX_C),
        "adam": Moments.zeros(x),
        "taken": ops.zeros_like(taken),
        "round": memory["round"] + ops.cast(ops.logical_not(won), "int32"),
    }
    return ahead, replaced(now, fresh, ended)


def _next_bound(memory: Any, largest: Tensor, won: Tensor) -> dict[str, Tensor]:
    """After a success at most 0.9 of its largest change, and at least the middle of the bracket;
    after a round without one, the middle.
    """
    high = ops.where(won, ops.minimum(memory["high"], largest), memory["high"])
    low = ops.where(memory["low"] < high, memory["low"], 0.5 * high)
    low = ops.where(won, low, memory["bound"])
    return {"bound": ops.maximum(SHRINK * high, (low + high) / 2), "low": low, "high": high}
