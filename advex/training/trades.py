"""TRADES: the loss on clean inputs, and how far the answers move within the budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from advex._arrays import Tensor
from advex._settings import setting
from advex.driver.plan import Leaf
from advex.training.methods import Batch, Method, Trainer, divergence, mean
from advex.training.near import Divergence, near


@dataclass(frozen=True)
class TRADES(Method):
    """The loss of ``compile`` on the clean inputs, and beta times how far the distribution of the
    classes moves, at the points within the budget where it moves most.

    loss(y, f(x)) + beta * mean KL(f(x) || f(x')), where x' is looked for by climbing KL(f(x) ||
    f(x')) in inference mode, from x + 0.001 N(0, 1) where the attack is ``PGD``.

    Args:
        beta: what robustness is worth. The paper has 6 for CIFAR-10 and 1 for MNIST. 0: ordinary
            training.

    Example:
        >>> TRADES(beta=6)
        TRADES(beta=6)

    Reference: Zhang, Yu, Jiao, Xing, El Ghaoui and Jordan, Theoretically principled trade-off
    between robustness and accuracy, 2019. Deviations: attacks other than ``PGD`` begin where they
    do; noise is in units of the box's range; ``sample_weight`` weighs both parts.
    """

    beta: float = setting(6.0, "number", at_least=0)
    clean: ClassVar[bool] = True
    compares: ClassVar[bool] = True

    @property
    def searches(self) -> bool:
        return self.beta > 0

    def attack(self, attack: Leaf, clean: Tensor | None) -> Leaf:
        return near(attack, Divergence(clean), "TRADES")

    def loss(
        self,
        trainer: Trainer,
        batch: Batch,
        y: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None,
    ) -> Tensor:
        natural = trainer.compiled_loss(y, y_pred, sample_weight)
        if batch.other is None:
            return natural
        found = trainer.logits(trainer.answers(batch.other))
        moved = divergence(trainer.logits(y_pred), found)
        return natural + self.beta * mean(moved, sample_weight)
