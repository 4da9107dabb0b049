"""Judging: what the model itself answers. Nothing that was compiled takes part."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor
from advex._grid import Grid
from advex.classifier import Classifier, demand_rows
from advex.goals import Goal
from advex.losses import SATURATED, log_odds

CHECKED = 16  # rows used for the checks of the model's honesty


class Judge:
    """Answers of the model itself to arrays of the user's kind, in batches; nothing that was
    compiled takes part.

    Attributes:
        singly: whether each input is asked about in a batch of its own.
    """

    def __init__(
        self, classifier: Classifier, grid: Grid, batch: int, sample: Array, multiple: int = 1
    ) -> None:
        self.grid, self.symbolic, self.sample = grid, classifier.symbolic, sample
        self.fixed, self.batch = classifier.symbolic and not _backend.RAGGED, batch
        self.forward = classifier.forward(sample)
        self.run = classifier.judge(sample)
        self.singly, self.multiple = False, multiple
        self.spent, self._scale = 0, 0.0
        self._compiled: Callable[[Tensor], Tensor] | None = None

    def renewed(self, classifier: Classifier) -> Judge:
        """One that knows nothing of what this one knows."""
        return Judge(classifier, self.grid, self.batch, self.sample, self.multiple)

    def differs(self, one: Array, other: Array) -> bool:
        """Whether two answers to the same inputs differ by more than rounding errors.

        On the boundary all logits may be next to nothing, and their rounding errors are not: then
        random inputs tell what size the model's logits have. They are counted in ``spent``.
        """
        if not self.forward.differs(one, other):
            return False
        if not self._scale:
            low, high = (0, 255) if self.grid.levels else self.grid.box
            shape = (CHECKED, *self.sample.shape[1:])
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
        missing = size - len(points) if self.fixed else -len(points) % self.multiple
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
