"""Training on noise, for models that are to be certified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from advex._settings import setting
from advex.training.methods import Method


@dataclass(frozen=True)
class Noise(Method):
    r"""The loss of `compile` at inputs with Gaussian noise, for models that are to be certified.

    When to use it:
        Before `advex.certify`, which asks a model for answers under the same noise. Nothing is
        searched, and the attack is used for validation alone.

    $$ \mathcal{L}\bigl(f_\theta(x + \sigma u),\, y\bigr), \qquad u \sim \mathcal{N}(0, 1) $$

    $f_\theta$ is the model, $\mathcal{L}$ the loss of `compile`, $\sigma$ is `sigma` times the
    box's range.

    Args:
        sigma: standard deviation, in units of the box's range, above 0, as in `advex.certify`. The
            noise is not clipped to the box. The paper: 0.12, 0.25, 0.5 and 1.

    Raises:
        InvalidType: `sigma` is not a number.
        InvalidInput: `sigma` is not above 0.

    Cost:
        That of ordinary training.

    Example:
        >>> Noise(sigma=0.25)
        Noise(sigma=0.25)

    Reference:
        Cohen, Rosenfeld and Kolter, Certified adversarial robustness via randomized smoothing, ICML
        2019. https://arxiv.org/abs/1902.02918

    Deviations:
        None known.
    """

    alone: ClassVar[bool] = True
    sigma: float = setting(0.25, "number", above=0)
