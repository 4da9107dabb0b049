"""Free adversarial training: one gradient for the weights and the points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from advex._settings import setting
from advex.training.methods import Method


@dataclass(frozen=True)
class Free(Method):
    """Each batch is trained on several times in a row, and every gradient moves both: the weights
    by a step of the optimizer, the points by a whole epsilon along its sign.

    So a step of the attack costs nothing, and an epoch as much as ``replays`` ordinary ones: train
    for fewer epochs. The attack is used for nothing; the loss is that of ``compile``. Schedules of
    the optimizer count each replay.

    Args:
        replays: how many times in a row; the paper has 8 for CIFAR-10, 4 for ImageNet.

    Example:
        >>> Free()
        Free(replays=8)

    Reference: Shafahi, Najibi, Ghiasi, Xu, Dickerson, Studer, Davis, Taylor and Goldstein,
    Adversarial training for free!, 2019. Deviation: a batch begins at a random point of the budget,
    not where the batch before it has ended.
    """

    alone: ClassVar[bool] = True
    replays: int = setting(8, "whole")
