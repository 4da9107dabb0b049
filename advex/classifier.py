"""The model under attack: its box, its preprocessing, its head, and logits whatever that head is."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor
from advex._settings import helpful, real_number
from advex.errors import InvalidInput, InvalidType

TINY = 1e-37  # the smallest probability whose logarithm is taken

_COMPILED: weakref.WeakKeyDictionary[keras.Model, dict[Hashable, Any]] = weakref.WeakKeyDictionary()
KEPT = 32  # compiled functions per model; the oldest goes


def _with_linear_activation(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A layer that shares everything with ``layer`` but its activation: nothing of the user's model is touched."""
    twin = object.__new__(type(layer))
    twin.__dict__.update(layer.__dict__)
    twin.__dict__["activation"] = keras.activations.linear
    return twin


def _until(model: keras.Model, tensor: keras.KerasTensor) -> Callable[[Tensor], Tensor]:
    """``model`` from its input to one of its inner tensors, in inference mode."""
    if tensor is model.inputs[0]:
        return lambda x: x
    part = keras.Model(model.inputs, tensor, name="advex_part")
    return lambda x: part(x, training=False)


def _before_activation(model: keras.Model) -> tuple[str, Callable[[Tensor], Tensor]] | None:
    """The name of the final softmax or sigmoid of a functional or sequential model, and the model without it."""
    outputs = getattr(model, "outputs", None)
    if not outputs or len(outputs) != 1 or len(model.inputs) != 1:
        return None
    history = getattr(outputs[0], "_keras_history", None)
    if history is None or history.operation is None:
        return None
    layer, node = history.operation, history.operation._inbound_nodes[history.node_index]
    if len(node.input_tensors) != 1:
        return None
    until = _until(model, node.input_tensors[0])
    if isinstance(layer, keras.Model):
        inner = _before_activation(layer)
        return inner and (inner[0], lambda x: inner[1](until(x)))
    names = {keras.activations.softmax: "softmax", keras.activations.sigmoid: "sigmoid"}
    if isinstance(layer, keras.layers.Activation):
        return (names[layer.activation], until) if layer.activation in names else None
    if isinstance(layer, keras.layers.Layer):
        if isinstance(layer, keras.layers.Softmax):
            return ("softmax", until) if layer.axis in (-1, 1) else None
        if getattr(layer, "activation", None) in names:
            twin = _with_linear_activation(layer)
            return names[layer.activation], lambda x: twin(until(x))
        return None
    if type(layer).__name__ in ("Softmax", "Sigmoid"):  # keras.ops.softmax and keras.ops.sigmoid in a functional model
        return type(layer).__name__.lower(), until
    return None


class Forward:
    """From inputs in the model's units to logits (batch, classes). Holds the model weakly, so that it can be cached with it."""

    def __init__(self, model: keras.Model, preprocess: Callable[[Tensor], Tensor] | None) -> None:
        self._model = weakref.ref(model)
        self._preprocess = preprocess
        self._recovered: Callable[[Tensor], Tensor] | None = None
        self.head = ""
        self.note = ""
        self.classes = 0

    def _prepared(self, x: Tensor) -> Tensor:
        return x if self._preprocess is None else self._preprocess(x)

    def raw(self, x: Tensor) -> Any:
        """What the model itself answers."""
        model = self._model()
        if model is None:
            raise ReferenceError("the model is gone: keep a reference to it while it is attacked")
        return model(self._prepared(x), training=False)

    def variables(self) -> list[keras.Variable]:
        """All that the forward pass reads."""
        model = self._model()
        return [*(model.variables if model is not None else []), *getattr(self._preprocess, "variables", [])]

    def detect(self, sample: Tensor) -> None:
        """Find out what the model's outputs are, from its graph and from its answer to a few inputs."""
        answer = self.raw(sample)
        if isinstance(answer, dict | list | tuple):
            names = list(answer) if isinstance(answer, dict) else list(range(len(answer)))
            raise InvalidInput(
                f"the model has several outputs ({names}); attack one of them: keras.Model(model.inputs, model.outputs[0])"
            )
        shape = tuple(answer.shape)
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] == 0):
            raise InvalidInput(f"the model must answer with (batch, classes); it answered with shape {shape}")
        values = _backend.to_numpy(answer).astype("float64").reshape(shape[0], -1)
        self.classes = max(2, values.shape[1])
        model = self._model()
        found = _before_activation(model) if model is not None else None
        units = values.shape[1]
        if found is not None:
            kind, inner = found
            logits = _backend.to_numpy(inner(self._prepared(sample))).astype("float64").reshape(shape[0], -1)
            again = 1 / (1 + np.exp(-logits)) if kind == "sigmoid" else np.exp(logits - logits.max(1, keepdims=True))
            again = again if kind == "sigmoid" else again / again.sum(1, keepdims=True)
            if np.allclose(again, values, atol=1e-3, equal_nan=True):
                self._recovered = inner
                self.head = kind if units > 1 or kind == "softmax" else "sigmoid, one unit"
                self.note = f"The model ends in {kind}; advex works with the logits before it."
                return
        probable = np.isfinite(values).all() and (values >= 0).all() and (values <= 1 + 1e-5).all()
        if units == 1:
            graph = bool(getattr(model, "outputs", None)) and found is None
            self.head = "probability, one unit" if probable and not graph else "logit, one unit"
            if self.head.startswith("probability"):
                self.note = "The model answers with one probability; advex works with its logarithms, which saturate."
        elif probable and (np.abs(values.sum(1) - 1) < 1e-5).all():
            self.head = "probabilities"
            self.note = (
                "The model answers with probabilities whose logits could not be recovered; advex works with their logarithms,"
                " whose gradients vanish where a probability underflows. Give the model without its softmax if you can."
            )
        else:
            self.head = "logits"

    @property
    def doubtful(self) -> bool:
        """Whether the logits are only logarithms of probabilities."""
        return self.head.startswith("probabilit")

    def __call__(self, x: Tensor) -> Tensor:
        """Logits, float32: (batch, ...) -> (batch, classes)."""
        answer = self._recovered(self._prepared(x)) if self._recovered is not None else self.raw(x)
        answer = ops.cast(answer, "float32")
        if len(answer.shape) == 1:
            answer = ops.expand_dims(answer, 1)
        if answer.shape[1] == 1:
            if self.doubtful:
                answer = ops.concatenate([1 - answer, answer], axis=1)
            else:
                return ops.concatenate([ops.zeros_like(answer), answer], axis=1)
        return ops.log(ops.maximum(answer, TINY)) if self.doubtful else answer


