"""Features as attacks around attacks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from advex._arrays import Tensor
from advex.attacks.base import Attack
from advex.budgets import Budget
from advex.errors import InvalidType
from advex.goals import Goal
from advex.problem import Problem
from advex.search import Stage


@dataclass(frozen=True)
class Restarts(Attack):
    """The same attack again, with other random numbers, on the examples that still stand.

    The first run draws what the attack alone would draw, so restarts never lose a success.

    Args:
        attack: the attack to repeat; it should draw random numbers, as ``PGD`` does.
        restarts: how many runs in all.

    Example:
        >>> import advex
        >>> Restarts(advex.PGD(steps=5), 3)
        Restarts(attack=PGD(steps=5, step_size=0.25, loss=cross_entropy), restarts=3)
    """

    steps: ClassVar[int] = 1  # those of the attack count, run by run

    attack: Attack
    restarts: int = 5

    def __post_init__(self) -> None:
        if not isinstance(self.attack, Attack):
            raise InvalidType(f"Restarts needs an attack, such as advex.PGD(); received {self.attack!r}")

    def check(self, goal: Goal | None, budget: Budget) -> None:
        self.attack.check(goal, budget)

    def stages(self) -> list[Stage]:
        inner = self.attack.stages()
        return [replace(stage, salt=stage.salt * self.restarts + run) for run in range(self.restarts) for stage in inner]

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return self.attack.init(problem)

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        return self.attack.step(problem, x, memory)
