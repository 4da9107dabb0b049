"""The pieces of an evaluation: the first look at a block, one attack on it, and how both are
written down.
"""

from __future__ import annotations

import json
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
from advex.classifier import Classifier
from advex.driver.judging import CHECKED, Judge
from advex.errors import ModelWarning
from advex.evaluation.source import Block
from advex.evaluation.store import Store, packed, seal
from advex.goals import Goal, Untargeted

SIZES = 16  # that batches may have
PICTURES = 4  # kept of each attack at each end


@dataclass(frozen=True)
class Plan:
    """What is done to each block; nothing in it depends on the data but the number of rows."""

    classifier: Classifier
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
    classifier: Classifier, x: Array, goal: Goal | None, batch: int, multiple: int = 1
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
    if classifier.symbolic and classifier.renewed(sample, found["logits"]):
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
    goal, multiple = Untargeted(labels), max(1, plan.batch // SIZES)
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
    multiple = max(1, plan.batch // SIZES)
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


# What is written and read.


def write_clean(store: Store, block: Block, before: Clean) -> None:
    """Record the first look at a block; within a transaction."""
    store.insert(
        "blocks",
        [(block.number, block.first, len(block), block.digest, before.queries, before.seconds)],
    )
    numbers = range(block.first, block.first + len(block))
    store.insert(
        "examples",
        zip(
            numbers, before.labels, before.prediction, before.confidence, before.status, strict=True
        ),
    )
    store.seal_look(block.number)


def write_verdicts(store: Store, plan: Plan, block: Block, attack: int, found: Verdicts) -> None:
    """Record what one attack did to a block; within a transaction."""
    kept = found.status == "broken" if plan.keep == "success" else np.zeros(len(found.rows), bool)
    passes = found.gradients + found.queries
    share = found.seconds * passes / max(1, passes.sum())
    store.insert(
        "work", [(block.number, attack, found.checks, found.seconds, json.dumps(found.warnings))]
    )
    inputs = [packed(x) if keep else None for x, keep in zip(found.x, kept, strict=True)]
    for row, code in zip(found.rows, inputs, strict=True):
        if code is not None:
            store.seal("input", attack, block.first + int(row), seal(code))
    store.insert(
        "verdicts",
        (
            (
                attack,
                block.first + int(row),
                found.status[place],
                found.distance[place],
                found.prediction[place],
                found.confidence[place],
                found.gradients[place],
                found.queries[place],
                share[place],
                found.broken_by[place],
                inputs[place],
            )
            for place, row in enumerate(found.rows)
        ),
    )
    store.seal_work(attack, block.number)
    _write_pictures(store, block, attack, found)


def _write_pictures(store: Store, block: Block, attack: int, found: Verdicts) -> None:
    """Keep the few successes of this attack that are nearest to the boundary, and the farthest."""
    broken = np.flatnonzero(found.status == "broken")
    for place, order in (
        ("nearest", found.distance[broken]),
        ("farthest", -found.distance[broken]),
    ):
        few = broken[np.argsort(order, kind="stable")[:PICTURES]]
        rows = [
            (
                place,
                attack,
                block.first + int(found.rows[row]),
                found.distance[row],
                packed(block.x[found.rows[row]]),
                packed(found.x[row]),
            )
            for row in few
        ]
        store.insert("pictures", rows)
        sign = "" if place == "nearest" else "-"
        ranked = (
            f"SELECT example FROM pictures WHERE place = ? AND attack = ? ORDER BY"  # noqa: S608
            f" {sign}distance, example"
        )
        examples = [example for (example,) in store.rows(ranked, (place, attack))]
        for _, _, example, distance, before, after in rows:
            store.seal(place, attack, example, seal(float(distance), before, after))
        for example in examples[PICTURES:]:
            store.database.execute(
                "DELETE FROM pictures WHERE place = ? AND attack = ? AND example = ?",
                (place, attack, example),
            )
            store.seal(place, attack, example, None)


def recalled(store: Store, block: Block) -> Clean:
    """The first look at a block that is recorded."""
    rows = store.rows(
        "SELECT label, prediction, confidence, status FROM examples WHERE id BETWEEN ? AND ? ORDER"
        " BY id",
        (block.first, block.first + len(block) - 1),
    )
    labels, prediction, confidence, status = zip(*rows, strict=True)
    return Clean(
        np.asarray(labels, "int32"),
        np.asarray(prediction, "int64"),
        np.asarray([np.nan if value is None else value for value in confidence]),
        np.asarray(status),
        0,
        0.0,
    )


def held(store: Store, block: Block, attacks: int) -> int:
    """How many rows of a block no attack has broken."""
    last = block.first + len(block) - 1
    found: int = store.one(
        "SELECT count(*) FROM (SELECT example FROM verdicts WHERE example BETWEEN ? AND ? AND"
        " attack < ? GROUP BY example"
        " HAVING sum(status = 'held') = ?)",
        (block.first, last, attacks, attacks),
    )[0]
    return found
