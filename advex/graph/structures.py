"""Lists and dicts of symbols, and of the arrays that stand for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, ops

from advex import _backend
from advex._arrays import Tensor
from advex._settings import shown
from advex.errors import InvalidInput, InvalidType
from advex.graph.walk import is_array, name

PHASE = (
    "The learning phase is no longer an input: advex.function(inputs, outputs, training=True)"
    " runs layers as in training, training=False (the default) as in inference"
)


def listed(things: Any) -> list[Any]:
    """A list of one or several things."""
    return list(things) if isinstance(things, list | tuple) else [things]


def symbols_of(thing: Any) -> Any:
    """A model's output in its place."""
    if not isinstance(thing, keras.Model):
        return thing
    if isinstance(thing, keras.Function):
        return thing.output
    made = getattr(thing, "outputs", None)  # of a Sequential model
    if not made:
        raise InvalidInput(
            f"{thing.name!r} has no symbolic output, as every subclassed model, and a Sequential"
            " one that has not been built: call it on an input, model(keras.Input(shape))"
        )
    return made[0] if len(made) == 1 else made


def leaves(structure: Any) -> list[Any]:
    """What is in lists and dicts, in the order in which it was written; None is a leaf."""
    if isinstance(structure, dict):
        structure = list(structure.values())
    return (
        [leaf for part in structure for leaf in leaves(part)]
        if isinstance(structure, list | tuple)
        else [structure]
    )


def filled(structure: Any, values: Iterator[Any]) -> Any:
    """The same lists and dicts, with ``values`` in place of the leaves."""
    if isinstance(structure, dict):
        return {key: filled(part, values) for key, part in structure.items()}
    if isinstance(structure, list | tuple):
        return [filled(part, values) for part in structure]
    return next(values)


def entries(inputs: Any) -> Any:
    """The structure of what will be given: symbols in lists and dicts, or one alone."""
    if isinstance(inputs, keras.Model):
        inputs = (
            inputs.input
            if isinstance(inputs, keras.Function)
            else symbols_of(inputs) and inputs.inputs
        )
    structure = list(inputs) if isinstance(inputs, tuple) else inputs
    for thing in leaves(structure):
        if isinstance(thing, bool | int | np.integer | np.bool_) or (
            (is_array(thing) or isinstance(thing, np.ndarray)) and not len(thing.shape)
        ):
            raise InvalidType(
                f"inputs must be symbolic tensors such as model.input; received {shown(thing)}."
                f" {PHASE}"
            )
        if not isinstance(thing, KerasTensor):
            raise InvalidType(
                f"inputs must be symbolic tensors such as model.input; received"
                f" {type(thing).__name__}"
            )
    return structure


def results(outputs: Any) -> Any:
    """The structure of what will be returned, a list at the top unless it is a dict."""
    outputs = symbols_of(outputs)
    structure = (
        outputs if isinstance(outputs, dict) else [symbols_of(thing) for thing in listed(outputs)]
    )
    for thing in leaves(structure):
        if thing is not None and not isinstance(thing, KerasTensor | keras.Variable):
            raise InvalidType(
                f"outputs must be keras.KerasTensor or keras.Variable; received"
                f" {type(thing).__name__}{_frozen(thing)}"
            )
    return structure


def _frozen(thing: Any) -> str:
    if not is_array(thing):
        return ""
    return (
        ", an array: it was computed when that line ran and would never change. Begin it with a"
        " symbol: advex.symbol(variable) instead of variable, model(model.input) instead of"
        " model(array)"
    )


def tensor_of(array: Any, tensor: KerasTensor, shape: tuple[int | None, ...], dtype: str) -> Tensor:
    """An array that was given, as the backend wants it."""
    if not ops.is_tensor(array) or keras.backend.standardize_dtype(array.dtype) != dtype:
        array = np.asarray(_backend.to_numpy(array)).astype(dtype)
    fits = len(array.shape) == len(shape) and all(
        want in (None, have) for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise InvalidInput(f"{name(tensor)} received an array of shape {tuple(array.shape)}")
    return array if is_array(array) else _backend.given(array)


def spread(given: Any, values: Any) -> list[Any]:
    """The arrays, one for each symbol of ``given``."""
    if isinstance(given, KerasTensor):
        if isinstance(values, dict) and given.name in values:
            return [values[given.name]]
        if isinstance(values, list | tuple) and len(values) != 1:
            raise InvalidInput(f"this function takes 1 arrays; received {len(values)}")
        return list(values) if isinstance(values, list | tuple) else [values]
    if isinstance(given, dict):
        if not isinstance(values, dict) or (missing := [key for key in given if key not in values]):
            lacking = (
                f"without {', '.join(map(repr, missing))}"
                if isinstance(values, dict)
                else f"a {type(values).__name__}"
            )
            raise InvalidInput(
                f"this function takes a dict with {', '.join(map(repr, given))}; received {lacking}"
            )
        return [array for key in given for array in spread(given[key], values[key])]
    if isinstance(values, dict):
        names = [thing.name if isinstance(thing, KerasTensor) else None for thing in given]
        if missing := [label for label in names if label not in values]:
            raise InvalidInput(
                f"this function takes {', '.join(map(repr, names))}; received none for"
                f" {missing[0]!r}"
            )
        return [values[label] for label in names]
    arrays = list(values) if isinstance(values, list | tuple) else [values]
    if len(arrays) != len(given):
        raise InvalidInput(f"this function takes {len(given)} arrays; received {len(arrays)}")
    return [leaf for part, array in zip(given, arrays, strict=True) for leaf in _part(part, array)]


def _part(part: Any, array: Any) -> list[Any]:
    return [array] if isinstance(part, KerasTensor) else spread(part, array)
