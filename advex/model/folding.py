"""A model's answers at inference with each batch normalisation folded into the layer before it:
fewer passes over the data.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import keras
from keras import layers, ops

from advex._arrays import Tensor

LINEAR_LAYERS = (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.Dense,
)

_REPLACED: weakref.WeakKeyDictionary[keras.Model, dict[int, Callable[..., Any]]] = (
    weakref.WeakKeyDictionary()
)


def answer(model: keras.Model, x: Any) -> Any:
    """``model(x, training=False)``, but for rounding errors."""
    graph = _graph(model)
    if graph is None:
        return model(x, training=False)
    return _replayed(graph, x)


def folds(model: keras.Model) -> bool:
    """Whether ``answer`` does anything else than the model itself."""
    graph = _graph(model)
    return graph is not None and bool(_replacements(graph))


def _graph(model: Any) -> Any:
    """The functional model whose graph is all that ``model`` does, or None."""
    if type(model) is keras.Sequential:
        model = getattr(model, "_functional", None)
    known = (
        hasattr(model, "_nodes_by_depth")
        and hasattr(model, "_run_through_graph")
        and hasattr(model, "_standardize_inputs")
    )
    return model if known and type(model).__name__ == "Functional" else None


def _replayed(graph: Any, x: Any) -> Any:
    replaced = _replacements(graph)

    def operation(op: Any) -> Callable[..., Any]:
        if id(op) in replaced:
            return replaced[id(op)]

        def call(*args: Any, **kwargs: Any) -> Any:
            if getattr(op, "_call_has_training_arg", False):
                kwargs["training"] = False
            return op(*args, **kwargs)

        return call

    outputs = graph._run_through_graph(graph._standardize_inputs(x), operation_fn=operation)
    return outputs[0] if isinstance(outputs, list | tuple) and len(outputs) == 1 else outputs


def _replacements(graph: Any) -> dict[int, Callable[..., Any]]:
    """What is called in place of some of the operations of ``graph``, by their ids."""
    if graph not in _REPLACED:
        _REPLACED[graph] = _found(graph)
    return _REPLACED[graph]


def _found(graph: Any) -> dict[int, Callable[..., Any]]:
    nodes = [
        node
        for depth in graph._nodes_by_depth.values()
        for node in depth
        if node.operation and not node.is_input
    ]
    uses = Counter(id(node.operation) for node in nodes)
    readers = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    readers.update(id(tensor) for tensor in graph.outputs)
    maker = {id(tensor): node.operation for node in nodes for tensor in node.outputs}
    replaced: dict[int, Callable[..., Any]] = {}
    for node in nodes:
        norm = node.operation
        if isinstance(norm, keras.Model) and folds(norm):
            replaced[id(norm)] = _nested(norm)
        if type(norm) is not layers.BatchNormalization or len(node.input_tensors) != 1:
            continue
        (tensor,) = node.input_tensors
        linear = maker.get(id(tensor))
        once = readers[id(tensor)] == 1 and uses[id(norm)] == 1 and uses[id(linear)] == 1
        if once and type(linear) in LINEAR_LAYERS and _fits(linear, norm, len(tensor.shape)):
            replaced[id(linear)] = _folded(linear, norm)
            replaced[id(norm)] = lambda x, *_, **__: x
    return replaced


def _nested(model: keras.Model) -> Callable[..., Any]:
    inner = weakref.ref(model)
    return lambda x, *_, **__: answer(cast(keras.Model, inner()), x)


def _fits(linear: Any, norm: Any, rank: int) -> bool:
    """Whether ``norm`` scales what are the output channels of ``linear``, all in single
    precision.
    """
    first = getattr(linear, "data_format", "channels_last") == "channels_first"
    axis = 1 if first else rank - 1
    plain = all(
        layer.compute_dtype == "float32"
        and not getattr(layer, "quantization_mode", None)
        and layer.built
        for layer in (linear, norm)
    )
    causal = getattr(linear, "padding", "valid") == "causal"
    return (
        plain
        and not causal
        and linear.activation is keras.activations.linear
        and norm.axis % rank == axis
    )


def _folded(linear: Any, norm: Any) -> Callable[..., Any]:
    """``norm(linear(x))`` at inference; the weights are read anew at each call. Holds neither layer
    alive.
    """
    held = weakref.ref(linear), weakref.ref(norm)

    def call(x: Tensor, *_: Any, **__: Any) -> Tensor:
        first: Any = held[0]()
        second: Any = held[1]()
        scale = ops.rsqrt(second.moving_variance + second.epsilon)
        scale = scale * second.gamma if second.scale else scale
        shift = -second.moving_mean * scale
        shift = shift + second.beta if second.center else shift
        shift = shift + first.bias * scale if first.use_bias else shift
        kernel = ops.convert_to_tensor(first.kernel)
        if isinstance(first, layers.Dense):
            return ops.matmul(x, kernel * scale) + shift
        settings = {
            "strides": list(first.strides),
            "padding": first.padding,
            "dilation_rate": first.dilation_rate,
            "data_format": first.data_format,
        }
        wide = (
            (1,) * (len(x.shape) - 1) + (-1,)
            if first.data_format == "channels_last"
            else (1, -1) + (1,) * (len(x.shape) - 2)
        )
        if isinstance(first, layers.DepthwiseConv1D | layers.DepthwiseConv2D):
            kernel = kernel * ops.reshape(scale, kernel.shape[-2:])
            settings["strides"] = first.strides
            return ops.depthwise_conv(x, kernel, **settings) + ops.reshape(shift, wide)
        return ops.conv(x, kernel * scale, **settings) + ops.reshape(shift, wide)

    return call
