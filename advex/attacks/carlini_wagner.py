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
    """Minimises |d|^2 + c max(-f, 0), f the margin, by Adam, in rounds, each with a c of its own.

    c falls to the middle of its bracket after a round with a success and grows tenfold (to the
    middle, where it was successful before) after one without. Each example has its own c, its own
    round and its own count of steps: a round ends early when the loss stops falling, the example
    then goes on with its next c, and leaves after the last.

    In the maximum norm the size is sum(max(|d| - t, 0)). A round ends at the first success whose
    largest change is t; after it t shrinks to 0.9 of that at least, half of the way to what was too
    small at most. After a round without, t grows to the middle of its bracket, and c doubles if
    there has been no success at all. Rounds begin where the last one ended.

    Args:
        steps: number of steps in all rounds together, one query and one gradient each.
        rounds_of: number of steps of a round at most.
        step_size: Adam's, in units of the box's range.
        c: the first c.
        searches: number of rounds at most.

    Raises:
        InvalidInput: at the call, for L1 and L0. InvalidType: a setting that is no number.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = CarliniWagner(steps=500)(advex.testing.linear_model(), x, labels, advex.L2())
        >>> bool(result.success.all())
        True

    Reference: Carlini and Wagner, Towards evaluating the robustness of neural networks, 2017.
    Deviations: points are cut at the box (the first way of that paper), not taken to the inside of
    a tanh, whose slope vanishes for black and white; the squared length is in units of the box's
    range; a round is given up example by example; Adam's step falls to 0 in every round, and is
    short where the change is small.
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
