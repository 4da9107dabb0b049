"""What attacks that need labels alone have in common: a limit of queries, and a start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from advex._arrays import Tensor, axes, flat, rows
from advex._settings import setting
from advex.attacks.base import Attack
from advex.attacks.smoothing import smooth_axes, smoothed
from advex.driver.candidates import CORNER, DATA, GIVEN, NOISE, NOTHING, ROW
from advex.driver.problem import Problem
from advex.model.protocol import Gives

SMOOTH_TRIES, NOISE_TRIES, CORNER_TRIES = 12, 8, 4
SMOOTH = 0.25  # of the frequencies of smooth noise


@dataclass(frozen=True, kw_only=True)
class LabelAttack(Attack):
    """An attack that asks for nothing but the class.

    A row asks for a start first: points given, data of other classes, noise of growing strength,
    corners of the box, at last another row of the call.
    """

    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True
    needs: ClassVar[Gives] = "labels"
    notes: ClassVar[Mapping[str, np.ufunc | None]] = {"origin": None}

    steps: int = setting(5000, "whole")

    @property
    def query_limit(self) -> int:
        """``steps`` but for the look at the clean input and the last judgement."""
        return max(self.steps - 2, 0)

    def done(self, problem: Problem, x: Tensor, memory: Any) -> Tensor | None:
        """Nothing was found where to begin."""
        return ops.logical_and(
            ops.equal(memory["origin"], NOTHING), memory["tried"] >= tries(problem)
        )


def fresh(problem: Problem) -> dict[str, Tensor]:
    """What a row knows of its start before the first query."""
    nothing = ops.zeros_like(problem.step)
    return {"origin": nothing, "tried": nothing}


def tries(problem: Problem) -> int:
    """How many starts there are."""
    data = 0 if problem.others is None else int(problem.others.shape[1])
    return 1 + data + _smooth_tries(problem) + NOISE_TRIES + CORNER_TRIES


def _smooth_tries(problem: Problem) -> int:
    return SMOOTH_TRIES if smooth_axes(tuple(problem.x0.shape[1:])) else 0


def candidate(problem: Problem, tried: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The start that a row asks about next: the points, whether there is any, (batch,) of bool, and
    what it is, (batch,) int32.

    Args:
        problem: the problem.
        tried: how many it has asked about, (batch,) int32.
    """
    x0, shape = problem.x0, tuple(problem.x0.shape[1:])
    known = problem.others
    data = 0 if known is None else int(known.shape[1]) - 1  # the last one comes last
    smooth = _smooth_tries(problem)
    low, high = problem.box
    middle = (low + high) / 2
    place = tried - 1 - data
    strength = _growing(place, smooth)
    drawn = problem.uniform(shape)
    white = low + (high - low) * drawn
    share = rows(_growing(place - smooth, NOISE_TRIES), x0)
    point = x0 + share * (white - x0)
    kind = ops.full_like(tried, NOISE)
    if smooth:
        waves = smoothed(problem.normal(shape), shape, SMOOTH) / SMOOTH ** (
            len(smooth_axes(shape)) / 2
        )
        wave = x0 + rows(strength, x0) * (high - low) * waves
        point = ops.where(rows(place < smooth, x0), wave, point)
    place = place - smooth - NOISE_TRIES
    signs = ops.where(drawn < 0.5, low, high)
    ends = ops.where(x0 > middle, low, high)  # the farthest corner first
    corner = ops.where(rows(ops.equal(place, 0), x0), ends, signs)
    point = ops.where(rows(place >= 0, x0), corner, point)
    kind = ops.where(place >= 0, CORNER, kind)
    if known is not None:
        number = ops.where(place >= CORNER_TRIES, data, ops.clip(tried - 1, 0, data))
        index = ops.reshape(number, (-1, 1) + (1,) * len(shape))
        index = ops.broadcast_to(index, (ops.shape(x0)[0], 1, *shape))
        one = ops.squeeze(ops.take_along_axis(known, index, axis=1), axis=1)
        given = ops.logical_or(place >= CORNER_TRIES, ops.logical_and(tried >= 1, tried <= data))
        point = ops.where(rows(given, x0), one, point)
        kind = ops.where(given, ops.where(place >= CORNER_TRIES, ROW, DATA), kind)
    first = ops.equal(tried, 0)
    point = ops.where(rows(first, x0), problem.start, point)
    kind = ops.where(first, GIVEN, kind)
    point = ops.clip(point, low, high)
    if problem.mask is not None:
        point = ops.where(problem.mask, point, x0)
    there = ops.any(ops.not_equal(point, x0), axis=axes(x0))
    within = tried < tries(problem)
    return point, ops.logical_and(there, within), ops.cast(kind, "int32")


def started(problem: Problem, memory: Any, starting: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``candidate`` for the rows that are ``starting``, (batch,) of bool; where none is, nothing is
    drawn. What else a step draws, it draws before.
    """
    x0 = problem.x0

    def found() -> tuple[Tensor, Tensor, Tensor]:
        return candidate(problem, memory["tried"])

    def nothing() -> tuple[Tensor, Tensor, Tensor]:
        none = ops.zeros_like(memory["tried"])
        return x0, ops.cast(none, "bool"), ops.cast(none, "int32")

    first, there, origin = ops.cond(ops.any(starting), found, nothing)
    return first, ops.logical_and(there, starting), origin


def _growing(place: Tensor, count: int) -> Tensor:
    """From a little to all: ((place + 1) / count) ** 2."""
    share = ops.cast(place + 1, "float32") / max(count, 1)
    return ops.square(ops.clip(share, 0.0, 1.0))


def length(delta: Tensor) -> Tensor:
    """The Euclidean length of each row's change, (batch,)."""
    return ops.sqrt(ops.sum(ops.square(flat(delta)), axis=1))


def columns(elements: int, most: int = 16) -> int:
    """How many questions a row asks at once at most."""
    return max(1, min(most, 2**21 // max(1, elements)))


def rounding(problem: Problem) -> Tensor:
    """How far a point is moved when it is shown to the model, in L2: (batch,)."""
    grain = ops.broadcast_to(ops.square(problem.grain), ops.shape(problem.x0))
    return ops.sqrt(ops.sum(flat(grain), axis=1) / 12)


def several(values: Tensor, like: Tensor) -> Tensor:
    """(batch, k) with axes of length 1 until it broadcasts over ``like``, (batch, k, ...)."""
    return ops.reshape(values, (-1, int(values.shape[1])) + (1,) * (len(like.shape) - 2))
