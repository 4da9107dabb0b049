"""Random domains, models and data for them; and what a legal result is, in plain NumPy."""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops

import advex

CLASSES = 3


@dataclass
class Case:
    """A domain as plain numbers, data that are legal, and a model that takes them."""

    low: np.ndarray
    high: np.ndarray
    x: np.ndarray
    labels: np.ndarray
    model: Any
    fixed: Any = None
    integer: Any = None
    groups: list = field(default_factory=list)
    sums: tuple = ()
    """(total, one, other): the first of these features is the sum of the others."""
    order: tuple = ()
    """(small, large): the first is not above the second, in units of their ranges."""

    @property
    def levels(self):
        return self.x.dtype == np.uint8

    @property
    def range(self):
        """Of each feature, in the units of ``x``."""
        if self.levels:
            return np.full(self.x.shape[1:], 255.0)
        return np.broadcast_to(self.high - self.low, self.x.shape[1:])

    @property
    def domain(self):
        return advex.Domain(
            self.low,
            self.high,
            fixed=self.fixed,
            integer=self.integer,
            one_hot=self.groups or None,
            repair=self._summed if self.sums else None,
            valid=self.ordered if self.order else None,
        )

    @property
    def classifier(self):
        return advex.Classifier(self.model, box=self.domain)

    def _summed(self, x):
        total, one, other = self.sums
        columns = [x[:, place] for place in range(self.x.shape[1])]
        columns[total] = columns[one] + columns[other]
        return ops.stack(columns, axis=1)

    def ordered(self, x):
        small, large = ((x[:, place] - self.low[place]) / self.range[place] for place in self.order)
        return small <= large + 0.05

    def answers(self, x):
        """What the model itself says of the user's values."""
        values = x.astype("float32")
        if self.levels:
            span = (self.high - self.low).astype("float32")
            values = self.low.astype("float32") + values * span / np.float32(255)
        return np.asarray(
            ops.convert_to_numpy(self.model(ops.convert_to_tensor(values), training=False))
        )

    def wrong(self, x, budget, mask=None):
        """The broken rules of each row of ``x``: (n,) of bool by name."""
        wide, start = x.astype("float64"), self.x.astype("float64")
        broken = {}

        def some(name, bad):
            broken[name] = bad.reshape(len(x), -1).any(axis=1)

        if not self.levels:
            low, high = (end.astype(x.dtype).astype("float64") for end in (self.low, self.high))
            some("range", ~((wide >= low) & (wide <= high)))
        still = np.zeros(x.shape, bool)
        if self.fixed is not None:
            still |= self.fixed
        if mask is not None:
            still |= ~mask
        some("still", still & (x != self.x))
        if self.integer is not None:
            some("integer", self.integer & (wide != np.floor(wide)))
        for group in self.groups:
            mine = np.sort(wide[:, group], axis=1)
            some(f"group {group}", (mine[:, -1:] != 1) | (mine[:, :-1] != 0))
        moved = (x != self.x).reshape(len(x), -1).any(axis=1)
        if self.sums:
            total, one, other = self.sums
            exact = (wide[:, one] + wide[:, other]).astype(x.dtype)
            off = np.abs(wide[:, total] - exact)
            # What may not change is as near as it can be.
            hair = 4 * np.spacing(np.abs(x[:, total])) * still[:, total]
            some("sum", moved & (off > hair))
        if self.order:
            some("valid", ~self.ordered(wide))
        if budget.limited:
            broken["budget"] = self.sizes(x, type(budget)) > budget.epsilon
        if budget.limited and isinstance(budget, advex.Linf):
            each = np.reshape(budget.epsilon, (-1,) + (1,) * (x.ndim - 1))
            some("reach", np.abs(wide - start) > each * self.range)
        return broken

    def sizes(self, x, norm):
        """The size of each row's change: of features in units of their ranges, and in L0 of a group
        one change.
        """
        change = np.abs(x.astype("float64") - self.x.astype("float64")) / self.range
        change = change.reshape(len(x), -1)
        if norm is advex.Linf:
            return change.max(axis=1)
        if norm is advex.L2:
            return np.sqrt(np.square(change).sum(axis=1))
        if norm is advex.L1:
            return change.sum(axis=1)
        count = (change != 0).sum(axis=1)
        for group in self.groups:
            count = count - np.maximum((change[:, group] != 0).sum(axis=1) - 1, 0)
        return count


