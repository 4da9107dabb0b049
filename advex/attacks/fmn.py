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
    r"""Fast minimum norm: gradient steps, projected onto a ball whose radius is found on the way.

    When to use it:
        For the smallest perturbation in any of the four norms with few steps, one gradient each. It
        also follows goals of every kind. `MinimumNorm` combines it with others for smaller results.

    $$
    x_{t+1} = \Pi_{\varepsilon_t}\Bigl(x_t + \alpha_t\,
    \frac{\nabla_x f(x_t)}{\lVert \nabla_x f(x_t) \rVert_2}\Bigr)
    $$

    $$
    \varepsilon_t = \begin{cases}
    (1 - \gamma_t)\,\min(\varepsilon_{t-1}, \varepsilon^\ast) & \text{after a success} \\
    \lVert x_t - x_0 \rVert + |f(x_t)| / \lVert \nabla_x f(x_t) \rVert_\ast \text{, times } 1 +
    \gamma_t & \text{no success so far} \\
    (1 + \gamma_t)\,\varepsilon_{t-1} & \text{otherwise}
    \end{cases}
    $$

    $f$ is the margin, above 0 across the boundary, $x_0$ the input and $\varepsilon^\ast$ the
    smallest success. $\lVert \cdot \rVert_\ast$ is the dual norm, so that the second line is the
    distance at which the linearised boundary lies. $\Pi_\varepsilon$ takes the nearest point of the
    ball of radius $\varepsilon$ and of the box. $\alpha_t$ and $\gamma_t$ fall along a cosine, to a
    hundredth of `step_size` and to 0.001. In L0 the radius changes by one element at least.

    Args:
        steps: number of steps, a whole number from 1.
        step_size: Euclidean length of the first step, in units of the box's range, above 0. The
            paper: 1.
        gamma: by what share the radius changes at first, above 0 and below 1. The paper: 0.05.
        patience: an example leaves after this many steps without a smaller perturbation. None:
            never.
        loss: the margin f, zero on the boundary, a function `(logits, goal) -> (batch,)`.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range.

    Cost:
        One query and one gradient a step.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = FMN(steps=100)(advex.testing.linear_model(), x, labels, advex.L1())
        >>> bool(result.success.all())
        True

    Reference:
        Pintor, Roli, Brendel and Biggio, Fast minimum-norm adversarial attacks through adaptive
        norm constraints, NeurIPS 2021. https://arxiv.org/abs/2102.12827

    Deviations:
        The projection is the exact one onto ball and box together. The first radius goes beyond the
        linearised boundary by the share gamma. The first step is 2 long, not 1, which finds smaller
        changes in every norm.
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
