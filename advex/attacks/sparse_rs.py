"""Sparse-RS: random search over which elements change, and to which end of the box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from advex._arrays import Tensor, flat, rows
from advex._settings import setting
from advex.attacks.scores_alone import ScoreAttack
from advex.budgets import L0, Budget
from advex.budgets.base import rank
from advex.driver.problem import Problem

ENDS = (0, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # proposals after which alpha is another
SHARES = (1, 2, 4, 5, 6, 8, 10, 12, 15, 20)  # of alpha: one in so many
PLANNED = 10_000  # proposals that these numbers were made for


@dataclass(frozen=True, kw_only=True)
class SparseRS(ScoreAttack):
    r"""Random search over which elements change, and to which end of the box.

    When to use it:
        Against a model that gives scores, where at most k elements may change (`L0(k)`). With
        gradients `SigmaZero` needs far fewer passes.

    $$ M_{t+1} = M_t - A_t + B_t, \qquad |A_t| = |B_t| = \max(1, \lfloor \alpha_t k \rfloor) $$

    $$ \text{kept if } \ell(x(M_{t+1})) > \ell(x(M_t)) $$

    $M$ is the set of the $k$ changed elements, each at an end of the box by lot. $A_t$, which is
    taken out, and $B_t$, which is put in, are random subsets of it and of the others. $\ell$ is the
    loss. $\alpha_t$ is `alpha` for the start, a half of it after that, a quarter after 50 proposals
    of 10,000, and so on to a twentieth.

    Args:
        steps: the limit of queries per example, a whole number from 1. All count: the clean input,
            the start, each proposal, and the last judgement. The paper: 10,000.
        loss: what must grow, a function `(logits, goal) -> (batch,)`.
        alpha: the share of the elements that is exchanged at first, above 0 and at most 1; always
            one element at least.
        rescale: stretch this schedule, which is made for 10,000 proposals, to `steps`.

    Raises:
        InvalidType: a setting of the wrong type.
        InvalidInput: a setting out of range; at the call, for norms other than `L0`, or without a
            limit.

    Cost:
        At most `steps` queries, no gradients. An example leaves at its first success.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = SparseRS(steps=100)(advex.testing.linear_model(), x, labels, advex.L0(3))
        >>> int(result.gradients.sum()), bool(result.queries.max() <= 100)
        (0, True)

    Reference:
        Croce, Andriushchenko, Singh, Flammarion and Hein, Sparse-RS: a versatile framework for
        query-efficient sparse black-box adversarial attacks, AAAI 2022, and the authors'
        implementation. https://arxiv.org/abs/2006.12834

    Deviations:
        Elements of the array are chosen, as ``L0`` counts them (the paper: pixels, with all their
        channels); an element that is at an end of the box goes to the other one, as to stay would
        be no change; every example draws its own; the loss is the margin for targets, too (the
        paper: cross-entropy, ``loss=losses.cross_entropy``); no frames and no patches.
    """

    norms: ClassVar[tuple[type[Budget], ...]] = (L0,)

    alpha: float = setting(0.3, "number", above=0, at_most=1, share="a share of the elements")
    rescale: bool = setting(True, "switch")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return problem.x0, {
            "chosen": ops.zeros_like(problem.x0) > 0,
            "value": ops.zeros_like(problem.progress),
        }

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        shape = tuple(problem.x0.shape[1:])
        first = ops.equal(problem.step, 0)
        chosen = flat(memory["chosen"])
        drawn = problem.uniform(shape)
        free = ops.ones_like(chosen)
        if problem.mask is not None:
            free = flat(ops.broadcast_to(problem.mask, ops.shape(problem.x0)))
        room = ops.sum(ops.cast(free, "int32"), axis=1)
        size = ops.minimum(
            ops.cast(ops.zeros_like(problem.progress) + problem.epsilon, "int32"), room
        )
        count = ops.where(first, size, ops.minimum(self._exchanged(problem, size), size))
        others = ops.minimum(count, room - size * ops.cast(ops.logical_not(first), "int32"))
        # In the order of a draw: those that are chosen, those that are not, those that stay.
        key = (
            flat(drawn)
            + 2.0 * ops.cast(chosen, "float32")
            - 4.0 * ops.cast(ops.logical_not(free), "float32")
        )
        place = ops.cast(rank(key), "int32")
        held = ops.where(first, 0, size)[:, None]
        count, others = count[:, None], others[:, None]
        leaves = ops.logical_and(chosen, place < others)
        comes = ops.logical_and(place >= held, place < held + others)
        # With nothing else to take, those that would leave go to the other end.
        turns = ops.logical_and(chosen, ops.logical_and(place >= others, place < count))

        leaves, comes, turns = (ops.reshape(part, (-1, *shape)) for part in (leaves, comes, turns))
        proposal = ops.where(leaves, problem.x0, x)
        proposal = ops.where(comes, self._ends(problem, problem.x0), proposal)
        proposal = ops.where(turns, self._ends(problem, x), proposal)
        value = problem.losses(proposal, self.loss)
        better = ops.logical_or(first, value > memory["value"])
        now = ops.logical_or(ops.logical_and(memory["chosen"], ops.logical_not(leaves)), comes)
        return ops.where(rows(better, x), proposal, x), {
            "chosen": ops.where(rows(better, x), now, memory["chosen"]),
            "value": ops.where(better, value, memory["value"]),
        }

    def _ends(self, problem: Problem, x: Tensor) -> Tensor:
        """An end of the box for each element, by lot; of one that is at an end the other."""
        low, high = problem.lower, problem.upper
        up = problem.signs(tuple(problem.x0.shape[1:])) > 0
        up = ops.logical_and(ops.logical_or(up, x <= low), x < high)
        return ops.where(up, high, low)

    def _exchanged(self, problem: Problem, size: Tensor) -> Tensor:
        """How many elements a proposal exchanges, (batch,) int32."""
        scale = self.steps if self.rescale else PLANNED
        ends = np.asarray([-(-(end + 1) * scale // PLANNED) for end in ENDS], "int64")
        ends = ops.convert_to_tensor(np.minimum(ends, 2**31 - 1).astype("int32")[None])
        now = ops.sum(ops.cast(ops.expand_dims(problem.step, 1) >= ends, "int32"), axis=1)
        shares = ops.convert_to_tensor(self.alpha / np.asarray(SHARES, "float32"))
        share = ops.take(shares, now, axis=0)
        return ops.maximum(ops.cast(share * ops.cast(size, "float32") + 1e-4, "int32"), 1)
