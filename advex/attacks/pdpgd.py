"""PDPGD: the norm and the margin in one Lagrangian; proximal steps for the change, multiplicative
steps for the weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, flat, rows, unit
from advex._settings import setting
from advex.attacks._parts import Moments
from advex.attacks.base import Attack
from advex.attacks.hyperplane import boundary
from advex.attacks.schedules import cosine
from advex.budgets import L0, L1, L2
from advex.driver.problem import Loss, Problem
from advex.goals import INFINITY

SMALLEST_SIZE = 1e-12  # guards divisions
LONGEST_STEP = 0.5  # as a share of the largest change of a success
# the next step pays so many times the price after a success, and so many times less otherwise: it
# damps the swing of the price
DAMPING = 2.0
LAST_STEP = 1e-3  # of the change and of the price, as a share of the first one
# in L1 no element pays more than so many times what the one with the largest gradient does
MAX_L1_PRICE = 5


def two_thirds(y: Tensor, weight: Tensor) -> Tensor:
    """argmin over x, element by element, of ``(x - y)**2 + weight * |x|**(2/3)``; ``weight`` is
    above 0.

    Reference: Cao, Sun and Xu, Fast image deconvolution using closed-form thresholding formulas of
    L_q (q = 1/2, 2/3) regularization, 2013.
    """
    size = ops.abs(y)
    ratio = ops.maximum(27 / 16 * ops.square(y) / ops.power(weight, 1.5), 1.0)
    # cosh(arccosh(r) / 3) = (u + 1 / u) / 2 with u the cube root of r + sqrt(r**2 - 1)
    root = ops.power(ratio * (1 + ops.sqrt(ops.maximum(1 - 1 / ops.square(ratio), 0.0))), 1 / 3)
    a = 2 / math.sqrt(3) * ops.power(weight, 0.25) * ops.sqrt((root + 1 / root) / 2)
    kept = ops.power((a + ops.sqrt(ops.maximum(2 * size / a - ops.square(a), 0.0))) / 2, 3)
    least = 2 / 3 * ops.power(3 * ops.power(weight, 3), 0.25)
    return ops.where(size > least, ops.sign(y) * kept, 0.0)


@dataclass(frozen=True, kw_only=True)
class PDPGD(Attack):
    r"""Primal-dual proximal gradient descent: gradient steps on the margin, then what the norm
    takes off the change.

    When to use it:
        For the smallest perturbation in any norm, above all in L1 and L0, whose sizes have no
        useful gradient. Part of `MinimumNorm` in Linf, L1 and L0.

    $$
    \delta_{t+1} = \mathrm{prox}_{\eta_t \lambda_t \lVert \cdot \rVert}\bigl(\delta_t + \eta_t\,
    d_t\bigr)
    $$

    $$
    \mathrm{prox}_{c \lVert \cdot \rVert}(v) = \operatorname{argmin}_{u} \; \tfrac{1}{2} \lVert u -
    v \rVert_2^2 + c\, \lVert u \rVert, \qquad \log \lambda_{t+1} = \log \lambda_t \pm \beta_t
    $$

    $\delta$ is the change, $d_t$ Adam's direction along the gradient of the margin, $\eta_t$ the
    step. $\lambda$ is the price of a change: its logarithm grows by $\beta_t$ after a success and
    falls by it otherwise. What the norm takes off: in L1 the same from every element, by a metric
    in which elements with small gradients pay more. In L0 likewise, with the sum of the powers 2/3
    for the norm. In L2 from the length. In Linf from the largest elements, until they are equal.
    Both steps fall along a cosine to a thousandth. While the price is low the search is far outside
    the boundary, where gradients lead back even if the ground around the input is flat.

    Args:
        steps: number of steps, a whole number from 1.
        step_size: the first step of one element (in L2: of the whole), in units of the box's range,
            above 0.
        price_step: by how much the logarithm of the price changes at first, above 0.
        price: the first price, above 0.
        patience: an example leaves after this many steps without a smaller perturbation. None:
            never.
        loss: what is climbed; zero on the boundary: a function `(logits, goal) -> (batch,)`.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range.

    Cost:
        One query and one gradient a step.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = PDPGD(steps=100)(advex.testing.linear_model(), x, labels, advex.L1())
        >>> bool(result.success.all())
        True

    Reference:
        Matyasko and Chau, PDPGD: Primal-dual proximal gradient descent adversarial attack, 2021.
        https://arxiv.org/abs/2106.01538

    Deviations:
        The weight of the margin is one over the price, and only whether the boundary is crossed
        changes it. A step after a success costs up to four times as much as one after none, which
        damps the swing of the price. Adam's metric in L1 and L0 alone, its direction in Linf too. A
        step is at most half of the largest change of a success (in L1 and L0 in the second half
        alone). The proximal step in Adam's metric is in closed form, in L1 what five of the
        iterations would do that stand for it elsewhere.
    """

    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = setting(500, "whole")
    step_size: float = setting(0.1, "number", above=0)
    price_step: float = setting(0.05, "number", above=0)
    price: float = setting(1e-4, "number", above=0)
    patience: int | None = setting(None, "whole")
    loss: Loss = setting(boundary, "function")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        one = ops.ones_like(problem.progress)
        return problem.start, {
            "adam": Moments.zeros(problem.x0),
            "price": self.price * one,
            "reach": INFINITY * one,  # the smallest success by its largest change
        }

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        x0, progress = problem.x0, problem.progress
        sparse = isinstance(problem.budget, L0 | L1)
        _, gradient = problem.gradient(x, self.loss)
        success = problem.reached
        moments = memory["adam"].after(unit(gradient, order=2))
        change = cosine(self.price_step, LAST_STEP * self.price_step, problem)
        price = memory["price"] * ops.exp(ops.where(success, change, -change))
        largest = ops.max(flat(ops.abs(x - x0)), axis=1)
        reach = ops.where(success, ops.minimum(memory["reach"], largest), memory["reach"])
        longest = LONGEST_STEP * reach
        longest = ops.where(progress < 0.5, INFINITY, longest) if sparse else longest
        size = ops.minimum(self.step_size * problem.width, longest) * cosine(
            1.0, LAST_STEP, problem
        )
        factor = ops.power(DAMPING, progress if sparse else ops.ones_like(progress))
        now = price * ops.where(success, factor, 1 / factor)
        delta = _stepped(problem, x - x0, moments, size, now)
        ahead = ops.clip(x0 + delta, *problem.box)
        return ahead, {"adam": moments, "price": price, "reach": reach}


def _stepped(
    problem: Problem, delta: Tensor, moments: Moments, size: Tensor, price: Tensor
) -> Tensor:
    """The change after a step of ``size`` and what the norm takes off it, ``price`` times ``size``:
    the proximal step.
    """
    budget, span, cost = problem.budget, problem.span, size * price
    if isinstance(budget, L2):
        delta = delta + rows(size, delta) * unit(moments.mean, order=2)
        length = ops.maximum(budget.size(delta), SMALLEST_SIZE)
        return delta * rows(ops.maximum(1 - cost / length, 0.0), delta)
    mean, metric = moments.corrected(problem.step + 1)
    delta = delta + rows(size, delta) * (mean / ops.maximum(metric, SMALLEST_SIZE))
    if isinstance(budget, L0):
        steep = ops.maximum(unit(metric, order=math.inf), SMALLEST_SIZE)
        weight = 2 * rows(cost, delta) / span / steep
        return span * two_thirds(delta / span, ops.clip(weight, 1e-12, 1e6))
    if isinstance(budget, L1):
        gentle = 1 - unit(metric, order=math.inf)
        shares = sum((gentle**power for power in range(1, MAX_L1_PRICE)), start=1)
        return ops.sign(delta) * ops.maximum(ops.abs(delta) - rows(cost, delta) * shares, 0.0)
    # What a ball of the dual norm, the sum, leaves over.
    total = cost * flat(delta).shape[1]
    return delta - L1().bound(total).project(delta)
