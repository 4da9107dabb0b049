"""Adversarial examples of Keras 3 models, on TensorFlow, JAX and PyTorch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from advex._version import VERSION as __version__

if TYPE_CHECKING:
    from advex import (
        attacks,
        budgets,
        callbacks,
        errors,
        evaluation,
        goals,
        images,
        losses,
        testing,
        training,
        zoo,
    )
    from advex._arrays import unit
    from advex.attacks import (
        ALMA,
        APGD,
        BIM,
        CGBA,
        DDN,
        FAB,
        FGSM,
        FMN,
        JSMA,
        NES,
        PDGD,
        PDPGD,
        PGD,
        SEA,
        SPSA,
        Attack,
        AutoAttack,
        AveragedGradient,
        CarliniWagner,
        DeepFool,
        ElasticNet,
        Ensemble,
        EveryTarget,
        GradientAscent,
        HopSkipJump,
        LinearDecay,
        MinimumNorm,
        MomentumIterative,
        NesterovIterative,
        Pointwise,
        RayS,
        Restarts,
        SegPGD,
        SigmaZero,
        SimBA,
        SparseRS,
        SquareAttack,
        SurFree,
        Verdict,
        fine,
    )
    from advex.budgets import L0, L1, L2, Budget, Linf
    from advex.certification import Certificate, certify
    from advex.domain import Domain
    from advex.driver.candidates import Others
    from advex.driver.problem import Problem
    from advex.evaluation import Evaluation, evaluate
    from advex.goals import (
        AllOf,
        AnyOf,
        Goal,
        MultiLabel,
        Output,
        Regression,
        Segmentation,
        Targeted,
        TopK,
        Untargeted,
    )
    from advex.graph import function, gradients, jacobian, symbol, updates
    from advex.model.blackbox import BlackBox
    from advex.model.classifier import Classifier
    from advex.result import Result
    from advex.trace import Trace

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
    "L0",
    "L1",
    "L2",
    "NES",
    "PDGD",
    "PDPGD",
    "PGD",
    "SEA",
    "SPSA",
    "AllOf",
    "AnyOf",
    "Attack",
    "AutoAttack",
    "AveragedGradient",
    "BlackBox",
    "Budget",
    "CarliniWagner",
    "Certificate",
    "Classifier",
    "DeepFool",
    "Domain",
    "ElasticNet",
    "Ensemble",
    "Evaluation",
    "EveryTarget",
    "Goal",
    "GradientAscent",
    "HopSkipJump",
    "LinearDecay",
    "Linf",
    "MinimumNorm",
    "MomentumIterative",
    "MultiLabel",
    "NesterovIterative",
    "Others",
    "Output",
    "Pointwise",
    "Problem",
    "RayS",
    "Regression",
    "Restarts",
    "Result",
    "SegPGD",
    "Segmentation",
    "SigmaZero",
    "SimBA",
    "SparseRS",
    "SquareAttack",
    "SurFree",
    "Targeted",
    "TopK",
    "Trace",
    "Untargeted",
    "Verdict",
    "__version__",
    "attacks",
    "budgets",
    "callbacks",
    "certify",
    "errors",
    "evaluate",
    "evaluation",
    "fine",
    "function",
    "goals",
    "gradients",
    "images",
    "jacobian",
    "losses",
    "symbol",
    "testing",
    "training",
    "unit",
    "updates",
    "zoo",
]

_HOMES = {
    "_arrays": ("unit",),
    "attacks": (
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
    ),
    "domain": ("Domain",),
    "budgets": ("L0", "L1", "L2", "Budget", "Linf"),
    "certification": ("Certificate", "certify"),
    "evaluation": ("Evaluation", "evaluate"),
    "goals": (
        "AllOf",
        "AnyOf",
        "Goal",
        "MultiLabel",
        "Output",
        "Regression",
        "Segmentation",
        "Targeted",
        "TopK",
        "Untargeted",
    ),
    "graph": ("function", "gradients", "jacobian", "symbol", "updates"),
    "driver.candidates": ("Others",),
    "driver.problem": ("Problem",),
    "model.blackbox": ("BlackBox",),
    "model.classifier": ("Classifier",),
    "result": ("Result",),
    "trace": ("Trace",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # a misspelt name is an error for type checkers, too

    def __getattr__(name: str) -> Any:
        """Names are imported when they are first used: ``advex --help`` need not wait for Keras."""
        if name in _HOME:
            value = getattr(import_module(f"advex.{_HOME[name]}"), name)
        elif name in __all__:
            value = import_module(f"advex.{name}")
        else:
            raise import_module("advex._others").unknown("advex", name, __all__)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
