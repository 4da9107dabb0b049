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
    r"""FGSM from a point with strong noise, which is not clipped to the budget.

    When to use it:
        As the attack of `Adversarial` when training must be cheap: one gradient a step, and no
        collapse at usual budgets. For training alone: what it finds may lie outside of the budget,
        and counts there for nothing.

    $$
    x' = \mathrm{clip}\bigl(\tilde x + \alpha\,\varepsilon\,\mathrm{sign}\,\nabla_x \ell(\tilde
    x)\bigr)
    $$

    $$ \tilde x = \mathrm{clip}(x + u), \quad u \sim U(-k\varepsilon,\, k\varepsilon) $$

    $x$ is the input, $\varepsilon$ the budget, $k$ is `noise`, $\alpha$ is `step_size`, $\ell$ the
    loss; clip cuts at the box.

    Args:
        noise: in units of epsilon, at least 0. The paper: 2; with it no collapse was seen up to
            16/255.
        step_size: in units of epsilon, above 0. The paper: 1.
        loss: what is climbed, a function `(logits, goal) -> (batch,)`.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; a budget other than `Linf` with a limit.

    Cost:
        One gradient.

    Example:
        >>> NFGSM()
        NFGSM(noise=2.0, step_size=1.0, loss=cross_entropy)

    Reference:
        De Jorge, Bibi, Volpi, Sanyal, Torr, Rogez and Dokania, Make some noise: reliable and
        efficient single-step adversarial training, NeurIPS 2022. https://arxiv.org/abs/2202.01181

    Deviations:
        The start is cut at the box before the gradient is taken.
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
    r"""FGSM from a random point of the budget: one step of 1.25 epsilon, put back into the budget.

    When to use it:
        As the attack of `Adversarial` for the cheapest training, in any norm. Watch it with
        `StopCollapse`: from some epsilon on it collapses; `NFGSM` does not.

    $$
    x' = \Pi\bigl(\tilde x + \alpha\,\varepsilon\, s(\nabla_x \ell(\tilde x))\bigr), \qquad
    \tilde x = \Pi(x + \delta), \quad \delta \sim U(B_\varepsilon)
    $$

    $x$ is the input, $\varepsilon$ the budget, $\delta$ is drawn uniformly from its ball, $\alpha$
    is `step_size`, $\ell$ the loss. $\Pi$ takes the nearest point of budget and box, $s$ is the
    sign in Linf.

    Args:
        step_size: in units of epsilon, above 0. The paper: 1.25. Above that it collapses early;
            where epsilon is wide it must be smaller.
        loss: what is climbed, a function `(logits, goal) -> (batch,)`.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; a budget without a limit.

    Cost:
        One gradient.

    Example:
        >>> Fast()
        Fast(step_size=1.25, loss=cross_entropy)

    Reference:
        Wong, Rice and Kolter, Fast is better than free: revisiting adversarial training, ICLR 2020.
        https://arxiv.org/abs/2001.03994

    Deviations:
        Norms other than Linf.
    """

    steps: ClassVar[int] = 1  # type: ignore[misc]
    step_size: float = setting(1.25, "number", above=0)
    loss: Loss = setting(cross_entropy, "function")
