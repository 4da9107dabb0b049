"""BIM: repeated steepest steps from the input itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from advex._arrays import Tensor
from advex._settings import setting
from advex.attacks.base import Attack, StepSize
from advex.attacks.schedules import at
from advex.driver.problem import Loss, Problem
from advex.losses import cross_entropy


@dataclass(frozen=True, kw_only=True)
class BIM(Attack):
    r"""Basic iterative method: repeated steepest steps that begin at the input itself.

    When to use it:
        When a result must not depend on a random start, or to compare with papers that report
        I-FGSM. Otherwise `PGD`, whose random start leaves flat spots around the input.

    $$
    x_{t+1} = \Pi\bigl(x_t + \alpha\,\varepsilon\, s(\nabla_x \ell(x_t))\bigr), \qquad
    x_0 = \text{the input}
    $$

    $\Pi$ takes the nearest point of budget and box, $\alpha$ is `step_size`, $\varepsilon$ the
    budget, $\ell$ the loss. $s(g)$ is a direction of size 1 along which the loss grows fast: the
    sign of $g$ in Linf, $g / \lVert g \rVert_2$ in L2, the signs of the largest 1 % of $g$ in L1,
    the sign of the largest element in L0.

    Args:
        steps: number of steps, a whole number from 1. The paper: min(4 + e, 1.25 e), where e is
            epsilon in grey levels.
        step_size: length of a step as a share of epsilon, above 0: a number, or a function of
            progress (0 to 1) such as `LinearDecay(0.5)`. The paper: one grey level.
        loss: what is climbed, a function `(logits, goal) -> (batch,)`.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, a budget without a limit.

    Cost:
        One query and one gradient a step. An example leaves at its first success.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> BIM(steps=5)(advex.testing.linear_model(), x, labels, advex.L2(0.5)).distance.shape
        (32,)

    Reference:
        Kurakin, Goodfellow and Bengio, Adversarial examples in the physical world, ICLR workshop
        2017. https://arxiv.org/abs/1607.02533

    Deviations:
        The step is a fixed share of epsilon, where the paper takes one grey level. Every norm. An
        example leaves at its first success.
    """

    steps: int = setting(10, "whole")
    step_size: StepSize = setting(0.25, "schedule", above=0)
    loss: Loss = setting(cross_entropy, "function")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return problem.x0, ()

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        _, gradient = problem.gradient(x, self.loss)
        return problem.move(x, gradient, at(self.step_size, problem)), memory
