"""The sum of absolute changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from keras import ops

from advex._arrays import Array, Tensor, flat, flattened, rows, unit
from advex.budgets.base import SHY, Budget, Randomness, room

ROUNDS = 30  # of bisection


def _shrunk(weight: Tensor, limit: Tensor, radius: Tensor) -> Tensor:
    """``min(max(weight - t, 0), limit)`` with the smallest t >= 0, row by row, at which its sum is at most ``radius``."""
    flat_weight, flat_limit = flat(weight), flat(limit)

    def total(threshold: Tensor) -> Tensor:
        kept = ops.maximum(flat_weight - ops.expand_dims(threshold, 1), 0.0)
        return ops.sum(ops.minimum(kept, flat_limit), axis=1)

    def halve(_: int, bracket: Tensor) -> Tensor:
        low, high = bracket
        middle = (low + high) / 2
        enough = total(middle) <= radius
        return ops.where(enough, low, middle), ops.where(enough, middle, high)

    ends = (ops.zeros_like(flat_weight[:, 0]), ops.max(flat_weight, axis=1))
    low, high = ops.fori_loop(0, ROUNDS, halve, ends)
    # Between the last two thresholds the sum is a straight line.
    above, below = total(low), total(high)
    part = ops.clip((radius - below) / ops.where(above > below, above - below, 1.0), 0.0, 1.0)
    finer = high - part * (high - low)
    threshold = ops.where(total(finer) <= radius, finer, high)
    return ops.minimum(ops.maximum(weight - rows(threshold, weight), 0.0), limit)


@dataclass(frozen=True, repr=False)
class L1(Budget):
    """Sum of the absolute changes, divided by the box's range.

    Args:
        epsilon: largest sum. None: no limit.

    Raises:
        InvalidInput: epsilon is negative or not finite.
        InvalidType: epsilon is not a number.

    Example:
        >>> L1(12)
        L1(12)
    """

    def size(self, delta: Tensor) -> Tensor:
        return ops.sum(ops.abs(flat(delta)), axis=1)

    def project(self, delta: Tensor) -> Tensor:
        weight = ops.abs(delta)
        moved = _shrunk(weight, weight, SHY * self.epsilon)
        return ops.where(rows(self.size(delta) <= self.epsilon, delta), delta, ops.sign(delta) * moved)

    def nearest(self, x: Tensor, x0: Tensor, low: Tensor, high: Tensor) -> Tensor:
        boxed = ops.clip(x, low, high)
        if not self.limited:
            return boxed
        delta = x - x0
        moved = _shrunk(ops.abs(delta), room(delta, x0, low, high), SHY * self.epsilon)
        inside = rows(self.size(boxed - x0) <= self.epsilon, x)
        return ops.where(inside, boxed, ops.clip(x0 + ops.sign(delta) * moved, low, high))

    def steepest(self, gradient: Tensor) -> Tensor:
        """The signs of the largest 1 % of the gradient, at least one element, scaled to a sum of 1.

        The steepest direction proper is a single element; in a box it is soon at its end. (Tramer and Boneh, Adversarial
        training and robustness for multiple perturbations, 2019, choose a share of the elements likewise.)
        """
        size = ops.abs(flat(gradient))
        count = max(1, size.shape[1] // 100)
        threshold = ops.top_k(size, count)[0][:, -1:]
        chosen = ops.logical_and(size >= threshold, size > 0)
        return unit(ops.where(ops.reshape(chosen, ops.shape(gradient)), ops.sign(gradient), 0.0), order=1)

    def extreme(self, gradient: Tensor, x0: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # Fill the elements to the end of the box, those with the largest gradient first, until the budget is spent.
        available = flat(room(gradient, x0, low, high))
        order = ops.argsort(-ops.abs(flat(gradient)), axis=1)
        ordered = ops.take_along_axis(available, order, axis=1)
        before = ops.cumsum(ordered, axis=1) - ordered
        spent = ops.clip(SHY * self.epsilon - before, 0.0, ordered)
        moved = ops.take_along_axis(spent, ops.argsort(order, axis=1), axis=1)
        return ops.clip(x0 + ops.sign(gradient) * ops.reshape(moved, ops.shape(x0)), low, high)

    def sample(self, problem: Randomness) -> Tensor:
        # Exponential numbers divided by their sum are uniform on the simplex; one of them more fills the ball.
        shape = tuple(problem.x0.shape[1:])
        weight = -ops.log(1 - problem.uniform(shape))
        total = ops.sum(flat(weight), axis=1) - ops.log(1 - problem.uniform(()))
        return self.epsilon * problem.signs(shape) * weight / rows(ops.maximum(total, 1e-30), weight)

    def measure(self, delta: Array) -> Array:
        return np.abs(flattened(delta)).sum(axis=1)
