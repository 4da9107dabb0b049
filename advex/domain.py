"""What an input may be: ranges, types, relations between features."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, flattened
from advex._settings import helpful, shown
from advex.errors import InvalidInput, InvalidType, blaming

WHOLE = 2.0**24  # up to here float32 has every whole number
RESTORED = 1e-4  # of a feature's range: by how much ``repair`` may move what was right
ON_ARRAYS = "It is called with an array of NumPy, float64, shape (n, ...), and returns (n,) of bool"


class Domain:
    """The legal inputs of a model: goes where ``box`` goes, and holds exactly for every result.

    When to use it:
        For tables, and wherever features have ranges of their own, are whole, belong to groups or
        depend on each other. For images a box of two numbers is enough.

    An attack searches among continuous points. The model sees, and judges, the legal point next to
    each; gradients pass straight through what is rounded, and by the chain rule through ``repair``.
    ``epsilon`` and distances are in units of each feature's own range, ``high - low``. Where
    features are whole, or in groups, every eighth gradient serves twice within ``L2``, ``L1`` and
    ``L0``: one query more looks at the legal point that is best by it.

    Args:
        low: lowest legal value, in the model's units: a number, or an array that broadcasts to one
            example.
        high: highest legal value, likewise. Where it equals ``low`` a feature stays as it is.
        fixed: what may not change: booleans, True where a feature stays bit for bit, that broadcast
            to one example.
        integer: what is whole: booleans likewise. Changes are whole numbers.
        one_hot: groups of features, lists of their numbers on the last axis, of which exactly one
            is 1 and the others are 0. A group counts as one change in ``L0``.
        repair: a function of ``keras.ops``, (n, ...) -> (n, ...), which restores relations between
            features by computing some of them from others. It is called in the model's units, at
            the end once more in float64.
        valid: what else must hold: a function of an array (n, ...), float64, that returns (n,) of
            bool. Nothing for which it is False counts as a success.

    Raises:
        InvalidInput: ends that are not finite or not in order; groups that overlap.
        InvalidType: something that is no number, no mask or no function.

    Example:
        >>> table = Domain([0, 0, 0, 0], [90, 1, 1, 5e4], fixed=[True, False, False, False],
        ...     integer=[True, False, False, False], one_hot=[[1, 2]])
        >>> table
        Domain(of 4 features, 1 fixed, 1 whole, 1 group)
        >>> bool(table.holds([[30, 1, 1, 2e4]])[0])
        False
    """

    @helpful
    def __init__(
        self,
        low: Any,
        high: Any,
        fixed: Any = None,
        integer: Any = None,
        one_hot: Sequence[Sequence[int]] | None = None,
        repair: Callable[[Any], Any] | None = None,
        valid: Callable[[Any], Any] | None = None,
    ) -> None:
        self.low, self.high = _ends("low", low), _ends("high", high)
        try:
            between = np.broadcast_arrays(self.low, self.high)
        except ValueError:
            raise InvalidInput(
                f"low and high must broadcast to one example; received shapes {self.low.shape} and"
                f" {self.high.shape}"
            ) from None
        if (between[0] > between[1]).any():
            bad = np.flatnonzero((between[0] > between[1]).ravel())
            raise InvalidInput(f"low must not be above high; it is for features {bad[:5].tolist()}")
        if not (between[0] < between[1]).any():
            raise InvalidInput("low must be below high for some feature; no feature has a range")
        self.fixed, self.integer = _mask("fixed", fixed), _mask("integer", integer)
        self.one_hot = _groups(one_hot)
        for name, function in (("repair", repair), ("valid", valid)):
            if function is not None and not callable(function):
                raise InvalidType(f"{name} must be a function; received {shown(function)}")
        self.repair, self.valid = repair, valid
        known = [
            each.shape
            for each in (self.low, self.high, self.fixed, self.integer)
            if each is not None
        ]
        for name, values in (("fixed", fixed), ("integer", integer)):
            _demand_no_numbers(name, values, between[0].shape)
        try:
            self.shape: tuple[int, ...] = np.broadcast_shapes(*known)
        except ValueError:
            raise InvalidInput(
                f"low, high, fixed and integer must broadcast to one example; received shapes"
                f" {known}"
            ) from None
        self._demand_zero_to_one()
        self.columns: list[str] | None = None

    def _demand_zero_to_one(self) -> None:
        """Raise unless features of groups go from 0 to 1, or stay."""
        numbers = [number for group in self.one_hot for number in group]
        count = max(max(numbers, default=-1) + 1, *self.shape[-1:], 1)
        if not numbers or self.shape[-1:] not in ((), (1,), (count,)):
            return  # of another length than x: said where x is known
        low, high = (
            np.broadcast_to(end, np.broadcast_shapes(end.shape, (count,)))[..., numbers]
            for end in (self.low, self.high)
        )
        wrong = (low < high) & ((low != 0) | (high != 1))
        bad = sorted(np.asarray(numbers)[wrong.reshape(-1, len(numbers)).any(axis=0)].tolist())
        if bad:
            members = f"np.isin(np.arange(x.shape[-1]), {bad})"
            raise InvalidInput(
                f"features of one_hot are 0 or 1, and low or high says otherwise for {bad}:"
                f" low = np.where({members}, 0, low) and high = np.where({members}, 1, high)"
            )

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest legal value of any feature."""
        return float(self.low.min()), float(self.high.max())

    @property
    def plain(self) -> bool:
        """Whether it is a box with two ends, and what may not change."""
        return not (self.low.ndim or self.high.ndim or self.related)

    @property
    def related(self) -> bool:
        """Whether it says more than ends, and what may not change."""
        whole = self.integer is not None and bool(self.integer.any())
        return whole or bool(self.one_hot or self.repair or self.valid)

    @classmethod
    @helpful
    def from_data(
        cls,
        x: Any,
        fixed: Any = None,
        integer: Any = None,
        one_hot: Any = None,
        repair: Callable[[Any], Any] | None = None,
        valid: Callable[[Any], Any] | None = None,
    ) -> Domain:
        """The domain that a table suggests: the range of each feature; whole where all values are.

        Args:
            x: data that cover what is legal, such as the training data: an array (n, features), or
                a frame of pandas, whose columns may then be named in the other arguments. Columns
                of 0 and 1, such as those of a group, are whole.
            fixed: what may not change: booleans for each feature, or names of columns.
            integer: what is whole, likewise; None: what holds nothing but whole numbers.
            one_hot: groups, lists of numbers or of names of features.
            repair: see ``Domain``.
            valid: see ``Domain``.

        Raises:
            InvalidInput: no table of numbers; a column that is not there.

        Example:
            >>> Domain.from_data(np.array([[20, 0.5], [31, 0.25], [64, 1.75]]))
            Domain(of 2 features, 1 whole)
        """
        columns = [str(name) for name in x.columns] if hasattr(x, "columns") else None
        try:
            table = np.asarray(x if columns is None else x.to_numpy("float64"), "float64")
        except (TypeError, ValueError):
            raise InvalidInput(
                "x must be a table of numbers; it has columns of another kind: x ="
                " pandas.get_dummies(x, dtype='float64') makes groups of columns, of which exactly"
                " one is 1"
            ) from None
        if table.ndim < 2 or not len(table):
            raise InvalidInput(
                f"x must be a table (n, features), not empty; received {table.shape}"
            )
        if not np.isfinite(table).all():
            bad = np.unique(np.nonzero(~np.isfinite(table))[-1])
            raise InvalidInput(
                f"x must be finite; it is not in features {_said(bad[:5], columns)}: fill in what"
                " is missing first, as for the model"
            )
        groups = None
        if one_hot is not None:
            _demand_groups(one_hot)
            groups = [_numbers("one_hot", group, columns) for group in one_hot]
        whole = (
            (table == np.rint(table)).all(axis=0)
            if integer is None
            else _chosen("integer", integer, columns, table.shape[1:])
        )
        made = cls(
            table.min(axis=0),
            table.max(axis=0),
            None if fixed is None else _chosen("fixed", fixed, columns, table.shape[1:]),
            whole if whole.any() else None,
            groups,
            repair,
            valid,
        )
        made.columns = columns
        return made

    def repaired(self, x: Any) -> Array:
        """Inputs with their relations restored by `repair`.

        Args:
            x: inputs in the model's units, (n, ...).

        Returns:
            The same computed in float64 and then in the dtype of `x`, (n, ...); `x` itself where
            there is no `repair`.
        """
        x = np.asarray(x)
        if self.repair is None or not len(x):
            return x
        return repaired(self.repair, x.astype("float64")).astype(x.dtype)

    def holds(self, x: Any, original: Any = None) -> Array:
        """Whether each row is legal.

        Args:
            x: inputs in the model's units, (n, ...).
            original: the inputs before the attack, (n, ...); then what is fixed must be as it was
                there.

        Returns:
            Booleans, (n,).

        Example:
            >>> Domain(0, 1, integer=True).holds([[0, 1], [0, 0.5]])
            array([ True, False])
        """
        return np.logical_and.reduce([~broken for broken in self.violations(x, original).values()])

    def violations(self, x: Any, original: Any = None) -> dict[str, Array]:
        """Which rows break which rule.

        Range ends are taken as the dtype of `x` has them.

        Args:
            x: inputs in the model's units, (n, ...).
            original: the inputs before the attack, (n, ...), for what is fixed.

        Returns:
            Booleans, (n,), for each of "range", "integer", "one_hot", "fixed" and "valid".

        Example:
            >>> broken = Domain(0, 1, integer=True).violations([[0, 1], [0, 0.5]])
            >>> [name for name, rows in broken.items() if rows.any()]
            ['integer']
        """
        x = np.asarray(x)
        if x.dtype.kind not in "f":
            x = x.astype("float64")
        wide = x.astype("float64")
        broken = {
            name: np.zeros(len(x), bool)
            for name in ("range", "integer", "one_hot", "fixed", "valid")
        }
        low, high = (np.asarray(end, x.dtype).astype("float64") for end in (self.low, self.high))
        broken["range"] = ~np.asarray(flattened((wide >= low) & (wide <= high)).all(axis=1))
        if self.integer is not None:
            fine = ~np.broadcast_to(self.integer, wide.shape[1:]) | (wide == np.rint(wide))
            broken["integer"] = ~np.asarray(flattened(fine).all(axis=1))
        for group in self.one_hot:
            part = wide[..., group]
            hot = ((part == 1).sum(axis=-1) == 1) & ((part != 0).sum(axis=-1) == 1)
            broken["one_hot"] |= ~np.asarray(hot.reshape(len(x), -1).all(axis=1))
        if original is not None and self.fixed is not None:
            same = ~np.broadcast_to(self.fixed, wide.shape[1:]) | (x == np.asarray(original))
            broken["fixed"] = ~np.asarray(flattened(same).all(axis=1))
        if self.valid is not None and len(x):
            broken["valid"] = ~judged(self.valid, wide)
        return broken

    def __repr__(self) -> str:
        if self.plain and self.fixed is None:
            return f"Domain({float(self.low):g}, {float(self.high):g})"
        parts = [
            f"of {int(np.prod(self.shape))} features"
            if self.shape
            else f"{float(self.low):g} to {float(self.high):g}"
        ]
        for name, mask in (("fixed", self.fixed), ("whole", self.integer)):
            if mask is not None and mask.any():
                parts.append(f"{int(np.broadcast_to(mask, self.shape).sum())} {name}")
        if self.one_hot:
            parts.append(f"{len(self.one_hot)} group{'s' * (len(self.one_hot) > 1)}")
        parts += [name for name in ("repair", "valid") if getattr(self, name) is not None]
        return f"Domain({', '.join(parts)})"


