"""FAB: along the decision boundary, towards the point of it that is nearest to the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, flat, rows
from advex._settings import setting
from advex.attacks.base import Attack
from advex.attacks.hyperplane import classes_at_start, linearised
from advex.budgets import L0
from advex.driver.problem import Problem
from advex.errors import InvalidInput
from advex.goals import INFINITY

# of the box's range: the distance from the original that counts where an example is still nearer
SMALLEST_DISTANCE = 1e-5
MAX_PUSH = 1024.0  # how much farther than usual a step may aim behind the boundary
SMALLEST_SIZE = 1e-30  # guards divisions


@dataclass(frozen=True, kw_only=True)
class FAB(Attack):
    r"""Fast adaptive boundary attack: along the decision boundary, towards its point nearest to the
    input.

    When to use it:
        For the smallest perturbation in Linf, L2 or L1 without any tuning: it does not depend on
        the scale of gradients. Part of `AutoAttack` and `MinimumNorm`.

    $$
    x_{t+1} = (1 - a)\, P_t(x_t) + a\, P_t(x_0), \qquad a = \min\Bigl(\frac{d}{d + d_0},\,
    \alpha\Bigr)
    $$

    $$
    P_t(y) = \operatorname{argmin}_{z \in \text{box}} \; \lVert z - y \rVert \;\; \text{subject
    to}\;\; f(x_t) + \langle \nabla_x f(x_t),\, z - x_t \rangle = b_t
    $$

    $f$ is the margin, $x_0$ the input, $d$ and $d_0$ are the distances of $x_t$ and $x_0$ to their
    projections, $\alpha$ is `alpha`. $b_t$ is the overshoot: the plane lies a little beyond the
    boundary. An adversarial $x_t$ is first moved back, to $x_0 + \beta\,(x_t - x_0)$, with $\beta$
    = `backward`. With a target (`Targeted`, or `EveryTarget` around the attack) $f$ is its margin.
    Without, it is that of the wrong class whose linearised boundary is nearest. Without a limit
    (`Linf()`) the smallest perturbation is kept; with one an example leaves at the first success
    inside it.

    Args:
        steps: number of steps, a whole number from 1. The paper: 100.
        alpha: largest share of the input's projection (alpha_max), 0 to 1. The paper: 0.1.
        overshoot: how far beyond the boundary a step aims, as a share of the way to it, above 0.
            The paper's eta is 1 + overshoot, 1.05.
        backward: what is left of an adversarial perturbation that is moved back (beta), above 0 and
            below 1. The paper: 0.9.
        classes: without a target, how many wrong classes are looked at, the likeliest at the last
            point.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for `L0`, whose boundary has no nearest
            point.

    Cost:
        One query a step, and one gradient with a target or with two classes. Without a target
        `classes + 1` gradients.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = FAB(steps=10)(advex.testing.linear_model(), x, labels, advex.L2())
        >>> bool(result.success.all())
        True

    Reference:
        Croce and Hein, Minimally distorted adversarial examples with a fast adaptive boundary
        attack, ICML 2020. https://arxiv.org/abs/1907.02044

    Deviations:
        One query a step instead of two, as f is linearised at the adversarial point itself, before
        the move back. Where the projection is then not nearer to the input than x, the point that
        was moved back is taken as it is. The hyperplane is shifted, for both projections alike,
        where the paper stretches the step and cuts it at the box. It is shifted by no less than
        after a move back, so that a point just before the boundary crosses it too, and by twice as
        much again and again as long as it does not. Nine wrong classes, not all. No final search:
        it gained 0.2 % in 100 steps and lost 4 % in 20. `Restarts`: the first run begins at the
        input, the others at a random point after one step, half as far away as the linearised
        boundary (or as epsilon, or as a tenth of the box, if that is less).
    """

    lacks: ClassVar = (L0,)
    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = setting(100, "whole")
    alpha: float = setting(0.1, "number", at_least=0)
    overshoot: float = setting(0.05, "number", above=0)
    backward: float = setting(0.9, "number", above=0)
    classes: int = setting(9, "whole")

    def __post_init__(self) -> None:
        if self.alpha > 1 or self.backward >= 1:
            raise InvalidInput(
                f"alpha is at most 1 and backward below 1; received alpha={self.alpha},"
                f" backward={self.backward}"
            )

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return problem.start, {"push": ops.ones_like(problem.progress)} | classes_at_start(
            problem, self.classes
        )

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        x0, budget, span, (low, high) = problem.x0, problem.budget, problem.span, problem.box
        shown = problem.shown(x)
        value, normal, memory = linearised(problem, x, memory)
        crossed, push, missing = problem.reached, memory["push"], -value
        # 8-bit: a point outside a limited budget is shown inside, and nothing is known of it
        if shown is not x:
            half = span / 510
            x = shown + ops.clip(x - shown, -half, half)
            missing = missing - ops.sum(flat(normal * (x - shown)), axis=1)
        delta = x - x0
        size, slope = budget.size(delta), ops.sum(flat(normal * delta), axis=1)
        least = (
            self.overshoot
            * (1 - self.backward)
            * ops.maximum(ops.abs(slope), SMALLEST_DISTANCE * problem.width * budget.dual(normal))
        )

        back = ops.where(crossed, 1 - self.backward, 0.0)
        here = x - rows(back, x) * delta
        beyond = ops.maximum(self.overshoot * ops.abs(missing + back * slope), push * least)
        near = budget.onto(here, normal, missing + back * slope + beyond, low, high)
        nearest = budget.onto(x0, normal, missing + slope + beyond, low, high)
        way, whole = budget.size(near - here), budget.size(nearest - x0)
        share = ops.minimum(way / ops.maximum(way + whole, SMALLEST_SIZE), self.alpha)
        ahead = ops.clip(near + rows(share, x) * (nearest - near), low, high)
        farther = ops.logical_and(crossed, budget.size(ahead - x0) >= size)
        ahead = ops.where(rows(farther, x), here, ahead)
        short = ops.logical_and(ops.logical_not(crossed), missing < least)
        push = ops.clip(ops.where(short, 2 * push, push / 2), 1.0, MAX_PUSH)
        return self._started(problem, ahead, whole), memory | {"push": push}

    def _started(self, problem: Problem, ahead: Tensor, distance: Tensor) -> Tensor:
        """``ahead``, but after the first step of a repetition a random point around the
        original.
        """
        fresh = ops.logical_and(ops.equal(problem.step, 0), problem.run > 0)

        def drawn() -> Tensor:
            x0, budget = problem.x0, problem.budget
            noise = budget.bound(1.0).sample(problem)
            reach = (
                problem.epsilon
                if budget.limited
                else 0.1 * budget.size(ops.ones_like(x0) * problem.span)
            )
            radius = 0.5 * ops.minimum(ops.where(distance > 0, distance, INFINITY), reach)
            start = x0 + noise * rows(radius / ops.maximum(budget.size(noise), SMALLEST_SIZE), x0)
            return ops.where(rows(fresh, x0), ops.clip(start, *problem.box), ahead)

        return ops.cond(ops.any(fresh), drawn, lambda: ahead)
