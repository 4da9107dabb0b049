"""PDGD: gradient descent on length and misclassification in one Lagrangian, whose weights follow
how points were judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, rows, unit
from advex._settings import real_number
from advex.attacks.base import Attack
from advex.attacks.hyperplane import boundary
from advex.budgets import L2, Budget
from advex.driver.problem import Loss, Problem
from advex.errors import InvalidInput
from advex.goals import Goal

FIRST, SECOND, TINY = 0.9, 0.999, 1e-8  # Adam's
END, LAST = 0.01, 0.1  # what is left at the end of the steps, and of the steps of the price
SLOW = 0.9  # how much of the weight of misclassification is kept from step to step
EXTREME = math.log(1e6)  # the price stays within a million to both sides of 1


@dataclass(frozen=True, kw_only=True)
class PDGD(Attack):
    """Adam on (1 - w) |d| + w log(1 + exp(-f)): d the change, f the margin, w / (1 - w) = 1 /
    price.

    The price of length grows after a success and falls otherwise; w follows it slowly. The step
    falls exponentially to a hundredth of ``step_size``. It is taken element by element, so that the
    search begins far outside the boundary, and comes
    back to it from there: it finds changes that attacks along the boundary do not.

    Args:
        steps: number of steps, one query and one gradient each.
        step_size: Adam's first step of one element, in units of the box's range.
        price_step: by how much the logarithm of the price changes at first; at the end a tenth of
            that.
        price: the first price.
        patience: an example leaves after so many steps that made its perturbation no smaller. None:
            never.
        loss: f, what is climbed; zero on the boundary: ``(logits, goal) -> (batch,)``.

    Raises:
        InvalidInput: at the call, for another norm than ``L2``; a setting that is not above 0.
        InvalidType: a setting that is no number.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = PDGD(steps=200)(advex.testing.linear_model(), x, labels, advex.L2())
        >>> bool(result.success.all())
        True

    Reference: Matyasko and Chau, PDPGD: Primal-dual proximal gradient descent adversarial attack,
    2021, the form without a proximal step. Deviations: a point counts as crossed if the goal is
    reached; in units of the box's range.
    """

    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = 500
    step_size: float = 0.1
    price_step: float = 0.1
    price: float = 0.01
    patience: int | None = None
    loss: Loss = boundary

    def __post_init__(self) -> None:
        real_number("PDGD(price=...)", self.price, strict=True)
        real_number("PDGD(price_step=...)", self.price_step, strict=True)

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        if not isinstance(budget, L2):
            raise InvalidInput(
                f"PDGD works in L2 alone; received {budget!r}: use PDPGD for the other norms"
            )

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        zeros = ops.zeros_like(problem.x0)
        price = math.log(self.price) * ops.ones_like(problem.progress)
        return problem.start, {
            "mean": zeros,
            "square": zeros,
            "price": price,
            "weight": ops.sigmoid(-price),
        }

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        value, gradient = problem.gradient(x, self.loss)
        weight, span = memory["weight"], problem.span
        climb = rows(weight * ops.sigmoid(-value), x) * gradient * span
        descent = rows(1 - weight, x) * unit(x - problem.x0, order=2) - climb
        mean = FIRST * memory["mean"] + (1 - FIRST) * descent
        square = SECOND * memory["square"] + (1 - SECOND) * ops.square(descent)
        taken = ops.cast(problem.step + 1, "float32")
        adam = (
            rows(1 / (1 - FIRST**taken), x)
            * mean
            / (ops.sqrt(rows(1 / (1 - SECOND**taken), x) * square) + TINY)
        )
        size = self.step_size * span * ops.power(END, problem.progress)
        ahead = ops.clip(x - rows(size, x) * adam, *problem.box)
        change = self.price_step * (1 - (1 - LAST) * problem.progress)
        price = ops.clip(
            memory["price"] + ops.where(problem.reached, change, -change), -EXTREME, EXTREME
        )
        weight = SLOW * weight + (1 - SLOW) * ops.sigmoid(-price)
        return ahead, {"mean": mean, "square": square, "price": price, "weight": weight}
