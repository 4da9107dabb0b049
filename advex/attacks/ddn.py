"""DDN: a step along the gradient, then onto a sphere that shrinks inside the boundary and grows
outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, rows, unit
from advex._settings import real_number
from advex.attacks.base import Attack
from advex.attacks.schedules import cosine
from advex.budgets import L2, Budget
from advex.driver.problem import Loss, Problem
from advex.errors import InvalidInput
from advex.goals import Goal
from advex.losses import cross_entropy


@dataclass(frozen=True, kw_only=True)
class DDN(Attack):
    """Decoupled direction and norm: the direction follows the gradient, the length how the last
    point was judged.

    d = d + a g / |g|, then x = x0 + r d / |d|, cut at the box: r is multiplied by 1 - gamma after a
    success, else by 1 + gamma. The step a falls from ``step_size`` to a hundredth of it, along a
    cosine.

    Args:
        steps: number of steps, one query and one gradient each.
        gamma: by what share the radius changes from step to step, above 0 and below 1.
        radius: the first radius, in units of the box's range. With ``start=``: that of the start.
        step_size: length of the first step, in units of the box's range.
        patience: an example leaves after so many steps that made its perturbation no smaller. None:
            never.
        loss: what is climbed: ``(logits, goal) -> (batch,)``.

    Raises:
        InvalidInput: at the call, for another norm than ``L2``; for shares outside their limits.
        InvalidType: a setting that is no number.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = DDN(steps=50)(advex.testing.linear_model(), x, labels, advex.L2())
        >>> bool(result.success.all())
        True

    Reference: Rony, Hafemann, Oliveira, Ben Ayed, Sabourin and Granger, Decoupling direction and
    norm for efficient gradient-based L2 adversarial attacks and defenses, 2019. Deviation: no
    quantisation of its own (8-bit inputs have their grid, all others none).
    """

    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = 300
    gamma: float = 0.05
    radius: float = 1.0
    step_size: float = 1.0
    patience: int | None = None
    loss: Loss = cross_entropy

    def __post_init__(self) -> None:
        real_number("DDN(radius=...)", self.radius, strict=True)
        if real_number("DDN(gamma=...)", self.gamma, strict=True) >= 1:
            raise InvalidInput(f"DDN(gamma=...) is a share, below 1; received {self.gamma!r}")

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        if not isinstance(budget, L2):
            raise InvalidInput(
                f"DDN works in L2 alone; received {budget!r}: use FMN for the other norms"
            )

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        size = problem.budget.size(problem.start - problem.x0)
        return problem.start, ops.where(size > 0, size, self.radius * problem.span)

    def step(self, problem: Problem, x: Tensor, memory: Tensor) -> tuple[Tensor, Any]:
        _, gradient = problem.gradient(x, self.loss)
        delta = x - problem.x0
        radius = memory * ops.where(problem.reached, 1 - self.gamma, 1 + self.gamma)
        length = cosine(self.step_size, self.step_size / 100, problem) * problem.span
        delta = delta + rows(length, x) * unit(gradient, order=2)
        ahead = ops.clip(problem.x0 + rows(radius, x) * unit(delta, order=2), *problem.box)
        return ahead, radius
