"""Attacks: one algorithm per file, each ``init`` and ``step``."""

from advex.attacks.apgd import APGD
from advex.attacks.autoattack import AutoAttack
from advex.attacks.base import Attack
from advex.attacks.bim import BIM
from advex.attacks.fab import FAB
from advex.attacks.fgsm import FGSM
from advex.attacks.gradient_ascent import GradientAscent
from advex.attacks.momentum_iterative import MomentumIterative, fine
from advex.attacks.nesterov_iterative import NesterovIterative
from advex.attacks.pgd import PGD
from advex.attacks.schedules import LinearDecay
from advex.attacks.square import SquareAttack
from advex.attacks.verdict import Verdict
from advex.attacks.wrappers import AveragedGradient, Ensemble, EveryTarget, Restarts

__all__ = [
    "APGD",
    "BIM",
    "FAB",
    "FGSM",
    "PGD",
    "Attack",
    "AutoAttack",
    "AveragedGradient",
    "Ensemble",
    "EveryTarget",
    "GradientAscent",
    "LinearDecay",
    "MomentumIterative",
    "NesterovIterative",
    "Restarts",
    "SquareAttack",
    "Verdict",
    "fine",
]
