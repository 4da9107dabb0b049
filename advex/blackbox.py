"""A function that answers with scores, in place of a model: another library's classifier, a
service, what has no gradient.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor
from advex._settings import helpful, shown, whole_number
from advex.classifier import SURE, TINY, Ask, Classifier, Forward, _box, _names
from advex.errors import GradientUnavailable, InvalidInput, InvalidType

NO_GRADIENT = (
    "a BlackBox has no gradient: an attack on it may call problem.logits and"
    " problem.margin, nothing else"
)
MANY = 8  # rows of scores between 0 and 1 that are taken for probabilities without summing to 1
NEAR = 2e-2  # of 1: rows that sum to it are probabilities, perhaps rounded ones


class Answers(Forward):
    """What the function says about the rows that are asked about; nothing is asked about the
    others.
    """

    def __init__(self, predict: Callable[[Array], Any], classes: int) -> None:
        self._predict, self.classes = predict, classes
        self.head, self.note = "", ""
        self.coarse, self.folded, self.independent, self.spent = False, False, False, 0
        self._bare = False

    @property
    def doubtful(self) -> bool:
        return self._bare

    def variables(self) -> list[keras.Variable]:
        return []

    def raw(self, x: Tensor, ask: Ask | None = None) -> Array:
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
            only = (
                ": class numbers are not enough"
                if scores.dtype.kind in "iu" and scores.shape == (len(points),)
                else ""
            )
            raise InvalidInput(
                f"predict must return scores (logits or probabilities), shape"
                f" {(len(points), self.classes)} for these"
                f" {len(points)} inputs and {self.classes} classes; it returned shape"
                f" {scores.shape}{only}"
            )
        with np.errstate(over="ignore"):
            return scores.astype("float32")

    def __call__(self, x: Tensor, live: Tensor | None = None) -> Tensor:
        if live is None:
            raise GradientUnavailable(NO_GRADIENT)
        asked = _backend.to_numpy(live).astype(bool)
        logits = np.zeros((len(asked), self.classes), "float32")
        if asked.any():
            # a copy, which the function may edit
            logits[asked] = self._logits(self.raw(_backend.to_numpy(x)[asked]))
        return ops.convert_to_tensor(logits)

    def _logits(self, scores: Array) -> Array:
        known = scores[np.isfinite(scores).all(axis=1)]
        probable = bool((known >= 0).all() and (np.abs(known.sum(axis=1) - 1) < NEAR).all())
        between = bool((known >= 0).all() and (known <= 1).all())
        if not self.head and len(known):
            self.independent = between and not probable and len(known) >= MANY
            self.head = (
                "probabilities"
                if probable
                else "probabilities, one per class"
                if self.independent
                else "logits"
            )
            if probable:
                self.note = (
                    "The function answers with probabilities; advex works with their logarithms."
                )
            if self.independent:
                self.note = (
                    "The function answers with numbers from 0 to 1 that do not sum to 1: taken for"
                    " a probability of its own for"
                    " each class; advex works with their log-odds."
                )
            if probable and len(known) > 1 and ((known == 0) | (known == 1)).all():
                self._bare = True
                self.note = (
                    "The function answers with zeros and ones only, which say no more than"
                    " a class: no way can be seen."
                )
        elif (self.head == "probabilities" and not probable) or (self.independent and not between):
            raise InvalidInput(
                "predict answered with probabilities at first and now with something else: it must"
                " return either probabilities,"
                " which are not negative and sum to 1 (or, one for each class, lie between 0 and"
                " 1), or logits"
            )
        if self.independent:
            return np.log(np.maximum(scores, TINY)) - np.log1p(
                -np.minimum(scores, np.float32(SURE))
            )
        return np.log(np.maximum(scores, TINY)) if self.head == "probabilities" else scores


class BlackBox(Classifier):
    """A function in place of a model, for attacks that look at scores alone.

    Everything runs as with a model, but nothing is compiled, there are no gradients, and no query
    is made that the result does
    not count: ``result.queries.sum()`` is the number of rows that ``predict`` has been asked about,
        and the checks of a model's
    honesty are left out. Rows that are finished are not sent.

    Args:
        predict: a function of a NumPy array, float32, shape (m, ...), m at most the ``batch_size``
            of the call, values in the box (8-bit inputs too: uint8 image levels 0 to 255 come as
            the box's numbers). It returns scores of shape (m, classes): logits or probabilities,
            whose logarithms are used then. Its exceptions pass through.
        classes: the number of classes, or their names in order.
        box: lowest and highest legal value of what ``predict`` takes.

    Raises:
        InvalidInput: fewer than two classes, or a box that is none; during an attack, scores of
        another shape. InvalidType: something that is no function, or is a Keras model; during an
        attack, something that is not an array. GradientUnavailable: at the call of an attack that
        needs gradients, before the first query.

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

    symbolic: ClassVar[bool] = False

    @helpful
    def __init__(
        self,
        predict: Callable[[Array], Any],
        classes: int | Sequence[str],
        box: tuple[float, float] = (0, 1),
    ) -> None:
        if isinstance(predict, keras.Model | Classifier):
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
            else _names(classes)
        )
        count = (
            whole_number("classes", classes, lowest=2) if self.names is None else len(self.names)
        )
        if count < 2:
            raise InvalidInput(
                f"classes must name at least two classes; received {shown(self.names)}"
            )
        self.box, self.preprocess, self.predict = _box(box), None, predict
        self._answers = Answers(predict, count)
        self._kept: dict[Hashable, Any] = {}

    @property
    def input_shape(self) -> tuple[int | None, ...] | None:
        return None

    @property
    def input_dtype(self) -> str | None:
        return None

    @property
    def known_classes(self) -> int | None:
        return self._answers.classes

    def forward(self, sample: Array) -> Forward:
        return self._answers

    def kept(self) -> dict[Hashable, Any]:
        return self._kept

    def judge(self, sample: Array) -> Callable[[Tensor], Tensor]:
        return lambda x: self._answers(x, np.ones(len(x), bool))

    def __repr__(self) -> str:
        name = getattr(self.predict, "__name__", type(self.predict).__name__)
        return f"BlackBox({name}, classes={self.known_classes}, box={self.box})"
