"""A function that answers with scores, or with a class alone, in place of a model: another
library's classifier, a service, anything without a gradient.
"""

from __future__ import annotations

import copy
import numbers
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import keras
import numpy as np

from advex._arrays import Array, Tensor
from advex._settings import helpful, shown, whole_number
from advex.domain import Domain
from advex.errors import InvalidInput, InvalidType
from advex.goals.base import TREE, Reading
from advex.model.answers import Answers, Labels
from advex.model.cache import Kept
from advex.model.domain import checked_domain, checked_names
from advex.model.protocol import Gives, Model
from advex.model.refusals import FUNCTION_RECIPE

NO_CHECKS = (
    "A black box is asked for nothing beyond the attack: the checks of its honesty were left out."
)
KINDS = ("scores", "labels")


class BlackBox(Model):
    """A function in place of a model, for attacks that look at scores alone, or at nothing but the
    class that is said.

    When to use it:
        For models of other libraries, services and devices, and to attack a Keras model as somebody
        would who cannot see inside.

    Everything runs as with a model, but the function is not compiled and has no gradients. No query
    is made that the result does not count: ``result.queries.sum()`` is the number of rows that
    ``predict`` has been asked about. So the checks of a model's honesty are left out, and rows that
    are finished are not sent.

    Args:
        predict: a function of a NumPy array, float32, shape (m, ...), m at most the ``batch_size``
            of the call, values in the box (8-bit inputs too: uint8 image levels 0 to 255 come as
            the box's numbers). It returns scores of shape (m, classes): logits or probabilities,
            whose logarithms are used then; with ``answers="labels"`` a class number for each, shape
            (m,), or its name where ``classes`` has names. Lists will do. Its exceptions pass
            through; what was found until then is in their attribute ``result``.
        classes: the number of classes, or their names in order.
        box: lowest and highest legal value of what ``predict`` takes, or a ``Domain``.
        answers: "scores" or "labels". Attacks that need no more than labels, such as ``CGBA``, run
            on both.

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
        box: tuple[float, float] | Domain = (0, 1),
        answers: Literal["scores", "labels"] = "scores",
    ) -> None:
        if isinstance(predict, keras.Model | Model):
            raise InvalidType(
                f"{type(predict).__name__} needs no BlackBox: pass it to the attack as it is"
            )
        if not isinstance(answers, str) or answers not in KINDS:
            raise InvalidInput(f"answers must be 'scores' or 'labels'; received {shown(answers)}")
        given: Any = predict
        if not isinstance(given, type) and not callable(given):
            for method, kind in (("predict_proba", "scores"), ("predict", "labels")):
                if callable(getattr(predict, method, None)) and answers in (kind, "scores"):
                    told = "" if kind == "scores" else ", answers='labels'"
                    raise InvalidType(
                        f"predict must be a function, and {type(predict).__name__} is an estimator:"
                        f" advex.BlackBox(model.{method}, classes=len(model.classes_){told})"
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
        self.answers = answers
        self._ways(count)
        self._kept: Kept = {}

    def _ways(self, count: int) -> None:
        """How the function is asked, for each way to read it."""
        self._scores = Answers(self.predict, count)
        self._several = Answers(self.predict, count, "labels")
        self._said = Labels(self.predict, count if self.names is None else self.names)

    def through(self, predict: Callable[[Array], Any]) -> BlackBox:
        """The same black box, asked through another function."""
        twin = copy.copy(self)
        twin.predict = predict
        twin._ways(self.known_classes)
        return twin

    @property
    def input_shape(self) -> tuple[int | None, ...] | None:
        return None

    @property
    def input_dtype(self) -> None:
        return None

    @property
    def known_classes(self) -> int:
        return self._scores.classes

    @property
    def gives(self) -> Gives:
        return self.answers

    def forward(self, sample: Array, reading: Reading = "scores") -> Answers:
        known = {"scores": self._scores, "labels": self._several}
        name = reading.removesuffix(TREE) if isinstance(reading, str) else ""
        if self.answers == "labels" and name == "labels":
            raise InvalidInput(
                "the goal is about several labels of each input, and this BlackBox answers with one"
                " class (answers='labels'): a function of scores is advex.BlackBox(predict,"
                " classes)"
            )
        if self.answers == "labels" and name == "scores":
            return self._said
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
        told = ", answers='labels'" if self.answers == "labels" else ""
        return f"BlackBox({name}, classes={self.known_classes}, box={self.box}{told})"
