"""Attacks: one algorithm per file, each ``init`` and ``step``."""

from typing import TYPE_CHECKING

from advex._others import face
from advex.attacks.alma import ALMA
from advex.attacks.apgd import APGD
from advex.attacks.autoattack import AutoAttack
from advex.attacks.base import Attack
from advex.attacks.bim import BIM
from advex.attacks.carlini_wagner import CarliniWagner
from advex.attacks.cgba import CGBA
from advex.attacks.composite import AveragedGradient, Ensemble, EveryTarget, Restarts
from advex.attacks.ddn import DDN
from advex.attacks.deepfool import DeepFool
from advex.attacks.elastic_net import ElasticNet
from advex.attacks.fab import FAB
from advex.attacks.fgsm import FGSM
from advex.attacks.fmn import FMN
from advex.attacks.gradient_ascent import GradientAscent
from advex.attacks.hop_skip_jump import HopSkipJump
from advex.attacks.jsma import JSMA
from advex.attacks.minimum_norm import MinimumNorm
from advex.attacks.momentum_iterative import MomentumIterative, fine
from advex.attacks.nes import NES
from advex.attacks.nesterov_iterative import NesterovIterative
from advex.attacks.pdgd import PDGD
from advex.attacks.pdpgd import PDPGD
from advex.attacks.pgd import PGD
from advex.attacks.pointwise import Pointwise
from advex.attacks.rays import RayS
from advex.attacks.schedules import LinearDecay
from advex.attacks.sea import SEA
from advex.attacks.segpgd import SegPGD
from advex.attacks.sigma_zero import SigmaZero
from advex.attacks.simba import SimBA
from advex.attacks.sparse_rs import SparseRS
from advex.attacks.spsa import SPSA
from advex.attacks.square import SquareAttack
from advex.attacks.surfree import SurFree
from advex.attacks.verdict import Verdict

__all__ = [
    "ALMA",
    "APGD",
    "BIM",
    "CGBA",
    "DDN",
    "FAB",
    "FGSM",
    "FMN",
    "JSMA",
    "NES",
    "PDGD",
    "PDPGD",
    "PGD",
    "SEA",
    "SPSA",
    "Attack",
    "AutoAttack",
    "AveragedGradient",
    "CarliniWagner",
    "DeepFool",
    "ElasticNet",
    "Ensemble",
    "EveryTarget",
    "GradientAscent",
    "HopSkipJump",
    "LinearDecay",
    "MinimumNorm",
    "MomentumIterative",
    "NesterovIterative",
    "Pointwise",
    "RayS",
    "Restarts",
    "SegPGD",
    "SigmaZero",
    "SimBA",
    "SparseRS",
    "SquareAttack",
    "SurFree",
    "Verdict",
    "fine",
]


if not TYPE_CHECKING:
    __getattr__, __dir__ = face(__name__, __all__)
