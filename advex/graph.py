"""``K.gradients`` and ``K.function``, which Keras 3 removed: symbolic gradients, and compiled functions of symbols."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import KerasTensor, ops, tree

from advex import _backend
from advex._arrays import Array, Tensor
from advex._settings import helpful
from advex.errors import GradientUnavailable, InvalidInput, InvalidType

Symbol: TypeAlias = Any  # a keras.KerasTensor or a keras.Variable


def _listed(things: Any) -> list[Any]:
    return list(things) if isinstance(things, list | tuple) else [things]


def _history(tensor: KerasTensor) -> Any:
    """The node that made ``tensor``, or None for a tensor that nothing made."""
    history = getattr(tensor, "_keras_history", None)
    if history is None or history.operation is None:
        return None
    return history.operation._inbound_nodes[history.node_index]


def _inside(node: Any) -> Iterable[keras.Variable]:
    """The variables that one node of a graph reads."""
    yield from getattr(node.operation, "variables", [])
    for argument in tree.flatten([node.arguments.args, node.arguments.kwargs]):
        if isinstance(argument, keras.Variable):
            yield argument


class _Ancestry:
    """All that some symbolic tensors are computed from, not looking behind the tensors in ``stop``."""

    def __init__(self, outputs: Sequence[KerasTensor], stop: Sequence[KerasTensor] = ()) -> None:
        self.tensors: dict[int, KerasTensor] = {}
        self.leaves: list[KerasTensor] = []
        self.variables: dict[int, keras.Variable] = {}
        stopped = {id(tensor) for tensor in stop}
        waiting = list(outputs)
        while waiting:
            tensor = waiting.pop()
            if id(tensor) in self.tensors:
                continue
            self.tensors[id(tensor)] = tensor
            if id(tensor) in stopped:
                continue
            node = _history(tensor)
            if node is None or node.is_input:
                self.leaves.append(tensor)
                continue
            self.variables |= {id(variable): variable for variable in _inside(node)}
            waiting.extend(node.input_tensors)


def _name(symbol: Any) -> str:
    node = _history(symbol) if isinstance(symbol, KerasTensor) else None
    maker = f", made by {node.operation.name!r}" if node is not None and not node.is_input else ""
    return f"{getattr(symbol, 'path', None) or getattr(symbol, 'name', symbol)!r} (shape {tuple(symbol.shape)}{maker})"


class _Gradients(keras.Operation):
    """One graph operation: the gradients of the sum of ``loss`` with respect to some tensors and some variables."""

    def __init__(self, loss: KerasTensor, tensors: Sequence[KerasTensor], variables: Sequence[keras.Variable]) -> None:
        super().__init__()
        ancestry = _Ancestry([loss], stop=tensors)
        self._tensors, self._watched = list(tensors), list(variables)
        self._inputs = [*tensors, *ancestry.leaves]
        self._read = list(ancestry.variables.values())
        self._function = keras.Function(self._inputs, loss)

    @property
    def variables(self) -> list[keras.Variable]:
        return self._read

    @property
    def graph_inputs(self) -> list[KerasTensor]:
        return self._inputs

    def compute_output_spec(self, *values: Tensor) -> list[KerasTensor]:
        like = [*values[: len(self._tensors)], *self._watched]
        return [KerasTensor(symbol.shape, dtype=symbol.dtype) for symbol in like]

    def call(self, *values: Tensor) -> list[Tensor]:
        count = len(self._tensors)
        # All variables are pinned, not only the watched: inside this scope what an enclosing one says would be forgotten.
        pinned = [(variable, variable.value) for variable in self._read]

        def loss(*points: Tensor) -> Tensor:
            mapping = [*pinned, *zip(self._watched, points[count:], strict=True)]
            with keras.StatelessScope(state_mapping=mapping):
                return self._function([*points[:count], *values[count:]])

        points = [ops.convert_to_tensor(value) for value in values[:count]]
        points += [ops.convert_to_tensor(variable.value) for variable in self._watched]
        found = _backend.gradients(loss, points)
        for gradient, symbol in zip(found, [*self._tensors, *self._watched], strict=True):
            if gradient is None:
                raise GradientUnavailable(
                    f"the loss has no gradient with respect to {_name(symbol)}: something between them is not"
                    " differentiable (rounding, argmax, a look-up, a cast to integers)"
                )
        return found


def _groups(tensors: Sequence[KerasTensor]) -> list[list[KerasTensor]]:
    """``tensors`` in groups inside which none is computed from another, so that each group can be cut at once."""
    groups: list[list[KerasTensor]] = []
    for tensor in tensors:
        for group in groups:
            related = any(id(tensor) in _Ancestry([other]).tensors or id(other) in _Ancestry([tensor]).tensors for other in group)
            if not related:
                group.append(tensor)
                break
        else:
            groups.append([tensor])
    return groups


@helpful
def gradients(loss: KerasTensor, variables: Symbol | Sequence[Symbol]) -> list[KerasTensor]:
    """Symbolic gradients of the sum of ``loss`` with respect to each of ``variables``, as ``K.gradients`` was.

    Args:
        loss: a ``KerasTensor`` of any shape; its sum is differentiated.
        variables: one, or a list, of ``KerasTensor`` (an input of a model, the output of any layer) and ``keras.Variable``
            (a weight). The loss may depend on further inputs, such as labels.

    Returns:
        A list with one ``KerasTensor`` per variable, of the variable's shape. They can be built on: used in a model, given to
        ``advex.function``, or differentiated again.

    Raises:
        InvalidInput: the loss does not depend on one of the variables.
        InvalidType: something else than symbolic tensors and variables was given.
        GradientUnavailable: when run, if something on the way is not differentiable.

    Example:
        >>> import keras, numpy as np
        >>> x = keras.Input(shape=(2,))
        >>> (slope,) = gradients(x**2, x)
        >>> run = function([x], [slope])
        >>> run([np.array([[1.0, 3.0]])])
        [array([[2., 6.]], dtype=float32)]
    """
    if not isinstance(loss, KerasTensor):
        raise InvalidType(
            f"loss must be a symbolic tensor computed from a model's inputs (keras.KerasTensor); received {type(loss).__name__}."
            " For plain arrays use the framework's own automatic differentiation"
        )
    wanted = _listed(variables)
    if not keras.backend.is_float_dtype(loss.dtype):
        raise InvalidInput(f"loss must be a floating-point tensor to have a gradient; received dtype {loss.dtype}")
    ancestry = _Ancestry([loss])
    for symbol in wanted:
        if isinstance(symbol, KerasTensor):
            known = id(symbol) in ancestry.tensors
        elif isinstance(symbol, keras.Variable):
            known = id(symbol) in ancestry.variables
        else:
            raise InvalidType(
                f"variables must be keras.KerasTensor or keras.Variable; received {type(symbol).__name__}: a model's input is"
                " model.input, a layer's weight is layer.kernel"
            )
        if not known:
            raise InvalidInput(f"the loss does not depend on {_name(symbol)}, so it has no gradient with respect to it")
        if not keras.backend.is_float_dtype(symbol.dtype):
            raise InvalidInput(f"{_name(symbol)} has dtype {symbol.dtype}: only floating-point variables have gradients")

    found: dict[int, KerasTensor] = {}
    tensors = list({id(symbol): symbol for symbol in wanted if isinstance(symbol, KerasTensor)}.values())
    weights = list({id(symbol): symbol for symbol in wanted if isinstance(symbol, keras.Variable)}.values())
    groups: list[tuple[list[KerasTensor], list[keras.Variable]]] = [(group, []) for group in _groups(tensors)]
    if weights:  # apart from the tensors: cutting the graph at a tensor would hide the weights behind it
        groups.append(([], weights))
    for group, watched in groups:
        operation = _Gradients(loss, group, watched)
        outputs = operation(*operation.graph_inputs)
        found |= {id(symbol): output for symbol, output in zip([*group, *watched], outputs, strict=True)}
    return [found[id(symbol)] for symbol in wanted]


@helpful
def function(
    inputs: KerasTensor | Sequence[KerasTensor],
    outputs: Symbol | Sequence[Symbol],
    updates: Sequence[tuple[keras.Variable, Any]] | None = None,
) -> Callable[..., list[Array]]:
    """A compiled function from arrays to arrays, as ``K.function`` was.

    Args:
        inputs: the ``KerasTensor`` or list of them whose values will be given.
        outputs: the ``KerasTensor`` or ``keras.Variable``, or list of them, whose values will be returned.
        updates: pairs (variable, new value): after each run the variable is assigned the new value, a ``KerasTensor``,
            variable or constant. Outputs and all new values are computed from the old values of the variables.

    Returns:
        A function: ``run([array, ...])``, or ``run(array)`` for a single input, returns a list of NumPy arrays, one per
        output. Layers run in inference mode, so dropout is off and batch statistics stay as they are.

    Raises:
        InvalidInput: an output depends on an input that is not among ``inputs``; at the call: wrong number or shape of arrays.

    Example:
        >>> import keras, numpy as np
        >>> x = keras.Input(shape=())
        >>> y = x**2 + 2
        >>> run = function([x], [y, *gradients(y, x)])
        >>> [values.tolist() for values in run([np.array([1.0, 3.0])])]
        [[3.0, 11.0], [2.0, 6.0]]
    """
    symbols, results = _listed(inputs), _listed(outputs)
    changes = list(updates or [])
    for symbol in symbols:
        if not isinstance(symbol, KerasTensor):
            raise InvalidType(f"inputs must be symbolic tensors such as model.input; received {type(symbol).__name__}")
    for symbol in results:
        if not isinstance(symbol, KerasTensor | keras.Variable):
            raise InvalidType(f"outputs must be keras.KerasTensor or keras.Variable; received {type(symbol).__name__}")
    for change in changes:
        if not (isinstance(change, tuple | list) and len(change) == 2 and isinstance(change[0], keras.Variable)):
            raise InvalidType(f"updates must be pairs (keras.Variable, new value); received {change!r}")
    asked = [*results, *(value for _, value in changes)]
    symbolic = [symbol for symbol in asked if isinstance(symbol, KerasTensor)]
    ancestry = _Ancestry(symbolic, stop=symbols)
    given = {id(symbol) for symbol in symbols}
    if missing := [leaf for leaf in ancestry.leaves if id(leaf) not in given]:
        raise InvalidInput(f"the outputs depend on {', '.join(map(_name, missing))}, which is not among the inputs")
    used = [index for index, symbol in enumerate(symbols) if id(symbol) in ancestry.tensors]
    graph = keras.Function([symbols[index] for index in used], symbolic) if symbolic else None
    read = dict(ancestry.variables) | {id(value): value for value in asked if isinstance(value, keras.Variable)}

    def evaluate(*tensors: Tensor) -> list[Tensor]:
        values = iter(graph([tensors[index] for index in used]) if graph is not None else [])
        return [next(values) if isinstance(symbol, KerasTensor) else ops.convert_to_tensor(symbol) for symbol in asked]

    signature = [(tuple(symbol.shape), keras.backend.standardize_dtype(symbol.dtype)) for symbol in symbols]
    compiled = _backend.compiled(evaluate, signature, lambda: list(read.values()))

    def run(values: Any = ()) -> list[Array]:
        arrays = list(values) if isinstance(values, list | tuple) else [values]
        if len(arrays) != len(symbols):
            raise InvalidInput(f"this function takes {len(symbols)} arrays; received {len(arrays)}")
        ready = []
        for array, symbol, (shape, dtype) in zip(arrays, symbols, signature, strict=True):
            array = np.asarray(_backend.to_numpy(array)).astype(dtype)
            fits = len(array.shape) == len(shape) and all(
                want in (None, have) for want, have in zip(shape, array.shape, strict=True)
            )
            if not fits:
                raise InvalidInput(f"{_name(symbol)} received an array of shape {array.shape}")
            ready.append(ops.convert_to_tensor(array))
        # Copied before anything is assigned: on torch a value may be the variable's own memory.
        found = [np.array(_backend.to_numpy(value)) for value in compiled(*ready)]
        for (variable, _), value in zip(changes, found[len(results) :], strict=True):
            variable.assign(value)
        return found[: len(results)]

    return run
