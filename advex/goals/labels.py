"""Class numbers, one for each example, from what users have: floats, one-hot rows, columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from advex import _backend
from advex._arrays import Array
from advex.errors import InvalidInput, InvalidType


def axes_of(values: Any) -> int:
    """How many axes ``values`` have; 1 where NumPy cannot tell: what they are is looked at
    elsewhere.
    """
    try:
        return int(np.ndim(values))
    except Exception:  # ragged lists, or what an object that is no array raises
        return 1


def class_numbers(name: str, values: Any) -> tuple[Array, tuple[str, ...]]:
    """``values`` as one int32 class number per example, with a note if they had to be converted."""
    try:
        array = np.asarray(_backend.to_numpy(values))
    except Exception:  # what an object that is no array raises here may be anything
        array = np.asarray(None)
    if array.dtype == bool and array.ndim == 2 and array.shape[1] > 1:
        array = array.astype("int32")  # such as labels[:, None] == range(classes): one-hot
    if array.dtype == bool or array.dtype.kind not in "iuf":
        raise InvalidType(
            f"{name} must be class numbers, shape (n,); received {type(values).__name__} of dtype"
            f" {array.dtype}{_numbers_from(name, array)}"
        )
    notes: tuple[str, ...] = ()
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.shape[1] > 1:
        hot = (array == 0) | (array == 1)
        if not (hot.all() and (array.sum(axis=1) == 1).all()):
            raise InvalidInput(
                f"{name} of shape {array.shape} are neither class numbers nor"
                f" one-hot{_what_rows_are(name, array)}"
            )
        array = array.argmax(axis=1)
        notes = (f"One-hot {name} were converted to class numbers.",)
    if array.ndim == 0:
        raise InvalidInput(
            f"{name} must have shape (n,), a class number for each example; received one number:"
            f" [{array}]"
        )
    if array.ndim != 1:
        pixels = f": a class for each pixel is advex.Segmentation({name})" if array.ndim > 2 else ""
        raise InvalidInput(f"{name} must have shape (n,); received shape {array.shape}{pixels}")
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (array == np.round(array))
        if not whole.all():
            hint = f": numbers are advex.Regression({name}, off=0.5)" if name == "labels" else ""
            raise InvalidInput(
                f"{name} must be whole class numbers; received {array[~whole][:3].tolist()}"
                f"{hint if np.isfinite(array).all() else ''}"
            )
    if len(array) and not -(2**31) <= array.min() <= array.max() < 2**31:
        far = array.max() if array.max() >= 2**31 else array.min()
        raise InvalidInput(f"{name} must be class numbers; received {far}")
    return array.astype("int32"), notes


def _numbers_from(name: str, array: Array) -> str:
    """How to get class numbers from values that are not: the end of the error's sentence."""
    if array.dtype == bool:
        return f": np.asarray({name}).astype('int32') if True is class 1"
    texts = array.size and all(isinstance(value, str | bytes) for value in array.ravel()[:100])
    if array.dtype.kind in "SU" or (array.dtype == object and texts):
        return (
            f", names in place of numbers: [names.index(label) for label in {name}] with"
            f" the names in the order of the classes"
        )
    return ""


def _what_rows_are(name: str, array: Array) -> str:
    """What rows of several numbers mean that are not one-hot: the end of the error's sentence."""
    if ((array == 0) | (array == 1)).all():
        return (
            ": rows with no 1 or with several are several labels for one example (multi-label):"
            f" advex.MultiLabel({name}); one class for each is a number for each, shape (n,)"
        )
    if ((array >= 0) & (array <= 1)).all():
        return (
            f", but soft labels or scores: np.asarray({name}).argmax(1) if each row stands for its"
            f" largest; advex.MultiLabel(np.asarray({name}) > 0.5) if they are several labels"
        )
    return ": one class number for each example is needed, shape (n,)"
