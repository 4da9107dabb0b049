"""Attacks for fast training: one gradient each, from a random point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor
from advex._settings import setting
from advex.attacks.base import Attack
from advex.attacks.pgd import PGD
from advex.budgets import Budget, Linf
from advex.driver.problem import Loss, Problem
from advex.errors import InvalidInput
from advex.goals import Goal
from advex.losses import cross_entropy


@dataclass(frozen=True, kw_only=True)
class NFGSM(Attack):
    """FGSM from a point with strong noise, which is not clipped to the budget: the box alone limits
    it. For training: what it finds may lie outside of the budget, and counts there for nothing.

    x' = x + U(-noise * epsilon, noise * epsilon), then x' + step_size * epsilon * sign(gradient).

    Args:
        noise: in units of epsilon. With 2, the paper's, no collapse was seen up to 16/255.
        step_size: in units of epsilon.
        loss: what is climbed: ``(logits, goal) -> (batch,)``.

    Example:
        >>> NFGSM()
        NFGSM(noise=2.0, step_size=1.0, loss=cross_entropy)

    Reference: De Jorge, Bibi, Volpi, Sanyal, Torr, Rogez and Dokania, Make some noise: reliable and
    efficient single-step adversarial training, 2022.
    """

    steps: ClassVar[int] = 1  # type: ignore[misc]
    leaves_budget: ClassVar[bool] = True
    """Whether points may lie outside of the budget."""
    noise: float = setting(2.0, "number", at_least=0)
    step_size: float = setting(1.0, "number", above=0)
    loss: Loss = setting(cross_entropy, "function")

    def check(self, goal: Goal | None, budget: Budget) -> None:
        if not isinstance(budget, Linf):
            raise InvalidInput(
                f"NFGSM is about the maximum norm alone; received {budget!r}: in other norms"
                " attack = advex.training.Fast()"
            )
        super().check(goal, budget)

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        uniform = 2 * problem.uniform(tuple(problem.x0.shape[1:])) - 1
        return self._legal(problem, problem.x0 + self.noise * problem.epsilon * uniform), ()

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        _, gradient = problem.gradient(x, self.loss)
        stride = self.step_size * problem.epsilon * ops.sign(gradient)
        return self._legal(problem, x + stride), memory

    def _legal(self, problem: Problem, x: Tensor) -> Tensor:
        x = ops.clip(x, *problem.box)
        return x if problem.mask is None else ops.where(problem.mask, x, problem.x0)


@dataclass(frozen=True, kw_only=True)
class Fast(PGD):
    """FGSM from a random point of the budget: one step of 1.25 epsilon, put back into the budget.

    Watch it with ``StopCollapse``: from some epsilon on it collapses; ``NFGSM`` does not.

    Args:
        step_size: in units of epsilon. Above 1.25 it collapses early; where epsilon is wide it must
            be smaller.
        loss: what is climbed: ``(logits, goal) -> (batch,)``.

    Example:
        >>> Fast()
        Fast(step_size=1.25, loss=cross_entropy)

    Reference: Wong, Rice and Kolter, Fast is better than free: revisiting adversarial training,
    2020.
    """

    steps: ClassVar[int] = 1  # type: ignore[misc]
    step_size: float = setting(1.25, "number", above=0)
    loss: Loss = setting(cross_entropy, "function")
