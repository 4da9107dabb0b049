"""What symbolic tensors are computed from: the steps behind them, in the order in which Keras runs
them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
from keras import KerasTensor, ops, tree

from advex._arrays import Tensor
from advex.errors import blaming

Symbol: TypeAlias = Any  # a keras.KerasTensor or a keras.Variable
Values: TypeAlias = dict[int, Tensor]  # by id of the symbolic tensor

# Operations that are flat almost everywhere. TensorFlow has no derivative for them, torch and JAX
# say zero: here it ends there.
FLAT = frozenset({"Round", "Floor", "Ceil", "Trunc", "Sign", "FloorDivide"})


def history(tensor: KerasTensor) -> Any:
    """The node that made ``tensor``, or None for a tensor that nothing made."""
    made = getattr(tensor, "_keras_history", None)
    if made is None or made.operation is None:
        return None
    return made.operation._inbound_nodes[made.node_index]


def name(symbol: Any) -> str:
    """How an error calls a symbol."""
    node = history(symbol) if isinstance(symbol, KerasTensor) else None
    maker = f", made by {node.operation.name!r}" if node is not None and not node.is_input else ""
    return (
        f"{getattr(symbol, 'path', None) or getattr(symbol, 'name', symbol)!r} (shape"
        f" {tuple(symbol.shape)}{maker})"
    )


def is_array(thing: Any) -> bool:
    """Whether ``thing`` is a tensor of the backend, with values: TensorFlow takes variables for
    such.
    """
    return bool(ops.is_tensor(thing)) and not isinstance(thing, KerasTensor | keras.Variable)


def inner(operation: Any) -> Any:
    """The graph of a model that is used as a layer, or None."""
    return (
        operation
        if isinstance(operation, keras.Function)
        else getattr(operation, "_functional", None)
    )


def asked_mode(node: Any) -> bool | None:
    """The ``training`` that a layer was called with, or None. Keras writes a layer's own default
    down, too: that is no answer.
    """
    mode = node.arguments.kwargs.get("training")
    parameter = inspect.signature(node.operation.call).parameters.get("training")
    return None if mode is False and parameter is not None and parameter.default is False else mode


class Reading(keras.Operation):
    """A variable as a symbolic tensor; or what a function without arguments returns, which may read
    any variables.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.source = source

    def call(self) -> Tensor:
        if isinstance(self.source, keras.Variable):
            return ops.copy(self.source)
        with blaming("the function given to symbol()"):
            return ops.convert_to_tensor(self.source())

    def compute_output_spec(self) -> KerasTensor:
        like = self.source if isinstance(self.source, keras.Variable) else self.call()
        return KerasTensor(tuple(like.shape), dtype=keras.backend.standardize_dtype(like.dtype))


class Opened(NamedTuple):
    """A model that is used as a layer: its own graph, and the node that calls it."""

    graph: Any
    node: Any


class Step:
    """One node of a graph."""

    differentiates = False

    def __init__(
        self, node: Any, inputs: Sequence[KerasTensor], outputs: Sequence[KerasTensor]
    ) -> None:
        self.node, self.inputs, self.outputs = node, inputs, outputs
        self.level = self.depth = 0

    def variables(self) -> Iterator[keras.Variable]:
        """The variables that it is known to read."""
        yield from ()

    def run(self, values: Values, training: bool | None) -> list[Tensor]:
        """The values of ``outputs``."""
        raise NotImplementedError


class Call(Step):
    """A layer or an operation is called."""

    def __init__(self, node: Any, training: bool | None = None) -> None:
        super().__init__(node, node.input_tensors, node.outputs)
        own = asked_mode(node)
        self.flat = type(node.operation).__name__ in FLAT
        self.moody = own is None and "training" in getattr(node.operation, "_call_context_args", ())
        self.training = training  # as the model around it was called with

    def variables(self) -> Iterator[keras.Variable]:
        operation = self.node.operation
        if isinstance(operation, Reading):
            yield from [operation.source] if isinstance(operation.source, keras.Variable) else []
        else:
            yield from getattr(operation, "variables", [])
        for argument in tree.flatten([self.node.arguments.args, self.node.arguments.kwargs]):
            if isinstance(argument, keras.Variable):
                yield argument

    def run(self, values: Values, training: bool | None) -> list[Tensor]:
        operation = self.node.operation
        args, kwargs = self.node.arguments.fill_in(values)
        mode = training if self.training is None else self.training
        if self.moody and mode is not None:
            kwargs = {**kwargs, "training": mode}
        made = operation(*args, **kwargs)
        made = [made] if ops.is_tensor(made) else tree.flatten(made)
        return [ops.stop_gradient(value) for value in made] if self.flat else made


class Derivation(Step):
    """Gradients are asked for."""

    differentiates = True

    def __init__(self, node: Any) -> None:
        self.plan = node.operation.plan
        super().__init__(node, [*self.plan.losses, *self.plan.tensors], node.outputs)

    def variables(self) -> Iterator[keras.Variable]:
        yield from self.plan.weights


