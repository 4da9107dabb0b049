"""The sum of absolute changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from advex._arrays import Array, Tensor, flat, flattened, rows, unit
from advex.budgets.base import ROUNDS, SHY, Budget, Randomness, climb, room

HALVINGS = 30


def _shrunk(weight: Tensor, limit: Tensor, radius: Tensor) -> Tensor:
    """``min(max(weight - t, 0), limit)`` with the smallest t >= 0, row by row, at which its sum is
    at most ``radius``.
    """
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
    low, high = ops.fori_loop(0, HALVINGS, halve, ends)
    # Between the last two thresholds the sum is a straight line.
    above, below = total(low), total(high)
    part = ops.clip((radius - below) / ops.where(above > below, above - below, 1.0), 0.0, 1.0)
    finer = high - part * (high - low)
    threshold = ops.where(total(finer) <= radius, finer, high)
    return ops.minimum(ops.maximum(weight - rows(threshold, weight), 0.0), limit)


def _filled(weight: Tensor, limit: Tensor, total: Tensor) -> Tensor:
    """Shares of the limits, 0 to 1, with ``sum(weight * limit * share) = total`` at the least
    ``sum(limit * share)``.

    1 for those with the largest weights, a part for those with the weight at which it is enough;
    all 1 if that is not enough.
    """
    # The mean weight of those still in question parts them, as in quickselect, until they all have
    # the same: faster than to sort.
    gain = weight * limit

    def above(threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        chosen = weight > ops.expand_dims(threshold, 1)
        return (
            threshold,
            ops.sum(ops.where(chosen, gain, 0.0), axis=1),
            ops.sum(ops.where(chosen, limit, 0.0), axis=1),
        )

    def going(_: Any, active: Tensor, count: Tensor) -> Tensor:
        return ops.logical_and(ops.any(active), count < ROUNDS)

    def parted(ends: Any, active: Tensor, count: Tensor) -> Any:
        (_, all_gain, all_limit), (_, top_gain, top_limit) = ends
        rest = all_limit - top_limit
        mean = above((all_gain - top_gain) / ops.where(rest > 0, rest, 1.0))
        active = ops.logical_and(active, ops.logical_and(mean[1] < all_gain, mean[1] > top_gain))
        enough = mean[1] >= total
        moves = (ops.logical_and(active, enough), ops.logical_and(active, ops.logical_not(enough)))
        ends = tuple(
            tuple(ops.where(move, new, old) for new, old in zip(mean, end, strict=True))
            for move, end in zip(moves, ends, strict=True)
        )
        return ends, active, count + 1

    zero = ops.zeros_like(total)
    whole = above(zero)
    enough = total < whole[1]
    start = ((whole, (ops.max(weight, axis=1), zero, zero)), enough, ops.zeros((), "int32"))
    ((low, all_gain, _), (high, top_gain, _)), _, _ = ops.while_loop(going, parted, start)
    between = all_gain - top_gain
    part = ops.where(enough, (total - top_gain) / ops.where(between > 0, between, 1.0), 1.0)
    part = ops.expand_dims(ops.clip(part, 0.0, 1.0), 1)
    return ops.where(
        weight > ops.expand_dims(high, 1),
        1.0,
        ops.where(weight > ops.expand_dims(low, 1), part, 0.0),
    )


@dataclass(frozen=True, repr=False)
class L1(Budget):
    r"""Sum of the absolute changes, divided by the box's range.

    When to use it:
        When sparse changes are the threat but single elements have no fixed price: some move far,
        most stay. For a count of elements take `L0`.

    $$ \lVert \delta \rVert_1 = \sum_i |\delta_i| \le \varepsilon\,(u - l) $$

    $\delta = x - x_0$ is the change, $l$ and $u$ are the ends of the box, $\varepsilon$ is
    `epsilon`.

    Args:
        epsilon: largest sum, at least 0, such as 12: a number, or one for each example, (n,). None:
            no limit.
        mask: where an input may change, see `Budget`. None: everywhere.

    Raises:
        InvalidType: `epsilon` is not a number, or the mask no array of booleans.
        InvalidInput: `epsilon` is negative or not finite.

    Example:
        >>> L1(12)
        L1(12)
    """

    def size(self, delta: Tensor) -> Tensor:
        return ops.sum(ops.abs(flat(delta)), axis=1)

    def project(self, delta: Tensor) -> Tensor:
        weight = ops.abs(delta)
        moved = _shrunk(weight, weight, SHY * self.epsilon)
        return ops.where(
            rows(self.size(delta) <= self.epsilon, delta), delta, ops.sign(delta) * moved
        )

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

        The steepest direction proper is a single element; in a box it is soon at its end. (Tramer
        and Boneh, Adversarial training and robustness for multiple perturbations, 2019, choose a
        share of the elements likewise.)
        """
        size = ops.abs(flat(gradient))
        count = max(1, size.shape[1] // 100)
        threshold = ops.top_k(size, count)[0][:, -1:]
        chosen = ops.logical_and(size >= threshold, size > 0)
        return unit(
            ops.where(ops.reshape(chosen, ops.shape(gradient)), ops.sign(gradient), 0.0), order=1
        )

    def extreme(self, gradient: Tensor, x0: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # Fill the elements to the end of the box, those with the largest gradient first, until the
        # budget is spent.
        available = flat(room(gradient, x0, low, high))
        order = ops.argsort(-ops.abs(flat(gradient)), axis=1)
        ordered = ops.take_along_axis(available, order, axis=1)
        before = ops.cumsum(ordered, axis=1) - ordered
        limit = SHY * self.epsilon
        if len(getattr(limit, "shape", ())):  # one for each example
            limit = ops.expand_dims(limit, 1)
        spent = ops.clip(limit - before, 0.0, ordered)
        moved = ops.take_along_axis(spent, ops.argsort(order, axis=1), axis=1)
        return ops.clip(x0 + ops.sign(gradient) * ops.reshape(moved, ops.shape(x0)), low, high)

    def dual(self, gradient: Tensor) -> Tensor:
        return ops.max(ops.abs(flat(gradient)), axis=1)

    def onto(self, x: Tensor, normal: Tensor, rise: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # The elements with the largest weights move to their ends, those with the weight at which
        # it is enough in part.
        normal, rise, end = climb(x, normal, rise, low, high)
        share = _filled(flat(ops.abs(normal)), flat(ops.abs(end - x)), rise)
        return ops.clip(x + ops.reshape(share, ops.shape(x)) * (end - x), low, high)

    def sample(self, problem: Randomness) -> Tensor:
        # Exponential numbers divided by their sum are uniform on the simplex; one of them more
        # fills the ball.
        shape = tuple(problem.x0.shape[1:])
        weight = -ops.log(1 - problem.uniform(shape))
        total = ops.sum(flat(weight), axis=1) - ops.log(1 - problem.uniform(()))
        return (
            self.epsilon * problem.signs(shape) * weight / rows(ops.maximum(total, 1e-30), weight)
        )

    def measure(self, delta: Array) -> Array:
        return np.abs(flattened(delta)).sum(axis=1)
