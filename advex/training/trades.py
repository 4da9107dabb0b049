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
    r"""The loss on the clean inputs, and beta times how far the answers move within the budget.

    When to use it:
        When clean accuracy matters too: `beta` sets the price of it. In the paper it gains robust
        accuracy over `Plain`.

    $$
    \mathcal{L}\bigl(f_\theta(x),\, y\bigr) + \beta\, \mathrm{KL}\bigl(f_\theta(x) \,\|\,
    f_\theta(x')\bigr)
    $$

    $$
    x' \approx \operatorname{argmax}_{\lVert x' - x \rVert \le \varepsilon} \;
    \mathrm{KL}\bigl(f_\theta(x) \,\|\, f_\theta(x')\bigr)
    $$

    $f_\theta$ is the model, $\mathcal{L}$ the loss of `compile`, $x$ the clean input, $\mathrm{KL}$
    the divergence of the two distributions over the classes, $\beta$ is `beta`. The search runs in
    inference mode, from $x$ plus noise of standard deviation 0.001 where the attack is `PGD`. Both
    means are over the batch.

    Args:
        beta: what robustness is worth, at least 0. The paper: 6 for CIFAR-10 and 1 for MNIST. 0:
            ordinary training.

    Raises:
        InvalidType: `beta` is not a number.
        InvalidInput: `beta` is below 0.

    Cost:
        That of the attack, and one forward and backward pass more than `Plain`.

    Example:
        >>> TRADES(beta=6)
        TRADES(beta=6)

    Reference:
        Zhang, Yu, Jiao, Xing, El Ghaoui and Jordan, Theoretically principled trade-off between
        robustness and accuracy, ICML 2019. https://arxiv.org/abs/1901.08573

    Deviations:
        Attacks other than ``PGD`` begin where they do; noise is in units of the box's range;
        ``sample_weight`` weighs both parts.
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
