"""Numbers: the answer of the model moves too far, or beyond a value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor, flat, flattened
from advex._settings import shown
from advex.errors import InvalidInput, InvalidType
from advex.goals.base import Goal


@dataclass(frozen=True, eq=False, repr=False)
class Regression(Goal):
    r"""Success is that a number that the model answers with moves too far, or beyond a value.

    When to use it:
        For models that answer with numbers: ages, prices, positions.

    $$
    f(z) = \max_i \begin{cases}
    |z_i - v_i| - \tau & \text{off} = \tau \\
    z_i - \tau & \text{above} = \tau \\
    \tau - z_i & \text{below} = \tau
    \end{cases}
    $$

    $z_i$ are the numbers that the model answers with, $v_i$ is `values`. The loss is the signed
    output: what the model answers, or minus that. Where `off` is given an attack is sent both ways,
    upwards and downwards, in a run each: at the value itself there is no telling which is nearer. A
    model that answers with several numbers has done it as soon as one of them has.
    `result.prediction` is the answer itself; `result.confidence` is NaN.

    Args:
        values: the true values, (n,) or the shape of the answer. None: what the model itself
            answers to the clean inputs. Needed for `off` alone; with `above` and `below` the error
            is measured from them.
        off: more than so much away from `values`, at least 0: a number, or one for each example.
        above: more than this: a number, or one for each example.
        below: less than this: a number, or one for each example.

    Raises:
        InvalidType: something that is no number.
        InvalidInput: not exactly one of `off`, `above` and `below`; `off` below 0.

    Example:
        >>> Regression([3.5, 1.0], off=0.5)
        Regression(2 examples, off=0.5)

    Reference:
        Nguyen and Raff, Adversarial attacks, regression, and numerical stability regularization,
        2018 (the loss).

    Deviations:
        The goal, with its limits, is advex's own.
    """

    values: Any = None
    off: Any = None
    above: Any = None
    below: Any = None
    reads: ClassVar[str] = "raw"
    one_output: ClassVar[bool] = True

    def __post_init__(self) -> None:
        given = [name for name in ("off", "above", "below") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InvalidInput(
                "Regression needs one of off=, above= and below=, such as advex.Regression("
                f"values, off=0.5); received {' and '.join(given) or 'none'}"
            )
        if self.values is not None:
            object.__setattr__(self, "values", _numbers("values", self.values))
            if not self.values.ndim:
                raise InvalidInput(
                    "values must have shape (n,), one for each example; received one number:"
                    f" [{self.values}], or above= and below= for a limit"
                )
        limit = _numbers(given[0], getattr(self, given[0]))
        if limit.ndim > 1:
            raise InvalidInput(
                f"{given[0]} must be a number, or one for each example; received shape"
                f" {limit.shape}"
            )
        if given[0] == "off" and (limit < 0).any():
            raise InvalidInput(f"off must not be below 0; received {limit.min():g}")
        object.__setattr__(self, given[0], limit if limit.ndim else float(limit))

    @property
    def _side(self) -> str:
        return next(name for name in ("off", "above", "below") if getattr(self, name) is not None)

    @property
    def forks(self) -> bool:  # type: ignore[override]
        return self._side == "off"

    def _gains(self, answer: Tensor) -> tuple[Tensor, Tensor]:
        """How far each number is above the limit upwards, and downwards: (batch, d) each."""
        answer, side = flat(answer), self._side
        limit = getattr(self, side)
        limit = limit if isinstance(limit, float) else ops.expand_dims(limit, 1)
        if side == "off":
            values = ops.reshape(self.values, (-1, *answer.shape[1:]))
            return answer - values - limit, values - answer - limit
        return answer - limit, limit - answer

    def margin(self, logits: Tensor) -> Tensor:
        up, down = self._gains(logits)
        gain = {"off": ops.maximum(up, down), "above": up, "below": down}[self._side]
        return ops.max(gain, axis=1)

    def ways(self, answer: Tensor) -> Tensor | None:
        if self._side != "off":
            return None
        up, down = self._gains(answer)
        return ops.stack([ops.max(up, axis=1), ops.max(down, axis=1)], axis=1)

    def branches(self, classes: int) -> int:
        return 2 if self.forks else 0

    def check(self, count: int, classes: int | None) -> Self:
        for name, entries in self.rows().items():
            if len(entries) != count:
                raise InvalidInput(
                    f"x has {count} examples but Regression.{name} has {len(entries)} entries"
                )
        return self

    def suit(self, shapes: Any) -> None:
        size = int(np.prod(shapes))
        if self.values is not None and int(np.prod(self.values.shape[1:])) != size:
            raise InvalidInput(
                f"Regression has {int(np.prod(self.values.shape[1:]))} values for each example, and"
                f" the model answers with {size}"
            )

    @property
    def open(self) -> bool:
        return self.values is None

    @property
    def about_own(self) -> bool:
        return self.open and self._side == "off"

    def closed(self, answer: Array) -> Regression:
        return self.bound({"values": np.asarray(answer, "float32")})

    def said(self, answer: Array) -> tuple[Array, Array]:
        numbers = answer[:, 0] if answer.ndim == 2 and answer.shape[1] == 1 else answer
        return numbers.astype("float64"), np.full(len(answer), np.nan)

    def errors(self, prediction: Array) -> Array:
        """How far the answers, (n, ...), are from the values: (n,), the largest of several."""
        wide = flattened(np.asarray(prediction, "float64").reshape(len(prediction), -1))
        return np.asarray(np.abs(wide - self.values.reshape(wide.shape)).max(axis=1))

    def words(self, prediction: Any, confidence: Any, name: Callable[[int], str]) -> str:
        numbers = np.ravel(prediction)
        told = ", ".join(f"{value:.4g}" for value in numbers[:3])
        return told + (", ..." if len(numbers) > 3 else "")

    def __repr__(self) -> str:
        side, limit = self._side, getattr(self, self._side)
        told = f"{limit:g}" if isinstance(limit, float) else f"{len(limit)} numbers"
        if self.values is not None:
            return f"Regression({len(self.values)} examples, {side}={told})"
        own = "the model's own answers, " if side == "off" else ""  # a limit needs no values
        return f"Regression({own}{side}={told})"


def _numbers(name: str, values: Any) -> Array:
    try:
        array = np.asarray(_backend.to_numpy(values))
    except Exception:  # what an object that is no array raises here may be anything
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise InvalidType(f"{name} must hold numbers; received {shown(values)}")
    if not np.isfinite(array).all():
        raise InvalidInput(f"{name} must be finite; received {shown(values)}")
    with np.errstate(over="ignore"):
        made = array.astype("float32")
    if not np.isfinite(made).all():
        raise InvalidInput(f"{name} must fit into float32; received {shown(values)}")
    return made
