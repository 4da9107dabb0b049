"""Models with known answers, and data for them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array
from advex.budgets import L0, L1, L2, Budget, Linf
from advex.errors import InvalidInput

FEATURES = 12


def linear_model(weights: Any = None, bias: Any = None, head: str = "logits") -> keras.Model:
    """A linear classifier on (n, features), whose adversarial optima are formulas.

    $$ z(x) = x W + b $$

    $z$ are the logits, $W$ is `weights`, $b$ is `bias`.

    Args:
        weights: shape (features, classes). None: a fixed choice for 12 features and two classes.
        bias: shape (classes,). None: 0, or for the fixed weights what puts the middle of the box on
            the boundary.
        head: `"logits"`, `"softmax"`, or `"sigmoid"` (two classes in one unit).

    Returns:
        A built, uncompiled `keras.Sequential`.

    Example:
        >>> linear_model([[1.0, -1.0], [0.0, 2.0]]).output_shape
        (None, 2)
    """
    if weights is None:
        direction = np.sin(np.arange(1, FEATURES + 1)).astype("float32")
        weights = np.stack([-direction, direction], axis=1)
        bias = -weights.sum(axis=0) / 2 if bias is None else bias
    weights = np.asarray(weights, "float32")
    bias = np.zeros(weights.shape[1], "float32") if bias is None else np.asarray(bias, "float32")
    if head == "sigmoid":
        weights, bias = weights[:, 1:] - weights[:, :1], bias[1:] - bias[:1]
    activation = {"logits": "linear", "softmax": "softmax", "sigmoid": "sigmoid"}[head]
    dense = keras.layers.Dense(weights.shape[1], activation=activation)
    model = keras.Sequential([keras.Input((weights.shape[0],)), dense])
    dense.set_weights([weights, bias])
    return model


def linear_data(
    count: int = 32, features: int = FEATURES, seed: int = 0, model: keras.Model | None = None
) -> tuple[Array, Array]:
    """Random inputs and the classes that a model gives to them.

    Args:
        count: how many.
        features: how many numbers each has.
        seed: of the random numbers.
        model: the one whose classes are the labels. None: `linear_model()`.

    Returns:
        Inputs (count, features), float32 in [0, 1], and labels (count,), int64.

    Example:
        >>> x, labels = linear_data(4)
        >>> x.shape, labels.shape
        ((4, 12), (4,))
    """
    x = np.random.default_rng(seed).uniform(size=(count, features)).astype("float32")
    layer = (model or linear_model()).layers[-1]
    weights, bias = (np.asarray(values, "float64") for values in layer.get_weights())
    return x, (x @ weights + bias).argmax(axis=1)


def linear_extreme(
    gradient: Any, x0: Any, budget: Budget, box: tuple[float, float] = (0.0, 1.0)
) -> float:
    r"""The largest value of `gradient . (x - x0)` over budget and box, in float64, for one example.

    On a two-class linear model with `gradient = w_other - w_label` an input can be broken exactly
    where its margin plus this number is above zero. Written independently of `Budget.extreme`,
    element by element.

    $$
    \max_x \; \langle g,\, x - x_0 \rangle \quad \text{subject to} \quad \lVert x - x_0 \rVert \le
    \varepsilon\,(u - l), \quad l \le x \le u
    $$

    $g$ is `gradient`, $\varepsilon$ the budget, $l$ and $u$ are the ends of the box.

    Args:
        gradient: shape (features,).
        x0: shape (features,).
        budget: a limited ``Linf``, ``L2``, ``L1`` or ``L0``.
        box: the box; epsilon is in units of its range.

    Returns:
        The value, a float.

    Example:
        >>> linear_extreme([3.0, -4.0], [0.5, 0.5], L2(0.5))
        2.5
    """
    g, start = np.asarray(gradient, "float64").ravel(), np.asarray(x0, "float64").ravel()
    span = box[1] - box[0]
    room = np.where(g > 0, box[1] - start, start - box[0])
    g = np.abs(g)
    if isinstance(budget, Linf):
        return float(np.sum(g * np.minimum(room, budget.epsilon * span)))
    if isinstance(budget, L0):
        return float(np.sum(np.sort(g * room)[::-1][: int(budget.epsilon)]))
    left = budget.epsilon * span
    if isinstance(budget, L1):
        gain = 0.0
        for index in np.argsort(-g, kind="stable"):
            spent = min(left, room[index])
            gain, left = gain + g[index] * spent, left - spent
        return float(gain)
    if not isinstance(budget, L2):
        raise InvalidInput(f"no formula for {budget!r}")
    # min(s g, room) has length epsilon: the elements that saturate first are those with the
    # smallest room / g.
    with np.errstate(divide="ignore", invalid="ignore"):
        order = np.argsort(np.where(g > 0, room / g, np.inf))
    saturated = 0.0
    for place, index in enumerate(order):
        free = order[place:]
        slope = np.sum(g[free] ** 2)
        if slope == 0 or saturated >= left**2:
            break
        s = np.sqrt((left**2 - saturated) / slope)
        if s * g[index] <= room[index]:
            moved = room.copy()
            moved[free] = s * g[free]
            return float(np.sum(g * np.where(g > 0, moved, 0)))
        saturated += room[index] ** 2
    return float(np.sum(g * room))


def small_network(
    shape: tuple[int, ...] = (6, 6, 3), classes: int = 4, seed: int = 0
) -> keras.Model:
    """A small smooth convolutional network with fixed random weights, for tests.

    Args:
        shape: of one input, (height, width, channels).
        classes: how many.
        seed: of the weights.

    Returns:
        A built, uncompiled `keras.Sequential`: (n, height, width, channels) -> logits (n, classes).

    Example:
        >>> small_network().output_shape
        (None, 4)
    """
    generator = np.random.default_rng(seed)
    layers = [
        keras.layers.Conv2D(8, 3, padding="same", activation="tanh"),
        keras.layers.Flatten(),
        keras.layers.Dense(classes),
    ]
    model = keras.Sequential([keras.Input(shape), *layers])
    for layer in model.layers:
        values = [
            generator.normal(size=w.shape) * (2.0 / max(1, np.prod(w.shape[:-1]))) ** 0.5
            for w in layer.get_weights()
        ]
        layer.set_weights([value.astype("float32") for value in values])
    # No class is favoured: the mean logits of random inputs are taken off.
    sample = ops.convert_to_tensor(generator.uniform(size=(64, *shape)).astype("float32"))
    logits = np.asarray(_backend.to_numpy(model(sample, training=False)))
    kernel, bias = layers[-1].get_weights()
    layers[-1].set_weights([kernel, bias - logits.mean(axis=0)])
    return model
