"""JSMA: pairs of elements go to an end of the box, those that raise the target most and the other
classes least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, flat, rows
from advex._settings import setting
from advex.attacks.base import Attack
from advex.budgets import L0, Budget
from advex.driver.problem import Problem
from advex.errors import InvalidType
from advex.goals import INFINITY, Goal, Targeted, leaves, others, picked


@dataclass(frozen=True, kw_only=True)
class JSMA(Attack):
    r"""Jacobian saliency map attack: in every step the most salient pair of elements goes to its
    ends of the box.

    When to use it:
        To compare with the first L0 attack. It changes each element once and needs few steps;
        `SigmaZero` and `MinimumNorm("L0")` change fewer elements.

    $$
    (p, q) = \operatorname{argmax}_{p < q} \; -a_{pq}\, b_{pq} \quad\text{where}\quad a_{pq} > 0 >
    b_{pq}
    $$

    $$
    a_{pq} = \sum_{i \in \{p, q\}} \frac{\partial z_c}{\partial x_i}\, w_i, \qquad b_{pq} = \sum_{i
    \in \{p, q\}} \sum_{j \ne c} \frac{\partial z_j}{\partial x_i}\, w_i
    $$

    $z$ are the logits, $c$ is the target, $w_i$ the way of element $i$ to its end of the box. $a$
    is what the pair adds to the target's logit, $b$ what it adds to all others together. Without a
    target, $c$ is the likeliest wrong class of the point at hand. Where no pair counts, the first
    two of the candidates are taken. An example leaves when it has succeeded.

    Args:
        steps: number of steps at most, one pair each, a whole number from 1.
        candidates: how many elements the pairs are formed of, at least 2: those with the largest a
            - b.
        pairs: False: one element a step, chosen likewise: twice the steps, and about half the
            elements where few are enough.

    Raises:
        InvalidType: a setting of the wrong type; at the call, a goal without labels.
        InvalidInput: a setting out of range; at the call, for a norm other than `L0`.

    Cost:
        Two queries and two gradients a step.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = JSMA()(advex.testing.linear_model(), x, labels, advex.L0())
        >>> bool(result.success.all())
        True

    Reference:
        Papernot, McDaniel, Jha, Fredrikson, Celik and Swami, The limitations of deep learning in
        adversarial settings, IEEE EuroS&P 2016. https://arxiv.org/abs/1511.07528

        Elements that may go either way: Wiyatno and Xu, Maximal Jacobian-based saliency map attack,
        2018. https://arxiv.org/abs/1808.07945

    Deviations:
        An element's share is its gradient times its way to the end. Not all pairs are looked at.
    """

    norms: ClassVar = (L0,)
    needs_epsilon: ClassVar[bool] = False

    steps: int = setting(200, "whole")
    candidates: int = setting(64, "whole", at_least=2)
    pairs: bool = setting(True, "switch")

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        if goal is not None and not (leaves(goal) or type(goal) is Targeted):
            own = f"{type(goal).__name__} has a margin of its own"
            raise InvalidType(
                f"JSMA needs labels or a target; {own}: use advex.SigmaZero(), which follows any"
                f" margin"
            )

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        return problem.x0, {
            "over": ops.zeros_like(problem.found),
            "target": self._target(problem, problem.logits(problem.x0)),
        }

    def _target(self, problem: Problem, logits: Tensor) -> Tensor:
        labels = problem.goal.labels  # type: ignore[attr-defined]
        if problem.goal.targeted:
            return labels
        return ops.cast(ops.argmax(others(logits, labels), axis=1), "int32")

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        target = memory["target"]
        _, up = problem.gradient(x, lambda logits, _: picked(logits, target))
        _, other = problem.gradient(
            x, lambda logits, _: ops.sum(logits, axis=1) - picked(logits, target)
        )
        over = problem.reached
        low, high = problem.box
        free = x == problem.x0  # an element is changed once
        gain = up - other
        end = ops.where(gain > 0, high, low)
        way = flat(ops.where(free, end - x, 0.0))
        add, rest = flat(up) * way, flat(other) * way
        count = min(self.candidates, way.shape[1])
        best, index = ops.top_k(ops.where(way != 0, add - rest, -INFINITY), count)
        add, rest = (ops.take_along_axis(values, index, axis=1) for values in (add, rest))
        chosen = ops.zeros_like(way)
        for one in self._pair(add, rest, best > -INFINITY) if self.pairs else self._one(add, rest):
            at = ops.take_along_axis(ops.cast(index, "int32"), ops.expand_dims(one, 1), axis=1)
            chosen = ops.maximum(chosen, ops.one_hot(at[:, 0], way.shape[1]))
        ahead = ops.where(ops.reshape(chosen, ops.shape(x)) > 0, end, x)
        ahead = ops.where(rows(over, x), x, ops.where(free, ahead, x))
        memory = {"over": over, "target": self._target(problem, problem.answer)}
        return ahead, memory

    def _one(self, add: Tensor, rest: Tensor) -> tuple[Tensor, ...]:
        """The place of the element with the largest saliency, (batch,); the first where none has
        any.
        """
        fine = ops.logical_and(add > 0, rest < 0)
        return (ops.cast(ops.argmax(ops.where(fine, -add * rest, 0.0), axis=1), "int32"),)

    def _pair(self, add: Tensor, rest: Tensor, able: Tensor) -> tuple[Tensor, ...]:
        """The places of the pair with the largest saliency, (batch,) each; the first two where none
        has any.
        """
        count = int(add.shape[1])
        both_add = ops.expand_dims(add, 1) + ops.expand_dims(add, 2)
        both_rest = ops.expand_dims(rest, 1) + ops.expand_dims(rest, 2)
        fine = ops.logical_and(both_add > 0, both_rest < 0)
        pairs = ops.logical_and(ops.expand_dims(able, 1), ops.expand_dims(able, 2))
        upper = ops.expand_dims(
            ops.expand_dims(ops.arange(count), 1) < ops.expand_dims(ops.arange(count), 0), 0
        )
        pairs = ops.logical_and(pairs, upper)
        saliency = ops.where(ops.logical_and(fine, pairs), -both_add * both_rest, -1.0)
        value = ops.max(ops.reshape(saliency, (-1, count * count)), axis=1)
        place = ops.cast(ops.argmax(ops.reshape(saliency, (-1, count * count)), axis=1), "int32")
        return ops.where(value > 0, place // count, 0), ops.where(value > 0, place % count, 1)

    def done(self, problem: Problem, x: Tensor, memory: Any) -> Tensor:
        return memory["over"]
