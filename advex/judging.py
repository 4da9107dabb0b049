"""Judging: what the model itself answers, and whether it answers honestly."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor
from advex._grid import Grid
from advex.classifier import Classifier, demand_rows
from advex.goals import Goal
from advex.losses import SATURATED, log_odds

CHECKED = 16  # rows used for the checks of the model's honesty
ALONE = 2  # of them, and of the successes, that are asked about one by one

EVEN: ContextVar[int] = ContextVar("advex_even", default=1)
"""Batches are filled up to a multiple of so many rows. Kernels remember something for every size
they have seen: long evaluations keep the number of sizes small. What fills a batch up is computed,
and counted by nobody."""

STALE = "stale"  # of ``honesty``: what was compiled answers otherwise than the model itself
RANDOM = (
    "The model answers differently to the same input: it is random at inference. Successes"
    " may be luck."
)
NEIGHBOURS = (
    "The model's answer to an input depends on the rest of its batch, or on the place in it. Every"
    " input was judged alone; the"
    " attack searched in batches, and may have missed successes."
)


@contextlib.contextmanager
def even(rows: int) -> Iterator[None]:
    """Fill batches up to multiples of ``rows`` meanwhile."""
    token = EVEN.set(rows)
    try:
        yield
    finally:
        EVEN.reset(token)


def spread(count: int, most: int) -> Array:
    """At most ``most`` of the numbers below ``count``, evenly spread."""
    return np.unique(np.linspace(0, max(0, count - 1), min(count, most)).round().astype("int64"))[
        :count
    ]


def telling(count: int, most: int, size: int) -> Array:
    """The same, with both sides of the border between the first two batches of ``size``: the place
    there may be special.
    """
    if count <= max(most, size):
        return spread(count, most)
    return np.unique(np.concatenate([spread(count, most - 2), [size - 1, size]]))


class Judge:
    """Answers of the model itself to arrays of the user's kind, in batches; nothing that was
    compiled takes part.

    Attributes:
        singly: whether each input is asked about in a batch of its own.
    """

    def __init__(self, classifier: Classifier, grid: Grid, batch: int, sample: Array) -> None:
        self.grid, self.symbolic, self.shape = grid, classifier.symbolic, sample.shape[1:]
        self.fixed, self.batch = classifier.symbolic and not _backend.RAGGED, batch
        self.forward = classifier.forward(sample)
        self.run = classifier.judge(sample)
        self.singly = False
        self.spent, self._scale = 0, 0.0
        self._compiled: Callable[[Tensor], Tensor] | None = None

    def differs(self, one: Array, other: Array) -> bool:
        """Whether two answers to the same inputs differ by more than rounding errors.

        On the boundary all logits may be next to nothing, and their rounding errors are not: then
        random inputs tell what size the model's logits have. They are counted in ``spent``.
        """
        if not self.forward.differs(one, other):
            return False
        if not self._scale:
            low, high = (0, 255) if self.grid.levels else self.grid.box
            shape = (CHECKED, *self.shape)
            noise = np.random.default_rng(0).uniform(low, high, shape).astype(self.grid.dtype)
            logits = self.logits(noise)
            self.spent += CHECKED
            self._scale = max(float(np.abs(logits[np.isfinite(logits)]).max(initial=0)), 1e-6)
        return self.forward.differs(one, other, self._scale)

    def size(self, count: int) -> int:
        """In batches of how many ``count`` inputs are asked about: one of two sizes, where each new
        one is dear.
        """
        return CHECKED if self.fixed and count <= 4 * CHECKED else self.batch

    def filled(self, points: Array, size: int) -> Array:
        """``points`` with copies of the first one, up to a number that is welcome."""
        if not self.symbolic:
            return points
        missing = size - len(points) if self.fixed else -len(points) % EVEN.get()
        return np.concatenate([points, np.repeat(points[:1], missing, axis=0)])

    def logits(self, x: Array) -> Array:
        """(n, ...) -> (n, classes)."""
        if self.singly:
            return self.alone(x)
        size = self.size(len(x))
        parts = [x[start : start + size] for start in range(0, len(x), size)]
        return np.concatenate(
            [self._asked(self.filled(self.grid.working(part), size))[: len(part)] for part in parts]
        )

    def alone(self, x: Array) -> Array:
        """The same, each input in a batch of its own."""
        return np.concatenate(
            [self._asked(self.grid.working(x[row : row + 1])) for row in range(len(x))]
        )

    def compiled_logits(self, classifier: Classifier, x: Array) -> Array:
        """What the oldest function that was compiled for the model answers: (n, ...) -> (n,
        classes).
        """
        points, size = self.grid.working(x), self.size(len(x))
        if self._compiled is None:
            self._compiled = classifier.canary(points[:1])
        parts = [
            self.filled(points[start : start + size], size) for start in range(0, len(points), size)
        ]
        return np.concatenate(
            [_backend.to_numpy(self._compiled(ops.convert_to_tensor(part))) for part in parts]
        )[: len(points)]

    def _asked(self, points: Array) -> Array:
        logits = _backend.to_numpy(self.run(ops.convert_to_tensor(points)))
        demand_rows(len(points), logits.shape)
        return logits

    def __call__(self, x: Array, goal: Goal | None, ranked: int = 0) -> dict[str, Array]:
        """Per row: logits, prediction, its probability, whether the goal is reached, whether logits
        are NaN or saturate.

        With ``ranked``, also that many classes but the predicted one, the likeliest first: (n,
        ranked).
        """
        logits, size = self.logits(x), self.size(len(x))
        parts: list[dict[str, Array]] = []
        for start in range(0, len(x), size):
            every = np.arange(start, min(start + size, len(x)))
            count = len(every)
            if self.fixed:  # the few operations after the model are compiled for each size, too
                every = np.concatenate([every, np.repeat(every[:1], size - count)])
            part = self._judged(logits[every], goal, every, ranked)
            parts.append({name: values[:count] for name, values in part.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _judged(
        self, logits: Array, goal: Goal | None, every: Array, ranked: int
    ) -> dict[str, Array]:
        tensor = ops.convert_to_tensor(logits)
        broken = np.asarray(np.isnan(logits).any(axis=1))
        prediction = np.where(broken, 0, logits.argmax(axis=1))
        probability = _backend.to_numpy(ops.max(self.forward.probabilities(tensor), axis=1))
        now, reached = None, np.zeros(len(logits), bool)
        if goal is not None:
            rows = {
                name: ops.convert_to_tensor(values[every]) for name, values in goal.rows().items()
            }
            now = goal.bound(rows).of(self.forward.independent)
            reached = _backend.to_numpy(now.reached(tensor, self.forward.slack))
        labels = getattr(now, "labels", None)
        single = labels is not None and len(labels.shape) == 1
        odds = _backend.to_numpy(log_odds(tensor, labels)) if single else np.zeros(len(logits))
        return {
            "logits": logits,
            "prediction": prediction.astype("int64"),
            "confidence": probability,
            "reached": reached & ~broken,
            "broken": broken,
            "saturated": np.asarray(odds < SATURATED),
            "ranking": np.argsort(-logits, axis=1, kind="stable")[:, 1 : ranked + 1].astype(
                "int32"
            ),
        }


def honesty(
    classifier: Classifier, judge: Judge, x: Array, together: Array, whole: bool
) -> tuple[str, int]:
    """Does the model answer alike twice, alone, and in another place with other neighbours?

    Where a compiled function takes any number of rows, most of it is asked of that, which is
    quicker, and tells at the same time whether the function is stale. Only what then looks odd is
    asked of the model itself.

    Args:
        classifier: the model.
        judge: as it has judged so far.
        x: a few inputs.
        together: the logits that it has for them, from a batch with others.
        whole: whether there are no other inputs: then only parts of them are other company.

    Returns:
        What is wrong, a sentence or nothing (``STALE`` is no sentence); queries spent.
    """
    every, few = np.arange(len(x)), spread(len(x), ALONE + 1)[-ALONE:]
    halves = [every[1::2][::-1], every[::2][::-1]]

    def odd(ask: Callable[[Array], Array]) -> bool:
        elsewhere = np.empty_like(together)
        for others in halves if whole else [np.concatenate(halves)]:
            if len(others):
                elsewhere[others] = ask(x[others])
        alone = np.concatenate([ask(x[row : row + 1]) for row in few])
        return judge.differs(elsewhere, together) or judge.differs(alone, together[few])

    def itself(part: Array) -> Array:
        return judge.alone(part) if len(part) == 1 else judge.logits(part)

    spent = len(x) + len(few)
    if _backend.TRACED and _backend.RAGGED:
        middle = few[len(few) // 2 :][:1]
        spent += 1
        if not (
            odd(lambda part: judge.compiled_logits(classifier, part))
            or judge.differs(itself(x[middle]), together[middle])
        ):
            return "", spent
        spent += len(x) + len(few)
        if not odd(itself):
            return STALE, spent
    elif not odd(itself):
        return "", spent
    random = judge.differs(judge.logits(x), judge.logits(x))
    return RANDOM if random else NEIGHBOURS, spent + 2 * len(x)


def alike(classifier: Classifier, judge: Judge, x: Array, together: Array) -> tuple[bool, int]:
    """Whether a few more inputs are answered alone as they were ``together`` with others; queries
    spent.
    """
    few = telling(len(x), ALONE, judge.size(len(x)))
    if _backend.TRACED and _backend.RAGGED:  # quicker; the model itself has the last word
        quick = np.concatenate([judge.compiled_logits(classifier, x[row : row + 1]) for row in few])
        if not judge.differs(quick, together[few]):
            return True, len(few)
        return not judge.differs(judge.alone(x[few]), together[few]), 2 * len(few)
    return not judge.differs(judge.alone(x[few]), together[few]), len(few)


def stale(classifier: Classifier, judge: Judge, x: Array, true: Array) -> tuple[bool, int]:
    """Does what was compiled for the model answer otherwise than the model itself, whose logits are
    ``true``? Queries spent.
    """
    if not _backend.TRACED:
        return False, 0
    return judge.differs(judge.compiled_logits(classifier, x), true), len(x)
