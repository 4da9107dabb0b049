"""The pieces of an evaluation: the first look at a block, and one attack on it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from advex import _backend
from advex._arrays import Array
from advex._inputs import Bundle, Examples, attacked_of
from advex._space import grid_of
from advex.attacks import Attack
from advex.attacks.call import attacked_by, checked_call
from advex.attacks.inputs import checked_inputs
from advex.driver.judging import CHECKED, Judge
from advex.driver.ranges import another_range
from advex.errors import ModelWarning
from advex.evaluation.budgets import Within, of_rows
from advex.evaluation.details import details
from advex.evaluation.wanted import CLASSES, MAPS, NUMBERS, Make, Wanted, kind_of, until, wanted
from advex.goals import Goal, Untargeted
from advex.model.protocol import Model
from advex.result import Result

BATCH_SIZES = 16  # different ones at most


@dataclass(frozen=True)
class Plan:
    """What is done to each block; nothing in it depends on the data but the number of rows."""

    classifier: Model
    attacks: dict[str, Attack]
    budget: Within
    seed: int
    block: int
    batch: int
    keep: str
    goal: Make = None
    """Makes the goal of a block from its labels."""

    def wanted(self, labels: Any) -> Wanted:
        """The goal of a block, and the model that it is about."""
        return wanted(self.goal, labels, self.classifier)

    def attacked(self, x: Array | Bundle) -> Array:
        """What is attacked of a block's inputs."""
        if not isinstance(x, Bundle) and not self.classifier.perturb:
            return x
        return attacked_of(checked_inputs(self.classifier, x))


@dataclass(frozen=True)
class Clean:
    """What the model says to the inputs as they are: one entry per row.

    For a goal that is not about one class ``labels`` and ``prediction`` are -1, ``confidence`` NaN.
    """

    labels: Array
    prediction: Array
    confidence: Array
    status: Array
    """ "correct", "wrong" (the goal is reached) or "invalid" (the model answers NaN)."""
    queries: int
    seconds: float
    details: list[str] | None = None
    """What is kept of goals that are not about one class."""
    goal: Goal | None = None
    """Of the rows; None where no row is left to be attacked."""


@dataclass(frozen=True)
class Verdicts:
    """What one attack did to the rows of a block that were classified correctly: their places in
    it, and one entry for each.
    """

    rows: Array
    status: Array
    """ "broken", "held", "fragile" (a success within rounding errors) or "invalid" (NaN during the
    search).
    """
    distance: Array
    prediction: Array
    confidence: Array
    gradients: Array
    queries: Array
    broken_by: Array
    x: Array
    """What was attacked, as it is now; of several inputs at once one vector for each row."""
    checks: int
    seconds: float
    warnings: list[str]
    details: list[str] | None = None
    """See ``Clean``; of numbers and maps at the point that each row came to."""
    maps: Array | None = None
    """Of maps: the true one, that before and that after, (3, ...) for each row, or None; then ``x``
    is the point that each row came to.
    """


class Judgement(NamedTuple):
    """What the model says to inputs as they are: one entry per row."""

    goal: Goal | None
    prediction: Array
    confidence: Array
    reached: Array
    """Whether the goal is reached already; False where the model answers NaN."""
    silent: Array
    """Whether the model answers NaN."""
    classes: Any = None
    """How many there are, where the answer is about classes."""


def judged(
    classifier: Model, x: Array | Examples, goal: Goal | None, batch: int, multiple: int = 1
) -> Judgement:
    """Ask the model itself about inputs before any attack; ``goal`` None is reached by no row.

    An attack refuses inputs to which the model answers NaN; this says which they are.

    Args:
        classifier: the model.
        x: inputs of the user's kind, checked.
        goal: checked here against the number of rows and classes.
        batch: rows per question at most.
        multiple: batches are filled up to multiples of so many rows.
    """
    grid, few = grid_of(classifier, x), x[:CHECKED]
    sample, most = grid.entered(few), batch if _backend.RAGGED else min(batch, len(x))
    reading = "scores" if goal is None else goal.reading
    judge = Judge(classifier, grid, most, few, multiple, reading)
    goal = None if goal is None else goal.check(len(x), judge.forward.classes)
    first = None if goal is not None and goal.open else goal
    found = judge(x, first)
    if classifier.renewed(sample, found["logits"], reading):
        judge = judge.renewed(classifier)
        found = judge(x, first)
    if goal is not None and goal.open:  # it is about what the model itself says
        goal = goal.closed(judge.layout.shaped(found["logits"])).check(len(x), None)
        found = judge.about(found["logits"], goal)
    # a few rows per process, to look at the head: a run that was stopped must not look dearer
    judge.forward.spent = 0
    return Judgement(
        goal,
        found["prediction"],
        found["confidence"],
        found["reached"],
        found["broken"],
        judge.forward.classes,
    )


