"""sigma-zero: gradient descent on a smooth count of the changed elements, the smallest of which are
set back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, flat, rows, unit
from advex._settings import real_number
from advex.attacks.base import Attack
from advex.attacks.hyperplane import boundary
from advex.attacks.schedules import cosine
from advex.budgets import L0, Budget
from advex.driver.problem import Problem
from advex.errors import InvalidInput
from advex.goals import Goal

# Adam's; below the last, a gradient is taken for a rounding error of the largest
FIRST, SECOND, TINY = (
    0.9,
    0.999,
    1e-5,
)


@dataclass(frozen=True, kw_only=True)
class SigmaZero(Attack):
    """Minimises max(-f, 0) + mean(d^2 / (d^2 + sigma)), f the margin, by Adam on the gradient
    divided by its largest element.

    Elements whose change is below a threshold are set back to the original after every step; the
    threshold rises after a success and falls otherwise. d and the threshold are in units of the
    box's range; the step falls along a cosine to a tenth.

    Args:
        steps: number of steps, one query and one gradient each.
        step_size: Adam's first step, in units of the box's range.
        sigma: how sharply small changes are told from none.
        threshold: the first threshold.
        threshold_step: by how much it changes from step to step, times the step size.
        patience: an example leaves after so many steps that made its perturbation no smaller. None:
            never.

    Raises:
        InvalidInput: at the call, for another norm than ``L0``; a setting that is not above 0.
        InvalidType: a setting that is no number.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = SigmaZero(steps=200)(advex.testing.linear_model(), x, labels, advex.L0())
        >>> bool(result.success.all())
        True

    Reference: Cina, Villani, Pintor, Schoenherr, Biggio and Pelillo, sigma-zero: gradient-based
    optimization of l0-norm adversarial examples, 2024. Deviations: none known.
    """

    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = 1000
    step_size: float = 1.0
    sigma: float = 1e-3
    threshold: float = 0.3
    threshold_step: float = 0.01
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("sigma", "threshold", "threshold_step"):
            real_number(f"SigmaZero({name}=...)", getattr(self, name), strict=True)

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        if not isinstance(budget, L0):
            raise InvalidInput(
                f"SigmaZero works in L0 alone; received {budget!r}: use FMN or PDPGD"
            )

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        zeros = ops.zeros_like(problem.x0)
        threshold = self.threshold * ops.ones_like(problem.progress)
        return problem.start, {"mean": zeros, "square": zeros, "threshold": threshold}

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        value, gradient = problem.gradient(x, boundary)
        crossed, span = problem.reached, problem.span
        delta = (x - problem.x0) / span
        count = (
            2
            * self.sigma
            * delta
            / ops.square(ops.square(delta) + self.sigma)
            / flat(delta).shape[1]
        )
        descent = unit(
            count - span * rows(ops.where(value > 0, 0.0, 1.0), x) * gradient, order=float("inf")
        )
        mean = FIRST * memory["mean"] + (1 - FIRST) * descent
        square = SECOND * memory["square"] + (1 - SECOND) * ops.square(descent)
        taken = ops.cast(problem.step + 1, "float32")
        adam = (
            rows(1 / (1 - FIRST**taken), x)
            * mean
            / (ops.sqrt(rows(1 / (1 - SECOND**taken), x) * square) + TINY)
        )
        size = cosine(self.step_size, self.step_size / 10, problem)
        delta = (
            ops.clip(problem.x0 + span * (delta - rows(size, x) * adam), *problem.box) - problem.x0
        )
        threshold = memory["threshold"] + ops.where(crossed, 1.0, -1.0) * self.threshold_step * size
        threshold = ops.clip(threshold, 0.0, 1.0)
        kept = ops.abs(delta) >= rows(threshold, x) * span
        ahead = ops.clip(problem.x0 + ops.where(kept, delta, 0.0), *problem.box)
        return ahead, {"mean": mean, "square": square, "threshold": threshold}
