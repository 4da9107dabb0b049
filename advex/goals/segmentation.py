"""A class for each place of an input: pixels of a picture, steps of a series, words of a text."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor
from advex._settings import real_number, shown, switch
from advex.errors import InvalidInput, InvalidType
from advex.goals.base import FRAGILE, Goal, largest, tidied
from advex.goals.classes import best_other, log_odds, picked, soft_plus


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation(Goal):
    r"""Success is that at least a share of the pixels that count is wrong, or is the target.

    When to use it:
        For models that give a class to each pixel, or to each step of a series.

    $$ \text{success} \iff \#\{p \in P : g_p > 0\} \ge \lceil \kappa\, |P| \rceil $$

    $$ g_p = \max_{j \ne y_p} z_{p,j} - z_{p, y_p} $$

    $P$ are the pixels that count, $z_p$ the logits of pixel $p$, $y_p$ its label, $\kappa$ is
    `share`. With `targeted` $g_p$ has the other sign. The margin is the $g$ of the pixel that
    decides, the one that the share ends with; it is climbed by the mean of all that are not across.
    `losses.cross_entropy` is the mean over the pixels that count.

    Works for any model that answers with a score for each class at each place, along the last axis:
    (n, h, w, classes) and labels (n, h, w); (n, steps, classes) and labels (n, steps). One unit at
    each place is two classes. `result.prediction` is the map of classes, `result.confidence` the
    mean probability of the predicted classes, `result.pixel_accuracy` and `result.mean_iou` what
    segmentation is measured by.

    Args:
        labels: true classes, or those to reach, whole numbers of shape (n, ...). None: what the
            model itself says of the clean inputs.
        share: of the pixels that count, above 0 and at most 1.
        ignore: the label of pixels that do not count: they are neither attacked nor counted. None:
            all count.
        targeted: whether `labels` are to be reached.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a share out of range; at the call, labels that do not fit the model's answer.

    Example:
        >>> import numpy as np
        >>> Segmentation(np.zeros((2, 8, 8), int), share=0.9)
        Segmentation(2 examples, share=0.9, ignore=255)
    """

    labels: Any = None
    share: float = 0.99
    ignore: int | None = 255
    targeted: bool = False  # type: ignore[misc]
    needed: Any = field(default=None, init=False, repr=False)
    """How many pixels of each example must be wrong, (n,) int32."""
    one_output = True

    def __post_init__(self) -> None:
        share = real_number("Segmentation(share)", self.share, strict=True)
        if share > 1:
            raise InvalidInput(f"share must be above 0 and at most 1; received {shown(share)}")
        object.__setattr__(self, "share", share)
        switch("targeted", self.targeted)
        if self.ignore is not None and (
            isinstance(self.ignore, bool) or not isinstance(self.ignore, int | np.integer)
        ):
            raise InvalidType(
                f"ignore must be a label, such as 255, or None; received {shown(self.ignore)}"
            )
        if self.labels is None:
            return
        labels = _maps(self.labels)
        object.__setattr__(self, "labels", labels)
        counted = self._counts(labels).sum(axis=tuple(range(1, labels.ndim)))
        needed = [max(1, math.ceil(round(share * int(count), 6))) for count in counted]
        object.__setattr__(self, "needed", np.array(needed, "int32"))

    def _counts(self, labels: Any) -> Any:
        return np.ones(labels.shape, bool) if self.ignore is None else labels != self.ignore

    @property
    def reading(self) -> str:
        known = "any" if self.labels is None else str(len(self.labels.shape) - 1)
        return getattr(self, "_asked", f"scores {known}")

    def pixels(self, answer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (batch, pixels, classes), labels (batch, pixels), and which count, likewise."""
        classes = int(answer.shape[-1])
        size = math.prod(map(int, answer.shape[1:-1]))
        scores = ops.reshape(answer, (-1, size, classes))
        labels = ops.reshape(self.labels, (-1, size))
        if self.ignore is None:
            return scores, labels, ops.ones_like(labels, dtype="bool")
        counts = ops.not_equal(labels, self.ignore)
        return scores, ops.where(counts, labels, 0), counts

    def gains(self, answer: Tensor) -> tuple[Tensor, Tensor]:
        """How far each pixel is across, (batch, pixels), above 0 where it is; and which count."""
        scores, labels, counts = self.pixels(answer)
        flat, own = ops.reshape(scores, (-1, scores.shape[2])), ops.reshape(labels, (-1,))
        away = best_other(flat, own) - picked(flat, own)
        gains = ops.reshape(-away if self.targeted else away, (-1, scores.shape[1]))
        return gains, counts

    def margin(self, logits: Tensor) -> Tensor:
        gains, counts = self.gains(logits)
        fixed = ops.stop_gradient(gains)
        order = ops.sort(ops.where(counts, -fixed, math.inf), axis=1)
        last = ops.expand_dims(ops.cast(self.needed, "int32") - 1, 1)
        deciding = -ops.take_along_axis(order, last, axis=1)
        # Its value is that pixel's; its slope that of all that are not farther across than it is.
        top = ops.maximum(deciding, 0.0)
        every = mean(ops.where(gains <= top, gains, top), counts)
        return deciding[:, 0] + (every - ops.stop_gradient(every))

    def reached(self, logits: Tensor, slack: float = 1.0) -> Tensor:
        gains, counts = self.gains(logits)
        noise = ops.expand_dims(slack * FRAGILE * largest(logits), 1)
        across = ops.logical_and(gains > noise, counts)
        return ops.sum(ops.cast(across, "int32"), axis=1) >= self.needed

    def entropy(self, answer: Tensor) -> Tensor:
        scores, labels, counts = self.pixels(answer)
        return mean(entropies(scores, labels, self.targeted), counts)

    def damage(self, answer: Tensor) -> Tensor:
        gains, counts = self.gains(answer)
        return mean(ops.cast(gains > 0, "float32"), counts)

    def check(self, count: int, classes: int | None) -> Self:
        if self.labels is None:
            return self
        if len(self.labels) != count:
            raise InvalidInput(f"x has {count} examples but there are {len(self.labels)} labels")
        if classes is not None:
            counted = self.labels[self._counts(self.labels)]
            if len(counted) and not 0 <= counted.min() <= counted.max() < classes:
                odd = counted.max() if counted.max() >= classes else counted.min()
                raise InvalidInput(
                    f"the model has {classes} classes, 0 to {classes - 1}, but labels hold {odd}:"
                    f" ignore={odd} if it stands for pixels that do not count"
                )
        return self.bound({"labels": tidied("Segmentation.labels", self.labels)})

    def suit(self, shapes: Any) -> None:
        if len(shapes) < 2:
            raise InvalidInput(
                f"Segmentation needs scores at each place, (places, classes), and the model answers"
                f" with {shapes} for each example: advex.Untargeted(labels) for one class"
            )
        if self.labels is None:
            return
        have, want = self.labels.shape[1:], tuple(shapes[:-1])
        if have == want and len(have) > 2 and shapes[-1] == 2 and _one_hot(self.labels):
            raise InvalidInput(
                f"labels of shape (n, {', '.join(map(str, have))}) are one-hot: one class number"
                " for each place is np.asarray(labels).argmax(-1)"
            )
        if have != want:
            first = tuple(shapes[1:]) == have
            axes = ", ".join(map(str, (*range(2, len(shapes) + 1), 1)))
            hint = (
                f": classes first? model = keras.Sequential([keras.Input(x.shape[1:]), model,"
                f" keras.layers.Permute(({axes}))])"
                if first
                else ""
            )
            raise InvalidInput(
                f"labels have {have} places for each example, and the model answers at {want}{hint}"
            )

    @property
    def open(self) -> bool:
        return self.labels is None

    def closed(self, answer: Array) -> Segmentation:
        made = replace(self, labels=answer.argmax(axis=-1).astype("int32"), ignore=None)
        object.__setattr__(made, "_asked", self.reading)  # it is told what it has been told
        if answer.ndim == 3:
            taken = (
                f"The model answers with {answer.shape[1:]} for each input: taken for"
                f" {answer.shape[1]} places with the scores of {answer.shape[2]} classes. If each"
                " is a place, with one unit, give the map: advex.Segmentation(model(x) > 0.5)."
            )
            object.__setattr__(made, "_taken", (taken,))
        return made

    @property
    def notes(self) -> tuple[str, ...]:
        told: tuple[str, ...] = getattr(self, "_taken", ())
        if self.labels is None or told:
            return told
        counted = self._counts(self.labels).reshape(len(self.labels), -1).any(axis=1)
        if not counted.all():
            told += (
                f"{int((~counted).sum())} of {len(counted)} examples have no place that counts, all"
                f" labels are {self.ignore}: they cannot be broken.",
            )
        if self.labels.ndim == 3 and _one_hot(self.labels):
            told += (
                "Each row of the labels has a single 1: they were taken for the class, 0 or 1, of"
                f" {self.labels.shape[1:]} places. If they are one-hot, a class for each of"
                f" {self.labels.shape[1]} places: np.asarray(labels).argmax(-1).",
            )
        return told

    def said(self, answer: Any) -> tuple[Array, Array]:
        prediction, confidence = Goal.said(self, answer)
        return prediction.astype("int32"), confidence

    def words(self, prediction: Any, confidence: Any, name: Any) -> str:
        found, counts = np.unique(prediction, return_counts=True)
        most = found[np.argsort(-counts, kind="stable")][:3]
        return ", ".join(name(int(number)) for number in most)

    def confusion(self, prediction: Array, classes: int) -> Array:
        """How many pixels of each example that count are of class i and are taken for j: (n, i,
        j).
        """
        made = np.zeros((len(prediction), classes, classes), "int64")
        for row, (said, labels) in enumerate(zip(prediction, self.labels, strict=True)):
            counts = self._counts(labels)
            pairs = labels[counts].astype("int64") * classes + said[counts]
            made[row] = np.bincount(pairs.ravel(), minlength=classes**2).reshape(classes, classes)
        return made

    def __repr__(self) -> str:
        many = "the model's own map" if self.labels is None else f"{len(self.labels)} examples"
        target = ", targeted=True" if self.targeted else ""
        return f"Segmentation({many}, share={self.share:g}, ignore={self.ignore}{target})"


