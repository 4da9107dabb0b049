"""Verdict: many short runs instead of few long ones, for AutoAttack's verdict at a fraction of its
cost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from keras import ops

from advex._arrays import Array, Tensor, flat, rows
from advex.attacks.autoattack import AutoAttack
from advex.attacks.base import Attack
from advex.attacks.wrappers import APART
from advex.budgets import L0, Budget, Linf
from advex.errors import InvalidInput
from advex.goals import INFINITY, Goal, Towards, leaves, others
from advex.losses import cross_entropy, dlr
from advex.problem import Problem
from advex.search import Stage

TINY = 1e-30

# What a run climbs: towards a target RATIO, the DLR loss, and OVER, the margin; PROBE and REVIEW do
# not climb but look.
MARGIN, ENTROPY, RATIO, OVER, PROBE, REVIEW = range(6)
TARGETS = 9
SHORT = 0.1  # of epsilon: a step this short should raise the margin by what the gradient promises
HONEST = 0.5  # the relative gap between promise and gain above which a gradient is suspicious
IDLE = 0.1  # the share of the promise, for the whole of epsilon, that all runs together should gain
# of epsilon: who would need no more than this beyond the budget, by the gradient, gets more runs
NEAR, NEAREST = (
    0.25,
    0.08,
)
MOMENTUM = 0.5
DETOUR = 0.6  # of a wide run: while its ball shrinks to epsilon


class Run(NamedTuple):
    """One ascent: what it climbs, towards which class (by rank), for how many steps, the first of
    which size, how wide.
    """

    loss: int
    target: int = 0
    steps: int = 1
    size: float = 0.0
    wide: bool = False


SPRINT = Run(MARGIN, 0, 10, 1.0)
ALL = [
    Run(ENTROPY, 0, 15, 4.0),
    *(Run(RATIO, target, 15, 4.0) for target in range(3)),
    *(Run(OVER, target, 20, 2.0, wide=True) for target in range(5)),
]
CLOSE = [
    Run(ENTROPY, 0, 30, 4.0),
    *(Run(OVER, target, 50, 2.0) for target in range(2)),
    *(Run(RATIO, target, 30, 4.0) for target in range(5)),
    *(Run(OVER, target, 30, 2.0, wide=True) for target in range(5)),
]
CLOSEST = [
    *(Run(OVER, target, 100, 2.0) for target in range(2)),
    *(Run(RATIO, target, 100, 4.0) for target in range(2)),
    Run(ENTROPY, 0, 30, 2.0),
    *(Run(OVER, target, 40, 2.0, wide=True) for target in range(TARGETS)),
]
GROUPS = [[SPRINT, Run(PROBE)], ALL, [Run(REVIEW)], CLOSE, CLOSEST]
RUNS = [run for group in GROUPS for run in group]
BEGINS = np.cumsum([0, *(run.steps for run in RUNS)]).tolist()
PLAN = [(run, place) for run in RUNS for place in range(run.steps)]
LOSSES = np.array([run.loss for run, _ in PLAN], "int32")
RANKS = np.array([run.target for run, _ in PLAN], "int32")
SIZES = np.array([run.size * (1 - place / run.steps) for run, place in PLAN], "float32")
DETOURS = np.array(
    [run.wide * max(0.0, 1 - place / (DETOUR * run.steps)) for run, place in PLAN], "float32"
)
INSIDE = np.array(
    [place == 0 or not run.wide or place - 1 >= DETOUR * run.steps for run, place in PLAN]
)
FIRST = np.array([place == 0 for _, place in PLAN])


def widest(budget: Budget) -> float:
    """How many times epsilon the ball of a wide run is at first."""
    return 3.0 if isinstance(budget, Linf) else 8.0


def _climbed(logits: Tensor, goal: Goal, loss: Tensor, target: Tensor) -> Tensor:
    """What each example's run climbs: margin, cross-entropy, or the margin over a target as a
    ratio.
    """
    value = goal.margin(logits)
    # A goal of another kind has its target, or knows best.
    pursued = Towards(target, goal.labels) if leaves(goal) else goal  # type: ignore[attr-defined]
    value = ops.where(ops.equal(loss, RATIO), dlr(logits, pursued), value)
    value = ops.where(ops.equal(loss, OVER), pursued.margin(logits), value)
    if hasattr(goal, "labels"):
        value = ops.where(ops.equal(loss, ENTROPY), cross_entropy(logits, goal), value)
    return value


def near(carried: dict[str, Array]) -> Array:
    """Who gets the longer runs."""
    return carried["gap"] <= NEAR


def nearest(carried: dict[str, Array]) -> Array:
    """Who gets the longest runs."""
    return carried["gap"] <= NEAREST


@dataclass(frozen=True)
class Cascade(Attack):
    """The gradient part of ``Verdict``: a sprint, a round of short runs for all, two longer ones
    for those near the boundary.
    """

    steps: ClassVar[int] = len(PLAN)
    carries: ClassVar[dict[str, np.ufunc | None]] = {
        "order": None,
        "start": None,
        "steep": None,
        "best": np.maximum,
        "gap": np.minimum,
    }

    def stages(self, budget: Budget | None = None) -> list[Stage]:
        """A part for each run, but for the probe, which goes with the sprint."""
        parts, number = [Stage(self, end=BEGINS[2])], 2
        for group, (runs, only) in enumerate(
            zip(GROUPS[1:], (None, None, near, nearest), strict=True), 1
        ):
            for _ in runs:
                parts.append(
                    Stage(
                        self, begin=BEGINS[number], end=BEGINS[number + 1], group=group, only=only
                    )
                )
                number += 1
        return parts

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        x0, zeros = problem.x0, ops.zeros_like(problem.progress)
        ranks = np.arange(min(TARGETS, problem.classes - 1), dtype="int32")[None]
        random = problem.project(x0 + problem.budget.sample(problem))
        x = ops.where(rows(ops.equal(problem.step, 0), x0), x0, random)
        return x, {
            "last": x,
            "slope": ops.zeros_like(x),  # gradient of the margin at x0
            "steep": zeros,  # its size
            "start": zeros,  # margin there
            "best": zeros - INFINITY,
            "gap": zeros
            + INFINITY,  # by how much epsilon is too small, by the most hopeful gradient
            "order": ops.zeros_like(ops.expand_dims(problem.step, 1))
            + ops.convert_to_tensor(ranks),  # wrong classes, the likeliest first
        }

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        step, before = problem.step, memory["last"]
        loss, rank, size, detour, inside, first = (
            ops.take(ops.convert_to_tensor(table), step, axis=0)
            for table in (LOSSES, RANKS, SIZES, DETOURS, INSIDE, FIRST)
        )
        wide = 1 + (widest(problem.budget) - 1) * detour
        rank = ops.minimum(rank, memory["order"].shape[1] - 1)
        target = ops.take_along_axis(memory["order"], ops.expand_dims(rank, 1), axis=1)[:, 0]
        value, gradient = problem.gradient(
            x, lambda logits, goal: _climbed(logits, goal, loss, target)
        )
        margin = problem.goal.margin(problem.answer)

        begin = ops.equal(step, 0)
        steep = problem.budget.dual(gradient)
        short = -value / ops.maximum(steep * problem.epsilon, TINY)
        aims = ops.logical_and(
            inside, ops.logical_or(ops.equal(loss, RATIO), ops.equal(loss, OVER))
        )
        better = ops.logical_and(step < SPRINT.steps, margin > memory["best"])
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
            "gap": ops.where(aims, ops.minimum(short, memory["gap"]), memory["gap"]),
            "order": ops.where(
                ops.expand_dims(better, 1),
                _order(problem, memory["order"].shape[1]),
                memory["order"],
            ),
        }
        self._suspect(problem, x, margin, loss, memory)

        aim = problem.project(
            x + rows(size * wide * problem.epsilon, x) * problem.budget.steepest(gradient), wide
        )
        drift = ops.where(rows(first, x), aim - x, x - before)
        ahead = problem.project(x + MOMENTUM * (aim - x) + (1 - MOMENTUM) * drift, wide)
        sprinted = ops.equal(step + 1, SPRINT.steps)

        def probed() -> Tensor:
            probe = problem.x0 + SHORT * problem.epsilon * problem.budget.steepest(memory["slope"])
            return ops.where(rows(sprinted, x), problem.project(probe), ahead)

        return ops.cond(ops.any(sprinted), probed, lambda: ahead), memory

    def _suspect(
        self, problem: Problem, x: Tensor, margin: Tensor, loss: Tensor, memory: Any
    ) -> None:
        """Mark the examples where the gradient at x0 promises what a short step, or all runs so
        far, do not keep.
        """
        steep, gain = memory["steep"], margin - memory["start"]
        change = problem.shown(x) - problem.x0
        promise = ops.sum(flat(memory["slope"] * change), axis=1)
        unkept = ops.abs(gain - promise) > HONEST * (ops.abs(gain) + ops.abs(promise))
        # 8-bit inputs may be too coarse for a short step
        moved = ops.any(flat(ops.not_equal(change, 0)), axis=1)
        lied = ops.logical_or(ops.equal(steep, 0), ops.logical_and(moved, unkept))
        idle = memory["best"] - memory["start"] < IDLE * problem.epsilon * steep
        suspicious = ops.logical_or(
            ops.logical_and(ops.equal(loss, PROBE), lied),
            ops.logical_and(ops.equal(loss, REVIEW), idle),
        )
        problem.suspect(ops.logical_and(suspicious, problem.epsilon > 0))


def _order(problem: Problem, count: int) -> Tensor:
    """The likeliest wrong classes by the last logits, (batch, count) int32."""
    logits = problem.answer
    labels = getattr(problem.goal, "labels", None)
    if labels is not None:
        logits = others(logits, labels)
    return ops.cast(ops.top_k(logits, count)[1], "int32")


@dataclass(frozen=True)
class Verdict(Attack):
    """AutoAttack's verdict for a fraction of its passes.

    AutoAttack spends nearly everything on examples that it will not break. ``Verdict`` makes many
    short runs instead of a few long ones (another loss, another target or another start find more
    than more steps do), gives up early where the boundary is far, and tries hard where it is near:

    1. 10 steps on the margin from the input itself; most of what can be broken falls here.
    2. 9 short runs from random points, with steps that begin large and decay to 0: on
       cross-entropy, on the targeted DLR loss for the 3 classes that were likeliest at the best
       point so far, and on the margin over the 5 likeliest; these begin in a ball of 3 epsilon (L2
       and L1: 8), which shrinks: a detour round places where the gradient leads nowhere.
    3. Who would fall within 1.4 epsilon by the most hopeful linear estimate so far gets 19 runs
       more, with 9 targets.
    4. AutoAttack itself, for examples whose gradient looks as if it hid the way: it is zero, or a
       step of a tenth of epsilon gains not what it promises, or all runs together gain less than a
       tenth of it.

    Raises:
        InvalidInput: at the call, for ``L0``; for a budget without limit.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data(4)
        >>> Verdict()(advex.testing.linear_model(), x, labels, advex.Linf(0.02)).success.shape
        (4,)

    The parts are those of Croce and Hein, Reliable evaluation of adversarial robustness with an
    ensemble of diverse parameter-free attacks, 2020; the cascade is advex's own. What it costs, and
    where it differs, is in ``docs/how_far_does_it_hold.md``.
    """

    steps: ClassVar[int] = 1  # those of the parts count

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        if isinstance(budget, L0):
            raise InvalidInput("Verdict has no L0 form; use Linf, L2 or L1")

    def stages(self, budget: Budget | None = None) -> list[Stage]:
        everything = AutoAttack().stages(budget)
        return [
            *Cascade().stages(budget),
            *(replace(stage, doubtful=True, salt=stage.salt + APART) for stage in everything),
        ]

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return Cascade().init(problem)

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        return Cascade().step(problem, x, memory)
