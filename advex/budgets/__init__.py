"""Norm balls: how far an input may be moved, each with its own geometry."""

from typing import TYPE_CHECKING

from advex._others import face
from advex.budgets.base import Budget
from advex.budgets.l0 import L0
from advex.budgets.l1 import L1
from advex.budgets.l2 import L2
from advex.budgets.linf import Linf

__all__ = ["L0", "L1", "L2", "Budget", "Linf"]


if not TYPE_CHECKING:
    __getattr__, __dir__ = face(__name__, __all__)
