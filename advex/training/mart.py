"""MART: examples that the model gets wrong already count more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keras import ops

from advex._arrays import Tensor
from advex._settings import setting
from advex.driver.plan import Leaf
from advex.goals.classes import class_mask
from advex.training.methods import Batch, Method, Trainer, divergence, mean
from advex.training.near import near

SMALL = 1e-4
"""Keeps the logarithm of what is left of probability 1 finite."""


@dataclass(frozen=True)
class MART(Method):
    r"""Misclassification-aware adversarial training: examples that the model gets wrong already
    count more.

    When to use it:
        As `TRADES`, when robust accuracy counts more than clean accuracy.

    $$
    -\log p'_y - \log\bigl(1.0001 - \max_{j \ne y} p'_j\bigr) + \beta\, \mathrm{KL}(p \,\|\, p')\,
    (1 - p_y)
    $$

    $p$ and $p'$ are the probabilities at the clean input and at the point that was found, $y$ is
    the label, $\beta$ is `beta`; the mean is over the batch. The search climbs cross-entropy, from
    $x$ plus noise of standard deviation 0.001 where the attack is `PGD`. The loss of `compile` is
    not used, but what layers add to it is.

    Args:
        beta: the weight of the second part, at least 0. The paper: 5, and 6 for wide networks.

    Raises:
        InvalidType: `beta` is not a number.
        InvalidInput: `beta` is below 0.

    Cost:
        That of the attack, and one forward and backward pass more than `Plain`.

    Example:
        >>> MART(beta=5)
        MART(beta=5)

    Reference:
        Wang, Zou, Yi, Bailey, Ma and Gu, Improving adversarial robustness requires revisiting
        misclassified examples, ICLR 2020. https://openreview.net/forum?id=rklOg6EFwS

    Deviations:
        Attacks other than ``PGD`` begin where they do; noise is in units of the box's range;
        ``sample_weight`` weighs both parts.
    """

    beta: float = setting(5.0, "number", at_least=0)
    clean: ClassVar[bool] = True

    def attack(self, attack: Leaf, clean: Tensor | None) -> Leaf:
        return near(attack, None, "MART")

    def loss(
        self,
        trainer: Trainer,
        batch: Batch,
        y: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None,
    ) -> Tensor:
        clean, added = trainer.logits(y_pred), trainer.added_loss()  # of the clean inputs
        found = clean if batch.other is None else trainer.logits(trainer.answers(batch.other))
        own = class_mask(trainer.labels(y), clean)
        sure = ops.softmax(found)
        loss = -_picked(ops.log_softmax(found), own)
        loss -= ops.log(1 + SMALL - ops.max(ops.where(own, 0.0, sure), axis=1))
        unsure = 1 + 1e-7 - _picked(ops.softmax(clean), own)
        loss += self.beta * divergence(clean, found) * unsure
        return mean(loss, sample_weight) + added


def _picked(values: Tensor, own: Tensor) -> Tensor:
    return ops.sum(ops.where(own, values, 0.0), axis=1)
