"""``gradients``: derivatives as symbolic tensors, which Keras 3 took away with ``K.gradients``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
from keras import KerasTensor, ops

from advex._settings import helpful, shown
from advex.errors import InvalidInput, InvalidType
from advex.graph.finding import lookup, reaching, where
from advex.graph.frozen import demand_live
from advex.graph.layer import Gradients, Plan
from advex.graph.program import WITHOUT_GRADIENT, Program, probed
from advex.graph.structures import filled, leaves, listed, symbols_of
from advex.graph.walk import Graph, Reading, Symbol, history, is_array, name

UNCONNECTED = ("error", "zero", "none")


@helpful
def gradients(
    loss: KerasTensor | Sequence[KerasTensor],
    variables: Symbol | Sequence[Symbol],
    *,
    unconnected: Literal["error", "zero", "none"] = "error",
) -> Any:
    """Symbolic gradients of the sum of ``loss`` with respect to each of ``variables``, as
    ``K.gradients`` was.

    When to use it:
        To bring code that used `K.gradients` to Keras 3, and for penalties on gradients inside a
        model.

    Args:
        loss: a ``KerasTensor`` of any shape, or several in a list; the sum of all is
            differentiated.
        variables: ``KerasTensor`` (an input of a model, the output of any layer, also inside a
            nested model) and ``keras.Variable`` (a weight): one, a list, or any nest of lists and
            dicts, such as ``model.input``. The loss may depend on further inputs, such as labels.
        unconnected: what to do about a variable that the loss does not depend on (a bias that drops
            out, say): "error" raises, "zero" gives zeros, and "none" gives ``None`` in its place,
            as ``K.gradients`` did.

    Returns:
        A list with one ``KerasTensor`` per variable, of the variable's shape and dtype; for a dict
        or nested lists, the same structure. They can be built on: used in a model, given to
        ``advex.function``, or differentiated again.

    Raises:
        InvalidInput: the loss is not computed from one of the variables; or it holds an array that
        came from variables and would
            never change.
        InvalidType: something other than symbolic tensors and variables was given.
        GradientUnavailable: when run, if no derivative reaches a variable, and ``unconnected`` is
        "error".

    Inside a ``keras.Model``, gradients run their part of the graph once more (see ``Gradients``);
    in ``advex.function`` there is one pass for everything.

    Example:
        >>> import advex, keras, numpy as np
        >>> x = keras.Input(shape=(2,))
        >>> (slope,) = advex.gradients(x**2, x)
        >>> run = advex.function([x], [slope])
        >>> run([np.array([[1.0, 3.0]])])
        [array([[2., 6.]], dtype=float32)]
    """
    losses = leaves([symbols_of(one) for one in listed(loss)])
    if unconnected not in UNCONNECTED:
        raise InvalidInput(
            f'unconnected must be "error", "zero" or "none"; received {shown(unconnected)}'
        )
    for one in losses:
        _demand_loss(one)
    structure = (
        variables
        if isinstance(variables, dict)
        else [symbols_of(thing) for thing in listed(variables)]
    )
    wanted = [_symbol(thing) for thing in leaves(structure)]
    graph = reaching(losses, [thing for thing in wanted if isinstance(thing, KerasTensor)])
    demand_live(
        graph,
        "the loss",
        [
            *graph.variables.values(),
            *(thing for thing in wanted if isinstance(thing, keras.Variable)),
        ],
    )

    known = dict(graph.variables)
    if any(isinstance(thing, keras.Variable) and id(thing) not in known for thing in wanted):
        known |= probed(Program(graph, graph.leaves, losses))[1]  # in a Lambda's closure, perhaps
    stand: dict[int, Symbol] = {}  # what is differentiated by, for each that was wanted
    for thing in wanted:
        found = known.get(id(thing)) if isinstance(thing, keras.Variable) else lookup(graph, thing)
        if found is None and unconnected == "error":
            raise InvalidInput(
                f"the loss does not depend on {name(thing)}, so it has no gradient with respect to"
                f" it.{_hint(thing)}"
            )
        if found is not None:
            stand[id(thing)] = found
    outputs = _made(
        graph, losses, list({id(thing): thing for thing in stand.values()}.values()), unconnected
    )
    answers = []
    for thing in wanted:
        answer = outputs.get(id(stand.get(id(thing))))
        if answer is None and unconnected == "zero":
            answer = ops.zeros_like(symbol(thing) if isinstance(thing, keras.Variable) else thing)
        answers.append(answer)
    return filled(structure, iter(answers))


def _made(
    graph: Graph, losses: list[KerasTensor], wanted: list[Symbol], unconnected: str
) -> dict[int, KerasTensor]:
    """A layer of gradients, called: its outputs by what they are gradients of."""
    tensors = [thing for thing in wanted if isinstance(thing, KerasTensor)]
    weights = [thing for thing in wanted if isinstance(thing, keras.Variable)]
    cut = [] if graph.opened else _cut(tensors, weights)
    rest = Graph(losses, [tensors[place] for place in cut], graph.opened)
    leaves = [leaf for leaf in rest.leaves if all(leaf is not tensors[place] for place in cut)]
    order = list(graph.variables)
    places = [
        order.index(id(weight)) if id(weight) in graph.variables else None for weight in weights
    ]
    mode = "error" if unconnected == "none" else unconnected

    def called(
        symbols: list[KerasTensor], variables: list[keras.Variable], spots: list[Any]
    ) -> list[KerasTensor]:
        layer = Gradients(spots, mode, cut)
        layer.prepare(
            Plan(
                losses,
                symbols,
                variables,
                mode,
                [*(symbols[place] for place in cut), *leaves],
                graph.opened,
            )
        )
        return layer(losses, [] if graph.opened else symbols, leaves)

    made = called(tensors, weights, places)
    if unconnected == "none":
        start = Graph(made)
        dead, _ = probed(Program(start, start.leaves, made))
        if dead:
            alive = [thing for thing in wanted if id(thing) not in dead]
            return _made(graph, losses, alive, "none") if alive else {}
    return {id(thing): output for thing, output in zip([*tensors, *weights], made, strict=True)}


def _cut(tensors: list[KerasTensor], weights: list[keras.Variable]) -> list[int]:
    """Which tensors a pass from the losses back may stop at: no derivative that is wanted comes
    from behind them.
    """
    before = [Graph([tensor]).tensors for tensor in tensors]
    first = [
        place
        for place, tensor in enumerate(tensors)
        if not any(id(other) in before[place] for other in tensors if other is not tensor)
    ]
    behind = Graph([tensors[place] for place in first]).variables
    return [] if any(id(weight) in behind for weight in weights) else first


def _demand_loss(loss: Any) -> None:
    if not isinstance(loss, KerasTensor):
        raise InvalidType(
            "loss must be a symbolic tensor computed from a model's inputs (keras.KerasTensor);"
            f" received {type(loss).__name__}. For plain arrays use the framework's own automatic"
            " differentiation; an expression of weights alone is an array already: write it with"
            " advex.symbol(weight)"
        )
    if not keras.backend.is_float_dtype(loss.dtype):
        raise InvalidInput(
            f"loss must be a floating-point tensor to have a gradient; received dtype {loss.dtype}"
        )


def _symbol(thing: Any) -> Symbol:
    """What stands for something that is to be differentiated by."""
    if (
        isinstance(thing, KerasTensor)
        and (node := history(thing)) is not None
        and isinstance(node.operation, Reading)
    ):
        thing = (
            node.operation.source if isinstance(node.operation.source, keras.Variable) else thing
        )
    if not isinstance(thing, KerasTensor | keras.Variable):
        raise InvalidType(
            "variables must be keras.KerasTensor or keras.Variable; received"
            f" {type(thing).__name__}: a model's input is model.input, a layer's weight is"
            " layer.kernel"
        )
    if not keras.backend.is_float_dtype(thing.dtype):
        raise InvalidInput(
            f"{name(thing)} has dtype {thing.dtype}: only floating-point variables have gradients"
        )
    return thing


def _hint(thing: Symbol) -> str:
    if isinstance(thing, keras.Variable):
        return f" {WITHOUT_GRADIENT}"
    return f" {where(thing)}"


@helpful
def symbol(variable: keras.Variable | Callable[[], Any]) -> KerasTensor:
    """A variable as a symbolic tensor: what is computed from it follows its value, where ``variable
    * 2`` is an array for ever.

    Args:
        variable: a weight of a layer, or any ``keras.Variable``; or a function without arguments
            that computes something from variables, such as ``lambda: sum(model.losses)``, which is
            called at each run.

    Returns:
        A ``KerasTensor`` of its shape and dtype, for losses and updates of ``advex.function`` and
        ``advex.gradients``. (A ``keras.Model`` cannot compute it: it takes only what comes from its
        inputs.)

    Raises:
        InvalidType: ``variable`` is neither.
        UserCodeError: the function failed.

    Example:
        >>> import advex, keras
        >>> weight = keras.Variable([1.0, -2.0])
        >>> penalty = keras.ops.sum(advex.symbol(weight) ** 2)
        >>> run = advex.function([], [penalty, *advex.gradients(penalty, weight)])
        >>> [value.tolist() for value in run([])]
        [5.0, [2.0, -4.0]]
    """
    if isinstance(variable, KerasTensor):
        return variable
    if not (isinstance(variable, keras.Variable) or callable(variable)):
        raise InvalidType(
            "symbol() takes a keras.Variable, such as layer.kernel, or a function, such as lambda:"
            " sum(model.losses); received"
            f" {type(variable).__name__}{': an array, computed when that line ran' if is_array(variable) else ''}"  # noqa: E501
        )
    reading = Reading(variable)
    return reading.symbolic_call()


@helpful
def jacobian(outputs: KerasTensor, variables: Symbol | Sequence[Symbol]) -> list[KerasTensor]:
    """Symbolic Jacobians: the gradients of each column of ``outputs``, from one forward pass.

    Args:
        outputs: a ``KerasTensor`` of shape (batch, k) with k known.
        variables: one, or a list, of ``KerasTensor`` and ``keras.Variable``.

    Returns:
        For a tensor of shape (batch, ...), each example's own: (batch, k, ...). For a variable, the
        sum over the batch: (k, ...).

    Raises:
        InvalidInput: ``outputs`` has another shape; and as ``gradients``.

    Example:
        >>> import advex, keras, numpy as np
        >>> x = keras.Input(shape=(2,))
        >>> (rows,) = advex.jacobian(keras.ops.stack([x[:, 0] * x[:, 1], x[:, 1]], axis=1), x)
        >>> advex.function([x], [rows])([np.array([[3.0, 5.0]])])[0].tolist()
        [[[5.0, 3.0], [0.0, 1.0]]]
    """
    _demand_loss(outputs)
    if len(outputs.shape) != 2 or outputs.shape[1] is None:
        raise InvalidInput(
            f"outputs must have the shape (batch, k) with k known; received {tuple(outputs.shape)}"
        )
    things = listed(variables)
    columns = [
        gradients(column, things, unconnected="zero")
        for column in ops.unstack(outputs, outputs.shape[1], axis=1)
    ]
    return [
        ops.stack(
            [column[place] for column in columns],
            axis=0 if isinstance(_symbol(thing), keras.Variable) else 1,
        )
        for place, thing in enumerate(things)
    ]


__all__ = ["gradients", "jacobian", "symbol"]
