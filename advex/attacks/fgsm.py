"""FGSM: one gradient, one step to the far end of the budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from advex._arrays import Tensor
from advex._settings import setting
from advex.attacks.base import Attack
from advex.driver.problem import Loss, Problem
from advex.losses import cross_entropy


@dataclass(frozen=True, kw_only=True)
class FGSM(Attack):
    """Fast gradient sign method: maximise the linearised loss over budget and box, in closed form.

    x = argmax over the budget and the box of ``gradient . x``. In the maximum norm that is ``x0 +
    epsilon * sign(gradient)``, clipped; in L2 a step along the gradient whose clipped elements give
    their share to the others; in L1 the elements with the largest gradients are driven to the end
    of the box until the budget is spent; in L0 those with the largest gain.

    Args:
        loss: what is climbed: ``(logits, goal) -> (batch,)``.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> FGSM()(advex.testing.linear_model(), x, labels, advex.Linf(0.3)).gradients.max()
        np.int64(1)

    Reference: Goodfellow, Shlens and Szegedy, Explaining and harnessing adversarial examples, 2015.
    Deviations: other norms than the maximum, where the box takes part in the maximisation; a
    targeted form.
    """

    steps: ClassVar[int] = 1  # type: ignore[misc]
    loss: Loss = setting(cross_entropy, "function")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return problem.x0, ()

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        _, gradient = problem.gradient(x, self.loss)
        return problem.budget.extreme(gradient, problem.x0, problem.lower, problem.upper), memory
