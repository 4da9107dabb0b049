"""What a run is to achieve: a goal for the labels of each block."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from advex._arrays import Array
from advex._keywords import public_name
from advex._settings import shown
from advex.budgets import Budget
from advex.errors import InvalidInput, InvalidType, blaming
from advex.goals import Goal, MultiLabel, Output, Regression, Segmentation, Untargeted
from advex.goals.classes import Labelled
from advex.model.protocol import Model

Make: TypeAlias = "Callable[[Array], Any] | None"
"""Makes the goal of a block from its labels, (n, ...). None: ``Untargeted``."""

CLASSES, LABELS, NUMBERS, MAPS, OTHER = "classes", "labels", "numbers", "maps", "other"
"""What a goal is about: one class, several labels, numbers, a class at each place, something
else.
"""
ABOUT = ((MultiLabel, LABELS), (Regression, NUMBERS), (Segmentation, MAPS), (Labelled, CLASSES))
KINDS = {
    CLASSES: "one class for each example",
    LABELS: "several labels (advex.MultiLabel)",
    NUMBERS: "numbers (advex.Regression)",
    MAPS: "maps (advex.Segmentation)",
    OTHER: "several outputs",
}


class Wanted(NamedTuple):
    """The goal of one block, and the model that it is about: of several outputs perhaps one."""

    goal: Goal
    classifier: Model


def checked_goal(goal: Any) -> Make:
    """The function that makes goals, or an error that says what is wrong with it."""
    if goal is None or goal is Untargeted:
        return None
    if goal is Regression:
        raise InvalidInput(
            "goal=advex.Regression needs a limit: goal=functools.partial(advex.Regression, off=0.5)"
        )
    if isinstance(goal, Goal) or not callable(goal):
        code = _code(goal) if isinstance(goal, Goal) else "advex.MultiLabel(labels)"
        raise InvalidType(
            "goal must be a function from labels to a goal, since each block of the data has labels"
            f" of its own: goal=lambda labels: {code}; received {shown(goal)}"
        )
    made: Make = goal
    return made


def _code(goal: Goal) -> str:
    """What one types for a goal like this one about ``labels``."""
    name = public_name(type(goal))
    if isinstance(goal, Regression):
        return f"{name}(labels, {_limit(goal)})"
    if isinstance(goal, Output):
        return f"{name}({goal.name!r}, {_code(goal.goal)})"
    if isinstance(parts := getattr(goal, "goals", None), tuple):
        return f"{name}({', '.join(map(_code, parts))})"
    k = getattr(goal, "k", None)
    return f"{name}(labels)" if k is None else f"{name}(labels, k={k})"


def wanted(make: Make, labels: Any, classifier: Model) -> Wanted:
    """The goal of a block with these labels."""
    if make is None:
        return Wanted(_one_class(labels), classifier)
    with blaming("goal", "It is called with the labels of a block, a NumPy array"):
        goal = make(labels)
    if not isinstance(goal, Goal):
        raise InvalidType(
            "goal must return a goal, such as goal=lambda labels: advex.MultiLabel(labels);"
            f" received {shown(goal)}"
        )
    if isinstance(goal, Output):  # as if the model had no other
        return Wanted(goal.goal, classifier.only(goal.name))
    return Wanted(goal, classifier)


def _one_class(labels: Any) -> Goal:
    """The usual goal; of labels of another kind the error says which goal is theirs."""
    try:
        return Untargeted(labels)
    except InvalidInput as problem:
        text, array = str(problem), np.asarray(labels)
        told = {name: f"goal=advex.{name}" for name in ("MultiLabel", "Segmentation")}
        hint = next((words for name, words in told.items() if f"advex.{name}(" in text), "")
        if array.dtype.kind == "f" and array.ndim == 1 and np.isfinite(array).all():
            hint = "numbers are goal=functools.partial(advex.Regression, off=0.5)"
        raise InvalidInput(f"{text}; for evaluate: {hint}" if hint else text) from None


def kind_of(goal: Goal) -> str:
    """What a goal is about, a word of ``KINDS``."""
    return next((kind for about, kind in ABOUT if isinstance(goal, about)), OTHER)


def until(kind: str, budget: Budget) -> str:
    """How an attack is called: of numbers and maps it counts how far each example came."""
    return "end" if kind in (NUMBERS, MAPS) and budget.limited else "success"


def described(goal: Goal) -> str:
    """A goal in words, without the number of its examples: that of a block says nothing."""
    if isinstance(goal, MultiLabel):
        flip = goal.flip if isinstance(goal.flip, str) else list(goal.flip)
        return f"MultiLabel(flip={flip!r}{', keep=True' if goal.keep else ''})"
    if isinstance(goal, Segmentation):
        target = ", targeted=True" if goal.targeted else ""
        ignore = "" if goal.ignore is None else f", ignore={goal.ignore}"
        return f"Segmentation(share={goal.share:g}{ignore}{target})"
    if isinstance(goal, Regression):
        return f"Regression({_limit(goal, '...')})"
    parts = getattr(goal, "goals", None)
    if isinstance(parts, tuple):
        return f"{type(goal).__name__}({', '.join(map(described, parts))})"
    if isinstance(goal, Output):
        return f"Output({goal.name!r}, {described(goal.goal)})"
    k = getattr(goal, "k", None)
    return f"{type(goal).__name__}({'' if k is None else f'k={k}'})"


def _limit(goal: Regression, many: str = "0.5") -> str:
    """The limit as a keyword; ``many`` stands for one of each example."""
    side = next(name for name in ("off", "above", "below") if getattr(goal, name) is not None)
    limit = getattr(goal, side)
    return f"{side}={f'{limit:g}' if np.ndim(limit) == 0 else many}"


def written(make: Make) -> str:
    """The function that makes goals, by name."""
    if isinstance(make, functools.partial):
        given = [shown(value, 40) for value in make.args]
        given += [f"{name}={shown(value, 40)}" for name, value in make.keywords.items()]
        return f"{written(make.func)}({', '.join(given)})"
    owner: Any = make if hasattr(make, "__qualname__") else type(make)
    if isinstance(owner, type) and owner.__module__.startswith("advex.goals."):
        return f"advex.{owner.__name__}"
    return f"{owner.__module__}.{owner.__qualname__}"
