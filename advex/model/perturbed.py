"""Which of a model's inputs is attacked, and how the arrays of a call make up what it takes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from advex import _backend
from advex._arrays import Array
from advex._inputs import INNER, INPUTS, Bundle, Form
from advex._settings import shown
from advex.errors import InvalidInput, InvalidType

Name = str | int
Perturb = str | int | list[str | int] | tuple[str | int, ...] | None

TOGETHER = 64  # rows of which a layer's output is computed at once


def checked_perturb(perturb: Any) -> tuple[Name, ...]:
    """What is attacked, by name or number; nothing: there is but one input.

    Raises:
        InvalidType: it is no name, nor a list of such.
    """
    if perturb is None:
        return ()
    names = perturb if isinstance(perturb, list | tuple) else [perturb]
    wrong = [name for name in names if isinstance(name, bool) or not isinstance(name, str | int)]
    if wrong or not names or len(set(names)) < len(names):
        raise InvalidType(
            "perturb must be the name of an input or of a layer, or a list of names of inputs;"
            f" received {shown(perturb)}"
        )
    return tuple(names)


def input_names(model: Any) -> list[list[Name]] | None:
    """What each input of a functional model may be called: its key, its name, its number; None
    where only a call tells.
    """
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return None
    found: list[list[Name]] = [[number] for number in range(len(inputs))]
    for place, tensor in enumerate(inputs):
        found[place].insert(0, str(tensor.name))
    structure = getattr(model, "_inputs_struct", None)
    if isinstance(structure, dict):
        number = {id(tensor): place for place, tensor in enumerate(inputs)}
        for key, tensor in structure.items():
            if id(tensor) in number and key not in found[number[id(tensor)]]:
                found[number[id(tensor)]].insert(0, key)
    return found


def layer_of(model: keras.Model, name: Name) -> keras.layers.Layer | None:
    """The layer of this name, in models within the model, too; None where there is none, or more
    than one.
    """
    layers = [layer for layer in model._flatten_layers(include_self=False) if layer.name == name]
    return layers[0] if len(layers) == 1 else None


def unknown(name: Name, model: keras.Model, names: list[Name]) -> InvalidInput:
    """The error for a name that is neither an input's nor a layer's."""
    layers = [layer.name for layer in model._flatten_layers(include_self=False)]
    inputs = ", ".join(map(repr, names))
    more = f" and {len(layers) - 8} more" if len(layers) > 8 else ""
    return InvalidInput(
        f"perturb names {shown(name)}, which is neither an input nor a layer of the model: its"
        f" inputs are {inputs}; its layers {', '.join(map(repr, layers[:8]))}{more}"
    )


def which_input(names: Sequence[Name]) -> str:
    """The error about several inputs of which nobody has said which one is attacked."""
    listed = ", ".join(map(repr, names))
    return (
        f"the model has {len(names)} inputs, {listed}: say which one is attacked, the others stay"
        f" as they are: model = advex.Classifier(model, perturb={names[0]!r}); or several at once,"
        f" with a budget each: model = advex.Classifier(model, perturb={list(names[:2])!r})"
    )


class Opened:
    """What the user gave, by name, and the structures of both sides.

    Attributes:
        arrays: the inputs by name.
        given: the user's structure, names in place of arrays.
        taken: the model's, likewise.
    """

    def __init__(self, model: keras.Model, values: Any) -> None:
        values = values.tree if isinstance(values, Bundle) else values
        known = input_names(model)
        if isinstance(values, Mapping):
            values = dict(values)
        leaves = values if isinstance(values, dict) else None
        if leaves is None:
            entries = list(values) if isinstance(values, list | tuple) else [values]
            leaves = dict(enumerate(entries))
        if known is None:
            names: dict[Any, Name] = {key: key for key in leaves}
            self.taken: Any = self._like(values, names)
        else:
            names = self._matched(leaves, known, isinstance(values, dict))
            own = [each[0] for each in known]
            structure = getattr(model, "_inputs_struct", None)
            single = not isinstance(structure, list | tuple | dict)
            self.taken = own[0] if single else tree.pack_sequence_as(structure, own)
        self.given = self._like(values, names)
        self.arrays: dict[str, Any] = {str(names[key]): value for key, value in leaves.items()}
        self.given, self.taken = (
            tree.map_structure(str, structure) for structure in (self.given, self.taken)
        )

    @staticmethod
    def _like(values: Any, names: dict[Any, Name]) -> Any:
        if isinstance(values, dict):
            return {key: names[key] for key in values}
        if isinstance(values, list | tuple):
            return type(values)([names[place] for place in range(len(values))])
        return names[0]

    @staticmethod
    def _matched(leaves: dict[Any, Any], known: list[list[Name]], named: bool) -> dict[Any, Name]:
        """The model's name of each input that was given."""
        wanted = ", ".join(repr(each[0]) for each in known)
        if not named and len(leaves) != len(known):
            raise InvalidInput(
                f"the model has {len(known)} inputs, {wanted}, and x is {len(leaves)}:"
                f" x = {{{', '.join(f'{each[0]!r}: ...' for each in known)}}} names them"
            )
        found: dict[Any, Name] = {}
        for key in leaves:
            matches = [each[0] for each in known if key in each]
            if not matches:
                raise InvalidInput(
                    f"x has an input {shown(key)} that the model does not have: its inputs are"
                    f" {wanted}"
                )
            found[key] = matches[0]
        if missing := [each[0] for each in known if each[0] not in found.values()]:
            raise InvalidInput(
                f"x lacks {', '.join(map(repr, missing))} of the model's inputs, {wanted}"
            )
        return found


