"""Derivatives without advex: each framework's own automatic differentiation, and central
differences.

Losses are functions of tensors that return a tensor of any shape; its sum is differentiated.
"""

import contextlib

import keras
import numpy as np
from keras import ops

BACKEND = keras.backend.backend()

if BACKEND == "tensorflow":
    import tensorflow as tf

    def derivative(loss, tensors, weights=()):
        """Tensors in, tensors out, for use inside of other losses: the gradients by ``tensors`` and
        ``weights``, in a list.
        """
        points = [*tensors, *(weight.value for weight in weights)]
        with tf.GradientTape() as tape:
            for point in points:
                tape.watch(point)
            value = loss(*tensors)
        slopes = tape.gradient(value, points, unconnected_gradients="zero")
        return [tf.convert_to_tensor(slope) for slope in slopes]

    started = derivative

    def compiled(loss, weights):
        return tf.function(lambda tensors, _: loss(*tensors), autograph=False)

elif BACKEND == "jax":
    import jax

    stack = []  # what the scopes that are open say of weights: Keras' own do not ask one another

    def valued(loss, tensors, weights, values):
        """The loss, where weights have these values."""
        stack.append(list(zip(weights, values, strict=True)))
        try:
            with keras.StatelessScope(state_mapping=[pair for pairs in stack for pair in pairs]):
                return loss(*tensors)
        finally:
            stack.pop()

    def at(loss, tensors, weights, values):
        found = jax.grad(
            lambda *points: ops.sum(valued(loss, points[0], weights, points[1])), argnums=(0, 1)
        )(tensors, values)
        return [*found[0], *found[1]]

    def derivative(loss, tensors, weights=()):
        return at(loss, list(tensors), weights, [weight.value for weight in weights])

    def started(loss, tensors, weights=()):
        return jax.jit(lambda *points: at(loss, points[0], weights, points[1]))(
            tensors, [weight.value for weight in weights]
        )

    def compiled(loss, weights):
        return jax.jit(lambda tensors, values: valued(loss, tensors, weights, values))

else:
    import torch

    def derivative(loss, tensors, weights=()):
        with torch.enable_grad():
            tensors = [
                tensor if tensor.requires_grad else tensor.detach().requires_grad_(True)
                for tensor in tensors
            ]
            points = [*tensors, *(weight.value for weight in weights)]
            total = loss(*tensors).sum()
            return list(
                torch.autograd.grad(
                    total, points, create_graph=True, allow_unused=True, materialize_grads=True
                )
            )

    def started(loss, tensors, weights=()):
        with keras.StatelessScope():  # a state that was assigned in place would have no gradient
            return derivative(loss, tensors, weights)

    def compiled(loss, weights):
        return lambda tensors, _: loss(*tensors)


def array(thing):
    """Of a tensor or variable, a copy."""
    value = thing.value if isinstance(thing, keras.Variable) else thing
    return np.array(ops.convert_to_numpy(value.detach() if BACKEND == "torch" else value))


def arrays(things):
    return [array(thing) for thing in things]


@contextlib.contextmanager
def kept(variables):
    """Whatever happens to them inside, ``variables`` are as before after it."""
    before = arrays(variables)
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def gradients(loss, given=(), weights=(), state=()):
    """The gradients by the arrays ``given`` and by ``weights``, as arrays; ``state`` is as before
    after it.
    """
    with kept(state):
        return arrays(started(loss, [ops.convert_to_tensor(values) for values in given], weights))


def central(loss, given=(), weights=(), state=()):
    """As ``gradients``, by central differences of fourth order; each evaluation begins with the
    same ``state``.
    """
    # Keras multiplies matrices in float32 on JAX and torch, whatever they are
    h = 2e-3 if BACKEND == "tensorflow" else 2e-2
    points = [*map(np.array, given), *arrays(weights)]
    evaluate = compiled(loss, weights)

    def total():
        for weight, point in zip(weights, points[len(given) :], strict=True):
            weight.assign(point)
        with kept(state):
            value = evaluate(
                [ops.convert_to_tensor(point) for point in points[: len(given)]],
                [w.value for w in weights],
            )
        return float(array(value).astype("float64").sum())

    found = [np.zeros_like(point) for point in points]
    with kept(weights):
        for point, slope in zip(points, found, strict=True):
            for place in np.ndindex(point.shape):
                start, values = point[place], {}
                for step in (-2, -1, 1, 2):
                    point[place] = start + step * h
                    values[step] = total()
                point[place] = start
                slope[place] = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * h)
    return found
