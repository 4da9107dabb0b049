"""Shapes of batches: what every formula over examples needs, in ``keras.ops``."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from keras import ops

Tensor: TypeAlias = Any  # a tensor of whichever framework Keras runs on
Array: TypeAlias = np.ndarray[Any, Any]


def rows(values: Tensor, like: Tensor) -> Tensor:
    """Per-example ``values``, shape (batch,), with axes of length 1 added until they broadcast over
    ``like``.
    """
    return ops.reshape(values, (-1,) + (1,) * (len(like.shape) - 1))


def flat(x: Tensor) -> Tensor:
    """``x`` as (batch, elements)."""
    return ops.reshape(x, (-1, math.prod(x.shape[1:])))


def flattened(x: Array) -> Array:
    """A NumPy array as (n, elements), also if n is 0."""
    return x.reshape(len(x), math.prod(x.shape[1:]))


def axes(x: Tensor) -> tuple[int, ...]:
    """Every axis of ``x`` but the first."""
    return tuple(range(1, len(x.shape)))


def unit(gradient: Tensor, order: float = 2) -> Tensor:
    r"""`gradient` divided, example by example, by its norm of the given order; zero stays zero.

    $$ g / \lVert g \rVert_k $$

    $g$ is the gradient of one example and $k$ is `order`. The largest element is scaled to 1 first,
    so neither tiny nor huge gradients under- or overflow.

    Args:
        gradient: a tensor of shape (batch, ...).
        order: 1, 2 or `float("inf")`.

    Returns:
        A tensor of the same shape.

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> ops.convert_to_numpy(unit(np.array([[3.0, 4.0], [0.0, 0.0]], "float32")))
        array([[0.6, 0.8],
               [0. , 0. ]], dtype=float32)
    """
    gradient = ops.convert_to_tensor(gradient)
    largest = ops.max(ops.abs(flat(gradient)), axis=1)
    scaled = gradient / rows(ops.where(largest > 0, largest, 1), gradient)
    if order == math.inf:
        return scaled
    power = ops.abs if order == 1 else ops.square
    total = ops.sum(power(flat(scaled)), axis=1)
    size = total if order == 1 else ops.sqrt(total)
    return scaled / rows(ops.maximum(size, 1), gradient)
