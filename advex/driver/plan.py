"""What runs: an attack answers ``plan(budget)`` with waves of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from advex._arrays import Array, Tensor
from advex.driver.problem import Problem, Terms
from advex.goals import Goal, Untargeted, leaves
from advex.model.protocol import Gives


class Leaf(Protocol):
    """What the driver needs of an attack."""

    @property
    def rounds(self) -> int:
        """How many steps it takes at most."""

    @property
    def needs(self) -> Gives:
        """What it needs of a model."""

    @property
    def query_limit(self) -> int | None:
        """How many queries a run of it spends at most, on each example; None: what its steps
        spend.
        """

    @property
    def notes(self) -> Mapping[str, np.ufunc | None]:
        """What of its memory a run hands on to the runs that go on from it, and how the notes of
        several become one (None: any of them).
        """

    def check_inputs(self, shape: tuple[int, ...]) -> None:
        """Raise an error if it cannot work on inputs of ``shape``."""

    def init(self, problem: Problem, /) -> tuple[Tensor, Any]:
        """First points and memory."""

    def step(self, problem: Problem, x: Tensor, memory: Any, /) -> tuple[Tensor, Any]:
        """Next points and memory."""

    def done(self, problem: Problem, x: Tensor, memory: Any, /) -> Tensor | None:
        """Which examples need no further step, or None."""


def terms(attack: Leaf, marks: tuple[int, ...] = ()) -> Terms:
    """What the problems of an attack must know of it."""
    return Terms(attack.rounds, attack.query_limit, attack.needs == "labels", marks)


@dataclass(frozen=True)
class Run:
    """One attack over one example, and the numbers that tell it from its siblings.

    Args:
        attack: a leaf.
        salt: tells apart the random numbers of runs of one attack.
        repetition: which repetition this is, 0 for the first: ``problem.run``.
        rank: pursue one class only, 0 for the likeliest wrong class of the clean input, 1 for the
            next. None: the goal's own.
        begin: its first step. A run that does not begin with step 0 goes on where the attack's runs
            before it ended: with their notes, and with their line in the account.
        steps: how many steps it takes at most. None: as many as the attack.
        numbers: the attack's own, ``problem.numbers``.
        word: what the rank is one of, for reports.
    """

    attack: Leaf
    salt: int = 0
    repetition: int = 0
    rank: int | None = None
    begin: int = 0
    steps: int | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    word: str = "target"

    @property
    def end(self) -> int:
        """One past its last step."""
        return self.begin + (self.attack.rounds if self.steps is None else self.steps)

    @property
    def label(self) -> str:
        """Name, loss and target, for reports."""
        loss = getattr(getattr(self.attack, "loss", None), "__name__", "")
        target = "" if self.rank is None else f"{self.word} {self.rank + 1}"
        inner = ", ".join(filter(None, [loss, target]))
        return type(self.attack).__name__ + (f"({inner})" if inner else "")


class Known(Protocol):
    """What a plan may ask of the ledger, row by row."""

    found: Array
    doubt: Array
    notes: dict[str, Array]


Who = Callable[[Known], Array]


@dataclass(frozen=True)
class Wave:
    """Runs of one attack that may go side by side. Waves go one after the other, each over the
    examples that still stand.

    Args:
        runs: at least one, all of the same attack.
        who: which examples take part, (n,) of bool by what the ledger knows. None: all that stand.
        warm: begin at the best points of the waves before, where there are any.
        suits: the goals that it is for. None: all.
        discrete: whether it is only for inputs with features that are whole, or in groups.
    """

    runs: tuple[Run, ...]
    who: Who | None = None
    warm: bool = False
    suits: Callable[[Goal], bool] | None = None
    discrete: bool = False

    @property
    def attack(self) -> Leaf:
        return self.runs[0].attack

    @property
    def aimed(self) -> bool:
        """Whether each run pursues one class."""
        return self.runs[0].rank is not None

    @property
    def goes_on(self) -> bool:
        return self.runs[0].begin > 0

    def each(self, change: Callable[..., Run], *given: Any) -> Wave:
        """The same wave with ``change(run, *given)`` in place of each run."""
        return replace(self, runs=tuple(change(run, *given) for run in self.runs))


def gathered(waves: Iterable[Wave]) -> list[Wave]:
    """Neighbouring waves of one attack as one wave, so that their runs may go side by side.

    The first wave of an attack stays alone: it tells hard rows from easy ones.
    """
    made: list[Wave] = []
    for wave in waves:
        hard = len(made) > 1 and made[-2].attack is wave.attack
        if hard and _alike(made[-1], wave):
            made[-1] = replace(made[-1], runs=made[-1].runs + wave.runs)
        else:
            made.append(wave)
    return made


def _alike(one: Wave, other: Wave) -> bool:
    apart = one.warm or other.warm or one.goes_on or other.goes_on
    same = one.attack is other.attack and one.who is other.who and one.aimed == other.aimed
    same = same and one.suits is other.suits
    return same and not apart


def one_by_one(waves: Iterable[Wave]) -> list[Wave]:
    """The same runs, each in a wave of its own: no run starts once an earlier success makes
    it unnecessary.
    """
    return [replace(wave, runs=(run,)) for wave in waves for run in wave.runs]


def suitable(waves: list[Wave], goal: Goal | None, discrete: bool = False) -> list[Wave]:
    """The waves that are for this goal (None: to leave the model's own predictions), and for inputs
    that are ``discrete`` or not.
    """
    goal = Untargeted(np.zeros(0, "int32")) if goal is None else goal
    waves = [wave for wave in waves if discrete or not wave.discrete]
    return [wave for wave in waves if wave.suits is None or wave.suits(goal)]


def forked(waves: list[Wave], goal: Goal, ways: int) -> list[Wave]:
    """Each run once along each of the ways to the goal, where no gradient can tell which is nearer;
    the most promising first.
    """
    if not goal.forks or ways < 1:
        return waves

    def sent(run: Run, way: int) -> Run:
        # It draws what it draws alone: so it finds what it finds alone.
        return replace(run, rank=way, word="way")

    made: list[Wave] = []
    for chain in chains(waves):
        if chain[0].aimed:
            made += chain
            continue
        each = [wave.each(sent, way) for way in range(ways) for wave in chain]
        apart = len(chain) > 1 or chain[0].warm or len(chain[0].runs) > 1
        made += each if apart else gathered(each)
    return made


def chains(waves: Iterable[Wave]) -> list[list[Wave]]:
    """Waves with those that go on where they ended, and take over their notes."""
    made: list[list[Wave]] = []
    for wave in waves:
        if wave.goes_on and made:
            made[-1].append(wave)
        else:
            made.append([wave])
    return made


def sensible(waves: list[Wave], goal: Goal, ranked: int, notes: list[str]) -> list[Wave]:
    """The runs that make sense for the goal and the number of ways to it, ``ranked``; what was left
    out is said in ``notes``.
    """
    runs = [run for wave in waves for run in wave.runs]
    if ranked and (leaves(goal) or goal.branches(ranked + 1)):
        told = (
            f"The model has only {ranked} wrong classes: each of them was tried as a target."
            if leaves(goal)
            else f"There are only {ranked} ways to the goal: each of them was tried."
        )

        def kept(run: Run) -> bool:
            return run.rank is None or run.rank < ranked

        if not all(map(kept, runs)):
            notes.append(told)
        chosen = [replace(wave, runs=tuple(filter(kept, wave.runs))) for wave in waves]
        return [wave for wave in chosen if wave.runs]
    if not goal.targeted and any(run.rank for run in runs):
        notes.append(
            f"{type(goal).__name__} has a margin of its own: it was pursued in place of one class"
            " after another."
        )
    chosen = [replace(wave, runs=tuple(run for run in wave.runs if not run.rank)) for wave in waves]
    return [wave.each(lambda run: replace(run, rank=None)) for wave in chosen if wave.runs]
