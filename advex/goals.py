"""What counts as success: another class than the label, or a chosen class, perhaps with a demanded
probability.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor
from advex._others import face
from advex._settings import Settings, shown
from advex.errors import InvalidInput, InvalidType, blaming

FRAGILE = 1e-6
"""A margin below this fraction of the largest logit may differ from machine to machine: it never
counts as crossed.
"""

__all__ = ["Goal", "Targeted", "Untargeted"]

INFINITY = float("inf")
LARGEST = 3e38  # what float32 holds


def class_mask(labels: Tensor, logits: Tensor) -> Tensor:
    """True at each example's own class: shape (batch, classes)."""
    return ops.expand_dims(ops.cast(labels, "int32"), 1) == ops.arange(
        logits.shape[1], dtype="int32"
    )


def others(logits: Tensor, labels: Tensor) -> Tensor:
    """The logits, minus infinity at each example's own class: no finite number is below every
    logit.
    """
    return ops.where(class_mask(labels, logits), -INFINITY, logits)


def picked(logits: Tensor, labels: Tensor) -> Tensor:
    """Each example's logit of its own class: shape (batch,)."""
    return ops.sum(ops.where(class_mask(labels, logits), logits, 0.0), axis=1)


def best_other(logits: Tensor, labels: Tensor) -> Tensor:
    """Each example's largest logit among the classes that are not its own: shape (batch,)."""
    return ops.max(others(logits, labels), axis=1)


def _largest(logits: Tensor) -> Tensor:
    """Each example's largest absolute logit, shape (batch,); classes masked out by -1e9 or -inf do
    not take part.
    """
    top = ops.max(logits, axis=1, keepdims=True)
    masked = logits < top - 1e4 * (1 + ops.abs(top))
    size = ops.max(ops.abs(ops.where(masked, top, logits)), axis=1)
    return ops.minimum(size, LARGEST)  # a logit that overflowed crosses like any other


