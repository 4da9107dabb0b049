"""The best legal points of a linear function where features are whole or in groups: a knapsack,
solved by dynamic programming over the budget, in ``keras.ops``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from advex._arrays import Array, Tensor, rows
from advex.budgets import L0, L2, Budget, Linf
from advex.budgets.base import room

BINS = 256  # of the budget
PARTS = 32  # of the budget, in which the gain of continuous features is known
LEVELS = 9  # of one whole feature, from none of its steps to all that fit
ITEMS = 64  # whole features and groups that are chosen among: those with most gain per cost
HALVINGS = 30
NEVER = 1e6  # times the budget: the cost of what cannot be chosen


class Layout:
    """Where the whole features and the groups are, in an example as a vector.

    Args:
        whole: features with whole changes, (features,) of bool.
        groups: the numbers of the features of each group.
    """

    def __init__(self, whole: Array, groups: Sequence[Sequence[int]]) -> None:
        count = len(whole)
        self.grouped = np.zeros(count, bool)
        most = max(map(len, groups), default=1)
        self.members = np.zeros((len(groups), most), "int32")
        self.real = np.zeros((len(groups), most), bool)
        self.group_of = np.zeros(count, "int32")
        for number, group in enumerate(groups):
            self.members[number, : len(group)], self.real[number, : len(group)] = group, True
            self.grouped[group], self.group_of[group] = True, number
        self.whole = whole & ~self.grouped
        self.numbers = np.flatnonzero(self.whole).astype("int32")
        self.number_of = np.zeros(count, "int32")
        self.number_of[self.numbers] = np.arange(len(self.numbers))
        self.free = ~(self.whole | self.grouped)

    @property
    def items(self) -> int:
        return len(self.numbers) + len(self.members)


class Scene(NamedTuple):
    """The linear function, and what bounds its arguments: all (batch, features)."""

    gradient: Tensor
    """Zero where nothing may change."""
    x0: Tensor
    low: Tensor
    high: Tensor
    step: Tensor
    """The length of a whole step, and of the way from 0 to 1 within a group."""
    may: Tensor
    """Which features may change, of bool."""


class Choice(NamedTuple):
    """What is chosen: whole steps (batch, numbers), and whether a group changes (batch, groups)."""

    steps: Tensor
    swapped: Tensor


class Items(NamedTuple):
    """What can be chosen, each of a few levels: (batch, items, levels) twice."""

    gain: Tensor
    cost: Tensor
    """In units of the budget's power."""
    number: Tensor
    """Of each item among all, (batch, items)."""
    total: int
    """How many there are in all."""

    @classmethod
    def of(cls, gain: Tensor, cost: Tensor) -> Items:
        """Those with most gain for their cost, if there are many."""
        count = int(gain.shape[1])
        worth = ops.max(gain / ops.maximum(cost, 1e-12), axis=-1)
        worth = ops.where(ops.min(cost[..., 1:], axis=-1) <= 1, worth, -1.0)
        _, number = ops.top_k(worth, min(count, ITEMS))
        places = ops.expand_dims(number, -1)
        gain, cost = (ops.take_along_axis(each, places, axis=1) for each in (gain, cost))
        return cls(gain, cost, number, count)

    def spread(self, level: Tensor) -> Tensor:
        """The levels of these as those of all, (batch, total)."""
        hot = ops.one_hot(self.number, self.total, dtype="int32")
        return ops.sum(hot * ops.expand_dims(level, -1), axis=1)


