"""The last word: what holds on the very array that is returned, by the model itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from advex._arrays import Array
from advex.driver.honesty import NEIGHBOURS, RANDOM, Look, alike
from advex.driver.ledger import Ledger
from advex.driver.loop import Scene
from advex.goals import Goal
from advex.model.protocol import Model


class Word(NamedTuple):
    """The last word: what holds on the very array that is returned, by the model itself."""

    before: dict[str, Array]
    """What the judge says about the clean inputs."""
    clean: Array
    success: Array
    fragile: Array
    """Rows that the search took for successes, and that do not hold."""
    prediction: Array
    confidence: Array
    spent: int
    said: list[str]


def last_word(look: Look, classifier: Model, ledger: Ledger, scene: Scene, ranked: int) -> Word:
    """Judge every success once more; those that do not hold get their originals back."""
    judge, before, odd, spent = look
    x, goal, grid, points = scene.x, scene.goal, scene.grid, ledger.points
    clean, success, fragile = before["reached"], ledger.found.copy(), np.zeros(len(x), bool)
    said: list[str] = []
    moved = np.flatnonzero(success & ~clean)
    ledger.queries[moved] += 1
    after = judge(points[moved], _part(goal, moved)) if len(moved) else None
    if after is not None and not classifier.metered and odd not in (NEIGHBOURS, RANDOM):
        same, more = alike(classifier, judge, points[moved], after["logits"])
        spent += more
        if not same:  # it shows only near the boundary
            judge.singly, spent = True, spent + len(x) + len(moved)
            said.append(NEIGHBOURS)
            before = judge(x, goal, ranked)
            after = judge(points[moved], _part(goal, moved))
            fragile |= clean & ~before["reached"]  # never attacked
            clean, success = before["reached"], (success & ~clean) | before["reached"]
    prediction, confidence = before["prediction"].copy(), before["confidence"].copy()
    if after is not None:
        inside = grid.within(points[moved], x[moved], scene.budget)
        holds = after["reached"] & inside & ~clean[moved]
        success[moved] = holds | clean[moved]
        fragile[moved] = ~(holds | clean[moved])
        prediction[moved[holds]] = after["prediction"][holds]
        confidence[moved[holds]] = after["confidence"][holds]
        points[moved[~holds]] = x[moved[~holds]]
    ledger.broken_by[~success] = ""
    ledger.broken_by[clean] = "clean"
    spent, judge.forward.spent = spent + judge.spent + judge.forward.spent, 0
    return Word(before, clean, success, fragile, prediction, confidence, spent, said)


def _part(goal: Goal, rows: Array) -> Goal:
    """The goal of some of its examples."""
    return goal.bound({name: values[rows] for name, values in goal.rows().items()})
