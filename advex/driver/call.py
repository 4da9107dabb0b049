"""A call, from checked arguments to the result: a first look, the waves, the last word."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import keras
import numpy as np

from advex import _backend
from advex._arrays import Array
from advex._grid import Grid
from advex._version import VERSION
from advex.budgets import Budget
from advex.driver import sentences
from advex.driver.honesty import first_look, unseeded
from advex.driver.judging import CHECKED, Judge
from advex.driver.last_word import Word, last_word
from advex.driver.ledger import Ledger
from advex.driver.loop import Scene, run_wave
from advex.driver.plan import Wave, one_by_one, sensible
from advex.driver.programs import Programs
from advex.driver.progress import Progress, Report
from advex.driver.shapes import Shapes
from advex.errors import InvalidInput, ModelWarning
from advex.goals import Goal, Untargeted
from advex.model.protocol import Model
from advex.result import Info, Result, statuses


class Call(NamedTuple):
    """What an attack is called with, checked."""

    classifier: Model
    x: Array
    goal: Goal | None
    """None: the model's own predictions are left."""
    budget: Budget
    seed: int
    batch_size: int | None = None
    progress: Progress = None
    start: Array | None = None
    multiple: int = 1
    """Batches are filled up to multiples of so many rows. Kernels cache something for every size
    that they have seen: long evaluations keep the number of sizes small."""


def attacked(call: Call, attack: Any, waves: list[Wave]) -> Result:
    """Run the waves one after the other over the rows that still need it, and judge what they have
    found.
    """
    if not len(call.x):
        return _nothing(call, attack)
    # The caller may modify its arrays meanwhile.
    call = call._replace(x=call.x.copy(), start=None if call.start is None else call.start.copy())
    classifier, x, grid = call.classifier, call.x, Grid(call.x.dtype, call.classifier.box)
    shapes = Shapes.of_call(len(x), x.shape[1:], call.batch_size, classifier.metered, call.multiple)
    forward = classifier.forward(grid.working(x[:CHECKED]))
    goal = call.goal and call.goal.check(len(x), forward.classes)
    ranks = [run.rank for wave in waves for run in wave.runs if run.rank is not None]
    ranked = min(1 + max(ranks, default=-1), forward.classes - 1)
    judge = Judge(classifier, grid, shapes.most, grid.working(x[:CHECKED]), call.multiple)
    look = first_look(judge, classifier, x, goal, ranked)
    _demand_answers(look.before)
    forward, own = look.judge.forward, goal is None
    goal = Untargeted(look.before["prediction"]) if goal is None else goal
    # By now the kind of scores is known, even for a black box or a changed model.
    goal = goal.check(len(x), forward.classes).of(forward.head.independent)
    notes = sentences.notes_before(look, classifier, goal, own)
    said = sentences.before(look, goal, own, call.budget, grid)

    scene = Scene(grid, x, goal, call.budget, call.seed, call.start)
    programs = Programs(classifier, forward, grid, goal, call.budget)
    ledger = Ledger(
        x,
        call.budget.limited,
        lambda points, rows: grid.settled(grid.returned(points), x[rows], call.budget),
    )
    ledger.clean(look.before["reached"], look.before["ranking"])
    chosen = sensible(waves, goal, ranked, notes)
    said += unseeded(chosen, programs, scene)
    report = Report(call.progress, len(x))
    # Avoid needless queries of a black box; a search for the smallest needs every run.
    together = call.budget.limited and not classifier.metered
    for wave in chosen if together else one_by_one(chosen):
        run_wave(wave, ledger, programs.of(wave.attack), shapes, scene, report)

    word = last_word(look, classifier, ledger, scene, ranked)
    notes += sentences.notes_after(waves, goal, forward.classes)
    said = word.said + said + sentences.after(waves, word, ledger)
    invalid = ledger.nan & ~word.success
    info = _info(call, attack)
    seen: Info = {
        "head": forward.head.name,
        "goal": repr(goal) + (" (the model's own predictions)" if own else ""),
        "notes": notes,
        "warnings": said,
        "fragile": np.flatnonzero(word.fragile).tolist(),
        "invalid": np.flatnonzero(invalid).tolist(),
        "suspicious": np.flatnonzero(ledger.doubt).tolist(),
        "clean_wrong": int(word.clean.sum()),
        "checks": {"queries": word.spent},
        "stages": ledger.account,
    }
    info.update(seen)
    for sentence in said:
        warnings.warn(sentence, ModelWarning, stacklevel=5)
    return _result(call, goal, ledger, word, grid, info)


def _demand_answers(before: dict[str, Array]) -> None:
    """Raise if the model answers NaN before anything has been attacked."""
    count = len(before["broken"])
    if before["broken"].any():
        bad = np.flatnonzero(before["broken"])
        raise InvalidInput(
            f"the model answers NaN for {len(bad)} of {count} clean inputs, first at"
            f" {bad[:5].tolist()}: nothing can be said about them; leave them out, or mend the"
            " model"
        )


def _info(call: Call, attack: Any) -> Info:
    """What is known of a call before it begins."""
    return {
        "attack": repr(attack),
        "budget": repr(call.budget),
        "seed": call.seed,
        "backend": _backend.NAME,
        "versions": {"keras": keras.__version__, "numpy": np.__version__, "advex": VERSION},
    }


def _nothing(call: Call, attack: Any) -> Result:
    """The result for no inputs."""
    goal = call.goal or Untargeted(np.zeros(0, "int32"))
    info = _info(call, attack)
    nothing: Info = {
        "warnings": [],
        "notes": [],
        "head": None,
        "goal": repr(call.goal),
        "fragile": [],
        "invalid": [],
        "suspicious": [],
        "checks": {"queries": 0},
        "stages": [],
    }
    info.update(nothing)
    return Result.empty(call.classifier, call.x, goal, call.budget, info)


def _result(call: Call, goal: Goal, ledger: Ledger, word: Word, grid: Grid, info: Info) -> Result:
    x, budget, before = call.x, call.budget, word.before
    distance = np.where(word.success, 0.0, np.inf)
    changed = np.flatnonzero(word.success & ~word.clean)
    distance[changed] = grid.distance(ledger.points[changed], x[changed], budget)
    if budget.limited:  # the points are inside, checked exactly: a quotient may still round up
        distance[changed] = np.minimum(distance[changed], budget.epsilon)
    return Result(
        classifier=call.classifier,
        original=x,
        goal=goal,
        budget=budget,
        x=ledger.points,
        success=word.success,
        prediction=word.prediction,
        confidence=word.confidence.astype("float64"),
        distance=distance,
        gradients=ledger.gradients,
        queries=ledger.queries,
        before=before["prediction"],
        before_confidence=before["confidence"].astype("float64"),
        broken_by=ledger.broken_by.astype(str),
        status=statuses(word.clean, word.success, word.fragile, ledger.nan & ~word.success),
        info=info,
    )
