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
    """x <- project(x + step_size * epsilon * steepest(velocity)), where velocity is a running mean
    of estimates of the gradient: sums of ``(loss(x + sigma u) - loss(x - sigma u)) u`` over normal
    numbers u. Scores suffice.

    Linf and L2, with a limit. On a linear loss of d elements the cosine of estimate and gradient is
    about ``sqrt(pairs / (pairs + d + 1))``.

    Args:
        steps: the limit of queries per example. All count: the clean input, both points of each
            pair, a look at each iterate, and the last judgement.
        loss: what must grow: ``(logits, goal) -> (batch,)``.
        pairs: how many pairs of points an estimate has.
        sigma: how far the points are from the iterate, in each element: a share of the box; at
            least one level where inputs have levels.
        step_size: in units of epsilon.
        decay: of the velocity.

    Raises:
        InvalidInput: at the call, for norms other than Linf and L2, or without a limit.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = NES(steps=300, pairs=10)(advex.testing.linear_model(), x, labels,
        ...     advex.Linf(0.3))
        >>> int(result.gradients.sum()), bool(result.queries.max() <= 300)
        (0, True)

    Reference: Ilyas, Engstrom, Athalye and Lin, Black-box adversarial attacks with limited queries
    and information, 2018, and the authors' implementation. Deviations: the loss is the margin (the
    paper: cross-entropy, ``loss=losses.cross_entropy``); a step is a fifth of epsilon, as 0.01 is
    of the paper's 0.05, and stays so (the implementation halves it where the loss does not fall);
    points end at the box, in Linf at the ball, and an estimate is made of what the model was shown;
    a success among them counts.
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
