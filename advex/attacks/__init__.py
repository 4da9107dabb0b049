"""Attacks: one algorithm per file, each ``init`` and ``step``."""

from advex.attacks.base import Attack
from advex.attacks.bim import BIM
from advex.attacks.fgsm import FGSM
from advex.attacks.gradient_ascent import GradientAscent
from advex.attacks.momentum_iterative import MomentumIterative, fine
from advex.attacks.nesterov_iterative import NesterovIterative
from advex.attacks.pgd import PGD
from advex.attacks.schedules import LinearDecay
from advex.attacks.wrappers import Restarts

__all__ = [
    "BIM",
    "FGSM",
    "PGD",
    "Attack",
    "GradientAscent",
    "LinearDecay",
    "MomentumIterative",
    "NesterovIterative",
    "Restarts",
    "fine",
]
