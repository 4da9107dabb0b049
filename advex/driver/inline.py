"""An attack inside of a step that is compiled as a whole, such as a step of training: a fixed
number of steps over a batch of tensors, from which no row leaves.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from advex._arrays import Tensor, rows
from advex._grid import Grid
from advex.budgets import Budget, Linf
from advex.driver.plan import Leaf, terms
from advex.driver.problem import Problem
from advex.driver.rows import Common, Rows
from advex.goals import Goal
from advex.model.protocol import Asked

UNIT = 2.0**-24
"""Half of what float32 can tell apart at 1."""
TINY = 1e-37
"""What is just below zero."""


class Ended(NamedTuple):
    """Where a search has ended."""

    points: Tensor
    """(batch, ...) float32, in the model's units: of an attack that keeps to its way the last
    point, else the best one."""
    found: Tensor
    """Whether any point that was looked at inside the budget was a success, (batch,) of bool."""


class Inline:
    """An attack as a function of tensors.

    Args:
        forward: the forward pass of the model.
        box: lowest and highest legal value.
        budget: with a limit, the same for all rows.
        goal: of any labels, as it is about the model's head.
    """

    def __init__(
        self, forward: Asked, box: tuple[float, float], budget: Budget, goal: Goal
    ) -> None:
        self._forward, self._mask = forward, budget
        self._grid = Grid(np.dtype("float32"), box)
        self._budget, self._goal = budget.bare(), goal.bound(dict.fromkeys(goal.rows()))
        self._limit = float(budget.limit(self._grid.span))

    def __call__(
        self,
        attack: Leaf,
        x: Tensor,
        labels: Tensor,
        key: Tensor,
        share: Tensor | None = None,
        last: bool = False,
    ) -> Ended:
        """Search, step after step.

        Args:
            attack: what steps.
            x: the originals, (batch, ...) float32.
            labels: (batch,) int32.
            key: what the random numbers of each row depend on, (batch, 2) int32.
            share: of epsilon, a scalar; None: all of it.
            last: whether the last points are looked at as well, which is a query more.
        """
        now = self.problem(attack, x, labels, key, share)
        points, memory = attack.init(now)
        now = now.again()
        for _ in range(attack.rounds):
            points, memory = attack.step(now, points, memory)
            now = now.again(1)
        state = now.last(points) if last else now.outcome()
        if not getattr(attack, "leaves_budget", False):
            points = now.project(points)
        if not getattr(attack, "needs_epsilon", True):  # it ends where it is smallest
            points = ops.where(rows(state.found, points), state.best, points)
        return Ended(points, state.found)

    def problem(
        self, attack: Leaf, x: Tensor, labels: Tensor, key: Tensor, share: Tensor | None = None
    ) -> Problem:
        """What an attack sees before its first step; arguments as for a call."""
        common, state = self._common(share), self._rows(x, labels, key, share)
        budget = self._budget.bound(0.0)
        told = terms(attack)
        return Problem(self._forward, self._grid, self._goal, budget, told, state, common)

    def _common(self, share: Tensor | None) -> Common:
        epsilon = ops.convert_to_tensor(np.float32(self._limit))
        if share is not None:
            epsilon = epsilon * share
        numbers = float(self._grid.span), *self._grid.box, 255
        return Common(epsilon, *(ops.convert_to_tensor(np.float32(value)) for value in numbers))

    def _rows(self, x: Tensor, labels: Tensor, key: Tensor, share: Tensor | None) -> Rows:
        nothing = ops.zeros_like(labels)
        false, unknown = ops.zeros_like(labels, dtype="bool"), ops.cast(nothing, "float32")
        mask: Any = ()
        if self._mask.mask is not None:
            one = self._mask.changeable((1, *x.shape[1:]))
            mask = ops.broadcast_to(ops.convert_to_tensor(one), ops.shape(x))
        return Rows(
            x0=x,
            bounds=self._bounds(x, share),
            mask=mask,
            beside={},
            goal={"labels": labels},
            key=key,
            salt=nothing,
            repetition=nothing,
            numbers={},
            target=(),
            start=(),
            live=ops.logical_not(false),
            step=nothing,
            done=false,
            x=x,
            memory=(),
            best=x,
            found=false,
            size=unknown + float("inf"),
            idle=nothing,
            margin=unknown,
            nan=false,
            flat=false,
            doubt=false,
            gradients=nothing,
            queries=nothing,
        )

    def _bounds(self, x: Tensor, share: Tensor | None) -> tuple[Tensor, ...]:
        """The lowest and highest legal value of each element, where the budget gives them: as
        ``Grid.bounds`` has them, to the last bit.
        """
        if not isinstance(self._budget, Linf):
            return ()
        low, high = (np.float32(end) for end in self._grid.box)
        if share is None:
            reach = np.float32(self._limit)
            lost = np.float32(self._limit - float(reach))
        else:
            reach, lost = np.float32(self._limit) * share, np.float32(0)
        return (
            ops.maximum(-_below(-x, reach, lost), low),
            ops.minimum(_below(x, reach, lost), high),
        )


def _below(x: Tensor, reach: Any, lost: Any) -> Tensor:
    """The largest float32 that is at most ``x + reach + lost``."""
    total = x + reach
    part = total - x
    rest = (x - (total - part)) + (reach - part) + lost  # of the sum, exactly but for ``lost``
    near = total + rest
    too_high = rest < near - total
    down = ops.where(near > 0, near - UNIT * near, near + 1.5 * UNIT * near - TINY)
    return ops.where(too_high, down, near)
