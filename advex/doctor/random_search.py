"""The blind search of D8: random corners of ball and box, then SquareAttack where it has a form,
then an attack that sees nothing but classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from advex._arrays import Tensor
from advex.attacks.base import Attack
from advex.attacks.call import Attackable
from advex.attacks.composite import Ensemble
from advex.attacks.minimum_norm import BY_LABELS
from advex.attacks.square import SquareAttack
from advex.budgets import Budget
from advex.driver.problem import Problem
from advex.errors import InvalidInput
from advex.model.protocol import Gives

SQUARE_QUERIES = 500
CORNERS = 100
LABEL_QUERIES = 200


@dataclass(frozen=True, kw_only=True)
class Corners(Attack):
    """Random corners of ball and box: the extreme points of random linear functions.

    Args:
        steps: how many.
    """

    steps: int = CORNERS

    needs: ClassVar[Gives] = "scores"

    @property
    def rounds(self) -> int:
        """The driver looks at the last point by itself."""
        return self.steps - 1

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return self._corner(problem), ()

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        problem.logits(x)
        return self._corner(problem), memory

    def _corner(self, problem: Problem) -> Tensor:
        slope = 2 * problem.uniform(tuple(problem.x0.shape[1:])) - 1
        return problem.budget.extreme(slope, problem.x0, problem.lower, problem.upper)


def random_search(budget: Budget, shape: tuple[int, ...]) -> Attackable:
    """The search for inputs of a shape; without SquareAttack where that has no form for the norm or
    the inputs.
    """
    norms = [norm for norm in BY_LABELS if isinstance(budget, norm)]
    by_labels = [BY_LABELS[norm](steps=LABEL_QUERIES) for norm in norms[:1]]
    try:
        SquareAttack().check(None, budget)
        SquareAttack().check_inputs(shape)
    except InvalidInput:
        return Ensemble(Corners(steps=SQUARE_QUERIES + CORNERS), *by_labels)
    return Ensemble(Corners(), SquareAttack(steps=SQUARE_QUERIES), *by_labels)