def wanted_names(opened: Opened, model: keras.Model, perturb: tuple[Name, ...]) -> list[str]:
    """The names, among those of ``opened``, of what is attacked: one that it has not is a layer's.

    Raises:
        InvalidInput: nobody has said it, or there is no such input or layer.
    """
    names = list(opened.arrays)
    if not perturb:
        if len(names) == 1:
            return names
        raise InvalidInput(which_input(list(names)))
    known = input_names(model)
    found = []
    for name in perturb:
        matches = [str(each[0]) for each in known or () if name in each]
        if known is None and str(name) in names:
            matches = [str(name)]
        if not matches and isinstance(name, int) and 0 <= name < len(names):
            matches = [names[name]]
        if not matches and layer_of(model, name) is None:
            raise unknown(name, model, list(names))
        found.append(matches[0] if matches else str(name))
    layers = [name for name in found if name not in names]
    if layers and len(found) > 1:
        raise InvalidInput(
            f"perturb names a layer, {layers[0]!r}, and something else: the output of one layer is"
            f" attacked alone, advex.Classifier(model, perturb={layers[0]!r})"
        )
    return found


@contextlib.contextmanager
def replaced(layer: keras.layers.Layer, output: Any) -> Iterator[None]:
    """While this lasts ``layer`` answers with ``output``, whatever it is asked."""

    def call(*_: Any, **__: Any) -> Any:
        return ops.cast(output, layer.compute_dtype) if "float" in layer.compute_dtype else output

    with _calling(layer, call):
        yield


@contextlib.contextmanager
def _calling(layer: keras.layers.Layer, call: Callable[..., Any]) -> Iterator[None]:
    """While this lasts ``layer.call`` is another."""
    before = vars(layer).get("call")
    object.__setattr__(layer, "call", call)
    try:
        yield
    finally:
        if before is None:
            object.__delattr__(layer, "call")
        else:
            object.__setattr__(layer, "call", before)


def output_of(layer: keras.layers.Layer, ask: Callable[[Any], Any], inputs: Any) -> Array:
    """What ``layer`` answers within a model that is asked about ``inputs``, a tree of arrays.

    Raises:
        InvalidInput: the layer does not take part, does so more than once, or answers with more
            than one array.
    """
    seen: list[Any] = []
    itself = layer.call

    def call(*args: Any, **kwargs: Any) -> Any:
        answer = itself(*args, **kwargs)
        seen.append(answer)
        return answer

    count = len(tree.flatten(inputs)[0])
    parts = []
    for start in range(0, max(count, 1), TOGETHER):
        seen.clear()
        rows = tree.map_structure(
            lambda leaf, at=start: ops.convert_to_tensor(leaf[at : at + TOGETHER]), inputs
        )
        with _calling(layer, call):
            ask(rows)
        if len(seen) != 1 or not ops.is_tensor(seen[0]):
            raise InvalidInput(
                f"the layer {layer.name!r} must answer once, with one tensor, for its output to be"
                f" attacked; for one call of the model it did so {len(seen)} times"
            )
        parts.append(np.array(_backend.to_numpy(ops.cast(seen[0], "float32"))))
    made = np.concatenate(parts)
    if len(made) != count or made.ndim < 2:
        raise InvalidInput(
            f"the layer {layer.name!r} answers with shape {made.shape} for {count} inputs: it must"
            " answer with one row for each"
        )
    return made


def form_of(opened: Opened, parts: Any, layer: str | None) -> Form:
    """The form of a call."""
    return Form(opened.given, opened.taken, tuple(parts), layer)


def is_inner(x: Any) -> bool:
    """Whether this is what a model with a layer that is attacked is asked with."""
    return isinstance(x, dict) and INNER in x


def inner(x: Any) -> tuple[Any, Any]:
    """The model's inputs, and that layer's output."""
    return x[INPUTS], x[INNER]
