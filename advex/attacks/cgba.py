"""CGBA: the boundary along a circle through the original, by normals estimated from labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, flat, rows
from advex._settings import setting
from advex.attacks.labels_alone import LabelAttack, candidate, fresh, length, rounding, several
from advex.attacks.smoothing import blurred, smooth_axes, waves
from advex.budgets import L2, Budget
from advex.driver.problem import Problem

START, LINE, PROBE, CIRCLE = range(4)
SMOOTH, WHITE = range(2)
EXPLORE, MEMORY = 6, 0.6  # rounds from one try of the other noise to the next; of what it gained
LINE_TOLERANCE = 0.05  # of the distance: how exactly the first boundary point is known
CIRCLE_TOLERANCE = 0.5  # of the probes' width: how exactly the next ones are
FIRST_ANGLE = 0.3
WIDER, NARROWER = 1.6, 2.5  # an angle that crosses, and one that does not, before both are known
SMALLEST_ANGLE = 0.02
LEAST_GUESS, LESS_GUESS = 0.05, 0.04
FLOOR = 2.5  # times what rounding to a grid moves a point: how far probes are at least
SHARE, POWER = 0.21, 2.0  # of smooth probes, see ``smoothing.waves``
BLUR, LEAST_WEIGHT = 0.04, 0.05  # of the axes; of elements that have not changed
JITTER = 1e-4  # keeps directions apart that are not, as in two dimensions


@dataclass(frozen=True, kw_only=True)
class CGBA(LabelAttack):
    r"""Curvature-aware boundary attack: walk along the boundary on circles through the input, by
    labels alone.

    When to use it:
        The first choice in L2 against a model that answers with a class alone. In Linf take `RayS`,
        in L1 and L0 `Pointwise`.

    $$
    x(\varphi) = x_0 + \lVert b_t - x_0 \rVert_2 \cos\varphi\, (\cos\varphi\; e_t + \sin\varphi\;
    n_t)
    $$

    $$ b_{t+1} = x(\varphi^\ast), \quad \varphi^\ast = \text{the largest angle that crosses} $$

    $b_t$ is the boundary point, $x_0$ the input, $e_t$ the direction from $x_0$ to $b_t$, and $n_t$
    the normal of the boundary, estimated from the classes of random points and taken at right
    angles to $e_t$. The circle has the way from $x_0$ to $b_t$ as its diameter, so that each point
    of it is nearer.

    A round asks `probes` points at right angles to the line to the input, `width` times the
    distance away. Then it asks one after the other points of the circle: from the angle of the last
    round on, wider while they cross, and by bisection. Probes are larger where the change is so
    far. Those of images are smooth; every sixth round, and as long as that gains more per query,
    they are white noise. So a boundary that has nothing to do with smooth changes costs little more
    than without.

    Args:
        steps: the limit of queries per example, a whole number from 1. All count: the look at the
            clean input, the start, every probe and bisection, and the last judgement.
        probes: points around the boundary in a round, a whole number from 1, at most one fewer than
            there are elements. The paper: 30 times the root of the round's number.
        width: how far they are from it, as a share of the distance, above 0. For inputs on a grid,
            such as 8-bit images, at least two and a half times as far as rounding moves a point.
        smooth: False: white noise alone.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for norms other than `L2`.

    Cost:
        At most `steps` queries, no gradients. An example for which no start is found ends early.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data(4)
        >>> result = CGBA(steps=300)(advex.testing.linear_model(), x, labels, advex.L2())
        >>> bool(result.success.all()), bool(result.queries.max() <= 300)
        (True, True)

    Reference:
        Reza, Rahmati, Wu and Dai, CGBA: curvature-aware geometric black-box attack, ICCV 2023, and
        the authors' implementation. https://arxiv.org/abs/2308.03163

    Deviations:
        20 probes a round, not 30 times its number's root; smooth noise whose amplitude falls with
        the frequency, not a block of frequencies, weighted by the blurred square of the change, in
        turns with white noise by what they gain; probes are at right angles to each other and to
        the line to the original, and wider (the paper: 2e-4 an element); the circle is searched
        from the angle of the last round, which serves flat and curved boundaries, so that there is
        one form for targets, too (the paper: CGBA-H); bisection ends at a share of the probes'
        width; points are clipped to the box before they are asked, and the normal is made of the
        points as the model saw them; every example goes its own way.
    """

    norms: ClassVar[tuple[type[Budget], ...]] = (L2,)

    probes: int = setting(20, "whole")
    width: float = setting(0.03, "number", above=0)
    smooth: bool = setting(True, "switch")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        x0 = problem.x0
        nothing = ops.zeros_like(problem.progress)
        memory = fresh(problem) | {
            "phase": ops.zeros_like(problem.step),
            "round": ops.zeros_like(problem.step),
            "edge": x0,  # the boundary point, which crosses
            "middle": x0,  # half way to one that does not
            "way": x0,  # the end of the line; the direction into the circle
            "low": nothing,
            "high": ops.ones_like(nothing),
            "angle": nothing,
            "guess": ops.full_like(nothing, FIRST_ANGLE),
            "arm": ops.full_like(problem.step, SMOOTH if self.smooth else WHITE),
            "gain": ops.full_like(nothing, -1.0),
            "other_gain": ops.full_like(nothing, -1.0),
            "spent": ops.zeros_like(problem.step),
        }
        return x0, memory

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        m, x0, shape = dict(memory), problem.x0, tuple(problem.x0.shape[1:])
        starting, lining, probing, circling = (
            ops.equal(m["phase"], phase) for phase in (START, LINE, PROBE, CIRCLE)
        )
        count = min(self.probes, max(1, math.prod(shape) - 1))
        delta = m["edge"] - x0
        away = length(delta)
        towards = delta / rows(ops.maximum(away, 1e-30), x0)

        # One point, or the probes.
        first, there, origin = candidate(problem, m["tried"])
        share = (m["low"] + m["high"]) / 2
        on_line = x0 + rows(share, x0) * (m["way"] - x0)
        on_circle = self._on_circle(x0, away, towards, m["way"], m["angle"])
        one = ops.where(rows(starting, x0), first, ops.where(rows(lining, x0), on_line, on_circle))
        reach = ops.maximum(self.width * away, FLOOR * rounding(problem))
        middle = ops.expand_dims(m["middle"], 1)
        directions = self._directions(problem, towards, m["arm"], count)
        points = middle + ops.reshape(reach, (-1,) + (1,) * (len(shape) + 1)) * directions
        order = ops.arange(count, dtype="int32")[None]
        single = ops.logical_and(order == 0, ops.logical_not(probing)[:, None])
        points = ops.where(several(single, points), ops.expand_dims(one, 1), points)
        points = problem.shown(points)
        alone = ops.logical_or(ops.logical_or(ops.logical_and(starting, there), lining), circling)
        ask = ops.logical_or(probing[:, None], ops.logical_and(order == 0, alone[:, None]))
        crossed = problem.crossed(points, ask)
        hit, one = crossed[:, 0], points[:, 0]
        asked = ops.where(probing, count, 1)
        m["spent"] = m["spent"] + asked

        # A start, or not yet.
        began = ops.logical_and(starting, hit)
        m["origin"] = ops.where(began, origin, m["origin"])
        m["tried"] = m["tried"] + ops.cast(starting, "int32")

        # The line between a start and the original, or the circle through both.
        searching = ops.logical_or(lining, circling)
        place = ops.where(lining, share, m["angle"])
        closer = ops.where(lining, hit, ops.logical_not(hit))  # which end of the bracket moves
        high = ops.where(ops.logical_and(searching, closer), place, m["high"])
        low = ops.where(ops.logical_and(searching, ops.logical_not(closer)), place, m["low"])
        straight = ops.logical_and(lining, high - low <= LINE_TOLERANCE * high)
        angle, ended = self._next_angle(m["angle"], low, high, away, reach)
        round_over = ops.logical_and(circling, ended)
        better = ops.logical_and(round_over, low > 0)

        line_edge = x0 + rows(high, x0) * (m["way"] - x0)
        line_middle = x0 + rows((low + high) / 2, x0) * (m["way"] - x0)
        outer = ops.where(high > 0, high, low)
        edge = self._on_circle(x0, away, towards, m["way"], low)
        between = self._on_circle(x0, away, towards, m["way"], (low + outer) / 2)
        new_edge = ops.where(rows(straight, x0), line_edge, edge)
        new_middle = ops.where(rows(straight, x0), line_middle, between)
        moved = rows(ops.logical_or(straight, better), x0)
        box_low, box_high = problem.box
        new_edge = problem.shown(new_edge)
        next_edge = ops.where(moved, new_edge, m["edge"])
        still = rows(ops.logical_and(round_over, ops.logical_not(better)), x0)
        m["middle"] = ops.where(moved, ops.clip(new_middle, box_low, box_high), m["middle"])
        m["middle"] = ops.where(still, next_edge, m["middle"])
        guess = ops.where(
            low > 0, ops.maximum(low, LEAST_GUESS), ops.maximum(m["guess"] / 2, LESS_GUESS)
        )
        m["guess"] = ops.where(round_over, guess, m["guess"])
        m = self._rated(m, round_over, away, length(next_edge - x0))
        m["edge"] = next_edge

        # The normal, and the way along which the circle is searched.
        sign = ops.where(crossed, 1.0, -1.0)
        mean = ops.mean(sign, axis=1, keepdims=True)
        even = ops.abs(mean) >= 1
        sign = ops.where(even, sign, sign - mean)
        steps = (points - middle) / ops.reshape(
            ops.maximum(reach, 1e-30), (-1,) + (1,) * (len(shape) + 1)
        )
        normal = ops.sum(several(sign, points) * steps, axis=1)
        normal = _across(normal, towards)
        normal = normal / rows(ops.maximum(length(normal), 1e-30), x0)
        m["way"] = ops.where(rows(probing, x0), normal, m["way"])
        m["way"] = ops.where(rows(began, x0), one, m["way"])

        # What comes next.
        m["low"] = ops.where(ops.logical_or(probing, began), 0.0, low)
        m["high"] = ops.where(probing, -1.0, ops.where(began, 1.0, high))
        m["angle"] = ops.where(probing, m["guess"], ops.where(circling, angle, m["angle"]))
        again = ops.logical_or(straight, round_over)
        phase = ops.where(began, LINE, m["phase"])
        phase = ops.where(again, PROBE, phase)
        m["phase"] = ops.cast(ops.where(probing, CIRCLE, phase), "int32")
        m["round"] = m["round"] + ops.cast(again, "int32")
        m["spent"] = ops.where(again, 0, m["spent"])
        return m["edge"], m

    def _on_circle(
        self, x0: Tensor, away: Tensor, towards: Tensor, way: Tensor, angle: Tensor
    ) -> Tensor:
        """The point of the circle whose diameter is the line from the original to the edge."""
        cosine, sine = ops.cos(angle), ops.sin(angle)
        along = rows(cosine, x0) * towards + rows(sine, x0) * way
        return x0 + rows(away * cosine, x0) * along

    def _next_angle(
        self, angle: Tensor, low: Tensor, high: Tensor, away: Tensor, reach: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The next angle to ask, and whether the search is over."""
        open_, none = high < 0, ops.equal(low, 0)
        wider = ops.minimum(angle * WIDER, (angle + math.pi / 2) / 2)
        narrower = angle / NARROWER
        ended = ops.where(
            open_,
            wider > math.pi / 2 - 1e-3,
            ops.where(
                none, narrower < SMALLEST_ANGLE, (high - low) * away < CIRCLE_TOLERANCE * reach
            ),
        )
        return ops.where(open_, wider, ops.where(none, narrower, (low + high) / 2)), ended

    def _directions(self, problem: Problem, towards: Tensor, arm: Tensor, count: int) -> Tensor:
        """Directions of length 1, at right angles to each other and to the line to the original:
        (batch, count, ...).
        """
        shape = tuple(problem.x0.shape[1:])
        drawn = problem.normal((count, *shape))
        chosen = drawn
        if smooth_axes(shape):
            smooth = waves(drawn, shape, SHARE, POWER)
            chosen = ops.where(several(ops.equal(arm, SMOOTH)[:, None], drawn), smooth, drawn)
        energy = blurred(ops.square(towards), shape, BLUR)
        mean = ops.mean(flat(energy), axis=1)
        energy = energy / rows(ops.maximum(mean, 1e-30), energy)
        weight = ops.sqrt((1 - LEAST_WEIGHT) * energy + LEAST_WEIGHT)
        chosen = chosen * ops.expand_dims(weight, 1)
        if problem.mask is not None:
            chosen = ops.where(ops.expand_dims(problem.mask, 1), chosen, 0.0)
        return ops.reshape(_orthonormal(towards, chosen), (-1, count, *shape))

    def _rated(self, m: dict[str, Tensor], over: Tensor, before: Tensor, after: Tensor) -> Any:
        """What the probes of this kind have gained per query, and which come next."""
        gain = ops.log(ops.maximum(before, 1e-30) / ops.maximum(after, 1e-30))
        gain = ops.maximum(gain, 0.0) / ops.cast(ops.maximum(m["spent"], 1), "float32")
        for number, name in enumerate(("gain", "other_gain")):
            mine = ops.logical_and(over, ops.equal(m["arm"], number))
            mixed = ops.where(m[name] < 0, gain, MEMORY * m[name] + (1 - MEMORY) * gain)
            m[name] = ops.where(mine, mixed, m[name])
        leading = ops.cast(m["other_gain"] > m["gain"], "int32")
        explore = ops.equal((m["round"] + 1) % EXPLORE, EXPLORE - 1)
        arm = ops.where(explore, 1 - leading, leading)
        if self.smooth:
            m["arm"] = ops.cast(ops.where(over, arm, m["arm"]), "int32")
        return m


def _across(points: Tensor, towards: Tensor) -> Tensor:
    """(batch, ...) without its part along ``towards``."""
    along = ops.sum(flat(points * towards), axis=1)
    return points - rows(along, points) * towards


def _orthonormal(towards: Tensor, drawn: Tensor) -> Tensor:
    """(batch, k, ...) as (batch, k, elements) of length 1, at right angles to ``towards`` and to
    each other.
    """
    count, first = int(drawn.shape[1]), ops.expand_dims(flat(towards), 1)
    whole = ops.concatenate([first, ops.reshape(drawn, (-1, count, int(first.shape[2])))], axis=1)
    size = ops.sqrt(ops.sum(ops.square(whole), axis=2, keepdims=True))
    whole = whole / ops.maximum(size, 1e-30)
    products = ops.matmul(whole, ops.transpose(whole, (0, 2, 1)))
    products = products + JITTER * ops.eye(count + 1)
    made = ops.solve_triangular(ops.cholesky(products), whole, lower=True)[:, 1:]
    size = ops.sqrt(ops.sum(ops.square(made), axis=2, keepdims=True))
    return made / ops.maximum(size, 1e-30)
