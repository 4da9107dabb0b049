"""The forward pass of a Keras model, from inputs in its user's units to logits."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from advex import _backend
from advex._arrays import Array, Tensor
from advex.errors import InvalidInput, InvalidType, blaming
from advex.goals.base import TREE
from advex.model import folding, outputs
from advex.model.head import (
    LARGEST_PROBABILITY,
    ONE_OF_ALL,
    Head,
    activated,
    can_be_probabilities,
    guessed,
    of_labels,
    recovered,
)
from advex.model.last_layer import (
    Ask,
    ask,
    before_activation,
    cut_off,
    makes_no_probabilities,
)
from advex.model.perturbed import inner, is_inner, layer_of, replaced
from advex.model.protocol import Forward
from advex.model.refusals import demand_rows, no_scores

FOLDING_TOLERANCE = 4e-6  # of the largest logit: what folding may change
RANDOM_PROBES = 16  # inputs that must look like probabilities too before a guess is made
RUNS_BY_ITSELF = "Does it run by itself, model(x[:1]), and compiled, model.predict(x[:1])?"


class KerasForward(Forward):
    """The forward pass of a Keras model. Holds the model weakly, so that it can be cached with it.

    Args:
        model: the model.
        preprocess: applied before it.
        sample: a few inputs, by which the head is found out if the graph does not tell it.
        box: where random inputs are drawn from if the sample leaves it open.
        output: which of several outputs; None: there is but one.
        reading: how the answer is wanted, see ``goals.base.Reading``.
        layer: whose output is attacked; None: an input is.
    """

    head: Head

    def __init__(
        self,
        model: keras.Model,
        preprocess: Callable[[Tensor], Tensor] | None,
        sample: Any,
        box: tuple[Any, Any],
        output: str | int | None = None,
        reading: str = "scores",
        layer: str | int | None = None,
    ) -> None:
        self._model, self._layer = weakref.ref(model), layer
        self._preprocess, self._output = preprocess, output
        self._reads, _, places = reading.partition(" ")
        self._wanted = int(places) if places.isdigit() else None
        # Of several outputs the graph of one, where there is a graph.
        self._part = outputs.alone(model, output)
        self._without_activation: Callable[[Any, Ask], Tensor] | None = None
        self._reshaped: tuple[int, ...] | None = None
        answers = self._scores(sample)
        halves = {"float16", "bfloat16"}
        self.coarse = any(layer.compute_dtype in halves for layer in model._flatten_layers())
        self.example = answers.shape[1:]
        self.head = self._found(sample, answers, box)
        if places == TREE.strip() and answers.shape[1:] == (1,):  # a number, or a logit: as it is
            self.head = replace(self.head, classes=1, independent=True)

    def _found(self, sample: Any, answers: Array, box: tuple[Any, Any]) -> Head:
        """The head, by the graph or by the ``answers`` to the sample, (n, ..., units)."""
        places, units = answers.ndim - 2, answers.shape[-1]
        if self._reads == "raw":
            return Head("raw", units, reads="raw", places=places)
        if (known := self._recovered(sample, answers)) is not None:
            return known
        guess = of_labels if self._reads == "labels" else guessed

        def elsewhere() -> bool:
            asked = self._asked()
            return not makes_no_probabilities(asked) and self._probable_elsewhere(sample, box)

        flattened = answers.reshape(-1, units)
        if guess is of_labels:
            return of_labels(flattened, self.coarse, elsewhere)
        return guessed(flattened, self.coarse, elsewhere, places)

    def __call__(self, x: Any, live: Tensor | None = None) -> Tensor:
        return self._logits(x, folding.answer if self.folded else ask)

    def exact(self, x: Any) -> Tensor:
        return self._logits(x, ask)

    def raw(self, x: Any, ask: Ask = ask) -> Any:
        model = self._model()
        if model is None:
            raise ReferenceError("the model is gone: keep a reference to it while it is attacked")
        return self._answer(model, x, ask)

    def _answer(self, model: keras.Model, x: Any, ask: Ask) -> Any:
        with self._held(x) as inputs:
            prepared = structured(model, self._prepared(inputs))
            with blaming(f"the model {model.name!r}", RUNS_BY_ITSELF):
                return ask(model, prepared)

    @contextlib.contextmanager
    def _held(self, x: Any) -> Iterator[Any]:
        """The model's inputs; while this lasts, a layer whose output is attacked answers with
        that.
        """
        model = self._model()
        if not is_inner(x) or model is None or self._layer is None:
            yield x
            return
        inputs, output = inner(x)
        layer = layer_of(model, self._layer)
        assert layer is not None
        with replaced(layer, output):
            yield inputs

    def _asked(self) -> keras.Model | None:
        """The model, or the part of it that has the output in question."""
        return self._model() if self._part is None else self._part

    def _chosen(self, x: Any, ask: Ask) -> Tensor:
        """The answer of the output in question, by the model itself or its part."""
        if self._part is not None and ask is not _itself:
            return self._answer(self._part, x, ask)
        answer = self.raw(x, folding.answer if ask is folding.answer else _itself)
        return outputs.chosen(answer, self._output, self._model())

    def variables(self) -> list[keras.Variable]:
        model = self._model()
        return [
            *(model.variables if model is not None else []),
            *getattr(self._preprocess, "variables", []),
        ]

    def fold(self, x: Any, logits: Array) -> int:
        model = self._asked()
        self.folded = False
        if self.coarse or model is None or self._layer is not None or not folding.folds(model):
            return 0
        twin = _backend.to_numpy(self._logits(x, folding.answer)).reshape(logits.shape)
        self.folded = bool(
            np.abs(twin - logits).max(initial=0)
            <= FOLDING_TOLERANCE * np.abs(logits).max(initial=0)
        )
        return len(logits)

    def suits(self, logits: Array) -> bool:
        """Whether the model's answers still look like those of its head: a model may have changed.

        ``logits``, (n, classes), are what became of its answers. False: it is worth another look.
        """
        head = self.head
        if head.reads == "raw":
            return True
        known = logits[np.isfinite(logits).all(axis=1)].astype("float64")
        known = known.reshape(-1, head.classes)
        if head.logarithms and head.independent:
            # beyond it a number was above 1
            top = np.log(LARGEST_PROBABILITY) - np.log1p(-LARGEST_PROBABILITY)
            return bool((known <= top + 1e-3).all())
        if head.logarithms:
            return bool((np.abs(np.exp(np.minimum(known, 99)).sum(axis=1) - 1) < 5e-2).all())
        units = known[:, 1:] if head.name.endswith("one unit") else known
        return (
            not len(known)
            or not can_be_probabilities(units)
            or makes_no_probabilities(self._asked())
        )

    def _logits(self, x: Any, ask: Ask) -> Tensor:
        if self._without_activation is not None:
            with self._held(x) as inputs:
                answer = self._without_activation(self._prepared(inputs), ask)
            if self._reshaped is not None:
                answer = ops.reshape(answer, (-1, *self._reshaped))
        else:
            answer = self._chosen(x, ask)
        count = _count(x)
        if isinstance(count, int) and isinstance(answer.shape[0], int):
            demand_rows(count, tuple(answer.shape))
        return self._read(answer)

    def _read(self, answer: Tensor) -> Tensor:
        return self.head.logits(self._with_units(ops.cast(answer, "float32")))

    def ends(self) -> tuple[keras.KerasTensor, Callable[[Tensor], Tensor]] | None:
        """A tensor of the graph, and what makes of it what calls answer; None where there is no
        graph of this output alone.
        """
        if self._part is None or self._reshaped is not None:
            return None
        if self._without_activation is None:
            return self._part.outputs[0], self._read
        found = cut_off(self._part)
        return found and (found[0], lambda value: self._read(found[1](value)))

    def prepared(self, x: Any) -> Any:
        """``x`` as the model takes it: prepared, and in its structure."""
        if is_inner(x):
            x = inner(x)[0]
        model = self._model()
        return structured(model, self._prepared(x)) if model is not None else self._prepared(x)

    def _with_units(self, answer: Tensor) -> Tensor:
        """An answer with an axis for the units, where it has none."""
        rank = len(answer.shape)
        if rank == 1 or (self._wanted is not None and rank == self._wanted + 1):
            return ops.expand_dims(answer, -1)
        return answer

    def _prepared(self, x: Any) -> Any:
        if self._preprocess is None:
            return x
        with blaming("preprocess"):
            # A copy: torch lets a preprocessing that is written in place, x -= mean, edit the data
            # of the search.
            made = self._preprocess(tree.map_structure(ops.copy, x))
        if not all(map(ops.is_tensor, tree.flatten(made))) or ops.is_tensor(x) > ops.is_tensor(
            made
        ):
            raise InvalidType(
                f"preprocess must return a tensor; it returned {type(made).__name__}. NumPy has no"
                " gradients: write it with keras.ops, such as lambda x: (x - mean) / std"
            )
        return made

    def _scores(self, x: Any) -> Array:
        """What the model itself answers, (n, ..., units), once it is checked. Counted."""
        answer = self._chosen(x, _itself)
        shape = tuple(answer.shape)
        if not shape or 0 in shape[1:]:
            raise no_scores(shape)
        demand_rows(int(_count(x)), shape)
        self.spent += shape[0]
        answer = self._with_units(answer)
        if self._part is not None:
            part = _float64(self._with_units(self._answer(self._part, x, ask)))
            if part.shape != answer.shape or not np.allclose(part, _float64(answer), atol=1e-3):
                self._part = None  # what calls the graph does more than it
        return _float64(answer)

    def _recovered(self, sample: Any, answers: Array) -> Head | None:
        """The head, if the graph has a final softmax or sigmoid and the model answers by it. From
        then on the model is asked without.
        """
        model = self._asked()
        found = before_activation(model) if model is not None else None
        if found is None:
            return None
        activation, without = found
        if activation == "softmax" and self._reads == "labels" and answers.shape[-1] > 1:
            raise InvalidInput(ONE_OF_ALL)
        with self._held(sample) as inputs:
            logits = _float64(self._with_units(without(self._prepared(inputs), ask)))
        if logits.ndim != answers.ndim and logits.size == answers.size:
            self._reshaped = tuple(
                answers.shape[1:]
            )  # the activation comes before a change of shape
            logits = logits.reshape(answers.shape)
        self.spent += len(answers)
        tolerance = 5e-2 if self.coarse else 1e-3
        if logits.shape != answers.shape or not np.allclose(
            activated(activation, logits), answers, atol=tolerance, equal_nan=True
        ):
            return None
        self._without_activation = without
        return recovered(activation, answers.shape[-1], self._reads, answers.ndim - 2)

    def _probable_elsewhere(self, sample: Any, box: tuple[Any, Any]) -> bool:
        """Whether random inputs, too, are answered with numbers from 0 to 1."""
        random = np.random.default_rng(0)

        def noise(leaf: Tensor, ends: tuple[Any, Any] | None) -> Tensor:
            values = _backend.to_numpy(leaf)
            some = np.resize(np.arange(len(values)), RANDOM_PROBES)
            if values.dtype.kind != "f":  # token numbers: not every number is one
                return ops.convert_to_tensor(values[some])
            low, high = (values.min(), values.max()) if ends is None else ends
            shape = (RANDOM_PROBES, *values.shape[1:])
            return ops.convert_to_tensor(random.uniform(low, high, shape).astype("float32"))

        self.spent += RANDOM_PROBES
        if ops.is_tensor(sample):
            probes = noise(sample, box)
        else:
            probes = tree.map_structure(lambda leaf: noise(leaf, None), sample)
        return can_be_probabilities(_float64(self._chosen(probes, ask)))


def structured(model: keras.Model, x: Any) -> Any:
    """``x`` the way a functional model was built to take its one input: alone, in a list or in a
    dict.
    """
    structure = getattr(model, "_inputs_struct", None)
    if not isinstance(structure, list | tuple | dict) or not ops.is_tensor(x):
        return x
    return keras.tree.pack_sequence_as(structure, [x])


def _count(x: Any) -> Any:
    """How many rows there are."""
    return tree.flatten(x)[0].shape[0]


def _float64(answer: Tensor) -> Array:
    return _backend.to_numpy(ops.cast(answer, "float32")).astype("float64")


def _itself(model: keras.Model, x: Any) -> Any:
    """``ask``, of the whole model and of no part of it."""
    return ask(model, x)