class Solver:
    """The best legal points of linear functions."""

    def __init__(self, layout: Layout, budget: Budget, scene: Scene) -> None:
        self.layout, self.budget, self.scene = layout, budget, scene
        self.power = 2.0 if isinstance(budget, L2) else 1.0
        zeros = ops.zeros_like(scene.x0[:, :1])
        gradient, step = scene.gradient, scene.step
        space = room(gradient, scene.x0, scene.low, scene.high)
        self.rest = ops.where(ops.convert_to_tensor(layout.free), gradient, 0.0)
        self.space = space
        # Whole features: slope and room, in steps.
        self.slope = _taken(ops.abs(gradient) * step, layout.numbers, zeros)
        self.size = _taken(step, layout.numbers, zeros)
        fit = ops.where(scene.may, ops.floor(space / step + 1e-4), 0.0)
        self.most = _taken(fit, layout.numbers, zeros)
        self.winner = ops.cast(zeros[:, :0], "int32")
        self.swap = self.length = zeros[:, :0]
        if len(layout.members):
            self._group(gradient * step, zeros)

    def _group(self, worth: Tensor, zeros: Tensor) -> None:
        """Groups: the member that gains most in place of the one that is there."""
        layout, scene = self.layout, self.scene
        here = scene.x0 > (scene.low + scene.high) / 2
        able = ops.logical_and(scene.may, scene.high > scene.low)
        members = layout.members.ravel()
        shape = (ops.shape(scene.x0)[0], *layout.members.shape)
        real = ops.convert_to_tensor(layout.real)
        held = ops.reshape(_taken(ops.cast(here, "float32"), members, zeros), shape)
        open_ = ops.reshape(_taken(ops.cast(able, "float32"), members, zeros), shape) > 0
        values = ops.reshape(_taken(worth, members, zeros), shape)
        other = ops.logical_and(ops.logical_and(real, open_), held < 0.5)
        mine = ops.logical_and(real, held > 0.5)
        before = ops.sum(ops.where(mine, values, 0.0), axis=-1)
        moves = ops.any(ops.logical_and(mine, open_), axis=-1)
        best = ops.max(ops.where(other, values, -1e30), axis=-1)
        self.winner = ops.argmax(ops.where(other, values, -1e30), axis=-1)
        self.swap = ops.where(ops.logical_and(moves, best > -1e29), best - before, -1.0)
        self.length = _taken(scene.step, layout.members[:, 0], zeros)

    # What a limited budget allows.

    def best(self) -> Tensor:
        """argmax of the function over the legal points within the budget, (batch, features)."""
        epsilon = self.budget.epsilon * ops.ones_like(self.scene.x0[:, 0])
        if isinstance(self.budget, L0):
            return self._fewest(epsilon)
        items = self._items(epsilon)
        table, taken = _packed(items)
        rest = self._rest(epsilon)  # gain of continuous features, by the bins that they have
        bins = ops.argmax(table + ops.flip(rest, axis=1), axis=1)
        choice = self._choice(_unpacked(taken, items, bins), epsilon)
        return self._filled(choice, epsilon)

    def _items(self, epsilon: Tensor) -> Items:
        """Every choice with its gain, and its cost as a share of the budget."""
        limit = ops.expand_dims(ops.maximum(epsilon, 1e-30), 1)
        most = ops.minimum(self.most, ops.floor(limit / self.size + 1e-4))
        steps = self._levels(most)
        cost = ops.power(steps * ops.expand_dims(self.size / limit, -1), self.power)
        gain = steps * ops.expand_dims(self.slope, -1)
        swap = ops.stack([0 * self.swap] + [self.swap] * (LEVELS - 1), axis=-1)
        price = 2 * ops.power(self.length / limit, self.power)
        price = ops.where(self.swap > 0, price, NEVER)
        prices = ops.stack([0 * price] + [price] * (LEVELS - 1), axis=-1)
        return Items.of(
            ops.concatenate([gain, swap], axis=1), ops.concatenate([cost, prices], axis=1)
        )

    def _levels(self, most: Tensor) -> Tensor:
        share = ops.convert_to_tensor(np.linspace(0, 1, LEVELS, dtype="float32"))
        return ops.round(ops.expand_dims(most, -1) * share)

    def _choice(self, level: Tensor, epsilon: Tensor) -> Choice:
        """Levels of the items, (batch, items), as a choice."""
        count = len(self.layout.numbers)
        limit = ops.expand_dims(ops.maximum(epsilon, 1e-30), 1)
        most = ops.minimum(self.most, ops.floor(limit / self.size + 1e-4))
        steps = ops.take_along_axis(
            self._levels(most), ops.expand_dims(level[:, :count], -1), axis=-1
        )
        return Choice(steps[..., 0], level[:, count:] > 0)

    def _rest(self, epsilon: Tensor) -> Tensor:
        """What continuous features gain with each number of bins: (batch, bins + 1)."""
        radii = np.linspace(0, 1, PARTS + 1, dtype="float32")
        scene, count = self.scene, ops.shape(epsilon)[0]

        def each(values: Tensor) -> Tensor:
            """All rows once for every radius, one radius after the other."""
            return ops.tile(values, (PARTS, 1))

        radius = ops.reshape(ops.expand_dims(radii[1:], 1) * epsilon, (-1,))
        slope, x0 = each(self.rest), each(scene.x0)
        made = self.budget.bound(radius).extreme(slope, x0, each(scene.low), each(scene.high))
        gain = ops.reshape(ops.sum(slope * (made - x0), axis=1), (PARTS, count))
        gain = ops.concatenate([ops.zeros_like(gain[:1]), gain], axis=0)
        share, bins = radii**self.power, np.linspace(0, 1, BINS + 1)
        between = np.stack([np.interp(bins, share, row) for row in np.eye(PARTS + 1)])
        return ops.matmul(ops.transpose(gain), ops.convert_to_tensor(between, "float32"))

    def _spread(self, radius: Tensor) -> Tensor:
        """Continuous features at their best within ``radius``, (batch,)."""
        scene = self.scene
        return self.budget.bound(radius).extreme(self.rest, scene.x0, scene.low, scene.high)

    def _spent(self, choice: Choice) -> Tensor:
        """The cost of a choice, to the norm's power."""
        steps = ops.sum(ops.power(choice.steps * self.size, self.power), axis=1)
        price = 2 * ops.power(self.length, self.power)
        return steps + ops.sum(ops.where(choice.swapped, price, 0.0), axis=1)

    def _filled(self, choice: Choice, epsilon: Tensor) -> Tensor:
        """The choice, and what is left of the budget for continuous features."""
        left = ops.maximum(ops.power(epsilon, self.power) - self._spent(choice), 0.0)
        return self._placed(choice, self._spread(ops.power(left, 1 / self.power)))

    def _placed(self, choice: Choice, spread: Tensor) -> Tensor:
        """The point of a choice, with continuous features as in ``spread``."""
        layout, scene, x = self.layout, self.scene, spread
        if len(layout.numbers):
            steps = ops.take(choice.steps, layout.number_of, axis=1)
            moved = scene.x0 + ops.sign(scene.gradient) * steps * scene.step
            x = ops.where(ops.convert_to_tensor(layout.whole), moved, x)
        if len(layout.members):
            winner = ops.expand_dims(ops.convert_to_tensor(layout.members), 0)
            winner = winner * ops.cast(
                ops.one_hot(self.winner, layout.members.shape[1]), winner.dtype
            )
            chosen = ops.take(ops.sum(winner, axis=-1), layout.group_of, axis=1)
            hot = ops.equal(chosen, ops.arange(len(layout.group_of), dtype=chosen.dtype))
            made = ops.where(hot, scene.high, scene.low)
            swapped = ops.take(ops.cast(choice.swapped, "float32"), layout.group_of, axis=1) > 0
            grouped = ops.convert_to_tensor(layout.grouped)
            made = ops.where(swapped, made, scene.x0)
            x = ops.where(grouped, made, x)
        return x

    def _fewest(self, epsilon: Tensor) -> Tensor:
        """In ``L0`` all choices cost the same: those with the largest gains."""
        every = self._ends()
        place = ops.argsort(ops.argsort(-every, axis=1), axis=1)
        count = ops.expand_dims(ops.cast(epsilon + 0.5, "int32"), 1)
        kept = ops.logical_and(ops.cast(place, "int32") < count, every > 0)
        return self._kept(kept)

    def _ends(self) -> Tensor:
        """What each feature, whole feature and group gains at its end: side by side."""
        gain = ops.abs(self.rest) * self.space
        return ops.concatenate([gain, self.slope * self.most, self.swap], axis=1)

    def _kept(self, kept: Tensor) -> Tensor:
        """Of the features, whole features and groups the ones that are kept, each to its end."""
        scene, layout = self.scene, self.layout
        features, numbers = len(layout.free), len(layout.numbers)
        end = ops.where(self.rest > 0, scene.high, ops.where(self.rest < 0, scene.low, scene.x0))
        spread = ops.where(kept[:, :features], end, scene.x0)
        whole = kept[:, features : features + numbers]
        steps = ops.where(whole, self.most, 0.0)
        return self._placed(Choice(steps, kept[:, features + numbers :]), spread)

    # The smallest change that is enough.

    def smallest(self, need: Tensor, most: Tensor) -> Tensor:
        """argmin of the size over the legal points at which the function has grown by ``need``,
        (batch,), where one of at most the size ``most`` is known to be enough, or nearly.
        """
        if isinstance(self.budget, L0):
            return self._least_count(need)
        if isinstance(self.budget, Linf):
            return self._least_reach(need)
        items = self._items(most)
        table, taken = _packed(items)
        rest = self._rest(most)
        missing = ops.expand_dims(need, 1) - table  # of each number of bins for choices
        # The fewest bins of continuous features that bring what is missing.
        some = ops.expand_dims(rest, 1) >= ops.expand_dims(missing, 2)
        fewest = ops.where(missing <= 0, 0, BINS + 1 - ops.sum(ops.cast(some, "int32"), axis=2))
        total = fewest + ops.expand_dims(ops.arange(BINS + 1, dtype="int32"), 0)
        enough = ops.logical_or(missing <= 0, fewest <= BINS)
        total = ops.where(enough, total, 10 * BINS)
        bins = ops.argmin(total, axis=1)
        choice = self._choice(_unpacked(taken, items, bins), most)
        gained = ops.sum(choice.steps * self.slope, axis=1)
        gained = gained + ops.sum(ops.where(choice.swapped, self.swap, 0.0), axis=1)
        left = ops.maximum(need - gained, 0.0)
        scene = self.scene
        spread = self.budget.onto(scene.x0, self.rest, left, scene.low, scene.high)
        any_ = ops.any(enough, axis=1)
        return ops.where(
            rows(any_, spread), self._placed(choice, spread), self._filled(choice, most)
        )

    def _least_count(self, need: Tensor) -> Tensor:
        every = ops.maximum(self._ends(), 0.0)
        order = ops.argsort(-every, axis=1)
        ordered = ops.take_along_axis(every, order, axis=1)
        before = ops.cumsum(ordered, axis=1) - ordered
        chosen = ops.cast(before < ops.expand_dims(need, 1), "float32")
        kept = ops.take_along_axis(chosen, ops.argsort(order, axis=1), axis=1) > 0
        return self._kept(ops.logical_and(kept, every > 0))

    def _least_reach(self, need: Tensor) -> Tensor:
        """In ``Linf`` all that is within reach may move: the least reach that is enough."""
        scene = self.scene

        def made(reach: Tensor) -> tuple[Tensor, Tensor]:
            each = ops.expand_dims(reach, 1)
            steps = ops.minimum(self.most, ops.floor(each / self.size + 1e-4))
            steps = ops.where(self.slope > 0, steps, 0.0)
            swapped = ops.logical_and(self.swap > 0, each >= self.length * (1 - 1e-6))
            moved = ops.minimum(self.space, each)
            gain = ops.sum(ops.abs(self.rest) * moved, axis=1)
            gain = gain + ops.sum(steps * self.slope, axis=1)
            gain = gain + ops.sum(ops.where(swapped, self.swap, 0.0), axis=1)
            x = scene.x0 + ops.sign(self.rest) * moved
            return gain, self._placed(Choice(steps, swapped), x)

        low, high = ops.zeros_like(need), ops.max(scene.high - scene.low, axis=1)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            enough = made(middle)[0] >= need
            low, high = ops.where(enough, low, middle), ops.where(enough, middle, high)
        return made(high)[1]


