"""Goals made of goals: any of them, all of them, one about a certain output of the model."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from keras import ops

from advex._arrays import Array, Tensor
from advex._keywords import public_name
from advex._settings import shown
from advex.errors import InvalidType
from advex.goals.base import Goal, Reading, Seen, part_name
from advex.goals.classes import Untargeted, entropy_of

SEVERAL_OUTPUTS = "{}(advex.Output('age', labels), advex.Output('sex', labels))"
MADE_OF = {
    "Regression": "values, off=0.5",
    "TopK": "labels, k=2",
    "Output": "'age', labels",
    "AnyOf": "*goals",
    "AllOf": "*goals",
}
"""What a goal is made of, where that is not labels alone."""


@dataclass(frozen=True, eq=False, repr=False)
class Output(Goal):
    """A goal about one output of a model that has several.

    When to use it:
        For models with several heads. Alone it is as if the model had no other: `Classifier(model,
        output=name)` and the goal. Within `AnyOf` and `AllOf` it says which output each of the
        goals is about.

    No formula:
        The formula is that of the goal inside, of this output alone.

    Args:
        name: the name of the output, or its number from 0.
        goal: what is wanted of it: a `Goal`, or labels for `Untargeted`.

    Raises:
        InvalidType: a name that is neither text nor a number; a goal that is none, or that is about
            several outputs.

    Example:
        >>> import advex
        >>> Output("age", advex.Regression([31.0], off=10))
        Output('age', Regression(1 examples, off=10))
    """

    name: str | int
    goal: Any

    def __post_init__(self) -> None:
        if isinstance(self.name, bool) or not isinstance(self.name, str | int):
            raise InvalidType(
                f"Output needs the name of an output, or its number; received {shown(self.name)}"
            )
        object.__setattr__(self, "goal", _checked(self.goal, f"Output({shown(self.name)}, ...)"))
        if isinstance(self.goal, Output | _Joined):
            raise InvalidType(
                f"Output takes a goal about one output; {SEVERAL_OUTPUTS.format('advex.AnyOf')}"
                " joins several"
            )

    @property
    def reading(self) -> Reading:
        return ((self.name, self.goal.reading),)

    def _of(self, answer: Any) -> Any:
        return answer[part_name(self.name, self.goal.reading)]

    def margin(self, logits: Tensor) -> Tensor:
        return self.goal.margin(self._of(logits))

    def surplus(self, answer: Tensor) -> Tensor:
        return self.goal.surplus(self._of(answer))

    def reached(self, logits: Tensor, slack: float = 1.0) -> Tensor:
        return self.goal.reached(self._of(logits), slack)

    def entropy(self, answer: Tensor) -> Tensor:
        return entropy_of(self._of(answer), self.goal)

    def damage(self, answer: Tensor) -> Tensor:
        return self.goal.damage(self._of(answer))

    @property
    def forks(self) -> bool:  # type: ignore[override]
        return bool(self.goal.forks)

    def ways(self, answer: Tensor) -> Tensor | None:
        return self.goal.ways(self._of(answer)) if self.forks else None

    def entropies(self, answer: Tensor) -> Tensor | None:
        return self.goal.entropies(self._of(answer)) if self.forks else None

    def branches(self, classes: Any) -> int:
        return self.goal.branches(_classes(self, classes) or 0) if self.forks else 0

    def of(self, head: Seen) -> Self:
        return self._with(self.goal.of(head.parts[part_name(self.name, self.goal.reading)]))

    def check(self, count: int, classes: Any) -> Self:
        return self._with(self.goal.check(count, _classes(self, classes)))

    def suit(self, shapes: Any) -> None:
        self.goal.suit(shapes[part_name(self.name, self.goal.reading)])

    @property
    def open(self) -> bool:
        return bool(self.goal.open)

    @property
    def about_own(self) -> bool:
        return bool(self.goal.about_own)

    def closed(self, answer: Any) -> Goal:
        return self._with(self.goal.closed(self._of(answer)))

    def rows(self) -> dict[str, Array]:
        return self.goal.rows()

    def bound(self, rows: Mapping[str, Any]) -> Self:
        return self._with(self.goal.bound(rows))

    def _with(self, goal: Goal) -> Self:
        twin = copy.copy(self)
        object.__setattr__(twin, "goal", goal)
        return twin

    def key(self) -> Hashable:
        return type(self), self.name, self.goal.key()

    @property
    def notes(self) -> tuple[str, ...]:
        return self.goal.notes

    def said(self, answer: Any) -> tuple[Any, Any]:
        return self.goal.said(self._of(answer))

    def words(self, prediction: Any, confidence: Any, name: Callable[[int], str]) -> str:
        return self.goal.words(prediction, confidence, name)

    def __repr__(self) -> str:
        return f"Output({shown(self.name)}, {self.goal!r})"


class _Joined(Goal):
    """What ``AnyOf`` and ``AllOf`` have in common."""

    goals: tuple[Any, ...]

    def __init__(self, *goals: Any) -> None:
        name = type(self).__name__
        if not goals:
            raise InvalidType(
                f"{name} needs goals, such as {SEVERAL_OUTPUTS.format(public_name(type(self)))};"
                " received none"
            )
        object.__setattr__(self, "goals", tuple(_checked(goal, f"{name}(...)") for goal in goals))

    @property
    def reading(self) -> Reading:
        parts = [_parts(goal) for goal in self.goals]
        if all(part == ((None, self.goals[0].reading),) for part in parts):
            return self.goals[0].reading
        return tuple(dict.fromkeys(each for part in parts for each in part))

    def _each(self, answer: Any) -> list[tuple[Any, Any]]:
        """The goals, each with what it is told of an answer."""
        if isinstance(self.reading, str):
            return [(goal, answer) for goal in self.goals]
        return [(goal, _share(goal, answer)) for goal in self.goals]

    @property
    def more_than_a_class(self) -> str:
        return next(filter(None, (goal.more_than_a_class for goal in self.goals)), "")

    def of(self, head: Seen) -> Self:
        if isinstance(self.reading, str):
            return self._with([goal.of(head) for goal in self.goals])
        parts = [
            goal.of(head)
            if isinstance(goal.reading, tuple)
            else goal.of(head.parts[part_name(None, goal.reading)])
            for goal in self.goals
        ]
        return self._with(parts)

    def check(self, count: int, classes: Any) -> Self:
        if isinstance(self.reading, str):
            return self._with([goal.check(count, classes) for goal in self.goals])
        parts = [
            goal.check(
                count, classes if isinstance(goal.reading, tuple) else _classes(goal, classes)
            )
            for goal in self.goals
        ]
        return self._with(parts)

    def suit(self, shapes: Any) -> None:
        for goal, shape in self._each(shapes):
            goal.suit(shape)

    @property
    def open(self) -> bool:
        return any(goal.open for goal in self.goals)

    @property
    def about_own(self) -> bool:
        return any(goal.about_own for goal in self.goals)

    def closed(self, answer: Any) -> Goal:
        return self._with(
            [goal.closed(part) if goal.open else goal for goal, part in self._each(answer)]
        )

    def rows(self) -> dict[str, Array]:
        return {
            f"{number}.{name}": values
            for number, goal in enumerate(self.goals)
            for name, values in goal.rows().items()
        }

    def bound(self, rows: Mapping[str, Any]) -> Self:
        made = []
        for number, goal in enumerate(self.goals):
            start = f"{number}."
            mine = {
                name.removeprefix(start): values
                for name, values in rows.items()
                if name.startswith(start)
            }
            made.append(goal.bound(mine))
        return self._with(made)

    def _with(self, goals: list[Any]) -> Self:
        twin = copy.copy(self)
        object.__setattr__(twin, "goals", tuple(goals))
        return twin

    def key(self) -> Hashable:
        return type(self), tuple(goal.key() for goal in self.goals)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(note for goal in self.goals for note in goal.notes))

    def said(self, answer: Any) -> tuple[Any, Any]:
        if isinstance(self.reading, str):
            return self.goals[0].said(answer)
        told: dict[str, tuple[Any, Any]] = {}
        for number, (goal, part) in enumerate(self._each(answer)):
            name = str(goal.name) if isinstance(goal, Output) else f"goal {number + 1}"
            told.setdefault(name, goal.said(part))
        return (
            {name: each[0] for name, each in told.items()},
            {name: each[1] for name, each in told.items()},
        )

    def words(self, prediction: Any, confidence: Any, name: Callable[[int], str]) -> str:
        if not isinstance(prediction, dict):
            return self.goals[0].words(prediction, confidence, name)
        named: dict[str, Any] = {}
        for number, goal in enumerate(self.goals):
            called = str(goal.name) if isinstance(goal, Output) else f"goal {number + 1}"
            named.setdefault(called, goal)
        return ", ".join(
            f"{key} {named[key].words(value, confidence[key], str)}"
            for key, value in prediction.items()
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.goals))})"


@dataclass(frozen=True, eq=False, repr=False, init=False)
class AnyOf(_Joined):
    r"""Success is that any of several goals is reached.

    When to use it:
        When one failure is enough, such as a wrong age or a wrong name, of one output or several.

    $$ f(z) = \max_k f_k(z) $$

    $f_k$ is the margin of goal $k$. An attack is sent after each of them in a run of its own, with
    the loss that is right for it. So it finds at least what it would find for each alone.

    Args:
        *goals: goals about the same output, or an `Output` for each.

    Raises:
        InvalidType: no goals, or something that is neither goal nor labels.

    Example:
        >>> import advex
        >>> old = advex.Output("age", advex.Regression(above=60))
        >>> AnyOf(old, advex.Output("sex", [1, 0])).goals[1]
        Output('sex', Untargeted(2 examples))
    """

    goals: tuple[Any, ...]
    forks: ClassVar[bool] = True

    def margin(self, logits: Tensor) -> Tensor:
        return ops.max(self.ways(logits), axis=1)

    def reached(self, logits: Tensor, slack: float = 1.0) -> Tensor:
        return _many(ops.logical_or, [g.reached(part, slack) for g, part in self._each(logits)])

    def ways(self, answer: Tensor) -> Tensor:
        parts: list[Tensor] = []
        for goal, part in self._each(answer):
            own = goal.ways(part) if goal.forks else None
            parts.append(ops.expand_dims(goal.surplus(part), 1) if own is None else own)
        return ops.concatenate(parts, axis=1)

    def entropies(self, answer: Tensor) -> Tensor:
        parts: list[Tensor] = []
        for goal, part in self._each(answer):
            own = None
            if goal.forks:
                own = goal.entropies(part)
                own = goal.ways(part) if own is None else own
            if own is None:
                own = ops.expand_dims(entropy_of(part, goal), 1)
            parts.append(own)
        return ops.concatenate(parts, axis=1)

    def entropy(self, answer: Tensor) -> Tensor:
        return self.margin(answer)

    def branches(self, classes: int) -> int:
        return sum(goal.branches(classes) if goal.forks else 1 for goal in self.goals)

    def damage(self, answer: Tensor) -> Tensor:
        return _many(ops.maximum, [goal.damage(part) for goal, part in self._each(answer)])


@dataclass(frozen=True, eq=False, repr=False, init=False)
class AllOf(_Joined):
    r"""Success is that all of several goals are reached, by one and the same input.

    When to use it:
        When one failure alone would be noticed: two heads that must agree, or a class and a rank.

    $$ f(z) = \min_k f_k(z), \qquad \ell(z) = \sum_k \min(f_k(z), 0) + \max(f(z), 0) $$

    $f_k$ is the margin of goal $k$, and $\ell$ is `losses.cross_entropy` of this goal: what is
    missing of all of them together, each until it is reached.

    Args:
        *goals: goals about the same output, or an `Output` for each.

    Raises:
        InvalidType: no goals, or something that is neither goal nor labels.

    Example:
        >>> import advex
        >>> AllOf(advex.TopK([3], k=2), advex.Untargeted([5]))
        AllOf(TopK(1 examples, k=2), Untargeted(1 examples))
    """

    goals: tuple[Any, ...]

    def margin(self, logits: Tensor) -> Tensor:
        return _many(ops.minimum, [goal.surplus(part) for goal, part in self._each(logits)])

    def reached(self, logits: Tensor, slack: float = 1.0) -> Tensor:
        return _many(ops.logical_and, [g.reached(part, slack) for g, part in self._each(logits)])

    def entropy(self, answer: Tensor) -> Tensor:
        missing = [ops.minimum(goal.surplus(part), 0.0) for goal, part in self._each(answer)]
        return _many(ops.add, missing) + ops.maximum(self.margin(answer), 0.0)

    def damage(self, answer: Tensor) -> Tensor:
        return _many(ops.minimum, [goal.damage(part) for goal, part in self._each(answer)])


def _checked(goal: Any, whose: str) -> Goal:
    """A goal; labels are ``Untargeted``."""
    if isinstance(goal, Goal):
        return goal
    demand_made(goal)
    if goal is None or isinstance(goal, str | bytes | type):
        raise InvalidType(
            f"{whose} needs goals or labels, such as advex.Untargeted(labels); received"
            f" {shown(goal)}"
        )
    return Untargeted(goal)


def demand_made(goal: Any) -> None:
    """Raise if this is what a goal is made of: a class of goals, or a function that makes one;
    labels, or goals, of several outputs.
    """
    if isinstance(goal, type) and issubclass(goal, Goal):
        name = public_name(goal)
        settings = MADE_OF.get(goal.__name__, "labels") if name != goal.__name__ else "..."
        raise InvalidType(
            f"the goal is the class {goal.__name__}: make one of it, {name}({settings})"
        )
    if isinstance(goal, dict) and goal:
        goals = any(isinstance(each, Goal) for each in goal.values())
        kind = "goals" if goals else "labels"
        each = ", ".join(f"advex.Output({shown(name)}, {kind}[{shown(name)}])" for name in goal)
        told = each if len(goal) == 1 else f"advex.AnyOf({each})"
        raise InvalidType(
            f"a dict of {kind} is a goal for each output: {told}"
            f"{'' if goals else '; numbers are advex.Regression(values, off=0.5) within'}"
        )
    if isinstance(goal, list | tuple) and any(isinstance(each, Goal) for each in goal):
        raise InvalidType(
            f"a {type(goal).__name__} of goals is one goal as advex.AnyOf(*goals), any of them, or"
            " advex.AllOf(*goals)"
        )
    if inspect.isroutine(goal) or isinstance(goal, functools.partial):
        raise InvalidType(
            f"the goal is a function, {shown(goal, 60)}: advex.evaluate calls one with the labels"
            " of each block, an attack needs what it returns, goal(labels)"
        )


def _parts(goal: Goal) -> tuple[tuple[str | int | None, str], ...]:
    reading = goal.reading
    return ((None, reading),) if isinstance(reading, str) else reading


def _classes(goal: Goal, classes: Any) -> int | None:
    """How many classes there are for a goal about one output, where it is known of each."""
    if not isinstance(classes, dict):
        return None
    ((name, reading),) = _parts(goal)
    found: int = classes[part_name(name, reading)]
    return found


def _share(goal: Goal, answer: Any) -> Any:
    """What a goal is told of an answer that is a dict of parts."""
    if isinstance(goal.reading, tuple):
        return answer
    return answer[part_name(None, goal.reading)]


def _many(combine: Callable[[Tensor, Tensor], Tensor], values: list[Tensor]) -> Tensor:
    made = values[0]
    for value in values[1:]:
        made = combine(made, value)
    return made
