"""What counts as success: a goal is a margin that is above 0 where it is reached."""

from typing import TYPE_CHECKING

from advex._others import face
from advex.goals.base import FRAGILE as FRAGILE
from advex.goals.base import INFINITY as INFINITY
from advex.goals.base import Goal
from advex.goals.classes import Targeted, TopK, Untargeted
from advex.goals.classes import Towards as Towards
from advex.goals.classes import best_other as best_other
from advex.goals.classes import class_mask as class_mask
from advex.goals.classes import leaves as leaves
from advex.goals.classes import log_odds as log_odds
from advex.goals.classes import others as others
from advex.goals.classes import picked as picked
from advex.goals.joined import AllOf, AnyOf, Output
from advex.goals.joined import demand_made as demand_made
from advex.goals.labels import axes_of as axes_of
from advex.goals.labels import class_numbers as class_numbers
from advex.goals.regression import Regression
from advex.goals.segmentation import Segmentation
from advex.goals.several_labels import MultiLabel

__all__ = [
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
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = face(__name__, __all__)
