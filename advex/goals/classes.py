"""What counts as success: another class than the label, or a chosen class, perhaps with a demanded
probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Tensor
from advex._settings import setting, shown
from advex.errors import InvalidInput, InvalidType
from advex.goals.base import FRAGILE, INFINITY, Goal
from advex.goals.labels import axes_of, class_numbers


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


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """log of the odds against each example's class, ``log((1 - p) / p)``: shape (batch,)."""
    return ops.logsumexp(others(logits, labels), axis=1) - picked(logits, labels)


SATURATED = -64.0
"""Log-odds below which the gradient of cross-entropy (``exp`` of it) is on its way to underflow in
float32.
"""


def soft_plus(odds: Tensor) -> Tensor:
    """log(1 + exp(odds)), which goes on as a straight line where its gradient would underflow."""
    return ops.where(odds > SATURATED, ops.softplus(ops.maximum(odds, SATURATED)), odds - SATURATED)


def entropy_of(answer: Tensor, goal: Goal) -> Tensor:
    """See ``losses.cross_entropy``."""
    own = goal.entropy(answer)
    if own is not None:
        return own
    labels = getattr(goal, "labels", None)
    if labels is None or len(labels.shape) != 1 or len(getattr(answer, "shape", ())) != 2:
        return goal.margin(answer)
    u = log_odds(answer, labels)
    # the target must beat the other units, and its own sigmoid must rise
    if goal.targeted and goal.independent:
        u = ops.logaddexp(u, -picked(answer, labels))
    value = soft_plus(u)
    return -value if goal.targeted else value


def places(name: str, shape: tuple[int, ...]) -> str:
    """The error about a goal that is one class for each example, and an answer that is more."""
    answer = f"{name} is one class for each example, and the model answers with {shape} for each"
    if len(shape) > 2 and all(size == 1 for size in shape[:-1]):
        return (
            f"{answer}: one place with its classes is model ="
            f" keras.Sequential([keras.Input(x.shape[1:]), model,"
            f" keras.layers.Reshape(({shape[-1]},))])"
        )
    return (
        f"{answer}: a class for each place (segmentation, tagging) is advex.Segmentation(labels),"
        f" labels of shape (n, {', '.join(map(str, shape[:-1]))}); if these are the feature maps of"
        " a network without its top (include_top=False), give the whole model, with the layers that"
        " classify"
    )


