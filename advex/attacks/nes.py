"""NES: ascent along a gradient that is estimated from normal noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras import ops

from advex._arrays import Tensor
from advex._settings import setting
from advex.attacks.scores_alone import PairsAttack, at_least_a_level
from advex.driver.problem import Problem


@dataclass(frozen=True, kw_only=True)
class NES(PairsAttack):
    r"""Natural evolution strategies: ascent along a gradient that is estimated from normal noise.

    When to use it:
        Against a model that gives scores, as the classic gradient estimate. `SquareAttack` needs
        fewer queries on images; this one makes no assumption about them.

    $$ g_t = \sum_{i=1}^{n} \bigl(\ell(x_t + \sigma u_i) - \ell(x_t - \sigma u_i)\bigr)\, u_i $$

    $$
    v_{t+1} = \mu\, v_t + (1 - \mu)\, g_t, \qquad x_{t+1} = \Pi\bigl(x_t + \alpha\,\varepsilon\,
    s(v_{t+1})\bigr)
    $$

    $u_i$ are normal numbers, $n$ is `pairs`, $\ell$ the loss, $\mu$ is `decay`, $\alpha$
    `step_size`, $\varepsilon$ the budget. $\Pi$ takes the nearest point of budget and box; $s$ is
    the sign in Linf, the direction in L2. On a linear loss of $d$ elements the cosine of estimate
    and gradient is about $\sqrt{n / (n + d + 1)}$.

    Args:
        steps: the limit of queries per example, a whole number from 1. All count: the clean input,
            both points of each pair, a look at each iterate, and the last judgement.
        loss: what must grow, a function `(logits, goal) -> (batch,)`.
        pairs: how many pairs of points an estimate has, a whole number from 1.
        sigma: how far the points are from the iterate, in each element: a share of the box, above 0
            and at most 1; at least one level where inputs have levels. The paper: 0.001.
        step_size: length of a step as a share of epsilon, above 0. The paper: 0.01 at an epsilon of
            0.05, which is 0.2.
        decay: of the velocity, at least 0 and below 1.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for norms other than `Linf` and `L2`, or
            without a limit.

    Cost:
        At most `steps` queries, no gradients: two for each pair and one for each iterate.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = NES(steps=300, pairs=10)(advex.testing.linear_model(), x, labels,
        ...     advex.Linf(0.3))
        >>> int(result.gradients.sum()), bool(result.queries.max() <= 300)
        (0, True)

    Reference:
        Ilyas, Engstrom, Athalye and Lin, Black-box adversarial attacks with limited queries and
        information, ICML 2018, and the authors' implementation. https://arxiv.org/abs/1804.08598

    Deviations:
        The loss is the margin (the paper: cross-entropy, ``loss=losses.cross_entropy``); a step is
        a fifth of epsilon, as 0.01 is of the paper's 0.05, and stays so (the implementation halves
        it where the loss does not fall); points end at the box, in Linf at the ball, and an
        estimate is made of what the model was shown; a success among them counts.
    """

    sigma: float = setting(1e-3, "number", above=0, at_most=1, share="a share of the box")
    step_size: float = setting(0.2, "number", above=0)
    decay: float = setting(0.9, "number", at_least=0, below=1)

    def directions(self, problem: Problem, shape: tuple[int, ...]) -> Tensor:
        return problem.normal(shape)

    def width(self, problem: Problem) -> Tensor:
        return at_least_a_level(problem, self.sigma)

    def nothing(self, problem: Problem) -> Any:
        return {"velocity": ops.zeros_like(problem.x0)}

    def moved(
        self, problem: Problem, x: Tensor, slope: Tensor, taken: Tensor, past: Any
    ) -> tuple[Tensor, Any]:
        velocity = self.decay * past["velocity"] + (1 - self.decay) * slope
        return problem.move(x, velocity, self.step_size), {"velocity": velocity}
