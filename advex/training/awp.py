"""AWP: the step is taken where the weights are as bad as they can be nearby."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from advex._arrays import Tensor
from advex._settings import setting, shown
from advex.driver.plan import Leaf
from advex.errors import InvalidType
from advex.training.methods import Batch, Method, Plain, Trainer

SMALL = 1e-20


@dataclass(frozen=True)
class AWP(Method):
    r"""Adversarial weight perturbation, around any other method: the step is taken where the
    weights are as bad as they can be nearby.

    When to use it:
        In long trainings, where robust accuracy falls after its best epoch (robust overfitting).

    $$
    \theta \leftarrow \theta - \eta\, \nabla \mathcal{M}(\theta + v), \qquad
    v_k = \gamma\, \lVert \theta_k \rVert_2\, \frac{\nabla_k \mathcal{M}(\theta)}{\lVert \nabla_k
    \mathcal{M}(\theta) \rVert_2}
    $$

    $\mathcal{M}$ is what the method minimises, $\theta_k$ the weights of layer $k$, $\gamma$ is
    `gamma`, $\eta$ the step of the optimizer. Weights go up the slope by $v$, the gradient of the
    step is taken there, and they go back by the same.

    Args:
        method: what is minimised. None: plain adversarial training.
        gamma: by how much, as a share of the size of each weight matrix or kernel, at least 0. The
            paper: 0.005 for `TRADES` and 0.01 for plain adversarial training.
        warmup: training steps that are taken without it, a whole number from 0.

    Raises:
        InvalidType: `method` is no method, or `Free`, `Noise` or another `AWP`; a number of the
            wrong
            type.
        InvalidInput: `gamma` or `warmup` is below 0.

    Cost:
        One forward and backward pass more than the method.

    Example:
        >>> AWP(gamma=0.01)
        AWP(method=Plain(), gamma=0.01, warmup=0)

    Reference:
        Wu, Xia and Wang, Adversarial weight perturbation helps robust generalization, NeurIPS 2020.
        https://arxiv.org/abs/2004.05884

    Deviations:
        Weights are those with more than one axis, whatever their name.
    """

    alone: ClassVar[bool] = True
    method: Method = Plain()  # noqa: RUF009  # frozen
    gamma: float = setting(0.005, "number", at_least=0)
    warmup: int = setting(0, "whole", at_least=0)

    def __post_init__(self) -> None:
        method: Any = self.method
        if method is None:
            object.__setattr__(self, "method", Plain())
        if not isinstance(self.method, Method) or self.method.alone:
            raise InvalidType(
                f"method must be another method, such as advex.training.TRADES(); received"
                f" {shown(self.method)}"
            )

    @property
    def clean(self) -> bool:  # type: ignore[override]
        return self.method.clean

    @property
    def compares(self) -> bool:  # type: ignore[override]
        return self.method.compares

    @property
    def searches(self) -> bool:
        return self.method.searches

    def attack(self, attack: Leaf, clean: Tensor | None) -> Leaf:
        return self.method.attack(attack, clean)

    def loss(
        self,
        trainer: Trainer,
        batch: Batch,
        y: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None,
    ) -> Tensor:
        return self.method.loss(trainer, batch, y, y_pred, sample_weight)

    def shifts(
        self, weights: Sequence[Tensor], slopes: Sequence[Any], taken: Tensor
    ) -> list[Tensor | None]:
        """By how much each weight goes up; None: it stays.

        Args:
            weights: their values.
            slopes: the gradients of the loss by them; None where there is none.
            taken: how many training steps there were, a scalar.
        """
        share = self.gamma * ops.cast(taken >= self.warmup, "float32")

        def shift(weight: Tensor, slope: Any) -> Tensor | None:
            if slope is None or len(weight.shape) < 2:
                return None
            size = share * ops.norm(ops.reshape(ops.cast(weight, "float32"), (-1,)))
            slope = ops.cast(slope, "float32")
            slope = slope / (ops.norm(ops.reshape(slope, (-1,))) + SMALL)
            return ops.cast(size * slope, weight.dtype)

        return [shift(weight, slope) for weight, slope in zip(weights, slopes, strict=True)]
