"""The forward pass of a Keras model, from inputs in its user's units to logits."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor, flat
from advex.errors import InvalidType, blaming
from advex.model import folding
from advex.model.head import (
    LARGEST_PROBABILITY,
    Head,
    activated,
    can_be_probabilities,
    guessed,
    recovered,
)
from advex.model.last_layer import Ask, ask, before_activation, makes_no_probabilities
from advex.model.protocol import Forward
from advex.model.refusals import demand_rows, no_scores, several_outputs

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
    """

    def __init__(
        self,
        model: keras.Model,
        preprocess: Callable[[Tensor], Tensor] | None,
        sample: Tensor,
        box: tuple[float, float],
    ) -> None:
        self._model = weakref.ref(model)
        self._preprocess = preprocess
        self._without_activation: Callable[[Tensor, Ask], Tensor] | None = None
        answers = self._scores(sample)
        halves = {"float16", "bfloat16"}
        self.coarse = any(layer.compute_dtype in halves for layer in model._flatten_layers())
        self.head = self._recovered(sample, answers) or guessed(
            answers,
            self.coarse,
            lambda: not makes_no_probabilities(model) and self._probable_elsewhere(sample, box),
        )

    def __call__(self, x: Tensor, live: Tensor | None = None) -> Tensor:
        return self._logits(x, folding.answer if self.folded else ask)

    def exact(self, x: Tensor) -> Tensor:
        return self._logits(x, ask)

    def raw(self, x: Tensor, ask: Ask = ask) -> Any:
        model = self._model()
        if model is None:
            raise ReferenceError("the model is gone: keep a reference to it while it is attacked")
        prepared = _structured(model, self._prepared(x))
        with blaming(f"the model {model.name!r}", RUNS_BY_ITSELF):
            return ask(model, prepared)

    def variables(self) -> list[keras.Variable]:
        model = self._model()
        return [
            *(model.variables if model is not None else []),
            *getattr(self._preprocess, "variables", []),
        ]

    def fold(self, x: Tensor, logits: Array) -> int:
        model = self._model()
        self.folded = False
        if self.coarse or model is None or not folding.folds(model):
            return 0
        twin = _backend.to_numpy(self._logits(x, folding.answer))
        self.folded = bool(
            np.abs(twin - logits).max(initial=0)
            <= FOLDING_TOLERANCE * np.abs(logits).max(initial=0)
        )
        return len(logits)

    def suits(self, logits: Array) -> bool:
        """Whether the model's answers still look like those of its head: a model may have changed.

        ``logits``, (n, classes), are what became of its answers. False: it is worth another look.
        """
        known, head = logits[np.isfinite(logits).all(axis=1)].astype("float64"), self.head
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
            or makes_no_probabilities(self._model())
        )

    def _logits(self, x: Tensor, ask: Ask) -> Tensor:
        if self._without_activation is not None:
            answer = self._without_activation(self._prepared(x), ask)
        else:
            answer = self.raw(x, ask)
        if isinstance(x.shape[0], int) and isinstance(answer.shape[0], int):
            demand_rows(int(x.shape[0]), tuple(answer.shape))
        return self.head.logits(flat(ops.cast(answer, "float32")))

    def _prepared(self, x: Tensor) -> Tensor:
        if self._preprocess is None:
            return x
        with blaming("preprocess"):
            # A copy: torch lets a preprocessing that is written in place, x -= mean, edit the data
            # of the search.
            made = self._preprocess(ops.copy(x))
        if not ops.is_tensor(made):
            raise InvalidType(
                f"preprocess must return a tensor; it returned {type(made).__name__}. NumPy has no"
                " gradients: write it with keras.ops, such as lambda x: (x - mean) / std"
            )
        return made

    def _scores(self, x: Tensor) -> Array:
        """What the model itself answers, (n, units), once it is checked. Counted."""
        answer = self.raw(x)
        if isinstance(answer, dict | list | tuple):
            raise several_outputs(
                list(answer) if isinstance(answer, dict) else list(range(len(answer)))
            )
        shape = tuple(answer.shape)
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] == 0):
            raise no_scores(shape)
        demand_rows(int(x.shape[0]), shape)
        self.spent += shape[0]
        return _float64(answer)

    def _recovered(self, sample: Tensor, answers: Array) -> Head | None:
        """The head, if the graph has a final softmax or sigmoid and the model answers by it. From
        then on the model is asked without.
        """
        model = self._model()
        found = before_activation(model) if model is not None else None
        if found is None:
            return None
        activation, inner = found
        logits = _float64(inner(self._prepared(sample), ask))
        self.spent += len(answers)
        tolerance = 5e-2 if self.coarse else 1e-3
        if not np.allclose(activated(activation, logits), answers, atol=tolerance, equal_nan=True):
            return None
        self._without_activation = inner
        return recovered(activation, answers.shape[1])

    def _probable_elsewhere(self, sample: Tensor, box: tuple[float, float]) -> bool:
        """Whether random inputs, too, are answered with numbers from 0 to 1."""
        shape = (RANDOM_PROBES, *map(int, sample.shape[1:]))
        noise = np.random.default_rng(0).uniform(*box, size=shape).astype("float32")
        self.spent += RANDOM_PROBES
        return can_be_probabilities(_float64(self.raw(ops.convert_to_tensor(noise))))


def _structured(model: keras.Model, x: Tensor) -> Any:
    """``x`` the way a functional model was built to take its one input: alone, in a list or in a
    dict.
    """
    structure = getattr(model, "_inputs_struct", None)
    if not isinstance(structure, list | tuple | dict):
        return x
    return keras.tree.pack_sequence_as(structure, [x])


def _float64(answer: Tensor) -> Array:
    """An answer as an array (n, units)."""
    values = _backend.to_numpy(ops.cast(answer, "float32")).astype("float64")
    return values.reshape(len(values), -1)
