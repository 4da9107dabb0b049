"""``function``: symbols in, a compiled function from arrays to arrays out, which Keras 3 took away with ``K.function``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import KerasTensor, ops, tree

from advex import _backend
from advex._arrays import Tensor
from advex._settings import helpful, shown
from advex.errors import InvalidInput, InvalidType, blaming
from advex.graph.derivative import gradients, listed, symbol, symbols_of
from advex.graph.frozen import demand_live
from advex.graph.program import Program
from advex.graph.walk import Graph, called, is_array, name, way, where

PHASE = (
    "The learning phase is no longer an input: advex.function(inputs, outputs, training=True) runs layers as in training,"
    " training=False (the default) as in inference"
)


class Change(NamedTuple):
    """A variable, and its new value: a symbol, something constant, or a function of the old value."""

    variable: keras.Variable
    value: Any
    live: bool  # a function that is called at each run


class Descent(NamedTuple):
    """A step of an optimizer, from ``updates``."""

    optimizer: Any
    slopes: list[KerasTensor]
    weights: list[keras.Variable]


@helpful
def function(
    inputs: Any,
    outputs: Any,
    updates: Iterable[Any] | None = None,
    *,
    training: bool = False,
) -> Callable[..., Any]:
    """A compiled function from arrays to arrays, as ``K.function`` was.

    All is computed in one forward pass: losses, activations, gradients and new values of variables belong to the same random
    draw, masks and states. What layers change while they run (batch statistics, seeds, the state of a recurrent layer) is kept.

    Args:
        inputs: what will be given: a ``KerasTensor``, or lists and dicts of them, such as ``model.input``; or a model.
        outputs: what will be returned: the same, and ``keras.Variable``; None stays None.
        updates: pairs (variable, new value), and what ``advex.updates`` makes. The new value is a symbol, a number or NumPy
            array, or a function of the old value, such as ``lambda old: old + 1``. ``variable - rate * slope``, and on JAX
            ``0.9 * variable + slope``, fail inside Keras: write ``ops.subtract(variable, rate * slope)``, or begin with
            ``advex.symbol(variable)``. Outputs and all new values are computed from the old values of the variables; then all are
            assigned, those of ``advex.updates`` last.
        training: whether layers run as in training: with dropout, noise, and statistics of the batch. What was said when a layer
            was called, ``layer(x, training=True)``, comes first.

    Returns:
        A function: ``run([array, ...])`` with arrays in the structure of ``inputs`` (a dict of arrays by the names of the inputs
        will do for a list; one input may be passed without a list) returns NumPy arrays in the structure of ``outputs``; a list
        of one for a single symbol. Tensors of the backend are taken as they are.

    Raises:
        InvalidInput: an output depends on an input that is not among ``inputs``, or on an array that came from variables and
            would never change; at the call: wrong number or shape of arrays.
        InvalidType: something other than symbols was given.

    Example:
        >>> import advex, keras, numpy as np
        >>> x = keras.Input(shape=())
        >>> y = x**2 + 2
        >>> run = advex.function([x], [y, *advex.gradients(y, x)])
        >>> [values.tolist() for values in run([np.array([1.0, 3.0])])]
        [[3.0, 11.0], [2.0, 6.0]]
    """
    given = _inputs(inputs)
    symbols = tree.flatten(given)
    wanted = _outputs(outputs)
    changes, descents = _updates(updates)
    if not isinstance(training, bool | np.bool_):
        raise InvalidType(f"training must be True or False; received {shown(training)}")
    results = [thing for thing in tree.flatten(wanted) if thing is not None]
    news = [change.value for change in changes if isinstance(change.value, KerasTensor)]
    slopes = [slope for descent in descents for slope in descent.slopes]
    asked = [thing for thing in [*results, *news, *slopes] if isinstance(thing, KerasTensor)]

    graph = _graph(asked, symbols)
    owned = [change.variable for change in changes]
    demand_live(graph, "an output or new value", [*graph.variables.values(), *owned])
    used = [place for place, tensor in enumerate(symbols) if id(tensor) in graph.tensors]
    program = Program(graph, [symbols[place] for place in used], list({id(tensor): tensor for tensor in asked}.values()))
    mode = bool(training)

    def valued(thing: Any, found: dict[int, Tensor]) -> Tensor:
        if isinstance(thing, KerasTensor):
            return found[id(thing)]
        return ops.copy(thing) if isinstance(thing, keras.Variable) else thing

    def renewed(change: Change) -> Tensor:
        with blaming(f"the new value of {change.variable.path!r} in updates"):
            return change.value(ops.copy(change.variable))

    def compute(*tensors: Tensor) -> tuple[list[Tensor], Any]:
        values = program([tensors[place] for place in used], mode) if asked else []
        found = {id(tensor): value for tensor, value in zip(program.asked, values, strict=True)}
        fresh = [ops.convert_to_tensor(renewed(change) if change.live else valued(change.value, found)) for change in changes]
        return [valued(thing, found) for thing in results], (fresh, [[found[id(s)] for s in d.slopes] for d in descents])

    def settle(rest: Any) -> None:
        for change, fresh in zip(changes, rest[0], strict=True):
            new = ops.cast(fresh, change.variable.dtype)
            change.variable.assign(new if len(new.shape) else ops.broadcast_to(new, change.variable.shape))
        for descent, found in zip(descents, rest[1], strict=True):
            _backend.descend(descent.optimizer, found, descent.weights)

    signature = [(tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype)) for tensor in symbols]
    compiled = _backend.program(compute, settle, signature)

    def run(values: Any = ()) -> Any:
        tensors = [
            _tensor(array, tensor, *what) for array, tensor, what in zip(_spread(given, values), symbols, signature, strict=True)
        ]
        made = iter([np.array(_backend.to_numpy(found)) for found in compiled(*tensors)])
        return tree.map_structure(lambda thing: None if thing is None else next(made), wanted, none_is_leaf=True)

    return run


def _inputs(inputs: Any) -> Any:
    """The structure of what will be given: symbols in lists and dicts, or one alone."""
    if isinstance(inputs, keras.Model):
        inputs = inputs.input if isinstance(inputs, keras.Function) else symbols_of(inputs) and inputs.inputs
    structure = list(inputs) if isinstance(inputs, tuple) else inputs
    for thing in tree.flatten(structure):
        if isinstance(thing, bool | int | np.integer | np.bool_) or (
            (is_array(thing) or isinstance(thing, np.ndarray)) and not len(thing.shape)
        ):
            raise InvalidType(f"inputs must be symbolic tensors such as model.input; received {shown(thing)}. {PHASE}")
        if not isinstance(thing, KerasTensor):
            raise InvalidType(f"inputs must be symbolic tensors such as model.input; received {type(thing).__name__}")
    return structure


def _outputs(outputs: Any) -> Any:
    """The structure of what will be returned, a list at the top unless it is a dict."""
    outputs = symbols_of(outputs)
    structure = outputs if isinstance(outputs, dict) else [symbols_of(thing) for thing in listed(outputs)]
    for thing in tree.flatten(structure):
        if thing is not None and not isinstance(thing, KerasTensor | keras.Variable):
            raise InvalidType(
                f"outputs must be keras.KerasTensor or keras.Variable; received {type(thing).__name__}{_frozen(thing)}"
            )
    return structure


def _frozen(thing: Any) -> str:
    if not is_array(thing):
        return ""
    return (
        ", an array: it was computed when that line ran and would never change. Begin it with a symbol: advex.symbol(variable)"
        " instead of variable, model(model.input) instead of model(array)"
    )


def _updates(updates: Any) -> tuple[list[Change], list[Descent]]:
    changes, descents = [], []
    for item in [] if updates is None else updates.items() if isinstance(updates, dict) else listed(updates):
        if isinstance(item, Descent):
            descents.append(item)
            continue
        if not (isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], keras.Variable)):
            raise InvalidType(f"updates must be pairs (keras.Variable, new value), or from advex.updates; received {shown(item)}")
        changes.append(_change(*item))
    return changes, descents


def _change(variable: keras.Variable, new: Any) -> Change:
    if is_array(new):
        raise InvalidType(
            f"the new value of {variable.path!r} is an array: it was computed when that line ran, and would be the same at each"
            f" run. Write it as a function of the old value, ({variable.name}, lambda old: old + 1), or with symbols,"
            f" advex.symbol({variable.name}) + 1; give a constant as a number or NumPy array"
        )
    live = callable(new) and not isinstance(new, KerasTensor | keras.Variable)
    if live:
        # With other symbols in it, or only with what can be asked again at each run? An array beside the symbol, such as
        # ``0.1 * other``, is an error on JAX, and one more reason to ask again.
        with contextlib.suppress(Exception):
            made = new(symbol(variable))
            if isinstance(made, KerasTensor) and Graph([made]).leaves:
                new, live = made, False
    if not live:
        new = new if isinstance(new, KerasTensor | keras.Variable) else np.asarray(new)
        shape = tuple(new.shape)
        if shape and not (
            len(shape) == len(variable.shape) and all(a in (None, b) for a, b in zip(shape, variable.shape, strict=True))
        ):
            raise InvalidInput(f"the new value of {variable.path!r} has the shape {shape}, the variable {tuple(variable.shape)}")
    return Change(variable, new, live)


def _graph(asked: Sequence[KerasTensor], symbols: Sequence[KerasTensor]) -> Graph:
    """What is computed, from ``symbols`` alone."""
    graph = Graph(asked, symbols)
    given = {id(tensor) for tensor in symbols}
    if missing := [leaf for leaf in graph.leaves if id(leaf) not in given]:
        opened = [model for leaf in missing for model in way(called(symbols), leaf)]  # inside a model that is used as a layer
        graph = Graph(asked, symbols, list({id(model.node): model for model in [*graph.opened, *opened]}.values()))
        missing = [leaf for leaf in graph.leaves if id(leaf) not in given]
    if not missing:
        return graph
    raise InvalidInput(
        f"the outputs depend on {', '.join(map(name, missing))}, which is not among the inputs. {where(missing[0])}"
    )


def _tensor(array: Any, tensor: KerasTensor, shape: tuple[int | None, ...], dtype: str) -> Tensor:
    """An array that was given, as the backend wants it."""
    if not ops.is_tensor(array) or keras.backend.standardize_dtype(array.dtype) != dtype:
        array = np.asarray(_backend.to_numpy(array)).astype(dtype)
    fits = len(array.shape) == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits:
        raise InvalidInput(f"{name(tensor)} received an array of shape {tuple(array.shape)}")
    return array if is_array(array) else _backend.given(array)


def _spread(given: Any, values: Any) -> list[Any]:
    """The arrays, one for each symbol of ``given``."""
    if isinstance(given, KerasTensor):
        if isinstance(values, dict) and given.name in values:
            return [values[given.name]]
        if isinstance(values, list | tuple) and len(values) != 1:
            raise InvalidInput(f"this function takes 1 arrays; received {len(values)}")
        return list(values) if isinstance(values, list | tuple) else [values]
    if isinstance(given, dict):
        if not isinstance(values, dict) or (missing := [key for key in given if key not in values]):
            lacking = f"without {', '.join(map(repr, missing))}" if isinstance(values, dict) else f"a {type(values).__name__}"
            raise InvalidInput(f"this function takes a dict with {', '.join(map(repr, given))}; received {lacking}")
        return [array for key in sorted(given) for array in _spread(given[key], values[key])]
    if isinstance(values, dict):
        names = [thing.name if isinstance(thing, KerasTensor) else None for thing in given]
        if missing := [label for label in names if label not in values]:
            raise InvalidInput(f"this function takes {', '.join(map(repr, names))}; received none for {missing[0]!r}")
        return [values[label] for label in names]
    arrays = list(values) if isinstance(values, list | tuple) else [values]
    if len(arrays) != len(given):
        raise InvalidInput(f"this function takes {len(given)} arrays; received {len(arrays)}")
    return [leaf for part, array in zip(given, arrays, strict=True) for leaf in _part(part, array)]


def _part(part: Any, array: Any) -> list[Any]:
    return [array] if isinstance(part, KerasTensor) else _spread(part, array)


@helpful
def updates(optimizer: Any, loss: Any, weights: Any) -> list[Any]:
    """One step of ``optimizer`` down ``loss``, for ``advex.function(..., updates=...)``: what ``get_updates`` was.

    Args:
        optimizer: a ``keras.optimizers.Optimizer``, with whatever it does: schedules, clipping, decay, averages, loss scale.
        loss: a symbolic loss of any shape (its sum counts), or several in a list.
        weights: the variables to be trained, such as ``model.trainable_weights``.

    Returns:
        A list, which can be joined with others: ``updates(...) + [(counter, lambda old: old + 1)]``.

    Raises:
        InvalidInput: the loss does not depend on a weight; or the optimizer was built for other variables.
        InvalidType: ``optimizer`` is not one of Keras'.

    Example:
        >>> import advex, keras, numpy as np
        >>> x, y = keras.Input((1,)), keras.Input((1,))
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")])
        >>> loss = keras.ops.mean((model(x) - y) ** 2)
        >>> step = advex.updates(keras.optimizers.SGD(0.1), loss, model.trainable_weights)
        >>> run = advex.function([x, y], [loss], updates=step)
        >>> [round(float(run([np.ones((4, 1)), np.ones((4, 1))])[0]), 3) for _ in range(3)]
        [1.0, 0.36, 0.13]
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise InvalidType(
            f"optimizer must be a keras.optimizers.Optimizer, such as keras.optimizers.Adam(1e-3); received {shown(optimizer)}"
        )
    owned = listed(weights)
    losses = [optimizer.scale_loss(one) for one in tree.flatten([symbols_of(one) for one in listed(loss)])]
    slopes = gradients(losses, owned)
    if not optimizer.built:
        optimizer.build(owned)
    known = {id(variable) for variable in optimizer._trainable_variables}
    if strangers := [weight for weight in owned if id(weight) not in known]:
        raise InvalidInput(
            f"the optimizer was built for other variables, without {name(strangers[0])}: make one of its own for these,"
            f" type(optimizer).from_config(optimizer.get_config())"
        )
    return [Descent(optimizer, slopes, owned)]


__all__ = ["function", "updates"]
