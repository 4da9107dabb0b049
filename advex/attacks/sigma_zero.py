"""sigma-zero: gradient descent on a smooth count of the changed elements, the smallest of which are
set back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, flat, rows, unit
from advex._settings import setting
from advex.attacks._parts import Moments, adam
from advex.attacks.base import Attack
from advex.attacks.hyperplane import boundary
from advex.attacks.schedules import cosine
from advex.budgets import L0
from advex.driver.problem import Problem

ADAM_EPSILON = 1e-5  # a smaller slope is taken for a rounding error of the largest


@dataclass(frozen=True, kw_only=True)
class SigmaZero(Attack):
    """Minimises max(-f, 0) + mean(d^2 / (d^2 + sigma)), f the margin, by Adam on the gradient
    divided by its largest element.

    Elements whose change is below a threshold are set back to the original after every step; the
    threshold rises after a success and falls otherwise. d and the threshold are in units of the
    box's range; the step falls along a cosine to a tenth.

    Args:
        steps: number of steps, one query and one gradient each.
        step_size: Adam's first step, in units of the box's range.
        sigma: how sharply small changes are told from none.
        threshold: the first threshold.
        threshold_step: by how much it changes from step to step, times the step size.
        patience: an example leaves after this many steps without a smaller perturbation. None:
            never.

    Raises:
        InvalidInput: at the call, for another norm than ``L0``; a setting that is not above 0.
        InvalidType: a setting that is no number.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = SigmaZero(steps=200)(advex.testing.linear_model(), x, labels, advex.L0())
        >>> bool(result.success.all())
        True

    Reference: Cina, Villani, Pintor, Schoenherr, Biggio and Pelillo, sigma-zero: gradient-based
    optimization of l0-norm adversarial examples, 2024. Deviations: none known.
    """

    norms: ClassVar = (L0,)
    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = setting(1000, "whole")
    step_size: float = setting(1.0, "number", above=0)
    sigma: float = setting(1e-3, "number", above=0)
    threshold: float = setting(0.3, "number", above=0)
    threshold_step: float = setting(0.01, "number", above=0)
    patience: int | None = setting(None, "whole")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        threshold = self.threshold * ops.ones_like(problem.progress)
        return problem.start, {"adam": Moments.zeros(problem.x0), "threshold": threshold}

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        x0, span, sigma, box = problem.x0, problem.span, self.sigma, problem.box
        value, gradient = problem.gradient(x, boundary)
        delta = (x - x0) / span
        # the gradient of mean(d^2 / (d^2 + sigma))
        count = 2 * sigma * delta / ops.square(ops.square(delta) + sigma) / flat(delta).shape[1]
        climb = span * rows(ops.where(value > 0, 0.0, 1.0), x) * gradient
        descent = unit(count - climb, order=float("inf"))
        direction, moments = adam(memory["adam"], descent, problem.step, ADAM_EPSILON)
        size = cosine(self.step_size, self.step_size / 10, problem)
        delta = ops.clip(x0 + span * (delta - rows(size, x) * direction), *box) - x0
        rise = ops.where(problem.reached, 1.0, -1.0) * self.threshold_step * size
        threshold = ops.clip(memory["threshold"] + rise, 0.0, 1.0)
        kept = ops.abs(delta) >= rows(threshold, x) * span
        ahead = ops.clip(x0 + ops.where(kept, delta, 0.0), *box)
        return ahead, {"adam": moments, "threshold": threshold}