def repaired(repair: Callable[[Any], Any], x: Array) -> Array:
    """What ``repair`` makes of an array, (n, ...), in float64."""
    with _backend.float64(), blaming("repair"):
        made = _backend.to_numpy(repair(ops.convert_to_tensor(x, "float64")))
    if made.shape != x.shape:
        raise InvalidInput(
            f"repair must return what it was given, of shape {x.shape}; it returned {made.shape}"
        )
    return np.array(made, "float64")


def judged(valid: Callable[[Any], Any], x: Array) -> Array:
    """What ``valid`` says of an array (n, ...) of float64: (n,) of bool."""
    with _backend.float64(), blaming("valid", ON_ARRAYS):
        answer = valid(x)
        made = np.asarray(_backend.to_numpy(answer) if ops.is_tensor(answer) else answer)
    if made.shape != (len(x),):
        several = (
            "; if these are several conditions, all must hold: lambda x: valid(x).all(axis=1)"
            if made.ndim == 2 and len(made) == len(x)
            else ""
        )
        raise InvalidInput(
            f"valid must return one boolean for each example, shape ({len(x)},); it returned shape"
            f" {made.shape}{several}"
        )
    if made.dtype != bool and not np.isin(made, (0, 1)).all():
        raise InvalidInput(
            f"valid must return booleans; it returned {shown(made)}, {made.dtype}; if these are"
            " numbers that must not be below 0: lambda x: valid(x) >= 0"
        )
    return made.astype(bool)


