"""The space that is searched where inputs are more than a box of numbers: every feature in units
of its own range, what is legal next to each point, and the last word on it in float64.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor, axes, flat, flattened, rows
from advex._discrete import Layout, Scene, Solver
from advex._grid import HALVES, Grid
from advex._inputs import Examples, Form, Part, attacked_of
from advex.budgets import L0, L1, L2, Budget, Linf
from advex.budgets.each import Each
from advex.domain import Domain, judged, repaired
from advex.errors import blaming

LATER = 1e-4
"""Of two members of a group that are equally high the one that the original did not have wins, by
this much: what a single change can reach is reached.
"""
SHARES = (1.0, 0.9, 0.75, 0.5, 0.25, 0.1)
"""How much of a step is kept where the whole of it does not lead to a legal point."""
ROUNDS = 24  # of pulling a point inside on the host
HAIR = 4  # units of rounding by which a relation may be off


class Space(Grid):
    """The values that inputs of several kinds can take.

    A search sees ``w``: each feature between 0, its lowest legal value, and 1, its highest; where
    examples or inputs have an epsilon each, divided by that. Coordinates are the user's own
    numbers: levels for uint8, the model's units otherwise.

    Args:
        parts: what is attacked.
        dtype: of the array that is searched.
        form: how the model is asked.
    """

    def __init__(self, parts: Sequence[Part], dtype: np.dtype[Any], form: Form | None) -> None:
        # No super().__init__: there is no one box.
        self.parts, self.dtype, self.form = tuple(parts), dtype, form
        self.flat = len(self.parts) > 1
        self.levels = dtype == np.uint8
        self.half = HALVES.get(dtype)
        self.exact = dtype
        self.box, self.span = (0.0, 1.0), Fraction(1)
        low, high = (self._whole(name) for name in ("low", "high"))
        # Epsilon is in units of the range as it was typed; ends are as the user's dtype has them.
        self.range = np.where(high > low, high - low, 1.0)
        ends = [end if self.levels else end.astype(dtype).astype("float64") for end in (low, high)]
        self.low, self.high = ends
        whole, groups = self._whole("integer").astype(bool), np.zeros(self.low.shape, bool)
        for part in self.parts:
            for group in part.domain.one_hot:
                groups |= self._spread(part, np.isin(np.arange(part.shape[-1]), group))
        self.grouped = groups if groups.any() else None
        self.whole = whole if whole.any() else None
        """Where changes are whole numbers."""
        fixed = self._whole("fixed").astype(bool) | (self.high <= self.low)
        self.fixed = fixed if fixed.any() else None
        self.repairs = any(part.domain.repair is not None for part in self.parts)
        self.judges = any(part.domain.valid is not None for part in self.parts)
        self._layout = None if self.levels else self._laid_out()

    def _laid_out(self) -> Layout | None:
        """Where whole features and groups are; None: nowhere."""
        if self.whole is None and self.grouped is None:
            return None
        groups: list[list[int]] = []
        for part in self.parts:
            every = part.start + np.arange(int(np.prod(part.shape))).reshape(-1, part.shape[-1])
            for group in part.domain.one_hot:
                groups += every[:, group].tolist()
        whole = np.zeros(self.low.size, bool) if self.whole is None else self.whole.ravel()
        return Layout(whole, groups)

    @property
    def grain(self) -> Any:
        return 0.0 if self._steps is None else np.where(self._steps, 1 / self.range, 0.0)

    @property
    def discrete(self) -> bool:
        return self._layout is not None

    def _whole(self, name: str) -> Array:
        """An attribute of the parts' domains, spread over all that is attacked."""
        return sum(self._spread(part, _of(part, name)) for part in self.parts)  # type: ignore[return-value]

    def _spread(self, part: Part, values: Array) -> Array:
        """Values of one part where that part is; zeros elsewhere."""
        made = np.broadcast_to(values, part.shape)
        if not self.flat:
            return np.array(made)
        whole = np.zeros(sum(int(np.prod(each.shape)) for each in self.parts), made.dtype)
        whole[part.start : part.stop] = made.ravel()
        return whole

    def key(self) -> tuple[Any, ...]:
        told = [
            (part.name, part.shape, str(part.dtype), part.start, _same(part.domain))
            for part in self.parts
        ]
        form = None if self.form is None else (repr(self.form.taken), self.form.layer)
        return ("space", str(self.dtype), *told, form)

    # On the host: from the user's array and back.

    def working(self, x: Array | Examples) -> Array:
        """The user's values in the space that is searched, float32."""
        wide = attacked_of(x).astype("float64")
        return np.clip((wide - self.low) / self.range, 0, 1).astype("float32")

    def entered(self, x: Array | Examples) -> Any:
        """What the model is asked with about the user's values: float32 in its own units."""
        values = attacked_of(x)
        made = {}
        for part in self.parts:
            own = (
                values[:, part.start : part.stop].reshape(-1, *part.shape) if self.flat else values
            )
            made[part.name] = own.astype("float32")
            if part.dtype == np.uint8:
                low, span = _units(part)
                made[part.name] = low + made[part.name] * span / np.float32(255)
        if self.form is None:
            return made[self.parts[0].name]
        return self.form.entered(made, x.beside if isinstance(x, Examples) else {})

    def _part(self, values: Array, part: Part) -> Array:
        """One part of an array (n, ...), in its own shape."""
        if not self.flat:
            return values
        return values[:, part.start : part.stop].reshape(-1, *part.shape)

    def about(self, x: Array, scale: Array | None) -> dict[str, Array]:
        """What a search must know of each row: its original as it is, and the scale of ``w``."""
        known = {"origin": x.astype("float32")}
        if self.judges and x.dtype == np.float64:
            known["rest"] = (x - known["origin"].astype("float64")).astype("float32")
        if scale is not None:
            known["scale"] = scale.astype("float32")
        return known

    def bounds(self, x0: Array, budget: Budget) -> tuple[Array, Array]:
        """Lowest and highest legal value of each element in coordinates, in the user's dtype: the
        ball of ``Linf`` and the box, whole numbers where there are no others.
        """
        wide = x0.astype("float64")
        low, high = (np.broadcast_to(end, wide.shape) for end in (self.low, self.high))
        for place, own in self._balls(budget):
            reach = own * self.range[place]
            moved = [wide[:, place] - reach, wide[:, place] + reach]
            ends = []
            for value, way in zip(moved, (np.inf, -np.inf), strict=True):
                end = value.astype(self.dtype) if not self.levels else value
                for _ in range(4):  # rounding may have led out of the ball, by a unit or two
                    delta = np.abs(end.astype("float64") - wide[:, place])
                    out = (delta > reach) | (delta / self.range[place] > own)
                    if not out.any():
                        break
                    towards = np.asarray(way, end.dtype)
                    end = np.where(out, np.nextafter(end, towards), end)
                ends.append(np.where(out, wide[:, place], end.astype("float64")))
            low, high = np.array(low), np.array(high)
            low[:, place] = np.maximum(low[:, place], ends[0])
            high[:, place] = np.minimum(high[:, place], ends[1])
        if self._steps is not None:
            # An original that is whole stays within; whatever is not cannot have been let in.
            low = np.where(self._steps, np.ceil(low), low)
            high = np.where(self._steps, np.floor(high), high)
        return low.astype(self.dtype), high.astype(self.dtype)

    @property
    def _steps(self) -> Array | None:
        """Where values are whole: the features that are, and those of groups."""
        if self.levels:
            return np.ones(self.low.shape, bool)
        if self.whole is None or self.grouped is None:
            return self.whole if self.grouped is None else self.grouped
        return self.whole | self.grouped

    def _balls(self, budget: Budget) -> list[tuple[Any, Any]]:
        """The places that a limited ``Linf`` is about, each with its epsilon, a number or one for
        each row.
        """
        if isinstance(budget, Each):
            return [
                (slice(*place), own.epsilon if own.epsilons is None else own.epsilons[:, None])
                for place, (_, own) in zip(budget.places, budget.parts, strict=True)
                if isinstance(own, Linf) and own.limited
            ]
        if not (isinstance(budget, Linf) and budget.limited):
            return []
        each = budget.epsilons
        own = budget.epsilon if each is None else each.reshape((-1,) + (1,) * self.low.ndim)
        return [(slice(None), own)]

    def limits(self, x0: Array, budget: Budget, scale: Array | None) -> tuple[Array, ...]:
        if not self._balls(budget) or (isinstance(budget, Each) and not budget.even):
            return ()
        return tuple(self.scaled(end, scale) for end in self.bounds(x0, budget))

    def scaled(self, values: Array, scale: Array | None) -> Array:
        """Coordinates, (n, ...), in the space that is searched."""
        made = self.working(values)
        return made if scale is None else made * scale.astype("float32")

    # In ``keras.ops``.

    def shown(self, w: Tensor, x0: Tensor, beside: Mapping[str, Tensor]) -> Any:
        """What the model is asked with at legal points of the search; differentiable."""
        values = self._repaired(self._coordinates(w, x0, beside))
        made = {}
        for part in self.parts:
            own = self._own(values, part)
            if part.dtype == np.uint8:
                low, span = map(ops.convert_to_tensor, _units(part))
                own = low + own * span / 255
            made[part.name] = own
        if self.form is None:
            return made[self.parts[0].name]
        names = {name: values for name, values in beside.items() if name.startswith(INPUT)}
        return self.form.entered(
            made, {name.removeprefix(INPUT): values for name, values in names.items()}
        )

    def _coordinates(self, w: Tensor, x0: Tensor, beside: Mapping[str, Tensor]) -> Tensor:
        moved = (w - x0) / beside["scale"] if "scale" in beside else w - x0
        values = beside["origin"] + moved * self._ranges
        steps = self._steps
        if steps is not None:
            rounded = ops.round(values)
            if not steps.all():
                rounded = ops.where(ops.convert_to_tensor(steps), rounded, values)
            values = values + ops.stop_gradient(rounded - values)
        if self.half:
            values = values + ops.stop_gradient(
                ops.cast(ops.cast(values, self.half), "float32") - values
            )
        return values

    @property
    def _ranges(self) -> Tensor:
        return ops.convert_to_tensor(self.range.astype("float32"))

    def _own(self, values: Tensor, part: Part) -> Tensor:
        if not self.flat:
            return values
        return ops.reshape(values[:, part.start : part.stop], (-1, *part.shape))

    def _repaired(self, values: Tensor) -> Tensor:
        """Coordinates with relations restored."""
        if not self.repairs:
            return values

        def own(part: Part) -> Tensor:
            mine = self._own(values, part)
            repair = part.domain.repair
            if repair is None:
                return mine
            with blaming("repair"):
                return ops.cast(repair(mine), "float32")

        if not self.flat:
            return own(self.parts[0])
        return ops.concatenate([flat(own(part)) for part in self.parts], axis=1)

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
        known = beside or {}
        inside = isinstance(budget, Linf) or not budget.limited
        if not self.repairs and (self._steps is None or inside):
            return self._legal(x, x0, lower, upper, known)
        shares: list[Any] = list(SHARES)
        if not inside:  # the legal point may be outside where the point itself is not
            size = self.size(budget, self._legal(x, x0, lower, upper, known) - x0)
            ratio = ops.minimum(budget.epsilon / ops.maximum(size, 1e-30), 1.0)
            shares[1:1] = [ratio, ratio * 0.97]
        # All candidates side by side, as one larger batch.
        count, delta = len(shares), x - x0

        def repeated(values: Tensor) -> Tensor:
            alike = len(values.shape) > 0
            return ops.concatenate([values] * count, axis=0) if alike else values

        part = [share if isinstance(share, float) else rows(share, x) for share in shares]
        start, low, high = repeated(x0), repeated(lower), repeated(upper)
        many = {name: repeated(values) for name, values in known.items()}
        points = ops.concatenate([x0 + share * delta for share in part], axis=0)
        points = self._legal(points, start, low, high, many)
        if self.repairs:
            values = self._repaired(self._coordinates(points, start, many))
            points = self._moved(values, start, many)
        hair = 1e-6 * ops.maximum(high, 1.0)
        fits = ops.all(flat(ops.logical_and(points >= low - hair, points <= high + hair)), axis=1)
        points = ops.clip(points, low, high)
        if not inside:
            own = budget.epsilon
            limit = ops.concatenate([own] * count, axis=0) if len(own.shape) else own
            small = self.size(budget, points - start) <= limit * (1 + 1e-6)
            fits = ops.logical_and(fits, small)
        fits = ops.reshape(fits, (count, -1))
        points = ops.reshape(points, (count, -1, *x.shape[1:]))
        chosen = x0
        for place in reversed(range(count)):
            chosen = ops.where(rows(fits[place], x), points[place], chosen)
        return chosen

    def solver(
        self,
        gradient: Tensor,
        x0: Tensor,
        budget: Budget,
        lower: Tensor,
        upper: Tensor,
        beside: Mapping[str, Tensor],
    ) -> Solver | None:
        if self._layout is None or not isinstance(budget, L0 | L1 | L2 | Linf):
            return None

        def like(values: Any) -> Tensor:
            return flat(ops.broadcast_to(values, ops.shape(x0)))

        may = like(beside["mask"]) if "mask" in beside else ops.ones_like(flat(x0), dtype="bool")
        step = like(beside.get("scale", ops.ones(())) / self._ranges)
        scene = Scene(flat(gradient), flat(x0), like(lower), like(upper), step, may)
        return Solver(self._layout, budget, scene)

    def _moved(self, values: Tensor, x0: Tensor, beside: Mapping[str, Tensor]) -> Tensor:
        """Coordinates, in the space that is searched."""
        delta = (values - beside["origin"]) / self._ranges
        return x0 + (delta * beside["scale"] if "scale" in beside else delta)

    def _legal(
        self, x: Tensor, x0: Tensor, lower: Tensor, upper: Tensor, beside: Mapping[str, Tensor]
    ) -> Tensor:
        """The legal point next to ``x``: whole where it must be, one of each group."""
        if self._steps is None:
            return x
        scale = beside.get("scale", 1.0)
        if self.levels or self.whole is not None:
            step = scale / self._ranges
            whole = x0 + ops.round((x - x0) / step) * step
            x = whole if self.levels else ops.where(ops.convert_to_tensor(self.whole), whole, x)
            x = ops.clip(x, lower, upper)
        for part in self.parts:
            for group in part.domain.one_hot:
                x = self._one_of(x, part, group, beside, lower, upper)
        return x

    def _one_of(
        self,
        x: Tensor,
        part: Part,
        group: list[int],
        beside: Mapping[str, Tensor],
        lower: Tensor,
        upper: Tensor,
    ) -> Tensor:
        scale = beside.get("scale", 1.0)
        mine, was = self._own(x, part), self._own(beside["origin"], part)
        size = scale if isinstance(scale, float) or not self.flat else self._own(scale, part)
        room = ops.broadcast_to(upper - lower, ops.shape(x))
        if "mask" in beside:
            room = ops.where(beside["mask"], room, 0.0)
        free = ops.take(self._own(room, part), group, axis=-1) > 0
        before = ops.take(was, group, axis=-1)
        values = ops.take(mine / size, group, axis=-1) - LATER * before
        values = ops.where(free, values, -1e9)  # what cannot be 1, or cannot be 0, stays
        hot = ops.one_hot(ops.argmax(values, axis=-1), len(group))
        moves = ops.any(ops.logical_and(free, before > 0.5), axis=-1, keepdims=True)
        hot = ops.where(moves, hot, before)
        members = np.eye(part.shape[-1], dtype="float32")[group]
        kept = ops.convert_to_tensor(1 - members.sum(axis=0))
        spread = ops.convert_to_tensor(members)
        made = mine * kept + ops.matmul(hot, spread) * size
        if not self.flat:
            return made
        return ops.concatenate([x[:, : part.start], flat(made), x[:, part.stop :]], axis=1)

    def size(self, budget: Budget, delta: Tensor) -> Tensor:
        """The size of a change, (batch,), as ``distance`` has it: of a group one change in L0."""
        if isinstance(budget, L0) and self.grouped is not None:
            weight = ops.convert_to_tensor(np.where(self.grouped, 0.5, 1.0).astype("float32"))
            return ops.sum(ops.cast(delta != 0, "float32") * weight, axis=axes(delta))
        return budget.size(delta)

    def legal(self, w: Tensor, x0: Tensor, beside: Mapping[str, Tensor]) -> Tensor | None:
        """Whether legal points of the search are valid, too, in float64: (batch,) of bool; None
        where nothing else is demanded.
        """
        if not self.judges:
            return None
        answers = []
        with _backend.float64():
            values = self._coordinates(w, x0, beside)
            wide = ops.cast(values, "float64")
            if "rest" in beside:
                same = ops.equal(values, beside["origin"])
                wide = wide + ops.where(same, ops.cast(beside["rest"], "float64"), 0.0)
            for part in self.parts:
                domain, mine = part.domain, self._own(wide, part)
                if domain.valid is None:
                    continue
                if domain.repair is not None:
                    mine = domain.repair(mine)
                answers.append(_asked(domain.valid, mine))
        first, *others = answers
        for other in others:
            first = ops.logical_and(first, other)
        return first

    def noise(self, few: Array | Examples, count: int) -> Array | Examples:
        shape = (count, *few.shape[1:])
        values = np.random.default_rng(0).uniform(self.low, self.high, shape)
        if self._steps is not None:
            values = np.where(self._steps, np.rint(values), values)
        if not isinstance(few, Examples):
            return values.astype(self.dtype)
        return few[np.resize(np.arange(len(few)), count)].moved(values.astype(self.dtype))

    # The last word.

    def returned(self, x: Array, x0: Array | None = None, scale: Array | None = None) -> Array:
        """Points of the search in the user's dtype; what has not moved is as it was, to the bit."""
        if x0 is None:
            raise ValueError("the originals are needed")
        origin = self.scaled(x0, scale)
        moved = (x.astype("float64") - origin) / (1.0 if scale is None else scale) * self.range
        return self._placed(x0, np.where(x == origin, 0.0, moved))

    def _placed(self, x0: Array, moved: Array) -> Array:
        """``x0 + moved`` in the user's dtype, whole where it must be, relations restored."""
        made = x0.astype("float64") + moved
        if self._steps is not None:
            made = np.where(self._steps, np.rint(made), made)
        made = np.clip(made, self.low, self.high)
        made = np.where(moved == 0, x0.astype("float64"), made)
        if self.repairs and len(made):  # of the values that the others will have
            made = self._repaired_exactly(made.astype(self.dtype).astype("float64"), x0)
        made = made.astype(self.dtype)
        return made if self.fixed is None else np.where(self.fixed, x0, made)

    def _repaired_exactly(self, values: Array, x0: Array) -> Array:
        """Relations restored in float64; rows that have not moved stay as they are."""
        made = values.copy()
        for part in self.parts:
            if part.domain.repair is None:
                continue
            place = (slice(None), slice(part.start, part.stop)) if self.flat else ...
            mine = repaired(part.domain.repair, values[place].reshape(-1, *part.shape))
            made[place] = mine.reshape(values[place].shape)
        still = (values == x0.astype("float64")).reshape(len(values), -1).all(axis=1)
        made[still] = values[still]
        return made

    def difference(self, x: Array, x0: Array) -> Array:
        """``x - x0`` in units of each feature's range, float64."""
        return (x.astype("float64") - x0.astype("float64")) / self.range

    def distance(self, x: Array, x0: Array, budget: Budget) -> Array:
        return self._measured(budget, self.difference(x, x0))

    def _measured(self, budget: Budget, delta: Array) -> Array:
        if isinstance(budget, L0) and self.grouped is not None:
            weight = np.where(self.grouped, 0.5, 1.0)
            return flattened((delta != 0) * weight).sum(axis=1)
        return budget.measure(delta)

    def within(self, x: Array, x0: Array, budget: Budget) -> Array:
        """Whether each row is legal and inside the budget, in float64: (n,) of bool."""
        fine = self._within_ball(x, x0, budget)
        for part in self.parts:
            mine, own = (self._part(values, part) for values in (x, x0))
            if part.dtype == np.uint8:
                wide = mine.astype("float64")
                level = (wide == np.rint(wide)) & (wide >= 0) & (wide <= 255)
                fine &= flattened(level).all(axis=1)
                continue
            broken = part.domain.violations(mine, own)
            for rule in broken.values():
                fine &= ~rule
            if part.domain.repair is not None and len(x):
                fine &= _related(part.domain.repair, mine, own)
        if self.fixed is not None:
            fine &= flattened(~self.fixed | (x == x0)).all(axis=1)
        return fine

    def _within_ball(self, x: Array, x0: Array, budget: Budget) -> Array:
        fine = np.ones(len(x), bool)
        if not budget.limited:
            return fine
        wide = x.astype("float64") - x0.astype("float64")
        delta = wide / self.range
        for place, own in self._balls(budget):
            ok = (np.abs(wide[:, place]) <= own * self.range[place]) & (
                np.abs(delta[:, place]) <= own
            )
            fine &= flattened(ok).all(axis=1)
        if isinstance(budget, Linf):
            return fine
        if isinstance(budget, Each):
            for place, (_, own) in zip(budget.places, budget.parts, strict=True):
                if not isinstance(own, Linf):
                    fine &= _small(own, own.measure(delta[:, slice(*place)]), self.discrete)
            return fine
        return fine & _small(budget, self._measured(budget, delta), self.discrete)

    def settled(self, x: Array, x0: Array, budget: Budget) -> Array:
        """``x`` with every row that is outside by rounding pulled inside; the original where no
        way leads there.
        """
        x = self._boxed(x, x0, budget)
        outside = ~self.within(x, x0, budget)
        if not outside.any():
            return x
        x, start = x.copy(), x[outside]
        wrong = np.flatnonzero(outside)
        for attempt in range(ROUNDS):
            share = 1 - 1e-7 * 4.0**attempt if attempt < 12 else 0.85 ** (attempt - 11)
            delta = self._less(start - x0[wrong].astype("float64"), share, attempt - 11)
            made = self._boxed(self._placed(x0[wrong], delta), x0[wrong], budget.part(wrong))
            x[wrong] = made
            left = ~self.within(made, x0[wrong], budget.part(wrong))
            wrong, start = wrong[left], start[left]
            if not len(wrong):
                return x
        x[wrong] = x0[wrong]
        return x

    def _less(self, delta: Array, share: float, steps: int) -> Array:
        """A share of a change. Whole features keep what they have, and at last lose so many steps,
        the smallest first; a group cannot move by a share.
        """
        less = delta * share
        if self._steps is None:
            return less
        if not self.discrete:
            return np.trunc(less)
        made = np.where(self._steps, delta, less)
        if self.whole is None or steps <= 0:
            return made
        size = np.where(self.whole & (delta != 0), 1 / self.range, np.inf).reshape(len(delta), -1)
        order = np.argsort(size, axis=1, kind="stable")
        moved = np.take_along_axis(np.abs(delta).reshape(len(delta), -1), order, axis=1)
        moved = np.where(np.take_along_axis(size, order, axis=1) < np.inf, moved, 0)
        lost = np.clip(steps - (np.cumsum(moved, axis=1) - moved), 0, moved)
        back = np.take_along_axis(lost, np.argsort(order, axis=1), axis=1).reshape(delta.shape)
        return made - np.sign(delta) * back

    def _boxed(self, x: Array, x0: Array, budget: Budget) -> Array:
        """What does not follow from other features within the ball of ``Linf``."""
        if self.repairs or not self._balls(budget) or not len(x):
            return x
        return np.clip(x, *self.bounds(x0, budget))


