"""Losses of goals that are a class for each pixel: ``(answer, goal) -> (batch,)``, ascended.

Each has the slope that its name says. Its value is mean cross-entropy over the pixels that count,
by which APGD tells better points from worse: a loss of the pixels that still stand alone falls
where one of them falls.
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from advex._arrays import Tensor
from advex.attacks.call import Attackable
from advex.driver.problem import Loss
from advex.errors import InvalidType
from advex.goals import Goal, Segmentation
from advex.goals.segmentation import entropies, mean

SMALLEST_NORM = 1e-12  # guards a division


def masked_cross_entropy(answer: Tensor, goal: Any) -> Tensor:
    """Cross-entropy of the pixels that still stand."""
    ce, standing, counts = _looked_at(answer, goal)
    return _valued(ce, counts, mean(ops.where(standing, ce, 0.0), counts))


def balanced_cross_entropy(answer: Tensor, goal: Any) -> Tensor:
    """Cross-entropy in which the classes of an image weigh the same, however large they are."""
    ce, _, counts = _looked_at(answer, goal)
    _, labels, _ = goal.pixels(answer)
    there = ops.logical_and(
        ops.expand_dims(labels, 2) == ops.arange(int(answer.shape[-1]), dtype=labels.dtype),
        ops.expand_dims(counts, 2),
    )
    sizes = ops.sum(ops.cast(there, "float32"), axis=1, keepdims=True)
    weight = ops.sum(ops.where(there, 1 / ops.maximum(sizes, 1.0), 0.0), axis=2)
    classes = ops.maximum(ops.sum(weight, axis=1), 1.0)
    return _valued(ce, counts, ops.sum(weight * ce, axis=1) / classes)


def masked_spherical_margin(answer: Tensor, goal: Any) -> Tensor:
    """The margin of the pixels that still stand, of scores that are scaled to a norm of 1."""
    ce, standing, counts = _looked_at(answer, goal)
    norm = ops.sqrt(ops.sum(ops.square(answer), axis=-1, keepdims=True))
    gains, _ = goal.gains(answer / ops.maximum(norm, SMALLEST_NORM))
    return _valued(ce, counts, mean(ops.where(standing, gains, 0.0), counts))


def jensen_shannon(answer: Tensor, goal: Any) -> Tensor:
    """The Jensen-Shannon divergence of the probabilities from the labels: it loses interest in
    pixels that are far across.
    """
    ce, _, counts = _looked_at(answer, goal)
    right = ops.exp(-ops.abs(ce))  # the probability of the label; ce is below 0 for a target
    mixed = (1 + right) / 2
    value = 0.5 * (
        -ops.log(mixed) + (1 - right) * math.log(2) + right * (-ops.abs(ce) - ops.log(mixed))
    )
    return _valued(ce, counts, mean(-value if goal.targeted else value, counts))


def weighed(right: Tensor) -> Loss:
    """SegPGD's loss: the cross-entropy of pixels that stand weighs ``right``, (batch,), that of the
    others 1 - ``right``.
    """

    def segpgd(answer: Tensor, goal: Any) -> Tensor:
        ce, standing, counts = _looked_at(answer, goal)
        share = ops.expand_dims(right, 1)
        return mean(ops.where(standing, share, 1 - share) * ce, counts)

    return segpgd


def _looked_at(answer: Tensor, goal: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropy of each pixel, whether it still stands, whether it counts."""
    scores, labels, counts = goal.pixels(answer)
    gains, _ = goal.gains(answer)
    return entropies(scores, labels, goal.targeted), gains <= 0, counts


def _valued(ce: Tensor, counts: Tensor, slope: Tensor) -> Tensor:
    """Mean cross-entropy, with the slope of another loss."""
    return ops.stop_gradient(mean(ce, counts) - slope) + slope


def demand_pixels(attack: Attackable, goal: Goal | None) -> None:
    """Raise unless the goal is a class for each pixel."""
    if not isinstance(goal, Segmentation):
        name = type(attack).__name__
        told = "no goal" if goal is None else type(goal).__name__
        raise InvalidType(
            f"{name} needs a class for each pixel, advex.Segmentation(labels); received {told}: use"
            " advex.PGD(), which follows any goal"
        )
