"""SimBA: one direction of an orthonormal basis after the other, kept where the loss grows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from advex._arrays import Array, Tensor, axes, rows
from advex._settings import setting
from advex.attacks.labels_alone import rounding
from advex.attacks.scores_alone import ScoreAttack
from advex.attacks.smoothing import cosines, smooth_axes
from advex.budgets import L2, Budget, Linf
from advex.driver.problem import Problem

LOWEST = 8  # one in so many frequencies along an axis comes before all others


@dataclass(frozen=True, kw_only=True)
class SimBA(ScoreAttack):
    r"""Simple black-box attack: one direction of an orthonormal basis after the other, kept where
    the loss grows.

    When to use it:
        Against a model that gives scores, when a simple method with small L2 changes is wanted.
        Within a budget `SquareAttack` breaks more with the same queries.

    $$
    x_{t+1} = \begin{cases}
    x_t - \eta\, q_t & \ell(x_t - \eta\, q_t) > \ell(x_t) \\
    x_t + \eta\, q_t & \ell(x_t + \eta\, q_t) > \ell(x_t) \\
    x_t & \text{otherwise}
    \end{cases}
    $$

    $$ \lVert x_T - x_0 \rVert_2 \le \eta\, \sqrt{\text{steps kept}} $$

    $q_t$ is the next direction of the basis, none of them twice, $\eta$ is `step_size`, $\ell$ the
    loss. The first line is tried first. Without a limit (`L2()`) it ends at the first success.
    Within a limit points are projected. When all directions were tried they are tried again, in a
    new order and with steps half as long.

    Args:
        steps: the limit of queries per example, a whole number from 1. All count: the clean input,
            twice, each try, and the last judgement.
        loss: what must grow, a function `(logits, goal) -> (batch,)`.
        basis: "pixels" (one element after the other, in random order) or "dct" (cosine waves over
            the image, slow ones first); tables have no waves, and go by elements.
        step_size: the paper's epsilon: the Euclidean length of a step, in units of the box's range,
            above 0; at least one level where inputs have levels. The paper: 0.2.
        stride: of "dct": waves come in blocks, each with so many more frequencies along height and
            width than the one before, in random order within a block; the first has an eighth of
            all frequencies, or `stride`. The authors: 7.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for norms other than `L2` and `Linf`.

    Cost:
        At most `steps` queries, no gradients: one or two a direction.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data(4)
        >>> result = SimBA(steps=200)(advex.testing.linear_model(), x, labels, advex.L2())
        >>> int(result.gradients.sum()), bool(result.queries.max() <= 200)
        (0, True)

    Reference:
        Guo, Gardner, You, Wilson and Weinberger, Simple black-box adversarial attacks, ICML 2019,
        and the authors' implementation. https://arxiv.org/abs/1905.07121

    Deviations:
        The loss is the margin (the paper: the probability of the class,
        ``loss=losses.confidence``); every example has an order of its own; what would change
        nothing, such as a step out of the box, is not asked; limits, by projection; passes with
        shorter steps, where the paper ends; steps along waves are at least as long as rounding to
        the levels of an image is.
    """

    norms: ClassVar[tuple[type[Budget], ...]] = (L2, Linf)
    needs_epsilon: ClassVar[bool] = False

    basis: str = setting("pixels", "choice", among=("pixels", "dct"))
    step_size: float = setting(0.2, "number", above=0)
    stride: int = setting(7, "whole")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        nothing = ops.zeros_like(problem.step)
        return problem.x0, {
            "order": self._order(problem),
            "place": nothing,
            "passes": nothing,
            "value": ops.zeros_like(problem.progress),
            "forward": nothing > 0,
        }

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        m = dict(memory)
        first = ops.equal(problem.step, 0)
        place = ops.expand_dims(m["place"], 1)
        index = ops.squeeze(ops.take_along_axis(m["order"], place, axis=1), axis=1)
        way = self._way(problem, index, m["passes"])
        back, ahead = self._legal(problem, x - way), self._legal(problem, x + way)
        here = problem.shown(x)

        def idle(point: Tensor) -> Tensor:
            return ops.all(ops.equal(problem.shown(point), here), axis=axes(x))

        forward = ops.logical_or(m["forward"], idle(back))
        point = ops.where(rows(forward, x), ahead, back)
        asked = ops.logical_not(ops.where(forward, idle(ahead), False))
        point = ops.where(rows(first, x), x, point)
        asked = ops.logical_or(asked, first)
        value = problem.losses(point, self.loss, asked)
        better = ops.logical_and(asked, ops.logical_or(first, value > m["value"]))
        m["value"] = ops.where(better, value, m["value"])
        x = ops.where(rows(better, x), point, x)

        tried = ops.logical_and(ops.logical_or(better, forward), ops.logical_not(first))
        m["forward"] = ops.logical_not(ops.logical_or(tried, first))
        place = m["place"] + ops.cast(tried, "int32")
        over = place >= self._count(problem)
        m["place"] = ops.where(over, 0, place)
        m["passes"] = m["passes"] + ops.cast(over, "int32")
        m["order"] = ops.cond(
            ops.any(over),
            lambda: ops.where(over[:, None], self._order(problem), m["order"]),
            lambda: m["order"],
        )
        return x, m

    def done(self, problem: Problem, x: Tensor, memory: Any) -> Tensor | None:
        """Without a limit, the first success."""
        return None if problem.budget.limited else problem.found

    def _legal(self, problem: Problem, x: Tensor) -> Tensor:
        if problem.budget.limited:
            return problem.project(x)
        x = x if problem.mask is None else ops.where(problem.mask, x, problem.x0)
        return ops.clip(x, problem.lower, problem.upper)

    def _waves(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The axes along which directions are waves."""
        return smooth_axes(shape) if self.basis == "dct" else ()

    def _count(self, problem: Problem) -> Tensor | int:
        """How many directions there are."""
        shape = tuple(problem.x0.shape[1:])
        if problem.mask is None or self._waves(shape):
            return math.prod(shape)
        return ops.sum(
            ops.cast(ops.broadcast_to(problem.mask, ops.shape(problem.x0)), "int32"),
            axis=axes(problem.x0),
        )

    def _order(self, problem: Problem) -> Tensor:
        """All directions in the order in which they are tried, (batch, elements) int32."""
        shape = tuple(problem.x0.shape[1:])
        block = ops.convert_to_tensor(self._blocks(shape).reshape(1, -1).astype("float32"))
        key = block + problem.uniform((math.prod(shape),))
        if problem.mask is not None and not self._waves(shape):
            still = ops.reshape(
                ops.broadcast_to(problem.mask, ops.shape(problem.x0)), (-1, math.prod(shape))
            )
            key = ops.where(still, key, 2.0)  # what may not change comes last
        return ops.cast(ops.argsort(key, axis=1), "int32")

    def _blocks(self, shape: tuple[int, ...]) -> Array:
        """The number of the block that each direction is in."""
        block = np.zeros(shape, "int64")
        for axis in self._waves(shape):
            first = max(self.stride, shape[axis] // LOWEST)
            frequency = np.arange(shape[axis])
            number = np.maximum(-(-(frequency + 1 - first) // self.stride), 0)
            block = np.maximum(block, number.reshape((-1,) + (1,) * (len(shape) - axis - 1)))
        return block

    def _way(self, problem: Problem, index: Tensor, passes: Tensor) -> Tensor:
        """A step along each example's direction, (batch, ...)."""
        shape = tuple(problem.x0.shape[1:])
        waves = self._waves(shape)
        made: Tensor = 1.0
        for axis in reversed(range(len(shape))):
            number, index = index % shape[axis], index // shape[axis]
            if axis in waves:
                table = ops.convert_to_tensor(cosines(shape[axis]).astype("float32"))
                part = ops.take(table, number, axis=0)
            else:
                part = ops.one_hot(number, shape[axis], dtype="float32")
            spread = [-1] + [1] * len(shape)
            spread[axis + 1] = shape[axis]
            made = made * ops.reshape(part, spread)
        size = self.step_size * ops.power(0.5, ops.cast(passes, "float32"))
        if not waves:
            return ops.maximum(rows(size, made) * problem.span, problem.grain) * made
        size = ops.maximum(size, rounding(problem) / problem.width)
        return rows(size, made) * problem.span * made
