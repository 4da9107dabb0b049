"""APGD: steps that halve by themselves where they stop helping, and a return to the best point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from advex._arrays import Tensor, flat, rows, unit
from advex._settings import shown
from advex.attacks.base import Attack
from advex.budgets import L0, L1, L2, Budget
from advex.driver.problem import Loss, Problem
from advex.errors import InvalidInput
from advex.goals import Goal
from advex.losses import cross_entropy

MOMENTUM = 0.75
SHARE = 0.2  # of the elements that the first L1 step moves
SPARSER = 1.5  # fewer elements than the best point has changed
SHRINK, SMALLEST = 1.5, 10.0  # of L1 steps
PERIOD = 0.04  # of the steps between two looks at an L1 step
# of the steps: first interval between checkpoints, shortest, difference
LONG, SHORT, LESS = (
    0.22,
    0.06,
    0.03,
)


def checkpoints(steps: int) -> dict[int, int]:
    """The steps at which the step size is looked at, with the number of steps since the last
    look.
    """
    interval, shortest, less = (max(int(share * steps), 1) for share in (LONG, SHORT, LESS))
    found, at = {}, interval
    while at < steps:
        found[at] = interval
        interval = max(interval - less, shortest)
        at += interval
    return found


def phases(steps: int, radii: tuple[float, ...]) -> list[tuple[int, int, float]]:
    """First step, number of steps and radius of each phase: 30 % each, and what is left for the
    last.

    With very few steps there is only the last.
    """
    radii = radii if steps > 2 * len(radii) else radii[-1:]
    share = math.ceil(0.3 * steps)
    lengths = [share] * (len(radii) - 1)
    lengths.append(max(steps - sum(lengths), 1))
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    return list(zip(starts, lengths, radii, strict=True))


def _among(step: Tensor, numbers: list[int]) -> Tensor:
    """Whether each example's step is one of the numbers."""
    if not numbers:
        return ops.zeros_like(step, dtype="bool")
    return ops.any(
        ops.expand_dims(step, 1) == ops.convert_to_tensor(np.asarray([numbers], "int32")), axis=1
    )


def _lookup(step: Tensor, table: dict[int, Any], other: float) -> Tensor:
    """``table[step]`` for each example, ``other`` where there is no such entry; float32."""
    value = ops.full_like(step, other, dtype="float32")
    for key, entry in table.items():
        value = ops.where(ops.equal(step, key), entry, value)
    return value


def _at_least_1(radius: Any) -> bool:
    return isinstance(radius, int | float) and radius >= 1


