"""SEA: the worst of four runs of APGD, each with another loss, for maps of classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from advex._settings import setting
from advex.attacks.apgd import APGD
from advex.attacks.composite import Composite, Ensemble
from advex.attacks.pixel_losses import (
    balanced_cross_entropy,
    demand_pixels,
    jensen_shannon,
    masked_cross_entropy,
    masked_spherical_margin,
)
from advex.budgets import L0, Budget
from advex.driver.plan import Wave
from advex.goals import Goal

LOSSES = (
    masked_cross_entropy,
    masked_spherical_margin,
    jensen_shannon,
    balanced_cross_entropy,
)
RADII = (2.0, 1.5, 1.0)


@dataclass(frozen=True)
class SEA(Composite):
    r"""Segmentation ensemble attack: the worst of four runs of APGD, each with another loss.

    When to use it:
        For the robust pixel accuracy and mean IoU of a segmentation model within a budget. For a
        quick look `SegPGD`.

    $$
    x^\ast = \operatorname{argmax}_{x \text{ seen}} \; \#\{p \in P : p \text{ is wrong at } x\}
    $$

    $$ \varepsilon_t:\; 2\varepsilon \to 1.5\,\varepsilon \to \varepsilon $$

    $P$ are the pixels that count. The losses of the four runs are cross-entropy and the spherical
    margin of the pixels that are still right, the Jensen-Shannon divergence, and cross-entropy with
    classes of equal weight. Each run begins in a ball of twice epsilon, goes on in one of one and a
    half, and ends in that of epsilon. `result.attempt` has for every image the point at which most
    of its pixels are wrong. `result.pixel_accuracy` and `result.mean_iou` say what is left there.

    Args:
        steps: number of steps of each run, a whole number from 1. The paper: 300.

    Raises:
        InvalidType: at the call, a goal that is not `Segmentation`.
        InvalidInput: `steps` is below 1 or not whole; at the call, for `L0`, or for a budget
            without a
            limit.

    Cost:
        Four runs of `steps` gradients and as many queries. An example leaves once the share of
        wrong pixels that the goal asks for is reached.

    Example:
        >>> import numpy as np
        >>> import keras
        >>> import advex
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
        >>> x = np.random.default_rng(0).uniform(size=(2, 8, 8, 3)).astype("float32")
        >>> result = SEA(steps=5)(model, x, advex.Segmentation(), advex.Linf(8 / 255))
        >>> result.pixel_accuracy.shape
        (2,)

    Reference:
        Croce, Singh and Hein, Towards reliable evaluation and fast training of robust semantic
        segmentation models, ECCV 2024. https://arxiv.org/abs/2306.12941

    Deviations:
        An example leaves as soon as the share of wrong pixels that the goal asks for is reached
        (``until="end"``: none does); of all points the one with the most wrong pixels is kept, not
        that with the highest loss.
    """

    lacks: ClassVar[tuple[type[Budget], ...]] = (L0,)
    keeps_worst: ClassVar[bool] = True

    steps: int = setting(300, "whole")

    def check(self, goal: Goal | None, budget: Budget) -> None:
        super().check(goal, budget)
        demand_pixels(self, goal)

    @property
    def parts(self) -> dict[str, APGD]:
        """Its runs as attacks with names. ``evaluate`` takes them as they are, and says the worst
        case over them: per image, and of the mean IoU by a greedy choice.
        """
        return {loss.__name__: APGD(steps=self.steps, loss=loss, radii=RADII) for loss in LOSSES}

    def plan(self, budget: Budget | None = None) -> list[Wave]:
        return Ensemble(*self.parts.values()).plan(budget)
