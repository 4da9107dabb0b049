"""Carlini and Wagner: Adam on the size of the change plus c times what the margin lacks, in rounds.

The two norms are two algorithms: ``carlini_wagner_l2`` and ``carlini_wagner_linf``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from advex._arrays import Tensor
from advex._settings import setting
from advex.attacks.base import Attack
from advex.attacks.carlini_wagner_l2 import init_l2, step_l2
from advex.attacks.carlini_wagner_linf import init_linf, step_linf
from advex.budgets import L2, Linf
from advex.driver.problem import Problem


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(Attack):
    r"""Adam on the size of the change plus c times what the margin lacks, in rounds with a c each.

    When to use it:
        To compare with the many papers that report C&W. `MinimumNorm` finds smaller perturbations
        for the same number of gradients, or fewer.

    $$ \min_x \; \lVert x - x_0 \rVert_2^2 + c \max(-f(x),\, 0) $$

    $$ L_\infty:\;\; \min_x \; \sum_i \max(|x_i - x_{0,i}| - \tau,\, 0) + c \max(-f(x),\, 0) $$

    $x_0$ is the input, $f$ the margin, above 0 across the boundary. In L2, c falls to the middle of
    its bracket after a round with a success and grows tenfold (to the middle, where it was
    successful before) after one without. Each example has its own c, its own round and its own
    count of steps. A round ends early when the loss stops falling; the example then goes on with
    its next c, and leaves after the last.

    In Linf a round ends at the first success whose largest change is $\tau$. After it $\tau$
    shrinks to 0.9 of that at least, half of the way to what was too small at most. After a round
    without, it grows to the middle of its bracket, and c doubles if there has been no success at
    all. Rounds begin where the last one ended.

    Args:
        steps: number of steps in all rounds together, a whole number from 1. The authors: 9 rounds
            of up to 10,000.
        rounds_of: number of steps of a round at most, a whole number from 1.
        step_size: Adam's, in units of the box's range, above 0. The authors: 0.01.
        c: the first c, above 0. The authors: 0.001.
        searches: number of rounds at most, a whole number from 1. The authors: 9.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for `L1` and `L0`.

    Cost:
        One query and one gradient a step.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = CarliniWagner(steps=500)(advex.testing.linear_model(), x, labels, advex.L2())
        >>> bool(result.success.all())
        True

    Reference:
        Carlini and Wagner, Towards evaluating the robustness of neural networks, IEEE S&P 2017.
        https://arxiv.org/abs/1608.04644

    Deviations:
        Points are cut at the box (the first way of that paper), not taken to the inside of a tanh,
        whose slope vanishes for black and white. The squared length is in units of the box's range.
        A round is given up example by example. Adam's step falls to 0 in every round, and is short
        where the change is small.
    """

    norms: ClassVar = (L2, Linf)
    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = setting(1000, "whole")
    rounds_of: int = setting(150, "whole")
    step_size: float = setting(0.01, "number", above=0)
    c: float = setting(1.0, "number", above=0)
    searches: int = setting(9, "whole")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        init = init_l2 if isinstance(problem.budget, L2) else init_linf
        return init(problem, self)

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        step = step_l2 if isinstance(problem.budget, L2) else step_linf
        return step(problem, x, memory, self)

    def done(self, problem: Problem, x: Tensor, memory: Any) -> Tensor:
        return memory["round"] >= self.searches
