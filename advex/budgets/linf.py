"""The maximum norm: every element may move by epsilon."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from keras import ops

from advex._arrays import Array, Tensor, axes, flat, flattened, rows
from advex.budgets.base import Budget, Randomness, climb, fraction_of_range, level


@dataclass(frozen=True, repr=False)
class Linf(Budget):
    r"""Largest change of any element.

    When to use it:
        The usual budget for images: every value may move by so many grey levels, and a person
        hardly sees a few of them. Faint noise over the whole image comes out.

    $$ \lVert \delta \rVert_\infty = \max_i |\delta_i| \le \varepsilon\,(u - l) $$

    $\delta = x - x_0$ is the change, $l$ and $u$ are the ends of the box, $\varepsilon$ is
    `epsilon`.

    Args:
        epsilon: a share of the box's range, 0 to 1, such as 8/255: a number, or one for each
            example, (n,). None: no limit.
        mask: where an input may change, see `Budget`. None: everywhere.

    Raises:
        InvalidType: `epsilon` is not a number, or the mask no array of booleans.
        InvalidInput: `epsilon` is negative, not finite or above 1.

    Example:
        >>> Linf(8 / 255)
        Linf(8/255)
    """

    def _checked(self, epsilon: Any) -> float:
        return fraction_of_range("Linf", super()._checked(epsilon), self.mask is not None)

    def __repr__(self) -> str:
        if self.epsilons is not None:
            return super().__repr__()
        levels = round((self.epsilon or 0) * 255)
        return (
            f"Linf({', '.join([f'{levels}/255', *self._masked])})"
            if 0 < levels < 255 and levels / 255 == self.epsilon
            else super().__repr__()
        )

    def size(self, delta: Tensor) -> Tensor:
        return ops.max(ops.abs(delta), axis=axes(delta))

    def project(self, delta: Tensor) -> Tensor:
        return ops.clip(delta, -self.epsilon, self.epsilon)

    def nearest(self, x: Tensor, x0: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return ops.clip(x, low, high)  # ``bounds`` has put the ball into low and high

    def around(self, x: Tensor, x0: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
        reach = rows(radius, x)
        return ops.clip(x, ops.maximum(low, x0 - reach), ops.minimum(high, x0 + reach))

    def steepest(self, gradient: Tensor) -> Tensor:
        return ops.sign(gradient)

    def extreme(self, gradient: Tensor, x0: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return ops.where(gradient > 0, high, ops.where(gradient < 0, low, x0))

    def dual(self, gradient: Tensor) -> Tensor:
        return ops.sum(ops.abs(flat(gradient)), axis=1)

    def onto(self, x: Tensor, normal: Tensor, rise: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # Every element moves by the same amount, or to its end.
        normal, rise, end = climb(x, normal, rise, low, high)
        reach = rows(level(flat(ops.abs(normal)), flat(normal * (end - x)), rise), x)
        return ops.clip(end, x - reach, x + reach)

    def sample(self, problem: Randomness) -> Tensor:
        return self.epsilon * (2 * problem.uniform(tuple(problem.x0.shape[1:])) - 1)

    def bounds(self, x0: Array, box: tuple[Any, Any], span: Fraction) -> tuple[Array, Array]:
        low, high = super().bounds(x0, box, span)
        if not self.limited:
            return low, high
        reach = self.limit(span)
        wide = x0.astype("float64")
        # What x0 -/+ reach loses when it is rounded to float64 (exact, by Knuth's two-sum) decides
        # the last unit.
        up, down = wide + reach, wide - reach
        lost_up = (wide - (up - (up - wide))) + (reach - (up - wide))
        lost_down = (wide - (down - (down - wide))) - (reach + (down - wide))
        upper, lower = up.astype(x0.dtype), down.astype(x0.dtype)
        back_up, back_down = upper.astype("float64"), lower.astype("float64")
        too_high = (back_up > up) | ((back_up == up) & (lost_up < 0))
        too_low = (back_down < down) | ((back_down == down) & (lost_down > 0))
        infinity = np.asarray(np.inf, x0.dtype)
        upper = np.where(too_high, np.nextafter(upper, -infinity), upper)
        lower = np.where(too_low, np.nextafter(lower, infinity), lower)
        return np.maximum(lower, low), np.minimum(upper, high)

    def levels(self) -> int:
        if not self.limited:
            return 255
        count = min(255, int(self.epsilon * 255) + 1)
        while count / 255 > self.epsilon:
            count -= 1
        return count

    def measure(self, delta: Array) -> Array:
        return np.abs(flattened(delta)).max(axis=1, initial=0)