@dataclass(frozen=True, eq=False)
class Labelled(Goal):
    """A goal with one class number for each example."""

    labels: Any
    one_output: ClassVar[bool] = True

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

    def suit(self, shapes: Any) -> None:
        if len(shapes) > 1:
            raise InvalidInput(places(type(self).__name__, shapes))

    def check(self, count: int, classes: int | None) -> Self:
        if len(self.labels) != count:
            raise InvalidInput(f"x has {count} examples but there are {len(self.labels)} labels")
        tidy = Goal.check(self, count, classes)  # the fields of a class derived from this one, too
        if classes is None:
            return tidy
        outside = (self.labels < 0) | (self.labels >= classes)
        if outside.any():
            hint = (
                ": are they 1-based? Subtract 1: np.asarray(labels) - 1"
                if self.labels.min() >= 1 and self.labels.max() == classes
                else ""
            )
            if classes == 2 and not hint:
                hint = (
                    " (one output unit is taken for yes or no, 2 classes; if it is a number, a"
                    " regression: advex.Regression(labels, off=0.5), moved by more than 0.5)"
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
    if isinstance(goal, TopK):
        return goal.k == 1 and type(goal).margin is TopK.margin
    return isinstance(goal, Untargeted) and type(goal).margin is Untargeted.margin


class Untargeted(Labelled):
    r"""Success is any other class than the label.

    When to use it:
        The usual goal: robust accuracy is the share of the examples on which it fails. Labels given
        as the goal of a call mean it.

    $$ f(z) = \max_{j \ne y} z_j - z_y $$

    $z$ are the logits and $y$ is the label. `losses.cross_entropy` is that of the label.

    Args:
        labels: true classes, whole numbers of shape (n,); one-hot rows are converted.

    Raises:
        InvalidType: labels that are no class numbers, such as names.
        InvalidInput: at the call, a label that the model does not have, or another number of labels
            than of examples.

    Example:
        >>> Untargeted([3, 1])
        Untargeted(2 examples)
    """

    def margin(self, logits: Tensor) -> Tensor:
        return best_other(logits, self.labels) - picked(logits, self.labels)

    def branches(self, classes: int) -> int:
        return classes - 1 if leaves(self) else 0

    def towards(self, way: Tensor) -> Goal:
        return Towards(way, self.labels)

    def __repr__(self) -> str:
        return f"Untargeted({len(self.labels)} examples)"


@dataclass(frozen=True, eq=False, repr=False)
class Targeted(Labelled):
    r"""Success is the chosen class, with at least the demanded probability.

    When to use it:
        When the model is to see something in particular, such as a toaster in a cat. It is harder
        than `Untargeted`, and says less about robust accuracy.

    $$ f(z) = z_c - \max_{j \ne c} z_j \qquad \text{and} \qquad p_c(z) \ge \kappa $$

    $z$ are the logits, $c$ is the target, $p_c$ its probability (softmax, or its own sigmoid), and
    $\kappa$ is `confidence`. `losses.cross_entropy` is minus that of the target.

    Args:
        labels: the classes to reach: shape (n,), or one number for all examples.
        confidence: the probability that the model must give to it, 0 to 1: one number, or shape
            (n,). With 0 it is enough that the chosen class comes first.

    Raises:
        InvalidType: names instead of class numbers, or a confidence that is no number.
        InvalidInput: a confidence outside 0 to 1; at the call, a class that the model does not
            have.

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

    @property
    def more_than_a_class(self) -> str:
        return "its confidence" if np.any(self.confidence > 0) else ""

    def margin(self, logits: Tensor) -> Tensor:
        return picked(logits, self.labels) - best_other(logits, self.labels)

    def surplus(self, answer: Tensor) -> Tensor:
        margin = self.margin(answer)
        demanded = ops.clip(self.confidence, 1e-7, 1 - 1e-7)
        own = picked(answer, self.labels) if self.independent else -log_odds(answer, self.labels)
        missing = own - ops.log(demanded / (1 - demanded))
        return ops.where(self.confidence > 0, ops.minimum(margin, missing), margin)

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


@dataclass(frozen=True, eq=False, repr=False)
class TopK(Labelled):
    r"""Success is that the label is not among the k likeliest classes.

    When to use it:
        When a product shows several answers, or top-5 accuracy is what counts, as on ImageNet.

    $$ f(z) = \max^{(k)}_{j \ne y} z_j - z_y $$

    $\max^{(k)}$ is the $k$-th largest, $z$ are the logits, $y$ is the label.
    `losses.cross_entropy` is the truncated top-k entropy: the label against the classes that are
    not the k - 1 likeliest of the others. With k = 1 that is `Untargeted`.

    Args:
        labels: true classes, whole numbers of shape (n,); one-hot rows are converted.
        k: how many of the likeliest classes it must leave, a whole number from 1.

    Raises:
        InvalidType: labels that are no class numbers; a k that is no number.
        InvalidInput: a k below 1; at the call, a model of no more than k classes.

    Example:
        >>> TopK([3, 1], k=5)
        TopK(2 examples, k=5)

    Reference:
        Lapin, Hein and Schiele, Analysis and optimization of loss functions for multiclass, top-k,
        and multilabel classification, TPAMI 2018 (the loss). https://arxiv.org/abs/1612.03663

    Deviations:
        The paper trains with the loss, which is minimised there; here it is climbed.
    """

    k: int = setting(5, "whole")

    @property
    def more_than_a_class(self) -> str:
        return "" if self.k == 1 else f"which classes are the {self.k} likeliest"

    def margin(self, logits: Tensor) -> Tensor:
        best, _ = ops.top_k(others(logits, self.labels), self.k)
        return best[:, self.k - 1] - picked(logits, self.labels)

    def entropy(self, answer: Tensor) -> Tensor:
        if self.k == 1:
            return soft_plus(log_odds(answer, self.labels))
        wrong, _ = ops.top_k(others(answer, self.labels), answer.shape[1] - 1)
        odds = ops.logsumexp(wrong[:, self.k - 1 :], axis=1) - picked(answer, self.labels)
        return soft_plus(odds)

    def branches(self, classes: int) -> int:
        return classes - 1 if leaves(self) else 0

    def towards(self, way: Tensor) -> Goal:
        return Towards(way, self.labels)

    def check(self, count: int, classes: int | None) -> Self:
        if classes is not None and classes <= self.k:
            raise InvalidInput(
                f"TopK(k={self.k}): the model has {classes} classes, and the label is always among"
                f" the {self.k} likeliest: k must be at most {classes - 1}"
            )
        return super().check(count, classes)

    def __repr__(self) -> str:
        return f"TopK({len(self.labels)} examples, k={self.k})"