INPUT = "input "
"""What the names of inputs that travel along begin with, among what a search knows of a row."""


def grid_of(model: Owner, x: Array | Examples, budget: Budget | None = None) -> Grid:
    """The values that ``x`` can take for a model, and where a search looks for them."""
    if isinstance(x, Examples):
        return Space(x.form.parts, x.dtype, x.form)
    if model.domain.plain and (budget is None or budget.epsilons is None):
        return Grid(x.dtype, model.domain.ends)
    return Space([Part("", x.shape[1:], x.dtype, model.domain)], x.dtype, None)


def scale_of(budget: Budget, x: Array) -> Array | None:
    """By how much the space that is searched is stretched, so that the epsilon of all that has one
    of its own is 1: it broadcasts over ``x``. None where there is but one epsilon.
    """
    if isinstance(budget, Each):
        if not (budget.even and budget.limited):
            return None
        made = np.ones(x.shape, "float32")
        for place, (_, own) in zip(budget.places, budget.parts, strict=True):
            each = own.epsilon if own.epsilons is None else own.epsilons[:, None]
            made[:, slice(*place)] = _inverse(np.asarray(each))
        return made
    if budget.epsilons is None or not budget.homogeneous:
        return None
    return _inverse(budget.epsilons).reshape((-1,) + (1,) * (x.ndim - 1))


