"""FMN: a step along the gradient, then onto a ball that shrinks inside the boundary and grows
outside, in every norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, rows, unit
from advex._settings import setting
from advex.attacks.base import Attack
from advex.attacks.hyperplane import boundary
from advex.attacks.schedules import cosine
from advex.budgets import L0
from advex.driver.problem import Loss, Problem

FINAL_GAMMA = 1e-3  # the share by which the ball changes in the last step
SMALLEST_SIZE = 1e-12  # guards divisions


@dataclass(frozen=True, kw_only=True)
class FMN(Attack):
    """Fast minimum norm: gradient steps, projected onto a ball whose radius is found at the same
    time.

    After a success the radius becomes that of the smallest success, less the share gamma. Otherwise
    it grows by gamma; as long as there has been no success, it is the distance at which the
    linearised boundary lies: size + |f| / |grad f|_dual. In L0 it changes by one element at least.
    Step and gamma fall along a cosine, to a hundredth of ``step_size`` and to 0.001.

    Args:
        steps: number of steps, one query and one gradient each.
        step_size: Euclidean length of the first step, in units of the box's range.
        gamma: by what share the radius changes at first, above 0 and below 1.
        patience: an example leaves after this many steps without a smaller perturbation. None:
            never.
        loss: what is climbed; zero on the boundary: ``(logits, goal) -> (batch,)``.

    Raises:
        InvalidInput: a share outside its limits. InvalidType: a setting that is no number.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = FMN(steps=100)(advex.testing.linear_model(), x, labels, advex.L1())
        >>> bool(result.success.all())
        True

    Reference: Pintor, Roli, Brendel and Biggio, Fast minimum-norm adversarial attacks through
    adaptive norm constraints, 2021. Deviations: the projection is the exact one onto ball and box
    together; the first radius goes beyond the linearised boundary by the share gamma; the first
    step is 2 long, not 1, which finds smaller changes in every norm.
    """

    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = setting(300, "whole")
    step_size: float = setting(2.0, "number", above=0)
    gamma: float = setting(0.05, "number", above=0, below=1)
    patience: int | None = setting(None, "whole")
    loss: Loss = setting(boundary, "function")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        size = problem.budget.size(problem.start - problem.x0)
        return problem.start, {"radius": size, "best": ops.full_like(size, float("inf"))}

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        budget, before = problem.budget, memory["radius"]
        value, gradient = problem.gradient(x, self.loss)
        success, size = problem.reached, budget.size(x - problem.x0)
        best = ops.where(success, ops.minimum(memory["best"], size), memory["best"])
        gamma = cosine(self.gamma, FINAL_GAMMA, problem)
        inner, outer = ops.minimum(before, best) * (1 - gamma), before * (1 + gamma)
        if isinstance(budget, L0):
            inner = ops.minimum(ops.floor(inner), best - 1)
            outer = ops.maximum(ops.floor(outer), before + 1)
        else:
            # A little farther than the boundary, or rounding errors may keep an example just before
            # it for ever.
            way = ops.abs(value) / ops.maximum(budget.dual(gradient), SMALLEST_SIZE)
            outer = ops.where(best < float("inf"), outer, (size + way) * (1 + gamma))
        radius = ops.where(success, inner, outer)
        length = cosine(self.step_size, self.step_size / 100, problem) * problem.width
        ahead = problem.around(x + rows(length, x) * unit(gradient, order=2), radius)
        return ahead, {"radius": radius, "best": best}
