"""Carlini and Wagner: Adam on the size of the change plus c times what is missing to the boundary, and a search for c."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor, flat, rows
from advex._settings import real_number, whole_number
from advex.attacks.base import Attack
from advex.attacks.hyperplane import boundary
from advex.budgets import L2, Budget, Linf
from advex.errors import InvalidInput
from advex.goals import Goal
from advex.problem import Problem

FIRST, SECOND, TINY = 0.9, 0.999, 1e-8  # Adam's
INNER = 1 - 1e-6  # of the box: tanh reaches its ends at infinity
MOST = 1e10  # of c
GAIN = 1e-4  # a loss that falls by a smaller share between two looks has stopped falling
LOOKS = 10  # in a round


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(Attack):
    """Minimises |d|^2 + c max(-f, 0), f the margin, in x = middle + half tanh(w): Adam on w, in rounds, each with a c of its own.

    c falls to the middle of its bracket after a round with a success and grows tenfold (to the middle, where it was successful
    before) after one without. Each example has its own c, its own round and its own count of steps: a round ends early when the
    loss stops falling, the example then goes on with its next c, and leaves after the last.

    In the maximum norm the size is sum(max(|d| - t, 0)): t shrinks to 0.9 of the largest change after each round with a success,
    and c doubles after each without; rounds begin where the last success lies.

    Args:
        steps: number of steps in all rounds together, one query and one gradient each.
        rounds_of: number of steps of a round at most.
        step_size: Adam's, in w.
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

    Reference: Carlini and Wagner, Towards evaluating the robustness of neural networks, 2017. Deviations: the squared length is
    in units of the box's range; a round is given up example by example.
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
            raise InvalidInput(f"CarliniWagner works in L2 and Linf; received {budget!r}: use ElasticNet, FMN or SigmaZero")

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        zeros, one = ops.zeros_like(problem.x0), ops.ones_like(problem.progress)
        none = ops.zeros_like(problem.step)
        return problem.start, {
            "w": ops.arctanh(INNER * (2 * self._share(problem, problem.start) - 1)),
            "mean": zeros,
            "square": zeros,
            "c": self.c * one,
            "low": 0 * one,
            "high": MOST * one,
            "bound": one,  # what is allowed in the maximum norm
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
        tangent = ops.tanh(memory["w"])
        push = rows(ops.where(value > 0, 0.0, memory["c"]), x) * problem.span * gradient
        slope = (pull - push) * (1 - ops.square(tangent)) / (2 * INNER)
        now = memory | {"won": ops.logical_or(memory["won"], crossed if euclidean else ops.logical_and(crossed, size == 0))}
        now |= {"taken": memory["taken"] + 1} | self._moved(memory, slope)
        ended, now = self._ended(now, loss, delta, euclidean)
        now = self._next_round(problem, now, delta, ended, euclidean)
        share = ops.clip((ops.tanh(now["w"]) / INNER + 1) / 2, 0.0, 1.0)
        low, high = problem.box
        return ops.clip(low + problem.span * share, low, high), now

    def done(self, problem: Problem, x: Tensor, memory: Any) -> Tensor:
        return memory["round"] >= self.searches

    def _share(self, problem: Problem, x: Tensor) -> Tensor:
        return ops.clip((x - problem.box[0]) / problem.span, 0.0, 1.0)

    def _moved(self, memory: Any, slope: Tensor) -> dict[str, Tensor]:
        """One step of Adam."""
        taken = ops.cast(memory["taken"] + 1, "float32")
        mean = FIRST * memory["mean"] + (1 - FIRST) * slope
        square = SECOND * memory["square"] + (1 - SECOND) * ops.square(slope)
        scaled = rows(1 / (1 - FIRST**taken), slope) * mean
        way = scaled / (ops.sqrt(rows(1 / (1 - SECOND**taken), slope) * square) + TINY)
        return {"mean": mean, "square": square, "w": memory["w"] - self.step_size * way}

    def _ended(self, now: Any, loss: Tensor, delta: Tensor, euclidean: bool) -> tuple[Tensor, Any]:
        """Whose round is over: out of steps, or the loss has stopped falling; in the maximum norm, the first success."""
        look = ops.equal(now["taken"] % max(1, self.rounds_of // LOOKS), 0)
        stopped = ops.logical_and(look, loss > (1 - GAIN) * now["last"])
        ended = ops.logical_or(now["taken"] >= self.rounds_of, stopped if euclidean else now["won"])
        return ended, now | {"last": ops.where(look, loss, now["last"])}

    def _next_round(self, problem: Problem, now: Any, delta: Tensor, ended: Tensor, euclidean: bool) -> Any:
        """The next c, or bound, for those whose round is over."""
        won, c = now["won"], now["c"]
        high = ops.where(won, ops.minimum(now["high"], c), now["high"])
        low = ops.where(won, now["low"], ops.maximum(now["low"], c))
        if euclidean:
            following = ops.where(high < MOST, (low + high) / 2, 10 * c)
            start = ops.arctanh(INNER * (2 * self._share(problem, problem.start) - 1))
        else:
            following = ops.where(won, c, 2 * c)
            start = now["w"]
        largest = ops.max(flat(ops.abs(delta)), axis=1)
        fresh = now | {
            "w": start,
            "mean": ops.zeros_like(start),
            "square": ops.zeros_like(start),
            "c": ops.minimum(following, MOST),
            "low": low,
            "high": high,
            "bound": ops.where(won, 0.9 * ops.minimum(largest, now["bound"]), now["bound"]),
            "last": ops.full_like(c, float("inf")),
            "won": ops.zeros_like(won),
            "taken": ops.zeros_like(now["taken"]),
            "round": now["round"] + (1 if euclidean else ops.where(won, 0, 1)),
        }
        return {name: ops.where(rows(ended, value), fresh[name], value) for name, value in now.items()}
