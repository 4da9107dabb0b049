"""The Euclidean norm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from keras import ops

from advex._arrays import Array, Tensor, flat, flattened, rows, unit
from advex.budgets.base import SHY, Budget, Randomness, climb, level, room


def _filled(weight: Tensor, limit: Tensor, radius: Tensor) -> Tensor:
    """``min(s * weight, limit)`` with the s, row by row, at which its Euclidean norm is ``radius``
    (or as near as can be).
    """
    squared = ops.square(radius) * ops.ones_like(flat(weight)[:, 0])
    scale = level(ops.square(flat(weight)), ops.square(flat(limit)), squared)
    return ops.minimum(weight * rows(ops.sqrt(scale), weight), limit)


@dataclass(frozen=True, repr=False)
class L2(Budget):
    r"""Euclidean length of the perturbation, divided by the box's range.

    When to use it:
        When a few places may change more if others change less, and where certificates are
        compared: randomised smoothing certifies L2. Its meaning depends on the size of the image.

    $$ \lVert \delta \rVert_2 = \sqrt{\textstyle\sum_i \delta_i^2} \le \varepsilon\,(u - l) $$

    $\delta = x - x_0$ is the change, $l$ and $u$ are the ends of the box, $\varepsilon$ is
    `epsilon`.

    Args:
        epsilon: largest length, at least 0, such as 0.5: a number, or one for each example, (n,).
            None: no limit.
        mask: where an input may change, see `Budget`. None: everywhere.

    Raises:
        InvalidType: `epsilon` is not a number, or the mask no array of booleans.
        InvalidInput: `epsilon` is negative or not finite.

    Example:
        >>> L2(0.5)
        L2(0.5)
    """

    def size(self, delta: Tensor) -> Tensor:
        delta = flat(delta)
        largest = ops.max(ops.abs(delta), axis=1)
        safe = ops.where(largest > 0, largest, 1.0)
        return safe * ops.sqrt(ops.sum(ops.square(delta / ops.expand_dims(safe, 1)), axis=1))

    def project(self, delta: Tensor) -> Tensor:
        size = self.size(delta)
        shrink = ops.where(
            size > self.epsilon, SHY * self.epsilon / ops.where(size > 0, size, 1.0), 1.0
        )
        return delta * rows(shrink, delta)

    def nearest(self, x: Tensor, x0: Tensor, low: Tensor, high: Tensor) -> Tensor:
        boxed = ops.clip(x, low, high)
        if not self.limited:
            return boxed
        delta = x - x0
        moved = _filled(ops.abs(delta), room(delta, x0, low, high), SHY * self.epsilon)
        inside = rows(self.size(boxed - x0) <= self.epsilon, x)
        return ops.where(inside, boxed, ops.clip(x0 + ops.sign(delta) * moved, low, high))

    def steepest(self, gradient: Tensor) -> Tensor:
        return unit(gradient, order=2)

    def extreme(self, gradient: Tensor, x0: Tensor, low: Tensor, high: Tensor) -> Tensor:
        weight = ops.abs(unit(gradient, order=float("inf")))
        moved = _filled(weight, room(gradient, x0, low, high), SHY * self.epsilon)
        return ops.clip(x0 + ops.sign(gradient) * moved, low, high)

    def dual(self, gradient: Tensor) -> Tensor:
        return self.size(gradient)

    def onto(self, x: Tensor, normal: Tensor, rise: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # Elements move in proportion to the normal, or to their end.
        normal, rise, end = climb(x, normal, rise, low, high)
        scale = rows(level(flat(ops.square(normal)), flat(normal * (end - x)), rise), x)
        return ops.clip(x + scale * normal, low, high)

    def sample(self, problem: Randomness) -> Tensor:
        shape = tuple(problem.x0.shape[1:])
        # Box and Muller's normal numbers give the direction, the n-th root of a uniform one the
        # length.
        length = ops.sqrt(-2 * ops.log(1 - problem.uniform(shape)))
        direction = unit(length * ops.cos(2 * np.pi * problem.uniform(shape)), order=2)
        radius = ops.power(problem.uniform(()), 1 / int(np.prod(shape)))
        return self.epsilon * direction * rows(radius, direction)

    def measure(self, delta: Array) -> Array:
        return np.sqrt(np.square(flattened(delta)).sum(axis=1))
