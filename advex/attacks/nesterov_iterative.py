"""NI-FGSM: momentum whose gradient is taken where the momentum leads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras import ops

from advex._arrays import Tensor, unit
from advex._settings import setting
from advex.attacks.base import Attack, StepSize
from advex.attacks.schedules import at
from advex.driver.problem import Loss, Problem
from advex.losses import cross_entropy


@dataclass(frozen=True, kw_only=True)
class NesterovIterative(Attack):
    r"""NI-FGSM: momentum whose gradient is taken where the momentum leads.

    When to use it:
        For adversarial examples that are to transfer to other models; the paper reports that it
        transfers better than `MomentumIterative`. Against the model itself prefer `PGD`, `APGD` or
        `Verdict`.

    $$
    v_{t+1} = \mu\, v_t + \frac{\nabla_x \ell(\tilde x_t)}{\lVert \nabla_x \ell(\tilde x_t)
    \rVert_1}, \qquad \tilde x_t = \Pi\bigl(x_t + \alpha\,\varepsilon\,\mu\, s(v_t)\bigr)
    $$

    $$ x_{t+1} = \Pi\bigl(x_t + \alpha\,\varepsilon\, s(v_{t+1})\bigr) $$

    $v$ is the velocity, 0 at first, $\mu$ is `decay`, and $\tilde x_t$ the point ahead. $\Pi$ takes
    the nearest point of budget and box, $\alpha$ is `step_size`, $\varepsilon$ the budget, $\ell$
    the loss. $s(v)$ is the direction of size 1 for the norm: the sign in Linf,
    $v / \lVert v \rVert_2$ in L2.

    Args:
        steps: number of steps, a whole number from 1. The paper: 10.
        step_size: length of a step as a share of epsilon, above 0: a number, or a function of
            progress (0 to 1). The paper: 1 / steps.
        decay: the paper's mu, at least 0. The paper: 1.
        loss: what is climbed, a function `(logits, goal) -> (batch,)`.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, a budget without a limit.

    Cost:
        One query and one gradient a step. An example leaves at its first success.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> NesterovIterative()(advex.testing.linear_model(), x, labels,
        ...     advex.Linf(0.1)).success.shape
        (32,)

    Reference:
        Lin, Song, He, Wang and Hopcroft, Nesterov accelerated gradient and scale invariance for
        adversarial attacks, ICLR 2020. https://arxiv.org/abs/1908.06281

    Deviations:
        The point ahead is a steepest step inside the budget, so that it can be a success itself.
        The paper adds $\alpha\,\mu\, v$, whose size depends on the number of elements. The default
        step is epsilon / 4 (the paper: `step_size=1/steps`). No scale invariance.
    """

    steps: int = setting(10, "whole")
    step_size: StepSize = setting(0.25, "schedule", above=0)
    decay: float = setting(1.0, "number", at_least=0)
    loss: Loss = setting(cross_entropy, "function")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return problem.x0, ops.zeros_like(problem.x0)

    def step(self, problem: Problem, x: Tensor, velocity: Any) -> tuple[Tensor, Any]:
        length = at(self.step_size, problem)
        ahead = problem.move(x, velocity, length * self.decay)
        _, gradient = problem.gradient(ahead, self.loss)
        velocity = self.decay * velocity + unit(gradient, order=1)
        return problem.move(x, velocity, length), velocity
