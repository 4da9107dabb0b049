"""Verdict: many short runs instead of few long ones, for AutoAttack's verdict at a fraction of its
cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from keras import ops

from advex._arrays import Array, Tensor, flat, rows
from advex.attacks.autoattack import AutoAttack
from advex.attacks.base import Attack
from advex.attacks.composite import Composite, set_apart
from advex.budgets import L0, Budget, Linf
from advex.driver.plan import Known, Run, Wave
from advex.driver.problem import Problem
from advex.goals import INFINITY, Goal, Towards, leaves, others
from advex.losses import cross_entropy, dlr

# What a run climbs: towards a target RATIO, the DLR loss, and OVER, the margin. REVIEW does not
# climb but looks.
MARGIN, ENTROPY, RATIO, OVER, REVIEW = range(5)
TARGETS = 9
SPRINT_STEPS = 10
PROBE_LENGTH = 0.1  # of epsilon: so short a step should gain what the gradient promises
HONEST_GAP = 0.5  # between promise and gain, relatively: above it a gradient is suspicious
IDLE_SHARE = 0.1  # of the promise, for the whole of epsilon: what all runs together should gain
# Of epsilon: who would need no more than this beyond the budget, by the gradient, gets more runs.
NEAR, NEAREST = 0.25, 0.08
MOMENTUM = 0.5
DETOUR_SHARE = 0.6  # of the steps of a wide run: while its ball shrinks to epsilon
SMALLEST_SLOPE = 1e-30


class Climb(NamedTuple):
    """One ascent: what it climbs, for how many steps, the first of which size (of epsilon), towards
    which class (by rank), and whether it begins in a wider ball.
    """

    loss: int
    steps: int
    size: float
    rank: int = 0
    wide: bool = False

    def numbers(self, begin: int) -> dict[str, float]:
        """The numbers of its run, which begins with this step."""
        detour = round(DETOUR_SHARE * self.steps) if self.wide else 0
        return {
            "begin": begin,
            "loss": self.loss,
            "steps": self.steps,
            "size": self.size,
            "rank": self.rank,
            "detour": detour,
        }


SPRINT = [Climb(MARGIN, SPRINT_STEPS, 1.0)]  # and one short step more, the probe
ALL = [
    Climb(ENTROPY, 15, 4.0),
    *(Climb(RATIO, 15, 4.0, rank) for rank in range(3)),
    *(Climb(OVER, 20, 2.0, rank, wide=True) for rank in range(5)),
]
LOOK_BACK = [Climb(REVIEW, 1, 0.0)]
CLOSE = [
    Climb(ENTROPY, 30, 4.0),
    *(Climb(OVER, 50, 2.0, rank) for rank in range(2)),
    *(Climb(RATIO, 30, 4.0, rank) for rank in range(5)),
    *(Climb(OVER, 30, 2.0, rank, wide=True) for rank in range(5)),
]
CLOSEST = [
    *(Climb(OVER, 100, 2.0, rank) for rank in range(2)),
    *(Climb(RATIO, 100, 4.0, rank) for rank in range(2)),
    Climb(ENTROPY, 30, 2.0),
    *(Climb(OVER, 40, 2.0, rank, wide=True) for rank in range(TARGETS)),
]


def near(ledger: Known) -> Array:
    """Who gets the longer runs."""
    return ledger.notes["gap"] <= NEAR


def nearest(ledger: Known) -> Array:
    """Who gets the longest runs."""
    return ledger.notes["gap"] <= NEAREST


def doubtful(ledger: Known) -> Array:
    """Whose gradients look as if they hid the way."""
    return ledger.doubt


WAVES = [(SPRINT, None), (ALL, None), (LOOK_BACK, None), (CLOSE, near), (CLOSEST, nearest)]
STEPS = 1 + sum(run.steps for runs, _ in WAVES for run in runs)


@dataclass(frozen=True)
class Cascade(Attack):
    """The gradient part of ``Verdict``. Its runs go on one where the other has ended, and hand on
    what they have learnt of a row.
    """

    steps: ClassVar[int] = STEPS  # type: ignore[misc]
    notes: ClassVar[Mapping[str, np.ufunc | None]] = {
        "order": None,
        "start": None,
        "steep": None,
        "best": np.maximum,
        "gap": np.minimum,
    }

    def plan(self, budget: Budget | None = None) -> list[Wave]:
        waves, begin = [], 0
        for climbs, who in WAVES:
            runs = []
            for climb in climbs:
                steps = climb.steps + (climbs is SPRINT)  # with the probe
                runs.append(Run(self, begin=begin, steps=steps, numbers=climb.numbers(begin)))
                begin += steps
            waves.append(Wave(tuple(runs), who))
        return waves

    def init(self, problem: Problem, /) -> tuple[Tensor, Any]:
        x0, zeros = problem.x0, ops.zeros_like(problem.progress)
        ranks = np.arange(min(TARGETS, max(1, problem.classes - 1)), dtype="int32")[None]
        random = problem.project(x0 + problem.budget.sample(problem))
        x = ops.where(rows(ops.equal(problem.step, 0), x0), x0, random)
        return x, {
            "last": x,
            "slope": ops.zeros_like(x),  # gradient of the margin at x0
            "steep": zeros,  # its size
            "start": zeros,  # margin there
            "best": zeros - INFINITY,
            "gap": zeros + INFINITY,  # by how much epsilon is too small, by the most hopeful slope
            "order": ops.zeros_like(ops.expand_dims(problem.step, 1))
            + ops.convert_to_tensor(ranks),  # wrong classes, the likeliest first
        }

    def step(self, problem: Problem, x: Tensor, memory: Any, /) -> tuple[Tensor, Any]:
        step, numbers, budget = problem.step, problem.numbers, problem.budget
        loss, place = numbers["loss"], step - numbers["begin"]
        rank = ops.minimum(numbers["rank"], memory["order"].shape[1] - 1)
        target = ops.take_along_axis(memory["order"], ops.expand_dims(rank, 1), axis=1)[:, 0]
        value, gradient = problem.gradient(
            x, lambda logits, goal: _climbed(logits, goal, loss, target)
        )
        before, memory = memory["last"], self._learnt(problem, x, value, gradient, memory)

        wide = 1 + (_widest(budget) - 1) * _falling(place, numbers["detour"])
        size = numbers["size"] * _falling(place, numbers["steps"])
        stride = rows(size * wide * problem.epsilon, x)
        aim = problem.project(x + stride * budget.steepest(gradient), wide)
        first = ops.logical_or(ops.equal(place, 0), ops.equal(step, SPRINT_STEPS))
        drift = ops.where(rows(first, x), aim - x, x - before)
        ahead = problem.project(x + MOMENTUM * (aim - x) + (1 - MOMENTUM) * drift, wide)
        sprinted = ops.equal(step + 1, SPRINT_STEPS)

        def probed() -> Tensor:
            short = PROBE_LENGTH * problem.epsilon * budget.steepest(memory["slope"])
            return ops.where(rows(sprinted, x), problem.project(problem.x0 + short), ahead)

        return ops.cond(ops.any(sprinted), probed, lambda: ahead), memory

    def _learnt(
        self, problem: Problem, x: Tensor, value: Tensor, gradient: Tensor, memory: Any
    ) -> dict[str, Tensor]:
        """The memory with what this look has shown; examples whose gradient lies are marked."""
        step, numbers, budget = problem.step, problem.numbers, problem.budget
        loss, place = numbers["loss"], step - numbers["begin"]
        margin = problem.goal.margin(problem.answer)
        begin, steep = ops.equal(step, 0), budget.dual(gradient)
        short = -value / ops.maximum(steep * problem.epsilon, SMALLEST_SLOPE)
        # An estimate counts where the point is inside the ball, and the loss says how far it is.
        inside = ops.logical_or(ops.equal(place, 0), place > numbers["detour"])
        tells = ops.logical_or(ops.equal(loss, RATIO), ops.equal(loss, OVER))
        better = ops.logical_and(step < SPRINT_STEPS, margin > memory["best"])
        order = memory["order"]
        memory = {
            "last": x,
            "slope": ops.cond(
                ops.any(begin),
                lambda: ops.where(rows(begin, x), gradient, memory["slope"]),
                lambda: memory["slope"],
            ),
            "steep": ops.where(begin, steep, memory["steep"]),
            "start": ops.where(begin, margin, memory["start"]),
            "best": ops.maximum(margin, memory["best"]),
            "gap": ops.where(
                ops.logical_and(inside, tells),
                ops.minimum(short, memory["gap"]),
                memory["gap"],
            ),
            "order": ops.where(ops.expand_dims(better, 1), _order(problem, order), order),
        }
        self._suspect(problem, x, margin, memory)
        return memory

    def _suspect(self, problem: Problem, x: Tensor, margin: Tensor, memory: Any) -> None:
        """Mark the examples where the gradient at x0 promises what a short step, or all runs so
        far, do not keep.
        """
        steep, gain = memory["steep"], margin - memory["start"]
        change = problem.shown(x) - problem.x0
        promise = ops.sum(flat(memory["slope"] * change), axis=1)
        unkept = ops.abs(gain - promise) > HONEST_GAP * (ops.abs(gain) + ops.abs(promise))
        # 8-bit inputs may be too coarse for a short step.
        moved = ops.any(flat(ops.not_equal(change, 0)), axis=1)
        lied = ops.logical_or(ops.equal(steep, 0), ops.logical_and(moved, unkept))
        idle = memory["best"] - memory["start"] < IDLE_SHARE * problem.epsilon * steep
        probing = ops.equal(problem.step, SPRINT_STEPS)
        reviewing = ops.equal(problem.numbers["loss"], REVIEW)
        suspicious = ops.logical_or(
            ops.logical_and(probing, lied), ops.logical_and(reviewing, idle)
        )
        problem.suspect(ops.logical_and(suspicious, problem.epsilon > 0))


def _widest(budget: Budget) -> float:
    """How many times epsilon the ball of a wide run is at first."""
    return 3.0 if isinstance(budget, Linf) else 8.0


def _falling(place: Tensor, steps: Tensor) -> Tensor:
    """From 1 at place 0 to 0 at ``steps``, and there on: (batch,) float32."""
    left = ops.cast(ops.maximum(steps - place, 0), "float32")
    return left / ops.cast(ops.maximum(steps, 1), "float32")


def _climbed(logits: Tensor, goal: Goal, loss: Tensor, target: Tensor) -> Tensor:
    """What each example's run climbs: margin, cross-entropy, or the margin over a target as a
    ratio.
    """
    value = goal.margin(logits)
    # A goal of another kind has its target, or knows best.
    pursued = Towards(target, goal.labels) if leaves(goal) else goal  # type: ignore[attr-defined]
    value = ops.where(ops.equal(loss, RATIO), dlr(logits, pursued), value)
    value = ops.where(ops.equal(loss, OVER), pursued.margin(logits), value)
    return ops.where(ops.equal(loss, ENTROPY), cross_entropy(logits, goal), value)


def _order(problem: Problem, order: Tensor) -> Tensor:
    """The likeliest wrong classes by the last logits, (batch, count) int32; ``order`` itself where
    the goal is not to leave one class for any other.
    """
    if not leaves(problem.goal):
        return order
    logits = others(problem.answer, problem.goal.labels)  # type: ignore[attr-defined]
    return ops.cast(ops.top_k(logits, order.shape[1])[1], "int32")


@dataclass(frozen=True)
class Verdict(Composite):
    r"""AutoAttack's verdict for a fraction of its passes.

    When to use it:
        The first choice for robust accuracy within a budget in Linf, L2 or L1. Take `AutoAttack`
        where a paper demands it by name, `MinimumNorm` to learn how near the boundary is.

    $$ z_{t+1} = \Pi\bigl(x_t + \eta_t\,\varepsilon\, s(\nabla_x \ell(x_t))\bigr) $$

    $$
    x_{t+1} = \Pi\bigl(x_t + 0.5\,(z_{t+1} - x_t) + 0.5\,(x_t - x_{t-1})\bigr), \qquad \eta_t =
    \eta\,\bigl(1 - \tfrac{t}{T}\bigr)
    $$

    That is a step of a run. $\Pi$ takes the nearest point of budget and box, $\varepsilon$ is the
    budget, $s(g)$ the steepest direction of size 1 (see `PGD`), $\eta$ the first step of a run (1
    to 4) and $T$ the number of its steps. $\ell$ is another loss in each run.

    AutoAttack spends nearly everything on examples that it will not break. `Verdict` makes many
    short runs instead of a few long ones: another loss, another target or another start find more
    than more steps do. It gives up early where the boundary is far, and tries hard where it is
    near:

    1. 10 steps on the margin from the input itself; most of what can be broken falls here.
    2. 9 short runs from random points: on cross-entropy, on the targeted DLR loss for the 3
       likeliest wrong classes, and on the margin over the 5 likeliest. The last 5 begin in a ball
       of 3 epsilon (L2 and L1: 8), which shrinks: a detour round places where the gradient leads
       nowhere.
    3. Examples that would fall within 1.25 epsilon by the most hopeful linear estimate get 13 runs
       more. Within 1.08 epsilon they get 14 further ones, with up to 9 targets.
    4. AutoAttack itself, for examples whose gradient looks as if it hid the way: it is zero, or a
       step of a tenth of epsilon gains less than a third or more than three times what it promises,
       or all runs together gain less than a tenth of it.

    Raises:
        InvalidInput: at the call, for `L0`, or for a budget without a limit.

    Cost:
        By its plan 172 gradients for an example that is far from the boundary, 602 for one within
        1.25 epsilon, 1,392 for one within 1.08 epsilon. Those of AutoAttack come on top where
        gradients look wrong. An example leaves at its first success.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data(4)
        >>> Verdict()(advex.testing.linear_model(), x, labels, advex.Linf(0.02)).success.shape
        (4,)

    Reference:
        The parts are those of Croce and Hein, Reliable evaluation of adversarial robustness with an
        ensemble of diverse parameter-free attacks, ICML 2020. https://arxiv.org/abs/2003.01690

    Deviations:
        The cascade is advex's own. What it costs, and where it differs from AutoAttack, is measured
        in the page "How far does it hold?".
    """

    lacks: ClassVar[tuple[type[Budget], ...]] = (L0,)

    def plan(self, budget: Budget | None = None) -> list[Wave]:
        thorough = AutoAttack().plan(budget)
        return [
            *Cascade().plan(budget),
            *(replace(wave.each(set_apart, 1), who=doubtful) for wave in thorough),
        ]
