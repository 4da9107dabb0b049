"""D1, D2 and D3: the gradients themselves."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from keras import ops

from advex import _backend
from advex._arrays import Array, Tensor, flattened
from advex.doctor.checks import (
    Outcome,
    check,
    flag,
    flag_if,
    gradient,
    many,
    room,
    white_box,
)
from advex.doctor.climbing import random_starts, untargeted
from advex.doctor.examination import Examination, shared
from advex.driver.problem import NO_GRADIENT
from advex.errors import GradientUnavailable
from advex.goals import log_odds, picked
from advex.losses import margin

SHORT_STEP = 0.1  # of epsilon: the step on which the gradient's promise is tested
# Of the box: that step's largest change of one element, beyond which honest models bend, too.
SHORT_STEP_AT_MOST = 0.02
PROMISE_GAP = 0.5  # between promise and gain, relative, above which the gradient lies
LYING_SHARE = 0.05  # of the examples
# Log-odds below which the usual gradient is rounding error and nothing else.
SOFTMAX_UNDERFLOW = math.log(2.0**-126)
MARGIN_NOISE = 1e-5  # of the largest logit: a change of the margin that says nothing


class Slopes(NamedTuple):
    """What is known at a point of each example."""

    margin: Array
    """(n,)"""
    odds: Array
    """Log-odds against the label, (n,)."""
    of_cross_entropy: Array
    """The gradient, (n, ...)."""
    of_margin: Array
    """Likewise."""


def usual_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy as it is usually written: its gradient underflows where the model is too
    sure.
    """
    return ops.logsumexp(logits, axis=1) - picked(logits, labels)


