"""NI-FGSM: momentum whose gradient is taken where the momentum leads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras import ops

from advex._arrays import Tensor, unit
from advex._settings import setting
from advex.attacks.base import Attack, StepSize
from advex.attacks.schedules import at
from advex.driver.problem import Loss, Problem
from advex.losses import cross_entropy


@dataclass(frozen=True, kw_only=True)
class NesterovIterative(Attack):
    """velocity <- decay * velocity + g / |g|_1, g the gradient at the point ahead; x <- project(x +
    step * steepest(velocity)).

    The point ahead is where ``decay * velocity`` alone would lead: project(x + step_size * epsilon
    * decay * steepest(velocity)).

    Args:
        steps: number of steps.
        step_size: in units of epsilon: a number, or a function of progress (0 to 1).
        decay: the paper's mu.
        loss: what is climbed: ``(logits, goal) -> (batch,)``.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> NesterovIterative()(advex.testing.linear_model(), x, labels,
        ...     advex.Linf(0.1)).success.shape
        (32,)

    Reference: Lin et al., Nesterov accelerated gradient and scale invariance for adversarial
    attacks, 2020. Deviations: the point ahead is a steepest step inside the budget, so that it can
    be a success itself (the paper adds ``alpha mu velocity``, whose size depends on the number of
    elements); the default step is epsilon / 4 (the paper: ``step_size=1/steps``).
    """

    steps: int = setting(10, "whole")
    step_size: StepSize = setting(0.25, "schedule", above=0)
    decay: float = setting(1.0, "number", at_least=0)
    loss: Loss = setting(cross_entropy, "function")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return problem.x0, ops.zeros_like(problem.x0)

    def step(self, problem: Problem, x: Tensor, velocity: Any) -> tuple[Tensor, Any]:
        length = at(self.step_size, problem)
        ahead = problem.move(x, velocity, length * self.decay)
        _, gradient = problem.gradient(ahead, self.loss)
        velocity = self.decay * velocity + unit(gradient, order=1)
        return problem.move(x, velocity, length), velocity
