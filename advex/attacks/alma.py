"""ALMA: gradient descent on the distance and a penalty for being on the wrong side, whose weight is
learned on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, rows, unit
from advex._settings import real_number
from advex.attacks.base import Attack
from advex.attacks.hyperplane import boundary
from advex.budgets import L1, L2, Budget
from advex.driver.problem import Loss, Problem
from advex.errors import InvalidInput
from advex.goals import Goal
from advex.losses import spread

KEPT = 0.9  # of the weight, of the mean square and of the momentum, from step to step
# looks at the constraint, what counts as a gain, and what follows where there is none
EVERY, ENOUGH, SHARPER = (
    10,
    0.95,
    1.2,
)
END = 0.01  # what is left of the steps at the end
TINY = 1e-8
BEHIND = 1e-4  # the constraint asks for so much more than the boundary
FIRST = {L2: 0.1, L1: 0.5}  # how far the first step goes, in units of the box's range


def ratio(logits: Tensor, goal: Goal) -> Tensor:
    """What is zero on the boundary, in units of the spread of the logits, as ``dlr`` has it.

    It is constant, without a gradient, far across the boundary where the label is the last of the
    spread.
    """
    value, needed = boundary(logits, goal), spread(goal)
    if logits.shape[1] < needed:
        return value
    ordered, _ = ops.top_k(logits, needed)
    low = (ordered[:, 2] + ordered[:, 3]) / 2 if goal.targeted else ordered[:, 2]
    return value / (ordered[:, 0] - low + TINY)


def pull(missing: Tensor, weight: Tensor, sharpness: Tensor) -> Tensor:
    """Slope of the penalty where ``missing`` is what the constraint lacks: ``weight`` at 0, less
    below, quickly more above.
    """
    above = weight + 2 * weight * sharpness * missing + ops.square(sharpness * missing) / 2
    return ops.where(
        missing >= 0, above, weight / ops.square(1 - sharpness * ops.minimum(missing, 0.0))
    )


@dataclass(frozen=True, kw_only=True)
class ALMA(Attack):
    """Augmented Lagrangian: RMSProp with momentum on |d| + P(-f), d the change, f the margin in
    units of the logits' spread.

    The slope of the penalty P at the boundary is the multiplier, which follows the slopes that were
    met; before the first success P becomes sharper every ten steps in which the constraint made no
    progress. From the first success on the step falls exponentially to a hundredth.

    Args:
        steps: number of steps, one query and one gradient each.
        first_step: how far the first step goes at most, in the norm of the budget and in units of
            the box's range. None: 0.1 in L2, 0.5 in L1.
        patience: an example leaves after so many steps that made its perturbation no smaller. None:
            never.
        loss: f, what is climbed; zero on the boundary: ``(logits, goal) -> (batch,)``. Starts
            (``start=``) that are so far across it that the label comes third need
            ``advex.losses.margin``: the usual one has no gradient there.

    Raises:
        InvalidInput: at the call, for ``Linf`` and ``L0``, whose size has no useful gradient; a
        setting that is not above 0. InvalidType: a setting that is no number.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = ALMA(steps=200)(advex.testing.linear_model(), x, labels, advex.L1())
        >>> bool(result.success.all())
        True

    Reference: Rony, Granger, Pedersoli and Ben Ayed, Augmented Lagrangian adversarial attacks,
    2021, with the penalty P2. Deviations: the first step goes no farther than to the linearised
    boundary; its length is that of a step in which only elements move that are not at their end of
    the box.
    """

    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = 500
    first_step: float | None = None
    patience: int | None = None
    loss: Loss = ratio

    def __post_init__(self) -> None:
        if self.first_step is not None:
            real_number("ALMA(first_step=...)", self.first_step, strict=True)

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        if not isinstance(budget, L1 | L2):
            raise InvalidInput(
                f"ALMA works in L2 and L1; received {budget!r}: use PDPGD for the other norms"
            )

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        zeros, one = ops.zeros_like(problem.x0), ops.ones_like(problem.progress)
        scales = {"weight": one, "sharpness": one, "size": one, "missing": one, "since": -one}
        return problem.start, {"square": ops.ones_like(zeros), "momentum": zeros} | scales

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        value, gradient = problem.gradient(x, self.loss)
        missing, first = BEHIND - value, ops.equal(problem.step, 0)
        before, sharpness, since = memory["missing"], memory["sharpness"], memory["since"]

        due = ops.logical_and(ops.equal((problem.step + 1) % EVERY, 0), ops.logical_not(first))
        stuck = ops.logical_and(since < 0, missing >= ENOUGH * before)
        sharpness = ops.where(ops.logical_and(due, stuck), SHARPER * sharpness, sharpness)
        before = ops.where(ops.logical_or(first, due), missing, before)
        met = pull(missing, memory["weight"], sharpness)
        weight = ops.clip(KEPT * memory["weight"] + (1 - KEPT) * met, 1e-6, 1e12)
        weight = ops.where(first, memory["weight"], weight)
        since = ops.where(ops.logical_and(since < 0, problem.reached), problem.progress, since)

        delta = x - problem.x0
        outward = unit(delta, order=2) if isinstance(problem.budget, L2) else ops.sign(delta)
        descent = outward - rows(pull(missing, weight, sharpness), x) * gradient * problem.span
        square = KEPT * memory["square"] + (1 - KEPT) * ops.square(descent)
        momentum = KEPT * memory["momentum"] + descent / (ops.sqrt(square) + TINY)
        size = ops.where(first, self._first(problem, x, value, gradient, descent), memory["size"])
        fallen = ops.where(since < 0, 0.0, (problem.progress - since) / (1 - since))
        ahead = ops.clip(
            x - rows(size * ops.power(END, fallen), x) * momentum * problem.span, *problem.box
        )
        scales = {
            "weight": weight,
            "sharpness": sharpness,
            "size": size,
            "missing": before,
            "since": since,
        }
        return ahead, {"square": square, "momentum": momentum} | scales

    def _first(
        self, problem: Problem, x: Tensor, value: Tensor, gradient: Tensor, descent: Tensor
    ) -> Tensor:
        """What ``descent`` is multiplied by so that the first step has its length."""
        low, high = problem.box
        free = ops.logical_or(
            ops.logical_and(descent < 0, x < high), ops.logical_and(descent > 0, x > low)
        )
        norm = L1 if isinstance(problem.budget, L1) else L2
        length = FIRST[norm] if self.first_step is None else self.first_step
        # No farther than the linearised boundary: the last steps are a hundredth of the first, and
        # are to meet it.
        length = ops.minimum(
            length, ops.abs(value) / ops.maximum(problem.budget.dual(gradient), TINY) / problem.span
        )
        return length / ops.maximum(problem.budget.size(ops.where(free, descent, 0.0)), TINY)
