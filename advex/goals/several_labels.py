"""Several labels for one example, each there or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor
from advex._settings import shown, switch
from advex.errors import InvalidInput, InvalidType
from advex.goals.base import INFINITY, Goal, chance, tidied
from advex.goals.classes import soft_plus

WORDS = ("any", "all")


@dataclass(frozen=True, eq=False, repr=False)
class MultiLabel(Goal):
    r"""Success is that labels flip: what is there goes, what is not there comes.

    When to use it:
        For models with a sigmoid for each label, several of which may be there at once.

    $$
    f(z) = \begin{cases}
    \max_i g_i & \text{"any"} \\
    \min_{i \in S} g_i & \text{"all", or the labels } S
    \end{cases} \qquad g_i = (1 - 2 y_i)\, z_i
    $$

    $$ \text{with keep:}\;\; \min\bigl(f,\; \min_{i \notin S} -g_i\bigr) $$

    $z_i$ is the logit of label $i$ and $y_i$ whether it is there, 0 or 1; $g_i$ is above 0 where it
    has flipped. A label is there where its probability is above a half. `losses.cross_entropy` is
    binary cross-entropy: of the labels that are to flip, less that of the labels that are to stay.
    With "any" it is that of the label nearest to flipping, as a smooth maximum. `result.prediction`
    and `result.confidence` are (n, k): each label, 0 or 1, and each label's own sigmoid.

    Args:
        labels: (n, k) of 0 and 1. None: what the model itself says of the clean inputs.
        flip: "any": one of them is enough; "all"; or the numbers of those that are to flip, all of
            them.
        keep: whether the labels that are not in `flip` must stay as `labels` says.

    Raises:
        InvalidType: `flip` or `keep` of the wrong type.
        InvalidInput: labels that are not 0 and 1; numbers that are no label's.

    Example:
        >>> MultiLabel([[1, 0, 1], [0, 0, 1]], flip=[2], keep=True)
        MultiLabel(2 examples, flip=[2], keep=True)

    Reference:
        Song, Jin, Huang and Hu, Multi-label adversarial perturbations, ICDM 2018.
        https://arxiv.org/abs/1901.00546

    Deviations:
        The goal alone is the paper's; attacks and losses are those of advex.
    """

    labels: Any = None
    flip: str | Sequence[int] = "any"
    keep: bool = False
    reads: ClassVar[str] = "labels"
    one_output: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "flip", _checked_flip(self.flip))
        switch("keep", self.keep)
        if self.labels is not None:
            object.__setattr__(self, "labels", _zeros_and_ones(self.labels))
            self._demand_known(self.labels.shape[1])

    def _demand_known(self, count: int) -> None:
        far = [number for number in self._chosen(count) if number >= count]
        if far:
            raise InvalidInput(
                f"flip names label {far[0]}, and there are {count}, 0 to {count - 1}"
            )

    def _chosen(self, count: int) -> list[int]:
        return list(range(count)) if isinstance(self.flip, str) else list(self.flip)

    def _gains(self, answer: Tensor) -> Tensor:
        """How far each label is flipped, (batch, k): above 0 where it is."""
        return ops.where(ops.cast(self.labels, "bool"), -answer, answer)

    def margin(self, logits: Tensor) -> Tensor:
        gains = self._gains(logits)
        if self.flip == "any":
            return ops.max(gains, axis=1)
        chosen = self._mask(gains)
        worst = ops.min(ops.where(chosen, gains, INFINITY), axis=1)
        if not self.keep:
            return worst
        return ops.minimum(worst, ops.min(ops.where(chosen, INFINITY, -gains), axis=1))

    def _mask(self, gains: Tensor) -> Tensor:
        count = int(gains.shape[1])
        mask = np.zeros((1, count), bool)
        mask[0, self._chosen(count)] = True
        return ops.convert_to_tensor(mask)

    def entropy(self, answer: Tensor) -> Tensor:
        gains = self._gains(answer)
        if self.flip == "any":
            return soft_plus(ops.logsumexp(gains, axis=1))
        chosen = self._mask(gains)
        value = ops.sum(ops.where(chosen, -soft_plus(-gains), 0.0), axis=1)
        if self.keep:
            value = value + ops.sum(ops.where(chosen, 0.0, -soft_plus(gains)), axis=1)
        return value

    def ways(self, answer: Tensor) -> Tensor | None:
        return self._gains(answer) if self.flip == "any" else None

    def entropies(self, answer: Tensor) -> Tensor | None:
        return soft_plus(self._gains(answer))

    def branches(self, classes: int) -> int:
        return classes if self.flip == "any" else 0

    def check(self, count: int, classes: int | None) -> Self:
        if self.labels is None:
            return self
        if len(self.labels) != count:
            raise InvalidInput(
                f"x has {count} examples but there are {len(self.labels)} rows of labels"
            )
        return self.bound({"labels": tidied("MultiLabel.labels", self.labels)})

    def suit(self, shapes: Any) -> None:
        if len(shapes) != 1:
            alone = len(shapes) > 1 and all(size == 1 for size in shapes[:-1])
            flat = (
                ": model = keras.Sequential([keras.Input(x.shape[1:]), model,"
                f" keras.layers.Reshape(({shapes[-1]},))])"
                if alone
                else ""
            )
            raise InvalidInput(
                f"MultiLabel needs a number for each label, and the model answers with {shapes}"
                f" for each example{flat}"
            )
        self._demand_known(shapes[0])
        if self.labels is not None and self.labels.shape[1] != shapes[0]:
            raise InvalidInput(
                f"there are {self.labels.shape[1]} labels for each example, and the model answers"
                f" with {shapes[0]} numbers"
            )

    @property
    def open(self) -> bool:
        return self.labels is None

    def closed(self, answer: Array) -> MultiLabel:
        return replace(self, labels=(answer > 0).astype("int32"))

    def said(self, answer: Array) -> tuple[Array, Array]:
        return (answer > 0).astype("int64"), chance(answer, independent=True)

    def words(self, prediction: Any, confidence: Any, name: Callable[[int], str]) -> str:
        there = [name(int(number)) for number in np.flatnonzero(prediction)]
        return ", ".join(there) if there else "no label"

    def __repr__(self) -> str:
        many = "the model's own labels" if self.labels is None else f"{len(self.labels)} examples"
        flip = repr(self.flip if isinstance(self.flip, str) else list(self.flip))
        return f"MultiLabel({many}, flip={flip}{', keep=True' if self.keep else ''})"


def _checked_flip(flip: Any) -> str | tuple[int, ...]:
    if isinstance(flip, str):
        if flip not in WORDS:
            raise InvalidInput(
                f"flip must be 'any', 'all' or the numbers of labels; received {flip!r}"
            )
        return flip
    try:
        numbers = np.asarray(flip if isinstance(flip, list | tuple | np.ndarray) else None)
    except ValueError:  # lists of several lengths
        numbers = np.asarray(None)
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1 or not len(numbers):
        raise InvalidType(
            f"flip must be 'any', 'all' or the numbers of labels, such as [0, 3]; received"
            f" {shown(flip)}"
        )
    if numbers.min() < 0 or len(set(numbers.tolist())) != len(numbers):
        raise InvalidInput(f"flip must name each label once, from 0 on; received {shown(flip)}")
    return tuple(numbers.tolist())


def _zeros_and_ones(labels: Any) -> Array:
    try:
        array = np.asarray(_backend.to_numpy(labels))
    except Exception:  # what an object that is no array raises here may be anything
        array = np.asarray(None)
    flat = (
        ": np.asarray(labels)[:, None] if there is one label for each example,"
        " np.asarray(labels)[None] if they are those of one example"
    )
    if array.dtype.kind not in "biuf" or array.ndim != 2 or not array.shape[1]:
        raise InvalidInput(
            f"MultiLabel needs labels of shape (n, k), 0 or 1 for each of k labels; received"
            f" {type(labels).__name__} of dtype {array.dtype} and shape {array.shape}"
            f"{flat if array.ndim == 1 and array.dtype.kind in 'biuf' else ''}"
        )
    if not ((array == 0) | (array == 1)).all():
        odd = array[(array != 0) & (array != 1)][0]
        raise InvalidInput(
            f"MultiLabel needs labels of 0 and 1; received {odd}: np.asarray(labels) > 0.5 if"
            " they are probabilities"
        )
    return array.astype("int32")