def clean(plan: Plan, x: Array | Bundle, labels: Any) -> Clean:
    """The first look at a block."""
    began = time.monotonic()
    given = checked_inputs(plan.classifier, x)
    goal, classifier = plan.wanted(labels)
    said = judged(classifier, given, goal, plan.batch, _multiple(plan))
    assert said.goal is not None
    status = np.where(said.silent, "invalid", np.where(said.reached, "wrong", "correct"))
    kept = details(said.goal, said.prediction, said.confidence, said.classes, before=True)
    if kept is None:
        true, prediction, sure = said.goal.labels, said.prediction, said.confidence  # type: ignore[attr-defined]
    else:
        true, prediction, sure = _nothing(len(x))
    confidence = np.where(said.silent, np.nan, sure)
    seconds = time.monotonic() - began
    return Clean(true, prediction, confidence, status, len(x), seconds, kept, said.goal)


def other_range(plan: Plan, x: Array | Bundle, labels: Any, before: Clean) -> tuple[str, int]:
    """Whether the rows of a block lie in another range than those that the model was trained on, in
    a sentence; queries spent. Attacks do not see it: they get the rows that are right.
    """
    goal, classifier = plan.wanted(labels)
    if classifier.metered:
        return "", 0
    given, known = checked_inputs(classifier, x), before.status != "invalid"
    grid, few = grid_of(classifier, given), given[:CHECKED]
    reading = "scores" if goal is None else goal.reading
    judge = Judge(classifier, grid, plan.batch, few, _multiple(plan), reading)
    told = isinstance(goal, Untargeted) and not goal.about_own
    labels = before.labels[known] if told else None
    return another_range(judge, classifier, given[known], labels, before.prediction[known])


def goal_again(plan: Plan, x: Array | Bundle, labels: Any) -> Goal:
    """The goal of a block that was looked at by an earlier call; one about what the model itself
    says needs another look.
    """
    goal, classifier = plan.wanted(labels)
    if not goal.open:
        return goal
    given = checked_inputs(classifier, x)
    found = judged(classifier, given, goal, plan.batch, _multiple(plan)).goal
    assert found is not None
    return found


def attacked(
    plan: Plan,
    name: str,
    x: Array | Bundle,
    before: Clean,
    progress: Callable[[int, int, int], Any] | bool = False,
    first: int = 0,
) -> Verdicts:
    """One attack on the rows of a block that were classified correctly; ``first`` is the number of
    the block's first example.
    """
    rows = np.flatnonzero(before.status == "correct")
    began = time.monotonic()
    attack = plan.attacks[name]
    assert before.goal is not None
    goal = before.goal.check(len(x), None).part(rows)
    kind, classifier = kind_of(goal), plan.classifier
    given = checked_inputs(classifier, x[rows])
    budget = of_rows(plan.budget, given, first + rows)
    call = checked_call(attack, classifier, given, goal, budget, plan.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)  # kept with the block, and said once
        result = attacked_by(
            attack,
            call._replace(
                batch_size=plan.batch,
                progress=progress,
                multiple=_multiple(plan),
                until=until(kind, call.budget),
                looked=True,  # the first block was
            ),
        )
    kept, maps, asked = _after(plan, goal, result, kind)
    prediction, confidence = result.prediction, result.confidence
    if kept is not None:
        _, prediction, confidence = _nothing(len(rows))
    return Verdicts(
        rows,
        np.where(result.success, "broken", result.status),
        result.distance,
        prediction,
        confidence,
        result.gradients,
        result.queries,
        result.broken_by,
        attacked_of(result.examples("x" if maps is None else "attempt")),
        int(result.info["checks"]["queries"]) + asked,
        time.monotonic() - began,
        list(result.info["warnings"]),
        kept,
        maps,
    )


def _after(
    plan: Plan, goal: Goal, result: Result, kind: str
) -> tuple[list[str] | None, Array | None, int]:
    """What is kept of the rows after an attack, of maps the maps too, and the queries that it
    took.
    """
    prediction, confidence, classes, asked = result.prediction, result.confidence, None, 0
    if kind in (NUMBERS, MAPS) and len(result):  # how far each came, in the model's own words
        points = result.examples("attempt")
        said = judged(plan.classifier, points, goal, plan.batch, _multiple(plan))
        prediction, confidence, classes = said.prediction, said.confidence, said.classes
        asked = len(result)
    if not len(result):
        return (None if kind == CLASSES else []), None, 0
    kept = details(goal, prediction, confidence, classes, before=False)
    if kind != MAPS:
        return kept, None, asked
    maps = np.stack([goal.labels, result.before, prediction], axis=1)  # type: ignore[attr-defined]
    return kept, maps.astype("int32"), asked


def _multiple(plan: Plan) -> int:
    return max(1, plan.batch // BATCH_SIZES)


def _nothing(count: int) -> tuple[Array, Array, Array]:
    """Label, prediction and confidence of examples that do not have one class."""
    none = np.full(count, -1, "int64")
    return none, none, np.full(count, np.nan)