class Classifier:
    """A Keras model and the domain of its inputs. Needed only where that domain is not [0, 1].

    Args:
        model: any ``keras.Model`` with one input and one output: functional, sequential, subclassed, compiled or not. It may
            end in logits, softmax or one sigmoid unit.
        box: lowest and highest legal value of ``x``, before preprocessing.
        preprocess: applied to ``x`` before the model: a function of backend tensors, or a layer.
        classes: the names of the classes, for captions.

    Raises:
        InvalidInput: a box without two finite, increasing ends; several inputs.
        InvalidType: something that is not a ``keras.Model``.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(10)])
        >>> Classifier(model, box=(0, 255), preprocess=lambda x: x / 127.5 - 1)
        Classifier('sequential', box=(0.0, 255.0))
    """

    @helpful
    def __init__(
        self,
        model: keras.Model,
        box: tuple[float, float] = (0, 1),
        preprocess: Callable[[Tensor], Tensor] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(model, keras.Model):
            raise InvalidType(f"model must be a keras.Model or an advex.Classifier; received {type(model).__name__}")
        if preprocess is not None and not callable(preprocess):
            raise InvalidType(f"preprocess must be a function of a tensor; received {type(preprocess).__name__}")
        if len(getattr(model, "inputs", None) or [0]) != 1:
            raise InvalidInput(
                f"the model has {len(model.inputs)} inputs; fix all but one: keras.Model(image, model([image, constant]))"
            )
        self.model, self.preprocess = model, preprocess
        self.box = _box(box)
        self.names = list(map(str, classes)) if classes is not None else None
        self._forward: Forward | None = None

    @classmethod
    def of(cls, model: Any) -> Classifier:
        """``model`` itself if it is a classifier, else one with the box [0, 1]."""
        return model if isinstance(model, Classifier) else cls(model)

    @property
    def input_shape(self) -> tuple[int | None, ...] | None:
        """The model's input shape with the batch axis, where it is known."""
        inputs = getattr(self.model, "inputs", None)
        return tuple(inputs[0].shape) if inputs else None

    def forward(self, sample: Array) -> Forward:
        """The forward pass to logits; ``sample``, a few inputs in the model's units, is used to look at the head once."""
        if self._forward is None:
            kept = self.kept()
            key = ("forward", self.preprocess)
            if key not in kept:
                forward = Forward(self.model, self.preprocess)
                forward.detect(ops.convert_to_tensor(sample))
                kept[key] = forward
            self._forward = kept[key]
        return self._forward

    def kept(self) -> dict[Hashable, Any]:
        """What was compiled for this very model; emptied when its layers have changed."""
        kept = _COMPILED.setdefault(self.model, {})
        mark = (tuple(map(id, self.model.layers)), str(self.model.dtype_policy.name))
        if kept.get("mark") != mark:
            kept.clear()
            kept["mark"] = mark
        return kept

    def forget(self) -> None:
        """Drop all that was compiled for this model."""
        self.kept().clear()
        self._forward = None

    def compiled(self, key: Hashable, make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        """``make()``, or what it returned for the same key and model before."""
        kept = self.kept()
        try:
            hash(key)
        except TypeError:
            return make()
        key = (self.preprocess, key)
        if key not in kept:
            kept[key] = make()
            for oldest in [name for name in kept if isinstance(name, tuple) and name[0] != "forward"][:-KEPT]:
                del kept[oldest]
        found: Callable[..., Any] = kept[key]
        return found

    def judge(self, sample: Array) -> Callable[[Tensor], Tensor]:
        """The compiled forward pass: a tensor in the model's units -> logits."""
        forward = self.forward(sample)
        shape = (None, *sample.shape[1:])
        return self.compiled(
            ("judge", sample.shape[1:]), lambda: _backend.compiled(forward, [(shape, "float32")], forward.variables)
        )

    def caption(self, label: int) -> str:
        """The name of a class, or its number."""
        return self.names[label] if self.names is not None and 0 <= label < len(self.names) else str(label)

    def __repr__(self) -> str:
        return f"Classifier({self.model.name!r}, box={self.box})"


def _box(box: Any) -> tuple[float, float]:
    try:
        low, high = box
    except (TypeError, ValueError):
        raise InvalidType(f"box must be a pair (lowest, highest); received {box!r}") from None
    low, high = (real_number("box", end, lowest=-math.inf) for end in (low, high))
    if not low < high:
        raise InvalidInput(f"box must be (lowest, highest) with lowest < highest; received {box!r}")
    return low, high
