"""How a functional or sequential model ends, and the model without its last activation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import keras

from advex._arrays import Tensor

# operations that leave the values alone
SHAPE_OPERATIONS = ("Reshape", "Squeeze", "Flatten", "ExpandDims", "Identity")
PROBABILITY_MAKERS = (
    keras.activations.sigmoid,
    keras.activations.hard_sigmoid,
    keras.activations.softmax,
    keras.activations.sparsemax,
)

Ask: TypeAlias = Callable[[keras.Model, Any], Any]
"""How a model is asked: by itself, or with its batch normalisation folded away."""


def ask(model: keras.Model, x: Any) -> Any:
    """What ``model`` itself answers at inference."""
    return model(x, training=False)


def before_activation(model: keras.Model) -> tuple[str, Callable[[Tensor, Ask], Tensor]] | None:
    """The name of the final softmax or sigmoid, and the model without it; None where there is
    none.
    """
    last = _last(model)
    if last is None:
        return None
    layer, until = last[0], _until(model, last[1])
    if isinstance(layer, keras.Model):
        inner = before_activation(layer)
        return inner and (inner[0], lambda x, ask: inner[1](until(x, ask), ask))
    names = {keras.activations.softmax: "softmax", keras.activations.sigmoid: "sigmoid"}
    if isinstance(layer, keras.layers.Activation):
        return (names[layer.activation], until) if layer.activation in names else None
    if isinstance(layer, keras.layers.Softmax):
        return ("softmax", until) if layer.axis in (-1, 1) else None
    if isinstance(layer, keras.layers.Layer):
        if getattr(layer, "activation", None) in names:
            # The twin is made anew each time: the layer may have been given another class or other
            # variables meanwhile.
            return names[layer.activation], lambda x, ask: _with_linear_activation(layer)(
                until(x, ask)
            )
        return None
    # keras.ops.softmax and keras.ops.sigmoid in a functional model
    name = type(layer).__name__
    return (name.lower(), until) if name in ("Softmax", "Sigmoid") else None


def cut_off(
    model: keras.Model,
) -> tuple[keras.KerasTensor, Callable[[Tensor], Tensor]] | None:
    """The tensor that the last activation, or the layer that has it, is applied to, and what makes
    of it what ``before_activation`` answers; None where that is inside of a nested model.
    """
    last = _last(model)
    if last is None or isinstance(last[0], keras.Model):
        return None
    layer, symbol = last
    bare = keras.layers.Activation | keras.layers.Softmax
    if isinstance(layer, bare) or not isinstance(layer, keras.layers.Layer):
        return symbol, lambda value: value
    return symbol, lambda value: _with_linear_activation(layer)(value)


def makes_no_probabilities(model: keras.Model | None) -> bool:
    """Whether the graph says that the last activation is one that does not make probabilities."""
    last = _last(model) if model is not None else None
    if last is None:
        return False
    if isinstance(last[0], keras.Model):
        return makes_no_probabilities(last[0])
    activation = getattr(last[0], "activation", None)
    known = activation in vars(keras.activations).values()
    return known and activation not in PROBABILITY_MAKERS


def _last(model: keras.Model) -> tuple[keras.Operation, keras.KerasTensor] | None:
    """The last operation that does more than change shapes, and its input."""
    outputs = getattr(model, "outputs", None)
    if not outputs or len(outputs) != 1:
        return None
    tensor = outputs[0]
    while (
        history := getattr(tensor, "_keras_history", None)
    ) is not None and history.operation is not None:
        node = history.operation._inbound_nodes[history.node_index]
        if len(node.input_tensors) != 1:
            return None
        tensor = node.input_tensors[0]
        if type(history.operation).__name__ not in SHAPE_OPERATIONS:
            return history.operation, tensor
    return None


def _until(model: keras.Model, tensor: keras.KerasTensor) -> Callable[[Tensor, Ask], Tensor]:
    """``model`` from its input to one of its inner tensors."""
    if len(model.inputs) == 1:
        if tensor is model.inputs[0]:
            return lambda x, _: x
        part = keras.Model(model.inputs[0], tensor, name="advex_part")
        return lambda x, ask: ask(part, x)
    part = keras.Model(structure_of(model), tensor, name="advex_part")
    return lambda x, ask: ask(part, x)


def structure_of(model: keras.Model) -> Any:
    """The inputs of a functional model as it was built to take them, where there are several."""
    return getattr(model, "_inputs_struct", model.inputs) if len(model.inputs) > 1 else model.inputs


def _with_linear_activation(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A layer that shares everything with ``layer`` but its activation: nothing of the user's model
    is touched.
    """
    twin = object.__new__(type(layer))
    twin.__dict__.update(layer.__dict__)
    twin.__dict__["activation"] = keras.activations.linear
    return twin
