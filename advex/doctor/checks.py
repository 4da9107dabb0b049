"""A check: a function of an examination, with its id, name, meaning and advice beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from advex.budgets import L0
from advex.doctor.diagnosis import Finding, Status
from advex.doctor.examination import Examination
from advex.errors import GradientUnavailable


class Outcome(NamedTuple):
    """What a check found: its status, a sentence with figures, and the figures by name."""

    status: Status
    found: str
    measure: dict[str, float]


def flag(found: str, **measure: float) -> Outcome:
    """Something is wrong."""
    return Outcome("flag", found, measure)


def ok(found: str, **measure: float) -> Outcome:
    """Nothing is wrong."""
    return Outcome("ok", found, measure)


def noted(found: str, **measure: float) -> Outcome:
    """A figure to know about, no alarm."""
    return Outcome("noted", found, measure)


def not_run(reason: str) -> Outcome:
    """The check does not apply."""
    return Outcome("not run", reason, {})


def flag_if(fired: bool, found: str, **measure: float) -> Outcome:
    """``flag`` or ``ok``."""
    return Outcome("flag" if fired else "ok", found, measure)


def many(count: int, total: int, share: float = 0.02) -> bool:
    """Whether ``count`` of ``total`` examples are enough to fire.

    Fewer than three are not: honest models have one or two odd examples.
    """
    return count >= max(3, share * total)


# What a check needs: functions that return the reason why it cannot be run, or nothing.

Need = Callable[[Examination], str]


def white_box(exam: Examination) -> str:
    """The model is not a function of which only the answers are known."""
    return "" if exam.classifier.differentiable else "a black box has no gradients"


def room(exam: Examination) -> str:
    """Attacks can move an input within the budget."""
    if not exam.budget.limited:
        return f"{exam.budget!r} has no limit, and no sensible one is known for it"
    if exam.budget.epsilon == 0 or (exam.grid.levels and exam.budget.levels() == 0):
        return f"within {exam.budget!r} nothing can move"
    return ""


def strong_pgd(exam: Examination) -> str:
    """PGD is an attack worth comparing with itself."""
    if isinstance(exam.budget, L0):
        return "PGD is too weak in L0 to be compared with itself; SigmaZero is made for it"
    return ""


def gradient(exam: Examination) -> str:
    """The model has a gradient, as far as is known by now."""
    return "the model has no gradient, see D1" if exam.no_gradient else ""


@dataclass(frozen=True)
class Check:
    """One of the fifteen.

    Attributes:
        id: "D1" to "D15": its place in the table.
        name: two words.
        means: what it means for an evaluation that the check fires.
        advice: what to try then.
        needs: what must be given, in the order in which reasons are told.
        look: the check itself.
    """

    id: str
    name: str
    means: str
    advice: str
    needs: tuple[Need, ...]
    look: Callable[[Examination], Outcome]

    def __call__(self, exam: Examination) -> Finding:
        """Look, if there is no reason against it."""
        for need in self.needs:
            if reason := need(exam):
                return self.finding(not_run(reason))
        try:
            return self.finding(self.look(exam))
        except GradientUnavailable:
            exam.no_gradient = True
            return self.finding(not_run(gradient(exam)))

    def finding(self, outcome: Outcome) -> Finding:
        """The outcome with the texts that belong to it."""
        status, found, measure = outcome
        quiet = status in ("ok", "not run")
        numbers = {
            key: value.item() if isinstance(value, np.generic) else value
            for key, value in measure.items()
        }
        return Finding(
            id=self.id,
            name=self.name,
            status=status,
            found=found,
            means="" if quiet else self.means,
            advice="" if quiet else self.advice,
            measure={key: value for key, value in numbers.items() if math.isfinite(value)},
        )


def check(
    id: str,  # noqa: A002
    name: str,
    *,
    means: str,
    advice: str,
    needs: tuple[Need, ...] = (),
) -> Callable[[Callable[[Examination], Outcome]], Check]:
    """Make a ``Check`` of the function below.

    In the four modules of checks this is all that a new check takes: they are asked from top to
    bottom.
    """

    def made(look: Callable[[Examination], Outcome]) -> Check:
        return Check(id, name, means, advice, needs, look)

    return made
