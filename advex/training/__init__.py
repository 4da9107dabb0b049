"""Adversarial training inside of ``model.fit``."""

from typing import TYPE_CHECKING

from advex._others import face
from advex.training.adversarial import Adversarial
from advex.training.awp import AWP
from advex.training.fast import NFGSM, Fast
from advex.training.free import Free
from advex.training.guards import KeepBest, StopCollapse
from advex.training.mart import MART
from advex.training.methods import Batch, Method, Plain, Trainer
from advex.training.noise import Noise
from advex.training.trades import TRADES

__all__ = [
    "AWP",
    "MART",
    "NFGSM",
    "TRADES",
    "Adversarial",
    "Batch",
    "Fast",
    "Free",
    "KeepBest",
    "Method",
    "Noise",
    "Plain",
    "StopCollapse",
    "Trainer",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = face(__name__, __all__)
