"""A Keras model under attack, and the domain of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor
from advex._settings import helpful
from advex.errors import InvalidInput, InvalidType
from advex.model import cache
from advex.model.domain import checked_box, checked_names
from advex.model.forward import KerasForward
from advex.model.protocol import Model
from advex.model.refusals import demand_scores, several_inputs, way_in


class Classifier(Model):
    """A Keras model and the domain of its inputs. Needed only where that domain is not [0, 1].

    Args:
        model: any ``keras.Model`` with one input and one output: functional, sequential,
            subclassed, compiled or not. It may end in logits, softmax, one sigmoid unit, or one for
            each class.
        box: lowest and highest legal value of ``x``, before preprocessing.
        preprocess: applied to ``x`` before the model: a function of backend tensors, or a layer.
        classes: the names of the classes, for captions.

    Raises:
        InvalidInput: a box without two finite, increasing ends; several inputs.
        InvalidType: something that is not a ``keras.Model``.

    Example:
        >>> import keras
        >>> layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(10)]
        >>> model = keras.Sequential(layers, name="small")
        >>> Classifier(model, box=(0, 255), preprocess=lambda x: x / 127.5 - 1)
        Classifier('small', box=(0.0, 255.0))
    """

    differentiable: ClassVar[bool] = True
    metered: ClassVar[bool] = False
    model: keras.Model

    @helpful
    def __init__(
        self,
        model: keras.Model,
        box: tuple[float, float] = (0, 1),
        preprocess: Callable[[Tensor], Tensor] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(model, keras.Model):
            kind = model.__name__ if isinstance(model, type) else type(model).__name__
            raise InvalidType(
                "model must be a keras.Model or an advex.Classifier; received"
                f" {kind}{way_in(model)}"
            )
        if preprocess is not None and not callable(preprocess):
            raise InvalidType(
                f"preprocess must be a function of a tensor; received {type(preprocess).__name__}"
            )
        if len(getattr(model, "inputs", None) or [0]) != 1:
            raise InvalidInput(several_inputs(model))
        self.model, self.preprocess = model, preprocess
        self.box = checked_box(box)
        self.names = checked_names(classes)
        demand_scores(model)
        if self.known_classes is not None:
            self._check_names(self.known_classes)

    @classmethod
    def of(cls, model: Any) -> Model:
        """``model`` itself if it is a ``Classifier`` or a ``BlackBox``, else a classifier with the
        box [0, 1].
        """
        return model if isinstance(model, Model) else cls(model)

    @property
    def input_shape(self) -> tuple[int | None, ...] | None:
        inputs = getattr(self.model, "inputs", None)
        return tuple(inputs[0].shape) if inputs else None

    @property
    def input_dtype(self) -> str | None:
        inputs = getattr(self.model, "inputs", None)
        return str(inputs[0].dtype) if inputs else None

    @property
    def known_classes(self) -> int | None:
        outputs = getattr(self.model, "outputs", None)
        if not outputs or (len(outputs[0].shape) == 2 and outputs[0].shape[1] is None):
            return None
        return max(2, outputs[0].shape[1]) if len(outputs[0].shape) == 2 else 2

    def forward(self, sample: Array) -> KerasForward:
        def make() -> KerasForward:
            forward = self._fresh(sample)
            self._check_names(forward.classes)
            return forward

        return self.compiled(("forward",), make)  # type: ignore[return-value]

    def judge(self, sample: Array) -> Callable[[Tensor], Tensor]:
        return _backend.immediate(self.forward(sample).exact)

    def renewed(self, sample: Array, logits: Array) -> bool:
        """Whether the head is another one than it was, by another look where ``logits`` make it
        doubtful: then all that was compiled goes. Where nothing is compiled, nothing else would
        show it.
        """
        known = self.forward(sample)
        if known.suits(logits):
            return False
        fresh = self._fresh(sample)
        if fresh.head.name == known.head.name:
            known.spent += fresh.spent
            return False
        self.forget()
        self.compiled(("forward",), lambda: fresh)
        return True

    def kept(self) -> cache.Kept:
        return cache.kept(self.model, self.preprocess)

    def _fresh(self, sample: Array) -> KerasForward:
        """The forward pass, with a look at the head."""
        return KerasForward(self.model, self.preprocess, ops.convert_to_tensor(sample), self.box)

    def _check_names(self, count: int) -> None:
        if self.names is not None and len(self.names) != count:
            raise InvalidInput(
                f"classes has {len(self.names)} names, but the model has {count} classes: name"
                " each of them"
            )

    def __repr__(self) -> str:
        return f"Classifier({self.model.name!r}, box={self.box})"