def _ends(name: str, values: Any) -> Array:
    made = _number_array(name, values)
    if not np.isfinite(made).all():
        raise InvalidInput(
            f"{name} must be finite, also where a feature has no natural end: the smallest or"
            f" largest value that is plausible; received {shown(values)}"
        )
    return made


def _number_array(name: str, values: Any) -> Array:
    with contextlib.suppress(Exception):
        made = np.asarray(_backend.to_numpy(values) if ops.is_tensor(values) else values)
        if made.dtype.kind in "iuf":
            return made.astype("float64")
    raise InvalidType(f"{name} must be a number, or one for each feature; received {shown(values)}")


def _mask(name: str, values: Any) -> Array | None:
    if values is None:
        return None
    try:
        made = np.asarray(values)
    except Exception:  # what an object that is no array raises here may be anything
        made = np.asarray(None)
    if made.dtype.kind not in "biuf":
        raise InvalidType(
            f"{name} must be a mask, True or False for each feature; received {shown(values)}"
        )
    if made.dtype != bool and not ((made == 0) | (made == 1)).all():
        raise _no_mask(name, values)
    return made.astype(bool)


def _no_mask(name: str, values: Any) -> InvalidInput:
    return InvalidInput(
        f"{name} must be a mask, True or False for each feature; received {shown(values)}. If"
        f" these are numbers of features: {name}=np.isin(np.arange(x.shape[-1]), {name})"
    )


