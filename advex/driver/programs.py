"""What is compiled: ``init``, ``step`` and ``finish`` of an attack as functions of rows.

Each is compiled once per model, attack, settings and structure. In front of a black box it is taken
in parts: up to the first question, once more with the answer up to the next, and so on. So all but
the questions is compiled, and what is compiled never calls the function.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, cast

import keras
import numpy as np
from keras import ops, tree

from advex import _backend
from advex._arrays import Array, Tensor
from advex._grid import Grid
from advex.budgets import Budget
from advex.budgets.each import searched
from advex.driver.plan import Leaf, terms
from advex.driver.problem import Problem
from advex.driver.rows import Common, Rows
from advex.driver.shapes import power_of_two
from advex.errors import AttackError, GradientUnavailable, blaming
from advex.goals import Goal
from advex.model.answers import NO_GRADIENT
from advex.model.protocol import Asked, Forward, Model

Part = Callable[[Problem, Rows], Rows]


class Programs:
    """The programs of a call, whatever attacks run in it.

    Unless ``whole`` nothing but steps is compiled: that of one size among many costs more than it
    saves.
    """

    def __init__(
        self,
        classifier: Model,
        forward: Forward,
        grid: Grid,
        goal: Goal,
        budget: Budget,
        strongest: bool = False,
        whole: bool = True,
        marks: tuple[int, ...] = (),
        most: int | None = None,
    ) -> None:
        self.whole, self.marks, self.most = whole, marks, most
        self.classifier, self.forward, self.grid = classifier, forward, grid
        self.strongest = strongest
        budget = searched(budget).bare()
        self.limit = budget.bound(0.0 if budget.limited else None)
        # Without the labels, for functions that outlive this call.
        self.goal = goal.bound(dict.fromkeys(goal.rows()))
        self.common = _common(grid, budget)
        self._fixed = [ops.convert_to_tensor(value) for value in self.common]
        kind = goal.key(), classifier.about(goal.reading), budget.bound(None), budget.limited
        self._key: tuple[Hashable, ...] = (forward.folded, kind, strongest, grid.key(), marks)
        self._made: dict[Hashable, Callable[..., Any]] = {}

    def problem(self, attack: Leaf, rows: Rows) -> Problem:
        """What the attack sees of ``rows``."""
        common, told = Common(*self._fixed), terms(attack, self.marks)
        return Problem(
            self.forward, self.grid, self.goal, self.limit, told, rows, common, self.strongest
        )

    def of(self, attack: Leaf) -> Program:
        """The programs of one attack."""
        return Program(attack, self)

    def compiled(self, name: str, attack: Leaf, rows: Rows, part: Part) -> Callable[[Rows], Rows]:
        """``part`` as a function of rows like these."""
        if name != "step" and not self.whole and self.classifier.differentiable:
            return lambda rows: part(self.problem(attack, rows), rows)
        if not self._asks_outside(attack):
            return self._traced(name, attack, rows, part)
        parts: list[Callable[..., Any]] = []

        def call(rows: Rows) -> Rows:
            answers: list[Tensor] = []
            stop: BaseException | None = None
            unsent = np.zeros(rows.seats, "int32")
            while True:
                if len(parts) == len(answers):
                    parts.append(self._traced(name, attack, rows, part, len(answers)))
                outcome = parts[len(answers)](rows, *answers)
                if isinstance(outcome, Rows):
                    break
                point, live = outcome
                live = _backend.to_numpy(live).astype(bool)
                fetched = Fetched(self._ask, point, live, self.most, self.forward.classes, stop)
                unsent += fetched.unsent.reshape(rows.seats, -1).sum(1).astype("int32")
                stop = fetched.stop
                answers.append(ops.convert_to_tensor(fetched.answers))
            if stop is None:
                return outcome
            queries = outcome.queries - ops.convert_to_tensor(unsent)
            raise Stopped(outcome._replace(queries=queries), stop)

        return call

    def _asks_outside(self, attack: Leaf) -> bool:
        """Whether the model is asked between the parts of a step: a black box, and any model by an
        attack of which each row asks another number of questions.
        """
        if not self.classifier.differentiable:
            return True
        one_each = isinstance(self.forward.classes, int) and len(self.forward.example) < 2
        return attack.needs == "labels" and one_each and self.whole

    def _ask(self, point: Any) -> Array:
        """The logits of points, (k, ...) -> (k, classes), all of which are asked."""
        count = len(tree.flatten(point)[0])
        if not self.classifier.differentiable:
            return _backend.to_numpy(self.forward(point, np.ones(count, bool)))
        size = count if _backend.RAGGED else power_of_two(count)
        leaves = [
            np.concatenate([leaf, np.repeat(leaf[:1], size - count, axis=0)])
            for leaf in tree.flatten(point)
        ]
        signature = [((None, *leaf.shape[1:]), str(leaf.dtype)) for leaf in leaves]
        structure = tree.map_structure(lambda _: 0, point)
        forward = self.forward

        def answered(*tensors: Tensor) -> Tensor:
            return forward(tree.pack_sequence_as(structure, list(tensors)))

        key = ("asked", repr(structure), tuple(signature), *self._key)
        run = self.classifier.compiled(
            key, lambda: _backend.compiled(answered, signature, forward.variables)
        )
        return _backend.to_numpy(run(*map(ops.convert_to_tensor, leaves)))[:count]

    def _traced(
        self, name: str, attack: Leaf, rows: Rows, part: Part, answers: int = 0
    ) -> Callable[..., Any]:
        """``part``, compiled, with the answers to so many questions given beforehand."""
        structure = tree.map_structure(lambda _: 0, rows)
        leaves = [
            ((None, *map(int, leaf.shape[1:])), keras.backend.standardize_dtype(leaf.dtype))
            for leaf in tree.flatten(rows)
        ]
        told: Hashable = (repr(structure), tuple(leaves), answers)
        mine: Hashable = (name, id(attack), told)
        if mine not in self._made:
            signature = [*leaves, *(((), str(value.dtype)) for value in self.common)]
            signature += [((None, self.forward.classes), "float32")] * answers
            run = self._flattened(attack, part, structure, len(leaves))
            compiled = self.classifier.compiled(
                (name, cast(Hashable, attack), *self._key, told),
                lambda: _backend.compiled(run, signature, self.forward.variables),
            )
            self._made[mine] = lambda rows, *answers: compiled(
                *tree.flatten(rows), *self._fixed, *answers
            )
        return self._made[mine]

    def _flattened(
        self, attack: Leaf, part: Part, structure: Any, count: int
    ) -> Callable[..., Any]:
        """``part`` as a function of tensors alone. It outlives this call, and holds no reference to
        it.
        """
        forward, grid, goal, limit = self.forward, self.grid, self.goal, self.limit
        outside, numbers = self._asks_outside(attack), len(self.common)
        strongest, told = self.strongest, terms(attack, self.marks)

        def run(*tensors: Tensor) -> Any:
            rows: Rows = tree.pack_sequence_as(structure, list(tensors[:count]))
            common, given = tensors[count:][:numbers], tensors[count + numbers :]
            asked: Any = Given(forward, given) if outside else forward
            problem = Problem(asked, grid, goal, limit, told, rows, Common(*common), strongest)
            try:
                return part(problem, rows)
            except Question as question:
                return question.point, question.live

        return run


class Program:
    """``init``, ``step`` and ``finish`` of one attack, each a function of a batch of rows."""

    def __init__(self, attack: Leaf, programs: Programs) -> None:
        self.attack, self._programs = attack, programs
        self._step: Callable[[Rows], Rows] | None = None
        self._finish: Callable[[Rows], Rows] | None = None

    def init(self, rows: Rows) -> Rows:
        """First points and memory."""
        attack = self.attack

        def init(problem: Problem, _: Rows) -> Rows:
            with _blaming(attack, "init"):
                x, memory = attack.init(problem)
            memory = tree.map_structure(ops.convert_to_tensor, _ordered(memory))
            rows = problem.outcome()
            if attack.query_limit is not None:
                rows = rows._replace(done=ops.logical_or(rows.done, problem.left <= 0))
            return rows._replace(x=_alike(attack, "x", x, problem.x0), memory=memory)

        return _whole(attack, self._programs.compiled("init", attack, rows, init)(rows), rows.seats)

    def step(self, rows: Rows) -> Rows:
        """One step of every row."""
        if self._step is None:
            # Not a bound method: what is compiled outlives this call, and may not hold the model.
            stepped = functools.partial(_stepped, self.attack)
            self._step = self._programs.compiled("step", self.attack, rows, stepped)
        return _whole(self.attack, self._step(rows), rows.seats)

    def finish(self, rows: Rows) -> Rows:
        """The last points, looked at like all others."""

        def finish(problem: Problem, rows: Rows) -> Rows:
            return problem.last(rows.x)

        if self._finish is None:
            self._finish = self._programs.compiled("finish", self.attack, rows, finish)
        return self._finish(rows)


def _stepped(attack: Leaf, problem: Problem, rows: Rows) -> Rows:
    with _blaming(attack, "step"):
        x, memory = attack.step(problem, rows.x, rows.memory)
    x, memory = _alike(attack, "x", x, rows.x), _same_memory(attack, memory, rows.memory)
    with _blaming(attack, "done"):
        done = attack.done(problem, x, memory)
    seen = problem.outcome()
    done = rows.done if done is None else _alike(attack, "done", done, rows.done)
    if attack.query_limit is not None:
        done = ops.logical_or(done, problem.left <= 0)
    return seen._replace(x=x, memory=memory, step=rows.step + 1, idle=seen.idle + 1, done=done)


class Question(BaseException):  # no error: nothing that catches errors may stop it
    """What a program needs to know before it can go on: the scores of the ``live`` rows, (batch,)
    of bool, of ``point``.
    """

    def __init__(self, point: Tensor, live: Tensor) -> None:
        super().__init__("a black box can only be asked between the parts of a step")
        self.point, self.live = point, live


class Stopped(BaseException):
    """A black box has raised ``error``: the state of the rows with all that was answered before."""

    def __init__(self, rows: Rows, error: BaseException) -> None:
        super().__init__("a black box has raised an error")
        self.rows, self.error = rows, error


class Fetched:
    """The answers to a question, asked in batches; what was answered before an error is kept.

    Args:
        ask: (k, ...) -> (k, classes).
        point: the points, (n, ...).
        live: which of them are asked, (n,) of bool.
        most: how many at once.
        classes: how many.
        stop: an error that was raised before: nothing is asked any more.

    Attributes:
        answers: (n, classes) float32, zero where nothing was answered.
        unsent: which of those that were to be asked were not, (n,) of bool. The batch that an error
            answers was sent.
        stop: the first error.
    """

    def __init__(
        self,
        ask: Callable[[Any], Array],
        point: Any,
        live: Array,
        most: int | None,
        classes: int,
        stop: BaseException | None,
    ) -> None:
        self.answers = np.zeros((len(live), classes), "float32")
        self.unsent, self.stop = live.copy(), stop
        index = np.flatnonzero(live)
        if stop is not None or not len(index):
            return
        arrays = tree.map_structure(_backend.to_numpy, point)
        size = most or len(index)
        for start in range(0, len(index), size):
            some = index[start : start + size]
            chosen = tree.map_structure(lambda leaf, some=some: leaf[some], arrays)
            self.unsent[some] = False
            try:
                self.answers[some] = ask(chosen)
            except BaseException as error:
                self.stop = error
                return


class Given:
    """Answers that were fetched beforehand, in the order of the questions. One question more is
    raised.

    Args:
        forward: where they come from.
        answers: logits, (batch, classes) each.
    """

    def __init__(self, forward: Asked, answers: Sequence[Tensor]) -> None:
        self._left, self.classes = list(answers), forward.classes
        self.slack, self.caution = forward.slack, forward.caution

    def __call__(self, x: Tensor, live: Tensor | None = None) -> Tensor:
        if live is None:
            raise GradientUnavailable(NO_GRADIENT)
        if not self._left:
            raise Question(x, live)
        return self._left.pop(0)


def _common(grid: Grid, budget: Budget) -> Common:
    ends = grid.box if grid.levels else np.asarray(grid.box, grid.exact)
    each = budget.epsilons is not None  # then the space is stretched so that it is 1
    epsilon = np.inf if not budget.limited else 1.0 if each else float(budget.limit(grid.span))
    numbers = epsilon, float(grid.span), ends[0], ends[1], 255
    return Common(*map(np.float32, numbers))


def _alike(attack: Leaf, name: str, value: Tensor, like: Tensor) -> Tensor:
    value = ops.convert_to_tensor(value)
    have = (tuple(value.shape[1:]), keras.backend.standardize_dtype(value.dtype))
    want = (tuple(like.shape[1:]), keras.backend.standardize_dtype(like.dtype))
    if len(value.shape) != len(like.shape) or have != want:
        raise AttackError(
            f"{type(attack).__name__} returned {name} of shape (batch,"
            f" {', '.join(map(str, have[0]))}) and dtype {have[1]}; expected shape (batch,"
            f" {', '.join(map(str, want[0]))}) and dtype {want[1]}"
        )
    return value


def _same_memory(attack: Leaf, memory: Any, before: Any) -> Any:
    memory = _ordered(memory)
    try:
        tree.assert_same_structure(memory, before)
    except (ValueError, TypeError):
        raise AttackError(
            f"{type(attack).__name__}: step returned a memory of another structure than init (or"
            " than it received)"
        ) from None
    return tree.map_structure(lambda new, old: _alike(attack, "memory", new, old), memory, before)


def _ordered(memory: Any) -> Any:
    """``memory`` with its dicts in the order of their keys: not every backend's tree functions look
    at keys. None is no memory.
    """
    if memory is None:
        return ()
    if isinstance(memory, dict):
        return {key: _ordered(memory[key]) for key in sorted(memory)}
    if type(memory) in (list, tuple):
        return type(memory)(map(_ordered, memory))
    return memory


def _whole(attack: Leaf, rows: Rows, count: int) -> Rows:
    """``rows``, if the first axis of all that the attack returned is the batch."""
    for name, part in (("x", rows.x), ("memory", rows.memory)):
        for leaf in tree.flatten(part):
            if len(leaf.shape) == 0 or int(leaf.shape[0]) != count:
                raise AttackError(
                    f"{type(attack).__name__} returned {name} of shape {tuple(leaf.shape)} for a"
                    f" batch of {count}: the first axis must be the batch, so that rows can leave"
                    " and join (a number common to all rows is a setting)"
                )
    return rows


def _blaming(attack: Leaf, part: str) -> contextlib.AbstractContextManager[None]:
    """Name the part of an attack that fails, if the attack is the user's own."""
    kind = type(getattr(attack, "attack", attack))
    own = kind.__module__.split(".")[0] == "advex"
    return contextlib.nullcontext() if own else blaming(f"{kind.__name__}.{part}")