def _one_hot(labels: Array) -> bool:
    """Whether each place of these labels, (n, ..., classes), has a single 1 and 0 else."""
    hot = ((labels == 0) | (labels == 1)).all()
    return bool(labels.shape[-1] > 1 and hot and (labels.sum(axis=-1) == 1).all())


def mean(values: Tensor, counts: Tensor) -> Tensor:
    """The mean over the pixels that count: (batch, pixels) twice -> (batch,)."""
    number = ops.sum(ops.cast(counts, "float32"), axis=1)
    return ops.sum(ops.where(counts, values, 0.0), axis=1) / ops.maximum(number, 1.0)


def entropies(scores: Tensor, labels: Tensor, targeted: bool = False) -> Tensor:
    """Cross-entropy of each pixel, (batch, pixels); minus that where the label is a target."""
    flat, own = ops.reshape(scores, (-1, scores.shape[2])), ops.reshape(labels, (-1,))
    value = ops.reshape(soft_plus(log_odds(flat, own)), (-1, scores.shape[1]))
    return -value if targeted else value


def pixel_accuracy(confusion: Array) -> Array:
    """The share of the pixels that are right: (..., c, c) -> (...,)."""
    right = np.trace(confusion, axis1=-2, axis2=-1)
    return np.asarray(right / np.maximum(confusion.sum(axis=(-2, -1)), 1))


def mean_iou(confusion: Array) -> float:
    """The mean over the classes, of those that occur, of intersection over union: over all examples
    together, (n, c, c) or (c, c).
    """
    total = confusion.reshape(-1, *confusion.shape[-2:]).sum(axis=0)
    right = np.diagonal(total)
    union = total.sum(axis=0) + total.sum(axis=1) - right
    there = union > 0
    return float((right[there] / union[there]).mean()) if there.any() else float("nan")


def _maps(labels: Any) -> Array:
    try:
        array = np.asarray(_backend.to_numpy(labels))
    except Exception:  # what an object that is no array raises here may be anything
        array = np.asarray(None)
    if array.dtype.kind == "f" and array.ndim > 1 and (array == np.round(array)).all():
        array = array.astype("int64")
    if array.dtype == bool:
        array = array.astype("int32")
    if array.dtype.kind not in "iu" or array.ndim < 2:
        raise InvalidInput(
            "Segmentation needs a class number for each place, (n, h, w); received"
            f" {type(labels).__name__} of dtype {array.dtype} and shape {array.shape}"
        )
    if array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    return array.astype("int32") if array.dtype.itemsize <= 4 else tidied("labels", array)