def _demand_no_numbers(name: str, values: Any, shape: tuple[int, ...]) -> None:
    """Raise if a mask looks like numbers of features: 0 and 1, and fewer than there are."""
    made = None if values is None else np.asarray(values)
    if made is None or made.dtype == bool or made.ndim != 1 or made.shape == shape[-1:]:
        return
    if len(made) == 1 or shape[-1:] not in ((), (1,)):
        raise _no_mask(name, values)


def _demand_groups(groups: Any) -> None:
    """Raise unless this is a list of groups, whatever is in these."""
    if isinstance(groups, str | bytes | Mapping) or not isinstance(groups, Iterable):
        raise InvalidType(
            f"one_hot must be groups of features, such as [[1, 2, 3], [4, 5]]; received"
            f" {shown(groups)}"
        )
    for group in groups:
        if isinstance(group, str | bytes) or not isinstance(group, Iterable):
            raise InvalidType(
                "one_hot must be groups of features, each of two or more, such as [[1, 2, 3], [4,"
                f" 5]]; received {shown(groups)}"
            )


def _groups(groups: Any) -> tuple[list[int], ...]:
    if groups is None:
        return ()
    _demand_groups(groups)
    made = []
    for group in groups:
        numbers = np.asarray(group)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or len(numbers) < 2:
            raise InvalidType(
                "one_hot must be groups of features, each of two or more, such as [[1, 2, 3], [4,"
                f" 5]]; received {shown(group)}"
            )
        made.append([int(number) for number in numbers])
    every = [number for group in made for number in group]
    if min(every, default=0) < 0 or len(set(every)) < len(every):
        raise InvalidInput(
            "one_hot: a feature can be in one group alone, and its number is not below 0; received"
            f" {shown(groups)}"
        )
    return tuple(made)


