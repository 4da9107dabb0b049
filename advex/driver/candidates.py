"""Points where a search without gradients may begin: data that the model answers otherwise."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, flattened
from advex._settings import helpful, shown
from advex.driver.draws import row_keys
from advex.errors import InvalidInput, InvalidType
from advex.goals import Goal
from advex.goals.labels import class_numbers

NOTHING, GIVEN, DATA, NOISE, CORNER, ROW = range(6)
"""Where a row has begun: what attacks note as "origin"."""
NEAREST = 4  # points of other classes that are tried, the nearest first
UNKNOWN = 8  # points that are tried where nothing is known of their classes
POOL = 1000  # rows of a call among which starts are looked for
CHUNK = 64  # rows whose goals are judged at once


class Others:
    """Data among which attacks that need labels alone find where to begin: ``start=Others(x,
    labels)``. A point that is near and of another class is a better start than noise, and where
    noise never crosses the boundary the only one.

    When to use it:
        With `HopSkipJump`, `CGBA`, `SurFree`, `RayS` and `Pointwise`, when inputs of other classes
        are at hand: fewer queries are lost on the start.

    Args:
        x: inputs like those that are attacked, (m, ...).
        labels: their classes, (m,), as far as one knows: the four nearest whose class fulfils the
            goal are asked about, one query each. None: eight of them, whichever.

    Raises:
        InvalidInput: another number of labels.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data(8)
        >>> model = advex.testing.linear_model()
        >>> result = advex.HopSkipJump(steps=100)(model, x[:2], labels[:2], advex.L2(),
        ...     start=Others(x[2:], labels[2:]))
        >>> bool(result.success.all())
        True
    """

    @helpful
    def __init__(self, x: Any, labels: Any = None) -> None:
        self.x, self.labels = x, labels
        if labels is not None:
            self.labels, _ = class_numbers("labels", labels)
            count = len(x) if hasattr(x, "__len__") else None
            if count != len(self.labels):
                raise InvalidInput(
                    f"Others: x has {count} examples but there are {len(self.labels)} labels"
                )
        if isinstance(x, str | bytes) or not hasattr(x, "__len__"):
            raise InvalidType(f"Others needs inputs, an array (m, ...); received {shown(x)}")

    def __repr__(self) -> str:
        told = "" if self.labels is None else ", with labels"
        return f"Others({len(self.x)} inputs{told})"


class Candidates(NamedTuple):
    """Where each row may begin. The last one is another row of the call, and is the last resort."""

    points: Array
    """(m, ...)."""
    numbers: Array
    """Of the points, (n, k); -1 where there is none."""

    def of(self, rows: Array, x: Array) -> Array:
        """The points of some rows, (len(rows), k, ...); the original where there is none."""
        index = self.numbers[rows]
        chosen = self.points[np.maximum(index, 0)]
        there = (index >= 0).reshape(*index.shape, *(1,) * (x.ndim - 1))
        return np.where(there, chosen, x[rows][:, None])

    def first(self, count: int) -> Candidates:
        """Those of the first rows."""
        return self._replace(numbers=self.numbers[:count])


def candidates(
    x: Array, seed: int, given: Others | None, goal: Goal, logits: Array | None
) -> Candidates:
    """Where the rows of a call may begin.

    Args:
        x: the inputs, (n, ...).
        seed: of the call.
        given: data of other classes, if there are any.
        goal: what is wanted of the inputs.
        logits: what the model answers to them, (n, classes); None: that is of no use.
    """
    keys = row_keys(x.astype("float32"), seed)
    order = np.lexsort((keys[:, 1], keys[:, 0]))[:POOL]
    points, own = x[order], np.full((len(x), 1), -1)
    if logits is not None:
        fits = _reached(goal, len(x), logits[order])
        fits &= order[None] != np.arange(len(x))[:, None]
        own = _nearest(x, points, fits, 1)
    if given is None:
        return Candidates(points, own)
    data, labels = given.x, given.labels
    if labels is None or logits is None:
        drawn = [
            np.random.default_rng([*key.view("uint32").tolist()]).permutation(len(data))[:UNKNOWN]
            for key in keys
        ]
        index = np.stack(drawn)
    else:
        classes = max(int(logits.shape[1]), int(labels.max(initial=0)) + 1)
        said = (labels[:, None] == np.arange(classes)).astype("float32")
        index = _nearest(x, data, _reached(goal, len(x), said), NEAREST)
    return Candidates(
        np.concatenate([data, points]),
        np.concatenate([index, np.where(own >= 0, own + len(data), -1)], axis=1),
    )


def _reached(goal: Goal, count: int, answers: Array) -> Array:
    """Whether each of the answers, (m, classes), reaches the goal of each row: (n, m)."""
    made, told = [], ops.convert_to_tensor(np.tile(answers, (min(CHUNK, count), 1)))
    for start in range(0, count, CHUNK):
        every = np.repeat(np.arange(start, min(start + CHUNK, count)), len(answers))
        rows = {name: ops.convert_to_tensor(values[every]) for name, values in goal.rows().items()}
        reached = goal.bound(rows).reached(told[: len(every)])
        made.append(_backend.to_numpy(reached).reshape(-1, len(answers)))
    return np.concatenate(made)


def _nearest(x: Array, points: Array, fits: Array, count: int) -> Array:
    """The numbers of the nearest points that fit, (n, count); -1 where there are no more."""
    wide, far = flattened(x).astype("float32"), flattened(points).astype("float32")
    chosen = np.full((len(x), count), -1)
    squares = np.square(far).sum(1)
    for start in range(0, len(x), CHUNK):
        some = slice(start, start + CHUNK)
        away = np.where(fits[some], squares - 2 * wide[some] @ far.T, np.inf)
        order = np.argsort(away, axis=1, kind="stable")[:, :count]
        there = np.isfinite(np.take_along_axis(away, order, axis=1))
        chosen[some, : order.shape[1]] = np.where(there, order, -1)
    return chosen
