"""Adversarial examples of Keras 3 models, on TensorFlow, JAX and PyTorch."""

from advex import attacks, budgets, errors, goals, images, losses, testing
from advex._arrays import unit
from advex._version import VERSION as __version__
from advex.attacks import (
    BIM,
    FGSM,
    PGD,
    Attack,
    GradientAscent,
    LinearDecay,
    MomentumIterative,
    NesterovIterative,
    Restarts,
    fine,
)
from advex.budgets import L0, L1, L2, Budget, Linf
from advex.classifier import Classifier
from advex.goals import Goal, Targeted, Untargeted
from advex.graph import function, gradients
from advex.problem import Problem
from advex.result import Result

__all__ = [
    "BIM",
    "FGSM",
    "L0",
    "L1",
    "L2",
    "PGD",
    "Attack",
    "Budget",
    "Classifier",
    "Goal",
    "GradientAscent",
    "LinearDecay",
    "Linf",
    "MomentumIterative",
    "NesterovIterative",
    "Problem",
    "Restarts",
    "Result",
    "Targeted",
    "Untargeted",
    "__version__",
    "attacks",
    "budgets",
    "errors",
    "fine",
    "function",
    "goals",
    "gradients",
    "images",
    "losses",
    "testing",
    "unit",
]
