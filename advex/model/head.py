"""What the outputs of a model are, and how they become logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from keras import ops

from advex._arrays import Array, Tensor
from advex.errors import InvalidInput

SMALLEST_PROBABILITY = 1e-37  # whose logarithm is taken
LARGEST_PROBABILITY = 1 - 2.0**-24  # the largest number below 1 in float32

ONE_PROBABILITY = (
    "The model has one output unit between 0 and 1: taken for the probability of class 1 (binary)."
    " advex works with its logarithms, which saturate."
)
ONE_LOGIT = (
    "The model has one output unit without a sigmoid: taken for the logit of a binary classifier,"
    " class 1 above 0. If it is a number, a regression: advex.Regression(values, off=0.5)."
)
PROBABILITIES = (
    "The model answers with probabilities whose logits could not be recovered; advex works with"
    " their logarithms, whose gradients vanish where a probability underflows. Give the model"
    " without its softmax if you can."
)
ONE_PER_CLASS = (
    "The model answers with numbers from 0 to 1 that do not sum to 1: taken for a probability of"
    " its own for each class. advex works with their log-odds, which saturate. Give the model"
    " without its sigmoids if you can."
)


LOGITS_OF_LABELS = (
    "The model answers with a number for each label, without sigmoids: taken for their logits, a"
    " label is there above 0. If its classes exclude each other, the goal is labels or"
    " advex.TopK(labels, k=2)."
)
ONE_OF_ALL = (
    "the model ends in a softmax: its classes share one probability, and MultiLabel needs a sigmoid"
    " for each label: advex.Untargeted(labels) for one class each, advex.TopK(labels, k=2) for the"
    " likeliest"
)


@dataclass(frozen=True)
class Head:
    """What the outputs of a model are.

    Attributes:
        name: as in ``result.info["head"]``; empty while it is not known.
        classes: their number.
        note: a sentence on what the outputs were taken for, or nothing.
        warns: whether that sentence is a warning.
        independent: whether each class has a probability of its own (a sigmoid unit each), which
            need not sum to 1.
        logarithms: whether the outputs are probabilities, and the logits only their logarithms.
        reads: how they are read, see ``goals.base.Reading``.
        places: at how many axes of places there are outputs; one answer for each example has none.
        bare: whether nothing but a class is said.
    """

    name: str
    classes: int
    note: str = ""
    warns: bool = False
    independent: bool = False
    logarithms: bool = False
    reads: str = "scores"
    places: int = 0
    bare: bool = False

    @property
    def parts(self) -> Mapping[str, Head]:
        """Its parts, where it is that of several outputs."""
        return {}

    def logits(self, answer: Tensor) -> Tensor:
        """The model's answer, float32 (batch, ..., units), as logits (batch, ..., classes)."""
        if self.reads == "raw":
            return answer
        if self.independent and self.logarithms:
            return ops.log(ops.maximum(answer, SMALLEST_PROBABILITY)) - ops.log1p(
                -ops.minimum(answer, LARGEST_PROBABILITY)
            )
        if answer.shape[-1] == 1 and self.classes == 2:
            if not self.logarithms:
                return ops.concatenate([ops.zeros_like(answer), answer], axis=-1)
            answer = ops.concatenate([1 - answer, answer], axis=-1)
        return ops.log(ops.maximum(answer, SMALLEST_PROBABILITY)) if self.logarithms else answer

    def probabilities(self, logits: Tensor) -> Tensor:
        """What the model itself calls the probability of each class: (batch, classes); NaN where
        it says nothing but a class.
        """
        if self.bare:
            return ops.full_like(logits, float("nan"))
        return ops.sigmoid(logits) if self.independent else ops.softmax(logits)


