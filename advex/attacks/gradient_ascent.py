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
    r"""Steps of the raw gradient times a learning rate, until the goal is reached.

    When to use it:
        To learn, and to reproduce old tutorials that drive the probability of a class up with plain
        gradient ascent. Where the probability is flat the ascent is slow; `PGD` and
        `MomentumIterative` step as far there as anywhere else.

    $$ x_{t+1} = \Pi\bigl(x_t + \eta\, \nabla_x \ell(x_t)\bigr), \qquad x_0 = \text{the input} $$

    $\Pi$ takes the nearest point of budget and box, $\eta$ is `learning_rate`, and $\ell$ is the
    probability of the target. The gradient keeps its own size. With `Targeted(label,
    confidence=0.8)` the ascent ends at the first point where the class has a probability of 0.8.

    Args:
        steps: number of steps at most, a whole number from 1.
        learning_rate: factor of the gradient, in the units of the model, above 0: a number, or a
            function of progress (0 to 1).
        loss: what is climbed, a function `(logits, goal) -> (batch,)`; by default the raw
            probability.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range.

    Cost:
        One query and one gradient a step. An example leaves at its first success.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = GradientAscent(learning_rate=0.1)(advex.testing.linear_model(), x,
        ...     advex.Targeted(1 - labels), advex.Linf())
        >>> result.success.all()
        np.True_

    Reference:
        Simonyan, Vedaldi and Zisserman, Deep inside convolutional networks: visualising image
        classification models and saliency maps, 2013, ascends a class score likewise.
        https://arxiv.org/abs/1312.6034

    Deviations:
        The paper makes an image of a class from nothing, with a penalty on its length. Here the
        ascent begins at an input, and a budget takes the place of the penalty.
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