@dataclass(frozen=True, kw_only=True)
class APGD(Attack):
    """Ascent with momentum whose step starts at twice epsilon, halves at checkpoints and then goes
    on from the best point.

    At a checkpoint an example's step is halved if the loss rose in fewer than ``rho`` of the steps
    since the last one, or if neither step nor best loss has changed since. In L1 (the second paper)
    the step goes along the signs of the largest gradients; how many, and how far, follows from how
    sparse the best point is; there is no momentum.

    Args:
        steps: number of steps.
        loss: what is climbed: ``(logits, goal) -> (batch,)``: ``losses.cross_entropy``,
            ``losses.dlr``, ``losses.margin``.
        rho: share of the steps that must help for the step size to stay.
        radii: the search begins in wider balls, of so many times epsilon; the second paper uses (3,
            2, 1) for L1.

    Raises:
        InvalidInput: at the call, for ``L0``, where no such step is known; for radii that do not
        end with 1.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> APGD(steps=20)(advex.testing.linear_model(), x, labels, advex.L2(0.5)).success.shape
        (32,)

    References: Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble of
    diverse parameter-free attacks, 2020; Croce and Hein, Mind the box: l1-APGD for sparse
    adversarial attacks on image classifiers, 2021. Deviations: an example leaves at its first
    success; cross-entropy does not saturate (see ``losses.cross_entropy``); in L2 the nearest point
    of ball and box is taken, where the authors cut at the box after the ball; no gradient at the
    last point.
    """

    steps: int = 100
    loss: Loss = cross_entropy
    rho: float = 0.75
    radii: tuple[float, ...] = (1.0,)

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        if isinstance(budget, L0):
            raise InvalidInput("APGD has no L0 form; use Linf, L2 or L1")
        if (
            not isinstance(self.radii, tuple)
            or not self.radii
            or not all(map(_at_least_1, self.radii))
            or self.radii[-1] != 1
        ):
            raise InvalidInput(
                "radii must be a tuple of numbers of at least 1 that ends with 1, such as (3, 2,"
                " 1);"
                f" received {shown(self.radii)}"
            )

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        budget, x0 = problem.budget, problem.x0
        if isinstance(budget, L1):
            # so that each element is about a standard normal number
            size = math.sqrt(math.prod(x0.shape[1:]))
            noise = unit(L2().bound(1.0).sample(problem)) * size * problem.span
            x = self._inside(problem, x0 + noise, self._width(problem))
        else:
            order = 2 if isinstance(budget, L2) else math.inf
            x = problem.project(x0 + problem.epsilon * unit(budget.sample(problem), order=order))
        zeros = ops.zeros_like(problem.progress)
        memory = {"best": x, "gradient": ops.zeros_like(x), "value": zeros, "size": zeros}
        if isinstance(budget, L1):
            return x, memory | {"share": zeros, "changed": zeros}
        never = ops.zeros_like(problem.step, dtype="bool")
        return x, memory | {
            "last": x,
            "before": zeros,
            "rises": zeros,
            "seen": zeros,
            "halved": never,
        }

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        value, gradient = problem.gradient(x, self.loss)
        plan = phases(self.steps, self.radii)
        fresh = _among(problem.step, [start for start, _, _ in plan])
        better = ops.logical_or(fresh, value > memory["value"])
        images = rows(better, x)
        kept = {
            "best": ops.where(images, x, memory["best"]),
            "gradient": ops.where(images, gradient, memory["gradient"]),
            "value": ops.where(better, value, memory["value"]),
        }
        advance = self._sparse if isinstance(problem.budget, L1) else self._dense
        ahead, memory = advance(problem, x, value, gradient, kept, memory, fresh, plan)
        if len(plan) > 1:  # the next phase begins at the best point, in its own ball
            turn = _among(problem.step + 1, [start for start, _, _ in plan[1:]])
            inner = self._inside(problem, memory["best"], self._width(problem, 1))
            ahead = ops.where(rows(turn, x), inner, ahead)
        return ahead, memory

    def _dense(
        self,
        problem: Problem,
        x: Tensor,
        value: Tensor,
        gradient: Tensor,
        kept: Any,
        memory: Any,
        fresh: Tensor,
        plan: Any,
    ) -> tuple[Tensor, Any]:
        looks = {
            start + at: count
            for start, length, _ in plan
            for at, count in checkpoints(length).items()
        }
        checked = _among(problem.step, list(looks))
        rose = ops.logical_and(value > memory["before"], ops.logical_not(fresh))
        rises = ops.where(fresh, 0.0, memory["rises"]) + ops.cast(rose, "float32")
        seen = ops.where(fresh, value, memory["seen"])
        halved = ops.logical_or(fresh, memory["halved"])
        rarely = rises <= self.rho * _lookup(problem.step, looks, -1.0)
        idle = ops.logical_and(ops.logical_not(halved), seen >= kept["value"])
        halve = ops.logical_and(checked, ops.logical_or(rarely, idle))
        size = ops.where(fresh, 2.0, memory["size"])
        size = ops.where(halve, size / 2, size)
        back = rows(halve, x)

        def returned() -> tuple[Tensor, Tensor]:
            return ops.where(back, kept["best"], x), ops.where(back, kept["gradient"], gradient)

        here, slope = ops.cond(ops.any(halve), returned, lambda: (x, gradient))
        width = self._width(problem)
        stride = rows(size * width * problem.epsilon, x) * problem.budget.steepest(slope)
        target = self._inside(problem, here + stride, width)
        drift = ops.where(rows(fresh, x), target - here, here - memory["last"])
        ahead = self._inside(
            problem, here + MOMENTUM * (target - here) + (1 - MOMENTUM) * drift, width
        )
        state = {
            "last": here,
            "before": value,
            "rises": ops.where(checked, 0.0, rises),
            "seen": ops.where(checked, kept["value"], seen),
            "halved": ops.where(checked, halve, halved),
            "size": size,
        }
        return ahead, kept | state

    def _sparse(
        self,
        problem: Problem,
        x: Tensor,
        value: Tensor,
        gradient: Tensor,
        kept: Any,
        memory: Any,
        fresh: Tensor,
        plan: Any,
    ) -> tuple[Tensor, Any]:
        elements = math.prod(x.shape[1:])
        looks = [
            start + at
            for start, length, _ in plan
            for at in range(max(int(PERIOD * length), 1), length, max(int(PERIOD * length), 1))
        ]
        checked = ops.logical_or(fresh, _among(problem.step, looks))

        def looked() -> tuple[Tensor, Tensor, Tensor, Tensor]:
            changed = ops.sum(
                ops.cast(ops.not_equal(flat(kept["best"]), flat(problem.x0)), "float32"), axis=1
            )
            sparser = ops.logical_and(changed < 0.95 * memory["changed"], ops.logical_not(fresh))
            smaller = ops.maximum(memory["size"] / SHRINK, 1 / SMALLEST)
            size = ops.where(ops.logical_or(fresh, sparser), 1.0, smaller)
            share = changed / elements / SPARSER
            if len(plan) == 1:  # the first point is dense noise: it says nothing
                share, changed = (
                    ops.where(fresh, SHARE, share),
                    ops.where(fresh, float(elements), changed),
                )
            return (
                ops.where(checked, size, memory["size"]),
                ops.where(checked, share, memory["share"]),
                ops.where(checked, changed, memory["changed"]),
                ops.logical_and(checked, sparser),
            )

        never = ops.zeros_like(fresh)
        size, share, changed, back = ops.cond(
            ops.any(checked),
            looked,
            lambda: (memory["size"], memory["share"], memory["changed"], never),
        )
        here = ops.where(rows(back, x), kept["best"], x)
        slope = ops.where(rows(back, x), kept["gradient"], gradient)
        weight = flat(ops.abs(slope))
        first = ops.cast(ops.clip((1 - share) * elements, 0, elements - 1), "int32")
        least = ops.take_along_axis(ops.sort(weight, axis=1), ops.expand_dims(first, 1), axis=1)
        chosen = ops.reshape(ops.logical_and(weight >= least, weight > 0), ops.shape(x))
        direction = unit(ops.where(chosen, ops.sign(slope), 0.0), order=1)
        width = self._width(problem)
        ahead = self._inside(
            problem, here + rows(size * width * problem.epsilon, x) * direction, width
        )
        return ahead, kept | {"size": size, "share": share, "changed": changed}

    def _width(self, problem: Problem, later: int = 0) -> Tensor:
        """The radius of each example's ball, in units of epsilon."""
        first, *others = phases(self.steps, self.radii)
        factor = ops.ones_like(problem.progress) * first[2]
        for start, _, radius in others:
            factor = ops.where(problem.step + later >= start, float(radius), factor)
        return factor

    def _inside(self, problem: Problem, x: Tensor, width: Tensor) -> Tensor:
        """The nearest point of box and ball; in the wider balls of ``radii`` too."""
        return problem.project(x, width if len(self.radii) > 1 else None)
