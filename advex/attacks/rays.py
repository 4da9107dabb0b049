"""RayS: along one ray of signs after the other, by labels alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from advex._arrays import Tensor, axes, flat, rows
from advex._settings import setting
from advex.attacks.labels_alone import LabelAttack, fresh, started
from advex.budgets import Budget, Linf
from advex.driver.problem import Problem

START, FLIP, LINE = range(3)
GOLDEN = (math.sqrt(5) - 1) / 2
PARTS = 32  # of a level, to which a radius is found
SMALLEST = 2.0**-20  # of the box: what is not looked at more closely


@dataclass(frozen=True, kw_only=True)
class RayS(LabelAttack):
    r"""Ray search: flip the signs of a ray from the input block by block, and shorten it, by labels
    alone.

    When to use it:
        The first choice in Linf against a model that answers with a class alone. It estimates no
        gradient and has no setting but the tolerance.

    $$
    \min_{v} \; r(v), \qquad
    r(v) = \min \{ r : \mathrm{clip}(v,\, x_0 - r,\, x_0 + r) \text{ is across} \}
    $$

    $x_0$ is the input and $v$ the end of a ray, element by element. $r$ is its radius, the largest
    change at which it crosses. Blocks of elements are flipped to the other end of the box: all of
    them, halves, quarters, down to single elements. A flip is kept if the ray still crosses at the
    radius known so far; then the radius is made smaller. Where a whole pass over all blocks changes
    nothing, nothing more can be found, and the example leaves.

    Args:
        steps: the limit of queries per example, a whole number from 1. All count: the look at the
            clean input, the start, every flip and bisection, and the last judgement.
        tolerance: how exactly the radius of a ray is found, as a share of it, above 0 and below 1.
            The authors: 0.001, not as a share.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for norms other than `Linf`.

    Cost:
        At most `steps` queries, no gradients; fewer where no flip helps any more.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data(4)
        >>> result = RayS(steps=200)(advex.testing.linear_model(), x, labels, advex.Linf())
        >>> bool(result.success.all()), bool(result.queries.max() <= 200)
        (True, True)

    Reference:
        Chen and Gu, RayS: a ray searching method for hard-label adversarial attack, KDD 2020, and
        the authors' implementation. https://arxiv.org/abs/2006.12792

    Deviations:
        The first ray leads to a start that crosses, see ``Others``, and each of its elements ends
        where the start does, so that it crosses, too; a flip sets elements free, and so does one
        more query before each size of blocks, for all of them (the authors: the ray of ones, whose
        elements end at the box, and which need not cross). After a flip the radius falls by strides
        that double, then by bisection (the authors: bisection from 0). Passes after the first cut
        the blocks at another place. For inputs on a grid, such as 8-bit images, a radius between
        two levels is the upper one for a share of the elements and the lower one for the others:
        whole levels alone would not tell whether a flip has helped.
    """

    norms: ClassVar[tuple[type[Budget], ...]] = (Linf,)

    tolerance: float = setting(0.005, "number", above=0, below=1)

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        nothing, none = ops.zeros_like(problem.progress), ops.zeros_like(problem.step)
        memory = fresh(problem) | {
            "phase": none,
            "far": problem.x0,  # where each element of the ray ends
            "radius": nothing,  # at which the ray crosses
            "low": nothing,  # at which it does not; -1: not known
            "stride": nothing,
            "level": none,  # 0: every element is set free; then 2 ** (level - 1) blocks
            "block": none,
            "offset": none,  # where the first block begins
            "won": none,  # whether the radius has fallen in this pass
            "over": none,
        }
        return problem.x0, memory

    def done(self, problem: Problem, x: Tensor, memory: Any) -> Tensor | None:
        """There is no start, or no flip helps."""
        lost = super().done(problem, x, memory)
        return ops.logical_or(lost, ops.equal(memory["over"], 1))

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        m, x0 = dict(memory), problem.x0
        elements = math.prod(x0.shape[1:])
        levels = 1 + max(1, math.ceil(math.log2(max(elements, 2)))) + 1
        phase = m["phase"]
        starting, flipping = ops.equal(phase, START), ops.equal(phase, FLIP)
        lining = ops.equal(phase, LINE)
        level, radius = m["level"], m["radius"]

        drawn = ops.cast(problem.uniform((1,))[:, 0] * elements, "int32")
        first, there, origin = started(problem, m, starting)
        first = problem.shown(first)
        trial, last_block = self._trial(problem, m, elements)
        grain = _grain(problem)
        asked_radius = self._next(m)
        now = _at(problem, m["far"], radius)
        flipped = _at(problem, trial, radius)
        on_line = _at(problem, m["far"], asked_radius)
        point = ops.where(rows(starting, x0), first, flipped)
        point = ops.where(rows(lining, x0), on_line, point)
        new = ops.any(ops.not_equal(problem.shown(flipped), problem.shown(now)), axis=axes(x0))
        asked = ops.logical_or(lining, ops.logical_and(flipping, new))
        ask = ops.logical_or(there, asked)
        hit = problem.crossed(point, ask)

        # A start.
        began = ops.logical_and(starting, hit)
        m["origin"] = ops.where(began, origin, m["origin"])
        m["tried"] = m["tried"] + ops.cast(starting, "int32")
        reach = ops.max(ops.abs(flat(first - x0)), axis=1)

        # A flip.
        won = ops.logical_and(flipping, hit)
        m["far"] = ops.where(rows(won, x0), trial, m["far"])
        m["far"] = ops.where(rows(began, x0), first, m["far"])
        m["won"] = ops.where(ops.logical_and(lining, hit), 1, m["won"])

        # The radius.
        inside = ops.logical_and(lining, hit)
        outside = ops.logical_and(lining, ops.logical_not(hit))
        m["radius"] = ops.where(inside, asked_radius, radius)
        m["radius"] = ops.where(began, reach, m["radius"])
        m["low"] = ops.where(outside, asked_radius, m["low"])
        m["low"] = ops.where(won, -1.0, ops.where(began, 0.0, m["low"]))
        m["stride"] = ops.where(inside, 2 * m["stride"], m["stride"])
        finest = self._finest(problem, m["radius"], grain)
        m["stride"] = ops.where(won, finest, m["stride"])

        # The next block, of this size or the next, of this pass or the next.
        moved = ops.cast(flipping, "int32")
        end = ops.logical_and(flipping, last_block)
        m["block"] = ops.where(end, 0, m["block"] + moved)
        level = ops.where(end, level + 1, level)
        passed = ops.logical_and(flipping, level >= levels)
        lowest = ops.logical_and(ops.logical_not(starting), m["radius"] <= grain)
        idle = ops.logical_and(passed, ops.equal(m["won"], 0))
        m["over"] = ops.where(ops.logical_or(idle, lowest), 1, m["over"])
        m["level"] = ops.where(passed, 0, level)
        m["won"] = ops.where(passed, 0, m["won"])
        m["offset"] = ops.where(passed, drawn, m["offset"])

        # What comes next.
        known = ops.logical_and(m["low"] >= 0, m["radius"] - m["low"] <= finest * 1.001)
        searched = ops.logical_or(lining, ops.logical_or(began, won))
        following = ops.where(known, FLIP, LINE)
        m["phase"] = ops.cast(ops.where(searched, following, phase), "int32")
        return _at(problem, m["far"], m["radius"]), m

    def _trial(self, problem: Problem, m: Any, elements: int) -> tuple[Tensor, Tensor]:
        """The ray that a flip would make, and whether the block is the last one of its size."""
        x0, far = problem.x0, m["far"]
        low, high = problem.box
        upper_half = x0 * 2 > low + high
        nearer, farther = ops.where(upper_half, high, low), ops.where(upper_half, low, high)
        up, down = far > x0, far < x0
        free = ops.where(up, high, ops.where(down, low, nearer))
        turned = ops.where(up, low, ops.where(down, high, farther))
        releasing = ops.equal(m["level"], 0)
        count = ops.power(2.0, ops.cast(ops.maximum(m["level"] - 1, 0), "float32"))
        size = ops.cast(ops.ceil(elements / count), "int32")
        place = (ops.arange(elements, dtype="int32")[None] + m["offset"][:, None]) % elements
        chosen = ops.equal(place // size[:, None], m["block"][:, None])
        chosen = ops.reshape(chosen, (-1, *x0.shape[1:]))
        trial = ops.where(chosen, turned, far)
        trial = ops.where(rows(releasing, x0), free, trial)
        last = ops.logical_or(releasing, (m["block"] + 1) * size >= elements)
        return trial, last

    def _next(self, m: Any) -> Tensor:
        """The radius that is asked about next, (batch,)."""
        radius, low = m["radius"], m["low"]
        falling = ops.maximum(radius - m["stride"], radius / 2)
        return ops.where(low < 0, falling, (radius + low) / 2)

    def _finest(self, problem: Problem, radius: Tensor, grain: Tensor) -> Tensor:
        """How exactly a radius is found, (batch,)."""
        finest = ops.maximum(self.tolerance * radius, SMALLEST * problem.width)
        return ops.maximum(finest, grain / PARTS)


def _grain(problem: Problem) -> Tensor:
    """How far apart the values are that the model can be shown, (batch,); 0 where any can be."""
    grain = ops.broadcast_to(problem.grain, ops.shape(problem.x0))
    return ops.min(flat(grain), axis=1)


def _at(problem: Problem, far: Tensor, radius: Tensor) -> Tensor:
    """The point of a ray at a radius. On a grid a radius between two levels is the upper one for
    some elements and the lower one for the others.
    """
    x0 = problem.x0
    shape = x0.shape[1:]
    grain = rows(_grain(problem), x0)
    share = (np.arange(math.prod(shape)) * GOLDEN % 1).astype("float32").reshape(1, *shape)
    level = ops.where(grain > 0, grain, 1.0)
    reach = rows(radius, x0)
    whole = ops.floor(reach / level + 0.999 * ops.convert_to_tensor(share) + 1e-3) * level
    reach = ops.where(grain > 0, whole, reach)
    return ops.clip(far, x0 - reach, x0 + reach)
