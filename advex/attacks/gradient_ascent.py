"""Gradient ascent: steps of the raw gradient times a learning rate, as in early tutorials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from advex._arrays import Tensor, rows
from advex._settings import setting
from advex.attacks.base import Attack, StepSize
from advex.attacks.schedules import at
from advex.driver.problem import Loss, Problem
from advex.losses import confidence


@dataclass(frozen=True, kw_only=True)
class GradientAscent(Attack):
    """x <- project(x + learning_rate * gradient), until the goal is reached.

    Drives the probability of a class up to what ``Targeted(label, confidence=0.8)`` demands. The
    gradient keeps its own size: where the probability is flat, the ascent is slow; ``PGD`` and
    ``MomentumIterative`` step as far as anywhere else.

    Args:
        steps: number of steps at most.
        learning_rate: factor of the gradient, in the model's units: a number, or a function of
            progress (0 to 1).
        loss: what is climbed; by default the raw probability.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = GradientAscent(learning_rate=0.1)(advex.testing.linear_model(), x,
        ...     advex.Targeted(1 - labels), advex.Linf())
        >>> result.success.all()
        np.True_
    """

    needs_epsilon: ClassVar[bool] = False
    steps: int = setting(100, "whole")
    learning_rate: StepSize = setting(0.1, "schedule", above=0)
    loss: Loss = setting(confidence, "function")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return problem.x0, ()

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        _, gradient = problem.gradient(x, self.loss)
        rate = at(self.learning_rate, problem, "learning_rate")
        rate = rows(rate, x) if len(getattr(rate, "shape", ())) == 1 else rate
        return problem.project(x + rate * gradient), memory
