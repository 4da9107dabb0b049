"""Arrays inside graphs: constants, or what variables were worth when a line ran?"""

from __future__ import annotations

import math
from collections.abc import Iterable

import keras
import numpy as np
from keras import tree

from advex import _backend
from advex._arrays import Array, Tensor
from advex._settings import shown
from advex.errors import InvalidInput
from advex.graph.walk import Call, Graph, Step, is_array

DIGITS = 4  # a number with no more is taken for one that somebody typed


def demand_live(graph: Graph, what: str, variables: Iterable[keras.Variable]) -> None:
    """Refuse a graph with an array in it that seems to have been computed from variables.

    ``0.5 * ops.sum(layer.kernel ** 2)`` is an array at once: it would stay what it is, and have no
    gradient. Nothing tells such an array from a constant for certain. But constants tend to be
    numbers that people type (so are those of Keras' own losses and preprocessing), whole numbers,
    or of other shapes than the variables.

    Args:
        graph: the steps.
        what: what an error calls them.
        variables: those that are known.
    """
    shapes = {_profile(variable.shape) for variable in variables}
    compared = {
        id(array)
        for step in graph.steps
        for array in _arrays(step)
        if type(step.node.operation).__name__ in COMPARISONS
    }
    for step in graph.steps:
        for array in _arrays(step):
            if _suspicious(array, shapes, id(array) in compared) or _added(step, array):
                raise InvalidInput(
                    f"{what} holds an array of shape {tuple(array.shape)}, given to"
                    f" {step.node.operation.name!r}: its values were computed when that line ran"
                    f" and would never change ({shown(_backend.to_numpy(array).tolist(), 60)}). If"
                    " it comes from variables, give it as a function, advex.symbol(lambda:"
                    " sum(model.losses)), or make symbols of the variables,"
                    " keras.ops.sum(advex.symbol(layer.kernel) ** 2). If it is random, draw it in"
                    " a layer. If it is meant to be constant, give it as a NumPy array:"
                    " keras.ops.convert_to_numpy(array)"
                )


# keras.losses.huber compares with its delta, categorical_hinge with 0.
COMPARISONS = frozenset({"LessEqual", "Less", "Greater", "GreaterEqual", "Maximum", "Minimum"})


def _arrays(step: Step) -> list[Tensor]:
    if not isinstance(step, Call):
        return []
    flat = tree.flatten([step.node.arguments.args, step.node.arguments.kwargs])
    return [thing for thing in flat if is_array(thing)]


def _profile(shape: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(length for length in shape if length != 1))


def _suspicious(array: Tensor, shapes: set[tuple[int, ...]], compared: bool) -> bool:
    known = bool(getattr(array, "requires_grad", False))  # by torch, to come from weights
    values = np.asarray(_backend.to_numpy(array))
    real = keras.backend.is_float_dtype(keras.backend.standardize_dtype(array.dtype))
    if values.size == 1:
        number = float(values.reshape(()))
        return known or (not compared and (abs(number) in (0.0, 1.0) or not _typed(number)))
    if not real or _profile(values.shape) not in shapes:
        return False
    values = values.astype("float64")
    return (
        known
        or bool(len(np.unique(values)) == 1 and abs(values.flat[0]) in (0.0, 1.0))
        or not _all_typed(values)
    )


def _short(number: float, digits: int) -> bool:
    return math.isclose(number, float(f"{number:.{digits}g}"), rel_tol=2e-7)


def _typed(number: float) -> bool:
    """Whether somebody may have written this number, or a logarithm, root or fraction of such a
    one, with pi perhaps.
    """
    if not math.isfinite(number) or _short(number, DIGITS):
        return True
    size = abs(number)
    others = [size**2, 1 / size, size / math.pi, size**2 / math.pi]
    if size < 50:
        others += [math.exp(number), math.exp(number) / math.pi]
    return any(_short(other, 2) for other in others)


def _all_typed(values: Array) -> bool:
    return all(_short(float(number), DIGITS + 2) for number in values.flat[:64])


def _added(step: Step, array: Tensor) -> bool:
    """Whether a number is added to a loss: for a constant that would be idle, for a penalty on
    weights of ones it is not.
    """
    alone = all(not len(tensor.shape) for tensor in step.inputs)
    return (
        alone
        and math.prod(array.shape) == 1
        and type(step.node.operation).__name__ in ("Add", "Subtract")
    )