def _numbers(name: str, group: Any, columns: list[str] | None) -> list[int]:
    """Numbers of features, from such numbers or the names of columns."""
    made = []
    for entry in group:
        if not isinstance(entry, str):
            made.append(entry)
        elif columns is None or entry not in columns:
            known = (
                "x has no names, it is no frame"
                if columns is None
                else f"the columns are {columns}"
            )
            raise InvalidInput(f"{name}: there is no column {shown(entry)}; {known}")
        else:
            made.append(columns.index(entry))
    return made


def _chosen(name: str, given: Any, columns: list[str] | None, shape: tuple[int, ...]) -> Array:
    """A mask, from one or from the names of columns."""
    several = isinstance(given, list | tuple | set) or getattr(given, "ndim", 0) == 1
    named = several and any(isinstance(entry, str) for entry in given)
    if isinstance(given, str) or named:
        numbers = _numbers(name, [given] if isinstance(given, str) else given, columns)
        return np.isin(np.arange(shape[-1]), numbers)
    mask = _mask(name, given)
    assert mask is not None
    _demand_no_numbers(name, given, shape)
    try:
        return np.broadcast_to(mask, shape)
    except ValueError:
        raise InvalidInput(
            f"{name} must have an entry for each feature, shape {shape}; received {mask.shape}"
        ) from None


def _said(numbers: Array, columns: list[str] | None) -> list[Any]:
    return [number if columns is None else columns[number] for number in numbers.tolist()]


def checked(domain: Domain, shape: tuple[int, ...]) -> None:
    """Raise unless inputs of ``shape``, one example, can be of this domain."""
    try:
        fits = np.broadcast_shapes(domain.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise InvalidInput(
            f"the domain is about examples of shape {domain.shape}; x has examples of shape {shape}"
        )
    most = max((number for group in domain.one_hot for number in group), default=-1)
    if most >= shape[-1]:
        raise InvalidInput(
            f"one_hot names the feature {most}, and examples of shape {shape} have"
            f" {shape[-1]} on the last axis"
        )


def demand_legal(domain: Domain, x: Array, name: str = "x") -> None:
    """Raise unless every row is legal before any attack."""
    rules = {
        "integer": "are not whole where the domain says integer; what is whole in all rows:"
        f" integer=({name} == np.rint({name})).all(axis=0)",
        "one_hot": "do not have exactly one 1 in each group of one_hot",
        "valid": "are not valid before any attack: leave them out, or mend the data or the rule",
    }
    broken = domain.violations(x)
    for rule, words in rules.items():
        if broken[rule].any():
            bad = np.flatnonzero(broken[rule])
            raise InvalidInput(f"{len(bad)} rows of {name}, {bad[:5].tolist()}, {words}")
    if domain.repair is None or not len(x):
        return
    moved = np.abs(repaired(domain.repair, x.astype("float64")) - x.astype("float64"))
    least = RESTORED * np.maximum(domain.high - domain.low, 1e-300)
    bad = np.flatnonzero(flattened(~(moved <= least)).any(axis=1))  # NaN too
    if len(bad):
        raise InvalidInput(
            f"repair changes {len(bad)} rows of {name}, {bad[:5].tolist()}, before any attack:"
            f" their relations do not hold; {name} = domain.repaired({name}) restores them"
        )
