"""A budget for each of several inputs that are attacked at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import ops

from advex._arrays import Array, Tensor
from advex.budgets.base import Budget, Randomness
from advex.budgets.linf import Linf
from advex.errors import InvalidInput


@dataclass(frozen=True, repr=False)
class Each(Budget):
    """Several inputs side by side in one vector, each within a budget of its own.

    Its size is the largest of theirs, each divided by its epsilon; without limits the largest of
    theirs. Made of a dict of budgets, ``{"image": Linf(8/255), "audio": L2(0.1)}``.

    Args:
        epsilon: 1 where they are limited.
        parts: the inputs' names and budgets.
        places: where each begins in the vector, and where it ends.
    """

    parts: tuple[tuple[str, Budget], ...] = ()
    places: tuple[tuple[int, int], ...] = ()

    def _checked(self, epsilon: Any) -> float:
        return 1.0

    @classmethod
    def of(cls, parts: dict[str, Budget], places: tuple[tuple[int, int], ...]) -> Each:
        """The budget of inputs that have these places in the vector."""
        limited = all(budget.limited for budget in parts.values())
        each = [name for name, budget in parts.items() if budget.epsilons is not None]
        if each and not all(isinstance(budget, Linf) for budget in parts.values()):
            raise InvalidInput(
                f"the budget of {each[0]!r} has an epsilon for each example: of inputs that are"
                f" attacked at once that is for Linf in all of them; received {parts!r}"
            )
        bare = tuple((name, budget.bare()) for name, budget in parts.items())
        return cls(1.0 if limited else None, parts=bare, places=places)

    @property
    def even(self) -> bool:
        """Whether all of them are ``Linf``: then it is ``Linf`` with another epsilon in each."""
        return all(isinstance(budget, Linf) for _, budget in self.parts)

    def searched(self) -> Budget:
        """What a search is told: ``Linf`` where it is nothing else."""
        return Linf().bound(self.epsilon) if self.even else self

    def part(self, rows: Array) -> Each:
        return replace(self, parts=tuple((name, budget.part(rows)) for name, budget in self.parts))

    @property
    def _budgets(self) -> list[tuple[slice, Budget, Any]]:
        """Place, budget and its own epsilon; on the host one for each example perhaps."""
        return [
            (slice(*place), budget, _own(budget))
            for place, (_, budget) in zip(self.places, self.parts, strict=True)
        ]

    def _joined(self, made: Callable[[slice, Budget], Tensor]) -> Tensor:
        """Something of each, side by side; its epsilon is its own times this one's."""
        return ops.concatenate(
            [
                made(place, budget.bound(own * self.epsilon) if self.limited else budget)
                for place, budget, own in self._budgets
            ],
            axis=1,
        )

    def size(self, delta: Tensor) -> Tensor:
        first, *rest = [budget.size(delta[:, place]) / own for place, budget, own in self._budgets]
        for other in rest:
            first = ops.maximum(first, other)
        return first

    def project(self, delta: Tensor) -> Tensor:
        return self._joined(lambda place, budget: budget.project(delta[:, place]))

    def nearest(self, x: Tensor, x0: Tensor, low: Tensor, high: Tensor) -> Tensor:
        def made(place: slice, budget: Budget) -> Tensor:
            start, ends = x0[:, place], (_cut(low, place), _cut(high, place))
            if isinstance(budget, Linf) and budget.limited:  # whose limits are not in the ends
                reach = budget.epsilon
                ends = ops.maximum(ends[0], start - reach), ops.minimum(ends[1], start + reach)
            return budget.nearest(x[:, place], start, *ends)

        return self._joined(made)

    def around(self, x: Tensor, x0: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return ops.concatenate(
            [
                budget.around(x[:, at], x0[:, at], radius * own, _cut(low, at), _cut(high, at))
                for at, budget, own in self._budgets
            ],
            axis=1,
        )

    def steepest(self, gradient: Tensor) -> Tensor:
        return ops.concatenate(
            [own * budget.steepest(gradient[:, place]) for place, budget, own in self._budgets],
            axis=1,
        )

    def extreme(self, gradient: Tensor, x0: Tensor, low: Tensor, high: Tensor) -> Tensor:
        def made(place: slice, budget: Budget) -> Tensor:
            start, ends = x0[:, place], (_cut(low, place), _cut(high, place))
            if isinstance(budget, Linf) and budget.limited:
                reach = budget.epsilon
                ends = ops.maximum(ends[0], start - reach), ops.minimum(ends[1], start + reach)
            return budget.extreme(gradient[:, place], start, *ends)

        return self._joined(made)

    def dual(self, gradient: Tensor) -> Tensor:
        return sum(own * budget.dual(gradient[:, place]) for place, budget, own in self._budgets)

    def onto(self, x: Tensor, normal: Tensor, rise: Tensor, low: Tensor, high: Tensor) -> Tensor:
        raise InvalidInput(
            f"this attack has no form for inputs in different norms, {self!r}: give all of them"
            " advex.Linf, or use advex.FMN(), or advex.PGD() where they have limits"
        )

    def sample(self, problem: Randomness) -> Tensor:
        return self._joined(lambda place, budget: budget.sample(_Part(problem, place)))

    def measure(self, delta: Array) -> Array:
        sizes = [
            _quotient(budget.measure(delta[:, place]), own) for place, budget, own in self._budgets
        ]
        made: Array = np.max(sizes, axis=0)
        return made

    def scaled(self, delta: Array, factor: Array) -> Array:
        return np.concatenate(
            [budget.scaled(delta[:, place], factor) for place, budget, _ in self._budgets], axis=1
        )

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{name!r}: {budget!r}" for name, budget in self.parts) + "}"


def _own(budget: Budget) -> Any:
    if budget.epsilons is not None:
        return budget.epsilons
    return float(budget.epsilon) if budget.limited else 1.0


def _quotient(size: Array, epsilon: Any) -> Array:
    """A size in units of epsilon: 0 where neither is above 0."""
    return np.divide(
        size, epsilon, out=np.where(size > 0, np.inf, 0.0), where=epsilon > np.zeros(size.shape)
    )


class _Part:
    """What one of the budgets draws from."""

    def __init__(self, problem: Randomness, place: slice) -> None:
        self._problem, self.x0 = problem, problem.x0[:, place]
        self.span = _cut(problem.span, place)

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        return self._problem.uniform(shape)

    def signs(self, shape: tuple[int, ...]) -> Tensor:
        return self._problem.signs(shape)


def searched(budget: Budget) -> Budget:
    """What a search is told of a budget."""
    return budget.searched() if isinstance(budget, Each) else budget


def _cut(end: Tensor, place: slice) -> Tensor:
    return end[:, place] if len(end.shape) > 1 else end
