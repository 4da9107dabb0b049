"""Judging: what the model itself answers. Nothing that was compiled takes part."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import numpy as np
from keras import ops, tree

from advex import _backend
from advex._arrays import Array, Tensor
from advex._grid import Grid
from advex._inputs import Examples
from advex._table import cut
from advex.goals.base import FRAGILE, Goal, Reading, classes_said, largest
from advex.goals.classes import SATURATED, log_odds
from advex.losses import has_classes
from advex.model.protocol import Model
from advex.model.refusals import demand_rows

CHECKED = 16  # rows used for the checks of the model's honesty
ALIKE = 4 * FRAGILE  # of the largest number: ways nearer than that have the same promise


class Judge:
    """Answers of the model itself to arrays of the user's kind, in batches; nothing that was
    compiled takes part.

    Attributes:
        singly: whether each input is asked about in a batch of its own.
    """

    def __init__(
        self,
        classifier: Model,
        grid: Grid,
        batch: int,
        few: Array | Examples,
        multiple: int = 1,
        reading: Reading = "scores",
    ) -> None:
        self.grid, self.metered, self._few = grid, classifier.metered, few
        self.sample = sample = grid.entered(few)
        self.fixed, self.batch = not classifier.metered and not _backend.RAGGED, batch
        self.reading, self.layout = reading, Layout()
        self.forward = classifier.forward(sample, reading)
        self.run = classifier.judge(sample, reading)
        self.singly, self.multiple = False, multiple
        self.spent, self._scale = 0, 0.0
        self._compiled: Callable[[Tensor], Tensor] | None = None

    def renewed(self, classifier: Model) -> Judge:
        """One that knows nothing of what this one knows."""
        return Judge(classifier, self.grid, self.batch, self._few, self.multiple, self.reading)

    def of(self, grid: Grid) -> Judge:
        """The same for inputs of another dtype, or in another box."""
        made = copy(self)
        made.grid = grid
        return made

    def differs(self, one: Array, other: Array) -> bool:
        """Whether two answers to the same inputs differ by more than rounding errors.

        On the boundary all logits may be next to nothing, and their rounding errors are not: then
        random inputs tell what size the model's logits have. They are counted in ``spent``.
        """
        if not self.forward.differs(one, other):
            return False
        if not self._scale:
            logits = self.logits(self.grid.noise(self._few, CHECKED))
            self.spent += CHECKED
            self._scale = max(float(np.abs(logits[np.isfinite(logits)]).max(initial=0)), 1e-6)
        return self.forward.differs(one, other, self._scale)

    def size(self, count: int) -> int:
        """In batches of how many ``count`` inputs are asked about: one of two sizes, where each new
        one is dear.
        """
        return CHECKED if self.fixed and count <= 4 * CHECKED else self.batch

    def filled(self, points: Any, size: int) -> Any:
        """``points``, an array or a tree of them, with copies of the first one, up to a number that
        is welcome.
        """
        if self.metered:
            return points
        count = len(tree.flatten(points)[0])
        missing = size - count if self.fixed else -count % self.multiple
        return tree.map_structure(
            lambda leaf: np.concatenate([leaf, np.repeat(leaf[:1], missing, axis=0)]), points
        )

    def logits(self, x: Array | Examples) -> Array:
        """What the model answers, (n, ...) -> (n, numbers): logits (n, classes), or all that there
        is of an answer as one row, see ``layout``.
        """
        if self.singly:
            return self.alone(x)
        size = self.size(len(x))
        parts = [x[start : start + size] for start in range(0, len(x), size)]
        return np.concatenate(
            [self._asked(self.filled(self.grid.entered(part), size))[: len(part)] for part in parts]
        )

    def alone(self, x: Array | Examples) -> Array:
        """The same, each input in a batch of its own."""
        return np.concatenate(
            [self._asked(self.grid.entered(x[row : row + 1])) for row in range(len(x))]
        )

    def compiled_logits(self, classifier: Model, x: Array | Examples) -> Array:
        """What the oldest function that was compiled for the model answers: (n, ...) -> (n,
        classes).
        """
        size = self.size(len(x))
        if self._compiled is None:
            self._compiled = classifier.canary(self.grid.entered(x[:1]), self.reading)
        parts = [
            self.filled(self.grid.entered(x[start : start + size]), size)
            for start in range(0, len(x), size)
        ]
        return np.concatenate([self.layout.flat(self._compiled(_tensors(part))) for part in parts])[
            : len(x)
        ]

    def _asked(self, points: Any) -> Array:
        logits = self.layout.flat(self.run(_tensors(points)))
        demand_rows(len(tree.flatten(points)[0]), logits.shape)
        return logits

    def __call__(self, x: Array | Examples, goal: Goal | None, ranked: int = 0) -> dict[str, Any]:
        """Per row: logits, what the model says, how sure it is, whether the goal is reached, the
        margin, whether logits are NaN or saturate.

        With ``ranked``, also that many ways to the goal, the most promising first: (n, ranked).
        Without a goal they are the classes but the predicted one.
        """
        return self.about(self.logits(x), goal, ranked)

    def about(self, logits: Array, goal: Goal | None, ranked: int = 0) -> dict[str, Any]:
        """The same of answers that are there already."""
        size = self.size(len(logits))
        if goal is not None:
            goal.suit(self.layout.shapes)
        parts: list[dict[str, Any]] = []
        for start in range(0, len(logits), size):
            every = np.arange(start, min(start + size, len(logits)))
            count = len(every)
            if self.fixed:  # the few operations after the model are compiled for each size, too
                every = np.concatenate([every, np.repeat(every[:1], size - count)])
            part = self._judged(logits[every], goal, every, ranked)
            parts.append(cut(part, slice(count)))
        return joined(parts)

    def _judged(
        self, logits: Array, goal: Goal | None, every: Array, ranked: int
    ) -> dict[str, Any]:
        broken = np.asarray(np.isnan(logits).any(axis=1))
        answer = self.layout.shaped(logits)
        tensor = tree.map_structure(ops.convert_to_tensor, answer)
        reached, margin = np.zeros(len(logits), bool), np.full(len(logits), np.nan, "float32")
        odds, ranking = np.zeros(len(logits)), np.zeros((len(logits), 0), "int32")
        prediction, confidence = np.zeros(len(logits), "int64"), np.full(len(logits), np.nan)
        if goal is None and self.reading == "scores":
            prediction, confidence = classes_said(answer, self.forward.head.probabilities)
        if goal is not None:
            rows = {
                name: ops.convert_to_tensor(values[every]) for name, values in goal.rows().items()
            }
            now = goal.bound(rows).of(self.forward.head)
            reached = _backend.to_numpy(now.reached(tensor, self.forward.slack))
            margin = _backend.to_numpy(now.margin(tensor))
            prediction, confidence = now.said(answer)
            labels = getattr(now, "labels", None)
            if labels is not None and len(labels.shape) == 1 and has_classes(answer):
                odds = _backend.to_numpy(log_odds(tensor, labels))
            ranking = self._ways(now, answer, tensor, ranked)
        elif ranked and self.reading == "scores":
            ranking = wrong_classes(answer, ranked)
        if isinstance(prediction, np.ndarray) and prediction.dtype.kind in "iu":
            prediction = np.where(rows_like(broken, prediction), 0, prediction)
        return {
            "logits": logits,
            "prediction": prediction,
            "confidence": confidence,
            "reached": reached & ~broken,
            "margin": margin,
            "broken": broken,
            "saturated": np.asarray(odds < SATURATED),
            "ranking": ranking,
        }

    def _ways(self, goal: Goal, answer: Any, tensor: Any, ranked: int) -> Array:
        """The ways to the goal, the most promising first: (n, ranked) int32."""
        ways = goal.ways(tensor) if ranked else None
        if ways is not None:
            noise = _backend.to_numpy(largest(tensor)) * ALIKE
            return most_promising(_backend.to_numpy(ways), noise)[:, :ranked].astype("int32")
        count = len(tree.flatten(answer)[0])
        return wrong_classes(answer, ranked) if ranked else np.zeros((count, 0), "int32")


def _tensors(points: Any) -> Any:
    return tree.map_structure(ops.convert_to_tensor, points)


class Layout:
    """How the numbers of one row make up an answer; known from the first answer on."""

    def __init__(self) -> None:
        self.shapes: Any = ()
        """The shape of the answer to one example, or a tree of such."""
        self._structure: Any = None

    def flat(self, answer: Any) -> Array:
        """An answer, a tensor or a tree of them, as an array (n, numbers)."""
        if ops.is_tensor(answer):
            values = _backend.to_numpy(answer)
            self.shapes = tuple(values.shape[1:])
            return values if values.ndim == 2 else values.reshape(len(values), -1)
        parts = tree.map_structure(_backend.to_numpy, answer)
        self._structure = parts
        leaves = tree.flatten(parts)
        self.shapes = _shapes(parts)
        return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)

    def shaped(self, values: Array) -> Any:
        """The answer again, arrays (n, ...)."""
        if self._structure is None:
            return values.reshape(len(values), *self.shapes) if len(self.shapes) != 1 else values
        made, start = [], 0
        for leaf in tree.flatten(self._structure):
            size = math.prod(leaf.shape[1:])
            part = values[:, start : start + size]
            made.append(part.reshape(len(values), *leaf.shape[1:]))
            start += size
        return tree.pack_sequence_as(self._structure, made)


def _shapes(answer: Any) -> Any:
    """The shape of one example of each array."""
    if isinstance(answer, dict):
        return {name: _shapes(part) for name, part in answer.items()}
    if isinstance(answer, list | tuple):
        return [_shapes(part) for part in answer]
    return tuple(answer.shape[1:])


def wrong_classes(answer: Array, ranked: int) -> Array:
    """The classes but the predicted one, the likeliest first: (n, ranked) int32."""
    return np.argsort(-answer, axis=1, kind="stable")[:, 1 : ranked + 1].astype("int32")


def most_promising(ways: Array, noise: Array) -> Array:
    """The numbers of the ways, the largest first: (n, k). Of those that only rounding tells apart,
    which differs from batch to batch, the first comes first.

    Args:
        ways: (n, k).
        noise: how far apart two of them may be by rounding, (n,).
    """
    order = np.argsort(-ways, axis=1, kind="stable")
    fallen = np.take_along_axis(ways, order, axis=1)
    falls = fallen[:, :-1] > fallen[:, 1:] + noise[:, None]
    steps = np.cumsum(falls, axis=1)
    place = np.concatenate([np.zeros((len(ways), 1), steps.dtype), steps], axis=1)
    again = np.argsort(place * ways.shape[1] + order, axis=1, kind="stable")
    return np.take_along_axis(order, again, axis=1)


def rows_like(values: Array, like: Array) -> Array:
    """(n,) with axes of length 1 added, as many as ``like`` has."""
    return values.reshape((-1,) + (1,) * (like.ndim - 1))


def joined(parts: Sequence[Any]) -> Any:
    """Such dicts, one after the other."""
    first = parts[0]
    if isinstance(first, dict):
        return {name: joined([part[name] for part in parts]) for name in first}
    if isinstance(first, list | tuple):
        return [joined([part[place] for part in parts]) for place in range(len(first))]
    return np.concatenate(parts)


def copied(told: Any) -> Any:
    """A copy that may be written into."""
    if isinstance(told, dict):
        return {name: copied(part) for name, part in told.items()}
    return told.copy() if not isinstance(told, list | tuple) else [copied(part) for part in told]


def put(told: Any, rows: Array, values: Any) -> None:
    """Write some rows, in place."""
    if isinstance(told, dict):
        for name, part in told.items():
            put(part, rows, values[name])
    elif isinstance(told, list):
        for part, value in zip(told, values, strict=True):
            put(part, rows, value)
    else:
        told[rows] = values
