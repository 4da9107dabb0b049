"""TensorFlow: gradient tapes, and ``tf.function`` traced once for all batch sizes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from advex._backend.scope import Group, Run, Scope

RAGGED = True
TRACED = True


def value_and_gradient(function: Callable[[Any], tuple[Any, Any]], x: Any) -> tuple[Any, Any, Any]:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        value, extra = function(x)
    return value, tape.gradient(value, x), extra


def jacobian(function: Callable[[Any], tuple[Any, Any]], x: Any) -> tuple[Any, Any, Any]:
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(x)
        values, extra = function(x)
        columns = tf.unstack(values, axis=1)
    found = [tape.gradient(column, x) for column in columns]
    return (
        values,
        None if any(gradient is None for gradient in found) else tf.stack(found, axis=1),
        extra,
    )


def differentiate(
    run: Run, groups: Sequence[Group], variables: Mapping[int, Any], known: Mapping[int, Any]
) -> tuple[dict[int, Any], list[dict[int, Any]]]:
    points: dict[int, Any] = {}

    def tap(key: int, value: Any) -> Any:
        # a tensor of its own: some layers hand their input on as it is
        points[key] = tf.identity(value)
        tape.watch(points[key])
        return points[key]

    with (
        tf.GradientTape(persistent=len(groups) > 1, watch_accessed_variables=False) as tape,
        Scope() as scope,
    ):
        for key, variable in variables.items():
            points[key] = variable.value
            # which no tape can watch from outside of a replica
            if isinstance(points[key], tf.distribute.DistributedValues):
                points[key] = scope.state_mapping[id(variable)] = tf.convert_to_tensor(points[key])
            tape.watch(points[key])
        values = run(tap)
    scope.apply()
    found = []
    for losses, keys in groups:
        slopes = tape.gradient([values[loss] for loss in losses], [points[key] for key in keys])
        dense = [None if slope is None else tf.convert_to_tensor(slope) for slope in slopes]
        found.append(dict(zip(keys, dense, strict=True)))
    return values, found


def weight_slopes(function: Callable[[], Any], weights: Sequence[Any]) -> list[Any]:
    with tf.GradientTape() as tape:
        total = function()
    slopes = tape.gradient(total, [weight.value for weight in weights])
    return [None if slope is None else tf.convert_to_tensor(slope) for slope in slopes]


def both_slopes(
    function: Callable[[Any], tuple[Any, Any]], weights: Sequence[Any], x: Any
) -> tuple[Any, Any, list[Any]]:
    with tf.GradientTape() as tape:
        tape.watch(x)
        total, extra = function(x)
    first, *others = tape.gradient(total, [x, *(weight.value for weight in weights)])
    return extra, first, [None if each is None else tf.convert_to_tensor(each) for each in others]


def compiled(
    function: Callable[..., Any],
    signature: Sequence[tuple[tuple[int | None, ...], str]],
    variables: Callable[[], list[Any]],
) -> Callable[..., Any]:
    specs = [tf.TensorSpec(shape, dtype) for shape, dtype in signature]
    traced = tf.function(function, input_signature=specs, autograph=False)

    # Called as an operation, without what Python does to the arguments of a tf.function at each
    # call: a tenth of the time of a small model's step. Nor does TensorFlow then mistake the traces
    # of several models for one that is traced ever again.
    @functools.cache
    def concrete() -> tuple[Any, list[Any], Callable[..., Any]]:
        made = traced.get_concrete_function()
        structure = made.structured_outputs
        if len(tf.nest.flatten(structure)) != len(made.outputs):  # None among them
            return made, [], made
        return (
            made,
            [output.dtype for output in made.outputs],
            functools.partial(tf.nest.pack_sequence_as, structure),
        )

    def call(*tensors: Any) -> Any:
        made, dtypes, packed = concrete()
        if not dtypes:
            return made(*tensors)
        captured = made.captured_inputs  # the resources of the variables, and other constants
        return packed(
            tf.raw_ops.StatefulPartitionedCall(args=[*tensors, *captured], Tout=dtypes, f=made)
        )

    return call


def program(
    compute: Callable[..., tuple[Any, Any]],
    settle: Callable[[Any], None],
    signature: Sequence[tuple[tuple[int | None, ...], str]],
) -> Callable[..., Any]:
    def whole(*tensors: Any) -> Any:
        with Scope() as scope:
            answer, rest = compute(*tensors)
        scope.apply()
        settle(rest)
        return answer

    specs = [tf.TensorSpec(shape, dtype) for shape, dtype in signature]
    # Not as an operation, as in ``compiled``: TensorFlow would not run its independent parts, such
    # as the rows of a Jacobian, side by side.
    traced = functools.cache(
        tf.function(whole, input_signature=specs, autograph=False).get_concrete_function
    )
    return lambda *tensors: traced()(*tensors)


def gather(tensor: Any, index: Any) -> Any:
    return tf.gather(tensor, index)


def concatenate(tensors: Sequence[Any]) -> Any:
    return tf.concat(tensors, 0)


def descend(optimizer: Any, slopes: Sequence[Any], weights: Sequence[Any]) -> None:
    if not tf.distribute.in_cross_replica_context():
        optimizer.apply(slopes, weights)
        return

    def share(
        *slopes: Any,
    ) -> None:  # the replicas' gradients are added up: those of the first are all
        first = tf.distribute.get_replica_context().replica_id_in_sync_group == 0
        optimizer.apply([slope * tf.cast(first, slope.dtype) for slope in slopes], weights)

    tf.distribute.get_strategy().run(share, args=tuple(slopes))


def given(array: np.ndarray[Any, Any]) -> Any:
    return tf.convert_to_tensor(array)


def accelerated() -> bool:
    return bool(tf.config.list_logical_devices("GPU"))


def immediate(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return function


def to_numpy(tensor: Any) -> np.ndarray[Any, Any]:
    return np.asarray(tensor)


def float64() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def on_host(function: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], x: Any) -> Any:
    answer = tf.numpy_function(function, [x], tf.bool)
    return tf.ensure_shape(answer, [None])


def normal(keys: Any, shape: tuple[int, ...]) -> Any:
    keys = tf.ensure_shape(keys, (keys.shape[0], 2))
    return tf.stack([tf.random.stateless_normal(shape, key) for key in tf.unstack(keys)])
