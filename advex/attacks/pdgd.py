"""PDGD: gradient descent on length and misclassification in one Lagrangian, whose weights follow
how points were judged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, rows, unit
from advex._settings import setting
from advex.attacks._parts import Moments, adam
from advex.attacks.base import Attack
from advex.attacks.hyperplane import boundary
from advex.budgets import L2
from advex.driver.problem import Loss, Problem

LAST_STEP = 0.01  # as a share of the first one
LAST_PRICE_STEP = 0.1  # likewise
WEIGHT_DECAY = 0.9  # how much of the weight of misclassification is kept from step to step
MAX_LOG_PRICE = math.log(1e6)  # the price stays between a millionth and a million


@dataclass(frozen=True, kw_only=True)
class PDGD(Attack):
    r"""Primal-dual gradient descent: length and misclassification in one Lagrangian, whose weights
    follow how points were judged.

    When to use it:
        For the smallest L2 perturbation where gradients near the input mislead: the search begins
        far outside the boundary and comes back to it. Part of `MinimumNorm("L2")`.

    $$ \min_x \; (1 - w_t)\, \lVert x - x_0 \rVert_2 + w_t \log\bigl(1 + e^{-f(x)}\bigr) $$

    $$
    w_{t+1} = 0.9\, w_t + \frac{0.1}{1 + \lambda_{t+1}}, \qquad \log \lambda_{t+1} = \log \lambda_t
    \pm \beta_t
    $$

    $x_0$ is the input, $f$ the margin. $\lambda$ is the price of length: its logarithm grows by
    $\beta_t$ after a success and falls by it otherwise. The weight $w$ follows it slowly. The
    objective is minimised by Adam, whose step falls exponentially to a hundredth of `step_size`.

    Args:
        steps: number of steps, a whole number from 1.
        step_size: Adam's first step of one element, in units of the box's range, above 0.
        price_step: by how much the logarithm of the price changes at first, above 0; at the end a
            tenth of that.
        price: the first price, above 0.
        patience: an example leaves after this many steps without a smaller perturbation. None:
            never.
        loss: f, what is climbed; zero on the boundary: a function `(logits, goal) -> (batch,)`.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for a norm other than `L2`.

    Cost:
        One query and one gradient a step.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = PDGD(steps=200)(advex.testing.linear_model(), x, labels, advex.L2())
        >>> bool(result.success.all())
        True

    Reference:
        Matyasko and Chau, PDPGD: Primal-dual proximal gradient descent adversarial attack, 2021,
        the form without a proximal step. https://arxiv.org/abs/2106.01538

    Deviations:
        A point counts as crossed if the goal is reached. Everything is in units of the box's range.
    """

    norms: ClassVar = (L2,)
    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = setting(500, "whole")
    step_size: float = setting(0.1, "number", above=0)
    price_step: float = setting(0.1, "number", above=0)
    price: float = setting(0.01, "number", above=0)
    patience: int | None = setting(None, "whole")
    loss: Loss = setting(boundary, "function")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        price = math.log(self.price) * ops.ones_like(problem.progress)
        return problem.start, {
            "adam": Moments.zeros(problem.x0),
            "log_price": price,
            "weight": ops.sigmoid(-price),
        }

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        x0, span, weight = problem.x0, problem.span, memory["weight"]
        value, gradient = problem.gradient(x, self.loss)
        climb = rows(weight * ops.sigmoid(-value), x) * gradient * span
        descent = rows(1 - weight, x) * unit(x - x0, order=2) - climb
        direction, moments = adam(memory["adam"], descent, problem.step)
        size = self.step_size * problem.width * ops.power(LAST_STEP, problem.progress)
        ahead = ops.clip(x - rows(size, x) * direction, *problem.box)
        change = self.price_step * (1 - (1 - LAST_PRICE_STEP) * problem.progress)
        change = ops.where(problem.reached, change, -change)
        price = ops.clip(memory["log_price"] + change, -MAX_LOG_PRICE, MAX_LOG_PRICE)
        weight = WEIGHT_DECAY * weight + (1 - WEIGHT_DECAY) * ops.sigmoid(-price)
        return ahead, {"adam": moments, "log_price": price, "weight": weight}