class Goal(Settings):
    """What an attack is to achieve. A goal of your own is a frozen dataclass with ``margin``.

    Fields that are NumPy arrays hold one entry per example and travel with it; inside ``margin``
    they are tensors of the batch at hand.
    """

    targeted: ClassVar[bool] = False
    """Whether ``labels`` are classes to reach (True) or to leave (False); ``losses.cross_entropy``
    asks.
    """
    independent = False
    """Whether each class has a probability of its own, a sigmoid unit each; set from the model, see
    ``of``.
    """

    @abstractmethod
    def margin(self, logits: Tensor) -> Tensor:
        """How far the decision boundary is crossed: (batch, classes) -> (batch,); above 0 =
        crossed.
        """

    def probabilities(self, logits: Tensor) -> Tensor:
        """What the model itself calls the probability of each class: (batch, classes), softmax or a
        sigmoid for each.
        """
        return ops.sigmoid(logits) if self.independent else ops.softmax(logits)

    def of(self, independent: bool) -> Self:
        """This goal for a model whose classes have probabilities of their own, or share one."""
        if independent == self.independent:
            return self
        twin = copy.copy(self)
        object.__setattr__(twin, "independent", independent)
        return twin

    def reached(self, logits: Tensor, slack: float = 1.0) -> Tensor:
        """Whether each example has succeeded: (batch,) of bool. NaN never has.

        The margin must exceed ``slack`` times the noise of the arithmetic, 1e-6 of the largest
        logit.
        """
        with blaming(f"{type(self).__name__}.margin"):
            margin = self.margin(logits)
        return margin > slack * FRAGILE * _largest(logits)

    def check(self, count: int, classes: int | None) -> Self:
        """This goal, tidied up for ``count`` examples, or an error that says what is wrong with it.

        ``classes`` is None as long as only the model itself, not yet called, could tell their
        number.
        """
        tidy = {
            name: _tidy(f"{type(self).__name__}.{name}", values)
            for name, values in self.rows().items()
        }
        for name, values in tidy.items():
            if len(values) != count:
                raise InvalidInput(
                    f"{type(self).__name__}.{name} has {len(values)} entries for {count} examples"
                )
        return self.bound(tidy)

    def rows(self) -> dict[str, Array]:
        """The fields with one entry per example."""
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        values = {field.name: getattr(self, field.name) for field in fields}
        return {
            name: value
            for name, value in values.items()
            if isinstance(value, np.ndarray) and value.ndim
        }

    def bound(self, rows: dict[str, Any]) -> Self:
        """A copy whose per-example fields are ``rows``."""
        twin = copy.copy(self)
        for name, values in rows.items():
            object.__setattr__(twin, name, values)
        return twin

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the values given, in sentences."""
        return ()


def _tidy(name: str, values: Array) -> Array:
    """A copy of one entry per example, of the types that models and losses work with: int32,
    float32, bool.
    """
    kind = values.dtype.kind
    if kind in "iu":
        if len(values) and not -(2**31) <= int(values.min()) <= int(values.max()) < 2**31:
            raise InvalidInput(f"{name} holds whole numbers beyond 32 bits, such as {values.max()}")
        return values.astype("int32")
    if kind not in "fb":
        raise InvalidType(
            f"{name} must hold numbers, one entry per example; received an array of {values.dtype}"
        )
    return values.astype("float32" if kind == "f" else bool)


def axes_of(values: Any) -> int:
    """How many axes ``values`` have; 1 where NumPy cannot tell: what they are is looked at
    elsewhere.
    """
    try:
        return int(np.ndim(values))
    except Exception:  # ragged lists, or what an object that is no array raises
        return 1


def class_numbers(name: str, values: Any) -> tuple[Array, tuple[str, ...]]:
    """``values`` as one int32 class number per example, with a note if they had to be converted."""
    try:
        array = np.asarray(_backend.to_numpy(values))
    except Exception:  # what an object that is no array raises here may be anything
        array = np.asarray(None)
    if array.dtype == bool and array.ndim == 2 and array.shape[1] > 1:
        array = array.astype("int32")  # such as labels[:, None] == range(classes): one-hot
    if array.dtype == bool or array.dtype.kind not in "iuf":
        raise InvalidType(
            f"{name} must be class numbers, shape (n,); received {type(values).__name__} of dtype"
            f" {array.dtype}{_numbers_from(name, array)}"
        )
    notes: tuple[str, ...] = ()
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.shape[1] > 1:
        hot = (array == 0) | (array == 1)
        if not (hot.all() and (array.sum(axis=1) == 1).all()):
            raise InvalidInput(
                f"{name} of shape {array.shape} are neither class numbers nor"
                f" one-hot{_what_rows_are(name, array)}"
            )
        array = array.argmax(axis=1)
        notes = (f"One-hot {name} were converted to class numbers.",)
    if array.ndim == 0:
        raise InvalidInput(
            f"{name} must have shape (n,), a class number for each example; received one number:"
            f" [{array}]"
        )
    if array.ndim != 1:
        pixels = (
            ": a class for each pixel (segmentation) is not supported yet" if array.ndim > 2 else ""
        )
        raise InvalidInput(f"{name} must have shape (n,); received shape {array.shape}{pixels}")
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (array == np.round(array))
        if not whole.all():
            raise InvalidInput(
                f"{name} must be whole class numbers; received {array[~whole][:3].tolist()}"
            )
    if len(array) and not -(2**31) <= array.min() <= array.max() < 2**31:
        far = array.max() if array.max() >= 2**31 else array.min()
        raise InvalidInput(f"{name} must be class numbers; received {far}")
    return array.astype("int32"), notes


def _numbers_from(name: str, array: Array) -> str:
    """How to get class numbers from values that are not: the end of the error's sentence."""
    if array.dtype == bool:
        return f": np.asarray({name}).astype('int32') if True is class 1"
    texts = array.size and all(isinstance(value, str | bytes) for value in array.ravel()[:100])
    if array.dtype.kind in "SU" or (array.dtype == object and texts):
        return (
            f", names in place of numbers: [names.index(label) for label in {name}] with"
            f" the names in the order of the classes"
        )
    return ""


def _what_rows_are(name: str, array: Array) -> str:
    """What rows of several numbers mean that are not one-hot: the end of the error's sentence."""
    if ((array == 0) | (array == 1)).all():
        return (
            ": rows with no 1 or with several are several labels for one example (multi-label),"
            " which is not supported yet; one class number for each example is needed, shape (n,)"
        )
    if ((array >= 0) & (array <= 1)).all():
        return (
            f", but soft labels or scores: np.asarray({name}).argmax(1) if each row stands for its"
            " largest; several labels for one example (multi-label) are not supported yet"
        )
    return ": one class number for each example is needed, shape (n,)"


@dataclass(frozen=True, eq=False)
class _Labelled(Goal):
    labels: Any

    def __post_init__(self) -> None:
        labels, notes = class_numbers("labels", self.labels)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "_notes", notes)

    @property
    def notes(self) -> tuple[str, ...]:
        reached, margin = (
            next(kind for kind in type(self).__mro__ if name in vars(kind))
            for name in ("reached", "margin")
        )
        own: tuple[str, ...] = self._notes  # type: ignore[attr-defined]
        if reached is margin or not issubclass(reached, margin):
            return own
        return (
            *own,
            f"{type(self).__name__} has a reached() of its own and the margin() of"
            f" {margin.__name__}, which is what attacks climb: give it a margin that is positive"
            " where it is reached.",
        )

    def check(self, count: int, classes: int | None) -> Self:
        if len(self.labels) != count:
            raise InvalidInput(f"x has {count} examples but there are {len(self.labels)} labels")
        tidy = Goal.check(self, count, classes)  # the fields of a class derived from this one, too
        if classes is None:
            return tidy
        outside = (self.labels < 0) | (self.labels >= classes)
        if outside.any():
            hint = (
                ": are they 1-based? Subtract 1: labels - 1"
                if self.labels.min() >= 1 and self.labels.max() == classes
                else ""
            )
            if classes == 2 and not hint:
                hint = (
                    " (one output unit is taken for yes or no, 2 classes: regression is not"
                    " supported yet)"
                )
            raise InvalidInput(
                f"the model has {classes} classes, 0 to {classes - 1}, but {outside.sum()} labels"
                f" are outside, such as {self.labels[outside][0]}{hint}"
            )
        return tidy


