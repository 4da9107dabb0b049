"""Models with known answers, an attack by hand, and ``check_attack``: does an attack keep its
contract?
"""

from typing import TYPE_CHECKING

from advex._others import face
from advex.testing.contract import check_attack
from advex.testing.models import linear_data, linear_extreme, linear_model, small_network
from advex.testing.walk import stepwise, walk

__all__ = [
    "check_attack",
    "linear_data",
    "linear_extreme",
    "linear_model",
    "small_network",
    "stepwise",
    "walk",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = face(__name__, __all__)