def table(generator, dtype, count, kinds):
    """A case with rows of features: ``kinds`` are some of "fixed", "integer", "one_hot", "repair"
    and "valid".
    """
    features = 9
    places = list(generator.permutation(features))
    half = np.dtype(dtype) == np.float16
    low = np.round(generator.normal(size=features) * 3, 2)
    spans = generator.choice(
        [0.7, 1.0, 5.0, 40.0] if half else [0.03, 0.7, 1.0, 90.0, 5e4], features
    )
    high = low + spans
    integer, groups, total, order = np.zeros(features, bool), [], (), ()
    if "one_hot" in kinds:
        sizes = [2, 3] if generator.random() < 0.5 else [3]
        for size in sizes:
            groups.append(sorted(int(places.pop()) for _ in range(size)))
            low[groups[-1]], high[groups[-1]] = 0, 1
    if "integer" in kinds:
        chosen = [places[place] for place in range(2)]
        integer[chosen] = True
        low[chosen] = np.round(low[chosen])
        high[chosen] = low[chosen] + generator.choice([1, 4, 30, 90], 2)
    if "repair" in kinds:
        total = tuple(int(places[place]) for place in (2, 0, 3))
        low[total[0]], high[total[0]] = low[list(total[1:])].sum(), high[list(total[1:])].sum()
    if "valid" in kinds:
        order = int(places[1]), int(places[3])
    kind = np.dtype(dtype)
    ends = low.astype(kind).astype("float64"), high.astype(kind).astype("float64")
    unit = generator.uniform(size=(40 * count, features))
    # Some at their ends.
    unit = np.where(generator.random(unit.shape) < 0.1, np.rint(unit), unit)
    x = ends[0] + unit * (ends[1] - ends[0])
    x = np.where(integer, np.rint(x), x)
    for group in groups:
        x[:, group] = np.eye(len(group))[generator.integers(0, len(group), len(x))]
    x = np.clip(x, *ends).astype(kind).astype("float64")
    if total:
        x[:, total[0]] = x[:, total[1]] + x[:, total[2]]
        x = x.astype(kind).astype("float64")
        x = x[((x >= ends[0]) & (x <= ends[1])).all(axis=1)]
    made = Case(low, high, x.astype(kind), None, None, None, None, groups, total, order)
    if order:
        made.x = made.x[made.ordered(x)]
    made.x = made.x[:count]
    assert len(made.x) == count
    if "fixed" in kinds:
        made.fixed = np.zeros(features, bool)
        made.fixed[[places[0], places[-1]]] = True
        if total and generator.random() < 0.5:
            made.fixed[total[0]] = True
    if integer.any():
        made.integer = integer
    return answered(made, generator)


def pictures(generator, count, kinds):
    """A case of 8-bit pictures, with the model's units in each channel."""
    low = np.array([0.0, -1.0, 0.0]) if "channels" in kinds else np.asarray(0.0)
    high = np.array([1.0, 1.0, 255.0]) if "channels" in kinds else np.asarray(1.0)
    x = generator.integers(0, 256, size=(count, 3, 3, 3)).astype("uint8")
    made = Case(low, high, x, None, None)
    if "fixed" in kinds:
        made.fixed = np.zeros((3, 3, 3), bool)
        made.fixed[0] = True
    return answered(made, generator)


def answered(case, generator):
    """The case with a small network, which the data are in the middle of, and its answers."""
    shape = case.x.shape[1:]
    inputs = keras.Input(shape)
    low = np.broadcast_to(case.low, shape).astype("float32")
    span = np.broadcast_to(case.high - case.low, shape).astype("float32")
    unit = keras.layers.Flatten()((inputs - low) / span)
    hidden = keras.layers.Dense(12, activation="tanh")(unit)
    case.model = keras.Model(inputs, keras.layers.Dense(CLASSES)(hidden))
    for layer in case.model.layers:
        if weights := layer.get_weights():
            kernel = generator.normal(size=weights[0].shape) * 2 / np.sqrt(weights[0].shape[0])
            layer.set_weights([kernel, np.zeros_like(weights[1])])
    last = case.model.layers[-1]
    kernel, bias = last.get_weights()
    last.set_weights([kernel, bias - case.answers(case.x).mean(axis=0)])
    case.labels = case.answers(case.x).argmax(axis=1)
    return case
