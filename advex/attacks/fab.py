"""FAB: along the decision boundary, towards the point of it that is nearest to the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, flat, rows
from advex._settings import setting
from advex.attacks.base import Attack
from advex.attacks.hyperplane import classes_at_start, linearised
from advex.budgets import L0
from advex.driver.problem import Problem
from advex.errors import InvalidInput
from advex.goals import INFINITY

# of the box's range: the distance from the original that counts where an example is still nearer
SMALLEST_DISTANCE = 1e-5
MAX_PUSH = 1024.0  # how much farther than usual a step may aim behind the boundary
SMALLEST_SIZE = 1e-30  # guards divisions


@dataclass(frozen=True, kw_only=True)
class FAB(Attack):
    """Projections onto the linearised decision boundary, drawn towards the original: looks for the
    smallest perturbation.

    The model's answer at x is taken for linear, f(y) = f(x) + g (y - x). Current point and original
    are each projected onto the part of f = 0 that lies in the box, exactly, in the budget's norm,
    and a little beyond it. The next point lies between these two, nearer to the first: (1 - a) P(x)
    + a P(x0), a = min(d / (d + d0), ``alpha``), d and d0 their distances. An adversarial x is moved
    back first, to x0 + ``backward`` (x - x0).

    With a target (``Targeted``, or ``EveryTarget`` around the attack) f is the margin, and a step
    costs one gradient. Without, f is that of several wrong classes whose linearised boundary is
    nearest, and a step costs a gradient for each and one more. Without a limit (``Linf()``) the
    smallest perturbation is kept; with one an example leaves at the first success inside it.

    Args:
        steps: number of steps, one query each.
        alpha: largest share of the original's projection (alpha_max), 0 to 1.
        overshoot: how far beyond the boundary a step aims, as a share of the way to it (eta = 1 +
            ``overshoot``).
        backward: what is left of an adversarial perturbation that is moved back (beta), above 0 and
            below 1.
        classes: without a target, how many wrong classes are looked at, the likeliest at the last
            point.

    Raises:
        InvalidInput: at the call, for ``L0``, whose boundary has no nearest point; for shares
        outside their limits. InvalidType: a setting that is no number.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = FAB(steps=10)(advex.testing.linear_model(), x, labels, advex.L2())
        >>> bool(result.success.all())
        True

    Reference: Croce and Hein, Minimally distorted adversarial examples with a fast adaptive
    boundary attack, 2020. Deviations: one query a step instead of two, as f is linearised at the
    adversarial point itself, before the move back. Where the projection is then not nearer to the
    original than x, the point that was moved back is taken as it is. The hyperplane is shifted, for
    both projections alike, where the paper stretches the step and cuts it at the box; by no less
    than after a move back, so that a point just before the boundary crosses it too, and by twice as
    much again and again as long as it does not. Nine wrong classes, not all. No final search: it
    gained 0.2 % in 100 steps and lost 4 % in 20. ``Restarts``: the first run begins at the
    original, the others at a random point after one step, half as far away as the linearised
    boundary (or as epsilon, or as a tenth of the box, if that is less).
    """

    lacks: ClassVar = (L0,)
    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = setting(100, "whole")
    alpha: float = setting(0.1, "number", at_least=0)
    overshoot: float = setting(0.05, "number", above=0)
    backward: float = setting(0.9, "number", above=0)
    classes: int = setting(9, "whole")

    def __post_init__(self) -> None:
        if self.alpha > 1 or self.backward >= 1:
            raise InvalidInput(
                f"alpha is at most 1 and backward below 1; received alpha={self.alpha},"
                f" backward={self.backward}"
            )

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return problem.start, {"push": ops.ones_like(problem.progress)} | classes_at_start(
            problem, self.classes
        )

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        x0, budget, span, (low, high) = problem.x0, problem.budget, problem.span, problem.box
        shown = problem.shown(x)
        value, normal, memory = linearised(problem, x, memory)
        crossed, push, missing = problem.reached, memory["push"], -value
        # 8-bit: a point outside a limited budget is shown inside, and nothing is known of it
        if shown is not x:
            half = span / 510
            x = shown + ops.clip(x - shown, -half, half)
            missing = missing - ops.sum(flat(normal * (x - shown)), axis=1)
        delta = x - x0
        size, slope = budget.size(delta), ops.sum(flat(normal * delta), axis=1)
        least = (
            self.overshoot
            * (1 - self.backward)
            * ops.maximum(ops.abs(slope), SMALLEST_DISTANCE * problem.width * budget.dual(normal))
        )

        back = ops.where(crossed, 1 - self.backward, 0.0)
        here = x - rows(back, x) * delta
        beyond = ops.maximum(self.overshoot * ops.abs(missing + back * slope), push * least)
        near = budget.onto(here, normal, missing + back * slope + beyond, low, high)
        nearest = budget.onto(x0, normal, missing + slope + beyond, low, high)
        way, whole = budget.size(near - here), budget.size(nearest - x0)
        share = ops.minimum(way / ops.maximum(way + whole, SMALLEST_SIZE), self.alpha)
        ahead = ops.clip(near + rows(share, x) * (nearest - near), low, high)
        farther = ops.logical_and(crossed, budget.size(ahead - x0) >= size)
        ahead = ops.where(rows(farther, x), here, ahead)
        short = ops.logical_and(ops.logical_not(crossed), missing < least)
        push = ops.clip(ops.where(short, 2 * push, push / 2), 1.0, MAX_PUSH)
        return self._started(problem, ahead, whole), memory | {"push": push}

    def _started(self, problem: Problem, ahead: Tensor, distance: Tensor) -> Tensor:
        """``ahead``, but after the first step of a repetition a random point around the
        original.
        """
        fresh = ops.logical_and(ops.equal(problem.step, 0), problem.run > 0)

        def drawn() -> Tensor:
            x0, budget = problem.x0, problem.budget
            noise = budget.bound(1.0).sample(problem)
            reach = (
                problem.epsilon
                if budget.limited
                else 0.1 * budget.size(ops.ones_like(x0) * problem.span)
            )
            radius = 0.5 * ops.minimum(ops.where(distance > 0, distance, INFINITY), reach)
            start = x0 + noise * rows(radius / ops.maximum(budget.size(noise), SMALLEST_SIZE), x0)
            return ops.where(rows(fresh, x0), ops.clip(start, *problem.box), ahead)

        return ops.cond(ops.any(fresh), drawn, lambda: ahead)
