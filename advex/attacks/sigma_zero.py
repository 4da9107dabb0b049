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
    r"""sigma-zero: descent on a smooth count of the changed elements, the smallest of which are set
    back.

    When to use it:
        For the fewest changed elements (L0), with gradients. The first member of
        `MinimumNorm("L0")`. For whole colour pixels, or without gradients, see `SparseRS` and
        `Pointwise`.

    $$
    \min_x \; \max(-f(x),\, 0) + \frac{1}{d} \sum_{i=1}^{d} \frac{\delta_i^2}{\delta_i^2 + \sigma},
    \qquad
    \delta_i \leftarrow 0 \;\;\text{where}\;\; |\delta_i| < \tau_t
    $$

    $f$ is the margin, $\delta = (x - x_0) / (u - l)$ the change in units of the box's range, $d$
    the number of elements. Adam descends along the gradient divided by its largest element. After
    every step small elements are set back to the input. Their threshold $\tau_t$ rises after a
    success and falls otherwise. The step falls along a cosine to a tenth.

    Args:
        steps: number of steps, a whole number from 1. The paper: 1,000.
        step_size: Adam's first step, in units of the box's range, above 0. The paper: 1.
        sigma: how sharply small changes are told from none, above 0. The paper: 0.001.
        threshold: the first threshold, above 0. The paper: 0.3.
        threshold_step: by how much it changes from step to step, times the step size, above 0. The
            paper: 0.01.
        patience: an example leaves after this many steps without a smaller perturbation. None:
            never.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for a norm other than `L0`.

    Cost:
        One query and one gradient a step.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = SigmaZero(steps=200)(advex.testing.linear_model(), x, labels, advex.L0())
        >>> bool(result.success.all())
        True

    Reference:
        Cinà, Villani, Pintor, Schönherr, Biggio and Pelillo, sigma-zero: gradient-based
        optimization of l0-norm adversarial examples, ICLR 2025. https://arxiv.org/abs/2402.01879

    Deviations:
        None known.
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
