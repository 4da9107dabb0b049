"""EAD, the elastic net: proximal gradient descent on length and c times what is missing, and a
search for c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, rows
from advex._settings import real_number, whole_number
from advex.attacks.base import Attack
from advex.attacks.hyperplane import boundary
from advex.budgets import L1, Budget
from advex.driver.problem import Problem
from advex.errors import InvalidInput
from advex.goals import Goal

MOST = 1e10  # of c


@dataclass(frozen=True, kw_only=True)
class ElasticNet(Attack):
    """Minimises beta |d|_1 + |d|^2 + c max(-f, 0), f the margin, by shrinking and momentum (FISTA),
    in rounds with a c each.

    c falls to the middle of its bracket after a round with a success and grows tenfold (to the
    middle, where it was successful before) after one without. Every example has its own c.

    Args:
        steps: number of steps in all rounds together, one query and one gradient each.
        searches: number of rounds.
        step_size: the first step of a round, in units of the box's range; it falls with the square
            root of what is left.
        beta: what every step takes off each element's change, in units of the box's range.
        c: the first c.

    Raises:
        InvalidInput: at the call, for another norm than ``L1``; a setting that is not above 0.
        InvalidType: a setting that is no number.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = ElasticNet(steps=300)(advex.testing.linear_model(), x, labels, advex.L1())
        >>> bool(result.success.all())
        True

    Reference: Chen, Sharma, Zhang, Yi and Hsieh, EAD: elastic-net attacks to deep neural networks
    via adversarial examples, 2018. Deviations: the points with momentum are looked at, not those
    without as well; they stay in the box.
    """

    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = 1000
    searches: int = 9
    step_size: float = 0.01
    beta: float = 0.01
    c: float = 1.0

    def __post_init__(self) -> None:
        whole_number("ElasticNet(searches=...)", self.searches)
        real_number("ElasticNet(beta=...)", self.beta, strict=True)
        real_number("ElasticNet(c=...)", self.c, strict=True)

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        if not isinstance(budget, L1):
            raise InvalidInput(
                f"ElasticNet works in L1 alone; received {budget!r}: use CarliniWagner, FMN or"
                f" SigmaZero"
            )

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        one = ops.ones_like(problem.progress)
        return problem.start, {
            "before": problem.start,
            "c": self.c * one,
            "low": 0 * one,
            "high": MOST * one,
            "won": ops.zeros_like(problem.found),
        }

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        value, gradient = problem.gradient(x, boundary)
        (low, high), span = problem.box, problem.span
        length = max(2, self.steps // self.searches)
        taken = ops.cast(problem.step % length, "float32")
        delta, c = (x - problem.x0) / span, memory["c"]
        slope = 2 * delta - rows(ops.where(value > 0, 0.0, c), x) * span * gradient
        moved = delta - rows(self.step_size * ops.sqrt(1 - taken / length), x) * slope
        moved = ops.sign(moved) * ops.maximum(ops.abs(moved) - self.beta, 0.0)
        reached = ops.clip(problem.x0 + span * moved, low, high)
        ahead = ops.clip(
            reached + rows(taken / (taken + 3), x) * (reached - memory["before"]), low, high
        )

        won = ops.logical_or(memory["won"], problem.reached)
        highest = ops.where(won, ops.minimum(memory["high"], c), memory["high"])
        lowest = ops.where(won, memory["low"], ops.maximum(memory["low"], c))
        following = ops.minimum(ops.where(highest < MOST, (lowest + highest) / 2, 10 * c), MOST)
        fresh = {
            "before": problem.start,
            "c": following,
            "low": lowest,
            "high": highest,
            "won": ops.zeros_like(won),
        }
        now = memory | {"before": reached, "won": won}
        over = ops.equal((problem.step + 1) % length, 0)
        now = {
            name: ops.where(rows(over, entry), fresh[name], entry) for name, entry in now.items()
        }
        return ops.where(rows(over, x), problem.start, ahead), now
