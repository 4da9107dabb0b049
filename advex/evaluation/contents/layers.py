"""Layers and models of Keras: settings, weights, wiring; the code of those that are the user's."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from advex import _backend
from advex.evaluation.contents.arrays import array
from advex.evaluation.contents.containers import within
from advex.evaluation.contents.found import Parts
from advex.evaluation.contents.functions import klass
from advex.evaluation.contents.origin import called, home
from advex.evaluation.contents.origin import origin as origin_of

UNASKED = {
    *(
        "optimizer",
        "history",
        "stop_training",
        "stop_evaluating",
        "stop_predicting",
        "_epoch_iterator",
        "_eval_epoch_iterator",
    ),
    *("name", "input_spec", "seed", "seed_generator", "_torch_params"),
    *(
        "_build_input_shape",
        "is_awq_calibrated",
        "is_gptq_calibrated",
    ),  # a layer has them once its weights were read from a file
    *("_dropout_mask", "_recurrent_dropout_mask"),  # cells have them once they were called
}
"""Attributes of layers that say how a model is trained, called or loaded, not what it answers."""

TRAINING = (
    keras.initializers.Initializer,
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
)


def weights_hash(model: keras.Model) -> str:
    """A hash of all weights in their order."""
    made = hashlib.blake2b(digest_size=16)
    for weight in model.weights:
        values = np.ascontiguousarray(_backend.to_numpy(weight.value))
        made.update(f"{values.dtype}{values.shape}".encode())
        made.update(values.tobytes())
    return made.hexdigest()


def layers(found: Parts, model: keras.layers.Layer, path: str, *, weights: bool) -> None:
    """A layer or a model with all that is in it, layer by layer; their names do not count."""
    every = list(model._flatten_layers())
    base, model_base = _bare()
    for number, layer in enumerate(every):
        found.met[id(layer)] = f"{path}[{number}]", layer
    for number, weight in enumerate(model.weights):
        found.met.setdefault(id(weight), (f"{path} weight {number}", weight))
        if weights:
            array(found, np.asarray(_backend.to_numpy(weight.value)), f"{path} weight {number}")
    for number, layer in enumerate(every):
        spot = f"{path}[{number}]"
        own = origin_of(type(layer).__module__) != "house"
        found.put(spot, called(type(layer)), str(getattr(layer.dtype_policy, "name", "")).encode())
        within = [
            found.met[id(inner)][0][len(path) :] for inner in layer._flatten_layers(recursive=False)
        ]
        found.put(spot, *map(str.encode, within))
        if own:
            klass(found, type(layer), f"{spot}.class")
        if hasattr(layer, "operations"):
            _wiring(found, layer, spot)
        if isinstance(layer, keras.Sequential) or (hasattr(layer, "operations") and not own):
            continue
        for name, value in sorted(vars(layer).items()):
            known = model_base if isinstance(layer, keras.Model) else base
            if name in known or (
                name in UNASKED and not (own and name == "seed" and isinstance(value, int))
            ):
                continue
            if isinstance(value, TRAINING) or (
                not own and name.endswith(("initializer", "regularizer", "constraint"))
            ):
                # of the user's own layers anything may be called so: a function that clips
                continue
            if name.startswith(("_self_", "_tf_", "_jax_", "_compile")) or (
                not own and not simple(value)
            ):
                continue
            found.walk(value if own else _tuples(value), f"{spot}.{name}")


def _wiring(found: Parts, model: Any, path: str) -> None:
    """How the operations of a functional model are connected."""
    place = {id(operation): number for number, operation in enumerate(model.operations)}
    nodes: dict[tuple[int, int], int] = {}
    wired = []
    for operation in model.operations:
        for number, node in enumerate(operation._inbound_nodes):
            if all(id(tensor._keras_history.operation) in place for tensor in node.input_tensors):
                nodes[id(operation), number] = sum(
                    1 for known, _ in nodes if known == id(operation)
                )
                wired.append((operation, node))

    def token(value: Any) -> Any:
        if not isinstance(value, keras.KerasTensor):
            return value
        origin = value._keras_history
        number = nodes.get((id(origin.operation), origin.node_index), -1)
        return "from", place.get(id(origin.operation), -1), number, origin.tensor_index

    for number, (operation, node) in enumerate(wired):
        spot = f"{path}.graph[{number}]"
        found.put(spot, repr(place[id(operation)]).encode())
        arguments = keras.tree.map_structure(token, (node.arguments.args, node.arguments.kwargs))
        within(found, _tuples(arguments), f"{spot}.inputs")
        if not isinstance(operation, keras.layers.Layer):
            klass(found, type(operation), f"{spot}.class")
            for name, value in sorted(vars(operation).items()):
                if name not in _bare()[0] and simple(value):
                    found.walk(_tuples(value), f"{spot}.{name}")
        elif id(operation) in found.met:
            found.put(spot, found.met[id(operation)][0].encode())
    for name in ("inputs", "outputs"):
        within(found, keras.tree.map_structure(token, list(getattr(model, name))), f"{path}.{name}")


@functools.cache
def _bare() -> tuple[frozenset[str], frozenset[str]]:
    """The attributes that every layer has, and every model."""

    class Bare(keras.Model):
        pass

    layer = frozenset(vars(keras.layers.Layer()))
    return layer, layer | frozenset(vars(Bare()))


def _tuples(value: Any) -> Any:
    """``value`` with a tuple for each list: which of them it was, a file of Keras does not tell."""
    if isinstance(value, list | tuple):
        return tuple(map(_tuples, value))
    return {name: _tuples(entry) for name, entry in value.items()} if type(value) is dict else value


def simple(value: Any) -> bool:
    """Whether a value of Keras' own objects says what they do: no caches, no trackers."""
    if isinstance(value, Mapping):
        return all(map(simple, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(simple, value))
    plain = (
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        np.ndarray,
        np.generic,
        types.FunctionType,
        keras.Variable,
    )
    if (
        value is None
        or isinstance(value, plain)
        or keras.ops.is_tensor(value)
        or isinstance(value, keras.layers.Layer)
    ):
        return True
    # What a Lambda or an Activation was given: a partial, a bound method, an object that is called,
    # a compiled function.
    given = isinstance(value, functools.partial | types.MethodType) or hasattr(value, "__wrapped__")
    return callable(value) and (given or home(type(value)) == "own")