@dataclass(frozen=True)
class Heads:
    """What several outputs of a model are."""

    parts: Mapping[str, Head]
    name: str = "several outputs"
    independent: bool = False
    logarithms: bool = False
    places: int = 0
    bare: bool = False

    @property
    def classes(self) -> dict[str, int]:
        """How many classes each has."""
        return {name: head.classes for name, head in self.parts.items()}

    @property
    def note(self) -> str:
        """What each of them was taken for."""
        return " ".join(
            f"Output {name.split(':')[0] or 'of the classifier'}: {head.note}"
            for name, head in self.parts.items()
            if head.note
        )

    @property
    def warns(self) -> bool:
        """Whether that is a warning."""
        return any(head.warns for head in self.parts.values())

    def probabilities(self, logits: Tensor) -> Tensor:
        """There are none of all outputs together."""
        raise InvalidInput("several outputs have no probabilities of classes")


def recovered(activation: str, units: int, reads: str = "scores", places: int = 0) -> Head:
    """The head of a model that is attacked without its final softmax or sigmoid."""
    note = f"The model ends in {activation}; advex works with the logits before it."
    if reads == "labels":
        return Head(f"{activation}, several labels", units, note, independent=True, reads=reads)
    if places and (activation == "softmax" or units == 1):
        return Head(activation, max(2, units), note, places=places)
    if activation == "softmax":
        return Head("softmax", max(2, units), note)
    if units == 1:
        return Head("sigmoid, one unit", 2, note)
    note += " Each class has a probability of its own; the largest is the prediction."
    return Head("sigmoid", units, note, independent=True, places=places)


def activated(activation: str, logits: Array) -> Array:
    """The softmax or sigmoid of logits (..., units), in float64."""
    if activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-logits)))
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(odds / odds.sum(-1, keepdims=True))


def guessed(
    answers: Array, coarse: bool, probable_elsewhere: Callable[[], bool], places: int = 0
) -> Head:
    """The head of a model whose graph does not tell it, by what it answers.

    Args:
        answers: to a few inputs, (n, units).
        coarse: whether they are of half precision.
        probable_elsewhere: whether what it answers to other inputs can be probabilities, too. A few
            logits may lie between 0 and 1 by chance.
        places: at how many axes of places there are answers; ``answers`` has a row for each place.
    """
    made = _guessed(answers, coarse, probable_elsewhere)
    return replace(made, places=places) if places else made


def _guessed(answers: Array, coarse: bool, probable_elsewhere: Callable[[], bool]) -> Head:
    units = answers.shape[1]
    probable = can_be_probabilities(answers)
    if units == 1:
        if probable and probable_elsewhere():
            return Head("probability, one unit", 2, ONE_PROBABILITY, warns=True, logarithms=True)
        return Head("logit, one unit", 2, ONE_LOGIT)
    if probable and (np.abs(answers.sum(1) - 1) < (2e-2 if coarse else 1e-5)).all():
        return Head("probabilities", units, PROBABILITIES, warns=True, logarithms=True)
    if probable and probable_elsewhere():
        return Head(
            "probabilities, one per class",
            units,
            ONE_PER_CLASS,
            warns=True,
            independent=True,
            logarithms=True,
        )
    return Head("logits", units)


def of_labels(answers: Array, coarse: bool, probable_elsewhere: Callable[[], bool]) -> Head:
    """The head of a model that answers with a number for each label, (n, labels), by what it
    answers; ``guessed`` says what the arguments are.

    Raises:
        InvalidInput: the labels share one probability.
    """
    units = answers.shape[1]
    if not (can_be_probabilities(answers) and probable_elsewhere()):
        name = "logits, several labels"
        return Head(name, units, LOGITS_OF_LABELS, independent=True, reads="labels")
    if units > 1 and (np.abs(answers.sum(1) - 1) < (2e-2 if coarse else 1e-5)).all():
        raise InvalidInput(ONE_OF_ALL)
    return Head(
        "probabilities, several labels",
        units,
        ONE_PER_CLASS,
        warns=True,
        independent=True,
        logarithms=True,
        reads="labels",
    )


def can_be_probabilities(values: Array) -> bool:
    """Whether all of them are numbers from 0 to 1."""
    return bool(np.isfinite(values).all() and (values >= 0).all() and (values <= 1 + 1e-5).all())
