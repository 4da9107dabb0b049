"""What ``fit`` is given, looked at before the first step."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from advex._arrays import Array
from advex._settings import shown
from advex.driver.ranges import (
    LEVEL,
    LEVELS,
    ROWS,
    begins,
    moved,
    number,
    onto,
    own,
    plain,
    right_as_it_is,
    scaling,
    shuffled,
    usual,
)
from advex.errors import InvalidInput, InvalidType, ModelWarning
from advex.model.classifier import Classifier

SOME = 128
"""Rows of an array that stand for its first batch."""


def first_batch(x: Any, y: Any = None) -> tuple[tuple[Any, Any], Any]:
    """The first inputs, with their targets or those of all inputs, of what ``fit`` takes; and ``x``
    as if nothing had been taken from it.

    Raises:
        InvalidInput: there is nothing in it, or no labels. InvalidType: it is no array.
    """
    if y is not None:
        _demand_array("x", x)
        _demand_array("y", y)
        if len(x) == 0:
            raise InvalidInput(f"x is empty, shape {tuple(x.shape)}: there is nothing to train on")
        return (x[:SOME], y), x
    if x is None or hasattr(x, "shape"):
        raise InvalidInput(
            "the data are missing, or their labels: robust.fit(x, labels), or a data set of batches"
            " (x, labels)"
        )
    if isinstance(x, list | tuple | dict | str | bytes):
        _demand_array("x", x)
    if inspect.isgenerator(x):
        first = _first(x)
        known = x

        def whole() -> Iterator[Any]:
            yield first
            yield from known

        x = whole()
    else:
        first = x[0] if isinstance(x, keras.utils.PyDataset) else _first(iter(x))
    if not (isinstance(first, list | tuple) and len(first) in (2, 3) and first[1] is not None):
        raise InvalidInput(
            "the data set must give batches (x, labels), or (x, labels, sample_weight); its first"
            f" is {_kind(first)}"
        )
    _demand_array("x of a batch", first[0])
    _demand_array("y of a batch", first[1])
    return (first[0], first[1]), x


def demand_inside(x: Array, box: tuple[float, float]) -> None:
    """Raise unless all numbers lie in the box."""
    low, high = (float(x.min()), float(x.max())) if x.size else box
    if np.isnan(low):  # then one of them is
        unknown = np.isnan(x)
        rows = np.flatnonzero(unknown.reshape(len(x), -1).any(axis=1))
        raise InvalidInput(
            f"x has {int(unknown.sum())} numbers that are NaN, in {len(rows)} of {len(x)} rows, the"
            f" first in row {rows[0]}: remove these rows, or give the numbers a value"
        )
    if not (low < np.float32(box[0]) or high > np.float32(box[1])):
        return
    told = f"x reaches from {low:g} to {high:g}, outside the box {plain(box)}"
    range_ = usual(low, high, x.dtype == np.uint8)
    if range_ is None:
        raise InvalidInput(f"{told}; if the model takes them, box={own(low, high)}")
    code = onto(box, range_)
    if x.dtype.kind != "f" and "astype" not in code:
        code = code.replace("x", "x.astype('float32')", 1)
    raise InvalidInput(
        f"{told}; if the model takes {number(range_[0])} to {number(range_[1])},"
        f" box={plain(range_)}, else x = {code}"
    )


def warn_of_layer(
    classifier: Classifier, x: Array, labels: Array, said: Callable[..., Any]
) -> None:
    """Warn where the model begins with a layer that is made for 0 to 255, and the box is narrower;
    unless the model is right about the inputs as they are.

    Args:
        classifier: the model with its box.
        x: some inputs, of the box.
        labels: their classes.
        said: what the model answers, (n,) classes, to inputs as float32.
    """
    layer = scaling(classifier)
    if layer is None:
        return
    few, true = x[:ROWS].astype("float32"), labels[:ROWS]
    wide, code = moved(few, classifier.box, LEVELS)
    now = said(few)
    if right_as_it_is(now == true, said(wide) == true) and shuffled(now, true) <= LEVEL:
        return
    warnings.warn(
        f"{begins(layer, classifier.box)} Train it on 0 to 255, with box={plain(LEVELS)} and"
        f" x = {code}; or leave that layer out.",
        ModelWarning,
        stacklevel=4,
    )


def demand_batch_axis(x: Array, model: keras.Model) -> None:
    """Raise where one input alone stands for a batch of them."""
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, tuple) and x.ndim == len(shape) - 1 and shape[-1] != 1:
        raise InvalidInput(
            f"a batch of x has shape {x.shape}, and the model takes {shape}: one input is x[None],"
            " and a data set of single ones data.batch(32)"
        )


def _first(batches: Iterator[Any]) -> Any:
    for each in batches:
        return each
    raise InvalidInput("the data set has no batches: there is nothing to train on")


def _demand_array(name: str, given: Any) -> None:
    if not hasattr(given, "shape"):
        raise InvalidType(
            f"{name} must be one array, the batch axis first; received {_kind(given)}: a list of"
            " numbers becomes one by np.asarray, and of several arrays take the model's input"
        )


def _kind(given: Any) -> str:
    if isinstance(given, list | tuple):
        return f"a {type(given).__name__} of {len(given)}"
    if isinstance(given, dict):
        return f"a dict of {shown(list(given), 60)}"
    if hasattr(given, "shape"):
        return f"an array of shape {tuple(given.shape)}"
    return shown(given, 60)
