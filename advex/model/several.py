"""The forward pass of a Keras model to several of its outputs at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from advex import _backend
from advex._arrays import Array, Tensor
from advex.goals.base import part_name
from advex.model.forward import KerasForward
from advex.model.head import Heads
from advex.model.last_layer import ask, structure_of
from advex.model.protocol import Forward


class SeveralForward(Forward):
    """Each output as ``KerasForward`` has it; where there is a graph, layers that outputs share are
    computed once.

    Args:
        model: the model.
        preprocess: applied before it.
        sample: a few inputs.
        box: where random inputs are drawn from.
        reading: the outputs, each with how it is wanted.
        output: the one that is meant where ``reading`` names none.
        structure: the answer is given in it, the model's own; None: as a dict of ``part_name``.
        layer: whose output is attacked; None: an input is.
    """

    head: Heads

    def __init__(
        self,
        model: keras.Model,
        preprocess: Callable[[Tensor], Tensor] | None,
        sample: Any,
        box: tuple[Any, Any],
        reading: tuple[tuple[str | int | None, str], ...],
        output: str | int | None = None,
        structure: Any = None,
        layer: str | int | None = None,
    ) -> None:
        self._model, self._structure = weakref.ref(model), structure
        self._parts: Mapping[str, KerasForward] = {
            part_name(name, reads): KerasForward(
                model, preprocess, sample, box, output if name is None else name, reads, layer
            )
            for name, reads in reading
        }
        first = next(iter(self._parts.values()))
        self.coarse, self.spent = first.coarse, sum(part.spent for part in self._parts.values())
        self.head = Heads({name: part.head for name, part in self._parts.items()})
        self._joint: keras.Model | None = None
        self._reads: list[Callable[[Tensor], Tensor]] = []
        if layer is None:
            self._join(model, sample)

    def _join(self, model: keras.Model, sample: Any) -> None:
        """One graph of all the outputs, if it answers as they do by themselves."""
        ends = [part.ends() for part in self._parts.values()]
        if any(end is None for end in ends):
            return
        apart = [part(sample) for part in self._parts.values()]
        self._joint = keras.Model(structure_of(model), [end[0] for end in ends if end])
        self._reads = [end[1] for end in ends if end]
        self.spent += 2 * int(tree.flatten(sample)[0].shape[0])
        pairs = zip(self._each(sample).values(), apart, strict=True)
        if not all(_alike(one, other) for one, other in pairs):
            self._joint = None

    def _each(self, x: Any) -> dict[str, Tensor]:
        """What each output answers."""
        if self._joint is None:
            return {name: part(x) for name, part in self._parts.items()}
        made = ask(self._joint, next(iter(self._parts.values())).prepared(x))
        values = tree.flatten(made)
        readers = zip(self._parts, self._reads, values, strict=True)
        return {name: read(value) for name, read, value in readers}

    def __call__(self, x: Any, live: Tensor | None = None) -> Any:
        return self._packed(self._each(x))

    def exact(self, x: Any) -> Any:
        return self._packed(self._each(x))

    def _packed(self, answers: dict[str, Any]) -> Any:
        if self._structure is None:
            return answers
        return tree.pack_sequence_as(self._structure, list(answers.values()))

    def raw(self, x: Any) -> Any:
        return next(iter(self._parts.values())).raw(x)

    def variables(self) -> list[keras.Variable]:
        return next(iter(self._parts.values())).variables()

    def fold(self, x: Any, logits: Array) -> int:
        return 0

    def suits(self, logits: Array) -> bool:
        """Whether the answers still look like those of their heads: nobody looks here."""
        return True


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two answers differ by no more than rounding."""
    first, second = map(_backend.to_numpy, (one, other))
    size = max(float(np.abs(first).max(initial=0)), 1e-6)
    return first.shape == second.shape and np.allclose(
        first, second, rtol=0, atol=1e-5 * size, equal_nan=True
    )
