"""APGD: steps that halve by themselves where they stop helping, and a return to the best point.

Here in the maximum norm and in L2, by the first paper; ``apgd_l1`` has L1, by the second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, rows, unit
from advex._settings import setting, shown
from advex.attacks._phases import Phases, among, best_so_far, phases
from advex.attacks.apgd_l1 import init_l1, step_l1
from advex.attacks.base import Attack
from advex.budgets import L0, L1, L2, Budget
from advex.driver.problem import Loss, Problem
from advex.errors import InvalidInput
from advex.goals import Goal
from advex.losses import cross_entropy

MOMENTUM = 0.75
# shares of the steps: the first interval between checkpoints, the shortest, and by how much each is
# shorter than the one before
INTERVALS = (0.22, 0.06, 0.03)


@dataclass(frozen=True, kw_only=True)
class APGD(Attack):
    r"""Auto-PGD: ascent with momentum whose step halves by itself, from the best point so far.

    When to use it:
        When a single attack within a budget must be as strong as it can be without tuning. It is
        the main part of `AutoAttack`, and of `Verdict` where gradients mislead.

    $$ z_{t+1} = \Pi\bigl(x_t + \eta_t\,\varepsilon\, s(\nabla_x \ell(x_t))\bigr) $$

    $$ x_{t+1} = \Pi\bigl(x_t + 0.75\,(z_{t+1} - x_t) + 0.25\,(x_t - x_{t-1})\bigr) $$

    $\Pi$ takes the nearest point of budget and box, $\varepsilon$ is the budget, $\ell$ the loss.
    $s(g)$ is the sign of $g$ in Linf, $g / \lVert g \rVert_2$ in L2. The step $\eta_t$ begins at 2.
    At checkpoints it is halved, and the search returns to the best point, if the loss rose in no
    more than the share `rho` of the steps since the last checkpoint, or if neither step nor best
    loss has changed since. The intervals between checkpoints shrink from 22 % to 6 % of the steps.
    In L1 (the second paper) there is no momentum: a step follows the signs of the largest
    gradients, and how many they are, and how far it goes, depends on how sparse the best point is.

    Args:
        steps: number of steps, a whole number from 1. The paper: 100.
        loss: what is climbed, a function `(logits, goal) -> (batch,)`: `losses.cross_entropy`,
            `losses.dlr` or `losses.margin`. The paper: cross-entropy and DLR, one run each.
        rho: share of the steps that must help for the step size to stay, at least 0. The paper:
            0.75.
        radii: the search begins in wider balls, of so many times epsilon, and ends with 1. The
            second paper uses (3, 2, 1) for L1.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for `L0`, for a budget without a limit,
            or
            for radii that do not end with 1.

    Cost:
        One query and one gradient a step. An example leaves at its first success.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> APGD(steps=20)(advex.testing.linear_model(), x, labels, advex.L2(0.5)).success.shape
        (32,)

    Reference:
        Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble of diverse
        parameter-free attacks, ICML 2020. https://arxiv.org/abs/2003.01690

        Croce and Hein, Mind the box: l1-APGD for sparse adversarial attacks on image classifiers,
        ICML 2021. https://arxiv.org/abs/2103.01208

    Deviations:
        An example leaves at its first success. Cross-entropy does not saturate, see
        `losses.cross_entropy`. In L2 the nearest point of ball and box is taken, where the authors
        cut at the box after the ball. No gradient is taken at the last point.
    """

    lacks: ClassVar = (L0,)

    steps: int = setting(100, "whole")
    loss: Loss = setting(cross_entropy, "function")
    rho: float = setting(0.75, "number", at_least=0)
    radii: tuple[float, ...] = (1.0,)

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        if (
            not isinstance(self.radii, tuple)
            or not self.radii
            or not all(isinstance(radius, int | float) and radius >= 1 for radius in self.radii)
            or self.radii[-1] != 1
        ):
            raise InvalidInput(
                "radii must be a tuple of numbers of at least 1 that ends with 1, such as (3, 2,"
                f" 1); received {shown(self.radii)}"
            )

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return init_l1(problem, self) if isinstance(problem.budget, L1) else init_dense(problem)

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        step = step_l1 if isinstance(problem.budget, L1) else step_dense
        return step(problem, x, memory, self)


def init_dense(problem: Problem) -> tuple[Tensor, Any]:
    """A random point at the edge of the ball."""
    budget, zeros = problem.budget, ops.zeros_like(problem.progress)
    order = 2 if isinstance(budget, L2) else math.inf
    noise = unit(budget.sample(problem), order=order)
    x = problem.project(problem.x0 + problem.epsilon * noise)
    return x, {
        "best": x,
        "gradient": ops.zeros_like(x),
        "value": zeros,
        "size": zeros,  # of the step, in units of the ball
        "last": x,  # the point before
        "before": zeros,  # its loss
        "rises": zeros,  # in how many steps the loss rose since the last checkpoint
        "seen": zeros,  # the best loss at the last checkpoint
        "halved": ops.zeros_like(problem.step, dtype="bool"),  # whether the step was halved there
    }


def step_dense(problem: Problem, x: Tensor, memory: Any, settings: APGD) -> tuple[Tensor, Any]:
    """A step of steepest ascent with momentum; where the step was halved, from the best point."""
    balls, budget = Phases(settings.steps, settings.radii), problem.budget
    value, gradient = problem.gradient(x, settings.loss)
    fresh, width = balls.begin(problem.step), balls.width(problem.step)
    kept = best_so_far(memory, x, value, gradient, fresh)
    halve, marks = _checked(problem, value, kept["value"], memory, settings, fresh)
    size = ops.where(fresh, 2.0, memory["size"])
    size = ops.where(halve, size / 2, size)
    back = rows(halve, x)

    def returned() -> tuple[Tensor, Tensor]:
        return ops.where(back, kept["best"], x), ops.where(back, kept["gradient"], gradient)

    here, slope = ops.cond(ops.any(halve), returned, lambda: (x, gradient))
    stride = rows(size * width * problem.epsilon, x) * budget.steepest(slope)
    target = balls.inside(problem, here + stride)
    drift = ops.where(rows(fresh, x), target - here, here - memory["last"])
    ahead = here + MOMENTUM * (target - here) + (1 - MOMENTUM) * drift
    ahead = balls.turned(problem, balls.inside(problem, ahead), kept["best"])
    return ahead, kept | marks | {"last": here, "before": value, "size": size}


def _checked(
    problem: Problem, value: Tensor, best: Tensor, memory: Any, settings: APGD, fresh: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Whose step is halved, (batch,) of bool, and what is remembered until the next checkpoint.

    At a checkpoint a step is halved if the loss rose too rarely since the last one, or if neither
    step nor best loss has changed since.
    """
    looks = {
        start + at: count
        for start, length, _ in phases(settings.steps, settings.radii)
        for at, count in checkpoints(length).items()
    }
    due = among(problem.step, list(looks))
    rose = ops.logical_and(value > memory["before"], ops.logical_not(fresh))
    rises = ops.where(fresh, 0.0, memory["rises"]) + ops.cast(rose, "float32")
    seen = ops.where(fresh, value, memory["seen"])
    halved = ops.logical_or(fresh, memory["halved"])
    rarely = rises <= settings.rho * _lookup(problem.step, looks, -1.0)
    idle = ops.logical_and(ops.logical_not(halved), seen >= best)
    halve = ops.logical_and(due, ops.logical_or(rarely, idle))
    return halve, {
        "rises": ops.where(due, 0.0, rises),
        "seen": ops.where(due, best, seen),
        "halved": ops.where(due, halve, halved),
    }


def checkpoints(steps: int) -> dict[int, int]:
    """The steps at which the step size is looked at, with the number of steps since the last
    look.
    """
    interval, shortest, less = (max(int(share * steps), 1) for share in INTERVALS)
    found, at = {}, interval
    while at < steps:
        found[at] = interval
        interval = max(interval - less, shortest)
        at += interval
    return found


def _lookup(step: Tensor, table: dict[int, Any], other: float) -> Tensor:
    """``table[step]`` for each example, ``other`` where there is no such entry; float32."""
    value = ops.full_like(step, other, dtype="float32")
    for key, entry in table.items():
        value = ops.where(ops.equal(step, key), entry, value)
    return value
