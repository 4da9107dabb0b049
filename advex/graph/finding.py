"""Where a symbolic tensor is to be found: in a graph, inside of a model used as a layer, or under
another name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from keras import KerasTensor

from advex.errors import InvalidInput
from advex.graph.walk import Graph, Opened, history, inner, name


def reaching(asked: Sequence[KerasTensor], sought: Iterable[KerasTensor]) -> Graph:
    """The graph of ``asked``, with those models opened that have one of the tensors ``sought``
    inside.
    """
    graph = Graph(asked)
    for tensor in sought:
        if id(tensor) not in graph.tensors and (opened := way(graph.models(), tensor)):
            graph = Graph(asked, opened=[*graph.opened, *opened])
    return graph


def way(models: Sequence[Opened], tensor: KerasTensor) -> list[Opened]:
    """The models to open, one inside the other, to come to ``tensor``; empty if it is nowhere."""
    for model in models:
        below = Graph(model.graph.outputs, model.graph.inputs)
        further = [] if id(tensor) in below.tensors else way(below.models(), tensor)
        if further or id(tensor) in below.tensors:
            if sum(model.graph is other.graph for other in models) > 1:
                raise InvalidInput(
                    f"the model {model.node.operation.name!r} is called more than once, so that"
                    f" {name(tensor)} inside of it stands for more than one value: call its layers"
                    " one by one on the input that you mean"
                )
            return [model, *further]
    return []


def called(tensors: Iterable[KerasTensor]) -> list[Opened]:
    """The models that are called on something that is computed from ``tensors``."""
    found: dict[int, Opened] = {}
    seen: set[int] = set()
    waiting = list(tensors)
    while waiting:
        tensor = waiting.pop()
        if (
            id(tensor) in seen
            or getattr(tensor, "_keras_history", None) is None
            or tensor._keras_history.operation is None
        ):
            continue
        seen.add(id(tensor))
        for node in tensor._keras_history.operation._outbound_nodes:
            if any(tensor is entry for entry in node.input_tensors):
                if (graph := inner(node.operation)) is not None:
                    found[id(node)] = Opened(graph, node)
                waiting += node.outputs
    return list(found.values())


def twin(graph: Graph, tensor: KerasTensor) -> KerasTensor | None:
    """The tensor of ``graph`` that is computed as ``tensor`` is, from the same inputs by the same
    layers.

    A Sequential model calls its layers anew whenever one is added, and ``layer.output`` is that of
    the first call.
    """
    known: dict[tuple[int, int], bool] = {}

    def same(one: Any, other: Any) -> bool:
        key = id(one), id(other)
        if key not in known:
            known[key] = one is other or alike(one, other)
        return known[key]

    def alike(one: Any, other: Any) -> bool:
        first, second = history(one), history(other)
        if (
            first is None
            or second is None
            or first.operation is not second.operation
            or first.is_input
            or second.is_input
        ):
            return False
        if one._keras_history.tensor_index != other._keras_history.tensor_index:
            return False
        return len(first.input_tensors) == len(second.input_tensors) and all(
            same(*pair) for pair in zip(first.input_tensors, second.input_tensors, strict=True)
        )

    return next(
        (other for other in graph.tensors.values() if other is not tensor and same(tensor, other)),
        None,
    )


def lookup(graph: Graph, tensor: KerasTensor) -> KerasTensor | None:
    """``tensor``, or what stands for it in ``graph``; None if nothing does."""
    return tensor if id(tensor) in graph.tensors else twin(graph, tensor)


def where(tensor: KerasTensor) -> str:
    """A hint for an error: what kind of stranger ``tensor`` is."""
    node = history(tensor)
    if node is None or node.is_input:
        return (
            "It is an input: of what is asked for, if it was forgotten; or of another graph, and"
            " model.input of the model at hand is meant"
        )
    return (
        f"{node.operation.name!r} was called on another input there, perhaps inside a nested"
        " model, which has tensors of its own: take the output of the call that the loss comes"
        " from, or call the nested model's layers one by one"
    )
