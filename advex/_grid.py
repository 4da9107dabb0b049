"""Between the user's array and the search: dtypes, the 8-bit grid, exact limits, and what the model
really sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
from keras import ops

from advex._arrays import Array, Tensor, flattened, rows
from advex._discrete import Solver
from advex.budgets import L0, L1, L2, Budget, Linf

HALVES = {np.dtype("float16"): "float16", np.dtype(ml_dtypes.bfloat16): "bfloat16"}
ACCEPTED = {np.dtype("uint8"), np.dtype("float32"), np.dtype("float64"), *HALVES}


class Grid:
    """The values an input can take: 256 levels for uint8, otherwise what its dtype can express.

    Args:
        dtype: dtype of the user's array.
        box: lowest and highest legal value, in the model's units.
    """

    repairs = False
    """Whether features are computed from others."""

    def __init__(self, dtype: np.dtype[Any], box: tuple[float, float]) -> None:
        self.dtype, self.box = dtype, box
        self.levels = dtype == np.uint8
        self.half = HALVES.get(dtype)
        self.span = Fraction(box[1]) - Fraction(box[0])
        # Exact coordinates: levels for uint8, the values themselves otherwise (float64 is cut to
        # float32).
        self.exact = np.dtype("float32") if dtype == np.float64 else dtype

    def key(self) -> tuple[Any, ...]:
        """What a compiled search depends on."""
        return (self.levels, self.half, self.box)

    def working(self, x: Array) -> Array:
        """The user's values as float32 in the model's units."""
        if not self.levels:
            return x.astype(self.exact).astype("float32")
        low, span = np.float32(self.box[0]), np.float32(self.span)
        # Multiplied before it is divided: exact in the boxes (0, 1), (-1, 1) and (0, 255). In
        # others the sum may end a unit above the box, as in (0.1, 0.7).
        return np.minimum(
            low + x.astype("float32") * span / np.float32(255), np.float32(self.box[1])
        )

    def entered(self, x: Any) -> Any:
        """What the model is asked with about the user's values."""
        return self.working(x)

    def scaled(self, x: Array, scale: Array | None) -> Array:
        """The user's values in the space that is searched."""
        return self.working(x)

    def about(self, x: Array, scale: Array | None) -> dict[str, Array]:
        """What a search must know of each row besides its original."""
        return {}

    def limits(self, x0: Array, budget: Budget, scale: Array | None) -> tuple[Array, ...]:
        """``bounds`` in the space that is searched; nothing where they are those of the box."""
        found = self.bounds(x0, budget)
        return found if np.ndim(found[0]) else ()

    def returned(self, x: Array, x0: Array | None = None, scale: Array | None = None) -> Array:
        """Float32 values in the model's units that lie on the grid, in the user's dtype."""
        if not self.levels:
            return x.astype(self.exact).astype(self.dtype)
        levels = 255 / float(self.span)
        made = np.rint((x.astype("float64") - self.box[0]) * levels)
        return np.clip(made, 0, 255).astype("uint8")

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

    def snapped(
        self,
        x: Tensor,
        x0: Tensor,
        budget: Budget,
        lower: Tensor,
        upper: Tensor,
        top: Tensor,
        beside: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """The point of the grid that the model is shown for ``x``; inside the budget if ``x`` is
        (in ``keras.ops``).

        ``top`` is 255 as a tensor: a compiler turns the division by a constant into a product,
        which is another number.
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
            # Rounding to nearest may leave a curved ball: then once more a little shorter, and at
            # last towards x0.
            limit = budget.epsilon * scale if budget.homogeneous else budget.epsilon
            size = budget.size(moved)
            shorter = ops.round(delta * rows(limit / ops.maximum(size, 1e-30) * 0.999, delta))
            inwards = ops.sign(delta) * ops.floor(ops.abs(delta))
            second = ops.where(rows(budget.size(shorter) <= limit, delta), shorter, inwards)
            moved = ops.where(rows(size <= limit, delta), moved, second)
        made = ops.clip(low + (level0 + moved) * span / top, lower, upper)
        # Where nothing has moved the original's very bits: a compiler may divide by multiplying.
        return ops.where(ops.equal(moved, 0), x0, made)

    def shown(self, x: Tensor, x0: Tensor, beside: Mapping[str, Tensor]) -> Any:
        """What the model is asked with at points of the grid."""
        return x

    @property
    def grain(self) -> Any:
        """How far apart legal values are, in shares of the box's range: a number, or an array of
        one for each feature; 0 where any value will do.
        """
        return 1 / 255 if self.levels else 0.0

    @property
    def discrete(self) -> bool:
        """Whether features are whole, or in groups, but for 8-bit levels."""
        return False

    def solver(
        self,
        gradient: Tensor,
        x0: Tensor,
        budget: Budget,
        lower: Tensor,
        upper: Tensor,
        beside: Mapping[str, Tensor],
    ) -> Solver | None:
        """What finds the best legal points of a function with this gradient; None: any point is
        legal, or near one.
        """
        return None

    def size(self, budget: Budget, delta: Tensor) -> Tensor:
        """The size of a change, (batch,)."""
        return budget.size(delta)

    def legal(self, x: Tensor, x0: Tensor, beside: Mapping[str, Tensor]) -> Tensor | None:
        """Whether points hold what else is demanded of them, (batch,) of bool; None: nothing is."""
        return None

    def noise(self, few: Any, count: int) -> Any:
        """Random values of the user's kind, like ``few``."""
        low, high = (0, 255) if self.levels else self.box
        shape = (count, *few.shape[1:])
        return np.random.default_rng(0).uniform(low, high, shape).astype(self.dtype)

    # The last word, in float64: sizes are in units of the box's range (L0: elements).

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
        """Whether each row is inside budget and box, in exact arithmetic but for a hair on the safe
        side: (n,) of bool.
        """
        wide, delta = self._wide(x), self.difference(x, x0)
        low, high = (
            (0, 255) if self.levels else (float(np.asarray(end, self.exact)) for end in self.box)
        )
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
        """``x`` (user's dtype) with every row that is outside the budget by a rounding error pulled
        inside.
        """
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
            factor = np.minimum(1, limit / size) * (
                1 - 1e-9 * 4.0**attempt if attempt < 14 else 0.5
            )
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


class EightBit:
    """The values that an 8-bit file can hold for one float input, and how far they are from that
    input: exactly.

    Level k stands for ``low + k / 255 * (high - low)``. Distances are taken from the input as it
    was given, not from the level next to it. Sums in float64 decide where they can; where they are
    too near the limit to tell, rational numbers do.

    Args:
        original: one input of floats, without its batch axis.
        box: lowest and highest legal value.
        budget: what the file is to be inside of.
    """

    CLOSE = (
        1e-4  # of a level: what float32 makes of ``k / 255``, however it was computed, is nearer
    )

    def __init__(self, original: Array, box: tuple[float, float], budget: Budget) -> None:
        self.original, self.box, self.budget = original.astype("float64"), box, budget
        self.start = self._scaled(original)
        self.nearest = np.clip(np.rint(self.start), 0, 255).astype("uint8")
        # Half precision knows 255 levels only roughly: an input is on one if no number of its dtype
        # is nearer to it.
        spacing = np.spacing(
            np.abs(original) if original.dtype in HALVES else np.float32(0)
        ).astype("float64")
        self.close = np.maximum(self.CLOSE, 0.5 * spacing * 255 / (box[1] - box[0]))

    def rounded(self, x: Array) -> Array:
        """The levels to write for the point ``x``: rounded towards the original, and inside the
        budget if any way leads there.
        """
        whole = self._towards(self._scaled(x))
        if self.within(whole) or not self.within(self.nearest):
            return whole
        # What did not move sits up to half a level off: then the rest has to move less.
        best, inside, outside = self.nearest, 0.0, 1.0
        for _ in range(12):
            share = (inside + outside) / 2
            levels = self._towards(self.start + share * (self._scaled(x) - self.start))
            if self.within(levels):
                best, inside = levels, share
            else:
                outside = share
        return best

    def size(self, levels: Array) -> float:
        """The distance of the levels from the input, in units of the box's range (``L0``: elements
        that changed).
        """
        if isinstance(self.budget, L0):
            return float(np.count_nonzero(np.abs(levels - self.start) > self.close))
        size = self.budget.measure(self._change(levels)[None])[0]
        return float(size / (self.box[1] - self.box[0])) if self.budget.homogeneous else float(size)

    def within(self, levels: Array) -> bool:
        """Whether the levels are inside the budget as it was typed: the exact distance, rounded to
        float64, against epsilon.
        """
        if not self.budget.limited:
            return True
        size, epsilon = self.size(levels), self.budget.epsilon
        if not isinstance(self.budget, L1 | L2 | Linf) or abs(size - epsilon) > self._error(
            epsilon
        ):
            return bool(size <= epsilon)
        pairs = np.stack([levels.ravel().astype("float64"), self.original.ravel()])
        if isinstance(self.budget, Linf):  # the largest decide
            change = np.abs(self._change(levels)).ravel() / (self.box[1] - self.box[0])
            pairs = pairs[:, change >= epsilon - self._error(epsilon)]
        pairs, counts = np.unique(pairs, axis=1, return_counts=True)
        exact = [self._exact(int(level), float(value)) for level, value in pairs.T]
        limit = _typed(epsilon)
        if isinstance(self.budget, Linf):
            return max(exact, default=Fraction(0)) <= limit
        power = 2 if isinstance(self.budget, L2) else 1
        total = sum(
            (change**power * int(count) for change, count in zip(exact, counts, strict=True)),
            Fraction(0),
        )
        return total <= limit**power

    def _towards(self, end: Array) -> Array:
        """Rounded towards the original: uint8."""
        # what is a level but for rounding errors is that level
        start, close = (
            self.start,
            self.CLOSE,
        )
        levels = np.where(
            end > start,
            np.floor(end + close),
            np.where(end < start, np.ceil(end - close), np.rint(end)),
        )
        # less than a level away: stay where the original is
        passed = np.where(end > start, levels < start, levels > start)
        levels = np.clip(np.where(passed & (end != start), np.rint(start), levels), 0, 255)
        if isinstance(self.budget, Linf) and self.budget.limited:
            # An input a hair below its level cannot go up by as many levels as one on it.
            size = np.abs(self._change(levels)) / (self.box[1] - self.box[0])
            over = size > self.budget.epsilon + self._error(self.budget.epsilon)
            unsure = np.nonzero(
                np.abs(size - self.budget.epsilon) <= self._error(self.budget.epsilon)
            )
            pairs, back = np.unique(
                np.stack([levels[unsure], self.original[unsure]]), axis=1, return_inverse=True
            )
            limit = _typed(self.budget.epsilon)
            beyond = np.array(
                [self._exact(int(level), float(value)) > limit for level, value in pairs.T], bool
            )
            over[unsure] = beyond[back.ravel()]
            nearer = levels - np.sign(levels - start)
            levels = np.where(
                over & (np.abs(nearer - start) < np.abs(levels - start)), nearer, levels
            )
        return levels.astype("uint8")

    def _scaled(self, values: Array) -> Array:
        """Values in levels, float64."""
        return (values.astype("float64") - self.box[0]) / (self.box[1] - self.box[0]) * 255

    def _change(self, levels: Array) -> Array:
        return (
            self.box[0]
            + levels.astype("float64") / 255 * (self.box[1] - self.box[0])
            - self.original
        )

    def _error(self, epsilon: float) -> float:
        """More than float64 can have lost in a distance of about ``epsilon``."""
        low, high = self.box
        each = np.full(
            (1, *self.original.shape), 2.0**-50 * max(abs(low), abs(high)) / (high - low)
        )
        return float(self.budget.measure(each)[0]) + 1e-11 * epsilon

    def _exact(self, level: int, value: float) -> Fraction:
        """How far one level is from one value, in units of the box's range."""
        low, high = Fraction(self.box[0]), Fraction(self.box[1])
        return abs(Fraction(level, 255) - (Fraction(value) - low) / (high - low))


def _typed(epsilon: float) -> Fraction:
    """The largest number that a float64 rounds to ``epsilon``: 8 of 255 levels are inside 8 / 255,
    however that was rounded.
    """
    return Fraction(epsilon) + Fraction(float(np.spacing(np.float64(epsilon)))) / 2
