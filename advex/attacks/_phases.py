"""The balls of APGD: wide ones first, each for a share of the steps, and the best point in each."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from advex._arrays import Tensor, rows
from advex.driver.problem import Problem


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


class Phases(NamedTuple):
    """The phases of a search of so many ``steps`` in balls of ``radii`` times epsilon."""

    steps: int
    radii: tuple[float, ...]

    @property
    def plan(self) -> list[tuple[int, int, float]]:
        return phases(self.steps, self.radii)

    def begin(self, step: Tensor) -> Tensor:
        """Whether a phase begins with each example's step, (batch,) of bool."""
        return among(step, [start for start, _, _ in self.plan])

    def width(self, step: Tensor) -> Tensor:
        """The radius of each example's ball, in units of epsilon: (batch,)."""
        first, *others = self.plan
        width = ops.ones_like(step, dtype="float32") * first[2]
        for start, _, radius in others:
            width = ops.where(step >= start, float(radius), width)
        return width

    def inside(self, problem: Problem, x: Tensor, later: int = 0) -> Tensor:
        """The nearest point of box and ball; of the ball so many steps ``later``."""
        wide = self.width(problem.step + later) if len(self.radii) > 1 else None
        return problem.project(x, wide)

    def turned(self, problem: Problem, ahead: Tensor, best: Tensor) -> Tensor:
        """The next points: a phase begins at the best point of the last one, in its own ball."""
        plan = self.plan
        if len(plan) == 1:
            return ahead
        turn = among(problem.step + 1, [start for start, _, _ in plan[1:]])
        return ops.where(rows(turn, ahead), self.inside(problem, best, later=1), ahead)


def best_so_far(
    memory: Any, x: Tensor, value: Tensor, gradient: Tensor, fresh: Tensor
) -> dict[str, Tensor]:
    """The best point of the phase, its gradient and its value; where ``fresh`` that is x."""
    better = ops.logical_or(fresh, value > memory["value"])
    images = rows(better, x)
    return {
        "best": ops.where(images, x, memory["best"]),
        "gradient": ops.where(images, gradient, memory["gradient"]),
        "value": ops.where(better, value, memory["value"]),
    }


def among(step: Tensor, numbers: list[int]) -> Tensor:
    """Whether each example's step is one of the numbers, (batch,) of bool."""
    if not numbers:
        return ops.zeros_like(step, dtype="bool")
    known = ops.convert_to_tensor(np.asarray([numbers], "int32"))
    return ops.any(ops.expand_dims(step, 1) == known, axis=1)
