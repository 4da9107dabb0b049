"""The number of changed elements."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from keras import ops

from advex._arrays import Array, Tensor, axes, flat, flattened
from advex._settings import whole_number
from advex.budgets.base import Budget, Randomness, rank, room


@dataclass(frozen=True, repr=False)
class L0(Budget):
    r"""Number of array elements that change (a colour pixel has three).

    When to use it:
        When only a few values can be changed at all, but by any amount: single pixels, single
        fields of a table, a sticker on a lens.

    $$ \lVert \delta \rVert_0 = \#\{i : \delta_i \ne 0\} \le \varepsilon $$

    $\delta = x - x_0$ is the change, and $\varepsilon$ is `epsilon`, a number of elements: the
    box's range plays no part.

    Args:
        epsilon: how many may change, a whole number from 0: one number, or one for each example,
            (n,). None: no limit.
        mask: where an input may change, see `Budget`. None: everywhere.

    Raises:
        InvalidType: `epsilon` is not a number, or the mask no array of booleans.
        InvalidInput: `epsilon` is negative or not whole.

    Example:
        >>> L0(20)
        L0(20)
    """

    homogeneous: ClassVar[bool] = False

    def _checked(self, epsilon: Any) -> float:
        return float(whole_number("L0(epsilon), a number of elements,", epsilon, lowest=0))

    def _each(self, epsilons: Array) -> tuple[float, ...]:
        if epsilons.dtype.kind == "f" and (epsilons == np.rint(epsilons)).all():
            epsilons = epsilons.astype("int64")
        return super()._each(epsilons)

    def _kept(self, delta: Tensor, gain: Tensor) -> Tensor:
        """Where ``gain``, flattened, is among the ``epsilon`` largest of its row and above zero."""
        count = ops.cast(self.epsilon, "int32")
        count = ops.expand_dims(count, 1) if len(count.shape) else count  # one for each example
        chosen = ops.logical_and(rank(gain) < count, gain > 0)
        return ops.reshape(chosen, ops.shape(delta))

    def size(self, delta: Tensor) -> Tensor:
        return ops.sum(ops.cast(delta != 0, "float32"), axis=axes(delta))

    def project(self, delta: Tensor) -> Tensor:
        return ops.where(self._kept(delta, ops.abs(flat(delta))), delta, 0.0)

    def nearest(self, x: Tensor, x0: Tensor, low: Tensor, high: Tensor) -> Tensor:
        boxed = ops.clip(x, low, high)
        if not self.limited:
            return boxed
        gain = ops.square(x - x0) - ops.square(x - boxed)  # what it is worth to move this element
        worth = ops.where(boxed != x0, ops.maximum(gain, 1e-37), 0.0)
        return ops.where(self._kept(x, flat(worth)), boxed, x0)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The sign of the element with the largest gradient, alone."""
        size = ops.abs(flat(gradient))
        chosen = ops.logical_and(rank(size) < 1, size > 0)
        return ops.where(ops.reshape(chosen, ops.shape(gradient)), ops.sign(gradient), 0.0)

    def extreme(self, gradient: Tensor, x0: Tensor, low: Tensor, high: Tensor) -> Tensor:
        end = ops.where(gradient > 0, high, ops.where(gradient < 0, low, x0))
        gain = flat(ops.abs(gradient) * room(gradient, x0, low, high))
        return ops.where(self._kept(gradient, gain), end, x0)

    def sample(self, problem: Randomness) -> Tensor:
        shape = tuple(problem.x0.shape[1:])
        chosen = self._kept(problem.x0, flat(problem.uniform(shape)))
        return ops.where(chosen, problem.span * (2 * problem.uniform(shape) - 1), 0.0)

    def measure(self, delta: Array) -> Array:
        return np.count_nonzero(flattened(delta), axis=1).astype("float64")

    def limit(self, span: Fraction) -> float:
        return float(self.epsilon)

    def scaled(self, delta: Array, factor: Array) -> Array:
        size = np.abs(flattened(delta))
        places = np.argsort(np.argsort(-size, axis=1, kind="stable"), axis=1)
        most = self.epsilon if self.epsilons is None else self.epsilons[:, None]
        return np.where(places < most, flattened(delta), 0).reshape(delta.shape)
