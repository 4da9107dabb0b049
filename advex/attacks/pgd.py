"""PGD: repeated steepest steps from a random point of the budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from advex._arrays import Tensor
from advex._settings import setting
from advex.attacks.base import Attack, StepSize
from advex.attacks.schedules import at
from advex.driver.problem import Loss, Problem
from advex.losses import cross_entropy


@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Projected gradient descent (ascent of the loss) from a random start.

    x <- project(x + step_size * epsilon * steepest(gradient)), from a point drawn uniformly from
    the ball and put into the box.

    Args:
        steps: number of steps.
        step_size: in units of epsilon: a number, or a function of progress (0 to 1).
        loss: what is climbed: ``(logits, goal) -> (batch,)``.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> PGD(steps=20)(advex.testing.linear_model(), x, labels, advex.L1(2)).success.dtype
        dtype('bool')

    Reference: Madry, Makelov, Schmidt, Tsipras and Vladu, Towards deep learning models resistant to
    adversarial attacks, 2018. Deviations: an example leaves at its first success; every norm (in L1
    the step is shared by 1 % of the elements).
    """

    steps: int = setting(40, "whole")
    step_size: StepSize = setting(0.25, "schedule", above=0)
    loss: Loss = setting(cross_entropy, "function")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return problem.project(problem.x0 + problem.budget.sample(problem)), ()

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        _, gradient = problem.gradient(x, self.loss)
        return problem.move(x, gradient, at(self.step_size, problem)), memory
