"""What every norm offers: sizes, projections and directions in ``keras.ops``, and their exact
counterparts in NumPy.
"""

from __future__ import annotations

import copy
import math
import warnings
from abc import abstractmethod
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from keras import ops

from advex._arrays import Array, Tensor, flat, rows
from advex._settings import Settings, real_number, shown
from advex.errors import AdvexWarning, InvalidInput, InvalidType

SHY = 1 - 3e-7
"""Curved balls are aimed at this fraction of epsilon: float32 sums are not exact; the last check,
in float64, is.
"""

ROUNDS = 64  # of Newton's method, far more than it was ever seen to need


class Randomness(Protocol):
    """Where a budget draws from: what a problem offers of it."""

    x0: Tensor
    span: Tensor

    def uniform(self, shape: tuple[int, ...]) -> Tensor: ...
    def signs(self, shape: tuple[int, ...]) -> Tensor: ...


@dataclass(frozen=True)
class Budget(Settings):
    r"""A limit on the perturbation: a norm, and `epsilon` in units of the box's range.

    When to use it:
        Take one of its norms, `Linf`, `L2`, `L1` or `L0`. Derive from it to attack within a norm of
        your own.

    $$ \lVert x - x_0 \rVert \le \varepsilon\,(u - l) $$

    $x_0$ is the input, $l$ and $u$ are the ends of the box, $\varepsilon$ is `epsilon`. So 8/255 is
    8 grey levels whether the model takes 0 to 1, -1 to 1 or 0 to 255.

    Args:
        epsilon: the largest allowed size, at least 0: a number, or one for each example, (n,).
            None: no limit; attacks that can will look for the smallest perturbation.
        mask: where an input may change: booleans, or 0 and 1, that broadcast to one example, such
            as (h, w, 1), or to all, (n, h, w, 1). Everything else stays bit for bit. None:
            everywhere.

    Raises:
        InvalidType: `epsilon` is not a number, or the mask no array of booleans.
        InvalidInput: `epsilon` is negative or not finite, or the mask holds other numbers.

    Example:
        >>> import advex
        >>> advex.L2(0.5).limited, advex.L2().limited
        (True, False)
    """

    epsilon: Any = None
    mask: Any = field(default=None, kw_only=True, compare=False)

    homogeneous: ClassVar[bool] = True
    """Whether twice the perturbation is twice the size; ``L0`` is the exception."""

    def __post_init__(self) -> None:
        if self.epsilon is not None:
            several = _several(self.epsilon)
            made = self._checked(self.epsilon) if several is None else self._each(several)
            object.__setattr__(self, "epsilon", made)
        if self.mask is not None:
            object.__setattr__(self, "mask", _checked_mask(self.mask))

    def _checked(self, epsilon: Any) -> float:
        return real_number(f"{type(self).__name__}(epsilon)", epsilon)

    def _each(self, epsilons: Array) -> tuple[float, ...]:
        """One epsilon for each example, checked."""
        name = type(self).__name__
        if epsilons.ndim != 1 or not len(epsilons):
            raise InvalidInput(
                f"{name}(epsilon) must be a number, or one for each example, shape (n,); received"
                f" shape {epsilons.shape}. Where a change is allowed, a mask says"
            )
        if not np.isfinite(epsilons).all():
            raise InvalidInput(f"the epsilon of each example must be finite, in {name}(epsilon)")
        for end in (epsilons.min(), epsilons.max()):
            self._checked(float(end) if epsilons.dtype.kind == "f" else int(end))
        return tuple(map(float, epsilons.tolist()))

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return self.epsilon is not None

    @property
    def epsilons(self) -> Array | None:
        """One epsilon for each example, (n,) float64; None where it is the same for all."""
        return np.asarray(self.epsilon) if isinstance(self.epsilon, tuple) else None

    def part(self, rows: Array) -> Self:
        """The budget of some of the examples."""
        return self if self.epsilons is None else self.bound(tuple(self.epsilons[rows].tolist()))

    def single(self, row: int) -> Self:
        """The budget of one example."""
        return self if self.epsilons is None else self.bound(float(self.epsilons[row]))

    def demand_count(self, count: int) -> None:
        """Raise unless there is one epsilon for all examples, or for each of them.

        Raises:
            InvalidInput: there are more, or fewer.
        """
        if self.epsilons is not None and len(self.epsilons) != count:
            raise InvalidInput(
                f"{type(self).__name__}(epsilon) has {len(self.epsilons)} epsilons, one for each"
                f" example; x has {count} examples. A range for each feature is a domain,"
                " box=advex.Domain(low, high)"
            )

    def bound(self, epsilon: Tensor) -> Self:
        """A copy whose ``epsilon`` is a tensor in the model's units."""
        twin = copy.copy(self)
        object.__setattr__(twin, "epsilon", epsilon)
        return twin

    def bare(self) -> Self:
        """The same without a mask."""
        twin = copy.copy(self)
        object.__setattr__(twin, "mask", None)
        return twin

    def changeable(self, shape: tuple[int, ...]) -> Array | None:
        """Which elements of inputs of ``shape``, (n, ...), may change: an array that is read only;
        None: all.

        Raises:
            InvalidInput: the mask does not fit the inputs.
        """
        if self.mask is None:
            return None
        try:
            made = np.broadcast_to(self.mask, shape)
        except ValueError:
            raise InvalidInput(
                f"mask must broadcast to one input, {shape[1:]}, or to all, {shape}; received shape"
                f" {self.mask.shape}"
            ) from None
        if len(made) and not made.reshape(len(made), -1).any(axis=1).all():
            raise InvalidInput(
                "mask leaves an input nothing that may change: it is True where a change is allowed"
            )
        return made

    # The geometry, on tensors of shape (batch, ...); epsilon and the tensors are in the same units.

    @abstractmethod
    def size(self, delta: Tensor) -> Tensor:
        """The norm of each example's perturbation: (batch, ...) -> (batch,)."""

    @abstractmethod
    def project(self, delta: Tensor) -> Tensor:
        """argmin over ``size(y) <= epsilon`` of the Euclidean distance to ``delta``, example by
        example.
        """

    @abstractmethod
    def nearest(self, x: Tensor, x0: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """argmin of the Euclidean distance to ``x`` over ``size(y - x0) <= epsilon`` and ``low <= y
        <= high``.
        """

    def around(self, x: Tensor, x0: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """``nearest`` for a ball of another size, ``radius``, (batch,), around each example."""
        return self.bound(radius).nearest(x, x0, low, high)

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """A direction of size 1 along which a loss with this gradient grows fast; zero where the
        gradient is.
        """

    @abstractmethod
    def extreme(self, gradient: Tensor, x0: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """argmax of ``sum(gradient * y)`` over ``size(y - x0) <= epsilon`` and ``low <= y <=
        high``.
        """

    def dual(self, gradient: Tensor) -> Tensor:
        """How fast a loss with this gradient can grow per unit of size: the dual norm, (batch, ...)
        -> (batch,).
        """
        raise InvalidInput(f"{type(self).__name__} has no dual norm: use Linf, L2 or L1")

    def onto(self, x: Tensor, normal: Tensor, rise: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """argmin of ``size(y - x)`` over ``sum(normal * (y - x)) = rise`` and ``low <= y <= high``,
        example by example.

        Where the box ends before the hyperplane begins: the box's point nearest to it. Where
        ``normal`` is zero: ``x``.

        Args:
            x: points of the box, (batch, ...).
            normal: the hyperplanes' normals, of the shape of ``x``.
            rise: how much a linear function with the gradient ``normal`` is to grow, (batch,);
                below 0 to fall.
            low: lowest legal value, a scalar or of the shape of ``x``.
            high: highest legal value.

        Raises:
            InvalidInput: the norm is ``L0``, or another for which nobody has written it.
        """
        raise InvalidInput(
            f"{type(self).__name__} has no projection onto hyperplanes: use Linf, L2 or L1"
        )

    @abstractmethod
    def sample(self, problem: Randomness) -> Tensor:
        """A random perturbation from the ball, of the shape of ``problem.x0``."""

    def bounds(self, x0: Array, box: tuple[Any, Any], span: Fraction) -> tuple[Array, Array]:
        """Per element, the lowest and highest legal value: exact, in the dtype of ``x0``. Here: the
        box.
        """
        return np.asarray(box[0], x0.dtype), np.asarray(box[1], x0.dtype)

    def levels(self) -> int:
        """How many 8-bit levels one element may move."""
        return 255

    # The last word, in float64.

    @abstractmethod
    def measure(self, delta: Array) -> Array:
        """The norm of each row of ``delta`` (n, ...) in float64: shape (n,)."""

    def limit(self, span: Fraction) -> float:
        """Epsilon times the box's range, rounded down to a float64."""
        return rounded_down(Fraction(self.epsilon) * span)

    def scaled(self, delta: Array, factor: Array) -> Array:
        """``delta`` made smaller, row by row, to bring its size within the limit."""
        return delta * factor.reshape((-1,) + (1,) * (delta.ndim - 1))

    def __repr__(self) -> str:
        parts = [] if self.epsilon is None else [self._said]
        return f"{type(self).__name__}({', '.join([*parts, *self._masked])})"

    @property
    def _said(self) -> str:
        if self.epsilons is None:
            return f"{self.epsilon:g}"
        return f"{self.epsilons.min():g} to {self.epsilons.max():g}, one for each example"

    @property
    def _masked(self) -> list[str]:
        return [] if self.mask is None else ["mask=..."]


def _several(epsilon: Any) -> Array | None:
    """Epsilons as an array, if these are several."""
    if isinstance(epsilon, list | tuple) or (hasattr(epsilon, "shape") and len(epsilon.shape)):
        try:
            made = np.asarray(epsilon)
        except Exception:  # what an object that is no array raises here may be anything
            return None
        return made if made.dtype.kind in "iuf" else None
    return None


def _checked_mask(mask: Any) -> Array:
    try:
        made = np.asarray(mask)
    except Exception:  # what an object that is no array raises here may be anything
        made = np.asarray(None)
    if made.dtype.kind not in "biuf" or not made.ndim:
        raise InvalidType(
            f"mask must be an array of booleans, True where a change is allowed; received"
            f" {shown(mask)}"
        )
    if made.dtype != bool and not ((made == 0) | (made == 1)).all():
        raise InvalidInput(
            "mask must hold booleans, or 0 and 1; other numbers would be an epsilon for each"
            " element: np.asarray(mask) > 0"
        )
    made = made.astype(bool)
    made.flags.writeable = False
    return made


def rounded_down(value: Fraction) -> float:
    """The largest float64 that is not above ``value``."""
    number = float(value)
    return math.nextafter(number, -math.inf) if Fraction(number) > value else number


def room(direction: Tensor, x0: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How far each element can go the way ``direction`` points before it leaves the box; 0 where it
    does not point.
    """
    return ops.maximum(
        ops.where(direction > 0, high - x0, ops.where(direction < 0, x0 - low, 0.0)), 0.0
    )


def climb(
    x: Tensor, normal: Tensor, rise: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``normal`` turned and scaled so that a positive rise is gained along it, that rise, and the
    box's end that way.

    The largest element of a normal is 1. Elements where it is 0 end where they are.
    """
    largest = ops.max(ops.abs(flat(normal)), axis=1)
    scale = ops.where(largest > 0, largest, 1.0)
    normal = normal * rows(ops.where(rise < 0, -1.0, 1.0) / scale, normal)
    end = ops.where(normal > 0, high, ops.where(normal < 0, low, x))
    return normal, ops.abs(rise) / scale, end


def level(weight: Tensor, limit: Tensor, total: Tensor) -> Tensor:
    """The t >= 0, row by row, at which ``sum(min(t * weight, limit))`` is ``total``: (batch, n)
    twice and (batch,) -> (batch,).

    1e38 where the limits together are not above ``total``.
    """
    # Newton's method on a concave, piecewise linear function: it never overshoots, and ends on the
    # right piece.
    enough = total < ops.sum(limit, axis=1)

    def going(_: Tensor, active: Tensor, count: Tensor) -> Tensor:
        return ops.logical_and(ops.any(active), count < ROUNDS)

    def newton(t: Tensor, active: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        grown = weight * ops.expand_dims(t, 1)
        gap = total - ops.sum(ops.minimum(grown, limit), axis=1)
        slope = ops.sum(ops.where(grown < limit, weight, 0.0), axis=1)
        ahead = ops.where(active, t + gap / ops.where(slope > 0, slope, 1.0), t)
        return ops.maximum(ahead, t), ahead > (1 + 1e-6) * t, count + 1

    t, _, _ = ops.while_loop(going, newton, (ops.zeros_like(total), enough, ops.zeros((), "int32")))
    return ops.where(enough, t, 1e38)


def rank(values: Tensor) -> Tensor:
    """The place of each entry in its row, 0 for the largest; equal entries get different places.
    (batch, n) of int.
    """
    return ops.argsort(ops.argsort(-values, axis=1), axis=1)


def fraction_of_range(name: str, epsilon: float, masked: bool = False) -> float:
    """``epsilon`` of a budget per element, which cannot be above 1. What is ``masked``, such as a
    sticker, may take any value.
    """
    if epsilon > 1:
        raise InvalidInput(
            f"{name}({epsilon:g}): epsilon is a fraction of the box's range, so it cannot be above"
            f" 1; for {epsilon:g} grey levels write advex.{name}({epsilon:g}/255)"
        )
    if epsilon >= 0.5 and not masked:
        warnings.warn(
            f"{name}({epsilon:g}) lets every element move by half the range or more: any image can"
            f" become grey",
            AdvexWarning,
            stacklevel=5,
        )
    return epsilon
