"""One step's view of an attack: the model, the budget and the batch at hand; it counts, and keeps
the best point seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from keras import ops, tree

from advex import _backend
from advex._arrays import Tensor, axes, flat, rows
from advex._discrete import Solver
from advex._grid import Grid
from advex._settings import LARGEST
from advex.budgets import Budget, Linf
from advex.driver import draws
from advex.driver.rows import Common, Rows
from advex.errors import AttackError, GradientUnavailable, blaming
from advex.goals import Goal
from advex.model.protocol import Asked

Loss: TypeAlias = Callable[[Tensor, Goal], Tensor]

NO_GRADIENT = (
    "the model has no gradient with respect to its input: something in it, or in its preprocess,"
    " is not differentiable (NumPy, rounding, argmax, a look-up). Use a black-box attack, or"
    " replace that part by one whose gradient passes straight through"
)

LOOKS_AHEAD = 8  # steps from one look at what is best by the gradient to the next

SMALLEST_GAIN = 1e-3  # of the size: what counts as an improvement


class Terms(NamedTuple):
    """What an attack has said about itself that its problems must know."""

    steps: int
    limit: int | None = None
    """Of the queries of a run."""
    anywhere: bool = False
    """Whether it asks about points outside the budget, which cannot count, but say where the
    boundary is."""
    marks: tuple[int, ...] = ()
    """Numbers of queries at which the smallest size is kept."""


class Problem:
    """What an attack sees of the world during ``init`` or one ``step``.

    Attributes:
        x0: the original batch, (batch, ...), float32, in the model's units; of a ``Domain`` each
            feature from 0, its lowest value, to 1, its highest. Where examples or inputs have an
            epsilon each, that is divided by it.
        goal: what to pursue, with the labels of this batch: the goal of the call, or a step on the
            way to it.
        budget: the budget, with ``epsilon`` in the model's units.
        epsilon: the same number: a scalar tensor (for ``L0`` a number of elements).
        step: how many steps each example has behind it, (batch,) int32.
        run: which of its repetitions by ``Restarts`` this is, 0 for the first: (batch,) int32.
        numbers: the numbers of each example's run, by name: (batch,) each.
        found: whether each example has a success already, (batch,) bool.
        best: the best point seen of each example; ``x0`` where there is none.
        start: where each example is to begin: ``x0``, or points that were given or found before.
        idle: for how many steps the smallest perturbation has not become smaller by a thousandth,
            (batch,) int32.
        lower, upper: the lowest and highest legal value of each element.
        mask: which elements may change, (batch, ...) of bool; None: all. What an attack makes of
            the others is not looked at, and their gradients are zero.
        span: the length of the box.
        box: the lowest and highest value that the model takes: two scalars, or where examples or
            inputs have an epsilon each tensors that broadcast over ``x0``.
        classes: number of classes.
        reached: whether the points looked at last fulfil the goal of the call, inside the budget or
            not, (batch,) bool.
    """

    def __init__(
        self,
        forward: Asked,
        grid: Grid,
        goal: Goal,
        budget: Budget,
        terms: Terms,
        rows: Rows,
        common: Common,
        strongest: bool = False,
    ) -> None:
        self._given = forward, grid, goal, budget, terms
        self._forward, self._grid, self._terms = forward, grid, terms
        self._rows, self._common = rows, common
        self._answer: Any = None
        self._minimise, self._strongest = not budget.limited, strongest
        self._draws = 0
        self.x0 = rows.x0
        self.start = rows.x0 if _absent(rows.start) else rows.start
        self._judge = goal.bound(rows.goal)
        self.goal = self._judge
        if not _absent(rows.target):
            self.goal = self._judge.towards(rows.target)
        self.epsilon: Tensor = rows.beside.get("epsilon", common.epsilon)
        self.budget = budget.bound(self.epsilon) if budget.limited else budget
        self._anywhere = budget.bound(None)
        self._beside: dict[str, Tensor] = rows.beside
        # Where examples or inputs have an epsilon each they are divided by it.
        scale = rows.beside.get("scale")
        self.span: Tensor = common.span if scale is None else scale
        self.step: Tensor = rows.step
        self.run: Tensor = rows.repetition
        self.numbers: dict[str, Tensor] = rows.numbers
        self.box: tuple[Tensor, Tensor] = (common.lower, common.upper)
        if scale is not None:
            self.box = ops.zeros_like(scale), scale
        self._bounded = bool(rows.bounds)  # then the limits say all that the budget says
        self.lower, self.upper = rows.bounds or self.box
        self.mask: Tensor | None = None if _absent(rows.mask) else rows.mask
        if self.mask is not None:
            self._beside = self._beside | {"mask": self.mask}
        self.classes: int = forward.classes if isinstance(forward.classes, int) else 0
        self.reached: Tensor = ops.zeros_like(rows.found)
        # The rows whose points count: those of live seats that are not settled.
        running = ops.logical_and(rows.live, ops.logical_not(rows.nan))
        if not (self._minimise or strongest):
            running = ops.logical_and(running, ops.logical_not(rows.found))
        self._running = running

    @property
    def found(self) -> Tensor:
        return self._rows.found

    @property
    def idle(self) -> Tensor:
        return self._rows.idle

    @property
    def best(self) -> Tensor:
        return self._rows.best

    @property
    def width(self) -> Tensor:
        """``span`` as one number for each example, (batch,), or for all, a scalar."""
        return ops.max(flat(self.span), axis=1) if len(self.span.shape) else self.span

    @property
    def answer(self) -> Any:
        """What the model answers to the last points that were looked at: for a goal about classes
        logits (batch, classes).
        """
        return self._answer

    @property
    def progress(self) -> Tensor:
        """How far through its steps each example is: (batch,), from 0 to just below 1."""
        return ops.cast(self.step, "float32") / self._terms.steps

    @property
    def queries(self) -> Tensor:
        """How many queries each example's run has spent, (batch,) int32."""
        return self._rows.queries

    @property
    def left(self) -> Tensor:
        """How many it may still spend, (batch,) int32: more are not asked, see
        ``Attack.query_limit``.
        """
        limit = LARGEST if self._terms.limit is None else self._terms.limit
        return limit - self._rows.queries

    @property
    def others(self) -> Tensor | None:
        """Points that are answered otherwise, (batch, k, ...), where such are known."""
        return None if _absent(self._rows.others) else self._rows.others

    @property
    def grain(self) -> Tensor:
        """How far apart the values are that the model can be shown: a scalar, or one number for
        each element; 0 where any value can be shown.
        """
        return self.span * ops.convert_to_tensor(np.asarray(self._grid.grain, "float32"))

    def logits(self, x: Tensor) -> Any:
        """What the model answers at the points; one query each.

        Args:
            x: points, (batch, ...).

        Returns:
            For a goal about classes logits, (batch, classes); otherwise what the goal reads.
        """
        seen = self._seen(x)
        running = self._running
        if self._terms.limit is not None:
            self._running = ops.logical_and(running, self.left > 0)
        logits = self._forward(self._entered(seen), self._running)
        self._record(seen, logits)
        self._running = running
        return logits

    def crossed(self, points: Tensor, ask: Tensor | None = None) -> Tensor:
        """Whether the goal is reached at points, inside the budget or not. One query for each that
        is asked.

        Args:
            points: one for each example, (batch, ...), or several, (batch, k, ...); what is outside
                the box is taken at its edge.
            ask: which of them are asked, (batch,) or (batch, k) of bool; None: all. The answer for
                the others is False. Nor is any asked beyond the limit of queries: of several the
                first ones are.

        Returns:
            Booleans, (batch,) or (batch, k).
        """
        view, asked, shape = self._view(points, ask)
        answer = view.logits(view.points)
        slack = self._forward.caution * self._forward.slack
        crossed = ops.logical_and(view.goal.reached(answer, slack), asked)
        self._take(view, shape)
        return ops.reshape(crossed, shape)

    def losses(self, points: Tensor, loss: Loss, ask: Tensor | None = None) -> Tensor:
        """The loss at points: of scores, for attacks without gradients. One query for each that is
        asked.

        Args:
            points: one for each example, (batch, ...), or several, (batch, k, ...).
            loss: a function `(logits, goal) -> (batch,)`.
            ask: which of them are asked, (batch,) or (batch, k) of bool; None: all. The value of
                what is not asked means nothing.

        Returns:
            The losses, (batch,) or (batch, k).
        """
        view, _, shape = self._view(points, ask)
        value = loss(view.logits(view.points), view.goal)
        self._take(view, shape)
        return ops.reshape(value, shape)

    def _view(self, points: Tensor, ask: Tensor | None) -> tuple[_View, Tensor, tuple[int, ...]]:
        """Several points of each example side by side, as if each were an example; which of them
        are asked; the shape of an answer.
        """
        several = len(points.shape) > len(self.x0.shape)
        count = int(points.shape[1]) if several else 1
        shape = (-1, count) if several else (-1,)
        whole = ops.reshape(points, (-1, *self.x0.shape[1:]))
        running = self._running
        asked = _repeated(running, count)
        if ask is not None:
            asked = ops.logical_and(asked, ops.reshape(ask, (-1,)))
        each = ops.reshape(ops.cast(asked, "int32"), (-1, count))
        before = ops.cumsum(each, axis=1) - each
        if self._terms.limit is not None:
            room = before < ops.expand_dims(self.left, 1)
            asked = ops.logical_and(asked, ops.reshape(room, (-1,)))
        mine = self._rows._replace(x=(), memory=(), start=(), others=(), best=self.x0)
        seats = mine.map(lambda leaf: _repeated(leaf, count))
        spent: Any = seats.spent
        if not _absent(spent):
            spent = spent + seats.queries + ops.reshape(before, (-1,))
        seats = seats._replace(live=asked, spent=spent, queries=ops.zeros_like(seats.queries))
        view = _View(*self._given, seats, self._common, self._strongest)
        view.points = whole
        return view, asked, shape

    def _take(self, view: _View, shape: tuple[int, ...]) -> None:
        """Write down what several points of each example have shown."""
        count = shape[1] if len(shape) > 1 else 1
        old, new = self._rows, view.outcome()

        def several(leaf: Tensor) -> Tensor:
            return ops.reshape(leaf, (-1, count, *leaf.shape[1:]))

        found, size, idle = several(new.found), several(new.size), several(new.idle)
        fresh = ops.logical_and(found, ops.logical_not(old.found)[:, None])
        if self._minimise or self._strongest:
            better = ops.logical_or(fresh, size < old.size[:, None])
            worth = ops.where(better, size, float("inf"))
        else:
            better = fresh
            order = ops.arange(count, dtype="float32")[None]
            worth = ops.where(better, order, float("inf"))
        place, any_better = ops.argmin(worth, axis=1), ops.any(better, axis=1)
        one = ops.cast(place, "int32")[:, None]

        def picked(leaf: Tensor) -> Tensor:
            index = ops.reshape(one, (-1, 1) + (1,) * (len(leaf.shape) - 2))
            return ops.squeeze(ops.take_along_axis(leaf, index, axis=1), axis=1)

        def kept() -> Tensor:
            best = several(new.best)
            index = ops.broadcast_to(
                ops.reshape(one, (-1, 1) + (1,) * (len(best.shape) - 2)),
                (ops.shape(best)[0], 1, *best.shape[2:]),
            )
            chosen = ops.squeeze(ops.take_along_axis(best, index, axis=1), axis=1)
            return ops.where(rows(any_better, chosen), chosen, old.best)

        trace: Any = old.trace
        if not _absent(trace):
            trace = ops.min(several(new.trace), axis=1)
        self._rows = old._replace(
            best=ops.cond(ops.any(any_better), kept, lambda: old.best),
            found=ops.logical_or(old.found, any_better),
            size=ops.where(any_better, picked(size), old.size),
            idle=ops.min(idle, axis=1),
            nan=ops.any(several(new.nan), axis=1),
            queries=old.queries + ops.sum(several(new.queries), axis=1),
            trace=trace,
        )
        self.reached = ops.any(several(view.reached), axis=1)
        self._answer = None

    def margin(self, x: Tensor) -> Tensor:
        """The goal's margin at the points, above 0 where it is crossed; one query each.

        Args:
            x: points, (batch, ...).

        Returns:
            The margin, (batch,).
        """
        return self.goal.margin(self.logits(x))

    def gradient(
        self, x: Tensor, loss: Loss, through: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The loss at the points and its gradient; one query and one gradient each.

        The model sees 8-bit inputs snapped to their grid; the gradient there counts as the gradient
        at `x`.

        Args:
            x: points, (batch, ...).
            loss: a function `(logits, goal) -> (batch,)`.
            through: a function of the points: the model sees what it makes of them, and nothing
                that it sees counts as a success. None: the points themselves.

        Returns:
            The loss, (batch,), and its gradient, (batch, ...).

        Raises:
            GradientUnavailable: the model has no gradient by its input.
            AttackError: the loss is not one value per example.
        """
        seen = self._seen(x)

        def evaluate(point: Tensor) -> tuple[Tensor, Tensor]:
            logits = self._forward(self._entered(point if through is None else through(point)))
            with blaming(f"the loss {getattr(loss, '__name__', type(loss).__name__)}"):
                value = ops.convert_to_tensor(loss(logits, self.goal))
            if len(value.shape) != 1:
                raise AttackError(
                    f"a loss must return one value per example, shape (batch,); it returned"
                    f" {tuple(value.shape)}"
                )
            return value, logits

        value, gradient, logits = _backend.value_and_gradient(evaluate, seen)
        if gradient is None:
            raise GradientUnavailable(NO_GRADIENT)
        self._record(seen, logits if through is None else None)
        if self.mask is not None:
            gradient = ops.where(self.mask, gradient, 0.0)
        self._differentiated(gradient, 1)
        if through is None:
            self._look_ahead(gradient)
        return value, gradient

    def _look_ahead(self, gradient: Tensor) -> None:
        """Where features are whole, or in groups, look now and then at the legal point that is best
        by a gradient, one query more: steps of a search only come near to it, and are rounded.
        """
        curved = self.budget.limited and not isinstance(self.budget, Linf)
        solver = self._solver(gradient) if curved else None
        if solver is None:
            return
        reached, answer, running = self.reached, self._answer, self._running
        due = ops.equal(self.step % LOOKS_AHEAD, 0)
        here = flat(self.x0)
        ahead = ops.cond(ops.any(due), solver.best, lambda: here)
        self._running = ops.logical_and(running, due)
        self.logits(ops.reshape(ahead, ops.shape(self.x0)))
        self.reached, self._answer, self._running = reached, answer, running

    def smallest(self, gradient: Tensor, need: Tensor) -> Tensor:
        """The legal point nearest to the original at which a linear function with this gradient has
        grown by ``need``, (batch,). Only where features are whole, or in groups.
        """
        solver = self._solver(gradient)
        assert solver is not None
        known = self._rows.size
        ends = flat(ops.maximum(self.x0 - self.box[0], self.box[1] - self.x0))
        farthest = self.budget.size(ends)
        most = farthest
        if self._minimise:
            most = ops.where(self.found, ops.minimum(known, farthest), farthest)
        return ops.reshape(solver.smallest(need, most), ops.shape(self.x0))

    def _solver(self, gradient: Tensor) -> Solver | None:
        return self._grid.solver(
            gradient, self.x0, self.budget, self.lower, self.upper, self._beside
        )

    def jacobian(self, x: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of some logits at the points; one query and k gradients each.

        Args:
            x: points, (batch, ...).
            classes: whose gradients, (batch, k) int32.

        Returns:
            Logits, (batch, classes), and the gradients, (batch, k, ...).

        Raises:
            GradientUnavailable: the model has no gradient by its input.
        """
        seen = self._seen(x)

        def evaluate(point: Tensor) -> tuple[Tensor, Tensor]:
            logits = self._forward(self._entered(point))
            return ops.take_along_axis(logits, classes, axis=1), logits

        _, jacobian, logits = _backend.jacobian(evaluate, seen)
        if jacobian is None:
            raise GradientUnavailable(NO_GRADIENT)
        self._record(seen, logits)
        return logits, self._free(jacobian)

    def slopes(self, x: Tensor, numbers: Callable[[Any, Goal], Tensor]) -> tuple[Tensor, Tensor]:
        """Several numbers of the answer and the gradient of each; one query and k gradients each.

        Args:
            x: points, (batch, ...).
            numbers: a function of an answer and the goal, in `keras.ops`, that returns (batch, k).

        Returns:
            The numbers, (batch, k), and the gradient of each, (batch, k, ...).

        Raises:
            GradientUnavailable: the model has no gradient by its input.
        """
        seen = self._seen(x)

        def evaluate(point: Tensor) -> tuple[Tensor, Any]:
            answer = self._forward(self._entered(point))
            return numbers(answer, self.goal), answer

        values, jacobian, answer = _backend.jacobian(evaluate, seen)
        if jacobian is None:
            raise GradientUnavailable(NO_GRADIENT)
        self._record(seen, answer)
        return values, self._free(jacobian)

    def _free(self, jacobian: Tensor) -> Tensor:
        """Counted, and zero where nothing may change."""
        if self.mask is not None:
            jacobian = ops.where(ops.expand_dims(self.mask, 1), jacobian, 0.0)
        self._differentiated(jacobian, int(jacobian.shape[1]))
        return jacobian

    def _entered(self, seen: Tensor) -> Any:
        """What the model is asked with at points that it may be shown."""
        return self._grid.shown(seen, self.x0, self._beside)

    def _kept(self, x: Tensor) -> Tensor:
        """``x`` with the original's values where nothing may change."""
        return x if self.mask is None else ops.where(self.mask, x, self.x0)

    def last(self, x: Tensor) -> Rows:
        """The state once the last points were looked at, as the model was shown them, with their
        margins: NaN where a search for the smallest has ended outside of a limited budget.
        """
        seen, answer = self._seen(x), self.logits(x)
        margin = ops.cast(self._judge.margin(answer), "float32")
        if not self._minimise:
            margin = ops.where(self._inside(seen), margin, float("nan"))
        last = ops.where(rows(self._rows.live, x), seen, self._rows.x)
        return self._rows._replace(x=last, margin=margin)

    def shown(self, x: Tensor) -> Tensor:
        """What the model is shown for points: themselves, or for 8-bit inputs the nearest ones on
        the grid.

        Args:
            x: points, (batch, ...), or several of each example, (batch, k, ...).

        Returns:
            Points of the same shape.
        """
        if len(x.shape) > len(self.x0.shape):
            view, _, shape = self._view(x, None)
            return ops.reshape(view._seen(view.points), (-1, shape[1], *self.x0.shape[1:]))
        return self._seen(x)

    def project(self, x: Tensor, wider: Tensor | None = None) -> Tensor:
        """The nearest point inside budget and box.

        Args:
            x: points, (batch, ...).
            wider: (batch,): the budget is so many times as large, for a detour through points that
                cannot count. None: the budget itself.

        Returns:
            Points of the same shape.
        """
        x = self._kept(x)
        if wider is None:
            return self.budget.nearest(x, self.x0, self.lower, self.upper)
        if not self._bounded:
            return self.around(x, self.epsilon * wider)
        # the maximum norm, whose ball is in the limits, more exactly than by arithmetic here
        wide = rows(wider > 1, x)
        return ops.where(
            wide, self.around(x, self.epsilon * wider), ops.clip(x, self.lower, self.upper)
        )

    def around(self, x: Tensor, radius: Tensor) -> Tensor:
        """The nearest point inside the box whose perturbation is not larger than `radius`.

        Args:
            x: points, (batch, ...).
            radius: of the ball in the budget's norm, (batch,), in the model's units.

        Returns:
            Points of the same shape.
        """
        return self.budget.around(self._kept(x), self.x0, radius, *self.box)

    def suspect(self, examples: Tensor) -> None:
        """Mark examples whose gradients look as if they hid the way: later stages may look at
        those alone.

        Args:
            examples: booleans, (batch,).
        """
        self._rows = self._rows._replace(doubt=ops.logical_or(self._rows.doubt, examples))

    def move(self, x: Tensor, direction: Tensor, length: Tensor | float) -> Tensor:
        """A step along the steepest ascent, projected.

        Elements that are at their end already do not take part in the choice of the direction.

        Args:
            x: points, (batch, ...).
            direction: a gradient, or what stands for it, (batch, ...).
            length: of the step as a share of epsilon: a number, or (batch,).

        Returns:
            Points of the same shape, inside budget and box.
        """
        reach = self.epsilon if self.budget.homogeneous else self.epsilon * self.width
        if not self._bounded:  # in the maximum norm every element chooses for itself
            stuck = ops.logical_or(
                ops.logical_and(direction > 0, x >= self.upper),
                ops.logical_and(direction < 0, x <= self.lower),
            )
            direction = ops.where(stuck, 0.0, direction)
        stride = length * reach
        if len(ops.shape(stride)) == 1:
            stride = rows(stride, x)
        return self.project(x + stride * self.budget.steepest(direction))

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """Uniform numbers from 0 to below 1: a function of seed, the example's content, its step
        and the call.

        Args:
            shape: of the numbers of one example.

        Returns:
            Numbers of shape (batch, *shape), float32.
        """
        return ops.cast(self._bits(shape), "float32") * 2.0**-24

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Normal numbers of mean 0 and variance 1, drawn like `uniform`: 256 different ones, up to
        2.9.

        Args:
            shape: of the numbers of one example.

        Returns:
            Numbers of shape (batch, *shape), float32.
        """
        count = math.prod(shape)
        packed = self._bits((-(-count // 3),))
        parts = [ops.bitwise_and(ops.right_shift(packed, shift), 255) for shift in (0, 8, 16)]
        every = ops.cast(ops.concatenate(parts, axis=1)[:, :count], "float32")
        drawn = ops.erfinv((every + 0.5) / 128 - 1) * math.sqrt(2)
        return ops.reshape(drawn, (-1, *shape))

    def signs(self, shape: tuple[int, ...]) -> Tensor:
        """-1 or 1 with equal chances, drawn like `uniform`.

        Args:
            shape: of the numbers of one example.

        Returns:
            Numbers of shape (batch, *shape), float32.
        """
        return ops.where(self._bits(shape) >= 2**23, 1.0, -1.0)

    def again(self, steps: int = 0) -> Problem:
        """The problem that comes after this one, so many steps later."""
        state = self._rows
        later = state._replace(step=state.step + steps, idle=state.idle + steps)
        return Problem(*self._given, later, self._common, self._strongest)

    def outcome(self) -> Rows:
        """The state with all that was recorded."""
        return self._rows

    def _bits(self, shape: tuple[int, ...]) -> Tensor:
        """24 random bits per entry."""
        self._draws += 1
        return draws.bits(self._rows.key, self.step, self._rows.salt, self._draws, shape)

    def _seen(self, x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != tuple(self.x0.shape[1:]):
            raise AttackError(
                f"the attack asked for points of shape {tuple(x.shape)}; its examples have"
                f" {tuple(self.x0.shape)}"
            )
        if self._terms.anywhere:  # the box alone is the limit of what may be asked
            return self._grid.snapped(
                ops.clip(self._kept(x), *self.box),
                self.x0,
                self._anywhere,
                *self.box,
                self._common.top,
                self._beside,
            )
        return self._grid.snapped(
            self._kept(x),
            self.x0,
            self.budget,
            self.lower,
            self.upper,
            self._common.top,
            self._beside,
        )

    def _inside(self, seen: Tensor) -> Tensor:
        legal = ops.all(flat(ops.logical_and(seen >= self.lower, seen <= self.upper)), axis=1)
        if self.mask is not None and self._grid.repairs:  # which may change what must not
            still = ops.logical_or(self.mask, ops.abs(seen - self.x0) < 1e-6)
            legal = ops.logical_and(legal, ops.all(flat(still), axis=1))
        valid = self._grid.legal(seen, self.x0, self._beside)
        if valid is not None:
            legal = ops.logical_and(legal, valid)
        if self._minimise or self._bounded:
            return legal
        # Points outside by no more than rounding can do are pulled in at the end. Half precision
        # rounds more.
        unit = 2.0**-24 * max(map(abs, self._grid.box)) if self.budget.homogeneous else 0.0
        rounding = float(self.budget.measure(np.full((1, *self.x0.shape[1:]), unit))[0])
        hair = self.epsilon * (1e-2 if self._grid.half else 1e-6) + rounding
        size = self._grid.size(self.budget, seen - self.x0)
        return ops.logical_and(legal, size <= self.epsilon + hair)

    def _differentiated(self, gradient: Tensor, count: int) -> None:
        """Count gradients; keep in mind where they are exactly zero at the start."""
        first = ops.equal(self.step, 0)

        def dead() -> Tensor:
            return ops.logical_and(
                first, ops.logical_not(ops.any(ops.not_equal(gradient, 0), axis=axes(gradient)))
            )

        flat_now = ops.cond(ops.any(first), dead, lambda: ops.zeros_like(first))
        self._rows = self._rows._replace(
            flat=ops.logical_or(self._rows.flat, flat_now),
            gradients=self._rows.gradients + count * ops.cast(self._running, "int32"),
        )

    def _record(self, seen: Tensor, logits: Tensor | None) -> None:
        """Count one query; unless ``logits`` is None, keep what was found."""
        rows_now, running = self._rows, self._running
        self._answer = logits
        queries = rows_now.queries + ops.cast(running, "int32")
        if logits is None:
            self._rows = rows_now._replace(queries=queries)
            return
        self.reached = self._judge.reached(logits, self._forward.caution * self._forward.slack)
        reached = ops.logical_and(self.reached, running)
        size, new = rows_now.size, ops.logical_not(rows_now.found)
        if self._strongest:
            size = -ops.cast(self._judge.damage(logits), "float32")
            first = ops.logical_and(reached, new)
            alike = ops.logical_or(reached, ops.logical_and(running, new))
            worth = ops.logical_or(first, ops.logical_and(alike, size < rows_now.size))
        elif self._minimise:
            size = self._grid.size(self.budget, seen - self.x0)
            worth = ops.logical_and(reached, ops.logical_or(new, size < rows_now.size))
        else:
            worth = ops.logical_and(reached, new)

        def kept() -> tuple[Tensor, Tensor]:
            better = ops.logical_and(worth, self._inside(seen))
            return better, ops.where(rows(better, seen), seen, rows_now.best)

        # In most steps no row crosses: then the passes over whole images are spared.
        better, best = ops.cond(ops.any(worth), kept, lambda: (worth, rows_now.best))
        idle, smallest = rows_now.idle, rows_now.size
        if self._minimise:
            gained = ops.logical_and(better, size < (1 - SMALLEST_GAIN) * smallest)
            idle, smallest = ops.where(gained, 0, idle), ops.where(better, size, smallest)
        found = ops.logical_or(rows_now.found, better)
        if self._strongest:
            smallest = ops.where(better, size, smallest)
            found = ops.logical_or(rows_now.found, ops.logical_and(better, reached))
        broken = _unknown(logits)
        trace: Any = rows_now.trace
        if not _absent(trace):
            marks = ops.convert_to_tensor(np.asarray([self._terms.marks], "int32"))
            late = marks >= ops.expand_dims(rows_now.spent + queries, 1)
            now = ops.logical_and(late, ops.expand_dims(better, 1))
            trace = ops.minimum(trace, ops.where(now, ops.expand_dims(size, 1), float("inf")))
        self._rows = rows_now._replace(
            trace=trace,
            best=best,
            found=found,
            size=smallest,
            idle=idle,
            nan=ops.logical_or(rows_now.nan, ops.logical_and(broken, running)),
            queries=queries,
        )


class _View(Problem):
    """Several points of each example, as if each were an example."""

    points: Tensor


def _repeated(values: Tensor, count: int) -> Tensor:
    return values if count == 1 else ops.repeat(values, count, axis=0)


def _unknown(answer: Any) -> Tensor:
    """Which examples are answered with NaN, anywhere: (batch,) of bool."""
    first, *rest = (ops.any(flat(ops.isnan(leaf)), axis=1) for leaf in tree.flatten(answer))
    for other in rest:
        first = ops.logical_or(first, other)
    return first


def _absent(field: Any) -> bool:
    return isinstance(field, tuple)
