"""The outputs of a model that has several: their names, and one of them alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import tree

from advex._settings import shown
from advex.errors import InvalidInput
from advex.model.last_layer import structure_of
from advex.model.refusals import SeveralOutputs


def names(answer: Any, model: keras.Model | None) -> list[list[str | int]]:
    """What each leaf of an answer may be called: its key or number, and the name of its layer."""
    count = len(tree.flatten(answer))
    found: list[list[str | int]] = [[number] for number in range(count)]
    if isinstance(answer, dict) and len(answer) == count:
        for place, key in enumerate(sorted(answer)):
            found[place].insert(0, key)
    layers = getattr(model, "output_names", None)
    if layers is not None and len(layers) == count:
        for place, name in enumerate(layers):
            found[place].append(name)
    return found


def place(answer: Any, name: str | int, model: keras.Model | None) -> int:
    """The place of an output among the leaves of an answer.

    Raises:
        InvalidInput: there is none of this name.
    """
    known = names(answer, model)
    for number, each in enumerate(known):
        if name in each:
            return number
    if isinstance(name, int) and -len(known) <= name < 0:
        return name % len(known)
    told = ", ".join(repr(each[0]) for each in known)
    raise InvalidInput(f"the model has no output {shown(name)}: its outputs are {told}")


def chosen(answer: Any, name: str | int | None, model: keras.Model | None) -> Any:
    """One output of an answer; ``name`` None: the only one."""
    leaves = tree.flatten(answer)
    if name is not None:
        return leaves[place(answer, name, model)]
    if isinstance(answer, dict | list | tuple):
        if len(leaves) == 1:
            return leaves[0]
        raise SeveralOutputs.of([each[0] for each in names(answer, model)])
    return answer


def alone(model: keras.Model, name: str | int | None) -> keras.Model | None:
    """The graph of one of the outputs of a functional model; None where there is no such graph, or
    only one output.
    """
    symbols = getattr(model, "outputs", None)
    if not symbols or len(symbols) == 1:
        if name is not None and symbols:
            place(getattr(model, "_outputs_struct", symbols), name, model)
        return None
    structure = getattr(model, "_outputs_struct", symbols)
    if name is None:
        raise SeveralOutputs.of([each[0] for each in names(structure, model)])
    symbol = tree.flatten(structure)[place(structure, name, model)]
    return keras.Model(structure_of(model), symbol, name=f"{model.name}_output")


def structure(model: keras.Model, raw: Callable[[Any], Any], sample: Any) -> Any:
    """The structure of a model's answer, with the places of its leaves."""
    known = getattr(model, "_outputs_struct", None)
    answer = raw(sample) if known is None else known
    return tree.pack_sequence_as(answer, list(range(len(tree.flatten(answer)))))