def slopes_at(exam: Examination, points: Array) -> Slopes:
    """Margins and gradients at ``points``, (n, ...) in the model's units."""
    forward = exam.forward

    def look(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        goal = untargeted(labels)

        def losses(point: Tensor) -> tuple[Tensor, Tensor]:
            logits = forward.exact(point)
            both = [usual_cross_entropy(logits, labels), margin(logits, goal)]
            return ops.stack(both, axis=1), logits

        values, jacobian, logits = _backend.jacobian(losses, x)
        if jacobian is None:
            raise GradientUnavailable(NO_GRADIENT)
        return values[:, 1], log_odds(logits, labels), jacobian

    run = exam.compiled("look", look)
    parts = []
    for index, count in exam.batches(np.arange(len(points))):
        answers = run(
            ops.convert_to_tensor(points[index]), ops.convert_to_tensor(exam.labels[index])
        )
        parts.append([_backend.to_numpy(answer)[:count] for answer in answers])
    exam.queries += len(points)
    exam.gradients += 2 * len(points)
    margins, odds, slopes = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Slopes(margins, odds, slopes[:, 0], slopes[:, 1])


@shared
def slopes(exam: Examination) -> list[Slopes]:
    """Those at the inputs and, where they can move, at a random start near each."""
    here = slopes_at(exam, exam.grid.working(exam.x))
    return [here] if room(exam) else [here, slopes_at(exam, random_starts(exam))]


def where(exam: Examination) -> str:
    """The places that ``slopes`` looks at."""
    return "the inputs" if room(exam) else "the inputs or a random start near them"


def zero(slope: Array) -> Array:
    """Which rows are exactly zero."""
    return np.asarray((flattened(slope) == 0).all(axis=1))


@check(
    "D1",
    "no gradient",
    needs=(white_box,),
    means="Attacks that follow gradients have nothing to follow; that they find nothing says"
    " nothing about the model.",
    advice="Use BlackBox or SquareAttack, or give the part that cannot be differentiated a gradient"
    " that passes straight through.",
)
def no_gradient(exam: Examination) -> Outcome:
    """Whether there is a gradient, and it is neither zero nor NaN nor infinite."""
    try:
        places = slopes(exam)
    except GradientUnavailable as problem:
        exam.no_gradient = True
        return flag(f"there is none: {problem}", missing=exam.n)
    dead = np.stack([zero(place.of_margin) for place in places]).any(axis=0)
    wild = np.stack(
        [
            ~np.isfinite(flattened(slope)).all(axis=1)
            for place in places
            for slope in (place.of_cross_entropy, place.of_margin)
        ]
    ).any(axis=0)
    none, not_finite = int(dead.sum()), int(wild.sum())
    usable = exam.n - int((dead | wild).sum())
    found = f"{usable} of {exam.n} examples have a gradient to follow at {where(exam)}"
    if none or not_finite:
        found += f"; {none} have one that is exactly zero, {not_finite} one that is not finite"
    return flag_if(
        not_finite > 0 or many(none, exam.n) or none == exam.n,
        found,
        zero=none,
        not_finite=not_finite,
    )


@check(
    "D2",
    "dead loss",
    needs=(white_box, gradient),
    means="The usual cross-entropy is so saturated that its gradient is exactly zero, while the"
    " margin still has one. Attacks of other libraries stand still there; advex goes on with the"
    " margin.",
    advice="Climb losses.margin or losses.dlr, whatever the library, and ask why the logits are so"
    " large.",
)
def dead_loss(exam: Examination) -> Outcome:
    """Whether the textbook's cross-entropy has no gradient where the margin has one."""
    dead = [
        (zero(place.of_cross_entropy) | (place.odds < SOFTMAX_UNDERFLOW)) & ~zero(place.of_margin)
        for place in slopes(exam)
    ]
    count = int(np.stack(dead).any(axis=0).sum())
    return flag_if(
        many(count, exam.n) or count == exam.n,
        f"the cross-entropy has a gradient wherever the margin has one for {exam.n - count} of"
        f" {exam.n} examples, at {where(exam)}",
        dead=count,
    )


@check(
    "D3",
    "gradient lies",
    needs=(white_box, room, gradient),
    means="A short step along the gradient does not gain what the gradient promises: it is"
    " shattered, noisy or made up.",
    advice="Use SquareAttack, or AveragedGradient with small random shifts as transforms; give the"
    " part that shatters the gradient one that passes straight through.",
)
def gradient_lies(exam: Examination) -> Outcome:
    """Whether a short step gains in margin what the gradient promises."""
    x0, here = exam.grid.working(exam.x), slopes(exam)[0]
    slope = np.where(np.isfinite(here.of_margin), here.of_margin, 0).astype("float32")
    point = short_step(exam, x0, slope)
    gain = (slopes_at(exam, point).margin - here.margin).astype("float64")
    promise = (flattened(slope).astype("float64") * flattened(point.astype("float64") - x0)).sum(
        axis=1
    )
    total = np.abs(gain) + np.abs(promise)
    told = total > MARGIN_NOISE * np.abs(exam.logits(exam.x)).max(axis=1)
    gap = np.where(told, np.abs(gain - promise) / np.maximum(total, 1e-30), 0.0)
    lies = int((gap > PROMISE_GAP).sum())
    median = float(np.median(gap))
    return flag_if(
        lies > LYING_SHARE * exam.n and many(lies, exam.n),
        f"a short step gains what the gradient promises for {exam.n - lies} of {exam.n} examples"
        f" (median gap {median:.2g})",
        lies=lies,
        share=lies / exam.n,
        median_gap=median,
    )


def short_step(exam: Examination, x0: Array, slope: Array) -> Array:
    """A point a short way along ``slope``, inside the box.

    8-bit inputs move by whole levels, at least one.
    """
    low, high = (np.float32(end) for end in exam.classifier.box)
    level = (high - low) / 255
    if exam.budget.homogeneous:
        reach = SHORT_STEP * exam.budget.limit(exam.grid.span)
        move = reach * _backend.to_numpy(exam.budget.steepest(ops.convert_to_tensor(slope)))
    else:
        move = level * np.sign(slope)
    largest = np.abs(flattened(move)).max(axis=1, initial=0)
    largest = largest.reshape((-1,) + (1,) * (move.ndim - 1))
    move = move * np.minimum(1, SHORT_STEP_AT_MOST * (high - low) / np.maximum(largest, 1e-30))
    if exam.grid.levels:
        move = np.rint(move * np.maximum(1, level / np.maximum(largest, 1e-30)) / level) * level
    return np.clip(x0 + move, low, high).astype("float32")
