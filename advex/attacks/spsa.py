"""SPSA: Adam along a gradient that is estimated from random signs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras import ops

from advex._arrays import Tensor
from advex._settings import setting
from advex.attacks._parts import Moments, adam
from advex.attacks.scores_alone import PairsAttack, at_least_a_level
from advex.driver.problem import Problem


@dataclass(frozen=True, kw_only=True)
class SPSA(PairsAttack):
    r"""Simultaneous perturbation: Adam along a gradient that is estimated from random signs.

    When to use it:
        Against a model that gives scores, and as a check on masked gradients, as its paper does.
        `SquareAttack` needs fewer queries on images.

    $$
    g_t = \frac{1}{n} \sum_{i=1}^{n} \frac{\ell(x_t + \delta v_i) - \ell(x_t - \delta v_i)}{2
    \delta}\, v_i
    $$

    $$ x_{t+1} = \Pi\bigl(x_t + \eta\, \mathrm{Adam}(g_t)\bigr) $$

    $v_i$ are random signs, $n$ is `pairs`, $\delta$ is `delta`, $\ell$ the loss, $\eta$ is
    `step_size`. $\Pi$ takes the nearest point of budget and box. On a linear loss of $d$ elements
    the cosine of estimate and gradient is about $\sqrt{n / (n + d - 1)}$.

    Args:
        steps: the limit of queries per example, a whole number from 1. All count: the clean input,
            both points of each pair, a look at each iterate, and the last judgement.
        loss: what must grow, a function `(logits, goal) -> (batch,)`.
        pairs: how many pairs of points an estimate has, a whole number from 1. CleverHans: 128.
        delta: how far the points are from the iterate, in each element: a share of the box, above 0
            and at most 1; at least one level where inputs have levels. CleverHans: 0.01.
        step_size: Adam's first step of one element, in units of the box's range, above 0.
            CleverHans: 0.01.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for norms other than `Linf` and `L2`, or
            without a limit.

    Cost:
        At most `steps` queries, no gradients: two for each pair and one for each iterate.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = SPSA(steps=400, pairs=10, step_size=0.1)(advex.testing.linear_model(), x,
        ...     labels, advex.Linf(0.3))
        >>> int(result.gradients.sum()), bool(result.queries.max() <= 400)
        (0, True)

    Reference:
        Uesato, O'Donoghue, van den Oord and Kohli, Adversarial risk and the dangers of evaluating
        against weak attacks, ICML 2018. https://arxiv.org/abs/1802.05666

    Deviations:
        The constants are those of CleverHans. Points end at the box, in Linf at the ball, and an
        estimate is made of what the model was shown. A success among them counts. L2, too.
    """

    pairs: int = setting(128, "whole")
    delta: float = setting(0.01, "number", above=0, at_most=1, share="a share of the box")
    step_size: float = setting(0.01, "number", above=0)

    def directions(self, problem: Problem, shape: tuple[int, ...]) -> Tensor:
        return problem.signs(shape)

    def width(self, problem: Problem) -> Tensor:
        return at_least_a_level(problem, self.delta)

    def nothing(self, problem: Problem) -> Any:
        return Moments.zeros(problem.x0)._asdict()

    def moved(
        self, problem: Problem, x: Tensor, slope: Tensor, taken: Tensor, past: Any
    ) -> tuple[Tensor, Any]:
        scale = 4 * self.pairs * self.delta**2 * ops.square(problem.span)
        direction, moments = adam(Moments(**past), -slope / scale, taken)
        ahead = problem.project(x - self.step_size * problem.span * direction)
        return ahead, moments._asdict()
