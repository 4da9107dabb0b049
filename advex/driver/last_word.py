"""The last word: what holds on the very array that is returned, by the model itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from advex._arrays import Array
from advex._inputs import at
from advex._table import cut
from advex.driver.honesty import NEIGHBOURS, RANDOM, Look, alike
from advex.driver.judging import copied, put
from advex.driver.ledger import Ledger
from advex.driver.loop import Scene
from advex.model.protocol import Model


class Word(NamedTuple):
    """The last word: what holds on the very array that is returned, by the model itself."""

    before: dict[str, Any]
    """What the judge says about the clean inputs."""
    clean: Array
    success: Array
    fragile: Array
    """Rows that the search took for successes, and that do not hold."""
    prediction: Any
    confidence: Any
    margin: Array
    """At the point that each row came to."""
    spent: int
    said: list[str]


def last_word(look: Look, classifier: Model, ledger: Ledger, scene: Scene, ranked: int) -> Word:
    """Judge every success once more; those that do not hold get their originals back."""
    judge, before, odd, spent = look
    x, goal, grid, points = scene.x, scene.goal, scene.grid, ledger.points
    whole = scene.examples

    def asked() -> Any:
        return at(whole, moved, points[moved])

    strongest = scene.aim == "strongest"
    clean, success, fragile = before["reached"], ledger.found.copy(), np.zeros(len(x), bool)
    said: list[str] = []
    if strongest:  # every worst point is asked about
        points = ledger.attempts
        moved = np.flatnonzero(np.isfinite(ledger.size))
    else:
        moved = np.flatnonzero(success & ~clean)
    after: dict[str, Any] | None = None
    if classifier.metered and len(moved):  # one question after the other: one may be the last
        told = []
        for start in range(0, len(moved), judge.batch):
            part = moved[start : start + judge.batch]
            ledger.queries[part] += 1
            told.append(judge.logits(at(whole, part, points[part])))
        after = judge.about(np.concatenate(told), goal.part(moved))
    else:
        ledger.queries[moved] += 1
        after = judge(asked(), goal.part(moved)) if len(moved) else None
    if after is not None and not classifier.metered and odd not in (NEIGHBOURS, RANDOM):
        same, more = alike(classifier, judge, asked(), after["logits"])
        spent += more
        if not same:  # it shows only near the boundary
            judge.singly, spent = True, spent + len(x) + len(moved)
            said.append(NEIGHBOURS)
            before = judge(whole, goal, ranked)
            after = judge(asked(), goal.part(moved))
            fragile |= clean & ~before["reached"]  # never attacked
            clean, success = before["reached"], (success & ~clean) | before["reached"]
    prediction, confidence = copied(before["prediction"]), copied(before["confidence"])
    margin = np.where(ledger.tried, ledger.margin, before["margin"]).astype("float64")
    if after is not None:
        inside = grid.within(points[moved], x[moved], scene.budget.part(moved))
        holds = after["reached"] & inside & ~clean[moved]
        was, won = success[moved], moved[holds]
        success[moved] = holds | clean[moved]
        fragile[moved] = was & ~success[moved]
        put(prediction, won, cut(after["prediction"], holds))
        put(confidence, won, cut(after["confidence"], holds))
        margin[moved if strongest else won] = after["margin"][... if strongest else holds]
        if strongest:
            ledger.points[:] = x
            ledger.points[won] = points[won]
        else:
            points[moved[~holds]] = x[moved[~holds]]
            ledger.attempts[won] = points[won]
    ledger.broken_by[~success] = ""
    ledger.broken_by[clean] = "clean"
    spent, judge.forward.spent = spent + judge.spent + judge.forward.spent, 0
    return Word(before, clean, success, fragile, prediction, confidence, margin, spent, said)
