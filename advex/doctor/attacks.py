"""D7 to D12: what attacks break, and what other attacks break besides."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from advex._arrays import Array
from advex.attacks.composite import Restarts
from advex.attacks.fgsm import FGSM
from advex.attacks.pgd import PGD
from advex.budgets import Budget, Linf
from advex.doctor.answers import constant
from advex.doctor.checks import (
    Outcome,
    check,
    flag,
    flag_if,
    gradient,
    many,
    not_run,
    ok,
    room,
    strong_pgd,
    white_box,
)
from advex.doctor.climbing import Ascent, climbed, judged
from advex.doctor.examination import Examination, shared
from advex.doctor.random_search import random_search
from advex.losses import margin

MAX_SURVIVORS = 48  # of those that PGD leaves standing, in the checks that cost most
PGD_STEPS = 40
PGD_STARTS = 5
# Near the boundary other starts break 3 % of an honest model's examples.
RESTART_SHARE = 0.05
LAST_STEPS, LAST_GAIN = 0.1, 0.05  # of the steps, of the loss's gain

BY_PGD = (white_box, room, strong_pgd, gradient)  # what those need that compare PGD with itself


def first_of(chosen: Array) -> Array:
    """At most ``MAX_SURVIVORS`` of the chosen examples, (n,) of bool."""
    return chosen & (np.cumsum(chosen) <= MAX_SURVIVORS)


# What each attack breaks, (n,) of bool. Those that come later see what is left standing.


@shared
def by_cross_entropy(exam: Examination) -> Array:
    """PGD on the cross-entropy."""
    return exam.attack(PGD(steps=PGD_STEPS), exam.everyone)


@shared
def by_pgd(exam: Examination) -> Array:
    """PGD on the cross-entropy, then on the margin."""
    first = by_cross_entropy(exam)
    return first | exam.attack(PGD(steps=PGD_STEPS, loss=margin), ~first)


@shared
def by_one_step(exam: Examination) -> Array:
    """FGSM."""
    return exam.attack(FGSM(), ~by_pgd(exam))


class Longer(NamedTuple):
    """An ascent of twice the steps."""

    who: Array
    """The m examples that climb."""
    course: Ascent
    broken: Array
    """Which of them were broken on the way, (m,) of bool."""


@shared
def longer(exam: Examination) -> Longer | None:
    """The ascent of those that PGD leaves standing, if any."""
    index = np.flatnonzero(first_of(~by_pgd(exam)))
    if not len(index):
        return None
    course = climbed(exam, index, 2 * PGD_STEPS)
    across = judged(exam, course.points, index) & (course.when < len(course.losses))
    return Longer(index, course, across)


def by_longer(exam: Examination) -> Array:
    """PGD of twice the steps."""
    broken, ascent = np.zeros(exam.n, bool), longer(exam)
    if ascent is not None:
        broken[ascent.who] = ascent.broken
    return broken


@shared
def by_restarts(exam: Examination) -> Array:
    """PGD from other starts."""
    attack = Restarts(PGD(steps=PGD_STEPS), PGD_STARTS - 1)
    return exam.attack(attack, first_of(~by_pgd(exam)), seed=1)


def doubled(budget: Budget) -> Budget:
    """The budget of twice the size."""
    if not budget.homogeneous:
        return type(budget)(int(2 * budget.epsilon))
    double = 2 * budget.epsilon
    return type(budget)(min(double, 1.0) if isinstance(budget, Linf) else double)


@shared
def standing_in_double(exam: Examination) -> Array:
    """Which of the examples that PGD breaks it does not break within twice the budget."""
    broken, wide = first_of(by_cross_entropy(exam)), doubled(exam.budget)
    held = broken & ~exam.attack(PGD(steps=PGD_STEPS), broken, wide)
    return held & ~exam.attack(PGD(steps=PGD_STEPS, loss=margin), held, wide)


@shared
def standing(exam: Examination) -> Array:
    """The examples that no gradient attack breaks."""
    if white_box(exam) or gradient(exam):
        return exam.everyone
    broken = by_pgd(exam) | by_one_step(exam) | by_longer(exam) | by_restarts(exam)
    standing_in_double(exam)  # also in L0, where D12 does not show it
    return ~broken


@shared
def by_random_search(exam: Examination) -> Array:
    """Random search among those that no gradient attack breaks, or that a black box is asked; of a
    class alone it would learn nothing on its way.
    """
    if exam.classifier.gives == "labels":
        return np.zeros(exam.n, bool)
    return exam.attack(random_search(exam.budget, exam.x.shape[1:]), first_of(standing(exam)))


def successes(exam: Examination) -> str:
    """Some attack has broken an example; random search, which D8 does not show of a black box, is
    the last.
    """
    by_random_search(exam)
    return "" if exam.broken else "nothing was broken"


# The checks.


@check(
    "D9",
    "unbounded fails",
    needs=(white_box,),
    means="With the whole range of values allowed every model can be led astray: an attack that"
    " cannot does not work here.",
    advice="Mend the attack or the gradients first: whatever it reports within a smaller budget"
    " means nothing.",
)
def unbounded_fails(exam: Examination) -> Outcome:
    """Whether PGD fails though everything is allowed."""
    if exam.no_gradient:
        if constant(exam):
            return flag("constant model: every input gets the same answer", constant=1)
        return not_run(gradient(exam))
    broken = exam.attack(PGD(steps=PGD_STEPS, loss=margin), exam.everyone, Linf(1.0))
    held = int((~broken).sum())
    found = (
        f"with the whole range allowed, {PGD_STEPS} steps on the margin break {exam.n - held} of"
        f" {exam.n}"
    )
    same = held > 0 and constant(exam)
    if same:
        found = f"constant model: every input gets the same answer; {found}"
    return flag_if(held > 0, found, held=held, constant=int(same))


@check(
    "D7",
    "one step wins",
    needs=BY_PGD,
    means="One big step breaks what many small ones do not: the small ones are led astray near the"
    " input.",
    advice="Use more restarts, SquareAttack, or larger first steps, such as"
    " advex.PGD(step_size=advex.attacks.LinearDecay(1.0)).",
)
def one_step_wins(exam: Examination) -> Outcome:
    """Whether FGSM breaks what PGD does not."""
    left, count = int((~by_pgd(exam)).sum()), int(by_one_step(exam).sum())
    return flag_if(
        many(count, exam.n),
        f"{left} examples withstand {PGD_STEPS} steps of PGD; FGSM breaks {count} of them",
        wins=count,
        standing=left,
    )


@check(
    "D10",
    "not converged",
    needs=BY_PGD,
    means="The attack was still gaining when its steps ran out, or never got going.",
    advice="Give it more steps, or APGD, which finds its step size by itself.",
)
def not_converged(exam: Examination) -> Outcome:
    """Whether the loss still grows in the last steps, stands still, or more steps break more."""
    ascent = longer(exam)
    if ascent is None:
        return ok("every example falls before the steps are spent", stuck=0, more=0)
    losses, when, broken = ascent.course.losses, ascent.course.when, ascent.broken
    best = np.maximum.accumulate(losses, axis=0)[: PGD_STEPS + 1]
    stuck = int((best[-1] - losses[: PGD_STEPS + 1].min(axis=0) == 0).sum())
    mean = best.mean(axis=1)
    late = mean[-1] - mean[round(PGD_STEPS * (1 - LAST_STEPS))]
    gain = float(late / max(mean[-1] - mean[0], 1e-30)) if mean[-1] > mean[0] else 0.0
    count = int((broken & (when > PGD_STEPS)).sum())
    return flag_if(
        gain > LAST_GAIN or many(stuck, exam.n) or many(count, exam.n),
        f"the last {LAST_STEPS:.0%} of {PGD_STEPS} steps bring {gain:.1%} of the loss's gain;"
        f" {stuck} of {len(broken)} examples are stuck; {PGD_STEPS} steps more break {count}",
        late_gain=gain,
        stuck=stuck,
        more=count,
        tried=len(broken),
    )


@check(
    "D11",
    "restart-sensitive",
    needs=BY_PGD,
    means="Other random starts break more: one run depends on its luck.",
    advice="Use advex.Restarts(attack, 10) or more, or AutoAttack.",
)
def restart_sensitive(exam: Examination) -> Outcome:
    """Whether other random starts break what the first did not."""
    count, tried = int(by_restarts(exam).sum()), int(first_of(~by_pgd(exam)).sum())
    return flag_if(
        many(count, exam.n, RESTART_SHARE),
        f"{tried} examples withstand one start; {PGD_STARTS - 1} more starts break {count} of them",
        more=count,
        tried=tried,
    )


@check(
    "D12",
    "not monotone",
    needs=BY_PGD,
    means="Examples that fall within epsilon hold within twice as much: the attack, not the model,"
    " fails there.",
    advice="Use several step sizes and restarts, and keep what was found with the smaller budget.",
)
def not_monotone(exam: Examination) -> Outcome:
    """Whether PGD loses examples as the budget grows."""
    lost = int(standing_in_double(exam).sum())
    tried = int(first_of(by_cross_entropy(exam)).sum())
    return flag_if(
        many(lost, exam.n),
        f"{tried - lost} of {tried} examples that fall within {exam.budget!r} also fall within"
        f" {doubled(exam.budget)!r}",
        lost=lost,
        tried=tried,
    )


@check(
    "D8",
    "black box wins",
    needs=(white_box, room),
    means="Blind search, random or by classes alone, breaks what no gradient attack breaks: the"
    " gradients hide the way.",
    advice="Believe advex.SquareAttack(steps=5000), or attacks that need labels alone, rather than"
    " gradient attacks, or run AutoAttack, which contains the former.",
)
def black_box_wins(exam: Examination) -> Outcome:
    """Whether random search breaks what no gradient attack does."""
    left = first_of(standing(exam))
    count, tried = int(by_random_search(exam).sum()), int(left.sum())
    whom = (
        "examples (there is no gradient attack)"
        if exam.no_gradient
        else "examples that every gradient attack leaves standing"
    )
    return flag_if(
        many(count, exam.n),
        f"random search breaks {count} of {tried} {whom}",
        wins=count,
        tried=tried,
    )
