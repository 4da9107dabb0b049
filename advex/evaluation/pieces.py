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
from advex._grid import Grid
from advex.attacks import Attack
from advex.attacks.call import attacked_by, checked_call
from advex.attacks.inputs import checked_inputs
from advex.budgets import Budget
from advex.driver.judging import CHECKED, Judge
from advex.errors import ModelWarning
from advex.goals import Goal, Untargeted
from advex.model.protocol import Model

BATCH_SIZES = 16  # different ones at most


@dataclass(frozen=True)
class Plan:
    """What is done to each block; nothing in it depends on the data but the number of rows."""

    classifier: Model
    attacks: dict[str, Attack]
    budget: Budget
    seed: int
    block: int
    batch: int
    keep: str


@dataclass(frozen=True)
class Clean:
    """What the model says to the inputs as they are: one entry per row."""

    labels: Array
    prediction: Array
    confidence: Array
    status: Array
    """ "correct", "wrong" or "invalid" (the model answers NaN)."""
    queries: int
    seconds: float


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
    checks: int
    seconds: float
    warnings: list[str]


class Judgement(NamedTuple):
    """What the model says to inputs as they are: one entry per row."""

    goal: Goal | None
    prediction: Array
    confidence: Array
    reached: Array
    """Whether the goal is reached already; False where the model answers NaN."""
    silent: Array
    """Whether the model answers NaN."""


def judged(
    classifier: Model, x: Array, goal: Goal | None, batch: int, multiple: int = 1
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
    grid = Grid(x.dtype, classifier.box)
    sample, most = grid.working(x[:CHECKED]), batch if _backend.RAGGED else min(batch, len(x))
    judge = Judge(classifier, grid, most, sample, multiple)
    goal = None if goal is None else goal.check(len(x), judge.forward.classes)
    found = judge(x, goal)
    if classifier.renewed(sample, found["logits"]):
        judge = judge.renewed(classifier)
        found = judge(x, goal)
    # a few rows per process, to look at the head: a run that was stopped must not look dearer
    judge.forward.spent = 0
    return Judgement(
        goal, found["prediction"], found["confidence"], found["reached"], found["broken"]
    )


def clean(plan: Plan, x: Array, labels: Any) -> Clean:
    """The first look at a block."""
    began = time.monotonic()
    x = checked_inputs(plan.classifier, x)
    goal, multiple = Untargeted(labels), max(1, plan.batch // BATCH_SIZES)
    said = judged(plan.classifier, x, goal, plan.batch, multiple)
    assert isinstance(said.goal, Untargeted)
    status = np.where(said.silent, "invalid", np.where(said.reached, "wrong", "correct"))
    confidence = np.where(said.silent, np.nan, said.confidence)
    seconds = time.monotonic() - began
    return Clean(said.goal.labels, said.prediction, confidence, status, len(x), seconds)


def attacked(
    plan: Plan,
    name: str,
    x: Array,
    before: Clean,
    progress: Callable[[int, int, int], Any] | bool = False,
) -> Verdicts:
    """One attack on the rows of a block that were classified correctly."""
    rows = np.flatnonzero(before.status == "correct")
    began = time.monotonic()
    attack = plan.attacks[name]
    labels = before.labels[rows]
    call = checked_call(attack, plan.classifier, x[rows], labels, plan.budget, plan.seed)
    multiple = max(1, plan.batch // BATCH_SIZES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelWarning)  # kept with the block, and said once
        result = attacked_by(
            attack, call._replace(batch_size=plan.batch, progress=progress, multiple=multiple)
        )
    return Verdicts(
        rows,
        np.where(result.success, "broken", result.status),
        result.distance,
        result.prediction,
        result.confidence,
        result.gradients,
        result.queries,
        result.broken_by,
        result.x,
        int(result.info["checks"]["queries"]),
        time.monotonic() - began,
        list(result.info["warnings"]),
    )
