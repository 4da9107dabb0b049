"""Free adversarial training: one gradient for the weights and the points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from advex._settings import setting
from advex.training.methods import Method


@dataclass(frozen=True)
class Free(Method):
    r"""Free adversarial training: one gradient for the weights and the points, several times in a
    row.

    When to use it:
        When training may cost little more than ordinary training. In the paper of `NFGSM` that
        reaches more for a similar cost.

    $$
    \theta \leftarrow \theta - \eta\, \nabla_\theta \mathcal{L}(x + \delta), \qquad
    \delta \leftarrow \Pi\bigl(\delta + \varepsilon\,\mathrm{sign}\,\nabla_x \mathcal{L}(x +
    \delta)\bigr), \qquad
    m \text{ times}
    $$

    $\mathcal{L}$ is the loss of `compile`, $\delta$ the perturbation of the batch $x$,
    $\varepsilon$ the budget, $m$ is `replays`. So a step of the attack costs nothing, and an epoch
    as much as `replays` ordinary ones: train for fewer epochs. The attack is used for nothing.
    Schedules of the optimizer count each replay.

    Args:
        replays: how many times in a row, a whole number from 1. The paper: 8 for CIFAR-10, 4 for
            ImageNet.

    Raises:
        InvalidType: `replays` is not a number.
        InvalidInput: `replays` is below 1 or not whole.

    Cost:
        `replays` ordinary training steps for each batch.

    Example:
        >>> Free()
        Free(replays=8)

    Reference:
        Shafahi, Najibi, Ghiasi, Xu, Dickerson, Studer, Davis, Taylor and Goldstein, Adversarial
        training for free!, NeurIPS 2019. https://arxiv.org/abs/1904.12843

    Deviations:
        A batch begins at a random point of the budget, not where the batch before it has ended.
    """

    alone: ClassVar[bool] = True
    replays: int = setting(8, "whole")
