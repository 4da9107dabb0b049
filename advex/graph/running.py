"""``function``: symbols in, a compiled function from arrays to arrays out, which Keras 3 took away
with ``K.function``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import KerasTensor, ops

from advex import _backend
from advex._arrays import Tensor
from advex._settings import helpful, shown
from advex.errors import InvalidInput, InvalidType, blaming
from advex.graph.derivative import gradients, symbol
from advex.graph.finding import called, way, where
from advex.graph.frozen import demand_live
from advex.graph.program import Program
from advex.graph.structures import (
    entries,
    filled,
    leaves,
    listed,
    results,
    spread,
    symbols_of,
    tensor_of,
)
from advex.graph.walk import Graph, is_array, name


class Change(NamedTuple):
    """A variable, and its new value: a symbol, something constant, or a function of the old
    value.
    """

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

    When to use it:
        To bring code of the Keras 2 era that used `K.function` to Keras 3, on every backend.
        Attacks do without it.

    All is computed in one forward pass: losses, activations, gradients and new values of variables
    belong to the same random draw, masks and states. What layers change while they run (batch
    statistics, seeds, the state of a recurrent layer) is kept.

    Args:
        inputs: what will be given: a ``KerasTensor``, or lists and dicts of them, such as
            ``model.input``; or a model.
        outputs: what will be returned: the same, and ``keras.Variable``; None stays None.
        updates: pairs (variable, new value), and what ``advex.updates`` makes. The new value is a
            symbol, a number or NumPy array, or a function of the old value, such as ``lambda old:
            old + 1``. ``variable - rate * slope``, and on JAX ``0.9 * variable + slope``, fail
            inside Keras: write ``ops.subtract(variable, rate * slope)``, or begin with
            ``advex.symbol(variable)``. Outputs and all new values are computed from the old values
            of the variables; then all are assigned, those of ``advex.updates`` last.
        training: whether layers run as in training: with dropout, noise, and statistics of the
            batch. What was said when a layer was called, ``layer(x, training=True)``, comes first.
            (But not ``training=False`` for dropout and noise, whose default it is: Keras keeps no
            record of who said it.)

    Returns:
        A function: ``run([array, ...])`` with arrays in the structure of ``inputs`` (a dict of
        arrays by the names of the inputs will do for a list; one input may be passed without a
        list) returns NumPy arrays in the structure of ``outputs``; a list of one for a single
        symbol. Tensors of the backend are taken as they are.

    Raises:
        InvalidInput: an output depends on an input that is not among ``inputs``, or on an array
        that came from variables and
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
    given, wanted = entries(inputs), results(outputs)
    symbols = leaves(given)
    changes, descents = _updates(updates)
    if not isinstance(training, bool | np.bool_):
        raise InvalidType(f"training must be True or False; received {shown(training)}")
    returned = [thing for thing in leaves(wanted) if thing is not None]
    news = [change.value for change in changes if isinstance(change.value, KerasTensor)]
    slopes = [slope for descent in descents for slope in descent.slopes]
    asked = [thing for thing in [*returned, *news, *slopes] if isinstance(thing, KerasTensor)]

    graph = _graph(asked, symbols)
    owned = [change.variable for change in changes]
    demand_live(graph, "an output or new value", [*graph.variables.values(), *owned])
    used = [place for place, tensor in enumerate(symbols) if id(tensor) in graph.tensors]
    program = Program(
        graph,
        [symbols[place] for place in used],
        list({id(tensor): tensor for tensor in asked}.values()),
    )
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
        fresh = [
            ops.convert_to_tensor(renewed(change) if change.live else valued(change.value, found))
            for change in changes
        ]
        return [valued(thing, found) for thing in returned], (
            fresh,
            [[found[id(s)] for s in d.slopes] for d in descents],
        )

    def settle(rest: Any) -> None:
        for change, fresh in zip(changes, rest[0], strict=True):
            new = ops.cast(fresh, change.variable.dtype)
            change.variable.assign(
                new if len(new.shape) else ops.broadcast_to(new, change.variable.shape)
            )
        for descent, found in zip(descents, rest[1], strict=True):
            _backend.descend(descent.optimizer, found, descent.weights)

    signature = [
        (tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype)) for tensor in symbols
    ]
    compiled = _backend.program(compute, settle, signature)

    def run(values: Any = ()) -> Any:
        arrays = zip(spread(given, values), symbols, signature, strict=True)
        made = iter(compiled(*(tensor_of(array, tensor, *what) for array, tensor, what in arrays)))
        return filled(
            wanted,
            iter(
                [
                    None if thing is None else np.array(_backend.to_numpy(next(made)))
                    for thing in leaves(wanted)
                ]
            ),
        )

    return run


def _updates(updates: Any) -> tuple[list[Change], list[Descent]]:
    changes, descents = [], []
    for item in (
        [] if updates is None else updates.items() if isinstance(updates, dict) else listed(updates)
    ):
        if isinstance(item, Descent):
            descents.append(item)
            continue
        if not (
            isinstance(item, tuple | list)
            and len(item) == 2
            and isinstance(item[0], keras.Variable)
        ):
            raise InvalidType(
                f"updates must be pairs (keras.Variable, new value), or from advex.updates;"
                f" received {shown(item)}"
            )
        changes.append(_change(*item))
    return changes, descents


def _change(variable: keras.Variable, new: Any) -> Change:
    if is_array(new):
        raise InvalidType(
            f"the new value of {variable.path!r} is an array: it was computed when that line ran,"
            " and would be the same at each run. Write it as a function of the old value,"
            " (variable, lambda old: old + 1), or with symbols, advex.symbol(variable) + 1; give a"
            " constant as a number or NumPy array"
        )
    live = callable(new) and not isinstance(new, KerasTensor | keras.Variable)
    if live:
        # With other symbols in it, or only with what can be asked again at each run? An array
        # beside the symbol, such as ``0.1 * other``, is an error on JAX, and one more reason to ask
        # again.
        with contextlib.suppress(Exception):
            made = new(symbol(variable))
            if isinstance(made, KerasTensor) and Graph([made]).leaves:
                new, live = made, False
    if not live:
        new = new if isinstance(new, KerasTensor | keras.Variable) else np.asarray(new)
        shape = tuple(new.shape)
        if shape and not (
            len(shape) == len(variable.shape)
            and all(a in (None, b) for a, b in zip(shape, variable.shape, strict=True))
        ):
            raise InvalidInput(
                f"the new value of {variable.path!r} has the shape {shape}, the variable"
                f" {tuple(variable.shape)}"
            )
    return Change(variable, new, live)


def _graph(asked: Sequence[KerasTensor], symbols: Sequence[KerasTensor]) -> Graph:
    """What is computed, from ``symbols`` alone."""
    graph = Graph(asked, symbols)
    given = {id(tensor) for tensor in symbols}
    if missing := [leaf for leaf in graph.leaves if id(leaf) not in given]:
        # inside a model that is used as a layer
        opened = [model for leaf in missing for model in way(called(symbols), leaf)]
        graph = Graph(
            asked,
            symbols,
            list({id(model.node): model for model in [*graph.opened, *opened]}.values()),
        )
        missing = [leaf for leaf in graph.leaves if id(leaf) not in given]
    if not missing:
        return graph
    raise InvalidInput(
        f"the outputs depend on {', '.join(map(name, missing))}, which is not among the inputs."
        f" {where(missing[0])}"
    )


@helpful
def updates(optimizer: Any, loss: Any, weights: Any) -> list[Any]:
    """One step of ``optimizer`` down ``loss``, for ``advex.function(..., updates=...)``: what
    ``get_updates`` was.

    Args:
        optimizer: a ``keras.optimizers.Optimizer``, with whatever it does: schedules, clipping,
            decay, averages, loss scale.
        loss: a symbolic loss of any shape (its sum counts), or several in a list.
        weights: the variables to be trained, such as ``model.trainable_weights``.

    Returns:
        A list, which can be joined with others: ``updates(...) + [(counter, lambda old: old +
        1)]``.

    Raises:
        InvalidInput: the loss does not depend on a weight; or the optimizer was built for other
            variables.
        InvalidType: ``optimizer`` is not one of Keras'.

    Example:
        >>> import advex, keras, numpy as np
        >>> x, y = keras.Input((1,)), keras.Input((1,))
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1,
        ...     kernel_initializer="zeros")])
        >>> loss = keras.ops.mean((model(x) - y) ** 2)
        >>> step = advex.updates(keras.optimizers.SGD(0.1), loss, model.trainable_weights)
        >>> run = advex.function([x, y], [loss], updates=step)
        >>> [round(float(run([np.ones((4, 1)), np.ones((4, 1))])[0]), 3) for _ in range(3)]
        [1.0, 0.36, 0.13]
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise InvalidType(
            f"optimizer must be a keras.optimizers.Optimizer, such as keras.optimizers.Adam(1e-3);"
            f" received {shown(optimizer)}"
        )
    owned = leaves(weights)
    if not optimizer.built:  # by now: an optimizer that scales the loss has a variable for it
        optimizer.build(owned)
    known = {id(variable) for variable in optimizer._trainable_variables}
    if strangers := [weight for weight in owned if id(weight) not in known]:
        raise InvalidInput(
            f"the optimizer was built for other variables, without {name(strangers[0])}: make one"
            " of its own for these, type(optimizer).from_config(optimizer.get_config())"
        )
    losses = [
        optimizer.scale_loss(one) for one in leaves([symbols_of(one) for one in listed(loss)])
    ]
    return [Descent(optimizer, gradients(losses, owned), owned)]


__all__ = ["function", "updates"]
