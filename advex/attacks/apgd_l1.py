"""APGD in L1: steps along the signs of the largest gradients, fewer as the best point thins out."""

from __future__ import annotations

import math
from typing import Any, Protocol

from keras import ops

from advex._arrays import Tensor, flat, rows, unit
from advex.attacks._phases import Phases, among, best_so_far
from advex.budgets import L2
from advex.driver.problem import Loss, Problem

FIRST_SHARE = 0.2  # of the elements that the first step moves
SPARSITY_FACTOR = 1.5  # a step moves so many times fewer elements than the best point has changed
SPARSER = 0.95  # of the elements changed at the last look: fewer count as a sparser point
SIZE_DIVISOR = 1.5  # of the step size, where the best point did not become sparser
MIN_SIZE = 0.1  # of a step, in units of epsilon
LOOK_EVERY = 0.04  # of the steps of a phase


class Settings(Protocol):
    """Those of ``APGD`` that the sparse form needs."""

    @property
    def steps(self) -> int: ...
    @property
    def loss(self) -> Loss: ...
    @property
    def radii(self) -> tuple[float, ...]: ...


def init_l1(problem: Problem, settings: Settings) -> tuple[Tensor, Any]:
    """Noise over the whole box, projected onto ball and box."""
    x0, zeros = problem.x0, ops.zeros_like(problem.progress)
    # so that each element is about a standard normal number
    size = math.sqrt(math.prod(x0.shape[1:]))
    noise = unit(L2().bound(1.0).sample(problem)) * size * problem.span
    x = Phases(settings.steps, settings.radii).inside(problem, x0 + noise)
    return x, {
        "best": x,
        "gradient": ops.zeros_like(x),
        "value": zeros,
        "size": zeros,  # of the step, in units of the ball
        "share": zeros,  # of the elements that a step moves
        "changed": zeros,  # how many elements of the best point were changed at the last look
    }


def step_l1(problem: Problem, x: Tensor, memory: Any, settings: Settings) -> tuple[Tensor, Any]:
    """A step along the signs of the largest gradients; at a look, from the best point if that has
    become sparser.
    """
    phases, step = Phases(settings.steps, settings.radii), problem.step
    value, gradient = problem.gradient(x, settings.loss)
    fresh, width = phases.begin(step), phases.width(step)
    kept = best_so_far(memory, x, value, gradient, fresh)
    scales, back = _looked(problem, kept["best"], memory, phases, fresh)
    here = ops.where(rows(back, x), kept["best"], x)
    slope = ops.where(rows(back, x), kept["gradient"], gradient)
    direction = unit(ops.where(_largest(slope, scales["share"]), ops.sign(slope), 0.0), order=1)
    length = rows(scales["size"] * width * problem.epsilon, x)
    ahead = phases.inside(problem, here + length * direction)
    return phases.turned(problem, ahead, kept["best"]), kept | scales


def _looked(
    problem: Problem, best: Tensor, memory: Any, phases: Phases, fresh: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Step size and share of the elements after a look at the best point, where one is due; and who
    goes back to that point, (batch,) of bool.
    """
    elements = math.prod(best.shape[1:])
    looks = [
        start + at
        for start, length, _ in phases.plan
        for at in range(max(int(LOOK_EVERY * length), 1), length, max(int(LOOK_EVERY * length), 1))
    ]
    due = ops.logical_or(fresh, among(problem.step, looks))

    def look() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        differs = ops.not_equal(flat(best), flat(problem.x0))
        changed = ops.sum(ops.cast(differs, "float32"), axis=1)
        sparser = changed < SPARSER * memory["changed"]
        sparser = ops.logical_and(sparser, ops.logical_not(fresh))
        smaller = ops.maximum(memory["size"] / SIZE_DIVISOR, MIN_SIZE)
        size = ops.where(ops.logical_or(fresh, sparser), 1.0, smaller)
        share = changed / elements / SPARSITY_FACTOR
        if len(phases.plan) == 1:  # the first point is dense noise: it says nothing
            share = ops.where(fresh, FIRST_SHARE, share)
            changed = ops.where(fresh, float(elements), changed)
        return (
            ops.where(due, size, memory["size"]),
            ops.where(due, share, memory["share"]),
            ops.where(due, changed, memory["changed"]),
            ops.logical_and(due, sparser),
        )

    before = memory["size"], memory["share"], memory["changed"], ops.zeros_like(fresh)
    size, share, changed, back = ops.cond(ops.any(due), look, lambda: before)
    return {"size": size, "share": share, "changed": changed}, back


def _largest(slope: Tensor, share: Tensor) -> Tensor:
    """Which elements are among the ``share``, (batch,), with the largest slopes."""
    weight, elements = flat(ops.abs(slope)), math.prod(slope.shape[1:])
    first = ops.cast(ops.clip((1 - share) * elements, 0, elements - 1), "int32")
    least = ops.take_along_axis(ops.sort(weight, axis=1), ops.expand_dims(first, 1), axis=1)
    return ops.reshape(ops.logical_and(weight >= least, weight > 0), ops.shape(slope))
