"""What attacks that need scores alone have in common: a limit of queries, and an estimate of the
gradient from pairs of points.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, rows
from advex._settings import setting
from advex.attacks.base import Attack
from advex.budgets import L2, Budget, Linf
from advex.driver.problem import Loss, Problem
from advex.losses import margin
from advex.model.protocol import Gives

MOST_PAIRS = 8  # that a row asks at once
MOST_ELEMENTS = 2**20  # that a row holds at once


@dataclass(frozen=True, kw_only=True)
class ScoreAttack(Attack):
    """An attack that asks for scores, and no more often than ``steps`` times."""

    needs: ClassVar[Gives] = "scores"

    steps: int = setting(5000, "whole")
    loss: Loss = setting(margin, "function")

    @property
    def query_limit(self) -> int:
        """``steps`` but for the look at the clean input and the last judgement."""
        return max(self.steps - 2, 0)


@dataclass(frozen=True, kw_only=True)
class PairsAttack(ScoreAttack):
    """Ascent along a gradient that is estimated from pairs of points on either side of the iterate.

    A step asks some pairs of a round; the last of them moves. The next step asks about the point
    itself, too, and about the first pairs around it. A round that the limit does not allow in full
    has fewer pairs, so that its point is looked at.
    """

    norms: ClassVar[tuple[type[Budget], ...]] = (Linf, L2)

    pairs: int = setting(50, "whole")

    @abstractmethod
    def directions(self, problem: Problem, shape: tuple[int, ...]) -> Tensor:
        """Random directions, (batch, *shape), of variance 1."""

    @abstractmethod
    def width(self, problem: Problem) -> Tensor:
        """How far the points of a pair are from the iterate, in each element."""

    @abstractmethod
    def nothing(self, problem: Problem) -> Any:
        """What a row remembers of its moves before the first."""

    @abstractmethod
    def moved(
        self, problem: Problem, x: Tensor, slope: Tensor, taken: Tensor, past: Any
    ) -> tuple[Tensor, Any]:
        """The next iterate, and what is remembered of it.

        Args:
            problem: the problem.
            x: the iterate.
            slope: the estimate of the gradient.
            taken: how many moves there were before, (batch,) int32.
            past: what is remembered of them.
        """

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        nothing = ops.zeros_like(problem.step)
        return problem.x0, {
            "slope": ops.zeros_like(problem.x0),
            "asked": nothing,  # pairs of this round
            "wanted": nothing,
            "moves": nothing,
            "past": self.nothing(problem),
        }

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        m = dict(memory)
        shape = tuple(problem.x0.shape[1:])
        count = max(1, min(MOST_PAIRS, self.pairs, MOST_ELEMENTS // max(1, math.prod(shape)) // 2))
        begins = ops.equal(m["asked"], 0)
        looks = ops.logical_and(begins, m["moves"] > 0)  # the first point is known
        left = problem.left - ops.cast(looks, "int32")
        affordable = ops.maximum((left - 1) // 2, 1)
        wanted = ops.where(begins, ops.minimum(affordable, self.pairs), m["wanted"])
        order = ops.arange(count, dtype="int32")[None]
        due = order < (wanted - m["asked"])[:, None]

        out = _beside(self.width(problem), problem) * self.directions(problem, (count, *shape))
        low, high = (_beside(end, problem) for end in (problem.lower, problem.upper))
        here = ops.expand_dims(x, 1)
        ahead, behind = (ops.clip(end, low, high) for end in (here + out, here - out))
        every = problem.shown(ops.concatenate([here, ahead, behind], axis=1))
        # One pair after the other: the limit cuts the last ones.
        places = [0, *(place + side for place in range(1, count + 1) for side in (0, count))]
        taken = ops.convert_to_tensor(places, "int32")
        asked = ops.concatenate([looks[:, None], due, due], axis=1)
        answers = problem.losses(
            ops.take(every, taken, axis=1), self.loss, ops.take(asked, taken, axis=1)
        )
        rise = ops.where(due, answers[:, 1::2] - answers[:, 2::2], 0.0)
        apart = every[:, 1 : count + 1] - every[:, count + 1 :]
        slope = m["slope"] + ops.reshape(
            ops.squeeze(
                ops.matmul(
                    ops.expand_dims(rise, 1), ops.reshape(apart, (-1, count, math.prod(shape)))
                ),
                axis=1,
            ),
            (-1, *shape),
        )
        m["asked"] = m["asked"] + ops.sum(ops.cast(due, "int32"), axis=1)
        m["wanted"] = wanted

        full = m["asked"] >= wanted
        if problem.mask is not None:
            slope = ops.where(problem.mask, slope, 0.0)
        ahead, past = self.moved(problem, x, slope, m["moves"], m["past"])
        m["past"] = {
            name: ops.where(rows(full, was), past[name], was) for name, was in m["past"].items()
        }
        m["slope"] = ops.where(rows(full, x), 0.0, slope)
        m["asked"] = ops.where(full, 0, m["asked"])
        m["moves"] = m["moves"] + ops.cast(full, "int32")
        return ops.where(rows(full, x), ahead, x), m


def at_least_a_level(problem: Problem, width: float) -> Tensor:
    """``width``, a share of the box, as a change that a model that is shown levels will see."""
    return ops.maximum(width * problem.span, problem.grain)


def _beside(values: Tensor, problem: Problem) -> Tensor:
    """Values of every element, or of all, so that they broadcast over (batch, k, ...)."""
    whole = len(values.shape) == len(problem.x0.shape)
    return ops.expand_dims(values, 1) if whole else values
