"""What the driver asks of a model, whether it is a Keras model or a plain function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, Literal, Protocol

import keras
import numpy as np
from keras import tree

from advex import _backend
from advex._arrays import Array, Tensor
from advex.domain import Domain
from advex.errors import InvalidInput
from advex.goals.base import Reading
from advex.model import cache

Gives = Literal["gradients", "scores", "labels"]
"""The most that a model gives, or the least that an attack needs."""

HALF_PRECISION_SLACK = 1e4  # half precision is ten thousand times noisier
CAUTION = 2.0
FOLDED_CAUTION = 10.0
ROUNDING = 1e-4  # of the largest logit: what rounding errors may change
HALF_PRECISION_ROUNDING = 5e-2


class Asked(Protocol):
    """What a step of an attack sees of a model: its logits, and how exact they are."""

    @property
    def classes(self) -> Any:
        """How many; of several outputs a dict, with those of each."""

    @property
    def slack(self) -> float:
        """How many times the usual noise of the logits a margin must exceed."""

    @property
    def caution(self) -> float:
        """How many times the margin of the final judgement the search asks for."""

    def __call__(self, x: Tensor, live: Tensor | None = None) -> Any:
        """What the model answers, float32, as the goal reads it: for a goal about classes logits,
        (batch, ...) -> (batch, classes). Rows that are not ``live`` need no true answer.
        """


class Forward(ABC):
    """From inputs in the model's units to what a goal reads: logits (batch, classes), scores at
    each place, numbers, or a tree of such.

    Attributes:
        head: what the model's outputs are, a ``Head``, or ``Heads`` of several.
        coarse: whether the model computes in half precision.
        folded: whether calls fold batch normalisation away.
        example: the shape of the answer to one input of the sample, where there is one answer.
        spent: passes that looking at the head has cost, which nobody has accounted for yet.
    """

    head: Any
    coarse: bool = False
    folded: bool = False
    spent: int = 0
    example: tuple[int, ...] = ()

    @abstractmethod
    def __call__(self, x: Tensor, live: Tensor | None = None) -> Any:
        """See ``Asked``."""

    @abstractmethod
    def exact(self, x: Tensor) -> Any:
        """The answers to all rows, by nothing but the model itself."""

    def suits(self, logits: Array) -> bool:
        """Whether the model's answers, (n, ...), still look like those of its head: a model may
        have changed. False: it is worth another look.
        """
        return True

    @abstractmethod
    def raw(self, x: Tensor) -> Any:
        """What the model itself answers."""

    @abstractmethod
    def variables(self) -> list[keras.Variable]:
        """All that the forward pass reads."""

    @abstractmethod
    def fold(self, x: Tensor, logits: Array) -> int:
        """Fold batch normalisation from now on if that leaves ``logits``, the true ones of ``x``,
        as they are; queries spent.
        """

    @property
    def classes(self) -> Any:
        return self.head.classes

    @property
    def slack(self) -> float:
        return HALF_PRECISION_SLACK if self.coarse else 1.0

    @property
    def caution(self) -> float:
        return FOLDED_CAUTION if self.folded else CAUTION

    def differs(self, one: Array, other: Array, scale: float = 1e-6) -> bool:
        """Whether two answers of the model to the same inputs differ by more than rounding errors
        of logits of this ``scale``.
        """
        scale = max(float(np.abs(one[np.isfinite(one)]).max(initial=0)), scale)
        tolerance = (HALF_PRECISION_ROUNDING if self.coarse else ROUNDING) * scale
        return not np.allclose(one, other, rtol=0, atol=tolerance, equal_nan=True)


class Model(ABC):
    """A model under attack, and the domain of its inputs.

    Attributes:
        box: lowest and highest legal value of ``x``; of a domain of its lowest and highest feature.
        domain: the legal values of ``x``.
        perturb: which of several inputs are attacked, or which layer's output.
        names: the names of the classes.
        model: the Keras model, where it is one.
        preprocess: applied to ``x`` before the Keras model.
        differentiable: whether it works on tensors: it can be traced, compiled and differentiated.
        metered: whether every row that it is asked about counts. Then batches are not filled up,
            nothing is asked ahead of need, and the model's honesty is not checked.
        notes: sentences for the result of every call.
    """

    differentiable: ClassVar[bool]
    metered: ClassVar[bool]
    notes: ClassVar[tuple[str, ...]] = ()

    box: tuple[float, float]
    domain: Domain
    perturb: tuple[str | int, ...] = ()
    names: list[str] | None
    model: keras.Model | None = None
    preprocess: Callable[[Tensor], Tensor] | None = None

    def domain_of(self, name: str) -> Domain:
        """The domain of one of several inputs."""
        return self.domain

    @property
    def gives(self) -> Gives:
        """The most that it gives."""
        return "gradients" if self.differentiable else "scores"

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int | None, ...] | None:
        """The input shape with the batch axis, where it is known."""

    @property
    @abstractmethod
    def input_dtype(self) -> str | None:
        """The dtype that the model turns its input into, where it is known."""

    @property
    @abstractmethod
    def known_classes(self) -> int | None:
        """The number of classes, where it is known before the model is asked."""

    @abstractmethod
    def forward(self, sample: Any, reading: Reading = "scores") -> Forward:
        """The forward pass to what a goal reads; ``sample``, a few inputs as the model takes them,
        may be used to look at the head once.
        """

    @abstractmethod
    def judge(self, sample: Any, reading: Reading = "scores") -> Callable[[Tensor], Any]:
        """The model itself, called as its user would call it: a tensor in the model's units -> what
        a goal reads. Nothing is compiled.
        """

    @abstractmethod
    def renewed(self, sample: Any, logits: Array, reading: Reading = "scores") -> bool:
        """Whether the head has changed since it was looked at, which ``logits`` may show."""

    def about(self, reading: Reading) -> Hashable:
        """What tells apart functions of one model that answer differently."""
        return ()

    def only(self, output: str | int) -> Model:
        """The same model with one of its outputs chosen.

        Raises:
            InvalidInput: it has no outputs with names.
        """
        raise InvalidInput(f"{self!r} has one output alone: leave advex.Output({output!r}) out")

    @abstractmethod
    def kept(self) -> cache.Kept:
        """What was compiled for this model."""

    def compiled(self, key: Hashable, make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        """``make()``, or what it returned for the same key and model before."""
        return cache.compiled(self.kept, key, make)

    def canary(self, sample: Any, reading: Reading = "scores") -> Callable[[Tensor], Any]:
        """The forward pass as it was compiled before everything else: where it answers as the model
        does, no trace is stale.
        """
        forward, leaves = self.forward(sample, reading), tree.flatten(sample)
        signature = [((None, *leaf.shape[1:]), str(leaf.dtype)) for leaf in leaves]
        structure = tree.map_structure(lambda _: 0, sample)

        def exact(*tensors: Tensor) -> Any:
            return forward.exact(tree.pack_sequence_as(structure, list(tensors)))

        key = ("canary", repr(structure), tuple(signature), self.about(reading))
        run = self.compiled(key, lambda: _backend.compiled(exact, signature, forward.variables))
        return lambda x: run(*tree.flatten(x))

    def forget(self) -> None:
        """Drop all that was compiled for this model."""
        self.kept().clear()

    def caption(self, label: int) -> str:
        """The name of a class, or its number."""
        names = self.names or []
        return names[label] if 0 <= label < len(names) else str(label)
