"""Data of any kind as one stream of blocks: so many inputs and their labels at a time, in order, in
memory that does not grow.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import tree

from advex import _backend
from advex._arrays import Array
from advex._inputs import Bundle
from advex._settings import shown
from advex.errors import InvalidInput, InvalidType

COPIED = 2**30

KINDS = (
    "(x, labels), a tf.data.Dataset, a keras.utils.PyDataset, a torch DataLoader, or"
    " batches (x, labels)"
)


@dataclass(frozen=True)
class Block:
    """Consecutive examples: the first one's number, inputs (n, ...) or several arrays of them,
    labels as they came (n, ...).

    The arrays are copies: what others do to the user's own meanwhile changes nothing here.
    """

    number: int
    first: int
    x: Array | Bundle
    labels: Array

    def __len__(self) -> int:
        return len(self.x)

    @functools.cached_property
    def digest(self) -> str:
        """A hash of inputs and labels."""
        return digest(self.x, self.labels)


class Source:
    """The examples of ``data``, read once.

    Args:
        data: a pair of arrays (x, labels), or batches of such pairs: a ``tf.data.Dataset``, a
            ``keras.utils.PyDataset``, a torch ``DataLoader``, any iterable. A third part, the
            weights of the examples, is left alone. x may be a dict of arrays.
        several: whether x may also be a tuple or a list of arrays, the inputs of a model, which is
            otherwise taken for a pair (x, labels).
    """

    def __init__(self, data: Any, *, several: bool = False) -> None:
        self.arrays: tuple[Array | Bundle, Array] | None = None
        self.copied = False  # whether these are ours alone
        self.several = several
        if isinstance(data, tuple | list) and len(data) in (2, 3) and self._of_arrays(data):
            x, labels = self._inputs("x", data[0]), _array("labels", data[1])
            if (not isinstance(x, Bundle) and x.ndim < 2) or labels.ndim == 0:
                raise InvalidInput(
                    f"data must be {KINDS}; received arrays of shapes {x.shape} and"
                    f" {labels.shape}: is the batch axis missing?"
                )
            _demand_alike(x, labels, "data")
            made = tree.map_structure(_kept, x.tree) if isinstance(x, Bundle) else _kept(x)
            self.arrays = (Bundle(made) if isinstance(x, Bundle) else made, _kept(labels))
            pairs = zip(_leaves(self.arrays[0]), _leaves(x), strict=True)
            self.copied = self.arrays[1] is not labels and all(own is not its for own, its in pairs)
        elif (
            isinstance(data, dict | str | bytes)
            or hasattr(data, "shape")
            or not isinstance(data, Iterable | keras.utils.PyDataset)
        ):
            raise InvalidType(
                f"data must be {KINDS}; received {type(data).__name__}: labels belong to the inputs"
            )
        self.data = data

    def _of_arrays(self, data: Any) -> bool:
        """Whether this is (x, labels), not batches of such pairs."""
        if not _is_pair(data[0]):
            return True
        return self.several and _is_several(data[0]) and not _is_pair(data[1])

    def _inputs(self, name: str, values: Any) -> Array | Bundle:
        """One array, or several in the structure that they came in."""
        if isinstance(values, Bundle):
            return values
        if isinstance(values, Mapping):
            made: Any = {key: _array(f"{name}[{key!r}]", values[key]) for key in values}
        elif self.several and _is_several(values):
            made = [_array(f"{name}[{place}]", entry) for place, entry in enumerate(values)]
            made = tuple(made) if isinstance(values, tuple) else made
        else:
            return _array(name, values)
        if not made:
            raise InvalidInput(f"{name} must be inputs, one or several; received none")
        counts = {str(key): np.shape(each)[:1] for key, each in _named(made)}
        if len(set(counts.values())) > 1 or () in counts.values():
            told = ", ".join(f"{key} has {sum(count)}" for key, count in counts.items())
            raise InvalidInput(
                f"the inputs of {name} must have a row for each example, all the same number:"
                f" {told}"
            )
        return Bundle(made)

    @property
    def total(self) -> int | None:
        """The number of examples, where it is known beforehand."""
        if self.arrays is not None:
            return len(self.arrays[0])
        # said by the data itself, as a folder of images does
        known = getattr(self.data, "examples", None)
        if isinstance(known, int):
            return known
        try:
            return len(self.data.dataset)  # a torch DataLoader
        except (AttributeError, TypeError):
            return None

    @functools.cached_property
    def digest(self) -> str | None:
        """A hash of all examples, where they can be looked at twice."""
        return digest(*self.arrays) if self.arrays is not None else None

    def batches(self) -> Iterator[tuple[Array | Bundle, Array]]:
        """The batches as they come: inputs and labels."""
        if self.arrays is not None:
            yield self.arrays
            return
        data = self.data
        parts = (
            (data[number] for number in range(len(data)))
            if isinstance(data, keras.utils.PyDataset)
            else iter(data)
        )
        for number, part in enumerate(parts):
            if not _is_pair(part):
                raise InvalidType(
                    f"batch {number} of data must be a pair (x, labels); received"
                    f" {_described(part)}"
                )
            x, labels = (
                self._inputs(f"x of batch {number}", part[0]),
                _array(f"labels of batch {number}", part[1]),
            )
            if (not isinstance(x, Bundle) and x.ndim < 2) or labels.ndim == 0:
                raise InvalidInput(
                    f"batch {number} of data has shapes {x.shape} and {labels.shape}: batches need"
                    " a first axis; is .batch(n) missing?"
                )
            _demand_alike(x, labels, f"batch {number} of data")
            if len(x):
                yield x, labels

    def blocks(self, rows: int) -> Iterator[Block]:
        """All examples in blocks of ``rows``; the last may be smaller."""
        held: list[tuple[Array | Bundle, Array]] = []
        waiting = number = 0
        kind: tuple[Any, ...] | None = None
        for x, labels in self.batches():
            if kind is not None and kind != _kind(x):
                raise InvalidInput(
                    f"the inputs of data change from {_told(kind)} to {_told(_kind(x))}"
                )
            kind = _kind(x)
            start = 0
            while start < len(x):
                take = min(rows - waiting, len(x) - start)
                held.append(
                    (copied(x[start : start + take]), np.array(labels[start : start + take]))
                )
                waiting, start = waiting + take, start + take
                if waiting == rows:
                    yield _block(number, number * rows, held)
                    held, waiting, number = [], 0, number + 1
        if waiting:
            yield _block(number, number * rows, held)


def copied(x: Array | Bundle) -> Array | Bundle:
    """A copy that is in memory, in whatever file the rows were."""
    return x.copy() if isinstance(x, Bundle) else np.array(x)


def digest(x: Array | Bundle, labels: Array) -> str:
    """A hash of arrays: what they hold, their shapes and types, and the names of several."""
    made = hashlib.blake2b(digest_size=16)
    if isinstance(x, Bundle):
        made.update(repr([str(name) for name, _ in _named(x.tree)]).encode())
    for values in (*_leaves(x), labels):
        made.update(f"{values.dtype.str}{values.shape}".encode())
        step = max(1, 2**24 // max(1, values[:1].nbytes))
        # not contiguous perhaps: a copy, but never of everything
        for start in range(0, len(values), step):
            made.update(np.ascontiguousarray(values[start : start + step]).data)
    return made.hexdigest()


def joined(parts: list[Any]) -> Any:
    """Rows of several parts, one after the other."""
    first, *others = parts
    if not others:
        return first
    return first.joined(others) if isinstance(first, Bundle) else np.concatenate(parts)


def _block(number: int, first: int, held: list[tuple[Array | Bundle, Array]]) -> Block:
    return Block(
        number, first, joined([x for x, _ in held]), joined([labels for _, labels in held])
    )


def _leaves(x: Array | Bundle) -> list[Array]:
    return [values for _, values in _named(x.tree)] if isinstance(x, Bundle) else [x]


def _named(inputs: Any) -> list[tuple[Any, Array]]:
    """Several inputs, each with its name or its number, in an order that is always the same."""
    if isinstance(inputs, dict):
        return sorted(inputs.items(), key=lambda pair: str(pair[0]))
    return list(enumerate(inputs))


def _kind(x: Array | Bundle) -> tuple[Any, ...]:
    """Shape and dtype of each input, which must be the same for all batches."""
    if isinstance(x, Bundle):
        return tuple((name, each.shape[1:], each.dtype) for name, each in _named(x.tree))
    return (("", x.shape[1:], x.dtype),)


def _told(kind: tuple[Any, ...]) -> str:
    return ", ".join(f"{name} {dtype} {shape}".strip() for name, shape, dtype in kind)


def _is_several(values: Any) -> bool:
    """Whether these are several arrays."""
    return (
        isinstance(values, tuple | list)
        and len(values) > 0
        and all(hasattr(entry, "shape") or hasattr(entry, "__array__") for entry in values)
    )


def _is_pair(part: Any) -> bool:
    return (
        isinstance(part, tuple | list)
        and len(part) in (2, 3)
        and all(hasattr(entry, "__len__") for entry in part[:2])
    )


def _array(name: str, values: Any) -> Array:
    try:
        # a memmap stays one
        made = values if isinstance(values, np.ndarray) else np.asarray(_backend.to_numpy(values))
    except (TypeError, ValueError, AttributeError):
        made = np.asarray(None)
    if made.dtype.kind not in "fiubV":
        several = isinstance(values, dict) and name.startswith("labels") and len(values) > 1
        raise InvalidType(
            f"{name} must be an array of numbers; received {_described(values)}"
            f"{_columns(values) if several else ''}"
        )
    return made


def _columns(labels: Any) -> str:
    """How labels of several outputs become one array: the end of the error's sentence."""
    first, *_, last = labels
    return (
        f": a number for each output is a column of one, labels = np.stack(list(labels.values()),"
        f" 1), and goal=lambda y: advex.AnyOf(advex.Output({shown(first)}, y[:, 0]),"
        f" advex.Output({shown(last)}, y[:, {len(labels) - 1}])); numbers are"
        " advex.Regression(y[:, 0], off=0.5) within"
    )


def _kept(values: Array) -> Array:
    """A copy, unless it would be too large or lies in a file."""
    base: Any = values
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
    return values if base is not None or values.nbytes > COPIED else np.array(values)


def _demand_alike(x: Array | Bundle, labels: Array, name: str) -> None:
    if len(x) != len(labels):
        raise InvalidInput(f"{name} has {len(x)} inputs and {len(labels)} labels")


def _described(part: Any) -> str:
    if isinstance(part, tuple | list):
        return f"a {type(part).__name__} of {len(part)}"
    return type(part).__name__
