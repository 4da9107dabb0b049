"""What a black box answers: scores, or class numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor
from advex._settings import shown
from advex.errors import GradientUnavailable, InvalidInput, InvalidType
from advex.model.head import (
    LARGEST_PROBABILITY,
    LOGITS_OF_LABELS,
    ONE_OF_ALL,
    SMALLEST_PROBABILITY,
    Head,
)
from advex.model.protocol import Forward

NO_GRADIENT = (
    "a BlackBox has no gradient: an attack on it may call problem.logits, problem.margin,"
    " problem.crossed and problem.losses, nothing else"
)
INDEPENDENT_ROWS = 8  # of numbers from 0 to 1: so many are probabilities even if no sum is 1
SUM_TOLERANCE = 2e-2  # rows whose sum is so near to 1 are probabilities, perhaps rounded ones

PROBABILITIES = "The function answers with probabilities; advex works with their logarithms."
ONLY_A_CLASS = (
    "The function answers with zeros and ones only, which say no more than a class: no way can"
    " be seen. An attack that needs no more finds one: advex.BlackBox(lambda x:"
    " predict(x).argmax(1), classes, answers='labels')."
)
ONE_PER_CLASS = (
    "The function answers with numbers from 0 to 1 that do not sum to 1: taken for a probability of"
    " its own for each class; advex works with their log-odds."
)
CLASS_NUMBERS = (
    ": class numbers are enough with advex.BlackBox(predict, classes, answers='labels'), for"
    " attacks that need no more, such as advex.MinimumNorm('L2')"
)
SCORES_THERE = ": scores are advex.BlackBox(predict, classes)"
LABELS = (
    "The function answers with a class alone: there are no scores, and no probabilities; the margin"
    " is 1 where the goal is reached, and -1 where it is not."
)


class Answers(Forward):
    """What the function says about the rows that are asked about; nothing is asked about the
    others. The first finite answers tell what the scores are.
    """

    def __init__(
        self, predict: Callable[[Array], Any], classes: int, reads: str = "scores"
    ) -> None:
        self._predict, self._reads = predict, reads
        self.head = Head("", classes, independent=reads == "labels", reads=reads)

    def __call__(self, x: Tensor, live: Tensor | None = None) -> Tensor:
        if live is None:
            raise GradientUnavailable(NO_GRADIENT)
        asked = _array(live).astype(bool)
        logits = np.zeros((len(asked), self.classes), "float32")
        if asked.any():
            # a copy, which the function may edit
            logits[asked] = self._logits(self.raw(_array(x)[asked]))
        return ops.convert_to_tensor(logits)

    def exact(self, x: Tensor) -> Tensor:
        return self(x, np.ones(len(x), bool))

    def raw(self, x: Tensor) -> Array:
        """What the function answers about all rows of ``x``, once it is checked: (batch, classes)
        float32.
        """
        points = _array(x)
        answer = self._predict(points)
        try:
            scores = np.asarray(_backend.to_numpy(answer))
        except (TypeError, ValueError):
            scores = np.asarray(None)
        return self._checked(scores, answer, len(points))

    def _checked(self, scores: Array, answer: Any, count: int) -> Array:
        """The scores as the search takes them: (count, classes) float32."""
        if scores.dtype.kind not in "fiub":
            raise InvalidType(
                f"predict must return an array of scores; it returned {type(answer).__name__}"
            )
        if scores.shape != (count, self.classes):
            numbers_only = scores.dtype.kind in "iu" and scores.shape == (count,)
            raise InvalidInput(
                "predict must return scores (logits or probabilities), shape"
                f" {(count, self.classes)} for these {count} inputs and {self.classes}"
                " classes; it returned shape"
                f" {scores.shape}{CLASS_NUMBERS if numbers_only else ''}"
            )
        with np.errstate(over="ignore"):
            return scores.astype("float32")

    def variables(self) -> list[keras.Variable]:
        return []

    def fold(self, x: Tensor, logits: Array) -> int:
        return 0

    def _logits(self, scores: Array) -> Array:
        known = scores[np.isfinite(scores).all(axis=1)]
        if not self.head.name and len(known):
            self.head = _of_labels(known) if self._reads == "labels" else _first_head(known)
        elif (self.head.name == "probabilities" and not _sum_to_one(known)) or (
            self.head.independent and self.head.logarithms and not _between_0_and_1(known)
        ):
            raise InvalidInput(
                "predict answered with probabilities at first and now with something else: it must"
                " return either probabilities, which are not negative and sum to 1 (or, one for"
                " each class, lie between 0 and 1), or logits"
            )
        if not self.head.logarithms:
            return scores
        logs = np.log(np.maximum(scores, SMALLEST_PROBABILITY))
        if not self.head.independent:
            return logs
        return logs - np.log1p(-np.minimum(scores, np.float32(LARGEST_PROBABILITY)))


class Labels(Answers):
    """The class that the function says each row is of: as logits 1 for it, and 0 for the others."""

    def __init__(self, predict: Callable[[Array], Any], classes: int | Sequence[str]) -> None:
        names = None if isinstance(classes, int) else list(classes)
        count = classes if isinstance(classes, int) else len(classes)
        super().__init__(predict, count)
        self._names = None if names is None else {name: place for place, name in enumerate(names)}
        self.head = Head("labels", count, LABELS, bare=True)

    def _checked(self, scores: Array, answer: Any, count: int) -> Array:
        said = scores
        if said.shape == (count, 1):
            said = said[:, 0]
        if said.ndim != 1 or len(said) != count:
            several = said.shape == (count, self.classes)
            raise InvalidInput(
                f"predict must return one class number for each input, shape ({count},), as it was"
                f" made with answers='labels'; it returned"
                f" {type(answer).__name__ if not said.ndim else f'shape {said.shape}'}"
                f"{SCORES_THERE if several else ''}"
            )
        if said.dtype.kind in "USO" and self._names is not None:
            unknown = [name for name in said.tolist() if name not in self._names]
            if unknown:
                raise InvalidInput(
                    f"predict answered {shown(unknown[0])}, which is not among the names of the"
                    f" classes: {', '.join(map(repr, self._names))}"
                )
            numbers = np.array([self._names[name] for name in said.tolist()])
        elif said.dtype.kind in "biuf" and (said == np.floor(said.astype("float64"))).all():
            numbers = said.astype("int64")
        else:
            raise InvalidType(
                "predict must return class numbers, whole ones from 0"
                f" to {self.classes - 1}, or names where classes has names; it returned"
                f" {shown(said.tolist()[:3])}"
            )
        outside = (numbers < 0) | (numbers >= self.classes)
        if outside.any():
            first = numbers[outside][0]
            way = f"classes={first + 1}, or subtract the lowest number that it answers"
            raise InvalidInput(
                f"predict answered class {first}, and there are {self.classes} classes, 0 to"
                f" {self.classes - 1}: {way if first > 0 else 'the lowest must be 0'}"
            )
        return (numbers[:, None] == np.arange(self.classes)).astype("float32")

    def _logits(self, scores: Array) -> Array:
        return scores


def _array(values: Any) -> Array:
    return values if isinstance(values, np.ndarray) else _backend.to_numpy(values)


def _first_head(scores: Array) -> Head:
    """The head of a function, by its first answers (n, classes), all finite."""
    count, classes = scores.shape
    if _sum_to_one(scores):
        bare = count > 1 and bool(((scores == 0) | (scores == 1)).all())
        note = ONLY_A_CLASS if bare else PROBABILITIES
        return Head("probabilities", classes, note, warns=bare, logarithms=True)
    if _between_0_and_1(scores) and count >= INDEPENDENT_ROWS:
        name = "probabilities, one per class"
        return Head(name, classes, ONE_PER_CLASS, independent=True, logarithms=True)
    return Head("logits", classes)


def _of_labels(scores: Array) -> Head:
    """The head of a function that answers with a number for each label."""
    classes = scores.shape[1]
    hard = bool(((scores == 0) | (scores == 1)).all())
    if classes > 1 and not hard and _between_0_and_1(scores) and _sum_to_one(scores, 1e-5):
        raise InvalidInput(ONE_OF_ALL)
    if _between_0_and_1(scores):
        name = "probabilities, several labels"
        return Head(name, classes, ONE_PER_CLASS, independent=True, logarithms=True, reads="labels")
    name = "logits, several labels"
    return Head(name, classes, LOGITS_OF_LABELS, independent=True, reads="labels")


def _sum_to_one(scores: Array, tolerance: float = SUM_TOLERANCE) -> bool:
    near = np.abs(scores.sum(axis=1) - 1) < tolerance
    return bool((scores >= 0).all() and near.all())


def _between_0_and_1(scores: Array) -> bool:
    return bool((scores >= 0).all() and (scores <= 1).all())
