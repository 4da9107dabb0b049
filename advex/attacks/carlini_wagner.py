"""Carlini and Wagner: Adam on the size of the change plus c times what is missing to the boundary,
and a search for c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, flat, rows
from advex._settings import real_number, whole_number
from advex.attacks.base import Attack
from advex.attacks.hyperplane import boundary
from advex.budgets import L2, Budget, Linf
from advex.driver.problem import Problem
from advex.errors import InvalidInput
from advex.goals import Goal

FIRST, SECOND, TINY = 0.9, 0.999, 1e-8  # Adam's
MOST = 1e10  # of c
GAIN = 1e-4  # a loss that falls by a smaller share between two looks has stopped falling
FINE = 0.1  # a step is not longer than this share of the largest change of a success
LOOKS = 10  # in a round


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(Attack):
    """Minimises |d|^2 + c max(-f, 0), f the margin, by Adam, in rounds, each with a c of its own.

    c falls to the middle of its bracket after a round with a success and grows tenfold (to the
    middle, where it was successful before) after one without. Each example has its own c, its own
    round and its own count of steps: a round ends early when the loss stops falling, the example
        then goes on with its next c, and leaves after the last.

    In the maximum norm the size is sum(max(|d| - t, 0)). A round ends at the first success whose
    largest change is t; after it t shrinks to 0.9 of that at least, half of the way to what was too
    small at most. After a round without, t grows to the middle of its bracket, and c doubles if
    there has been no success at all. Rounds begin where the last one ended.

    Args:
        steps: number of steps in all rounds together, one query and one gradient each.
        rounds_of: number of steps of a round at most.
        step_size: Adam's, in units of the box's range.
        c: the first c.
        searches: number of rounds at most.

    Raises:
        InvalidInput: at the call, for L1 and L0. InvalidType: a setting that is no number.

    Example:
        >>> import advex
        >>> x, labels = advex.testing.linear_data()
        >>> result = CarliniWagner(steps=500)(advex.testing.linear_model(), x, labels, advex.L2())
        >>> bool(result.success.all())
        True

    Reference: Carlini and Wagner, Towards evaluating the robustness of neural networks, 2017.
    Deviations: points are cut at the box (the first way of that paper), not taken to the inside of
    a tanh, whose slope vanishes for black and white; the squared length is in units of the box's
    range; a round is given up example by example; Adam's step falls to 0 in every round, and is
    short where the change is small.
    """

    needs_epsilon: ClassVar[bool] = False
    starts: ClassVar[bool] = True

    steps: int = 1000
    rounds_of: int = 150
    step_size: float = 0.01
    c: float = 1.0
    searches: int = 9

    def __post_init__(self) -> None:
        whole_number("CarliniWagner(rounds_of=...)", self.rounds_of)
        whole_number("CarliniWagner(searches=...)", self.searches)
        real_number("CarliniWagner(c=...)", self.c, strict=True)

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        if not isinstance(budget, L2 | Linf):
            raise InvalidInput(
                f"CarliniWagner works in L2 and Linf; received {budget!r}: use ElasticNet, FMN or"
                f" SigmaZero"
            )

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        zeros, one = ops.zeros_like(problem.x0), ops.ones_like(problem.progress)
        none = ops.zeros_like(problem.step)
        return problem.start, {
            "mean": zeros,
            "square": zeros,
            "c": self.c * one,
            "low": 0 * one,
            "high": (MOST if isinstance(problem.budget, L2) else 1.0) * one,
            "bound": 0.9 * one,  # what is allowed in the maximum norm
            "reach": one
            * float("inf"),  # the smallest largest change of a success, inside the bound or not
            "last": one * float("inf"),  # the loss when it was looked at last
            "won": ops.zeros_like(problem.found),
            "taken": none,
            "round": none,
        }

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        value, gradient = problem.gradient(x, boundary)
        crossed, euclidean = problem.reached, isinstance(problem.budget, L2)
        delta = (x - problem.x0) / problem.span
        over = ops.maximum(ops.abs(delta) - rows(memory["bound"], x), 0.0)
        size = ops.sum(flat(ops.square(delta) if euclidean else over), axis=1)
        pull = 2 * delta if euclidean else ops.where(over > 0, ops.sign(delta), 0.0)
        loss = size + memory["c"] * ops.maximum(-value, 0.0)
        push = rows(ops.where(value > 0, 0.0, memory["c"]), x) * problem.span * gradient
        way, adam = self._adam(memory, pull - push)
        largest = ops.max(flat(ops.abs(delta)), axis=1)
        reach = ops.where(crossed, ops.minimum(memory["reach"], largest), memory["reach"])
        left = 1 - ops.cast(memory["taken"], "float32") / self.rounds_of
        length = ops.minimum(self.step_size, FINE * reach) * left
        ahead = ops.clip(x - rows(length, x) * problem.span * way, *problem.box)
        won = crossed if euclidean else ops.logical_and(crossed, size == 0)
        now = (
            memory
            | {
                "reach": reach,
                "won": ops.logical_or(memory["won"], won),
                "taken": memory["taken"] + 1,
            }
            | adam
        )
        ended, now = self._ended(now, loss, euclidean)
        now = self._next_round(now, largest, ended, euclidean)
        return ops.where(rows(ended, x), problem.start, ahead) if euclidean else ahead, now

    def done(self, problem: Problem, x: Tensor, memory: Any) -> Tensor:
        return memory["round"] >= self.searches

    def _adam(self, memory: Any, slope: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Where one step of Adam goes, and its memory."""
        taken = ops.cast(memory["taken"] + 1, "float32")
        mean = FIRST * memory["mean"] + (1 - FIRST) * slope
        square = SECOND * memory["square"] + (1 - SECOND) * ops.square(slope)
        way = rows(1 / (1 - FIRST**taken), slope) * mean
        return way / (ops.sqrt(rows(1 / (1 - SECOND**taken), slope) * square) + TINY), {
            "mean": mean,
            "square": square,
        }

    def _ended(self, now: Any, loss: Tensor, euclidean: bool) -> tuple[Tensor, Any]:
        """Whose round is over: out of steps, or the loss has stopped falling; in the maximum norm,
        the first success.
        """
        look = ops.equal(now["taken"] % max(1, self.rounds_of // LOOKS), 0)
        stopped = ops.logical_and(look, loss > (1 - GAIN) * now["last"])
        ended = ops.logical_or(now["taken"] >= self.rounds_of, stopped if euclidean else now["won"])
        return ended, now | {"last": ops.where(look, loss, now["last"])}

    def _next_round(self, now: Any, largest: Tensor, ended: Tensor, euclidean: bool) -> Any:
        """The next c and, in the maximum norm, the next bound, for those whose round is over."""
        won, c, bound = now["won"], now["c"], now["bound"]
        if euclidean:
            high = ops.where(won, ops.minimum(now["high"], c), now["high"])
            low = ops.where(won, now["low"], ops.maximum(now["low"], c))
            c = ops.where(high < MOST, (low + high) / 2, 10 * c)
        else:  # low and high are what is too small, and what is enough, for the bound
            high = ops.where(won, ops.minimum(now["high"], largest), now["high"])
            low = ops.where(won, ops.where(now["low"] < high, now["low"], 0.5 * high), bound)
            bound = ops.maximum(0.9 * high, (low + high) / 2)
            # a larger one makes the search swing wider
            c = ops.where(ops.isinf(now["reach"]), 2 * c, c)
        fresh = now | {
            "mean": ops.zeros_like(now["mean"]),
            "square": ops.zeros_like(now["mean"]),
            "c": ops.minimum(c, MOST),
            "low": low,
            "high": high,
            "bound": bound,
            "last": ops.full_like(c, float("inf")),
            "won": ops.zeros_like(won),
            "taken": ops.zeros_like(now["taken"]),
            "round": now["round"] + (1 if euclidean else ops.cast(ops.logical_not(won), "int32")),
        }
        return {
            name: ops.where(rows(ended, value), fresh[name], value) for name, value in now.items()
        }
