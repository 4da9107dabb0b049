"""Judging: the one compiled forward pass, and whether the model answers honestly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor
from advex._grid import Grid
from advex.classifier import Classifier, Forward
from advex.goals import Goal
from advex.losses import SATURATED, log_odds

EVEN: ContextVar[int] = ContextVar("advex_even", default=1)
"""Batches are filled up to a multiple of so many rows. Kernels remember something for every size they have seen: long evaluations
keep the number of sizes small. What fills a batch up is computed, and counted by nobody."""


@contextlib.contextmanager
def even(rows: int) -> Iterator[None]:
    """Fill batches up to multiples of ``rows`` meanwhile."""
    token = EVEN.set(rows)
    try:
        yield
    finally:
        EVEN.reset(token)


class Judge:
    """Predictions of arrays of the user's kind, in batches, by the one compiled forward pass."""

    def __init__(self, classifier: Classifier, grid: Grid, batch: int, sample: Array) -> None:
        self.grid, self.batch = grid, batch
        self.padded = classifier.symbolic
        self.run = classifier.judge(sample)
        self.slack = classifier.forward(sample).slack
        self.first: Array = np.zeros((0, 0))  # the first logits that were computed

    def logits(self, x: Array) -> Array:
        """One batch at most; padded where shapes must not change."""
        points = self.grid.working(x)
        if self.padded and len(points) < self.batch:
            missing = -len(points) % EVEN.get() if _backend.RAGGED else self.batch - len(points)
            points = np.concatenate([points, np.repeat(points[:1], missing, axis=0)])
        logits = _backend.to_numpy(self.run(ops.convert_to_tensor(points)))[: len(x)]
        if not len(self.first):
            self.first = logits
        return logits

    def __call__(self, x: Array, goal: Goal | None, ranked: int = 0) -> dict[str, Array]:
        """Per row: prediction, its probability, whether the goal is reached, whether logits are NaN, whether they saturate.

        With ``ranked``, also that many classes but the predicted one, the likeliest first: (n, ranked).
        """
        parts: list[dict[str, Array]] = []
        for start in range(0, len(x), self.batch):
            rows = slice(start, min(start + self.batch, len(x)))
            logits = self.logits(x[rows])
            broken = np.asarray(np.isnan(logits).any(axis=1))
            prediction = np.where(broken, 0, logits.argmax(axis=1))
            probability = _backend.to_numpy(ops.max(ops.softmax(ops.convert_to_tensor(logits)), axis=1))
            now = goal.bound(_tensors(goal, rows)) if goal is not None else None
            reached = (
                _backend.to_numpy(now.reached(ops.convert_to_tensor(logits), self.slack))
                if now is not None
                else np.zeros(len(logits), bool)
            )
            labels = getattr(now, "labels", None)
            single = labels is not None and len(labels.shape) == 1
            odds = _backend.to_numpy(log_odds(ops.convert_to_tensor(logits), labels)) if single else np.zeros(len(logits))
            parts.append(
                {
                    "prediction": prediction.astype("int64"),
                    "confidence": probability,
                    "reached": reached & ~broken,
                    "broken": broken,
                    "saturated": np.asarray(odds < SATURATED),
                    "ranking": np.argsort(-logits, axis=1, kind="stable")[:, 1 : ranked + 1].astype("int32"),
                }
            )
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _tensors(goal: Goal, rows: slice) -> dict[str, Tensor]:
    return {name: ops.convert_to_tensor(values[rows]) for name, values in goal.rows().items()}


def honesty(forward: Forward, judge: Judge, x: Array) -> tuple[list[str], bool, int]:
    """Does the model answer alike twice, alone and in a batch, compiled and not?

    Returns what is wrong, in sentences; whether the compiled model answers differently from the model; queries spent.
    """
    differs = forward.differs
    direct = _backend.immediate(forward.exact)

    def ask(rows: Array) -> Array:
        if direct is None:
            return judge.logits(rows)
        return _backend.to_numpy(direct(ops.convert_to_tensor(judge.grid.working(rows))))

    compiled = judge.first[: len(x)]
    once, twice, alone = ask(x), ask(x), ask(x[:1])
    spent = 2 * len(x) + 1
    if forward.shaky or differs(once, twice):
        return (
            ["The model answers differently to the same input: it is random at inference. Successes may be luck."],
            False,
            spent,
        )
    if differs(once[:1], alone):
        odd = "The model's answer to an input depends on the rest of its batch. Successes may not survive alone."
        return [odd], False, spent
    return [], differs(once[: len(compiled)], compiled), spent