@dataclass(frozen=True, eq=False)
class Towards(Goal):
    """Leave one class for a chosen other: what an attack pursues that tries one wrong class after
    the other.

    Losses see a targeted goal whose margin is the chosen logit minus the true one; success is
    judged by the goal of the call.

    Args:
        labels: the class to reach, shape (n,).
        away: the class to leave, shape (n,).
    """

    labels: Any
    away: Any
    targeted: ClassVar[bool] = True

    def margin(self, logits: Tensor) -> Tensor:
        return picked(logits, self.labels) - picked(logits, self.away)


def leaves(goal: Goal) -> bool:
    """Whether any class but the label is a success: not so for a goal derived from ``Untargeted``
    with a margin of its own.
    """
    return isinstance(goal, Untargeted) and type(goal).margin is Untargeted.margin


class Untargeted(_Labelled):
    """Success is any other class than the label.

    Args:
        labels: true classes, shape (n,); one-hot rows are converted.

    Example:
        >>> Untargeted([3, 1])
        Untargeted(2 examples)
    """

    def margin(self, logits: Tensor) -> Tensor:
        return best_other(logits, self.labels) - picked(logits, self.labels)

    def __repr__(self) -> str:
        return f"Untargeted({len(self.labels)} examples)"


@dataclass(frozen=True, eq=False, repr=False)
class Targeted(_Labelled):
    """Success is the chosen class, with at least the demanded probability.

    Args:
        labels: the classes to reach: shape (n,), or one number for all examples.
        confidence: the probability the model must give to it, 0 to 1: one number, or shape (n,).
            With 0 it is enough that the chosen class comes first.

    Example:
        >>> Targeted(859, confidence=0.8)
        Targeted(859, confidence=0.8)
    """

    confidence: Any = 0.0
    targeted: ClassVar[bool] = True

    def __post_init__(self) -> None:
        single = axes_of(self.labels) == 0
        if single and isinstance(self.labels, str | bytes):
            raise InvalidType(
                f"Targeted needs class numbers, not names; received {shown(self.labels)}:"
                f" names.index({shown(self.labels)}) with the names in the order of the classes"
            )
        labels, notes = class_numbers("labels", [self.labels] if single else self.labels)
        try:
            confidence = np.asarray(_backend.to_numpy(self.confidence))
        except Exception:  # what an object that is no array raises here may be anything
            confidence = np.asarray(None)
        if confidence.dtype.kind not in "iuf" or confidence.ndim > 1:
            raise InvalidType(
                f"confidence must be a probability, or one per example; received"
                f" {shown(self.confidence)}"
            )
        if not ((confidence >= 0) & (confidence <= 1)).all():
            raise InvalidInput(
                f"confidence must lie between 0 and 1; received {shown(self.confidence)}"
            )
        confidence = confidence.astype("float32")
        object.__setattr__(self, "_single", single)
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "confidence", confidence)
        object.__setattr__(self, "_notes", notes)

    def check(self, count: int, classes: int | None) -> Self:
        labels = np.repeat(self.labels, count) if self._single else self.labels  # type: ignore[attr-defined]
        confidence = (
            np.broadcast_to(self.confidence, (count,))
            if self.confidence.ndim == 0
            else self.confidence
        )
        if len(confidence) != count:
            raise InvalidInput(
                f"x has {count} examples but there are {len(confidence)} confidences"
            )
        twin = self.bound({"labels": labels, "confidence": confidence})
        object.__setattr__(twin, "_single", False)
        return super(Targeted, twin).check(count, classes)

    def margin(self, logits: Tensor) -> Tensor:
        return picked(logits, self.labels) - best_other(logits, self.labels)

    def reached(self, logits: Tensor, slack: float = 1.0) -> Tensor:
        probability = picked(self.probabilities(logits), self.labels)
        demanded = ops.minimum(self.confidence + slack * FRAGILE, 1.0)
        enough = ops.logical_or(self.confidence <= 0, probability >= demanded)
        return ops.logical_and(Goal.reached(self, logits, slack), enough)

    def __repr__(self) -> str:
        labels = str(self.labels[0]) if self._single else f"{len(self.labels)} examples"  # type: ignore[attr-defined]
        highest = f"{float(np.max(self.confidence, initial=0)):g}"
        return (
            f"Targeted({labels}, confidence={highest})" if float(highest) else f"Targeted({labels})"
        )


if not TYPE_CHECKING:
    __getattr__, __dir__ = face(__name__, __all__)
