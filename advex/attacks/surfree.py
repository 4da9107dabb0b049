"""SurFree: round circles towards the original, without a normal, by labels alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, flat, rows
from advex._settings import setting
from advex.attacks.labels_alone import LabelAttack, columns, fresh, length, rounding, started
from advex.attacks.smoothing import smooth_axes, smoothed
from advex.budgets import L2, Budget
from advex.driver.problem import Problem

START, LINE, TRY, OTHER, GROW, HALVE = range(6)
MEMORY = 100  # directions that a new one is made orthogonal to
SHRINK = 0.95  # of the angle, where neither side crosses
CLOSE = 0.01  # of 1 - cos: how exactly the angle is found
HALVINGS = 10
LINE_END = 2.0**-12  # of the way from the original to the start
WIDEST = math.pi / 2


@dataclass(frozen=True, kw_only=True)
class SurFree(LabelAttack):
    r"""From a boundary point, turn towards the input on circles in random planes, by labels alone.

    When to use it:
        Against a model that answers with a class alone, in L2, when there are only some hundreds of
        queries: no normal is estimated, and one or two queries say whether a plane is good.

    $$
    x(\theta) = x_0 + \lVert b_t - x_0 \rVert_2 \cos\theta\, (\cos\theta\; e_t + \sin\theta\; q_t),
    \qquad
    b_{t+1} = x(\theta^\ast)
    $$

    $b_t$ is the boundary point, $x_0$ the input, $e_t$ the direction from $x_0$ to $b_t$. $q_t$ is
    a random direction, smooth for images, at right angles to $e_t$ and to the last directions. The
    angle $\theta$ is tried to both sides. If one crosses, the angle is doubled while that crosses,
    and then $\theta^\ast$ is found by bisection.

    Args:
        steps: the limit of queries per example, a whole number from 1. All count: the look at the
            clean input, the start, every angle and bisection, and the last judgement.
        theta: the first angle, in degrees, above 0 and below 90. The paper: 30.
        frequencies: the share of low frequencies, along each axis of an image, that directions
            have, above 0 and at most 1. 1: all. The paper: 0.5.
        full: how many directions have all frequencies, as a share, 0 to 1. Low ones alone reach no
            minimum that is not smooth. The paper: 0.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for norms other than `L2`.

    Cost:
        At most `steps` queries, no gradients. An example for which no start is found ends early.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data(4)
        >>> result = SurFree(steps=300)(advex.testing.linear_model(), x, labels, advex.L2())
        >>> bool(result.success.all()), bool(result.queries.max() <= 300)
        (True, True)

    Reference:
        Maho, Furon and Le Merrer, SurFree: a fast surrogate-free black-box attack, CVPR 2021, and
        the authors' implementation. https://arxiv.org/abs/2011.12807

    Deviations:
        Some directions have all frequencies; inputs without axes of an image, such as tables, have
        no low ones; of large inputs fewer than 100 directions are remembered, no more than two
        million numbers for each example, and of small ones no more than half as many as they have
        elements; every example goes its own way; points are clipped to the box and rounded to the
        grid before they are asked about, and the way on begins at the point as the model saw it; an
        angle that moves a point by no more than rounding does becomes the first angle again; the
        start is looked for as all attacks of this kind do, see ``Others``.
    """

    norms: ClassVar[tuple[type[Budget], ...]] = (L2,)

    theta: float = setting(30.0, "number", above=0, below=90)
    frequencies: float = setting(0.5, "number", above=0, at_most=1)
    full: float = setting(0.25, "number", at_least=0, at_most=1)

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        x0 = problem.x0
        nothing, none = ops.zeros_like(problem.progress), ops.zeros_like(problem.step)
        elements = math.prod(x0.shape[1:])
        kept = ops.repeat(ops.expand_dims(ops.zeros_like(flat(x0)), 1), self._kept(elements), 1)
        memory = fresh(problem) | {
            "phase": none,
            "edge": x0,  # the boundary point, which crosses
            "end": x0,  # of the line that is bisected
            "way": x0,  # the direction that is tried, of length 1
            "past": kept,  # the last directions, (batch, k, elements)
            "number": none,  # of directions so far
            "theta": ops.full_like(nothing, math.radians(self.theta)),
            "low": nothing,  # the angle that crosses; of the line: the share that does not
            "high": nothing,  # the angle that does not; of the line: the share that does
            "side": nothing,
            "halvings": none,
        }
        return x0, memory

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        m, x0 = dict(memory), problem.x0
        phase = m["phase"]
        starting, lining = ops.equal(phase, START), ops.equal(phase, LINE)
        trying, other = ops.equal(phase, TRY), ops.equal(phase, OTHER)
        growing, halving = ops.equal(phase, GROW), ops.equal(phase, HALVE)

        # A new direction.
        m["way"], m["past"] = self._direction(problem, m, trying)
        m["number"] = m["number"] + ops.cast(trying, "int32")
        m["side"] = ops.where(trying, problem.signs((1,))[:, 0], m["side"])
        m["side"] = ops.where(other, -m["side"], m["side"])

        first, there, origin = started(problem, m, starting)
        middle = (m["low"] + m["high"]) / 2
        angle = ops.where(halving, middle, ops.minimum(2 * m["low"], WIDEST))
        angle = ops.where(ops.logical_or(trying, other), m["theta"], angle)
        on_line = x0 + rows(middle, x0) * (m["end"] - x0)
        point = ops.where(rows(starting, x0), first, self._turned(problem, m, angle))
        point = ops.where(rows(lining, x0), on_line, point)
        point = problem.shown(ops.clip(point, *problem.box))
        hit = problem.crossed(point, ops.logical_or(there, ops.logical_not(starting)))
        miss = ops.logical_not(hit)

        # A start, and the line to it.
        began = ops.logical_and(starting, hit)
        m["origin"] = ops.where(began, origin, m["origin"])
        m["tried"] = m["tried"] + ops.cast(starting, "int32")
        m["end"] = ops.where(rows(began, x0), point, m["end"])
        on, off = ops.logical_and(lining, hit), ops.logical_and(lining, miss)
        low, high = m["low"], m["high"]
        low = ops.where(began, 0.0, ops.where(off, middle, low))
        high = ops.where(began, 1.0, ops.where(on, middle, high))
        nearer = ops.logical_or(began, on)
        lined = ops.logical_and(lining, high - low <= LINE_END)

        # Angles. The best one is ``low``: it crosses.
        turning = ops.logical_or(trying, other)
        won = ops.logical_and(turning, hit)
        lost = ops.logical_and(other, miss)
        larger = ops.logical_and(growing, hit)
        low = ops.where(ops.logical_or(won, larger), angle, low)
        high = ops.where(ops.logical_and(growing, miss), angle, high)
        low = ops.where(ops.logical_and(halving, hit), angle, low)
        high = ops.where(ops.logical_and(halving, miss), angle, high)
        m["halvings"] = ops.where(halving, m["halvings"] + 1, ops.where(won, 0, m["halvings"]))
        widest = ops.logical_and(larger, low >= WIDEST / 2)
        bounded = ops.logical_and(growing, ops.logical_or(miss, widest))
        high = ops.where(widest, ops.minimum(2 * low, WIDEST), high)
        close = ops.cos(low) - ops.cos(high) <= CLOSE * (1 - ops.cos(low))
        enough = ops.logical_or(close, m["halvings"] >= HALVINGS)
        turned = ops.logical_and(halving, enough)
        m["low"], m["high"] = low, high

        # The new boundary point, as the model saw it.
        landed = self._turned(problem, m, low)
        landed = problem.shown(ops.clip(landed, *problem.box))
        edge = ops.where(rows(nearer, x0), point, m["edge"])
        ended = ops.where(rows(turned, x0), landed, edge)
        m["edge"] = ended

        # The next angle.
        theta = ops.where(lost, m["theta"] * SHRINK, m["theta"])
        theta = ops.where(won, ops.minimum(theta / SHRINK, math.radians(80.0)), theta)
        away = length(ended - x0)
        smallest = rounding(problem) / ops.maximum(away, 1e-30)
        again = theta <= ops.maximum(smallest, 2.0**-12)
        m["theta"] = ops.where(again, math.radians(self.theta), theta)

        # What comes next.
        phase = ops.where(began, LINE, phase)
        phase = ops.where(ops.logical_and(trying, miss), OTHER, phase)
        phase = ops.where(won, GROW, phase)
        phase = ops.where(bounded, HALVE, phase)
        fresh_one = ops.logical_or(ops.logical_or(lined, lost), turned)
        m["phase"] = ops.cast(ops.where(fresh_one, TRY, phase), "int32")
        return m["edge"], m

    def _kept(self, elements: int) -> int:
        """How many directions are remembered."""
        return min(columns(elements, MEMORY), max(1, elements // 2))

    def _direction(self, problem: Problem, m: Any, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """The direction of each row, a new one where it is wanted, and the last ones."""
        x0 = problem.x0
        shape = tuple(x0.shape[1:])
        elements = math.prod(shape)
        kept = self._kept(elements)
        noise = problem.normal(shape)
        full = problem.uniform((1,))[:, 0] < self.full

        def drawn() -> tuple[Tensor, Tensor]:
            way = noise
            if smooth_axes(shape):
                smooth = smoothed(noise, shape, self.frequencies)
                way = ops.where(rows(full, x0), noise, smooth)
            if problem.mask is not None:
                way = ops.where(problem.mask, way, 0.0)
            out = flat(m["edge"] - x0)
            out = out / ops.maximum(ops.sqrt(ops.sum(out**2, axis=1, keepdims=True)), 1e-30)
            past = m["past"]
            one = flat(way)
            for _ in range(2):  # once more: float32
                shares = ops.einsum("bkd,bd->bk", past, one)
                one = one - ops.einsum("bkd,bk->bd", past, shares)
                one = one - out * ops.sum(one * out, axis=1, keepdims=True)
            one = one / ops.maximum(ops.sqrt(ops.sum(one**2, axis=1, keepdims=True)), 1e-30)
            place = ops.arange(kept, dtype="int32")[None] - (m["number"] % kept)[:, None]
            here = ops.logical_and(ops.equal(place, 0), wanted[:, None])
            past = ops.where(here[..., None], one[:, None], past)
            way = ops.where(rows(wanted, x0), ops.reshape(one, ops.shape(x0)), m["way"])
            return way, past

        return ops.cond(ops.any(wanted), drawn, lambda: (m["way"], m["past"]))

    def _turned(self, problem: Problem, m: Any, angle: Tensor) -> Tensor:
        """The point of the circle at an angle, (batch,)."""
        x0 = problem.x0
        out = m["edge"] - x0
        share, turn = ops.cos(angle), ops.sin(angle) * m["side"]
        radius = length(out) * share
        return x0 + rows(share * share, x0) * out + rows(radius * turn, x0) * m["way"]
