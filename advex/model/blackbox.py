"""A function that answers with scores, in place of a model: another library's classifier, a
service, anything without a gradient.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor
from advex._settings import helpful, shown, whole_number
from advex.errors import GradientUnavailable, InvalidInput, InvalidType
from advex.goals.base import TREE, Reading
from advex.model.cache import Kept
from advex.model.domain import checked_domain, checked_names
from advex.model.head import (
    LARGEST_PROBABILITY,
    LOGITS_OF_LABELS,
    ONE_OF_ALL,
    SMALLEST_PROBABILITY,
    Head,
)
from advex.model.protocol import Forward, Model
from advex.model.refusals import FUNCTION_RECIPE

NO_GRADIENT = (
    "a BlackBox has no gradient: an attack on it may call problem.logits and problem.margin,"
    " nothing else"
)
NO_CHECKS = (
    "A black box is asked for nothing beyond the attack: the checks of its honesty were left out."
)
INDEPENDENT_ROWS = 8  # of numbers from 0 to 1: so many are probabilities even if no sum is 1
SUM_TOLERANCE = 2e-2  # rows whose sum is so near to 1 are probabilities, perhaps rounded ones

PROBABILITIES = "The function answers with probabilities; advex works with their logarithms."
ONLY_A_CLASS = (
    "The function answers with zeros and ones only, which say no more than a class: no way can"
    " be seen."
)
ONE_PER_CLASS = (
    "The function answers with numbers from 0 to 1 that do not sum to 1: taken for a probability of"
    " its own for each class; advex works with their log-odds."
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
        asked = _backend.to_numpy(live).astype(bool)
        logits = np.zeros((len(asked), self.classes), "float32")
        if asked.any():
            # a copy, which the function may edit
            logits[asked] = self._logits(self.raw(_backend.to_numpy(x)[asked]))
        return ops.convert_to_tensor(logits)

    def exact(self, x: Tensor) -> Tensor:
        return self(x, np.ones(len(x), bool))

    def raw(self, x: Tensor) -> Array:
        """What the function answers about all rows of ``x``, once it is checked: (batch, classes)
        float32.
        """
        points = _backend.to_numpy(x)
        answer = self._predict(points)
        try:
            scores = np.asarray(_backend.to_numpy(answer))
        except (TypeError, ValueError):
            scores = np.asarray(None)
        if scores.dtype.kind not in "fiub":
            raise InvalidType(
                f"predict must return an array of scores; it returned {type(answer).__name__}"
            )
        if scores.shape != (len(points), self.classes):
            numbers_only = scores.dtype.kind in "iu" and scores.shape == (len(points),)
            raise InvalidInput(
                "predict must return scores (logits or probabilities), shape"
                f" {(len(points), self.classes)} for these {len(points)} inputs and {self.classes}"
                " classes; it returned shape"
                f" {scores.shape}{': class numbers are not enough' if numbers_only else ''}"
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


class BlackBox(Model):
    """A function in place of a model, for attacks that look at scores alone.

    Everything runs as with a model, but the function is not compiled and has no gradients. No query
    is made that the result does not count: ``result.queries.sum()`` is the number of rows that
    ``predict`` has been asked about. So the checks of a model's honesty are left out, and rows that
    are finished are not sent.

    Args:
        predict: a function of a NumPy array, float32, shape (m, ...), m at most the ``batch_size``
            of the call, values in the box (8-bit inputs too: uint8 image levels 0 to 255 come as
            the box's numbers). It returns scores of shape (m, classes): logits or probabilities,
            whose logarithms are used then. Its exceptions pass through.
        classes: the number of classes, or their names in order.
        box: lowest and highest legal value of what ``predict`` takes, or a ``Domain``.

    Raises:
        InvalidInput: fewer than two classes, or a box without two finite, increasing ends; during
            an attack, scores of another shape.
        InvalidType: something that is not a function, or is a Keras model; during an attack,
            something that is not an array.
        GradientUnavailable: at the call of an attack that needs gradients, before the first query.

    Example:
        >>> import numpy as np
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> weights = np.stack([-np.sin(np.arange(1, 13)), np.sin(np.arange(1, 13))], axis=1)
        >>> seen = []
        >>> def predict(batch):  # another library's predict_proba, a request to a service, ...
        ...     seen.append(len(batch))
        ...     return (batch - 0.5) @ weights
        >>> result = advex.SquareAttack(steps=100)(BlackBox(predict, classes=2), x, labels,
        ...     advex.Linf(0.2))
        >>> bool(result.queries.sum() == sum(seen)), bool(result.queries.max() <= 100)
        (True, True)

    ``result.save`` and ``result.judge`` ask about each file once more, beyond these counts.
    """

    differentiable: ClassVar[bool] = False
    metered: ClassVar[bool] = True
    notes: ClassVar[tuple[str, ...]] = (NO_CHECKS,)

    @helpful
    def __init__(
        self,
        predict: Callable[[Array], Any],
        classes: int | Sequence[str],
        box: tuple[float, float] = (0, 1),
    ) -> None:
        if isinstance(predict, keras.Model | Model):
            raise InvalidType(
                f"{type(predict).__name__} needs no BlackBox: pass it to the attack as it is"
            )
        if callable(getattr(predict, "predict_proba", None)) and not isinstance(predict, type):
            raise InvalidType(
                f"predict must be a function, and {type(predict).__name__} is an estimator:"
                " advex.BlackBox(model.predict_proba, classes=len(model.classes_))"
            )
        if not callable(predict) or isinstance(predict, type):
            raise InvalidType(
                f"predict must be a function of a NumPy array, (n, ...) -> scores (n, classes);"
                f" received {shown(predict)}"
            )
        self.names = (
            None
            if isinstance(classes, int | float | np.number | numbers.Number)
            else checked_names(classes)
        )
        count = (
            whole_number("classes", classes, lowest=2) if self.names is None else len(self.names)
        )
        if count < 2:
            raise InvalidInput(
                f"classes must name at least two classes; received {shown(self.names)}"
            )
        self.domain, self.predict = checked_domain(box), predict
        self.box = self.domain.ends
        self._answers = Answers(predict, count)
        self._labels = Answers(predict, count, "labels")
        self._kept: Kept = {}

    @property
    def input_shape(self) -> None:
        return None

    @property
    def input_dtype(self) -> None:
        return None

    @property
    def known_classes(self) -> int:
        return self._answers.classes

    def forward(self, sample: Array, reading: Reading = "scores") -> Answers:
        known = {"scores": self._answers, "labels": self._labels}
        name = reading.removesuffix(TREE) if isinstance(reading, str) else ""
        if name not in known:
            raise InvalidInput(
                "a BlackBox answers with one score for each class or label, and the goal is about"
                " something else; a function of tensors is a model by"
                f" {FUNCTION_RECIPE.replace('model', 'predict')}"
            )
        return known[name]

    def judge(self, sample: Array, reading: Reading = "scores") -> Callable[[Tensor], Tensor]:
        return self.forward(sample, reading).exact

    def renewed(self, sample: Array, logits: Array, reading: Reading = "scores") -> bool:
        return False

    def kept(self) -> Kept:
        return self._kept

    def __repr__(self) -> str:
        name = getattr(self.predict, "__name__", type(self.predict).__name__)
        return f"BlackBox({name}, classes={self.known_classes}, box={self.box})"
