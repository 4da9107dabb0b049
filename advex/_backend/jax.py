"""JAX: function transformations; a model's variables travel as arguments, so that they never become
constants.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import keras
import numpy as np

from advex._backend.scope import Group, Run, Scope

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
    seeds = jnp.repeat(
        jnp.eye(values.shape[1], dtype=values.dtype)[:, None], values.shape[0], axis=1
    )
    (found,) = jax.vmap(pull)(seeds)
    return values, jnp.moveaxis(found, 0, 1), extra


def differentiate(
    run: Run, groups: Sequence[Group], variables: Mapping[int, Any], known: Mapping[int, Any]
) -> tuple[dict[int, Any], list[dict[int, Any]]]:
    changed: dict[int, Any] = {}
    places = {key: (tensor.shape, tensor.dtype) for key, tensor in known.items()}

    def body(points: dict[int, Any], losses: Sequence[int]) -> tuple[Any, Any]:
        """The sum of some losses, and all that was computed: ``points`` are values of variables,
        and zeros added to tensors.
        """

        def tap(key: int, value: Any) -> Any:
            places[key] = (value.shape, value.dtype)
            return value + points[key] if key in points else value

        with Scope() as scope:
            for key, variable in variables.items():
                if key in points:
                    scope.state_mapping[id(variable)] = points[key]
            values = run(tap)
        changed.update(scope.changed)
        total = sum(jnp.sum(values[loss]) for loss in losses)
        return total, (values, {key: scope.state_mapping[key] for key in scope.changed})

    def pulled(points: dict[int, Any], losses: Sequence[int]) -> tuple[Any, Any]:
        total, pull, rest = jax.vjp(lambda points: body(points, losses), points, has_aux=True)
        return pull(jnp.ones_like(total))[0], rest

    if not all(key in places or key in variables for _, keys in groups for key in keys):
        jax.eval_shape(lambda: body({}, ()))  # how large are the tensors inside?
    values, state, found = {}, {}, []
    for number, (losses, keys) in enumerate(groups):
        points = {
            key: variables[key].value if key in variables else jnp.zeros(*places[key])
            for key in keys
        }
        trace, shapes = jax.make_jaxpr(functools.partial(pulled, losses=losses), return_shape=True)(
            points
        )
        flat = jax.extend.core.jaxpr_as_fun(trace)(*jax.tree.leaves(points))
        slopes, rest = jax.tree.unflatten(jax.tree.structure(shapes), flat)
        dead = jax.tree.unflatten(jax.tree.structure(points), _untouched(trace.jaxpr, len(points)))
        found.append({key: None if dead[key] else slopes[key] for key in keys})
        if number == 0:
            values, state = rest
    for (
        key,
        value,
    ) in state.items():  # by now: each group starts from the same state, and draws alike
        changed[key].assign(value)
    return values, found


def _untouched(jaxpr: Any, count: int) -> list[bool]:
    """Which of the first results are zeros that JAX put where no derivative came through."""
    makers = {id(out): equation for equation in jaxpr.eqns for out in equation.outvars}

    def empty(variable: Any) -> bool:
        if hasattr(variable, "val"):
            return not np.any(variable.val)
        maker = makers.get(id(variable))
        return (
            maker is not None
            and maker.primitive.name == "broadcast_in_dim"
            and empty(maker.invars[0])
        )

    return [empty(variable) for variable in jaxpr.outvars[:count]]


def weight_slopes(function: Callable[[], Any], weights: Sequence[Any]) -> list[Any]:
    def total(values: list[Any]) -> Any:
        with Scope(list(zip(weights, values, strict=True))):
            return function()

    slopes: list[Any] = jax.grad(total)([weight.value for weight in weights])
    return slopes


def both_slopes(
    function: Callable[[Any], tuple[Any, Any]], weights: Sequence[Any], x: Any
) -> tuple[Any, Any, list[Any]]:
    changed: dict[int, Any] = {}

    def total(x: Any, values: list[Any]) -> tuple[Any, Any]:
        with Scope(list(zip(weights, values, strict=True))) as scope:
            value, extra = function(x)
        changed.update(scope.changed)
        return value, (extra, {key: scope.state_mapping[key] for key in scope.changed})

    slopes, (extra, state) = jax.grad(total, argnums=(0, 1), has_aux=True)(
        x, [weight.value for weight in weights]
    )
    for key, value in state.items():
        changed[key].assign(value)
    return extra, *slopes


def compiled(
    function: Callable[..., Any],
    signature: Sequence[tuple[tuple[int | None, ...], str]],
    variables: Callable[[], list[Any]],
) -> Callable[..., Any]:
    owned = variables()

    @jax.jit
    def pure(values: list[Any], tensors: tuple[Any, ...]) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(owned, values, strict=True))):
            return function(*tensors)

    def call(*tensors: Any) -> Any:
        return pure([variable.value for variable in owned], tuple(map(jnp.asarray, tensors)))

    return call


def program(
    compute: Callable[..., tuple[Any, Any]],
    settle: Callable[[Any], None],
    signature: Sequence[tuple[tuple[int | None, ...], str]],
) -> Callable[..., Any]:
    owned: list[
        Any
    ] = []  # all variables that are read or assigned, in closures, too: they travel as arguments
    missing: dict[int, Any] = {}

    def pure(values: list[Any], tensors: tuple[Any, ...]) -> tuple[Any, dict[int, Any]]:
        with Scope(list(zip(owned, values, strict=True))) as scope:
            answer, rest = compute(*tensors)
            settle(rest)
        places = {id(variable): place for place, variable in enumerate(owned)}
        missing.update(
            {
                key: variable
                for key, variable in (scope.read | scope.changed).items()
                if key not in places
            }
        )
        return answer, {
            places[key]: scope.state_mapping[key] for key in scope.changed if key in places
        }

    quick = jax.jit(pure)

    def call(*tensors: Any) -> Any:
        while True:
            values = [variable.value for variable in owned]
            if not owned:
                jax.eval_shape(pure, values, tensors)
            if not missing:
                answer, changes = quick(values, tensors)
            if not missing:
                break
            owned.extend(missing.values())
            missing.clear()
        for place, value in changes.items():
            owned[place].assign(value)
        return answer

    return call


def gather(tensor: Any, index: Any) -> Any:
    if accelerated():
        return jnp.take(tensor, index, axis=0)
    # In the same memory, and nothing is compiled for each new size.
    return jnp.asarray(np.take(np.asarray(tensor), index, axis=0))


def concatenate(tensors: Sequence[Any]) -> Any:
    if accelerated():
        return jnp.concatenate(tensors)
    return jnp.asarray(np.concatenate([np.asarray(tensor) for tensor in tensors]))


def descend(optimizer: Any, slopes: Sequence[Any], weights: Sequence[Any]) -> None:
    if [id(weight) for weight in weights] != [
        id(weight) for weight in optimizer._trainable_variables
    ]:
        optimizer.apply(slopes, weights)  # of only some of its variables
        return
    # Some optimizers, such as that of mixed precision, can be traced only so.
    held = [*weights, *optimizer.variables]
    values = [variable.value for variable in held]
    news, slots = optimizer.stateless_apply(
        values[len(weights) :], list(slopes), values[: len(weights)]
    )
    for variable, value in zip(held, [*news, *slots], strict=True):
        variable.assign(value)


def given(array: np.ndarray[Any, Any]) -> Any:
    return array  # a compiled function takes it quicker than it is made a tensor


def accelerated() -> bool:
    return bool(jax.default_backend() != "cpu")


def immediate(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    # operation by operation: nothing that was traced before takes part
    return lambda x: function(jax.tree.map(jnp.asarray, x))


def to_numpy(tensor: Any) -> np.ndarray[Any, Any]:
    if isinstance(tensor, jax.Array) and jax.dtypes.issubdtype(tensor.dtype, jax.dtypes.prng_key):
        tensor = jax.random.key_data(tensor)  # of a random key: NumPy does not know them
    return np.asarray(tensor)


def float64() -> contextlib.AbstractContextManager[None]:
    context: contextlib.AbstractContextManager[None] = jax.enable_x64(True)
    return context


def on_host(function: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], x: Any) -> Any:
    shape, bits = jax.ShapeDtypeStruct((x.shape[0],), bool), x
    if x.dtype == np.float64:  # a callback is handed float32 else
        bits = jax.lax.bitcast_convert_type(x, np.uint32)

    def call(values: Any) -> np.ndarray[Any, Any]:
        made = np.ascontiguousarray(values)
        return function(made.view("float64")[..., 0] if bits is not x else made)

    return jax.pure_callback(call, shape, bits)


def normal(keys: Any, shape: tuple[int, ...]) -> Any:
    def drawn(key: Any) -> Any:  # whatever generator the user has made the default
        own = jax.random.wrap_key_data(key.astype("uint32"), impl="threefry2x32")
        return jax.random.normal(own, shape, "float32")

    return jax.vmap(drawn)(keys)
