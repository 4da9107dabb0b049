"""HopSkipJump: along the boundary by normals that are estimated from labels alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, flat, rows
from advex._settings import setting
from advex.attacks.labels_alone import (
    LabelAttack,
    candidate,
    columns,
    fresh,
    length,
    rounding,
    several,
)
from advex.budgets import L2, Budget, Linf
from advex.driver.problem import Problem

START, LINE, PROBE, JUMP = range(4)
FIRST_WIDTH = 0.1  # of the box: how far the first probes are from the boundary
FLOOR = 2.5  # times what rounding to a grid moves a point: how far probes are at least
MOST_PROBES = 10_000
SMALLEST_JUMP = 2.0**-20  # of the distance: then the normal was wrong


@dataclass(frozen=True, kw_only=True)
class HopSkipJump(LabelAttack):
    r"""Walk along the decision boundary towards the input, by normals estimated from labels alone.

    When to use it:
        Against a model that answers with a class alone, when results must compare with papers: it
        is the one they compare with. `CGBA` in L2 and `RayS` in Linf are advex's first choices.

    $$
    \hat n_t = \sum_{i} \bigl(\phi(b_t + r u_i) - \bar\phi\bigr)\, u_i, \qquad \tilde x_t = b_t +
    \xi_t\, s(\hat n_t)
    $$

    $$ b_{t+1} = \text{the boundary between } x_0 \text{ and } \tilde x_t $$

    $b_t$ is the boundary point, $\phi = \pm 1$ tells whether a point is across, $\bar\phi$ is its
    mean, $u_i$ are random directions, $s$ is the direction in L2 and the sign in Linf. The jump
    $\xi_t$ is $\lVert b_t - x_0 \rVert / \sqrt t$, halved until it crosses. The boundary is found
    by bisection. Round $t$ asks `probes * sqrt(t)` points around the boundary point: normal numbers
    in L2, uniform ones in Linf.

    Args:
        steps: the limit of queries per example, a whole number from 1. All count: the look at the
            clean input, the start, every probe and bisection, and the last judgement.
        probes: points around the boundary in the first round, a whole number from 1. The paper:
            100.
        tolerance: how exactly the boundary is found, as a share of the way between the input and an
            adversarial point, above 0 and below 1. None: `elements ** -1.5` in L2, `elements ** -2`
            in Linf, as in the paper.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for norms other than `L2` and `Linf`.

    Cost:
        At most `steps` queries, no gradients. An example for which no start is found ends early.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data(4)
        >>> result = HopSkipJump(steps=300)(advex.testing.linear_model(), x, labels, advex.L2())
        >>> bool(result.success.all()), bool(result.queries.max() <= 300)
        (True, True)

    Reference:
        Chen, Jordan and Wainwright, HopSkipJumpAttack: a query-efficient decision-based attack,
        IEEE S&P 2020, and the authors' implementation. https://arxiv.org/abs/1904.02144

    Deviations:
        Every example goes its own way, with a limit of its own; for inputs on a grid, such as 8-bit
        images, probes are at least two and a half times as far as rounding moves a point, and the
        normal is made of the points as the model saw them; bisection ends at the precision of
        float32; the start is looked for as all attacks of this kind do, see ``Others``; a jump that
        does not cross after twenty halvings ends the round.
    """

    norms: ClassVar[tuple[type[Budget], ...]] = (L2, Linf)

    probes: int = setting(100, "whole")
    tolerance: float | None = setting(None, "number", above=0, below=1)

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        x0 = problem.x0
        nothing = ops.zeros_like(problem.progress)
        memory = fresh(problem) | {
            "phase": ops.zeros_like(problem.step),
            "round": ops.ones_like(problem.step),
            "edge": x0,  # the boundary point, which crosses
            "end": x0,  # of the line that is bisected: crosses
            "low": nothing,
            "high": ops.ones_like(nothing),
            "width": nothing,  # distance of the edge before it was bisected
            "crossing": ops.zeros_like(x0),  # the sum of signed directions
            "every": ops.zeros_like(x0),  # the sum of all directions
            "signs": nothing,
            "asked": ops.zeros_like(problem.step),
            "normal": ops.zeros_like(x0),
            "jump": nothing,
        }
        return x0, memory

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        m, x0 = dict(memory), problem.x0
        shape = tuple(x0.shape[1:])
        elements = math.prod(shape)
        phase = m["phase"]
        starting, lining = ops.equal(phase, START), ops.equal(phase, LINE)
        probing, jumping = ops.equal(phase, PROBE), ops.equal(phase, JUMP)

        first, there, origin = candidate(problem, m["tried"])
        middle = (m["low"] + m["high"]) / 2
        on_line = self._between(problem, m["end"], middle)
        jump = m["edge"] + rows(m["jump"], x0) * m["normal"]
        one = ops.where(rows(starting, x0), first, ops.where(rows(lining, x0), on_line, jump))
        one = ops.clip(one, *problem.box)

        count = columns(elements)
        spread = self._spread(problem, m, elements)
        directions = self._directions(problem, count, shape)
        edge = ops.expand_dims(m["edge"], 1)
        points = edge + ops.reshape(spread, (-1,) + (1,) * (len(shape) + 1)) * directions
        points = problem.shown(ops.clip(points, *_wide(problem.box)))
        wanted = self._wanted(m["round"])
        order = ops.arange(count, dtype="int32")[None]
        due = ops.logical_and(probing[:, None], order < (wanted - m["asked"])[:, None])
        one_asks = ops.logical_or(ops.logical_and(starting, there), lining)
        one_asks = ops.logical_or(one_asks, jumping)
        alone = ops.logical_and(order == 0, one_asks[:, None])
        only = ops.logical_not(probing)
        single = ops.logical_and(order == 0, only[:, None])
        points = ops.where(several(single, points), ops.expand_dims(one, 1), points)
        crossed = problem.crossed(points, ops.logical_or(due, alone))
        hit = crossed[:, 0]

        # A start, or not yet.
        began = ops.logical_and(starting, hit)
        m["origin"] = ops.where(began, origin, m["origin"])
        m["tried"] = m["tried"] + ops.cast(starting, "int32")

        # A jump that crosses, or one half as far.
        landed = ops.logical_and(jumping, hit)
        short = m["jump"] < SMALLEST_JUMP * m["width"]
        lost = ops.logical_and(jumping, ops.logical_and(ops.logical_not(hit), short))
        m["jump"] = ops.where(jumping, m["jump"] / 2, m["jump"])
        ended = ops.logical_or(began, landed)
        m["end"] = ops.where(rows(ended, x0), one, m["end"])
        low_now = ops.zeros_like(m["low"])
        m["width"] = ops.where(ended, self._distance(problem, one), m["width"])

        # Bisection.
        m["high"] = ops.where(ops.logical_and(lining, hit), middle, m["high"])
        m["low"] = ops.where(ops.logical_and(lining, ops.logical_not(hit)), middle, m["low"])
        m["low"] = ops.where(ended, low_now, m["low"])
        m["high"] = ops.where(ended, 1.0, m["high"])
        nearer = ops.logical_or(ops.logical_and(lining, hit), ended)
        m["edge"] = ops.where(rows(nearer, x0), one, m["edge"])
        fine = ops.logical_and(lining, self._fine(problem, m, elements))

        # Probes.
        asked = ops.cast(due, "float32")
        sign = ops.where(crossed, 1.0, -1.0) * asked
        moved = points - edge
        moved = moved / ops.maximum(_lengths(moved), 1e-30)
        m["crossing"] = m["crossing"] + ops.sum(several(sign, moved) * moved, axis=1)
        m["every"] = m["every"] + ops.sum(several(asked, moved) * moved, axis=1)
        m["signs"] = m["signs"] + ops.sum(sign, axis=1)
        m["asked"] = m["asked"] + ops.cast(ops.sum(asked, axis=1), "int32")
        full = ops.logical_and(probing, m["asked"] >= wanted)
        mean = m["signs"] / ops.cast(ops.maximum(m["asked"], 1), "float32")
        even = ops.abs(mean) >= 1
        centred = m["crossing"] - rows(mean, x0) * m["every"]
        normal = ops.where(rows(even, x0), m["crossing"], centred)
        normal = self._step_along(problem, normal)
        m["normal"] = ops.where(rows(full, x0), normal, m["normal"])
        away = self._distance(problem, m["edge"])
        m["jump"] = ops.where(full, away / ops.sqrt(ops.cast(m["round"], "float32")), m["jump"])
        m["width"] = ops.where(full, away, m["width"])

        # What comes next.
        phase = ops.where(ended, LINE, phase)
        again = ops.logical_or(fine, lost)
        phase = ops.where(again, PROBE, phase)
        phase = ops.where(full, JUMP, phase)
        m["phase"] = ops.cast(phase, "int32")
        m["round"] = ops.where(full, m["round"] + 1, m["round"])
        for name in ("crossing", "every"):
            m[name] = ops.where(rows(again, x0), 0.0, m[name])
        m["signs"] = ops.where(again, 0.0, m["signs"])
        m["asked"] = ops.where(again, 0, m["asked"])
        return m["edge"], m

    def _wanted(self, number: Tensor) -> Tensor:
        """Probes of a round."""
        many = self.probes * ops.sqrt(ops.cast(number, "float32"))
        return ops.cast(ops.minimum(many, float(max(MOST_PROBES, self.probes))), "int32")

    def _distance(self, problem: Problem, x: Tensor) -> Tensor:
        if isinstance(problem.budget, Linf):
            return ops.max(ops.abs(flat(x - problem.x0)), axis=1)
        return length(x - problem.x0)

    def _between(self, problem: Problem, end: Tensor, share: Tensor) -> Tensor:
        """The point on the way from the original to ``end``: on the line, or in Linf in the cube of
        that size.
        """
        x0 = problem.x0
        if isinstance(problem.budget, Linf):
            reach = rows(share * self._distance(problem, end), x0)
            return ops.clip(end, x0 - reach, x0 + reach)
        return x0 + rows(share, x0) * (end - x0)

    def _fine(self, problem: Problem, m: Any, elements: int) -> Tensor:
        """Whether the boundary is known well enough."""
        power = 2.0 if isinstance(problem.budget, Linf) else 1.5
        tolerance = self.tolerance or max(elements**-power, 2.0**-20)
        return m["high"] - m["low"] <= tolerance

    def _spread(self, problem: Problem, m: Any, elements: int) -> Tensor:
        """How far probes are from the boundary point, (batch,) in L2."""
        if isinstance(problem.budget, Linf):
            usual = elements**-1.0 * m["width"] * math.sqrt(elements)
        else:
            usual = m["width"] / elements
        usual = ops.where(ops.equal(m["round"], 1), FIRST_WIDTH * problem.width, usual)
        return ops.maximum(usual, FLOOR * rounding(problem))

    def _directions(self, problem: Problem, count: int, shape: tuple[int, ...]) -> Tensor:
        """Random directions of length 1, (batch, count, *shape)."""
        if isinstance(problem.budget, Linf):
            drawn = 2 * problem.uniform((count, *shape)) - 1
        else:
            drawn = problem.normal((count, *shape))
        if problem.mask is not None:
            drawn = ops.where(ops.expand_dims(problem.mask, 1), drawn, 0.0)
        return drawn / ops.maximum(_lengths(drawn), 1e-30)

    def _step_along(self, problem: Problem, normal: Tensor) -> Tensor:
        if isinstance(problem.budget, Linf):
            return ops.sign(normal)
        return normal / rows(ops.maximum(length(normal), 1e-30), normal)


def _wide(box: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The box with an axis for several points, where it is one for each example."""
    low, high = (end if len(end.shape) == 0 else ops.expand_dims(end, 1) for end in box)
    return low, high


def _lengths(points: Tensor) -> Tensor:
    """(batch, k, ...) -> (batch, k, 1, ...)."""
    return ops.sqrt(
        ops.sum(ops.square(points), axis=tuple(range(2, len(points.shape))), keepdims=True)
    )
