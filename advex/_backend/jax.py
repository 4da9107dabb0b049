"""JAX: function transformations; a model's variables travel as arguments, so that they never become constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

RAGGED = False
TRACED = True


def value_and_gradient(function: Callable[[Any], tuple[Any, Any]], x: Any) -> tuple[Any, Any, Any]:
    def total(x: Any) -> tuple[Any, Any]:
        value, extra = function(x)
        return jnp.sum(value), (value, extra)

    (_, (value, extra)), gradient = jax.value_and_grad(total, has_aux=True)(x)
    return value, gradient, extra


def jacobian(function: Callable[[Any], tuple[Any, Any]], x: Any) -> tuple[Any, Any, Any]:
    values, pull, extra = jax.vjp(function, x, has_aux=True)
    seeds = jnp.repeat(jnp.eye(values.shape[1], dtype=values.dtype)[:, None], values.shape[0], axis=1)
    (found,) = jax.vmap(pull)(seeds)
    return values, jnp.moveaxis(found, 0, 1), extra


def gradients(function: Callable[..., Any], tensors: Sequence[Any]) -> list[Any]:
    found = jax.grad(lambda tensors: jnp.sum(function(*tensors)))(tuple(tensors))
    return list(found)


def compiled(
    function: Callable[..., Any], signature: Sequence[tuple[tuple[int | None, ...], str]], variables: Callable[[], list[Any]]
) -> Callable[..., Any]:
    owned = variables()

    @jax.jit
    def pure(values: list[Any], tensors: tuple[Any, ...]) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(owned, values, strict=True))):
            return function(*tensors)

    def call(*tensors: Any) -> Any:
        return pure([variable.value for variable in owned], tuple(map(jnp.asarray, tensors)))

    return call


def gather(tensor: Any, index: Any) -> Any:
    return jnp.take(tensor, index, axis=0)


def concatenate(tensors: Sequence[Any]) -> Any:
    return jnp.concatenate(tensors)


def accelerated() -> bool:
    return bool(jax.default_backend() != "cpu")


def immediate(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: function(jnp.asarray(x))  # operation by operation: nothing that was traced before takes part


def to_numpy(tensor: Any) -> np.ndarray[Any, Any]:
    if isinstance(tensor, jax.Array) and jax.dtypes.issubdtype(tensor.dtype, jax.dtypes.prng_key):
        tensor = jax.random.key_data(tensor)  # of a random key: NumPy does not know them
    return np.asarray(tensor)
