"""What the device holds of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import tree

from advex import _backend
from advex._arrays import Array, Tensor


class Common(NamedTuple):
    """Numbers that all rows share, as scalars in the model's units."""

    epsilon: Any
    span: Any
    lower: Any
    upper: Any
    top: Any
    """The largest 8-bit level."""


class Rows(NamedTuple):
    """A batch of rows under attack. The first axis of every tensor is the batch; () is absent."""

    # What stays as it is.
    x0: Tensor
    bounds: tuple[Tensor, ...]
    """Lowest and highest legal value of each element, where the budget gives them."""
    mask: Tensor
    """Which elements may change, where not all may."""
    beside: dict[str, Tensor]
    """What else a domain, or a model of several inputs, must know of each row."""
    goal: dict[str, Tensor]
    key: Tensor
    salt: Tensor
    repetition: Tensor
    numbers: dict[str, Tensor]
    """The numbers of each row's run."""
    target: Tensor
    """The class that the run pursues."""
    start: Tensor

    # Where the driver has it.
    live: Tensor
    """Whether the seat is taken. Nobody looks at the others, and nothing is counted for them."""
    step: Tensor
    done: Tensor
    """Whether the attack needs no further step."""
    x: Tensor
    memory: Any

    # What the problem has seen of it.
    best: Tensor
    found: Tensor
    size: Tensor
    idle: Tensor
    margin: Tensor
    """The goal's margin at the last point, once that was looked at."""
    nan: Tensor
    """Whether the model has answered NaN."""
    flat: Tensor
    """Whether the gradient was zero at the start."""
    doubt: Tensor
    """Whether its gradients look as if they hid the way."""
    gradients: Tensor
    queries: Tensor

    # Of attacks that need no gradients alone.
    others: Tensor = ()
    """Points of other classes, (batch, k, ...), where such are known."""
    spent: Tensor = ()
    """The queries of the runs before, where the sizes at marks are kept."""
    trace: Tensor = ()
    """The smallest size at each of the marks, (batch, marks), where they are kept."""

    @property
    def seats(self) -> int:
        """How many rows there are."""
        return int(self.x0.shape[0])

    def map(self, function: Callable[[Tensor], Tensor]) -> Rows:
        """Every tensor replaced."""
        rows: Rows = tree.map_structure(function, self)
        return rows

    def picked(self, index: Array) -> Rows:
        """The rows of these numbers."""
        return self.map(lambda leaf: _backend.gather(leaf, index))

    def joined(self, other: Rows) -> Rows:
        """These rows, then the others."""
        joined: Rows = tree.map_structure(
            lambda one, two: _backend.concatenate([one, two]), self, other
        )
        return joined


def blank(count: int) -> dict[str, Any]:
    """What nothing is known of yet: the fields of ``Rows`` that the problem fills in."""
    return {
        "found": np.zeros(count, bool),
        "size": np.full(count, np.inf, "float32"),
        "idle": np.zeros(count, "int32"),
        "margin": np.full(count, np.nan, "float32"),
        "nan": np.zeros(count, bool),
        "flat": np.zeros(count, bool),
        "doubt": np.zeros(count, bool),
        "gradients": np.zeros(count, "int32"),
        "queries": np.zeros(count, "int32"),
        "done": np.zeros(count, bool),
        "x": (),
        "memory": (),
    }
