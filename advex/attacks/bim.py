"""BIM: repeated steepest steps from the input itself."""

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
class BIM(Attack):
    """Basic iterative method: x <- project(x + step_size * epsilon * steepest(gradient)), from x0.

    Args:
        steps: number of steps.
        step_size: in units of epsilon: a number, or a function of progress (0 to 1).
        loss: what is climbed: ``(logits, goal) -> (batch,)``.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> BIM(steps=5)(advex.testing.linear_model(), x, labels, advex.L2(0.5)).distance.shape
        (32,)

    Reference: Kurakin, Goodfellow and Bengio, Adversarial examples in the physical world, 2017.
    Deviation: the step is a fixed fraction of epsilon (the paper: one grey level); every norm.
    """

    steps: int = setting(10, "whole")
    step_size: StepSize = setting(0.25, "schedule", above=0)
    loss: Loss = setting(cross_entropy, "function")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return problem.x0, ()

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        _, gradient = problem.gradient(x, self.loss)
        return problem.move(x, gradient, at(self.step_size, problem)), memory
