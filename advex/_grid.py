"""Between the user's array and the search: dtypes, the 8-bit grid, exact limits, and what the model really sees."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
from keras import ops

from advex._arrays import Array, Tensor, flattened, rows
from advex.budgets import Budget, Linf

HALVES = {np.dtype("float16"): "float16", np.dtype(ml_dtypes.bfloat16): "bfloat16"}
ACCEPTED = {np.dtype("uint8"), np.dtype("float32"), np.dtype("float64"), *HALVES}


class Grid:
    """The values an input can take: 256 levels for uint8, otherwise what its dtype can express.

    Args:
        dtype: dtype of the user's array.
        box: lowest and highest legal value, in the model's units.
    """

    def __init__(self, dtype: np.dtype[Any], box: tuple[float, float]) -> None:
        self.dtype, self.box = dtype, box
        self.levels = dtype == np.uint8
        self.half = HALVES.get(dtype)
        self.span = Fraction(box[1]) - Fraction(box[0])
        # Exact coordinates: levels for uint8, the values themselves otherwise (float64 is cut to float32).
        self.exact = np.dtype("float32") if dtype == np.float64 else dtype

    def key(self) -> tuple[Any, ...]:
        """What a compiled search depends on."""
        return (self.levels, self.half, self.box)

    def working(self, x: Array) -> Array:
        """The user's values as float32 in the model's units."""
        if not self.levels:
            return x.astype(self.exact).astype("float32")
        low, span = np.float32(self.box[0]), np.float32(self.span)
        # Multiplied before it is divided: exact in the boxes (0, 1), (-1, 1) and (0, 255).
        return low + x.astype("float32") * span / np.float32(255)

    def returned(self, x: Array) -> Array:
        """Float32 values in the model's units that lie on the grid, in the user's dtype."""
        if not self.levels:
            return x.astype(self.exact).astype(self.dtype)
        scale = 255 / float(self.span)
        return np.clip(np.rint((x.astype("float64") - self.box[0]) * scale), 0, 255).astype("uint8")

    def bounds(self, x0: Array, budget: Budget) -> tuple[Array, Array]:
        """Lowest and highest legal value of each element, as float32 in the model's units."""
        if not self.levels:
            lower, upper = budget.bounds(x0.astype(self.exact), self.box, self.span)
            return lower.astype("float32"), upper.astype("float32")
        reach = budget.levels()
        if not isinstance(budget, Linf):
            return np.float32(self.box[0]), np.float32(self.box[1])  # type: ignore[return-value]
        wide = x0.astype("int16")
        return (
            self.working(np.maximum(wide - reach, 0).astype("uint8")),
            self.working(np.minimum(wide + reach, 255).astype("uint8")),
        )

    def snapped(self, x: Tensor, x0: Tensor, budget: Budget, lower: Tensor, upper: Tensor, top: Tensor) -> Tensor:
        """The point of the grid that the model is shown for ``x``; inside the budget if ``x`` is (in ``keras.ops``).

        ``top`` is 255 as a tensor: a compiler turns the division by a constant into a product, which is another number.
        """
        if self.half:
            return ops.clip(ops.cast(ops.cast(x, self.half), "float32"), lower, upper)
        if not self.levels:
            return x
        low, span = float(self.box[0]), float(self.span)
        scale = 255 / span
        level0 = ops.round((x0 - low) * scale)
        delta = ops.clip((x - low) * scale, 0.0, 255.0) - level0
        moved = ops.round(delta)
        if budget.limited and not isinstance(budget, Linf):
            # Rounding to nearest may leave a curved ball: then once more a little shorter, and at last towards x0.
            limit = budget.epsilon * scale if budget.homogeneous else budget.epsilon
            size = budget.size(moved)
            shorter = ops.round(delta * rows(limit / ops.maximum(size, 1e-30) * 0.999, delta))
            inwards = ops.sign(delta) * ops.floor(ops.abs(delta))
            second = ops.where(rows(budget.size(shorter) <= limit, delta), shorter, inwards)
            moved = ops.where(rows(size <= limit, delta), moved, second)
        return ops.clip(low + (level0 + moved) * span / top, lower, upper)

    # The final word, in float64: sizes are in units of the box's range (L0: elements).

    def difference(self, x: Array, x0: Array) -> Array:
        """``x - x0`` in exact coordinates, float64."""
        return self._wide(x) - self._wide(x0)

    def distance(self, x: Array, x0: Array, budget: Budget) -> Array:
        """The size of each row's change, shape (n,), float64."""
        size = budget.measure(self.difference(x, x0))
        if not budget.homogeneous:
            return size
        return size / (255.0 if self.levels else float(self.span))

    def within(self, x: Array, x0: Array, budget: Budget) -> Array:
        """Whether each row is inside budget and box, in exact arithmetic but for a hair on the safe side: (n,) of bool."""
        wide, delta = self._wide(x), self.difference(x, x0)
        low, high = (0, 255) if self.levels else (float(np.asarray(end, self.exact)) for end in self.box)
        inside = np.asarray(flattened((wide >= low) & (wide <= high)).all(axis=1))
        if not budget.limited:
            return inside
        if self.levels:
            size = budget.measure(delta)
            return inside & ((size / 255 if budget.homogeneous else size) <= budget.epsilon)
        if isinstance(budget, Linf):
            lower, upper = budget.bounds(x0.astype(self.exact), self.box, self.span)
            fits = np.asarray(flattened((wide >= lower) & (wide <= upper)).all(axis=1))
            return inside & fits
        hair = 1 - 1e-12 if budget.homogeneous else 1.0
        return inside & (budget.measure(delta) <= budget.limit(self.span) * hair)

    def settled(self, x: Array, x0: Array, budget: Budget) -> Array:
        """``x`` (user's dtype) with every row that is outside the budget by a rounding error pulled inside."""
        outside = ~self.within(x, x0, budget)
        if not (outside.any() and budget.limited):
            return x
        x = x.copy()
        for attempt in range(24):
            wrong = np.flatnonzero(outside)
            if not len(wrong):
                break
            delta = self.difference(x[wrong], x0[wrong])
            size = np.maximum(budget.measure(delta), 1e-300)
            limit = budget.limit(Fraction(255) if self.levels else self.span)
            factor = np.minimum(1, limit / size) * (1 - 1e-9 * 4.0**attempt if attempt < 14 else 0.5)
            moved = budget.scaled(delta, factor)
            x[wrong] = self._nearest(x0[wrong], moved)
            outside[wrong] = ~self.within(x[wrong], x0[wrong], budget)
        x[outside] = x0[outside]
        return x

    def _wide(self, x: Array) -> Array:
        return x.astype(self.exact).astype("float64")

    def _nearest(self, x0: Array, delta: Array) -> Array:
        if self.levels:
            return (x0 + np.trunc(delta)).clip(0, 255).astype("uint8")
        low, high = (np.asarray(end, self.exact) for end in self.box)
        return np.clip((self._wide(x0) + delta).astype(self.exact), low, high).astype(self.dtype)
