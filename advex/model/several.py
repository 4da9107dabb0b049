"""The forward pass of a Keras model to several of its outputs at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import tree

from advex._arrays import Array, Tensor
from advex.goals.base import part_name
from advex.model.forward import KerasForward
from advex.model.head import Heads
from advex.model.protocol import Forward


class SeveralForward(Forward):
    """Each output by itself, see ``KerasForward``; on tensors that were compiled together the
    layers that they share are computed once, where the framework sees that they are the same.

    Args:
        model: the model.
        preprocess: applied before it.
        sample: a few inputs.
        box: where random inputs are drawn from.
        reading: the outputs, each with how it is wanted.
        output: the one that is meant where ``reading`` names none.
        structure: the answer is given in it, the model's own; None: as a dict of ``part_name``.
    """

    head: Heads

    def __init__(
        self,
        model: keras.Model,
        preprocess: Callable[[Tensor], Tensor] | None,
        sample: Tensor,
        box: tuple[float, float],
        reading: tuple[tuple[str | int | None, str], ...],
        output: str | int | None = None,
        structure: Any = None,
    ) -> None:
        self._model, self._structure = weakref.ref(model), structure
        self._parts: Mapping[str, KerasForward] = {
            part_name(name, reads): KerasForward(
                model, preprocess, sample, box, output if name is None else name, reads
            )
            for name, reads in reading
        }
        first = next(iter(self._parts.values()))
        self.coarse, self.spent = first.coarse, sum(part.spent for part in self._parts.values())
        self.head = Heads({name: part.head for name, part in self._parts.items()})

    def __call__(self, x: Tensor, live: Tensor | None = None) -> Any:
        return self._packed({name: part(x) for name, part in self._parts.items()})

    def exact(self, x: Tensor) -> Any:
        return self._packed({name: part.exact(x) for name, part in self._parts.items()})

    def _packed(self, answers: dict[str, Any]) -> Any:
        if self._structure is None:
            return answers
        return tree.pack_sequence_as(self._structure, list(answers.values()))

    def raw(self, x: Tensor) -> Any:
        return next(iter(self._parts.values())).raw(x)

    def variables(self) -> list[keras.Variable]:
        return next(iter(self._parts.values())).variables()

    def fold(self, x: Tensor, logits: Array) -> int:
        return 0

    def suits(self, logits: Array) -> bool:
        """Whether the answers still look like those of their heads: nobody looks here."""
        return True
