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
    r"""Fast gradient sign method: one gradient, one step to the far end of the budget.

    When to use it:
        For a first look, in single-step adversarial training, and as the baseline of a comparison.
        Report no robust accuracy from it alone: `PGD` and `Verdict` break far more.

    $$
    x = \operatorname{argmax}_{y} \; \langle \nabla_x \ell(x_0),\, y \rangle
    \quad \text{subject to} \quad \lVert y - x_0 \rVert \le \varepsilon,\quad l \le y \le u
    $$

    $x_0$ is the input, $\ell$ the loss, $\varepsilon$ the budget, and $l$ and $u$ are the ends of
    the box. The maximum is found in closed form. In Linf it is
    $\mathrm{clip}(x_0 + \varepsilon\,\mathrm{sign}\,\nabla_x \ell(x_0))$. In L2 the step follows
    the gradient, and clipped elements hand their share to the others. In L1 the elements with the
    largest gradients go to the end of the box until the budget is spent. In L0 those with the
    largest gain go.

    Args:
        loss: what is climbed, a function `(logits, goal) -> (batch,)`. The paper: cross-entropy, as
            here.

    Raises:
        InvalidType: the loss is not a function.
        InvalidInput: at the call, a budget without a limit.

    Cost:
        One gradient and three queries for each example: the clean input, the gradient, the last
        judgement.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> FGSM()(advex.testing.linear_model(), x, labels, advex.Linf(0.3)).gradients.max()
        np.int64(1)

    Reference:
        Goodfellow, Shlens and Szegedy, Explaining and harnessing adversarial examples, ICLR 2015.
        https://arxiv.org/abs/1412.6572

    Deviations:
        Norms other than Linf, where the box takes part in the maximisation. A targeted form.
    """

    steps: ClassVar[int] = 1  # type: ignore[misc]
    loss: Loss = setting(cross_entropy, "function")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return problem.x0, ()

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        _, gradient = problem.gradient(x, self.loss)
        return problem.budget.extreme(gradient, problem.x0, problem.lower, problem.upper), memory
