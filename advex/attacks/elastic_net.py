"""EAD, the elastic net: proximal gradient descent on the L1 and L2 sizes of the change plus c times
what the margin lacks, and a search for c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, rows
from advex._settings import setting
from advex.attacks._parts import Bracket, replaced
from advex.attacks.base import Attack
from advex.attacks.hyperplane import boundary
from advex.budgets import L1
from advex.driver.problem import Problem


@dataclass(frozen=True, kw_only=True)
class ElasticNet(Attack):
    r"""EAD: proximal descent on the L1 and L2 sizes of the change plus c times what the margin
    lacks.

    When to use it:
        To compare with papers that report EAD in L1. `MinimumNorm("L1")` finds smaller
        perturbations.

    $$ \min_x \; \beta\, \lVert x - x_0 \rVert_1 + \lVert x - x_0 \rVert_2^2 + c \max(-f(x),\, 0) $$

    $x_0$ is the input, $f$ the margin. A step goes down the gradient of the last two terms; then
    $\beta$ is taken off every element of the change (shrinkage), and momentum is added (FISTA). c
    falls to the middle of its bracket after a round with a success and grows tenfold (to the
    middle, where it was successful before) after one without. Every example has its own c.

    Args:
        steps: number of steps in all rounds together, a whole number from 1. The paper: 1,000 in
            each of 9 rounds.
        searches: number of rounds, a whole number from 1. The paper: 9.
        step_size: the first step of a round, in units of the box's range, above 0; it falls with
            the square root of what is left. The paper: 0.01.
        beta: what every step takes off each element's change, in units of the box's range, above 0.
            The paper: 0.001 in most tables.
        c: the first c, above 0. The paper: 0.001.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for a norm other than `L1`.

    Cost:
        One query and one gradient a step.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = ElasticNet(steps=300)(advex.testing.linear_model(), x, labels, advex.L1())
        >>> bool(result.success.all())
        True

    Reference:
        Chen, Sharma, Zhang, Yi and Hsieh, EAD: elastic-net attacks to deep neural networks via
        adversarial examples, AAAI 2018. https://arxiv.org/abs/1709.04114

    Deviations:
        The points with momentum are looked at, not those without as well; they stay in the box.
    """

    norms: ClassVar = (L1,)
    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = setting(1000, "whole")
    searches: int = setting(9, "whole")
    step_size: float = setting(0.01, "number", above=0)
    beta: float = setting(0.01, "number", above=0)
    c: float = setting(1.0, "number", above=0)

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return problem.start, {
            "before": problem.start,
            "bracket": Bracket.around(self.c * ops.ones_like(problem.progress)),
            "won": ops.zeros_like(problem.found),  # in this round
        }

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        x0, span, (low, high) = problem.x0, problem.span, problem.box
        value, gradient = problem.gradient(x, boundary)
        length = max(2, self.steps // self.searches)
        taken = ops.cast(problem.step % length, "float32")
        delta, c = (x - x0) / span, memory["bracket"].c
        slope = 2 * delta - rows(ops.where(value > 0, 0.0, c), x) * span * gradient
        moved = delta - rows(self.step_size * ops.sqrt(1 - taken / length), x) * slope
        moved = ops.sign(moved) * ops.maximum(ops.abs(moved) - self.beta, 0.0)
        reached = ops.clip(x0 + span * moved, low, high)
        momentum = rows(taken / (taken + 3), x) * (reached - memory["before"])
        ahead = ops.clip(reached + momentum, low, high)

        won = ops.logical_or(memory["won"], problem.reached)
        ended = ops.equal((problem.step + 1) % length, 0)
        now = memory | {"before": reached, "won": won}
        fresh = now | {
            "before": problem.start,
            "bracket": memory["bracket"].narrowed(won),
            "won": ops.zeros_like(won),
        }
        return ops.where(rows(ended, x), problem.start, ahead), replaced(now, fresh, ended)
