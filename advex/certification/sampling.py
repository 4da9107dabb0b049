"""The classes that a model says of inputs with Gaussian noise, counted where the model computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor
from advex._settings import shown
from advex.errors import InvalidInput
from advex.model.protocol import Forward, Model

UNIT = 32
"""Samples that share a key: their noise follows from it alone. Part of what decides a result."""


class Sampler:
    """Counts the classes of noisy inputs, several units of ``UNIT`` samples at a time.

    Args:
        classifier: the model.
        sample: a few inputs as the model takes them, float32 (m, ...).
        deviation: the noise's standard deviation, in the model's units.
        batch: how many samples the model is asked about at once, at most.

    Attributes:
        units: how many units a call takes.
        parts: in how many calls a unit is counted; more than one where a batch is smaller.
    """

    def __init__(self, classifier: Model, sample: Array, deviation: float, batch: int) -> None:
        self._metered = classifier.metered
        self.forward = classifier.forward(sample)
        self._shape, self._deviation = sample.shape[1:], np.full(1, deviation, "float32")
        self.units = max(1, batch // UNIT)
        self._piece = UNIT if batch >= UNIT else 1 << (batch.bit_length() - 1)
        self.parts = UNIT // self._piece
        make, name = (
            (self._noisy, "noisy inputs") if self._metered else (self._counted, "noisy classes")
        )
        variables: Callable[[], list[Any]] = (list) if self._metered else self.forward.variables
        signature = [
            ((self.units, *self._shape), "float32"),
            ((self.units, 2), "int32"),
            ((1,), "float32"),
            ((1,), "int32"),
            ((self.units,), "int32"),
        ][: 4 if self._metered else 5]
        key = (name, self._shape, self.units, self._piece, classifier.about("scores"))
        self._run = classifier.compiled(key, lambda: _backend.compiled(make, signature, variables))

    @property
    def classes(self) -> int:
        """How many there are."""
        return int(self.forward.classes)

    def __call__(self, x: Array, keys: Array, live: Array) -> Array:
        """How many samples of each unit are said to be of each class: (m, classes) int64. A sample
        to which the model answers NaN is of none.

        Args:
            x: the input of each unit, float32 (m, ...), m at most ``units``.
            keys: of the units, (m, 2) int32.
            live: how many samples of each unit count, (m,), the first ones.
        """
        given, count = [x, keys, live.astype("int32")], len(x)
        if count < self.units:  # one shape, which is compiled once
            missing = self.units - count
            given = [np.concatenate([each, np.repeat(each[:1], missing, 0)]) for each in given]
            given[2][count:] = 0
        votes = np.zeros((self.units, self.classes), "int64")
        for part in range(self.parts):
            first = np.full(1, part * self._piece, "int32")
            if first[0] < live.max(initial=0):
                points, key, counted = given
                if self._metered:
                    votes += self._asked(points, key, first, counted)
                else:
                    tensors = map(
                        ops.convert_to_tensor, (points, key, self._deviation, first, counted)
                    )
                    votes += _backend.to_numpy(self._run(*tensors))
        return votes[:count]

    def _noisy(self, x: Tensor, keys: Tensor, deviation: Tensor, first: Tensor) -> Tensor:
        """Noisy inputs, (units * piece, ...)."""
        noise = _backend.normal(keys, (UNIT, *self._shape))
        if self._piece < UNIT:
            start = [ops.zeros((), "int32"), first[0], *(0 for _ in self._shape)]
            noise = ops.slice(noise, start, (self.units, self._piece, *self._shape))
        points = ops.expand_dims(x, 1) + deviation[0] * noise
        return ops.reshape(points, (self.units * self._piece, *self._shape))

    def _counted(
        self, x: Tensor, keys: Tensor, deviation: Tensor, first: Tensor, live: Tensor
    ) -> Tensor:
        """The votes of each unit, (units, classes) int32."""
        logits = self.forward.exact(self._noisy(x, keys, deviation, first))
        known = ops.logical_not(ops.any(ops.isnan(logits), axis=1))
        number = ops.tile(first[0] + ops.arange(self._piece, dtype="int32"), (self.units,))
        counts = ops.logical_and(known, number < ops.repeat(live, self._piece))
        said = ops.where(counts, ops.cast(ops.argmax(logits, axis=1), "int32"), -1)
        votes = ops.expand_dims(said, 1) == ops.arange(self.classes, dtype="int32")
        shape = (self.units, self._piece, self.classes)
        return ops.sum(ops.reshape(ops.cast(votes, "int32"), shape), axis=1)

    def _asked(self, x: Array, keys: Array, first: Array, live: Array) -> Array:
        """The same of a model that is asked about nothing that does not count."""
        tensors = map(ops.convert_to_tensor, (x, keys, self._deviation, first))
        points = _backend.to_numpy(self._run(*tensors))
        unit, number = np.divmod(np.arange(len(points)), self._piece)
        counts = first[0] + number < live[unit]
        logits = _backend.to_numpy(self.forward.exact(points[counts].copy()))
        known = ~np.isnan(logits).any(axis=1)
        votes = np.zeros((self.units, self.classes), "int64")
        np.add.at(votes, (unit[counts][known], logits[known].argmax(axis=1)), 1)
        return votes


def demand_classes(forward: Forward) -> None:
    """Raise unless the model answers with one class for each input."""
    head = forward.head
    if not isinstance(head.classes, int) or head.places or head.parts:
        raise InvalidInput(
            "certify is about one class for each input, and the model answers with"
            f" {shown(head.name) if head.parts else f'shape {forward.example}'}"
        )
