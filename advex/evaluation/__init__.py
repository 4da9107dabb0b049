"""What can be said about a model: evaluations that can be stopped and shown, the doctor who checks
them, accuracy over radii.
"""

from typing import TYPE_CHECKING

from advex._others import face
from advex.doctor import Diagnosis, Finding, diagnose
from advex.evaluation.call import evaluate
from advex.evaluation.comparison import Comparison, compare
from advex.evaluation.curves import Curve, QueryCurve, curve
from advex.evaluation.error_figures import Errors, Quantiles
from advex.evaluation.evaluation import Evaluation
from advex.evaluation.label_figures import LabelSummary
from advex.evaluation.map_figures import MapFigure
from advex.evaluation.paired import ClassChange
from advex.evaluation.summaries import AttackSummary, ClassSummary, Pair

__all__ = [
    "AttackSummary",
    "ClassChange",
    "ClassSummary",
    "Comparison",
    "Curve",
    "Diagnosis",
    "Errors",
    "Evaluation",
    "Finding",
    "LabelSummary",
    "MapFigure",
    "Pair",
    "Quantiles",
    "QueryCurve",
    "compare",
    "curve",
    "diagnose",
    "evaluate",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = face(__name__, __all__)
