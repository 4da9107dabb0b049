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
    """Adam, projected, along estimates of the gradient: means of ``(loss(x + delta v) - loss(x -
    delta v)) v / (2 delta)`` over random signs v. Scores suffice.

    Linf and L2, with a limit. On a linear loss of d elements the cosine of estimate and gradient is
    about ``sqrt(pairs / (pairs + d - 1))``.

    Args:
        steps: the limit of queries per example. All count: the clean input, both points of each
            pair, a look at each iterate, and the last judgement.
        loss: what must grow: ``(logits, goal) -> (batch,)``.
        pairs: how many pairs of points an estimate has.
        delta: how far the points are from the iterate, in each element: a share of the box; at
            least one level where inputs have levels.
        step_size: Adam's first step of one element, in units of the box's range.

    Raises:
        InvalidInput: at the call, for norms other than Linf and L2, or without a limit.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = SPSA(steps=400, pairs=10, step_size=0.1)(advex.testing.linear_model(), x,
        ...     labels, advex.Linf(0.3))
        >>> int(result.gradients.sum()), bool(result.queries.max() <= 400)
        (0, True)

    Reference: Uesato, O'Donoghue, van den Oord and Kohli, Adversarial risk and the dangers of
    evaluating against weak attacks, 2018; 128 pairs and the other constants are those of
    CleverHans. Deviations: points end at the box, in Linf at the ball, and an estimate is made of
    what the model was shown; a success among them counts; L2, too.
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
