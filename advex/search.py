"""The one driver: rows enter, take compiled steps, leave when they are finished, and are judged
once more at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import sys
import time
import warnings
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops, tree

from advex import _backend
from advex._arrays import Array, Tensor
from advex._grid import Grid
from advex._version import VERSION
from advex.blackbox import Given, Question
from advex.budgets import Budget
from advex.classifier import Classifier
from advex.errors import AttackError, InvalidInput, ModelWarning, blaming
from advex.goals import Goal, Untargeted, leaves
from advex.judging import (
    CHECKED,
    EVEN,
    NEIGHBOURS,
    RANDOM,
    STALE,
    Judge,
    alike,
    honesty,
    stale,
    telling,
)
from advex.losses import cross_entropy, dlr
from advex.losses import spread as needed_classes
from advex.problem import Problem, State
from advex.result import Result

PATIENCE = 2.0  # seconds before a bar appears by itself
REFILL = 8  # fresh rows join when one place in so many is free
COMPILED = (
    "The compiled model answers differently from the model itself: the search, which is compiled,"
    " may miss successes. Those"
    " that are counted were judged by the model itself."
)
BURST = 3  # steps between two looks at the state, on an accelerator


class Steps(Protocol):
    """What the driver needs of an attack."""

    @property
    def rounds(self) -> int:
        """How many steps it takes at most."""

    @property
    def needs_gradient(self) -> bool:
        """Whether it differentiates the model."""

    @property
    def carries(self) -> dict[str, np.ufunc | None]:
        """What of its memory a part of it hands on to later parts, and how those of parts side by
        side become one (None: any of them).
        """

    def check_inputs(self, shape: tuple[int, ...]) -> None:
        """Raise an error if it cannot work on inputs of ``shape``."""

    def init(self, problem: Problem) -> tuple[Tensor, Any]:
        """First points and memory."""

    def step(self, problem: Problem, x: Tensor, memory: Any) -> tuple[Tensor, Any]:
        """Next points and memory."""

    def done(self, problem: Problem, x: Tensor, memory: Any) -> Tensor | None:
        """Which examples need no further step, or None."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One run of an attack over the examples that no earlier stage has broken.

    Args:
        attack: what runs.
        salt: tells apart the random numbers of stages that run the same attack.
        run: which repetition of that attack this is, 0 for the first.
        aim: head for one class only: 0 for the likeliest wrong class of the clean input, 1 for the
            next. None: the goal's own.
        doubtful: only the examples that an earlier stage has found suspicious, see
            ``Problem.suspect``.
        warm: begin at the best points of the stages before, where there are any.
        begin, end: a part of the attack: from one step to just before another, None for all that
            are left.
        group: parts of different groups never run side by side.
        only: which examples take part, by what earlier parts have handed on: see ``Steps.carries``.
    """

    attack: Steps
    salt: int = 0
    run: int = 0
    aim: int | None = None
    doubtful: bool = False
    warm: bool = False
    begin: int = 0
    end: int | None = None
    group: int = 0
    only: Callable[[dict[str, Array]], Array] | None = None

    @property
    def label(self) -> str:
        """Name, loss and target, for reports."""
        loss = getattr(getattr(self.attack, "loss", None), "__name__", "")
        target = "" if self.aim is None else f"target {self.aim + 1}"
        inner = ", ".join(filter(None, [loss, target]))
        return type(self.attack).__name__ + (f"({inner})" if inner else "")


Progress = bool | Callable[[int, int, int], Any] | None


def power_of_two(count: int) -> int:
    """The smallest power of two that is not below ``count``."""
    return 1 << max(0, int(count - 1).bit_length())


def default_batch(shape: tuple[int, ...]) -> int:
    """A batch size that keeps a step's tensors within the caches and memory of a small machine."""
    elements = max(1, int(np.prod(shape)))
    most = 256 if elements <= 4096 else 128  # more rows share what a step costs besides the model
    return int(min(most, max(8, power_of_two(2**22 // elements))))


class Search:
    """The data of one call, and the loop over its batches."""

    def __init__(
        self,
        classifier: Classifier,
        grid: Grid,
        x: Array,
        goal: Goal,
        budget: Budget,
        seed: int,
        batch: int,
        report: Callable[[int, int], None],
        start: Array | None = None,
    ) -> None:
        self.classifier, self.grid, self.x, self.goal, self.budget, self.seed = (
            classifier,
            grid,
            x,
            goal,
            budget,
            seed,
        )
        # once: it never changes in the middle of a call
        self.forward = classifier.forward(grid.working(x[:CHECKED]))
        self.report = report
        self.batch, self.start = batch, start
        # a black box is asked about nothing that is not needed
        self.even = EVEN.get() if classifier.symbolic else 1
        self.found = np.zeros(len(x), bool)
        self.invalid = np.zeros(len(x), bool)
        self.flat = np.zeros(len(x), bool)
        self.doubt = np.zeros(len(x), bool)
        # of the clean inputs' wrong classes, as far as a stage asks
        self.ranking = np.zeros((len(x), 0), "int32")
        self.broken_by = np.full(len(x), "", object)
        self.account: list[dict[str, Any]] = []  # what each stage did
        self.pool: list[Stage] = []  # the stages that run side by side now
        # the place in the pool of the first stage that has settled each row; large: none has
        self.first = np.zeros(0, "int64")
        # examples, gradients and queries of each stage of the pool
        self.tally = np.zeros((0, 3), "int64")
        self.carried: dict[str, Array] = {}  # what parts of an attack hand on to later ones
        self.gradients = np.zeros(len(x), "int64")
        self.queries = np.zeros(len(x), "int64")
        self.size = np.full(len(x), np.inf)
        self.points = x.copy()
        # without the labels, for functions that outlive this call
        self.shell = goal.bound(dict.fromkeys(goal.rows()))
        self.made: dict[Hashable, Any] = {}
        ends = classifier.box if grid.levels else np.asarray(classifier.box, grid.exact)
        span = float(grid.span)
        epsilon = float(budget.limit(grid.span)) if budget.limited else np.inf
        self.shared = {
            "epsilon": np.float32(epsilon),
            "span": np.float32(span),
            "lower": np.float32(ends[0]),
            "upper": np.float32(ends[1]),
            "top": np.float32(255),
        }
        self.fixed = [ops.convert_to_tensor(self.shared[name]) for name in sorted(self.shared)]

    # Rows on their way in.

    def rows(self, entries: Array, room: int) -> State:
        """The first state of the ``entries``, filled up, to ``room`` at most, with copies of the
        first that nobody looks at.
        """
        padding = (
            min(-len(entries) % self.even, room - len(entries))
            if _backend.RAGGED
            else self.batch - len(entries)
        )
        every, places = self._split(np.concatenate([entries, np.zeros(padding, entries.dtype)]))
        x = self.x[every]
        x0 = self.grid.working(x)
        lower, upper = self.grid.bounds(x, self.budget)
        count = len(every)
        void = np.arange(count) >= len(entries)
        state: State = {
            "x0": x0,
            "best": x0,
            "bounds": {"lower": lower, "upper": upper} if np.ndim(lower) else {},
            "goal": {name: values[every] for name, values in self.goal.rows().items()},
            "key": row_keys(x0, self.seed),
            "salt": np.array([stage.salt for stage in self.pool], "int32")[places],
            "run": np.array([stage.run for stage in self.pool], "int32")[places],
            "found": np.zeros(count, bool),
            "invalid": void,
            "flat": np.zeros(count, bool),
            "doubt": np.zeros(count, bool),
            "done": np.zeros(count, bool),
            "step": np.array([stage.begin for stage in self.pool], "int32")[places],
            "gradients": np.zeros(count, "int32"),
            "queries": np.zeros(count, "int32"),
            "size": np.full(count, np.inf, "float32"),
            "idle": np.zeros(count, "int32"),
        }
        if self.start is not None or self.pool[0].warm:
            first = x if self.start is None else self.start[every]
            best = self.found[every].reshape((-1,) + (1,) * (x.ndim - 1)) & self.pool[0].warm
            state["start"] = self.grid.working(np.where(best, self.points[every], first))
        if self.pool[0].aim is not None:
            state["aim"] = self.ranking[every, np.array([stage.aim for stage in self.pool])[places]]
        return tree.map_structure(ops.convert_to_tensor, state)

    def unseeded(self, stages: list[Stage]) -> list[str]:
        """Sentences about transforms that draw random numbers of their own: asked twice for the
        same, they answer differently.
        """
        said = []
        for transform in {
            id(one): one for stage in stages for one in getattr(stage.attack, "transforms", ())
        }.values():
            self.pool = [stages[0]]
            state = self.rows(np.arange(min(len(self.x), self.batch, CHECKED)), self.batch)
            shared = {name: ops.convert_to_tensor(value) for name, value in self.shared.items()}
            looks = []
            for _ in range(2):
                problem = Problem(
                    self.forward,
                    self.grid,
                    self.goal,
                    self.budget,
                    stages[0].attack.rounds,
                    state,
                    shared,
                )
                with blaming("transforms"):
                    looks.append(_host(ops.convert_to_tensor(transform(problem, problem.x0))))
            if not np.array_equal(looks[0], looks[1], equal_nan=True):
                name = getattr(transform, "__name__", type(transform).__name__)
                said.append(
                    f"The transform {name} draws random numbers of its own: the same seed does not"
                    f" give the same result. Let it"
                    " draw from problem.uniform, as in lambda problem, x: x * problem.uniform((1,"
                    " 1, 1))."
                )
        return said

    def _split(self, entries: Array) -> tuple[Array, Array]:
        """Row, and place of the stage in the pool, of each entry."""
        return entries % len(self.x), entries // len(self.x)

    # What is compiled: three functions of a state.

    def _compiled(
        self, name: str, attack: Steps, state: State, function: Callable[[Problem, State], State]
    ) -> Any:
        """``function`` of a problem made from a state, compiled once per model, settings and
        structure.

        In front of a black box it is taken in parts: up to the first question, once more with the
        answer up to the next ...
        """
        if self.classifier.symbolic:
            return self._part(name, attack, state, function)
        forward = self.forward
        parts: list[Any] = []

        def call(state: State) -> State:
            answers: list[Tensor] = []
            while True:
                if len(parts) == len(answers):
                    parts.append(self._part(name, attack, state, function, len(answers)))
                outcome = parts[len(answers)](state, *answers)
                if isinstance(outcome, dict):
                    return outcome
                answers.append(forward(*outcome))

        return call

    def _part(
        self,
        name: str,
        attack: Steps,
        state: State,
        function: Callable[[Problem, State], State],
        answers: int = 0,
    ) -> Any:
        """``function``, compiled, with the answers to so many questions given beforehand."""
        forward = self.forward
        leaves = tree.flatten(state)
        structure = tree.map_structure(lambda _: 0, state)
        shared_names = sorted(self.shared)
        grid, shell, budget = self.grid, self.shell, self.budget
        limit = budget.bound(None if not budget.limited else 0.0)
        symbolic = self.classifier.symbolic

        def run(*tensors: Tensor) -> Any:
            state = tree.pack_sequence_as(structure, list(tensors[: len(leaves)]))
            common, given = (
                tensors[len(leaves) :][: len(shared_names)],
                tensors[len(leaves) + len(shared_names) :],
            )
            shared = dict(zip(shared_names, common, strict=True))
            asked = forward if symbolic else Given(forward.classes, given)
            problem = Problem(asked, grid, shell, limit, attack.rounds, state, shared)
            try:
                return function(problem, state)
            except Question as question:
                return question.point, question.live

        signature = [
            ((None, *map(int, leaf.shape[1:])), keras.backend.standardize_dtype(leaf.dtype))
            for leaf in leaves
        ]
        mine: Hashable = (name, id(attack), repr(structure), tuple(signature), answers)
        if mine in self.made:
            return self.made[mine]
        key: Hashable = (
            name,
            attack,
            forward.folded,
            self._static(),
            grid.key(),
            repr(structure),
            tuple(signature),
            answers,
        )
        signature += [((), str(self.shared[entry].dtype)) for entry in shared_names]
        signature += [((None, forward.classes), "float32")] * answers
        compiled = self.classifier.compiled(
            key, lambda: _backend.compiled(run, signature, forward.variables)
        )

        def call(state: State, *answers: Tensor) -> Any:
            return compiled(*tree.flatten(state), *self.fixed, *answers)

        self.made[mine] = call
        return call

    def _static(self) -> tuple[Any, ...]:
        goal, budget = self.shell, self.budget
        fields = dataclasses.fields(goal)  # type: ignore[arg-type]
        settings = tuple((field.name, getattr(goal, field.name)) for field in fields)
        return (type(goal), settings, goal.independent, budget.bound(None), budget.limited)

    def _init(self, attack: Steps) -> Callable[[State], State]:
        def init(problem: Problem, _: State) -> State:
            with _blaming(attack, "init"):
                x, memory = attack.init(problem)
            memory = (
                ()
                if memory is None
                else tree.map_structure(ops.convert_to_tensor, _ordered(memory))
            )
            x = _alike(attack, "x", x, problem.x0)
            return {**problem.outcome(), "x": x, "memory": memory}

        def run(state: State) -> State:
            return _whole(attack, self._compiled("init", attack, state, init)(state), _count(state))

        return run

    def _advance(self, attack: Steps, state: State) -> Callable[[State], State]:
        def advance(problem: Problem, state: State) -> State:
            with _blaming(attack, "step"):
                x, memory = attack.step(problem, state["x"], state["memory"])
            x = _alike(attack, "x", x, state["x"])
            memory = _same_memory(
                attack, () if memory is None else _ordered(memory), state["memory"]
            )
            with _blaming(attack, "done"):
                done = attack.done(problem, x, memory)
            done = state["done"] if done is None else _alike(attack, "done", done, state["done"])
            after = problem.outcome()
            return {
                **after,
                "x": x,
                "memory": memory,
                "step": state["step"] + 1,
                "idle": after["idle"] + 1,
                "done": done,
            }

        return self._compiled("step", attack, state, advance)

    def _finish(self, attack: Steps, state: State) -> Callable[[State], State]:
        def finish(problem: Problem, state: State) -> State:
            problem.logits(state["x"])
            return {**problem.outcome(), "x": state["x"], "memory": state["memory"]}

        return self._compiled("finish", attack, state, finish)

    # The loop.

    def run(self, pool: list[Stage]) -> None:
        """Stages of one attack over all rows that still need it, side by side as far as there is
        room.

        An entry is a row in one of the stages. Those of the first stage enter first, so that a full
        batch does no more than one stage after the other; a row for which an earlier stage has
        succeeded leaves the later ones. What is found, and by which stage, so is what the stages
        would find one by one.
        """
        attack, self.pool = pool[0].attack, pool
        needy = ~self.invalid & ~(self.found & (self.budget.limited | (self.size == 0)))
        needy = needy & self.doubt if pool[0].doubtful else needy
        ids = np.flatnonzero(
            needy & pool[0].only(self.carried) if pool[0].only and needy.any() else needy
        )
        waiting = (np.arange(len(pool))[:, None] * len(self.x) + ids).ravel()
        began, before = time.monotonic(), self.found.copy()
        self.first, self.tally = np.full(len(self.x), len(pool)), np.zeros((len(pool), 3), "int64")
        ends = np.array([attack.rounds if stage.end is None else stage.end for stage in pool])
        init = self._init(attack)
        advance = finish = None
        state: State | None = None
        ended = over = np.zeros(0, bool)
        # which entry sits in which row; -1: none, or one that has left
        slots = np.zeros(0, "int64")
        burst = BURST if _backend.accelerated() else 1
        while True:
            free = self.batch - (len(slots) if _backend.RAGGED else int((slots >= 0).sum()))
            # Not one by one: to join and, later, to judge a few rows costs nearly as much as many.
            joined = len(waiting) > 0 and free >= max(1, self.batch // REFILL)
            if joined:
                count = free - free % self.even if _backend.RAGGED and free > self.even else free
                fresh, waiting = waiting[:count], waiting[count:]
                state, slots = self._joined(
                    state, slots, self._begun(init(self.rows(fresh, free)), fresh), fresh
                )
            if state is None or not (slots >= 0).any():
                break
            if advance is None or finish is None:
                advance, finish = self._advance(attack, state), self._finish(attack, state)
            if joined:  # rows that an evaluation inside init has finished already take no step
                ended, over = self._ended(state, slots, ends)
            if not ended.any():
                live, steps = slots >= 0, 1
                if burst > 1:
                    steps = min(
                        burst, int((ends[self._split(slots)[1]] - _host(state["step"]))[live].min())
                    )
                for _ in range(steps):
                    state = _whole(attack, advance(state), len(slots))
                ended, over = self._ended(state, slots, ends)
            if ended.any():
                if over.any():
                    state = self._judged(state, slots, over, finish)
                self._leave(state, slots, ended)
                overtaken = ~ended & self._overtaken(slots)
                if overtaken.any():
                    self._counted(state, slots, overtaken)
                slots = np.where(ended | overtaken, -1, slots)
                waiting = waiting[~self._overtaken(waiting)]
                state, slots = self._compacted(state, slots, len(waiting))
                ended = over = np.zeros(0, bool)
            left = len(waiting) + int((slots >= 0).sum())
            self.report(len(self.x) - -(-left // len(pool)), int(self.found.sum()))
        seconds, passes = time.monotonic() - began, self.tally[:, 1:].sum(1)
        for place, (stage, counts) in enumerate(zip(pool, self.tally.tolist(), strict=True)):
            broken = int((self.found & ~before & (self.first == place)).sum())
            share = (
                seconds * float(passes[place] / passes.sum())
                if passes.any()
                else seconds / len(pool)
            )
            figures = {
                "seconds": share,
                "examples": counts[0],
                "broken": broken,
                "gradients": counts[1],
                "queries": counts[2],
            }
            if stage.begin:  # the later parts of an attack count with its first
                last = self.account[-1]
                last |= {name: last[name] + figures[name] for name in figures if name != "examples"}
            else:
                self.account.append({"attack": stage.label} | figures)

    def _overtaken(self, entries: Array) -> Array:
        """Which entries are of rows that an earlier stage of the pool has settled."""
        ids, places = self._split(entries)
        return (entries >= 0) & (places > self.first[ids])

    def _begun(self, state: State, entries: Array) -> State:
        """The state after ``init``, with what earlier parts of the attack have handed on."""
        if not self.pool[0].begin:
            return state
        # what fills up is a copy of the first entry
        every = np.full(_count(state), self._split(entries)[0][0])
        every[: len(entries)] = self._split(entries)[0]
        carried = {
            name: ops.convert_to_tensor(values[every]) for name, values in self.carried.items()
        }
        return {**state, "memory": {**state["memory"], **carried}}

    def _ended(self, state: State, slots: Array, ends: Array) -> tuple[Array, Array]:
        """Which rows are finished, and which of them for want of steps only."""
        found, invalid = _host(state["found"]), _host(state["invalid"])
        settled = invalid | found if self.budget.limited else invalid
        last = ends[self._split(slots)[1]]
        over = ((_host(state["step"]) >= last) | _host(state["done"])) & ~settled & (slots >= 0)
        return (settled | over) & (slots >= 0), over

    def _joined(
        self, state: State | None, slots: Array, fresh: State, ids: Array
    ) -> tuple[State, Array]:
        """Fresh rows put into the places that are free."""
        if state is None:
            return fresh, np.concatenate([ids, np.full(_count(fresh) - len(ids), -1)])
        if _backend.RAGGED:  # the free places are gone already
            joined = tree.map_structure(
                lambda old, new: _backend.concatenate([old, new]), state, fresh
            )
            return joined, np.concatenate([slots, ids, np.full(_count(fresh) - len(ids), -1)])
        places = np.arange(len(slots))
        free = np.flatnonzero(slots < 0)
        places[free] = len(slots) + np.arange(len(free))
        both = tree.map_structure(lambda old, new: _backend.concatenate([old, new]), state, fresh)
        slots = slots.copy()
        slots[free] = np.concatenate([ids, np.full(len(free) - len(ids), -1)])
        return tree.map_structure(lambda leaf: _backend.gather(leaf, places), both), slots

    def _compacted(self, state: State, slots: Array, waiting: int) -> tuple[State | None, Array]:
        """Seats of rows that have left, removed: at once where shapes are free, by halves at the
        end where they are not.

        A seat that stays empty holds a copy of one that is taken, and steps along with it. So no
        attack ever meets a row that is beyond its last step, or in any other state that no live row
        is in.
        """
        live = np.flatnonzero(slots >= 0)
        if not len(live):
            return (state, slots) if waiting and not _backend.RAGGED else (None, slots[:0])
        size = len(live) + -len(live) % self.even if _backend.RAGGED else power_of_two(len(live))
        if size >= len(slots) or (waiting and not _backend.RAGGED):
            keep = np.where(slots >= 0, np.arange(len(slots)), live[0])
            slots = slots.copy()
        else:
            keep = np.concatenate([live, np.repeat(live[:1], size - len(live))])
            slots = np.where(np.arange(size) < len(live), slots[keep], -1)
        if (slots >= 0).all() and len(keep) == _count(state):
            return state, slots
        state = tree.map_structure(lambda leaf: _backend.gather(leaf, keep), state)
        return {
            **state,
            "invalid": ops.convert_to_tensor(_host(state["invalid"]) | (slots < 0)),
        }, slots

    def _judged(
        self, state: State, slots: Array, over: Array, finish: Callable[[State], State]
    ) -> State:
        """The last point of the rows that are out of steps, looked at like every other."""
        if over.all() or not _backend.RAGGED:
            if over.all():
                return finish(state)
            # Rows that are not over must not be looked at: they are marked for the time of the
            # call.
            marked = ops.convert_to_tensor(_host(state["invalid"]) | ~over)
            judged = finish({**state, "invalid": marked})
            truly = (_host(judged["invalid"]) & over) | _host(state["invalid"])
            return {**judged, "invalid": ops.convert_to_tensor(truly)}
        index = np.flatnonzero(over)
        more = np.concatenate([index, np.repeat(index[:1], -len(index) % self.even)])
        part = finish(tree.map_structure(lambda leaf: _backend.gather(leaf, more), state))
        part = tree.map_structure(lambda leaf: leaf[: len(index)], part)
        rest = np.flatnonzero(~over)
        back = np.argsort(np.concatenate([rest, index]), kind="stable")
        return tree.map_structure(
            lambda old, new: _backend.gather(
                _backend.concatenate([_backend.gather(old, rest), new]), back
            ),
            state,
            part,
        )

    def _counted(self, state: State, slots: Array, leaving: Array) -> None:
        """The passes of entries that leave, and what was noticed about their rows, written down."""
        index = np.flatnonzero(leaving)
        ids, places = self._split(slots[index])
        gradients, queries = _host(state["gradients"])[index], _host(state["queries"])[index]
        np.add.at(self.gradients, ids, gradients)
        np.add.at(self.queries, ids, queries)
        np.add.at(self.tally, places, np.stack([np.ones_like(queries), gradients, queries], axis=1))
        self.flat[ids[_host(state["flat"])[index]]] = True
        self.doubt[ids[_host(state["doubt"])[index]]] = True
        for name, joined in self.pool[0].attack.carries.items():
            values = _host(state["memory"][name])[index]
            kept = self.carried.setdefault(
                name, np.zeros((len(self.x), *values.shape[1:]), values.dtype)
            )
            if joined is None or not self.pool[0].begin:
                kept[ids] = values
            else:
                joined.at(kept, ids, values)

    def _leave(self, state: State, slots: Array, ended: Array) -> None:
        """What the finished entries have found, written down; of two of one row, what the earlier
        stage has.
        """
        self._counted(state, slots, ended)
        index = np.flatnonzero(ended)
        index = index[np.argsort(-slots[index])]  # the earlier stage is written last
        ids, places = self._split(slots[index])
        lost = _host(state["invalid"])[index] & (places < self.first[ids])
        if lost.any():
            gone = ids[lost]
            if len(self.pool) > 1:  # then only may a later stage have found something already
                self.found[gone], self.size[gone], self.broken_by[gone], self.points[gone] = (
                    False,
                    np.inf,
                    "",
                    self.x[gone],
                )
            self.invalid[gone], self.first[gone] = True, places[lost]
        wins = _host(state["found"])[index] & (places < self.first[ids])
        won, ids, places = index[wins], ids[wins], places[wins]
        if not len(won):
            return
        size = _host(state["size"])[won]
        better = (
            ~self.found[ids] | (size < self.size[ids])
            if len(self.pool) == 1
            else np.ones(len(won), bool)
        )
        won, ids, places, size = won[better], ids[better], places[better], size[better]
        points = self.grid.returned(_host(_backend.gather(state["best"], won)))
        self.points[ids] = self.grid.settled(points, self.x[ids], self.budget)
        self.found[ids] = True
        self.size[ids] = size
        self.first[ids] = places
        self.broken_by[ids] = np.array([stage.label for stage in self.pool], object)[places]


def _host(tensor: Tensor) -> Array:
    return _backend.to_numpy(tensor)


def _count(state: State) -> int:
    return int(state["x0"].shape[0])


def _alike(attack: Steps, name: str, value: Tensor, like: Tensor) -> Tensor:
    value = ops.convert_to_tensor(value)
    have = (tuple(value.shape[1:]), keras.backend.standardize_dtype(value.dtype))
    want = (tuple(like.shape[1:]), keras.backend.standardize_dtype(like.dtype))
    if len(value.shape) != len(like.shape) or have != want:
        raise AttackError(
            f"{type(attack).__name__} returned {name} of shape (batch,"
            f" {', '.join(map(str, have[0]))}) and dtype {have[1]};"
            f" expected shape (batch, {', '.join(map(str, want[0]))}) and dtype {want[1]}"
        )
    return value


def _blaming(attack: Steps, part: str) -> contextlib.AbstractContextManager[None]:
    """Name the part of an attack that fails, if the attack is the user's own."""
    kind = type(getattr(attack, "attack", attack))
    own = kind.__module__.split(".")[0] == "advex"
    return contextlib.nullcontext() if own else blaming(f"{kind.__name__}.{part}")


def _whole(attack: Steps, state: State, count: int) -> State:
    """``state``, if the first axis of all that the attack returned is the batch."""
    for name in ("x", "memory"):
        for leaf in tree.flatten(state[name]):
            if len(leaf.shape) == 0 or int(leaf.shape[0]) != count:
                raise AttackError(
                    f"{type(attack).__name__} returned {name} of shape {tuple(leaf.shape)} for a"
                    f" batch of {count}: the first"
                    " axis must be the batch, so that rows can leave and join (a number common to"
                    " all rows is a setting)"
                )
    return state


def _ordered(memory: Any) -> Any:
    """``memory`` with its dicts in the order of their keys: not every backend's tree functions look
    at keys.
    """
    if isinstance(memory, dict):
        return {key: _ordered(memory[key]) for key in sorted(memory)}
    if type(memory) in (list, tuple):
        return type(memory)(map(_ordered, memory))
    return memory


def _same_memory(attack: Steps, memory: Any, before: Any) -> Any:
    try:
        tree.assert_same_structure(memory, before)
    except (ValueError, TypeError):
        raise AttackError(
            f"{type(attack).__name__}: step returned a memory of another structure than init (or"
            f" than it received)"
        ) from None
    return tree.map_structure(lambda new, old: _alike(attack, "memory", new, old), memory, before)


def row_keys(x0: Array, seed: int) -> Array:
    """Two int32 per row, from the seed and the row's content alone: (n, 2)."""
    digests = [
        hashlib.blake2b(
            row.tobytes(), digest_size=8, key=int(seed).to_bytes(16, "little", signed=True)
        ).digest()
        for row in np.ascontiguousarray(x0 + np.float32(0))  # -0.0 becomes 0.0
    ]
    return np.frombuffer(b"".join(digests), "int32").reshape(-1, 2)


class _Report:
    """Tells the outside how far the search is: a bar, a function, or nobody."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.total = total
        self.bar: Any = None
        self.began = time.monotonic()
        self.call = progress if callable(progress) else None
        self.wanted = progress is True
        self.allowed = progress is None and (sys.stdout.isatty() or "ipykernel" in sys.modules)

    def __call__(self, done: int, found: int) -> None:
        if self.call is not None:
            self.call(done, self.total, found)
        if self.bar is None and (
            self.wanted or (self.allowed and time.monotonic() - self.began > PATIENCE)
        ):
            self.bar = keras.utils.Progbar(
                self.total, unit_name="example", stateful_metrics=["fooled"]
            )
        if self.bar is not None:
            self.bar.update(done, [("fooled", found)], finalize=done == self.total)


def search(
    classifier: Classifier,
    attack: Any,
    stages: list[Stage],
    x: Array,
    goal: Goal | None,
    budget: Budget,
    *,
    seed: int,
    batch_size: int | None,
    progress: Progress,
    start: Array | None = None,
) -> Result:
    """Run the stages one after the other over the rows that still need it, and judge what they
    found.

    ``x`` and ``start``, where to begin, have been checked; ``goal`` None stands for the model's own
    predictions.
    """
    grid = Grid(x.dtype, classifier.box)
    info: dict[str, Any] = {
        "attack": repr(attack),
        "budget": repr(budget),
        "seed": seed,
        "backend": _backend.NAME,
        "versions": {"keras": keras.__version__, "numpy": np.__version__, "advex": VERSION},
        "warnings": [],
        "notes": [],
    }
    if not len(x):
        info |= {
            "head": None,
            "goal": repr(goal),
            "fragile": [],
            "invalid": [],
            "suspicious": [],
            "checks": {"queries": 0},
            "stages": [],
        }
        return Result.empty(classifier, x, goal or Untargeted(np.zeros(0, "int32")), budget, info)

    batch = batch_size or default_batch(x.shape[1:])
    if not _backend.RAGGED:  # a black box is never asked about more rows at once than was said
        batch = min(power_of_two(batch) if classifier.symbolic else batch, power_of_two(len(x)))
    # whatever becomes of the user's own arrays meanwhile
    x, start = (
        x.copy(),
        None if start is None else start.copy(),
    )
    forward = classifier.forward(grid.working(x[:CHECKED]))
    if goal is not None:
        goal = goal.check(len(x), forward.classes)
    ranked = min(
        1 + max((stage.aim for stage in stages if stage.aim is not None), default=-1),
        forward.classes - 1,
    )
    judge, before, odd, spent = _looked_at(classifier, grid, x, goal, batch, ranked)
    forward, own = judge.forward, goal is None
    goal = Untargeted(before["prediction"]) if goal is None else goal
    # By now a black box has shown what its scores are, and a model that has changed what it is.
    goal = goal.check(len(x), forward.classes).of(forward.independent)
    _demand_attackable(before)
    labels = goal.labels if isinstance(goal, Untargeted) and not own else None
    said = _about_the_start(before, labels, forward.classes, budget, grid) + (
        [forward.note] if forward.doubtful else []
    )
    said = [odd, *said] if odd else said
    info["notes"] += [forward.note] if forward.note and not forward.doubtful else []
    info["notes"] += goal.notes
    if not classifier.symbolic:
        info["notes"].append(
            "A black box is asked for nothing beyond the attack: the checks of its honesty were"
            " left out."
        )
    if own:
        info["notes"].append(
            "No labels were given: the model's own predictions are attacked, right or wrong."
        )
    if goal.targeted and before["reached"].any():
        info["notes"].append(
            f"{int(before['reached'].sum())} of {len(x)} targets are what the model predicts"
            f" already."
        )

    run = Search(classifier, grid, x, goal, budget, seed, batch, _Report(progress, len(x)), start)
    run.queries += 1
    run.found |= before["reached"]
    run.size[before["reached"]] = 0
    run.broken_by[before["reached"]] = "clean"
    run.ranking = before["ranking"]
    possible = _possible(stages, goal, ranked, info["notes"])
    said += run.unseeded(possible)
    for pool in _pools(possible, classifier.symbolic and budget.limited):
        run.run(pool)

    # The final word: on the very array that is returned, by the model itself.
    clean, success, fragile = before["reached"], run.found.copy(), np.zeros(len(x), bool)
    moved = np.flatnonzero(success & ~clean)
    run.queries[moved] += 1
    after = judge(run.points[moved], _part(goal, moved)) if len(moved) else None
    if after is not None and classifier.symbolic and odd not in (NEIGHBOURS, RANDOM):
        same, more = alike(classifier, judge, run.points[moved], after["logits"])
        spent += more
        if not same:  # it shows beside the boundary only
            judge.singly, spent = True, spent + len(x) + len(moved)
            said.insert(0, NEIGHBOURS)
            before = judge(x, goal, ranked)
            after = judge(run.points[moved], _part(goal, moved))
            fragile |= clean & ~before["reached"]  # never attacked
            clean, success = before["reached"], (success & ~clean) | before["reached"]
    prediction, confidence = before["prediction"].copy(), before["confidence"].copy()
    if after is not None:
        holds = (after["reached"] & grid.within(run.points[moved], x[moved], budget)) & ~clean[
            moved
        ]
        success[moved] = holds | clean[moved]
        fragile[moved] = ~(holds | clean[moved])
        prediction[moved[holds]] = after["prediction"][holds]
        confidence[moved[holds]] = after["confidence"][holds]
        run.points[moved[~holds]] = x[moved[~holds]]
    run.broken_by[~success] = ""
    run.broken_by[clean] = "clean"
    spent, forward.spent = spent + judge.spent + forward.spent, 0

    distance = np.where(success, 0.0, np.inf)
    changed = np.flatnonzero(success & ~clean)
    distance[changed] = grid.distance(run.points[changed], x[changed], budget)
    if budget.limited:  # the points are inside, checked exactly: a quotient may still round up
        distance[changed] = np.minimum(distance[changed], budget.epsilon)

    losses = [getattr(stage.attack, "loss", None) for stage in stages]
    needed = max(
        (
            4 if stage.aim is not None else needed_classes(goal)
            for stage in stages
            if dlr is getattr(stage.attack, "loss", None)
        ),
        default=0,
    )
    if forward.classes < needed:
        info["notes"].append(
            f"The DLR loss needs {needed} classes and the model has {forward.classes}: the margin"
            f" took its place."
        )
    if cross_entropy in losses and before["saturated"].any():
        said.append(
            f"The cross-entropy of {int(before['saturated'].sum())} inputs is saturated, its"
            f" gradient underflows;"
            " the margin was used for them."
        )
    invalid = run.invalid & ~success
    said += _about_the_end(run.flat & ~invalid, invalid, fragile)
    info |= {
        "head": forward.head,
        "goal": repr(goal) + (" (the model's own predictions)" if own else ""),
        "warnings": said,
        "fragile": np.flatnonzero(fragile).tolist(),
        "invalid": np.flatnonzero(invalid).tolist(),
        "suspicious": np.flatnonzero(run.doubt).tolist(),
        "clean_wrong": int(clean.sum()),
        "checks": {"queries": spent},
        "stages": run.account,
    }
    for sentence in said:
        warnings.warn(sentence, ModelWarning, stacklevel=4)
    return Result(
        classifier=classifier,
        original=x,
        goal=goal,
        budget=budget,
        x=run.points,
        success=success,
        prediction=prediction,
        confidence=confidence.astype("float64"),
        distance=distance,
        gradients=run.gradients,
        queries=run.queries,
        before=before["prediction"],
        before_confidence=before["confidence"].astype("float64"),
        broken_by=run.broken_by.astype(str),
        info=info,
    )


def _looked_at(
    classifier: Classifier, grid: Grid, x: Array, goal: Goal | None, batch: int, ranked: int
) -> tuple[Judge, dict[str, Array], str, int]:
    """The first look at the inputs, and at the model: what judges, what it says, what is odd about
    the model, queries spent.
    """
    sample = grid.working(x[:CHECKED])
    judge = Judge(classifier, grid, batch, sample)
    before = judge(x, goal, ranked)
    if not classifier.symbolic:
        return judge, before, "", 0
    again = 0
    if classifier.renewed(sample, before["logits"]):
        judge, again = Judge(classifier, grid, batch, sample), len(x)
        before = judge(x, goal, ranked)
    some = telling(len(x), CHECKED, judge.size(len(x)))
    odd, spent = honesty(
        classifier, judge, x[some], before["logits"][some], whole=len(some) == len(x)
    )
    spent += again
    if odd == NEIGHBOURS:
        judge.singly, spent = True, spent + len(x)
        before = judge(x, goal, ranked)
    if not odd and not _backend.RAGGED:
        old, more = stale(classifier, judge, x[some], before["logits"][some])
        odd, spent = STALE if old else "", spent + more
    # the model has been changed since it was compiled; or compilation changes its answer
    if odd == STALE:
        classifier.forget()
        spent += judge.spent
        judge = Judge(classifier, grid, batch, sample)
        before = judge(x, goal, ranked)
        old, more = stale(classifier, judge, x[some], before["logits"][some])
        odd, spent = COMPILED if old else "", spent + more + len(x)
    spent += judge.forward.fold(ops.convert_to_tensor(sample), before["logits"][: len(sample)])
    return judge, before, odd, spent


def _part(goal: Goal, rows: Array) -> Goal:
    """The goal of some of its examples."""
    return goal.bound({name: values[rows] for name, values in goal.rows().items()})


def _possible(stages: list[Stage], goal: Goal, ranked: int, notes: list[str]) -> list[Stage]:
    """The stages that make sense for goal and number of classes: to leave a label, one class after
    another can be tried.
    """
    if not leaves(goal):
        if not goal.targeted and any(stage.aim for stage in stages):
            notes.append(
                f"{type(goal).__name__} has a margin of its own: it was pursued in place of one"
                f" class after another."
            )
        return [dataclasses.replace(stage, aim=None) for stage in stages if not stage.aim]
    kept = [stage for stage in stages if stage.aim is None or stage.aim < ranked]
    if len(kept) < len(stages):
        notes.append(
            f"The model has only {ranked} wrong classes: each of them was tried as a target."
        )
    return kept


def _pools(stages: list[Stage], shared: bool) -> list[list[Stage]]:
    """Consecutive stages that may run side by side, if any may: repetitions of one attack but for
    the first, which tells hard rows from easy ones.
    """

    def kind(stage: Stage) -> tuple[Any, ...]:
        return id(stage.attack), stage.aim is None, stage.doubtful, stage.group, stage.only

    pools: list[list[Stage]] = []
    for stage in stages:
        hard = len(pools) > 1 and pools[-2][0].attack is stage.attack
        if shared and hard and not stage.warm and kind(pools[-1][0]) == kind(stage):
            pools[-1].append(stage)
        else:
            pools.append([stage])
    return pools


def _demand_attackable(before: dict[str, Array]) -> None:
    """Raise if something about the clean inputs makes the attack meaningless."""
    count = len(before["broken"])
    if before["broken"].any():
        bad = np.flatnonzero(before["broken"])
        raise InvalidInput(
            f"the model answers NaN for {len(bad)} of {count} clean inputs, first at"
            f" {bad[:5].tolist()}:"
            " nothing can be said about them; leave them out, or mend the model"
        )


def _about_the_start(
    before: dict[str, Array], labels: Array | None, classes: int, budget: Budget, grid: Grid
) -> list[str]:
    """What is doubtful before the attack, in sentences."""
    said = []
    if (
        labels is not None
        and len(labels) >= 10
        and (accuracy := (before["prediction"] == labels).mean()) < 1 / classes
    ):
        said.append(
            f"The model gets {accuracy:.1%} of these inputs right before any attack, less than"
            f" chance:"
            " do labels, box and preprocessing belong to this model?"
        )
    if grid.levels and budget.limited and budget.epsilon > 0 and budget.levels() == 0:
        said.append(f"{budget!r} is less than one grey level: 8-bit inputs cannot move at all.")
    return said


def _about_the_end(flat: Array, invalid: Array, fragile: Array) -> list[str]:
    """What is doubtful after the attack, in sentences."""
    said = []
    if flat.any():
        said.append(
            f"The gradient was exactly zero at the start for {int(flat.sum())} of {len(flat)}"
            f" inputs:"
            " gradient attacks cannot say how far the model holds there."
        )
    if invalid.any():
        said.append(
            f"The model answered NaN during the search for {int(invalid.sum())} inputs; they count"
            f" as failed."
        )
    if fragile.any():
        said.append(
            f"{int(fragile.sum())} successes did not survive the final judgement (outside the"
            f" budget, or a margin within"
            " rounding errors); they count as failed."
        )
    return said
