"""What the model itself answers to the first rows: whether a run goes on with the same model."""

from __future__ import annotations

from typing import Any

import numpy as np

from advex._arrays import Array
from advex._space import grid_of
from advex.attacks.inputs import checked_inputs
from advex.driver.judging import Judge
from advex.evaluation.details import numbers_of
from advex.evaluation.pieces import Clean, Plan, clean
from advex.evaluation.source import Block
from advex.goals import Untargeted

SCORES = Untargeted([0]).reading
ROWS = 16  # whose answers are kept, fewer where there are many classes
NUMBERS = 2**16  # of these answers at most
CLOSE = 1e-3  # of the largest logit: how much answers may differ when a run goes on
CLOSE_COARSE = 5e-2  # likewise, in half precision


def answers(plan: Plan, block: Block) -> dict[str, Any] | None:
    """What the model itself says to the first rows: not what was compiled of it perhaps long ago.

    None for a black box, which is asked nothing needless: its first look is compared.
    """
    if plan.classifier.metered:
        return None
    few = checked_inputs(plan.classifier, block.x[:ROWS])
    grid = grid_of(plan.classifier, few)
    reading = plan.wanted(block.labels).goal.reading
    judge = Judge(plan.classifier, grid, ROWS, few, reading=reading)
    forward = judge.forward
    # of maps and of several outputs only an answer tells how long it is
    size = forward.classes if reading == SCORES else judge.logits(few[:1]).shape[1]
    logits = judge.logits(few[: max(1, NUMBERS // max(1, size))]).astype("float64")
    logits = logits[:, :: -(-logits.shape[1] // NUMBERS)]
    told = [
        [value if np.isfinite(value) else str(value) for value in row] for row in logits.tolist()
    ]
    return {"logits": told, "coarse": forward.coarse}


def difference(plan: Plan, block: Block, before: Clean, known: dict[str, Any] | None) -> str | None:
    """How the model's answers differ from those when the run began, in words; None if they do not,
    or if the model is random anyway.

    ``known`` is what ``answers`` said then, ``before`` the first look.
    """
    alike, random = (
        _compared_looks(plan, block, before)
        if known is None
        else _compared_answers(plan, block, known)
    )
    if alike.all() or random:
        return None
    return f"{int((~alike).sum())} of the first {len(alike)} answers differ"


def _compared_looks(plan: Plan, block: Block, before: Clean) -> tuple[Array, bool]:
    """Which of the first rows are seen as before; whether two looks now differ."""
    few = slice(0, min(ROWS, len(block)))
    now, again = (clean(plan, block.x[few], block.labels[few]) for _ in range(2))
    if before.details is not None:
        return _compared_details(before.details[few], now, again)
    same = (now.prediction == before.prediction[few]) | (before.status[few] == "invalid")
    alike = _close(now.confidence, before.confidence[few], CLOSE) & np.asarray(same)
    return alike, not np.all(_close(now.confidence, again.confidence, CLOSE))


def _compared_details(kept: list[str], now: Clean, again: Clean) -> tuple[Array, bool]:
    """The same for goals that are not about one class."""
    told = [
        [numbers_of(detail) for detail in side or ()] for side in (kept, now.details, again.details)
    ]
    alike, steady = (
        [
            len(one) == len(other) and bool(_close(np.asarray(one), np.asarray(other), CLOSE).all())
            for one, other in zip(first, second, strict=True)
        ]
        for first, second in ((told[0], told[1]), (told[1], told[2]))
    )
    return np.asarray(alike), not all(steady)


def _compared_answers(plan: Plan, block: Block, known: dict[str, Any]) -> tuple[Array, bool]:
    """Which of the first rows are answered as before; whether two answers now differ."""
    one, other = (_numbers(answers(plan, block)) for _ in range(2))
    kept = _numbers(known)
    if one.shape != kept.shape:
        return np.zeros(len(kept), bool), False
    largest = max(float(np.abs(kept[np.isfinite(kept)]).max(initial=0)), 1e-6)
    close = (CLOSE_COARSE if known["coarse"] else CLOSE) * largest
    alike = np.asarray(_close(one, kept, close).all(axis=1))
    return alike, not np.all(_close(one, other, close))


def _close(one: Array, other: Array, by: float) -> Array:
    return np.asarray(np.isclose(one, other, rtol=0, atol=by, equal_nan=True))


def _numbers(answers: dict[str, Any] | None) -> Array:
    listed = answers["logits"] if answers is not None else []
    return np.asarray([[float(value) for value in row] for row in listed], "float64")
