"""Training on noise, for models that are to be certified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from advex._settings import setting
from advex.training.methods import Method


@dataclass(frozen=True)
class Noise(Method):
    """The loss of ``compile`` at inputs with Gaussian noise: nothing is searched, and the attack is
    used for validation alone. What ``advex.certify`` asks of a model is an answer under noise.

    Args:
        sigma: standard deviation, in units of the box's range, as in ``advex.certify``. The noise
            is not clipped to the box.

    Example:
        >>> Noise(sigma=0.25)
        Noise(sigma=0.25)

    Reference: Cohen, Rosenfeld and Kolter, Certified adversarial robustness via randomized
    smoothing, 2019.
    """

    alone: ClassVar[bool] = True
    sigma: float = setting(0.25, "number", above=0)