def _taken(values: Tensor, places: Array, zeros: Tensor) -> Tensor:
    """Some columns; of none of them an empty table."""
    if not len(places):
        return zeros[:, :0]
    return ops.take(values, places, axis=1)


def _packed(items: Items) -> tuple[Tensor, Tensor]:
    """The most that can be gained with each number of bins, (batch, bins + 1), and the level of
    each item at that, (items, batch, bins + 1).
    """
    gains, costs = (ops.transpose(each, (1, 0, 2)) for each in (items.gain, items.cost))
    bins = _binned(costs)
    every = ops.reshape(ops.arange(BINS + 1, dtype="int32"), (1, 1, BINS + 1))

    def added(table: Tensor, item: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        gain, size = item
        left = every - ops.cast(ops.expand_dims(size, 2), "int32")  # (batch, levels, bins + 1)
        wide = ops.broadcast_to(ops.expand_dims(table, 1), ops.shape(left))
        before = ops.take_along_axis(wide, ops.maximum(left, 0), axis=2)
        value = ops.where(left >= 0, before + ops.expand_dims(gain, 2), -1e30)
        return ops.max(value, axis=1), ops.cast(ops.argmax(value, axis=1), "float32")

    start = ops.zeros((ops.shape(gains)[1], BINS + 1))
    return ops.scan(added, start, (gains, bins))


def _unpacked(taken: Tensor, items: Items, bins: Tensor) -> Tensor:
    """The level of each item, (batch, items), with so many bins in all."""
    sizes = _binned(ops.transpose(items.cost, (1, 0, 2)))

    def removed(left: Tensor, item: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        levels, size = item
        mine = ops.take_along_axis(levels, ops.cast(ops.expand_dims(left, 1), "int32"), axis=1)
        cost = ops.take_along_axis(size, ops.cast(mine, "int32"), axis=1)
        return left - cost[:, 0], mine[:, 0]

    # Floats throughout: ``ops.scan`` wants all of one dtype.
    _, levels = ops.scan(removed, ops.cast(bins, "float32"), (taken, sizes), reverse=True)
    return items.spread(ops.cast(ops.transpose(levels, (1, 0)), "int32"))


def _binned(costs: Tensor) -> Tensor:
    """Costs in bins, rounded up; more than there are where they are too high."""
    return ops.ceil(ops.minimum(costs, 2.0) * BINS - 1e-3)