def _inverse(epsilon: Array) -> Array:
    return (1 / np.where(epsilon > 0, epsilon, 1)).astype("float32")


class Owner(Protocol):
    """Whose inputs these are."""

    domain: Domain


def _small(budget: Budget, size: Array, discrete: bool) -> Array:
    """Whether sizes are within the budget, on the safe side of it; where steps are whole, one that
    has just room is in.
    """
    limit = budget.epsilon if budget.epsilons is None else budget.epsilons
    hair = 1 - 1e-12 if budget.homogeneous and not discrete else 1.0
    return np.asarray(size <= np.asarray(limit) * hair)


def _related(repair: Callable[[Any], Any], x: Array, x0: Array) -> Array:
    """Whether the relations of each row hold, but for rounding, or as well as in the original."""
    wide, start = x.astype("float64"), x0.astype("float64")
    off, before = (np.abs(repaired(repair, values) - values) for values in (wide, start))
    hair = HAIR * np.spacing(np.abs(x)).astype("float64")
    return np.asarray(flattened(off <= np.maximum(before, hair)).all(axis=1))


def _same(domain: Domain) -> Any:
    """What stands for a domain in a key."""
    return domain.ends if domain.plain and domain.fixed is None else domain


def _of(part: Part, name: str) -> Array:
    """An attribute of a part's domain, in coordinates."""
    value: Any = getattr(part.domain, name)
    if part.dtype == np.uint8 and name in ("low", "high"):
        return np.asarray(0.0 if name == "low" else 255.0)
    if part.dtype == np.uint8 and name == "integer":
        return np.asarray(True)
    return np.asarray(False if value is None else value)


def _units(part: Part) -> tuple[Array, Array]:
    """The lowest value and the range of a part of 8-bit levels, in the model's units, float32."""
    low, high = part.domain.low, part.domain.high
    return low.astype("float32"), (high - low).astype("float32")


def _asked(valid: Callable[[Any], Any], x: Tensor) -> Tensor:
    """What ``valid`` says of a tensor: by itself where it can, else on the host."""
    with contextlib.suppress(Exception):  # it is written for arrays
        answer = valid(x)
        if ops.is_tensor(answer) and len(answer.shape) == 1:
            return ops.cast(answer, "bool")
    return _backend.on_host(lambda values: judged(valid, values), x)
