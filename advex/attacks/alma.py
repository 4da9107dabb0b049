"""ALMA: gradient descent on the distance and a penalty for being on the wrong side, whose weight is
learned on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, rows, unit
from advex._settings import setting
from advex.attacks.base import Attack
from advex.attacks.hyperplane import boundary
from advex.budgets import L1, L2
from advex.driver.problem import Loss, Problem
from advex.goals.base import Goal, about_scores
from advex.losses import has_classes, spread

DECAY = 0.9  # of the weight, of the mean square and of the momentum, from step to step
LOOK_EVERY = 10  # steps between two looks at the constraint
PROGRESS = 0.95  # of what the constraint lacked at the last look: less counts as progress
SHARPEN = 1.2  # the factor of the sharpness where there was none
LAST_STEP = 0.01  # as a share of the first one
SMALLEST_SIZE = 1e-8  # guards divisions
OVERSHOOT = 1e-4  # the constraint asks for so much more than the boundary
FIRST_STEP = {L2: 0.1, L1: 0.5}  # its length, in units of the box's range
MIN_WEIGHT, MAX_WEIGHT = 1e-6, 1e12


def ratio(logits: Tensor, goal: Goal) -> Tensor:
    """What is zero on the boundary, in units of the spread of the logits, as ``dlr`` has it.

    It is constant, without a gradient, far across the boundary where the label is the last of the
    spread.
    """
    value, needed = boundary(logits, goal), spread(goal)
    if not (about_scores(goal) and has_classes(logits)) or logits.shape[1] < needed:
        return value
    ordered, _ = ops.top_k(logits, needed)
    low = (ordered[:, 2] + ordered[:, 3]) / 2 if goal.targeted else ordered[:, 2]
    return value / (ordered[:, 0] - low + SMALLEST_SIZE)


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
    r"""Augmented Lagrangian attack: descent on the distance and a penalty for the wrong side, whose
    weight is learned on the way.

    When to use it:
        For the smallest perturbation in L2 or L1 with some hundreds of gradients. It is the first
        member of `MinimumNorm` in both norms.

    $$ \min_x \; \lVert x - x_0 \rVert + P\bigl(-f(x);\, \rho, \mu\bigr) $$

    $$
    P'(v; \rho, \mu) = \begin{cases}
    \mu + 2 \mu \rho\, v + \tfrac{1}{2} (\rho v)^2 & v \ge 0 \\
    \mu / (1 - \rho v)^2 & v < 0
    \end{cases}
    $$

    $x_0$ is the input, $f$ the margin divided by the spread of the logits (as `losses.dlr` has it).
    The multiplier $\mu$ is a running mean of the slopes $P'$ that were met. Before the first
    success the sharpness $\rho$ grows by a fifth every ten steps in which $f$ made no progress. The
    problem is minimised by RMSProp with momentum. From the first success on the step falls
    exponentially, to a hundredth.

    Args:
        steps: number of steps, a whole number from 1.
        first_step: how far the first step goes at most, in the norm of the budget and in units of
            the box's range, above 0. None: 0.1 in L2, 0.5 in L1.
        patience: an example leaves after this many steps without a smaller perturbation. None:
            never.
        loss: f, what is climbed; zero on the boundary: a function `(logits, goal) -> (batch,)`.
            Starts (`start=`) that are so far across that the label comes third need
            `advex.losses.margin`: the usual one has no gradient there.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for `Linf` and `L0`, whose size has no
            useful
            gradient.

    Cost:
        One query and one gradient a step.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = ALMA(steps=200)(advex.testing.linear_model(), x, labels, advex.L1())
        >>> bool(result.success.all())
        True

    Reference:
        Rony, Granger, Pedersoli and Ben Ayed, Augmented Lagrangian adversarial attacks, ICCV 2021.
        https://arxiv.org/abs/2011.11857

    Deviations:
        The penalty is the paper's P2. The first step goes no farther than to the linearised
        boundary. Its length is that of a step in which only elements move that are not at their end
        of the box.
    """

    norms: ClassVar = (L2, L1)
    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = setting(500, "whole")
    first_step: float | None = setting(None, "number", above=0)
    patience: int | None = setting(None, "whole")
    loss: Loss = setting(ratio, "function")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        zeros, one = ops.zeros_like(problem.x0), ops.ones_like(problem.progress)
        scales = {"weight": one, "sharpness": one, "size": one, "missing": one, "since": -one}
        return problem.start, {"square": ops.ones_like(zeros), "momentum": zeros} | scales

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        x0, span, progress = problem.x0, problem.span, problem.progress
        value, gradient = problem.gradient(x, self.loss)
        missing, first = OVERSHOOT - value, ops.equal(problem.step, 0)
        before, sharpness, since = memory["missing"], memory["sharpness"], memory["since"]

        due = ops.logical_and(ops.equal((problem.step + 1) % LOOK_EVERY, 0), ops.logical_not(first))
        stuck = ops.logical_and(since < 0, missing >= PROGRESS * before)
        sharpness = ops.where(ops.logical_and(due, stuck), SHARPEN * sharpness, sharpness)
        before = ops.where(ops.logical_or(first, due), missing, before)
        met = pull(missing, memory["weight"], sharpness)
        weight = ops.clip(DECAY * memory["weight"] + (1 - DECAY) * met, MIN_WEIGHT, MAX_WEIGHT)
        weight = ops.where(first, memory["weight"], weight)
        since = ops.where(ops.logical_and(since < 0, problem.reached), progress, since)

        delta = x - x0
        outward = unit(delta, order=2) if isinstance(problem.budget, L2) else ops.sign(delta)
        descent = outward - rows(pull(missing, weight, sharpness), x) * gradient * span
        square = DECAY * memory["square"] + (1 - DECAY) * ops.square(descent)
        momentum = DECAY * memory["momentum"] + descent / (ops.sqrt(square) + SMALLEST_SIZE)
        size = ops.where(first, self._first(problem, x, value, gradient, descent), memory["size"])
        fallen = ops.where(since < 0, 0.0, (progress - since) / (1 - since))
        length = rows(size * ops.power(LAST_STEP, fallen), x)
        ahead = ops.clip(x - length * momentum * span, *problem.box)
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
        budget, (low, high) = problem.budget, problem.box
        free = ops.logical_or(
            ops.logical_and(descent < 0, x < high), ops.logical_and(descent > 0, x > low)
        )
        usual = FIRST_STEP[L1 if isinstance(budget, L1) else L2]
        length = usual if self.first_step is None else self.first_step
        # No farther than the linearised boundary: the last steps are a hundredth of the first, and
        # are to meet it.
        steepness = ops.maximum(budget.dual(gradient), SMALLEST_SIZE)
        length = ops.minimum(length, ops.abs(value) / steepness / problem.width)
        return length / ops.maximum(budget.size(ops.where(free, descent, 0.0)), SMALLEST_SIZE)
