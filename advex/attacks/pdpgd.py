"""PDPGD: the norm and the margin in one Lagrangian; proximal steps for the change, multiplicative
steps for the weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, flat, rows, unit
from advex._settings import real_number
from advex.attacks.base import Attack
from advex.attacks.hyperplane import boundary
from advex.attacks.schedules import cosine
from advex.budgets import L0, L1, L2
from advex.driver.problem import Loss, Problem
from advex.goals import INFINITY

FIRST, SECOND, TINY = 0.9, 0.999, 1e-12  # Adam's
FINE = 0.5  # a step is not longer than this share of the largest change of a success
# by so much the next step pays more after a success, and less otherwise: it damps what the price
# does in the long run
KICK = 2.0
END = 1e-3  # what is left of both steps at the end
DEAR = (
    5  # in L1 no element pays more than so many times what the one with the largest gradient does
)


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
    """Proximal gradient steps on |d| + f / t: a step along the gradient of f, then what the norm
    takes off, t times as much.

    t, the price of a change, grows after a success and falls otherwise, both by the factor
    exp(``price_step``). What the norm
    takes off: in L1 from every element the same, by a metric in which elements with small gradients
        pay more; in L0 likewise,
    with the sum of the powers 2/3 for the norm; in L2 from the length; in Linf from the largest
    elements, until they are the same. Both steps fall along a cosine to a thousandth. While the
    price is low the search is far outside the boundary, where gradients lead back even if the
    ground around the input is flat.

    Args:
        steps: number of steps, one query and one gradient each.
        step_size: the first step of one element (in L2: of the whole), in units of the box's range.
        price_step: by how much the logarithm of t changes at first.
        price: the first t.
        patience: an example leaves after so many steps that made its perturbation no smaller. None:
            never.
        loss: what is climbed; zero on the boundary: ``(logits, goal) -> (batch,)``.

    Raises:
        InvalidInput: a setting that is not above 0. InvalidType: a setting that is no number.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = PDPGD(steps=100)(advex.testing.linear_model(), x, labels, advex.L1())
        >>> bool(result.success.all())
        True

    Reference: Matyasko and Chau, PDPGD: Primal-dual proximal gradient descent adversarial attack,
    2021. Deviations: the weight of the margin is 1 / t, and only whether the boundary is crossed
          changes it; besides, a step after a success costs up to four
    times as much as one after none, which damps the swing of the price; Adam's metric in L1 and L0
    alone, its direction in Linf too; a step is at most half of the largest change of a success (in
    L1 and L0 in the second half alone); the proximal step in Adam's metric is in closed form, in L1
    what five of the iterations would do that stand for it elsewhere.
    """

    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = 500
    step_size: float = 0.1
    price_step: float = 0.05
    price: float = 1e-4
    patience: int | None = None
    loss: Loss = boundary

    def __post_init__(self) -> None:
        real_number("PDPGD(price=...)", self.price, strict=True)
        real_number("PDPGD(price_step=...)", self.price_step, strict=True)

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        zeros, one = ops.zeros_like(problem.x0), ops.ones_like(problem.progress)
        return problem.start, {
            "mean": zeros,
            "square": zeros,
            "price": self.price * one,
            "reach": INFINITY * one,
        }

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        _, gradient = problem.gradient(x, self.loss)
        slope = unit(gradient, order=2)
        mean = FIRST * memory["mean"] + (1 - FIRST) * slope
        square = SECOND * memory["square"] + (1 - SECOND) * ops.square(slope)
        change = cosine(self.price_step, END * self.price_step, problem)
        price = memory["price"] * ops.exp(ops.where(problem.reached, change, -change))
        largest = ops.max(flat(ops.abs(x - problem.x0)), axis=1)
        reach = ops.where(problem.reached, ops.minimum(memory["reach"], largest), memory["reach"])
        sparse = isinstance(problem.budget, L0 | L1)
        near = ops.where(problem.progress < 0.5, INFINITY, FINE * reach) if sparse else FINE * reach
        size = ops.minimum(self.step_size * problem.span, near) * cosine(1.0, END, problem)
        kick = ops.power(KICK, problem.progress if sparse else ops.ones_like(problem.progress))
        now = price * ops.where(problem.reached, kick, 1 / kick)
        delta = self._shrunk(problem, x - problem.x0, mean, square, size, now)
        ahead = ops.clip(problem.x0 + delta, *problem.box)
        return ahead, {"mean": mean, "square": square, "price": price, "reach": reach}

    def _shrunk(
        self,
        problem: Problem,
        delta: Tensor,
        mean: Tensor,
        square: Tensor,
        size: Tensor,
        price: Tensor,
    ) -> Tensor:
        """The change after one step and what the norm takes off it."""
        if isinstance(problem.budget, L2):
            delta = delta + rows(size, delta) * unit(mean, order=2)
            length = problem.budget.size(delta)
            return delta * rows(
                ops.maximum(1 - size * price / ops.maximum(length, TINY), 0.0), delta
            )
        taken = ops.cast(problem.step + 1, "float32")
        metric = ops.sqrt(rows(1 / (1 - SECOND**taken), delta) * square)
        way = rows(1 / (1 - FIRST**taken), delta) * mean / ops.maximum(metric, TINY)
        delta = delta + rows(size, delta) * way
        if isinstance(problem.budget, L0):
            weight = (
                2
                * rows(size * price, delta)
                / problem.span
                / ops.maximum(unit(metric, order=float("inf")), TINY)
            )
            return problem.span * two_thirds(delta / problem.span, ops.clip(weight, 1e-12, 1e6))
        if isinstance(problem.budget, L1):
            gentle = 1 - unit(metric, order=float("inf"))
            off = rows(size * price, delta) * sum(
                (gentle**power for power in range(1, DEAR)), start=1
            )
            return ops.sign(delta) * ops.maximum(ops.abs(delta) - off, 0.0)
        # What a ball of the dual norm, the sum, leaves over.
        total = size * price * flat(delta).shape[1]
        return delta - L1().bound(total).project(delta)
