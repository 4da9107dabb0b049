"""Pointwise: put the original's values back while the point stays adversarial, by labels alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, flat, rows
from advex._settings import setting
from advex.attacks.labels_alone import LabelAttack, fresh, started
from advex.budgets import L0, L1, L2, Budget, Linf
from advex.budgets.base import rank
from advex.driver.problem import Problem

START, WIDEN, BACK, NEARER, AGAIN = range(5)
MORE = 2.0  # values that are changed anew, as a share of those of the smallest point
PASSES = 4  # that another round may take; it begins only if there are queries for them
SMALLEST = 2.0**-20  # of the box: a change below is none


@dataclass(frozen=True, kw_only=True)
class Pointwise(LabelAttack):
    r"""From an adversarial point, put the input's values back while the point stays adversarial, by
    labels alone.

    When to use it:
        Against a model that answers with a class alone, when few elements are to change (`L0`), and
        in L1. It needs no gradients, no scores and no tuning.

    $$
    x^\ast:\;\; f(x^\ast) > 0 \;\;\text{and}\;\; f(x^\ast_{[i \to x_0]}) \le 0 \;\;\text{for every
    changed element } i
    $$

    $f$ is the margin, above 0 across the boundary, $x_0$ the input, and $x_{[i \to x_0]}$ is $x$
    with the input's value in element $i$. That is what the attack ends with in L0: putting any one
    value back would lose. Values are put back in random order, again and again until none can be.
    Some other values are then moved to the ends of the box, at random, and the same is done from
    there; the smallest point counts. For the other norms each value left is brought nearer to the
    input's by bisection, one after the other, until none can be brought nearer, and the example
    leaves.

    Args:
        steps: the limit of queries per example, a whole number from 1. All count: the look at the
            clean input, the start, every value and the last judgement.
        tolerance: how exactly the place of a value is found, as a share of its change, above 0 and
            below 1, for norms other than L0; a value that cannot come nearer by so much stays. For
            inputs on a grid, such as 8-bit images, never finer than a level.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range.

    Cost:
        At most `steps` queries, no gradients; fewer where no value can be put back any more.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data(4)
        >>> result = Pointwise(steps=200)(advex.testing.linear_model(), x, labels)
        >>> bool(result.success.all()), bool(result.queries.max() <= 200)
        (True, True)

    Reference:
        Schott, Rauber, Bethge and Brendel, Towards the first adversarially robust neural network
        model on MNIST, ICLR 2019, and Foolbox. https://arxiv.org/abs/1805.09190

    Deviations:
        Several values are put back at once, twice as many after each success and half as many after
        a failure, down to one, so that each value that stays has been tried alone in the last pass;
        before a pass, each changed value goes to the end of the box on its side, if the point then
        crosses still (in L0 alone, where this costs nothing); the start is looked for as all
        attacks of this kind do, see ``Others`` (Foolbox: salt and pepper); in L0 queries that are
        left are spent on more rounds; a value is asked about at the tolerance before it is
        bisected.
    """

    norms: ClassVar[tuple[type[Budget], ...]] = (L0, L1, L2, Linf)

    tolerance: float = setting(1 / 64, "number", above=0, below=1)

    @property
    def default_budget(self) -> Budget | None:
        return L0()

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        nothing, none = ops.zeros_like(problem.progress), ops.zeros_like(problem.step)
        memory = (
            fresh(problem)
            | {
                "phase": none,
                "edge": problem.x0,  # the point, which crosses
                "order": ops.cast(
                    ops.zeros_like(flat(problem.x0)), "int32"
                ),  # of its changed values
                "changed": none,  # how many there were when the order was drawn
                "place": none,  # in the order
                "size": none,  # how many are put back at once
                "won": none,  # in this pass
                "low": nothing,  # share of the change at which the value at hand does not cross
                "high": nothing,  # and at which it does
                "over": none,
                "smallest": problem.x0,  # the point that changes the fewest
                "fewest": ops.full_like(none, math.prod(problem.x0.shape[1:])),
            }
        )
        return problem.x0, memory

    def done(self, problem: Problem, x: Tensor, memory: Any) -> Tensor | None:
        """There is no start, or no value can be put back, or brought nearer."""
        lost = super().done(problem, x, memory)
        return ops.logical_or(lost, ops.equal(memory["over"], 1))

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        m, x0 = dict(memory), problem.x0
        shape = tuple(x0.shape[1:])
        sparse = isinstance(problem.budget, L0)
        phase, edge = m["phase"], m["edge"]
        starting, widening = ops.equal(phase, START), ops.equal(phase, WIDEN)
        putting, bisecting = ops.equal(phase, BACK), ops.equal(phase, NEARER)

        keys = problem.uniform((math.prod(shape),))
        first, there, origin = started(problem, m, starting)
        first = problem.shown(first)
        low_end, high_end = problem.box
        ends = ops.where(edge > x0, high_end, ops.where(edge < x0, low_end, x0))
        wide = problem.shown(ops.where(self._changed(problem, edge), ends, x0))
        order, place, size = m["order"], m["place"], m["size"]
        last = place + ops.where(bisecting, 1, size)
        chosen = ops.logical_and(order >= place[:, None], order < last[:, None])
        chosen = ops.reshape(chosen, (-1, *shape))
        back = ops.where(chosen, x0, edge)
        share = self._share(problem, m, ops.where(chosen, edge - x0, 0.0))
        moved = problem.shown(ops.where(chosen, x0 + rows(share, x0) * (edge - x0), edge))

        point = ops.where(rows(starting, x0), first, wide)
        point = ops.where(rows(putting, x0), back, point)
        point = ops.where(rows(bisecting, x0), moved, point)
        repeating = ops.equal(phase, AGAIN)
        point = ops.where(rows(repeating, x0), self._anew(problem, m, repeating), point)
        point = problem.shown(point)
        differs = ops.any(ops.not_equal(flat(point), flat(edge)), axis=1)
        asked = ops.logical_and(ops.logical_not(starting), differs)
        hit = problem.crossed(point, ops.logical_or(there, asked))

        # A start, and its wider twin.
        began = ops.logical_and(starting, hit)
        resumed = ops.logical_and(repeating, hit)
        m["origin"] = ops.where(began, origin, m["origin"])
        m["tried"] = m["tried"] + ops.cast(starting, "int32")
        taken = ops.logical_and(hit, ops.logical_not(bisecting))

        # Values put back.
        back_hit = ops.logical_and(putting, hit)
        back_miss = ops.logical_and(putting, ops.logical_not(hit))
        alone = ops.logical_and(back_miss, size <= 1)
        m["won"] = ops.where(back_hit, 1, m["won"])
        m["place"] = ops.where(ops.logical_or(back_hit, alone), last, place)
        m["size"] = ops.where(
            back_hit, 2 * size, ops.where(back_miss, ops.maximum(size // 2, 1), size)
        )

        # One value brought nearer.
        near_hit = ops.logical_and(bisecting, hit)
        near_miss = ops.logical_and(bisecting, ops.logical_not(hit))
        asked_first = ops.logical_and(bisecting, m["high"] >= 1)
        m["high"] = ops.where(near_hit, share, m["high"])
        m["low"] = ops.where(near_miss, share, m["low"])
        fine = ops.logical_or(
            m["high"] - m["low"] <= self.tolerance,
            ops.logical_and(asked_first, ops.logical_not(hit)),
        )
        fine = ops.logical_and(bisecting, fine)
        share = m["high"]
        settled = problem.shown(ops.where(chosen, x0 + rows(share, x0) * (edge - x0), edge))
        gained = ops.logical_and(fine, share < 1)
        m["won"] = ops.where(gained, 1, m["won"])
        m["place"] = ops.where(fine, place + 1, m["place"])
        m["low"] = ops.where(fine, 0.0, m["low"])
        m["high"] = ops.where(fine, 1.0, m["high"])

        edge = ops.where(rows(taken, x0), point, edge)
        edge = ops.where(rows(gained, x0), settled, edge)
        m["edge"] = edge

        # The next pass, in a new order.
        through = ops.logical_or(putting, bisecting)
        through = ops.logical_and(through, m["place"] >= m["changed"])
        idle = ops.equal(m["won"], 0)
        ended = ops.logical_and(through, idle)
        further = ops.logical_and(ended, putting)
        if sparse:
            m = self._counted(problem, m, ended)
        else:
            m["over"] = ops.where(ops.logical_and(ended, bisecting), 1, m["over"])
        again = ops.logical_or(ops.logical_or(widening, through), resumed)
        if not sparse:
            again = ops.logical_or(again, began)
        changed = flat(self._changed(problem, edge))

        def drawn() -> Tensor:
            return ops.cast(rank(ops.where(changed, keys, -1.0)), "int32")

        fresh_order = ops.cond(ops.any(again), drawn, lambda: order)
        count = ops.sum(ops.cast(changed, "int32"), axis=1)
        m["order"] = ops.where(again[:, None], fresh_order, order)
        m["changed"] = ops.where(again, count, m["changed"])
        m["place"] = ops.where(again, 0, m["place"])
        opening = ops.logical_or(ops.logical_or(widening, began), resumed)
        m["size"] = ops.where(opening, ops.maximum(count // 2, 1), ops.where(through, 1, m["size"]))
        m["won"] = ops.where(again, 0, m["won"])
        m["low"] = ops.where(further, 0.0, m["low"])
        m["high"] = ops.where(further, 1.0, m["high"])

        # What comes next.
        phase = ops.where(began, WIDEN if sparse else BACK, phase)
        phase = ops.where(ops.logical_or(widening, resumed), BACK, phase)
        next_phase = ops.where(ended, AGAIN, phase)
        phase = next_phase if sparse else ops.where(further, NEARER, phase)
        m["phase"] = ops.cast(phase, "int32")
        return edge, m

    def _anew(self, problem: Problem, m: Any, repeating: Tensor) -> Tensor:
        """The smallest point with some more values at the ends of the box."""
        shape = tuple(problem.x0.shape[1:])
        low, high = problem.box

        def moved() -> Tensor:
            drawn = problem.uniform(shape)
            share = MORE * ops.cast(m["fewest"], "float32") / math.prod(shape)
            some = drawn < rows(ops.clip(share, 0.0, 0.5), drawn)
            ends = ops.where(problem.signs(shape) > 0, high, low)
            return ops.where(some, ends, m["smallest"])

        return ops.cond(ops.any(repeating), moved, lambda: m["smallest"])

    def _counted(self, problem: Problem, m: dict[str, Tensor], ended: Tensor) -> dict[str, Tensor]:
        """The smallest point so far, and whether there are queries for one more round."""
        count = ops.sum(ops.cast(flat(self._changed(problem, m["edge"])), "int32"), axis=1)
        better = ops.logical_and(ended, count <= m["fewest"])
        m["smallest"] = ops.where(rows(better, m["edge"]), m["edge"], m["smallest"])
        m["fewest"] = ops.where(better, count, m["fewest"])
        needed = PASSES * ops.cast((1 + MORE) * ops.cast(m["fewest"], "float32"), "int32") + PASSES
        short = ops.logical_or(problem.left < needed, m["fewest"] <= 1)
        m["over"] = ops.where(ops.logical_and(ended, short), 1, m["over"])
        return m

    def _changed(self, problem: Problem, edge: Tensor) -> Tensor:
        """Which values are not the original's."""
        return ops.not_equal(edge, problem.x0)

    def _share(self, problem: Problem, m: Any, change: Tensor) -> Tensor:
        """How much of its change the value at hand keeps: at first all but the tolerance, or all
        but a level.
        """
        level = ops.max(flat(ops.zeros_like(change) + problem.grain), axis=1)
        most = ops.maximum(ops.max(ops.abs(flat(change)), axis=1), SMALLEST)
        first = 1 - ops.clip(level / most, self.tolerance, 1.0)
        return ops.where(m["high"] >= 1, first, (m["low"] + m["high"]) / 2)
