"""SegPGD: PGD whose loss turns from the pixels that stand to all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from advex._arrays import Tensor
from advex._settings import setting
from advex.attacks.base import Attack, StepSize
from advex.attacks.pixel_losses import demand_pixels, weighed
from advex.attacks.schedules import at
from advex.budgets import Budget
from advex.driver.problem import Problem
from advex.goals import Goal


@dataclass(frozen=True, kw_only=True)
class SegPGD(Attack):
    r"""PGD on maps of classes: its loss turns from the pixels that are still right to all of them.

    When to use it:
        Against segmentation models within a budget, when one short run has to do. `SEA` is stronger
        and costs twelve times as much at its default.

    $$
    \ell_t(x) = \frac{1}{|P|} \Bigl( (1 - \lambda_t) \sum_{p \text{ right}} \mathrm{CE}_p +
    \lambda_t \sum_{p \text{ wrong}} \mathrm{CE}_p \Bigr)
    $$

    $$ \lambda_t = \frac{t}{2T} $$

    $P$ are the pixels that count, $\mathrm{CE}_p$ is the cross-entropy of pixel $p$ at $x$, $T$ the
    number of steps. The steps are those of `PGD` on this loss. The loss of pixels that are still
    right weighs 1 at first and a half in the end, that of the others 0 at first and a half in the
    end.

    Args:
        steps: number of steps, a whole number from 1. The paper: up to 100.
        step_size: length of a step as a share of epsilon, above 0: a number, or a function of
            progress (0 to 1).

    Raises:
        InvalidType: a setting of the wrong type; at the call, a goal that is not `Segmentation`.
        InvalidInput: a setting out of range; at the call, a budget without a limit.

    Cost:
        One query and one gradient a step. An example leaves at its first success.

    Example:
        >>> import numpy as np
        >>> import keras
        >>> import advex
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
        >>> x = np.random.default_rng(0).uniform(size=(2, 8, 8, 3)).astype("float32")
        >>> result = SegPGD(steps=5)(model, x, advex.Segmentation(), advex.Linf(8 / 255))
        >>> result.prediction.shape
        (2, 6, 6)

    Reference:
        Gu, Zhao, Tresp and Torr, SegPGD: an effective and efficient adversarial attack for
        evaluating and boosting segmentation robustness, ECCV 2022. https://arxiv.org/abs/2207.12391

    Deviations:
        An example leaves at its first success; every norm; pixels whose label is ``ignore`` do not
        take part.
    """

    steps: int = setting(100, "whole")
    step_size: StepSize = setting(0.25, "schedule", above=0)

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        demand_pixels(self, goal)

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return problem.project(problem.x0 + problem.budget.sample(problem)), ()

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        _, gradient = problem.gradient(x, weighed(1 - problem.progress / 2))
        return problem.move(x, gradient, at(self.step_size, problem)), memory
