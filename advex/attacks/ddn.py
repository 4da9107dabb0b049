"""DDN: a step along the gradient, then onto a sphere that shrinks inside the boundary and grows
outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, rows, unit
from advex._settings import setting
from advex.attacks.base import Attack
from advex.attacks.schedules import cosine
from advex.budgets import L2
from advex.driver.problem import Loss, Problem
from advex.losses import cross_entropy


@dataclass(frozen=True, kw_only=True)
class DDN(Attack):
    r"""Decoupled direction and norm: the direction follows the gradient, the length follows how the
    last point was judged.

    When to use it:
        For small L2 perturbations in few steps, and as the inner attack of L2 training. On hardened
        models `PDGD`, `ALMA` and `MinimumNorm("L2")` find smaller ones.

    $$
    x_{t+1} = \mathrm{clip}\Bigl(x_0 + r_{t+1}\,\frac{\delta_t}{\lVert \delta_t \rVert_2}\Bigr),
    \qquad \delta_t = x_t - x_0 + \alpha_t\,\frac{\nabla_x \ell(x_t)}{\lVert \nabla_x \ell(x_t)
    \rVert_2}
    $$

    $$
    r_{t+1} = \begin{cases}
    (1 - \gamma)\, r_t & \text{after a success} \\
    (1 + \gamma)\, r_t & \text{otherwise}
    \end{cases}
    $$

    $x_0$ is the input, $\ell$ the loss, $r$ the radius; clip cuts at the box. The step $\alpha_t$
    falls from `step_size` to a hundredth of it along a cosine.

    Args:
        steps: number of steps, a whole number from 1. The paper: 100, 300 and 1,000.
        gamma: by what share the radius changes from step to step, above 0 and below 1. The paper:
            0.05.
        radius: the first radius, in units of the box's range, above 0. With `start=`: that of the
            start. The paper: 1.
        step_size: length of the first step, in units of the box's range, above 0. The paper: 1.
        patience: an example leaves after this many steps without a smaller perturbation. None:
            never.
        loss: what is climbed, a function `(logits, goal) -> (batch,)`. The paper: cross-entropy.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for a norm other than `L2`.

    Cost:
        One query and one gradient a step.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = DDN(steps=50)(advex.testing.linear_model(), x, labels, advex.L2())
        >>> bool(result.success.all())
        True

    Reference:
        Rony, Hafemann, Oliveira, Ben Ayed, Sabourin and Granger, Decoupling direction and norm for
        efficient gradient-based L2 adversarial attacks and defenses, CVPR 2019.
        https://arxiv.org/abs/1811.09600

    Deviations:
        No quantisation of its own: 8-bit inputs have their grid, all others none.
    """

    norms: ClassVar = (L2,)
    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = setting(300, "whole")
    gamma: float = setting(0.05, "number", above=0, below=1)
    radius: float = setting(1.0, "number", above=0)
    step_size: float = setting(1.0, "number", above=0)
    patience: int | None = setting(None, "whole")
    loss: Loss = setting(cross_entropy, "function")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        size = problem.budget.size(problem.start - problem.x0)
        return problem.start, ops.where(size > 0, size, self.radius * problem.width)

    def step(self, problem: Problem, x: Tensor, memory: Tensor) -> tuple[Tensor, Any]:
        x0 = problem.x0
        _, gradient = problem.gradient(x, self.loss)
        radius = memory * ops.where(problem.reached, 1 - self.gamma, 1 + self.gamma)
        length = cosine(self.step_size, self.step_size / 100, problem) * problem.width
        delta = x - x0 + rows(length, x) * unit(gradient, order=2)
        return ops.clip(x0 + rows(radius, x) * unit(delta, order=2), *problem.box), radius