class Enter(Step):
    """The inputs of a model that is used as a layer get their values."""

    def run(self, values: Values, training: bool | None) -> list[Tensor]:
        args, kwargs = self.node.arguments.fill_in(values)
        given = tree.flatten(args) or tree.flatten(kwargs)
        return [
            ops.convert_to_tensor(value, symbol.dtype)
            for value, symbol in zip(given, self.outputs, strict=False)
        ]


class Leave(Step):
    """The outputs of a model that is used as a layer are its own."""

    def run(self, values: Values, training: bool | None) -> list[Tensor]:
        return [values[id(tensor)] for tensor in self.inputs]


class Graph:
    """All that some symbolic tensors are computed from.

    Args:
        asked: the tensors.
        given: tensors whose values will be known: nothing behind them is looked at.
        opened: models used as layers, which are to be run step by step, for a tensor inside is
            asked for.
    """

    def __init__(
        self,
        asked: Sequence[KerasTensor],
        given: Sequence[KerasTensor] = (),
        opened: Sequence[Opened] = (),
    ) -> None:
        self.opened = list(opened)
        self._given = {id(tensor) for tensor in given}
        known = -1
        # the gradients among the steps know of further graphs to open
        while known < len(self.opened):
            known = len(self.opened)
            self._inside = {
                id(entry): model for model in self.opened for entry in model.graph.inputs
            }
            self._modes: dict[
                int, bool | None
            ] = {}  # nodes of opened models: the mode that the call asks for
            for model in self.opened:
                mode = asked_mode(model.node)
                inside = Graph(model.graph.outputs, model.graph.inputs)
                self._modes |= {
                    id(step.node): self._modes.get(id(model.node)) if mode is None else mode
                    for step in inside.steps
                }
            self._makers: dict[int, Step | None] = {}
            self.tensors: dict[int, KerasTensor] = {}
            self.leaves: list[KerasTensor] = []
            self.steps: list[Step] = []
            self._walk(asked)
        self._order()
        self.variables: dict[int, keras.Variable] = {}
        for step in self.steps:
            self.variables |= {id(variable): variable for variable in step.variables()}

    def open(self, models: Iterable[Opened]) -> None:
        """Note models that are to be run step by step."""
        self.opened += [
            model for model in models if all(model.node is not other.node for other in self.opened)
        ]

    def maker(self, tensor: KerasTensor) -> Step | None:
        """The step that makes ``tensor``; None for one that is given, or that nothing makes."""
        key = id(tensor)
        if key not in self._makers:
            self._makers[key] = None
            step = None if key in self._given else self._made(tensor)
            for output in () if step is None else step.outputs:
                self._makers[id(output)] = step
        return self._makers[key]

    def _made(self, tensor: KerasTensor) -> Step | None:
        if id(tensor) in self._inside:
            model = self._inside[id(tensor)]
            return Enter(model.node, model.node.input_tensors, model.graph.inputs)
        node = history(tensor)
        if node is None or (node.is_input and not isinstance(node.operation, Reading)):
            return None
        if hasattr(node.operation, "plan"):
            self.open(node.operation.plan.opened)
            return Derivation(node)
        for opened in self.opened:
            if opened.node is node:
                return Leave(node, opened.graph.outputs, node.outputs)
        return Call(node, self._modes.get(id(node)))

    def _walk(self, asked: Sequence[KerasTensor]) -> None:
        """All steps, each after those that it needs."""
        seen: set[int] = set()
        waiting: list[tuple[KerasTensor, Iterator[KerasTensor] | None]] = [
            (tensor, None) for tensor in reversed(asked)
        ]
        while waiting:
            tensor, rest = waiting.pop()
            step = self.maker(tensor)
            if rest is None:
                self.tensors[id(tensor)] = tensor
                if step is None:
                    self.leaves += [] if any(tensor is leaf for leaf in self.leaves) else [tensor]
                    continue
                if id(step) in seen:
                    continue
                seen.add(id(step))
                rest = iter(step.inputs)
            assert step is not None
            following = next(rest, None)
            if following is None:
                self.steps.append(step)
                self.tensors |= {id(output): output for output in step.outputs}
            else:
                waiting += [(tensor, rest), (following, None)]

    def _order(self) -> None:
        """As Keras has it: by the distance from the outputs, with steps after a gradient behind all
        others.
        """
        for step in self.steps:
            needed = [maker for tensor in step.inputs if (maker := self.maker(tensor)) is not None]
            step.level = max((maker.level for maker in needed), default=0) + step.differentiates
        for step in reversed(self.steps):
            for tensor in step.inputs:
                if (maker := self.maker(tensor)) is not None:
                    maker.depth = max(maker.depth, step.depth + 1)
        self.steps.sort(key=lambda step: (step.level, -step.depth))

    def models(self) -> list[Opened]:
        """The models that are used as layers."""
        calls = [step.node for step in self.steps if isinstance(step, Call)]
        return [
            Opened(graph, node) for node in calls if (graph := inner(node.operation)) is not None
        ]
